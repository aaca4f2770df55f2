"""Where the boxes of an answer stand among the tokens of prompt and answer, for those who look inside the
model there (`attention`).

A box is found in the answer by its place among the others, and in the reasoning as the first that follows the
entity's name before another name (ours).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mcr_lib import metrics, prompts, verify
from mcr_lib.data.predictions import Prediction, parse_prediction
from mcr_lib.schema import Entity, Example
from mcr_lib.training.backbones import Backbone

PARTS = ("answer", "reasoning")


@dataclass(frozen=True, slots=True)
class Spot:
    """An entity that an answer boxes. Positions are counted from the end of the text's tokens, the last one
    is 1.

    Args:
        example: the tweet.
        gold: the entity, shown by the image.
        text: prompt and answer, an image token per image.
        digits: part -> positions of the tokens that hold digits of the box.
        words: positions of the entity's tokens in the tweet.
        n_answer: tokens of the answer.
    """

    example: Example
    gold: Entity
    text: str
    digits: Mapping[str, Sequence[int]]
    words: Sequence[int]
    n_answer: int


def spots_of(backbone: Backbone, example: Example, row: Prediction, prompt: prompts.Kind) -> list[Spot]:
    """The boxes of one answer that can be looked at: none where it cannot be read strictly or repeats a name."""
    parsed, entities_px = parse_prediction(row, example, "strict")
    judged = metrics.judge(example, entities_px)
    if parsed.reason is not None or len(judged.effective) != len(entities_px) or not example.images:
        return []
    boxed = [k for k, entity in enumerate(parsed.entities) if entity.box_xyxy is not None]
    begin = row.answer.index("<answer>")
    written = [match.span() for match in verify.BOX.finditer(row.answer, begin)]
    reasoned = _boxes_by_name(row.answer[:begin], [entity.text for entity in parsed.entities])
    if len(written) != len(boxed):
        return []
    tokens = _Tokens(backbone, example, row.answer, prompt)
    spots = []
    for k, j in judged.pairing.matches:
        gold = example.entities[j]
        if k not in boxed or not gold.is_groundable:
            continue
        spans = {"answer": written[boxed.index(k)], "reasoning": reasoned.get(parsed.entities[k].text)}
        digits = {part: tokens.digits(span) for part, span in spans.items() if span}
        spots.append(Spot(example, gold, tokens.text, digits, tokens.words(gold), tokens.n_answer))
    return spots


class _Tokens:
    """The tokens of prompt and answer, found by the characters that they stand for."""

    def __init__(self, backbone: Backbone, example: Example, answer: str, prompt: prompts.Kind) -> None:
        chat = prompts.messages(example, prompt, wording=backbone.wording)
        before = backbone.processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        asked = prompts.text_of(chat)
        self.text, self.begin, self.example = before + answer, len(before), example
        self.tweet = before.rindex(asked) + len(asked) - len(example.text)
        self.offsets = backbone.processor.tokenizer(self.text, return_offsets_mapping=True)["offset_mapping"]
        self.n_answer = len(self.between(self.begin, len(self.text)))

    def between(self, start: int, end: int) -> list[int]:
        """Positions from the end of the tokens that overlap the characters [start, end)."""
        n = len(self.offsets)
        return [n - k for k, (first, last) in enumerate(self.offsets) if first < end and last > start]

    def digits(self, span: tuple[int, int]) -> list[int]:
        """Of the tokens within the brackets of a box of the answer those that hold a digit."""
        inside = self.between(self.begin + span[0] + 1, self.begin + span[1] - 1)
        return [k for k in inside if re.search(r"\d", self.text[slice(*self.offsets[-k])])]

    def words(self, entity: Entity) -> list[int]:
        """The tokens of an entity in the tweet."""
        start = (
            self.tweet + len(" ".join((*self.example.tokens[: entity.start], "")))
            if entity.start
            else self.tweet
        )
        return self.between(start, start + len(entity.text))


def _boxes_by_name(reasoning: str, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """The characters of the first box after each name and before another one."""
    found: dict[str, tuple[int, int]] = {}
    for match in verify.BOX.finditer(reasoning):
        ends = {
            name: at + len(name) for name in names if (at := reasoning.rfind(name, 0, match.start())) >= 0
        }
        if ends:
            found.setdefault(max(ends, key=ends.get), match.span())
    return found
