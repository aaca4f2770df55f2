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
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from mcr_lib.answer_reader import SYNONYMS, Form, answer_keys, read
from mcr_lib.answer_tuples import NULL_WORDS
from mcr_lib.schema import CONSTRAINTS, TYPE_WORDS, PredictedEntity

Mode = Literal["strict", "lenient"]
MODES: tuple[Mode, ...] = ("strict", "lenient")
FORMS: tuple[Form, ...] = get_args(Form)
FIELDS = ("entity", "type", "bbox_2d")  # in the order of the paper's triples

_TAG_START = re.compile(r"<(?=/?(?:think|process|answer)>)")
_BARE_NAME = re.compile(r"""[^\s(),"'“”‘’`\[\]{}\x00-\x1f][^(),"\[\]{}\x00-\x1f]*+""")


@dataclass(frozen=True, slots=True)
class ParsedAnswer:
    """A parsed model text.

    `reason` is the defect that makes it unreadable: strict, the first; lenient, what left nothing to read.
    """

    entities: tuple[PredictedEntity, ...] = ()  # in output order, boxes as written; empty if `reason` is set
    reason: str | None = None
    repairs: tuple[str, ...] = ()  # lenient only: each repaired defect, in the order of first appearance
    lost: tuple[str, ...] = ()  # lenient only: the defect of each dropped entity, in output order
    think: str | None = None  # the reasoning without its tags, also for a defective answer, if there is any
    form: Form | None = None  # of the list that was found, also if it is defective; `None` = no list


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

    Strict (training rewards): at most one `<think>...</think>` and then one `<process>...</process>`, then
    one `<answer>...</answer>`, no departure of `DEFECTS`, and between tuples a comma or white space.
    Lenient (evaluation): repaired as `DEFECTS` says; what cannot be repaired is lost, entity by entity.

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
    reading = read(text, labels=labels, constraints=constraints)
    if mode == "strict" and reading.note.first is not None:
        return ParsedAnswer(reason=reading.note.first, think=reading.think, form=reading.form)
    repairs, lost = tuple(reading.note.repairs), tuple(reading.lost)
    return ParsedAnswer(tuple(reading.entities), reading.reason, repairs, lost, reading.think, reading.form)


@dataclass(frozen=True, slots=True)
class Defect:
    """One way in which a text departs from the form of an answer."""

    name: str  # the `reason` that strict parsing gives
    example: str  # a text with this defect, for the labels PER, LOC, ORG, OTHER
    lenient: Literal["repaired", "entity lost", "answer lost"]  # that entity alone, or all of them
    how: str  # how lenient parsing repairs it, or why it does not


_KD = '{"entity": "Kevin Durant", "type": "PER", "bbox_2d": [52, 31, 188, 240]}'
_OA = '{"entity": "Oracle Arena", "type": "LOC", "bbox_2d": null}'
_LIST = f"[{_KD}, {_OA}]"
PERFECT = f"<answer>{_LIST}</answer>"  # every example of `DEFECTS` is a damaged copy of this answer
_NAME, _TYPE, _BOX = '"Kevin Durant"', '"PER"', "[52, 31, 188, 240]"
_KD_TUPLE, _OA_TUPLE = "(Kevin Durant, person, (52, 31, 188, 240))", "(Oracle Arena, location, None)"
PERFECT_PAPER = f"<answer>{_KD_TUPLE} {_OA_TUPLE}</answer>"  # or of this one


def _with(old: str, new: str) -> str:
    """The perfect answer with a part of its first item replaced; `_paper` in the form of the paper."""
    return PERFECT.replace(old, new, 1)


def _paper(old: str, new: str) -> str:
    return PERFECT_PAPER.replace(old, new, 1)


_ROWS = (  # in the order in which a text is parsed
    # the text
    ("empty_text", " \n", "answer lost", "saying that nobody is named takes an empty list or None"),
    ("lone_surrogate", _with(_NAME, r'"Kevin Durant\ud83d"'), "repaired", "half a character becomes U+FFFD"),
    # the tags
    ("no_answer", "I see nobody I know.", "answer lost", "neither a tag nor a list"),
    ("no_answer_tag", _LIST, "repaired", "the first list of the text is read, or all its tuples"),
    ("unclosed_answer", f"<answer>{_LIST}", "repaired", "the answer ends with the text"),
    ("several_answers", f"<answer>[{_OA}]</answer>{PERFECT}", "repaired", "the last complete one counts"),
    ("text_around", f"Sure! {PERFECT}", "repaired", "text outside the tags and the list is left out"),
    ("code_fence", f"<answer>```json\n{_LIST}\n```</answer>", "repaired", "the fence is left out"),
    # the reasoning
    ("unclosed_think", f"<think> Two names. {PERFECT}", "repaired", "ends where the answer begins"),
    ("unopened_think", f"Two names. </think>{PERFECT}", "repaired",
     "all before it is reasoning; some prompts end with the opening tag"),
    ("several_thinks", f"<think>Two.</think><think>Sure.</think>{PERFECT}", "repaired",
     "joined by a line break, as one <think> and then one <process> are"),
    ("think_misplaced", f"{PERFECT}<think>Two.</think>", "repaired", "cut out, as is a stray </think>"),
    ("tag_in_think", f"<think>An <answer> is due.</think>{PERFECT}", "repaired", "an answer within: a draft"),
    # the list
    ("no_list", "<answer>nobody</answer>", "answer lost", "no bracket of JSON, no tuple and no None"),
    ("single_object", f"<answer>{_KD}, {_OA}</answer>", "repaired", "objects without a list are read as one"),
    ("cut_list", f"<answer>[{_OA}, {_KD[:30]}</answer>", "entity lost", "complete items stay"),
    ("stray_comma", f"<answer>[{_KD}, {_OA},]</answer>", "repaired", "left out"),
    ("missing_comma", f"<answer>[{_KD}\n{_OA}]</answer>", "repaired", "put in, between two items"),
    ("too_many_items", f"<answer>[{_KD}, {_OA}{f', {_OA}' * 999}]</answer>", "repaired", "1,000 are read"),
    ("not_json", _with(_BOX, "52 31 188 240"), "entity lost", "the reading goes on at the next object"),
    ("too_deep", _with(_BOX, "[[[[[[[52]]]]]]]"), "entity lost", "more than 8 levels (tuples: 2)"),
    ("python_literal", _with(_NAME, "'Kevin Durant'"), "repaired", "'...', None, True, False: as in Python"),
    ("control_character", _with(_NAME, '"Kevin\nDurant"'), "repaired", "within a text it becomes a space"),
    ("bad_escape", _with(_NAME, r'"Kevin \Durant"'), "repaired", "the backslash is left out"),
    ("unbalanced_parentheses", _paper("240))", "240)"), "repaired", "put in where missing, else left out"),
    # the item
    ("item_not_object", _with(_KD, _NAME), "entity lost", "a name alone claims no type and no box"),
    ("duplicate_key", _with(_TYPE, '"ORG", "type": "PER"'), "repaired", "the last counts, as in json.loads"),
    ("extra_key", _with(_TYPE, '"PER", "score": 0.9'), "repaired", "left out"),
    ("key_alias", _with('"bbox_2d"', '"bbox"'), "repaired", "other usual names of the keys, in any case"),
    ("missing_key", _with(f', "bbox_2d": {_BOX}', ""), "entity lost", "silence is no claim about the image"),
    ("quoted_field", _paper("person", '"person"'), "repaired", "quotes around a type or location: left out"),
    # the name and the type
    ("entity_not_text", _with(_NAME, "7"), "entity lost", "a number, a list or null names nothing"),
    ("entity_empty", _with(_NAME, '" "'), "entity lost", "white space names nothing"),
    ("unquoted_name", _paper("Durant,", "Durant, Jr. (NBA),"), "repaired", "kept as written, commas and all"),
    ("other_quotes", _paper("Kevin Durant", "“Kevin Durant”"), "repaired", "other than double: left out"),
    ("type_synonym", _with(_TYPE, '"person"'), "repaired",
     "other case, long names (in tuples: labels), MISC or MIS for OTHER: as the label set has it"),
    ("unknown_type", _with(_TYPE, '"EVENT"'), "entity lost", "a guess at the type would not be the model's"),
    # the box
    ("null_in_words", PERFECT.replace("null", '"none"'), "repaired",
     'null; so are "null", "n/a", "", "[]" and an empty list; nobody, if it is the whole answer'),
    ("several_boxes", _with(_BOX, f"[{_BOX}, [300, 40, 380, 200]]"), "repaired", "all are kept, in order"),
    ("box_as_object", _with(_BOX, '{"x1": 52, "y1": 31, "x2": 188, "y2": 240}'), "repaired", "or xmin, ..."),
    ("box_brackets", _paper("(52, 31, 188, 240)", _BOX), "repaired", "read as parentheses"),
    ("flat_box", _paper("(52, 31, 188, 240)", "52, 31, 188, 240"), "repaired", "four bare numbers are a box"),
    ("box_not_list", _with(_BOX, '"on the left"'), "entity lost", "neither null nor a box"),
    ("box_length", _with(_BOX, "[52, 31, 188]"), "entity lost", "a box has four numbers"),
    ("box_not_numbers", _with(_BOX, "[52, 31, 188, null]"), "entity lost", "a box has four numbers"),
    ("number_as_text", _with(_BOX, '["52", "31", "188", "240"]'), "repaired", "the number in the text"),
    ("float_coordinate", _with(_BOX, "[52.5, 31, 188, 240]"), "repaired", "kept as it is, not rounded"),
    ("negative_number", _with(_BOX, "[-2, 31, 188, 240]"), "repaired", "kept as it is, not clipped"),
    ("number_not_finite", _with(_BOX, "[52, 31, 188, Infinity]"), "entity lost", "NaN, inf: not a place"),
    ("number_too_long", _with(_BOX, f"[52, 31, 188, {'9' * 50}]"), "entity lost", "10^12, or 41 characters"),
    ("swapped_corners", _with(_BOX, "[188, 31, 52, 240]"), "repaired", "sorted, each axis by itself"),
    ("empty_box", _with(_BOX, "[52, 31, 52, 240]"), "repaired", "kept: claims to be shown, and hits nothing"),
)  # fmt: skip
DEFECTS = tuple(Defect(*row) for row in _ROWS)
