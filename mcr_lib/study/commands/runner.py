"""Runs the notebooks of a profile in order by papermill, skips what is up to date, and says in a few lines
what failed.
"""

import json
import logging
import os
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console

from mcr_lib.data.files import read_text, written_whole
from mcr_lib.errors import UserError
from mcr_lib.study.commands import report
from mcr_lib.study.runs import artifacts, config, setting
from mcr_lib.study.runs.artifacts import RunFolder
from mcr_lib.training import cards

HEARTBEAT_S = 30
"""Without a terminal, a line of progress at least this often."""


@dataclass(frozen=True)
class _Failure(Exception):
    """A notebook that did not run through: what to print, and the exit code."""

    lines: tuple[str, ...]
    code: int


def run(
    profile: str,
    *,
    out: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    only: Sequence[str] = (),
    start_from: str | None = None,
    force: bool = False,
    console: Console,
) -> int:
    """Run the notebooks of a profile into a run folder and return the exit code: 0, 1 (a notebook failed), 2
    (a user's mistake), 130.

    A notebook is skipped when its executed copy is there and nothing that it depends on has changed: its
    cells, the configuration, the package's code, the data files, and the notebooks before it, which have not
    run again since. What is about to run is struck from the manifest first, so that a killed or interrupted
    run is never taken for a finished one.

    Args:
        out: run folder; `None` = outputs/<profile>.
        overrides: key -> value over the profile; paths that exist relative to the working folder are taken
            from there.
        only: notebooks to run, by name or number; empty = all of the profile.
        start_from: the first notebook to run.
        force: run also what is up to date.

    Raises:
        UserError: papermill is not installed, an unknown profile, key or notebook, or a run folder in use.
    """
    if find_spec("papermill") is None:
        raise UserError(
            "notebooks need papermill, which the light core leaves out; pip install '.[notebooks]' in the clone brings it"
        )
    given = {key: _from_here(key, value) for key, value in (overrides or {}).items()}
    loaded = config.load(profile, None if out is None else Path(out).absolute(), given)
    notebooks = find_notebooks(loaded.config.notebooks)
    chosen = _chosen(notebooks, only, start_from)
    folder = RunFolder(loaded.folder)
    started = time.monotonic()
    with folder.locked():
        manifest = artifacts.read_manifest(folder)
        manifest |= {
            "profile": profile,
            "parameters": _parameters(loaded),
            "seed": loaded.config.seed,
            **artifacts.surroundings(),
        }
        with written_whole(folder.profile) as file:
            file.write(config.as_yaml(loaded))
        inputs = [
            artifacts.code_fingerprint(),
            _parameters(loaded),
            artifacts.files_fingerprint(map(loaded.path, config.PATHS)),
        ]
        for notebook in notebooks:
            inputs.append(fingerprint := artifacts.fingerprint(inputs, _sources(notebook)))
            if notebook in chosen:
                entry = manifest["notebooks"].get(notebook.stem, {})
                if not force and entry.get("fingerprint") == fingerprint and _is_done(folder, notebook):
                    console.print(f"{notebook.stem}: up to date", highlight=False)
                elif code := _run_one(notebook, fingerprint, manifest, folder, loaded, given, console):
                    return code
            inputs.append(manifest["notebooks"].get(notebook.stem, {}).get("started"))
        report.write(loaded)
    console.print(
        f"done in {time.monotonic() - started:.0f} s; read {folder.report}", highlight=False, soft_wrap=True
    )
    return 0


def _run_one(
    notebook: Path,
    fingerprint: str,
    manifest: dict[str, Any],
    folder: RunFolder,
    loaded: config.Loaded,
    overrides: Mapping[str, Any],
    console: Console,
) -> int:
    """Run one notebook, keep the manifest true at every moment, and return the exit code."""
    entries = manifest["notebooks"]
    entries.pop(notebook.stem, None)
    for old in folder.figures.glob(f"{notebook.stem.split('_')[0]}_*"):
        old.unlink()  # what this run does not draw again is no picture of it
    artifacts.write_manifest(folder, manifest)
    try:
        entries[notebook.stem] = {
            "fingerprint": fingerprint,
            **_execute(notebook, folder, loaded, overrides, console),
        }
        manifest["checksums"] = _checksums(folder, loaded)
    except _Failure as failure:
        entries[notebook.stem] = {"status": "failed", "error": failure.lines[1:]}
        for line in failure.lines:
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        return failure.code
    except KeyboardInterrupt:
        console.print(
            f"interrupted in {notebook.stem}; finished notebooks stay, the same command goes on from there"
        )
        return 130
    finally:
        artifacts.write_manifest(folder, manifest)
    return 0


def _checksums(folder: RunFolder, loaded: config.Loaded) -> dict[str, dict[str, str]]:
    """Of the tweets of each file in data/ as its header tells, and of the weights that the run starts from
    and has made as cards tell.
    """
    from mcr_lib.study.runs.settings import RANDOM, Study

    data = {}
    for path in sorted((folder.path / "data").glob("*.jsonl")):
        with path.open(encoding="utf-8") as file:
            data[path.stem] = json.loads(file.readline()).get("checksum")
    told = {
        path.parents[1].name: json.loads(read_text(path))
        for path in sorted(folder.path.glob(f"settings/*/model/{cards.CARD}"))
    }
    if loaded.config.settings and loaded.config.backbone != RANDOM:
        with suppress(UserError):  # notebooks before training need none
            told = {setting.BACKBONE: cards.card(Study(loaded).backbone), **told}
    sums = {
        name: {file: value for file, value in card["sha256"].items() if file.endswith(".safetensors")}
        for name, card in told.items()
    }
    return {"data": data, "weights": sums}


def find_notebooks(names: Sequence[str] | None = None) -> list[Path]:
    """The notebooks of the repository in the order in which they run, numbered ones first; all, or those
    named.

    Raises:
        UserError: none there, or a name that is none of them.
    """
    folder = config.repository() / "notebooks"
    found = sorted(folder.glob("[0-9A]*_*.ipynb"))
    if not found:
        raise UserError(f"{folder} holds no notebook (NN_name.ipynb)")
    return (
        found
        if names is None
        else [notebook for notebook in found if notebook.stem in {_one(found, name).stem for name in names}]
    )


def _chosen(notebooks: Sequence[Path], only: Sequence[str], start_from: str | None) -> list[Path]:
    chosen = (
        [_one(notebooks, name) for given in only for name in given.split(",")] if only else list(notebooks)
    )
    if start_from is not None:
        first = notebooks.index(_one(notebooks, start_from))
        chosen = [notebook for notebook in chosen if notebooks.index(notebook) >= first]
    return chosen


def _one(notebooks: Sequence[Path], name: str) -> Path:
    name = name.strip().removesuffix(".ipynb")
    for notebook in notebooks:
        if name in (notebook.stem, notebook.stem.split("_")[0]):
            return notebook
    raise UserError(f"unknown notebook {name!r}; known: {', '.join(notebook.stem for notebook in notebooks)}")


def _from_here(key: str, value: Any) -> Any:
    is_here = key in config.PATHS and isinstance(value, str) and Path(value).expanduser().exists()
    return str(Path(value).expanduser().absolute()) if is_here else value


def _parameters(loaded: config.Loaded) -> dict[str, Any]:
    values = loaded.config.model_dump(mode="json")
    return {key: {"value": value, "origin": loaded.origins[key]} for key, value in values.items()}


def _sources(notebook: Path) -> list[str]:
    """The text of each cell; checks on the way that papermill can set the parameters."""
    try:
        cells = json.loads(read_text(notebook))["cells"]
        sources = ["".join(cell["source"]) for cell in cells]
        n_parameters = sum("parameters" in cell["metadata"].get("tags", ()) for cell in cells)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{notebook} is no notebook ({error!r:.80})") from error
    if n_parameters != 1:
        raise UserError(
            f"{notebook}: {n_parameters} cells are tagged parameters; papermill needs exactly one"
        )
    return sources


def _is_done(folder: RunFolder, notebook: Path) -> bool:
    return all((folder.notebooks / f"{notebook.stem}{suffix}").is_file() for suffix in (".ipynb", ".html"))


def _execute(
    notebook: Path, folder: RunFolder, loaded: config.Loaded, overrides: Mapping[str, Any], console: Console
) -> dict[str, Any]:
    """Run one notebook and write its executed copy and HTML; the manifest's entry of it.

    Raises:
        _Failure: a cell failed or the kernel died; the executed part lies under `<name>.failed.ipynb`.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    for name in ("papermill", "papermill.translators", "traitlets"):
        logging.getLogger(name).setLevel(logging.ERROR)
    folder.notebooks.mkdir(parents=True, exist_ok=True)
    done, part, failed = (
        folder.notebooks / f"{notebook.stem}{suffix}.ipynb" for suffix in ("", ".part", ".failed")
    )
    profile = str(config.profile_path(loaded.profile)) if Path(loaded.profile).suffix else loaded.profile
    parameters = {"profile": profile, "run": str(loaded.folder), "overrides": dict(overrides)}
    failed.unlink(missing_ok=True)
    began, stamp = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    try:
        with (
            _python_path(),
            _progress(notebook, part, console),
            warnings.catch_warnings(),
            _sockets() as sockets,
        ):
            warnings.simplefilter("ignore")  # those of papermill and of the kernel's start are not ours
            papermill.execute_notebook(
                notebook, part, parameters, kernel_name="python3", language="python", progress_bar=False, cwd=str(config.repository()),
                config=Config({"KernelManager": sockets}),
                extra_arguments=["--IPKernelApp.log_level=50"],  # a kernel that is interrupted has nothing to add
            )  # fmt: skip
    except PapermillExecutionError as error:
        part.replace(failed)
        raise _Failure(
            _failure_lines(notebook, failed, error), 2 if error.ename == "UserError" else 1
        ) from error
    except DeadKernelError as error:
        part.replace(failed)
        lines = (
            f"{notebook.stem}: the kernel died",
            "  most often out of memory; take a smaller profile",
            f"  executed so far: {failed}",
        )
        raise _Failure(lines, 1) from error
    html = _html(part)
    with written_whole(done.with_suffix(".html")) as file:
        file.write(html)
    part.replace(done)
    seconds = time.monotonic() - began
    console.print(f"{notebook.stem}: done in {seconds:.0f} s", highlight=False)
    return {
        "status": "done",
        "started": stamp,
        "seconds": round(seconds, 1),
        "peak_memory_mb": _peak_memory_mb(),
    }


def _peak_memory_mb() -> float | None:
    """The most memory that a process started from here has held so far: this notebook's kernel, or an earlier
    one; `None` on Windows.
    """
    try:
        import resource
    except ImportError:
        return None
    return round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, 1)


def _failure_lines(notebook: Path, failed: Path, error: Any) -> tuple[str, ...]:
    """What failed: notebook, cell, the line, the error's own sentence, and where the rest is."""
    cells = json.loads(read_text(failed))["cells"]
    # papermill puts a banner of its own on top; count as the reader of the source does
    is_banner = ["papermill-error-cell-tag" in cell["metadata"].get("tags", ()) or "injected-parameters" in cell["metadata"].get("tags", ())
                 for cell in cells]  # fmt: skip
    position = next(
        (k for k, cell in enumerate(cells) if cell["metadata"].get("papermill", {}).get("exception")), 0
    )
    number, total = sum(not b for b in is_banner[: position + 1]), is_banner.count(False)
    source = "".join(cells[position]["source"]).strip().split("\n")
    value = str(error.evalue).strip().split("\n")[0]
    return (
        f"{notebook.stem}: cell {number} of {total} failed",
        f"  {source[0] if len(source) == 1 else source[0] + ' …'}",
        f"  {value if error.ename == 'UserError' else f'{error.ename}: {value}'}",
        f"  executed so far: {failed}",
    )


def _html(notebook: Path) -> str:
    import nbformat
    from nbconvert import HTMLExporter

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        resources = {"metadata": {"name": notebook.name.split(".")[0]}}  # the title of the page
        return HTMLExporter(embed_images=True).from_notebook_node(
            nbformat.read(notebook, as_version=4), resources=resources
        )[0]


@contextmanager
def _python_path() -> Iterator[None]:
    """Let the kernel find this package, installed or not."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(Path(artifacts.mcr_lib.__file__).parents[1]), before])
    )
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


@contextmanager
def _sockets() -> Iterator[dict[str, str]]:
    """How a kernel is spoken to: no open port, and its sockets where a kernel that was killed leaves none
    behind in the working folder.
    """
    if os.name == "nt":  # has no sockets that are files
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="mcr-", ignore_cleanup_errors=True) as folder:
        yield {"transport": "ipc", "ip": str(Path(folder) / "kernel")}


@contextmanager
def _progress(notebook: Path, part: Path, console: Console) -> Iterator[None]:
    """Tell which cell runs: live on a terminal, else as a line now and then. papermill saves its copy at the
    start of each cell.
    """
    is_over = threading.Event()
    with console.status(f"{notebook.stem}: starting") as status:

        def watch() -> None:
            last_line = time.monotonic()
            while not is_over.wait(0.5):
                if (text := _position(part)) is None:
                    continue
                status.update(f"{notebook.stem}: {text}")
                if not console.is_terminal and time.monotonic() - last_line > HEARTBEAT_S:
                    last_line = time.monotonic()
                    console.print(f"{notebook.stem}: {text}", highlight=False)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            is_over.set()
            watcher.join()


def _position(part: Path) -> str | None:
    try:
        cells = json.loads(part.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError):
        return None  # not there yet, or caught while it is being saved
    n_done = sum(cell["metadata"].get("papermill", {}).get("status") == "completed" for cell in cells)
    place = f"cell {min(n_done + 1, len(cells))} of {len(cells)}"
    said = [
        "".join(out["text"]).strip()
        for out in cells[min(n_done, len(cells) - 1)].get("outputs", ())
        if out.get("name") == "stdout"
    ]
    return f"{place}: {said[-1].splitlines()[-1]}" if said and said[-1] else place
