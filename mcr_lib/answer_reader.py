"""Parses a model's text into entities and notes every defect on the way; `answer.DEFECTS` explains them.

Three steps, each in the order of the text: cut out the reasoning, find the answer's list and its form, read
its items (`answer_json`, `answer_tuples`). One parser serves both modes of `answer.parse_answer`, so that
they cannot drift apart: strict means "no defect at all".
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, Literal

from mcr_lib.answer_json import LooseList, Lost, number, whole_characters
from mcr_lib.answer_tuples import NULL_WORDS, LooseTuples
from mcr_lib.boxes import Box
from mcr_lib.schema import TYPE_WORDS, PredictedEntity

Form = Literal["json", "paper"]

ALIASES = {  # key of an item -> names that lenient parsing also accepts, in any case
    "entity": ("entity", "name", "text", "mention"),
    "type": ("type", "label", "category", "entity_type"),
    "bbox_2d": ("bbox_2d", "bbox", "box", "boxes", "bounding_box"),
}
SYNONYMS = (  # names of one type; lenient parsing maps each to the one in the label set
    ("PER", "PERSON"),
    ("LOC", "LOCATION"),
    ("ORG", "ORGANIZATION", "ORGANISATION"),
    ("OTHER", "OTHERS", "MISC", "MISCELLANEOUS", "MIS"),
)
_TAG = re.compile(r"(</?(?:think|process|answer)>)")
_CLOSING = {"<think>": "</think>", "<process>": "</process>"}
_OPENING = {closing: opening for opening, closing in _CLOSING.items()}
_FENCE = re.compile(r"```[A-Za-z]*+")
_NOBODY = re.compile(r"[\s`.\"']*+(?:none|null|n/a)[\s`.\"']*+", re.IGNORECASE)
_TUPLES_START = re.compile(r"(?:\[\s*+)?+\(")
_LIST_START = re.compile(r"\[[ \t\n\r]*+(?=[{\]])|\{")
_CORNERS = (("x1", "y1", "x2", "y2"), ("xmin", "ymin", "xmax", "ymax"))


@dataclass(slots=True)
class Reading:
    """The parsed content of a text and its defects; see `answer.ParsedAnswer`."""

    entities: list[PredictedEntity] = field(default_factory=list)
    think: str | None = None
    form: Form | None = None
    first_defect: str | None = None
    repairs: dict[str, None] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    reason: str | None = None

    def note(self, defect: str) -> None:
        """Record a repaired defect."""
        self.first_defect = self.first_defect or defect
        self.repairs[defect] = None


def read(text: str, *, labels: Sequence[str], constraints: Collection[str]) -> Reading:
    """Everything that can be parsed from a model's text, in time linear in its length."""
    reading = Reading()
    keys, types = answer_keys(constraints), type_names(tuple(labels))
    try:
        if not text.strip():
            raise Lost("empty_text")
        rest = _cut_reasoning(whole_characters(text, reading.note), reading)
        body, outside, has_tags = _find_body(rest, reading)
        reading.form, start = _find_list(body, has_tags, keys, types)
        if not has_tags:
            reading.note("no_answer_tag")
        _note_around(outside, reading)
        for item in (_tuples if reading.form == "paper" else _json)(body, start, keys, types, reading):
            try:
                reading.entities.append(_entity(item, keys, types, reading))
            except Lost as loss:
                reading.first_defect = reading.first_defect or loss.name
                reading.lost.append(loss.name)
    except Lost as loss:
        reading.first_defect = reading.first_defect or loss.name
        reading.reason = loss.name
    if reading.lost and not reading.entities:
        reading.reason = reading.lost[0]
    return reading


def answer_keys(constraints: Collection[str]) -> tuple[str, ...]:
    """The keys of an item in a task; a missing constraint leaves its key out."""
    return ("entity",) + ("type",) * ("type" in constraints) + ("bbox_2d",) * ("box" in constraints)


@lru_cache(maxsize=64)
def type_names(labels: tuple[str, ...]) -> dict[str, str]:
    """Every name that lenient parsing takes for a type, in upper case, and the label that it stands for.

    Example:
        >>> type_names(("PER", "park"))
        {'PER': 'PER', 'PARK': 'park', 'PERSON': 'PER'}
    """
    names = {label.upper(): label for label in labels}
    for label in labels:
        for name in next((group for group in SYNONYMS if label.upper() in group), ()):
            names.setdefault(name, label)
    return names


def _cut_reasoning(text: str, reading: Reading) -> list[str]:
    """The text without its reasoning, split at answer tags; the reasoning goes to `reading.think`."""
    pieces = _TAG.split(text)
    last_close = {piece: k for k, piece in enumerate(pieces) if piece in _OPENING}
    thinks: list[list[str]] = []
    rest: list[str] = []
    opened: str | None = None  # the tag of the reasoning that is being read
    last_opened: str | None = None
    has_answer = False
    for k, piece in enumerate(pieces):
        if opened is not None and _OPENING.get(piece) == opened:
            opened = None
        elif opened is not None and (piece != "<answer>" or k < last_close.get(_CLOSING[opened], -1)):
            if _TAG.fullmatch(piece):
                reading.note("tag_in_think")
            thinks[-1].append(piece)
        elif piece in _CLOSING:
            if has_answer:
                reading.note("think_misplaced")
            elif thinks and not (len(thinks) == 1 and (last_opened, piece) == ("<think>", "<process>")):
                reading.note("several_thinks")
            thinks.append([])
            opened = last_opened = piece
        elif piece in _OPENING and not has_answer and not thinks:
            reading.note("unopened_think")
            thinks, rest, last_opened = [rest], [], _OPENING[piece]
        elif piece in _OPENING:
            reading.note("think_misplaced")
        else:
            if opened is not None:
                reading.note("unclosed_think")
            opened = None
            has_answer = has_answer or piece == "<answer>"
            rest.append(piece)
    if opened is not None:
        reading.note("unclosed_think")
    if thinks:
        reading.think = "\n".join("".join(think).strip() for think in thinks)
    return rest


def _find_body(pieces: list[str], reading: Reading) -> tuple[str, str, bool]:
    """The text in the answer tags that count, the text outside of all, and whether there are any."""
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
        return "".join(outside), "", False
    if n_opened > 1:
        reading.note("several_answers")
    if blocks:
        return blocks[-1], "".join(outside), True
    reading.note("unclosed_answer")
    if not (body := "".join(opened)).strip():
        raise Lost("no_list")  # only a closed answer says by being empty that nobody is named
    return body, "".join(outside), True


def _find_list(
    body: str, has_tags: bool, keys: tuple[str, ...], types: Mapping[str, str]
) -> tuple[Form, int]:
    """The form of the list in a text, and where it starts."""
    start = len(body) - len(body.lstrip())
    if body[start : start + 1] in ("[", "{", "("):
        return "paper" if _TUPLES_START.match(body, start) else "json", start
    if _NOBODY.fullmatch(body) or (has_tags and start == len(body)):
        return "paper", start
    objects = _LIST_START.search(body)
    if objects is None or objects[0] == "[":
        tuples = LooseTuples(body, 0, lambda _: None, lambda _: None, types, keys)
        if next(iter(tuples), None) is not None:
            return "paper", 0
    start = body.find("[") if objects is None else objects.start()
    if start < 0:
        raise Lost("no_list" if has_tags else "no_answer")
    return "json", start


def _json(body: str, start: int, keys: Any, types: Any, reading: Reading) -> Iterator[Any]:
    _note_around(body[:start], reading)
    loose_list = LooseList(body, start, reading.note)
    yield from loose_list
    _note_around(body[loose_list.start :], reading)


def _tuples(
    body: str, start: int, keys: tuple[str, ...], types: Mapping[str, str], reading: Reading
) -> Iterator[Any]:
    if (nobody := body.strip()) == "None" or not nobody:
        return
    if _NOBODY.fullmatch(body):
        reading.note("null_in_words")
        return
    yield from LooseTuples(body, start, reading.note, partial(_note_around, reading=reading), types, keys)


def _note_around(text: str, reading: Reading) -> None:
    without_fences = _FENCE.sub("", text)
    if without_fences != text:
        reading.note("code_fence")
    if without_fences.strip():
        reading.note("text_around")


def _entity(item: Any, keys: tuple[str, ...], types: Mapping[str, str], reading: Reading) -> PredictedEntity:
    if isinstance(item, Lost):
        raise item
    if not isinstance(item, dict):
        raise Lost("item_not_object")
    values = _values(item, keys, reading)
    text = values["entity"]
    if not isinstance(text, str):
        raise Lost("entity_not_text")
    if not text.strip():
        raise Lost("entity_empty")
    type_ = _type(values["type"], types, reading) if "type" in keys else None
    return PredictedEntity(text, type_, _boxes(values["bbox_2d"], reading) if "bbox_2d" in keys else ())


def _values(item: dict[str, Any], keys: tuple[str, ...], reading: Reading) -> dict[str, Any]:
    """The item's values under the task's own keys."""
    if len(item) == len(keys) and all(key in item for key in keys):
        return item
    values = {key: item[key] for key in keys if key in item}
    for key, value in item.items():
        meant = next((k for k in keys if k not in values and key.lower() in ALIASES[k]), None)
        if key not in values and meant is not None:
            reading.note("key_alias")
            values[meant] = value
    if len(values) < len(item):
        reading.note("extra_key")
    if len(values) < len(keys):
        raise Lost("missing_key")
    return values


def _type(value: Any, types: Mapping[str, str], reading: Reading) -> str:
    label = types.get(value.strip().upper()) if isinstance(value, str) else None
    if label is None:
        raise Lost("unknown_type")
    if value != (TYPE_WORDS.get(label, label) if reading.form == "paper" else label):
        reading.note("type_synonym")
    return label


def _boxes(value: Any, reading: Reading) -> tuple[Box, ...]:
    is_null_word = value == [] or (isinstance(value, str) and value.strip().lower() in NULL_WORDS)
    if is_null_word:
        reading.note("null_in_words")
    if value is None or is_null_word:
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
    if isinstance(value, Lost):
        raise value
    if isinstance(value, str) and (value := number(value.strip())) is not None:
        reading.note("number_as_text")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Lost("box_not_numbers")
    if isinstance(value, float):
        reading.note("float_coordinate")
    if value < 0:
        reading.note("negative_number")
    return value
