"""Where a model looks when it writes a box, and whether it matters: attention at the box digits, and the same
with attention cut.

A look is about one entity that the image shows and that an answer, made by the model itself, boxes. Tweet and
answer go through the model once more, and what is read are the queries from which the digits of its box are
predicted: in the answer, and at the first box that the reasoning writes after its name (`attention_spots`).

    mass    attention per token of a group over attention per token of all keys: 1 = as much as any token gets (mean over heads)
            groups: gold (cells of the image that a gold box overlaps), rest (its other cells), words (the
            entity's own in the tweet)
    sinks   the first token, special tokens, and in each layer any key to which most tokens of the answer give more than SINK times a
            token's share; left out of groups and of "all keys"
    cuts    log-probability of the digits (sum, nats) without attention from any token of the answer to: the image; gold; elsewhere (as
            many other cells), minus that of the model as it is

Attention is reduced to these numbers in a hook on each layer, while its map is there; never more than one map
is held. (That attention to image tokens rises with MCR: paper; the definitions are ours.)
"""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mcr_lib import boxes, prompts
from mcr_lib.data.images import open_image
from mcr_lib.data.predictions import Prediction
from mcr_lib.schema import Entity, Example
from mcr_lib.training.attention_spots import Spot, spots_of
from mcr_lib.training.backbones import Backbone

GROUPS = ("gold", "rest", "words")
CUTS = ("image", "gold", "elsewhere")

SINK = 10.0
"""A key is a sink of a layer when most tokens of an answer give it more than so many times a token's share
(ours).
"""


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen at the digits of one box.

    Args:
        example: the tweet.
        gold: the entity.
        part: "answer" or "reasoning".
        mass: group -> mass per layer, shape (n_layers,); NaN where the group is empty.
        heat: mass of each cell of the image, mean over layers, shape (rows, columns); NaN where it is a sink
            in every layer.
        n_sinks: keys left out, mean over layers.
        log_probability: of the digits, in nats.
        cuts: cut -> change of it, in nats; `None` where there is nothing to cut.
    """

    example: Example
    gold: Entity
    part: str
    mass: Mapping[str, np.ndarray]
    heat: np.ndarray
    n_sinks: float
    log_probability: float
    cuts: Mapping[str, float | None]


def look(
    backbone: Backbone,
    answered: Sequence[tuple[Example, Prediction]],
    *,
    prompt: prompts.Kind,
    batch_size: int = 8,
) -> list[Look]:
    """The looks at every box of these answers whose entity has a right span and is shown by the image, in
    their order.

    Args:
        answered: tweets with images, and the model's own answers to them.
        prompt: what was asked.
        batch_size: boxes at a time.

    Raises:
        UserError: an image cannot be read.
    """
    spots = [spot for example, row in answered for spot in spots_of(backbone, example, row, prompt)]
    order = sorted(range(len(spots)), key=lambda k: len(spots[k].text))
    found: dict[int, list[Look]] = {}
    with torch.no_grad(), _with_maps(backbone.model):
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            found |= zip(chosen, _Batch(backbone, [spots[k] for k in chosen]).looks(), strict=True)
    return [seen for k in range(len(spots)) for seen in found[k]]


class _Batch:
    """A few spots as inputs of the model, padded on the left, and what stands where in them."""

    def __init__(self, backbone: Backbone, spots: Sequence[Spot]) -> None:
        processor, self.model, self.spots = backbone.processor, backbone.model, spots
        images = [open_image(path) for spot in spots for path in spot.example.images]
        inputs = processor(
            text=[s.text for s in spots],
            images=images,
            padding=True,
            padding_side="left",
            return_tensors="pt",
        )
        self.inputs = inputs.to(self.model.device)
        self.inputs["pixel_values"] = self.inputs["pixel_values"].to(self.model.dtype)
        self.ids, self.length = self.inputs["input_ids"], self.inputs["input_ids"].shape[1]
        first_image = np.cumsum([0] + [len(spot.example.images) for spot in spots[:-1]])
        merge, patch = processor.image_processor.merge_size, processor.image_processor.patch_size
        grids = [self.inputs["image_grid_thw"][k, 1:].tolist() for k in first_image]
        self.shapes = [(height // merge, width // merge) for height, width in grids]
        is_image = self.ids == self.model.config.image_token_id
        self.cells = [
            is_image[k].nonzero()[:, 0][: rows * columns] for k, (rows, columns) in enumerate(self.shapes)
        ]
        self.is_gold = [
            _overlapped(s, shape, patch * merge).to(self.ids.device)
            for s, shape in zip(spots, self.shapes, strict=True)
        ]
        special = [id for id, token in processor.tokenizer.added_tokens_decoder.items() if token.special]
        self.is_left_out = torch.isin(self.ids, torch.tensor(special, device=self.ids.device)) & ~is_image
        self.is_padding = self.inputs["attention_mask"] == 0
        for k, is_padding in enumerate(self.is_padding):
            self.is_left_out[k, : int(is_padding.sum()) + 1] = True

    def looks(self) -> list[list[Look]]:
        """Per spot its looks, one per part."""
        layers: list[list[dict[str, Any]]] = []
        layers_of = [layer.self_attn for layer in self.model.get_decoder().layers]
        with _hooked(
            layers_of,
            lambda module, args, kwargs, output: layers.append(self._reduced(output[1])),
            is_before=False,
        ):
            whole = self._log_probabilities()
        cut = {}
        for kind in CUTS:
            columns = [self._cut(k, kind) for k in range(len(self.spots))]
            with _hooked(
                layers_of,
                lambda module, args, kwargs, columns=columns: (args, self._without(kwargs, columns)),
                is_before=True,
            ):
                cut[kind] = [
                    found if len(c) else {}
                    for found, c in zip(self._log_probabilities(), columns, strict=True)
                ]
        return [
            [self._look(k, part, [layer[k][part] for layer in layers], whole[k], cut) for part in s.digits]
            for k, s in enumerate(self.spots)
        ]

    def _look(
        self, k: int, part: str, layers: Sequence[Any], whole: Mapping[str, float], cut: Mapping[str, Any]
    ) -> Look:
        spot = self.spots[k]
        heat = torch.stack([cells for _, cells, _ in layers])
        n_layers = (~heat.isnan()).sum(0)
        heat = torch.where(n_layers > 0, heat.nan_to_num().sum(0) / n_layers.clamp(min=1), torch.nan)
        mass = {group: np.array([groups[group] for groups, _, _ in layers]) for group in GROUPS}
        changes = {kind: found[k][part] - whole[part] if found[k] else None for kind, found in cut.items()}
        n_sinks = float(np.mean([n for _, _, n in layers]))
        return Look(
            spot.example,
            spot.gold,
            part,
            mass,
            heat.reshape(self.shapes[k]).cpu().numpy(),
            n_sinks,
            whole[part],
            changes,
        )

    def _reduced(self, attention: torch.Tensor) -> list[dict[str, Any]]:
        """Per spot and part the masses of one layer: (of the groups, of each cell, how many sinks).

        Args:
            attention: shape (n_spots, n_heads, n_queries, n_keys).
        """
        found = []
        for k, spot in enumerate(self.spots):
            of_answer = attention[k, :, self.length - spot.n_answer - 1 : -1].float().mean(0)
            n_seen = (
                torch.arange(self.length - spot.n_answer, self.length, device=self.ids.device)
                - self.is_padding[k].sum()
            )
            is_sink = ((of_answer * n_seen[:, None] > SINK).float().mean(0) > 0.5) & ~self.is_padding[
                k
            ] | self.is_left_out[k]
            groups = {"gold": self.cells[k][self.is_gold[k]], "rest": self.cells[k][~self.is_gold[k]]}
            groups["words"] = self.length - torch.tensor(spot.words, device=self.ids.device)
            n_sinks = int((is_sink & ~self.is_padding[k]).sum())
            found.append({})
            for part, digits in spot.digits.items():
                queries = [spot.n_answer - position for position in digits]
                ratio = _relative(
                    of_answer[queries], is_sink, [self.length - position for position in digits]
                )
                cells = torch.where(is_sink[self.cells[k]], torch.nan, ratio[self.cells[k]])
                masses = {name: float(ratio[keys][~is_sink[keys]].mean()) for name, keys in groups.items()}
                found[-1][part] = (masses, cells, n_sinks)
        return found

    def _log_probabilities(self) -> list[dict[str, float]]:
        """Per spot and part the log-probability of the digits, in nats."""
        n_kept = max(spot.n_answer for spot in self.spots) + 1
        logits = self.model(**self.inputs, logits_to_keep=n_kept, use_cache=False).logits
        found = []
        for k, spot in enumerate(self.spots):
            told = {}
            for part, digits in spot.digits.items():
                at = torch.tensor(digits, device=self.ids.device)
                of_all = logits[k, n_kept - at - 1].float().log_softmax(-1)
                told[part] = float(of_all.gather(1, self.ids[k, self.length - at][:, None]).sum())
            found.append(told)
        return found

    def _cut(self, k: int, kind: str) -> torch.Tensor:
        """The keys of a cut."""
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
    """Attention to each key over that to a key on average, sinks apart, mean over queries: shape (n_keys,).

    Args:
        attention: shape (n_queries, n_keys).
        n_keys: how many keys each query sees, padding included.
    """
    kept = attention.masked_fill(is_sink, 0.0)
    n_kept = torch.stack([(~is_sink[:n]).sum() for n in n_keys])
    return (kept * (n_kept / kept.sum(1).clamp(min=1e-12))[:, None]).mean(0)


def _overlapped(spot: Spot, shape: tuple[int, int], unit: int) -> torch.Tensor:
    """Which cells of the image, row by row, a gold box overlaps."""
    rows, columns = shape
    size = (columns * unit, rows * unit)
    is_gold = torch.zeros(rows, columns, dtype=torch.bool)
    for box in spot.gold.boxes_xyxy_px:
        x1, y1, x2, y2 = boxes.to_space(
            box, "model_px", image_size=spot.example.image_size_px, model_size=size
        )
        is_gold[int(y1 // unit) : int(-(-y2 // unit)), int(x1 // unit) : int(-(-x2 // unit))] = True
    return is_gold.flatten()


@contextmanager
def _with_maps(model: torch.nn.Module) -> Iterator[None]:
    """The language model in the implementation of attention that hands out its maps; evaluation, not
    training.
    """
    before, was_training = model.config.get_text_config()._attn_implementation, model.training
    model.set_attn_implementation({"text_config": "eager"})
    model.eval()
    try:
        yield
    finally:
        model.set_attn_implementation({"text_config": before})
        model.train(was_training)


@contextmanager
def _hooked(
    modules: Sequence[torch.nn.Module], hook: Callable[..., Any], *, is_before: bool
) -> Iterator[None]:
    """A hook on each module, before or after its forward pass."""
    add = [m.register_forward_pre_hook if is_before else m.register_forward_hook for m in modules]
    handles = [register(hook, with_kwargs=True) for register in add]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
