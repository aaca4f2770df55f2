"""`report.html`: one page that needs no other file, made from the files of the run folder alone. Its words
are in `report.yaml`, its form in `report.html.j2` and `report.css`, its browser of tweets in `report.js`.
"""

import base64
import csv
import gzip
import io
import json
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from mcr_lib.data.files import read_text, written_whole
from mcr_lib.schema import Example
from mcr_lib.study import catalogue, render
from mcr_lib.study.commands import arguments
from mcr_lib.study.runs import artifacts, cache
from mcr_lib.study.runs.artifacts import RunFolder
from mcr_lib.study.runs.config import Config, Loaded
from mcr_lib.study.runs.model_card import TESTBED_NOTE
from mcr_lib.study.runs.setting import Setting
from mcr_lib.study.tables import answers
from mcr_lib.study.tables.answers import Answered

Row = dict[str, Any]
_HERE = Path(__file__).parent
WORDS: dict[str, Any] = yaml.safe_load(read_text(_HERE / "report.yaml"))
FIGURES: dict[str, Row] = {name: one for fold in WORDS["folds"].values() for name, one in fold.items()}
MAX_FIGURES, COLOURS = 12, 128  # figures of a page, and colours of each
NO_FLAW = "reasoning does not state the answer"  # also in report.js
VERDICTS = {1: "better", 0: "cannot be told", -1: "worse"}
_NAMED = ("base", "sft", "mrsi", "mcr")  # settings with a colour of their own in report.css
_MACHINE = ("python", "platform", "n_cpus", "memory_gb", "gpu", "threads", "commit", "uncommitted_changes")
_TRAINING = {
    "rows": "n_rows", "updates": "n_steps", "seconds": "seconds", "peak memory, MB": "peak_memory_mb",
    "fingerprint": "fingerprint",
}  # fmt: skip


def command(given: Namespace) -> int:
    """`mcr report`."""
    print(write(arguments.load(given), pictures=given.pictures))
    return 0


def write(loaded: Loaded, *, pictures: bool = False) -> Path:
    """Write the report of a run, whole or not at all; returns its path.

    `pictures`: also those of real tweets, which are left out otherwise; the testbed's are always there.
    """
    folder = RunFolder(loaded.folder)
    text = page(folder, loaded, pictures=pictures)
    with written_whole(folder.report) as file:
        file.write(text)
    return folder.report


def page(folder: RunFolder, loaded: Loaded, *, pictures: bool = False) -> str:
    """The report as HTML."""
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup

    every, refused = answers.collect(loaded)
    c, splits = loaded.config, [one for one in every if not one.probe]
    pairs = _pairs(splits[0]) if splits else []
    names = list(dict.fromkeys(name for one in splits for name in one.files))
    counts = {one.split: answers.count_rows(one) for one in splits}
    values = _origins(folder, loaded) | {
        "name": folder.path.name, "question": _question(pairs, names), "task": WORDS["task"],
        "note": TESTBED_NOTE if c.source == "testbed" else "", "is_real": c.source != "testbed",
        "pictures": pictures, "results": _results(splits, pairs), "forest": _forest(splits, pairs),
        "alone": [] if pairs else [_alone(one, counts[one.split]) for one in splits],
        "reasons": _reasons(counts), "drawn": _drawn(splits, pairs), "about": _about(c, names),
        "metric": splits and catalogue.label(f"{splits[0].task}_f1"), "refused": refused,
        "counts": [_counts(one, counts) for one in splits], "no_flaw": NO_FLAW,
        "colours": colours(names), "rival": _rivals(pairs, names), **_figures(folder, splits, every, pairs),
        "blob": _packed(loaded, every, pairs, pictures or c.source == "testbed") if every else "",
        "css": Markup(read_text(_HERE / "report.css")), "js": Markup(read_text(_HERE / "report.js")),
        "table": lambda rows: Markup(render.html(rows)), "to": lambda **where: "#" + urlencode(where),
    }  # fmt: skip
    source, how = FileSystemLoader(_HERE), {"trim_blocks": True, "lstrip_blocks": True}
    return Environment(loader=source, autoescape=True, **how).get_template("report.html.j2").render(values)


def colours(names: Sequence[str]) -> dict[str, str]:
    """Setting -> the name of its colour in report.css."""
    others = [name for name in names if name not in _NAMED]
    return {name: name if name in _NAMED else f"other-{others.index(name) % 3}" for name in names}


def _pairs(one: Answered) -> list[tuple[str, str]]:
    """The settings to compare: MCR with plain fine-tuning and with MRSI, else the last with the first."""
    names = list(one.files)
    known = [("mcr", other) for other in ("sft", "mrsi") if {"mcr", other} <= {*names}]
    return known or ([(names[-1], names[0])] if len(names) > 1 else [])


def _rivals(pairs: Sequence[tuple[str, str]], names: Sequence[str]) -> dict[str, str]:
    """Setting -> the one that stands beside it when its tweets are opened."""
    a, b = pairs[0] if pairs else ("", "")
    return {name: b if name == a else a for name in names}


def _question(pairs: Sequence[tuple[str, str]], names: Sequence[str]) -> str:
    if ("mcr", "sft") in pairs:
        return "Does MCR answer better than plain fine-tuning?"
    if pairs:
        return f"Does {pairs[0][0]} answer better than {pairs[0][1]}?"
    return f"How good are the answers of {names[0]}?" if names else "What is in this run?"


def _verdict(row: Row | None) -> list[Row]:
    """A difference with its numbers as text and its verdict as a word; empty if there is none."""
    if row is None:
        return []
    texts = {key: _number(row[key]) for key in ("first", "second", "low", "high")}
    sign = "+" if round(row["difference"], 1) > 0 else ""
    texts |= {"difference": sign + _number(row["difference"]), "word": VERDICTS[row["better"]]}
    return [row | texts]


def _number(value: float) -> str:
    return f"{round(value, 1) or 0.0:.1f}".replace("-", "−")  # never a negative zero


def _differences(splits: Sequence[Answered], a: str, b: str) -> list[Row]:
    every = [answers.difference(one, a, b, f"{one.task}_f1") for one in splits]
    return [row for row in every if row is not None]


def _results(splits: Sequence[Answered], pairs: Sequence[tuple[str, str]]) -> list[Row]:
    """The differences of the first screen: the first pair on the scored and the adversarial split, the second
    on the scored one.
    """
    chosen = [one for k, one in enumerate(splits) if not k or one.split.endswith("_adversarial")]
    rows = [_differences(chosen if not k else chosen[:1], *pair) for k, pair in enumerate(pairs)]
    return [one for some in rows for row in some for one in _verdict(row)]


def _forest(splits: Sequence[Answered], pairs: Sequence[tuple[str, str]]) -> list[Row]:
    """Per pair its differences on every split, with their places on a common axis from 0 to 100."""
    rows = {f"{a} − {b}": _differences(splits, a, b) for a, b in pairs}
    ends = [0.0, *(row[key] for some in rows.values() for row in some for key in ("low", "high"))]
    low, width = min(ends), max(max(ends) - min(ends), 1e-9)

    def placed(row: Row) -> Row:
        values = {"zero": 0, "x1": row["low"], "x2": row["high"], "x": row["difference"]}
        return {key: round(3 + 94 * (value - low) / width, 2) for key, value in values.items()}

    return [
        {"title": title, "rows": [_verdict(r)[0] | placed(r) for r in some]} for title, some in rows.items()
    ]


def _interval(row: Row) -> str:
    return "" if row["ci95"] is None else "{:.1f} to {:.1f}".format(*row["ci95"])


def _alone(one: Answered, rows: Sequence[Row]) -> Row:
    metric, (row, *_) = catalogue.label(f"{one.task}_f1"), rows
    values = {"split": one.split, "setting": row["setting"], "metric": metric, "f1": f"{row['f1']:.1f}"}
    return values | {"interval": f" ({_interval(row)})"}


def _reasons(counts: Mapping[str, Sequence[Row]]) -> list[Row]:
    """Per setting with reasoning the share of answers that it states, on every split but dev."""
    parts: dict[str, list[Row]] = {}
    for split, rows in ((s, rows) for s, rows in counts.items() if s != "dev"):
        for row in (row for row in rows if "flawed" in row):
            share = f"{100 - 100 * row['flawed'] / row['answers']:.0f} %"
            parts.setdefault(row["setting"], []).append({"share": share, "split": split})
    return [{"setting": name, "parts": some} for name, some in parts.items()]


def _drawn(splits: Sequence[Answered], pairs: Sequence[tuple[str, str]]) -> Row | None:
    for (a, b), one in ((pair, one) for pair in pairs[:1] for one in splits):
        if (found := answers.wins(one, a, b))["id"] is not None:
            return found | {"a": a, "b": b, "split": one.split}
    return None


def _about(c: Config, names: Sequence[str]) -> list[Row]:
    """What each setting is, in a line."""
    stand_in = f"gold in which each decision is right at a rate of {c.stand_in}: no model"
    file = f"the answers of {Path(c.predictions).name}" if c.predictions else stand_in
    return [{"name": name, "text": _line(c.settings[name]) if name in c.settings else file} for name in names]


def _line(one: Setting) -> str:
    if one.stage == "cvo":
        made = f"{one.start}, trained on by GRPO with rewards that check its answers (CVO)"
    elif one.stage == "sft":
        is_plain = one.rows == "answers"
        made = f"{'plain ' * is_plain}fine-tuning of the {one.start} on "
        made += "answers alone" if is_plain else "chains of reasoning and answers (MRSI)"
    else:
        made = f"the {one.start} as it is"
    asked = {"direct": "the answer alone", "mcr": "reasoning, then the answer"}.get(one.prompt, one.prompt)
    only = "" if one.modality == "full" else f"; sees the {one.modality} alone"
    return f"{made}; asked for {asked}{only}"


def _counts(one: Answered, counts: Mapping[str, Sequence[Row]]) -> Row:
    """The table of a split: F1 and counts of every kind that occurs on some split."""
    rows, every = counts[one.split], [row["counts"] for rows in counts.values() for row in rows]
    kinds = [kind for kind in answers.KINDS if any(of[kind] for of in every)]
    cells = [row | {"f1": f"{row['f1']:.1f}", "interval": _interval(row)} for row in rows]
    n_gold = sum(len(example.entities) for example in one.examples)
    values = {"split": one.split, "rows": cells, "kinds": kinds, "n": f"{len(one.examples):,}"}
    about = WORDS["splits"].get(one.split.split("_")[-1]) if one.config.source == "testbed" else ""
    values |= {"n_gold": f"{n_gold:,}", "has_reasoning": any("flawed" in row for row in rows)}
    return values | {"about": about, "metric": catalogue.label(f"{one.task}_f1")}


def _packed(
    loaded: Loaded, every: Sequence[Answered], pairs: Sequence[tuple[str, str]], has_pictures: bool
) -> str:
    """All that the browser shows, as JSON in gzip in base64: no text of a tweet can end the script."""
    numbers: dict[str, int | None] = {}
    pictures: list[str] = []

    def with_picture(example: Example, row: Row) -> Row:
        if not has_pictures or not example.images:
            return row
        if (path := example.images[0]) not in numbers:
            picture = _picture(_moved(Path(path), loaded), is_real=loaded.config.source != "testbed")
            numbers[path] = len(pictures) if picture else None
            pictures.extend([picture] if picture else [])
        return row | {"picture": numbers[path]}

    sets = []
    for one in every:
        title = WORDS["probes"].get(one.probe, one.probe) or "original"
        tweets = [with_picture(*pair) for pair in answers.tweets(one)]
        sets.append({"split": one.split, "probe": one.probe, "title": title, "tweets": tweets})
    for name in (name for name, one in loaded.config.settings.items() if one.stage == "cvo"):
        if tweets := [with_picture(*pair) for pair in answers.rollouts(loaded, name)]:
            head = {"split": f"rollouts of {name}", "probe": "", "title": "original"}
            sets.append(head | {"tweets": tweets})
    names = list(every[0].files)
    a, b = pairs[0] if pairs else (names[0], "")
    data = {
        "sets": sets, "pictures": pictures, "kinds": answers.KINDS, "flaws": WORDS["flaws"],
        "colours": colours(names), "outcomes": [WORDS["outcomes"][kind] for kind in answers.KINDS],
        "start": {"s": every[0].split, "p": "", "a": a, "b": b, "show": "differ" if b else "all"},
    }  # fmt: skip
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(errors="replace"), 6, mtime=0)).decode()


def _moved(path: Path, loaded: Loaded) -> Path:
    """The path of a picture, in the run folder if that was moved since."""
    if path.is_file() or "data" not in path.parts:
        return path
    at = len(path.parts) - 1 - path.parts[::-1].index("data")
    return loaded.folder.joinpath(*path.parts[at:])


def _picture(path: Path, *, is_real: bool) -> str:
    """A small copy of a picture as a data address; empty if it is not there."""
    from PIL import Image

    from mcr_lib.data.images import open_image

    if not path.is_file():
        return ""
    image, file = open_image(path), io.BytesIO()
    image.thumbnail((240, 240))
    if is_real:
        image.save(file, "JPEG", quality=60)
    else:
        image.quantize(16, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(file, "PNG")
    return f"data:image/{'jpeg' if is_real else 'png'};base64,{base64.b64encode(file.getvalue()).decode()}"


def _figures(folder: RunFolder, splits: Sequence[Answered], every: Sequence[Answered], pairs: Any) -> Row:
    """The figures of each fold, with what to look for and the verdict where it can be computed."""
    paths = {path.stem: path for path in sorted(folder.figures.glob("*.png"))}
    shown = [name for name in FIGURES if name in paths][:MAX_FIGURES]
    folds: dict[str, list[Row]] = {}
    for fold, of_fold in WORDS["folds"].items():
        for name in (name for name in of_fold if name in shown):
            metrics = of_fold[name].get("metrics", ()) if pairs else ()
            rows = [_metric(every, splits, metric, pairs) for metric in metrics]
            verdicts = [one for row in rows for one in _verdict(row)]
            look = {"look": of_fold[name]["look"], "verdicts": verdicts}
            folds.setdefault(fold, []).append(look | _image(paths[name]))
    return {"folds": folds, "n_others": len(paths) - len(shown)}


def _metric(every: Sequence[Answered], splits: Sequence[Answered], metric: str, pairs: Any) -> Row | None:
    if metric == "consistency":
        return answers.consistency(every, *pairs[0])
    return answers.difference(splits[0], *pairs[-1 if metric == "faithful" else 0], metric)


def _image(path: Path) -> Row:
    """Data and width of a figure in few colours; figures have 150 pixels an inch, pages 96."""
    from PIL import Image

    file = io.BytesIO()
    with Image.open(path) as image:
        width = image.width
        image.convert("RGB").quantize(COLOURS).save(file, "PNG")
    return {"width": round(width / 1.5), "data": base64.b64encode(file.getvalue()).decode()}


def _origins(folder: RunFolder, loaded: Loaded) -> Row:
    """Where the run comes from: training, notebooks, signatures, machine, configuration."""
    manifest = artifacts.read_manifest(folder)
    results = read_text(folder.results).splitlines() if folder.results.is_file() else ()
    notebooks, columns = manifest["notebooks"].items(), ("status", "started", "seconds")
    seconds = [entry["seconds"] for _, entry in notebooks if entry.get("status") == "done"]
    commit = (manifest.get("commit") or "unknown")[:12]
    changes = " with changes" if manifest.get("uncommitted_changes") else ""
    summary = f"profile {loaded.profile} · {len(seconds)} notebooks in {sum(seconds):,.0f} s"
    machine = {k: manifest[k] for k in _MACHINE if manifest.get(k) is not None} | manifest.get("packages", {})
    listed = [{"notebook": name} | {k: entry.get(k, "") for k in columns} for name, entry in notebooks]
    for row in listed:
        is_there = (folder.notebooks / f"{row['notebook']}.html").is_file()
        row["href"] = f"notebooks/{row['notebook']}.html" if is_there else ""
    return {
        "summary": f"{summary} · {manifest.get('n_cpus')} CPUs · commit {commit}{changes}",
        "signatures": list(dict.fromkeys(row["signature"] for row in csv.DictReader(results))),
        "has_results": bool(results), "training": _training(folder, [*loaded.config.settings]),
        "notebooks": listed, "configuration": loaded.rows(),
        "machine": [{"what": key, "value": value} for key, value in machine.items()],
    }  # fmt: skip


def _training(folder: RunFolder, settings: Sequence[str]) -> list[Row]:
    rows = []
    for name in settings:
        path = folder.setting(name) / cache.FINGERPRINT
        record = json.loads(read_text(path)) if path.is_file() else {}
        if record.get("status") == "done":
            one = record["setting"]
            row = {"setting": name, "starts from": one.get("start", "the backbone"), "stage": one["stage"]}
            rows.append(row | {column: record[key] for column, key in _TRAINING.items()})
    return rows
