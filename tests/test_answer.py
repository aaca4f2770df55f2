"""Answers: every defect, round trips, and texts of any kind in linear time."""

import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mcr_lib
from mcr_lib.answer import DEFECTS, MODES, parse_answer, write_answer
from mcr_lib.schema import PredictedEntity

LABELS = ("PER", "LOC", "ORG", "OTHER")
KD = PredictedEntity("Kevin Durant", "PER", ((52, 31, 188, 240),))
OA = PredictedEntity("Oracle Arena", "LOC")


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda d: d.name)
def test_each_defect_is_the_strict_reason_of_its_example(defect):
    strict = parse_answer(defect.example, labels=LABELS)
    assert strict.reason == defect.name
    assert strict.entities == ()


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda d: d.name)
def test_each_defect_is_repaired_or_lost_as_its_row_says(defect):
    read = parse_answer(defect.example, labels=LABELS, mode="lenient")
    if defect.lenient == "repaired":
        assert defect.name in read.repairs
        assert not read.lost
        assert read.reason is None
        assert read.entities
    elif defect.lenient == "entity lost":
        assert defect.name in read.lost
        assert read.reason is None  # the other entity of the example stays
        assert OA in read.entities
    else:
        assert read.reason == defect.name
        assert read.entities == ()


def test_defects_have_distinct_names():
    assert len({defect.name for defect in DEFECTS}) == len(DEFECTS)


def test_the_reader_names_only_listed_defects_and_all_of_them():
    folder = Path(mcr_lib.__file__).parent
    source = (folder / "answer_reader.py").read_text()
    used = set(re.findall(r'(?:note|Lost)\("(\w+)"', source)) | set(
        re.findall(r'"(\w+)" if [^\n]* else "(?:\w+)"\)', source)
    )
    for pair in re.findall(r'\("(\w+)" if [^\n]*? else "(\w+)"\)', source):
        used |= set(pair)
    listed = {defect.name for defect in DEFECTS}
    assert used == listed


def test_repairs_give_the_entities_that_were_meant():
    for name in (
        "code_fence",
        "type_synonym",
        "number_as_text",
        "swapped_corners",
        "key_alias",
        "extra_key",
        "single_object",
        "no_answer_tag",
    ):
        example = next(defect.example for defect in DEFECTS if defect.name == name)
        assert parse_answer(example, labels=LABELS, mode="lenient").entities == (KD, OA), name


def test_the_last_complete_answer_counts():
    first, last = write_answer([KD]), write_answer([OA])
    assert parse_answer(first + last, labels=LABELS, mode="lenient").entities == (OA,)
    assert parse_answer(first + "<answer>[{", labels=LABELS, mode="lenient").entities == (KD,)


def test_misc_becomes_other_or_mis_as_the_label_set_has_it():
    text = '<answer>[{"entity": "Euro", "type": "MISC", "bbox_2d": null}]</answer>'
    assert parse_answer(text, labels=LABELS, mode="lenient").entities[0].type == "OTHER"
    assert parse_answer(text, labels=("PER", "MIS"), mode="lenient").entities[0].type == "MIS"


def test_reasoning_is_kept_where_the_answer_is_defective():
    parsed = parse_answer("<think> Two names. </think><answer>none</answer>", labels=LABELS)
    assert (parsed.reason, parsed.think) == ("no_list", "Two names.")


def test_a_task_without_boxes_has_no_box_key():
    text = '<answer>[{"entity": "Oslo", "type": "LOC"}]</answer>'
    task = ("span", "type")
    assert parse_answer(text, labels=LABELS, constraints=task).entities == (PredictedEntity("Oslo", "LOC"),)
    assert parse_answer(text, labels=LABELS).reason == "missing_key"
    with_box = text.replace("}", ', "bbox_2d": null}')
    assert parse_answer(with_box, labels=LABELS, constraints=task).reason == "extra_key"


def test_reasoning_that_holds_a_tag_is_refused():
    with pytest.raises(ValueError, match="tags of an answer"):
        write_answer([], think="so <answer> it is")


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="unknown parse mode"):
        parse_answer("", labels=LABELS, mode="sloppy")


names = st.text(min_size=1).filter(lambda t: t.strip() and not re.search("[\ud800-\udfff]", t))
corners = st.tuples(st.integers(0, 900), st.integers(0, 900), st.integers(1, 99), st.integers(1, 99)).map(
    lambda t: (t[0], t[1], t[0] + t[2], t[1] + t[3])
)
entities = st.builds(
    PredictedEntity,
    names | st.sampled_from(["</answer>", "<think>", '"]}', "\\"]),
    st.sampled_from(LABELS),
    corners.map(lambda b: (b,)) | st.just(()),
)
thoughts = st.none() | st.text().filter(lambda t: not re.search("[\ud800-\udfff]|</?(think|answer)>", t))


@given(st.lists(entities, max_size=5), thoughts)
def test_what_is_written_is_read_back(written, think):
    parsed = parse_answer(write_answer(written, think=think), labels=LABELS)
    assert parsed.reason is None
    assert list(parsed.entities) == written
    assert parsed.think == (None if think is None else think.strip())


FRAGMENTS = [
    *"<think> </think> <answer> </answer> [ ] { } , : \" ' \\ ```json".split(),  # noqa: SIM905
    *"null NaN -Infinity é 🙂 ［ True 1 2.5 -3".split(),  # noqa: SIM905
    *('"entity"', '"type"', '"bbox_2d"', '"PER"', "9" * 50, "[1, 2, 3, 4]", "\ud800", "\n"),
]


@given(st.text() | st.lists(st.sampled_from(FRAGMENTS), max_size=40).map("".join), st.sampled_from(MODES))
def test_no_text_raises_and_every_outcome_is_named(text, mode):
    parsed = parse_answer(text, labels=LABELS, mode=mode)
    known = {defect.name for defect in DEFECTS} | {None}
    assert {parsed.reason, *parsed.repairs, *parsed.lost} <= known
    assert not (parsed.reason and parsed.entities)
    for entity in parsed.entities:
        assert entity.text.strip()
        assert entity.type in LABELS
        json.dumps(entity.boxes_xyxy, allow_nan=False)


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=40).map("".join))
def test_what_reads_strictly_reads_leniently_alike(text):
    strict, lenient = (parse_answer(text, labels=LABELS, mode=mode) for mode in MODES)
    if strict.reason is None:
        assert (lenient.entities, lenient.repairs, lenient.lost) == (strict.entities, (), ())
    else:
        assert lenient.reason or lenient.repairs or lenient.lost


HOSTILE = {
    "open brackets": "[",
    "open braces": "{",
    "think tags": "<think>",
    "answer tags": "<answer>",
    "closing tags": "</think>",
    "half items": '[{"entity":',
    "spaced brackets": "[ ",
    "backslashes": "\\",
    "quotes": '"',
    "single quotes": "'",
    "fences": "```",
    "spaces": " ",
    "digits": "9",
    "commas": ",",
    "look-alike brackets": "［］",
    "surrogates": "\ud83d",
    "escapes": '["\\u00',
}


@pytest.mark.parametrize("piece", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("frame", ["{}", "<answer>[{}", '<answer>[{{"entity": "{}'])
def test_a_megabyte_of_anything_is_read_in_linear_time(piece, frame):
    text = frame.format(piece * (1_000_000 // len(piece)))
    began = time.process_time()
    parse_answer(text, labels=LABELS, mode="lenient")
    assert time.process_time() - began < 3  # quadratic time would take hours


def test_numbers_of_thousands_of_digits_are_lost_with_a_name():
    text = '<answer>[{"entity": "Oslo", "type": "LOC", "bbox_2d": [1, 2, 3, ' + "9" * 5000 + "]}]</answer>"
    assert parse_answer(text, labels=LABELS, mode="lenient").lost == ("number_too_long",)
