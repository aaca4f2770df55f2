"""Reads a model's text into entities and tells every defect on the way; `answer` says what a defect means.

Three steps, each in the order of the text: cut the reasoning out, find the answer's list, read its items. One
reader serves both modes of `answer.parse_answer`, so what is strict and what is lenient cannot drift apart:
strict is "no defect at all".
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcr_lib.boxes import Box
from mcr_lib.loose_json import LooseList, Lost, number, whole_characters
from mcr_lib.schema import PredictedEntity

ALIASES = {
    "entity": ("entity", "name", "text", "mention"),
    "type": ("type", "label", "category", "entity_type"),
    "bbox_2d": ("bbox_2d", "bbox", "box", "boxes", "bounding_box"),
}
"""Per key of an item the names that a lenient reading also takes, in any case."""

SYNONYMS = (
    ("PER", "PERSON"),
    ("LOC", "LOCATION"),
    ("ORG", "ORGANIZATION", "ORGANISATION"),
    ("OTHER", "OTHERS", "MISC", "MISCELLANEOUS", "MIS"),
)
"""Names of one type; a lenient reading maps each into the one that is in the label set."""

_TAG = re.compile(r"(</?(?:think|answer)>)")
_FENCE = re.compile(r"```[A-Za-z]*+")
_LIST_START = re.compile(r"\[[ \t\n\r]*+(?=[{\]])|\{")
_NULL_WORDS = ("", "null", "none", "[]")
_CORNERS = (("x1", "y1", "x2", "y2"), ("xmin", "ymin", "xmax", "ymax"))


@dataclass(slots=True)
class Reading:
    """What a text holds and what is wrong with it.

    Args:
        entities: as far as they can be read, in output order.
        think: the reasoning, or `None` where there is no trace of one.
        first_defect: the first defect met, or `None`.
        repairs: each defect that was mended, in the order of its first appearance.
        lost: the defect of each entity that was dropped, in output order.
        reason: the defect that made the answer unreadable, or `None`.
    """

    entities: list[PredictedEntity] = field(default_factory=list)
    think: str | None = None
    first_defect: str | None = None
    repairs: dict[str, None] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    reason: str | None = None

    def note(self, defect: str) -> None:
        """A defect that was mended."""
        self.first_defect = self.first_defect or defect
        self.repairs[defect] = None

    def lose(self, defect: str) -> None:
        """A defect that cost an entity."""
        self.first_defect = self.first_defect or defect
        self.lost.append(defect)

    def give_up(self, defect: str) -> None:
        """A defect that cost the answer."""
        self.first_defect = self.first_defect or defect
        self.reason = defect


def read(text: str, *, labels: Sequence[str], constraints: Collection[str]) -> Reading:
    """Everything that can be read from a model's text, in time linear in its length.

    Args:
        text: any string.
        labels: the label set of the source.
        constraints: the task, a part of `schema.CONSTRAINTS`.

    Example:
        >>> reading = read("[{'entity': 'Oslo'}]", labels=(), constraints=("span",))
        >>> reading.entities[0].text, list(reading.repairs)
        ('Oslo', ['no_answer_tag', 'python_literal'])
    """
    reading = Reading()
    try:
        if not text.strip():
            raise Lost("empty_text")
        rest = _cut_reasoning(whole_characters(text, reading.note), reading)
        body, outside = _find_body(rest, reading)
        start = _find_list(body)
        _note_around(outside + body[:start], reading)
        loose_list = LooseList(body, start, reading.note)
        for item in loose_list:
            try:
                reading.entities.append(_entity(item, labels, constraints, reading))
            except Lost as loss:
                reading.lose(loss.name)
        _note_around(body[loose_list.start :], reading)
    except Lost as loss:
        reading.give_up(loss.name)
    if reading.lost and not reading.entities:
        reading.reason = reading.lost[0]
    return reading


def answer_keys(constraints: Collection[str]) -> tuple[str, ...]:
    """The keys of an item in a task: a constraint that the task lacks leaves its key out.

    Example:
        >>> answer_keys(("span", "type"))
        ('entity', 'type')
    """
    return ("entity",) + ("type",) * ("type" in constraints) + ("bbox_2d",) * ("box" in constraints)


def _cut_reasoning(text: str, reading: Reading) -> list[str]:
    """The text without its reasoning, as pieces between tags and answer tags; the reasoning goes to
    `reading.think`.
    """
    pieces = _TAG.split(text)
    last_close = max((k for k, piece in enumerate(pieces) if piece == "</think>"), default=-1)
    thinks: list[list[str]] = []
    rest: list[str] = []
    is_thinking = has_answer = False
    for k, piece in enumerate(pieces):
        if is_thinking and piece == "</think>":
            is_thinking = False
        elif is_thinking and (piece != "<answer>" or k < last_close):
            if _TAG.fullmatch(piece):
                reading.note("tag_in_think")
            thinks[-1].append(piece)
        elif piece == "<think>":
            if has_answer or thinks:
                reading.note("think_misplaced" if has_answer else "several_thinks")
            thinks.append([])
            is_thinking = True
        elif piece == "</think>" and not has_answer and not thinks:
            reading.note("unopened_think")
            thinks, rest = [rest], []
        elif piece == "</think>":
            reading.note("think_misplaced")
        else:
            if is_thinking:
                reading.note("unclosed_think")
            is_thinking = False
            has_answer = has_answer or piece == "<answer>"
            rest.append(piece)
    if is_thinking:
        reading.note("unclosed_think")
    if thinks:
        reading.think = "\n".join("".join(think).strip() for think in thinks)
    return rest


def _find_body(pieces: list[str], reading: Reading) -> tuple[str, str]:
    """What stands in the answer tags that count, and what stands outside of all answer tags."""
    blocks: list[str] = []
    outside: list[str] = []
    opened: list[str] | None = None
    for piece in pieces:
        if piece == "<answer>":
            opened = []
        elif piece == "</answer>" and opened is not None:
            blocks.append("".join(opened))
            opened = None
        else:
            (outside if opened is None else opened).append(piece)
    n_opened = pieces.count("<answer>")
    if n_opened == 0:
        body = "".join(outside)
        if "[" not in body and "{" not in body:
            raise Lost("no_answer")
        reading.note("no_answer_tag")
        return body, ""
    if n_opened > 1:
        reading.note("several_answers")
    if not blocks:
        reading.note("unclosed_answer")
    return blocks[-1] if blocks else "".join(opened), "".join(outside)


def _find_list(body: str) -> int:
    """Where the list begins: at the first bracket when the text does, else at the first one that looks like a
    list of objects.
    """
    first = len(body) - len(body.lstrip())
    if body[first : first + 1] in ("[", "{"):
        return first
    if match := _LIST_START.search(body):
        return match.start()
    if "[" not in body:
        raise Lost("no_list")
    return body.index("[")


def _note_around(text: str, reading: Reading) -> None:
    without_fences = _FENCE.sub("", text)
    if without_fences != text:
        reading.note("code_fence")
    if without_fences.strip():
        reading.note("text_around")


def _entity(
    item: Any, labels: Sequence[str], constraints: Collection[str], reading: Reading
) -> PredictedEntity:
    if isinstance(item, Lost):
        raise item
    if not isinstance(item, dict):
        raise Lost("item_not_object")
    keys = answer_keys(constraints)
    values = _values(item, keys, reading)
    text = values["entity"]
    if not isinstance(text, str):
        raise Lost("entity_not_text")
    if not text.strip():
        raise Lost("entity_empty")
    type_ = _type(values["type"], labels, reading) if "type" in keys else None
    return PredictedEntity(text, type_, _boxes(values["bbox_2d"], reading) if "bbox_2d" in keys else ())


def _values(item: dict[str, Any], keys: tuple[str, ...], reading: Reading) -> dict[str, Any]:
    """The item's values under the task's own keys."""
    if len(item) == len(keys) and all(key in item for key in keys):
        return item
    values = {key: item[key] for key in keys if key in item}
    is_extra = False
    for key, value in item.items():
        if key in values:
            continue
        meant = next((k for k in keys if k not in values and key.lower() in ALIASES[k]), None)
        if meant is None:
            is_extra = True
        else:
            reading.note("key_alias")
            values[meant] = value
    if is_extra:
        reading.note("extra_key")
    if len(values) < len(keys):
        raise Lost("missing_key")
    return values


def _type(value: Any, labels: Sequence[str], reading: Reading) -> str:
    if isinstance(value, str):
        if value in labels:
            return value
        name = value.strip().upper()
        names = next((group for group in SYNONYMS if name in group), (name,))
        for label in labels:
            if label.upper() in names:
                reading.note("type_synonym")
                return label
    raise Lost("unknown_type")


def _boxes(value: Any, reading: Reading) -> tuple[Box, ...]:
    if value is None:
        return ()
    if value == [] or (isinstance(value, str) and value.strip().lower() in _NULL_WORDS):
        reading.note("null_in_words")
        return ()
    if isinstance(value, list) and isinstance(value[0], list | dict):
        reading.note("several_boxes")
        return tuple(_box(box, reading) for box in value)
    return (_box(value, reading),)


def _box(value: Any, reading: Reading) -> Box:
    if isinstance(value, dict):
        corners = next((names for names in _CORNERS if set(names) == set(value)), None)
        if corners is not None:
            reading.note("box_as_object")
            value = [value[name] for name in corners]
    if not isinstance(value, list):
        raise Lost("box_not_list")
    if len(value) != 4:
        raise Lost("box_length")
    x1, y1, x2, y2 = (_coordinate(v, reading) for v in value)
    if x1 > x2 or y1 > y2:
        reading.note("swapped_corners")
        x1, y1, x2, y2 = min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)
    if x1 == x2 or y1 == y2:
        reading.note("empty_box")
    return (x1, y1, x2, y2)


def _coordinate(value: Any, reading: Reading) -> float:
    if isinstance(value, str) and (value := number(value.strip())) is not None:
        reading.note("number_as_text")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Lost("box_not_numbers")
    if isinstance(value, float):
        reading.note("float_coordinate")
    if value < 0:
        reading.note("negative_number")
    return value
