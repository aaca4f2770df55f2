"""Token-per-line files with BIO tags, the usual format of named entity recognition data.

A sample is a line `IMGID:<id>`, one line per token with tab-separated columns, and an empty line. Files are
UTF-8; a byte-order mark and CRLF are accepted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mcr_lib.data.files import is_safe_id, read_text
from mcr_lib.errors import UserError

_HEAD = "IMGID:"


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample as written in the file; its id is safe as a file name.

    Args:
        line: number of its `IMGID:` line, from 1; token k is on line `line + 1 + k`.
        columns: those after the token, one tuple of tags per column.
    """

    id: str
    line: int
    tokens: tuple[str, ...]
    columns: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens `start` to `end` (half-open) tagged as one entity of type `label`.

    Args:
        is_repaired: whether it starts with an orphan `I-` (after O or another label), read as `B-`.
    """

    start: int
    end: int
    label: str
    is_repaired: bool


def read_samples(path: str | Path, *, n_columns: int) -> list[Sample]:
    """Read every sample of a file, in order.

    Args:
        n_columns: columns of a token line, including the token.

    Raises:
        UserError: the file is missing, empty or not UTF-8, a line has another number of columns, an id is
            repeated or unsafe as a file name, or a sample has no token; the message gives file and line.
    """
    samples = list(_samples(Path(path), n_columns))
    if not samples:
        raise UserError(f"{path} holds no tweet; expected samples that start with a line {_HEAD}<id>")
    first_line: dict[str, int] = {}
    for sample in samples:
        first = first_line.setdefault(sample.id, sample.line)
        if first != sample.line:
            where = f"{path}, line {sample.line}: id {sample.id}"
            raise UserError(f"{where} is repeated (first in line {first}); ids must be unique")
    return samples


def chunks(tags: Sequence[str], labels: Sequence[str]) -> list[Chunk]:
    """Return the entities that BIO tags mark, left to right; an orphan `I-` starts an entity like `B-`.

    Raises:
        ValueError: a tag is not `O`, `B-` or `I-` with one of the labels; `args` are the message and the
            index of the tag.

    Example:
        >>> [(c.start, c.end, c.label) for c in chunks(["B-PER", "I-PER", "O", "I-LOC"], ("PER", "LOC"))]
        [(0, 2, 'PER'), (3, 4, 'LOC')]
    """
    result: list[Chunk] = []
    known = set(labels)
    for k, tag in enumerate(tags):
        if tag == "O":
            continue
        head, _, label = tag.partition("-")
        if head not in ("B", "I") or label not in known:
            raise ValueError(f"tag {tag!r} is not O, nor B- or I- with one of {', '.join(labels)}", k)
        if head == "I" and result and result[-1].end == k and result[-1].label == label:
            result[-1] = replace(result[-1], end=k + 1)
        else:
            result.append(Chunk(k, k + 1, label, head == "I"))
    return result


def _samples(path: Path, n_columns: int) -> Iterator[Sample]:
    id, start, rows = None, 0, []
    for number, line in enumerate([*read_text(path).split("\n"), ""], start=1):
        where = f"{path}, line {number}"
        is_head = line.startswith(_HEAD) and "\t" not in line
        if id is not None and (is_head or not line):
            if not rows:
                raise UserError(f"{path}, line {start}: tweet {id} has no token")
            columns = tuple(zip(*rows, strict=True))
            yield Sample(id, start, columns[0], columns[1:])
            id = None
        if is_head:
            id, start, rows = line[len(_HEAD) :].strip(), number, []
            if not is_safe_id(id):
                hint = "expected letters, digits and _ . - only"
                raise UserError(f"{where}: id {id[:80]!r} cannot be a file name; {hint}")
        elif line:
            row = line.split("\t")
            if id is None:
                raise UserError(f"{where}: expected {_HEAD}<id>, found {line[:60]!r}")
            if len(row) != n_columns or not all(row):
                expected = f"{n_columns} columns between tabs (token, then tag)"
                raise UserError(f"{where}: expected {expected}, found {line[:60]!r}")
            rows.append(row)
