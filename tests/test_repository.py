"""The repository as text: floors, notebooks, doctests, facts, and nothing that does not belong."""

import ast
import doctest
import importlib
import json
import pkgutil
import re
import subprocess
import sys
import warnings

import pytest

import mcr_lib
from mcr_lib.study.runs import code
from tests.conftest import REPOSITORY
from tools import colab, readme, tour

pytestmark = pytest.mark.lint

PACKAGE = REPOSITORY / "mcr_lib"
MODULES = sorted(PACKAGE.rglob("*.py"))
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
COLAB = 'if "google.colab" in sys.modules:'
ABSOLUTE = r"(?<![\w.:/!-])/(?!dev/)[A-Za-z]+/[a-z]"
"""A path from the root of a machine, of whatever name; the first line of a shell script names none."""
LARGE = {"data/tiny-base/model.safetensors": 12_000_000, "docs/tour/report.html": 4_200_000}
"""Bytes of the files that may be larger than others."""
ROOMS = (
    "mcr_lib",
    "mcr_lib.data",
    "mcr_lib.training",
    "mcr_lib.testbed",
    "mcr_lib.study",
    "mcr_lib.study.runs",
    "mcr_lib.study.tables",
    "mcr_lib.study.compare",
    "mcr_lib.study.figures",
    "mcr_lib.study.commands",
)
"""A file imports from its own room and from those before it."""
HEAVY = {
    "torch",
    "transformers",
    "trl",
    "peft",
    "datasets",
    "PIL",
    "pydantic",
    "yaml",
    "rich",
    "pandas",
    "matplotlib",
    "papermill",
}


def room(name):
    """The room of a module, or of a name in one."""
    return max(k for k, prefix in enumerate(ROOMS) if f"{name}.".startswith(f"{prefix}."))


def module_name(path):
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path):
    return code.imports(ast.parse(path.read_text()))


def arrows(path, names):
    """The modules that a file imports; `from package import module` means the module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in names else node.module


def test_no_module_imports_itself_through_others():
    """Lazy imports within functions count too: what needs another module when it is called depends on it."""
    names = {module_name(path): path for path in MODULES}
    waiting = {name: {*arrows(path, names)} & {*names} - {name} for name, path in names.items()}
    while free := {name for name, others in waiting.items() if not others & {*waiting}}:
        waiting = {name: others for name, others in waiting.items() if name not in free}
    assert not waiting, f"in a circle, or behind one: {sorted(waiting)}"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_file_imports_only_from_its_own_room_or_one_above(path):
    if path.name == "__main__.py":
        return  # the launcher stands beside the house
    here = room(module_name(path))
    for name, line in imports(path):
        if name.startswith("mcr_lib"):
            assert room(name) <= here, f"{path.name}:{line} imports {name}"
        if here == 0:
            assert name.split(".")[0] not in HEAVY, f"{path.name}:{line} imports {name}"


def test_the_root_floor_reads_no_file_clock_or_environment():
    for path in PACKAGE.glob("*.py"):
        tree = ast.parse(path.read_text())
        called = {
            node.func.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert "open" not in called, path.name
        if path.name != "__main__.py":
            assert not {name for name, _ in imports(path)} & {
                "os",
                "sys",
                "time",
                "pathlib",
                "random",
                "datetime",
            }, path.name


@pytest.mark.parametrize(
    "name",
    [m.name for m in pkgutil.walk_packages([str(PACKAGE)], "mcr_lib.") if not m.name.endswith("__main__")],
)
def test_examples_in_docstrings_come_true(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


def test_the_library_stays_small_and_no_room_of_the_harness_outgrows_the_others():
    """The method at the size of a library that one reads in a day; what the harness adds is bounded too."""
    lines = dict.fromkeys(ROOMS, 0)
    for path in MODULES:
        lines[ROOMS[room(module_name(path))]] += len(path.read_text().splitlines())
    total = sum(lines.values())
    assert total <= 18_300, lines
    assert sum(lines[name] for name in ROOMS[:3]) <= 9_170, lines  # paper floor, data, training
    assert max(lines[name] for name in ROOMS[1:]) <= 0.2 * total, lines


def test_public_functions_have_docstrings_that_ruff_accepts_and_files_stay_small():
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "."], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--check", "."],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    for path in MODULES:
        assert len(path.read_text().split("\n")) <= 520, path


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_are_thin_clean_and_made_alike(path):
    nb = json.loads(path.read_text())
    cells = nb["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    tags = [tag for cell in cells for tag in cell["metadata"].get("tags", ())]
    assert (tags.count("parameters"), tags.count("checks"), tags.count("save")) == (1, 1, 1)
    assert [cell["metadata"].get("tags") for cell in code[-2:]] == [["checks"], ["save"]]
    assert nb["metadata"]["kernelspec"]["name"] == "python3"
    assert nb["metadata"]["kernelspec"]["language"] == nb["metadata"]["language_info"]["name"] == "python"
    for cell in code:
        source = "".join(cell["source"])
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
        assert not re.search(r"^\s*(def|class|while|if) |^!|^%|lambda", source.replace(COLAB, ""), re.M), (
            source
        )
        assert not re.search(ABSOLUTE, source), source
    parameters = "".join(code[0]["source"])
    assert [line.split(" #")[0].rstrip() for line in parameters.split("\n")] == [
        'profile = "tiny"',
        'run = "outputs/tiny"',
        "overrides = {}",
    ]
    first = "".join(cells[0]["source"])
    assert first.startswith("# " + path.stem[:2])
    assert all(word in first for word in ("| reads |", "| writes |", "| paper |", "| time |"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_cells_are_short_and_a_figure_stands_between_what_to_look_for_and_what_it_shows(path):
    _, *cells = json.loads(path.read_text())["cells"]
    texts, figures = ["".join(cell["source"]) for cell in cells], 0
    for k, (cell, text) in enumerate(zip(cells, texts, strict=True)):
        if cell["cell_type"] == "markdown":
            assert n_words(text) <= 95, text
            assert "did not help" not in text
            continue
        if cell["id"] != colab.CELL_ID:
            lines = [line for line in text.split("\n") if line]
            assert len(lines) <= 12, text
            assert max(map(len, lines)) <= 88, text
        if re.search(r"^show\(", text, re.MULTILINE):
            figures += 1
            above = next(
                t for c, t in zip(cells[k::-1], texts[k::-1], strict=True) if c["cell_type"] != "code"
            )
            assert 3 <= n_words(above.split("\n\n")[-1]) <= 40, above
            assert "print(" in texts[k + 1], text
    assert figures


def n_words(text):
    """The words of a text cell, without headings and formulas."""
    text = re.sub(r"\$\$.*?\$\$|\$.*?\$|^#.*$", "", text, flags=re.DOTALL | re.MULTILINE)
    return len(re.findall(r"\w[\w.\-]*", text))


@pytest.mark.parametrize(
    ("stem", "calls"),
    [
        ("01_data_preparation", ["load_split("]),
        ("02_schema_injection", ["chains.build(", "verify.verify(", "chains.render(", "parse_answer(",
                                 "rewards.rewards(", "constraints.of_task("]),
        ("03_sft", ["SftOptions(", "sft.train(", "metrics.score("]),
        ("04_cvo", ["CvoOptions(", "d2_filter.", "cvo.train(", "rewards.rewards(", "parse_answer("]),
        ("05_evaluation", ["metrics.judge(", "metrics.score(", "bias.textual_bias("]),
        ("06_bias_analysis", ["bias.textual_bias(", "bias.visual_bias(", "bias.wrong_boxes(", "bias.fault(",
                              "bias.foreign_names(", "bias.type_errors(", "bias.old_signs(",
                              "chains.faithfulness("]),
    ],
)  # fmt: skip
def test_notebooks_call_the_method_by_name(stem, calls):
    source = "".join(
        "".join(c["source"]) for c in json.loads((NOTEBOOKS[0].parent / f"{stem}.ipynb").read_text())["cells"]
    )
    assert [call for call in calls if call not in source] == []


def test_nothing_tracked_names_a_machine_or_is_large():
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in listed.stdout.split():
        path = REPOSITORY / name
        if path.is_file():
            assert path.stat().st_size < LARGE.get(name, 2_000_000), name
            if path.suffix in (
                ".py",
                ".md",
                ".yaml",
                ".yml",
                ".toml",
                ".txt",
                ".ipynb",
                ".json",
                ".lock",
                ".in",
            ):
                text = tour.words(path.read_text())
                assert not re.search(ABSOLUTE, text) or name.startswith("tests/"), name


def test_the_version_is_told_once():
    assert f'version = "{mcr_lib.__version__}"' in (REPOSITORY / "pyproject.toml").read_text()


def test_the_readme_is_short_and_names_every_notebook():
    readme = (REPOSITORY / "README.md").read_text()
    assert len(readme.split("\n")) <= 200
    for notebook in NOTEBOOKS:
        assert notebook.stem in readme


@pytest.mark.parametrize("name", readme.DOCUMENTS)
def test_tables_of_the_documents_are_those_of_the_evidence(name):
    text = (REPOSITORY / name).read_text()
    assert "<!-- table:" in text
    assert readme.filled(text) == text, "run python -m tools.readme"
