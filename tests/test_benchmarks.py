"""Benchmarks are no tests, and run rarely: that what they call is still there is looked up."""

import ast
import json
import time
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


@pytest.mark.canary
def test_the_benchmark_of_a_gpu_measures_its_rows_on_a_processor(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(BENCHMARKS[0].parent))
    gpu = import_module("gpu")
    small = ["--tiny", "--models", "3B", "--prompt", "60", "--answer", "4", "--parts", "cvo", "exact"]
    assert gpu.main([*small, "--out", str(tmp_path), "--device", "cpu"]) == 0
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert [row for row in rows if "not run" in row] == []
    assert {row.get("side") for row in rows} >= {None, "stock"}
    exactness = next(row for row in rows if row["what"].startswith("exactness"))
    assert all(value < 1e-5 for name, value in exactness.items() if "Δ" in name)
    assert capsys.readouterr().out.splitlines()[-1].startswith("CVO update, 3B")


@pytest.mark.canary
def test_a_row_that_fails_or_takes_too_long_is_not_run_and_the_next_is(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS[0].parent))
    gpu = import_module("gpu")
    monkeypatch.setitem(gpu.ROW_S, "cvo", 1)
    report = gpu.Report(tmp_path, 100)
    assert report.row("cvo", lambda: time.sleep(5), what="slow") is None
    assert report.row("cvo", lambda: {}["missing"], what="wrong") is None
    assert report.row("cvo", lambda: {"seconds": 1.0}, what="right") == {"seconds": 1.0}
    report.until = 0
    report.row("cvo", lambda: {"seconds": 1.0}, what="late")
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    reasons = {row["what"]: row.get("not run") for row in rows}
    assert reasons.pop("wrong").startswith("KeyError")
    assert reasons == {"slow": "stopped after 1 s", "right": None, "late": "0 s left"}


@pytest.mark.canary
def test_the_table_of_a_shared_prefix_names_what_misses_its_bar(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCHMARKS[0].parent))
    prefix = import_module("prefix")
    sides = {"stock": {"update": 9.0, "peak": 4e9}, "shared": {"update": 3.0, "peak": 2e9}}
    _, update, peak = prefix.table({"cvo": sides})  # 9 / 3 is 3 and passes, 2 / 4 is 50 % and more than 45 %
    assert "3.00x" in update
    assert update.endswith("passed")
    assert "50%" in peak
    assert peak.endswith("MISSED")
    curve = [
        {"P": 8 * k, "R": 8, "G": group, "P/R": k, "gain": 1.5, "bound": 2.0}
        for k in (1, 2)
        for group in (2, 4)
    ]
    prefix.draw(curve, tmp_path)
    assert (tmp_path / "prefix.csv").read_text().splitlines()[1] == "8,8,2,1,1.5,2.0"
    assert (tmp_path / "prefix.png").stat().st_size > 10_000


@pytest.mark.nano
@pytest.mark.slow
def test_a_small_siege_is_withstood(capsys):
    from benchmarks.siege import __main__ as siege

    code = siege.main(["--quick", "--seed", "1"])
    said = capsys.readouterr().out
    assert code == 0, said
    assert "| fuzz     |" in said
