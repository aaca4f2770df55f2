"""Predictions files: both forms, every space, and rows that are no prediction."""

import json
from dataclasses import replace

import pytest

from mcr_lib.data.predictions import parse_prediction, plain_id, read_predictions, write_predictions
from mcr_lib.errors import UserError
from mcr_lib.schema import Entity, Example, PredictedEntity

TWEET = Example(
    "7",
    "demo",
    "test",
    ("in", "Rome"),
    (Entity("Rome", 1, 2, "LOC", ()),),
    ("PER", "LOC"),
    image_size_px=(600, 450),
)


def rows(tmp_path, *values, header=None):
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(v) + "\n" for v in ([header] if header else []) + list(values)))
    return path


def answer(box):
    return f'<answer>[{{"entity": "Rome", "type": "LOC", "bbox_2d": {box}}}]</answer>'


@pytest.mark.parametrize(
    ("row", "box_px"),
    [
        ({"answer": answer([60, 45, 300, 450]), "coordinate_space": "original_px"}, (60, 45, 300, 450)),
        ({"answer": answer([100, 100, 500, 1000]), "coordinate_space": "norm1000"}, (60, 45, 300, 450)),
        # 588 x 448 instead of 600 x 450: x * 600/588, y * 450/448
        (
            {"answer": answer([294, 0, 588, 448]), "coordinate_space": "model_px", "model_size": [588, 448]},
            (300, 0, 600, 450),
        ),
        (
            {"entities": [{"entity": "Rome", "type": "LOC", "bbox_2d": [60.5, 45, 300, 450]}]},
            (60.5, 45, 300, 450),
        ),
        # a copy of half the size: boxes are shares of the image
        (
            {
                "entities": [{"entity": "Rome", "type": "LOC", "bbox_2d": [30, 22.5, 150, 225]}],
                "image_size_px": [300, 225],
            },
            (60, 45, 300, 450),
        ),
    ],
)
def test_boxes_come_into_original_pixels_from_every_form(tmp_path, row, box_px):
    _, (prediction,) = read_predictions(rows(tmp_path, {"id": "7", **row}))
    parsed, entities = parse_prediction(prediction, TWEET, "strict")
    assert parsed.reason is None
    assert not parsed.repairs
    assert entities[0].box_xyxy == pytest.approx(box_px)


def test_where_no_size_is_known_boxes_are_kept_for_the_count(tmp_path):
    _, (prediction,) = read_predictions(
        rows(tmp_path, {"id": "7", "answer": answer([1, 2, 3, 4]), "coordinate_space": "norm1000"})
    )
    _, entities = parse_prediction(prediction, replace(TWEET, image_size_px=None), "strict")
    assert entities == (PredictedEntity("Rome", "LOC", ((1, 2, 3, 4),)),)


def test_a_header_holds_defaults_for_its_rows(tmp_path):
    path = tmp_path / "p.jsonl"
    write_predictions(path, [{"id": "7", "answer": "x"}], coordinate_space="norm1000", setting="mcr")
    header, (prediction,) = read_predictions(path)
    assert (header["setting"], prediction.coordinate_space) == ("mcr", "norm1000")


def test_the_form_that_was_asked_for_is_one_of_two(tmp_path):
    path = tmp_path / "p.jsonl"
    write_predictions(path, [{"id": "7", "entities": []}], answer_form="xml")
    with pytest.raises(UserError, match="\"answer_form\" is 'xml'; expected one of json, paper"):
        read_predictions(path)


def test_an_answer_in_the_form_of_the_paper_is_read_like_the_other(tmp_path):
    text = "<answer>(Rome, location, (100, 100, 500, 1000))</answer>"
    _, (prediction,) = read_predictions(
        rows(tmp_path, {"id": "7", "answer": text, "coordinate_space": "norm1000"})
    )
    parsed, entities = parse_prediction(prediction, TWEET, "strict")
    assert (parsed.form, entities[0].box_xyxy) == ("paper", pytest.approx((60, 45, 300, 450)))


def test_a_finished_list_has_no_form(tmp_path):
    _, (prediction,) = read_predictions(rows(tmp_path, {"id": "7", "entities": []}))
    assert parse_prediction(prediction, TWEET, "strict")[0].form is None


def test_ids_that_json_made_numbers_are_text_again(tmp_path):
    assert read_predictions(rows(tmp_path, {"id": 7, "entities": []}))[1][0].id == "7"


@pytest.mark.parametrize(
    "row", [{"answer": None}, {"entities": None}, {"error": "timeout"}, {"answer": None, "error": "timeout"}]
)
def test_a_row_of_a_call_that_failed_is_null(tmp_path, row):
    (prediction,) = read_predictions(rows(tmp_path, {"id": "7", **row}))[1]
    assert (prediction.is_null, prediction.answer) == (True, "")


@pytest.mark.parametrize(
    "id", ["7", "IMGID:7", "IMGID: 7", "7.jpg", "7.JPEG", "7.png", "7.0", "a/b/7.jpg", "imgid:7.jpg"]
)
def test_an_id_loses_what_other_files_add(id):
    assert plain_id(id) == "7"


def test_a_number_with_a_point_is_an_id(tmp_path):
    assert read_predictions(rows(tmp_path, {"id": 7.0, "entities": []}))[1][0].id == "7.0"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({}, 'line 1: it needs an "id" as text; found the keys '),
        ({"id": None, "entities": []}, 'needs an "id"'),
        ({"id": True, "entities": []}, 'needs an "id"'),
        ({"id": "7"}, 'needs an "answer"'),
        ({"image_id": "7", "text": "x"}, "found the keys image_id, text: a row has .*docs/scoring.md"),
        ({"id": "7", "entities": {}}, r'or "entities" \(a list of objects\); found'),
        ({"id": "7", "answer": ""}, '"coordinate_space" is missing; expected one of original_px'),
        ({"id": "7", "answer": "", "coordinate_space": "pixels"}, "is 'pixels'"),
        ({"id": "7", "answer": "", "coordinate_space": "model_px"}, 'needs "model_size"'),
        (
            {"id": "7", "answer": "", "coordinate_space": "model_px", "model_size": [588]},
            '"model_size" must be',
        ),
        (
            {"id": "7", "answer": "", "coordinate_space": "model_px", "model_size": [588, 0]},
            '"model_size" must be',
        ),
        ({"id": "7", "entities": [], "image_size_px": ["600", 450]}, '"image_size_px" must be'),
    ],
)
def test_a_row_that_is_no_prediction_is_one_sentence_with_its_line(tmp_path, row, message):
    with pytest.raises(UserError, match=message):
        read_predictions(rows(tmp_path, row))


def test_a_finished_name_that_looks_like_a_tag_is_a_name(tmp_path):
    said = [{"entity": name, "type": "LOC", "bbox_2d": None} for name in ("</answer>", "<think>", "a < b")]
    _, (prediction,) = read_predictions(rows(tmp_path, {"id": "7", "entities": said}))
    parsed, entities = parse_prediction(prediction, TWEET, "strict")
    assert (parsed.reason, parsed.repairs) == (None, ())
    assert [e.text for e in entities] == ["</answer>", "<think>", "a < b"]


def test_half_a_character_in_an_id_does_no_harm(tmp_path):
    assert (
        read_predictions(rows(tmp_path, {"id": "7\ud800", "entities": []}))[1][0].id
        == "7\N{REPLACEMENT CHARACTER}"
    )


def test_an_empty_file_is_told(tmp_path):
    with pytest.raises(UserError, match="holds no prediction"):
        read_predictions(rows(tmp_path, header={"format_version": 2, "kind": "predictions"}))
