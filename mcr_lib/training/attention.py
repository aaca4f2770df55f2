"""Where a model looks when it writes a location, and whether it matters.

Prompt and answer go through the model once more; attention is read at the queries that predict a location.

The paper's measure (§5.5, Table 5), over entities that the image does not show and, ours, boxes of others:

    share   attention to the image's tokens over attention to those and the sentence's (the tweet, without the
            instruction), while the answer writes the digits of the box or the word for none. Silent, ours:
            mean over these queries, heads and layers before the ratio, sinks included; of a group of
            entities the mean.

Ours, over boxes of entities that the image shows, in the answer by their rank among the locations, and in the
reasoning the first box after the entity's name and before another name:

    mass    attention per token of a group over attention per token of all keys, mean over heads; 1 = average.
            Groups: gold (cells of the image that a gold box overlaps), rest (its other cells), words (the
            entity's own in the tweet).
    sinks   the first token, special tokens, and in each layer any key to which most tokens of the answer give
            more than SINK times a token's share; excluded from groups and from "all keys".
    cuts    change of the log-probability of the digits (sum, nats) without attention from any token of the
            answer to: the image; gold; elsewhere (as many other cells).
"""

import re
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain, product
from typing import Any

import numpy as np
import torch

from mcr_lib import boxes, metrics, prompts, verify
from mcr_lib.data.images import open_image
from mcr_lib.data.predictions import Prediction, parse_prediction
from mcr_lib.schema import Entity, Example
from mcr_lib.training.backbones import Backbone

CUTS = ("image", "gold", "elsewhere")
SINK = 10.0  # ours
_LOCATION = re.compile(rf"{verify.BOX.pattern}|\b(?:null|None)\b(?=\s*[,)}}\]])")  # in either form of answer
Answered = Sequence[tuple[Example, Prediction]]  # tweets with images, and the model's own answers
Key = tuple[int, str]  # number of a spot, part
EntityKey = tuple[str, int]  # id of the tweet, first token of the entity


@dataclass(frozen=True, slots=True)
class Look:
    """Attention at the digits of one box."""

    example: Example
    gold: Entity
    part: str  # "answer" or "reasoning"
    mass: Mapping[str, np.ndarray]  # group -> mass per layer; NaN where the group is empty
    n_sinks: float  # mean over layers
    log_probability: float  # of the digits, in nats
    cuts: Mapping[str, float | None]  # in nats; `None` where there is nothing to cut


@dataclass(frozen=True, slots=True)
class Share:
    """Attention while the location of an entity is written."""

    example: Example
    gold: Entity
    is_boxed: bool  # the location is a box, not none
    image: float  # attention to the image over that to image and sentence, in [0, 1]


@dataclass(frozen=True, slots=True)
class Spot:
    """An entity and its locations among the tokens of prompt and answer, which count from the end, from 1."""

    example: Example
    gold: Entity
    is_boxed: bool  # in the answer
    text: str  # prompt and answer, an image token per image
    digits: Mapping[str, Sequence[int]]  # part -> positions of the tokens of the box's digits, or of "none"
    words: Sequence[int]  # positions of the entity's tokens in the tweet
    sentence: Sequence[int]  # positions of all tokens of the tweet
    n_answer: int  # tokens of the answer


def look(backbone: Backbone, answered: Answered, *, prompt: prompts.Kind, batch_size: int = 8) -> list[Look]:
    """The looks at every box whose entity has a correct span and is shown by the image, in their order."""
    spots = [spot for example, row in answered for spot in spots_of(backbone, example, row, prompt)]
    return list(chain(*_in_batches(backbone, spots, _Batch.looks, batch_size)))


def image_shares(
    backbone: Backbone, answered: Answered, of: Collection[EntityKey], *, prompt: prompts.Kind
) -> list[Share]:
    """The paper's share for those entities `of` these with a correct span, those that are shown if boxed."""
    both = product(answered, (False, True))
    spots = [s for (e, row), flag in both for s in spots_of(backbone, e, row, prompt, is_shown=flag)]
    return _in_batches(backbone, [s for s in spots if (s.example.id, s.gold.start) in of], _Batch.shares, 8)


def _in_batches(backbone: Backbone, spots: list[Spot], measure: Callable, size: int) -> list[Any]:
    """What is measured at each spot, texts of a similar length together."""
    order, measured = sorted(range(len(spots)), key=lambda k: len(spots[k].text)), {}
    with torch.no_grad(), _with_maps(backbone.model):
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            measured |= zip(chosen, measure(_Batch(backbone, [spots[k] for k in chosen])), strict=True)
    return [measured[k] for k in range(len(spots))]


def spots_of(
    backbone: Backbone, example: Example, row: Prediction, prompt: prompts.Kind, *, is_shown: bool = True
) -> list[Spot]:
    """The boxes of one answer whose entity the image shows, or all locations of entities that it does not
    show; none if the answer does not parse strictly or repeats a name.
    """
    parsed, entities_px = parse_prediction(row, example, "strict")
    judged = metrics.judge(example, entities_px)
    if parsed.reason is not None or len(judged.effective) != len(entities_px) or not example.images:
        return []
    begin = row.answer.index("<answer>")
    written = [match.span() for match in _LOCATION.finditer(row.answer, begin)]
    if len(written) != len(parsed.entities):
        return []
    reasoned = _boxes_by_name(row.answer[:begin], [entity.text for entity in parsed.entities])
    chat = backbone.messages(example, prompt)
    before = backbone.processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    text, user_text = before + row.answer, prompts.text_of(chat)
    at = user_text.index("\n" + example.text, max(0, user_text.find("\nText:\n"))) + 1
    tweet_at = before.rindex(user_text) + at
    offsets = backbone.processor.tokenizer(text, return_offsets_mapping=True)["offset_mapping"]

    def tokens(start: int, end: int) -> list[int]:
        n = len(offsets)
        return [n - k for k, (first, last) in enumerate(offsets) if first < end and last > start]

    def digits(span: tuple[int, int]) -> list[int]:
        inside = tokens(len(before) + span[0] + 1, len(before) + span[1] - 1)
        return [k for k in inside if re.search(r"\d", text[slice(*offsets[-k])])]

    spots, n_answer = [], len(tokens(len(before), len(text)))
    sentence = tokens(tweet_at, tweet_at + len(example.text))
    for k, j in judged.pairing.matches:
        gold, is_boxed = example.entities[j], parsed.entities[k].box_xyxy is not None
        if gold.is_groundable is not is_shown or (is_shown and not is_boxed):
            continue
        start = tweet_at + sum(len(token) + 1 for token in example.tokens[: gold.start])
        words = tokens(start, start + len(gold.text))
        first, last = written[k]
        of_parts = {"answer": digits(written[k]) or tokens(len(before) + first, len(before) + last)}
        if is_shown and (span := reasoned.get(parsed.entities[k].text)):
            of_parts["reasoning"] = digits(span)
        spots.append(Spot(example, gold, is_boxed, text, of_parts, words, sentence, n_answer))
    return spots


def _boxes_by_name(reasoning: str, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Name -> the characters of the first box after it and before another name."""
    boxes_by_name: dict[str, tuple[int, int]] = {}
    for match in verify.BOX.finditer(reasoning):
        at = {name: reasoning.rfind(name, 0, match.start()) for name in names}
        if ends := {name: start + len(name) for name, start in at.items() if start >= 0}:
            boxes_by_name.setdefault(max(ends, key=ends.get), match.span())
    return boxes_by_name


class _Batch:
    """A few spots as inputs of the model, padded on the left."""

    def __init__(self, backbone: Backbone, spots: Sequence[Spot]) -> None:
        processor, self.model, self.spots = backbone.processor, backbone.model, spots
        self.modules = [layer.self_attn for layer in self.model.get_decoder().layers]
        images = [open_image(path) for spot in spots for path in spot.example.images]
        padding = {"padding": True, "padding_side": "left", "return_tensors": "pt"}
        inputs = processor(text=[spot.text for spot in spots], images=images, **padding)
        self.inputs = inputs.to(self.model.device, self.model.dtype)
        self.ids, self.device = self.inputs["input_ids"], self.model.device
        self.is_image = is_image = self.ids == self.model.config.image_token_id
        self.length = self.ids.shape[1]
        merge, patch = processor.image_processor.merge_size, processor.image_processor.patch_size
        first_image = np.cumsum([0] + [len(spot.example.images) for spot in spots[:-1]])
        grids = [self.inputs["image_grid_thw"][k, 1:].tolist() for k in first_image]
        places = [(spot, (h // merge, w // merge)) for spot, (h, w) in zip(spots, grids, strict=True)]
        self.is_gold = [_overlapped(*place, patch * merge).to(self.device) for place in places]
        self.cells = [is_image[k].nonzero()[: shape[0] * shape[1], 0] for k, (_, shape) in enumerate(places)]
        special = [id for id, token in processor.tokenizer.added_tokens_decoder.items() if token.special]
        self.is_excluded = torch.isin(self.ids, torch.tensor(special, device=self.device)) & ~is_image
        self.is_padding = self.inputs["attention_mask"] == 0
        for k, is_padding in enumerate(self.is_padding):
            self.is_excluded[k, : int(is_padding.sum()) + 1] = True

    @contextmanager
    def _hooked(self, kind: str, hook: Callable, **how: Any) -> Iterator[None]:
        """With a hook on each layer's attention, which sees one map at a time."""
        with ExitStack() as hooks:
            for module in self.modules:
                hooks.enter_context(getattr(module, f"register_{kind}_hook")(hook, **how))
            yield

    def shares(self) -> list[Share]:
        layers: list[np.ndarray] = []
        with self._hooked("forward", lambda _, args, out: layers.append(self._of_image_and_sentence(out[1]))):
            self.model(**self.inputs, logits_to_keep=1, use_cache=False)
        sums = np.sum(layers, axis=0)  # (n_spots, 2)
        shares = sums[:, 0] / sums.sum(axis=1)
        spots = zip(self.spots, shares, strict=True)
        return [Share(spot.example, spot.gold, spot.is_boxed, float(share)) for spot, share in spots]

    def _of_image_and_sentence(self, attention: torch.Tensor) -> np.ndarray:
        """Attention to both groups, mean over heads and queries: (n_spots, 2)."""
        sums = []
        for k, spot in enumerate(self.spots):
            queries = [self.length - at - 1 for at in spot.digits["answer"]]
            rows = attention[k, :, queries].float().mean((0, 1))
            of_sentence = rows[[self.length - at for at in spot.sentence]]
            sums.append([float(rows[self.is_image[k]].sum()), float(of_sentence.sum())])
        return np.array(sums)

    def looks(self) -> list[list[Look]]:
        layers: list[dict[Key, tuple]] = []
        with self._hooked("forward", lambda _, args, out: layers.append(self._reduced(out[1]))):
            whole = self._log_probabilities()
        changes = {kind: self._changes(kind, whole) for kind in CUTS}
        looks: list[list[Look]] = [[] for _ in self.spots]
        for (k, part), log_p in whole.items():
            spot, (masses, sinks) = self.spots[k], zip(*(one[k, part] for one in layers), strict=True)
            mass = {group: np.array([each[group] for each in masses]) for group in masses[0]}
            cuts = {kind: change.get((k, part)) for kind, change in changes.items()}
            n_sinks = float(np.mean(sinks))
            looks[k].append(Look(spot.example, spot.gold, part, mass, n_sinks, log_p, cuts))
        return looks

    def _changes(self, kind: str, whole: Mapping[Key, float]) -> dict[Key, float]:
        columns = [self._cut(k, kind) for k in range(len(self.spots))]

        def hide(module: torch.nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict]:
            mask = kwargs["attention_mask"].clone()
            for k, spot in enumerate(self.spots):
                mask[k, :, self.length - spot.n_answer - 1 :, columns[k]] = torch.finfo(mask.dtype).min
            return args, {**kwargs, "attention_mask": mask}

        with self._hooked("forward_pre", hide, with_kwargs=True):
            after = self._log_probabilities()
        return {key: value - whole[key] for key, value in after.items() if len(columns[key[0]])}

    def _reduced(self, attention: torch.Tensor) -> dict[Key, tuple]:
        """Masses of groups and number of sinks, from (n_spots, n_heads, n_queries, n_keys)."""
        reduced = {}
        for k, spot in enumerate(self.spots):
            of_answer = attention[k, :, self.length - spot.n_answer - 1 : -1].float().mean(0)
            queries = torch.arange(self.length - spot.n_answer, self.length, device=self.device)
            n_keys = queries - self.is_padding[k].sum()
            is_strong = (of_answer * n_keys[:, None] > SINK).float().mean(0) > 0.5
            is_sink = is_strong & ~self.is_padding[k] | self.is_excluded[k]
            groups = {"gold": self.cells[k][self.is_gold[k]], "rest": self.cells[k][~self.is_gold[k]]}
            groups["words"] = self.length - torch.tensor(spot.words, device=self.device)
            n_sinks = int((is_sink & ~self.is_padding[k]).sum())
            for part, digits in spot.digits.items():
                rows = of_answer[[spot.n_answer - at for at in digits]].masked_fill(is_sink, 0.0)
                n_visible = torch.stack([(~is_sink[: self.length - at]).sum() for at in digits])
                ratio = (rows * (n_visible / rows.sum(1).clamp(min=1e-12))[:, None]).mean(0)
                masses = {name: float(ratio[keys][~is_sink[keys]].mean()) for name, keys in groups.items()}
                reduced[k, part] = (masses, n_sinks)
        return reduced

    def _log_probabilities(self) -> dict[Key, float]:
        n_logits = max(spot.n_answer for spot in self.spots) + 1
        logits = self.model(**self.inputs, logits_to_keep=n_logits, use_cache=False).logits
        values = {}
        for k, spot in enumerate(self.spots):
            for part, digits in spot.digits.items():
                positions = torch.tensor(digits, device=self.device)
                log_p = logits[k, n_logits - positions - 1].float().log_softmax(-1)
                values[k, part] = float(log_p.gather(1, self.ids[k, self.length - positions, None]).sum())
        return values

    def _cut(self, k: int, kind: str) -> torch.Tensor:
        """The keys of a cut; "elsewhere" starts at a cell drawn from tweet and entity."""
        spot, cells, is_gold = self.spots[k], self.cells[k], self.is_gold[k]
        rest = cells[~is_gold]
        start = zlib.crc32(f"{spot.example.id} {spot.gold.start}".encode()) % max(1, len(rest))
        elsewhere = rest.roll(-start)[: int(is_gold.sum())]
        return {"image": cells, "gold": cells[is_gold], "elsewhere": elsewhere}[kind]


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
