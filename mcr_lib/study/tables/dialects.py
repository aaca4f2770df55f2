"""Reads other people's files of answers as rows of a predictions file; docs/scoring.md shows each format."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mcr_lib.boxes import Space
from mcr_lib.data import predictions
from mcr_lib.data.files import NumberedRows, Row, read_jsonl, read_text
from mcr_lib.errors import UserError

_PIPES = re.compile(r"[^|\[{(<]*+\|\s*+\w++\s*+\|")
_END = re.compile(r"(\|\s*+(?:\[[^]|]*+\]|\([^)|]*+\)|None|null))[\s,.]++(?=[^|;\s,.[(][^|;]*+\||\Z)")
_OF_ROW = ("coordinate_space", "model_size", "image_size_px")
_IMAGE = ("image", "image_id", "img_id", "image_path", "file_name", "id")


def read(
    path: str | Path, tweets: Sequence[str], *, format: str = "auto", space: Space | None = None
) -> tuple[Row, list[predictions.Prediction], str]:
    """The header, the predictions and the format of a file; `auto` tells it by the keys of its rows.

    `tweets`: the ids of the split in order, for rows without ids. `space`: of the boxes of rows that name
    none; without it an answer of a predictions file must name one, all others are in original pixels.
    """
    header, rows = _rows(path)
    if format == "auto":
        is_in = {name: any(is_row(row) for _, row in rows) for name, (is_row, _) in _READERS.items()}
        format = next((name for name in is_in if is_in[name]), "mcr")
    if format != "mcr":
        rows = _translated(path, rows, format, space or "original_px")
        if not any("id" in row for _, row in rows):
            if len(rows) != len(tweets):
                must = f"must be the {len(tweets):,} tweets of the split in their order"
                raise UserError(f'{path}: without "id" its {len(rows):,} rows {must}')
            rows = [(line, {**row, "id": id}) for (line, row), id in zip(rows, tweets, strict=True)]
    return *predictions.read_predictions(path, (header, rows), space), format


def _rows(path: str | Path) -> tuple[Row, NumberedRows]:
    """The header and the numbered rows of JSONL, of a JSON array, or of one object of id -> entities."""
    if (text := read_text(path).lstrip()) and text[0] not in "{[":
        raise UserError(f"{path}: neither JSONL nor a JSON array; {predictions.WANTED}")
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        whole = None
    if isinstance(whole, dict) and all(isinstance(value, list) for value in whole.values()):
        whole = [{"id": id, "entities": entities} for id, entities in whole.items()]
    if not isinstance(whole, list):
        return read_jsonl(path, kind=predictions.KIND, needs_header=False)
    if not all(isinstance(row, dict) for row in whole):
        raise UserError(f"{path}: a JSON array of what is no object; {predictions.WANTED}")
    return {}, list(enumerate(whole, start=1))


def _translated(path: str | Path, rows: NumberedRows, format: str, space: Space) -> NumberedRows:
    """Rows of a predictions file; the boxes of one image are one row."""
    by_id: dict[Any, tuple[int, Row]] = {}
    for line, row in rows:
        try:
            new = {"coordinate_space": space} | {key: row[key] for key in _OF_ROW if key in row}
            new |= _READERS[format][1](row)
            _, first = by_id.setdefault(new["id"] if format == "detections" else line, (line, new))
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            met = f"taken for {format}, but it is not as docs/scoring.md shows; it has the keys"
            raise UserError(f"{path}, line {line}: {met} {', '.join(row)[:80]}; --format names it") from error
        if first is not new:
            first["entities"] += new["entities"]
    return list(by_id.values())


def _text(row: Row) -> str | None:
    text = row.get("response_answer_orig", row.get("answer"))
    return text and str(text).rpartition("<answer>")[2].partition("</answer>")[0].strip()


def _e2e(row: Row) -> Row:
    new = {key: row[old] for key, old in (("id", "id"), ("image_size_px", "orig_size")) if old in row}
    if (text := _text(row)) is None:
        return new | {"entities": None}
    text = _END.sub(r"\1;", text)
    items = [] if text.lower() in ("", "none") else re.findall(r"([^|]*+\|[^;]*+|[^|]++)(?:;|\Z)", text)
    parts = (map(str.strip, item.split("|")) for item in items)
    return new | {"entities": [dict(zip(("entity", "type", "bbox_2d"), p, strict=False)) for p in parts]}


def _vllm(row: Row) -> Row:
    is_failed = row.get("error") or not row["response"] or "error" in row["response"]["body"]
    answer = None if is_failed else row["response"]["body"]["choices"][0]["message"]["content"]
    answer = "".join(part["text"] for part in answer) if isinstance(answer, list) else answer
    return {"id": row["custom_id"], "answer": answer}


def _swift(row: Row) -> Row:
    image = row["id"] if "id" in row else row["images"][0]
    return {"id": image["path"] if isinstance(image, dict) else image, "answer": row["response"]}


def _detection(row: Row) -> Row:
    image = next((key for key in _IMAGE if key in row), "image")
    return {"id": row[image], "entities": [{key: row[key] for key in row if key not in (image, *_OF_ROW)}]}


_READERS: dict[str, tuple[Callable[[Row], Any], Callable[[Row], Row]]] = {  # how a row is told, and read
    "e2e": (lambda row: "response_answer_orig" in row or _PIPES.match(_text(row) or ""), _e2e),
    "unco": (
        lambda row: "pre_entities" in row or ({*row} >= {"image_id", "entities"} and "id" not in row),
        lambda row: {"id": row["image_id"], "entities": row.get("pre_entities", row.get("entities"))},
    ),
    "vllm-batch": (lambda row: "custom_id" in row, _vllm),
    "ms-swift": (lambda row: "response" in row and "answer" not in row, _swift),
    "detections": (lambda row: {*row} >= {"bbox_2d", "label"} and {*row} & {*_IMAGE}, _detection),
}
FORMATS = ("auto", "mcr", *_READERS)
