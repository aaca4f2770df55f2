"""Runs the notebooks of a profile in order by papermill; a failure is reported in a few lines."""

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

import mcr_lib
from mcr_lib.data.files import read_text, write_json, written_whole
from mcr_lib.errors import UserError
from mcr_lib.study.commands import report
from mcr_lib.study.runs import artifacts, config
from mcr_lib.study.runs.artifacts import RunFolder
from mcr_lib.study.runs.config import RANDOM, Loaded
from mcr_lib.study.runs.setting import BACKBONE
from mcr_lib.training import cards

HEARTBEAT_S = 30
"""Without a terminal, a line of progress at least this often."""


@dataclass(frozen=True)
class _Failure(Exception):
    """A notebook failed: the lines to print, and the exit code."""

    lines: tuple[str, ...]
    code: int


def run(
    profile: str,
    *,
    out: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    only: Sequence[str] = (),
    start_from: str | None = None,
    console: Console,
) -> int:
    """Run the notebooks of a profile into a run folder; returns the exit code: 0, 1 (a notebook failed), 2 (a
    user's mistake), 130.

    A notebook always runs; models and answers that are there and current are not made again. Its entry in the
    manifest is removed first, so that a run that was killed is never taken for a finished one.

    Args:
        out: run folder; `None` = outputs/<profile>.
        overrides: key -> value over the profile; paths that exist relative to the working folder are taken
            from there.
        only: notebooks to run, by name or number; empty = all of the profile.
        start_from: the first notebook to run.

    Raises:
        UserError: papermill is not installed, an unknown profile, key or notebook, or a run folder in use.
    """
    if find_spec("papermill") is None:
        remedy = "pip install '.[notebooks]' in the clone brings it"
        raise UserError(f"notebooks need papermill, which the light core leaves out; {remedy}")
    given = {key: _from_here(key, value) for key, value in (overrides or {}).items()}
    loaded = config.load(profile, None if out is None else Path(out).absolute(), given)
    chosen = _chosen(find_notebooks(loaded.config.notebooks), only, start_from)
    folder, started = RunFolder(loaded.folder), time.monotonic()
    with folder.locked():
        values = loaded.config.model_dump(mode="json")
        manifest = artifacts.read_manifest(folder) | {
            "profile": profile,
            "parameters": {key: {"value": values[key], "origin": loaded.origins[key]} for key in values},
            "seed": loaded.config.seed,
            **artifacts.environment(),
        }
        with written_whole(folder.profile) as file:
            file.write(config.as_yaml(loaded))
        for notebook in chosen:
            _check_parameters(notebook)
        for notebook in chosen:
            if code := _run_one(notebook, manifest, loaded, given, console):
                return code
        report.write(loaded)
    seconds = time.monotonic() - started
    console.print(f"done in {seconds:.0f} s; read {folder.report}", highlight=False, soft_wrap=True)
    return 0


def _run_one(
    notebook: Path, manifest: dict[str, Any], loaded: Loaded, overrides: Mapping[str, Any], console: Console
) -> int:
    """Run one notebook, keep the manifest up to date, and return the exit code."""
    folder, entries = RunFolder(loaded.folder), manifest["notebooks"]
    entries.pop(notebook.stem, None)
    for old in folder.figures.glob(f"{notebook.stem.split('_')[0]}_*"):
        old.unlink()  # a figure that this run does not draw again is not its own
    write_json(folder.manifest, manifest)
    try:
        entries[notebook.stem] = _execute(notebook, folder, loaded, overrides, console)
        manifest["checksums"] = _checksums(folder, loaded)
    except _Failure as failure:
        entries[notebook.stem] = {"status": "failed", "error": failure.lines[1:]}
        for line in failure.lines:
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        return failure.code
    except KeyboardInterrupt:
        rest = "models and answers that are finished stay, and are not made again"
        console.print(f"interrupted in {notebook.stem}; {rest}")
        return 130
    finally:
        write_json(folder.manifest, manifest)
    return 0


def _checksums(folder: RunFolder, loaded: Loaded) -> dict[str, dict[str, Any]]:
    """Checksums of the tweets of each file in data/, from its header, and of the weights that the run starts
    from and has trained, from their cards.
    """
    data = {}
    for path in sorted((folder.path / "data").glob("*.jsonl")):
        with path.open(encoding="utf-8") as file:
            data[path.stem] = json.loads(file.readline()).get("checksum")
    card_of = {}
    if loaded.config.settings and loaded.config.backbone != RANDOM:
        with suppress(UserError):  # notebooks before training need no backbone
            card_of[BACKBONE] = cards.card(config.backbone_name(loaded.config))
    for path in sorted(folder.path.glob(f"settings/*/model/{cards.CARD}")):
        card_of[path.parents[1].name] = json.loads(read_text(path))
    weights = {
        name: {file: value for file, value in card["sha256"].items() if file.endswith(".safetensors")}
        for name, card in card_of.items()
    }
    return {"data": data, "weights": weights}


def find_notebooks(names: Sequence[str] | None = None) -> list[Path]:
    """The notebooks of the repository in the order in which they run, numbered ones first; all, or those
    named.

    Raises:
        UserError: none there, or an unknown name.
    """
    folder = config.repository() / "notebooks"
    notebooks = sorted(folder.glob("[0-9A]*_*.ipynb"))
    if not notebooks:
        raise UserError(f"{folder} holds no notebook (NN_name.ipynb)")
    if names is None:
        return notebooks
    named = {_one(notebooks, name) for name in names}
    return [notebook for notebook in notebooks if notebook in named]


def _chosen(notebooks: Sequence[Path], only: Sequence[str], start_from: str | None) -> list[Path]:
    first = 0 if start_from is None else notebooks.index(_one(notebooks, start_from))
    named = {_one(notebooks, name) for given in only for name in given.split(",")}
    return [notebook for notebook in notebooks[first:] if not only or notebook in named]


def _one(notebooks: Sequence[Path], name: str) -> Path:
    name = name.strip().removesuffix(".ipynb")
    for notebook in notebooks:
        if name in (notebook.stem, notebook.stem.split("_")[0]):
            return notebook
    raise UserError(f"unknown notebook {name!r}; known: {', '.join(notebook.stem for notebook in notebooks)}")


def _from_here(key: str, value: Any) -> Any:
    is_here = key in config.PATHS and isinstance(value, str) and Path(value).expanduser().exists()
    return str(Path(value).expanduser().absolute()) if is_here else value


def _check_parameters(notebook: Path) -> None:
    """Check that papermill can set the parameters of a notebook."""
    try:
        tags = [cell["metadata"].get("tags", ()) for cell in json.loads(read_text(notebook))["cells"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{notebook} is no notebook ({error!r:.80})") from error
    n = sum("parameters" in tag for tag in tags)
    if n != 1:
        raise UserError(f"{notebook}: {n} cells are tagged parameters; papermill needs exactly one")


def _execute(
    notebook: Path, folder: RunFolder, loaded: Loaded, overrides: Mapping[str, Any], console: Console
) -> dict[str, Any]:
    """Run one notebook and write its executed copy and HTML; returns its entry in the manifest.

    Raises:
        _Failure: a cell failed or the kernel died; the executed part is in `<name>.failed.ipynb`.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    for name in ("papermill", "papermill.translators", "traitlets"):
        logging.getLogger(name).setLevel(logging.ERROR)
    folder.notebooks.mkdir(parents=True, exist_ok=True)
    name = notebook.stem
    done, part, failed = (folder.notebooks / f"{name}{suffix}.ipynb" for suffix in ("", ".part", ".failed"))
    profile = str(config.profile_path(loaded.profile)) if Path(loaded.profile).suffix else loaded.profile
    parameters = {"profile": profile, "run": str(loaded.folder), "overrides": dict(overrides)}
    failed.unlink(missing_ok=True)
    began, stamp = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    quiet = warnings.catch_warnings(action="ignore")  # those of papermill and of the kernel's start
    try:
        with _python_path(), _progress(notebook, part, console), quiet, _sockets() as sockets:
            papermill.execute_notebook(
                notebook, part, parameters, kernel_name="python3", language="python", progress_bar=False,
                cwd=str(config.repository()), config=Config({"KernelManager": sockets}),
                extra_arguments=["--IPKernelApp.log_level=50"],  # no messages of an interrupted kernel
            )  # fmt: skip
    except PapermillExecutionError as error:
        part.replace(failed)
        code = 2 if error.ename == "UserError" else 1
        raise _Failure(_failure_lines(notebook, failed, error), code) from error
    except DeadKernelError as error:
        part.replace(failed)
        cause = "  most often out of memory; take a smaller profile"
        lines = f"{name}: the kernel died", cause, f"  executed so far: {failed}"
        raise _Failure(lines, 1) from error
    html = _html(part)
    with written_whole(done.with_suffix(".html")) as file:
        file.write(html)
    part.replace(done)
    seconds = round(time.monotonic() - began, 1)
    console.print(f"{name}: done in {seconds:.0f} s", highlight=False)
    return {"status": "done", "started": stamp, "seconds": seconds, "peak_memory_mb": _peak_memory_mb()}


def _peak_memory_mb() -> float | None:
    """The most memory that a kernel, of this notebook or an earlier one, has used; `None` on Windows."""
    try:
        import resource
    except ImportError:
        return None
    return round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, 1)


def _failure_lines(notebook: Path, failed: Path, error: Any) -> tuple[str, ...]:
    """What failed: notebook, cell, line, message, and where the executed part is."""
    # the reader of the source does not count the cells that papermill adds
    added = {"papermill-error-cell-tag", "injected-parameters"}
    cells = json.loads(read_text(failed))["cells"]
    cells = [cell for cell in cells if not added & {*cell["metadata"].get("tags", ())}]
    raised = [cell["metadata"].get("papermill", {}).get("exception") for cell in cells]
    position = next((k for k, is_raised in enumerate(raised) if is_raised), 0)
    first, *rest = "".join(cells[position]["source"]).strip().split("\n")
    message = str(error.evalue).strip().split("\n")[0]
    return (
        f"{notebook.stem}: cell {position + 1} of {len(cells)} failed",
        f"  {first}{' …' if rest else ''}",
        f"  {message if error.ename == 'UserError' else f'{error.ename}: {message}'}",
        f"  executed so far: {failed}",
    )


def _html(notebook: Path) -> str:
    import nbformat
    from nbconvert import HTMLExporter

    title = {"metadata": {"name": notebook.name.split(".")[0]}}
    with warnings.catch_warnings(action="ignore"):
        cells = nbformat.read(notebook, as_version=4)
        return HTMLExporter(embed_images=True).from_notebook_node(cells, resources=title)[0]


@contextmanager
def _python_path() -> Iterator[None]:
    """Let the kernel find this package, installed or not."""
    before, root = os.environ.get("PYTHONPATH"), str(Path(mcr_lib.__file__).parents[1])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [root, before]))
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


@contextmanager
def _sockets() -> Iterator[dict[str, str]]:
    """Settings of a kernel: no open port, and sockets that leave nothing behind if it is killed."""
    if os.name == "nt":  # sockets are no files there
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="mcr-", ignore_cleanup_errors=True) as folder:
        yield {"transport": "ipc", "ip": str(Path(folder) / "kernel")}


@contextmanager
def _progress(notebook: Path, part: Path, console: Console) -> Iterator[None]:
    """Show which cell runs: live on a terminal, elsewhere as a line now and then. papermill saves its copy at
    the start of each cell.
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
    """The cell that runs and the last line it printed; `None` if the file is not there or being saved."""
    try:
        cells = json.loads(part.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError):
        return None
    n_done = sum(cell["metadata"].get("papermill", {}).get("status") == "completed" for cell in cells)
    current = min(n_done, len(cells) - 1)
    place = f"cell {current + 1} of {len(cells)}"
    outputs = cells[current].get("outputs", ())
    printed = ["".join(out["text"]).strip() for out in outputs if out.get("name") == "stdout"]
    return f"{place}: {printed[-1].splitlines()[-1]}" if printed and printed[-1] else place
