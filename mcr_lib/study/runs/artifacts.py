"""The run folder: where everything of a run lies, what made it, and one process at a time."""

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import mcr_lib
from mcr_lib.data.files import read_text, write_json
from mcr_lib.errors import UserError
from mcr_lib.schema import FORMAT_VERSION

try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

    fcntl = None

PACKAGES = (
    "numpy",
    "pydantic",
    "pillow",
    "papermill",
    "matplotlib",
    "pandas",
    "torch",
    "transformers",
    "trl",
    "peft",
    "datasets",
)


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run by what lies there.

    Args:
        path: the run folder.
    """

    path: Path

    def data(self, split: str) -> Path:
        """The examples of a split."""
        return self.path / "data" / f"{split}.jsonl"

    @property
    def testbed(self) -> Path:
        """The testbed's own files, where the run makes them."""
        return self.path / "data" / "testbed"

    def setting(self, name: str) -> Path:
        """Folder of a setting: checkpoints, log, rollouts, model, fingerprint."""
        return self.path / "settings" / name

    def predictions(self, stem: str) -> Path:
        """Answers to the tweets of a split; the stem is `<setting>.<split>`."""
        return self.path / "predictions" / f"{stem}.jsonl"

    def chains(self, stem: str) -> Path:
        """A file of chains: "template", or the name of who rewrote them."""
        return self.path / "chains" / f"{stem}.jsonl"

    def score(self, stem: str) -> Path:
        """The report of a scored predictions file."""
        return self.path / "scores" / f"{stem}.json"

    @property
    def results(self) -> Path:
        """One tidy table of every score."""
        return self.path / "results.csv"

    @property
    def report(self) -> Path:
        """One page with tables, figures and gallery."""
        return self.path / "report.html"

    @property
    def figures(self) -> Path:
        """Folder of pictures, each a PNG and a CSV."""
        return self.path / "figures"

    @property
    def notebooks(self) -> Path:
        """Folder of executed notebooks and their HTML."""
        return self.path / "notebooks"

    @property
    def manifest(self) -> Path:
        """What ran, with what, when."""
        return self.path / "manifest.json"

    @property
    def profile(self) -> Path:
        """The configuration after defaults."""
        return self.path / "profile.yaml"

    @contextmanager
    def locked(self, name: str = "lock") -> Iterator[None]:
        """Hold the run folder alone; the lock goes with the process, however it ends.

        Args:
            name: of the lock's file; processes that one who holds "lock" has started have another.

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
                holder = file.read().strip() or "unknown"
                raise UserError(
                    f"{self.path} is in use by process {holder}; wait for it, or choose another folder with --out"
                ) from error
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield


FAR = 2**30
"""Where a lock lies on Windows, which forbids to read what is locked: behind the name of its holder."""


def _lock(file: TextIO) -> None:
    """Lock an open file without waiting; `BlockingIOError`, on Windows `PermissionError`, where another
    process has it.
    """
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        file.seek(FAR)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        file.seek(0)


def fingerprint(*parts: Any) -> str:
    """12 hex digits of a SHA-256 over JSON-ready values; equal values have equal fingerprints.

    Example:
        >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:12]


def code_fingerprint() -> str:
    """Fingerprint of the package's own files."""
    root = Path(mcr_lib.__file__).parent
    files = sorted(path for path in root.rglob("*") if path.suffix in (".py", ".mplstyle"))
    return fingerprint(
        [(str(path.relative_to(root)), hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]
    )


def files_fingerprint(paths: Iterable[Path | None]) -> str:
    """Fingerprint of files and folders by name, size and time of change, without reading them."""
    return fingerprint([sorted(_stats(path)) if path is not None else None for path in paths])


def _stats(path: Path) -> Iterator[tuple[str, int, int]]:
    if not path.is_dir():
        if path.is_file():
            stat = path.stat()
            yield (str(path), stat.st_size, stat.st_mtime_ns)
        return
    for folder, _, names in os.walk(path):
        for entry in os.scandir(folder) if names else ():
            if entry.is_file():
                stat = entry.stat()
                yield (entry.path, stat.st_size, stat.st_mtime_ns)


def read_manifest(folder: RunFolder) -> dict[str, Any]:
    """The manifest of a run; an empty one where there is none.

    Raises:
        UserError: it is no manifest of this version.
    """
    if not folder.manifest.is_file():
        return {"format_version": FORMAT_VERSION, "notebooks": {}}
    try:
        manifest = json.loads(read_text(folder.manifest))
        if manifest["format_version"] == FORMAT_VERSION and isinstance(manifest["notebooks"], dict):
            return manifest
    except (ValueError, KeyError, TypeError):
        pass
    raise UserError(
        f"{folder.manifest} is no manifest of this release; move the run folder away or choose another with --out"
    )


def write_manifest(folder: RunFolder, manifest: dict[str, Any]) -> None:
    """Write the manifest, whole or not at all."""
    write_json(folder.manifest, manifest)


def surroundings() -> dict[str, Any]:
    """Versions, commit and hardware of this process, for a manifest."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "mcr_lib": mcr_lib.__version__,
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain")),
        "n_cpus": os.cpu_count(),
        "memory_gb": _memory_gb(),
        "gpu": _gpu(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
    }


def _memory_gb() -> float | None:
    """Memory of the machine; `None` where the system does not tell."""
    if not hasattr(os, "sysconf"):
        return None
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    try:
        here = Path(mcr_lib.__file__).parents[1]
        done = subprocess.run(
            ["git", *arguments], cwd=here, capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _gpu() -> str | None:
    """Name of the first GPU, where torch is loaded already."""
    torch = sys.modules.get("torch")
    return torch.cuda.get_device_name(0) if torch is not None and torch.cuda.is_available() else None
