"""The fingerprint of code: it moves with every module that a stage runs on, and with nothing else."""

import ast
import shutil

import pytest

from mcr_lib.study.runs.artifacts import fingerprint
from mcr_lib.study.runs.code import ENTRIES, PACKAGE, code_fingerprint, reachable


@pytest.fixture
def package(tmp_path):
    """A copy of the package."""
    return shutil.copytree(PACKAGE, tmp_path / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))


def with_changed_function(tree):
    """A tree whose first function does one thing more; `None` where there is no function."""
    function = next((node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)), None)
    if function is None:
        return None
    function.body.append(ast.parse("changed = True").body[0])
    return tree


@pytest.mark.parametrize("stage", ENTRIES)
def test_a_change_of_any_function_that_a_stage_can_reach_moves_its_fingerprint(stage, package):
    before, n_changed = code_fingerprint(stage, package), 0
    for name, path in reachable(stage, package).items():
        text = path.read_text()
        if (tree := with_changed_function(ast.parse(text))) is not None:
            path.write_text(ast.unparse(tree))
            assert code_fingerprint(stage, package) != before, name
            path.write_text(text)
            n_changed += 1
    assert code_fingerprint(stage, package) == before
    assert n_changed > 20


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("verify.py", "NEGATIONS", "NEGATED"),
        ("answer_json.py", "MAX_ITEMS = ", "MAX_ITEMS = 1 + "),
        ("training/families.py", "LANGUAGE_LAYERS = ", "LANGUAGE_LAYERS = 'x' + "),
    ],
)
def test_constants_of_modules_that_a_hand_kept_list_had_left_out_move_it(name, old, new, package):
    """Each of these once passed unnoticed."""
    before = {stage: code_fingerprint(stage, package) for stage in ("sft", "cvo")}
    text = (package / name).read_text()
    assert old in text
    (package / name).write_text(text.replace(old, new))
    assert all(code_fingerprint(stage, package) != before[stage] for stage in before)


def test_equal_values_have_equal_fingerprints():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})


def test_comments_docstrings_and_layout_do_not_count(package):
    before = code_fingerprint("cvo", package)
    for path in reachable("cvo", package).values():
        path.write_text("# a comment\n" + ast.unparse(ast.parse(path.read_text())))
    assert code_fingerprint("cvo", package) == before


def test_the_harness_does_not_count(package):
    before = code_fingerprint("cvo", package)
    (package / "study" / "runs" / "report.py").write_text("raise RuntimeError")
    (package / "study" / "figures" / "bars.py").unlink(missing_ok=True)
    assert code_fingerprint("cvo", package) == before
