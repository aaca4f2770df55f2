"""Rows as tensors: ids, labels, pictures, and the targets of guided attention.

An `AttentionTarget` is one place of the answer (the query) and the earlier places from which the next token
can be read (its targets). There are two kinds: *boxes* (cells of the picture, numbers of a listing or of a
chain; for an absent entity the first token, so that "nothing fits" has a place) and *words* (the same word in
the prompt).
"""

from collections.abc import Iterator, Sequence
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

Span = tuple[int, int]  # of a token, in characters
AttentionTarget = tuple[int, list[int]]
"""(query, targets) as places in the sequence; the token after the query is predicted from the targets."""

_STARTS = ('{"entity": "', ', {"entity": "')
_ENDS = ('", "type": "', '", "bbox_2d": [', '", "bbox_2d": null}', '"}')
_BOXES = ('", "bbox_2d": [', '", "bbox_2d": null}')


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows ready for the model.

    Args:
        inputs: of the model's forward; ids have shape (n_rows, length), padded on the right.
        labels: (n_rows, length), `IGNORED` where nothing is learned.
        queries: (n_queries, 2): row and place.
        targets: (n_queries, length): True at the targets of a query.
        is_word: (n_queries,): True for words, False for boxes.
    """

    inputs: dict[str, torch.Tensor]
    labels: torch.Tensor
    queries: torch.Tensor
    targets: torch.Tensor
    is_word: torch.Tensor


@dataclass(frozen=True, slots=True)
class _Encoded:
    ids: list[int]
    n_prompt: int
    box_targets: list[AttentionTarget]
    word_targets: list[AttentionTarget]


class Batcher:
    """Makes batches for one processor.

    Args:
        processor: of the tiny backbone.
    """

    def __init__(self, processor: Qwen2_5_VLProcessor) -> None:
        self.processor, self.tokenizer = processor, processor.tokenizer
        self.image_id = self.tokenizer.convert_tokens_to_ids("<|image_pad|>")
        self._starts, self._ends, self._boxes = (
            set(self.tokenizer.convert_tokens_to_ids(list(tokens))) for tokens in (_STARTS, _ENDS, _BOXES)
        )
        self._newline = self.tokenizer.encode("\n")[0]
        self._box_start = self.tokenizer.convert_tokens_to_ids(_BOXES[0])
        self._word = lru_cache(maxsize=None)(lambda id_: self.tokenizer.decode([id_]).strip())

    def __call__(self, rows: Sequence[Row]) -> Batch:
        """Return the batch of some rows."""
        pictures = [row.image for row in rows if row.image is not None]
        features = self.processor.image_processor(pictures, return_tensors="pt") if pictures else {}
        grids = iter(features["image_grid_thw"].tolist() if pictures else ())
        encoded = [self._encode(row, next(grids) if row.image is not None else None) for row in rows]
        length = max(len(e.ids) for e in encoded)
        ids = torch.full((len(rows), length), self.tokenizer.pad_token_id)
        mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
        queries, places, is_word = [], [], []
        for k, e in enumerate(encoded):
            n = len(e.ids)
            ids[k, :n], mask[k, :n] = torch.tensor(e.ids), 1
            labels[k, e.n_prompt : n] = ids[k, e.n_prompt : n]
            for query, targets in e.box_targets + e.word_targets:
                queries.append((k, query))
                places.append(targets)
            is_word += [False] * len(e.box_targets) + [True] * len(e.word_targets)
        targets = torch.zeros(len(places), length, dtype=torch.bool)
        for k, at in enumerate(places):
            targets[k, at] = True
        is_image = (ids == self.image_id).int()
        inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "mm_token_type_ids": is_image}
        if pictures:
            inputs |= {key: features[key] for key in ("pixel_values", "image_grid_thw")}
        queries = torch.tensor(queries, dtype=torch.long).reshape(-1, 2)
        return Batch(inputs, labels, queries, targets, torch.tensor(is_word, dtype=torch.bool))

    def prompt_text(self, row: Row) -> str:
        """Return the prompt of a row as text, with one image token per picture."""
        return self.processor.apply_chat_template(row.chat, tokenize=False, add_generation_prompt=True)

    def _encode(self, row: Row, grid: Sequence[int] | None) -> _Encoded:
        text = self.prompt_text(row)
        height, width = (grid[1] // 2, grid[2] // 2) if grid else (0, 0)
        if grid:
            text = text.replace("<|image_pad|>", "<|image_pad|>" * (height * width))
        question = self.tokenizer(text, return_offsets_mapping=True)
        prompt = question["input_ids"]
        said = self.tokenizer(row.answer + "<|im_end|>", return_offsets_mapping=True)
        ids = prompt + said["input_ids"]
        answer = range(len(prompt), len(ids))
        names = [k for k in answer if ids[k] in self._starts]
        first_cell = prompt.index(self.image_id) if grid else 0

        def cells(boxes: Sequence[Box]) -> list[int]:
            return [first_cell + cell for box in boxes for cell in cells_of(box, height, width)]

        targets: list[AttentionTarget] = []
        at_boxes = [k for k in answer if ids[k] in self._boxes]
        for k, evidence in zip(at_boxes, row.evidence, strict=False):
            if evidence == ABSENT:
                targets.append((k - 1, [0]))
            elif isinstance(evidence, str):
                in_prompt = evidence in text
                whole, spans = (text, question) if in_prompt else (row.answer, said)
                end = whole.index(evidence) + len(evidence)
                first = next(j for j, (start, _) in enumerate(spans["offset_mapping"]) if start >= end)
                first += 0 if in_prompt else len(prompt)
                targets.append((k - 1, [first]))
                if ids[k] == self._box_start:
                    targets += [(k + d, [first + d]) for d in range(4)]
            else:
                targets += [(k + d, cells(evidence)) for d in range(-1, 4)]
        if row.task == "detect":  # names are read off the picture too
            for k, evidence in zip(names, row.evidence, strict=True):
                targets += [(k, cells(evidence)), (k + 1, cells(evidence))]
        end = 0
        for phrase, box in row.seen:  # what is said of the picture, in order
            begin = row.answer.index(phrase, end)
            end = begin + len(phrase)
            inside = (k for k, (a, b) in enumerate(said["offset_mapping"]) if a < end and b > begin)
            targets += [(len(prompt) + k - 1, cells([box])) for k in inside]
        targets += self._match_targets(row, text, question["offset_mapping"], said["offset_mapping"])
        is_of_text = row.task not in ("detect", "describe", "compare", "judge", "conclude")
        words = self._word_targets(ids, len(prompt), names) if is_of_text else []
        return _Encoded(ids, len(prompt), targets, words)

    def _match_targets(
        self, row: Row, text: str, asked_at: Sequence[Span], said_at: Sequence[Span]
    ) -> Iterator[AttentionTarget]:
        """Yield, for each verdict on a look, its place and that of the words that the look agrees with."""
        end, n_prompt = 0, len(asked_at)
        for look, source in row.matches:
            end = row.answer.index(f"{look} {'missing' if source == ABSENT else 'found'}", end) + len(look)
            verdict = n_prompt + next(k for k, (start, _) in enumerate(said_at) if start >= end)
            if source == ABSENT:
                yield verdict - 1, [0]
                continue
            in_prompt = source in text
            begin = (text if in_prompt else row.answer).index(source)
            spans = enumerate(asked_at if in_prompt else said_at, start=0 if in_prompt else n_prompt)
            at = [k for k, (start, stop) in spans if start < begin + len(source) and stop > begin]
            yield verdict - 1, at[-1:]  # the look
            yield verdict, at[:1]  # its place

    def _word_targets(self, ids: list[int], n_prompt: int, names: list[int]) -> list[AttentionTarget]:
        """Return, for every word of a name, its place in the last line of the question."""
        line = max(k for k in range(n_prompt - 4) if ids[k] == self._newline) + 1
        prompt = [self._word(id_) for id_ in ids[:n_prompt]]
        targets: list[AttentionTarget] = []
        for k in names:
            end = next(j for j in range(k + 1, len(ids)) if ids[j] in self._ends)
            words = [self._word(id_) for id_ in ids[k + 1 : end]]
            n = len(words)
            at = next((j for j in range(line, n_prompt - n) if prompt[j : j + n] == words), None)
            if at is not None:
                targets += [(k + d, [at + d]) for d in range(n)] + [(k + n, [at + n - 1])]
        return targets


def cells_of(box: Box, height: int, width: int) -> list[int]:
    """Return the cells whose centre is in a box of model pixels, row by row; if none, the cell at its centre.

    Example:
        >>> cells_of((0, 0, 60, 30), 4, 4)
        [0, 1]
    """
    x1, y1, x2, y2 = box
    rows = [r for r in range(height) if y1 <= (r + 0.5) * UNIT_PX <= y2]
    columns = [c for c in range(width) if x1 <= (c + 0.5) * UNIT_PX <= x2]
    row = min(height - 1, int((y1 + y2) / 2 // UNIT_PX))
    column = min(width - 1, int((x1 + x2) / 2 // UNIT_PX))
    return [r * width + c for r in rows for c in columns] or [row * width + column]
