"""Mistakes planted for the verifier, and repaired for the audit of rewards (ours; the paper is silent)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

from numpy.random import Generator

from mcr_lib import strict_rewards
from mcr_lib.matching import Span, place
from mcr_lib.schema import Entity, Example, PredictedEntity
from mcr_lib.statements import Statement

Answer = Sequence[PredictedEntity]
# kind, the part of the answer that is replaced, by what, the span of the entity concerned
Repairs = Iterator[tuple[str, slice, list[PredictedEntity], Span | None]]
PLANTED = ("wrong type", "swapped slots", "dropped entity", "added entity", "flipped groundability")
A, B, C = (0, 0, 10, 10), (0, 0, 10, 6), (50, 50, 60, 60)  # IoU(A, B) = 0.6, C misses
_GOLD = (Entity("Ada Byron", 0, 2, "PER", (A,)), Entity("Rome", 3, 4, "LOC", ()))
_TOKENS = ("Ada", "Byron", "in", "Rome")  # so few that all answers can be listed
WORLD = Example("world", "hand-made", "train", _TOKENS, _GOLD, ("PER", "LOC"), image_size_px=(100, 100))


@dataclass(frozen=True, slots=True)
class Repair:
    """The answer after one repair; even strict rewards may fall if it moves others."""

    kind: str  # boundary, type, groundability, box, "missing entity added", "untouching one dropped"
    answer: tuple[PredictedEntity, ...]
    moves_others: bool  # other names are placed elsewhere, or the repaired one is not where it belongs


def small_answers(n_most: int = 2) -> list[tuple[PredictedEntity, ...]]:
    """Every answer of up to `n_most` predictions to `WORLD`, out of four names, two types and four boxes."""
    values = ("Ada Byron", "Ada", "Rome", "Eve"), ("PER", "LOC"), ((), (A,), (B,), (C,))
    possible = [PredictedEntity(*value) for value in product(*values)]
    return [answer for n in range(n_most + 1) for answer in product(possible, repeat=n)]


def repairs(answer: Answer, gold: Example) -> Iterator[Repair]:
    """Every way to repair one mistake: a missing entity is added anywhere; a prediction is dropped where it
    touches nothing, reworded where it touches, given type, gold box, no box or a first, wrong box on a match.
    """
    before = spans(answer, gold)
    for kind, at, repaired, target in _repairs(answer, gold):
        now = (*answer[: at.start], *repaired, *answer[at.stop :])
        after, end = spans(now, gold), at.start + len(repaired)
        others_move = before[: at.start] + before[at.stop :] != after[: at.start] + after[end:]
        yield Repair(kind, now, others_move or after[at.start : end] != [target] * len(repaired))


def spans(answer: Answer, gold: Example) -> list[Span | None]:
    """Where the names of an answer are placed; `None` for duplicates and names that the text lacks."""
    return [p.span if p.kind == "placed" else None for p in place([p.text for p in answer], gold.tokens)]


def _repairs(answer: Answer, gold: Example) -> Repairs:
    checked = strict_rewards.check(answer, gold)
    matched, pairs = dict(checked.matches), dict((*checked.touches, *checked.matches))
    for i, prediction in enumerate(answer):
        if i not in pairs:
            yield "untouching one dropped", slice(i, i + 1), [], None
            continue
        entity = gold.entities[pairs[i]]
        boundary = ("boundary", replace(prediction, text=entity.text))
        for kind, repaired in _of_match(prediction, entity) if i in matched else [boundary]:
            if repaired != prediction:
                yield kind, slice(i, i + 1), [repaired], entity.span
    for entity in (entity for j, entity in enumerate(gold.entities) if j not in pairs.values()):
        added = PredictedEntity(entity.text, entity.type, (entity.boxes_xyxy_px or ())[:1])
        for i in range(len(answer) + 1):
            yield "missing entity added", slice(i, i), [added], entity.span


def _of_match(prediction: PredictedEntity, entity: Entity) -> Iterator[tuple[str, PredictedEntity]]:
    yield "type", replace(prediction, type=entity.type)
    yield from (("box", replace(prediction, boxes_xyxy=(box,))) for box in entity.boxes_xyxy_px or ())
    if not entity.boxes_xyxy_px:
        yield "groundability", replace(prediction, boxes_xyxy=())
    elif not prediction.boxes_xyxy:
        yield "groundability", replace(prediction, boxes_xyxy=((90, 90, 99, 99),))


def plant(kind: str, right: Sequence[Statement], example: Example, rng: Generator) -> list[Statement] | None:
    """The statements about a tweet with one error, of `PLANTED`; `None` if the tweet has no room for it."""
    if not (wrong := list(right)):
        return None
    k = int(rng.integers(len(wrong)))
    if kind == "wrong type":
        others = [label for label in example.labels if label != wrong[k].type]
        wrong[k] = replace(wrong[k], type=others[rng.integers(len(others))])
    elif kind == "swapped slots":
        if len(shown := [i for i, s in enumerate(wrong) if s.slot]) < 2:
            return None
        a, b = rng.choice(shown, 2, replace=False)
        wrong[a], wrong[b] = replace(wrong[a], slot=wrong[b].slot), replace(wrong[b], slot=wrong[a].slot)
    elif kind == "dropped entity":
        del wrong[k]
    elif kind == "added entity":
        used = {word for s in wrong for word in s.name.split()}
        if not (free := [token for token in example.tokens if token not in used]):
            return None
        wrong.insert(k, replace(wrong[k], name=free[rng.integers(len(free))], mark=""))
    else:
        slot = None if wrong[k].slot else int(rng.integers(1, 4))
        wrong[k] = replace(wrong[k], is_groundable=not wrong[k].is_groundable, slot=slot)
    return wrong
