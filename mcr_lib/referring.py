"""Scores of GREC, where the expression is given and at most one thing in the image is its target.

    n_acc      answered without a box / expressions without a target                  paper, App. E.3
    precision  the first box has IoU >= 0.5 with the target / expressions with one    paper, App. E.3
    t_acc      answered with a box / expressions with a target                        official code
    f1         the boxes and the targets match one to one / all expressions           its F1-score
    f1_giou    the same by generalised IoU

The official code (gRefCOCO) matches the largest overlap first, then the next among those left, down to 0.5,
and computes GIoU, though its paper says IoU. Its predictions are the boxes above a confidence; here they are
all boxes of an answer, and for `precision` the first (ours). An answer that is missing or cannot be read is
wrong in all five (ours): it has no box, but does not say that there is no target.
"""

from collections.abc import Callable, Sequence

import numpy as np

from mcr_lib import boxes
from mcr_lib.boxes import Box
from mcr_lib.metrics import Judged
from mcr_lib.statistics import Ratio

METRICS = ("n_acc", "precision", "t_acc", "f1", "f1_giou")
THRESHOLD = 0.5


def is_scored(constraints: Sequence[str]) -> bool:
    """Whether these are the scores of a task: boxes are annotated, and names are given, not asked."""
    return "box" in constraints and "span" not in constraints


def ratios(judged: Sequence[Judged]) -> dict[str, Ratio]:
    """Each of `METRICS` as a ratio over the expressions; of another task none.

    Example:
        >>> from mcr_lib.metrics import judge
        >>> from mcr_lib.schema import Entity, Example, PredictedEntity
        >>> cat = Entity("the cat", 0, 2, None, ())
        >>> none = Example("1", "demo", "val", ("the", "cat"), (cat,), (), ("groundable", "box"))
        >>> answers = [judge(none, [PredictedEntity("the cat", None)])]
        >>> {key: ratio.percent for key, ratio in ratios(answers).items()}
        {'n_acc': 100.0, 'precision': None, 't_acc': None, 'f1': 100.0, 'f1_giou': 100.0}
    """
    if not judged or not is_scored(judged[0].example.constraints):
        return {}
    right = np.array([_right(j) for j in judged], dtype=np.int64).T
    has_target = np.array([any(e.boxes_xyxy_px for e in j.example.entities) for j in judged], dtype=np.int64)
    counts = (1 - has_target, has_target, has_target, np.ones_like(has_target), np.ones_like(has_target))
    return {key: Ratio(r * n, n) for key, r, n in zip(METRICS, right, counts, strict=True)}


def n_matched(pred: Sequence[Box], gold: Sequence[Box], overlap: Callable[[Box, Box], float]) -> int:
    """How many boxes match one to one with an overlap of at least 0.5, the largest overlap first."""
    pairs = [(overlap(p, g), i, j) for i, p in enumerate(pred) for j, g in enumerate(gold)]
    matched: dict[int, int] = {}
    for value, i, j in sorted(pairs, reverse=True):
        if value >= THRESHOLD and i not in matched and j not in matched.values():
            matched[i] = j
    return len(matched)


def _right(judged: Judged) -> list[bool]:
    """Whether an answer is right by each of `METRICS`, if it counts there."""
    pred = [box for p in judged.predictions for box in p.boxes_xyxy]
    gold = [box for e in judged.example.entities for box in e.boxes_xyxy_px or ()]
    first = bool(pred) and boxes.is_hit(pred[0], gold, threshold=THRESHOLD, inclusive=True)
    exact = [n_matched(pred, gold, each) == len(pred) == len(gold) for each in (boxes.iou, boxes.giou)]
    return [judged.is_read and value for value in (not pred, first, bool(pred), *exact)]
