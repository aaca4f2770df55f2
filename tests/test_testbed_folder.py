"""The testbed as files: they read back equal, sets share a folder, a set is reused only when it is whole and
the same.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import ImageChops

from mcr_lib import data, testbed
from mcr_lib.data.files import read_jsonl
from mcr_lib.data.images import open_image
from mcr_lib.errors import UserError
from mcr_lib.study.check import check
from mcr_lib.study.commands import cli
from mcr_lib.study.figures import boxes
from mcr_lib.study.runs import config, prepare
from mcr_lib.study.runs.artifacts import RunFolder
from mcr_lib.study.tables.examples import AGREES, contradicting, contradiction, share_rows
from mcr_lib.testbed import drawing, folder
from tests.conftest import REPOSITORY


def read(root, name):
    return data.load_split("testbed", root, split=name, images_dir=root)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with three sets."""
    path = tmp_path_factory.mktemp("testbed")
    for name in ("train", "test", "test_adversarial"):
        folder.write(path, name, 30)
    return path


@pytest.mark.parametrize("name", ["train", "test", "test_adversarial"])
def test_what_is_written_reads_back_equal_with_its_pictures(root, name):
    distribution, split = folder.set_parts(name)
    for k, example in enumerate(read(root, name)):
        made = testbed.make(distribution, split, k)
        assert replace(example, images=()) == replace(made.example, split=name)
        assert (
            ImageChops.difference(open_image(example.images[0]), drawing.draw(made.scene)).getbbox() is None
        )
        assert open_image(example.images[0]).size == example.image_size_px


def test_every_distribution_can_be_written_and_captions_keep_what_they_hide(tmp_path):
    for distribution in testbed.DISTRIBUTIONS:
        name = folder.set_name(distribution, "dev")
        written = folder.write(tmp_path, name, 12)
        assert [replace(example, images=()) for example in read(tmp_path, name)] == written
    assert any(example.image_only for example in read(tmp_path, "dev_caption"))


def test_the_files_are_twitter_gmners_own_and_the_sidecar_says_how_they_were_made(root):
    plain = data.load_split("twitter-gmner", root, split="test", version="v1")
    assert [(e.id, e.tokens, e.entities) for e in plain] == [
        (e.id, e.tokens, e.entities) for e in read(root, "test")
    ]
    header, rows = read_jsonl(root / "Twitter10000" / "sidecar" / "test_adversarial.jsonl", kind="sidecar")
    told = header["recipe"]
    assert (told["distribution"], told["split"], told["n"], told["seed"], len(rows)) == (
        "adversarial",
        "test",
        30,
        0,
        30,
    )
    assert testbed.altered(testbed.Knobs(), told["knobs"]) == testbed.find("adversarial")


def test_without_a_sidecar_what_it_says_is_unknown(root, tmp_path):
    folder.write(tmp_path, "test", 30)
    (tmp_path / "Twitter10000" / "sidecar" / "test.jsonl").unlink()
    examples = read(tmp_path, "test")
    assert all(example.image_only is None for example in examples)
    assert any(example.image_size_px is None for example in examples)
    assert all(example.image_only is not None for example in read(root, "test"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:-1], "its 29 tweets are not the 30 of the split test"),
        (lambda rows: [{**rows[0], "id": "other"}, *rows[1:]], "its 30 tweets are not the 30"),
        (lambda rows: [{"id": rows[0]["id"]}, *rows[1:]], "line 2: expected image_size_px and image_only"),
        (
            lambda rows: [{**rows[0], "image_only": [{"text": "x"}]}, *rows[1:]],
            "line 2: expected image_size_px and image_only",
        ),
        (
            lambda rows: [{**row, "image_size_px": [1, 2]} for row in rows],
            r"image_size_px is \(1, 2\), the xml says",
        ),
    ],
)
def test_a_sidecar_that_does_not_fit_is_one_sentence(tmp_path, change, message):
    folder.write(tmp_path, "test", 30)
    path = tmp_path / "Twitter10000" / "sidecar" / "test.jsonl"
    head, *lines = path.read_text().splitlines()
    path.write_text("\n".join([head, *map(json.dumps, change([json.loads(line) for line in lines]))]) + "\n")
    with pytest.raises(UserError, match=message) as raised:
        read(tmp_path, "test")
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_set_is_reused_only_when_it_is_whole_and_made_alike(tmp_path):
    assert folder.write_missing(tmp_path, "test", 8)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert not folder.write_missing(tmp_path, "test", 8)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before
    assert folder.write_missing(tmp_path, "test", 8, seed=1)
    assert folder.write_missing(tmp_path, "test", 8, seed=1, knobs=testbed.Knobs(clutter=3))
    next((tmp_path / "images").iterdir()).unlink()
    assert folder.write_missing(tmp_path, "test", 8, seed=1, knobs=testbed.Knobs(clutter=3))


def test_a_smaller_set_leaves_nothing_of_the_larger_and_other_sets_stay(tmp_path):
    folder.write(tmp_path, "test", 20)
    folder.write(tmp_path, "test_unseen", 5)
    folder.write(tmp_path, "test", 4)
    names = sorted(path.stem for path in (tmp_path / "images").iterdir())
    assert names == [f"gmner_test_{k}" for k in range(4)] + [f"unseen_test_{k}" for k in range(5)]
    report = check("testbed", tmp_path)
    assert not [quirk for quirk in report.quirks if "xml" in quirk.kind]
    assert (len(read(tmp_path, "test")), len(read(tmp_path, "test_unseen"))) == (4, 5)


def test_an_interrupted_set_is_made_anew(tmp_path):
    folder.write(tmp_path, "test", 6)

    def stop(done):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        folder.write(tmp_path, "test", 6, seed=1, progress=stop)
    assert folder.write_missing(tmp_path, "test", 6)
    assert [replace(e, images=()) for e in read(tmp_path, "test")] == [
        testbed.make("gmner", "test", k).example for k in range(6)
    ]


def test_check_reads_every_set_and_expects_nothing(root):
    report = check("testbed", root)
    assert list(report.found) == ["train", "test", "test_adversarial", "all"]
    assert (report.expected, report.differences) == ({}, [])
    assert "Nothing is published about testbed-v1" in report.verdict
    assert report.images.counts == {
        "present": 90,
        "missing": 0,
        "unreadable": 0,
        "of another size than annotated": 0,
    }


def test_a_disk_that_is_full_half_way_is_one_sentence_and_leaves_no_sidecar(tmp_path):
    limited = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)); "
    limited += "from mcr_lib.study.commands.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-B", "-c", limited, "testbed", "make", "--n", "50", "--out", str(tmp_path)],
        capture_output=True, text=True, cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("mcr: cannot write")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "Twitter10000" / "sidecar" / "test.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("test", 0), "n is 0 and the seed 0; expected 1 to 1,000,000 examples"),
        (("test", 10_000_000), "n is 10000000"),
        (("deev", 1), "the testbed has no set 'deev'; expected train, dev, test"),
        (("test_foo", 1), "unknown distribution 'foo' of the testbed"),
    ],
)
def test_sets_and_numbers_that_are_none_are_told(tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        folder.write(tmp_path, *arguments)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write .*file"):
        folder.write(tmp_path / "file", "test", 1)


def loaded(path, **overrides):
    return config.load(
        "smoke", path, {"testbed_sizes": {"train": 6, "test": 4, "test_unseen": 2}, **overrides}
    )


def test_a_run_makes_its_sets_once_and_reads_them_with_pictures_and_bait(tmp_path):
    given = loaded(tmp_path, splits=["train", "test_adversarial", "test_unseen"])
    examples = prepare.load_examples(given)
    assert {split: len(some) for split, some in examples.items()} == {
        "train": 6,
        "test_adversarial": 4,
        "test_unseen": 2,
    }
    everyone = [example for some in examples.values() for example in some]
    assert all(Path(example.images[0]).is_file() and example.image_only is not None for example in everyone)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert prepare.load_examples(given) == examples
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == stamps
    assert [e.id for e in prepare.pooled(examples)] == [f"gmner_train_{k}" for k in range(6)]
    assert len(prepare.pooled({"test_unseen": examples["test_unseen"]})) == 2
    assert list(prepare.check_data(given).found) == ["train", "test_adversarial", "test_unseen", "all"]


def test_a_run_turns_knobs_in_every_distribution(tmp_path):
    given = loaded(
        tmp_path, splits=["train", "test_adversarial"], testbed_knobs={"bait": [1]}, testbed_seed=2
    )
    examples = prepare.load_examples(given)
    assert all(example.image_only == () for some in examples.values() for example in some)
    assert (
        replace(examples["train"][0], images=())
        == testbed.make(
            "gmner", "train", 0, seed=2, knobs=testbed.altered(testbed.find("gmner"), {"bait": [1]})
        ).example
    )


def test_a_run_with_a_folder_reads_it_and_makes_nothing(root, tmp_path):
    given = loaded(tmp_path, data_dir=str(root), splits=["test"])
    assert len(prepare.load_examples(given)["test"]) == 30
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"splits": ["dev"]},
            "testbed_sizes has no number for dev; it has some for train, test, test_unseen",
        ),
        ({"splits": ["test_foo"]}, "unknown distribution 'foo'"),
        ({"splits": ["test"], "testbed_knobs": {"damaged": 2}}, "damaged is 2: input should be less"),
        (
            {"splits": ["train"], "testbed_contradicting": 1.5},
            "testbed_contradicting is 1.5: input should be",
        ),
        ({"splits": ["train"], "testbed_contradicting": -0.1}, "testbed_contradicting is -0.1: input should"),
        ({"splits": ["test"], "version": "v2"}, "testbed has no version 'v2'; choose one of v1"),
    ],
)
def test_mistakes_about_the_testbed_in_a_profile_are_one_sentence(tmp_path, overrides, message):
    with pytest.raises(UserError, match=message):
        prepare.load_examples(loaded(tmp_path, **overrides))


@pytest.mark.parametrize("share", ["1.01", "-1"])
def test_a_share_of_contradicting_tweets_beyond_0_and_1_is_refused_in_a_sentence(tmp_path, capsys, share):
    given = ["--set", f"testbed_contradicting={share}", "--out", str(tmp_path / "run")]
    assert cli.main(["run", "--profile", "smoke", *given]) == 2
    assert f"testbed_contradicting is {share}: input should be" in capsys.readouterr().err
    assert not (tmp_path / "run" / "testbed").exists()


def test_a_mixture_without_contradicting_tweets_is_made_and_said_to_be_so(tmp_path):
    for share, least, most in ((0, 0, 0), (1, 50, 90)):
        given = {"splits": ["train"], "testbed_contradicting": share, "testbed_sizes": {"train": 90}}
        made = prepare.load_examples(loaded(tmp_path / str(share), **given))["train"]
        kinds = [{"kind": contradiction(example)} for example in made]
        assert least <= sum(row["kind"] != AGREES for row in kinds) <= most
        assert ("nothing teaches a model to look" in contradicting(kinds)) == (not share)


def test_a_gallery_takes_a_number_in_range():
    with pytest.raises(UserError, match="n is 0 and the seed 0; expected 1 to 12 tweets"):
        boxes.gallery_of_testbed(0)
    with pytest.raises(UserError, match="unknown distribution 'bar'"):
        boxes.gallery_of_testbed(1, distributions=["bar"])


def test_shares_stand_beside_those_of_v2(root):
    rows = {row["share, %"]: row for row in share_rows({"test": read(root, "test")})}
    assert rows["entities: PER"]["Twitter-GMNER v2"] == 42.9
    assert rows["pictures with bait"]["Twitter-GMNER v2"] == ""
    n_bait = sum(bool(example.image_only) for example in read(root, "test"))
    assert rows["pictures with bait"]["test"] == round(100 * n_bait / 30, 1)


def test_a_run_that_was_moved_finds_its_pictures_and_those_from_elsewhere(root, tmp_path):
    run = RunFolder(tmp_path / "run")
    examples = read(root, "test")[:2]
    (run.path / "data").mkdir(parents=True)
    own = shutil.copy(examples[0].images[0], run.path / "data" / "a.png")
    examples[0] = replace(examples[0], images=(str(own),))
    prepare.write_examples(run, {"test": examples})
    assert prepare.read_examples(run, "test") == examples
    rows = [row["images"] for _, row in read_jsonl(run.data("test"), kind="examples")[1]]
    assert rows == [["data/a.png"], list(examples[1].images)]
    moved = RunFolder(run.path.rename(tmp_path / "moved"))
    images = [example.images for example in prepare.read_examples(moved, "test")]
    assert images == [(str(tmp_path / "moved" / "data" / "a.png"),), examples[1].images]
