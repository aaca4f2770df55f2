"""Mistakes, made and mended on purpose: what rewards and verifier are judged by.

`repairs` lists every way to mend one mistake of an answer: no reward may fall. `plant` puts one error into
what a chain says: the verifier must notice. Both ours (paper silent).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import numpy as np

from mcr_lib import rewards
from mcr_lib.matching import Span, place
from mcr_lib.schema import Entity, Example, PredictedEntity
from mcr_lib.statements import Statement

Answer = Sequence[PredictedEntity]

MENDED = ("missing entity added", "untouching one dropped", "boundary", "type", "groundability", "box")
"""The mistakes that `repairs` mends."""

PLANTED = ("wrong type", "swapped slots", "dropped entity", "added entity", "flipped groundability")
"""The errors that `plant` makes."""

A, B, C = (0, 0, 10, 10), (0, 0, 10, 6), (50, 50, 60, 60)
WORLD = Example(
    "world", "hand-made", "train", ("Ada", "Byron", "in", "Rome"),
    (Entity("Ada Byron", 0, 2, "PER", (A,)), Entity("Rome", 3, 4, "LOC", ())), ("PER", "LOC"), image_size_px=(100, 100),
)  # fmt: skip
"""A tweet so small that all its answers can be listed: IoU(A, B) = 0.6, C misses."""


@dataclass(frozen=True, slots=True)
class Repair:
    """One mended mistake.

    Args:
        kind: one of `MENDED`.
        answer: the mended answer.
        moves_others: whether mending it changes where the names of other predictions are placed, or where the
            mended one belongs; the property of the rewards speaks of the rest.
    """

    kind: str
    answer: tuple[PredictedEntity, ...]
    moves_others: bool


def small_answers(n_most: int = 2) -> list[tuple[PredictedEntity, ...]]:
    """Every answer of up to `n_most` predictions to `WORLD`, out of four names, two types and four boxes."""
    possible = [
        PredictedEntity(*p)
        for p in product(("Ada Byron", "Ada", "Rome", "Eve"), ("PER", "LOC"), ((), (A,), (B,), (C,)))
    ]
    return [answer for n in range(n_most + 1) for answer in product(possible, repeat=n)]


def repairs(answer: Answer, gold: Example) -> Iterator[Repair]:
    """Every way to mend one mistake of an answer.

    A missing entity is added at any place; a prediction that touches nothing is dropped; a touching one gets
    its entity's words; a matching one the right type, any gold box, no box where none belongs, or a box in
    the wrong place where one belongs and none is.
    """
    stood = spans(answer, gold)
    for kind, mended, old, new, belongs in _repairs(list(answer), gold):
        stand = spans(mended, gold)
        others_stay = [s for k, s in enumerate(stood) if k != old] == [
            s for k, s in enumerate(stand) if k != new
        ]
        yield Repair(kind, tuple(mended), not (others_stay and (new is None or stand[new] == belongs)))


def spans(answer: Answer, gold: Example) -> list[Span | None]:
    """Where the names of an answer are placed; `None` for duplicates and names that the text lacks."""
    return [p.span if p.kind == "placed" else None for p in place([p.text for p in answer], gold.tokens)]


_Step = tuple[str, list[PredictedEntity], int | None, int | None, Span | None]


def _repairs(answer: list[PredictedEntity], gold: Example) -> Iterator[_Step]:
    """Kind, mended answer, old and new index of the prediction concerned, and the span where it belongs."""
    checked = rewards.check(answer, gold)
    matched, touched = dict(checked.matches), dict(checked.touches)
    for i, pred in enumerate(answer):
        if i not in matched and i not in touched:
            yield "untouching one dropped", [*answer[:i], *answer[i + 1 :]], i, None, None
            continue
        entity = gold.entities[matched[i] if i in matched else touched[i]]
        for kind, mended in (
            _mended(pred, entity) if i in matched else [("boundary", replace(pred, text=entity.text))]
        ):
            if mended != pred:
                yield kind, [*answer[:i], mended, *answer[i + 1 :]], i, i, entity.span
    for j, entity in enumerate(gold.entities):
        if j not in {*matched.values(), *touched.values()}:
            added = PredictedEntity(entity.text, entity.type, (entity.boxes_xyxy_px or ())[:1])
            yield from (
                ("missing entity added", [*answer[:i], added, *answer[i:]], None, i, entity.span)
                for i in range(len(answer) + 1)
            )


def _mended(pred: PredictedEntity, entity: Entity) -> Iterator[tuple[str, PredictedEntity]]:
    yield "type", replace(pred, type=entity.type)
    yield from (("box", replace(pred, boxes_xyxy=(box,))) for box in entity.boxes_xyxy_px or ())
    if not entity.boxes_xyxy_px:
        yield "groundability", replace(pred, boxes_xyxy=())
    elif not pred.boxes_xyxy:
        yield "groundability", replace(pred, boxes_xyxy=((90, 90, 99, 99),))


def plant(
    kind: Literal[PLANTED], said: Sequence[Statement], example: Example, rng: np.random.Generator
) -> list[Statement] | None:
    """The statements about a tweet with one error; `None` where the tweet has no room for it."""
    wrong = list(said)
    if not wrong:
        return None
    k = int(rng.integers(len(wrong)))
    if kind == "wrong type":
        others = [label for label in example.labels if label != wrong[k].type]
        wrong[k] = replace(wrong[k], type=others[rng.integers(len(others))])
    elif kind == "swapped slots":
        shown = [i for i, s in enumerate(wrong) if s.slot]
        if len(shown) < 2:
            return None
        a, b = rng.choice(shown, 2, replace=False)
        wrong[a], wrong[b] = replace(wrong[a], slot=wrong[b].slot), replace(wrong[b], slot=wrong[a].slot)
    elif kind == "dropped entity":
        del wrong[k]
    elif kind == "added entity":
        used = {word for s in wrong for word in s.name.split()}
        free = [token for token in example.tokens if token not in used]
        if not free:
            return None
        wrong.insert(k, replace(wrong[k], name=free[rng.integers(len(free))], mark=""))
    else:
        wrong[k] = replace(
            wrong[k],
            is_groundable=not wrong[k].is_groundable,
            slot=None if wrong[k].slot else int(rng.integers(1, 4)),
        )
    return wrong
