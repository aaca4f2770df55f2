"""Predictions files: the hand-over from generation to scoring, enough to compute every number again without a
GPU.

JSONL, a row per tweet, in one of two forms:

    {"id": "71044", "answer": "<answer>[...]</answer>", "coordinate_space": "model_px",
     "model_size": [588, 448], "image_size_px": [600, 450]}
    {"id": "71044", "entities": [{"entity": "Garfield Park", "type": "LOC", "bbox_2d": [12, 30, 400, 380]}]}

`answer` is the model's raw text and needs `coordinate_space` (`original_px`, `model_px` with `model_size`, or
`norm1000`); `entities` is a finished list with boxes in ORIGINAL pixels, `null` where the image does not show
the entity. A first line `{"format_version": 1, "kind": "predictions", ...}` is written by us and optional for
others; its `coordinate_space` and `model_size` hold for rows without their own.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mcr_lib import boxes
from mcr_lib.answer import Mode, ParsedAnswer, parse_answer
from mcr_lib.answer_reader import whole_characters
from mcr_lib.data.files import read_jsonl, write_jsonl
from mcr_lib.errors import UserError
from mcr_lib.schema import Example, PredictedEntity

KIND = "predictions"


@dataclass(frozen=True, slots=True)
class Prediction:
    """One row of a predictions file.

    Args:
        id: of the tweet.
        answer: raw model text; of the second form the list of entities as text.
        is_finished: whether the row came with `entities`: boxes are original pixels and the text is no
            model's.
        coordinate_space: of the boxes in `answer`.
        model_size: (width, height) that the processor resized the image to; for `model_px`.
        image_size_px: (width, height) of the image that the model saw, before resizing; `None` = not told.
    """

    id: str
    answer: str
    is_finished: bool = False
    coordinate_space: boxes.Space = "original_px"
    model_size: boxes.Size | None = None
    image_size_px: boxes.Size | None = None


def read_predictions(path: str | Path) -> tuple[dict[str, Any], list[Prediction]]:
    """The header (`{}` where absent) and every row of a predictions file.

    Raises:
        UserError: the file is missing or empty, or a row lacks an id, an answer or a coordinate space; file
            and line are named.
    """
    header, rows = read_jsonl(path, kind=KIND, needs_header=False)
    if not rows:
        raise UserError(
            f"{path} holds no prediction; expected one JSON object per line with id and answer, or id and entities"
        )
    defaults = {key: header[key] for key in ("coordinate_space", "model_size") if key in header}
    return header, [_prediction({**defaults, **row}, f"{path}, line {line}") for line, row in rows]


def write_predictions(path: str | Path, rows: Iterable[Mapping[str, Any]], **header: Any) -> None:
    """Write rows in either form under our header, whole or not at all."""
    write_jsonl(path, (dict(row) for row in rows), kind=KIND, **header)


def finished_row(example: Example, entities: Iterable[PredictedEntity]) -> dict[str, Any]:
    """The row of an answer whose boxes are pixels of the original image.

    Example:
        >>> rome = PredictedEntity("Rome", "LOC", ((1, 2, 30, 40),))
        >>> finished_row(Example("7", "demo", "test", ("Rome",), (), ("LOC",)), [rome])["entities"]
        [{'entity': 'Rome', 'type': 'LOC', 'bbox_2d': (1, 2, 30, 40)}]
    """
    said = [{"entity": entity.text, "type": entity.type, "bbox_2d": entity.box_xyxy} for entity in entities]
    return {"id": example.id, "entities": said, "image_size_px": example.image_size_px}


def parse_prediction(
    prediction: Prediction, example: Example, mode: Mode
) -> tuple[ParsedAnswer, tuple[PredictedEntity, ...]]:
    """What the answer says, as written and with boxes in pixels of the original image.

    Finished entities are read leniently in either mode: strictness is about a model's text. Boxes are carried
    over as shares of the image, so a model that saw a copy of another size is scored right. Where no size is
    known nothing is annotated to be hit, and boxes keep their place within an image of 1000 x 1000.

    Args:
        mode: "strict" or "lenient".
    """
    parsed = parse_answer(
        prediction.answer,
        labels=example.labels,
        constraints=example.constraints,
        mode="lenient" if prediction.is_finished else mode,
    )
    if prediction.is_finished:  # whole numbers are asked of a model's text only
        parsed = replace(parsed, repairs=tuple(name for name in parsed.repairs if name != "float_coordinate"))
    seen_size = prediction.image_size_px or example.image_size_px or (1000, 1000)
    gold_size = example.image_size_px or seen_size
    old = boxes.space_size(prediction.coordinate_space, seen_size, prediction.model_size)

    def in_px(entity: PredictedEntity) -> PredictedEntity:
        scaled = tuple(
            boxes.from_space(box, "model_px", image_size=gold_size, model_size=old)
            for box in entity.boxes_xyxy
        )
        return replace(entity, boxes_xyxy=scaled)

    return parsed, tuple(in_px(entity) for entity in parsed.entities)


def _prediction(row: Mapping[str, Any], place: str) -> Prediction:
    id = row.get("id")
    if isinstance(id, int) and not isinstance(id, bool):
        id = str(id)
    if not isinstance(id, str) or not id:
        raise UserError(f'{place}: a prediction needs an "id" as text')
    id = whole_characters(id, lambda _: None)
    image_size = _size(row.get("image_size_px"), "image_size_px", place)
    if "entities" in row:
        if not isinstance(row["entities"], list):
            raise UserError(f'{place}: "entities" must be a list of objects with entity, type and bbox_2d')
        listed = json.dumps(row["entities"]).replace("<", r"\u003c")  # a name may look like a tag
        return Prediction(id, f"<answer>{listed}</answer>", is_finished=True, image_size_px=image_size)
    if not isinstance(row.get("answer"), str):
        raise UserError(f'{place}: a prediction needs an "answer" (the model\'s text) or "entities" (a list)')
    space = row.get("coordinate_space")
    if space not in boxes.SPACES:
        found = "is missing" if space is None else f"is {space!r}"
        raise UserError(f'{place}: "coordinate_space" {found}; expected one of {", ".join(boxes.SPACES)}')
    model_size = _size(row.get("model_size"), "model_size", place)
    if space == "model_px" and model_size is None:
        raise UserError(
            f'{place}: "coordinate_space" is model_px, which needs "model_size", [width, height] after the processor resized'
        )
    return Prediction(id, row["answer"], False, space, model_size, image_size)


def _size(value: Any, key: str, place: str) -> boxes.Size | None:
    if value is None:
        return None
    is_size = (
        isinstance(value, Sequence)
        and len(value) == 2
        and all(type(side) is int and 0 < side < 10**6 for side in value)
    )
    if not is_size:
        raise UserError(f'{place}: "{key}" must be [width, height] in whole pixels, found {str(value)[:60]}')
    return (value[0], value[1])
