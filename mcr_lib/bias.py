"""Unimodal shortcuts, counted: boxes for what only the text names (textual bias), names for what only the
image shows (visual bias).

The paper's names with our reading ("N" = "None", not groundable; its formulas are not public):

    N-Pre    of the entities with a right span predicted as "not in the image", those that are not
    N-Rec    of all gold entities that are not in the image, those predicted so (with a right span)
    N-F1     their harmonic mean
    N-Count  predictions of which no word occurs in the tweet; N-Rate = N-Count / predictions

These can be won blind (`yardsticks.BLIND` does), so we add, over gold entities with a predicted span:

    false grounding     boxed / not groundable          missed grounding   unboxed / groundable
    balanced accuracy   100 - (false + missed) / 2

And over pairs of answers to a tweet and to a counterfactual of it (`data.probes`):

    image-caused N-Rate   N-Rate at the real image - N-Rate at a blank one, the same tweets, paired
    consistency           clean on the probe and on the original / clean on the original (`fault`)

A name that the text lacks need not come from the image: `invented_names` separates those that the image shows
from those of the training data. Each number is a ratio of sums over tweets (`statistics.Ratio`), so that all
have intervals and paired tests of one kind.
"""

import string
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import combinations

import numpy as np

from mcr_lib import boxes
from mcr_lib.metrics import Judged, is_region_right
from mcr_lib.schema import Entity, Example, PredictedEntity
from mcr_lib.statistics import PairedTest, Ratio, paired_test

SHARED_IOU = 0.9  # two boxes of one tweet above this IoU count as shared
ATTRIBUTED_IOU = 0.25  # a wrong box shows what it overlaps most above this IoU, else the background (ours)
INVENTED = ("image only", "trained on", "neither")  # origins of a name of which no word is in the text
WRONG_BOXES = ("own entity, inexact", "another entity", "image only", "background")
FAULTS = (  # what keeps an answer from being clean, in the order in which it is checked
    "not read", "name not in the text", "box not wanted", "box misses", "box left out", "entity left out",
)  # fmt: skip
_EDGE = string.punctuation + "“”‘’«»…"


def textual_bias(judged: Sequence[Judged], *, only_hard: bool = False) -> dict[str, Ratio]:
    """n_pre, n_rec, n_f1, false_grounding, missed_grounding; `only_hard` counts only `is_hard` entities.

    Example:
        >>> from mcr_lib.metrics import judge
        >>> rome = Entity("Rome", 0, 1, "LOC", ())
        >>> tweet = Example("1", "demo", "test", ("Rome",), (rome,), ("LOC",))
        >>> {k: v.percent for k, v in textual_bias([judge(tweet, [PredictedEntity("Rome", "LOC")])]).items()}
        {'n_pre': 100.0, 'n_rec': 100.0, 'n_f1': 100.0, 'false_grounding': 0.0, 'missed_grounding': None}
    """
    is_counted = is_hard if only_hard else lambda example, entity: entity.is_groundable is not None

    def count(is_case: Callable[[PredictedEntity, Entity], bool]) -> np.ndarray:
        cases = ([(p, e) for p, e in j.matched if is_counted(j.example, e)] for j in judged)
        return _per_tweet(sum(is_case(p, e) for p, e in matched) for matched in cases)

    none_right = count(lambda pred, gold: not pred.boxes_xyxy and not gold.is_groundable)
    none_predicted = count(lambda pred, gold: not pred.boxes_xyxy)
    absent = count(lambda pred, gold: not gold.is_groundable)
    shown = count(lambda pred, gold: bool(gold.is_groundable))
    gold = ([e for e in j.example.entities if is_counted(j.example, e)] for j in judged)
    all_absent = _per_tweet(sum(not e.is_groundable for e in entities) for entities in gold)
    return {
        "n_pre": Ratio(none_right, none_predicted),
        "n_rec": Ratio(none_right, all_absent),
        "n_f1": Ratio(2 * none_right, none_predicted + all_absent),
        "false_grounding": Ratio(absent - none_right, absent),
        "missed_grounding": Ratio(none_predicted - none_right, shown),
    }


def balanced_accuracy(false_grounding: float | None, missed_grounding: float | None) -> float | None:
    """100 - (false + missed) / 2, all in percent; `None` if either is undefined.

    50 for a rule that treats all entities alike or boxes at random. A rule by type reaches more without
    looking (v2 test, perfect text: 70.9 for "box iff PER"), but not on the hard subset (50.9; 62.2 for "box
    iff first PER of the tweet").
    """
    if false_grounding is None or missed_grounding is None:
        return None
    return 100 - (false_grounding + missed_grounding) / 2


def is_hard(example: Example, entity: Entity) -> bool:
    """Whether the tweet has both groundable and other entities of this type, so that type is no clue."""
    return {e.is_groundable for e in example.entities if e.type == entity.type} >= {True, False}


def visual_bias(judged: Sequence[Judged]) -> dict[str, Ratio]:
    """n_rate and altered_rate: shares of predictions with no word in the tweet, and with only some words."""
    kinds = [Counter(wording(p.text, j.example.tokens) for p in j.predictions) for j in judged]
    n_predictions = _per_tweet(len(j.predictions) for j in judged)
    n_invented = _per_tweet(k["invented"] for k in kinds)
    n_altered = _per_tweet(k["altered"] for k in kinds)
    return {"n_rate": Ratio(n_invented, n_predictions), "altered_rate": Ratio(n_altered, n_predictions)}


def wording(name: str, tokens: Sequence[str]) -> str:
    """Whether the words of a name occur in a tweet: "in the text" (all), "altered" (some), "invented" (none).

    Words are compared case-folded, without `@`, `#` and punctuation at their edges; a name of punctuation
    alone is compared as it is.

    Example:
        >>> wording("kevin Durant!", ["#Kevin", "Garnett"])
        'altered'
    """
    present = set(_words(tokens))
    is_present = [word in present for word in _words(name.split())]
    return "in the text" if is_present and all(is_present) else "altered" if any(is_present) else "invented"


def invented_names(judged: Sequence[Judged], trained_on: Collection[str] | None) -> dict[str, int]:
    """Origins (`INVENTED`) of the names of which no word is in the text (N-Count; paper silent; ours).

    A name that is both counts as "image only" (bait). Unknown origins are left out, not zero: "image only" if
    no tweet has known bait, "trained on" if the names of the training tweets are `None`.
    """
    counts = Counter(dict.fromkeys(INVENTED, 0))
    if not _knows_bait(judged):
        del counts["image only"]
    if trained_on is None:
        del counts["trained on"]
    of_training = {_bare(name) for name in trained_on or ()}
    for j in judged:
        shown = {_bare(bait.text) for bait in j.example.image_only or ()}
        for p in j.predictions:
            if wording(p.text, j.example.tokens) == "invented":
                name = _bare(p.text)
                origin = "trained on" if name in of_training else "neither"
                counts["image only" if name in shown else origin] += 1
    return dict(counts)


def box_sharing(judged: Sequence[Judged]) -> tuple[int, int]:
    """Pairs of a tweet's predictions, and of its gold, that share a box (IoU > 0.9) but not the name."""
    n_pred = sum(_n_shared([(p.text, p.boxes_xyxy) for _, p in j.effective]) for j in judged)
    n_gold = sum(_n_shared([(e.text, e.boxes_xyxy_px or ()) for e in j.example.entities]) for j in judged)
    return n_pred, n_gold


def wrong_boxes(judged: Sequence[Judged]) -> dict[str, int]:
    """What the boxes show that miss their own entity, over predictions with a right span (`WRONG_BOXES`).

    By the largest IoU above 0.25: the own entity, another one of the text, bait, or the background. "image
    only" is left out if no tweet has known bait: unknown, not zero.
    """
    counts = Counter(dict.fromkeys(WRONG_BOXES, 0))
    if not _knows_bait(judged):
        del counts["image only"]
    for j in judged:
        for pred, gold in j.matched:
            if pred.box_xyxy and not boxes.is_hit(pred.box_xyxy, gold.boxes_xyxy_px or ()):
                counts[_attributed(pred.box_xyxy, gold, j.example)] += 1
    return dict(counts)


def fault(judged: Judged, *, is_read: bool = True) -> str | None:
    """The first of `FAULTS`, both shortcuts before what is merely lost; `None` for a clean answer.

    Clean: every gold entity is predicted with a right region (no box if it has none, else IoU > 0.5), no
    other prediction has a box, and all words of every name are in the text. Types do not count, nor do
    predictions of words that name nothing, as long as they have no box. An answer that could not be read is
    not clean even for a tweet without entities.

    Example:
        >>> from mcr_lib.metrics import judge
        >>> rome = Entity("Rome", 0, 1, "LOC", ())
        >>> tweet = Example("1", "demo", "test", ("Rome",), (rome,), ("LOC",))
        >>> boxed = PredictedEntity("Rome", "LOC", ((0, 0, 9, 9),))
        >>> fault(judge(tweet, [PredictedEntity("Rome", "LOC")])), fault(judge(tweet, [boxed]))
        (None, 'box not wanted')
    """
    if not is_read:
        return "not read"
    if any(wording(p.text, judged.example.tokens) != "in the text" for p in judged.predictions):
        return "name not in the text"
    paired = {i for i, _ in judged.pairing.matches + judged.pairing.touches}
    unwanted = [p for i, (_, p) in enumerate(judged.effective) if i not in paired]
    unwanted += [p for p, gold in judged.matched if not gold.is_groundable]
    if any(p.boxes_xyxy for p in unwanted):
        return "box not wanted"
    regions = [(p.boxes_xyxy[:1], gold.boxes_xyxy_px or ()) for p, gold in judged.matched]
    wrong = [box for box, gold in regions if not is_region_right(box, gold, inclusive=False)]
    if wrong:
        return "box misses" if any(wrong) else "box left out"
    return "entity left out" if len(judged.matched) < len(judged.example.entities) else None


def consistency(before: Sequence[str | None], after: Sequence[str | None]) -> Ratio:
    """Tweets that are clean after a probe among those clean before it, from the `fault` of each answer."""
    was_clean = _per_tweet(reason is None for reason in before)
    return Ratio(was_clean * _per_tweet(reason is None for reason in after), was_clean)


def image_caused(
    real: Sequence[Judged], blank: Sequence[Judged], *, n_resamples: int, rng: np.random.Generator
) -> PairedTest:
    """N-Rate at the real image minus N-Rate at a blank one: names that the image causes, not habit."""
    first, second = visual_bias(real)["n_rate"], visual_bias(blank)["n_rate"]
    return paired_test(first, second, n_resamples=n_resamples, rng=rng)


def old_signs(judged: Judged, old: Sequence[Entity]) -> set[str]:
    """Signs of a shortcut after an entity was renamed or erased.

    "old box" (textual bias): an entity that the image does not show is boxed where the old one was. "old
    name" (visual bias): the old name is predicted, though the text no longer has it.
    """
    old_boxes = [box for entity in old for box in entity.boxes_xyxy_px or ()]
    old_names = [_bare(entity.text) for entity in old]
    boxed = [p.box_xyxy for p, gold in judged.matched if p.box_xyxy and not gold.is_groundable]
    named = [p.text for p in judged.predictions if _bare(p.text) in old_names]
    is_boxed = any(boxes.is_hit(box, old_boxes) for box in boxed)
    is_named = any(wording(name, judged.example.tokens) == "invented" for name in named)
    return {sign for sign, is_there in (("old box", is_boxed), ("old name", is_named)) if is_there}


def _attributed(box: boxes.Box, own: Entity, example: Example) -> str:
    others = [b for e in example.entities if e is not own for b in e.boxes_xyxy_px or ()]
    bait = [b for shown in example.image_only or () for b in shown.boxes_xyxy_px]
    candidates = zip(WRONG_BOXES, (own.boxes_xyxy_px or (), others, bait), strict=False)
    overlaps = {kind: boxes.best_iou(box, known) for kind, known in candidates}
    kind = max(overlaps, key=overlaps.get)
    return kind if overlaps[kind] > ATTRIBUTED_IOU else "background"


def _n_shared(named_boxes: Sequence[tuple[str, Sequence[boxes.Box]]]) -> int:
    pairs = combinations([(name, some) for name, some in named_boxes if some], 2)
    return sum(
        a != b and any(boxes.best_iou(box, others) > SHARED_IOU for box in some)
        for (a, some), (b, others) in pairs
    )


def _knows_bait(judged: Sequence[Judged]) -> bool:
    return any(j.example.image_only is not None for j in judged)


def _per_tweet(values: Iterable[int]) -> np.ndarray:
    return np.fromiter(values, dtype=np.int64)


def _bare(name: str) -> tuple[str, ...]:
    return tuple(_words(name.split()))


def _words(tokens: Iterable[str]) -> list[str]:
    return [token.casefold().strip(_EDGE) or token.casefold() for token in tokens]
