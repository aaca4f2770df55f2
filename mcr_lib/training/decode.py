"""Answers decoded token by token: a prompt is read once for all its answers, and an answer that ends leaves.

transformers prepares prompts, cache, scores and stops as for its own loop; only the loop is ours.
"""

from functools import partial
from typing import Any

import torch
from transformers import DynamicCache, GenerationConfig, LogitsProcessor, LogitsProcessorList, PreTrainedModel
from transformers import StoppingCriteriaList as Stops
from transformers.cache_utils import DynamicLayer


@torch.no_grad()
def generate(model: PreTrainedModel, **given: Any) -> torch.LongTensor:
    """As `model.generate`: prompts with their answers, shape (rows, prompt + longest answer).

    Rows of one prompt that stand side by side share its reading (of dropout also the draws in it). The answers
    are those of transformers' loop, draw by draw, except for rounding. A model that keeps more than keys and
    values of every token, such as a recurrent state, runs transformers' loop.
    """
    stock = partial(type(model).generate, model)  # an instance may have this function in its place
    if any(type(layer) is not DynamicLayer for layer in DynamicCache(config=model.config).layers):
        return stock(**given)
    is_first, given = _distinct(model, given)
    return stock(**given, custom_generate=partial(_answers, prompt_of=is_first.cumsum(0) - 1))


def _distinct(model: PreTrainedModel, given: dict[str, Any]) -> tuple[torch.BoolTensor, dict[str, Any]]:
    """Whether a row's prompt differs from that of the row before, shape (rows,); and the inputs of those."""
    by_row = {name: given[name] for name in ("input_ids", "attention_mask", "mm_token_type_ids") if name in given}
    ids = given["input_ids"]
    is_first = ids.new_ones(len(ids), dtype=torch.bool)
    is_first[1:] = torch.stack([(each[1:] != each[:-1]).any(-1) for each in by_row.values()]).any(0)
    images = {}
    if (pixels := given.get("pixel_values")) is not None:
        sizes = given["image_grid_thw"]
        n_patches = (ids == model.config.image_token_id).sum(-1) * model.config.vision_config.spatial_merge_size**2
        row_of = torch.searchsorted(n_patches.cumsum(0), sizes.prod(-1).cumsum(0))  # of each image
        parts = [sizes.split(row_of.bincount(minlength=len(ids)).tolist()), pixels.split(n_patches.tolist())]
        for k in (~is_first).nonzero().flatten().tolist():
            is_first[k] = not all(torch.equal(part[k], part[k - 1]) for part in parts)
        images = {"image_grid_thw": sizes[is_first[row_of]]}
        images["pixel_values"] = pixels[is_first.repeat_interleave(n_patches)]
    return is_first, given | {name: each[is_first] for name, each in by_row.items()} | images


def _answers(
    model: PreTrainedModel, input_ids: torch.LongTensor, logits_processor: LogitsProcessorList,
    stopping_criteria: Stops, generation_config: GenerationConfig, *, prompt_of: torch.LongTensor, **given: Any,
) -> torch.LongTensor:  # fmt: skip
    """The loop; `prompt_of`: the place of each answer's prompt among `input_ids`, shape (answers,)."""
    n_rows, n_prompt = len(prompt_of), input_ids.shape[1]
    n_new = stopping_criteria.max_length - n_prompt
    inputs = model.prepare_inputs_for_generation(input_ids, is_first_iteration=True, **given)
    logits, cache = model(**inputs).logits[prompt_of, -1], given["past_key_values"]
    if len(input_ids) < n_rows:
        cache.batch_select_indices(prompt_of)
    ids, position, mask = input_ids[prompt_of], given["position_ids"][:, prompt_of, -1:], given["attention_mask"]
    mask = None if mask is None else torch.cat([mask[prompt_of], mask.new_ones(n_rows, n_new)], -1)
    rows = torch.arange(n_rows, device=ids.device)
    answers = ids.new_full((n_rows, n_new), generation_config._pad_token_tensor)
    of_padding = {each: each.prompt_ignore_length for each in logits_processor if _minds_padding(each)}
    for step in range(n_new):
        for each, lengths in of_padding.items():
            each.prompt_ignore_length = lengths[prompt_of[rows]]
        scores = logits_processor(ids, logits.to(torch.float32, copy=True))
        tokens = _drawn(scores, rows, n_rows) if generation_config.do_sample else scores.argmax(-1)
        answers[rows, step] = tokens
        ids = torch.cat([ids, tokens[:, None]], -1)
        goes_on = ~stopping_criteria(ids, None)
        if not goes_on.any():
            break
        if not goes_on.all():
            on = goes_on.nonzero().flatten()
            cache.batch_select_indices(on)
            ids, rows, position = ids[on], rows[on], position[:, on]
            mask = None if mask is None else mask[on]
        position = position + 1
        seen = None if mask is None else mask[:, : n_prompt + step + 1]
        how = {"attention_mask": seen, "position_ids": position, "past_key_values": cache, "use_cache": True}
        logits = model(input_ids=ids[:, -1:], **how).logits[:, -1]
    return torch.cat([input_ids[prompt_of], answers[:, : step + 1]], -1)


def _minds_padding(processor: LogitsProcessor) -> bool:
    """Whether it knows the padding of each row: the penalty on repetition does in transformers 5.2x."""
    return isinstance(getattr(processor, "prompt_ignore_length", None), torch.Tensor)


def _drawn(scores: torch.Tensor, rows: torch.Tensor, n_rows: int) -> torch.Tensor:
    """A token per row; drawn for rows that have left, too, so that nobody's draws depend on the others."""
    whole = scores.new_zeros(n_rows, scores.shape[-1])
    whole[:, 0] = 1
    whole[rows] = scores.softmax(-1)
    return torch.multinomial(whole, 1)[rows, 0]
