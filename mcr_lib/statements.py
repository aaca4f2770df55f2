"""Statements: what a reasoning chain has to say of each name, with slots where boxes would stand.

A chain carries `[[box 1]]`, `[[box 2]]` ... instead of numbers: one chain serves every model and image size,
a rewrite by an LLM is bought once, and a verifier counts slots instead of comparing numbers. Slots are
numbered over the groundable entities in text order; an entity with several gold boxes is said with the
largest. Names stand in double quotes, and where a tweet names the same thing twice the mentions are told
apart: `"Paris" (mention 2)`. The form is ours (paper silent).
"""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from mcr_lib import constraints
from mcr_lib.boxes import Box
from mcr_lib.schema import Example, PredictedEntity

SLOT = re.compile(r"\[\[box (\d+)\]\]")
"""A slot in a chain; group 1 is its number, from 1."""


def slot(number: int) -> str:
    """How a slot is written.

    Example:
        >>> slot(2), SLOT.fullmatch(slot(2)).group(1)
        ('[[box 2]]', '2')
    """
    return f"[[box {number}]]"


@dataclass(frozen=True, slots=True)
class Statement:
    """What a chain says of one name: the claims of the constraints that the task has, `None` for those that
    it lacks.

    Args:
        name: the words of the entity.
        mark: what tells this mention from another of the same words, mostly "".
        type: the claim of C_t.
        is_groundable: the claim of C_e.
        slot: the claim of C_u: the number of the slot; `None` where the image does not show it.
        is_bait: shown by the image, not named by the text (privileged chains, testbed only): to be said, and
            left out of the answer.
    """

    name: str
    mark: str = ""
    type: str | None = None
    is_groundable: bool | None = None
    slot: int | None = None
    is_bait: bool = False

    @property
    def mention(self) -> str:
        """The name as a chain writes it.

        Example:
            >>> Statement("Paris", " (mention 2)").mention
            '"Paris" (mention 2)'
        """
        return f'"{self.name}"{self.mark}'


def of_example(example: Example, *, privileged: bool = False) -> list[Statement]:
    """What a chain has to say about a tweet, in text order, bait last.

    Args:
        privileged: also name what only the image shows; needs an example whose bait is known.

    Raises:
        ValueError: privileged, and the bait of the example is unknown.

    Example:
        >>> from mcr_lib.schema import Entity
        >>> oslo = Entity("Oslo", 0, 1, "LOC", ((0, 0, 2, 2),))
        >>> of_example(Example("1", "demo", "train", ("Oslo",), (oslo,), ("LOC",), image_size_px=(9, 9)))[0].slot
        1
    """
    task = example.constraints
    claims = [constraints.claims(entity, task) for entity in example.entities]
    found = numbered(
        [entity.text for entity in example.entities],
        [claim.get("type") for claim in claims],
        [claim.get("groundable") for claim in claims],
    )
    if not privileged:
        return found
    if example.image_only is None:
        raise ValueError(
            f"example {example.id}: a privileged chain names what only the image shows, which is unknown here"
        )
    named = {entity.text for entity in example.entities}
    return found + [
        Statement(name, is_bait=True)
        for name in dict.fromkeys(b.text for b in example.image_only)
        if name not in named
    ]


def of_answer(entities: Sequence[PredictedEntity], task: Collection[str]) -> list[Statement]:
    """What a chain would have to say to be faithful to an answer, in output order; slot k is the k-th box of
    the answer.

    Example:
        >>> of_answer([PredictedEntity("Oslo", "LOC", ((0, 0, 2, 2),))], ("span", "type"))
        [Statement(name='Oslo', mark='', type='LOC', is_groundable=None, slot=None, is_bait=False)]
    """
    types = [entity.type if "type" in task else None for entity in entities]
    return numbered(
        [e.text for e in entities],
        types,
        [bool(e.boxes_xyxy) if "groundable" in task else None for e in entities],
    )


def gold_boxes(example: Example) -> tuple[Box, ...]:
    """The box that each slot stands for, in pixels of the original image; `gold_boxes(example)[0]` is slot 1."""
    claims = (constraints.BOX.claim(entity) for entity in example.entities if "box" in example.constraints)
    return tuple(box for box in claims if box is not None)


def numbered(
    names: Sequence[str], types: Sequence[str | None], shown: Sequence[bool | None]
) -> list[Statement]:
    """Statements of names in order, with marks where names repeat and slots counted over those that are
    shown.
    """
    total, seen = Counter(names), Counter()
    found, n_slots = [], 0
    for name, type_, is_groundable in zip(names, types, shown, strict=True):
        seen[name] += 1
        n_slots += bool(is_groundable)
        mark = f" (mention {seen[name]})" if total[name] > 1 else ""
        found.append(Statement(name, mark, type_, is_groundable, n_slots if is_groundable else None))
    return found
