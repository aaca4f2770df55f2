"""A file of rows that a model makes batch by batch: resumable, shared by several processes.

Rows are appended to `<file>.part` batch by batch, by further processes to `<file>.<rank>.part`. A killed run
of the same header continues from there; the file is written whole in the order of the items. It does not
depend on the number of processes. A line of a part, of which the first is the header, is CRC-32 and JSON.
"""

import glob
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mcr_lib.data.files import read_jsonl, sealed, unsealed, write_jsonl, writing, written_whole
from mcr_lib.errors import UserError
from mcr_lib.training import launch

Row = dict[str, Any]


@dataclass(frozen=True)
class Parts:
    """A JSONL file in the making."""

    path: Path
    kind: str
    header: Mapping[str, Any]  # rows made under another one are not taken over
    key: Callable[[Row], Hashable]  # of a row: the key of its item

    def make(
        self, items: Mapping[Hashable, Any], work: Callable[[Sequence[Any]], Iterable[Row]], *, size: int,
        length: Callable[[Any], int], seed: int, device: str, progress: Callable[[int, int], None] | None,
    ) -> list[Row]:  # fmt: skip
        """Makes a row of each item by `work` on batches of `size` items of like length; returns all rows.
        What `work` draws at random depends on seed and batch; `progress` gets rows so far, in all.
        """
        state = launch.together(device)
        is_main, part = state.is_main_process, self._part(state.process_index)
        if is_main:
            self._gather()
        state.wait_for_everyone()
        done = self._read_part(self._part())
        state.wait_for_everyone()
        order = sorted(items, key=lambda key: -length(items[key]))
        batches = [order[start : start + size] for start in range(0, len(order), size)]
        # a batch is made as a whole, since its random draws depend on all of it
        todo = [(k, batch) for k, batch in enumerate(batches) if any(key not in done for key in batch)]
        n_done = len(items) - sum(len(batch) for _, batch in todo)
        if not is_main:
            self._write_part(part, (self.header,))
        for number, batch in todo[state.process_index :: state.num_processes]:
            torch.manual_seed(seed * 100_003 + number)
            rows = list(work([items[key] for key in batch]))
            with writing(part), part.open("ab") as file:
                file.writelines(map(sealed, rows))
            n_done += len(batch)
            if progress and is_main:
                n_others = sum(other.read_bytes().count(b"\n") - 1 for other in self._others())
                if (n := n_done + n_others) < len(items):
                    progress(n, len(items))
        state.wait_for_everyone()
        if is_main:
            rows = self._gather()
            write_jsonl(self.path, (rows[key] for key in items), kind=self.kind, seal=True, **self.header)
            part.unlink()
            if progress:
                progress(len(items), len(items))
        state.wait_for_everyone()
        return list(self.read().values())

    def read(self) -> dict[Hashable, Row]:
        """The rows of the file by key; none if it is not there or has another header."""
        header, rows = read_jsonl(self.path, kind=self.kind) if self.path.is_file() else ({}, [])
        return {self.key(row): row for _, row in rows if self.header.items() <= header.items()}

    def _read_part(self, path: Path) -> dict[Hashable, Row]:
        """The rows of a part by key, none of another header; damaged lines are removed and told."""
        lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []  # a kill may cut the last line
        whole = [row for line in lines if (row := unsealed(line)) is not None]
        if n_damaged := len(lines) - len(whole):
            self._write_part(path, whole)
            problem = f"{n_damaged} of its lines were damaged on the disk, and are removed"
            raise UserError(f"{path}: {problem}; the same command makes them anew")
        is_ours = whole and self.header.items() <= whole[0].items()
        return {self.key(row): row for row in whole[1:]} if is_ours else {}

    def _gather(self) -> dict[Hashable, Row]:
        """Moves the rows of all processes, of this run or a killed one, into the first one's part."""
        others = self._others()
        rows = {key: row for part in (self._part(), *others) for key, row in self._read_part(part).items()}
        self._write_part(self._part(), (self.header, *rows.values()))
        for part in others:
            part.unlink()
        return rows

    def _write_part(self, path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
        with written_whole(path, "wb") as file:
            file.writelines(map(sealed, rows))

    def _part(self, rank: int = 0) -> Path:
        return self.path.with_name(f"{self.path.name}.{rank}.part" if rank else f"{self.path.name}.part")

    def _others(self) -> list[Path]:
        return sorted(self.path.parent.glob(f"{glob.escape(self.path.name)}.[0-9]*.part"))
