"""The runner on throw-away notebooks, by real papermill and real kernels."""

import csv
import io
import json
import os
import signal
import subprocess
import sys

import nbformat
import pytest
from rich.console import Console

from mcr_lib.errors import UserError
from mcr_lib.study.commands import report, runner
from mcr_lib.study.runs import artifacts, config
from mcr_lib.study.runs.artifacts import RunFolder
from tests.conftest import REPOSITORY

HEAD = 'profile = "mine"\nrun = ""\noverrides = {}'
WRITE = "from pathlib import Path\nwith Path(run, 'log').open('a') as f: f.write('{} ')"


def notebook(folder, name, *cells, tag="parameters"):
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in (HEAD, *cells)])
    nb.cells[0].metadata["tags"] = [tag]
    nb.metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
    }
    nbformat.write(nb, folder / "notebooks" / f"{name}.ipynb")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A folder with two notebooks that log their runs, and a profile."""
    root = tmp_path / "repository"
    (root / "notebooks" / "profiles").mkdir(parents=True)
    (root / "notebooks" / "profiles" / "mine.yaml").write_text("seed: 1\n")
    notebook(root, "01_first", WRITE.format("first"))
    notebook(root, "02_second", WRITE.format("second"))
    monkeypatch.setattr(config, "repository", lambda: root)
    return root


def run(root, **kwargs):
    text = io.StringIO()
    code = runner.run("mine", out=root / "out", console=Console(file=text, width=200), **kwargs)
    log = root / "out" / "log"
    return code, text.getvalue(), log.read_text().split() if log.exists() else []


pytestmark = pytest.mark.smoke


def test_notebooks_run_in_order_each_time_and_some_alone(repository):
    code, _, log = run(repository)
    assert (code, log) == (0, ["first", "second"])
    folder = RunFolder(repository / "out")
    assert sorted(p.name for p in folder.notebooks.iterdir()) == [
        "01_first.html",
        "01_first.ipynb",
        "02_second.html",
        "02_second.ipynb",
    ]
    manifest = artifacts.read_manifest(folder)
    assert manifest["parameters"]["seed"] == {"value": 1, "origin": "profile mine"}
    assert [entry["status"] for entry in manifest["notebooks"].values()] == ["done", "done"]
    assert all(20 < entry["peak_memory_mb"] < 4000 for entry in manifest["notebooks"].values())

    assert set(manifest["notebooks"]["01_first"]) == {"status", "started", "seconds", "peak_memory_mb"}

    assert run(repository)[2] == ["first", "second", "first", "second"]
    assert run(repository, only=["01"])[2][4:] == ["first"]
    assert run(repository, start_from="02_second")[2][5:] == ["second"]
    assert run(repository, only=["02,01"], start_from="02")[2][6:] == ["second"]


def test_the_manifest_holds_checksums_of_tweets_answers_and_weights(repository):
    (repository / "notebooks" / "profiles" / "mine.yaml").write_text(
        "settings: {base: {}, sft: {stage: sft}}\n"
    )
    write = "import json\nfrom pathlib import Path\nfrom mcr_lib.data.files import write_json, write_jsonl\n"
    write += "write_jsonl(Path(run, 'data', 'test.jsonl'), [], kind='examples', checksum='abc')\n"
    predictions = "Path(run, 'predictions', 'sft.elsewhere.jsonl')"
    write += f"write_jsonl({predictions}, [], kind='predictions', seal=True)\n"
    write += "card = {'sha256': {'a.safetensors': '12', 'config.json': '34'}}\n"
    write += "write_json(Path(run, 'settings', 'sft', 'model', 'backbone.json'), card)"
    notebook(repository, "01_first", write)
    run(repository, only=["01"])
    found = artifacts.read_manifest(RunFolder(repository / "out"))["checksums"]
    base = json.loads((REPOSITORY / "data" / "tiny-base" / "backbone.json").read_text())["sha256"][
        "model.safetensors"
    ]
    assert found["data"] == {"test": "abc"}
    assert len(found["predictions"]["sft.elsewhere"]) == 64
    assert found["weights"] == {"backbone": {"model.safetensors": base}, "sft": {"a.safetensors": "12"}}


def test_a_run_that_was_killed_or_interrupted_is_not_taken_for_done(repository, monkeypatch):
    run(repository)

    def interrupted(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runner, "_execute", interrupted)
        code, said, _ = run(repository, overrides={"seed": 2})
    assert (code, "interrupted in 01_first" in said) == (130, True)
    assert list(artifacts.read_manifest(RunFolder(repository / "out"))["notebooks"]) == ["02_second"]


def test_a_failing_cell_is_told_in_a_few_lines_and_the_rest_waits(repository):
    notebook(repository, "01_first", "x = 1", "# a comment\n1 / 0", "x = 2")
    code, said, log = run(repository)
    assert (code, log) == (1, [])
    assert "01_first: cell 3 of 4 failed" in said
    assert "ZeroDivisionError: division by zero" in said
    assert "Traceback" not in said
    assert len(said.strip().split("\n")) <= 5
    names = sorted(p.name for p in (repository / "out" / "notebooks").iterdir())
    assert names == ["01_first.failed.ipynb"]


def test_a_users_mistake_in_a_cell_is_its_sentence_and_exit_2(repository):
    notebook(repository, "01_first", "from mcr_lib.errors import UserError\nraise UserError('the sentence')")
    code, said, _ = run(repository)
    assert code == 2
    assert "  the sentence\n" in said


def test_a_kernel_that_dies_is_told(repository):
    notebook(repository, "01_first", "import os\nos._exit(1)")
    code, said, _ = run(repository)
    assert code == 1
    assert "the kernel died" in said
    assert not [*repository.rglob("*ipc*")], "its sockets lie in a folder of their own, which is gone"


def test_an_installation_without_papermill_is_told_what_to_install(repository, monkeypatch):
    monkeypatch.setattr(runner, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install '\.\[notebooks\]'"):
        run(repository)
    assert not (repository / "out").exists()


def test_mistakes_before_anything_runs_are_told(repository):
    with pytest.raises(UserError, match="unknown notebook '07'; known: 01_first, 02_second"):
        run(repository, only=["07"])
    notebook(repository, "02_second", tag="params")
    with pytest.raises(UserError, match="0 cells are tagged parameters"):
        run(repository, only=["02"])
    (repository / "out" / "manifest.json").write_text("[]")
    with pytest.raises(UserError, match="is no manifest of this release"):
        run(repository)


def test_a_run_folder_serves_one_process_and_is_free_when_that_is_killed(tmp_path):
    hold = "import sys, time, pathlib; from mcr_lib.study.runs.artifacts import RunFolder\n"
    hold += "with RunFolder(pathlib.Path(sys.argv[1])).locked(): print('held', flush=True); time.sleep(60)"
    process = subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert process.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=f"in use by process {process.pid}"), RunFolder(tmp_path).locked():
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with RunFolder(tmp_path).locked():
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_plain_papermill_does_for_one_notebook_what_the_runner_does(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "papermill", "notebooks/01_data_preparation.ipynb", str(tmp_path / "01.ipynb"),
         "-p", "profile", "smoke", "-p", "run", str(tmp_path / "run"), "-y", "overrides: {splits: [dev]}"],
        cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (tmp_path / "run" / "data").iterdir()) == ["dev.jsonl", "testbed"]


def test_smoke_runs_every_notebook_of_the_repository(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mcr_lib", "run", "--profile", "smoke", "--out", str(tmp_path)],
        cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    folder = RunFolder(tmp_path)
    for path in sorted((REPOSITORY / "notebooks").glob("*.ipynb")):
        executed = json.loads((folder.notebooks / path.name).read_text())
        code_cells = [cell for cell in executed["cells"] if cell["cell_type"] == "code"]
        assert all(cell["execution_count"] for cell in code_cells), path.name
        assert not [o for cell in code_cells for o in cell["outputs"] if o.get("name") == "stderr"], path.name
        assert (folder.notebooks / path.name).with_suffix(".html").stat().st_size > 100_000
    for png in folder.figures.glob("*.png"):
        assert png.with_suffix(".csv").is_file()
    assert set(report.FIGURES) <= {png.stem for png in folder.figures.glob("*.png")}, (
        "smoke leaves a picture out"
    )
    page = folder.report.read_text()
    assert page.count("<figure>") == report.MAX_FIGURES
    settings = list(config.load("smoke", tmp_path).config.settings)
    results = list(csv.DictReader(folder.results.read_text().splitlines()))
    assert {(row["setting"], row["split"]) for row in results} == {
        *((name, split) for name in settings for split in ("dev", "test", "mner-mi_test", "grec_testA")),
        ("predictions", "test"),
    }


def test_pictures_of_an_earlier_run_are_not_taken_for_this_ones(repository):
    figures = RunFolder(repository / "out").figures
    figures.mkdir(parents=True)
    for name in ("01_old.png", "01_old.csv", "02_old.png"):
        (figures / name).touch()
    run(repository, only=["01"])
    assert [p.name for p in figures.iterdir()] == ["02_old.png"]


def test_progress_names_the_cell_that_runs_and_the_last_line_that_it_printed(tmp_path):
    done, running = {"papermill": {"status": "completed"}}, {"papermill": {"status": "running"}}
    printed = [{"name": "stdout", "text": ["mrsi: sft 1 of 9\n", "mrsi: sft 5 of 9 loss 0.4\n"]}]
    cells = [{"metadata": done}, {"metadata": running, "outputs": printed}, {"metadata": {}}]
    part = tmp_path / "part.ipynb"
    part.write_text(json.dumps({"cells": cells}))
    assert runner._position(part) == "cell 2 of 3: mrsi: sft 5 of 9 loss 0.4"
    part.write_text(json.dumps({"cells": [cells[0], {"metadata": running, "outputs": []}]}))
    assert runner._position(part) == "cell 2 of 2"
    part.write_text("{")
    assert runner._position(part) is None


def test_braces_and_brackets_in_paths_and_a_long_folder_of_temporary_files_do_not_matter(
    repository, monkeypatch, tmp_path
):
    long = tmp_path / ("x" * 120)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    out, text = repository / "{run} [b]", io.StringIO()
    assert runner.run("mine", out=out, only=["01"], console=Console(file=text, width=200)) == 0
    assert (out / "notebooks" / "01_first.ipynb").is_file()
    assert "/{run} [b]/report.html" in text.getvalue()
    assert not list(long.iterdir())
