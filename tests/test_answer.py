"""Answers: every defect, round trips, and texts of any kind in linear time."""

import json
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mcr_lib
from mcr_lib.answer import ALIASES, FIELDS, FORMS, MODES, parse_answer, write_answer
from mcr_lib.schema import PredictedEntity
from mcr_lib.study.tables.defects import DEFECTS

LABELS = ("PER", "LOC", "ORG", "OTHER")
KD = PredictedEntity("Kevin Durant", "PER", ((52, 31, 188, 240),))
OA = PredictedEntity("Oracle Arena", "LOC")
KD_TUPLE, OA_TUPLE = "(Kevin Durant, person, (52, 31, 188, 240))", "(Oracle Arena, location, None)"


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
    elif defect.lenient == "box lost":
        assert defect.name in read.repairs
        assert not read.lost
        assert read.entities == (replace(KD, boxes_xyxy=((0, 0, 0, 0),)), OA)
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
    files = sorted(Path(mcr_lib.__file__).parent.glob("answer*.py"))
    source = "".join(file.read_text() for file in files)
    used = set(re.findall(r'(?:note|lose|Lost|self)\("(\w+)"', source)) | set(
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
        "unbalanced_parentheses",
        "quoted_field",
        "other_quotes",
        "box_brackets",
        "flat_box",
        "special_token",
        "wrapped_list",
        "several_lists",
        "missing_box",
        "zeros_for_absent",
        "box_as_text",
        "box_token",
        "corner_pairs",
    ):
        example = next(defect.example for defect in DEFECTS if defect.name == name)
        assert parse_answer(example, labels=LABELS, mode="lenient").entities == (KD, OA), name


def test_the_last_complete_answer_counts():
    first, last = write_answer([KD]), write_answer([OA])
    assert parse_answer(first + last, labels=LABELS, mode="lenient").entities == (OA,)
    assert parse_answer(first + "<answer>[{", labels=LABELS, mode="lenient").entities == (KD,)


def test_a_draft_before_an_empty_tag_counts_and_so_does_a_size_in_place_of_a_corner():
    text = write_answer([KD])[: -len("</answer>")] + "<answer>"
    assert parse_answer(text, labels=LABELS, mode="lenient").entities == (KD,)
    box = '{"x": 52, "y": 31, "width": 136, "height": 209}'
    text = write_answer([KD]).replace("[52, 31, 188, 240]", box)
    assert parse_answer(text, labels=LABELS, mode="lenient").entities == (KD,)


@pytest.mark.parametrize("type_", ["PER or ORG", "LOC/ORG", "event", "[]", "7"])
def test_a_type_that_names_no_label_or_several_is_unknown(type_):
    text = f'<answer>[{{"entity": "Oslo", "type": "{type_}", "bbox_2d": null}}]</answer>'
    assert parse_answer(text, labels=LABELS, mode="lenient").lost == ("unknown_type",)


@pytest.mark.parametrize("text", ["[{}]", '{"a": {}, "b": [1]}'])
def test_what_names_no_entity_is_lost_and_not_nobody(text):
    assert parse_answer(f"<answer>{text}</answer>", labels=LABELS, mode="lenient").lost


def test_misc_becomes_other_or_mis_as_the_label_set_has_it():
    text = '<answer>[{"entity": "Euro", "type": "MISC", "bbox_2d": null}]</answer>'
    assert parse_answer(text, labels=LABELS, mode="lenient").entities[0].type == "OTHER"
    assert parse_answer(text, labels=("PER", "MIS"), mode="lenient").entities[0].type == "MIS"


def test_reasoning_is_kept_where_the_answer_is_defective():
    parsed = parse_answer("<think> Two names. </think><answer>nobody</answer>", labels=LABELS)
    assert (parsed.reason, parsed.think, parsed.form) == ("no_list", "Two names.", None)


def test_a_task_without_boxes_has_no_box_key():
    text = '<answer>[{"entity": "Oslo", "type": "LOC"}]</answer>'
    task = ("span", "type")
    assert parse_answer(text, labels=LABELS, constraints=task).entities == (PredictedEntity("Oslo", "LOC"),)
    assert parse_answer(text, labels=LABELS).reason == "missing_box"
    with_box = text.replace("}", ', "bbox_2d": null}')
    assert parse_answer(with_box, labels=LABELS, constraints=task).reason == "extra_key"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("tag", ["<answer>", "</think>", "<process>"])
def test_reasoning_that_holds_a_tag_is_refused(form, tag):
    with pytest.raises(ValueError, match="tags of an answer"):
        write_answer([], think=f"so {tag} it is", form=form)


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="unknown parse mode"):
        parse_answer("", labels=LABELS, mode="sloppy")


KD_JSON = '{"entity": "Kevin Durant", "type": "PER", "bbox_2d": [52, 31, 188, 240]}'
OA_JSON = '{"entity": "Oracle Arena", "type": "LOC", "bbox_2d": null}'
BOTH = f"[{KD_JSON}, {OA_JSON}]"
DRAFT = '[{"entity": "Kevin Durant", "type": "ORG", "bbox_2d": null}]'


@pytest.mark.parametrize(
    "text",
    [
        f'{{"entities": {BOTH}}}',
        f'{{"image_id": 7, "note": "so {{x}}", "tags": ["a"], "meta": {{"n": 2}}, "found": {BOTH}, "n": 2}}',
        f'{{"result": {{"entities": {BOTH}}}}}',
        f'[{{"pre_entities": {BOTH}}}]',
        f"[[{BOTH}]]",
        f"[[{KD_JSON}], [{OA_JSON}]]",
        f'{{"PER": [{KD_JSON}], "LOC": [{OA_JSON}]}}',
        f"```json\n[{KD_JSON}]\n```\n```json\n[{OA_JSON}]\n```",
        f"Persons:\n```json\n[{KD_JSON}]\n```\nPlaces:\n```json\n[{OA_JSON}]\n```",
        f"```json\n{DRAFT}\n```\nA better one:\n```json\n{BOTH}\n```",
        f"1. {KD_JSON}\n2. {OA_JSON}",
        f"{KD_JSON}\n{OA_JSON}",
        f"Draft: {DRAFT} Final: {BOTH}",
        f"{DRAFT}\n{BOTH}",
        f"Names. [1] {{2}} {BOTH} Note [3]: see [] and {{}}.",
        f'[{{"entity": broken, "x": 1}}] so {BOTH}',
        f"{BOTH}<|im_end|>\n<|endoftext|>",
        f"<|begin_of_box|>{BOTH}<|end_of_box|>",
        f"<｜begin▁of▁sentence｜>{BOTH}<｜end▁of▁sentence｜>",
        f"{KD_TUPLE} {OA_TUPLE}</s>",
        f"(Kevin Durant, person, <|box_start|>(52,31),(188,240)<|box_end|>) {OA_TUPLE}",
        f"(Kevin Durant, person, <box>[[52, 31, 188, 240]]</box>) {OA_TUPLE}",
        f"assistant\n<ANSWER>{BOTH}</ANSWER>",
        str(json.loads(f'{{"id": "7", "entities": {BOTH}}}')),
        '[["Kevin Durant", "PER", [52, 31, 188, 240]], ["Oracle Arena", "LOC", null]]',
        "[['Kevin Durant', 'PER', (52, 31, 188, 240)], ['Oracle Arena', 'LOC', None]]",
        '{"Kevin Durant": {"type": "PER", "bbox_2d": [52, 31, 188, 240]}, "Oracle Arena": {"type": "LOC"}}',
        f'{{"entity_1": {KD_JSON}, "entity_2": {OA_JSON}}}',
        '{"all": {"PER": [{"name": "Kevin Durant", "box": [52, 31, 188, 240]}], "LOC": ["Oracle Arena"]}}',
        '{"PER": [{"label": "Kevin Durant", "box": [52, 31, 188, 240]}], "LOC": ["Oracle Arena"], "ORG": []}',
        json.dumps(BOTH),
        json.dumps({"answer": BOTH}),
        json.dumps({"role": "assistant", "content": json.dumps({"entities": json.loads(BOTH)})}),
        BOTH.replace('"', "&quot;"),
        re.sub('"(.*?)"', r"“\1”", BOTH),
        re.sub(r'"(entity|type|bbox_2d|PER|LOC)"', r"\1", BOTH),
        BOTH.replace(", ", "，").replace(": ", "："),
        BOTH.replace(", ", ",\xa0"),
        r"The answer is $\boxed{" + KD_TUPLE + OA_TUPLE + "}$.",
        f"{KD_TUPLE} (Oracle Arena, location, not in the image)",
        BOTH.replace("PER", "B-PER").replace("LOC", "LOC (place)"),
    ],
)
@pytest.mark.parametrize("frame", ["{}", "<answer>{}</answer>", "<think>Two.</think>\n{}"])
def test_the_list_that_is_meant_is_read_whatever_is_around_it(frame, text):
    parsed = parse_answer(frame.format(text), labels=LABELS, mode="lenient")
    assert (parsed.entities, parsed.reason, parsed.lost) == ((KD, OA), None, ())
    assert parse_answer(frame.format(text), labels=LABELS).reason is not None


@pytest.mark.parametrize(
    "text",
    ['{"entities": []}', "[[]]", '{"n": 0, "entities": [], "ok": true}', "Names [1] {2}: []", '[{"x": []}]'],
)
def test_an_empty_list_in_a_wrapping_names_nobody(text):
    parsed = parse_answer(text, labels=LABELS, mode="lenient")
    assert (parsed.entities, parsed.reason, parsed.lost) == ((), None, ())
    assert parse_answer(f"<answer>{text}</answer>", labels=LABELS).reason is not None


@pytest.mark.parametrize(
    "item",
    [
        '{"bbox_2d": null, "label": "Oracle Arena", "type": "LOC"}',
        '{"bbox_2d": null, "label": "LOC", "sub_label": "Oracle Arena"}',
        '{"phrase": "Oracle Arena", "entity_type": "LOC", "region_box": []}',
        '{"text_content": "Oracle Arena", "label": "location", "box_2d": "not visible"}',
        '{"Name": "Oracle Arena", "TYPE": "LOC", "entity_region": "N/A"}',
        '{"word": "Oracle Arena", "entity_group": "LOC"}',
        '{"entityName": "Oracle Arena", "Entity Type": "Place", "bounding-box": null}',
        '{"entity": "Oracle Arena", "type": ["LOC"], "location": null}',
        *(f'{{"entity": "Oracle Arena", "type": "LOC", "bbox_2d": {absent}}}' for absent in (
            '"none"', '"Not in the image"', '"-"', "[null, null, null, null]", "[[]]", "{}", "false",
            "[-1, -1, -1, -1]", "[0.0, 0, 0, 0]", '"[0, 0, 0, 0]"', '"[]"', "NaN", "NULL", "[null]",
            '["None"]', '{"x1": null, "y1": null, "x2": null, "y2": null}', '"ungrounded"', "0",
        )),
    ],
)  # fmt: skip
def test_other_keys_and_other_words_for_absent_are_read(item):
    parsed = parse_answer(f"<answer>[{item}]</answer>", labels=LABELS, mode="lenient")
    assert (parsed.entities, parsed.lost) == ((OA,), ())
    assert parse_answer(f"<answer>[{item}]</answer>", labels=LABELS).reason is not None


corners = st.tuples(st.integers(0, 900), st.integers(0, 900), st.integers(1, 99), st.integers(1, 99)).map(
    lambda t: (t[0], t[1], t[0] + t[2], t[1] + t[3])
)
BOX_FORMS = [
    '"[{0}, {1}, {2}, {3}]"', '"({0},{1}),({2},{3})"', '"{0} {1} {2} {3}"', "[[{0}, {1}], [{2}, {3}]]",
    '"<|box_start|>({0},{1}),({2},{3})<|box_end|>"', "<|box_start|>({0},{1}),({2},{3})<|box_end|>",
    '"<box>[[{0}, {1}, {2}, {3}]]</box>"', "<|det|>[[{0}, {1}, {2}, {3}]]<|/det|>", "[[{0}, {1}, {2}, {3}]]",
    '"x1={0}, y1={1}, x2={2}, y2={3}"', '{{"x1": {0}, "y1": {1}, "x2": {2}, "y2": {3}}}',
    '{{"left": {0}, "top": {1}, "right": {2}, "bottom": {3}}}', "({0}, {1}, {2}, {3})",
    '{{"x_min": {0}, "y_min": {1}, "X_max": {2}, "y_max": {3}}}',
    '{{"ytl": {1}, "xtl": {0}, "ybr": {3}, "xbr": {2}}}',
    '["{0}", "{1}", "{2}", "{3}"]',
]  # fmt: skip
WRAPPINGS = [
    "{}", "[{}]", '{{"entities": {}}}', '{{"id": "7", "pre_entities": {}, "n": 1}}', "```json\n{}\n```",
    "Here: {}", "{}<|im_end|>", "<answer>{}</answer>", "<think>It is [1] {{2}}.</think><answer>{}</answer>",
    "```\n<answer>{}</answer>\n```", "Draft: [] Final: {}", "<|begin_of_box|>{}<|end_of_box|>",
]  # fmt: skip


@given(
    st.lists(
        st.tuples(st.sampled_from(["Ada", 'A "B" C', "[x] {y}", "Łódź, 9"]), corners | st.none()), max_size=4
    ),
    st.sampled_from(WRAPPINGS),
    st.sampled_from(BOX_FORMS),
    st.tuples(*(st.sampled_from([name for name in ALIASES[key] if name != "label"]) for key in FIELDS)),
    st.sampled_from([None, 0, 2]),
    st.permutations(range(3)),
)
def test_wrapping_fencing_renaming_or_spacing_changes_nothing(named, wrapping, form, keys, indent, order):
    items = []
    for name, box in named:
        value = [name, "PER", None if box is None else "@box@"]
        text = json.dumps({keys[k]: value[k] for k in order}, indent=indent, ensure_ascii=False)
        items.append(text.replace('"@box@"', form.format(*box) if box else ""))
    parsed = parse_answer(wrapping.format(f"[{', '.join(items)}]"), labels=LABELS, mode="lenient")
    meant = [PredictedEntity(name, "PER", () if box is None else (box,)) for name, box in named]
    assert (list(parsed.entities), parsed.lost, parsed.reason) == (meant, (), None)


names = st.text(min_size=1).filter(lambda t: t.strip() and not re.search("[\ud800-\udfff]", t))
nasty = st.lists(
    st.sampled_from(
        [*"()[]{},:'\"“”‘’`\\\n é🙂", "None", "null", "Person", "LOC", "12", "</answer>", "<process>"]
    ),
    min_size=1,
    max_size=5,
)
entities = st.builds(
    PredictedEntity,
    names | nasty.map("".join).filter(str.strip) | st.sampled_from(["</answer>", "<think>", '"]}', "\\"]),
    st.sampled_from(LABELS),
    corners.map(lambda b: (b,)) | st.just(()),
)
thoughts = st.none() | st.text().filter(
    lambda t: not re.search("[\ud800-\udfff]|</?(think|process|answer)>", t)
)


@given(st.lists(entities, max_size=5), thoughts, st.sampled_from(FORMS), st.permutations(FIELDS))
def test_what_is_written_is_read_back(written, think, form, fields):
    text = write_answer(written, think=think, form=form, fields=fields, labels=LABELS)
    parsed = parse_answer(text, labels=LABELS)
    assert parsed.reason is None
    assert list(parsed.entities) == written
    assert parsed.think == (None if think is None else think.strip())
    assert parsed.form == form


def test_every_gold_entity_of_the_real_data_is_read_back(real):
    examples = [e for split in ("train", "dev", "test") for e in real(split)]
    for k, example in enumerate([*examples, *real("test", "twitter-fmnerg")]):
        gold = [PredictedEntity(e.text, e.type, (e.boxes_xyxy_px or ())[:1]) for e in example.entities]
        fields = FIELDS[k % 3 :] + FIELDS[: k % 3]
        for form in FORMS:
            text = write_answer(gold, form=form, labels=example.labels, fields=fields)
            parsed = parse_answer(text, labels=example.labels)
            assert (parsed.reason, list(parsed.entities)) == (None, gold), text


FRAGMENTS = [
    *"<think> </think> <answer> </answer> [ ] { } , : \" ' \\ ```json".split(),  # noqa: SIM905
    *"null NaN -Infinity é 🙂 ［ True 1 2.5 -3".split(),  # noqa: SIM905
    *"( ) (Ada, None <process> </process> “ (1, [2".split(),  # noqa: SIM905
    *("(Ada, person, (1, 2, 3, 4))", ", person, (1, 2, 3, 4))", "'Ada'", "- ", "LOC"),
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
    "wrappings": '{"entities": [',
    "values": '{"a": 1, ',
    "empty lists": "[] ",
    "broken lists": "[{a} ",
    "lost values": '[{"a": x, ',
    "keys": ', "a"  :',
    "tokens": "<|box_start|>",
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
    parsed = parse_answer(text, labels=LABELS, mode="lenient")
    assert parsed.repairs == ("number_too_long",)
    assert parsed.entities == (PredictedEntity("Oslo", "LOC", ((0, 0, 0, 0),)),)
