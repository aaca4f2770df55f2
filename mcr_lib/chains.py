"""MRSI: the constraints as reasoning chains.

    build     example + style + generator  ->  Chain, with slots
    rewrite   Chain + ask                  ->  a language model's words if they pass, else the Chain
    render    Chain + family + size        ->  what a backbone is trained to write, slots filled with numbers
    check     Chain + example              ->  the first flaw, or None
    faithfulness   a model's answer        ->  whether its own reasoning states its answer

Nothing here opens a file or a connection: `ask` is any callable from text to text. (Chains from templates, an
LLM or an MLLM: paper, Sec. 4.1; slots, verification and the fallback to the template are ours.)
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from mcr_lib import statements, verify
from mcr_lib.answer import Form, ParsedAnswer, answer_keys, write_answer
from mcr_lib.boxes import Box, Size, box_format, iou, written_box
from mcr_lib.matching import place
from mcr_lib.schema import Example, PredictedEntity
from mcr_lib.statements import SLOT, Statement, slot
from mcr_lib.styles import STYLES, say

# Raised when a word of a style or a rule of the verifier changes; older settings are then trained again.
CHAINS_VERSION = 2
CHANGES = {2: "every style has an instruction of its own, and answers vary in order"}  # version -> news

Source = Literal["template", "llm", "mllm"]
SOURCES: tuple[Source, ...] = ("template", "llm", "mllm")


@dataclass(frozen=True, slots=True)
class Chain:
    """The reasoning chain and answer of one tweet; boxes are slots, so that it serves every backbone."""

    id: str
    style: str
    source: Source  # who wrote the words
    text: str  # the reasoning, with slots
    answer: tuple[Statement, ...]  # the entities in the order of the answer; slots count in text order
    boxes_xyxy_px: tuple[Box, ...]  # the gold box of each slot, in pixels of the original image
    image_size_px: Size | None  # of the original image; `None` = unknown (then there is no box)
    task: tuple[str, ...]

    def to_row(self) -> dict[str, Any]:
        """The chain as a JSON-ready dict; `from_row` restores it."""
        keys = answer_keys(self.task)
        values = ({"entity": s.name, "type": s.type, "bbox_2d": s.slot and slot(s.slot)} for s in self.answer)
        return {
            "id": self.id, "style": self.style, "source": self.source, "text": self.text,
            "answer": [{key: value[key] for key in keys} for value in values],
            "boxes_xyxy_px": [list(box) for box in self.boxes_xyxy_px],
            "image_size_px": self.image_size_px and list(self.image_size_px), "task": list(self.task),
        }  # fmt: skip

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "Chain":
        """The chain of a row from `to_row`; `ValueError`: a field is missing, unknown or of another kind."""
        try:
            fields = dict(row)
            task, items = tuple(row["task"]), row["answer"]
            written = [item.get("bbox_2d") for item in items]
            slots = [int(SLOT.fullmatch(text).group(1)) if text else None for text in written]
            shown = [number is not None if "groundable" in task else None for number in slots]
            types = [item.get("type") for item in items]
            numbered = statements.numbered([item["entity"] for item in items], types, shown)
            size = row["image_size_px"]
            fields["answer"] = tuple(replace(s, slot=k) for s, k in zip(numbered, slots, strict=True))
            fields["boxes_xyxy_px"] = tuple(tuple(v + 0 for v in box) for box in row["boxes_xyxy_px"])
            fields["image_size_px"] = size and (size[0], size[1])
            return cls(**{**fields, "task": task})
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise ValueError(f"not a row of a chain: {error}") from error


def build(example: Example, style: str, rng: np.random.Generator, *, n_wordings: int | None = None) -> Chain:
    """The template chain of a tweet, in one of the first `n_wordings` wordings of a style (`None` = all).

    Raises:
        ValueError: an unknown style; gold with a box and no image size.
    """
    if style not in STYLES:
        raise ValueError(f"unknown style {style!r}; known: {', '.join(STYLES)}")
    boxes, size, task = statements.gold_boxes(example), example.image_size_px, example.constraints
    if boxes and size is None:
        problem = "a gold box without an image size cannot be written for any backbone"
        raise ValueError(f"example {example.id}: {problem}")
    wording = int(rng.integers(len(STYLES[style].wordings[:n_wordings])))
    said = statements.of_example(example)
    answer, text = in_order(said, example, style), say(STYLES[style], wording, said, task)
    return Chain(example.id, style, "template", text, answer, boxes, size, task)


def in_order(said: Sequence[Statement], example: Example, style: str) -> tuple[Statement, ...]:
    """The statements of a tweet in the order of a style's triples (paper, App. C.2; which: silent; ours).

    In text order if the names of another order would no longer be found where they stand (`matching.place`):
    repeated names, or one within another.
    """
    keys = {
        "text": lambda _: 0, "shown": lambda k: not said[k].is_groundable,
        "type": lambda k: example.labels.index(said[k].type) if said[k].type else 0,
    }  # fmt: skip
    ordered = sorted(range(len(said)), key=keys[STYLES[style].triples])
    if ordered == [*range(len(said))]:
        return tuple(said)
    placed = [p.span for p in place([said[k].name for k in ordered], example.tokens)]
    is_found = placed == [example.entities[k].span for k in ordered]
    return tuple(said[k] for k in ordered) if is_found else tuple(said)


def unsayable(example: Example) -> str | None:
    """The first name of a tweet that no chain can say, for it reads as a tag, slot or box; else `None`."""
    return next((e.text for e in example.entities if verify.UNSAYABLE.search(e.text)), None)


ROW_FLAWS = {  # flaws of a chain apart from its words
    "unknown_style": "a style or a source that does not exist",
    "other_gold": "id, task, boxes or image size are not those of the gold",
    "other_answer": "the answer is not the gold",
}


def check(chain: Chain, example: Example) -> str | None:
    """The first flaw of a chain, a key of `ROW_FLAWS` or `verify.FLAWS`; `None` if it states the gold."""
    if chain.style not in STYLES or chain.source not in SOURCES:
        return "unknown_style"
    facts = (chain.id, chain.task, chain.boxes_xyxy_px, chain.image_size_px)
    if facts != (example.id, example.constraints, statements.gold_boxes(example), example.image_size_px):
        return "other_gold"
    expected = statements.of_example(example)
    if chain.answer != in_order(expected, example, chain.style):
        return "other_answer"
    return verify.verify(chain.text, expected, labels=example.labels, task=example.constraints)


def rewrite(
    chain: Chain, example: Example, ask: Callable[[str], Any], *, source: Source = "llm", n_tries: int = 2,
    request: str | None = None,
) -> tuple[Chain, list[str]]:  # fmt: skip
    """A chain in a language model's words if one of its tries passes `check`, else the chain itself.

    With it comes the flaw of each rejected try, which the next `request` (`None`: `rewrite_request`) names.
    `ask` may return anything; its exceptions are not caught.
    """
    rejected, flaws = [], ROW_FLAWS | verify.FLAWS
    request = request or rewrite_request(chain, example)
    for _ in range(n_tries):
        text = ask(
            "\n".join([request, *(f"Your last answer was rejected: {flaws[flaw]}." for flaw in rejected)])
        )
        said = text.rpartition("</think>")[2].strip() if isinstance(text, str) else ""
        new = replace(chain, text=said, source=source)
        if (flaw := check(new, example)) is None:
            return new, rejected
        rejected.append(flaw)
    return chain, rejected


_RULES = (
    "- Write every name in double quotes exactly as it is, and put nothing else in double quotes.",
    "- Say beside each name, in a sentence about it alone, its type label, its [[box N]] as it stands, "
    "or that the image does not show it.",
    "- Add no name, no type and no number. Write the reasoning only.",
)


def rewrite_request(chain: Chain, example: Example) -> str:
    """The prompt that asks a language model to say a chain in its own words."""
    asked = "Say this reasoning about a post in your own words."
    return "\n".join([asked, *_RULES, f"Post: {example.text}", "Reasoning:", chain.text])


def reason_request(chain: Chain, example: Example, written: Sequence[Sequence[int]]) -> str:
    """The prompt that shows a multimodal model image and gold, and asks it to reason towards the gold.

    `written`: the box of each slot as that model writes it. (What is shown: paper, Sec. 4.1; words: ours.)
    """
    gold = []
    for one in statements.of_example(example):
        where = f"{slot(one.slot)}, which is at {list(written[one.slot - 1])}" if one.slot else ""
        absent = "not in the image" if one.is_groundable is False else ""
        gold.append(f"{one.mention}: {', '.join(filter(None, (one.type, where or absent)))}")
    return "\n".join([
        "A post, its image and the right result are given. Write the reasoning that leads from text and "
        "image to the result, as if you did not know it.", STYLES[chain.style].instruction.lead, *_RULES,
        f"Post: {example.text}", "Result:", *(gold or ["no name"]),
    ])  # fmt: skip


def render(
    chain: Chain, family: str, model_size: Size | None, *, form: Form = "json", labels: Sequence[str] = ()
) -> str:
    """The training target of a backbone: chain and answer, slots filled with boxes in the family's space.

    `model_size` is the (width, height) that the processor resizes the image to; for families that write it.
    `form` and `labels` are those of `write_answer`.

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
    space, size = box_format(family).space, chain.image_size_px
    if chain.boxes_xyxy_px and size is None:
        raise ValueError(f"chain of {chain.id}: a box without an image size cannot be written in {space}")
    boxes = [written_box(b, space, image_size=size, model_size=model_size) for b in chain.boxes_xyxy_px]
    entities = [PredictedEntity(s.name, s.type, (boxes[s.slot - 1],) if s.slot else ()) for s in chain.answer]
    written = list if form == "json" else tuple
    think = SLOT.sub(lambda match: str(written(boxes[int(match.group(1)) - 1])), chain.text)
    fields = STYLES[chain.style].fields
    how = {"constraints": chain.task, "form": form, "fields": fields, "labels": labels}
    return write_answer(entities, think=think, **how)


def faithfulness(
    parsed: ParsedAnswer, *, labels: Sequence[str], task: Collection[str], min_iou: float | None = None
) -> str | None:
    """`None` if a model's own reasoning states the entities, types, groundability and boxes of its answer.

    Else a key of `verify.FLAWS`, "unread" (the answer is unreadable) or "no_reasoning". Names that the
    reasoning quotes but the answer leaves out count as bait: the reasoning must say that they are shown but
    not named, and give them no type. What the answer repeats is stated once. `min_iou`: see `with_slots`.
    """
    if parsed.reason is not None:
        return "unread"
    if not parsed.think:
        return "no_reasoning"
    entities, names = list(dict.fromkeys(parsed.entities)), {entity.text for entity in parsed.entities}
    boxes = list(dict.fromkeys(e.box_xyxy for e in entities if e.box_xyxy is not None))
    expected = [
        replace(s, slot=boxes.index(e.box_xyxy) + 1 if s.slot else None)
        for s, e in zip(statements.of_answer(entities, task), entities, strict=True)
    ]
    others = (name for name in re.findall(r'"([^"\n]+)"', parsed.think) if name not in names)
    expected += [Statement(name, is_bait=True) for name in dict.fromkeys(others)]
    text = with_slots(parsed.think, boxes, min_iou=min_iou)
    return verify.verify(text, expected, labels=labels, task=task, bare_names=True)


def with_slots(text: str, boxes_xyxy: Sequence[Box], *, min_iou: float | None = None) -> str:
    """Reasoning with slots for numbers: box k becomes slot k, any other box one slot beyond the last.

    A box above `min_iou` with box k counts as the nearest such k; `None` = equal numbers only.

    Example:
        >>> with_slots("at [1, 2, 3, 4], not [5, 6, 7, 8]", [(1, 2, 3, 4)])
        'at [[box 1]], not [[box 2]]'
    """

    def to_slot(match: re.Match) -> str:
        box = tuple(float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", match.group()))
        near = [float(box == tuple(known)) if min_iou is None else iou(box, known) for known in boxes_xyxy]
        best = max(range(len(near)), key=near.__getitem__, default=0)
        return slot(best + 1 if near and near[best] > (min_iou or 0) else len(boxes_xyxy) + 1)

    return verify.BOX.sub(to_slot, SLOT.sub("[box]", text))
