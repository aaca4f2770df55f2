"""`report.html`: one page that needs no other file, made from the files of the run folder alone. Its template
is `report.html.j2`; the captions of figures are in `report.yaml`.
"""

import base64
import csv
import json
from pathlib import Path
from typing import Any

import yaml

from mcr_lib.data.files import read_text, written_whole
from mcr_lib.study import render
from mcr_lib.study.runs import artifacts, cache
from mcr_lib.study.runs.artifacts import RunFolder
from mcr_lib.study.runs.config import Loaded

_FIGURES = yaml.safe_load(read_text(Path(__file__).with_name("report.yaml")))
CAPTIONS: dict[str, str] = _FIGURES["captions"]  # figure -> the sentence below it
SECTIONS: dict[str, list[str]] = _FIGURES["sections"]  # section -> its figures
_MACHINE = ("python", "platform", "n_cpus", "memory_gb", "gpu", "threads", "commit", "uncommitted_changes")
_TRAINING = {
    "rows": "n_rows", "updates": "n_steps", "seconds": "seconds", "peak memory, MB": "peak_memory_mb",
    "fingerprint": "fingerprint",
}  # fmt: skip


def write(loaded: Loaded) -> Path:
    """Write the report of a run, whole or not at all; returns its path."""
    folder = RunFolder(loaded.folder)
    text = page(folder, loaded)
    with written_whole(folder.report) as file:
        file.write(text)
    return folder.report


def page(folder: RunFolder, loaded: Loaded) -> str:
    """The report as HTML."""
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup

    manifest, scores = artifacts.read_manifest(folder), _json(folder.score("settings"))
    results = read_text(folder.results).splitlines() if folder.results.is_file() else ()
    figures = {path.stem: _figure(path) for path in sorted(folder.figures.glob("*.png"))}
    sections = {title: [figures.pop(n) for n in names if n in figures] for title, names in SECTIONS.items()}
    others: dict[str, list[dict[str, Any]]] = {}
    for name, figure in figures.items():
        others.setdefault(name.split("_")[0], []).append(figure)
    notebooks, columns = manifest["notebooks"].items(), ("status", "started", "seconds")
    seconds = [entry["seconds"] for _, entry in notebooks if entry.get("status") == "done"]
    commit = (manifest.get("commit") or "unknown")[:12]
    changes = " with changes" if manifest.get("uncommitted_changes") else ""
    summary = f"profile {loaded.profile} · {len(seconds)} notebooks in {sum(seconds):,.0f} s"
    machine = {k: manifest[k] for k in _MACHINE if manifest.get(k) is not None} | manifest.get("packages", {})
    values = {
        "name": folder.path.name,
        "summary": f"{summary} · {manifest.get('n_cpus')} CPUs · commit {commit}{changes}",
        "note": scores.get("note", ""), "sections": sections, "others": others,
        "scores": scores if scores.get("scores") else None,
        "signatures": list(dict.fromkeys(row["signature"] for row in csv.DictReader(results))),
        "training": _training(folder, [row["setting"] for row in scores.get("scores", ())]),
        "notebooks": [{"notebook": name} | {c: e.get(c, "") for c in columns} for name, e in notebooks],
        "machine": [{"what": key, "value": value} for key, value in machine.items()],
        "configuration": loaded.rows(), "table": lambda rows: Markup(render.html(rows)),
    }  # fmt: skip
    source, how = FileSystemLoader(Path(__file__).parent), {"trim_blocks": True, "lstrip_blocks": True}
    return Environment(loader=source, autoescape=True, **how).get_template("report.html.j2").render(values)


def _training(folder: RunFolder, settings: list[str]) -> list[dict[str, Any]]:
    rows = []
    for name in settings:
        record = _json(folder.setting(name) / cache.FINGERPRINT)
        if record.get("status") == "done":
            one = record["setting"]
            row = {"setting": name, "starts from": one.get("start", "the backbone"), "stage": one["stage"]}
            rows.append(row | {column: record[key] for column, key in _TRAINING.items()})
    return rows


def _figure(path: Path) -> dict[str, Any]:
    """Data, width and caption of a picture; pictures have 150 pixels an inch, pages 96."""
    png = path.read_bytes()
    width = int.from_bytes(png[16:20])  # in the header of a PNG
    caption = CAPTIONS.get(path.stem, path.stem.partition("_")[2].replace("_", " "))
    return {"width": round(width / 1.5), "data": base64.b64encode(png).decode(), "caption": caption}


def _json(path: Path) -> dict[str, Any]:
    return json.loads(read_text(path)) if path.is_file() else {}
