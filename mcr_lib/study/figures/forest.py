"""Dots with intervals, one value per line: settings above rules that look at nothing (n = tweets)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mcr_lib.study.catalogue import CATALOGUE
from mcr_lib.study.figures import palette
from mcr_lib.study.figures.palette import Panels, Rows, panels, unique

Row = Mapping[str, Any]
_BESIDE = {"xytext": (8, 0), "textcoords": "offset points", "fontsize": 8, "va": "center"}  # right of a point
_HOLLOW = {"markerfacecolor": "white"}
_OF_PAIR = ("gmner_f1", "false_grounding", "missed_grounding", "image_caused_foreign_rate",
    "image_caused_foreign_rate_muted", "consistency", "n_f1", "n_rate", "foreign_rate")  # fmt: skip
_SIGNS = {"old box": "something not shown gets the old box: textual bias, %",
    "old name": "the old name is written: visual bias, %"}  # fmt: skip


def _dot(ax: Axes, y: float, value: float | None, ends: Sequence[float | None], **style: Any) -> None:
    """Draw a value on line `y`, and a line between the `ends` of its interval unless they are `None`."""
    if value is None:
        ax.text(0, y, "undefined", fontsize=7, color=palette.MEDIUM, va="center")
        return
    if None not in ends:
        ax.plot(ends, [y, y], color=style["color"], linewidth=1.5, marker="|", markersize=5)
    ax.plot(value, y, **{"marker": "o", "markersize": 5.5, "clip_on": False, **style})


def _lines(names: Sequence[str], n: int, width: float, title: str, **options: Any) -> Panels:
    figure, axes = panels(n, (width, 1.2 + 0.34 * len(names)), title, sharey=True, **options)
    for ax in axes:
        palette.name_lines(ax, names)
    return figure, axes


def _legend(figure: Figure, full: str, hollow: str) -> None:
    style = {"marker": "o", "linestyle": "", "color": "black"}
    handles = [Line2D([], [], label=full, **style), Line2D([], [], label=hollow, **style, **_HOLLOW)]
    figure.legend(handles=handles, loc="outside right center")


def rates(rows: Rows, *, metrics: Sequence[str], n: int, title: str, hard: bool = False) -> Figure:
    """A panel per metric, a line per setting and rule, the hard subset hollow (`bias.grounding_rows`)."""
    lines = [row for row in rows if row["entities"] == "all"]
    of_hard = {(row["name"], row["kind"]): row for row in rows if row["entities"] == "hard"}
    title = f"{title} (n = {n:,}, single run, 95 % intervals over tweets)"
    settings = [row["name"] for row in lines if row["kind"] == "setting"]
    rules = [row["name"] for row in lines if row["kind"] != "setting"]
    styles = [{"color": palette.setting(name, settings)} for name in settings]
    styles += [{"color": palette.DARK, "marker": "x"}] * len(rules)
    figure, axes = _lines([*settings, *(f"rule: {name}" for name in rules)], len(metrics), 3.1, title)
    for ax, key in zip(axes, metrics, strict=True):
        ax.axhline(len(settings) - 0.5, color=palette.GREY, linewidth=0.8)
        for y, (row, style) in enumerate(zip(lines, styles, strict=True)):
            _dot(ax, y - 0.14 * hard, row[key], (row[f"{key}_low"], row[f"{key}_high"]), **style)
            if hard:
                other = of_hard[row["name"], row["kind"]]
                ends = other[f"{key}_low"], other[f"{key}_high"]
                _dot(ax, y + 0.18, other[key], ends, **style, **_HOLLOW)
        ax.set(xlim=(-4, 104), xticks=range(0, 101, 25), xlabel=CATALOGUE[key].axis)
    if hard:
        n_hard = next((row["tweets"] for row in of_hard.values()), 0)
        _legend(figure, "all entities", f"hard subset ({n_hard:,} tweets)")
    return figure


def image_caused(rows: Rows) -> Figure:
    """Foreign names at the real and at a blank image, a panel per text (`bias.image_caused_rows`)."""
    texts, names = unique(rows, "text"), unique(rows, "name")
    title = "Names of which the text has no word, at the real and at a blank image (single run)"
    figure, axes = _lines(names, len(texts), 4.8, title)
    for ax, text in zip(axes, texts, strict=True):
        of_text = [row for row in rows if row["text"] == text]
        x = max(1.0, *(row[key] for row in of_text for key in ("rate real", "rate blank")))
        for row in of_text:
            y, style = names.index(row["name"]), {"color": palette.setting(row["name"], names)}
            _dot(ax, y, row["rate real"], (row["rate blank"], row["rate real"]), **style)
            _dot(ax, y, row["rate blank"], (None, None), **style, **_HOLLOW)
            ax.annotate("{difference:+.1f} ({ci_low:.1f} to {ci_high:.1f})".format(**row), (x, y), **_BESIDE)
        xlim, ticks = (-0.03 * x, 1.75 * x), [tick for tick in ax.get_xticks() if 0 <= tick <= x]
        ax.set(xlim=xlim, xticks=ticks, xlabel="foreign names, %   (written: image-caused part, 95 %)")
        ax.set_title(f"text {text} (n = {max(row['tweets'] for row in of_text):,} tweets)")
    _legend(figure, "real image", "blank image")
    return figure


def renamed(rows: Rows) -> Figure:
    """After renaming, the share of tweets with the old box and with the old name (`bias.rename_rows`)."""
    names = unique(rows, "name")
    title = "One shown entity renamed to a name that the image does not show (single run, 95 %)"
    figure, axes = _lines(names, len(_SIGNS), 4.6, title)
    for ax, (sign, label) in zip(axes, _SIGNS.items(), strict=True):
        for row in (row for row in rows if row["sign"] == sign):
            y, colour = names.index(row["name"]), palette.setting(row["name"], names)
            _dot(ax, y, row["share"], (row["ci_low"], row["ci_high"]), color=colour)
            ax.annotate(f"{row['count']} of {row['tweets']}", (row["ci_high"], y), **_BESIDE)
        ax.set(xlim=(-3, 128), xticks=range(0, 101, 25), xlabel=label)
    return figure


def over_seeds(scores: Row) -> Figure:
    """GMNER F1 of every setting over seeds, a panel per split (`compare.evidence.summary`)."""
    rows, names = [row for row in scores["rows"] if row["metric"] == "gmner_f1"], scores["settings"]
    n_seeds = {name: max((r["n_seeds"] for r in rows if r["setting"] == name), default=0) for name in names}
    labels = [f"{name} ({n})" for name, n in n_seeds.items()]
    dots = [(names.index(r["setting"]), r, {"color": palette.setting(r["setting"], names)}) for r in rows]
    title = "Every setting (seeds); line: 95 % interval over seeds and tweets"
    return _by_split(scores, labels, dots, 2.9, title, CATALOGUE["gmner_f1"].axis)


def differences(scores: Row) -> Figure:
    """The compared pair, a panel per split, a line per metric (`compare.evidence.summary`)."""
    first, second = scores["pair"]
    metrics = [metric for metric in _OF_PAIR if metric in unique(scores["comparisons"], "metric")]
    better = {1: "more is better", -1: "less is better"}
    labels = [f"{CATALOGUE[metric].label} ({better[CATALOGUE[metric].better]})" for metric in metrics]
    dots = []
    for row in (row for row in scores["comparisons"] if row["metric"] in metrics):
        fill = {} if row["verdict"] in ("shown", "the opposite is shown") else _HOLLOW
        colour = palette.DIFFERENCES[int(np.sign(row["mean"])) * row["better"]]
        dots.append((metrics.index(row["metric"]), row, {"color": colour, **fill}))
    full = "filled = every seed agrees and the interval excludes 0"
    title = f"{first} − {second}: blue better, red worse; {full}; line: 95 % interval over seeds and tweets"
    figure = _by_split(scores, labels, dots, 3.2, title, f"{first} − {second}, points")
    for ax in figure.axes:
        ax.axvline(0, color=palette.DARK, linewidth=0.8)
    return figure


def _by_split(scores: Row, labels: list[str], dots: list, width: float, title: str, xlabel: str) -> Figure:
    """A panel per split: dots (line, row, style) at the means over seeds, each seed as a faint dot below."""
    figure, axes = _lines(labels, len(scores["splits"]), width, title, sharex=True)
    for ax, split in zip(axes, scores["splits"], strict=True):
        for y, row, style in (dot for dot in dots if dot[1]["split"] == split):
            _dot(ax, y, row["mean"], (row["ci_low"], row["ci_high"]), **style)
            seeds = list(row["per_seed"].values())
            ax.scatter(seeds, [y + 0.25] * len(seeds), s=9, color=style["color"], alpha=0.55, linewidths=0)
        ax.set(title=f"{split} (n = {scores['n_tweets'][split]:,})", xlabel=xlabel)
    return figure


def seed_values(rows: Rows) -> Rows:
    """Rows of scores as the values of a figure: one column per seed."""
    seeds = [{f"seed {seed}": value for seed, value in row["per_seed"].items()} for row in rows]
    others = [{key: value for key, value in row.items() if key != "per_seed"} for row in rows]
    return [row | values for row, values in zip(others, seeds, strict=True)]
