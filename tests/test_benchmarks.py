"""Benchmarks are no tests, and run rarely: that what they call is still there is looked up."""

import ast
from importlib import import_module
from pathlib import Path

import pytest

BENCHMARKS = sorted((Path(__file__).resolve().parents[1] / "benchmarks").glob("**/[a-z]*.py"))
BENCHMARKS = [path for path in BENCHMARKS if "from mcr_lib" in path.read_text()]


@pytest.mark.canary
@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_what_a_benchmark_calls_is_there(path):
    tree, found = ast.parse(path.read_text()), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mcr_lib":
            module = import_module(node.module)
            for alias in node.names:
                if not hasattr(module, alias.name):
                    import_module(f"{node.module}.{alias.name}")
                found[alias.asname or alias.name] = getattr(module, alias.name)
    used = [
        (node.value.id, node.attr)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    ]
    assert found
    assert [f"{name}.{part}" for name, part in used if name in found and not hasattr(found[name], part)] == []


@pytest.mark.nano
@pytest.mark.slow
def test_a_small_siege_is_withstood(capsys):
    from benchmarks.siege import __main__ as siege

    code = siege.main(["--quick", "--seed", "1"])
    said = capsys.readouterr().out
    assert code == 0, said
    assert "| fuzz     |" in said
