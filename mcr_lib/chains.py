"""MRSI: the constraints, said. A chain of one tweet in one style, its rewrite by a language model, and its
form for one backbone.

    build     example + style + generator  ->  Chain, with slots
    rewrite   Chain + ask                  ->  Chain in other words if the verifier takes it, else the template itself
    render    Chain + family + size        ->  what a backbone is trained to write, slots filled with numbers
    check     Chain + example              ->  the first flaw, or None
    faithfulness   a model's answer        ->  whether its own reasoning states what its answer says

Nothing here opens a file or a connection: `ask` is any callable from text to text. (Chains from templates, an
LLM or an MLLM: paper; slots, verification and the fall back to the template are ours.)
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from mcr_lib import statements, verify
from mcr_lib.answer import ParsedAnswer, write_answer
from mcr_lib.answer_reader import answer_keys
from mcr_lib.boxes import Box, Size, box_format, iou, written_box
from mcr_lib.schema import Example, PredictedEntity
from mcr_lib.statements import SLOT, Statement, slot
from mcr_lib.styles import STYLES, say

CHAINS_VERSION = 1
"""Raised when any word of a style or any rule of the verifier changes: settings trained on older chains are
then trained anew.
"""

Source = Literal["template", "llm", "mllm"]
SOURCES: tuple[Source, ...] = ("template", "llm", "mllm")


@dataclass(frozen=True, slots=True)
class Chain:
    """A reasoning chain of one tweet with the answer that it leads to; boxes are slots, so it serves every
    backbone.

    Args:
        id: of the tweet.
        style: a name of `styles.STYLES`.
        source: who wrote the words.
        text: the reasoning, with slots.
        answer: what is answered, in text order; a `slot` where a box belongs.
        boxes_xyxy_px: the gold box of each slot, in pixels of the original image.
        image_size_px: (width, height) of the original image, or `None` where unknown (and no box is known).
        task: the constraints that are stated and answered.
        is_privileged: whether it names what only the image shows.
    """

    id: str
    style: str
    source: Source
    text: str
    answer: tuple[Statement, ...]
    boxes_xyxy_px: tuple[Box, ...]
    image_size_px: Size | None
    task: tuple[str, ...]
    is_privileged: bool = False

    def to_row(self) -> dict[str, Any]:
        """The chain as a JSON-ready dict; `from_row` gives an equal chain back."""
        keys = answer_keys(self.task)
        values = ({"entity": s.name, "type": s.type, "bbox_2d": s.slot and slot(s.slot)} for s in self.answer)
        return {
            "id": self.id, "style": self.style, "source": self.source, "text": self.text,
            "answer": [{key: value[key] for key in keys} for value in values],
            "boxes_xyxy_px": [list(box) for box in self.boxes_xyxy_px],
            "image_size_px": self.image_size_px and list(self.image_size_px), "task": list(self.task), "is_privileged": self.is_privileged,
        }  # fmt: skip

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "Chain":
        """The chain of a row that `to_row` made, before or after JSON; what it says is for `check`.

        Raises:
            ValueError: a field is missing, unknown or of another kind.
        """
        try:
            task, size = tuple(row["task"]), row["image_size_px"]
            boxes = tuple(tuple(v + 0 for v in box) for box in row["boxes_xyxy_px"])
            types = [item.get("type") for item in row["answer"]]
            slots = [
                int(SLOT.fullmatch(item["bbox_2d"]).group(1)) if item.get("bbox_2d") else None
                for item in row["answer"]
            ]
            shown = [s is not None if "groundable" in task else None for s in slots]
            fields = {
                **row,
                "task": task,
                "boxes_xyxy_px": boxes,
                "image_size_px": size and (size[0], size[1]),
            }
            answer = statements.numbered([item["entity"] for item in row["answer"]], types, shown)
            fields["answer"] = tuple(replace(s, slot=number) for s, number in zip(answer, slots, strict=True))
            return cls(**fields)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise ValueError(f"not a row of a chain: {error}") from error


def build(
    example: Example,
    style: str,
    rng: np.random.Generator,
    *,
    privileged: bool = False,
    n_wordings: int | None = None,
) -> Chain:
    """The template chain of a tweet in a style, the wording drawn by the generator.

    Args:
        privileged: also name what only the image shows.
        n_wordings: from how many wordings, the first ones of the style; `None` = all of them.

    Raises:
        ValueError: an unknown style; gold with a box and no image size; privileged where the bait is unknown.

    Example:
        >>> tweet = Example("1", "demo", "train", ("rain",), (), ("PER", "LOC"))
        >>> build(tweet, "table", np.random.default_rng(0)).answer
        ()
    """
    if style not in STYLES:
        raise ValueError(f"unknown style {style!r}; known: {', '.join(STYLES)}")
    boxes = statements.gold_boxes(example)
    if boxes and example.image_size_px is None:
        raise ValueError(
            f"example {example.id}: a gold box without an image size cannot be written for any backbone"
        )
    said = statements.of_example(example, privileged=privileged)
    wording = int(rng.integers(len(STYLES[style].wordings[:n_wordings])))
    text = say(STYLES[style], wording, said, example.constraints)
    answer = tuple(s for s in said if not s.is_bait)
    return Chain(
        example.id,
        style,
        "template",
        text,
        answer,
        boxes,
        example.image_size_px,
        example.constraints,
        privileged,
    )


def check(chain: Chain, example: Example) -> str | None:
    """`None` when a chain and its answer say what the gold says, else the first flaw: a key of `verify.FLAWS`
    or of `ROW_FLAWS`.
    """
    if chain.style not in STYLES or chain.source not in SOURCES:
        return "unknown_style"
    said = statements.of_example(example, privileged=chain.is_privileged)
    facts = (chain.id, chain.task, chain.boxes_xyxy_px, chain.image_size_px)
    if facts != (example.id, example.constraints, statements.gold_boxes(example), example.image_size_px):
        return "other_gold"
    if chain.answer != tuple(s for s in said if not s.is_bait):
        return "other_answer"
    return verify.verify(chain.text, said, labels=example.labels, task=example.constraints)


ROW_FLAWS = {
    "unknown_style": "a style or a source that does not exist",
    "other_gold": "id, task, boxes or image size are not those of the gold",
    "other_answer": "the answer is not the gold",
}
"""What can be wrong with a chain beside its words."""


def rewrite(
    chain: Chain,
    example: Example,
    ask: Callable[[str], str | None],
    *,
    source: Source = "llm",
    n_tries: int = 2,
) -> tuple[Chain, list[str]]:
    """A chain in the words of a language model if one of its tries passes the verifier, else the chain
    itself; nothing is lost.

    Args:
        chain: a template that passes.
        example: its tweet.
        ask: from the request to the model's text; may return anything. What it raises is not caught.
        source: what the rewritten chain is marked with.
        n_tries: how often the model is asked.

    Returns:
        The chain, and the flaw of each try that was rejected.

    Example:
        >>> tweet = Example("1", "demo", "train", ("rain",), (), ("PER",))
        >>> template = build(tweet, "terse", np.random.default_rng(0))
        >>> rewrite(template, tweet, lambda request: 'It rains; nobody is named.')[0].source
        'llm'
        >>> rewrite(template, tweet, lambda request: 'It is the PER "Rihanna".')[1]
        ['unknown_name', 'unknown_name']
    """
    rejected = []
    request = rewrite_request(chain, example)
    for _ in range(n_tries):
        answered = ask(request)
        new = replace(chain, text=answered.strip() if isinstance(answered, str) else "", source=source)
        flaw = check(new, example)
        if flaw is None:
            return new, rejected
        rejected.append(flaw)
    return chain, rejected


def rewrite_request(chain: Chain, example: Example) -> str:
    """What a language model is asked in order to say a chain in its own words."""
    rules = [
        "Keep every name in double quotes exactly as it is, and put nothing else in double quotes.",
        "Keep what is said of each name beside it: its type label, its [[box N]] as it stands, or that the image does not show it.",
        "Add no name, no type and no number. Write the reasoning only.",
    ]
    return "\n".join(
        [
            "Say this reasoning about a post in your own words.",
            *(f"- {rule}" for rule in rules),
            f"Post: {example.text}",
            "Reasoning:",
            chain.text,
        ]
    )


def render(chain: Chain, family: str, model_size: Size | None, *, with_reasoning: bool = True) -> str:
    """What a backbone is to write: the chain and its answer, slots filled with boxes in the family's own
    space.

    Args:
        family: a name of `boxes.BOX_FORMATS`.
        model_size: (width, height) that the processor resizes the image to; for families that speak it.
        with_reasoning: else the answer alone, as plain supervised fine-tuning has it.

    Raises:
        UserError: an unknown family.
        ValueError: the chain has a box and no image size, or the family needs a `model_size`.

    Example:
        >>> from mcr_lib.schema import Entity
        >>> oslo = Entity("Oslo", 0, 1, "LOC", ((60, 45, 300, 450),))
        >>> tweet = Example("1", "demo", "train", ("Oslo",), (oslo,), ("LOC",), image_size_px=(600, 450))
        >>> print(render(build(tweet, "terse", np.random.default_rng(0)), "qwen3-vl", None))
        <think> "Oslo" is LOC and seen in [100, 100, 500, 1000] . </think>
        <answer>[{"entity": "Oslo", "type": "LOC", "bbox_2d": [100, 100, 500, 1000]}]</answer>
    """
    space = box_format(family).space
    if chain.boxes_xyxy_px and chain.image_size_px is None:
        raise ValueError(f"chain of {chain.id}: a box without an image size cannot be written in {space}")
    boxes = [
        written_box(box, space, image_size=chain.image_size_px, model_size=model_size)
        for box in chain.boxes_xyxy_px
    ]
    entities = [PredictedEntity(s.name, s.type, (boxes[s.slot - 1],) if s.slot else ()) for s in chain.answer]
    think = (
        SLOT.sub(lambda match: str(list(boxes[int(match.group(1)) - 1])), chain.text)
        if with_reasoning
        else None
    )
    return write_answer(entities, think=think, constraints=chain.task)


def faithfulness(
    parsed: ParsedAnswer, *, labels: Sequence[str], task: Collection[str], min_iou: float | None = None
) -> str | None:
    """`None` when a model's own reasoning states the entities, types, groundability and boxes of its answer,
    else what is wrong.

    Names that the reasoning quotes and the answer leaves out are taken for bait: to be called shown but not
    named, without a type.

    Args:
        min_iou: a box of the reasoning is a box of the answer where their IoU lies above it; `None` = where
            their numbers are the same.

    Returns:
        A key of `verify.FLAWS`, or "unread" (the answer could not be read) or "no_reasoning".

    Example:
        >>> said = '"Oslo" : LOC , shown at [1, 2, 3, 4] ;'
        >>> answer = ParsedAnswer((PredictedEntity("Oslo", "LOC", ((1, 2, 3, 4),)),), think=said)
        >>> faithfulness(answer, labels=("PER", "LOC"), task=("span", "type", "groundable", "box"))
    """
    if parsed.reason is not None:
        return "unread"
    if not parsed.think:
        return "no_reasoning"
    boxes = list(dict.fromkeys(e.box_xyxy for e in parsed.entities if e.box_xyxy is not None))
    said = [
        replace(s, slot=boxes.index(e.box_xyxy) + 1 if s.slot else None)
        for s, e in zip(statements.of_answer(parsed.entities, task), parsed.entities, strict=True)
    ]
    names = {entity.text for entity in parsed.entities}
    others = (name for name in re.findall(r'"([^"\n]+)"', parsed.think) if name not in names)
    said += [Statement(name, is_bait=True) for name in dict.fromkeys(others)]
    return verify.verify(
        with_slots(parsed.think, boxes, min_iou=min_iou), said, labels=labels, task=task, bare_names=True
    )


def with_slots(text: str, boxes_xyxy: Sequence[Box], *, min_iou: float | None = None) -> str:
    """Reasoning with numbers turned into reasoning with slots: box k of the sequence becomes slot k, any
    other box one slot too many.

    Args:
        min_iou: what is near enough to be box k, the nearest one; `None` = its very numbers.

    Example:
        >>> with_slots("at [1, 2, 3, 4], not [5, 6, 7, 8]", [(1, 2, 3, 4)])
        'at [[box 1]], not [[box 2]]'
    """

    def turned(match: re.Match) -> str:
        box = tuple(float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", match.group()))
        near = [float(box == tuple(known)) if min_iou is None else iou(box, known) for known in boxes_xyxy]
        best = max(range(len(near)), key=near.__getitem__, default=0)
        return slot(best + 1 if near and near[best] > (min_iou or 0) else len(boxes_xyxy) + 1)

    return verify.BOX.sub(turned, SLOT.sub("[box]", text))
