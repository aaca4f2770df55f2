"""Token-per-line files with BIO tags, the usual format of named entity recognition data.

A sample: a line `IMGID:<id>`, tab-separated columns per token, an empty line. UTF-8; BOM and CRLF accepted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mcr_lib.data.files import is_safe_id, read_text
from mcr_lib.errors import UserError

_HEAD = "IMGID:"


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample as written in the file; its id is safe as a file name."""

    id: str
    line: int  # of its `IMGID:`, from 1; token k is on line `line + 1 + k`
    tokens: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)  # of the last column


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens `start` to `end` (half-open) tagged as one entity of type `label`."""

    start: int
    end: int
    label: str
    is_repaired: bool  # it starts with an orphan `I-` (after O or another label), read as `B-`


def read_samples(path: str | Path, *, n_columns: int) -> list[Sample]:
    """Read every sample of a file, in order; `n_columns` includes the token."""
    samples, sample, faults = {}, None, []
    for number, line in enumerate([*read_text(path).split("\n"), ""], start=1):
        where = f"{path}, line {number}"
        is_head = line.startswith(_HEAD) and "\t" not in line
        if sample and not sample.tokens and (is_head or not line.strip()):
            raise UserError(f"{path}, line {sample.line}: tweet {sample.id} has no token")
        if is_head:
            id = line[len(_HEAD) :].strip()
            if not is_safe_id(id):
                hint = "expected letters, digits and _ . - only"
                raise UserError(f"{where}: id {id[:80]!r} cannot be a file name; {hint}")
            if id in samples:
                first = f"first in line {samples[id].line}"
                raise UserError(f"{where}: id {id} is repeated ({first}); ids must be unique")
            sample = samples[id] = Sample(id, number)
        elif not line.strip():
            sample = None
        elif sample is None:
            raise UserError(f"{where}: expected {_HEAD}<id>, found {line[:60]!r}")
        else:
            row = line.split("\t")
            if len(row) != n_columns or not all(row):
                expected = f"{n_columns} columns between tabs (token, then tag)"
                hint = "; columns stand between tabs, not blanks" * (len(line.split()) == n_columns)
                faults.append(f"{where}: expected {expected}, found {line[:60]!r}{hint}")
            sample.tokens.append(row[0])
            sample.tags.append(row[-1])
    if faults:
        raise UserError(faults[0] + f"; so in all {len(faults):,} lines" * (len(faults) > 1))
    if not samples:
        raise UserError(f"{path} holds no tweet; expected samples that start with a line {_HEAD}<id>")
    return list(samples.values())


def chunks(tags: list[str], labels: Sequence[str], path: str | Path = "tags", line: int = 0) -> list[Chunk]:
    """Return the entities that BIO tags mark, left to right; the first tag is on this line of the file.

    Example:
        >>> [(c.start, c.end, c.label) for c in chunks(["B-PER", "I-PER", "O", "I-LOC"], ("PER", "LOC"))]
        [(0, 2, 'PER'), (3, 4, 'LOC')]
    """
    result: list[Chunk] = []
    for k, tag in enumerate(tags):
        if tag == "O":
            continue
        head, _, label = tag.partition("-")
        if head not in ("B", "I") or label not in labels:
            expected = f"is not O, nor B- or I- with one of {', '.join(labels)}"
            expected += "; MISC is called OTHER here" * (label.upper() == "MISC" and "OTHER" in labels)
            raise UserError(f"{path}, line {line + k}: tag {tag!r} {expected}")
        if head == "I" and result and result[-1].end == k and result[-1].label == label:
            result[-1] = replace(result[-1], end=k + 1)
        else:
            result.append(Chunk(k, k + 1, label, head == "I"))
    return result
