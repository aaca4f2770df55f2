"""Sidecar: what the format of Twitter-GMNER lacks, namely what only the image shows, and the image size of a
tweet without boxes. The testbed writes sidecars; other data sets need none (format ours).

    DIR/Twitter10000/sidecar/<split>.jsonl    a header with the recipe; rows of id, image_size_px, image_only
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mcr_lib.data.files import read_jsonl, write_jsonl
from mcr_lib.data.twitter_gmner import FOLDERS, version_folder
from mcr_lib.errors import UserError
from mcr_lib.schema import Example

KIND = "sidecar"


def sidecar_path(root: str | Path, split: str, version: str) -> Path:
    """Return the sidecar of a split; `root` is the parent of the data set's own folder."""
    return Path(root) / FOLDERS[version] / KIND / f"{split}.jsonl"


def write_sidecar(
    root: str | Path, split: str, examples: Sequence[Example], *, version: str, **header: Any
) -> None:
    """Write the sidecar of a split with JSON-ready values in its header.

    Raises:
        UserError: the folder cannot be written.
    """
    keys = ("id", "image_size_px", "image_only")
    rows = [{key: row[key] for key in keys} for row in (example.to_row() for example in examples)]
    write_jsonl(sidecar_path(root, split, version), rows, kind=KIND, **header)


def read_header(root: str | Path, split: str, *, version: str) -> dict[str, Any] | None:
    """Return the header of a sidecar; `None` if there is no readable one."""
    try:
        return read_jsonl(sidecar_path(root, split, version), kind=KIND)[0]
    except UserError:
        return None


def completed(root: str | Path, split: str, examples: Sequence[Example], *, version: str) -> list[Example]:
    """Return the examples with the values of their sidecar; unchanged if there is none.

    Raises:
        UserError: the sidecar is broken or of other tweets.
    """
    path = version_folder(root, version) / KIND / f"{split}.jsonl"
    if not path.is_file():
        return list(examples)
    _, rows = read_jsonl(path, kind=KIND)
    row_of = {row.get("id"): (line, row) for line, row in rows}
    if set(row_of) != {example.id for example in examples}:
        mismatch = f"its {len(row_of):,} tweets are not the {len(examples):,} of the split {split}"
        raise UserError(f"{path}: {mismatch}; make both files anew")
    return [_completed(example, *row_of[example.id], path) for example in examples]


def _completed(example: Example, line: int, row: dict[str, Any], path: Path) -> Example:
    where = f"{path}, line {line}"
    try:
        values = {name: row[name] for name in ("image_size_px", "image_only")}
        read = Example.from_row({**asdict(example), **values})
    except (ValueError, KeyError) as error:
        raise UserError(f"{where}: expected image_size_px and image_only ({error})") from error
    size = example.image_size_px
    if size not in (None, read.image_size_px):
        raise UserError(f"{where}: image_size_px is {read.image_size_px}, the xml says {size}")
    return replace(example, image_size_px=read.image_size_px, image_only=read.image_only)
