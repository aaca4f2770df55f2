"""Rewards: each case worked out by hand, and the two properties that make them safe to train on."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcr_lib import rewards as r
from mcr_lib import yardsticks
from mcr_lib.answer import ParsedAnswer, parse_answer, write_answer
from mcr_lib.boxes import BOX_FORMATS, resized_size
from mcr_lib.schema import Entity, Example, PredictedEntity
from mcr_lib.study.tables import mistakes

LABELS = ("PER", "LOC", "ORG", "OTHER")
A, HALF, FAR = (0, 0, 10, 10), (0, 0, 10, 6), (50, 50, 60, 60)  # IoU(A, HALF) = 0.6
TWEET = Example(
    "1", "demo", "train", ("Ada", "Byron", "in", "Rome"),
    (Entity("Ada Byron", 0, 2, "PER", (A,)), Entity("Rome", 3, 4, "LOC", ())), LABELS,
    image_size_px=(100, 100),
)  # fmt: skip
NOBODY = Example("2", "demo", "train", ("rain",), (), LABELS)


def pred(text, *boxes, type="PER"):
    return PredictedEntity(text, type, boxes)


ADA, ROME = pred("Ada Byron", A), pred("Rome", type="LOC")


def five(answer, gold=TWEET, **kwargs):
    result = r.rewards(ParsedAnswer(tuple(answer)), gold, **kwargs)
    return tuple(
        None if v is None else round(v, 4)
        for v in (result.count, result.span, result.type, result.grounding, result.entailment)
    )


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
    assert five(answer) == tuple(round(v, 4) for v in expected)


def test_malformed_answers_score_zero_and_absent_constraints_none():
    parsed = parse_answer("no answer", labels=LABELS)
    assert r.rewards(parsed, TWEET) == r.Rewards(0.0, 0.0, 0.0, 0.0, 0.0)
    text_only = Example(
        "3", "d", "train", ("Rome",), (Entity("Rome", 0, 1, "LOC"),), LABELS, constraints=("span", "type")
    )
    assert r.rewards(ParsedAnswer((PredictedEntity("Rome", "LOC"),)), text_only) == r.Rewards(
        1.0, 1.0, 1.0, None, None
    )
    assert r.rewards(parsed, text_only) == r.Rewards(0.0, 0.0, 0.0, None, None)


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


def test_sigma_is_exclusive_and_the_plain_count_ratio_pays_for_fillers():
    at_half = pred("Ada Byron", (0, 0, 10, 5))  # IoU exactly 0.5
    assert five([at_half, ROME])[3] == 0
    assert five([at_half, ROME], sigma=0.49)[3] == 0.5
    fillers = [pred("x"), pred("y")]
    assert five(fillers)[0] == 0
    assert five(fillers, count_rule="ratio")[0] == 1


PERFECT, OTHER = [ADA, ROME], [pred("Ada Byron"), ROME]
STATED = '"Ada Byron" : PER , shown at [0, 0, 10, 9] ; "Rome" : LOC , not shown ;'
"""The box has IoU 0.9 with that of the answer."""


@pytest.mark.parametrize(
    ("think", "answer", "earns_when"),  # of free, present, agreeing
    [
        (STATED, PERFECT, (True, True, True)),
        (STATED.replace("9]", "5]"), PERFECT, (True, True, False)),  # IoU 0.5 is not above σ
        (STATED, OTHER, (True, True, False)),  # says shown, answers without a box
        ("Seen .", PERFECT, (True, True, False)),
        (None, PERFECT, (True, False, False)),
        ("", PERFECT, (True, False, False)),
    ],
)
def test_an_answer_earns_nothing_without_the_reasoning_that_is_asked_of_it(think, answer, earns_when):
    parsed = parse_answer(write_answer(answer, think=think), labels=LABELS)
    for reasoning, earns in zip(("free", "present", "agreeing"), earns_when, strict=True):
        result = r.rewards(parsed, TWEET, reasoning=reasoning)
        assert result == (
            r.rewards(ParsedAnswer(tuple(answer)), TWEET) if earns else r.Rewards(0.0, 0.0, 0.0, 0.0, 0.0)
        )
        assert (r.worthless(parsed, TWEET, reasoning=reasoning) is None) == earns


def test_what_reasoning_is_asked_reaches_the_functions_that_reward():
    texts = [
        write_answer(PERFECT),
        write_answer(PERFECT, think="Seen ."),
        write_answer(PERFECT, think=STATED),
        "no answer",
    ]
    columns = {
        "gold": [r.gold_column(TWEET)] * 4,
        "model_size": [[100, 100]] * 4,
        "family": ["qwen2.5-vl"] * 4,
    }
    earned = {}
    for reasoning in ("free", "present", "agreeing"):
        values = [
            function(completions=texts, **columns)
            for function in r.grpo_reward_functions(reasoning=reasoning)
        ]
        assert all(value == values[0] for value in values)
        earned[reasoning] = values[0]
    assert earned == {"free": [1, 1, 1, 0], "present": [0, 1, 1, 0], "agreeing": [0, 0, 1, 0]}


def test_lambdas_weigh_the_sum():
    result = r.Rewards(1.0, 0.5, 0.25, 0.2, 0.1)
    assert result.total() == pytest.approx(2.05)
    assert result.total((2, 0, 0, 0, 10)) == pytest.approx(3.0)


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


TOKENS = ("Ada", "Byron", "in", "Rome", "and", "Ada", "in", "Texas")  # some words twice


@st.composite
def worlds(draw):
    cuts = sorted(draw(st.sets(st.integers(0, len(TOKENS)), max_size=5)))
    spans = [span for span in zip(cuts, cuts[1:], strict=False) if draw(st.booleans())]
    some = st.sampled_from([(), (A,), (HALF,), (FAR,), (A, FAR)])
    gold = tuple(
        Entity(" ".join(TOKENS[a:b]), a, b, draw(st.sampled_from(LABELS)), draw(some)) for a, b in spans
    )
    pieces = [
        " ".join(TOKENS[a:b]) for a in range(len(TOKENS)) for b in range(a + 1, min(a + 4, len(TOKENS) + 1))
    ]
    names = st.sampled_from([*pieces, "Eve"])
    answer = draw(
        st.lists(
            st.builds(PredictedEntity, names, st.sampled_from(LABELS), some.map(lambda b: b[:1])), max_size=5
        )
    )
    return Example("1", "d", "train", TOKENS, gold, LABELS, image_size_px=(100, 100)), answer


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


BUDGETS = [(family, 28 * 28 * n) for n in (64, 256, 1280) for family in ("qwen2.5-vl", "qwen3-vl")]


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_the_gold_answer_of_every_real_tweet_scores_the_maximum_in_every_space(real, split):
    for k, example in enumerate(real(split)):
        for name, max_pixels in (BUDGETS[k % len(BUDGETS)], BUDGETS[(k + 3) % len(BUDGETS)]):
            family = BOX_FORMATS[name]
            size = example.image_size_px and resized_size(
                example.image_size_px, unit=family.unit, min_pixels=4 * 28 * 28, max_pixels=max_pixels
            )
            gold = r.written_gold(example, family.space, model_size=size)
            parsed = parse_answer(write_answer(yardsticks.perfect(gold)), labels=LABELS)
            assert r.rewards(parsed, gold).total() == 5, example.id


def test_gold_with_a_box_and_no_image_size_is_refused():
    with pytest.raises(ValueError, match="without an image size"):
        r.written_gold(
            Example("1", "d", "train", ("Ada",), (Entity("Ada", 0, 1, "PER", (A,)),), LABELS), "norm1000"
        )


def test_trl_gets_five_named_functions_over_columns():
    size = [112, 84]
    gold = r.written_gold(TWEET, "model_px", model_size=tuple(size))
    good = [{"role": "assistant", "content": write_answer(yardsticks.perfect(gold))}]
    functions = r.grpo_reward_functions()
    assert [f.__name__ for f in functions] == [
        "reward_count",
        "reward_span",
        "reward_type",
        "reward_grounding",
        "reward_entailment",
    ]
    text_only = Example(
        "3", "d", "train", ("Rome",), (Entity("Rome", 0, 1, "LOC"),), LABELS, constraints=("span", "type")
    )
    columns = {
        "gold": [r.gold_column(TWEET)] * 2 + [r.gold_column(text_only)],
        "model_size": [size, size, None],
        "family": ["qwen2.5-vl"] * 3,
        "prompts": ["", "", ""],
        "trainer_state": None,
    }
    completions = [good, "broken", '<answer>[{"entity": "Rome", "type": "LOC"}]</answer>']
    assert [f(completions=completions, **columns) for f in functions] == [
        [1, 0, 1],
        [1, 0, 1],
        [1, 0, 1],
        [1, 0, None],
        [1, 0, None],
    ]
    assert json.loads(columns["gold"][0])["images"] == []
