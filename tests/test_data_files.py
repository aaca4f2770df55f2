"""Files: whole or not at all; JSONL that names its faults by file and line."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcr_lib.data.files import is_safe_id, read_jsonl, read_text, write_json, write_jsonl, written_whole
from mcr_lib.data.mrsi import read_chains
from mcr_lib.data.predictions import read_predictions
from mcr_lib.errors import UserError
from mcr_lib.study.runs.artifacts import RunFolder, read_manifest

HEAD = '{"format_version": 2, "kind": "rows"}\n'


def test_a_file_whose_writing_fails_keeps_its_old_content_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), written_whole(path) as file:  # noqa: PT012
        file.write("new, but")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_rows_come_back_with_their_lines_and_lone_surrogates(tmp_path):
    path = tmp_path / "deep" / "rows.jsonl"
    rows = [{"id": "1", "answer": "half \ud83d"}, {"id": "2", "answer": "é"}]
    write_jsonl(path, rows, kind="rows", split="dev")
    header, read = read_jsonl(path, kind="rows")
    assert (header["split"], read) == ("dev", [(2, rows[0]), (3, rows[1])])


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    path = tmp_path_factory.mktemp("sealed") / "rows.jsonl"
    rows = [{"id": str(k), "box": [12, 30, 400, 380 + k]} for k in range(3)]
    write_jsonl(path, rows, kind="rows", seal=True, seed=0)
    return path, path.read_bytes()


@given(at=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_any_changed_bit_of_a_file_with_a_checksum_is_noticed(sealed, at, bit):
    path, whole = sealed
    at %= len(whole)
    path.write_bytes(whole)
    expected = read_jsonl(path, kind="rows")
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
    if not whole.index(b', "sha256"') <= at <= whole.index(b"\n"):
        with pytest.raises(UserError, match=r"rows\.jsonl is not as it was"):
            read_jsonl(path, kind="rows")
        return
    try:  # in the checksum itself there is no content
        header, rows = read_jsonl(path, kind="rows")
    except UserError:
        return
    assert (header["seed"], rows) == (0, expected[1])


def test_damage_of_the_right_length_is_told_and_an_edit_can_be_kept(sealed):
    path, whole = sealed
    path.write_bytes(whole.replace(b"400", b"401"))
    with pytest.raises(UserError, match=r"rows.jsonl is not as it was .* \(an edit: remove"):
        read_jsonl(path, kind="rows")
    digits = json.loads(whole.split(b"\n")[0])["sha256"]
    path.write_bytes(path.read_bytes().replace(f', "sha256": "{digits}"'.encode(), b""))
    assert read_jsonl(path, kind="rows")[1][0][1]["box"] == [12, 30, 401, 380]
    path.write_bytes(b"\xef\xbb\xbf" + whole.replace(b"\n", b"\r\n"))
    assert len(read_jsonl(path, kind="rows")[1]) == 3, "the ends of lines are not content"


def test_json_is_readable(tmp_path):
    value = {"é": [1], "a name that is not UTF-8": "\udcff.jsonl"}
    write_json(tmp_path / "a.json", value)
    assert "é" in (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == value


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HEAD + '{"id": ', r"rows.jsonl, line 2: not JSON"),
        (HEAD + "\n[1]", r"line 3: expected a JSON object, found list"),
        (HEAD + '{"a": ' + "[" * 100_000, r"line 2: not JSON"),
        ('{"format_version": 99}\n', "format_version 99, but this release reads 2"),
        ('{"format_version": 2, "kind": "chains"}\n', "holds 'chains', expected 'rows'"),
        ('{"id": "1"}\n', 'first line has no "format_version"'),
    ],
)
def test_a_broken_file_is_one_sentence_with_its_line(tmp_path, content, message):
    path = tmp_path / "rows.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_jsonl(path, kind="rows")


def test_a_byte_order_mark_and_crlf_do_not_matter(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + HEAD.replace("\n", "\r\n").encode() + b'{"id": "1"}\r\n')
    assert read_jsonl(path, kind="rows")[1] == [(2, {"id": "1"})]


def test_files_that_cannot_be_read_are_told(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_text(tmp_path / "none")
    with pytest.raises(UserError, match="cannot read"):
        read_text(tmp_path)
    (tmp_path / "latin").write_bytes(b"tea\ncaf\xe9")
    with pytest.raises(UserError, match="latin, line 2: not UTF-8"):
        read_text(tmp_path / "latin")
    with pytest.raises(UserError, match="cannot write"):
        write_json(tmp_path / "latin" / "a.json", 1)


@pytest.mark.parametrize(
    "id", ["", ".", "..", "../a", "a/b", "a\\b", "/etc", ".hidden", "a\n", "a b", "é", "x" * 129]
)
def test_ids_that_could_leave_a_folder_are_not_safe(id):
    assert not is_safe_id(id)


@pytest.mark.parametrize("kind", ["predictions", "chains", "run folder"])
def test_what_an_older_version_wrote_is_refused_and_the_sentence_says_what_changed(tmp_path, kind):
    old = {"format_version": 1, "kind": kind, "chains_version": 1, "n": 0, "notebooks": {}}
    (path := tmp_path / "manifest.json").write_text(json.dumps(old) + '\n{"id": "1", "answer": ""}\n')
    if kind == "run folder":
        path.write_text(json.dumps(old))
    read = {
        "predictions": lambda: read_predictions(path),
        "chains": lambda: read_chains(path, []),
        "run folder": lambda: read_manifest(RunFolder(tmp_path)),
    }[kind]
    with pytest.raises(
        UserError, match="D_R holds pairs of tweet and style, and prompts, rewards and bias are"
    ):
        read()
