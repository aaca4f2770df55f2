"""The report: one page that needs nothing beside it, of whatever lies in the run folder."""

import json
import re

import pytest
from PIL import Image

from mcr_lib.data.files import write_json
from mcr_lib.errors import UserError
from mcr_lib.schema import FORMAT_VERSION
from mcr_lib.study.commands import report
from mcr_lib.study.runs import config
from mcr_lib.study.runs.artifacts import RunFolder
from mcr_lib.study.tables import comparison, training
from tests.conftest import REPOSITORY


@pytest.fixture
def loaded(tmp_path):
    return config.load("tiny", tmp_path / "mine")


@pytest.fixture
def folder(loaded):
    """A run of one setting with a figure of a section, one of none, scores, and what training took."""
    run = RunFolder(loaded.folder)
    run.figures.mkdir(parents=True)
    for name in ("05_settings", "01_types"):
        Image.new("RGB", (300, 30)).save(run.figures / f"{name}.png")
    pairs = [{"pair": "mcr − sft", "verdict": "<script>alert(1)</script>"}]
    scores, bias = (
        [{"setting": "mrsi", "GMNER, test": "48.1 (45.0 – 51.0)"}],
        [{"setting": "mrsi", "N-F1": "77.7"}],
    )
    told = {"scores": scores, "bias": bias, "pairs": pairs, "note": training.TESTBED_NOTE}
    comparison.write(run, {}, told, seed=0)
    facts = {
        "status": "done",
        "setting": {"stage": "sft"},
        "n_rows": 8,
        "n_steps": 36,
        "seconds": 12.5,
        "peak_memory_mb": 900.0,
    }
    write_json(
        run.setting("mrsi") / "fingerprint.json",
        {"format_version": FORMAT_VERSION, "fingerprint": "abc", **facts},
    )
    notebooks = {"05_evaluation": {"status": "done", "seconds": 61.0, "started": "2026-01-01"}}
    write_json(
        run.manifest,
        {"format_version": FORMAT_VERSION, "notebooks": notebooks, "commit": "0123456789abcdef", "n_cpus": 2},
    )
    return run


def test_the_page_holds_scores_figures_training_and_origins_and_needs_nothing_beside_it(loaded, folder):
    page = report.write(loaded).read_text()
    assert folder.report.is_file()
    assert all(f"<td>{number}</td>" in page for number in ("48.1 (45.0 – 51.0)", "77.7"))
    training = ("mrsi", "the backbone", "sft", "8", "36", "12.5", "900.0", "abc")
    assert "".join(f"<td>{cell}</td>" for cell in training) in page
    assert page.count("<img") == 2
    assert page.count("src='data:image/png;base64,") == 2
    assert not re.search(r"(src|href)=['\"](?!data:)", page)
    assert "<img width='200'" in page
    assert "commit 0123456789ab" in page
    assert "1 notebooks in 61 s" in page
    assert "<td>seed</td><td>0</td><td>default</td>" in page


def test_the_note_stands_beside_every_table_and_figure_of_scores(loaded, folder):
    page = report.page(folder, loaded)
    scores = page[page.index("<h2>Scores") : page.index("<h2>Training")]
    n_numbers = scores.count("<table>") + scores.count("<figure>")
    assert scores.count(training.TESTBED_NOTE) == n_numbers == 4
    assert training.TESTBED_NOTE in page[: page.index("<h2>")]


def test_words_of_a_file_are_no_markup(loaded, folder):
    page = report.page(folder, loaded)
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_a_run_without_settings_has_a_report_of_what_there_is(loaded, folder):
    folder.score("settings").unlink()
    page = report.page(folder, loaded)
    assert "<h2>Training" not in page
    assert training.TESTBED_NOTE not in page
    assert page.count("<img") == 2


def test_an_empty_folder_has_a_report_too_and_a_foreign_manifest_is_told(loaded):
    page = report.write(loaded).read_text()
    assert "0 notebooks in 0 s" in page
    RunFolder(loaded.folder).manifest.write_text("[]")
    with pytest.raises(UserError, match="no manifest of this release"):
        report.write(loaded)


def test_every_caption_belongs_to_a_figure_that_a_notebook_writes_and_every_such_figure_has_one():
    written = set()
    for path in sorted((REPOSITORY / "notebooks").glob("0[3456]_*.ipynb")):
        source = "\n".join("".join(cell["source"]) for cell in json.loads(path.read_text())["cells"])
        written |= set(re.findall(r'^show\(.*"(0\d_\w+)"', source, re.MULTILINE))
    assert written == set(report.CAPTIONS)
    assert {name for names in report.SECTIONS.values() for name in names} <= written
