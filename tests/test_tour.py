"""The published run: its cells are those of the notebooks, its numbers those of the committed evidence; and
what the tool does to a run that it publishes.
"""

import base64
import csv
import io
import json
import re
import shutil

import pytest
from PIL import Image

from mcr_lib.errors import UserError
from mcr_lib.study.runs.artifacts import RunFolder
from tests.conftest import REPOSITORY
from tools import readme, tour

PUBLISHED = REPOSITORY / tour.TOUR
EVIDENCE = REPOSITORY / tour.EVIDENCE
NAMES = sorted(path.stem for path in (REPOSITORY / "notebooks").glob("*.ipynb"))
REPORT = (PUBLISHED / "report.html").read_text()
ROUNDING = 0.0501  # of a number that is shown with one decimal


def cells(path):
    return json.loads(path.read_text())["cells"]


def shown_text(name):
    """All that the outputs of a notebook say, but for figures."""
    of_code = [cell for cell in cells(PUBLISHED / f"{name}.ipynb") if cell["cell_type"] == "code"]
    parts = [output.get("text", []) for cell in of_code for output in cell["outputs"]]
    for output in (output for cell in of_code for output in cell["outputs"]):
        parts += [text for kind, text in output.get("data", {}).items() if not kind.startswith("image/")]
    return "\n".join("".join(part) for part in parts)


def numbers(text):
    return [float(number) for number in re.findall(r"(?<![\w.])\d+\.\d+(?!\w)", text)]


def results(metric):
    with (EVIDENCE / "results.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["metric"] == metric and row["value"]]


def test_every_notebook_is_published_and_has_its_figure_in_the_readme():
    assert sorted(tour.THUMBNAILS) == NAMES
    text = (REPOSITORY / "README.md").read_text()
    for name in NAMES:
        assert f"](docs/tour/{name}.ipynb)" in text
        assert f'src="docs/tour/thumbs/{name}.png"' in text
        with Image.open(PUBLISHED / "thumbs" / f"{name}.png") as thumbnail:
            assert thumbnail.width == 400


@pytest.mark.parametrize("name", NAMES)
def test_cells_of_a_published_notebook_are_those_of_its_source(name):
    published, source = (cells(folder / f"{name}.ipynb") for folder in (PUBLISHED, REPOSITORY / "notebooks"))
    assert [tour.text_of(cell) for cell in published] == [tour.text_of(cell) for cell in source]
    assert any(cell.get("outputs") for cell in published)


def test_evidence_is_that_of_the_published_run():
    of = json.loads((PUBLISHED / "tour.json").read_text())
    assert tour.checksum(EVIDENCE / "results.csv") == of["results_sha256"]
    assert json.loads((EVIDENCE / "manifest.json").read_text())["commit"] == of["commit"]


def near(row, numbers):
    return any(abs(float(row["value"]) - number) <= ROUNDING for number in numbers)


def test_scores_that_the_notebooks_show_are_those_of_the_evidence():
    of_05 = numbers(shown_text("05_evaluation"))
    assert [row for row in results("gmner_f1") if row["split"] == "test" and not near(row, of_05)] == []
    of_both = of_05 + numbers(shown_text("06_bias_analysis"))
    assert [
        row for row in results("false_grounding") if row["split"] == "test" and not near(row, of_both)
    ] == []


def test_scores_counted_from_the_tweets_of_the_report_are_those_of_the_evidence():
    page = tour.tweets_of(REPORT)
    of_split = {one["split"]: one["tweets"] for one in page["sets"] if not one["probe"]}
    rows, right = results("gmner_f1"), page["kinds"].index("right")
    assert len({(row["setting"], row["split"]) for row in rows}) == len(rows) >= 16
    for row in rows:
        tweets = of_split[row["split"]]
        assert len(tweets) == int(row["n"])
        answers = [tweet["answers"][row["setting"]] for tweet in tweets]
        n_right = sum(answer["gold"].count(right) for answer in answers)
        n_both = sum(len(answer["entities"]) + len(answer["gold"]) for answer in answers)
        assert 200 * n_right / n_both == pytest.approx(float(row["value"]), abs=0.006), row
    for row in results("faithful"):
        answers = [tweet["answers"][row["setting"]] for tweet in of_split[row["split"]]]
        share = 100 * sum("flaw" not in answer for answer in answers) / len(answers)
        assert share == pytest.approx(float(row["value"]), abs=0.006), row


def test_tables_of_the_report_show_the_scores_of_the_evidence():
    of_report = numbers(re.sub(r"<[^>]*>", " ", tour.words(REPORT).split('id="data"')[0]))
    assert [row for row in results("gmner_f1") if not near(row, of_report)] == []


def test_what_is_published_is_small_and_names_no_machine():
    notebooks = [PUBLISHED / f"{name}.ipynb" for name in NAMES]
    assert sum(path.stat().st_size for path in notebooks) <= tour.MAX_BYTES
    assert (PUBLISHED / "report.html").stat().st_size <= 4_000_000
    for path in (*notebooks, PUBLISHED / "report.html"):
        assert not tour.MACHINE.search(tour.words(path.read_text())), path.name
    for image in re.findall(r'"image/png": "([^"\\]+)', "".join(path.read_text() for path in notebooks)):
        assert Image.open(io.BytesIO(base64.b64decode(image))).mode == "P"


def test_links_of_the_published_report_lead_to_files_beside_it():
    targets = [
        target for target in re.findall(r"""href=['"]([^'"#]+)['"]""", REPORT) if target[:5] != "data:"
    ]
    assert {f"{name}.ipynb" for name in NAMES} < {*targets}
    assert [target for target in targets if not (PUBLISHED / target).resolve().is_file()] == []


def png(colours):
    image = Image.new("RGB", (colours, 1))
    image.putdata([(k % 256, k // 256, 7) for k in range(colours)])
    file = io.BytesIO()
    image.save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_outputs_lose_progress_times_and_colours_but_no_text():
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": ["mcr: cvo 3 of 30 loss 0.1\n", "kept\n"]},
        {"output_type": "stream", "name": "stdout", "text": "1,700 present, 0 missing\n"},
        {"output_type": "stream", "name": "stdout", "text": "sft: answers to dev 128 of 200 \n"},
        {
            "output_type": "display_data",
            "metadata": {"needs": 1},
            "data": {"image/png": png(500) + "\n", "text/plain": "<Figure size 9x9 with 1 Axes>"},
        },
    ]
    text, figure = tour.published_outputs(outputs, 3, 256)
    assert text["text"] == ["kept\n", "1,700 present, 0 missing\n"]
    assert list(figure["data"]) == ["image/png"]
    small = Image.open(io.BytesIO(base64.b64decode(figure["data"]["image/png"])))
    assert small.size == (500, 1)
    assert len(small.convert("RGB").getcolors()) <= 256


def test_figures_with_few_colours_stay_as_they_are_and_others_lose_as_many_as_asked():
    once = tour.few_colours(png(500), 64)
    assert len(Image.open(io.BytesIO(base64.b64decode(once))).convert("RGB").getcolors()) <= 64
    assert tour.few_colours(once, 64) == once


def test_text_names_run_and_repository_by_their_own_names_and_tables_by_order(tmp_path):
    run, root = RunFolder(tmp_path / "outputs" / "other"), tmp_path
    text = f"{run.path}/data, {root}/data, #T_1a2b3_row0, #T_9f9f9, #T_1a2b3"
    assert tour.clean(text, run, root) == "outputs/tiny/data, ./data, #T_00000_row0, #T_00001, #T_00000"


@pytest.fixture
def run(tmp_path):
    """As much of a finished run as is read before anything is written."""
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(PUBLISHED, folder.notebooks)
    shutil.copyfile(PUBLISHED / "report.html", folder.report)
    shutil.copyfile(EVIDENCE / "manifest.json", folder.manifest)
    return folder


def test_a_run_that_is_not_finished_or_of_another_profile_is_refused(run, tmp_path):
    manifest = json.loads(run.manifest.read_text())
    entries = manifest["notebooks"] | {"04_cvo": {"status": "failed"}}
    for changed, words in (({"notebooks": entries}, "not done: 04_cvo"), ({"profile": "nano"}, "is nano")):
        run.manifest.write_text(json.dumps(manifest | changed))
        with pytest.raises(UserError, match=words):
            tour.publish(run.path, tmp_path)


def test_a_notebook_that_ran_with_other_cells_is_refused(run, tmp_path):
    shutil.copytree(REPOSITORY / "notebooks", tmp_path / "notebooks")
    path = tmp_path / "notebooks" / f"{NAMES[0]}.ipynb"
    changed = json.loads(path.read_text())
    changed["cells"][-1]["source"] = ["print(1)"]
    path.write_text(json.dumps(changed))
    with pytest.raises(UserError, match="other cells"):
        tour.publish(run.path, tmp_path)
    assert not (tmp_path / tour.TOUR).exists()


def test_the_picture_says_what_its_reasoning_does_not_state(monkeypatch, tmp_path):
    facts = {"absent": ["Rome", "Ada"], "n_tweets": 9, "n_like_it": 3, "n_like_it_faithful": 0}
    monkeypatch.setattr(readme, "repository", lambda: tmp_path)
    (tmp_path / tour.TOUR).mkdir(parents=True)
    path = tmp_path / tour.TOUR / "tour.json"
    path.write_text(json.dumps({"example": facts | {"flaw": "foreign_slot"}}))
    assert "boxes Rome and Ada, which" in readme.example()
    assert (
        "but its reasoning names a box that the answer does not give. Of 3 such tweets among 9"
        in readme.example()
    )
    assert "the reasoning states the answer in none.*" in readme.example()
    path.write_text(json.dumps({"example": facts | {"flaw": None, "n_like_it_faithful": 2}}))
    assert "the answer is right, and its reasoning states it." in readme.example()
    assert readme.example().endswith("the reasoning states the answer in 2.*\n")
