"""`report.html`: one page that needs no other file, made from the files of the run folder alone. Its words
are in `report.yaml` and `report.html.j2`, its browser of tweets in `report.js`.
"""

import base64
import csv
import gzip
import io
import json
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from mcr_lib.data.files import read_text, write_text
from mcr_lib.schema import Example
from mcr_lib.study import catalogue, render
from mcr_lib.study.commands import arguments
from mcr_lib.study.figures import palette
from mcr_lib.study.runs import artifacts, cache
from mcr_lib.study.runs.artifacts import RunFolder
from mcr_lib.study.runs.config import Loaded
from mcr_lib.study.runs.model_card import TESTBED_NOTE
from mcr_lib.study.tables import answers
from mcr_lib.study.tables.answers import Answered

Row = dict[str, Any]
Pairs = Sequence[tuple[str, str]]
_HERE = Path(__file__).parent
WORDS: Row = yaml.safe_load(read_text(_HERE / "report.yaml"))
FIGURES: dict[str, Row] = {name: one for fold in WORDS["folds"].values() for name, one in fold.items()}
MAX_FIGURES, COLOURS = 12, 64  # figures of a page, and colours of each
NO_FLAW = "reasoning does not state the answer"  # also in report.js
VERDICTS = {1: "better", 0: "cannot be told", -1: "worse"}
OUTCOMES = ("right", "wrong", "invented", "lost")  # `palette.KINDS` as report.css calls them
_MACHINE = ("python", "platform", "n_cpus", "memory_gb", "gpu", "threads", "commit", "uncommitted_changes")


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
    write_text(folder.report, text)
    return folder.report


def page(folder: RunFolder, loaded: Loaded, *, pictures: bool = False) -> str:
    """The report as HTML."""
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup

    (every, refused), is_real = answers.collect(loaded), loaded.config.source != "testbed"
    splits = [one for one in every if not one.probe]
    names, pairs = list(dict.fromkeys(name for one in splits for name in one.files)), _pairs(splits)
    metric = f"{splits[0].task}_f1" if splits else ""
    rows = {pair: [answers.difference(one, *pair, metric) for one in splits] for pair in pairs}
    forest = {pair: [row for row in of_pair if row] for pair, of_pair in rows.items()}
    drawn = [answers.wins(one, *pairs[0]) for one in splits if {*pairs[0]} <= {*one.files}] if pairs else []
    counts = {one.split: answers.count_rows(one) for one in splits}
    kinds = {kind for of in counts.values() for row in of for kind, n in row["counts"].items() if n}
    paths = {path.stem: path for path in sorted(folder.figures.glob("*.png"))}
    results = read_text(folder.results) if folder.results.is_file() else ""
    records = {name: folder.setting(name) / cache.FINGERPRINT for name in loaded.config.settings}
    values = {
        "folder": folder, "c": loaded.config, "profile": loaded.profile, "words": WORDS, "is_real": is_real,
        "note": "" if is_real else TESTBED_NOTE, "pictures": pictures, "names": names, "pairs": pairs,
        "metric": catalogue.label(metric), "forest": forest, "counts": counts, "splits": splits,
        "drawn": next((one for one in drawn if one["id"] is not None), None), "refused": refused,
        "kinds": [kind for kind in answers.KINDS if kind in kinds], "no_flaw": NO_FLAW,
        "colours": colours(names), "folds": _folds(paths, every, pairs), "n_figures": len(paths),
        "blob": _packed(loaded, every, pairs, has_pictures=pictures or not is_real) if every else "",
        "manifest": artifacts.read_manifest(folder), "machine": _MACHINE, "configuration": loaded.rows(),
        "records": {n: json.loads(read_text(path)) for n, path in records.items() if path.is_file()},
        "results": [*csv.DictReader(results.splitlines())],
        "css": Markup(style()), "js": Markup(read_text(_HERE / "report.js")),
        "table": lambda rows: Markup(render.html(rows)), "to": lambda **where: "#" + urlencode(where),
    }  # fmt: skip
    how = {"trim_blocks": True, "lstrip_blocks": True, "autoescape": True}
    environment = Environment(loader=FileSystemLoader(_HERE), **how)
    environment.filters |= {"num": number, "signed": lambda v: "+" * (round(v, 1) > 0) + number(v)}
    environment.filters |= {"word": VERDICTS.get}
    return environment.get_template("report.html.j2").render(values)


def number(value: float) -> str:
    """One decimal, rounded from the two of `results.csv`; a true minus and no negative zero."""
    return f"{round(round(value, 2), 1) or 0.0:.1f}".replace("-", "−")


def colours(names: Sequence[str]) -> dict[str, str]:
    """Setting -> the name of its colour in `style`."""
    others, n = [name for name in names if name not in palette.SETTINGS], len(palette.OTHER_SETTINGS)
    return {name: f"other-{others.index(name) % n}" if name in others else name for name in names}


def style() -> str:
    """report.css after the colours of the figures as its variables, in the light scheme and in the dark."""
    others, inks = (f"other-{k}" for k in range(len(palette.OTHER_SETTINGS))), (f"{o}-ink" for o in OUTCOMES)
    names = (*palette.SETTINGS, *others, *OUTCOMES, *inks, "claimed", "light")
    settings, greys = (*palette.SETTINGS.values(), *palette.OTHER_SETTINGS), (palette.MEDIUM, palette.LIGHT)
    light = (*settings, *palette.KINDS.values(), *palette.KINDS_INK, *greys)
    dark = (*palette.DARK_SETTINGS, *palette.DARK_KINDS, *palette.DARK_KINDS, *greys)
    schemes = (zip(names, of, strict=True) for of in (light, dark))
    day, night = (" ".join(f"--{name}: {colour};" for name, colour in of) for of in schemes)
    css = f":root, .card svg {{ {day} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {night} }} }}\n"
    return css + read_text(_HERE / "report.css")


def _pairs(splits: Sequence[Answered]) -> Pairs:
    """The settings to compare: MCR with plain fine-tuning and with MRSI, else the last with the first."""
    names = list(splits[0].files) if splits else []
    known = [("mcr", other) for other in ("sft", "mrsi") if {"mcr", other} <= {*names}]
    return known or ([(names[-1], names[0])] if len(names) > 1 else [])


def _packed(loaded: Loaded, every: Sequence[Answered], pairs: Pairs, *, has_pictures: bool) -> str:
    """All that the browser shows, as JSON in gzip in base64: no text of a tweet can end the script."""
    numbers: dict[str, int] = {}  # path of a picture -> its place

    def shown(example: Example, row: Row) -> Row:
        if has_pictures and example.images:
            row["picture"] = numbers.setdefault(example.images[0], len(numbers))
        return row

    sets = []
    for one in every:
        head = {"split": one.split, "probe": one.probe, "title": WORDS["probes"].get(one.probe, one.probe)}
        sets.append(head | {"tweets": [shown(*pair) for pair in answers.tweets(one)]})
    for name in (name for name, one in loaded.config.settings.items() if one.stage == "cvo"):
        if groups := [shown(*pair) for pair in answers.rollouts(loaded, name)]:
            sets.append({"split": f"rollouts of {name}", "probe": "", "title": "", "tweets": groups})
    names = list(every[0].files)
    a, b = pairs[0] if pairs else (names[0], "")
    data = {
        "sets": sets, "pictures": [_picture(Path(path), loaded) for path in numbers], "kinds": answers.KINDS,
        "outcomes": [WORDS["outcomes"][kind] for kind in answers.KINDS], "flaws": WORDS["flaws"],
        "start": {"s": every[0].split, "p": "", "a": a, "b": b, "show": "differ" if b else "all"},
        "colours": colours(names),
    }  # fmt: skip
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(errors="replace"), 6, mtime=0)).decode()


def _picture(path: Path, loaded: Loaded) -> str:
    """A small copy of a picture as a data address, also of a run folder that was moved; empty without it."""
    from PIL import Image

    from mcr_lib.data.images import open_image

    if not path.is_file() and "data" in path.parts:
        at = len(path.parts) - 1 - path.parts[::-1].index("data")
        path = loaded.folder.joinpath(*path.parts[at:])
    if not path.is_file():
        return ""
    image = open_image(path)
    image.thumbnail((240, 240))
    if loaded.config.source == "testbed":
        image = image.quantize(8, dither=Image.Dither.NONE)
        return _address(image, "PNG", compress_level=7)
    return _address(image, "JPEG", quality=60)


def _address(image: Any, form: str, **how: Any) -> str:
    image.save(file := io.BytesIO(), form, **how)
    return f"data:image/{form.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def _folds(paths: dict[str, Path], every: Sequence[Answered], pairs: Pairs) -> dict[str, list[Row]]:
    """Fold -> its figures in few colours: width, what to look for, differences where they can be computed.

    Figures have 150 pixels an inch, pages 96.
    """
    from PIL import Image

    shown, folds = [name for name in FIGURES if name in paths][:MAX_FIGURES], {}
    for fold, name in ((fold, name) for fold, of in WORDS["folds"].items() for name in of if name in shown):
        metrics, rows = FIGURES[name].get("metrics", ()) if pairs else (), []
        for metric in metrics:
            pair = pairs[-1 if metric == "faithful" else 0]
            splits = [one for one in every if not one.probe] if metric == "faithful" else every[:1]
            probed = [one for one in every if one.probe]
            rows += [answers.difference(one, *pair, metric, probed) for one in splits]
        with Image.open(paths[name]) as image:
            figure = {"width": round(image.width / 1.5), "look": FIGURES[name]["look"]}
            figure["data"] = _address(image.convert("RGB").quantize(COLOURS), "PNG", compress_level=7)
        folds.setdefault(fold, []).append(figure | {"rows": [row for row in rows if row]})
    return folds
