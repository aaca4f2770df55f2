"""Predictions files: generation writes them, scoring reads them; every score follows from them without a GPU.

JSONL, a row per tweet, in one of two forms (docs/scoring.md has the details):

    {"id": "71044", "answer": "<answer>[...]</answer>", "coordinate_space": "model_px",
     "model_size": [588, 448], "image_size_px": [600, 450]}
    {"id": "71044", "entities": [{"entity": "Garfield Park", "type": "LOC", "bbox_2d": [12, 30, 400, 380]}]}

The header `{"format_version": 2, "kind": "predictions", ...}` is optional; its `coordinate_space` and
`model_size` are the defaults of the answers, its `answer_form` ("json", "paper") is the form that the prompt
asked for. A row whose answer is `null`, or that has an `error` in its place, is an empty answer.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from mcr_lib import boxes
from mcr_lib.answer import FORMS, Mode, ParsedAnswer, answer_keys, parse_answer
from mcr_lib.answer_json import whole_characters
from mcr_lib.data.files import NumberedRows, Row, read_jsonl, write_jsonl
from mcr_lib.errors import UserError
from mcr_lib.schema import Example, PredictedEntity

KIND = "predictions"
WANTED = 'a row has "id" and "answer" (text) or "entities" (list); docs/scoring.md describes the format'
_ID = re.compile(r"(?is)\s*(?:IMGID:\s*|request-)?(?:.*[/\\])?(.+?)(?:\.(?:[a-z]{3,4}|0))?\s*")
_SIZES, _ANSWERS = ("model_size", "image_size_px"), frozenset({"answer", "entities", "error"})
Parsed = tuple[ParsedAnswer, tuple[PredictedEntity, ...]]


@dataclass(frozen=True, slots=True)
class Prediction:
    """One row of a predictions file; sizes are (width, height)."""

    id: str
    answer: str  # raw text of the model, or the list of entities as text
    is_finished: bool = False  # the row has `entities`: boxes in original pixels, text not from a model
    coordinate_space: boxes.Space = "original_px"
    model_size: boxes.Size | None = None  # of the image after the processor resized it; for `model_px`
    image_size_px: boxes.Size | None = None  # before resizing; `None` = not given
    is_null: bool = False  # no answer came, as where a call failed


def read_predictions(
    path: str | Path, given: tuple[Row, NumberedRows] | None = None, space: boxes.Space | None = None
) -> tuple[Row, list[Prediction]]:
    """Read the header (`{}` if absent) and every row of a predictions file.

    `given`: header and rows in place of those of the file; `space`: of the boxes of rows that name none.
    """
    header, rows = given or read_jsonl(path, kind=KIND, needs_header=False)
    if not rows:
        raise UserError(f"{path} holds no prediction; {WANTED}")
    if (form := header.get("answer_form")) not in (*FORMS, None):
        raise UserError(f'{path}: "answer_form" is {form!r}; expected one of {", ".join(FORMS)}')
    defaults = {key: header[key] for key in ("coordinate_space", "model_size") if key in header}
    rows = ((line, row if "entities" in row else {**defaults, **row}) for line, row in rows)
    return header, [_prediction(row, f"{path}, line {line}", space) for line, row in rows]


def plain_id(id: str) -> str:
    """The id of a tweet without what other files add: `IMGID:`, `request-`, a folder, a suffix, `.0`."""
    return _ID.fullmatch(id)[1]


def write_predictions(path: str | Path, rows: Iterable[Mapping[str, Any]], **header: Any) -> None:
    """Write rows of either form under a header."""
    write_jsonl(path, map(dict, rows), kind=KIND, **header)


def finished_row(example: Example, entities: Iterable[PredictedEntity]) -> dict[str, Any]:
    """Return the row of predicted entities whose boxes are pixels of the original image."""
    keys = answer_keys(example.constraints)
    rows = ({"entity": e.text, "type": e.type, "bbox_2d": e.box_xyxy} for e in entities)
    listed = [{key: row[key] for key in keys} for row in rows]
    return {"id": example.id, "entities": listed, "image_size_px": example.image_size_px}


def parse_prediction(prediction: Prediction, example: Example, mode: Mode) -> Parsed:
    """Parse an answer; return it as written, and its entities with boxes in pixels of the original image.

    Finished entities are parsed leniently. Boxes are scaled as shares of the image, so it may be a copy of
    another size; if no size is known, there is no gold box to hit and the image is taken as 1000 x 1000.
    """
    is_finished, space = prediction.is_finished, prediction.coordinate_space
    read = partial(parse_answer, prediction.answer, labels=example.labels, constraints=example.constraints)
    parsed = read(mode="lenient" if is_finished or space == "norm1" else mode)
    if is_finished or space == "norm1":  # only a model's text in pixels or thousandths has whole numbers
        repairs = tuple(name for name in parsed.repairs if name != "float_coordinate")
        parsed = replace(parsed, repairs=repairs, form=None if is_finished else parsed.form)
        if mode == "strict" and not is_finished and (repairs or parsed.lost):
            parsed = read(mode="strict")
    in_px = scale(prediction, example)
    return parsed, tuple(replace(e, boxes_xyxy=tuple(map(in_px, e.boxes_xyxy))) for e in parsed.entities)


def scale(prediction: Prediction, example: Example) -> Callable[[boxes.Box], boxes.Box]:
    """The function from a box as this prediction writes it to pixels of the original image."""
    input_size = prediction.image_size_px or example.image_size_px or (1000, 1000)
    gold_size = example.image_size_px or input_size
    model_size = boxes.space_size(prediction.coordinate_space, input_size, prediction.model_size)
    return partial(boxes.from_space, space="model_px", image_size=gold_size, model_size=model_size)


def _prediction(row: Row, where: str, given_space: boxes.Space | None) -> Prediction:
    id = str(row["id"]) if type(row.get("id")) in (int, float) else row.get("id")
    is_finished, sizes = "entities" in row, {key: _size(row, key, where) for key in _SIZES}
    is_null = row.get("answer") is row.get("entities") is None and not _ANSWERS.isdisjoint(row)
    answer = row.get("entities" if is_finished else "answer")
    space = row.get("coordinate_space") or given_space or ("original_px" if is_finished or is_null else None)
    problem = "is missing" if space is None else f"is {space!r}"
    wrong = {
        'it needs an "id" as text': not isinstance(id, str) or not id,
        'it needs an "answer" (text) or "entities" (a list of objects)': (
            not is_null and not isinstance(answer, list if is_finished else str)
        ),
        f'"coordinate_space" {problem}; expected one of {", ".join(boxes.SPACES)}': space not in boxes.SPACES,
        'model_px needs "model_size", [width, height] after the processor resized': (
            space == "model_px" and sizes["model_size"] is None and not is_null
        ),
    }
    for sentence in (sentence for sentence, is_so in wrong.items() if is_so):
        raise UserError(f"{where}: {sentence}; found the keys {', '.join(row)[:80]}: {WANTED}")
    if is_finished:  # a name may look like a tag
        answer = "<answer>" + json.dumps(answer).replace("<", r"\u003c") + "</answer>"
    id = whole_characters(id, lambda _: None)
    return Prediction(id, "" if is_null else answer, is_finished, space, is_null=is_null, **sizes)


def _size(row: Mapping[str, Any], key: str, where: str) -> boxes.Size | None:
    if (value := row.get(key)) is None:
        return None
    is_pair = isinstance(value, list) and len(value) == 2
    if not is_pair or not all(type(side) is int and 0 < side < 10**6 for side in value):
        found = f"{str(value)[:60]} (docs/scoring.md)"
        raise UserError(f'{where}: "{key}" must be [width, height] in whole pixels, found {found}')
    return tuple(value)
