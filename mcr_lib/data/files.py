"""Files that are written whole or not at all, and JSONL files with a version.

JSONL files start with a header line `{"format_version": 2, "kind": "..."}`, then one JSON object per line.
At the end of a header may stand the SHA-256 of all the rest of the file, which every reader compares.
"""

import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, TextIO
from uuid import uuid4

from mcr_lib.errors import UserError
from mcr_lib.schema import FORMAT_NEWS, FORMAT_VERSION

Row = dict[str, Any]
NumberedRows = list[tuple[int, Row]]
_SEAL = re.compile(rb'[^\n]*(, "sha256": "([0-9a-f]{64})")}\n')


def is_safe_id(id: str) -> bool:
    """Return whether an id may be a file name: letters, digits, `_ . @ + -`, no leading dot, at most 128."""
    return bool(re.fullmatch(r"[0-9A-Za-z_][0-9A-Za-z_.@+-]{0,127}", id))


def listed(ids: Sequence[str]) -> str:
    """The number of tweets and the first ids, for a sentence."""
    return f"{len(ids):,} tweet{'s' * (len(ids) != 1)}: {', '.join(ids[:5])}{' …' * (len(ids) > 5)}"


def refuse(faults: Mapping[str, str]) -> None:
    """Raise the first of the faults, by id of a tweet, and name the other ids; nothing if there is none."""
    if faults:
        others = f"; there are faults in {listed([*faults])}" * (len(faults) > 1)
        raise UserError(next(iter(faults.values())) + others)


@contextmanager
def written_whole(path: str | Path, mode: str = "w") -> Iterator[TextIO]:
    """Open a temporary file beside `path` that replaces it when the block ends without an error."""
    path = Path(path)
    temporary = path.parent / f".{path.name}.{uuid4().hex}.part"
    # a lone surrogate (half a character, or a file name that is not UTF-8) becomes an escape JSON can read
    text = {} if "b" in mode else {"encoding": "utf-8", "errors": "backslashreplace", "newline": "\n"}
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open(mode, **text) as file:
                yield file
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn a failure to write into a sentence with the path."""
    try:
        yield
    except OSError as error:
        hint = "make room or choose a folder that you may write to, and the same command goes on"
        raise UserError(f"cannot write {path}: {error.strerror or error}; {hint}") from error


def write_text(path: str | Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with written_whole(path) as file:
        file.write(text)


def write_json(path: str | Path, value: Any) -> None:
    """Write one JSON value, indented."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_jsonl(path: str | Path, rows: Iterable[Row], *, kind: str, seal: bool = False, **head: Any) -> None:
    """Write a header line and one line per row; lone surrogates in model text become JSON escapes."""
    head = {"format_version": FORMAT_VERSION, "kind": kind, **head}
    lines = [json.dumps(row) + "\n" for row in (head, *rows)]
    if seal:
        head["sha256"] = sha256("".join(lines).encode()).hexdigest()
        lines[0] = json.dumps(head) + "\n"
    write_text(path, "".join(lines))


def read_jsonl(path: str | Path, *, kind: str, needs_header: bool = True) -> tuple[Row, NumberedRows]:
    """Read the header and the (line number, row) pairs of a JSONL file; empty lines are skipped.

    A header of another version or kind is refused. One that is missing is `{}` if it is not needed.
    """
    header, rows = {}, []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        row = _object(line, f"{path}, line {number}")
        if "format_version" in row and not rows and not header:
            header = row
            if (version := row["format_version"]) != FORMAT_VERSION:
                mismatch = f"format_version {version!r}, but this release reads {FORMAT_VERSION}"
                raise UserError(f"{path}: {mismatch}: {FORMAT_NEWS}; make the file anew")
            if row.get("kind", kind) != kind:
                raise UserError(f"{path}: this file holds {row['kind']!r}, expected {kind!r}")
            if "id" not in row:
                continue
        rows.append((number, row))
    if needs_header and not header:
        raise UserError(f'{path}: the first line has no "format_version"; a file of {kind} starts with one')
    return header, rows


def sealed(row: Mapping[str, Any]) -> bytes:
    """A row as a line of a file in the making, after its CRC-32."""
    text = json.dumps(dict(row)).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def unsealed(line: bytes) -> Row | None:
    """The row of a line of `sealed`; `None` if it is damaged."""
    seal, _, text = line.partition(b" ")
    return json.loads(text) if seal == b"%08x" % zlib.crc32(text) else None


def _object(line: str, where: str) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = str(error).split("\n")[0][:120]
        raise UserError(f"{where}: not JSON ({reason}); each line must be one JSON object") from error
    if not isinstance(row, dict):
        raise UserError(f"{where}: expected a JSON object, found {type(row).__name__}")
    return row


def read_text(path: str | Path) -> str:
    """Read a UTF-8 file, without byte-order mark, CRLF turned into LF; refuse one with a wrong checksum."""
    try:
        data = Path(path).read_bytes().removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
        seal = _SEAL.match(data) if b'"sha256"' in data else None
        if seal and sha256(data.replace(seal[1], b"")).hexdigest() != seal[2].decode():
            remedy = 'the command that wrote it makes it anew (an edit: remove "sha256" from its first line)'
            raise UserError(f"{path} is not as it was written (damaged or edited); remove it, and {remedy}")
        return data.decode()
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except UnicodeDecodeError as error:
        line = 1 + error.object.count(b"\n", 0, error.start)
        raise UserError(f"{path}, line {line}: not UTF-8 text; save the file as UTF-8") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
