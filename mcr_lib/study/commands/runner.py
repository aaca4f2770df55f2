"""Runs the notebooks of a profile in order by papermill; a failure is reported in a few lines."""

import json
import logging
import os
import re
import tempfile
import threading
import time
import warnings
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

from rich.console import Console
from rich.markup import escape

import mcr_lib
from mcr_lib.data.files import read_text, write_json, written_whole
from mcr_lib.errors import UserError
from mcr_lib.study.commands import arguments, report
from mcr_lib.study.runs import config, prepare
from mcr_lib.study.runs.artifacts import RunFolder
from mcr_lib.study.runs.config import RANDOM, Loaded
from mcr_lib.study.runs.setting import BACKBONE
from mcr_lib.training import cards

Values = dict[str, Any]
Names = Sequence[str]
_BADGE = re.compile(r"\[!\[[^]]*\]\([^)]*\)\]\([^)]*\)")
_FORMULA, _PLACE = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+)\$", re.DOTALL), re.compile("\ue000(\\d+)\ue001")
_SCRIPT = re.compile(r"<script\b.*?</script>", re.DOTALL)
HEARTBEAT_S = 30  # without a terminal, a line of progress at least this often


def command(given: Namespace) -> int:
    """`mcr run`."""
    options = {key: getattr(given, key) for key in ("profile", "out", "only", "start_from")}
    return run(**options, overrides=config.parse_set(given.pairs), console=arguments.console())


def run(
    profile: str, *, console: Console, out: str | Path | None = None, only: Names = (),
    start_from: str | None = None, overrides: Mapping[str, Any] | None = None,
) -> int:  # fmt: skip
    """Run the notebooks of a profile; returns 0, 1 (a notebook failed), 2 (a user's mistake) or 130. Models
    and answers that are current are kept; paths in `overrides` may be relative to the working folder.
    """
    if find_spec("papermill") is None:
        remedy = "pip install '.[notebooks]' in the clone brings it"
        raise UserError(f"notebooks need papermill, which the light core leaves out; {remedy}")
    given = dict(overrides or {})
    for key in config.PATHS:
        if isinstance(given.get(key), str) and (path := Path(given[key]).expanduser()).exists():
            given[key] = str(path.absolute())
    loaded = config.load(profile, None if out is None else Path(out).absolute(), given)
    notebooks = find_notebooks(loaded.config.notebooks, only, start_from)
    folder, started = RunFolder(loaded.folder), time.monotonic()
    with folder.locked():
        manifest = prepare.begin(loaded)
        for notebook in notebooks:
            _check_parameters(notebook)
        for notebook in notebooks:
            if code := _run_one(notebook, manifest, loaded, given, console):
                return code
        report.write(loaded)
    console.out(f"done in {time.monotonic() - started:.0f} s; read {folder.report}", highlight=False)
    return 0


def _run_one(notebook: Path, manifest: Values, loaded: Loaded, overrides: Values, console: Console) -> int:
    """Run one notebook and keep the manifest up to date; returns the exit code."""
    folder, entries = RunFolder(loaded.folder), manifest["notebooks"]
    entries.pop(notebook.stem, None)  # a run that is killed is never taken for a finished one
    for old in folder.figures.glob(f"{notebook.stem.split('_')[0]}_*"):
        old.unlink()  # a figure that this run does not draw again is not its own
    write_json(folder.manifest, manifest)
    try:
        code, entries[notebook.stem] = _execute(notebook, loaded, overrides, console)
        if code == 0:
            manifest["checksums"] = _checksums(folder, loaded)
        return code
    except KeyboardInterrupt:
        rest = "models and answers that are finished stay, and are not made again"
        console.print(f"interrupted in {notebook.stem}; {rest}")
        return 130
    finally:
        write_json(folder.manifest, manifest)


def _checksums(folder: RunFolder, loaded: Loaded) -> dict[str, Values]:
    """Checksums of the tweets of data/, of files of answers, and of weights, at the start and of settings."""
    sums_of, card_of = {"data": {}, "predictions": {}}, {}
    for path in (path for room in sums_of for path in sorted((folder.path / room).glob("*.jsonl"))):
        with path.open(encoding="utf-8") as file:
            head = json.loads(file.readline())
        sums_of[path.parent.name][path.stem] = head.get("checksum", head.get("sha256"))
    if loaded.config.settings and loaded.config.backbone != RANDOM:
        with suppress(UserError):  # notebooks before training need no backbone
            card_of[BACKBONE] = cards.card(config.backbone_name(loaded.config))
    for path in sorted(folder.path.glob(f"settings/*/model/{cards.CARD}")):
        card_of[path.parents[1].name] = json.loads(read_text(path))
    sums = {name: card["sha256"].items() for name, card in card_of.items()}
    weights = {name: {f: sha for f, sha in of if f.endswith(".safetensors")} for name, of in sums.items()}
    return {**sums_of, "weights": weights}


def find_notebooks(names: Names | None = None, only: Names = (), start_from: str | None = None) -> list[Path]:
    """The notebooks of the repository in order, by name or number: those of `names` (`None` = all), `only`
    some (an item may be several, separated by commas; empty = all), from `start_from` on.
    """
    folder = config.repository() / "notebooks"
    notebooks = sorted(folder.glob("[0-9A]*_*.ipynb"))
    if not notebooks:
        raise UserError(f"{folder} holds no notebook (NN_name.ipynb)")
    if names is not None:
        notebooks = _named(notebooks, names)
    first = 0 if start_from is None else notebooks.index(*_named(notebooks, [start_from]))
    wanted = _named(notebooks, ",".join(only).split(",")) if only else notebooks
    return [notebook for notebook in notebooks[first:] if notebook in wanted]


def _named(notebooks: Sequence[Path], names: Names) -> list[Path]:
    called = {key: path for path in reversed(notebooks) for key in (path.stem, path.stem.split("_")[0])}
    keys = [name.strip().removesuffix(".ipynb") for name in names]
    for unknown in (key for key in keys if key not in called):
        known = ", ".join(notebook.stem for notebook in notebooks)
        raise UserError(f"unknown notebook {unknown!r}; known: {known}")
    chosen = {called[key] for key in keys}
    return [notebook for notebook in notebooks if notebook in chosen]


def _check_parameters(notebook: Path) -> None:
    try:
        tags = [cell["metadata"].get("tags", ()) for cell in json.loads(read_text(notebook))["cells"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{notebook} is no notebook ({error!r:.80})") from error
    if (n := sum("parameters" in tag for tag in tags)) != 1:
        raise UserError(f"{notebook}: {n} cells are tagged parameters; papermill needs exactly one")


def _execute(notebook: Path, loaded: Loaded, overrides: Values, console: Console) -> tuple[int, Values]:
    """Run one notebook (a failed one is <name>.failed.ipynb); the exit code and its entry in the manifest."""
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    for logger in ("papermill", "traitlets"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    name, folder = notebook.stem, RunFolder(loaded.folder).notebooks
    folder.mkdir(parents=True, exist_ok=True)
    done, part, failed = (folder / f"{name}{suffix}.ipynb" for suffix in ("", ".part", ".failed"))
    failed.unlink(missing_ok=True)
    profile = str(config.profile_path(loaded.profile)) if Path(loaded.profile).suffix else loaded.profile
    parameters = {"profile": profile, "run": str(loaded.folder), "overrides": overrides}
    path = filter(None, [str(Path(mcr_lib.__file__).parents[1]), os.environ.get("PYTHONPATH")])
    importable = mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(path))  # this package, in the kernel
    quiet = warnings.catch_warnings(action="ignore")  # those of papermill and of the kernel's start
    base = next((d for d in (tempfile.gettempdir(), "/tmp") if len(d) <= 80 and os.access(d, os.W_OK)), None)
    scratch = tempfile.TemporaryDirectory(prefix="mcr-", dir=base, ignore_cleanup_errors=True)
    began, stamp = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    try:
        with importable, _progress(name, part, console), quiet, scratch as sockets:
            # no open port, no trace of a killed kernel; not on Windows; sockets have paths of up to 107
            manager = {"transport": "ipc", "ip": f"{sockets}/kernel"} if base and os.name != "nt" else {}
            paths = (str(path).replace("{", "{{").replace("}", "}}") for path in (notebook, part))
            papermill.execute_notebook(  # which takes braces in paths for its own
                *paths, parameters, kernel_name="python3", language="python", progress_bar=False,
                cwd=str(config.repository()), config=Config({"KernelManager": manager}),
                extra_arguments=["--IPKernelApp.log_level=50"],  # no messages of an interrupted kernel
            )  # fmt: skip
    except PapermillExecutionError as error:
        code, lines = 2 if error.ename == "UserError" else 1, _failure(name, part, error)
    except DeadKernelError:
        code, lines = 1, [f"{name}: the kernel died", "  most often out of memory; take a smaller profile"]
    else:
        with warnings.catch_warnings(action="ignore"), written_whole(done.with_suffix(".html")) as file:
            file.write(page(part, name))
        part.replace(done)
        seconds, peak_mb = round(time.monotonic() - began, 1), _peak_memory_mb()
        console.print(f"{name}: done in {seconds:.0f} s", highlight=False)
        return 0, {"status": "done", "started": stamp, "seconds": seconds, "peak_memory_mb": peak_mb}
    part.replace(failed)
    lines.append(f"  executed so far: {failed}")
    for line in lines:
        console.out(line, highlight=False)
    return code, {"status": "failed", "error": lines[1:]}


def page(notebook: Path, title: str) -> str:
    """An executed notebook as HTML that needs no network: formulas as MathML; without scripts, badges, the
    cell for Colab, and the default parameters where others were given.
    """
    import nbformat
    from latex2mathml.converter import convert
    from nbconvert import HTMLExporter

    formulas: list[str] = []

    def noted(found: re.Match) -> str:  # nbconvert would close the tags of MathML one by one
        formulas.append(convert(found[1] or found[2], display="block" if found[1] else "inline"))
        return f"\ue000{len(formulas) - 1}\ue001"

    content = nbformat.read(notebook, as_version=4)
    tags = {tag for cell in content.cells for tag in cell.metadata.get("tags", ())}
    hidden = {"colab"} | ({"parameters"} if "injected-parameters" in tags else set())
    content.cells = [cell for cell in content.cells if not hidden & {*cell.metadata.get("tags", ())}]
    for cell in (cell for cell in content.cells if cell.cell_type == "markdown"):
        cell.source = _FORMULA.sub(noted, _BADGE.sub("", cell.source))
    resources = {"metadata": {"name": title}}
    text = _SCRIPT.sub("", HTMLExporter(embed_images=True).from_notebook_node(content, resources)[0])
    return _PLACE.sub(lambda found: formulas[int(found[1])], text)


def _peak_memory_mb() -> float | None:
    """The most memory that a kernel, of this notebook or an earlier one, has used; `None` on Windows."""
    try:
        import resource
    except ImportError:
        return None
    return round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, 1)


def _failure(name: str, part: Path, error: Any) -> list[str]:
    """The lines on a failed notebook: its cell, the first line of that cell, and the message."""
    added = {"papermill-error-cell-tag", "injected-parameters"}  # by papermill: the source has no such cells
    cells = json.loads(read_text(part))["cells"]
    cells = [cell for cell in cells if not added & {*cell["metadata"].get("tags", ())}]
    raised = [bool(cell["metadata"].get("papermill", {}).get("exception")) for cell in cells]
    position = raised.index(True) if any(raised) else 0
    first, *rest = "".join(cells[position]["source"]).strip().split("\n")
    message = str(error.evalue).strip().split("\n")[0]
    reason = message if error.ename == "UserError" else f"{error.ename}: {message}"
    where = f"{name}: cell {position + 1} of {len(cells)} failed"
    return [where, f"  {first}{' …' if rest else ''}", f"  {reason}"]


@contextmanager
def _progress(name: str, part: Path, console: Console) -> Iterator[None]:
    """Show which cell runs, live on a terminal, else now and then; papermill saves its copy at each cell."""
    is_over = threading.Event()

    def watch() -> None:
        last_line = time.monotonic()
        while not is_over.wait(0.5):
            if (text := _position(part)) is not None:
                status.update(escape(f"{name}: {text}"))
                if not console.is_terminal and time.monotonic() - last_line > HEARTBEAT_S:
                    last_line = time.monotonic()
                    console.out(f"{name}: {text}", highlight=False)

    with console.status(f"{name}: starting") as status:
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
    outputs = cells[current].get("outputs", ())
    printed = ["".join(out["text"]).strip() for out in outputs if out.get("name") == "stdout"]
    last_line = f": {printed[-1].splitlines()[-1]}" if printed and printed[-1] else ""
    return f"cell {current + 1} of {len(cells)}{last_line}"
