"""What a score means: GMNER, MNER and EEG under four scorers with stated rules.

    MNER   span and type right
    EEG    span and region right
    GMNER  span, type and region right

`paper` is the rule of the MCR paper (App. E.3, Eq. 19-24), for numbers that stand beside its own;
`definition` (default) is the task paper's definition as written; `e2e` and `unco-legacy` are the rules of
many published numbers, restated here and never a headline. Every scorer returns, per tweet, counts of true
positives, false positives and false negatives; P = tp / (tp + fp), R = tp / (tp + fn), F1 = 2 tp / (2 tp + fp
+ fn), micro over all tweets (those without entities count), all types pooled.

| | paper | definition | e2e | unco-legacy |
|---|---|---|---|---|
| key of a mention | its words * | its token span (`matching.place`) | its words | its token span |
| region right | both none, or IoU >= 0.5 | both none, or IoU > 0.5 | both none, or IoU >= 0.5 | the same |
| several gold boxes | one gold item, any may be hit * | the same | the same | one gold item per box |
| several predicted boxes | the first counts * | the first counts | any may hit | the first counts |
| repeated prediction | false positive * | replaces the one it repeats | false positive | merges |
| matching | largest one-to-one * | by span | largest one-to-one | sets of tuples |
| tweets with empty gold or empty answer | count * | count | count | left out of GMNER and EEG |
| wrong box on a not-groundable entity | fp + fn | fp + fn | fp + fn | tp + fp |
| wrong box on a groundable entity | fp + fn | fp + fn | fp + fn | 2 fp + fn |

* The paper is silent; ours. Its words: equal with one space between words, case kept (Eq. 20 says "=").
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mcr_lib import boxes
from mcr_lib.matching import Pairing, Placement, largest_matching, pair, place, spaced
from mcr_lib.schema import Entity, Example, PredictedEntity
from mcr_lib.statistics import Ratio

SCORER_VERSION = 3  # raised whenever a result of an unchanged predictions file changes

TASKS = ("gmner", "mner", "eeg")
SCORERS = ("paper", "definition", "e2e", "unco-legacy")
# Constraints that a source must annotate for a task to be scored.
NEEDS = {"gmner": ("span", "type", "box"), "mner": ("span", "type"), "eeg": ("span", "box")}


@dataclass(frozen=True, slots=True)
class Judged:
    """A tweet with its answer, placed and paired with gold: the input of scorers, bias and figures.

    `effective` has the predictions that count, with their spans (`None` = unplaced): each repeated prediction
    has replaced the one it repeats.
    """

    example: Example
    predictions: tuple[PredictedEntity, ...]  # the answer, boxes in pixels of the original image
    placements: tuple[Placement, ...]
    effective: tuple[tuple[tuple[int, int] | None, PredictedEntity], ...]
    pairing: Pairing  # of effective predictions with gold entities
    is_read: bool = True  # an answer came and could be read

    @property
    def matched(self) -> list[tuple[PredictedEntity, Entity]]:
        """(prediction, gold entity) of every equal span, in text order."""
        return [(self.effective[i][1], self.example.entities[j]) for i, j in self.pairing.matches]


def judge(example: Example, predictions: Sequence[PredictedEntity], *, lenient: bool = False) -> Judged:
    """Place and pair the answer of one tweet, boxes in pixels of the original image.

    Example:
        >>> rome = Entity("Rome", 1, 2, "LOC", ())
        >>> tweet = Example("1", "demo", "test", ("Go", "Rome"), (rome,), ("LOC", "ORG"))
        >>> judged = judge(tweet, [PredictedEntity("Rome", "ORG"), PredictedEntity("Rome", "LOC")])
        >>> [(span, p.type) for span, p in judged.effective]
        [((1, 2), 'LOC')]
    """
    placements = place([p.text for p in predictions], example.tokens, lenient=lenient)
    counted = {}
    for k, placement in enumerate(placements):
        is_duplicate = placement.kind == "duplicate"
        counted[placement.repeats if is_duplicate else k] = (placement.span, predictions[k])
    effective = tuple(counted[k] for k in sorted(counted))
    pairing = pair([span for span, _ in effective], [entity.span for entity in example.entities])
    return Judged(example, tuple(predictions), tuple(placements), effective, pairing)


@dataclass(frozen=True, slots=True)
class Outcome:
    """True positives and false negatives of one tweet by gold type, false positives by predicted type."""

    tp: Counter = field(default_factory=Counter)
    fp: Counter = field(default_factory=Counter)
    fn: Counter = field(default_factory=Counter)

    def __add__(self, other: "Outcome") -> "Outcome":
        return Outcome(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)


def is_region_right(predicted: Sequence[boxes.Box], gold: Sequence[boxes.Box], *, inclusive: bool) -> bool:
    """Whether the boxes of an entity are right: both none, or some predicted box hits some gold box."""
    if not predicted or not gold:
        return not predicted and not gold
    return any(boxes.is_hit(box, gold, inclusive=inclusive) for box in predicted)


def outcome(judged: Judged, task: str, scorer: str = "definition") -> Outcome:
    """The counts of one tweet for one of `TASKS` under one of `SCORERS`.

    Raises:
        ValueError: an unknown task or scorer.

    Example:
        >>> rome = Entity("Rome", 0, 1, "LOC", ((0, 0, 9, 9),))
        >>> tweet = Example("1", "demo", "test", ("Rome",), (rome,), ("LOC",))
        >>> counts = outcome(judge(tweet, [PredictedEntity("Rome", "LOC")]), "gmner")
        >>> dict(counts.tp), dict(counts.fp), dict(counts.fn)
        ({}, {'LOC': 1}, {'LOC': 1})
    """
    if task not in TASKS:
        raise ValueError(f"unknown task {task!r}; known: {', '.join(TASKS)}")
    if scorer not in SCORERS:
        raise ValueError(f"unknown scorer {scorer!r}; known: {', '.join(SCORERS)}")
    if scorer in ("paper", "e2e"):
        return _by_words(judged, task, only_first_box=scorer == "paper")
    return (_definition if scorer == "definition" else _unco_legacy)(judged, task)


def totals(outcomes: Sequence[Outcome]) -> np.ndarray:
    """Counts over all types, int array of shape (n_tweets, 3): tp, fp, fn."""
    rows = [[o.tp.total(), o.fp.total(), o.fn.total()] for o in outcomes]
    return np.array(rows, dtype=np.int64).reshape(len(outcomes), 3)


def ratios(counts: np.ndarray) -> dict[str, Ratio]:
    """P, R and F1 as ratios of sums over tweets, from `totals`."""
    tp, fp, fn = counts.T
    return {"p": Ratio(tp, tp + fp), "r": Ratio(tp, tp + fn), "f1": Ratio(2 * tp, 2 * tp + fp + fn)}


def score(judged: Sequence[Judged], scorer: str = "definition") -> dict[str, dict[str, Ratio]]:
    """Task -> P, R and F1 as ratios over tweets, for every task that the source's constraints allow.

    Example:
        >>> rome = Entity("Rome", 0, 1, "LOC", ())
        >>> tweet = Example("1", "demo", "test", ("Rome",), (rome,), ("LOC", "ORG"))
        >>> answers = [judge(tweet, [PredictedEntity("Rome", "ORG")])]
        >>> {task: ratios["f1"].percent for task, ratios in score(answers).items()}
        {'gmner': 0.0, 'mner': 0.0, 'eeg': 100.0}
    """
    tasks = scored_tasks(judged[0].example.constraints)
    return {task: ratios(totals([outcome(j, task, scorer) for j in judged])) for task in tasks}


def by_type(outcomes: Sequence[Outcome], labels: Sequence[str]) -> dict[str, dict[str, float]]:
    """P, R, F1 in percent and the number of gold entities, per type."""
    total = sum(outcomes, Outcome())
    rows = {}
    for label in labels:
        tp, fp, fn = total.tp[label], total.fp[label], total.fn[label]
        values = {name: ratio.percent or 0.0 for name, ratio in ratios(np.array([[tp, fp, fn]])).items()}
        rows[label] = {**values, "n_gold": tp + fn}
    return rows


def scored_tasks(constraints: Sequence[str]) -> tuple[str, ...]:
    """The tasks that can be scored if a source annotates these constraints."""
    return tuple(task for task in TASKS if set(NEEDS[task]) <= set(constraints))


def signature(
    *, scorer: str, source: str, checksum: str, split: str, parse: str, extra: Mapping[str, Any] | None = None
) -> str:
    """How a score was computed, in one line; scores with different signatures are not comparable.

    Example:
        >>> signature(scorer="e2e", source="twitter-gmner-v2", checksum="0a1b", split="test", parse="strict")
        'scorer=e2e|iou=>=0.5|data=twitter-gmner-v2:0a1b|split=test|parse=strict|scorer_version=3'
    """
    iou, data = ">0.5" if scorer == "definition" else ">=0.5", f"{source}:{checksum}"
    parts = {"scorer": scorer, "iou": iou, "data": data, "split": split, "parse": parse}
    parts |= {**(extra or {}), "scorer_version": SCORER_VERSION}
    return "|".join(f"{key}={value}" for key, value in parts.items())


def _is_right(task: str, predicted: PredictedEntity, gold: Entity, *, inclusive: bool) -> bool:
    """Whether a prediction with a right span is also right in type and region, as far as the task asks."""
    if task != "eeg" and predicted.type != gold.type:
        return False
    regions = (predicted.boxes_xyxy, gold.boxes_xyxy_px or ())
    return task == "mner" or is_region_right(*regions, inclusive=inclusive)


def _definition(judged: Judged, task: str) -> Outcome:
    predictions, gold = [p for _, p in judged.effective], judged.example.entities
    matches, first_box = judged.pairing.matches, _first_box(predictions)
    right = [(i, j) for i, j in matches if _is_right(task, first_box[i], gold[j], inclusive=False)]
    return _counted(right, predictions, gold)


def _first_box(predictions: Sequence[PredictedEntity]) -> list[PredictedEntity]:
    return [replace(p, boxes_xyxy=p.boxes_xyxy[:1]) for p in predictions]


def _by_words(judged: Judged, task: str, *, only_first_box: bool) -> Outcome:
    predictions, gold = judged.predictions, judged.example.entities
    predictions = _first_box(predictions) if only_first_box else predictions
    names = [spaced(p.text) for p in predictions]

    def may_pair(i: int, j: int) -> bool:
        return names[i] == gold[j].text and _is_right(task, predictions[i], gold[j], inclusive=True)

    return _counted(largest_matching(len(predictions), len(gold), may_pair), predictions, gold)


def _counted(
    right: Sequence[tuple[int, int]], predictions: Sequence[PredictedEntity], gold: Sequence[Entity]
) -> Outcome:
    right_pred, right_gold = {i for i, _ in right}, {j for _, j in right}
    return Outcome(
        Counter(gold[j].type for j in right_gold),
        Counter(p.type for i, p in enumerate(predictions) if i not in right_pred),
        Counter(g.type for j, g in enumerate(gold) if j not in right_gold),
    )


_NO_BOX, _MISS = -1, -2


def _unco_legacy(judged: Judged, task: str) -> Outcome:
    """Counts by sets of (span, type, region).

    The region of a gold item is its own number or "no box", that of a prediction the first gold item of its
    span that it hits, else "miss". For every prediction that is no gold item but shares span and type with
    one of another region, a copy with "no box" is added: right if the gold has none, else wrong. The span of
    an unplaced prediction is its words.
    """
    gold = [(e.span, e.type, box) for e in judged.example.entities for box in (e.boxes_xyxy_px or (None,))]
    placed = zip(judged.placements, judged.predictions, strict=True)
    predicted = [(placement.span or p.text, p.type, p.box_xyxy) for placement, p in placed]
    if task == "mner":
        return _set_outcome({(s, t, 0) for s, t, _ in gold}, {(s, t, 0) for s, t, _ in predicted})
    if not gold or not predicted:
        return Outcome()
    if task == "eeg":
        gold = [(span, "any", box) for span, _, box in gold]
        predicted = [(span, "any", box) for span, _, box in predicted]

    def region(span: tuple[int, int] | str, box: boxes.Box | None) -> int:
        if box is None:
            return _NO_BOX
        candidates = [(k, known) for k, (s, _, known) in enumerate(gold) if s == span and known is not None]
        return next((k for k, known in candidates if boxes.is_hit(box, [known], inclusive=True)), _MISS)

    gold_items = {(span, t, _NO_BOX if box is None else k) for k, (span, t, box) in enumerate(gold)}
    items = {(span, t, region(span, box)) for span, t, box in predicted}
    extra = {
        (s, t, _NO_BOX)
        for s, t, r in items - gold_items
        if any(g[:2] == (s, t) and g[2] != r for g in gold_items)
    }
    return _set_outcome(gold_items, items | extra)


def _set_outcome(gold: set[tuple], predicted: set[tuple]) -> Outcome:
    parts = (gold & predicted, predicted - gold, gold - predicted)
    return Outcome(*(Counter(type_ for _, type_, _ in items) for items in parts))
