"""Answers sampled from a cut distribution and scored by the whole one: how far the two are apart.

CVO samples a token from q, which is p = softmax(logits / T) cut to `top_k` tokens, then to `top_p` of their
mass, and renormalised. TRL scores it by p. If the cut keeps the mass m of p, then q = p / m on what is kept:

    log q - log p = log(1 / m)    nats, per token; of an answer the sum over its tokens

(paper silent: it samples with a cut by vLLM and does not say what it scores with; the measure is ours)
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import LogitsProcessor

from mcr_lib.training.backbones import Backbone
from mcr_lib.training.options import CvoOptions
from mcr_lib.training.preflight import Rows, sample_answers

MATTERS = 0.01  # nats: a token's probability is off by 1 %


def kept_mass(logits: torch.Tensor, *, temperature: float, top_k: int, top_p: float) -> torch.Tensor:
    """m: the share of softmax(logits / T) that the cut keeps, in (0, 1]; `top_k` 0 and `top_p` 1 = no cut.

    Shape: (..., vocabulary) to (...). As in transformers, top-p is a share of what top-k leaves.

    Example:
        >>> logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
        >>> round(float(kept_mass(logits, temperature=1, top_k=3, top_p=1.0)), 2)
        0.95
    """
    likeliest = (logits / temperature).softmax(-1).sort(-1, descending=True).values
    if top_k:
        likeliest = likeliest[..., :top_k]
    before = likeliest.cumsum(-1) - likeliest  # mass of likelier tokens
    is_kept = before < top_p * likeliest.sum(-1, keepdim=True)
    return (likeliest * is_kept).sum(-1).clamp(max=1)


class CutMeter(LogitsProcessor):
    """Notes the mass that the cut keeps at each token of answers in the making; changes no score."""

    def __init__(self, ends: Sequence[int], **cut: Any) -> None:
        self.ends, self.cut = torch.tensor(ends), cut
        self.n_prompt: int | None = None
        self.masses: list[torch.Tensor] = []  # per step, of the answers that have not ended before

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Notes the masses of one step and returns the scores as they are."""
        if self.n_prompt is None:
            self.n_prompt = input_ids.shape[1]
        has_ended = torch.isin(input_ids[:, self.n_prompt :], self.ends.to(input_ids.device)).any(-1)
        mass = kept_mass(scores.float(), **self.cut)
        self.masses.append(mass[~has_ended].cpu())
        return scores


def cut_facts(masses: Sequence[torch.Tensor]) -> dict[str, float]:
    """How far q and p are apart over the answers of a `CutMeter`; in nats, masses and shares in [0, 1]."""
    every = torch.cat(list(masses))
    nats = -every.log()
    n_tokens, n_answers = len(every), len(masses[0])
    share, total = float((nats > MATTERS).float().mean()), float(nats.sum())
    facts = {"answers": n_answers, "tokens": n_tokens, "mass": float(every.mean()), "cut": share}
    return {**facts, "nats_per_token": total / n_tokens, "nats_per_answer": total / n_answers}


def measure_cut(backbone: Backbone, rows: Rows, options: CvoOptions, *, seed: int = 0) -> Mapping[str, float]:
    """`cut_facts` of `num_generations` answers to each row, sampled as in training."""
    ends = backbone.model.generation_config.eos_token_id
    cut = {name: getattr(options, name) for name in ("temperature", "top_k", "top_p")}
    meter = CutMeter(ends if isinstance(ends, list) else [ends], **cut)
    torch.manual_seed(seed)
    sample_answers(backbone, rows, options, processors=[meter])
    return cut_facts(meter.masses)
