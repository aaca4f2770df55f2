"""Rows that begin alike, scored in one pass that computes their common beginning once, exactly.

In CVO the G answers of a prompt share image and prompt; in MRSI the styles of a tweet share its image and
the beginning of their prompts. The rows of a batch become one packed row of S tokens: of each group of rows
its common beginning (the head), then what is left of each row (the branches).

    batch (B, T)                packed row (1, S)
    P P P P a a                              group 1               group 2
    P P P P b b b               tokens       P P P P a a b b b c   Q Q d d e
    P P P P c            ->     positions    0 1 2 3 4 5 4 5 6 4   0 1 2 3 2
    Q Q d d                     part         head    a   b     c   head d  e
    Q Q e

A token keeps the position that it has in its own row (M-RoPE: three of them), so positions go on from the
head in each branch. All layers but attention treat tokens singly. Attention is computed in two calls of the
model's own function, with queries and keys picked from the packed row and padded: heads on themselves, and
branches on their head and themselves (the masks are causal):

    queries (n groups, longest head)        keys (n groups, longest head)
    queries (m branches, longest branch)    keys (m branches, T)

So there are never more tokens, attention scores or images than in the batch, and no limit is needed beside
that of the batch itself. Each image passes the vision tower once per group. The output layer sees only the
tokens whose successor has a label: a token of the head once for each of its successors. Source: paper silent
(it trains with ms-swift); ours. Dropout, if there is any, draws once for a shared token instead of once per
row.
"""

import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from trl.trainer.utils import FusedCausalLMOutput

from mcr_lib.errors import UserError

_NAME = "shared_prefix"
TOLERANCE = {"32 bits": 1e-4, "16 bits": 0.05}  # nats per token, between this path and stock; ours, a guess


@dataclass(frozen=True)
class Layout:
    """Where the tokens of a batch lie in its packed row of S tokens; all are indices."""

    sources: Tensor  # (S,) into the flattened batch
    where: Tensor  # (B, T) into the packed row; 0 for padding
    images: list[int]  # those of the batch that the packed row keeps, in order
    pieces: list[tuple[Tensor, Tensor, Tensor]]  # queries (m, r) and keys (m, t) into the row, True = seen
    back: Tensor  # (S,) into the flattened queries of the pieces, one after the other


def enable(model: nn.Module) -> None:
    """Prepares the attention of a model for `score`; other passes are as before.

    Raises:
        UserError: a model whose layers carry a state along the row, or see only a window of it.
    """
    text = _core(model).language_model
    kinds = {*(getattr(text.config, "layer_types", None) or ())} - {"full_attention"}
    if kinds or not hasattr(text.layers[0], "self_attn"):
        problem = (
            f"a model of type {text.config.model_type} has layers of {', '.join(sorted(kinds)) or 'no'} "
        )
        raise UserError(f"shared_prefix needs full attention in every layer, and {problem}; set it to false")
    implementation = text.config._attn_implementation
    if implementation.startswith(_NAME):
        return
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
            the token at each position, -100 = not scored; pixel_values (patches, values of a patch) of all
            images in the order of the rows, and image_grid_thw (images, 3), or neither; and what else the
            model takes.

    Returns:
        log_probs (nats), entropy and is_top1 of shape (B, T - 1), 0 where nothing is scored.
    """
    packed = _packed(model, **batch)
    return model(**batch, fused_lm_head=True) if packed is None else _scored(model, *packed)


class Shared:
    """`score` in the place of a trainer's model; compared with the model itself when rows first share.

    The comparison is without dropout and gradient. A mean difference per scored token above `TOLERANCE`
    (nats) turns sharing off, with a warning; `note` gets the outcome for `checks.json`.
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
        if packed is not None and not self.is_checked:
            self._check(model, packed, batch)
        if packed is None or not self.is_on:
            return model(**batch, fused_lm_head=True)
        return _scored(model, *packed)

    @torch.no_grad()
    def _check(self, model: nn.Module, packed: Any, batch: dict[str, Any]) -> None:
        was_training, device = model.training, batch["input_ids"].device.type
        model.eval()
        stock = model(**batch, fused_lm_head=True)
        difference = (stock.log_probs - _scored(model, *packed).log_probs).abs().sum()
        model.train(was_training)
        difference = float(difference / stock.label_mask.sum())
        weights = _core(model).get_input_embeddings().weight.dtype
        is_exact = weights == torch.float32 and not torch.is_autocast_enabled(device)
        self.is_checked, self.is_on = True, difference <= TOLERANCE["32 bits" if is_exact else "16 bits"]
        self.note({"shared_prefix": self.is_on, "shared_prefix_off_by": float(f"{difference:.1e}")})
        if not self.is_on:
            problem = f"differ by {difference:.2g} nats per token from those of rows one by one"
            warnings.warn(f"shared_prefix is off: its log-probabilities {problem}", stacklevel=2)


def _packed(
    model: nn.Module, *, input_ids: Tensor, attention_mask: Tensor, labels: Tensor,
    pixel_values: Tensor | None = None, image_grid_thw: Tensor | None = None,
    mm_token_type_ids: Tensor | None = None, **others: Any,
) -> tuple[Layout, Tensor, dict[str, Any]] | None:  # fmt: skip
    """Layout, what is scored (B, T - 1) and the model's arguments of a batch; `None` = nothing is shared."""
    core, scored = _core(model), labels[:, 1:] != -100
    is_image = input_ids == core.config.image_token_id
    images = () if pixel_values is None else pixel_values.split(image_grid_thw.prod(-1).tolist())
    layout = plan(input_ids, attention_mask, is_image, images, core.config.vision_config.spatial_merge_size)
    if len(layout.sources) == attention_mask.sum() or not scored.any():
        return None
    if images:
        batch = {"input_ids": input_ids, "attention_mask": attention_mask, "image_grid_thw": image_grid_thw}
        positions, _ = core.get_rope_index(mm_token_type_ids=is_image.int(), **batch)
        pixels = torch.cat([images[k] for k in layout.images])
        others |= {"pixel_values": pixels, "image_grid_thw": image_grid_thw[layout.images]}
    else:
        positions = (attention_mask.cumsum(-1) - 1).clamp(min=0).expand(3, -1, -1)
    arguments = {
        "input_ids": input_ids.flatten()[layout.sources][None],
        "shift_labels": labels[:, 1:][scored][None],
        "position_ids": positions.flatten(1)[:, None, layout.sources],
        "attention_mask": attention_mask.new_ones(1, 1, 1, 1),  # unused; with four axes, so that none is made
        "prefix": layout, "fused_lm_head": True,
    }  # fmt: skip
    return layout, scored, others | arguments


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


def plan(
    input_ids: Tensor, attention_mask: Tensor, is_image: Tensor, images: Sequence[Tensor], merge: int
) -> Layout:
    """The layout of a batch: rows of the same images share what saves most tokens, row after row in order.

    A head holds all images of its rows, so that a branch has none.
    """
    rows, distinct, number = [], [], []
    for image in images:
        same = (k for k, other in enumerate(distinct) if torch.equal(image, other))
        number.append(next(same, len(distinct)))
        distinct += [image] if number[-1] == len(distinct) else []
    n_images = 0
    ends = [*accumulate(len(image) // merge**2 for image in images)]
    n_tokens = 0
    for ids, is_token, shown in zip(input_ids, attention_mask.bool(), is_image, strict=True):
        places = is_token.nonzero().flatten()
        of_row = shown[places].nonzero().flatten()
        first, n_tokens = n_images, n_tokens + len(of_row)
        while n_images < len(ends) and ends[n_images] <= n_tokens:
            n_images += 1
        least = int(of_row[-1]) + 1 if len(of_row) else 0
        own = [*range(first, n_images)]
        rows.append(([number[k] for k in own], ids[places].tolist(), places.tolist(), own, least))
    groups: list[tuple[int, list[int]]] = []  # length of the head, rows
    for k in sorted(range(len(rows)), key=lambda k: rows[k][:2]):
        if groups:
            head, members = groups[-1]
            (numbers, ids, *_), (others, begin, *_, least) = rows[members[0]], rows[k]
            common = _n_common(ids[:head], begin)
            gain = len(members) * common - (len(members) - 1) * head
            if numbers == others and common >= least and gain > 0:
                groups[-1] = (common, [*members, k])
                continue
        groups.append((len(rows[k][1]), [k]))
    return _laid_out(input_ids, groups, [row[2] for row in rows], [row[3] for row in rows])


def _n_common(a: Sequence[int], b: Sequence[int]) -> int:
    pairs = enumerate(zip(a, b, strict=False))
    return next((k for k, (x, y) in pairs if x != y), min(len(a), len(b)))


def _laid_out(
    batch: Tensor, groups: list[tuple[int, list[int]]], places: list[list[int]], images: list[list[int]]
) -> Layout:
    sources, kept, heads, branches = [], [], [], []
    where = torch.zeros_like(batch).cpu()
    for length, members in groups:
        head = [*range(len(sources), len(sources) + length)]
        n_columns = batch.shape[1]
        sources += [members[0] * n_columns + t for t in places[members[0]][:length]]
        heads.append((head, head))
        kept += images[members[0]]
        for k in members:
            rest = places[k][length:]
            own = [*range(len(sources), len(sources) + len(rest))]
            sources += [k * n_columns + t for t in rest]
            where[k, places[k]] = torch.tensor(head + own)
            if own:
                branches.append((own, head + own))
    back, pieces, n = torch.zeros(len(sources), dtype=torch.long), [], 0
    for piece in filter(None, (heads, branches)):
        queries, keys = (pad_sequence([torch.tensor(x[k]) for x in piece], batch_first=True) for k in (0, 1))
        n_before = torch.tensor([len(k) - len(q) for q, k in piece])[:, None, None]
        seen = torch.arange(keys.shape[1]) <= n_before + torch.arange(queries.shape[1])[:, None]
        for row, (own, _) in enumerate(piece):
            back[own] = n + row * queries.shape[1] + torch.arange(len(own))
        n += queries.numel()
        pieces.append(tuple(x.to(batch.device) for x in (queries, keys, seen[:, None])))
    to = partial(torch.Tensor.to, device=batch.device)
    return Layout(to(torch.tensor(sources)), to(where), kept, pieces, to(back))


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
