"""Where a model looks when it writes a box, and whether it matters: attention at the box digits, and the same
with attention cut.

A `Look` is about one entity that the image shows and that the model's own answer boxes. Prompt and answer go
through the model once more, and attention is read at the queries that predict the digits of the box: in the
answer, where a box is found by its rank among the boxes, and in the reasoning, as the first box after the
entity's name and before another name (ours).

    mass    attention per token of a group over attention per token of all keys, mean over heads; 1 = average.
            Groups: gold (cells of the image that a gold box overlaps), rest (its other cells), words (the
            entity's own in the tweet).
    sinks   the first token, special tokens, and in each layer any key to which most tokens of the answer give
            more than SINK times a token's share; excluded from groups and from "all keys".
    cuts    change of the log-probability of the digits (sum, nats) without attention from any token of the
            answer to: the image; gold; elsewhere (as many other cells).

Attention is reduced to these numbers in a hook on each layer, so that at most one map is in memory. That
attention to image tokens rises with MCR: paper; the definitions are ours.
"""

import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mcr_lib import boxes, metrics, prompts, verify
from mcr_lib.data.images import open_image
from mcr_lib.data.predictions import Prediction, parse_prediction
from mcr_lib.schema import Entity, Example
from mcr_lib.training.backbones import Backbone

PARTS = ("answer", "reasoning")
GROUPS = ("gold", "rest", "words")
CUTS = ("image", "gold", "elsewhere")

SINK = 10.0
"""A key is a sink of a layer if most tokens of an answer give it more than this many times a token's share
(ours).
"""


@dataclass(frozen=True, slots=True)
class Look:
    """Attention at the digits of one box.

    Args:
        part: one of `PARTS`.
        mass: group -> mass per layer, shape (n_layers,); NaN where the group is empty.
        heat: mass of each cell of the image, mean over layers, shape (rows, columns); NaN where it is a sink
            in every layer.
        n_sinks: excluded keys, mean over layers.
        log_probability: of the digits, in nats.
        cuts: cut -> its change, in nats; `None` where there is nothing to cut.
    """

    example: Example
    gold: Entity
    part: str
    mass: Mapping[str, np.ndarray]
    heat: np.ndarray
    n_sinks: float
    log_probability: float
    cuts: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Spot:
    """An entity with its boxes among the tokens of prompt and answer.

    Args:
        text: prompt and answer, an image token per image. Positions of tokens count from its end, from 1.
        digits: part -> positions of the tokens that hold digits of the box.
        words: positions of the entity's tokens in the tweet.
        n_answer: tokens of the answer.
    """

    example: Example
    gold: Entity
    text: str
    digits: Mapping[str, Sequence[int]]
    words: Sequence[int]
    n_answer: int


def look(
    backbone: Backbone,
    answered: Sequence[tuple[Example, Prediction]],
    *,
    prompt: prompts.Kind,
    batch_size: int = 8,
) -> list[Look]:
    """The looks at every box whose entity has a correct span and is shown by the image, in their order.

    Args:
        answered: tweets with images, and the model's own answers to `prompt`.
        batch_size: boxes at a time.

    Raises:
        UserError: an image cannot be read.
    """
    spots = [spot for example, row in answered for spot in spots_of(backbone, example, row, prompt)]
    order = sorted(range(len(spots)), key=lambda k: len(spots[k].text))
    looks: dict[int, list[Look]] = {}
    with torch.no_grad(), _with_maps(backbone.model):
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            looks |= zip(chosen, _Batch(backbone, [spots[k] for k in chosen]).looks(), strict=True)
    return [one for k in range(len(spots)) for one in looks[k]]


def spots_of(backbone: Backbone, example: Example, row: Prediction, prompt: prompts.Kind) -> list[Spot]:
    """The boxes of one answer to look at: none if it does not parse strictly or repeats a name."""
    parsed, entities_px = parse_prediction(row, example, "strict")
    judged = metrics.judge(example, entities_px)
    if parsed.reason is not None or len(judged.effective) != len(entities_px) or not example.images:
        return []
    boxed = [k for k, entity in enumerate(parsed.entities) if entity.box_xyxy is not None]
    begin = row.answer.index("<answer>")
    written = [match.span() for match in verify.BOX.finditer(row.answer, begin)]
    reasoned = _boxes_by_name(row.answer[:begin], [entity.text for entity in parsed.entities])
    if len(written) != len(boxed):
        return []
    tokens = _Tokens(backbone, example, row.answer, prompt)
    spots = []
    for k, j in judged.pairing.matches:
        gold = example.entities[j]
        if k not in boxed or not gold.is_groundable:
            continue
        spans = {"answer": written[boxed.index(k)], "reasoning": reasoned.get(parsed.entities[k].text)}
        digits = {part: tokens.digits(span) for part, span in spans.items() if span}
        spots.append(Spot(example, gold, tokens.text, digits, tokens.words(gold), tokens.n_answer))
    return spots


def _boxes_by_name(reasoning: str, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Name -> the characters of the first box after it and before another name."""
    boxes_by_name: dict[str, tuple[int, int]] = {}
    for match in verify.BOX.finditer(reasoning):
        starts = {name: reasoning.rfind(name, 0, match.start()) for name in names}
        ends = {name: start + len(name) for name, start in starts.items() if start >= 0}
        if ends:
            boxes_by_name.setdefault(max(ends, key=ends.get), match.span())
    return boxes_by_name


class _Tokens:
    """The tokens of prompt and answer, addressed by characters."""

    def __init__(self, backbone: Backbone, example: Example, answer: str, prompt: prompts.Kind) -> None:
        chat = prompts.messages(example, prompt, wording=backbone.wording)
        before = backbone.processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        user_text = prompts.text_of(chat)
        self.text, self.begin, self.example = before + answer, len(before), example
        self.tweet = before.rindex(user_text) + len(user_text) - len(example.text)
        self.offsets = backbone.processor.tokenizer(self.text, return_offsets_mapping=True)["offset_mapping"]
        self.n_answer = len(self.between(self.begin, len(self.text)))

    def between(self, start: int, end: int) -> list[int]:
        """Positions of the tokens that overlap the characters [start, end)."""
        n = len(self.offsets)
        return [n - k for k, (first, last) in enumerate(self.offsets) if first < end and last > start]

    def digits(self, span: tuple[int, int]) -> list[int]:
        """Positions of the tokens with a digit within the brackets of a box of the answer."""
        inside = self.between(self.begin + span[0] + 1, self.begin + span[1] - 1)
        return [k for k in inside if re.search(r"\d", self.text[slice(*self.offsets[-k])])]

    def words(self, entity: Entity) -> list[int]:
        """Positions of an entity's tokens in the tweet."""
        before = "".join(f"{token} " for token in self.example.tokens[: entity.start])
        start = self.tweet + len(before)
        return self.between(start, start + len(entity.text))


class _Batch:
    """A few spots as inputs of the model, padded on the left."""

    def __init__(self, backbone: Backbone, spots: Sequence[Spot]) -> None:
        processor, self.model, self.spots = backbone.processor, backbone.model, spots
        images = [open_image(path) for spot in spots for path in spot.example.images]
        padding = {"padding": True, "padding_side": "left", "return_tensors": "pt"}
        self.inputs = processor(text=[spot.text for spot in spots], images=images, **padding)
        self.inputs = self.inputs.to(self.model.device)
        self.inputs["pixel_values"] = self.inputs["pixel_values"].to(self.model.dtype)
        self.ids, self.length = self.inputs["input_ids"], self.inputs["input_ids"].shape[1]
        self.device = self.ids.device
        first_image = np.cumsum([0] + [len(spot.example.images) for spot in spots[:-1]])
        merge, patch = processor.image_processor.merge_size, processor.image_processor.patch_size
        grids = [self.inputs["image_grid_thw"][k, 1:].tolist() for k in first_image]
        self.shapes = [(height // merge, width // merge) for height, width in grids]
        is_image = self.ids == self.model.config.image_token_id
        self.cells, self.is_gold = [], []
        for k, (spot, shape) in enumerate(zip(spots, self.shapes, strict=True)):
            self.cells.append(is_image[k].nonzero()[:, 0][: shape[0] * shape[1]])
            self.is_gold.append(_overlapped(spot, shape, patch * merge).to(self.device))
        special = [id for id, token in processor.tokenizer.added_tokens_decoder.items() if token.special]
        self.is_excluded = torch.isin(self.ids, torch.tensor(special, device=self.device)) & ~is_image
        self.is_padding = self.inputs["attention_mask"] == 0
        for k, is_padding in enumerate(self.is_padding):
            self.is_excluded[k, : int(is_padding.sum()) + 1] = True

    def looks(self) -> list[list[Look]]:
        """Per spot its looks, one per part."""
        layers: list[list[dict[str, Any]]] = []

        def reduce(module: torch.nn.Module, args: tuple, kwargs: dict, output: tuple) -> None:
            layers.append(self._reduced(output[1]))

        modules = [layer.self_attn for layer in self.model.get_decoder().layers]
        with _hooked([module.register_forward_hook for module in modules], reduce):
            whole = self._log_probabilities()
        changes = {kind: self._changes(kind, whole, modules) for kind in CUTS}
        looks = []
        for k, spot in enumerate(self.spots):
            looks.append([])
            for part in spot.digits:
                cuts = {kind: change[k].get(part) for kind, change in changes.items()}
                looks[-1].append(self._look(k, part, [layer[k][part] for layer in layers], whole[k], cuts))
        return looks

    def _look(
        self, k: int, part: str, layers: Sequence[tuple], log_p: Mapping[str, float], cuts: Mapping[str, Any]
    ) -> Look:
        spot = self.spots[k]
        heat = torch.stack([cells for _, cells, _ in layers])
        n_layers = (~heat.isnan()).sum(0)
        heat = torch.where(n_layers > 0, heat.nan_to_num().sum(0) / n_layers.clamp(min=1), torch.nan)
        heat = heat.reshape(self.shapes[k]).cpu().numpy()
        mass = {group: np.array([masses[group] for masses, _, _ in layers]) for group in GROUPS}
        n_sinks = float(np.mean([n for _, _, n in layers]))
        return Look(spot.example, spot.gold, part, mass, heat, n_sinks, log_p[part], cuts)

    def _changes(
        self, kind: str, whole: Sequence[Mapping[str, float]], modules: Sequence[torch.nn.Module]
    ) -> list[dict[str, float]]:
        """Per spot and part the effect of a cut; no part where there is nothing to cut."""
        columns = [self._cut(k, kind) for k in range(len(self.spots))]

        def hide(module: torch.nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
            return args, self._without(kwargs, columns)

        with _hooked([module.register_forward_pre_hook for module in modules], hide):
            cut = self._log_probabilities()
        return [
            {part: value - before[part] for part, value in after.items()} if len(keys) else {}
            for after, before, keys in zip(cut, whole, columns, strict=True)
        ]

    def _reduced(self, attention: torch.Tensor) -> list[dict[str, tuple]]:
        """Per spot and part the masses of one layer: (of the groups, of each cell, number of sinks).

        Args:
            attention: shape (n_spots, n_heads, n_queries, n_keys).
        """
        reduced = []
        for k, spot in enumerate(self.spots):
            of_answer = attention[k, :, self.length - spot.n_answer - 1 : -1].float().mean(0)
            queries = torch.arange(self.length - spot.n_answer, self.length, device=self.device)
            n_keys = queries - self.is_padding[k].sum()
            is_strong = (of_answer * n_keys[:, None] > SINK).float().mean(0) > 0.5
            is_sink = is_strong & ~self.is_padding[k] | self.is_excluded[k]
            groups = {"gold": self.cells[k][self.is_gold[k]], "rest": self.cells[k][~self.is_gold[k]]}
            groups["words"] = self.length - torch.tensor(spot.words, device=self.device)
            n_sinks = int((is_sink & ~self.is_padding[k]).sum())
            reduced.append({})
            for part, digits in spot.digits.items():
                rows = of_answer[[spot.n_answer - position for position in digits]]
                ratio = _relative(rows, is_sink, [self.length - position for position in digits])
                cells = torch.where(is_sink[self.cells[k]], torch.nan, ratio[self.cells[k]])
                masses = {name: float(ratio[keys][~is_sink[keys]].mean()) for name, keys in groups.items()}
                reduced[-1][part] = (masses, cells, n_sinks)
        return reduced

    def _log_probabilities(self) -> list[dict[str, float]]:
        """Per spot and part the log-probability of the digits, in nats."""
        n_logits = max(spot.n_answer for spot in self.spots) + 1
        logits = self.model(**self.inputs, logits_to_keep=n_logits, use_cache=False).logits
        values = []
        for k, spot in enumerate(self.spots):
            values.append({})
            for part, digits in spot.digits.items():
                positions = torch.tensor(digits, device=self.device)
                log_p = logits[k, n_logits - positions - 1].float().log_softmax(-1)
                ids = self.ids[k, self.length - positions]
                values[-1][part] = float(log_p.gather(1, ids[:, None]).sum())
        return values

    def _cut(self, k: int, kind: str) -> torch.Tensor:
        """The keys of a cut; "elsewhere" starts at a cell drawn from tweet and entity."""
        cells, is_gold = self.cells[k], self.is_gold[k]
        if kind == "image":
            return cells
        if kind == "gold":
            return cells[is_gold]
        rest, spot = cells[~is_gold], self.spots[k]
        if not len(rest):
            return rest
        start = zlib.crc32(f"{spot.example.id} {spot.gold.start}".encode()) % len(rest)
        return rest.roll(-start)[: int(is_gold.sum())]

    def _without(self, kwargs: Mapping[str, Any], columns: Sequence[torch.Tensor]) -> dict[str, Any]:
        """The arguments of a layer's attention with some keys hidden from every token of the answer."""
        mask = kwargs["attention_mask"].clone()
        for k, spot in enumerate(self.spots):
            mask[k, :, self.length - spot.n_answer - 1 :, columns[k]] = torch.finfo(mask.dtype).min
        return {**kwargs, "attention_mask": mask}


def _relative(attention: torch.Tensor, is_sink: torch.Tensor, n_keys: Sequence[int]) -> torch.Tensor:
    """Attention to each key over the average key's, without sinks, mean over queries: shape (n_keys,).

    Args:
        attention: shape (n_queries, n_keys).
        n_keys: keys visible to each query, padding included.
    """
    without_sinks = attention.masked_fill(is_sink, 0.0)
    n = torch.stack([(~is_sink[:visible]).sum() for visible in n_keys])
    return (without_sinks * (n / without_sinks.sum(1).clamp(min=1e-12))[:, None]).mean(0)


def _overlapped(spot: Spot, shape: tuple[int, int], unit: int) -> torch.Tensor:
    """Which cells of the image, row by row, a gold box overlaps."""
    rows, columns = shape
    sizes = {"image_size": spot.example.image_size_px, "model_size": (columns * unit, rows * unit)}
    is_gold = torch.zeros(rows, columns, dtype=torch.bool)
    for box in spot.gold.boxes_xyxy_px:
        x1, y1, x2, y2 = boxes.to_space(box, "model_px", **sizes)
        is_gold[int(y1 // unit) : int(-(-y2 // unit)), int(x1 // unit) : int(-(-x2 // unit))] = True
    return is_gold.flatten()


@contextmanager
def _with_maps(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode, with the implementation of attention that returns its maps."""
    before, was_training = model.config.get_text_config()._attn_implementation, model.training
    model.set_attn_implementation({"text_config": "eager"})
    model.eval()
    try:
        yield
    finally:
        model.set_attn_implementation({"text_config": before})
        model.train(was_training)


@contextmanager
def _hooked(registrations: Sequence[Callable[..., Any]], hook: Callable[..., Any]) -> Iterator[None]:
    handles = [register(hook, with_kwargs=True) for register in registrations]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
