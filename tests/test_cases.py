"""Cases of other people's answers and files, where a folder of them lies beside the checkout: scoring and
reading. What each must give is written here by hand, from its `expected.txt`.
"""

import gzip
import re

import pytest

from mcr_lib.study.commands import cli
from tests.conftest import REPOSITORY

CASES = REPOSITORY.parent / "shared" / "cases"
if not CASES.is_dir():
    pytest.skip(
        f"no folder of cases at {CASES.parent.name}/{CASES.name} beside the checkout", allow_module_level=True
    )


@pytest.fixture
def score(capsys, monkeypatch):
    """Score a file of a case: exit code, F1 of GMNER and MNER (`None` = no score), and all that is said."""
    monkeypatch.setenv("COLUMNS", "300")

    def run(path, *arguments, root=CASES / "_base"):
        path = CASES / path
        given = ["--root", str(root), "--resamples", "50", "--predictions", str(path), *arguments]
        code = cli.main(["score", *given])
        printed = capsys.readouterr()
        rows = (re.search(rf"^{t} +[\d.]+ +[\d.]+ +([\d.]+)", printed.out, re.M) for t in ("GMNER", "MNER"))
        f1 = [row and float(row[1]) for row in rows]
        return code, f1, printed.out + printed.err

    return run


LENIENT = ("--parse", "lenient")


@pytest.mark.parametrize("name", ["in_tags", "json_object", "list_in_list", "pre_entities"])
def test_07_the_list_in_an_object_or_a_list_is_read_leniently_and_told(score, name):
    code, f1, said = score(f"07-wrapped-object/{name}.jsonl", *LENIENT)
    assert (code, f1) == (0, [100.0, 100.0])
    assert "wrapped_list 4" in said  # four answers, the empty one included: none is unread
    assert "not read 0 (0.0 %)" in said
    code, f1, said = score(f"07-wrapped-object/{name}.jsonl")
    assert (code, f1) == (1, [None, None])
    assert "so there is no score; not read, most often " in said
    assert "--parse lenient mends it" in said
    assert "lenient: GMNER F1 100.00" in said


@pytest.mark.parametrize(
    ("name", "repair"),
    [
        ("label_and_sub_label", "key_alias 3"),
        ("label_and_type", "key_alias 3"),
        ("no_box_key_when_absent", "missing_box 2"),
        ("words_for_absent", "null_in_words 2"),
        ("zeros_for_absent", "zeros_for_absent 2"),
    ],
)
def test_08_other_keys_and_other_words_for_absent_are_read_leniently(score, name, repair):
    code, f1, said = score(f"08-label-key/{name}.jsonl", *LENIENT)
    assert (code, f1, repair in said) == (0, [100.0, 100.0], True)
    assert re.search(
        r"not read, most often .*--parse lenient mends it", score(f"08-label-key/{name}.jsonl")[2]
    )


def test_08_dropped_entities_are_told_and_an_unreadable_box_leaves_mner_as_it_is(score, tmp_path):
    text = (CASES / "08-label-key" / "words_for_absent.jsonl").read_text()
    absent = re.search(r'"Port Unna\\".*?bbox_2d\\": (.*?)}', text)[1]
    (tmp_path / "box.jsonl").write_text(text.replace(absent, "[1, 2, 3]", 1))
    _, f1, said = score(tmp_path / "box.jsonl", *LENIENT)
    assert (f1[0] < 100, f1[1]) == (True, 100.0)
    assert "boxes not read (a wrong location): box_length 1" in said
    (tmp_path / "type.jsonl").write_text(text.replace('\\"PER\\"', '\\"HERO\\"', 1))
    _, f1, said = score(tmp_path / "type.jsonl", *LENIENT)
    assert (f1[1] < 100, "entities dropped: 1 (unknown_type 1)" in said) == (True, True)


@pytest.mark.parametrize("name", ["endoftext", "glm", "im_end", "role"])
def test_09_what_a_decoder_leaves_behind_is_told_with_what_to_do_and_read_leniently(score, name):
    code, f1, said = score(f"09-special-tokens/{name}.jsonl")
    assert (code, f1) == (1, [None, None])
    assert "no entity in its 4 answers could be read" in said
    if name != "role":
        assert "most often special token (4 ×)" in said
        assert "set skip_special_tokens=True" in said
    assert score(f"09-special-tokens/{name}.jsonl", *LENIENT)[:2] == (0, [100.0, 100.0])


def test_09_a_clean_file_scores_100_strictly(score):
    assert score("09-special-tokens/clean.jsonl")[:2] == (0, [100.0, 100.0])


QUESTION = "wrong coordinate space, order or size?"


@pytest.mark.parametrize("name", ["answers", "entities"])
@pytest.mark.parametrize("mode", [(), LENIENT])
def test_11_boxes_within_0_and_1_are_questioned_and_norm1_is_named(score, name, mode):
    code, f1, said = score(f"11-unit-floats/{name}.jsonl", *mode)
    assert f"{QUESTION} 5 of 5 lie within 0..1; read as norm1, xyxy" in said
    assert (code, f1[0]) == ((1, None) if (name, mode) == ("answers", ()) else (0, 28.57))


def test_11_norm1_is_a_space(score):
    code, f1, said = score("11-unit-floats/norm1.jsonl")
    assert (code, f1, QUESTION in said) == (0, [100.0, 100.0], False)
    code, f1, said = score("11-unit-floats/entities.jsonl", "--space", "norm1")
    assert (code, f1, QUESTION in said) == (0, [100.0, 100.0], False)


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("pixels_of_twice_the_size", "pixels of an image 2.00 times as large, xyxy"),
        ("thousandths_as_model_px", "norm1000, xyxy"),
        ("thousandths_as_pixels", "norm1000, xyxy"),
        ("yxyx", "original_px, yxyx"),
    ],
)
def test_12_a_wrong_space_order_or_size_is_questioned_and_the_right_one_named(score, name, fits):
    code, f1, said = score(f"12-wrong-space/{name}.jsonl")
    assert (code, f1[1]) == (0, 100.0)
    assert QUESTION in said
    assert f"read as {fits}, 5 of 5 boxes would hit the gold" in said


@pytest.mark.parametrize(
    ("path", "format"),
    [
        ("15-e2e-gmner-file/test_pred.jsonl", "e2e"),
        ("15-e2e-gmner-file/with_id.jsonl", "e2e"),
        ("16-unco-sake-file/unco.json", "unco"),
        ("16-unco-sake-file/unco.jsonl", "unco"),
        ("16-unco-sake-file/renamed_outside_only.jsonl", None),
        ("16-unco-sake-file/half_the_ids_with_jpg.jsonl", None),
        ("16-unco-sake-file/id_with_jpg.jsonl", None),
        ("17-ms-swift-rows/infer_result.jsonl", "ms-swift"),
    ],
)
def test_15_16_17_files_of_peers_score_100_and_their_format_is_told(score, path, format):
    code, f1, said = score(path)
    assert (code, f1) == (0, [100.0, 100.0])
    assert (f"file: read as {format} (docs/scoring.md)" in said) == (format is not None)
    n_short = {"half_the_ids_with_jpg": 2, "test_pred": 0, "with_id": 0, "renamed_outside_only": 0}
    n = n_short.get(path.split("/")[1].split(".")[0], 4)
    assert (f"shortened ids: {n} (read without IMGID:, folder, .jpg" in said) == (n > 0)


@pytest.mark.parametrize(
    ("name", "f1", "id"),
    [("entities_null", 100.0, "73003"), ("error_row", 83.33, "73002"), ("one_null", 83.33, "73002")],
)
def test_19_a_null_answer_counts_as_empty_and_is_told(score, name, f1, id):
    code, f1s, said = score(f"19-null-answers/{name}.jsonl")
    assert (code, f1s) == (0, [f1, f1])
    assert f"null ids: 1 (no answer in the row: count as empty answers), e.g. {id}" in said


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("empty_think", None),
        ("no_opening_think", "unopened think (4 ×): --parse lenient mends it (all before it is reasoning)"),
        ("prompt_echoed", "think misplaced (4 ×)"),
        ("upper_case_tags", "no answer tag (4 ×)"),
    ],
)
def test_20_lenient_reads_every_think_and_strict_says_why_not(score, name, why):
    assert score(f"20-think-echo/{name}.jsonl", *LENIENT)[:2] == (0, [100.0, 100.0])
    code, f1, said = score(f"20-think-echo/{name}.jsonl")
    assert (code, f1) == ((0, [100.0, 100.0]) if why is None else (1, [None, None]))
    assert f"not read, most often {why}" in said or why is None


NEW = "37-score-new-user"
WANTED = 'a row has "id" and "answer" (text) or "entities" (list); docs/scoring.md describes the format'


@pytest.mark.parametrize("name", ["ok.jsonl", "bom_crlf.jsonl", "array.json", "float_id.jsonl",
    "image_id.jsonl", "imgid.jsonl"])  # fmt: skip
def test_37_a_row_in_another_shape_is_read(score, name):
    code, f1, said = score(f"{NEW}/{name}")
    assert (code, f1) == (0, [25.0, 25.0])  # one of seven entities: P 100, R 14.29
    assert "missing ids: 3 (count as empty answers), e.g. 73002" in said
    assert ("shortened ids: 1" in said) == (name in ("float_id.jsonl", "imgid.jsonl"))


def test_37_one_object_of_id_and_entities_is_read(score):
    assert score(f"{NEW}/by_id.json")[:2] == (0, [0.0, 25.0])  # its box is null, gold has one


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("t.csv", f"neither JSONL nor a JSON array; {WANTED}"),
        ("empty.jsonl", f"holds no prediction; {WANTED}"),
        ("no_space.jsonl", f'"coordinate_space" is missing; expected one of original_px, model_px, norm1000,'
            f" norm1; found the keys id, answer: {WANTED}"),
        ("entities_text.jsonl", f'needs an "answer" (text) or "entities" (a list of objects); found the keys'
            f" id, entities: {WANTED}"),
        ("float_size.jsonl", '"model_size" must be [width, height] in whole pixels, found [392.0, 280.0]'
            " (docs/scoring.md)"),
        ("utf16.jsonl", "not UTF-8 text; save the file as UTF-8"),
        (".", "Is a directory"),
    ],
)  # fmt: skip
def test_37_what_cannot_be_read_is_one_sentence(score, name, said):
    code, f1, printed = score(f"{NEW}/{name}")
    assert (code, f1, printed.count("\n")) == (2, [None, None], 1)
    assert said in printed


def test_37_a_packed_file_is_one_sentence(score, tmp_path):
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress((CASES / NEW / "ok.jsonl").read_bytes()))
    code, _, said = score(tmp_path / "x.jsonl.gz")
    assert (code, said.count("\n"), "not UTF-8 text" in said) == (2, 1, True)


@pytest.mark.parametrize(
    ("arguments", "root", "said"),
    [
        (("--split", "val"), "_base", "val.txt does not exist; found train, dev, test"),
        ((), "_base/Twitter10000_v2.0/txt", "holds no folder Twitter10000_v2.0 (version v2)"),
        (("--version", "2"), "_base", "has no version '2'; choose one of v2, v1"),
    ],
)
def test_37_a_slip_in_an_argument_is_one_sentence(score, arguments, root, said):
    code, _, printed = score(f"{NEW}/ok.jsonl", *arguments, root=CASES / root)
    assert (code, printed.count("\n"), said in printed) == (2, 1, True)
