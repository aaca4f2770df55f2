"""From a predictions file to numbers, on the embedded sample and on real annotation."""

import json

import pytest

from mcr_lib import data, yardsticks
from mcr_lib.answer import write_answer
from mcr_lib.data.predictions import write_predictions
from mcr_lib.errors import UserError
from mcr_lib.study.tables.cases import defect_rows
from mcr_lib.study.tables.defects import DEFECTS
from mcr_lib.study.tables.scoring import score_file, unread
from mcr_lib.study.tables.terminal import show_score


def entities(answer):
    return [{"entity": p.text, "type": p.type, "bbox_2d": p.box_xyxy} for p in answer]


def write(path, examples, rule=yardsticks.perfect):
    write_predictions(path, [{"id": e.id, "entities": entities(rule(e))} for e in examples])
    return path


@pytest.fixture(scope="module")
def examples(sample_dir):
    return data.load_split("twitter-gmner", sample_dir, split="test")


def score(sample_dir, path, **kwargs):
    return score_file(source="twitter-gmner", root=sample_dir, predictions=path, n_resamples=100, **kwargs)


def test_a_perfect_file_scores_a_hundred_in_everything(sample_dir, examples, tmp_path):
    result = score(sample_dir, write(tmp_path / "p.jsonl", examples))
    for task in ("gmner", "mner", "eeg"):
        intervals = dict.fromkeys(("ci95", "ci95_p", "ci95_r"), [100.0, 100.0])
        assert result[task] == {"p": 100.0, "r": 100.0, "f1": 100.0, **intervals}
    keys = ("n_f1", "false_grounding", "missed_grounding", "balanced_accuracy")
    assert [result["textual_bias"][key] for key in keys] == [100, 0, 0, 100]
    assert [result["visual_bias"][key] for key in ("n_count", "altered_count")] == [0, 0]


def test_the_sample_predictions_score_as_worked_out_by_hand(sample_dir):
    """Read leniently, of 17 gold entities and 15 predictions 8 are right in all.

    300401 perfect: 2 of 2. 300402 two short names: 0. 300403 the second type wrong: 1. O_51 three entities,
    the two that are not in the image boxed: 1. O_52 nobody: 0 of 0. 16_07_01_5 the tower's box left out: 2 of
    3 (film; and Odo Brandt, rightly none). 16_07_01_6 the radio right, a name that the text lacks: 1. 300404
    cut in the second item: 1 of 1 read.
    """
    result = score(sample_dir, sample_dir / "predictions.jsonl", parse="lenient")
    assert (result["gmner"]["p"], result["gmner"]["r"]) == (round(100 * 8 / 15, 2), round(100 * 8 / 17, 2))
    assert result["parse"]["ok"] == 6
    assert result["parse"]["lenient"] == 2
    assert result["parse"]["repairs"] == {"code_fence": 1, "unclosed_answer": 1}
    assert result["parse"]["lost_entities"] == {"cut_list": 1}
    assert [result["visual_bias"][key] for key in ("n_count", "foreign_count")] == [1, 1]
    strict = score(sample_dir, sample_dir / "predictions.jsonl")
    assert strict["parse"]["failed_by_reason"] == {"code_fence": 1, "unclosed_answer": 1}
    assert strict["gmner"]["r"] == round(100 * 6 / 17, 2)
    assert strict["other_parse"]["gmner_f1"] == result["gmner"]["f1"]


def test_answers_in_another_form_than_asked_are_read_counted_and_told(sample_dir, examples, tmp_path, capsys):
    """Eight tweets: three answers in json, one that is no answer, four in the form of the paper."""
    forms = ["json"] * 3 + ["paper"] * 5
    answers = [write_answer(yardsticks.perfect(e), form=f) for e, f in zip(examples, forms, strict=True)]
    answers[3] = "no idea"
    rows = [{"id": e.id, "answer": a} for e, a in zip(examples, answers, strict=True)]
    reports = {}
    for asked in ({"answer_form": "paper"}, {"answer_form": "json"}, {}):
        write_predictions(tmp_path / "p.jsonl", rows, coordinate_space="original_px", **asked)
        reports[asked.get("answer_form")] = score(sample_dir, tmp_path / "p.jsonl")
    for report in reports.values():
        assert report["parse"]["forms"] == {"json": 3, "paper": 4}
        assert report["parse"]["failed_by_reason"] == {"no_answer": 1}
    note = "3 of 8 answers are in the form json, though paper was asked for"
    assert reports["paper"]["parse"]["other_form"] == note
    assert reports["json"]["parse"]["other_form"].startswith(
        "4 of 8 answers are in the form paper, though json"
    )
    assert "other_form" not in reports[None]["parse"]
    show_score(reports["paper"])
    assert note in capsys.readouterr().out


def test_unknown_repeated_and_missing_ids_are_reported(sample_dir, examples, tmp_path):
    rows = [{"id": e.id, "entities": entities(yardsticks.perfect(e))} for e in examples]
    rows = [{"id": rows[0]["id"], "entities": []}, *rows[:-1], {"id": "elsewhere", "entities": []}]
    write_predictions(tmp_path / "p.jsonl", rows)
    result = score(sample_dir, tmp_path / "p.jsonl")
    assert {kind: (ids["count"], ids["first"]) for kind, ids in result["ids"].items()} == {
        "unknown": (1, ["elsewhere"]),
        "repeated": (1, [examples[0].id]),
        "missing": (1, [examples[-1].id]),
        "null": (0, []),
        "shortened": (0, []),
    }
    n_gold = sum(len(e.entities) for e in examples)
    n_left = n_gold - len(examples[-1].entities)  # missing: an empty answer; repeated: the last row counts
    assert (result["gmner"]["p"], result["gmner"]["r"]) == (100.0, round(100 * n_left / n_gold, 2))


def test_null_answers_count_as_empty_and_ids_of_other_files_are_read_and_both_are_told(
    sample_dir, examples, tmp_path, capsys
):
    rows = [{"id": f"IMGID:{e.id}.jpg", "entities": entities(yardsticks.perfect(e))} for e in examples]
    rows[-1] = {"id": examples[-1].id, "answer": None}
    write_predictions(tmp_path / "p.jsonl", rows)
    result = score(sample_dir, tmp_path / "p.jsonl")
    n_gold = sum(len(e.entities) for e in examples)
    assert result["gmner"]["r"] == round(100 * (n_gold - len(examples[-1].entities)) / n_gold, 2)
    assert result["parse"]["n_answers"] == len(examples) - 1
    show_score(result)
    shown = capsys.readouterr().out
    assert f"null ids: 1 (no answer in the row: count as empty answers), e.g. {examples[-1].id}" in shown
    assert f"shortened ids: {len(examples) - 1} (read without IMGID:" in shown


def test_what_is_not_read_is_told_with_the_commonest_reason_and_what_to_do(
    sample_dir, examples, tmp_path, capsys
):
    rows = [{"id": e.id, "entities": entities(yardsticks.perfect(e))} for e in examples]
    rows[0]["entities"] += [{"entity": "Oslo", "type": "CITY", "bbox_2d": None}] * 2 + [{"entity": "Rome"}]
    write_predictions(tmp_path / "p.jsonl", rows)
    result = score(sample_dir, tmp_path / "p.jsonl")
    assert result["parse"]["nothing_read"] is False
    show_score(result)
    shown = capsys.readouterr().out
    assert "entities dropped: 3 (unknown_type 2, missing_key 1)" in shown
    assert "not read, most often unknown type (2 ×): a type must be one of the label set" in shown


@pytest.mark.parametrize(
    ("answer", "parse", "why"),
    [
        ("<answer>[{]</answer>", "lenient", "docs/scoring.md shows the form"),
        ("", "strict", "most often empty text (8 ×): the model wrote nothing"),
        (None, "strict", "every row is null, as where all calls failed"),
    ],
)
def test_a_file_of_which_nothing_can_be_read_has_no_score(sample_dir, examples, tmp_path, answer, parse, why):
    rows = [{"id": e.id, "answer": answer} for e in examples]
    write_predictions(tmp_path / "p.jsonl", rows, coordinate_space="original_px")
    result = score(sample_dir, tmp_path / "p.jsonl", parse=parse)
    assert result["parse"]["nothing_read"]
    assert "could be read, so there is no score; " in unread(result)
    assert why in unread(result)


def test_what_the_other_mode_reads_is_said_where_nothing_is_read(sample_dir, examples, tmp_path):
    rows = [{"id": e.id, "answer": f"Sure! {write_answer(yardsticks.perfect(e))}"} for e in examples]
    write_predictions(tmp_path / "p.jsonl", rows, coordinate_space="original_px")
    said = unread(score(sample_dir, tmp_path / "p.jsonl"))
    assert "most often text around (8 ×): --parse lenient mends it" in said
    assert "lenient: GMNER F1 100.00" in said


def test_spans_and_types_count_for_mner_whatever_the_box_is(sample_dir, examples, tmp_path, capsys):
    """Every second entity of a perfect file gets a box that is none: MNER stays, GMNER and EEG lose them."""
    rows = [{"id": e.id, "entities": entities(yardsticks.perfect(e))} for e in examples]
    listed = [entity for row in rows for entity in row["entities"]]
    bad = ["on the left", [1, 2, 3], [1, 2, 3, "x"]]
    for k, entity in enumerate(listed[::2]):
        entity["bbox_2d"] = bad[k % 3]
    write_predictions(tmp_path / "p.jsonl", rows)
    result = score(sample_dir, tmp_path / "p.jsonl")
    right = round(100 * (len(listed) // 2) / len(listed), 2)
    assert (result["mner"]["f1"], result["gmner"]["f1"], result["eeg"]["f1"]) == (100.0, right, right)
    assert set(result["parse"]["lost_boxes"]) == {"box_not_list", "box_length", "box_not_numbers"}
    show_score(result)
    assert "answers with boxes not read (a wrong location): box_not_list" in capsys.readouterr().out


def test_a_file_without_any_box_key_is_scored_on_mner_alone_and_says_so(
    sample_dir, examples, tmp_path, capsys
):
    rows = [{"id": e.id, "entities": entities(yardsticks.perfect(e))} for e in examples]
    for row in rows:
        row["entities"] = [{"entity": e["entity"], "type": e["type"]} for e in row["entities"]]
    write_predictions(tmp_path / "p.jsonl", rows)
    result = score(sample_dir, tmp_path / "p.jsonl", compare=write(tmp_path / "whole.jsonl", examples))
    assert result["mner"]["f1"] == 100.0
    assert not {"gmner", "eeg", "textual_bias", "yardsticks"} & set(result)
    assert "are equal" in result["compare"]["mner"]["verdict"]
    show_score(result)
    shown = capsys.readouterr().out
    assert "scored on MNER alone" in shown
    assert "GMNER" not in shown
    rows[0]["entities"][0]["bbox_2d"] = None  # one key is enough: where it is missing, nothing is shown
    write_predictions(tmp_path / "p.jsonl", rows)
    assert 0 < score(sample_dir, tmp_path / "p.jsonl")["gmner"]["f1"] < 100


def test_a_model_that_names_nobody_has_a_score_of_zero(sample_dir, examples, tmp_path):
    write_predictions(tmp_path / "p.jsonl", [{"id": e.id, "entities": []} for e in examples])
    result = score(sample_dir, tmp_path / "p.jsonl")
    assert (result["gmner"]["f1"], result["parse"]["nothing_read"]) == (0.0, False)


def test_a_file_for_another_split_is_refused(sample_dir, tmp_path):
    dev = data.load_split("twitter-gmner", sample_dir, split="dev")
    with pytest.raises(UserError, match="none of its 6 ids is in the test split of twitter-gmner-v2"):
        score(sample_dir, write(tmp_path / "p.jsonl", dev))


def test_comparing_a_file_with_itself_finds_no_difference(sample_dir, examples, tmp_path):
    path = write(tmp_path / "p.jsonl", examples)
    compared = score(sample_dir, path, compare=path)["compare"]["gmner"]
    assert (compared["difference"], compared["p_value"]) == (0.0, 1.0)
    assert "are equal" in compared["verdict"]


def test_the_result_is_json_and_the_same_for_the_same_seed(sample_dir):
    first, second = (score(sample_dir, sample_dir / "predictions.jsonl", seed=3) for _ in range(2))
    assert json.loads(json.dumps(first)) == first == second
    assert "seed=3" in first["signature"]
    assert first["signature"] != score(sample_dir, sample_dir / "predictions.jsonl", seed=4)["signature"]


def test_the_ids_of_the_other_file_are_reported_too(sample_dir, examples, tmp_path):
    path, half = write(tmp_path / "p.jsonl", examples), write(tmp_path / "half.jsonl", examples[::2])
    result = score(sample_dir, path, compare=half)
    assert result["compare"]["with"] == "half.jsonl"
    assert result["compare"]["ids"]["missing"]["count"] == 4
    assert result["ids"]["missing"]["count"] == 0


@pytest.mark.parametrize("scorer", ["paper", "definition", "e2e", "unco-legacy"])
def test_every_scorer_signs_with_its_rule(sample_dir, scorer):
    result = score(sample_dir, sample_dir / "predictions.jsonl", scorer=scorer)
    assert f"scorer={scorer}|iou={'>0.5' if scorer == 'definition' else '>=0.5'}" in result["signature"]


def test_the_table_of_defects_shows_where_each_example_is_damaged():
    rows = {row["strict reason"]: row for row in defect_rows(("PER", "LOC", "ORG", "OTHER"))}
    assert list(rows) == [defect.name for defect in DEFECTS]
    assert "Infinity" in rows["number_not_finite"]["example"]
    assert rows["cut_list"]["read leniently"] == "Oracle Arena (LOC)"
    assert rows["too_many_items"]["read leniently"].endswith("1,000 in all")
    assert max(len(row["example"]) for row in rows.values()) < 80


def test_fine_types_are_scored_too(real, gmner_dir, tmp_path):
    path = write(tmp_path / "p.jsonl", real("test", "twitter-fmnerg"))
    result = score_file(source="twitter-fmnerg", root=gmner_dir, predictions=path, n_resamples=100)
    assert (result["gmner"]["f1"], len(result["by_type"]["gmner"])) == (100.0, 51)
    assert result["yardsticks"]["never a box"]["gmner_f1"] == 58.87
