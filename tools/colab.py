"""What a notebook does first on Google Colab: the cell, and what it calls once the repository is cloned.

    cell      clone this repository at a fixed version
    set_up    install what Colab lacks, find the GPU, choose the profile, say where the run folder is

Made for Colab's runtime of August 2026 (Python 3.13, torch 2.11). Colab's packages stay as they are, except
`datasets` and `pyarrow`, which are too old for TRL: pip gets the installed versions as constraints.
`data/colab-constraints.txt` holds Colab's pins, so that a test can compare them with the ranges of
`pyproject.toml`.

`[project.urls]` of `pyproject.toml` says where the repository is published. While that is a placeholder, no
badge is shown; `python -m tools.colab --address owner/name` writes the address there and into the cells, and
puts the badges in everywhere.
"""

import argparse
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import mcr_lib
from mcr_lib.data.files import read_text, write_text
from mcr_lib.errors import UserError

RUNTIME = "the runtime of August 2026: Python 3.13, torch 2.11"
REPLACED = ("datasets", "pyarrow")
"""What Colab brings and TRL cannot use: installed anew. Everything else stays as it is."""
PROFILE_OF_GPU = {75: "1x80g", 22: "1x24g", 14: "colab-t4"}
"""GiB of a GPU, at least -> profile, the largest first; with less or none the testbed's."""
WITHOUT_GPU = "tiny"
DATA = "twitter-gmner"
"""Folder of the real annotation and its images: below `data` of the clone, or below `mcr` on Drive."""
MOUNTED = Path("/", "content", "drive")
"""Where Drive is mounted; our files are in its folder `mcr`."""
CELL_ID = "colab"
PLACEHOLDER = "/OWNER/"
"""In the address until the repository is published."""
_COLAB = "https://colab.research.google.com/github"
_PICTURE = "https://colab.research.google.com/assets/colab-badge.svg"
_BADGE = re.compile(r"\[!\[Open in Colab\]\([^)]*\)\]\([^)]*\)")
_PIN = re.compile(r"[\w.-]+==\d[\w.+!]*")


def set_up(
    profile: str, run: str, overrides: Mapping[str, Any], *, on_drive: bool, clone: Path | None = None
) -> tuple[str, str, dict[str, Any], str]:
    """Install what is missing and choose profile and run folder for this machine.

    Args:
        profile: of the parameters cell; any value but the default is kept.
        run: likewise.
        overrides: likewise; gains `data_dir` of a profile for GPUs if the data are on Drive.
        on_drive: mount Google Drive, keep the run folder there and look for the data there.
        clone: where the repository is; `None` = the working folder.

    Returns:
        profile, run, overrides, and a sentence that says what was chosen and why.

    Raises:
        UserError: pip cannot install what is missing beside what the runtime brings, or the session must be
            restarted first.
    """
    clone = clone or Path.cwd()
    install(clone)
    home = _drive() if on_drive else None
    data, overrides = home / DATA if home else clone / "data" / DATA, dict(overrides)
    if profile != WITHOUT_GPU:
        choice = f"profile {profile}, as given"
    else:
        profile, choice = chosen_profile(gpu_memory_gib(), data)
    if profile in PROFILE_OF_GPU.values():
        choice += _without_weights(profile)
        if home and _is_there(data):
            overrides.setdefault("data_dir", str(data))
    own = f"outputs/{WITHOUT_GPU}"
    if run in (own, home and str(home / own)):  # the second where the cell is run again
        run = f"outputs/{profile}"
    return profile, str(home / run) if home else run, overrides, choice


def chosen_profile(memory_gib: float | None, data: Path) -> tuple[str, str]:
    """The profile for a GPU, where the real data are there to train on, and why.

    Args:
        memory_gib: of the GPU; `None` = there is none.
        data: folder of the real annotation.

    Example:
        >>> chosen_profile(None, Path("data"))
        ('tiny', 'no GPU: profile tiny, the testbed')
        >>> chosen_profile(14.7, Path("nowhere"))[0]
        'tiny'
    """
    fitting = [
        name for least, name in PROFILE_OF_GPU.items() if memory_gib is not None and memory_gib >= least
    ]
    if not fitting:
        found = (
            "no GPU"
            if memory_gib is None
            else f"a GPU of {memory_gib:.0f} GiB, too small for a real backbone"
        )
        return WITHOUT_GPU, f"{found}: profile {WITHOUT_GPU}, the testbed"
    if not _is_there(data):
        return (
            WITHOUT_GPU,
            (
                f"a GPU of {memory_gib:.0f} GiB but no {data / 'Twitter10000_v2.0'}: profile {WITHOUT_GPU},"
                " the testbed; put Twitter-GMNER there (data/README.md) and run this cell again for"
                f" {fitting[0]}"
            ),
        )
    return fitting[0], f"a GPU of {memory_gib:.0f} GiB and the data: profile {fitting[0]}"


def _is_there(data: Path) -> bool:
    return (data / "Twitter10000_v2.0").is_dir()


def _without_weights(profile: str) -> str:
    """What to do first where the backbone of a profile has not been downloaded; "" where it has."""
    from mcr_lib.study.runs import config
    from mcr_lib.training import cards

    backbone = config.load(profile).config.backbone
    try:
        cards.folder_of(backbone)
    except UserError:
        return (
            f"; its backbone is not here: run !hf download {backbone} in a cell of its own before notebooks"
            " 03 to 06"
        )
    return ""


def gpu_memory_gib() -> float | None:
    """Memory of the first GPU as its driver reports it; `None` without one."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    done = subprocess.run(query, capture_output=True, text=True)
    first = done.stdout.strip().split("\n")[0]
    return int(first) / 1024 if done.returncode == 0 and first.isdigit() else None


def install(clone: Path) -> None:
    """Install this repository and what it needs for training, everything else that is installed held as it
    is.

    Raises:
        UserError: pip finds no way, or what it replaced was loaded already.
    """
    before = {name: importlib.metadata.version(name) for name in REPLACED if name in sys.modules}
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(pins_of_installed()))
        file.flush()
        command = [sys.executable, "-m", "pip", "install", "-q", "-c", file.name, "-e", f"{clone}[train]"]
        command += ["bitsandbytes"] if gpu_memory_gib() is not None else []
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().split("\n")[-1]
        raise UserError(
            f"pip could not install what is missing ({last}); this was made for {RUNTIME}; choose that"
            " runtime version"
        )
    importlib.invalidate_caches()
    if stale := [name for name, version in before.items() if importlib.metadata.version(name) != version]:
        raise UserError(
            f"{', '.join(stale)} was loaded before it was replaced; choose Runtime, Restart session and"
            " run all"
        )


def pins_of_installed() -> list[str]:
    """`name==version` of every installed package but those that are replaced, and this one."""
    found = {str(d.metadata["Name"]).lower(): d.version for d in importlib.metadata.distributions()}
    pins = [
        f"{name}=={version}" for name, version in found.items() if name not in (*REPLACED, "mcr-lib", "pip")
    ]
    return sorted(pin for pin in pins if _PIN.fullmatch(pin))


def _drive() -> Path:
    from google.colab import drive

    drive.mount(str(MOUNTED))
    home = MOUNTED / "MyDrive" / "mcr"
    home.mkdir(parents=True, exist_ok=True)
    return home


def url() -> str:
    """Where this repository is published, as `pyproject.toml` says."""
    return tomllib.loads(read_text(_root() / "pyproject.toml"))["project"]["urls"]["Repository"]


def cell(address: str) -> str:
    """The source of the cell, the same in every notebook, for the repository at this address."""
    return f"""# @title Google Colab: fetch this repository and install what Colab lacks
# For {RUNTIME}. Does nothing elsewhere.
import os
import subprocess
import sys
from pathlib import Path

on_drive = False  # @param {{type: "boolean"}}
if "google.colab" in sys.modules:
    clone = Path("/", "content", "mcr")
    command = "git clone -q --depth=1 --branch=v{mcr_lib.__version__} {address}"
    clone.is_dir() or subprocess.run([*command.split(), str(clone)], check=True)
    os.chdir(clone)
    sys.path.insert(0, str(clone))
    from tools import colab

    profile, run, overrides, choice = colab.set_up(profile, run, overrides, on_drive=on_drive)
    print(choice)"""


def badge(notebook: str, address: str) -> str:
    """The line of Markdown that opens a notebook on Colab; empty while the address is the placeholder.

    Args:
        notebook: its file name without suffix.
        address: of the repository, https://github.com/owner/name.
    """
    if PLACEHOLDER in address:
        return ""
    place = address.removeprefix("https://github.com/")
    file = "/".join((place, "blob", f"v{mcr_lib.__version__}", "notebooks", f"{notebook}.ipynb"))
    return f"[![Open in Colab]({_PICTURE})]({_COLAB}/{file})"


def with_colab(notebook: Mapping[str, Any], name: str, address: str) -> dict[str, Any]:
    """A notebook with the badge under its title, if there is an address, and after its parameters the cell,
    which is hidden; one that has both comes back equal.
    """
    title, *cells = (dict(cell) for cell in notebook["cells"] if cell["id"] != CELL_ID)
    lines = [line for line in "".join(title["source"]).split("\n") if not _BADGE.match(line)]
    body = "\n".join(lines[1:]).lstrip("\n")
    title["source"] = _lines("\n\n".join(filter(None, (lines[0], badge(name, address), body))))
    at = 1 + next(k for k, c in enumerate(cells) if "parameters" in c["metadata"].get("tags", ()))
    hidden = {"cellView": "form", "jupyter": {"source_hidden": True}, "tags": ["colab"]}
    here = {"cell_type": "code", "execution_count": None, "id": CELL_ID, "metadata": hidden, "outputs": []}
    return {**notebook, "cells": [title, *cells[:at], here | {"source": _lines(cell(address))}, *cells[at:]]}


def with_badges(readme: str, address: str) -> str:
    """The README with a badge behind the name of each notebook in its table, or without any."""
    rows = re.sub(rf" ?{_BADGE.pattern}", "", readme)
    return re.sub(
        r"(?<=^\| )`(\d\d_\w+)`", lambda m: f"{m[0]} {badge(m[1], address)}".rstrip(), rows, flags=re.M
    )


def publish(root: Path, address: str) -> None:
    """Write the address into pyproject.toml, and cell and badges into notebooks and README.

    Raises:
        UserError: not the address of a repository on GitHub.
    """
    address = address.removesuffix("/").removesuffix(".git")
    address = address if address.startswith("https://") else f"https://github.com/{address}"
    if not re.fullmatch(r"https://github\.com/[\w-]+/[\w.-]+", address):
        raise UserError(f"{address} is no repository on GitHub; expected owner/name")
    project = root / "pyproject.toml"
    old = tomllib.loads(read_text(project))["project"]["urls"]["Repository"]
    texts = [(project, read_text(project).replace(old, address))]
    texts += [(root / "README.md", with_badges(read_text(root / "README.md"), address).replace(old, address))]
    for path in sorted([*root.glob("notebooks/*.ipynb"), *root.glob("docs/tour/*.ipynb")]):
        notebook = with_colab(json.loads(read_text(path)), path.stem, address)
        texts.append((path, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"))
    _write(texts)


def main() -> None:
    """`python -m tools.colab [--address owner/name]`: also after a change of the version."""
    parser = argparse.ArgumentParser(description="address and Colab badges, everywhere")
    parser.add_argument("--address", default=url(), metavar="OWNER/NAME", help="of the repository on GitHub")
    try:
        publish(_root(), parser.parse_args().address)
    except UserError as error:
        parser.error(str(error))


def _write(texts: Iterable[tuple[Path, str]]) -> None:
    for path, text in texts:
        write_text(path, text)


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def _root() -> Path:
    return Path(mcr_lib.__file__).resolve().parents[1]


if __name__ == "__main__":
    main()
