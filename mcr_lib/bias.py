"""Unimodal shortcuts, counted: boxes for what only the text names (textual bias), names for what only the
image shows (visual bias).

The paper's metrics (App. E.3; "N" = no target, "right" = one to one):

    N-Pre    right None / all predicted None; right = the text of the prediction is that of a gold entity and
    N-Rec    right None / all gold None       neither has a box, whatever its type (Eq. 26-28)
    N-F1     their harmonic mean (Eq. 29)
    N-Count  predictions whose name is not in the sentence; N-Rate = N-Count / predictions (Eq. 30-31)

Eq. 30 divides the count by the number of predictions and Eq. 31 does so again; Table 4 reports a count and
its percentage, and so do we. Silent, ours: texts are equal as in the scorer `paper`; how case and spacing
count for "in the sentence" (`wording`).

N-F1 can be won blind (`yardsticks.BLIND` does), so we add, over gold entities with a predicted span:

    false grounding     boxed / not groundable          missed grounding   unboxed / groundable
    balanced accuracy   100 - (false + missed) / 2

N-Count mixes names from elsewhere with names of the tweet that are written otherwise, so its parts (`ABSENT`)
are counted apart. Two measures over pairs of answers to a tweet and to a counterfactual of it (`data.probes`)
count foreign names only, and foreign and altered ones:

    image-caused foreign names   share of foreign names at the real image - at a blank one, the same tweets
    consistency                  clean on the probe and on the original / clean on the original (`fault`)

A foreign name need not come from the image: `foreign_names` separates those that the image shows from those
of the training data. Each number is a ratio of sums over tweets (`statistics.Ratio`), so that all have
intervals and paired tests of one kind.
"""

import string
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import combinations

import numpy as np

from mcr_lib import boxes
from mcr_lib.matching import place, spaced
from mcr_lib.metrics import Judged, is_region_right
from mcr_lib.schema import Entity, Example, PredictedEntity
from mcr_lib.statistics import PairedTest, Ratio, paired_test

SHARED_IOU = 0.9  # two boxes of one tweet above this IoU count as shared
ATTRIBUTED_IOU = 0.25  # a wrong box shows what it overlaps most above this IoU, else the background (ours)
ABSENT = ("foreign", "altered", "rearranged")  # parts of N-Count (`wording`)
ORIGINS = ("image only", "trained on", "neither")  # of foreign names
WRONG_BOXES = ("own entity, inexact", "another entity", "image only", "background")
FAULTS = (  # what keeps an answer from being clean, in the order in which it is checked
    "not read", "name not in the text", "box not wanted", "box misses", "box left out", "entity left out",
)  # fmt: skip
_EDGE = string.punctuation + "“”‘’«»…"


def textual_bias(judged: Sequence[Judged], *, only_hard: bool = False) -> dict[str, Ratio]:
    """n_pre, n_rec and n_f1 of the paper, false_grounding and missed_grounding of ours.

    `only_hard`: ours alone, over `is_hard` entities (a predicted None is not always about some gold entity).

    Example:
        >>> from mcr_lib.metrics import judge
        >>> rome = Entity("Rome", 0, 1, "LOC", ())
        >>> tweet = Example("1", "demo", "test", ("Rome",), (rome,), ("LOC",))
        >>> answer = [PredictedEntity("Rome", "ORG"), PredictedEntity("Oslo", "LOC")]
        >>> [round(ratio.percent or 0) for ratio in textual_bias([judge(tweet, answer)]).values()]
        [50, 100, 67, 0, 0]
    """

    def count(is_case: Callable[[PredictedEntity, Entity], bool]) -> np.ndarray:
        cases = ([(p, e) for p, e in j.matched if not only_hard or is_hard(j.example, e)] for j in judged)
        return _per_tweet(sum(is_case(p, e) for p, e in matched) for matched in cases)

    false = count(lambda pred, gold: bool(pred.boxes_xyxy) and gold.is_groundable is False)
    absent = count(lambda pred, gold: gold.is_groundable is False)
    missed = count(lambda pred, gold: not pred.boxes_xyxy and gold.is_groundable is True)
    shown = count(lambda pred, gold: gold.is_groundable is True)
    ours = {"false_grounding": Ratio(false, absent), "missed_grounding": Ratio(missed, shown)}
    return ours if only_hard else no_target(judged) | ours


def no_target(judged: Sequence[Judged]) -> dict[str, Ratio]:
    """n_pre, n_rec and n_f1 of the paper; of predictions and gold of one text, as many are right as there are
    of both.
    """
    predicted = [Counter(spaced(p.text) for p in j.predictions if not p.boxes_xyxy) for j in judged]
    gold = [Counter(e.text for e in j.example.entities if e.is_groundable is False) for j in judged]
    right = _per_tweet((a & b).total() for a, b in zip(predicted, gold, strict=True))
    n_predicted, n_gold = (_per_tweet(one.total() for one in some) for some in (predicted, gold))
    ratios = {"n_pre": Ratio(right, n_predicted), "n_rec": Ratio(right, n_gold)}
    return {**ratios, "n_f1": Ratio(2 * right, n_predicted + n_gold)}


def type_errors(judged: Sequence[Judged], *, only_text_decided: bool = False) -> Ratio:
    """Predictions with a wrong type among those whose text is a gold entity's, one to one, with as many right
    types as possible.

    `only_text_decided`: in tweets that name something and whose image shows nothing of it, so that it can
    only mislead: our reading of the "unimodal-dominant cases" of the paper (App. H, Table 12), which does not
    say how they were chosen.
    """
    wrong, compared = [], []
    for j in judged:
        gold = j.example.entities
        if only_text_decided and any(e.is_groundable is not False for e in gold):
            gold = ()
        named = Counter(spaced(p.text) for p in j.predictions) & Counter(e.text for e in gold)
        typed = Counter((spaced(p.text), p.type) for p in j.predictions)
        right = typed & Counter((e.text, e.type) for e in gold)
        wrong.append(named.total() - right.total())
        compared.append(named.total())
    return Ratio(_per_tweet(wrong), _per_tweet(compared))


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
    """Shares of predictions: n_rate of the paper, its parts foreign_rate, altered_rate, rearranged_rate."""
    kinds = [Counter(wording(p.text, j.example.tokens) for p in j.predictions) for j in judged]
    n_predictions = _per_tweet(len(j.predictions) for j in judged)
    parts = {"n_rate": ABSENT} | {f"{kind}_rate": (kind,) for kind in ABSENT}
    counts = {key: _per_tweet(sum(k[kind] for kind in part) for k in kinds) for key, part in parts.items()}
    return {key: Ratio(count, n_predictions) for key, count in counts.items()}


def wording(name: str, tokens: Sequence[str]) -> str:
    """How the tweet has a name: "in the text", or one of `ABSENT`, which make up N-Count.

    In the text: it is a run of whole tokens, case and white space aside, so "#godubs" is in "# GoDubs", and
    "Rom" is not in "Rome". Else, by words without case, `@`, `#` and punctuation at their edges (a name of
    punctuation alone as it is): all occur, but not as they are written ("rearranged"), only some do
    ("altered"), none does ("foreign").

    Example:
        >>> tokens = ["#", "Kevin", "Garnett", "wins"]
        >>> [wording(name, tokens) for name in ("#KEVIN", "Garnett Kevin", "kevin Durant!", "Durant")]
        ['in the text', 'rearranged', 'altered', 'foreign']
    """
    letters, *folded = ("".join(text.casefold().split()) for text in (name, *tokens))
    if place([letters], folded, lenient=True)[0].kind == "placed":
        return "in the text"
    present = set(_words(tokens))
    is_present = [word in present for word in _words(name.split())]
    return "rearranged" if is_present and all(is_present) else "altered" if any(is_present) else "foreign"


def foreign_names(judged: Sequence[Judged], trained_on: Collection[str] | None) -> dict[str, int]:
    """The foreign names by origin (`ORIGINS`; paper silent; ours).

    A name that is both counts as "image only" (bait). Unknown origins are left out, not zero: "image only" if
    no tweet has known bait, "trained on" if the names of the training tweets are `None`.
    """
    counts = Counter(dict.fromkeys(ORIGINS, 0))
    if not _knows_bait(judged):
        del counts["image only"]
    if trained_on is None:
        del counts["trained on"]
    of_training = {_bare(name) for name in trained_on or ()}
    for j in judged:
        shown = {_bare(bait.text) for bait in j.example.image_only or ()}
        for p in j.predictions:
            if wording(p.text, j.example.tokens) == "foreign":
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
    other prediction has a box, and all words of every name are in the text (no foreign or altered name).
    Types do not count, nor do predictions of words that name nothing, as long as they have no box. An answer
    that could not be read is not clean even for a tweet without entities.

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
    if any(wording(p.text, judged.example.tokens) in ("foreign", "altered") for p in judged.predictions):
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
    """Rate of foreign names at the real image minus that at a blank one: the image causes them, not habit."""
    first, second = visual_bias(real)["foreign_rate"], visual_bias(blank)["foreign_rate"]
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
    is_named = any(wording(name, judged.example.tokens) == "foreign" for name in named)
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
