"""Prompts: the chat messages that ask a model what the task's constraints ask, and nothing else.

    direct               the answer at once
    cot                  think step by step, then the answer
    cot-3shot            the same after worked examples (`shots`)
    mcr                  reason along the four constraints, then the answer
    mcr-no-instruction   reason, then the answer: MCR without its instruction part (an ablation of the paper)

The kinds are the paper's, the words ours (its prompts are not public). Two wordings: "full" for pretrained
models, "brief" for the testbed's model, whose whole budget is some hundred tokens. The text of the tweet is
always the last line, after the instruction. The format of boxes is not described: each family writes the
space that it was trained on (`boxes.BOX_FORMATS`).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from mcr_lib import constraints
from mcr_lib.answer_reader import answer_keys
from mcr_lib.schema import TYPE_WORDS, Example

PROMPT_VERSION = 1  # raised when any word changes, to detect models that were trained on other prompts

Kind = Literal["direct", "cot", "cot-3shot", "mcr", "mcr-no-instruction"]
KINDS: tuple[Kind, ...] = ("direct", "cot", "cot-3shot", "mcr", "mcr-no-instruction")

Wording = Literal["full", "brief"]
WORDINGS: tuple[Wording, ...] = ("full", "brief")

Message = dict[str, Any]  # of Hugging Face and TRL: role and content, the content a text or a list of parts
Shots = Sequence[tuple[Example, str]]  # tweets with perfect answers, boxes in the space of the model

_SYSTEM = "You analyse social media posts: what a text names, and what of it an image shows."


def messages(
    example: Example, prompt: Kind = "direct", *, wording: Wording = "full", shots: Shots = ()
) -> list[Message]:
    """The chat that asks a model about a tweet, up to and without the model's turn.

    A system message ("full" only), a user and an assistant message per shot, and the user message. A user
    message holds `{"type": "image"}` per image and then the text. The constraints and labels of the example
    decide what is asked; gold is used only if the task gives the names (no constraint "span").

    Raises:
        ValueError: an unknown prompt or wording; "cot-3shot" without shots, or another prompt with some.

    Example:
        >>> tweet = Example("1", "demo", "test", ("Go", "Ada"), (), ("PER", "LOC"), images=("1.jpg",))
        >>> print(text_of(messages(tweet, wording="brief")))
        Entities of the text; type PER, LOC; box in the image or null.
        Go Ada
    """
    if prompt not in KINDS or wording not in WORDINGS:
        known = f"known: {', '.join(KINDS)}; {', '.join(WORDINGS)}"
        raise ValueError(f"unknown prompt {prompt!r} or wording {wording!r}; {known}")
    if (prompt == "cot-3shot") != bool(shots):
        rule = "they belong to cot-3shot, and it needs some"
        raise ValueError(f"prompt {prompt!r} with {len(shots)} worked examples; {rule}")
    chat = [_message("system", _SYSTEM)] if wording == "full" else []
    for shot, completion in shots:
        chat += [_user(shot, prompt, wording), _message("assistant", completion)]
    return [*chat, _user(example, prompt, wording)]


def text_of(chat: Sequence[Message]) -> str:
    """The text of the last message of a chat."""
    return "".join(part["text"] for part in chat[-1]["content"] if part["type"] == "text")


def _message(role: str, text: str, *, n_images: int = 0) -> Message:
    images = [{"type": "image"} for _ in range(n_images)]
    return {"role": role, "content": [*images, {"type": "text", "text": text}]}


def _user(example: Example, prompt: Kind, wording: Wording) -> Message:
    lines = _full(example, prompt) if wording == "full" else _brief(example, prompt)
    if "span" not in example.constraints:
        lines.append("Names: " + ", ".join(f'"{entity.text}"' for entity in example.entities))
    if wording == "full":
        lines.append("Text:")
    return _message("user", "\n".join([*lines, example.text]), n_images=len(example.images))


def _of_task(words: Mapping[str, str], example: Example) -> list[str]:
    """The words for the constraints of the example's task, in the order given."""
    return [text for name, text in words.items() if name in example.constraints]


def _full(example: Example, prompt: Kind) -> list[str]:
    lines = [_task(example), *_rules(example)]
    if prompt == "mcr":
        questions = [c.question for c in constraints.of_task(example.constraints)]
        lines.append("Reason first, entity by entity, along these questions:")
        lines += [f"{k}. {question}" for k, question in enumerate(questions, start=1)]
        lines += _warnings(example)
    elif prompt != "direct":
        lines.append("Reason first." if prompt == "mcr-no-instruction" else "Think step by step.")
    values = {"entity": '"..."', "type": '"..."', "bbox_2d": "[x1, y1, x2, y2]"}
    item = ", ".join(f'"{key}": {values[key]}' for key in answer_keys(example.constraints))
    lines.append("Write exactly this, with an empty list if there is nothing to list:")
    lines += [] if prompt == "direct" else ["<think> your reasoning </think>"]
    return [*lines, f"<answer>[{{{item}}}, ...]</answer>"]


def _task(example: Example) -> str:
    steps = {
        "span": "find every named entity of the text",
        "type": "give its type",
        "box": "say where the image shows it",
    }
    wanted = _of_task(steps, example)
    if "span" not in example.constraints:
        wanted[0] = f"for each name below, {wanted[0]}"
    sentence = ", ".join(wanted[:-1]) + " and " + wanted[-1] if len(wanted) > 1 else wanted[0]
    return sentence[0].upper() + sentence[1:] + "."


def _rules(example: Example) -> list[str]:
    labels = [f"{label} ({TYPE_WORDS[label]})" if label in TYPE_WORDS else label for label in example.labels]
    rules = {
        "span": "Copy each name word for word from the text, in the order of the text.",
        "type": f"Types: {', '.join(labels)}.",
        "box": '"bbox_2d" is one box in whole numbers, the largest if there are several, '
        "or null if the image does not show it.",
    }
    return _of_task(rules, example)


def _warnings(example: Example) -> list[str]:
    """The two shortcuts, named; part of MCR's instruction."""
    warnings = {
        "span": "What only the image shows is no entity of the text.",
        "groundable": "What only the text names has no box, whatever else stands out in the image.",
    }
    return _of_task(warnings, example)


def _brief(example: Example, prompt: Kind) -> list[str]:
    types = f"type {', '.join(example.labels)}"
    if prompt == "mcr":
        steps = {
            "span": "which words name an entity", "type": types,
            "groundable": "is it in the image", "box": "where",
        }  # fmt: skip
        return [f"Think: {'; '.join(_of_task(steps, example))}. Then answer."]
    wanted = {"span": "Entities of the text", "type": types, "box": "box in the image or null"}
    request = "; ".join(_of_task(wanted, example))
    starts = {"direct": "", "mcr-no-instruction": "Reason, then answer. "}
    start = starts.get(prompt, "Think step by step, then answer. ")
    return [f"{start}{request[0].upper()}{request[1:]}."]
