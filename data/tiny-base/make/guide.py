"""Guided attention: a few heads are trained where to attend while the model learns to look things up (ours).

With the language-model loss alone, finding the emblem of a name stays on a plateau. Here some heads of some
layers get a loss of their own: minus the log of the attention that a query pays to its targets. It guides
training only; the finished model has no extra parts.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from transformers import Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb

from batches import Batch

_NEVER = -1e9


class Guide:
    """Computes the attention losses of the first heads of some layers during a forward pass.

    Args:
        model: the tiny backbone.
        layers: indices of the layers.
        n_box_heads: heads for boxes; the next one is for words.
    """

    def __init__(
        self, model: Qwen2_5_VLForConditionalGeneration, *, layers: Sequence[int], n_box_heads: int
    ) -> None:
        self._attentions = [model.model.language_model.layers[k].self_attn for k in layers]
        self.n_box_heads, self.n_heads = n_box_heads, n_box_heads + 1
        self._targets: tuple[torch.Tensor, ...] | None = None
        self._boxes: list[torch.Tensor] = []
        self._words: list[torch.Tensor] = []

    @contextmanager
    def watching(self, batch: Batch) -> Iterator[None]:
        """Observe the forward passes inside the block; `losses` then returns their losses."""
        self._boxes, self._words = [], []
        device = self._attentions[0].q_proj.weight.device
        self._targets = tuple(value.to(device) for value in (batch.queries, batch.targets, batch.is_word))
        hooks = [a.register_forward_pre_hook(self._watch, with_kwargs=True) for a in self._attentions]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            self._targets = None

    def losses(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the losses of box and word targets, means over layers, heads and targets; 0 if none."""
        losses = (self._boxes, self._words)
        return tuple(torch.stack(values).mean() if values else torch.zeros(()) for values in losses)

    def _watch(self, attention: torch.nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        if self._targets is None or not len(self._targets[0]):
            return
        queries_at, targets, is_word = self._targets
        row, place = queries_at.unbind(1)
        hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        width = self.n_heads * attention.head_dim

        def heads(projection: torch.nn.Linear) -> torch.Tensor:
            projected = F.linear(hidden, projection.weight[:width], projection.bias[:width])
            return projected.view(*hidden.shape[:2], self.n_heads, attention.head_dim).transpose(1, 2)

        queries, keys = heads(attention.q_proj), heads(attention.k_proj)
        queries, keys = apply_rotary_pos_emb(queries, keys, *kwargs["position_embeddings"])
        with torch.autocast(hidden.device.type, enabled=False):
            products = torch.einsum("nhd,nhld->nhl", queries[row, :, place].float(), keys[row].float())
            scores = products * attention.scaling
        is_later = torch.arange(scores.shape[-1], device=scores.device) > place[:, None]
        logs = scores.masked_fill(is_later[:, None], _NEVER).log_softmax(-1)
        missed = -logs.masked_fill(~targets[:, None], _NEVER).logsumexp(-1)
        if (~is_word).any():
            self._boxes.append(missed[~is_word, : self.n_box_heads].mean())
        if is_word.any():
            self._words.append(missed[is_word, self.n_box_heads :].mean())
