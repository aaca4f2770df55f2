"""The vision tower in fewer steps than transformers takes; the values are the same up to rounding.

Without a kernel of FlashAttention, transformers attends to one window of 8 x 8 patches after the other: about
70 calls per image and layer at 1,000 image tokens. Where adapters are trained with gradient checkpointing, it
computes the tower twice, and its gradients, which nobody needs. Paper silent (it trains with ms-swift); ours.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

_NAME = "windows_flash_attention"  # transformers hands over all windows at once if "flash" is in the name


def attend_at_once(model: nn.Module) -> None:
    """Lets a vision tower whose attention is sdpa attend to all windows and images of a batch in one call."""
    config = model.model.visual.config
    if config._attn_implementation == "sdpa":
        AttentionInterface.register(_NAME, _attend)
        config._attn_implementation = _NAME


def without_gradient(model: nn.Module) -> None:
    """Computes the vision tower of a model without gradient if none of its weights is trained."""
    tower = next(m for name, m in model.named_modules() if name.rpartition(".")[2] == "visual")
    if not any(parameter.requires_grad for parameter in tower.parameters()):
        tower.forward = torch.no_grad()(tower.forward)


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: None, *, scaling: float,
    cu_seq_lens_q: Tensor, max_length_q: int, dropout: float = 0.0, **_: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """Of (1, heads, patches, values) to (1, patches, heads, values): windows side by side, with padding."""
    starts, lengths = cu_seq_lens_q[:-1], cu_seq_lens_q.diff()
    steps = torch.arange(max_length_q, device=query.device)
    is_patch = steps < lengths[:, None]  # (windows, longest)
    where = (starts[:, None] + steps).clamp(max=query.shape[2] - 1)
    padded = (x[0].transpose(0, 1)[where].transpose(1, 2) for x in (query, key, value))
    mask = None if len(starts) * max_length_q == query.shape[2] else is_patch[:, None, None]
    how = {"attn_mask": mask, "dropout_p": dropout, "scale": scaling}
    attended = nn.functional.scaled_dot_product_attention(*padded, **how)
    return attended.transpose(1, 2)[is_patch][None], None
