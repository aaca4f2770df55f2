"""Parses a model's text into entities and notes every defect on the way; `answer.DEFECTS` explains them.

Three steps, each in the order of the text: cut out the reasoning, find the answer's list, read its items. One
parser serves both modes of `answer.parse_answer`, so that they cannot drift apart: strict means "no defect at
all". `json.loads` only accepts or rejects a list; `LooseList` returns the intact items of a damaged one and
names each departure from JSON. One pass over the text, bounded depth, bounded numbers: linear time for any
input.
"""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcr_lib.boxes import Box
from mcr_lib.schema import PredictedEntity

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
MAX_DEPTH = 8  # nesting of lists and objects; an answer needs 3, one with several boxes 4
MAX_ITEMS = 1_000  # items read from one list; no tweet has as many tokens
MAX_NUMBER_CHARS = 40  # beyond this a number is lost, for long integers cost quadratic time
MAX_NUMBER = 10**12  # so is one beyond this, for no coordinate is so large

_TAG = re.compile(r"(</?(?:think|answer)>)")
_FENCE = re.compile(r"```[A-Za-z]*+")
_LIST_START = re.compile(r"\[[ \t\n\r]*+(?=[{\]])|\{")
_NULL_WORDS = ("", "null", "none", "[]")
_CORNERS = (("x1", "y1", "x2", "y2"), ("xmin", "ymin", "xmax", "ymax"))

_STRING = r"(?:[^{q}\\]|\\.)*+"
_NUMBER = r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?"
_TOKEN = re.compile(  # one token; an unclosed string is the `end` of what can be read
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

_WORDS = {"null": None, "true": True, "false": False}
_PYTHON_WORDS = {"None": None, "True": True, "False": False}
_NOT_FINITE = {"nan", "infinity", "-infinity", "inf", "-inf", "-nan"}
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_CONTROL = re.compile(r"[\x00-\x1f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


class Lost(Exception):
    """`Lost(defect)`: a defect that costs one entity or, raised outside of an item, the whole answer."""

    def __init__(self, defect: str) -> None:
        self.name = defect


@dataclass(slots=True)
class Reading:
    """The parsed content of a text and its defects; see `answer.ParsedAnswer`."""

    entities: list[PredictedEntity] = field(default_factory=list)
    think: str | None = None
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
                reading.first_defect = reading.first_defect or loss.name
                reading.lost.append(loss.name)
        _note_around(body[loose_list.start :], reading)
    except Lost as loss:
        reading.first_defect = reading.first_defect or loss.name
        reading.reason = loss.name
    if reading.lost and not reading.entities:
        reading.reason = reading.lost[0]
    return reading


def answer_keys(constraints: Collection[str]) -> tuple[str, ...]:
    """The keys of an item in a task; a missing constraint leaves its key out."""
    return ("entity",) + ("type",) * ("type" in constraints) + ("bbox_2d",) * ("box" in constraints)


def _cut_reasoning(text: str, reading: Reading) -> list[str]:
    """The text without its reasoning, split at answer tags; the reasoning goes to `reading.think`."""
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
    """The text inside the answer tags that count, and the text outside of all answer tags."""
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
    """Index of a leading bracket, else of the first one that looks like a list of objects."""
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


def _entity(item: Any, labels: Sequence[str], task: Collection[str], reading: Reading) -> PredictedEntity:
    if isinstance(item, Lost):
        raise item
    if not isinstance(item, dict):
        raise Lost("item_not_object")
    keys = answer_keys(task)
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
    is_null_word = value == [] or (isinstance(value, str) and value.strip().lower() in _NULL_WORDS)
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
    if isinstance(value, str) and (value := number(value.strip())) is not None:
        reading.note("number_as_text")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Lost("box_not_numbers")
    if isinstance(value, float):
        reading.note("float_coordinate")
    if value < 0:
        reading.note("negative_number")
    return value


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
