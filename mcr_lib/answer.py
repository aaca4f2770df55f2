"""Answers: how an entity list is written for a model, and how a model's text is parsed.

There are two forms of one answer. `paper` (paper App. C): tuples with the words of the types,

    <process> ...reasoning... </process>
    <answer>(Kevin Durant, person, (52, 31, 188, 240)) (Oracle Arena, location, None)</answer>

and `json` (ours), whose `bbox_2d` is the key that Qwen-VL models are trained on:

    <think> ...reasoning... </think>
    <answer>[{"entity": "Kevin Durant", "type": "PER", "bbox_2d": [52, 31, 188, 240]},
             {"entity": "Oracle Arena", "type": "LOC", "bbox_2d": null}]</answer>

(on one line per tag). `None` and `null` mean "not in the image"; a paper answer that names nobody is `None`
(paper silent; ours). The reasoning is optional; fields may stand in any order (paper App. C.2). A name that
would be misread in a tuple is written in double quotes, as in JSON (ours). One reader takes both forms.
Numbers stay as written: `boxes` handles their space.
"""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal, get_args

from mcr_lib import answer_json as damaged
from mcr_lib.answer_json import NOT_FINITE, SPECIAL, TEXT, LooseList, Lost, Notes, lose, number, read_string
from mcr_lib.answer_tuples import ABSENT, NULL_WORDS, QUOTES, LooseTuples
from mcr_lib.boxes import Box
from mcr_lib.schema import CONSTRAINTS, TYPE_WORDS, PredictedEntity

Form = Literal["json", "paper"]
Mode = Literal["strict", "lenient"]
Read = tuple[list[PredictedEntity], list[str]]  # entities, and the defect of each one that is lost
MODES: tuple[Mode, ...] = ("strict", "lenient")
FORMS: tuple[Form, ...] = get_args(Form)
FIELDS = ("entity", "type", "bbox_2d")  # in the order of the paper's triples

# key of an item -> names that lenient parsing also accepts, in any case; the first one counts
_ALIASES = """type entity_type category entity_group class tag entity_label ner_type kind label
bbox_2d bbox bboxes box boxes bounding_box box_2d region region_box entity_region bndbox coordinates location
entity name text mention phrase entity_name entity_text text_content word surface span sub_label label key"""
ALIASES = {line.split()[0]: line.replace("_", "").split() for line in _ALIASES.split("\n")}
_SYNONYMS = """PER PERSON PEOPLE\nLOC LOCATION PLACE GPE\nORG ORGANIZATION ORGANISATION
OTHER OTHERS MISC MISCELLANEOUS MIS"""
SYNONYMS = [line.split() for line in _SYNONYMS.split("\n")]  # in lenient parsing one type
_TAG = re.compile(r"(</?(?:think|process|answer)>)")
_CLOSING = {"<think>": "</think>", "<process>": "</process>"}
_OPENING = {closing: opening for opening, closing in _CLOSING.items()}
_NOBODY = re.compile(r"[\s`.\"']*+(?:none|null|n/a)[\s`.\"']*+", re.IGNORECASE)
_TUPLES_START = re.compile(r"(?:\[\s*+)?+\(")
_LIST_START = re.compile(r"\[[ \t\n\r]*+(?=[{\]])|\{")
_NEXT_LIST = re.compile(r"(?:\[[ \t\n\r]*+)++(?:(?=[{\]])(?P<is_list>))?+|\{")
_TEXT = rf"(?:{TEXT}|'[^'\\\n]*+')"
_PLAIN = rf"(?:{_TEXT}|-?[\w.+-]++|\[(?!\s*+\])[^\[\]{{}}]*+\]|\{{[^\[\]{{}}]*+\}})"
_WRAPPER = re.compile(  # what stands around a list of items: a list, or an object with other values before it
    rf"""\[\s*+(?=\[\s*+[\[{{\]]|\{{) | \{{\s*+(?P<before>(?:{_TEXT}\s*+:\s*+{_PLAIN}\s*+,\s*+)*+)
    ["'](?P<key>[^"'\\]*+)["']\s*+:\s*+"?+(?=\[\s*+[\[{{\]]|\{{)""",
    re.VERBOSE | re.DOTALL,
)
_BETWEEN = re.compile(r"""(?:"\w*"\s*:|[\s\[\]{}"',;.*•\d-]|```\w*)*+""")  # between the parts of one list
_BOX_WORDS = re.compile(rf"{SPECIAL}|[xy]_?(?:[12]|min|max)\s*[:=]|[\s()\[\]{{}},;]")
_CORNERS = "x1 y1 x2 y2,xmin ymin xmax ymax,left top right bottom,xtl ytl xbr ybr,x y width height"
NO_PLACE = ((0, 0, 0, 0),)  # of an entity whose box cannot be read: claims to be shown, and hits nothing
_QUOTES = str.maketrans("“”„，：（）\xa0", '""",:() ')
_BARE = re.compile(r"(?i)((?:[{,]|:(?!\s*+(?:null|none|true|false)\b))\s*+)([a-z]\w*+)(?=\s*+[:,}])")
_TAG_START = re.compile(r"<(?=/?(?:think|process|answer)>)")
_BARE_NAME = re.compile(r"""[^\s(),"'“”‘’`\[\]{}\x00-\x1f][^(),"\[\]{}\x00-\x1f]*+""")


@dataclass(frozen=True, slots=True)
class ParsedAnswer:
    """A parsed model text."""

    entities: tuple[PredictedEntity, ...] = ()  # in output order, boxes as written; empty if `reason` is set
    reason: str | None = None  # the defect that makes it unreadable; lenient: that left nothing to read
    repairs: tuple[str, ...] = ()  # lenient only: each repaired defect, in the order of first appearance
    lost: tuple[str, ...] = ()  # lenient only: the defect of each dropped entity, in output order
    think: str | None = None  # the reasoning without its tags, also for a defective answer, if there is any
    form: Form | None = None  # of the list that was found, also if it is defective; `None` = no list
    n_without_box: int = 0  # of the entities that an answer names, those that have no key of a box


def answer_keys(constraints: Collection[str]) -> tuple[str, ...]:
    """The keys of an item in a task; a missing constraint leaves its key out."""
    return ("entity",) + ("type",) * ("type" in constraints) + ("bbox_2d",) * ("box" in constraints)


@lru_cache(maxsize=64)
def _type_names(labels: tuple[str, ...]) -> dict[str, str]:
    """Every name that lenient parsing takes for a type, in upper case, and the label that it stands for."""
    groups = ((label, group) for label in reversed(labels) for group in SYNONYMS if label.upper() in group)
    names = {name: label for label, group in groups for name in group}
    return names | {label.upper(): label for label in labels}


def write_answer(
    entities: Sequence[PredictedEntity],
    *,
    think: str | None = None,
    constraints: Collection[str] = CONSTRAINTS,
    form: Form = "json",
    fields: Sequence[str] = FIELDS,
    labels: Collection[str] = (),
) -> str:
    """The text that a perfect model outputs; `parse_answer` restores the same entities and reasoning.

    Entities stand in the order given, the fields of each in the order of `fields`, restricted to the task's.
    Of each entity the first box is written, whole numbers in the model's space. `labels`: the label set, by
    which the form "paper" knows the names that it must quote, such as "Park" where "park" is a type.

    Raises:
        ValueError: the reasoning contains a tag, the form is unknown, or `fields` lacks one of the task.

    Example:
        >>> oslo = PredictedEntity("Oslo", "LOC")
        >>> write_answer([oslo], constraints=("span", "type"))
        '<answer>[{"entity": "Oslo", "type": "LOC"}]</answer>'
        >>> write_answer([oslo], form="paper", fields=("type", "entity", "bbox_2d"))
        '<answer>(location, Oslo, None)</answer>'
    """
    task = answer_keys(constraints)
    keys = [key for key in fields if key in task]
    if form not in FORMS or sorted(keys) != sorted(task):
        raise ValueError(f"form {form!r} of {FORMS}, or fields {tuple(fields)} without one of {task}")
    rows = [{"entity": e.text, "type": e.type, "bbox_2d": e.box_xyxy and list(e.box_xyxy)} for e in entities]
    if form == "json":
        items = json.dumps([{key: row[key] for key in keys} for row in rows], ensure_ascii=False)
    else:
        types = {name.upper() for name in (*labels, *(row["type"] or "" for row in rows))}.union(*SYNONYMS)
        items = " ".join(_tuple(row, keys, types) for row in rows) or "None"
    answer = "<answer>" + _TAG_START.sub(r"\\u003c", items) + "</answer>"
    if think is None:
        return answer
    if _TAG_START.search(think):
        raise ValueError(f"reasoning must not hold the tags of an answer: {think[:80]!r}")
    tag = "think" if form == "json" else "process"
    return f"<{tag}> {think.strip()} </{tag}>\n{answer}"


def _tuple(row: dict[str, Any], keys: Sequence[str], types: Collection[str]) -> str:
    name, type_, box = row["entity"], row["type"], row["bbox_2d"]
    is_taken = name.upper() in types or name.lower() in NULL_WORDS or _TAG_START.search(name)
    is_bare = _BARE_NAME.fullmatch(name) and name == name.strip() and not is_taken
    words = {
        "entity": name if is_bare else json.dumps(name, ensure_ascii=False),
        "type": TYPE_WORDS.get(type_, type_),
        "bbox_2d": "None" if box is None else f"({', '.join(map(str, box))})",
    }
    return f"({', '.join(str(words[key]) for key in keys)})"


def parse_answer(
    text: str, *, labels: Sequence[str], constraints: Collection[str] = CONSTRAINTS, mode: Mode = "strict"
) -> ParsedAnswer:
    """The entities in a model's text; never raises for any text, in time linear in its length.

    Strict (training rewards): at most one `<think>...</think>`, then at most one `<process>...</process>`,
    then one `<answer>...</answer>`; no departure of the table `study/tables/defects.yaml`. Tuples may
    have a comma between them. Lenient (evaluation): repaired as the table says; what cannot be repaired is
    lost, entity by entity.

    Raises:
        ValueError: an unknown mode.

    Example:
        >>> text = '<answer>[{"entity": "Oslo", "type": "LOC", "bbox_2d": [9.5, 2, 40, 30]}]</answer>'
        >>> parse_answer(text, labels=("PER", "LOC")).reason
        'float_coordinate'
        >>> parse_answer(text, labels=("PER", "LOC"), mode="lenient").entities[0].box_xyxy
        (9.5, 2, 40, 30)
    """
    if mode not in MODES:
        raise ValueError(f"unknown parse mode {mode!r}; known: {', '.join(MODES)}")
    reader, reason = _Reader(answer_keys(constraints), _type_names(tuple(labels))), None
    try:
        entities, lost = reader.read(text)
    except Lost as loss:
        entities, lost, reason = [], [], str(loss)
    first_defect = reader.note.first or reason
    if mode == "strict" and first_defect is not None:
        return ParsedAnswer(reason=first_defect, think=reader.think, form=reader.form)
    if mode == "lenient" and first_defect is not None and not entities:
        plain = text.replace("&quot;", '"').translate(_QUOTES)
        plain = _BARE.sub(r'\1"\2"', read_string(plain, Notes()) if '\\"' in plain else plain)
        again = plain != text and parse_answer(plain, labels=labels, constraints=constraints, mode=mode)
        if again and again.entities:
            return replace(again, repairs=tuple(dict.fromkeys((first_defect, *again.repairs))))
    reason, repairs = lost[0] if lost and not entities else reason, tuple(reader.note.repairs)
    how = (reader.think, reader.form, reader.n_without_box)
    return ParsedAnswer(tuple(entities), reason, repairs, tuple(lost), *how)


def _key(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()


@dataclass(slots=True)
class _Reader:
    """Reads one text: cuts out the reasoning, finds the list and its form, reads its items; notes defects."""

    keys: tuple[str, ...]  # of an item in the task
    types: Mapping[str, str]  # see `_type_names`
    think: str | None = None
    form: Form | None = None
    n_without_box: int = 0
    note: Notes = field(default_factory=Notes)

    def read(self, text: str) -> Read:
        """The entities of the answer's list, and the defect of each item that is lost."""
        lose("empty_text", not text.strip())
        body, outside, has_tags = self._cut(damaged.whole_characters(text, self.note))
        start = len(body) - len(body.lstrip())
        is_nobody = bool(_NOBODY.fullmatch(body)) or (has_tags and start == len(body))
        is_paper = is_nobody or _TUPLES_START.match(body, start)
        if not is_nobody and (body[start : start + 1] not in ("[", "{", "(") or body.startswith("{(", start)):
            objects = _LIST_START.search(body)
            tuples = iter(LooseTuples(body, 0, Notes(), self.types, self.keys))
            is_paper = "{" not in body.replace("{(", "") and next(tuples, None) is not None
            start = 0 if is_paper else body.find("[") if objects is None else objects.start()
            if start < 0:
                raise Lost("no_list" if has_tags else "no_answer")
        self.form = "paper" if is_paper else "json"
        self.note("no_answer_tag", not has_tags)
        self.note.around(outside)
        if is_nobody:
            self.note("null_in_words", body.strip() not in ("None", ""))
            return [], []
        if self.form == "json":
            return self._last_list(body, start)
        body = damaged.without_tokens(body, self.note)
        self.note.around(body[:start])
        return self._entities(LooseTuples(body, start, self.note, self.types, self.keys))

    def _entities(self, items: Iterable[Any]) -> Read:
        entities, lost = [], []
        for item in (part for whole in items for part in self._parts(whole)):
            try:
                entities.append(self.entity(item))
            except Lost as loss:
                lost.append(str(loss))
                self.note.first = self.note.first or lost[-1]
        return entities, lost

    def _parts(self, item: Any) -> Iterator[Any]:
        """An item; of an object of others, by type or by name, each of those with its key."""
        is_whole = isinstance(item, dict) and item and all(isinstance(v, list | dict) for v in item.values())
        if not is_whole or any(_key(key) in names for key in item for names in ALIASES.values()):
            yield item
            return
        self.note("wrapped_list")
        for key, part in ((k, p) for k, v in item.items() for p in (v if isinstance(v, list) else [v])):
            own = {"kind" if key.upper() in self.types else "key": key}
            yield own | (part if isinstance(part, dict) else {"entity": part})

    def _last_list(self, body: str, start: int) -> Read:
        """Of the lists in a text the last that yields entities, with the parts of it that stand before it."""
        note, end, gaps, parts = self.note, 0, [], []
        while start >= 0 and len(parts) < damaged.MAX_ITEMS and "too_many_items" not in self.note.repairs:
            gaps.append(body[end:start])
            inner, self.note = self._unwrapped(body, start), Notes()
            self.note("wrapped_list", inner > start)
            items = LooseList(body, inner, self.note)
            parts.append((*self._entities(items), self.note))
            end = items.end
            found = (m for m in _NEXT_LIST.finditer(body, end) if m["is_list"] is not None or m[0] == "{")
            start = next((match.start() for match in found), -1)
        ranks = [(bool(some), bool(some) or not lost, k) for k, (some, lost, _) in enumerate(parts)]
        k = max(ranks)[-1]
        entities, lost, self.note = parts[k]
        note.around(gaps[0])
        note("several_lists", len(parts) > 1)
        names = {entity.text for entity in entities} if k else ()
        while k and names and (gaps[k].count("```") > 1 or _BETWEEN.fullmatch(gaps[k])):
            k -= 1
            more, more_lost, more_note = parts[k]
            if (more_lost and not more) or not names.isdisjoint(entity.text for entity in more):
                break  # no list, or a draft of the same
            entities, lost, names = more + entities, more_lost + lost, names.union(e.text for e in more)
            self.note.repairs |= more_note.repairs
        note.first, note.repairs = note.first or self.note.first, note.repairs | self.note.repairs
        for gap in [*gaps[1:], body[end:]]:
            note.around(gap)
        self.note = note
        return entities, lost

    def _unwrapped(self, text: str, at: int) -> int:
        """Where the list of items begins that other lists and objects are around, if any; else `at`."""
        inner = at
        for _ in range(8):
            if (match := _WRAPPER.match(text, at)) is None:
                break
            if match["key"] is not None:
                keys = {_key(key) for key in re.findall(r"""["']([^"']+)["']\s*+:""", match["before"])}
                is_item = all(not keys.isdisjoint(ALIASES[key]) for key in self.keys if key != "bbox_2d")
                if match["key"].upper() in self.types:
                    return at
                if _key(match["key"]) in ALIASES["bbox_2d"] or is_item:
                    break
            at = match.end()
            inner = at if text[at] == "[" else inner
        return inner

    def _cut(self, text: str) -> tuple[str, str, bool]:
        """The text in the answer tags that count, the text outside of all tags, and whether there are any.

        The reasoning goes to `think`.
        """
        pieces = _TAG.split(text)
        last = {piece: k for k, piece in enumerate(pieces)}
        thinks, answers, outside, complete, opening, in_answer, k = [], [], [], None, None, False, 0
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
        self.think = "\n".join(map(str.strip, thinks)) if thinks else None
        if not answers:
            return "".join(outside), "", False
        self.note("several_answers", len(answers) > 1)
        self.note("unclosed_answer", complete is None)
        body = "".join(complete or next((a for a in reversed(answers) if "".join(a).strip()), answers[-1]))
        lose("no_list", complete is None and not body.strip())  # only a closed one is empty for nobody
        return body, "".join(outside), True

    def entity(self, item: Any) -> PredictedEntity:
        """The entity that an item claims; raises a `Lost`."""
        if isinstance(item, Lost):
            raise item
        if isinstance(item, list) and 1 < len(item) <= len(self.keys):
            self.note("item_as_list")
            item = dict(zip(self.keys, item, strict=False))
        lose("item_not_object", not isinstance(item, dict))
        values = self._values(item)
        text = values["entity"]
        lose("entity_not_text", not isinstance(text, str))
        lose("entity_empty", not text.strip())
        label = None
        if "type" in values:
            type_, name = values["type"], str(values["type"]).strip().upper()
            words = [name] if name in self.types else re.findall(r"\w+", name)  # B-PER, PER (person)
            known = {self.types[word] for word in words if word in self.types}
            lose("unknown_type", len(known) != 1)
            label = known.pop()
            word = TYPE_WORDS.get(label, label) if self.form == "paper" else label
            self.note("type_synonym", type_ != word)
        if "bbox_2d" not in self.keys:
            return PredictedEntity(text, label)
        self.note("missing_box", "bbox_2d" not in values)
        self.n_without_box += "bbox_2d" not in values
        try:
            return PredictedEntity(text, label, self._boxes(values.get("bbox_2d")))
        except Lost as loss:
            self.note(str(loss))
            return PredictedEntity(text, label, NO_PLACE)

    def _values(self, item: dict[str, Any]) -> dict[str, Any]:
        """The item's values under the task's own keys; a box may be missing, or a `Lost`."""
        values = {key: item[key] for key in self.keys if key in item}
        names = {_key(name): name for name in item if name not in values}
        for key in (key for key in ALIASES if key in self.keys and key not in values):
            if (alias := next((alias for alias in ALIASES[key] if alias in names), None)) is not None:
                self.note("key_alias")
                values[key] = item[names.pop(alias)]
        self.note("extra_key", len(values) < len(item))
        for key in ("entity", "type"):
            lose("missing_key", key in self.keys and key not in values)
            if isinstance(values.get(key), Lost):
                raise values[key]
        return values

    def _boxes(self, value: Any) -> tuple[Box, ...]:
        if isinstance(value, Lost):
            raise value
        if isinstance(value, str) and self.form == "json":
            numbers = [number(part) for part in _BOX_WORDS.sub(" ", value).split()]
            if numbers and None not in numbers:
                self.note("box_as_text")
                value = [numbers[k : k + 4] for k in range(0, len(numbers), 4)] if numbers[4:] else numbers
        is_list = isinstance(value, list)
        if is_list and len(value) == 2 and [isinstance(v, list) and len(v) for v in value] == [2, 2]:
            self.note("corner_pairs")
            value = value[0] + value[1]
        parts = value if is_list else [*value.values()] if isinstance(value, dict) else [value]
        nothing = [p in (None, []) or (isinstance(p, str) and ABSENT.fullmatch(p)) for p in parts]
        if value in (0, False) or all(nothing):
            self.note("null_in_words", value is not None)
            return ()
        are_several = is_list and isinstance(value[0], (list, dict))
        self.note("several_boxes", are_several)
        return tuple(filter(None, map(self._box, value if are_several else [value])))

    def _box(self, value: Any) -> Box | None:
        by_name = {_key(name): v for name, v in value.items()} if isinstance(value, dict) else {}
        if names := next((n for n in map(str.split, _CORNERS.split(",")) if by_name.keys() == {*n}), None):
            self.note("box_as_object")
            value = [by_name[name] for name in names]
        lose("box_not_list", not isinstance(value, list))
        lose("box_length", len(value) != 4)
        x1, y1, x2, y2 = map(self._coordinate, value)
        x2, y2 = (x1 + x2, y1 + y2) if "width" in by_name else (x2, y2)
        if x1 == y1 == x2 == y2 and x1 in (0, -1):
            self.note("zeros_for_absent")
            return None
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
