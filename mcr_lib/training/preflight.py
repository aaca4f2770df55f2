"""Checks before hours are spent, for mistakes that training itself would not notice, or only late.

    the number of image tokens is the number of features of the vision tower
    the ids of a prompt are the beginning of the ids of prompt and completion
    the longest prompt with its completion fits into the model
    the gold answer earns the maximum of its rewards, and fits into an answer
    sampled groups are not all equal, so that there is something to learn from

Each check raises a `UserError` or returns entries of `checks.json`.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from mcr_lib import prompts, rewards
from mcr_lib.answer import write_answer
from mcr_lib.boxes import box_format
from mcr_lib.data.images import image_size, open_image
from mcr_lib.errors import UserError
from mcr_lib.schema import Example
from mcr_lib.training.backbones import Backbone, Outline
from mcr_lib.training.generate import answer_batch
from mcr_lib.training.options import CvoOptions
from mcr_lib.yardsticks import perfect

Row = Mapping[str, Any]

N_OPENED = 8
"""Rows, evenly spread, whose images are processed; of the others only the sizes are read."""


def check_rows(
    backbone: Backbone | Outline, rows: Sequence[Row], *, max_completion_length: int | None = None
) -> dict[str, int]:
    """Token counts of prompts and completions of training rows.

    Args:
        max_completion_length: of rows without a completion.

    Returns:
        `longest_prompt`, `longest_completion`, `longest` (together) and `limit`, in tokens; `images_opened`.

    Raises:
        UserError: image tokens and features differ, a completion or a prompt's ids change when one follows
            the other, or the longest row does not fit.
    """
    n_opened = min(N_OPENED, len(rows))
    for k in range(n_opened):
        _check_image_tokens(backbone, rows[k * len(rows) // n_opened])
    prompt_lengths = [_prompt_length(backbone, row) for row in rows]
    completions = [max_completion_length] * len(rows)
    if not max_completion_length:
        completions = completion_lengths(backbone, rows)
    lengths = [sum(pair) for pair in zip(prompt_lengths, completions, strict=True)]
    longest = lengths.index(max(lengths))
    limit = backbone.config.get_text_config().max_position_embeddings
    if lengths[longest] > limit:
        raise UserError(
            f"row {rows[longest]['id']} has {prompt_lengths[longest]} tokens of prompt and "
            f"{completions[longest]} of completion, more than the {limit} of the model; take fewer pixels or "
            "shorter answers"
        )
    return {
        "longest_prompt": max(prompt_lengths), "longest_completion": max(completions),
        "longest": lengths[longest], "limit": limit, "images_opened": n_opened,
    }  # fmt: skip


def check_gold(backbone: Backbone, rows: Sequence[Row], options: CvoOptions) -> dict[str, int]:
    """Scores the gold answers of GRPO rows, without reasoning, by the reward functions of training.

    Returns:
        `gold_answers` that earn the maximum, and the tokens of the `longest_gold_answer`.

    Raises:
        UserError: one earns less, or does not fit into `max_completion_length`.
    """
    texts = []
    for row in rows:
        example, size = Example.from_row(json.loads(row["gold"])), row["model_size"]
        space = box_format(row["family"]).space
        gold = rewards.written_gold(example, space, model_size=size and tuple(size))
        texts.append(write_answer(perfect(gold), constraints=gold.constraints))
    columns = _columns(rows)
    for function in rewards.grpo_reward_functions(sigma=options.sigma, count_rule=options.count_rule):
        for row, value in zip(rows, function(completions=texts, **columns), strict=True):
            if value not in (1.0, None):
                raise UserError(
                    f"the gold answer to tweet {row['id']} earns {value:.2f} of {function.__name__}; its "
                    "annotation is broken"
                )
    longest = max(map(len, backbone.processor.tokenizer(texts)["input_ids"]))
    limit = options.max_completion_length
    if longest >= limit:
        raise UserError(f"a gold answer has {longest} tokens, max_completion_length is {limit}; raise it")
    return {"gold_answers": len(texts), "longest_gold_answer": longest}


def check_groups(
    backbone: Backbone, rows: Sequence[Row], options: CvoOptions, *, prompt: prompts.Kind
) -> dict[str, float]:
    """The rewards of groups sampled as in training, for `check_groups` prompts spread over the rows.

    Returns:
        `groups_sampled`, `equal_groups` among them (the same reward for all answers) and `mean_reward`; empty
        without a prompt to sample.

    Raises:
        UserError: every group is equal: no answer is better than another, and nothing would be learned.
    """
    n = min(options.check_groups, len(rows))
    if not n:
        return {}
    size = options.num_generations
    chosen = [rows[k * len(rows) // n] for k in range(n) for _ in range(size)]
    torch.manual_seed(options.seed)
    images = [[open_image(path) for path in row["images"]] for row in chosen]
    answers, _ = answer_batch(
        backbone, [row["prompt"] for row in chosen], images, max_new_tokens=options.max_completion_length,
        temperature=options.temperature, top_p=options.top_p,
    )  # fmt: skip
    columns = _columns(chosen)
    functions = rewards.grpo_reward_functions(**options.rewarding(prompt))
    values = zip(*(function(completions=answers, **columns) for function in functions), strict=True)
    totals = [rewards.Rewards(*each).total(options.reward_weights) for each in values]
    n_equal = sum(len(set(totals[k : k + size])) == 1 for k in range(0, n * size, size))
    mean = sum(totals) / (n * size)
    if n_equal == n:
        raise UserError(
            f"all {n} sampled groups of {size} answers are equal in reward (mean {mean:.2f}), so there is "
            "nothing to learn; fine-tune the start for longer, or raise the temperature (check_groups=0 "
            "leaves this check out)"
        )
    return {"groups_sampled": n, "equal_groups": n_equal, "mean_reward": round(mean, 4)}


def completion_lengths(backbone: Backbone | Outline, rows: Sequence[Row]) -> list[int]:
    """Tokens of the completion of each row of `mrsi.sft_rows` that the loss counts, its end included.

    Raises:
        UserError: a chat template that changes the completion, or a prompt's ids that change when its
            completion follows.
    """
    processor = backbone.processor
    before = [_text(backbone, row) for row in rows]
    chats = ([*row["prompt"], *row["completion"]] for row in rows)
    whole = [processor.apply_chat_template(chat, tokenize=False) for chat in chats]
    for row, prompt, text in zip(rows, before, whole, strict=True):
        if not text[len(prompt) :].startswith(row["completion"][0]["content"][0]["text"]):
            raise UserError(
                f"row {row['id']}: the chat template changes what the model is to write, as templates do "
                "that rearrange reasoning; mend the template"
            )
    lengths = []
    ids = (processor.tokenizer(texts)["input_ids"] for texts in (before, whole))
    for row, short, long in zip(rows, *ids, strict=True):
        if long[: len(short)] != short:
            raise UserError(
                f"row {row['id']}: the tokens of the prompt change when its completion follows, so the model "
                "would be trained on a prompt that it never sees when it is asked; mend the tokenizer or the "
                "chat template"
            )
        lengths.append(len(long) - len(short))
    return lengths


def _columns(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """The columns that the reward functions read."""
    return {name: [row[name] for row in rows] for name in ("gold", "model_size", "family")}


def _check_image_tokens(backbone: Backbone | Outline, row: Row) -> None:
    images = [open_image(path) for path in row["images"]] or None
    inputs = backbone.processor(text=[_text(backbone, row)], images=images, return_tensors="pt")
    n_tokens = int((inputs["input_ids"] == backbone.config.image_token_id).sum())
    merge = backbone.config.vision_config.spatial_merge_size**2
    n_features = int(inputs["image_grid_thw"].prod(-1).sum()) // merge if images else 0
    if n_tokens != n_features or inputs["input_ids"].shape[1] != _prompt_length(backbone, row):
        counts = f"{n_tokens} image tokens for {n_features} image features"
        raise UserError(f"row {row['id']}: {counts}; processor and model do not belong together")


def _text(backbone: Backbone | Outline, row: Row) -> str:
    return backbone.processor.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)


def _prompt_length(backbone: Backbone | Outline, row: Row) -> int:
    """Tokens of a prompt, the one token of each image replaced by as many as its size gives."""
    images = backbone.processor.image_processor
    sizes = map(image_size, row["images"])
    patches = [images.get_number_of_image_patches(height, width) for width, height in sizes]
    n_text = len(backbone.processor.tokenizer(_text(backbone, row))["input_ids"])
    return n_text + sum(n // images.merge_size**2 - 1 for n in patches)
