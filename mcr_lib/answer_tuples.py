"""Reads the paper's tuples, (text, type, (x1, y1, x2, y2) | None), that may be damaged; see `answer.DEFECTS`.

A style may write the fields in any order (paper App. C.2), so a field is told by its content: a box or None
is the location, the name of a type is the type, the rest is the name of the entity; what stands in double
quotes is the name. Two levels of nesting, a bounded number of fields: linear time for any input.
"""

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from mcr_lib.answer_json import CONTROL, MAX_ITEMS, NOT_FINITE, STRING, Lost, number, read_string

NULL_WORDS = ("", "none", "null", "n/a", "[]")  # in any case: the image does not show the entity
QUOTES = "\"'`“”‘’"
MAX_FIELDS = 16  # of one tuple; each part of a name with commas counts as one

_FIELD = re.compile(  # up to the next comma or parenthesis; a bare name may hold "(...)"
    rf"""\s*+(?:
      "(?P<text>{STRING.format(q='"')})"(?=\s*+(?:[,)]|\Z))
    | '(?P<quoted>{STRING.format(q="'")})'(?=\s*+(?:[,)]|\Z))
    | [“‘](?P<curly>[^“”‘’]*+)[”’](?=\s*+(?:[,)]|\Z))
    | (?P<box>[(\[])(?=\s*+(?:["']?-?\.?[0-9]|[(\[)\]]|(?:-?nan|-?inf|-?infinity|none|null|x_?1)\b))
    | (?P<bare>(?:[^(),]++|\([^(),]*+\))*+)
    )""",
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
_NUMBERS = re.compile(r"[(\[]([^()\[\]]*+)([)\]]|(?=\()|\Z)")  # a box, closed or not
_NEXT_BOX, _CLOSE = re.compile(r"\s*+,?+\s*+(?=[(\[])"), re.compile(r"\s*+,?+\s*+[)\]]")
_MARK, _OPENINGS = re.compile(r"\s*+([,)]?)"), re.compile(r"[\s(\[]*+")
_LINE, _BULLET = re.compile(r"[^\n)]++"), re.compile(r"\s*+(?:(?:[-*•]|[0-9]++[.:])\s++)?+")
_NUMBER = re.compile(r"-?[0-9]++(?:\.[0-9]++)?+")


class Field(NamedTuple):
    """A field of a tuple and its place in the text."""

    kind: str  # "bare", "quoted" or "box"
    value: Any  # a text; of a box a list of boxes, mostly one
    start: int
    end: int


@dataclass(slots=True)
class LooseTuples:
    """The tuples of a text that may be damaged; iterate it once.

    Example:
        >>> for item in LooseTuples("(Ada, person, None) (in, person, [1, 2])", 0, print, print, {"PERSON"}):
        ...     print(item)
        {'bbox_2d': None, 'type': 'person', 'entity': 'Ada'}
        box_brackets
        {'bbox_2d': [1, 2], 'type': 'person', 'entity': 'in'}
    """

    text: str
    start: int  # of the first tuple or of a "[" before it; while iterating, behind what was read
    note: Callable[[str], None]  # called with the name of every repaired defect
    note_around: Callable[[str], None]  # called with text that belongs to no tuple
    types: Collection[str]  # names of types in upper case
    keys: Collection[str] = ("entity", "type", "bbox_2d")  # the task's fields
    n_tries: int = MAX_ITEMS  # of lines that may be tuples without an opening parenthesis

    def __iter__(self) -> Iterator[dict[str, Any] | Lost]:
        """The fields of each tuple under the keys of an item of JSON, or a `Lost`.

        After text that belongs to no tuple, a parenthesis is a tuple only if it holds a location or a type.
        """
        is_list = self.text.startswith("[", self.start)
        self.start += is_list
        n_items = 0
        while True:
            at = self.text.find("(", self.start)
            at = len(self.text) if at < 0 else at
            gap = self.text[self.start : at]
            if (item := self._without_opening(gap)) is None:
                is_last = at == len(self.text)
                if is_list and is_last:
                    gap, bracket, rest = gap.partition("]")
                    if not bracket:
                        self.note("cut_list")
                    gap += rest
                is_after_text = self._note_gap(gap, may_have_comma=n_items > 0 and not is_last)
                if is_last:
                    return
                if n_items == MAX_ITEMS:
                    self.note("too_many_items")
                    return
                item = self._tuple(at, is_after_text=is_after_text)
            if item is not None:
                yield item
                n_items += 1

    def _note_gap(self, gap: str, *, may_have_comma: bool) -> bool:
        """Notes what should not stand between two tuples; True if that is text."""
        marks = "".join(gap.split())
        if not marks or (marks == "," and may_have_comma):
            return False
        if marks.strip(",)"):
            self.note_around(gap)
            return True
        self.note("unbalanced_parentheses" if ")" in marks else "stray_comma")
        return False

    def _without_opening(self, gap: str) -> dict[str, Any] | None:
        """The first tuple that begins in a text between tuples and lacks only its opening parenthesis."""
        if "," not in gap:
            return None
        start, note = self.start, self.note
        for line in _LINE.finditer(gap):
            if "," not in line[0] or self.n_tries == 0:
                continue
            self.n_tries -= 1
            notes: list[str] = []
            self.note, begin = notes.append, start + line.start() + _BULLET.match(line[0]).end()
            try:
                fields, is_closed = self._fields(begin)
                item = None if not is_closed and self._is_cut(fields) else self._values(fields)
            except Lost:
                item = None
            self.note = note
            if item is not None and "\n" not in self.text[begin : self.start].strip():
                self.note_around(gap[: line.start()])
                for defect in ["unbalanced_parentheses", *notes]:
                    note(defect)
                return item
        self.start = start
        return None

    def _tuple(self, at: int, *, is_after_text: bool) -> dict[str, Any] | Lost | None:
        """The tuple that opens at `at`, a `Lost`, or `None` for a parenthesis that is no tuple."""
        try:
            fields, is_closed = self._fields(at + 1)
            is_at_end = self.start == len(self.text)
            if not is_closed and not is_at_end and fields[-1].value == "":
                fields.pop()
            if not fields or (is_after_text and not (len(fields) > 1 and any(map(self._is_telling, fields)))):
                self.note_around(self.text[at : self.start])
                return None
            if not is_closed and is_at_end and self._is_cut(fields):
                raise Lost("cut_list")
            if not is_closed:
                self.note("unbalanced_parentheses")
            return self._values(fields)
        except Lost as loss:
            return loss

    def _is_telling(self, field: Field) -> bool:
        """Whether a field is a location or a type."""
        if field.kind != "bare":
            return field.kind == "box"
        return field.value.upper() in self.types or field.value.lower() in NULL_WORDS[1:]

    def _is_cut(self, fields: list[Field]) -> bool:
        """Whether a tuple that is not closed may lack more than its closing parenthesis."""
        return len(fields) < len(self.keys) or not self._is_telling(fields[-1])

    def _fields(self, at: int) -> tuple[list[Field], bool]:
        """The fields from behind an opening parenthesis on, and whether it is closed; moves `start`."""
        fields: list[Field] = []
        mark = ","
        while mark == "," and len(fields) < MAX_FIELDS:
            fields.append(self._field(at))
            match = _MARK.match(self.text, fields[-1].end)
            mark, at = match[1], match.end()
            self.start = at
        return fields, mark == ")"

    def _field(self, at: int) -> Field:
        match = _FIELD.match(self.text, at)
        kind, value = match.lastgroup, match[match.lastgroup]
        if kind == "box":
            self.start = match.start("box")
            return Field("box", self._boxes(), match.start("box"), self.start)
        if kind == "bare":
            return Field("bare", self._bare(value), match.start("bare"), match.end())
        if kind != "text":
            self.note("python_literal" if kind == "quoted" else "other_quotes")
        return Field("quoted", read_string(value, self.note), match.start(), match.end())

    def _bare(self, text: str) -> str:
        text = text.strip()
        if text and (text[0] in QUOTES or text[-1] in QUOTES):
            is_pair = text[0] in QUOTES and text[-1] in QUOTES
            if is_pair or text.count('"') == 1:
                self.note("other_quotes")
                text = text.strip(QUOTES).strip()
        if CONTROL.search(text):
            self.note("control_character")
            text = CONTROL.sub(" ", text)
        return text

    def _boxes(self) -> list[list[Any]]:
        """The values of the box, or of the boxes of a list, that opens at `start`; moves `start`."""
        match = _NUMBERS.match(self.text, self.start)
        if match is not None and (match[1].strip() or match[2]):
            return [self._box()]
        self.note("several_boxes")
        boxes, at = [], self.start + 1
        while (match := _NEXT_BOX.match(self.text, at)) is not None:
            self.start = match.end()
            boxes.append(self._box())
            at = self.start
        if (match := _CLOSE.match(self.text, at)) is None:
            self.note("unbalanced_parentheses")
        self.start = at if match is None else match.end()
        return boxes

    def _box(self) -> list[Any]:
        match = _NUMBERS.match(self.text, self.start)
        if match is None or not (match[1].strip() or match[2]):
            self.start = _OPENINGS.match(self.text, self.start).end()
            raise Lost("too_deep")
        if match[1] and not match[2] and match.end() == len(self.text):
            self.start = match.end()
            raise Lost("cut_list")
        if not match[2]:
            self.note("unbalanced_parentheses")
        if self.text[self.start] == "[" and match[1].strip():
            self.note("box_brackets")
        self.start = match.end()
        return self._numbers(match[1])

    def _numbers(self, text: str) -> list[Any]:
        parts = [part.strip() for part in text.split(",")]
        if len(parts) > 1 and not parts[-1]:
            self.note("stray_comma")
            parts.pop()
        return [] if parts == [""] else [_number(part) for part in parts]

    def _values(self, fields: list[Field]) -> dict[str, Any]:
        """The fields under the keys of the task, each told by its content."""
        left = list(fields)
        if len(left) > len(self.keys) and left[-1].value == "":
            self.note("stray_comma")
            left.pop()
        if len(left) < len(self.keys):
            raise Lost("missing_key")
        values = {}
        if "bbox_2d" in self.keys:
            values["bbox_2d"] = self._take_location(left)
        if "type" in self.keys:
            values["type"] = self._take_type(left)
        values["entity"] = self._name(left, fields)
        return values

    def _take_location(self, left: list[Field]) -> Any:
        if boxes := [box for field in left if field.kind == "box" for box in field.value]:
            left[:] = [field for field in left if field.kind != "box"]
            return boxes[0] if len(boxes) == 1 else boxes
        bare = [field for field in left if field.kind == "bare"]
        nulls = [field for field in bare if field.value == "None"]
        if nulls := nulls or [field for field in bare if field.value.lower() in NULL_WORDS]:
            left.remove(nulls[-1])
            return None if nulls[-1].value == "None" else nulls[-1].value
        for field in reversed([field for field in left if field.kind == "quoted"]):
            match = _NUMBERS.fullmatch(field.value)
            if match is not None or field.value.lower() in NULL_WORDS:
                self.note("quoted_field")
                left.remove(field)
                return field.value if match is None else self._numbers(match[1])
        for k in range(len(left) - 3):
            four = left[k : k + 4]
            if all(field.kind == "bare" and _NUMBER.fullmatch(field.value) for field in four):
                self.note("flat_box")
                del left[k : k + 4]
                return [_number(field.value) for field in four]
        raise Lost("box_not_list")

    def _take_type(self, left: list[Field]) -> str:
        named = [field for field in left if field.kind != "box" and field.value.upper() in self.types]
        bare = [field for field in named if field.kind == "bare"]
        if not bare:
            if not named:
                raise Lost("unknown_type")
            self.note("quoted_field")
        left.remove(field := (bare or named)[-1])
        return field.value

    def _name(self, left: list[Field], fields: list[Field]) -> str:
        """The name among the fields that are left: the quoted one, else the first with its parts."""
        names = [field for field in left if field.kind == "quoted"] or [f for f in left if f.kind == "bare"]
        if not names:
            raise Lost("missing_key")
        first, last = names[0], names[-1]
        n_parts = fields.index(last) - fields.index(first) + 1
        if first.kind == "bare" and 1 < len(left) == n_parts:
            self.note("unquoted_name")
            return self._bare(self.text[first.start : last.end])
        if len(left) > 1:
            self.note("extra_key")
        elif first.kind == "bare" and "(" in first.value:
            self.note("unquoted_name")
        return first.value


def _number(text: str) -> Any:
    """The number that a text is; a `Lost` for one that is no place, the text itself if it is no number."""
    try:
        value = number(text)
    except Lost as loss:
        return loss
    if value is None and text.lower() in NOT_FINITE:
        return Lost("number_not_finite")
    return text.strip(QUOTES) if value is None else value
