"""Dots with intervals, one value per line: settings above rules that look at nothing (n = tweets)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mcr_lib.bias import ABSENT
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


def _with_rules(rows: Rows, n: int, width: float, title: str) -> tuple[Figure, list[Axes], list[dict]]:
    settings = [row["name"] for row in rows if row["kind"] == "setting"]
    rules = [f"rule: {row['name']}" for row in rows if row["kind"] != "setting"]
    figure, axes = _lines([*settings, *rules], n, width, title)
    for ax in axes:
        ax.axhline(len(settings) - 0.5, color=palette.GREY, linewidth=0.8)
    styles = [{"color": palette.setting(name, settings)} for name in settings]
    return figure, axes, styles + [{"color": palette.DARK, "marker": "x"}] * len(rules)


def _interval(row: Row, key: str) -> tuple[float | None, float | None]:
    return row[f"{key}_low"], row[f"{key}_high"]


def _legend(figure: Figure, full: str, hollow: str) -> None:
    style = {"marker": "o", "linestyle": "", "color": "black"}
    handles = [Line2D([], [], label=full, **style), Line2D([], [], label=hollow, **style, **_HOLLOW)]
    figure.legend(handles=handles, loc="outside right center")


def rates(rows: Rows, *, metrics: Sequence[str], n: int, title: str, hard: bool = False) -> Figure:
    """A panel per metric, a line per setting and rule, the hard subset hollow (`bias.grounding_rows`)."""
    lines = [row for row in rows if row["entities"] == "all"]
    of_hard = {(row["name"], row["kind"]): row for row in rows if row["entities"] == "hard"}
    title = f"{title} (n = {n:,}, single run, 95 % intervals over tweets)"
    figure, axes, styles = _with_rules(lines, len(metrics), 3.1, title)
    for ax, key in zip(axes, metrics, strict=True):
        for y, (row, style) in enumerate(zip(lines, styles, strict=True)):
            _dot(ax, y - 0.14 * hard, row[key], _interval(row, key), **style)
            if hard:
                other = of_hard[row["name"], row["kind"]]
                _dot(ax, y + 0.18, other[key], _interval(other, key), **style, **_HOLLOW)
        ax.set(xlim=(-4, 104), xticks=range(0, 101, 25), xlabel=CATALOGUE[key].axis)
    if hard:
        n_hard = next((row["tweets"] for row in of_hard.values()), 0)
        _legend(figure, "all entities", f"hard subset ({n_hard:,} tweets)")
    return figure


def naming(rows: Rows, *, n: int) -> Figure:
    """N-Rate of each setting and rule, with N-Count and its parts beside it (`bias.naming_rows`)."""
    title = f"Names that are not in the text (n = {n:,} tweets, single run, 95 % intervals)"
    figure, (ax,), styles = _with_rules(rows, 1, 6.4, title)
    highest = [max(row["n_rate"] or 0, row["n_rate_high"] or 0) for row in rows]
    for y, (row, style) in enumerate(zip(rows, styles, strict=True)):
        text = "no prediction"
        if row["n_predictions"]:
            _dot(ax, y, row["n_rate"], _interval(row, "n_rate"), **style)
            parts = ", ".join(f"{row[kind]:,} {kind}" for kind in ABSENT if row[kind])
            text = f"N-Count {row['n_count']:,} of {row['n_predictions']:,}" + f": {parts}" * bool(parts)
        ax.annotate(text, (highest[y], y), **_BESIDE)
    x = max(1, *highest)
    ax.set(xlim=(-0.02 * x, 1.8 * x), xlabel="N-Rate: names that the text does not hold, % (0 is right)")
    ax.set_xticks([tick for tick in ax.get_xticks() if 0 <= tick <= min(100, 1.8 * x)])
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


def groundings(rows: Rows, *, blind: Rows = (), n: int) -> Figure:
    """False against missed grounding of settings (`comparison.grounding_rows`) and rules (`blind_rows`)."""
    figure, (ax,) = panels(1, (6.2, 4.5), f"Grounding where the span is right (n = {n:,}, single run)")
    ax.plot([0, 100], [100, 0], color=palette.DARK, linestyle=":", linewidth=1)
    ax.text(72, 28, "all entities alike", rotation=-45, ha="center", va="bottom", fontsize=8)
    for k, row in enumerate(blind):
        x, y = row["false_grounding"], row["missed_grounding"]
        ax.plot(x, y, "x", color=palette.DARK, markersize=6, clip_on=False)
        place = (7, -9) if y > 50 else (7, 4 + 10 * (k % 3))
        ax.annotate(row["rule"], (x, y), place, textcoords="offset points", fontsize=7)
    for k, row in enumerate(rows):
        x, y = row["false_grounding"], row["missed_grounding"]
        if x is not None and y is not None:
            colour = palette.setting(row["setting"], unique(rows, "setting"))
            size = 12 - 8 * k / max(1, len(rows) - 1)  # dots that coincide are drawn within each other
            ax.plot(x, y, "o", color=colour, markersize=size, label=row["setting"], clip_on=False)
            ax.plot(_interval(row, "false_grounding"), [y, y], color=colour)
            ax.plot([x, x], _interval(row, "missed_grounding"), color=colour)
    ax.set(xlim=(-2, 102), ylim=(-2, 102), aspect=1, xlabel="false grounding: boxed / not in the image, %")
    ax.set_ylabel("missed grounding: no box / in the image, %")
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
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
