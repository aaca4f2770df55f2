"""Files that a kill cannot leave half-written, and JSONL that says which version it is.

Every JSONL file of this project starts with a header line `{"format_version": 1, "kind": "..."}`; rows
follow, one JSON object a line.
"""

import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from mcr_lib.errors import UserError
from mcr_lib.schema import FORMAT_VERSION

_SAFE_ID = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_.@+-]{0,127}")


def is_safe_id(id: str) -> bool:
    """Whether an example id may become a file name: letters, digits, `_ . @ + -`, no leading dot, at most 128
    characters.

    Example:
        >>> is_safe_id("16_05_01_7"), is_safe_id("../../etc/passwd"), is_safe_id("")
        (True, False, False)
    """
    return bool(_SAFE_ID.fullmatch(id))


@contextmanager
def written_whole(path: str | Path, mode: str = "w") -> Iterator[TextIO]:
    """A file opened for writing under a temporary name beside `path`, renamed onto it when the block ends
    without an error.

    Raises:
        UserError: the folder cannot be made or written, or the disk is full; what stood at `path` before is
            untouched.

    Example:
        >>> folder = Path(tempfile.mkdtemp())
        >>> with written_whole(folder / "a.txt") as file:
        ...     _ = file.write("hello")
        >>> [p.name for p in folder.iterdir()]
        ['a.txt']
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # a lone surrogate (half a character, or a file name that is not UTF-8) becomes its escape, which JSON
        # reads back
        text = {} if "b" in mode else {"encoding": "utf-8", "errors": "backslashreplace", "newline": "\n"}
        with tempfile.NamedTemporaryFile(
            mode, dir=path.parent, prefix=f".{path.name}.", suffix=".part", delete=False, **text
        ) as file:
            temporary = Path(file.name)
            yield file
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        temporary = None
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; choose a folder with room that you may write to"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_json(path: str | Path, value: Any) -> None:
    """Write one JSON value, indented, whole or not at all."""
    with written_whole(path) as file:
        file.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_jsonl(path: str | Path, rows: Iterable[dict[str, Any]], *, kind: str, **header: Any) -> None:
    """Write a header line and one line per row, whole or not at all; lone surrogates in model text survive as
    JSON escapes.
    """
    with written_whole(path) as file:
        for row in [{"format_version": FORMAT_VERSION, "kind": kind, **header}]:
            file.write(json.dumps(row) + "\n")
        for row in rows:
            file.write(json.dumps(row) + "\n")


def read_jsonl(
    path: str | Path, *, kind: str, needs_header: bool = True
) -> tuple[dict[str, Any], list[tuple[int, dict[str, Any]]]]:
    """The header and the (line number, row) pairs of a JSONL file; empty lines are skipped.

    Args:
        kind: the kind of rows expected; a header that names another kind is refused.
        needs_header: whether a file without a header line is refused. Where it is not, an absent header is
            returned as `{}`.

    Raises:
        UserError: the file is missing, unreadable, of another version or kind, or a line is not a JSON
            object; file and line are named.
    """
    path = Path(path)
    header: dict[str, Any] = {}
    rows: list[tuple[int, dict[str, Any]]] = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{path}, line {number}: not JSON ({_short(error)}); each line must be one JSON object"
            ) from error
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {number}: expected a JSON object, found {type(row).__name__}")
        if "format_version" in row and not rows and not header:
            version = row["format_version"]
            if version != FORMAT_VERSION:
                raise UserError(
                    f"{path}: format_version {version!r}, but this release reads {FORMAT_VERSION}; make the file anew"
                )
            if row.get("kind", kind) != kind:
                raise UserError(f"{path}: this file holds {row['kind']!r}, expected {kind!r}")
            header = row
            if "id" not in row:
                continue
        rows.append((number, row))
    if needs_header and not header:
        raise UserError(f'{path}: the first line has no "format_version"; a file of {kind} starts with one')
    return header, rows


def read_text(path: str | Path) -> str:
    """The text of a UTF-8 file, a byte-order mark removed and CRLF turned into LF.

    Raises:
        UserError: the file is missing, a folder, unreadable or not UTF-8.
    """
    data = b""
    try:
        data = Path(path).read_bytes()
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}, line {line}: not UTF-8 text (byte {error.start}); save the file as UTF-8"
        ) from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _short(error: Exception) -> str:
    return str(error).split("\n")[0][:120]
