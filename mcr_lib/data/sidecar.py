"""What Twitter-GMNER's own files cannot say, in a file beside them: the image size of a tweet without boxes,
and what only the image shows.

    DIR/Twitter10000/sidecar/<split>.jsonl     a header that tells how the split was made; a row per tweet: id, image_size_px, image_only

A data set without sidecars is as complete as it ever was; the testbed writes them (format ours).
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


def write_sidecar(
    root: str | Path, split: str, examples: Sequence[Example], *, version: str, **header: Any
) -> None:
    """Write the sidecar of a split.

    Args:
        root: the folder that holds the data set's own folder.
        version: names that folder.
        header: JSON-ready values that `read_header` gives back.

    Raises:
        UserError: the folder cannot be written.
    """
    rows = [
        {"id": e.id, "image_size_px": e.image_size_px, "image_only": e.to_row()["image_only"]}
        for e in examples
    ]
    write_jsonl(_path(root, split, version), rows, kind=KIND, **header)


def read_header(root: str | Path, split: str, *, version: str) -> dict[str, Any] | None:
    """The header of a sidecar; `None` where there is no sidecar that can be read."""
    try:
        return read_jsonl(_path(root, split, version), kind=KIND)[0]
    except UserError:
        return None


def completed(root: str | Path, split: str, examples: Sequence[Example], *, version: str) -> list[Example]:
    """The examples with what their sidecar says; as they are where they have none.

    Raises:
        UserError: the sidecar is broken or is about other tweets; the file is named.
    """
    path = version_folder(root, version) / KIND / f"{split}.jsonl"
    if not path.is_file():
        return list(examples)
    _, rows = read_jsonl(path, kind=KIND)
    row_of = {row.get("id"): (line, row) for line, row in rows}
    if set(row_of) != {example.id for example in examples}:
        raise UserError(
            f"{path}: its {len(row_of):,} tweets are not the {len(examples):,} of the split {split}; make both files anew"
        )
    return [_completed(example, *row_of[example.id], path) for example in examples]


def _completed(example: Example, line: int, row: dict[str, Any], path: Path) -> Example:
    try:
        more = {name: row[name] for name in ("image_size_px", "image_only")}
        read = Example.from_row({**asdict(example), **more})
    except (ValueError, KeyError) as error:
        raise UserError(f"{path}, line {line}: expected image_size_px and image_only ({error})") from error
    if example.image_size_px not in (None, read.image_size_px):
        raise UserError(
            f"{path}, line {line}: image_size_px is {read.image_size_px}, the xml says {example.image_size_px}"
        )
    return replace(example, image_size_px=read.image_size_px, image_only=read.image_only)


def _path(root: str | Path, split: str, version: str) -> Path:
    return Path(root) / FOLDERS[version] / KIND / f"{split}.jsonl"
