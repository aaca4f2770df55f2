"""Parses a model's text into entities and notes every defect on the way; `answer.DEFECTS` explains them.

Three steps, each in the order of the text: cut out the reasoning, find the answer's list and its form, read
its items (`answer_json`, `answer_tuples`). One parser serves both modes of `answer.parse_answer`, so that
they cannot drift apart: strict means "no defect at all".
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from mcr_lib.answer_json import NOT_FINITE, LooseList, Lost, note_around, number, whole_characters
from mcr_lib.answer_tuples import NULL_WORDS, QUOTES, LooseTuples
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
_NOBODY = re.compile(r"[\s`.\"']*+(?:none|null|n/a)[\s`.\"']*+", re.IGNORECASE)
_TUPLES_START = re.compile(r"(?:\[\s*+)?+\(")
_LIST_START = re.compile(r"\[[ \t\n\r]*+(?=[{\]])|\{")
_CORNERS = (("x1", "y1", "x2", "y2"), ("xmin", "ymin", "xmax", "ymax"))


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


def read(text: str, *, labels: Sequence[str], constraints: Collection[str]) -> "Reader":
    """Everything that can be parsed from a model's text, in time linear in its length."""
    reader = Reader(answer_keys(constraints), type_names(tuple(labels)))
    try:
        for item in reader.items(text):
            try:
                reader.entities.append(reader.entity(item))
            except Lost as loss:
                reader.first_defect = reader.first_defect or loss.name
                reader.lost.append(loss.name)
    except Lost as loss:
        reader.first_defect = reader.first_defect or loss.name
        reader.reason = loss.name
    if reader.lost and not reader.entities:
        reader.reason = reader.lost[0]
    return reader


@dataclass(slots=True)
class Reader:
    """What has been read of one text, and its defects; see `answer.ParsedAnswer`."""

    keys: tuple[str, ...]  # of an item in the task
    types: Mapping[str, str]  # see `type_names`
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

    def items(self, text: str) -> Iterator[Any]:
        """The items of the answer's list: values under the keys of JSON, a `Lost`, or what is no item."""
        if not text.strip():
            raise Lost("empty_text")
        body, outside, has_tags = self._cut(whole_characters(text, self.note))
        start = len(body) - len(body.lstrip())
        is_nobody = bool(_NOBODY.fullmatch(body)) or (has_tags and start == len(body))
        self.form, start = ("paper", start) if is_nobody else self._find_list(body, start, has_tags)
        if not has_tags:
            self.note("no_answer_tag")
        note_around(outside, self.note)
        if is_nobody:
            if body.strip() not in ("None", ""):
                self.note("null_in_words")
            return
        note_around(body[:start], self.note)
        if self.form == "json":
            yield from LooseList(body, start, self.note)
        else:
            yield from LooseTuples(body, start, self.note, self.types, self.keys)

    def _cut(self, text: str) -> tuple[str, str, bool]:
        """The text in the answer tags that count, the text outside of all tags, and whether there are any.

        The reasoning goes to `think`.
        """
        pieces = _TAG.split(text)
        last_close = {piece: k for k, piece in enumerate(pieces) if piece in _OPENING}
        outside: list[str] = []
        thinks: list[list[str]] = []
        answers: list[list[str]] = []
        complete: list[str] | None = None  # the last answer that was closed
        tag = last_tag = None  # the tag that is open; that of the last reasoning
        in_answer = False
        for k, piece in enumerate(pieces):
            if tag and piece == _CLOSING[tag]:
                tag = None
            elif tag and (piece != "<answer>" or k < last_close.get(_CLOSING[tag], -1)):
                if _TAG.fullmatch(piece):
                    self.note("tag_in_think")
                thinks[-1].append(piece)
            elif piece in _CLOSING:
                if answers:
                    self.note("think_misplaced")
                elif thinks and (len(thinks), last_tag, piece) != (1, "<think>", "<process>"):
                    self.note("several_thinks")
                thinks.append([])
                tag = last_tag = piece
            elif piece in _OPENING and (answers or thinks):
                self.note("think_misplaced")
            elif piece in _OPENING:
                self.note("unopened_think")
                thinks, outside, last_tag = [outside], [], _OPENING[piece]
            elif piece == "<answer>":
                if tag:
                    self.note("unclosed_think")
                tag, in_answer = None, True
                answers.append([])
            elif piece == "</answer>" and in_answer:
                complete, in_answer = answers[-1], False
            else:
                (answers[-1] if in_answer else outside).append(piece)
        if tag:
            self.note("unclosed_think")
        if thinks:
            self.think = "\n".join("".join(think).strip() for think in thinks)
        if not answers:
            return "".join(outside), "", False
        if len(answers) > 1:
            self.note("several_answers")
        if complete is None:
            self.note("unclosed_answer")
            if not "".join(answers[-1]).strip():
                raise Lost("no_list")  # only a closed answer says by being empty that nobody is named
        return "".join(answers[-1] if complete is None else complete), "".join(outside), True

    def _find_list(self, body: str, start: int, has_tags: bool) -> tuple[Form, int]:
        """The form of the list in a text, and where it starts, at `start` or later."""
        if body[start : start + 1] in ("[", "{", "("):
            return "paper" if _TUPLES_START.match(body, start) else "json", start
        objects = _LIST_START.search(body)
        if objects is None or objects[0] == "[":
            tuples = LooseTuples(body, 0, lambda _: None, self.types, self.keys)
            if next(iter(tuples), None) is not None:
                return "paper", 0
        start = body.find("[") if objects is None else objects.start()
        if start < 0:
            raise Lost("no_list" if has_tags else "no_answer")
        return "json", start

    def entity(self, item: Any) -> PredictedEntity:
        """The entity that an item claims; raises a `Lost`."""
        if isinstance(item, Lost):
            raise item
        if not isinstance(item, dict):
            raise Lost("item_not_object")
        values = self._values(item)
        text = values["entity"]
        if not isinstance(text, str):
            raise Lost("entity_not_text")
        if not text.strip():
            raise Lost("entity_empty")
        type_ = self._type(values["type"]) if "type" in values else None
        return PredictedEntity(text, type_, self._boxes(values["bbox_2d"]) if "bbox_2d" in values else ())

    def _values(self, item: dict[str, Any]) -> dict[str, Any]:
        """The item's values under the task's own keys."""
        values = {key: item[key] for key in self.keys if key in item}
        for name in item:
            key = next((k for k in self.keys if k not in values and name.lower() in ALIASES[k]), None)
            if key is not None:
                self.note("key_alias")
                values[key] = item[name]
        if len(values) < len(item):
            self.note("extra_key")
        if len(values) < len(self.keys):
            raise Lost("missing_key")
        return values

    def _type(self, value: Any) -> str:
        label = self.types.get(value.strip().upper()) if isinstance(value, str) else None
        if label is None:
            raise Lost("unknown_type")
        if value != (TYPE_WORDS.get(label, label) if self.form == "paper" else label):
            self.note("type_synonym")
        return label

    def _boxes(self, value: Any) -> tuple[Box, ...]:
        if value is None:
            return ()
        if value == [] or (isinstance(value, str) and value.strip().lower() in NULL_WORDS):
            self.note("null_in_words")
            return ()
        if isinstance(value, list) and isinstance(value[0], list | dict):
            self.note("several_boxes")
            return tuple(map(self._box, value))
        return (self._box(value),)

    def _box(self, value: Any) -> Box:
        for names in _CORNERS:
            if isinstance(value, dict) and value.keys() == set(names):
                self.note("box_as_object")
                value = [value[name] for name in names]
        if not isinstance(value, list):
            raise Lost("box_not_list")
        if len(value) != 4:
            raise Lost("box_length")
        x1, y1, x2, y2 = map(self._coordinate, value)
        if x1 > x2 or y1 > y2:
            self.note("swapped_corners")
            x1, y1, x2, y2 = min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)
        if x1 == x2 or y1 == y2:
            self.note("empty_box")
        return (x1, y1, x2, y2)

    def _coordinate(self, value: Any) -> float:
        if isinstance(value, str):
            text = value.strip(QUOTES) if self.form == "paper" else value
            is_quoted = self.form == "json" or text != value
            if not is_quoted and text.lower() in NOT_FINITE:
                raise Lost("number_not_finite")
            value = number(text.strip())
            if is_quoted and value is not None:
                self.note("number_as_text")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Lost("box_not_numbers")
        if isinstance(value, float):
            self.note("float_coordinate")
        if value < 0:
            self.note("negative_number")
        return value
