"""The `mcr` command: exit codes, one sentence per mistake, and how fast it starts."""

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from mcr_lib.study.commands.cli import main
from tests.conftest import REPOSITORY


def mcr(*arguments):
    """The command inside this process, with the attributes of `process`."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(REPOSITORY), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
    return SimpleNamespace(returncode=code, stdout=out.getvalue(), stderr=err.getvalue())


def process(*arguments, environment=None):
    """The command as a process of its own."""
    return python("-m", "mcr_lib", *map(str, arguments), **(environment or {}))


def python(*arguments, **environment):
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), **environment}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=REPOSITORY, env=env
    )


def test_help_and_version_start_without_heavy_libraries():
    began = time.monotonic()
    assert "score" in process("--help").stdout
    assert time.monotonic() - began < 3  # `make bench` measures it; this only catches an import of torch
    assert process("--version").stdout.startswith("mcr_lib 0.")


LIGHT = ["metrics", "bias", "yardsticks", "answer", "rewards", "chains", "data", "data.mrsi"]
LIGHT += ["study.commands.cli"]


def test_light_modules_load_nothing_heavy():
    heavy = "torch transformers pandas matplotlib papermill PIL.ImageDraw"
    code = (
        f"import importlib, sys\nfor light in {LIGHT!r}:\n    importlib.import_module('mcr_lib.' + light)\n"
        f"    print(light, [m for m in {heavy.split()!r} if m in sys.modules])"
    )
    done = python("-c", code)
    assert done.stdout.splitlines() == [f"{light} []" for light in LIGHT], done.stderr


def test_check_exits_0_on_the_sample_and_on_other_data_and_1_on_what_claims_to_be_the_sample(
    sample_dir, tmp_path
):
    done = process("data", "check", "twitter-gmner", "--root", sample_dir)
    assert done.returncode == 0, done.stderr
    assert "All 51 statistics are as expected." in done.stdout
    # without its expected.json it is compared with the release
    (tmp_path / "Twitter10000_v2.0").symlink_to(sample_dir / "Twitter10000_v2.0")
    done = process("data", "check", "twitter-gmner", "--root", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    assert "train: tweets is 10, expected 7,000" in json.loads(done.stdout)["differences"]
    expected = (sample_dir / "expected.json").read_text().replace('"tweets": 10', '"tweets": 11')
    (tmp_path / "expected.json").write_text(expected)
    done = process("data", "check", "twitter-gmner", "--root", tmp_path)
    assert done.returncode == 1
    assert "DIFFERS  train: tweets is 10, expected 11" in done.stdout


def test_score_prints_tables_or_one_json_object(sample_dir):
    data = ("--root", sample_dir, "--predictions", sample_dir / "predictions.jsonl")
    arguments = ("score", *data, "--parse", "lenient", "--resamples", 100)
    done = mcr(*arguments)
    assert done.returncode == 0, done.stderr
    for text in ("GMNER", "95 % interval", "N-F1", "false grounding", "never a box"):
        assert text in done.stdout
    for text in ("mended 2 (25.0 %)", "signature: scorer=definition"):
        assert text in done.stdout
    result = json.loads(mcr(*arguments, "--json", "--compare", sample_dir / "predictions.jsonl").stdout)
    parts = {"signature", "n_examples", "gmner", "mner", "eeg", "textual_bias", "visual_bias", "parse"}
    assert parts <= set(result)
    assert {"p", "r", "f1", "ci95"} <= set(result["gmner"])
    assert {"n_pre", "n_rec", "n_f1", "false_grounding", "missed_grounding"} <= set(result["textual_bias"])
    assert {"n_count", "n_rate", "foreign_count", "altered_count", "rearranged_count"} <= set(
        result["visual_bias"]
    )
    assert {"ok", "lenient", "failed_by_reason"} <= set(result["parse"])
    assert "equal" in result["compare"]["gmner"]["verdict"]


def test_ids_that_look_like_markup_and_terminals_that_lack_characters_lose_no_report(tmp_path):
    path = tmp_path / "p.jsonl"
    rows = ['{"id": "300401", "entities": []}', '{"id": "[bold]x[/nope] \u00e9 \\ud800", "entities": []}']
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    arguments = ("score", "--root", "data/sample", "--predictions", path, "--resamples", 100)
    done = process(*arguments, environment={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    assert "unknown ids: 1 (left out), e.g. [bold]x[/nope] \\xe9 \\ufffd\n" in done.stdout


@pytest.mark.parametrize("json_or_not", [(), ("--json",)])
def test_a_file_of_which_nothing_can_be_read_exits_1_with_a_sentence(tmp_path, json_or_not):
    path = tmp_path / "p.jsonl"
    path.write_text('{"id": "300401", "answer": "no idea", "coordinate_space": "original_px"}\n')
    done = mcr("score", "--root", "data/sample", "--predictions", path, "--resamples", 100, *json_or_not)
    assert done.returncode == 1
    assert done.stderr.startswith("mcr: p.jsonl: no entity in its 1 answers could be read")
    assert bool(done.stdout) == bool(json_or_not)


def test_a_set_of_the_testbed_is_made_checked_and_scored_by_command(tmp_path):
    world = ("--distribution", "adversarial", "--set", "bait=[0, 0, 1]", "--seed", 3)
    done = mcr("testbed", "make", *world, "--n", 20, "--out", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "test_adversarial: 20 tweets" in done.stdout
    done = mcr("data", "check", "testbed", "--root", tmp_path)
    assert (done.returncode, "images of 20 tweets: 20 present" in done.stdout) == (0, True)
    (tmp_path / "p.jsonl").write_text('{"id": "adversarial_test_0", "entities": []}\n')
    data = ("--source", "testbed", "--root", tmp_path, "--split", "test_adversarial")
    done = mcr("score", *data, "--predictions", tmp_path / "p.jsonl")
    assert done.returncode == 0
    assert "data=testbed-v1:" in done.stdout
    assert "split=test_adversarial" in done.stdout


def test_a_gallery_of_the_testbed_is_a_picture_and_a_list(tmp_path):
    done = mcr("testbed", "gallery", "--out", tmp_path / "g.png", "--n", 1, "--distribution", "unseen")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "g.png").read_bytes()[1:4] == b"PNG"
    assert (tmp_path / "g.csv").read_text().startswith("set,id,text\ntest_unseen,unseen_test_0,")


SCORE = ["score", "--root", "data/sample", "--predictions", "data/sample/predictions.jsonl"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["data", "check", "twitter", "--root", "."], "unknown source 'twitter'"),
        (
            ["data", "check", "twitter-gmner", "--root", "nowhere"],
            "nowhere holds no folder Twitter10000_v2.0",
        ),
        (
            ["data", "check", "twitter-fmnerg", "--root", ".", "--version", "v1"],
            "twitter-fmnerg has no version 'v1'",
        ),
        (["score", "--root", "data/sample", "--predictions", "none.jsonl"], "none.jsonl does not exist"),
        ([*SCORE, "--split", "deev"], "split 'deev'"),
        ([*SCORE, "--seed", "-1"], "resamples 1000 and seed -1: expected"),
        ([*SCORE, "--resamples", "0"], "expected 1 to 10,000 resamples"),
        ([*SCORE, "--resamples", "10001"], "expected 1 to 10,000 resamples"),
        (
            ["testbed", "make", "--out", "new", "--distribution", "gmnr"],
            "unknown distribution 'gmnr' of the testbed; choose one of",
        ),
        (
            ["testbed", "make", "--out", "new", "--set", "scale_px=[50, 60]"],
            "do not fit into pictures of 112 pixels",
        ),
        (["testbed", "make", "--out", "README.md/new"], "cannot write README.md/new"),
        (["testbed", "gallery", "--out", "new.jpg"], "expected the name of a .png file"),
        (["run", "--profile", "huge"], "unknown profile 'huge'"),
        (["run", "--set", "seed"], "expected key=value"),
        (["run", "--set", "sede=1"], "did you mean seed?"),
        (["run", "--only", "09"], "unknown notebook '09'"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_2(arguments, sentence):
    done = mcr(*arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_mistake_is_one_sentence_and_exit_2_in_a_process_too():
    done = process("score", "--root", "data/sample", "--predictions", "none.jsonl")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_usage_mistakes_exit_2():
    scorer = ["score", "--root", ".", "--predictions", "x", "--scorer", "mine"]
    for arguments in ([], ["score"], scorer, ["data"]):
        done = mcr(*arguments)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("error", [OSError(28, "No space left on device", "a.png"), RuntimeError("a bug")])
def test_a_full_disk_is_one_sentence_whoever_ran_into_it_and_a_bug_is_not_taken_for_it(monkeypatch, error):
    def fails(*arguments, **options):
        raise error

    monkeypatch.setattr("mcr_lib.study.commands.data.check_data", fails)
    command = ("data", "check", "twitter-gmner", "--root", "anywhere")
    if isinstance(error, RuntimeError):
        with pytest.raises(RuntimeError, match="a bug"):
            mcr(*command)
        return
    done = mcr(*command)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "No space left on device: 'a.png'" in done.stderr
    assert done.stderr.startswith("mcr: the disk is full (")
    assert "make room, and the same command goes on" in done.stderr
