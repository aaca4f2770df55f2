"""Answers that need no model: what a score near 60 or 70 must be compared with, and what one error costs.

Every yardstick has the perfect text (all spans and types) and answers the visual half by a blind rule.
`degrade` is the opposite: a perfect answer in which each of the four decisions is wrong at a given rate (all
ours; paper silent).
"""

from collections.abc import Callable, Mapping

import numpy as np

from mcr_lib import boxes
from mcr_lib.boxes import Box
from mcr_lib.schema import CONSTRAINTS, Entity, Example, PredictedEntity

Answer = tuple[PredictedEntity, ...]
INVENTED_BOX: Box = (1, 1, 2, 2)  # one pixel, which hits nothing


def perfect(example: Example) -> Answer:
    """The gold entities, each with its largest box."""
    return tuple(_predicted(e, _gold_box(e)) for e in example.entities)


def never_a_box(example: Example) -> Answer:
    """Perfect text; no entity is in the image."""
    return tuple(_predicted(e, None) for e in example.entities)


def box_iff_per(example: Example) -> Answer:
    """Perfect text; exactly the persons are in the image, each in a box of the whole image."""
    box = _full_image_box(example)
    return tuple(_predicted(e, box if e.type == "PER" else None) for e in example.entities)


def box_iff_first_per(example: Example) -> Answer:
    """Perfect text; exactly the first person of the tweet is in the image, in a box of the whole image."""
    first = next((e.span for e in example.entities if e.type == "PER"), None)
    box = _full_image_box(example)
    return tuple(_predicted(e, box if e.span == first else None) for e in example.entities)


def gold_groundability(example: Example) -> Answer:
    """Perfect text and perfect groundability; every box is the whole image."""
    box = _full_image_box(example)
    return tuple(_predicted(e, box if e.is_groundable else None) for e in example.entities)


def invented_boxes(example: Example) -> Answer:
    """Perfect text and perfect boxes; entities that are not in the image get an invented box."""
    return tuple(_predicted(e, _gold_box(e) or INVENTED_BOX) for e in example.entities)


YARDSTICKS: dict[str, Callable[[Example], Answer]] = {  # all with perfect spans and types
    "never a box": never_a_box,
    "whole image iff PER": box_iff_per,
    "whole image iff first PER": box_iff_first_per,
    "gold groundability, whole image": gold_groundability,
    "gold boxes, and one for the rest": invented_boxes,
}
# The rules that use neither the image nor its annotation.
BLIND = ("never a box", "whole image iff PER", "whole image iff first PER")


def degrade(example: Example, accuracy: Mapping[str, float], rng: np.random.Generator) -> Answer:
    """A perfect answer in which each decision on each entity is right with its own, independent probability.

    A wrong span has one boundary off by a token (or, if that is impossible, is an invented name); a wrong
    type is another label of the set; a wrong groundability adds an invented box or drops the box; a wrong box
    is the gold box moved by its own width or, if that hits another box of the entity, an invented one.
    Decisions without a given probability are perfect.

    Raises:
        ValueError: an unknown constraint or a probability outside of [0, 1].
    """
    for name, value in accuracy.items():
        if name not in CONSTRAINTS or not 0 <= value <= 1:
            expected = f"one of {', '.join(CONSTRAINTS)} and a value in [0, 1]"
            raise ValueError(f"accuracy of {name!r} is {value}; expected {expected}")
    answer = []
    for entity in example.entities:
        is_right = {name: rng.random() < accuracy.get(name, 1.0) for name in CONSTRAINTS}
        text = entity.text if is_right["span"] else _wrong_span(example, entity, rng)
        type_ = entity.type if is_right["type"] else _other_label(example, entity, rng)
        box = _gold_box(entity)
        if not is_right["groundable"]:
            box = INVENTED_BOX if box is None else None
        elif box is not None and not is_right["box"]:
            width = box[2] - box[0]
            moved = (box[0] + width, box[1], box[2] + width, box[3])
            box = INVENTED_BOX if boxes.is_hit(moved, entity.boxes_xyxy_px, inclusive=True) else moved
        answer.append(PredictedEntity(text, type_, () if box is None else (box,)))
    return tuple(answer)


def _predicted(entity: Entity, box: Box | None) -> PredictedEntity:
    return PredictedEntity(entity.text, entity.type, () if box is None else (box,))


def _gold_box(entity: Entity) -> Box | None:
    return boxes.largest(entity.boxes_xyxy_px) if entity.boxes_xyxy_px else None


def _full_image_box(example: Example) -> Box:
    """The whole image; without an image size no box is annotated, and any box is equally wrong."""
    return (1, 1, *example.image_size_px) if example.image_size_px else INVENTED_BOX


def _other_label(example: Example, entity: Entity, rng: np.random.Generator) -> str | None:
    others = [label for label in example.labels if label != entity.type]
    return others[rng.integers(len(others))] if others else entity.type


def _wrong_span(example: Example, entity: Entity, rng: np.random.Generator) -> str:
    """The words with one boundary moved by a token, clear of other entities; else an invented name."""
    taken = {k for other in example.entities if other is not entity for k in range(other.start, other.end)}
    gold_texts = {other.text for other in example.entities}
    spans = [(entity.start + a, entity.end + b) for a, b in ((1, 0), (0, -1), (-1, 0), (0, 1))]
    spans = [(s, e) for s, e in spans if 0 <= s < e <= len(example.tokens) and not taken & set(range(s, e))]
    texts = [text for s, e in spans if (text := " ".join(example.tokens[s:e])) not in gold_texts]
    return texts[rng.integers(len(texts))] if texts else "\N{REPLACEMENT CHARACTER}"
