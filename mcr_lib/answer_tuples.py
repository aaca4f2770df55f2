"""Reads the paper's tuples, (text, type, (x1, y1, x2, y2) | None), that may be damaged.

A style may write the fields in any order (paper App. C.2), so a field is told by its content: a box or None
is the location, the name of a type is the type, the rest is the name of the entity; what stands in double
quotes is the name. Two levels of nesting, a bounded number of fields: linear time for any input.
"""

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from mcr_lib.answer_json import MAX_ITEMS, STRING, Lost, Notes, lose, read_string, without_control

NULL_WORDS = ("", "none", "null", "n/a", "[]")  # in any case: the image does not show the entity
ABSENT = re.compile(r"(?i)\s*(?:|none|null|\[]|not?\b.{0,40}|n[./]?a\.?|nil|absent|invisible|un\w+|-+)\s*")
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
_NEXT_BOX, _CLOSE = re.compile(r"\s*+,?+\s*+(?=[(\[])"), re.compile(r"(?:\s*+,?+\s*+[)\]])?+")
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
        >>> list(LooseTuples("(Ada, person, [1, 2])", 0, Notes(), {"PERSON"}))
        [{'bbox_2d': ['1', '2'], 'type': 'person', 'entity': 'Ada'}]
    """

    text: str
    start: int  # of the first tuple or of a "[" before it; while iterating, behind what was read
    note: Notes
    types: Collection[str]  # names of types in upper case
    keys: Collection[str] = ("entity", "type", "bbox_2d")  # the task's fields
    n_tries: int = MAX_ITEMS  # of lines that may be tuples without an opening parenthesis

    def __iter__(self) -> Iterator[dict[str, Any] | Lost]:
        """The fields of each tuple under the keys of an item of JSON, or a `Lost`."""
        n_items, is_list = 0, self.text.startswith("[", self.start)
        self.start += is_list
        while True:
            at = self.text.find("(", self.start)
            is_last, at = at < 0, at if at >= 0 else len(self.text)
            gap = self.text[self.start : at]
            if (item := self._without_opening(gap)) is None:
                if is_list and is_last:
                    self.note("cut_list", "]" not in gap)
                    gap = gap.replace("]", "", 1)
                marks = "".join(gap.split())
                if is_after_text := bool(marks.strip(",)")):
                    self.note.around(gap)
                elif marks and (marks != "," or is_last or n_items == 0):
                    self.note("unbalanced_parentheses" if ")" in marks else "stray_comma")
                self.note("too_many_items", not is_last and n_items == MAX_ITEMS)
                if is_last or n_items == MAX_ITEMS:
                    return
                item = self._tuple(at, is_after_text=is_after_text)
            if item is not None:
                yield item
                n_items += 1

    def _without_opening(self, gap: str) -> dict[str, Any] | None:
        """The first tuple that begins in a text between tuples and lacks only its opening parenthesis."""
        for line in _LINE.finditer(gap):
            if "," not in line[0] or self.n_tries == 0:
                continue
            self.n_tries -= 1
            begin = self.start + line.start() + _BULLET.match(line[0]).end()
            trial = LooseTuples(self.text, begin, Notes(), self.types, self.keys)
            try:
                fields, _, is_whole = trial._fields()
                item = trial._values(fields)
            except Lost:
                continue
            if is_whole and "\n" not in self.text[begin : trial.start].strip():
                self.note.around(gap[: line.start()])
                for defect in ("unbalanced_parentheses", *trial.note.repairs):
                    self.note(defect)
                self.start = trial.start
                return item
        return None

    def _tuple(self, at: int, *, is_after_text: bool) -> dict[str, Any] | Lost | None:
        """The tuple that opens at `at` or a `Lost`; after text, `None` if no field is telling."""
        try:
            self.start = at + 1
            fields, is_closed, is_whole = self._fields()
            is_at_end = self.start == len(self.text)
            if not is_closed and not is_at_end and fields[-1].value == "":
                fields.pop()
            if not fields or (is_after_text and not (len(fields) > 1 and any(map(self._is_telling, fields)))):
                self.note.around(self.text[at : self.start])
                return None
            lose("cut_list", is_at_end and not is_whole)
            self.note("unbalanced_parentheses", not is_closed)
            return self._values(fields)
        except Lost as loss:
            return loss

    def _is_telling(self, field: Field) -> bool:
        """Whether a field is a location or a type."""
        if field.kind != "bare":
            return field.kind == "box"
        return field.value.upper() in self.types or field.value.lower() in NULL_WORDS[1:]

    def _fields(self) -> tuple[list[Field], bool, bool]:
        """The fields from behind an opening parenthesis on, if it is closed, and if none may lack."""
        fields, mark = [], ","
        while mark == "," and len(fields) < MAX_FIELDS:
            fields.append(self._field())
            match = _MARK.match(self.text, self.start)
            mark, self.start = match[1], match.end()
        is_closed = mark == ")"
        is_whole = is_closed or (len(fields) >= len(self.keys) and self._is_telling(fields[-1]))
        return fields, is_closed, is_whole

    def _field(self) -> Field:
        start, match = self.start, _FIELD.match(self.text, self.start)
        kind, value, self.start = match.lastgroup, match[match.lastgroup], match.end()
        if kind == "box":
            self.start = match.start(kind)
            value = self._boxes()
        elif kind == "bare":
            value = self._bare(value)
        else:
            if kind != "text":
                self.note("python_literal" if kind == "quoted" else "other_quotes")
            kind, value = "quoted", read_string(value, self.note)
        return Field(kind, value, start, self.start)

    def _bare(self, text: str) -> str:
        text = text.strip()
        inner = text.strip(QUOTES)
        is_quoted = inner != text and (text.count('"') == 1 or (text[0] in QUOTES and text[-1] in QUOTES))
        self.note("other_quotes", is_quoted)
        return without_control(inner.strip() if is_quoted else text, self.note)

    def _boxes(self) -> list[list[Any]]:
        """The values of the box, or of the boxes of a list, that opens at `start`; moves `start`."""
        if (box := self._box()) is not None:
            return [box]
        self.note("several_boxes")
        boxes, self.start = [], self.start + 1
        while match := _NEXT_BOX.match(self.text, self.start):
            self.start = match.end()
            if (box := self._box()) is None:
                self.start = _OPENINGS.match(self.text, self.start).end()
                raise Lost("too_deep")
            boxes.append(box)
        match = _CLOSE.match(self.text, self.start)
        self.note("unbalanced_parentheses", not match[0])
        self.start = match.end()
        return boxes

    def _box(self) -> list[Any] | None:
        """The values of the box that opens at `start`, `None` if another one opens within; moves `start`."""
        match = _NUMBERS.match(self.text, self.start)
        if match is None or not (match[1].strip() or match[2]):
            return None
        is_bracket, self.start = match[0][0] == "[", match.end()
        lose("cut_list", not match[2] and self.start == len(self.text))
        self.note("unbalanced_parentheses", not match[2])
        self.note("box_brackets", is_bracket and match[1].strip())
        return self._numbers(match[1])

    def _numbers(self, text: str) -> list[str]:
        text = text.strip()
        self.note("stray_comma", text.endswith(","))
        text = text.removesuffix(",").strip()
        return [part.strip() for part in text.split(",")] if text else []

    def _values(self, fields: list[Field]) -> dict[str, Any]:
        """The fields under the keys of the task, each told by its content."""
        left, values = list(fields), {}
        if len(left) > len(self.keys) and left[-1].value == "":
            self.note("stray_comma")
            left.pop()
        n_short = len(self.keys) - len(left)
        lose("missing_key", n_short > ("bbox_2d" in self.keys))
        if "bbox_2d" in self.keys and (n_short < 1 or any(field.kind == "box" for field in left)):
            lose("missing_key", n_short > 0)
            values |= self._take_location(left)
        if "type" in self.keys:
            field = _take(left, ("bare", "quoted"), lambda value: value.upper() in self.types)
            lose("unknown_type", field is None)
            self.note("quoted_field", field.kind == "quoted")
            values["type"] = field.value
        return {**values, "entity": self._name(left, fields)}

    def _take_location(self, left: list[Field]) -> dict[str, Any]:
        """The location under its key: a `Lost` for words, nothing where the last field is the type."""
        try:
            return {"bbox_2d": self._location(left)}
        except Lost as loss:
            if left[-1].kind == "box":
                raise
            if (value := left[-1].value).upper() in self.types:
                return {}
            return {"bbox_2d": left.pop() and value if ABSENT.fullmatch(value) else loss}

    def _location(self, left: list[Field]) -> Any:
        if boxes := [box for field in left if field.kind == "box" for box in field.value]:
            left[:] = [field for field in left if field.kind != "box"]
            return boxes[0] if len(boxes) == 1 else boxes
        if _take(left, ("bare",), lambda value: value == "None"):
            return None
        if field := _take(left, ("bare",), lambda value: value.lower() in NULL_WORDS):
            return field.value
        if field := _take(left, ("quoted",), lambda v: v.lower() in NULL_WORDS or _NUMBERS.fullmatch(v)):
            self.note("quoted_field")
            match = _NUMBERS.fullmatch(field.value)
            return self._numbers(match[1]) if match else field.value
        for k in range(len(left) - 3):
            four = left[k : k + 4]
            if all(field.kind == "bare" and _NUMBER.fullmatch(field.value) for field in four):
                self.note("flat_box")
                del left[k : k + 4]
                return [field.value for field in four]
        raise Lost("box_not_list")

    def _name(self, left: list[Field], fields: list[Field]) -> str:
        """The name among the fields that are left: the quoted one, else the first with its parts."""
        names = [field for field in left if field.kind == "quoted"] or [f for f in left if f.kind == "bare"]
        lose("missing_key", not names)
        first, last = names[0], names[-1]
        n_parts = fields.index(last) - fields.index(first) + 1
        if first.kind == "bare" and 1 < len(left) == n_parts:
            self.note("unquoted_name")
            return self._bare(self.text[first.start : last.end])
        self.note("extra_key", len(left) > 1)
        self.note("unquoted_name", len(left) == 1 and first.kind == "bare" and "(" in first.value)
        return first.value


def _take(left: list[Field], kinds: Collection[str], is_meant: Callable[[str], Any]) -> Field | None:
    """Takes out the last field that is meant, of the first kind that has one."""
    for kind in kinds:
        for field in reversed(left):
            if field.kind == kind and is_meant(field.value):
                left.remove(field)
                return field
    return None
