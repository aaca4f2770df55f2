"""Prompts: the chat messages that ask a model what the task's constraints ask, and nothing else.

    task introduction    what is to be found, of which types; shared by every prompt      paper, App. C.1
    + the text of the tweet
    + instruction        how to reason before the answer, by the kind of prompt
    + form of the answer `json` or `paper` (`answer`)

What the prompts of a tweet share comes first, so that training computes it once (`training.prefix`).

    direct               the answer at once
    cot                  think step by step, then the answer
    cot-3shot            the same after worked examples (`shots`)
    mcr                  the instruction of a style of reasoning (`styles`), then the answer
    mcr-no-instruction   reason, then the answer: without steps and cautions (w/o Inst in the paper's Table 3)

The kinds are the paper's, the words ours. Two wordings: "full" for pretrained models, "brief" for the
testbed's model, whose whole budget is some hundred tokens; it has no introduction, and the text comes last,
as that model was pretrained. The space of boxes is not described: each family writes the one that it was
trained on (`boxes.BOX_FORMATS`).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from mcr_lib import constraints
from mcr_lib.answer import Form, answer_keys
from mcr_lib.schema import TYPE_WORDS, Example
from mcr_lib.styles import STYLES

PROMPT_VERSION = 3  # raised when any word changes, to detect models that were trained on other prompts

Kind = Literal["direct", "cot", "cot-3shot", "mcr", "mcr-no-instruction"]
KINDS: tuple[Kind, ...] = ("direct", "cot", "cot-3shot", "mcr", "mcr-no-instruction")

Wording = Literal["full", "brief"]
WORDINGS: tuple[Wording, ...] = ("full", "brief")
STYLE_OF_WORDING = {"full": "formal", "brief": "terse"}  # whose instruction is used where none is named

Message = dict[str, Any]  # of Hugging Face and TRL: role and content, the content a text or a list of parts
Shots = Sequence[tuple[Example, str]]  # tweets with perfect answers, boxes in the space of the model

_SYSTEM = "You analyse social media posts: what a text names, and what of it an image shows."


def messages(
    example: Example, prompt: Kind = "direct", *, wording: Wording = "full", style: str | None = None,
    form: Form = "json", shots: Shots = (),
) -> list[Message]:  # fmt: skip
    """The chat that asks a model about a tweet, up to and without the model's turn.

    A system message ("full" only), a user and an assistant message per shot, and the user message. A user
    message holds `{"type": "image"}` per image and then the text. The constraints and labels of the example
    decide what is asked; gold is used only if the task gives the names (no constraint "span"). `style`: whose
    instruction "mcr" gives (`None`: `STYLE_OF_WORDING`); the other prompts have none.

    Raises:
        ValueError: an unknown prompt, wording or style; "cot-3shot" without shots, or another prompt with
            some.

    Example:
        >>> tweet = Example("1", "demo", "test", ("Go", "Ada"), (), ("PER", "LOC"), images=("1.jpg",))
        >>> print(text_of(messages(tweet, wording="brief")))
        Entities of the text; type PER, LOC; box in the image or null.
        Go Ada
    """
    if prompt not in KINDS or wording not in WORDINGS:
        known = f"known: {', '.join(KINDS)}; {', '.join(WORDINGS)}"
        raise ValueError(f"unknown prompt {prompt!r} or wording {wording!r}; {known}")
    if (style := style or STYLE_OF_WORDING[wording]) not in STYLES:
        raise ValueError(f"unknown style {style!r}; known: {', '.join(STYLES)}")
    if (prompt == "cot-3shot") != bool(shots):
        rule = "they belong to cot-3shot, and it needs some"
        raise ValueError(f"prompt {prompt!r} with {len(shots)} worked examples; {rule}")

    def user(tweet: Example) -> Message:
        names = "Names: " + ", ".join(f'"{entity.text}"' for entity in tweet.entities)
        given = [] if "span" in tweet.constraints else [names]
        if wording == "full":
            request = _full(tweet, prompt, style, form)
            lines = [*_introduction(tweet), *given, "Text:", tweet.text, *request]
        else:
            lines = [*_brief(tweet, prompt, style, form), *given, tweet.text]
        return message("user", "\n".join(lines), n_images=len(tweet.images))

    chat = [message("system", _SYSTEM)] if wording == "full" else []
    for shot, completion in shots:
        chat += [user(shot), message("assistant", completion)]
    return [*chat, user(example)]


def text_of(chat: Sequence[Message]) -> str:
    """The text of the last message of a chat."""
    return "".join(part["text"] for part in chat[-1]["content"] if part["type"] == "text")


def plain(text: str) -> str:
    """The text with `< |im_end|>` for `<|im_end|>` and so on: no tweet ends its turn or claims an image."""
    return text.replace("<|", "< |")


def message(role: str, text: str, *, n_images: int = 0) -> Message:
    """A message of so many images and then the text."""
    images = [{"type": "image"} for _ in range(n_images)]
    return {"role": role, "content": [*images, {"type": "text", "text": plain(text)}]}


def _of_task(words: Mapping[str, str], example: Example) -> list[str]:
    """The words for the constraints of the example's task, in the order given."""
    return [text for name, text in words.items() if name in example.constraints]


def _full(example: Example, prompt: Kind, style: str, form: Form) -> list[str]:
    instruction = {
        "direct": [], "cot": ["Think step by step."], "cot-3shot": ["Think step by step."],
        "mcr-no-instruction": ["Reason first."], "mcr": _instruction(example, style),
    }[prompt]  # fmt: skip
    fields = STYLES[style].fields if prompt.startswith("mcr") else None  # as the chains of the style answer
    return [*instruction, *_answer(example, form, fields, is_direct=prompt == "direct")]


def _introduction(example: Example) -> list[str]:
    steps = {"span": "find every named entity of the text", "type": "give its type"}
    steps |= {"box": "say where the image shows it"}
    wanted = _of_task(steps, example)
    if "span" not in example.constraints:
        wanted[0] = f"for each name below, {wanted[0]}"
    sentence = ", ".join(wanted[:-1]) + " and " + wanted[-1] if len(wanted) > 1 else wanted[0]
    rules = {
        "span": "Copy each entity word for word from the text.",
        "type": f"Types: {', '.join(TYPE_WORDS.get(label, label) for label in example.labels)}.",
        "box": "A location is one box in whole numbers, the largest if there are several, or none if the "
        "image does not show the entity.",
    }
    return [f"{sentence[0].upper()}{sentence[1:]}.", *_of_task(rules, example)]


def _instruction(example: Example, style: str) -> list[str]:
    """The steps of a style, as the questions of the constraints, and the two shortcuts, named."""
    one = STYLES[style].instruction
    questions = constraints.of_task(example.constraints) if one.steps is not None else ()
    steps = [f"{k}. {c.question} {one.steps[c.name]}".rstrip() for k, c in enumerate(questions, start=1)]
    cautions = {
        "span": "What only the image shows is no entity of the text. Leave out nothing that the text names.",
        "type": "Decide a type by the text; use the image only where the text leaves it open.",
        "groundable": "What only the text names has no box, whatever else stands out in the image.",
    }
    lead = next((text for name, text in one.without.items() if name not in example.constraints), one.lead)
    return [lead, *steps, *(_of_task(cautions, example) if one.cautions else [])]


def _answer(example: Example, form: Form, fields: Sequence[str] | None, *, is_direct: bool) -> list[str]:
    keys = answer_keys(example.constraints)
    keys = [key for key in fields or keys if key in keys]
    has_box = "bbox_2d" in keys
    if form == "json":
        types = f'"{"|".join(example.labels)}"' if len(example.labels) <= 8 else '"..."'
        values = {"entity": '"..."', "type": types, "bbox_2d": "[x1, y1, x2, y2]"}
        items = ", ".join(f'"{key}": {values[key]}' for key in keys)
        shown = f"[{{{items}}}, ...]"
        tag, nothing, note = "think", "null", "an empty list if there is nothing to list"
    else:
        values = {"entity": "entity text", "type": "type", "bbox_2d": "(x1, y1, x2, y2)"}
        shown = f"({', '.join(values[key] for key in keys)}) ..."
        tag, nothing, note = "process", "None", "None alone if there is nothing to list"
    if has_box:  # where the names are given, there is always something to list
        note = f"{nothing} for a missing box" + f", and {note}" * ("span" in example.constraints)
    lines = [f"Write exactly this, with {note}:"]
    return [*lines, *([] if is_direct else [f"<{tag}> your reasoning </{tag}>"]), f"<answer>{shown}</answer>"]


def _brief(example: Example, prompt: Kind, style: str, form: Form) -> list[str]:
    types = f"type {', '.join(example.labels)}"
    if prompt == "mcr":
        steps = {
            "span": "which words name an entity", "type": types,
            "groundable": "is it in the image", "box": "where",
        }  # fmt: skip
        return [f"{STYLES[style].brief}: {'; '.join(_of_task(steps, example))}. Then answer."]
    nothing = "null" if form == "json" else "None"
    wanted = {"span": "Entities of the text", "type": types, "box": f"box in the image or {nothing}"}
    request = "; ".join(_of_task(wanted, example))
    starts = {"direct": "", "mcr-no-instruction": "Reason, then answer. "}
    start = starts.get(prompt, "Think step by step, then answer. ")
    return [f"{start}{request[0].upper()}{request[1:]}."]
