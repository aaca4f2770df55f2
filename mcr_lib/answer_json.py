"""Reads lists of JSON that may be damaged; `study/tables/defects.yaml` explains the defects.

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
TEXT = f'"{STRING.format(q=chr(34))}"'
_NUMBER = r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?"
SPECIAL = r"<[|｜][^<>|｜\s]{1,40}[|｜]>|</?(?:box|ref|s|eos|start_of_turn|end_of_turn)>"  # a tokenizer's
_TOKEN = re.compile(  # one token; an unclosed string is the `end` of what can be read
    rf"""[ \t\n\r]*+(?:
      (?P<mark>[][(){{}},:])
    | "(?P<text>{STRING.format(q='"')})"
    | '(?P<quoted>{STRING.format(q="'")})'
    | (?P<number>{_NUMBER})
    | (?P<word>-?[A-Za-z]++)
    | (?:{SPECIAL})(?P<box>[^<>"'{{}}]*+)(?:{SPECIAL})
    | (?P<end>\Z|["'])
    )""",
    re.VERBOSE | re.DOTALL,
)
_BOX_TOKEN = re.compile(  # of a tokenizer, beside a box; what stands in quotes is a name
    rf"""(?P<text>{TEXT[:-1]}(?:"|\Z))|(?:{SPECIAL})(?=\s*+[(\[]+[-\d])|(?<=[)\]])(?:{SPECIAL})""", re.DOTALL
)
_CLOSING = {"[": "]", "{": "}", "(": ")"}
_WORDS = {"true": True, "false": False, "True": True, "False": False}
_WORDS |= {"null": None, "None": None, "Null": None, "NULL": None, "NaN": None}  # NaN: of pandas
NOT_FINITE = {"nan", "infinity", "-infinity", "inf", "-inf", "-nan"}
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_CONTROL = re.compile(r"[\x00-\x1f]")
_FENCE, _SPECIAL, _IS_NUMBER = re.compile(r"```[A-Za-z]*+"), re.compile(SPECIAL), re.compile(_NUMBER)
_NEXT = re.compile(r'[{}]|,(?=\s*+"\w{1,40}"\s*+:)')  # where an object goes on behind a value that is lost


class Lost(Exception):
    """`Lost(defect)`: a defect that costs one entity or, raised outside of an item, the whole answer."""


def lose(defect: str, when: Any) -> None:
    """Raises a `Lost` if a condition holds."""
    if when:
        raise Lost(defect)


@dataclass(slots=True)
class Notes:
    """The repaired defects of a text, by name, in the order of first appearance; called to add one."""

    repairs: dict[str, None] = field(default_factory=dict)
    first: str | None = None  # of all defects, repaired or not

    def __call__(self, defect: str, when: Any = True) -> None:
        """Adds a defect, if a condition holds."""
        if when:
            self.first = self.first or defect
            self.repairs[defect] = None

    def around(self, text: str) -> None:
        """Adds the defects of a text that belongs to no list and no tuple."""
        if not text or text.isspace():
            return
        text, n_fences = _FENCE.subn("", text)
        text, n_special = _SPECIAL.subn("", text)
        self("code_fence", n_fences)
        self("special_token", n_special)
        self("text_around", text.strip())


class LooseList:
    """The items of a list that may be damaged and starts at a "[" or, without a list, a "{"; iterate it once.

    Example:
        >>> note = Notes()
        >>> list(LooseList("[1, {'a': None,}] etc.", 0, note)), list(note.repairs)
        ([1, {'a': None}], ['python_literal', 'stray_comma'])
    """

    def __init__(self, text: str, start: int, note: Notes) -> None:
        self.text, self.note = text, note
        self._go_to(start)

    def __iter__(self) -> Iterator[Any]:
        """Each item as a Python value or a `Lost`; after a broken item, reading resumes at the next "{".

        A value of an object may be a `Lost` too. `end` is behind what was read.
        """
        is_list = self._steps_over("[")
        self.note("single_object", not is_list)
        n_items = n_commas_due = 0
        while True:
            n_commas = sum(iter(lambda: self._steps_over(","), False))
            is_over = self._kind in ("]", "end") or (n_items > 0 and not is_list and self._kind != "{")
            if n_commas != (0 if is_over else n_commas_due):
                self.note("missing_comma" if n_commas == 0 else "stray_comma")
            if is_over:
                break
            if n_items == MAX_ITEMS:
                self.note("too_many_items")
                return
            n_items, n_commas_due = n_items + 1, 1
            try:
                yield self._read_value(1)
            except Lost as loss:
                yield loss
                n_commas_due, next_object = 0, self.text.find("{", self.end)
                gap = self.text[self.end : max(next_object, 0)].rstrip()
                if str(loss) == "cut_list":
                    self.end = len(self.text)
                if next_object < self.end or (gap.endswith("[") and {*"]}"} & {*gap}):
                    return  # at the end, or another list begins
                self._go_to(next_object)
        is_cut = is_list and not self._steps_over("]")
        self.note("cut_list", is_cut and n_items)
        if is_cut and not n_items:
            yield Lost("cut_list")

    def _go_to(self, start: int) -> None:
        """Makes the token at `start` the next; a mark is its own kind, what is no token has the kind ""."""
        match = _TOKEN.match(self.text, start)
        kind, self._value = (match.lastgroup, match[match.lastgroup]) if match else ("", "")
        self._kind = self._value if kind == "mark" else kind
        self.end, self._end = start, match.end() if match else start

    def _steps_over(self, mark: str) -> bool:
        """Whether `mark` is next; if so, reading continues behind it."""
        if is_next := self._kind == mark:
            self._go_to(self._end)
        return is_next

    def _read_value(self, depth: int) -> Any:
        kind, value = self._kind, self._value
        self._expect(kind not in ("end", "", *"]}),:"))
        self._go_to(self._end)
        if kind in _CLOSING:
            self.note("python_literal", kind == "(")
            lose("too_deep", depth >= MAX_DEPTH)
            return self._read_values(kind, depth + 1)
        if kind == "number":
            return number(value)
        if kind == "box":
            self.note("box_token")
            return value
        if kind == "word" and value not in _WORDS:
            raise Lost("number_not_finite" if value.lower() in NOT_FINITE else "not_json")
        self.note("python_literal", kind == "quoted" or (kind == "word" and value[0].isupper()))
        return _WORDS[value] if kind == "word" else read_string(value, self.note)

    def _read_values(self, opening: str, depth: int) -> list[Any] | dict[str, Any]:
        """The values of a list or of an object, from behind its opening mark on."""
        values: dict[Any, Any] = {}  # of a list under their numbers
        key: Any = None
        while not self._steps_over(_CLOSING[opening]):
            try:
                self._expect(not values or self._steps_over(","))
                if values and self._steps_over(_CLOSING[opening]):
                    self.note("stray_comma")
                    break
                new_key = len(values)
                if opening == "{":
                    self._expect(self._kind in ("text", "quoted"))
                    new_key = self._read_value(depth)
                    self._expect(self._steps_over(":"))
                key = new_key
                self.note("duplicate_key", key in values)
                values[key] = self._read_value(depth)
            except Lost as loss:
                is_item = opening == "{" and depth == 2 and key is not None and str(loss) != "cut_list"
                goes_on = _NEXT.search(self.text, self.end) if is_item else None
                if goes_on is None or goes_on[0] == "{":
                    raise
                values[key], self.note.first = loss, self.note.first or str(loss)
                self._go_to(goes_on.start())
        return values if opening == "{" else list(values.values())

    def _expect(self, is_fine: bool) -> None:
        if not is_fine:
            raise Lost("cut_list" if self._kind == "end" else "not_json")


def read_string(raw: str, note: Notes) -> str:
    """The text that a JSON string stands for, given without its quotes."""

    def unescape(match: re.Match[str]) -> str:
        code = match[1]
        if len(code) == 5:
            return chr(int(code[1:], 16))
        note("bad_escape", code not in _ESCAPES)
        return _ESCAPES.get(code, code)

    text = raw if raw.isprintable() else without_control(raw, note)
    return whole_characters(_ESCAPE.sub(unescape, text), note) if "\\" in text else text


def without_control(text: str, note: Notes) -> str:
    """The text with each control character replaced by a space."""
    has_control = _CONTROL.search(text)
    note("control_character", has_control)
    return _CONTROL.sub(" ", text) if has_control else text


def without_tokens(text: str, note: Notes) -> str:
    """The text with spaces in place of the special tokens beside its boxes."""
    if "<" not in text:
        return text
    spaced = _BOX_TOKEN.sub(lambda match: match[0] if match["text"] else " " * len(match[0]), text)
    note("special_token", spaced != text)
    return spaced


def number(text: str) -> int | float | None:
    """The value of a JSON number, `None` for any other text; raises `Lost` beyond `MAX_NUMBER`."""
    if not _IS_NUMBER.fullmatch(text):
        return None
    lose("number_too_long", len(text) > MAX_NUMBER_CHARS)
    value = int(text) if text.lstrip("-").isdecimal() else float(text)
    lose("number_too_long", abs(value) >= MAX_NUMBER)
    return value


def whole_characters(text: str, note: Callable[[str], None]) -> str:
    """The text with surrogate pairs joined and each lone surrogate replaced by U+FFFD (`lone_surrogate`)."""
    code_units = text.encode("utf-16-le", "surrogatepass")
    whole = code_units.decode("utf-16-le", "replace")
    if whole != code_units.decode("utf-16-le", "surrogatepass"):
        note("lone_surrogate")
    return whole
