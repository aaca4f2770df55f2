"""Reads lists of JSON that may be damaged; `answer.DEFECTS` explains the defects.

`json.loads` only accepts or rejects a list; `LooseList` returns the intact items of a damaged one and names
each departure from JSON. One pass over the text, bounded depth, bounded numbers: linear time for any input.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

MAX_DEPTH = 8  # nesting of lists and objects; an answer needs 3, one with several boxes 4
MAX_ITEMS = 1_000  # items read from one list; no tweet has as many tokens
MAX_NUMBER_CHARS = 40  # beyond this a number is lost, for long integers cost quadratic time
MAX_NUMBER = 10**12  # so is one beyond this, for no coordinate is so large

STRING = r"(?:[^{q}\\]|\\.)*+"  # between two quotes q
_NUMBER = r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?"
_TOKEN = re.compile(  # one token; an unclosed string is the `end` of what can be read
    rf"""[ \t\n\r]*+(?:
      (?P<mark>[\[\]{{}},:])
    | "(?P<text>{STRING.format(q='"')})"
    | '(?P<quoted>{STRING.format(q="'")})'
    | (?P<number>{_NUMBER})
    | (?P<word>-?[A-Za-z]++)
    | (?P<end>\Z|["'])
    )""",
    re.VERBOSE | re.DOTALL,
)

_WORDS = {"null": None, "true": True, "false": False}
_PYTHON_WORDS = {"None": None, "True": True, "False": False}
NOT_FINITE = {"nan", "infinity", "-infinity", "inf", "-inf", "-nan"}
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
CONTROL = re.compile(r"[\x00-\x1f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


class Lost(Exception):
    """`Lost(defect)`: a defect that costs one entity or, raised outside of an item, the whole answer."""

    def __init__(self, defect: str) -> None:
        self.name = defect


@dataclass(slots=True)
class LooseList:
    """A list in a text that may be damaged; iterate it once.

    Example:
        >>> repairs = []
        >>> list(LooseList("[1, {'a': None,}] etc.", 0, repairs.append)), repairs
        ([1, {'a': None}], ['python_literal', 'python_literal', 'stray_comma'])
    """

    text: str
    start: int  # of the opening "[" or, for objects without a list, of a "{"; after the iteration, behind it
    note: Callable[[str], None]  # called with the name of every repaired defect
    # The token at `start`: its kind (a mark is its own kind; "" if it is no token of JSON), text and end.
    _kind: str = field(init=False)
    _value: str = field(init=False)
    _end: int = field(init=False)

    def __iter__(self) -> Iterator[Any]:
        """Each item as a Python value or a `Lost`; after a broken item, reading resumes at the next "{"."""
        self._go_to(self.start)
        is_list = self._steps_over("[")
        if not is_list:
            self.note("single_object")
        n_items = n_commas_due = 0
        while True:
            n_commas = 0
            while self._steps_over(","):
                n_commas += 1
            is_over = self._kind in ("]", "end") or (n_items > 0 and not is_list and self._kind != "{")
            if n_commas != (0 if is_over else n_commas_due):
                self.note("missing_comma" if n_commas == 0 else "stray_comma")
            if is_over:
                break
            if n_items == MAX_ITEMS:
                self.note("too_many_items")
                self.start = len(self.text)
                return
            try:
                item = self._read_value(1)
            except Lost as loss:
                item = loss
            yield item
            n_items += 1
            n_commas_due = int(not isinstance(item, Lost))
            if isinstance(item, Lost):
                next_object = self.text.find("{", self.start)
                if next_object < 0 or item.name == "cut_list":
                    self.start = len(self.text)
                    return
                self._go_to(next_object)
        if is_list and not self._steps_over("]"):
            if n_items:
                self.note("cut_list")
            else:
                yield Lost("cut_list")

    def _go_to(self, start: int) -> None:
        match = _TOKEN.match(self.text, start)
        self.start = start
        if match is None:
            self._kind, self._value, self._end = "", "", start
        else:
            self._value, self._end = match[match.lastgroup], match.end()
            self._kind = self._value if match.lastgroup == "mark" else match.lastgroup

    def _steps_over(self, mark: str) -> bool:
        """Whether `mark` is next; if so, reading continues behind it."""
        if self._kind != mark:
            return False
        self._go_to(self._end)
        return True

    def _read_value(self, depth: int) -> Any:
        kind, value = self._kind, self._value
        if kind in ("end", "", "]", "}", ",", ":"):
            raise self._broken()
        if kind in ("[", "{") and depth >= MAX_DEPTH:
            raise Lost("too_deep")
        self._go_to(self._end)
        if kind == "[":
            return self._read_list(depth)
        if kind == "{":
            return self._read_object(depth)
        if kind == "number":
            return number(value)
        if kind == "word":
            return self._read_word(value)
        if kind == "quoted":
            self.note("python_literal")
        return read_string(value, self.note)

    def _read_list(self, depth: int) -> list[Any]:
        values: list[Any] = []
        while not self._is_over("]", is_first=not values):
            values.append(self._read_value(depth + 1))
        return values

    def _read_object(self, depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while not self._is_over("}", is_first=not values):
            if self._kind not in ("text", "quoted"):
                raise self._broken()
            key = self._read_value(depth + 1)
            if not self._steps_over(":"):
                raise self._broken()
            if key in values:
                self.note("duplicate_key")
            values[key] = self._read_value(depth + 1)
        return values

    def _is_over(self, mark: str, *, is_first: bool) -> bool:
        """Steps over the closing mark (True) or, except before the first value, over a comma (False)."""
        if self._steps_over(mark):
            return True
        if is_first:
            return False
        if not self._steps_over(","):
            raise self._broken()
        if not self._steps_over(mark):
            return False
        self.note("stray_comma")
        return True

    def _broken(self) -> Lost:
        return Lost("cut_list" if self._kind == "end" else "not_json")

    def _read_word(self, word: str) -> bool | None:
        if word in _WORDS:
            return _WORDS[word]
        if word in _PYTHON_WORDS:
            self.note("python_literal")
            return _PYTHON_WORDS[word]
        raise Lost("number_not_finite" if word.lower() in NOT_FINITE else "not_json")


def read_string(raw: str, note: Callable[[str], None]) -> str:
    """The text that a JSON string stands for, given without its quotes."""
    if CONTROL.search(raw):
        note("control_character")
        raw = CONTROL.sub(" ", raw)
    if "\\" not in raw:
        return raw

    def unescape(match: re.Match[str]) -> str:
        code = match[1]
        if len(code) == 5:
            return chr(int(code[1:], 16))
        if code not in _ESCAPES:
            note("bad_escape")
        return _ESCAPES.get(code, code)

    return whole_characters(_ESCAPE.sub(unescape, raw), note)


def number(text: str) -> int | float | None:
    """The value of a JSON number, `None` for any other text; raises `Lost` beyond `MAX_NUMBER`."""
    if not re.fullmatch(_NUMBER, text):
        return None
    if len(text) > MAX_NUMBER_CHARS:
        raise Lost("number_too_long")
    value = int(text) if text.lstrip("-").isdecimal() else float(text)
    if abs(value) >= MAX_NUMBER:
        raise Lost("number_too_long")
    return value


def whole_characters(text: str, note: Callable[[str], None]) -> str:
    """The text with surrogate pairs joined and each lone surrogate replaced by U+FFFD (`lone_surrogate`)."""
    if not _SURROGATE.search(text):
        return text
    code_units = text.encode("utf-16-le", "surrogatepass")
    try:
        return code_units.decode("utf-16-le")
    except UnicodeDecodeError:
        note("lone_surrogate")
        return code_units.decode("utf-16-le", "replace")
