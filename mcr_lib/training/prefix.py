"""Rows that begin alike, scored in one pass that computes their common beginning once, exactly.

In CVO the G answers of a prompt share image and prompt; in MRSI the styles of a tweet share its image and
the beginning of their prompts. A batch becomes one packed row of S tokens: of each group of rows the common
beginning (its head), then what is left of each row (its branches).

    batch (B, T)                packed row (1, S)
    P P P P a a                              group 1               group 2
    P P P P b b b               tokens       P P P P a a b b b c   Q Q d d e
    P P P P c            ->     positions    0 1 2 3 4 5 4 5 6 4   0 1 2 3 2
    Q Q d d                     part         head    a   b     c   head d   e
    Q Q e

A token keeps the position of its own row (M-RoPE: three). All layers but attention treat tokens singly.
Attention is the model's own function, in two calls on padded picks of the packed row with causal masks:

    heads       queries (groups, longest head)        keys (groups, longest head)
    branches    queries (branches, longest branch)    keys (branches, T): the head and the branch itself

So there are never more tokens, attention scores and images than in the batch, and no limit beside its own.
The output layer sees only tokens with a label next. Dropout draws once for a shared token. Ours.
"""

import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from trl.trainer.utils import FusedCausalLMOutput

from mcr_lib.training import launch

TOLERANCE = {"32 bits": 1e-4, "16 bits": 0.1}  # nats per token between this path and stock; ours
_NAME = "shared_prefix"


@dataclass(frozen=True)
class Layout:
    """Where the tokens of a batch lie in its packed row."""

    sources: Tensor  # (S,) indices into the flattened batch
    where: Tensor  # (B, T) indices into the packed row; 0 for padding
    pieces: list[tuple[Tensor, Tensor, Tensor]]  # queries (m, r), keys (m, t), mask (m, 1, r, t): True = seen
    back: Tensor  # (S,) indices into the queries of both pieces, flattened


def enable(model: nn.Module) -> None:
    """Prepares the attention of a model for `score`; other passes stay. Needs a model without `obstacle`."""
    text = _core(model).language_model
    implementation = text.config._attn_implementation
    if not implementation.startswith(_NAME):
        eager = sys.modules[type(text.layers[0].self_attn).__module__].eager_attention_forward
        own = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager)
        name = f"{_NAME}_{implementation}_{text.config.model_type}"
        AttentionInterface.register(name, partial(_attend, own))
        AttentionMaskInterface.register(name, ALL_MASK_ATTENTION_FUNCTIONS[implementation])
        text.config._attn_implementation = name


def obstacle(model: nn.Module) -> str | None:
    """Why rows cannot share a beginning: layers with a state, weights in parts; `None` = they can."""
    if launch.is_sharded():
        return "the weights are cut over the processes, whose passes must be equally many"
    text = _core(model).language_model.config
    kinds = {*(getattr(text, "layer_types", None) or ())} - {"full_attention"}
    has = f"a model of type {text.model_type} has layers of {', '.join(sorted(kinds))}"
    return f"it needs full attention in every layer, and {has}" if kinds else None


def score(model: nn.Module, **batch: Any) -> FusedCausalLMOutput:
    """What `model(**batch, fused_lm_head=True)` of TRL returns for a padded batch, up to rounding.

    Args:
        model: Enabled (`enable`), with TRL's fused output layer, bare or wrapped by PEFT and accelerate.
        batch: input_ids (B, T), padded on either side; attention_mask (B, T), 1 = a token; labels (B, T), of
            the token at each position, -100 = not scored; pixel_values (patches, values of a patch) and
            image_grid_thw (images, 3) of all images in the order of the rows, or neither.

    Returns:
        log_probs (nats), entropy and is_top1 of shape (B, T - 1), 0 where nothing is scored.
    """
    packed = _packed(model, **batch)
    return _scored(model, *packed) if packed else model(**batch, fused_lm_head=True)


class Shared:
    """`score` in the place of a trainer's model, compared with it (without dropout) when rows first share.

    With an `obstacle`, or at a mean difference per token above `TOLERANCE`, it warns and scores rows singly.
    `note` gets the outcome.
    """

    def __init__(self, note: Callable[[dict[str, Any]], None], *models: nn.Module) -> None:
        self.note, self.is_checked = note, False
        reason = next(filter(None, map(obstacle, models)), None)
        self.is_on = reason is None
        for model in models if self.is_on else ():
            enable(model)
        if reason:
            note({"shared_prefix": False})
            warnings.warn(f"shared_prefix is off: {reason}; rows are scored one by one", stacklevel=2)

    def __call__(self, model: nn.Module) -> Callable[..., Any]:
        """The model as a trainer may call it."""

        def scored(fused_lm_head: bool = False, **batch: Any) -> Any:
            packed = _packed(model, **batch) if self.is_on and fused_lm_head else None
            if packed and not self.is_checked:
                self._check(model, packed, batch)
            is_shared = packed and self.is_on
            return _scored(model, *packed) if is_shared else model(**batch, fused_lm_head=fused_lm_head)

        return scored

    @torch.no_grad()
    def _check(self, model: nn.Module, packed: tuple[Any, ...], batch: dict[str, Any]) -> None:
        was_training, weights = model.training, _core(model).get_input_embeddings().weight
        model.eval()
        stock = model(**batch, fused_lm_head=True)
        differences = (stock.log_probs - _scored(model, *packed).log_probs).abs()
        model.train(was_training)
        off_by = float(differences.sum() / stock.label_mask.sum())
        is_16_bits = weights.dtype != torch.float32 or torch.is_autocast_enabled(weights.device.type)
        self.is_checked, self.is_on = True, off_by <= TOLERANCE["16 bits" if is_16_bits else "32 bits"]
        self.note({"shared_prefix": self.is_on, "shared_prefix_off_by": float(f"{off_by:.1e}")})
        if not self.is_on:
            problem = f"its log-probabilities differ by {off_by:.2g} nats per token from those of single rows"
            warnings.warn(f"shared_prefix is off: {problem}", stacklevel=2)


def plan(rows: Sequence[Sequence[int]]) -> list[tuple[int, list[int]]]:
    """Groups of rows with the length of what they begin with; a token below 0 is of an image.

    A row joins those before it (by tokens) if that saves tokens and leaves no image in a branch.

    Example:
        >>> plan([[-1, 2, 3], [-2, 2, 3], [-1, 2, 4]])
        [(3, [1]), (2, [0, 2])]
    """
    groups: list[tuple[int, list[int]]] = []
    for k in sorted(range(len(rows)), key=rows.__getitem__):
        if groups:
            length, members = groups[-1]
            first, row = rows[members[0]], rows[k]
            common = next((n for n in range(length) if row[n : n + 1] != first[n : n + 1]), length)
            has_images = min((*first[common:], *row[common:]), default=0) < 0
            if len(members) * common > (len(members) - 1) * length and not has_images:
                groups[-1] = (common, [*members, k])
                continue
        groups.append((len(rows[k]), [k]))
    return groups


def _packed(
    model: nn.Module, *, input_ids: Tensor, attention_mask: Tensor, labels: Tensor,
    pixel_values: Tensor | None = None, image_grid_thw: Tensor | None = None,
    mm_token_type_ids: Tensor | None = None, **others: Any,
) -> tuple[Layout, Tensor, dict[str, Any]] | None:  # fmt: skip
    """Layout, what is scored (B, T - 1) and the model's arguments of a batch; `None` = nothing is shared."""
    core, scored, device = _core(model), labels[:, 1:] != -100, input_ids.device
    images, owner, marked = (), torch.full_like(input_ids, -1), input_ids
    if pixel_values is not None:
        n_patches, merge = image_grid_thw.prod(-1), core.config.vision_config.spatial_merge_size
        images = pixel_values.split(n_patches.tolist())
        first = [next(j for j, other in enumerate(images) if torch.equal(image, other)) for image in images]
        numbers = torch.arange(len(images), device=device).repeat_interleave(n_patches // merge**2)
        owner[input_ids == core.config.image_token_id] = numbers
        marked = torch.where(owner < 0, input_ids, -1 - torch.tensor(first, device=device)[owner])
    is_token = attention_mask.bool().cpu()
    groups = plan([ids[own].tolist() for ids, own in zip(marked.cpu(), is_token, strict=True)])
    layout = _laid_out(groups, is_token, device)
    if len(layout.sources) == is_token.sum() or not scored.any():
        return None
    batch = {"input_ids": input_ids, "attention_mask": attention_mask, "image_grid_thw": image_grid_thw}
    positions, _ = core.get_rope_index(mm_token_type_ids=(owner >= 0).int(), **batch)
    if images:
        kept = owner.flatten()[layout.sources]
        kept = kept[kept >= 0].unique_consecutive()
        others |= {
            "pixel_values": torch.cat([images[k] for k in kept]),
            "image_grid_thw": image_grid_thw[kept],
        }
    others |= {
        "input_ids": input_ids.flatten()[layout.sources][None],
        "shift_labels": labels[:, 1:][scored][None],
        "position_ids": positions.flatten(1)[:, None, layout.sources],
        "attention_mask": attention_mask.new_ones(1, 1, 1, 1),  # unused; with four axes, so that none is made
        "prefix": layout, "fused_lm_head": True,
    }  # fmt: skip
    return layout, scored, others


def _laid_out(groups: list[tuple[int, list[int]]], is_token: Tensor, device: torch.device) -> Layout:
    places = [row.nonzero().flatten() + k * len(row) for k, row in enumerate(is_token)]
    where, sources, heads, branches = torch.zeros(is_token.numel(), dtype=torch.long), [], [], []
    for length, members in groups:
        parts = [places[members[0]][:length], *(places[k][length:] for k in members)]
        start, sizes = sum(map(len, sources)), [*map(len, parts)]
        head, *rests = torch.arange(start, start + sum(sizes)).split(sizes)
        sources += parts
        heads.append((head, head))
        for k, rest in zip(members, rests, strict=True):
            where[places[k]] = torch.cat([head, rest])
            branches += [(rest, where[places[k]])] if len(rest) else []
    pieces, asked = [], []
    for rows in filter(None, (heads, branches)):
        queries, keys = (pad_sequence(x, True, padding_value=-1) for x in zip(*rows, strict=True))
        ends = torch.tensor([len(k) - len(q) for q, k in rows])[:, None] + torch.arange(queries.shape[1])
        seen = torch.arange(keys.shape[1]) <= ends[:, None, :, None]
        pieces.append(tuple(x.to(device) for x in (queries.clamp(min=0), keys.clamp(min=0), seen)))
        asked.append(queries.flatten())
    back = (flat := torch.cat(asked)).argsort()[(flat < 0).sum() :]
    return Layout(torch.cat(sources).to(device), where.view_as(is_token).to(device), pieces, back.to(device))


def _scored(model: nn.Module, layout: Layout, scored: Tensor, inputs: dict[str, Any]) -> FusedCausalLMOutput:
    def pick(_: nn.Module, __: Any, output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state[:, layout.where[:, :-1][scored]]
        return output

    hook = _core(model).register_forward_hook(pick)
    try:
        output = model(**inputs)
    finally:
        hook.remove()
    for name in ("log_probs", "entropy", "is_top1"):
        if (values := output.get(name)) is not None:
            output[name] = values.new_zeros(scored.shape).masked_scatter(scored, values)
    output["label_mask"] = scored
    return output


def _attend(
    own: Any, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None,
    prefix: Layout | None = None, **how: Any,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """The attention function of an enabled model: of a packed row by pieces, else its own."""
    if prefix is None:
        return own(module, query, key, value, mask, **how)
    outputs = []
    for queries, keys, seen in prefix.pieces:
        indices = ((query, queries), (key, keys), (value, keys))
        picked = (x[0].index_select(1, k.flatten()).unflatten(1, k.shape).transpose(0, 1) for x, k in indices)
        if own is not sdpa_attention_forward:  # eager adds the mask
            seen = torch.zeros_like(seen, dtype=query.dtype).masked_fill(~seen, torch.finfo(query.dtype).min)
        outputs.append(own(module, *picked, seen, **how)[0].flatten(0, 1))
    return torch.cat(outputs).index_select(0, prefix.back)[None], None


def _core(model: nn.Module) -> nn.Module:
    """The model below its wrappers and output layer: the one that gives tokens their positions."""
    return next(m for m in model.modules() if hasattr(type(m), "get_rope_index"))
