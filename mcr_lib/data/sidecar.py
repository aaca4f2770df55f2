"""Sidecar: what the format of Twitter-GMNER lacks, namely what only the image shows, and the image size of a
tweet without boxes. The testbed writes sidecars; other data sets need none (format ours).

    DIR/Twitter10000/sidecar/<split>.jsonl    a header with the recipe; rows of id, image_size_px, image_only
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mcr_lib.data.files import read_jsonl, write_jsonl
from mcr_lib.data.twitter_gmner import FOLDERS, version_folder
from mcr_lib.errors import UserError
from mcr_lib.schema import Example

KIND = "sidecar"
KEYS = ("image_size_px", "image_only")
Examples = Sequence[Example]


def sidecar_path(root: str | Path, split: str, version: str) -> Path:
    """Return the sidecar of a split; `root` is the parent of the data set's own folder."""
    return Path(root) / FOLDERS[version] / KIND / f"{split}.jsonl"


def write_sidecar(root: str | Path, split: str, examples: Examples, *, version: str, **header: Any) -> None:
    """Write the sidecar of a split with JSON-ready values in its header."""
    rows = ({key: row[key] for key in ("id", *KEYS)} for row in map(Example.to_row, examples))
    write_jsonl(sidecar_path(root, split, version), rows, kind=KIND, **header)


def read_header(root: str | Path, split: str, *, version: str) -> dict[str, Any]:
    """Return the header of a sidecar; empty if there is no readable one."""
    try:
        return read_jsonl(sidecar_path(root, split, version), kind=KIND)[0]
    except UserError:
        return {}


def completed(root: str | Path, split: str, examples: Examples, *, version: str) -> list[Example]:
    """Return the examples with the values of their sidecar; unchanged if there is none."""
    path = version_folder(root, version) / KIND / f"{split}.jsonl"
    if not path.is_file():
        return list(examples)
    row_of = {row.get("id"): (line, row) for line, row in read_jsonl(path, kind=KIND)[1]}
    if set(row_of) != {example.id for example in examples}:
        mismatch = f"its {len(row_of):,} tweets are not the {len(examples):,} of the split {split}"
        raise UserError(f"{path}: {mismatch}; make both files anew")
    result = []
    for example in examples:
        line, row = row_of[example.id]
        try:
            read = Example.from_row({**example.to_row(), **{key: row[key] for key in KEYS}})
        except (ValueError, KeyError) as error:
            expected = f"expected image_size_px and image_only ({error})"
            raise UserError(f"{path}, line {line}: {expected}") from error
        size, written = example.image_size_px, read.image_size_px
        if size not in (None, written):
            raise UserError(f"{path}, line {line}: image_size_px is {written}, the xml says {size}")
        result.append(read)
    return result
