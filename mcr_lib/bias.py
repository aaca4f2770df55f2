"""Unimodal shortcuts, counted: boxes for what only the text names (textual bias), names for what only the
image shows (visual bias).

The paper's names with our reading ("N" = "None", not groundable; its formulas are not public):

    N-Pre    of the entities with a right span said to be "not in the image", those that are not
    N-Rec    of all gold entities that are not in the image, those said to be so (with a right span)
    N-F1     their harmonic mean
    N-Count  predictions of which no word occurs in the tweet; N-Rate = N-Count / predictions

These can be won blind (`yardsticks.BLIND` does), so ours stand beside them, over gold entities whose span was
found:

    false grounding     boxed / not groundable          missed grounding   unboxed / groundable
    balanced accuracy   100 - (false + missed) / 2

And over pairs of answers to a tweet and to a counterfactual of it (`sources.probes`):

    image-caused N-Rate   N-Rate at the real image - N-Rate at a blank one, the same tweets, paired
    consistency           clean on the probe and right on the original / right on the original; both by one rule (`fault`)

A name that the text lacks need not come from the image: `invented_names` tells those that the image shows
from those that were trained on.

Each number is a ratio of sums over tweets (`statistics.Ratio`), so that all have intervals and paired tests
of one kind.
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

SHARED_IOU = 0.9
"""Two boxes of one tweet above this IoU count as shared."""

ATTRIBUTED_IOU = 0.25
"""A wrong box is attributed to what it overlaps most, if the IoU is above this; else to the background
(ours).
"""

INVENTED = ("image only", "trained on", "neither")
"""Where a name may come from of which the text has no word."""

FAULTS = (
    "not read",
    "name not in the text",
    "box not wanted",
    "box misses",
    "box left out",
    "entity left out",
)
"""What keeps an answer from being clean, in the order in which it is looked for."""

Case = tuple[PredictedEntity, Entity]
_EDGE = string.punctuation + "“”‘’«»…"


def textual_bias(judged: Sequence[Judged], *, only_hard: bool = False) -> dict[str, Ratio]:
    """n_pre, n_rec, n_f1, false_grounding and missed_grounding as ratios over tweets.

    Args:
        only_hard: count only entities of the hard subset (`is_hard`).

    Example:
        >>> from mcr_lib.metrics import judge
        >>> rome = Entity("Rome", 0, 1, "LOC", ())
        >>> tweet = Example("1", "demo", "test", ("Rome",), (rome,), ("LOC",))
        >>> {k: v.percent for k, v in textual_bias([judge(tweet, [PredictedEntity("Rome", "LOC")])]).items()}
        {'n_pre': 100.0, 'n_rec': 100.0, 'n_f1': 100.0, 'false_grounding': 0.0, 'missed_grounding': None}
    """
    is_counted = is_hard if only_hard else lambda example, entity: entity.is_groundable is not None

    def per_tweet(is_case: Callable[[PredictedEntity, Entity], bool]) -> np.ndarray:
        return np.array(
            [
                sum(is_counted(j.example, gold) and is_case(pred, gold) for pred, gold in j.matched)
                for j in judged
            ],
            dtype=np.int64,
        )

    none_right = per_tweet(lambda pred, gold: not pred.boxes_xyxy and not gold.is_groundable)
    none_said = per_tweet(lambda pred, gold: not pred.boxes_xyxy)
    absent = per_tweet(lambda pred, gold: not gold.is_groundable)
    shown = per_tweet(lambda pred, gold: bool(gold.is_groundable))
    all_absent = np.array(
        [sum(is_counted(j.example, e) and not e.is_groundable for e in j.example.entities) for j in judged],
        dtype=np.int64,
    )
    return {
        "n_pre": Ratio(none_right, none_said),
        "n_rec": Ratio(none_right, all_absent),
        "n_f1": Ratio(2 * none_right, none_said + all_absent),
        "false_grounding": Ratio(absent - none_right, absent),
        "missed_grounding": Ratio(none_said - none_right, shown),
    }


def balanced_accuracy(false_grounding: float | None, missed_grounding: float | None) -> float | None:
    """100 - (false + missed) / 2, all in percent; `None` where either is undefined.

    50 for a rule that treats all entities alike or boxes at random. A rule by type wins more without looking
    (v2 test, perfect text: 70.9 for "box iff PER"), but not on the hard subset (50.9; 62.2 for "box iff first
    PER of the tweet").

    Example:
        >>> balanced_accuracy(0.0, 100.0)
        50.0
    """
    if false_grounding is None or missed_grounding is None:
        return None
    return 100 - (false_grounding + missed_grounding) / 2


def is_hard(example: Example, entity: Entity) -> bool:
    """Whether the tweet holds a groundable and a not-groundable entity of this entity's type, which the type
    alone cannot tell apart.
    """
    return {e.is_groundable for e in example.entities if e.type == entity.type} >= {True, False}


def visual_bias(judged: Sequence[Judged]) -> dict[str, Ratio]:
    """n_rate and altered_rate: predictions with no word, and with some but not all words, in the tweet, over
    all predictions.

    Example:
        >>> from mcr_lib.metrics import judge
        >>> tweet = Example("1", "demo", "test", ("Go", "@", "KDTrey5"), (), ("PER",))
        >>> rates = visual_bias([judge(tweet, [PredictedEntity(n, "PER") for n in ("#KDTrey5", "LeBron James", "Go LeBron")])])
        >>> {name: int(ratio.numerator.sum()) for name, ratio in rates.items()}
        {'n_rate': 1, 'altered_rate': 1}
    """
    kinds = [Counter(wording(p.text, j.example.tokens) for p in j.predictions) for j in judged]
    n_predictions = np.array([len(j.predictions) for j in judged], dtype=np.int64)
    counts = {kind: np.array([k[kind] for k in kinds], dtype=np.int64) for kind in ("invented", "altered")}
    return {
        "n_rate": Ratio(counts["invented"], n_predictions),
        "altered_rate": Ratio(counts["altered"], n_predictions),
    }


def wording(name: str, tokens: Sequence[str]) -> str:
    """Whether the words of a name occur in a tweet: "in the text" (all), "altered" (some) or "invented"
    (none).

    Words are compared case-folded, without `@`, `#` and punctuation at their edges; a name of punctuation
    alone is compared as it is.

    Example:
        >>> wording("kevin Durant!", ["#Kevin", "Garnett"])
        'altered'
    """
    present = set(_words(tokens))
    found = [word in present for word in _words(name.split())]
    return "in the text" if found and all(found) else "altered" if any(found) else "invented"


def invented_names(judged: Sequence[Judged], trained_on: Collection[str] | None) -> dict[str, int]:
    """Where the names come from of which no word is in the text (N-Count): "image only" (bait), "trained on"
    or "neither".

    A name that is both counts as "image only". What is not known is left out, not zero: "image only" where no
    tweet tells what its image shows and its text does not name, "trained on" without names (paper silent;
    ours).

    Args:
        trained_on: the names of the training tweets; `None` = not known.

    Example:
        >>> from mcr_lib.metrics import judge
        >>> tweet = Example("1", "demo", "test", ("Go", "!"), (), ("PER",), image_only=())
        >>> invented_names([judge(tweet, [PredictedEntity(n, "PER") for n in ("Go", "#rome", "Bob")])], {"Rome"})
        {'image only': 0, 'trained on': 1, 'neither': 1}
    """
    kinds = list(INVENTED)
    if all(j.example.image_only is None for j in judged):
        kinds.remove("image only")
    if trained_on is None:
        kinds.remove("trained on")
    counts = Counter(dict.fromkeys(kinds, 0))
    of_training = {_bare(name) for name in trained_on or ()}
    for j in judged:
        shown = {_bare(bait.text) for bait in j.example.image_only or ()}
        for p in j.predictions:
            if wording(p.text, j.example.tokens) == "invented":
                name = _bare(p.text)
                counts[
                    "image only" if name in shown else "trained on" if name in of_training else "neither"
                ] += 1
    return dict(counts)


def box_sharing(judged: Sequence[Judged]) -> tuple[int, int]:
    """Pairs of predictions of one tweet that share a box (IoU > 0.9), and pairs of gold entities that do.

    A pair of mentions of one name is no sharing.
    """
    n_pred = sum(_n_shared((p.text, p.boxes_xyxy) for _, p in j.effective) for j in judged)
    n_gold = sum(_n_shared((e.text, e.boxes_xyxy_px or ()) for e in j.example.entities) for j in judged)
    return n_pred, n_gold


def wrong_boxes(judged: Sequence[Judged]) -> dict[str, int]:
    """What the boxes show that hit no gold box of their own entity, over predictions with a right span.

    "own entity, inexact", "another entity" (of the text), "image only" (bait) or "background", by the largest
    IoU above 0.25. Where no tweet tells what its image shows and its text does not name, "image only" is left
    out: unknown, not zero.
    """
    kinds = ["own entity, inexact", "another entity", "image only", "background"]
    if all(j.example.image_only is None for j in judged):
        kinds.remove("image only")
    counts = Counter(dict.fromkeys(kinds, 0))
    for j in judged:
        for pred, gold in j.matched:
            if pred.box_xyxy and not boxes.is_hit(pred.box_xyxy, gold.boxes_xyxy_px or ()):
                counts[_attributed(pred.box_xyxy, gold, j.example)] += 1
    return dict(counts)


def fault(judged: Judged, *, is_read: bool = True) -> str | None:
    """`None` for a clean answer, else the first of `FAULTS`: both shortcuts before what is merely lost.

    Clean: every gold entity is found with a right region (no box where it has none, else IoU > 0.5), no other
    prediction has a box, and all words of every name are in the text. Types do not count, nor do predictions
    of words that name nothing, as long as they have no box.

    Args:
        is_read: whether the answer could be read at all; one that could not be is no clean answer to a tweet
            without entities.

    Example:
        >>> from mcr_lib.metrics import judge
        >>> rome = Entity("Rome", 0, 1, "LOC", ())
        >>> tweet = Example("1", "demo", "test", ("Rome",), (rome,), ("LOC",))
        >>> fault(judge(tweet, [PredictedEntity("Rome", "LOC")])), fault(judge(tweet, [PredictedEntity("Rome", "LOC", ((0, 0, 9, 9),))]))
        (None, 'box not wanted')
    """
    if not is_read:
        return "not read"
    if any(wording(p.text, judged.example.tokens) != "in the text" for p in judged.predictions):
        return "name not in the text"
    paired = {i for i, _ in judged.pairing.matches + judged.pairing.touches}
    beside = [p for i, (_, p) in enumerate(judged.effective) if i not in paired]
    if any(p.boxes_xyxy for p in beside) or any(
        p.boxes_xyxy and not gold.is_groundable for p, gold in judged.matched
    ):
        return "box not wanted"
    wrong = [
        p
        for p, gold in judged.matched
        if not is_region_right(p.boxes_xyxy[:1], gold.boxes_xyxy_px or (), inclusive=False)
    ]
    if wrong:
        return "box misses" if any(p.boxes_xyxy for p in wrong) else "box left out"
    return "entity left out" if len(judged.matched) < len(judged.example.entities) else None


def consistency(before: Sequence[str | None], after: Sequence[str | None]) -> Ratio:
    """Tweets that are clean after a probe among those that were clean before it.

    Args:
        before: the `fault` of the answer to each original.
        after: of the answer to its probe, in the same order.

    Example:
        >>> consistency([None, None, "box misses"], [None, "box not wanted", None]).percent
        50.0
    """
    was_clean = np.array([found is None for found in before], dtype=np.int64)
    return Ratio(was_clean * np.array([found is None for found in after], dtype=np.int64), was_clean)


def image_caused(
    real: Sequence[Judged], blank: Sequence[Judged], *, n_resamples: int, rng: np.random.Generator
) -> PairedTest:
    """N-Rate at the real image minus N-Rate at a blank one: what the image, not habit, makes a model name
    beyond the text.

    Args:
        real: answers to tweets.
        blank: answers to the same tweets with a blank image, in the same order.

    Raises:
        ValueError: not the same number of tweets, or none.
    """
    return paired_test(
        visual_bias(real)["n_rate"], visual_bias(blank)["n_rate"], n_resamples=n_resamples, rng=rng
    )


def old_signs(judged: Judged, old: Sequence[Entity]) -> set[str]:
    """What betrays a shortcut after an entity was renamed or erased: "old box" (textual bias: something that
    the image does not show is boxed where the old entity was), "old name" (visual bias: the old name, though
    the text has it no more).

    Args:
        judged: the answer after the probe.
        old: the entities as they were.
    """
    gone = [box for entity in old for box in entity.boxes_xyxy_px or ()]
    names = [_bare(entity.text) for entity in old]
    signs = set()
    if any(
        p.box_xyxy and not gold.is_groundable and boxes.is_hit(p.box_xyxy, gone) for p, gold in judged.matched
    ):
        signs.add("old box")
    if any(
        _bare(p.text) in names and wording(p.text, judged.example.tokens) == "invented"
        for p in judged.predictions
    ):
        signs.add("old name")
    return signs


def _attributed(box: boxes.Box, own: Entity, example: Example) -> str:
    others = [b for e in example.entities if e is not own for b in e.boxes_xyxy_px or ()]
    bait = [b for shown in example.image_only or () for b in shown.boxes_xyxy_px]
    overlaps = {
        "own entity, inexact": boxes.best_iou(box, own.boxes_xyxy_px or ()),
        "another entity": boxes.best_iou(box, others),
        "image only": boxes.best_iou(box, bait),
    }
    kind = max(overlaps, key=overlaps.get)
    return kind if overlaps[kind] > ATTRIBUTED_IOU else "background"


def _n_shared(named_boxes: Iterable[tuple[str, Sequence[boxes.Box]]]) -> int:
    boxed = [(name, found) for name, found in named_boxes if found]
    return sum(
        a != b and any(boxes.best_iou(box, others) > SHARED_IOU for box in found)
        for (a, found), (b, others) in combinations(boxed, 2)
    )


def _bare(name: str) -> tuple[str, ...]:
    return tuple(_words(name.split()))


def _words(tokens: Iterable[str]) -> list[str]:
    return [token.casefold().strip(_EDGE) or token.casefold() for token in tokens]
