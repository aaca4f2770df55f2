"""Reads the list that a model wrote as JSON, item by item, and tells every departure from JSON by name.

`json.loads` says yes or no; scoring a model needs more: which items of a damaged list are whole, and what was
wrong. One pass over the text, a fixed depth, no number longer than a float: linear time for any input. The
names of the defects are those of `answer.DEFECTS`.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

MAX_DEPTH = 8
"""Lists and objects inside one another; an answer needs 3, one with several boxes 4."""

MAX_ITEMS = 1_000
"""Items read from one list; no tweet has as many tokens."""

MAX_NUMBER_CHARS = 40
MAX_NUMBER = 10**12
"""Numbers of more characters, or of this size and beyond, are lost: they are no coordinates, and long
integers cost quadratic time.
"""

_STRING = r"(?:[^{q}\\]|\\.)*+"
_NUMBER = r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?"
_TOKEN = re.compile(
    rf"""[ \t\n\r]*+(?:
      (?P<mark>[\[\]{{}},:])
    | "(?P<text>{_STRING.format(q='"')})"
    | '(?P<quoted>{_STRING.format(q="'")})'
    | (?P<number>{_NUMBER})
    | (?P<word>-?[A-Za-z]++)
    | (?P<end>\Z|["'])
    )""",
    re.VERBOSE | re.DOTALL,
)
"""One token; a string that never closes is the `end` of what can be read."""

_WORDS = {"null": None, "true": True, "false": False}
_PYTHON_WORDS = {"None": None, "True": True, "False": False}
_NOT_FINITE = {"nan", "infinity", "-infinity", "inf", "-inf", "-nan"}
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_CONTROL = re.compile(r"[\x00-\x1f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


class Lost(Exception):
    """The defect that costs an entity or, raised outside of an item, the whole answer: `Lost(name of the
    defect)`.
    """

    @property
    def name(self) -> str:
        """A name of `answer.DEFECTS`."""
        return self.args[0]


@dataclass(slots=True)
class LooseList:
    """A list in a text that may be damaged; iterate it once.

    Args:
        text: what to read from.
        start: where the list begins: the place of a "[" or, for objects without a list around them, of a "{".
            After the iteration the place behind the list.
        note: called with the name of every defect that is mended.

    Example:
        >>> mended = []
        >>> list(LooseList("[1, {'a': None,}] etc.", 0, mended.append)), mended
        ([1, {'a': None}], ['python_literal', 'python_literal', 'stray_comma'])
    """

    text: str
    start: int
    note: Callable[[str], None]
    # The token at `start`: its kind (a mark is its own kind; "" where no token of JSON stands), its text and
    # where it ends.
    _kind: str = field(init=False)
    _value: str = field(init=False)
    _end: int = field(init=False)

    def __iter__(self) -> Iterator[Any]:
        """Each item as a Python value, or a `Lost` in its place; after a broken item the reading goes on at
        the next "{".
        """
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
            item = self._item()
            yield item
            n_items, n_commas_due = n_items + 1, 1
            if isinstance(item, Lost):
                n_commas_due = 0
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
            return
        self._kind, self._value, self._end = match.lastgroup, match[match.lastgroup], match.end()
        if self._kind == "mark":
            self._kind = self._value

    def _steps_over(self, mark: str) -> bool:
        """Whether `mark` is next; if so, the reading goes on behind it."""
        is_next = self._kind == mark
        if is_next:
            self._go_to(self._end)
        return is_next

    def _item(self) -> Any:
        try:
            return self._read_value(1)
        except Lost as loss:
            return loss

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
        return self._read_string(value)

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
        """Step over the closing mark (True) or, before all but the first value, over a comma (False)."""
        if self._steps_over(mark):
            return True
        if is_first:
            return False
        if not self._steps_over(","):
            raise self._broken()
        is_over = self._steps_over(mark)
        if is_over:
            self.note("stray_comma")
        return is_over

    def _broken(self) -> Lost:
        return Lost("cut_list" if self._kind == "end" else "not_json")

    def _read_word(self, word: str) -> bool | None:
        if word in _WORDS:
            return _WORDS[word]
        if word in _PYTHON_WORDS:
            self.note("python_literal")
            return _PYTHON_WORDS[word]
        raise Lost("number_not_finite" if word.lower() in _NOT_FINITE else "not_json")

    def _read_string(self, raw: str) -> str:
        if _CONTROL.search(raw):
            self.note("control_character")
            raw = _CONTROL.sub(" ", raw)
        if "\\" not in raw:
            return raw
        return whole_characters(_ESCAPE.sub(self._unescape, raw), self.note)

    def _unescape(self, match: re.Match[str]) -> str:
        code = match[1]
        if len(code) == 5:
            return chr(int(code[1:], 16))
        if code not in _ESCAPES:
            self.note("bad_escape")
        return _ESCAPES.get(code, code)


def number(text: str) -> int | float | None:
    """The value of a JSON number; `None` for any other text.

    Raises:
        Lost: a number too long or too large for a coordinate.

    Example:
        >>> number("52"), number("5.2e1"), number("052")
        (52, 52.0, None)
    """
    if not re.fullmatch(_NUMBER, text):
        return None
    if len(text) > MAX_NUMBER_CHARS:
        raise Lost("number_too_long")
    value = int(text) if text.lstrip("-").isdecimal() else float(text)
    if abs(value) >= MAX_NUMBER:
        raise Lost("number_too_long")
    return value


def whole_characters(text: str, note: Callable[[str], None]) -> str:
    """The text with surrogate pairs joined and each lone surrogate replaced by U+FFFD (noted as
    `lone_surrogate`).

    Example:
        >>> whole_characters("a" + chr(0xD83D) + chr(0xDE00), print) == "a" + chr(0x1F600)
        True
    """
    if not _SURROGATE.search(text):
        return text
    code_units = text.encode("utf-16-le", "surrogatepass")
    try:
        return code_units.decode("utf-16-le")
    except UnicodeDecodeError:
        note("lone_surrogate")
        return code_units.decode("utf-16-le", "replace")
