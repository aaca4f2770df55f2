"""Rows that begin alike, scored in one pass that computes their common beginning once, exactly.

In CVO the G answers of a prompt share image and prompt; in MRSI the styles of a tweet share its image and
the beginning of their prompts. The rows of a batch become one packed row of S tokens: of each group of rows
the common beginning (its head), then what is left of each row (its branches).

    batch (B, T)                packed row (1, S)
    P P P P a a                              group 1               group 2
    P P P P b b b               tokens       P P P P a a b b b c   Q Q d d e
    P P P P c            ->     positions    0 1 2 3 4 5 4 5 6 4   0 1 2 3 2
    Q Q d d                     part         head    a   b     c   head d   e
    Q Q e

A token keeps the position of its own row (M-RoPE: three), so positions go on from the head in each branch.
All layers but attention treat tokens singly. Attention is computed by the model's own function in two calls,
with queries and keys picked from the packed row and padded, and causal masks:

    heads       queries (groups, longest head)        keys (groups, longest head)
    branches    queries (branches, longest branch)    keys (branches, T): the head and the branch itself

So tokens, attention scores and images are never more than those of the batch, and need no limit beside its
own. An image passes the vision tower once per group. The output layer sees only tokens with a label next.
The paper is silent here. Dropout draws once for a token that rows share, not once per row.
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
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from trl.trainer.utils import FusedCausalLMOutput

from mcr_lib.errors import UserError

TOLERANCE = {"32 bits": 1e-4, "16 bits": 0.1}  # nats per token between this path and stock; ours
_NAME = "shared_prefix"


@dataclass(frozen=True)
class Layout:
    """Where the tokens of a batch lie in its packed row of S tokens."""

    sources: Tensor  # (S,) indices into the flattened batch
    where: Tensor  # (B, T) indices into the packed row; 0 for padding
    pieces: list[tuple[Tensor, Tensor, Tensor]]  # queries (m, r), keys (m, t), mask (m, 1, r, t): True = seen
    back: Tensor  # (S,) indices into the queries of both pieces, flattened


def enable(model: nn.Module) -> None:
    """Prepares the attention of a model for `score`; other passes are as before.

    Raises:
        UserError: some layer has no full attention, but a state or a window.
    """
    text = _core(model).language_model
    kinds = {*(getattr(text.config, "layer_types", None) or ())} - {"full_attention"}
    if kinds:
        others = f"a model of type {text.config.model_type} has layers of {', '.join(sorted(kinds))}"
        raise UserError(f"shared_prefix needs full attention in every layer, and {others}; set it to false")
    implementation = text.config._attn_implementation
    if not implementation.startswith(_NAME):
        eager = sys.modules[type(text.layers[0].self_attn).__module__].eager_attention_forward
        own = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager)
        name = f"{_NAME}_{implementation}_{text.config.model_type}"
        AttentionInterface.register(name, partial(_attend, own))
        AttentionMaskInterface.register(name, ALL_MASK_ATTENTION_FUNCTIONS[implementation])
        text.config._attn_implementation = name


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
    """`score` in the place of a trainer's model, checked when rows first share.

    The check compares log-probabilities with the model's own, without dropout. If their mean difference per
    token exceeds `TOLERANCE`, rows are scored singly from then on, with a warning. `note` gets the outcome.
    """

    def __init__(self, note: Callable[[dict[str, Any]], None], *models: nn.Module) -> None:
        self.note, self.is_on, self.is_checked = note, True, False
        for model in models:
            enable(model)

    def __call__(self, model: nn.Module) -> Callable[..., FusedCausalLMOutput]:
        """The model as a trainer may call it."""
        return partial(self._score, model)

    def _score(self, model: nn.Module, fused_lm_head: bool = True, **batch: Any) -> FusedCausalLMOutput:
        packed = _packed(model, **batch) if self.is_on else None
        if packed and not self.is_checked:
            self._check(model, packed, batch)
        return _scored(model, *packed) if packed and self.is_on else model(**batch, fused_lm_head=True)

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
    """Groups of rows with the length of their common beginning; a token below 0 is of an image.

    A row joins the rows before it, in the order of their tokens, if that saves tokens and leaves no image in
    a branch.

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
    core, scored, marked = _core(model), labels[:, 1:] != -100, input_ids.clone()
    is_image, owner = torch.zeros_like(input_ids, dtype=torch.bool), torch.full_like(input_ids, -1)
    images: Sequence[Tensor] = ()
    if pixel_values is not None:
        n_patches, merge = image_grid_thw.prod(-1), core.config.vision_config.spatial_merge_size
        images, is_image = pixel_values.split(n_patches.tolist()), input_ids == core.config.image_token_id
        first = [next(j for j, other in enumerate(images) if torch.equal(image, other)) for image in images]
        owner[is_image] = torch.arange(len(images), device=owner.device).repeat_interleave(
            n_patches // merge**2
        )
        marked[is_image] = -1 - torch.tensor(first, device=owner.device)[owner[is_image]]
    is_token = attention_mask.bool().cpu()
    groups = plan([ids[own].tolist() for ids, own in zip(marked.cpu(), is_token, strict=True)])
    layout = _laid_out(groups, is_token, input_ids.device)
    if len(layout.sources) == is_token.sum() or not scored.any():
        return None
    kept = owner.flatten()[layout.sources]
    kept = kept[kept >= 0].unique_consecutive()
    if images:
        others["pixel_values"] = torch.cat([images[k] for k in kept])
    batch = {"input_ids": input_ids, "attention_mask": attention_mask, "image_grid_thw": image_grid_thw}
    positions, _ = core.get_rope_index(mm_token_type_ids=is_image.int(), **batch)
    arguments = {
        "input_ids": input_ids.flatten()[layout.sources][None],
        "shift_labels": labels[:, 1:][scored][None],
        "position_ids": positions.flatten(1)[:, None, layout.sources],
        "image_grid_thw": image_grid_thw[kept] if images else None,
        "attention_mask": attention_mask.new_ones(1, 1, 1, 1),  # unused; with four axes, so that none is made
        "prefix": layout, "fused_lm_head": True,
    }  # fmt: skip
    return layout, scored, others | arguments


def _laid_out(groups: list[tuple[int, list[int]]], is_token: Tensor, device: torch.device) -> Layout:
    sources, where = [], torch.zeros(is_token.shape, dtype=torch.long)
    heads, branches = [], []

    def add(row: int, begin: int, end: int | None) -> Tensor:
        places = is_token[row].nonzero().flatten()[begin:end] + row * is_token.shape[1]
        sources.append(places)
        where.view(-1)[places] = sum(map(len, sources[:-1])) + torch.arange(len(places))
        return where.view(-1)[places]

    for length, members in groups:
        head = add(members[0], 0, length)
        heads.append((head, head))
        for k in members:
            own = add(k, length, None)
            where[k, is_token[k].nonzero().flatten()[:length]] = head
            branches += [(own, torch.cat([head, own]))] if len(own) else []
    pieces, flat = [], torch.zeros(0, dtype=torch.long)
    for rows in filter(None, (heads, branches)):
        queries, keys = (pad_sequence(x, True, padding_value=-1) for x in zip(*rows, strict=True))
        ends = torch.tensor([len(k) - len(q) for q, k in rows])[:, None] + torch.arange(queries.shape[1])
        seen = torch.arange(keys.shape[1]) <= ends[:, None, :, None]
        flat = torch.cat([flat, queries.flatten()])
        pieces.append(tuple(x.to(device) for x in (queries.clamp(min=0), keys.clamp(min=0), seen)))
    back = flat.argsort()[(flat < 0).sum() :]
    return Layout(torch.cat(sources).to(device), where.to(device), pieces, back.to(device))


def _scored(
    model: nn.Module, layout: Layout, scored: Tensor, arguments: dict[str, Any]
) -> FusedCausalLMOutput:
    def pick(_: nn.Module, __: Any, output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state[:, layout.where[:, :-1][scored]]
        return output

    hook = _core(model).register_forward_hook(pick)
    try:
        output = model(**arguments)
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
        bias = torch.zeros_like(seen, dtype=query.dtype).masked_fill(~seen, torch.finfo(query.dtype).min)
        outputs.append(own(module, *picked, bias, **how)[0].flatten(0, 1))
    return torch.cat(outputs).index_select(0, prefix.back)[None], None


def _core(model: nn.Module) -> nn.Module:
    """The model below all wrappers and its output layer: the one that gives tokens their positions."""
    return next(m for m in model.modules() if hasattr(type(m), "get_rope_index"))
