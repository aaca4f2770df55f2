"""The check against published counts, on the real files and on damaged copies of the sample."""

import json
import shutil

import pytest

from mcr_lib.errors import UserError
from mcr_lib.study import check as checking
from mcr_lib.study.check import EXPECTED, check


@pytest.mark.parametrize(
    ("source", "version"), [("twitter-gmner", "v1"), ("twitter-gmner", "v2"), ("twitter-fmnerg", "v2")]
)
def test_the_real_files_are_as_published(gmner_dir, read_real, monkeypatch, source, version):
    monkeypatch.setattr(
        checking,
        "read_split",
        lambda name, root, *, split, version, images_dir: read_real(name, split, version),
    )
    report = check(source, gmner_dir, version=version)
    assert report.differences == []
    assert report.images.counts["present"] == 3
    assert sum(report.n_types.values()) == report.found["all"]["entities"]


def test_v1_totals_are_those_of_the_task_paper():
    total = EXPECTED["twitter-gmner-v1"]["all"]
    assert (total["entities"], total["groundable"], total["boxes"]) == (16_778, 6_716, 8_090)


def test_expected_totals_are_the_sums_of_their_splits():
    for columns in EXPECTED.values():
        for name, value in columns["all"].items():
            assert value == sum(columns[split][name] for split in ("train", "dev", "test"))


def test_the_sample_is_as_its_scenes_say(sample_dir):
    report = check("twitter-gmner", sample_dir)
    assert report.differences == []
    assert report.images.counts == {
        "present": 24,
        "missing": 0,
        "unreadable": 0,
        "of another size than annotated": 0,
    }


@pytest.fixture
def copy(sample_dir, tmp_path):
    return shutil.copytree(sample_dir, tmp_path / "sample")


def test_one_changed_tag_is_told_as_a_difference(copy):
    path = copy / "Twitter10000_v2.0/txt/dev.txt"
    path.write_text(path.read_text().replace("B-LOC", "B-ORG", 1))
    report = check("twitter-gmner", copy)
    assert "dev: ORG is 3, expected 2" in report.differences
    assert any("checksum" in difference for difference in report.differences)


def test_a_moved_box_changes_the_checksum_alone(copy):
    path = copy / "Twitter10000_v2.0/xml/300401.xml"
    path.write_text(path.read_text().replace("<xmin>41<", "<xmin>42<"))
    assert [d.split(" is ")[0] for d in check("twitter-gmner", copy).differences] == ["test: checksum"]


def test_leakage_orphans_and_images_are_told(copy):
    folder = copy / "Twitter10000_v2.0"
    dev = (folder / "txt/dev.txt").read_text()
    (folder / "txt/test.txt").write_text(
        (folder / "txt/test.txt").read_text() + "\n" + dev.split("\n\n")[3].replace("O_42", "O_43") + "\n"
    )
    shutil.copy(folder / "xml/300401.xml", folder / "xml/999.xml")
    (copy / "images/300401.jpg").write_text("no image")
    (copy / "images/300402.jpg").unlink()
    report = check("twitter-gmner", copy)
    kinds = {quirk.kind: quirk for quirk in report.quirks}
    assert kinds["text that occurs in more than one split"].what == "monday again ;)"
    assert kinds["xml of no tweet (left out)"].what == "999"
    assert (report.images.counts["missing"], report.images.counts["unreadable"]) == (2, 1)
    told = report.to_json()
    assert json.loads(json.dumps(told)) == told
    assert told["statistics"]["test"]["tweets"] == {"found": 9, "expected": 8}


def test_a_broken_expectation_is_one_sentence(copy):
    (copy / "expected.json").write_text('{"statistics": []}')
    with pytest.raises(UserError, match="expected.json: expected"):
        check("twitter-gmner", copy)


def test_a_part_of_the_data_is_told_and_not_broken_unless_it_claims_to_be_whole(copy, monkeypatch):
    (copy / "expected.json").rename(copy / "kept")
    report = check("twitter-gmner", copy)
    assert (bool(report.differences), report.broken) == (True, [])
    assert "differ from those published: other data" in report.verdict
    published = {"train": {"tweets": 10, "PER": 99}, "dev": {"tweets": 80}, "all": {"tweets": 90}}
    monkeypatch.setitem(EXPECTED, "twitter-gmner-v2", published)
    assert [d[:10] for d in check("twitter-gmner", copy).broken] == ["train: PER"], "dev is another one"
    (copy / "kept").rename(copy / "expected.json")
    (copy / "Twitter10000_v2.0/xml/300401.xml").unlink()
    report = check("twitter-gmner", copy)
    assert report.broken == report.differences != []
