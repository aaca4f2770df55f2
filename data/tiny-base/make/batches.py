"""Rows as tensors: ids, labels, pictures, and where attention is to be guided.

A `Look` is one place of the answer (a query) and the places before it where what comes next can be read off
(its targets). Two kinds: of *boxes* (cells of the picture or numbers of a listing; for what is nowhere, the
first token, so that "nothing fits" has a place of its own) and of *words* (the same word in the question).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from transformers import Qwen2_5_VLProcessor

from architecture import UNIT_PX
from mcr_lib.boxes import Box
from tasks import ABSENT, Row

IGNORED = -100
"""Label of a token that is not learned."""

Look = tuple[int, list[int]]
"""(query, targets) as places in the sequence: the token after the query is predicted by looking at the
targets.
"""

_STARTS = ('{"entity": "', ', {"entity": "')
_ENDS = ('", "type": "', '", "bbox_2d": [', '", "bbox_2d": null}', '"}')
_BOXES = ('", "bbox_2d": [', '", "bbox_2d": null}')


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows ready for the model.

    Args:
        inputs: what the model's forward takes; ids of shape (n_rows, length), padded on the right.
        labels: (n_rows, length), `IGNORED` where nothing is learned.
        queries: (n_looks, 2): row and place.
        targets: (n_looks, length): True where the look may rest.
        is_word: (n_looks,): True for looks at words, False for looks at boxes.
    """

    inputs: dict[str, torch.Tensor]
    labels: torch.Tensor
    queries: torch.Tensor
    targets: torch.Tensor
    is_word: torch.Tensor


@dataclass(frozen=True, slots=True)
class _Encoded:
    ids: list[int]
    n_asked: int
    box_looks: list[Look]
    word_looks: list[Look]


class Batcher:
    """Makes batches for one processor.

    Args:
        processor: of the tiny backbone.
    """

    def __init__(self, processor: Qwen2_5_VLProcessor) -> None:
        self.processor, self.tokenizer = processor, processor.tokenizer
        self.image_id = self.tokenizer.convert_tokens_to_ids("<|image_pad|>")
        self._starts, self._ends, self._boxes = (
            {self.tokenizer.convert_tokens_to_ids(token) for token in tokens} for tokens in (_STARTS, _ENDS, _BOXES)
        )  # fmt: skip
        self._newline = self.tokenizer.encode("\n")[0]
        self._word = lru_cache(maxsize=None)(lambda id_: self.tokenizer.decode([id_]).strip())

    def __call__(self, rows: Sequence[Row]) -> Batch:
        """The batch of some rows."""
        pictures = [row.image for row in rows if row.image is not None]
        seen = self.processor.image_processor(pictures, return_tensors="pt") if pictures else {}
        grids = iter(seen["image_grid_thw"].tolist() if pictures else ())
        encoded = [self._encode(row, next(grids) if row.image is not None else None) for row in rows]
        length = max(len(e.ids) for e in encoded)
        ids = torch.full((len(rows), length), self.tokenizer.pad_token_id)
        mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
        looks: list[tuple[int, Look, bool]] = []
        for k, e in enumerate(encoded):
            n = len(e.ids)
            ids[k, :n], mask[k, :n] = torch.tensor(e.ids), 1
            labels[k, e.n_asked : n] = ids[k, e.n_asked : n]
            looks += [(k, look, False) for look in e.box_looks] + [(k, look, True) for look in e.word_looks]
        targets = torch.zeros(len(looks), length, dtype=torch.bool)
        for k, (_, (_, places), _) in enumerate(looks):
            targets[k, places] = True
        inputs: dict[str, Any] = {
            "input_ids": ids,
            "attention_mask": mask,
            "mm_token_type_ids": (ids == self.image_id).int(),
        }
        if pictures:
            inputs |= {"pixel_values": seen["pixel_values"], "image_grid_thw": seen["image_grid_thw"]}
        queries = torch.tensor([(k, query) for k, (query, _), _ in looks], dtype=torch.long).reshape(-1, 2)
        return Batch(
            inputs,
            labels,
            queries,
            targets,
            torch.tensor([is_word for *_, is_word in looks], dtype=torch.bool),
        )

    def asked(self, row: Row) -> str:
        """What a row asks, as one text, with one image token per picture."""
        return self.processor.apply_chat_template(row.chat, tokenize=False, add_generation_prompt=True)

    def _encode(self, row: Row, grid: Sequence[int] | None) -> _Encoded:
        text = self.asked(row)
        height, width = (grid[1] // 2, grid[2] // 2) if grid else (0, 0)
        if grid:
            text = text.replace("<|image_pad|>", "<|image_pad|>" * (height * width))
        question = self.tokenizer(text, return_offsets_mapping=True)
        asked = question["input_ids"]
        ids = asked + self.tokenizer(row.answer + "<|im_end|>")["input_ids"]
        names = [k for k in range(len(asked), len(ids)) if ids[k] in self._starts]
        first_cell = asked.index(self.image_id) if grid else 0
        boxes: list[Look] = []
        at_boxes = [k for k in range(len(asked), len(ids)) if ids[k] in self._boxes]
        for k, look in zip(at_boxes, row.looks, strict=False):
            if look == ABSENT:
                boxes.append((k - 1, [0]))
            elif isinstance(look, str):
                end = text.index(look) + len(look)
                first = next(j for j, (start, _) in enumerate(question["offset_mapping"]) if start >= end)
                boxes += [(k - 1, [first])] + [(k + d, [first + d]) for d in range(4)]
            else:
                cells = [first_cell + cell for box in look for cell in cells_of(box, height, width)]
                boxes += [(k + d, cells) for d in range(-1, 4)]
        if row.task == "detect":
            for k, look in zip(names, row.looks, strict=True):
                cells = [first_cell + cell for box in look for cell in cells_of(box, height, width)]
                boxes += [(k, cells), (k + 1, cells)]
        return _Encoded(
            ids, len(asked), boxes, [] if row.task == "detect" else self._word_looks(ids, len(asked), names)
        )

    def _word_looks(self, ids: list[int], n_asked: int, names: list[int]) -> list[Look]:
        """For every word of a name: where it stands in the last line of the question."""
        line = max(k for k in range(n_asked - 4) if ids[k] == self._newline) + 1
        asked = [self._word(id_) for id_ in ids[:n_asked]]
        looks: list[Look] = []
        for k in names:
            end = next(j for j in range(k + 1, len(ids)) if ids[j] in self._ends)
            words = [self._word(id_) for id_ in ids[k + 1 : end]]
            n = len(words)
            at = next((j for j in range(line, n_asked - n) if asked[j : j + n] == words), None)
            if at is not None:
                looks += [(k + d, [at + d]) for d in range(n)] + [(k + n, [at + n - 1])]
        return looks


def cells_of(box: Box, height: int, width: int) -> list[int]:
    """Cells of UNIT_PX whose centre lies in a box of model pixels, row by row; the nearest to its centre
    where there is none.

    Example:
        >>> cells_of((0, 0, 60, 30), 4, 4)
        [0, 1]
    """
    x1, y1, x2, y2 = box
    half = UNIT_PX / 2
    centres = [
        (r * width + c, c * UNIT_PX + half, r * UNIT_PX + half) for r in range(height) for c in range(width)
    ]
    inside = [cell for cell, x, y in centres if x1 <= x <= x2 and y1 <= y <= y2]
    row, column = (
        min(height - 1, int((y1 + y2) / 2 // UNIT_PX)),
        min(width - 1, int((x1 + x2) / 2 // UNIT_PX)),
    )
    return inside or [row * width + column]
