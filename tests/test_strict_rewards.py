"""The strict rewards: each case worked out by hand, and the two properties that make them safe."""

from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given, settings

from mcr_lib import yardsticks
from mcr_lib.schema import Entity, Example
from mcr_lib.study.tables import mistakes
from tests import rewarding
from tests.rewarding import ADA, FAR, HALF, LABELS, NOBODY, ROME, TWEET, A, pred, worlds

five = partial(rewarding.five, kind="strict")


@pytest.mark.parametrize(
    ("answer", "expected"),  # R_c, R_s, R_t, R_u, R_e
    [
        ([ADA, ROME], (1, 1, 1, 1, 1)),  # perfect
        ([], (0, 0, 0, 0, 0)),  # empty: R_u has one groundable gold in the denominator
        ([ADA], (0.5, 2 / 3, 0.5, 1, 0.5)),  # missing: 1/2, 2·1/3, 1/2, 1/1, 1/2
        (
            [ADA, ROME, pred("Eve", FAR)],
            (2 / 3, 4 / 5, 2 / 3, 1 / 2, 2 / 3),
        ),  # extra with a stray box: R_u 1/(1+1)
        ([ADA, ROME, pred("Eve")], (2 / 3, 4 / 5, 2 / 3, 1, 2 / 3)),  # extra without a box
        ([ADA, ROME, ROME], (2 / 3, 4 / 5, 2 / 3, 1, 2 / 3)),  # duplicate counts as an extra
        (
            [pred("Ada", A), ROME],
            (1, 1 / 2, 1 / 2, 0, 1 / 2),
        ),  # boundary: touches, does not match; its box is no stray one
        ([pred("Ada Byron", A, type="ORG"), ROME], (1, 1, 0.5, 1, 1)),  # type
        ([pred("Ada Byron"), ROME], (1, 1, 1, 0, 0.5)),  # box wanted and not given
        (
            [ADA, pred("Rome", FAR, type="LOC")],
            (1, 1, 1, 0.5, 0.5),
        ),  # given and not wanted: a stray box, 1/(1+1)
        ([pred("Ada Byron", HALF), ROME], (1, 1, 1, 0.6, 1)),  # IoU 0.6 > σ
        (
            [pred("Ada Byron", FAR), ROME],
            (1, 1, 1, 0, 1),
        ),  # misses, but the entity is rightly said to be shown
    ],
)
def test_each_reward_is_as_worked_out_by_hand(answer, expected):
    assert five(answer) == pytest.approx(expected)


def test_tweets_without_entities():
    assert five([], NOBODY) == (1, 1, 1, 1, 1)
    assert five([pred("Eve")], NOBODY) == (
        0,
        0,
        0,
        1,
        0,
    )  # R_u has nothing to say: no groundable gold and no box
    assert five([pred("Eve", A)], NOBODY) == (0, 0, 0, 0, 0)


def test_nothing_groundable_and_no_box_is_right_only_when_something_is_touched():
    rome = Example("3", "d", "train", ("Rome",), (Entity("Rome", 0, 1, "LOC", ()),), LABELS)
    assert five([ROME], rome)[3] == 1
    assert five([], rome)[3] == 0
    assert five([pred("Eve")], rome)[3] == 0


def test_any_of_several_gold_boxes_may_be_hit():
    two = Example(
        "3", "d", "train", ("Ada",), (Entity("Ada", 0, 1, "PER", (FAR, A)),), LABELS, image_size_px=(100, 100)
    )
    assert five([pred("Ada", A)], two)[3] == five([pred("Ada", FAR)], two)[3] == 1


def test_sigma_is_exclusive_and_fillers_earn_no_count():
    at_half = pred("Ada Byron", (0, 0, 10, 5))  # IoU exactly 0.5
    assert five([at_half, ROME])[3] == 0
    assert five([at_half, ROME], sigma=0.49)[3] == 0.5
    assert five([pred("x"), pred("y")])[0] == 0


def is_perfect(answer, gold):
    return sorted(answer, key=repr) == sorted(yardsticks.perfect(gold), key=repr)


def test_only_a_perfect_answer_reaches_the_maximum_of_all_small_answers():
    for answer in mistakes.small_answers():
        assert (five(answer, mistakes.WORLD) == (1, 1, 1, 1, 1)) == is_perfect(answer, mistakes.WORLD), answer
        assert five(answer, NOBODY) != (1, 1, 1, 1, 1) or not answer


def assert_no_repair_lowers(answer, gold):
    """Of the repairs that leave the other names where they stood; returns how many there were."""
    before = five(answer, gold)
    judged = [repair for repair in mistakes.repairs(answer, gold) if not repair.moves_others]
    for repair in judged:
        assert all(b >= a for a, b in zip(before, five(repair.answer, gold), strict=True)), (answer, repair)
    return len(judged)


def test_no_repair_lowers_any_reward_of_all_small_answers():
    answers = mistakes.small_answers()
    assert len(answers) == 1 + 32 + 32**2  # 4 names x 2 types x 4 boxes
    assert sum(assert_no_repair_lowers(answer, mistakes.WORLD) for answer in answers) > 2 * len(answers)


def test_repairs_lead_from_any_small_answer_to_the_perfect_one():
    for answer in [mistakes.small_answers()[k] for k in range(0, 1057, 7)]:
        for _ in range(8):  # at most two extras, two missing, and three mistakes in each of two predictions
            steps = [
                repair.answer
                for repair in mistakes.repairs(answer, mistakes.WORLD)
                if not repair.moves_others
            ]
            answer = max(steps, key=lambda a: sum(five(a, mistakes.WORLD)), default=answer)
        assert five(answer, mistakes.WORLD) == (1, 1, 1, 1, 1)


@given(worlds())
@settings(max_examples=300)
def test_no_repair_lowers_any_reward(world):
    gold, answer = world
    assert_no_repair_lowers(answer, gold)


def test_a_repair_may_take_the_words_of_another_name():
    rome = replace(TWEET, entities=(TWEET.entities[0], Entity("in Rome", 2, 4, "LOC", ())))
    assert five([pred("Ada"), pred("Byron in")], rome)[0] == 1
    assert five([pred("Ada Byron"), pred("Byron in")], rome)[0] == 0.5


@given(worlds())
@settings(max_examples=300)
def test_only_perfect_answers_reach_the_maximum(world):
    gold, answer = world
    if five(answer, gold) == (1, 1, 1, 1, 1):
        assert sorted((p.text, p.type, bool(p.boxes_xyxy)) for p in answer) == sorted(
            (e.text, e.type, e.is_groundable) for e in gold.entities
        )
        known = {box for e in gold.entities for box in e.boxes_xyxy_px}
        assert all(p.box_xyxy in known for p in answer if p.boxes_xyxy)


@given(worlds())
def test_rewards_stay_in_range_and_perfect_is_the_maximum(world):
    gold, answer = world
    assert all(0 <= v <= 1 for v in five(answer, gold))
    perfect = yardsticks.perfect(gold)
    if mistakes.spans(perfect, gold) == [
        entity.span for entity in gold.entities
    ]:  # else no list of names can say which occurrence is meant
        assert five(perfect, gold) == (1, 1, 1, 1, 1)
