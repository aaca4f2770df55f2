"""The paper's idea: four constraints, written once, used twice.

A multimodal LLM that is asked for names, types and boxes at once takes shortcuts: it boxes what only the text
names, and names what only the image shows. MCR spells out what a right answer must satisfy, entity by entity:

    C_s  span         which words of the text are an entity
    C_t  type         which type it has
    C_e  groundable   whether the image shows it                 (visual entailment)
    C_u  box          where                                      (visual grounding)

MRSI *states* them: `claim(entity)` is what a reasoning chain says about a gold entity (`chains` puts it into
words). CVO *checks* them: `holds(predicted, gold)` is how far a prediction satisfies them (`rewards` sums it
up). A task is the set of constraints that its source annotates; chain, prompt, reward and score follow from
that set. Symbols and roles: paper, method section.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from mcr_lib.boxes import Box, best_iou, largest
from mcr_lib.matching import spaced
from mcr_lib.schema import CONSTRAINTS, Entity, PredictedEntity

Claim = str | bool | Box | None  # of one entity: its words, type, groundability, or box (maybe `None`)


@dataclass(frozen=True, slots=True)
class Constraint:
    """One constraint."""

    name: str
    symbol: str  # the paper's
    question: str  # what it asks, as prompts put it
    claim: Callable[[Entity], Claim]  # what it says of a gold entity
    holds: Callable[[PredictedEntity, Entity], float]  # how far a prediction satisfies it, in [0, 1]


def _box(entity: Entity) -> Box | None:
    return largest(entity.boxes_xyxy_px) if entity.boxes_xyxy_px else None


def _box_holds(predicted: PredictedEntity, gold: Entity) -> float:
    """IoU with the best gold box; if the image does not show the entity, 1 for no box and 0 for any."""
    if not gold.boxes_xyxy_px or predicted.box_xyxy is None:
        return float(not gold.boxes_xyxy_px and predicted.box_xyxy is None)
    return best_iou(predicted.box_xyxy, gold.boxes_xyxy_px)


SPAN = Constraint(
    "span", "C_s", "Which words of the text name an entity?",
    claim=lambda entity: entity.text,
    holds=lambda predicted, gold: float(spaced(predicted.text) == gold.text),
)  # fmt: skip
TYPE = Constraint(
    "type", "C_t", "Which type does the entity have?",
    claim=lambda entity: entity.type,
    holds=lambda predicted, gold: float(predicted.type == gold.type),
)  # fmt: skip
GROUNDABLE = Constraint(
    "groundable", "C_e", "Does the image show the entity?",
    claim=lambda entity: entity.is_groundable,
    holds=lambda predicted, gold: float(bool(predicted.boxes_xyxy) == gold.is_groundable),
)  # fmt: skip
BOX = Constraint("box", "C_u", "Where in the image is it?", claim=_box, holds=_box_holds)

ALL = {constraint.name: constraint for constraint in (SPAN, TYPE, GROUNDABLE, BOX)}  # in the paper's order
assert tuple(ALL) == CONSTRAINTS


def of_task(names: Collection[str]) -> tuple[Constraint, ...]:
    """The constraints of a task, in the paper's order."""
    return tuple(constraint for name, constraint in ALL.items() if name in names)


def claims(entity: Entity, names: Collection[str] = CONSTRAINTS) -> dict[str, Claim]:
    """Constraint -> claim: everything that a task says of one gold entity.

    Example:
        >>> claims(Entity("Oracle Arena", 3, 5, "LOC", ()))
        {'span': 'Oracle Arena', 'type': 'LOC', 'groundable': False, 'box': None}
    """
    return {constraint.name: constraint.claim(entity) for constraint in of_task(names)}
