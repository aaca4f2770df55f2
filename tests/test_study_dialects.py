"""Files of answers in the formats of other people give the same score as a predictions file."""

import contextlib
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcr_lib import data, yardsticks
from mcr_lib.answer import write_answer
from mcr_lib.errors import UserError
from mcr_lib.study.commands import cli
from mcr_lib.study.tables import dialects
from mcr_lib.study.tables.scoring import read_answers, score_file
from mcr_lib.study.tables.terminal import show_score
from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def examples(sample_dir):
    return data.load_split("twitter-gmner", sample_dir, split="test")


def e2e(example, predicted):
    text = "; ".join(
        f"{p.text}|{p.type}|{'None' if p.box_xyxy is None else list(p.box_xyxy)}" for p in predicted
    )
    return {
        "response_full": f"<think>t</think><answer>{text}</answer>",
        "response_answer_orig": text or "None",
    }


def unco(example, predicted):
    return {
        "image_id": f"{example.id}.jpg",
        "pre_entities": [
            {
                "phrase": p.text,
                "entity_type": {"OTHER": "MISC"}.get(p.type, p.type),
                "region_box": list(p.box_xyxy or ()),
                "start": 0,
            }
            for p in predicted
        ],
    }


def answer(predicted):
    whole = [type(p)(p.text, p.type, tuple(tuple(map(int, b)) for b in p.boxes_xyxy)) for p in predicted]
    return write_answer(whole)


def vllm(example, predicted):
    body = {"choices": [{"message": {"role": "assistant", "content": answer(predicted)}}]}
    response = {"status_code": 200, "request_id": "r", "body": body}
    return {"id": "vllm-1", "custom_id": example.id, "response": response, "error": None}


def swift(example, predicted):
    images = [{"bytes": None, "path": f"/images/{example.id}.jpg"}]
    return {"response": answer(predicted), "labels": "", "messages": [], "images": images}


WRITERS = {"e2e": e2e, "unco": unco, "vllm-batch": vllm, "ms-swift": swift}


def write(path, rows, as_array=False):
    text = json.dumps(rows, indent=1) if as_array else "\n".join(map(json.dumps, rows))
    path.write_text(text + "\n")
    return path


def score(sample_dir, path, **how):
    return score_file(source="twitter-gmner", root=sample_dir, predictions=path, n_resamples=50, **how)


@pytest.mark.parametrize("as_array", [False, True])
@pytest.mark.parametrize("format", WRITERS)
def test_a_perfect_file_in_any_format_scores_100(sample_dir, examples, tmp_path, capsys, format, as_array):
    rows = [WRITERS[format](e, yardsticks.perfect(e)) for e in examples]
    path = write(tmp_path / "theirs.json", rows, as_array)
    for how in ({}, {"format": format}):
        result = score(sample_dir, path, **how)
        assert (result["gmner"]["f1"], result["format"]) == (100.0, format)
        assert "question" not in result["coordinates"]
    show_score(result)
    assert f"file: read as {format} (docs/scoring.md)" in capsys.readouterr().out


def test_detections_are_gathered_by_image_and_boxes_converted(sample_dir, examples, tmp_path):
    rows = [
        {
            "image": f"{e.id}.jpg",
            "bbox_2d": p.box_xyxy and [p.box_xyxy[k] / e.image_size_px[k % 2] * 1000 for k in range(4)],
            "label": p.text,
            "type": p.type,
        }
        for e in examples
        for p in yardsticks.perfect(e)
    ]
    path = write(tmp_path / "d.json", rows, as_array=True)
    result = score(sample_dir, path, space="norm1000")
    assert (result["gmner"]["f1"], result["format"]) == (100.0, "detections")
    assert score(sample_dir, path)["coordinates"]["fits"] == "norm1000, xyxy"


def test_one_object_of_ids_and_lists_is_read(sample_dir, examples, tmp_path):
    whole = {e.id: unco(e, yardsticks.perfect(e))["pre_entities"] for e in examples}
    (tmp_path / "by_id.json").write_text(json.dumps(whole))
    assert score(sample_dir, tmp_path / "by_id.json")["gmner"]["f1"] == 100.0


def test_failed_calls_of_a_batch_are_null_answers(sample_dir, examples, tmp_path):
    rows = [vllm(e, yardsticks.perfect(e)) for e in examples]
    rows[0] |= {"response": None, "error": {"message": "timeout"}}
    rows[1] |= {"response": {"status_code": 400, "body": {"error": {"message": "too long"}}}, "error": None}
    result = score(sample_dir, write(tmp_path / "b.jsonl", rows))
    assert result["ids"]["null"] == {"count": 2, "first": [e.id for e in examples[:2]]}


def test_content_in_parts_and_ids_of_requests_are_read(sample_dir, examples, tmp_path):
    rows = [vllm(e, yardsticks.perfect(e)) for e in examples]
    for row in rows:
        message = row["response"]["body"]["choices"][0]["message"]
        message["content"] = [{"type": "text", "text": message["content"]}]
        row["custom_id"] = f"request-{row['custom_id']}"
    result = score(sample_dir, write(tmp_path / "b.jsonl", rows))
    assert result["gmner"]["f1"] == 100.0
    assert result["ids"]["shortened"]["count"] == len(examples)


@pytest.mark.parametrize("between", ["; ", "\n", ",\n", ", "])
def test_triples_may_stand_between_semicolons_commas_or_lines(tmp_path, examples, between):
    text = between.join(["A, B|PER|[1, 2, 3, 4]", "Rome|LOC|None", "Oslo|LOC|(5, 6, 7, 8)"]) + "."
    path = write(tmp_path / "p.jsonl", [{"id": examples[0].id, "answer": text}])
    read = read_answers(examples, path, "strict").parsed[0]
    assert [(e.text, e.boxes_xyxy) for e in read.entities] == [
        ("A, B", ((1, 2, 3, 4),)),
        ("Rome", ()),
        ("Oslo", ((5, 6, 7, 8),)),
    ]


@pytest.mark.parametrize("form", ["C:\\images\\{}.webp", " {} ", "request-{}", "{}.xml", "a/b/{}.JPEG"])
def test_ids_are_known_without_what_other_files_add(sample_dir, examples, tmp_path, form):
    rows = [{"id": form.format(e.id), "entities": []} for e in examples]
    result = score(sample_dir, write(tmp_path / "p.jsonl", rows))
    assert (result["ids"]["missing"]["count"], result["ids"]["unknown"]["count"]) == (0, 0)


def test_a_file_of_other_ids_shows_one_of_each(examples, tmp_path):
    path = write(tmp_path / "p.jsonl", [{"id": "test_7", "entities": []}])
    with pytest.raises(UserError, match=f"first ids: 'test_7' and '{examples[0].id}'"):
        read_answers(examples, path, "strict")


def test_a_name_with_a_semicolon_and_several_boxes_are_read(tmp_path, examples):
    text = "A;B|PER|[1, 2, 3, 4], [5, 6, 7, 8]; Rome|LOC|none"
    path = write(
        tmp_path / "p.jsonl", [{"id": examples[0].id, "answer": text, "coordinate_space": "norm1000"}]
    )
    read = read_answers(examples, path, "strict").parsed[0]
    assert [(e.text, e.type, e.boxes_xyxy) for e in read.entities] == [
        ("A;B", "PER", ((1, 2, 3, 4), (5, 6, 7, 8))),
        ("Rome", "LOC", ()),
    ]


def test_what_is_no_triple_is_lost_alone_and_counted(tmp_path, examples):
    path = write(tmp_path / "p.jsonl", [{"id": examples[0].id, "answer": "Ada|PER; Rome|LOC|None; |x|y; z"}])
    read = read_answers(examples, path, "strict", format="e2e").parsed[0]
    assert [e.text for e in read.entities] == ["Ada", "Rome"]
    assert read.lost == ("entity_empty", "missing_key")


@pytest.mark.parametrize(
    ("rows", "format", "message"),
    [
        (
            [{"response_answer_orig": "None"}],
            "auto",
            'without "id" its 1 rows must be the .* tweets of the split',
        ),
        ([{"response": "x"}], "auto", "taken for ms-swift.* has the keys response; --format names it"),
        ([{"response": "x", "images": []}], "auto", "line 1: taken for ms-swift"),
        ([{"custom_id": "7", "response": {"body": {}}}], "auto", "taken for vllm-batch"),
        ([{"id": "7", "entities": []}], "unco", "taken for unco, .* docs/scoring.md shows; .* id, entities"),
        (
            [{"tweet": "7", "output": "x"}],
            "auto",
            "found the keys tweet, output: a row has .*docs/scoring.md",
        ),
    ],
)
def test_a_file_that_is_not_what_it_seems_is_one_sentence(examples, tmp_path, rows, format, message):
    path = write(tmp_path / "p.jsonl", rows)
    with pytest.raises(UserError, match=message):
        read_answers(examples, path, "strict", format=format)


@pytest.mark.parametrize("text", ["id,entity\n7,x\n", "[1, 2]", "7"])
def test_a_file_that_holds_no_rows_is_one_sentence(examples, tmp_path, text):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(UserError, match="docs/scoring.md describes the format"):
        read_answers(examples, tmp_path / "p.csv", "strict")


anything = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.text("a|;[]1,<", max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
KEYS = ["id", "answer", "response", "images", "custom_id", "pre_entities", "image_id", "bbox_2d", "label"]
KEYS += ["response_answer_orig", "entities", "orig_size", "image"]


@given(st.lists(st.dictionaries(st.sampled_from(KEYS), anything, max_size=5), min_size=1, max_size=3))
def test_any_rows_are_read_or_refused_in_a_sentence(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    write(path, rows)
    with contextlib.suppress(UserError):
        _, read, _ = dialects.read(path, ["1"], space="original_px")
        assert read


def test_the_command_offers_every_format_and_the_page_describes_each(capsys):
    with pytest.raises(SystemExit):
        cli.main(["score", "--help"])
    assert "{" + ",".join(dialects.FORMATS) + "}" in re.sub(r"\s+", "", capsys.readouterr().out)
    page = (REPOSITORY / "docs" / "scoring.md").read_text()
    assert all(f"| `{name}` |" in page for name in dialects.FORMATS[1:])
