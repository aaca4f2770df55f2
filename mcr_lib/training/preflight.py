"""Checks before hours are spent: each raises a `UserError` or returns entries of `checks.json`, in tokens."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import LogitsProcessor

from mcr_lib import rewards
from mcr_lib.answer import write_answer
from mcr_lib.boxes import box_format
from mcr_lib.data.images import image_size, open_image
from mcr_lib.errors import UserError
from mcr_lib.prompts import Kind
from mcr_lib.schema import Example
from mcr_lib.training.backbones import Backbone, Outline
from mcr_lib.training.generate import answer_batch
from mcr_lib.training.options import CvoOptions
from mcr_lib.yardsticks import perfect

Row = Mapping[str, Any]
Rows = Sequence[Row]
Model = Backbone | Outline


def check_rows(backbone: Model, rows: Rows, *, max_completion_length: int | None = None) -> dict[str, int]:
    """Image tokens equal image features, completions continue their prompts' ids, the longest row fits."""
    n_opened = min(8, len(rows))  # evenly spread; of the other rows only the sizes of images are read
    for k in range(n_opened):
        _check_image_tokens(backbone, rows[k * len(rows) // n_opened])
    prompts = [_prompt_length(backbone, row) for row in rows]
    fixed = [max_completion_length] * len(rows)  # of rows without a completion
    completions = fixed if max_completion_length else _completion_lengths(backbone, rows)
    lengths = [sum(pair) for pair in zip(prompts, completions, strict=True)]
    longest = lengths.index(max(lengths))
    if lengths[longest] > (limit := backbone.config.get_text_config().max_position_embeddings):
        sizes = f"{prompts[longest]} tokens of prompt and {completions[longest]} of completion"
        problem = f"row {rows[longest]['id']} has {sizes}, more than the {limit} of the model"
        raise UserError(f"{problem}; take fewer pixels or shorter answers")
    found = {"longest_prompt": max(prompts), "longest_completion": max(completions), "longest": max(lengths)}
    return {**found, "limit": limit, "images_opened": n_opened}


def check_gold(backbone: Backbone, rows: Rows, options: CvoOptions) -> dict[str, int]:
    """The gold answers of GRPO rows earn the maximum of every reward, and fit into an answer."""
    texts = []
    for row in rows:
        example, size = Example.from_row(json.loads(row["gold"])), row["model_size"]
        space = box_format(row["family"]).space
        gold = rewards.written_gold(example, space, model_size=size and tuple(size))
        how = {"constraints": gold.constraints, "form": row["form"], "labels": gold.labels}
        texts.append(write_answer(perfect(gold), **how))
    for reward, values in _scores(rows, texts, **options.rewarding("direct")).items():
        for row, value in zip(rows, values, strict=True):
            if value not in (1.0, None):
                problem = f"the gold answer to tweet {row['id']} earns {value:.2f} of {reward}"
                raise UserError(f"{problem}; its annotation is broken")
    longest = max(map(len, backbone.processor.tokenizer(texts)["input_ids"]))
    if longest >= (limit := options.max_completion_length):
        raise UserError(f"a gold answer has {longest} tokens, max_completion_length is {limit}; raise it")
    return {"gold_answers": len(texts), "longest_gold_answer": longest}


def check_groups(backbone: Backbone, rows: Rows, options: CvoOptions, *, prompt: Kind) -> dict[str, float]:
    """Of groups sampled as in training for `check_groups` prompts, one has answers that earn differently."""
    n, size = min(options.check_groups, len(rows)), options.num_generations
    if not n:
        return {}
    torch.manual_seed(options.seed)
    some = [rows[k * len(rows) // n] for k in range(n)]
    groups = rewards_of(some, sample_answers(backbone, some, options), options, prompt=prompt)
    totals = [[each.total(options.reward_weights) for each in group] for group in groups]
    n_equal = sum(len(set(group)) == 1 for group in totals)
    mean = sum(map(sum, totals)) / (n * size)
    if n_equal == n:
        problem = f"all {n} sampled groups of {size} answers are equal in reward (mean {mean:.2f})"
        advice = "there is nothing to learn; fine-tune the start for longer, or raise the temperature"
        raise UserError(f"{problem}, so {advice} (check_groups=0 leaves this check out)")
    return {"groups_sampled": n, "equal_groups": n_equal, "mean_reward": round(mean, 4)}


def sample_answers(
    backbone: Backbone, rows: Rows, options: CvoOptions, *, processors: Sequence[LogitsProcessor] = ()
) -> list[list[str]]:
    """`num_generations` answers to each row, sampled as in training."""
    size = options.num_generations
    chosen = [row for row in rows for _ in range(size)]
    images = [opened for row in rows for opened in [[open_image(path) for path in row["images"]]] * size]
    how = {"max_new_tokens": options.max_completion_length, "processors": processors, **options.sampling}
    how |= {"shared_prefix": options.shared_prefix}
    answers, _ = answer_batch(backbone, [row["prompt"] for row in chosen], images, **how)
    return [answers[k : k + size] for k in range(0, len(answers), size)]


def rewards_of(
    rows: Rows, answers: Sequence[Sequence[str]], options: CvoOptions, *, prompt: Kind
) -> list[list[rewards.Rewards]]:
    """The rewards of each answer to each row."""
    size, chosen = len(answers[0]), [row for row, own in zip(rows, answers, strict=True) for _ in own]
    every = [text for own in answers for text in own]
    values = zip(*_scores(chosen, every, **options.rewarding(prompt)).values(), strict=True)
    each = [rewards.Rewards(*five) for five in values]
    return [each[k : k + size] for k in range(0, len(each), size)]


def _scores(rows: Rows, answers: list[str], **rewarding: Any) -> dict[str, list[float | None]]:
    columns = {name: [row[name] for row in rows] for name in ("gold", "model_size", "family")}
    return {f.__name__: f(completions=answers, **columns) for f in rewards.grpo_reward_functions(**rewarding)}


def _text(backbone: Model, row: Row) -> str:
    return backbone.processor.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)


def _prompt_length(backbone: Model, row: Row) -> int:
    """Tokens of a prompt, the one token of each image replaced by as many as its size gives."""
    images, sizes = backbone.processor.image_processor, map(image_size, row["images"])
    patches = [images.get_number_of_image_patches(height, width) for width, height in sizes]
    n_text = len(backbone.processor.tokenizer(_text(backbone, row))["input_ids"])
    return n_text + sum(n // images.merge_size**2 - 1 for n in patches)


def _completion_lengths(backbone: Model, rows: Rows) -> list[int]:
    """Tokens of each completion that the loss counts, its end included."""
    processor, lengths = backbone.processor, []
    before = [_text(backbone, row) for row in rows]
    chats = ([*row["prompt"], *row["completion"]] for row in rows)
    whole = [processor.apply_chat_template(chat, tokenize=False) for chat in chats]
    ids = (processor.tokenizer(texts)["input_ids"] for texts in (before, whole))
    for row, prompt, text, short, long in zip(rows, before, whole, *ids, strict=True):
        if not text[len(prompt) :].startswith(row["completion"][0]["content"][0]["text"]):
            problem = f"row {row['id']}: the chat template changes what the model is to write"
            raise UserError(f"{problem}, as templates do that rearrange reasoning; mend the template")
        if long[: len(short)] != short:
            problem = f"row {row['id']}: the tokens of the prompt change when its completion follows"
            effect = "the model would be trained on a prompt that it never sees when it is asked"
            raise UserError(f"{problem}, so {effect}; mend the tokenizer or the chat template")
        lengths.append(len(long) - len(short))
    return lengths


def _check_image_tokens(backbone: Model, row: Row) -> None:
    images = [open_image(path) for path in row["images"]] or None
    inputs = backbone.processor(text=[_text(backbone, row)], images=images, return_tensors="pt")
    n_tokens = int((inputs["input_ids"] == backbone.config.image_token_id).sum())
    merge = backbone.config.vision_config.spatial_merge_size**2
    n_features = int(inputs["image_grid_thw"].prod(-1).sum()) // merge if images else 0
    if n_tokens != n_features or inputs["input_ids"].shape[1] != _prompt_length(backbone, row):
        counts = f"{n_tokens} image tokens for {n_features} image features"
        raise UserError(f"row {row['id']}: {counts}; processor and model do not belong together")
