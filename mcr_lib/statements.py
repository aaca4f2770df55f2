"""Statements: what a reasoning chain has to say about each name, with slots in place of boxes.

A chain carries `[[box 1]]`, `[[box 2]]` ... instead of numbers: one chain serves every model and image size,
a rewrite by an LLM is paid for once, and a verifier counts slots instead of comparing numbers. Slots are
numbered over the groundable entities in text order; of several gold boxes, the slot is the largest. Names are
in double quotes; repeated names are marked: `"Paris" (mention 2)`. The form is ours (paper silent).
"""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from mcr_lib import constraints
from mcr_lib.boxes import Box
from mcr_lib.schema import Example, PredictedEntity

SLOT = re.compile(r"\[\[box (\d+)\]\]")  # a slot in a chain; group 1 is its number, from 1


def slot(number: int) -> str:
    """A slot as written in a chain."""
    return f"[[box {number}]]"


@dataclass(frozen=True, slots=True)
class Statement:
    """What a chain says about one name: the task's claims, `None` for constraints that the task lacks."""

    name: str  # the words of the entity
    mark: str = ""  # distinguishes this mention from others of the same words
    type: str | None = None  # the claim of C_t
    is_groundable: bool | None = None  # the claim of C_e
    slot: int | None = None  # the claim of C_u; also `None` if the image does not show the entity
    is_bait: bool = False  # only the image shows it: in a model's reasoning, but not in its answer

    @property
    def mention(self) -> str:
        """The name as a chain writes it, e.g. `"Paris" (mention 2)`."""
        return f'"{self.name}"{self.mark}'


def of_example(example: Example) -> list[Statement]:
    """What a chain has to say about a tweet, in text order."""
    claims = [constraints.claims(entity, example.constraints) for entity in example.entities]
    names = [entity.text for entity in example.entities]
    return numbered(names, [c.get("type") for c in claims], [c.get("groundable") for c in claims])


def of_answer(entities: Sequence[PredictedEntity], task: Collection[str]) -> list[Statement]:
    """What a chain must say to be faithful to an answer, in output order; slot k is the answer's k-th box."""
    types = [entity.type if "type" in task else None for entity in entities]
    shown = [bool(entity.boxes_xyxy) if "groundable" in task else None for entity in entities]
    return numbered([entity.text for entity in entities], types, shown)


def gold_boxes(example: Example) -> tuple[Box, ...]:
    """The box of each slot, in pixels of the original image; `gold_boxes(example)[0]` is slot 1."""
    claims = (constraints.BOX.claim(entity) for entity in example.entities if "box" in example.constraints)
    return tuple(box for box in claims if box is not None)


def numbered(
    names: Sequence[str], types: Sequence[str | None], shown: Sequence[bool | None]
) -> list[Statement]:
    """Statements in order, with marks on repeated names and slots numbered over the shown ones."""
    n_total, n_before = Counter(names), Counter()
    statements, n_slots = [], 0
    for name, type_, is_groundable in zip(names, types, shown, strict=True):
        n_before[name] += 1
        n_slots += bool(is_groundable)
        mark = f" (mention {n_before[name]})" if n_total[name] > 1 else ""
        statements.append(Statement(name, mark, type_, is_groundable, n_slots if is_groundable else None))
    return statements
