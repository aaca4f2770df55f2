"""The run folder: the path of each file, a lock for one process at a time, the manifest."""

import fcntl
import hashlib
import importlib
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import mcr_lib
from mcr_lib.data.files import read_text
from mcr_lib.errors import UserError
from mcr_lib.schema import FORMAT_NEWS, FORMAT_VERSION

PACKAGES = "numpy pydantic pillow papermill matplotlib pandas torch transformers trl peft datasets"


class RunFolder:
    """The paths of a run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.testbed = path / "data" / "testbed"  # if the run makes it
        self.results = path / "results.csv"  # every score in one tidy table
        self.report = path / "report.html"  # one page with tables, figures and gallery
        self.figures = path / "figures"  # each figure as PNG and CSV
        self.notebooks = path / "notebooks"  # executed notebooks and their HTML
        self.manifest = path / "manifest.json"  # what ran, when, with which versions
        self.profile = path / "profile.yaml"  # the configuration after defaults

    def data(self, split: str) -> Path:
        """The examples of a split."""
        return self.path / "data" / f"{split}.jsonl"

    def setting(self, name: str) -> Path:
        """Folder of a setting: checkpoints, log, rollouts, model, fingerprint."""
        return self.path / "settings" / name

    def predictions(self, stem: str) -> Path:
        """Answers to the tweets of a split; the stem is `<setting>.<split>`."""
        return self.path / "predictions" / f"{stem}.jsonl"

    def chains(self, stem: str) -> Path:
        """A file of chains: "template", or the name of the model that rewrote them."""
        return self.path / "chains" / f"{stem}.jsonl"

    def score(self, stem: str) -> Path:
        """The scores of a predictions file."""
        return self.path / "scores" / f"{stem}.json"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run folder alone; the operating system frees the lock when the process ends."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = (self.path / "lock").open("a+")
        except OSError as error:
            raise UserError(f"cannot use {self.path} as run folder: {error.strerror or error}") from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                holder = f"{self.path} is in use by process {file.read().strip() or 'unknown'}"
                raise UserError(f"{holder}; wait for it, or choose another folder with --out") from error
            file.truncate(0)
            print(os.getpid(), file=file, flush=True)
            yield


def fingerprint(*parts: Any) -> str:
    """12 hex digits of a SHA-256 over JSON-ready values; equal values have equal fingerprints."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:12]


def read_manifest(folder: RunFolder) -> dict[str, Any]:
    """The manifest of a run; an empty one if there is none."""
    advice = "move the run folder away or choose another with --out"
    error = f"is no manifest of this release ({FORMAT_NEWS}); {advice}"
    return read_versioned(folder.manifest, error) or {"format_version": FORMAT_VERSION, "notebooks": {}}


def read_versioned(path: Path, error: str) -> dict[str, Any]:
    """A JSON file with a `format_version`; empty if there is none. Of another version: path and `error`."""
    if not path.is_file():
        return {}
    with suppress(ValueError, KeyError, TypeError):
        content = json.loads(read_text(path))
        if content["format_version"] == FORMAT_VERSION:
            return content
    raise UserError(f"{path} {error}")


def environment() -> dict[str, Any]:
    """Versions, commit and hardware of this process, for a manifest."""
    torch, n_bytes = importlib.import_module("torch") if installed_version("torch") else None, memory()
    return {
        "python": platform.python_version(), "platform": platform.platform(), "mcr_lib": mcr_lib.__version__,
        "packages": {name: version for name in PACKAGES.split() if (version := installed_version(name))},
        "commit": _git("rev-parse", "HEAD"), "uncommitted_changes": bool(_git("status", "--porcelain")),
        "n_cpus": os.cpu_count(), "memory_gb": round(n_bytes / 2**30, 1) if n_bytes else None,
        "gpu": torch.cuda.get_device_name(0) if torch and torch.cuda.is_available() else None,
        "threads": os.environ.get("OMP_NUM_THREADS"),
    }  # fmt: skip


def memory() -> int | None:
    """The machine's memory in bytes; `None` if the system does not report it."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None


def installed_version(package: str) -> str | None:
    """The version of a package; `None` if it is not installed."""
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return None


def _git(*arguments: str) -> str | None:
    how = {"cwd": Path(mcr_lib.__file__).parents[1], "text": True, "timeout": 20, "check": True}
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(["git", *arguments], capture_output=True, **how).stdout.strip()
    return None
