"""Scores of GREC: on cases that fit in the head, and against the official rule written out another way."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcr_lib import boxes, referring
from mcr_lib.metrics import judge
from mcr_lib.schema import Entity, Example, PredictedEntity

TARGET, HALF = (0, 0, 100, 100), (0, 0, 100, 50)
ELSEWHERE = (300, 300, 400, 400)
EVERYTHING = dict.fromkeys(referring.METRICS, None)


def judged(gold, *predicted, **how):
    """An expression with these targets, answered with one item that has these boxes."""
    entity = Entity("the cat", 0, 2, None, gold)
    example = Example("1", "demo", "val", ("the", "cat"), (entity,), (), ("groundable", "box"))
    return replace(judge(example, [PredictedEntity("the cat", None, predicted)]), **how)


def percents(*answers):
    return {key: ratio.percent for key, ratio in referring.ratios(answers).items()}


CASES = [  # gold, predicted, what is not undefined
    ((), (), {"n_acc": 100, "f1": 100, "f1_giou": 100}),
    ((), (TARGET,), {"n_acc": 0, "f1": 0, "f1_giou": 0}),
    ((TARGET,), (), {"precision": 0, "t_acc": 0, "f1": 0, "f1_giou": 0}),
    ((TARGET,), (TARGET,), {"precision": 100, "t_acc": 100, "f1": 100, "f1_giou": 100}),
    # IoU and GIoU of a half are exactly .5, and .5 is enough
    ((TARGET,), (HALF,), {"precision": 100, "t_acc": 100, "f1": 100, "f1_giou": 100}),
    ((TARGET,), (ELSEWHERE,), {"precision": 0, "t_acc": 100, "f1": 0, "f1_giou": 0}),
    # a box too many: the first one counts for precision, and F1 is 2/3
    ((TARGET,), (TARGET, ELSEWHERE), {"precision": 100, "t_acc": 100, "f1": 0, "f1_giou": 0}),
    ((TARGET,), (ELSEWHERE, TARGET), {"precision": 0, "t_acc": 100, "f1": 0, "f1_giou": 0}),
    # both of two targets
    ((TARGET, ELSEWHERE), (ELSEWHERE, TARGET), {"precision": 100, "t_acc": 100, "f1": 100, "f1_giou": 100}),
    # 80 · 80 of 20,000 - 6,400: IoU .47
    ((TARGET,), ((20, 20, 120, 120),), {"precision": 0, "t_acc": 100, "f1": 0, "f1_giou": 0}),
]  # fmt: skip


@pytest.mark.parametrize(("gold", "predicted", "expected"), CASES)
def test_a_case_is_worth_what_its_rule_says(gold, predicted, expected):
    assert percents(judged(gold, *predicted)) == {**EVERYTHING, **expected}


def test_giou_is_stricter_than_iou_where_the_hull_is_large():
    # moved by 17 both ways: overlap 83² = 6889, union 20000 - 6889 = 13111, IoU .525; hull 117² = 13689, of
    # which neither covers 578, GIoU .525 - .042 = .483
    near = (17, 17, 117, 117)
    assert boxes.iou(TARGET, near) == pytest.approx(6889 / 13111)
    assert boxes.giou(TARGET, near) == pytest.approx(6889 / 13111 - 578 / 13689)
    found = percents(judged((TARGET,), near))
    assert (found["precision"], found["f1"], found["f1_giou"]) == (100, 100, 0)


def test_an_answer_that_is_missing_or_unreadable_is_wrong_though_it_has_no_box():
    assert percents(judged((), is_read=False)) == {**EVERYTHING, "n_acc": 0, "f1": 0, "f1_giou": 0}
    silent = judge(judged(()).example, [])
    assert percents(silent)["n_acc"] == 100, "None alone says that there is no target"


def test_counts_add_up_over_expressions():
    answers = [judged(()), judged((), TARGET), judged((TARGET,), TARGET), judged((TARGET,))]
    ratios = referring.ratios(answers)
    assert {key: (r.numerator.sum(), r.denominator.sum()) for key, r in ratios.items()} == {
        "n_acc": (1, 2), "precision": (1, 2), "t_acc": (1, 2), "f1": (2, 4), "f1_giou": (2, 4),
    }  # fmt: skip
    assert percents() == {}


def test_they_are_the_scores_of_tasks_that_give_the_names_and_ask_for_boxes():
    assert referring.is_scored(("groundable", "box"))
    assert not any(map(referring.is_scored, (("span", "type"), ("span", "type", "groundable", "box"), ())))


Sides = st.integers(0, 12)
Boxes = st.lists(
    st.tuples(Sides, Sides, Sides, Sides).map(lambda b: (b[0], b[1], b[0] + b[2] + 1, b[1] + b[3] + 1)),
    max_size=4,
)


def official(predicted, gold, overlap):
    """The official rule on a matrix: take the largest value, stop below 0.5, blank its row and column."""
    matrix = np.array([[overlap(p, g) for g in gold] for p in predicted]).reshape(len(predicted), len(gold))
    tp = 0
    for _ in range(min(matrix.shape)):
        row, column = np.unravel_index(matrix.argmax(), matrix.shape)
        if matrix[row, column] < 0.5:
            break
        tp += 1
        matrix[row], matrix[:, column] = 0, 0
    fp, fn = len(predicted) - tp, len(gold) - tp
    return 2 * tp / (2 * tp + fp + fn) if gold else float(not predicted)


@settings(max_examples=60, deadline=None)
@given(Boxes, Boxes)
def test_the_f1_score_is_the_official_one(predicted, gold):
    found = percents(judged(tuple(gold), *predicted))
    assert found["f1"] == 100 * (official(predicted, gold, boxes.iou) >= 1)
    assert found["f1_giou"] == 100 * (official(predicted, gold, boxes.giou) >= 1)
    assert found["f1_giou"] <= found["f1"]


@settings(max_examples=60, deadline=None)
@given(Boxes, Boxes)
def test_giou_is_at_most_iou_and_is_symmetric(first, second):
    for a, b in zip(first, second, strict=False):
        assert -1 < boxes.giou(a, b) <= boxes.iou(a, b) <= 1
        assert boxes.giou(a, b) == boxes.giou(b, a)
        assert boxes.giou(a, a) == 1
