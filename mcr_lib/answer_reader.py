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

from mcr_lib.answer_json import NOT_FINITE, LooseList, Lost, Notes, lose, number, whole_characters
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
                reader.note.first = reader.note.first or str(loss)
                reader.lost.append(str(loss))
    except Lost as loss:
        reader.note.first = reader.note.first or str(loss)
        reader.reason = str(loss)
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
    note: Notes = field(default_factory=Notes)
    lost: list[str] = field(default_factory=list)
    reason: str | None = None

    def items(self, text: str) -> Iterator[Any]:
        """The items of the answer's list: values under the keys of JSON, a `Lost`, or what is no item."""
        lose("empty_text", not text.strip())
        body, outside, has_tags = self._cut(whole_characters(text, self.note))
        start = len(body) - len(body.lstrip())
        is_nobody = bool(_NOBODY.fullmatch(body)) or (has_tags and start == len(body))
        self.form, start = ("paper", start) if is_nobody else self._find_list(body, start, has_tags)
        self.note("no_answer_tag", not has_tags)
        self.note.around(outside)
        if is_nobody:
            self.note("null_in_words", body.strip() not in ("None", ""))
            return
        self.note.around(body[:start])
        if self.form == "json":
            yield from LooseList(body, start, self.note)
        else:
            yield from LooseTuples(body, start, self.note, self.types, self.keys)

    def _cut(self, text: str) -> tuple[str, str, bool]:
        """The text in the answer tags that count, the text outside of all tags, and whether there are any.

        The reasoning goes to `think`.
        """
        pieces = _TAG.split(text)
        last = {piece: k for k, piece in enumerate(pieces)}
        thinks: list[str] = []
        answers: list[list[str]] = []
        outside, complete, opening, in_answer = [], None, None, False
        k = 0
        while k < len(pieces):
            piece, k = pieces[k], k + 1
            if piece in _CLOSING:
                is_second = (len(thinks), opening, piece) == (1, "<think>", "<process>")
                self.note("think_misplaced", answers)
                self.note("several_thinks", thinks and not answers and not is_second)
                opening = piece
                is_closed = last.get(_CLOSING[piece], 0) >= k
                stop = _CLOSING[piece] if is_closed else "<answer>"
                end = pieces.index(stop, k) if last.get(stop, 0) >= k else len(pieces)
                self.note("tag_in_think", end > k + 1)
                self.note("unclosed_think", not is_closed)
                thinks.append("".join(pieces[k:end]))
                k = end + is_closed
            elif piece in _OPENING and (answers or thinks):
                self.note("think_misplaced")
            elif piece in _OPENING:
                self.note("unopened_think")
                thinks, outside, opening = ["".join(outside)], [], _OPENING[piece]
            elif piece == "<answer>":
                in_answer = True
                answers.append([])
            elif piece == "</answer>" and in_answer:
                complete, in_answer = answers[-1], False
            else:
                (answers[-1] if in_answer else outside).append(piece)
        if thinks:
            self.think = "\n".join(map(str.strip, thinks))
        if not answers:
            return "".join(outside), "", False
        self.note("several_answers", len(answers) > 1)
        self.note("unclosed_answer", complete is None)
        body = "".join(complete or answers[-1])
        # Only a closed answer says by being empty that nobody is named.
        lose("no_list", complete is None and not body.strip())
        return body, "".join(outside), True

    def _find_list(self, body: str, start: int, has_tags: bool) -> tuple[Form, int]:
        """The form of the list in a text, and where it starts, at `start` or later."""
        if body[start : start + 1] in ("[", "{", "("):
            return "paper" if _TUPLES_START.match(body, start) else "json", start
        objects = _LIST_START.search(body)
        tuples = iter(LooseTuples(body, 0, Notes(), self.types, self.keys))
        if (objects is None or objects[0] == "[") and next(tuples, None) is not None:
            return "paper", 0
        start = body.find("[") if objects is None else objects.start()
        if start < 0:
            raise Lost("no_list" if has_tags else "no_answer")
        return "json", start

    def entity(self, item: Any) -> PredictedEntity:
        """The entity that an item claims; raises a `Lost`."""
        if isinstance(item, Lost):
            raise item
        lose("item_not_object", not isinstance(item, dict))
        values = self._values(item)
        text = values["entity"]
        lose("entity_not_text", not isinstance(text, str))
        lose("entity_empty", not text.strip())
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
        self.note("extra_key", len(values) < len(item))
        lose("missing_key", len(values) < len(self.keys))
        return values

    def _type(self, value: Any) -> str:
        label = self.types.get(value.strip().upper()) if isinstance(value, str) else None
        lose("unknown_type", label is None)
        self.note("type_synonym", value != (TYPE_WORDS.get(label, label) if self.form == "paper" else label))
        return label

    def _boxes(self, value: Any) -> tuple[Box, ...]:
        is_null_word = value == [] or (isinstance(value, str) and value.strip().lower() in NULL_WORDS)
        self.note("null_in_words", is_null_word)
        if value is None or is_null_word:
            return ()
        are_several = isinstance(value, list) and isinstance(value[0], list | dict)
        self.note("several_boxes", are_several)
        return tuple(map(self._box, value if are_several else [value]))

    def _box(self, value: Any) -> Box:
        for names in _CORNERS:
            if isinstance(value, dict) and value.keys() == set(names):
                self.note("box_as_object")
                value = [value[name] for name in names]
        lose("box_not_list", not isinstance(value, list))
        lose("box_length", len(value) != 4)
        x1, y1, x2, y2 = map(self._coordinate, value)
        if x1 > x2 or y1 > y2:
            self.note("swapped_corners")
            x1, y1, x2, y2 = min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)
        self.note("empty_box", x1 == x2 or y1 == y2)
        return (x1, y1, x2, y2)

    def _coordinate(self, value: Any) -> float:
        if isinstance(value, str):
            text = value.strip(QUOTES) if self.form == "paper" else value
            is_quoted = self.form == "json" or text != value
            lose("number_not_finite", not is_quoted and text.lower() in NOT_FINITE)
            value = number(text.strip())
            self.note("number_as_text", is_quoted and value is not None)
        lose("box_not_numbers", isinstance(value, bool) or not isinstance(value, int | float))
        self.note("float_coordinate", isinstance(value, float))
        self.note("negative_number", value < 0)
        return value
