"""Token-per-line files with BIO tags, as most data sets of named entity recognition ship them.

A sample is a line `IMGID:<id>`, then one line per token with its columns between tabs, then an empty line.
Files are UTF-8; a byte-order mark and CRLF are taken as they come.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mcr_lib.data.files import is_safe_id, read_text
from mcr_lib.errors import UserError

_HEAD = "IMGID:"


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample of a file as it stands there.

    Args:
        id: what follows `IMGID:`; safe as a file name.
        line: number of its `IMGID:` line, counted from 1; the token k stands `k + 1` lines below.
        tokens: the first column.
        columns: the other columns, one tuple of tags per column.
    """

    id: str
    line: int
    tokens: tuple[str, ...]
    columns: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A run of tokens that BIO tags mark as one entity.

    Args:
        start: first token.
        end: one past the last (half-open).
        label: what follows `B-`.
        is_repaired: whether it began with an orphan `I-` (after O, or after another label), which is read as
            `B-`.
    """

    start: int
    end: int
    label: str
    is_repaired: bool


def read_samples(path: str | Path, *, n_columns: int) -> list[Sample]:
    """Every sample of a file, in order.

    Args:
        n_columns: columns of a token line, the token included.

    Raises:
        UserError: the file is missing, empty or not UTF-8, a line has another number of columns, an id is
            repeated or unsafe as a file name, or a sample has no token; file and line are named.
    """
    samples = list(_samples(Path(path), n_columns))
    if not samples:
        raise UserError(f"{path} holds no tweet; expected samples that start with a line {_HEAD}<id>")
    first_line: dict[str, int] = {}
    for sample in samples:
        if sample.id in first_line:
            raise UserError(
                f"{path}, line {sample.line}: id {sample.id} is repeated (first in line {first_line[sample.id]}); ids must be unique"
            )
        first_line[sample.id] = sample.line
    return samples


def chunks(tags: Sequence[str], labels: Sequence[str]) -> list[Chunk]:
    """The entities that BIO tags mark, left to right; an orphan or label-changing `I-` begins an entity, as
    `B-` would.

    Raises:
        ValueError: a tag that is not `O`, `B-` or `I-` with one of the labels; `args` are the message and the
            index of the tag.

    Example:
        >>> [(c.start, c.end, c.label) for c in chunks(["B-PER", "I-PER", "O", "I-LOC"], ("PER", "LOC"))]
        [(0, 2, 'PER'), (3, 4, 'LOC')]
    """
    found: list[Chunk] = []
    known = set(labels)
    for k, tag in enumerate(tags):
        if tag == "O":
            continue
        head, _, label = tag.partition("-")
        if head not in ("B", "I") or label not in known:
            raise ValueError(f"tag {tag!r} is not O, nor B- or I- with one of {', '.join(labels)}", k)
        goes_on = head == "I" and bool(found) and found[-1].end == k and found[-1].label == label
        if goes_on:
            found[-1] = Chunk(found[-1].start, k + 1, label, found[-1].is_repaired)
        else:
            found.append(Chunk(k, k + 1, label, head == "I"))
    return found


def _samples(path: Path, n_columns: int) -> Iterator[Sample]:
    id, start, rows = None, 0, []
    for number, line in enumerate([*read_text(path).split("\n"), ""], start=1):
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
                raise UserError(
                    f"{path}, line {number}: id {id[:80]!r} cannot be a file name; expected letters, digits and _ . - only"
                )
        elif line:
            row = line.split("\t")
            if id is None:
                raise UserError(f"{path}, line {number}: expected {_HEAD}<id>, found {line[:60]!r}")
            if len(row) != n_columns or not all(row):
                raise UserError(
                    f"{path}, line {number}: expected {n_columns} columns between tabs (token, then tag), found {line[:60]!r}"
                )
            rows.append(row)
