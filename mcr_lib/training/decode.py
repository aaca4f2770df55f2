"""Answers decoded token by token: a prompt is read once for all its answers, and an answer that ends leaves.

transformers prepares prompts, cache, scores and stops as for its own loop; only the loop is ours.
"""

from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from transformers import DynamicCache, GenerationConfig, LogitsProcessorList, PreTrainedModel
from transformers import StoppingCriteriaList as Stops
from transformers.cache_utils import DynamicLayer

from mcr_lib.training import launch


def can_share(model: PreTrainedModel) -> bool:
    """Whether keys and values of every token are all that the model keeps: no recurrent state, no window.

    And whether its weights are whole: processes that share them must all take as many steps as the longest.
    """
    layers = DynamicCache(config=model.config).layers
    return not launch.is_sharded() and all(type(layer) is DynamicLayer for layer in layers)


def distinct(prompts: Sequence[Any]) -> tuple[list[int], list[int]]:
    """Indices of the prompts that differ from the one before, and for each prompt its place among these.

    Example:
        >>> distinct(["a", "a", "b", "b", "b"])
        ([0, 2], [0, 0, 1, 1, 1])
    """
    is_first = [k == 0 or prompts[k] != prompts[k - 1] for k in range(len(prompts))]
    return [k for k, first in enumerate(is_first) if first], [n - 1 for n in accumulate(is_first)]


def generate(model: PreTrainedModel, place: Sequence[int], **given: Any) -> torch.LongTensor:
    """As `model.generate`: prompts with their answers, shape (answers, prompt + longest answer).

    `given` is of distinct prompts; ids and masks may also have a row per answer. `place`: of each answer's
    prompt among these. The answers are those of transformers' loop, draw by draw, except for rounding; where
    the model has dropout, answers of a prompt share the draws in reading it. Needs a model that `can_share`.
    """
    firsts = [k for k, where in enumerate(place) if k == 0 or where != place[k - 1]]
    for name in ("input_ids", "attention_mask"):
        given[name] = given[name] if len(given[name]) == len(firsts) else given[name][firsts]
    loop = partial(_answers, place=torch.tensor(place, device=given["input_ids"].device))
    stock = partial(type(model).generate, model)  # since an instance may have ours in its place
    return stock(**given, custom_generate=loop)


def _answers(
    model: PreTrainedModel, input_ids: torch.LongTensor, logits_processor: LogitsProcessorList,
    stopping_criteria: Stops, generation_config: GenerationConfig, *, place: torch.LongTensor, **given: Any,
) -> torch.LongTensor:  # fmt: skip
    n_rows, n_prompt = len(place), input_ids.shape[1]
    n_new = stopping_criteria.max_length - n_prompt
    inputs = model.prepare_inputs_for_generation(input_ids, is_first_iteration=True, **given)
    logits, cache = model(**inputs).logits[place, -1], given["past_key_values"]
    if len(input_ids) < n_rows:
        cache.batch_select_indices(place)
    ids, position, mask = input_ids[place], given["position_ids"][:, place, -1:], given["attention_mask"]
    mask = None if mask is None else torch.cat([mask[place], mask.new_ones(n_rows, n_new)], -1)
    rows = torch.arange(n_rows, device=ids.device)  # that have not ended
    answers = ids.new_full((n_rows, n_new), generation_config._pad_token_tensor)
    of_padding = ((each, getattr(each, "prompt_ignore_length", None)) for each in logits_processor)
    by_row = [(each, lengths) for each, lengths in of_padding if torch.is_tensor(lengths)]
    for step in range(n_new):
        for each, lengths in by_row:  # the penalty on repetition passes over padding
            each.prompt_ignore_length = lengths[place[rows]]
        scores = logits_processor(ids, logits.to(torch.float32, copy=True))
        tokens = _drawn(scores, rows, n_rows) if generation_config.do_sample else scores.argmax(-1)
        answers[rows, step] = tokens
        ids = torch.cat([ids, tokens[:, None]], -1)
        on = (~stopping_criteria(ids, None)).nonzero().flatten()
        if not len(on):
            break
        if len(on) < len(rows):
            cache.batch_select_indices(on)
            ids, rows, position = ids[on], rows[on], position[:, on]
            mask = None if mask is None else mask[on]
        position = position + 1
        seen = None if mask is None else mask[:, : n_prompt + step + 1]
        how = {"attention_mask": seen, "position_ids": position, "past_key_values": cache, "use_cache": True}
        logits = model(input_ids=ids[:, -1:], **how).logits[:, -1]
    return torch.cat([input_ids[place], answers[:, : step + 1]], -1)


def _drawn(scores: torch.Tensor, rows: torch.Tensor, n_rows: int) -> torch.Tensor:
    """A token per row; drawn for rows that have left, too, so that nobody's draws depend on the others."""
    whole = scores.new_zeros(n_rows, scores.shape[-1])
    whole[:, 0] = 1
    whole[rows] = scores.softmax(-1)
    return torch.multinomial(whole, 1)[rows, 0]
