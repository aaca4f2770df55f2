"""The run folder: the path of each file, a lock for one process at a time, the manifest."""

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

import mcr_lib
from mcr_lib.data.files import read_text
from mcr_lib.errors import UserError
from mcr_lib.schema import FORMAT_VERSION

try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

    fcntl = None

PACKAGES = (
    "numpy", "pydantic", "pillow", "papermill", "matplotlib", "pandas", "torch", "transformers", "trl",
    "peft", "datasets",
)  # fmt: skip


class RunFolder:
    """The paths of a run.

    Args:
        path: the run folder.
    """

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
    def locked(self, name: str = "lock") -> Iterator[None]:
        """Hold the run folder alone; the operating system frees the lock when the process ends.

        Args:
            name: of the lock's file.

        Raises:
            UserError: another process holds it, or the folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = (self.path / name).open("a+")
        except OSError as error:
            raise UserError(f"cannot use {self.path} as run folder: {error.strerror or error}") from error
        with file:
            try:
                _lock(file)
            except (BlockingIOError, PermissionError) as error:
                file.seek(0)
                holder = f"{self.path} is in use by process {file.read().strip() or 'unknown'}"
                raise UserError(f"{holder}; wait for it, or choose another folder with --out") from error
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield


LOCK_POSITION = 2**30
"""The byte that is locked on Windows, where locked bytes cannot be read: behind the name of the holder."""


def _lock(file: TextIO) -> None:
    """Lock an open file without waiting; raises `BlockingIOError`, on Windows `PermissionError`, if another
    process holds the lock.
    """
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        file.seek(LOCK_POSITION)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        file.seek(0)


def fingerprint(*parts: Any) -> str:
    """12 hex digits of a SHA-256 over JSON-ready values; equal values have equal fingerprints.

    Example:
        >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:12]


def read_manifest(folder: RunFolder) -> dict[str, Any]:
    """The manifest of a run; an empty one if there is none.

    Raises:
        UserError: the file is not a manifest of this version.
    """
    error = "is no manifest of this release; move the run folder away or choose another with --out"
    return read_versioned(folder.manifest, error) or {"format_version": FORMAT_VERSION, "notebooks": {}}


def read_versioned(path: Path, error: str) -> dict[str, Any]:
    """The content of a JSON file with a `format_version`; empty if there is no file.

    Args:
        error: what to say of a file of another version, after its path.

    Raises:
        UserError: the file is of another version, or not such a file.
    """
    if not path.is_file():
        return {}
    with suppress(ValueError, KeyError, TypeError):
        content = json.loads(read_text(path))
        if content["format_version"] == FORMAT_VERSION:
            return content
    raise UserError(f"{path} {error}")


def environment() -> dict[str, Any]:
    """Versions, commit and hardware of this process, for a manifest."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "mcr_lib": mcr_lib.__version__,
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain")),
        "n_cpus": os.cpu_count(),
        "memory_gb": round(n_bytes / 2**30, 1) if (n_bytes := memory()) else None,
        "gpu": _gpu(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
    }


def memory() -> int | None:
    """The machine's memory in bytes; `None` if the system does not report it."""
    if not hasattr(os, "sysconf"):
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    how = {"cwd": Path(mcr_lib.__file__).parents[1], "text": True, "timeout": 20, "check": True}
    try:
        return subprocess.run(["git", *arguments], capture_output=True, **how).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _gpu() -> str | None:
    """Name of the first GPU, if torch is loaded already."""
    torch = sys.modules.get("torch")
    return torch.cuda.get_device_name(0) if torch is not None and torch.cuda.is_available() else None
