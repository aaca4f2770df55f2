"""Answers in the form of the paper: tuples, written, read, repaired, and in linear time."""

import re
import time
from dataclasses import replace

import pytest

from mcr_lib.answer import MODES, parse_answer, write_answer
from mcr_lib.schema import PredictedEntity
from mcr_lib.study.tables.defects import PERFECT_PAPER
from tests.test_answer import KD, KD_TUPLE, LABELS, OA, OA_TUPLE


def paper(first=KD_TUPLE, second=OA_TUPLE):
    return f"<answer>{first} {second}</answer>"


def with_first(old, new):
    return paper(KD_TUPLE.replace(old, new))


BOX = "(52, 31, 188, 240)"


def test_the_form_of_the_paper_is_written_as_it_says():
    text = write_answer([KD, OA], think="Two names.", form="paper")
    assert text == f"<process> Two names. </process>\n{paper()}"
    assert paper() == PERFECT_PAPER
    assert write_answer([], form="paper") == "<answer>None</answer>"


def test_the_fields_of_both_forms_stand_in_the_order_asked():
    order = ("bbox_2d", "type", "entity")
    assert write_answer([OA], form="paper", fields=order) == "<answer>(None, location, Oracle Arena)</answer>"
    assert (
        write_answer([OA], fields=order)
        == '<answer>[{"bbox_2d": null, "type": "LOC", "entity": "Oracle Arena"}]</answer>'
    )
    only_type = write_answer([OA], form="paper", fields=order, constraints=("span", "type"))
    assert only_type == "<answer>(location, Oracle Arena)</answer>"
    with pytest.raises(ValueError, match="without one of"):
        write_answer([OA], fields=("entity", "type"))
    with pytest.raises(ValueError, match="form 'xml'"):
        write_answer([OA], form="xml")


@pytest.mark.parametrize(
    "name",
    ["a (b", "c)", "Paris, Texas", 'a "b"', "None", "n/a", "Person", "per", " edge", "<answer>", "'s", "\b"],
)
def test_a_name_that_would_be_misread_is_quoted(name):
    assert write_answer([PredictedEntity(name, "PER")], form="paper").startswith('<answer>("')


@pytest.mark.parametrize(
    "name", ["Levi's Stadium", "AT&T", "#GoDubs", "a <b> c", "7", "1.5", "Ωμέγα", "🙂", "A;B"]
)
def test_other_names_stand_bare(name):
    text = write_answer([PredictedEntity(name, "PER")], form="paper")
    assert text == f"<answer>({name}, person, None)</answer>"


@pytest.mark.parametrize(
    "body",
    [
        f"{KD_TUPLE}, {OA_TUPLE}",
        f"[{KD_TUPLE}, {OA_TUPLE}]",
        f"\n{KD_TUPLE}\n{OA_TUPLE}\n",
        f"{KD_TUPLE}{OA_TUPLE}",
        '((52,31,188,240),"Kevin Durant",person)(None, Oracle Arena, location)',
        f"(person, {BOX}, Kevin Durant) (location, None, Oracle Arena)",
    ],
)
def test_tuples_are_strictly_read_whatever_stands_between_them_and_in_any_order(body):
    parsed = parse_answer(f"<process>Two.</process> <answer>{body}</answer>", labels=LABELS)
    assert (parsed.reason, parsed.entities, parsed.form, parsed.think) == (None, (KD, OA), "paper", "Two.")


@pytest.mark.parametrize("body", ["None", "", " \n"])
def test_nobody_is_strictly_none_or_nothing(body):
    parsed = parse_answer(f"<answer>{body}</answer>", labels=LABELS)
    assert (parsed.reason, parsed.entities, parsed.form) == (None, (), "paper")


@pytest.mark.parametrize("body", ["none", "null", "N/A", "None.", "`None`"])
def test_nobody_in_other_words_is_repaired(body):
    text = f"<answer>{body}</answer>"
    assert parse_answer(text, labels=LABELS).reason == "null_in_words"
    parsed = parse_answer(text, labels=LABELS, mode="lenient")
    assert (parsed.reason, parsed.entities, parsed.repairs) == (None, (), ("null_in_words",))


def test_an_answer_that_ends_at_its_opening_tag_does_not_say_that_nobody_is_named():
    assert parse_answer("<answer>", labels=LABELS, mode="lenient").reason == "no_list"


def test_native_thinking_before_the_process_is_fine_and_joined():
    text = f"<think>\nHm.\n</think>\n\n<process> Two. </process>\n{paper()}"
    parsed = parse_answer(text, labels=LABELS)
    assert (parsed.reason, parsed.think) == (None, "Hm.\nTwo.")
    for first, second in (("process", "think"), ("process", "process"), ("think", "think")):
        text = f"<{first}>Hm.</{first}><{second}>Two.</{second}>{paper()}"
        assert parse_answer(text, labels=LABELS).reason == "several_thinks"


def test_tags_of_a_style_within_the_reasoning_are_words():
    think = "<entity_num>1</entity_num> <location>(Oracle Arena, None)</location>"
    parsed = parse_answer(write_answer([OA], think=think, form="paper"), labels=LABELS)
    assert (parsed.reason, parsed.think, parsed.entities) == (None, think, (OA,))


@pytest.mark.parametrize(  # defects that both forms have: what the paper form of each looks like
    ("reason", "text"),
    [
        ("lone_surrogate", with_first("Kevin Durant", "Kevin Durant\ud83d")),
        ("no_answer_tag", f"{KD_TUPLE} {OA_TUPLE}"),
        ("unclosed_answer", f"<answer>{KD_TUPLE} {OA_TUPLE}"),
        ("several_answers", f"<answer>{OA_TUPLE}</answer>{paper()}"),
        ("text_around", f"Sure! {paper()}"),
        ("text_around", paper(f"1. {KD_TUPLE}", f"\n2. {OA_TUPLE}")),
        ("text_around", paper(f"- {KD_TUPLE}", f"\n- {OA_TUPLE}")),
        ("text_around", paper(f"The entities (in order) are: {KD_TUPLE}")),
        ("code_fence", paper(f"```\n{KD_TUPLE}", f"{OA_TUPLE}\n```")),
        ("unclosed_think", f"<process> Two names. {paper()}"),
        ("unopened_think", f"Two names. </process>{paper()}"),
        ("think_misplaced", f"{paper()}<process>Two.</process>"),
        ("tag_in_think", f"<process>An <answer> is due.</process>{paper()}"),
        ("cut_list", f"<answer>[{KD_TUPLE} {OA_TUPLE}</answer>"),
        ("stray_comma", paper(KD_TUPLE + ",,")),
        ("stray_comma", paper(KD_TUPLE, OA_TUPLE + ",")),
        ("stray_comma", with_first(")))", ")),)").replace("240))", "240),)")),
        ("python_literal", with_first("Kevin Durant", "'Kevin Durant'")),
        ("control_character", with_first("Kevin Durant", "Kevin\nDurant")),
        ("bad_escape", with_first("Kevin Durant", r'"Kevin \Durant"')),
        ("extra_key", with_first("240))", "240), 0.9)")),
        ("type_synonym", with_first("person", "PER")),
        ("type_synonym", with_first("person", "Person")),
        ("null_in_words", paper(second="(Oracle Arena, location, null)")),
        ("null_in_words", paper(second="(Oracle Arena, location, N/A)")),
        ("null_in_words", paper(second="(Oracle Arena, location, )")),
        ("null_in_words", paper(second="(Oracle Arena, location, [])")),
        ("quoted_field", paper(second='(Oracle Arena, location, "None")')),
        ("quoted_field", with_first(BOX, f'"{BOX}"')),
        ("quoted_field", paper('("Kevin Durant", "person", (52, 31, 188, 240))')),
        ("number_as_text", with_first(BOX, '("52", "31", "188", "240")')),
        ("float_coordinate", with_first("52", "52.0")),
        ("swapped_corners", with_first(BOX, "(188, 31, 52, 240)")),
        ("several_boxes", with_first(BOX, f"{BOX}, (300, 40, 380, 200)")),
        ("several_boxes", with_first(BOX, f"({BOX}, (300, 40, 380, 200))")),
        ("several_boxes", with_first(BOX, f"({BOX})")),
        ("unbalanced_parentheses", paper(KD_TUPLE + ")")),
        ("unbalanced_parentheses", paper(KD_TUPLE[1:])),
        ("unbalanced_parentheses", paper(second=OA_TUPLE[1:])),
        ("unbalanced_parentheses", paper(second=OA_TUPLE[:-1])),
        ("unbalanced_parentheses", paper(OA_TUPLE[:-1], KD_TUPLE)),
        ("unbalanced_parentheses", paper(KD_TUPLE[1:-1], "\n- " + OA_TUPLE[1:-1])),
        ("text_around", paper("As asked, two names:\n" + KD_TUPLE[1:-1], "\n" + OA_TUPLE[1:-1])),
        ("other_quotes", with_first("Kevin Durant", '"Kevin Durant')),
        ("unquoted_name", with_first("Kevin Durant", "Kevin Durant (NBA)")),
    ],
)
def test_the_paper_form_is_treated_with_the_same_kindness(reason, text):
    strict, lenient = (parse_answer(text, labels=LABELS, mode=mode) for mode in MODES)
    assert (strict.reason, strict.entities) == (reason, ())
    assert (lenient.reason, lenient.lost, lenient.form) == (None, (), "paper")
    boxes = {re.sub(r"\ufffd| \(NBA\)", "", e.text): e.box_xyxy for e in lenient.entities}
    assert boxes == {"Kevin Durant": (52, 31, 188, 240), "Oracle Arena": None}


@pytest.mark.parametrize(
    ("lost", "text"),
    [
        ("cut_list", f"<answer>{OA_TUPLE} (Kevin Dur"),
        ("cut_list", f"<answer>{OA_TUPLE} {KD_TUPLE[:-4]}"),
        ("cut_list", f"<answer>{OA_TUPLE} (None, person, Kevin Dur"),
        ("missing_key", paper("(Kevin Durant)")),
        ("missing_key", paper("(Kevin Durant, (52, 31, 188, 240))")),
        ("entity_empty", with_first("Kevin Durant", '" "')),
        ("entity_empty", with_first("Kevin Durant", "")),
        ("unknown_type", with_first("person", "athlete")),
        ("unknown_type", paper("(None, None, None)")),
        ("too_deep", with_first(BOX, "(((52)))")),
    ],
)
def test_a_tuple_that_cannot_be_mended_is_lost_alone(lost, text):
    lenient = parse_answer(text, labels=LABELS, mode="lenient")
    assert (lenient.lost, lenient.entities, lenient.reason) == ((lost,), (OA,), None)
    assert parse_answer(text, labels=LABELS).reason is not None


@pytest.mark.parametrize(
    ("defect", "text"),
    [
        ("box_not_list", with_first(BOX, "on the left")),
        ("box_length", with_first(", 240)", ")")),
        ("box_length", with_first(BOX, "(52 31 188 240)")),
        ("box_not_numbers", with_first("240", "None")),
        ("box_not_numbers", with_first(BOX, "(x1, y1, x2, y2)")),
        ("number_not_finite", with_first("240", "NaN")),
        ("number_too_long", with_first("240", "9" * 50)),
    ],
)
def test_of_a_tuple_whose_box_cannot_be_read_name_and_type_stay(defect, text):
    lenient = parse_answer(text, labels=LABELS, mode="lenient")
    assert (lenient.lost, lenient.reason) == ((), None)
    assert lenient.entities == (replace(KD, boxes_xyxy=((0, 0, 0, 0),)), OA)
    assert defect in lenient.repairs
    assert parse_answer(text, labels=LABELS).reason is not None


@pytest.mark.parametrize(
    ("item", "name"),
    [
        ("(Oslo, location)", "Oslo"),
        ("(location, Oslo)", "Oslo"),
        ("(Washington, DC, location)", "Washington, DC"),
    ],
)
def test_a_tuple_without_a_location_is_not_in_the_image(item, name):
    parsed = parse_answer(f"<answer>{item}</answer>", labels=LABELS, mode="lenient")
    assert parsed.entities == (PredictedEntity(name, "LOC"),)
    assert "missing_box" in parsed.repairs
    assert parse_answer(f"<answer>{item}</answer>", labels=LABELS).reason is not None


def test_too_many_tuples_are_cut_at_a_thousand():
    text = f"<answer>{(OA_TUPLE + ' ') * 1001}</answer>"
    assert parse_answer(text, labels=LABELS).reason == "too_many_items"
    assert len(parse_answer(text, labels=LABELS, mode="lenient").entities) == 1000


@pytest.mark.parametrize(
    ("item", "name"),
    [
        ("(Washington, DC, location, None)", "Washington, DC"),
        ("(location, Washington,DC, None)", "Washington,DC"),
        ("('Washington, DC', 'location', None)", "Washington, DC"),
        ("(Person, location, None)", "Person"),  # of two types, the first is the name
        ('(location, "Person", None)', "Person"),  # a quoted one is always the name
        ('("None", location, None)', "None"),
        ("(None, location, None)", "None"),
        ("(Levi's Stadium (SF), location, None)", "Levi's Stadium (SF)"),
        ("('Levi's Stadium', location, None)", "Levi's Stadium"),
    ],
)
def test_a_field_is_told_by_its_content(item, name):
    parsed = parse_answer(f"<answer>{item}</answer>", labels=LABELS, mode="lenient")
    assert parsed.entities == (PredictedEntity(name, "LOC"),)


def test_a_list_of_json_wins_over_parentheses_of_the_text_before_it():
    text = f"Here it is (as asked, in JSON): {write_answer([KD, OA])[8:-9]}"
    parsed = parse_answer(text, labels=LABELS, mode="lenient")
    assert (parsed.form, parsed.entities) == ("json", (KD, OA))
    prose = "I see nobody (a cat, though) that the text names."
    assert parse_answer(prose, labels=LABELS, mode="lenient").reason == "no_answer"


def test_tasks_without_types_or_boxes_have_tuples_of_two():
    expression = PredictedEntity("the man, left", None, ((1, 2, 3, 4),))
    for entity, task, labels in ((expression, ("groundable", "box"), ()), (OA, ("span", "type"), LABELS)):
        text = write_answer([entity], form="paper", constraints=task)
        parsed = parse_answer(text, labels=labels, constraints=task)
        assert (parsed.reason, parsed.entities) == (None, (entity,))
    with_box = parse_answer(paper(), labels=LABELS, constraints=("span", "type"), mode="lenient")
    assert [e.text for e in with_box.entities] == ["Kevin Durant", "Oracle Arena"]
    assert with_box.repairs == ("extra_key",)


def test_labels_without_a_word_are_written_as_they_are_and_known_to_the_quotes():
    park = PredictedEntity("Park", "city")
    text = write_answer([park], form="paper", labels=("city", "park"), fields=("type", "entity", "bbox_2d"))
    assert text == '<answer>(city, "Park", None)</answer>'
    assert parse_answer(text, labels=("city", "park")).entities == (park,)


HOSTILE_TUPLES = {
    "open parentheses": "(",
    "spaced parentheses": "( ",
    "parentheses and commas": "(,",
    "half tuples": "(Ada, person, (1, ",
    "lines": "Ada, person,\n",
    "lines of boxes": "a, (1), ",
    "lists of boxes": "a, ((1),(1),",
    "names with parentheses": "a, (b) ",
    "curly quotes": "“a, ",
    "quoted names": '"a" ',
    "half quotes": ', "a',
    "nested pairs": "()",
    "empty lines": ",\n   ",
}


@pytest.mark.parametrize("piece", HOSTILE_TUPLES.values(), ids=HOSTILE_TUPLES.keys())
@pytest.mark.parametrize("frame", ["{}", "<answer>({}"])
def test_200_kilobytes_of_any_tuples_are_read_in_linear_time(piece, frame):
    text = frame.format(piece * (200_000 // len(piece)))
    began = time.process_time()
    parse_answer(text, labels=LABELS, mode="lenient")
    assert time.process_time() - began < 3  # quadratic time would take minutes
