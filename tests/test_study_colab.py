"""Colab: the cell does nothing elsewhere and the right things there; what it installs fits beside what Colab
brings.
"""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from mcr_lib.errors import UserError
from tests.conftest import REPOSITORY
from tools import colab

ADDRESS = "https://github.com/someone/mcr"
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
PARAMETERS = {"profile": "tiny", "run": "outputs/tiny", "overrides": {}}
GIB = 1024  # MiB, as the driver counts


@pytest.fixture
def ran(monkeypatch, tmp_path):
    """A machine as Colab: what is run, with which constraints, and where it stands; `memory_mib` and
    `pip_error` may be set.
    """
    seen = SimpleNamespace(commands=[], pins=[], folders=[], mounted=[], memory_mib=None, pip_error="")

    def run(command, **kwargs):
        seen.commands.append([str(part) for part in command])
        if command[0] == "nvidia-smi":
            return SimpleNamespace(returncode=0, stdout=f"{seen.memory_mib}\n{seen.memory_mib}\n", stderr="")
        if "pip" in command:
            seen.pins = Path(command[command.index("-c") + 1]).read_text().split("\n")
        return SimpleNamespace(returncode=bool(seen.pip_error), stdout="", stderr=seen.pip_error)

    module = ModuleType("google.colab")
    module.drive = SimpleNamespace(mount=seen.mounted.append)
    monkeypatch.setitem(sys.modules, "google", ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", module)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(colab.shutil, "which", lambda name: name if seen.memory_mib else None)
    monkeypatch.setattr(os, "chdir", seen.folders.append)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(colab, "pins_of_installed", lambda: ["numpy==2.1.3"])
    monkeypatch.setattr(colab, "MOUNTED", tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return seen


def run_cell(**changes):
    names = {**PARAMETERS, "overrides": {}, **changes}
    exec(colab.cell(ADDRESS), names)
    return names


def test_the_cell_does_nothing_elsewhere(monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: pytest.fail("a command was run"))
    before, path = Path.cwd(), list(sys.path)
    names = run_cell()
    assert {name: names[name] for name in PARAMETERS} == PARAMETERS
    assert (Path.cwd(), sys.path) == (before, path)


def test_on_colab_the_cell_fetches_a_fixed_version_and_installs_beside_what_is_there(ran, capsys):
    names = run_cell()
    clone, pip = ran.commands
    assert clone[:2] == ["git", "clone"]
    assert clone[-3:-1] == ["--branch=v0.1.0", ADDRESS]
    assert pip[1:5] == ["-m", "pip", "install", "-q"]
    assert pip[-2:] == ["-e", f"{REPOSITORY}[train]"]
    assert ran.folders == [Path(clone[-1])]
    assert ran.pins == ["numpy==2.1.3"]
    assert {name: names[name] for name in PARAMETERS} == PARAMETERS
    assert capsys.readouterr().out == "no GPU: profile tiny, the testbed\n"


def test_everything_installed_is_held_but_what_is_replaced():
    held = dict(pin.split("==") for pin in colab.pins_of_installed())
    assert held["numpy"] == sys.modules["numpy"].__version__
    assert {"torch", "transformers"} <= set(held)
    assert not {"datasets", "pyarrow", "mcr-lib"} & set(held)


@pytest.mark.parametrize(
    ("memory_mib", "profile"),  # as drivers tell: none, K80, T4, L4, A100 40 GB, A100 80 GB, H100
    [
        (None, "tiny"),
        (11441, "tiny"),
        (15360, "colab-t4"),
        (23034, "1x24g"),
        (40960, "1x24g"),
        (81920, "1x80g"),
        (81559, "1x80g"),
    ],
)
def test_the_profile_is_that_of_the_gpu_where_the_data_are(ran, tmp_path, memory_mib, profile):
    ran.memory_mib = memory_mib
    assert (
        colab.set_up("tiny", "outputs/tiny", {}, on_drive=False, clone=tmp_path)[0] == "tiny"
    )  # no data there
    (tmp_path / "data" / "twitter-gmner" / "Twitter10000_v2.0").mkdir(parents=True)
    found = colab.set_up("tiny", "outputs/tiny", {}, on_drive=False, clone=tmp_path)
    assert found[:3] == (profile, f"outputs/{profile}", {})
    assert any("bitsandbytes" in command for command in ran.commands) == (memory_mib is not None)


def test_a_gpu_without_data_is_told_where_to_put_them(ran, tmp_path):
    ran.memory_mib = 15 * GIB
    profile, _, _, told = colab.set_up("tiny", "outputs/tiny", {}, on_drive=False, clone=tmp_path)
    assert profile == "tiny"
    assert "put Twitter-GMNER there (data/README.md) and run this cell again for colab-t4" in told


def test_one_switch_puts_run_and_data_on_drive_also_when_the_cell_is_run_again(ran, tmp_path):
    ran.memory_mib, home = 15 * GIB, tmp_path / "MyDrive" / "mcr"
    without = colab.set_up("tiny", "outputs/tiny", {"seed": 3}, on_drive=True, clone=tmp_path)[:3]
    assert without == ("tiny", str(home / "outputs" / "tiny"), {"seed": 3})
    (home / "twitter-gmner" / "Twitter10000_v2.0").mkdir(parents=True)
    expected = (
        "colab-t4",
        str(home / "outputs" / "colab-t4"),
        {"seed": 3, "data_dir": str(home / "twitter-gmner")},
    )
    for given in (
        ("tiny", "outputs/tiny", {"seed": 3}),
        without,
        expected,
        ("colab-t4", "outputs/tiny", {"seed": 3}),
    ):
        assert colab.set_up(*given, on_drive=True, clone=tmp_path)[:3] == expected, given
    assert set(ran.mounted) == {str(tmp_path)}


def test_a_backbone_that_is_not_here_is_told_with_the_cell_that_brings_it(ran, tmp_path):
    told = colab.set_up("1x80g", "outputs/tiny", {}, on_drive=False, clone=tmp_path)[3]
    assert (
        told
        == "profile 1x80g, as given; its backbone is not here: run !hf download Qwen/Qwen2.5-VL-7B-Instruct"
        " in a cell of its own before notebooks 03 to 06"
    )
    assert "backbone" not in colab.set_up("smoke", "outputs/tiny", {}, on_drive=False, clone=tmp_path)[3]
    kept = tmp_path / "hub" / "models--Qwen--Qwen2.5-VL-7B-Instruct"
    (kept / "snapshots" / ("0" * 40)).mkdir(parents=True)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("0" * 40)
    assert (
        colab.set_up("1x80g", "outputs/tiny", {}, on_drive=False, clone=tmp_path)[3]
        == "profile 1x80g, as given"
    )


def test_a_profile_and_a_run_that_were_given_are_kept(ran, tmp_path):
    ran.memory_mib = 80 * GIB
    assert colab.set_up("smoke", "outputs/mine", {}, on_drive=False, clone=tmp_path)[:2] == (
        "smoke",
        "outputs/mine",
    )


def test_pip_that_finds_no_way_and_a_package_already_loaded_are_one_sentence(ran, tmp_path, monkeypatch):
    ran.pip_error = "WARNING: x\nERROR: No matching distribution found for trl"
    with pytest.raises(
        UserError,
        match=(
            r"pip could not install what is missing \(ERROR: No matching .* for trl\); this was made for the"
        ),
    ):
        colab.install(tmp_path)
    ran.pip_error, versions = "", iter(["18.1.0", "26.0.1"])
    monkeypatch.setitem(sys.modules, "pyarrow", ModuleType("pyarrow"))
    monkeypatch.delitem(sys.modules, "datasets", raising=False)
    monkeypatch.setattr(colab.importlib.metadata, "version", lambda name: next(versions))
    with pytest.raises(
        UserError,
        match="pyarrow was loaded before it was replaced; choose Runtime, Restart session and run all",
    ):
        colab.install(tmp_path)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_every_notebook_has_the_same_hidden_cell_after_its_parameters_and_no_badge_without_an_address(path):
    notebook, readme = json.loads(path.read_text()), (REPOSITORY / "README.md").read_text()
    assert colab.with_colab(notebook, path.stem, colab.url()) == notebook, "run python -m tools.colab"
    cell = notebook["cells"][2]
    assert (cell["id"], cell["source"][0][:8]) == ("colab", "# @title")
    assert cell["metadata"] == {"cellView": "form", "jupyter": {"source_hidden": True}, "tags": ["colab"]}
    badge = colab.badge(path.stem, colab.url())
    assert (badge == "") == ("/OWNER/" in colab.url())
    for text in ("".join(notebook["cells"][0]["source"]), readme):
        assert badge in text
        assert ("colab-badge" in text) == bool(badge)


def test_one_command_writes_the_address_and_puts_the_badges_in_everywhere(tmp_path, monkeypatch, capsys):
    for name in ("pyproject.toml", "README.md", *(f"notebooks/{path.name}" for path in NOTEBOOKS)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((REPOSITORY / name).read_text())
    before = {path: path.read_text() for path in tmp_path.rglob("*.*")}
    monkeypatch.setattr(colab, "_root", lambda: tmp_path)
    for address in ("someone/mcr", ADDRESS, f"{ADDRESS}.git", f"{ADDRESS}/"):
        monkeypatch.setattr(sys, "argv", ["colab", "--address", address])
        colab.main()
        assert colab.url() == ADDRESS
    readme = (tmp_path / "README.md").read_text()
    assert not [path for path in before if "OWNER" in path.read_text()]
    for path in NOTEBOOKS:
        badge, text = colab.badge(path.stem, ADDRESS), (tmp_path / "notebooks" / path.name).read_text()
        assert badge.endswith(f"/someone/mcr/blob/v0.1.0/notebooks/{path.name})")
        assert readme.count(f"`{path.stem}` {badge} |") == 1
        assert text.count("colab-badge") == 1
        assert badge in "".join(json.loads(text)["cells"][0]["source"]).split("\n")
    monkeypatch.setattr(sys, "argv", ["colab", "--address", "https://example.org/x"])
    with pytest.raises(SystemExit):
        colab.main()
    assert "is no repository on GitHub; expected owner/name" in capsys.readouterr().err
    colab.publish(tmp_path, "OWNER/mcr-lib")
    if "/OWNER/" in (REPOSITORY / "pyproject.toml").read_text():
        assert {path: path.read_text() for path in before} == before


def test_a_notebook_gains_badge_and_cell_once():
    title = {"cell_type": "markdown", "id": "a", "metadata": {}, "source": ["# 01 · T\n", "\n", "Q?"]}
    given = {"cell_type": "code", "id": "b", "metadata": {"tags": ["parameters"]}, "source": ["run = 1"]}
    cells = [title, given, {**given, "id": "c", "metadata": {}}]
    once = colab.with_colab({"cells": cells}, "01_t", ADDRESS)
    badge = colab.badge("01_t", ADDRESS)
    assert [cell["id"] for cell in once["cells"]] == ["a", "b", "colab", "c"]
    assert "".join(once["cells"][0]["source"]).split("\n")[::2] == ["# 01 · T", badge, "Q?"]
    assert colab.with_colab(once, "01_t", ADDRESS) == once


# --- what is installed beside what Colab brings: its own list of versions, and what pip resolved against it
# ------------------------------


def pins(name):
    rows = re.findall(r"^([\w.-]+)==(\S+)(.*)$", (REPOSITORY / "data" / name).read_text(), re.MULTILINE)
    return {package: (Version(version), note.strip(" #")) for package, version, note in rows}


def required(*extras):
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    rows = project["dependencies"] + [
        row for extra in extras for row in project["optional-dependencies"][extra]
    ]
    return {requirement.name: requirement for requirement in map(Requirement, rows)}


def test_the_ranges_of_the_project_admit_what_colab_brings_but_datasets():
    brought = pins("colab-constraints.txt")
    refused = {
        name
        for name, needed in required("train").items()
        if name in brought and brought[name][0] not in needed.specifier
    }
    assert refused == {"datasets"}
    assert set(required("train")) - set(brought) == {"trl"}
    assert brought["torch"][0].release[:2] == (2, 11)
    for name in (
        "matplotlib",
        "seaborn",
        "pandas",
        "nbformat",
        "nbconvert",
    ):  # of the notebooks, which Colab has
        assert brought[name][0] in required("notebooks")[name].specifier


def test_pip_resolved_with_everything_held_but_what_the_cell_replaces():
    brought, resolved = pins("colab-constraints.txt"), pins("colab-resolved.txt")
    changed = {name for name, (version, _) in resolved.items() if brought.get(name, (None,))[0] != version}
    assert (
        changed
        == {*colab.REPLACED, "trl", "bitsandbytes"}
        == {name for name, (_, note) in resolved.items() if note}
    )
    for name, needed in required("train").items():
        assert resolved[name][0] in needed.specifier, name
