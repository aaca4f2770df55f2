"""Dots with intervals: one value per line, settings above rules that look at nothing.

Args that recur: `n` is the number of tweets, for the title.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mcr_lib.study.figures import palette
from mcr_lib.study.figures.palette import Rows, unique
from mcr_lib.study.tables.catalogue import CATALOGUE

Ends = Sequence[float | None]

_OF_PAIR = (
    "gmner_f1", "false_grounding", "missed_grounding", "image_caused_n_rate", "image_caused_n_rate_muted",
    "consistency", "n_f1", "n_rate",
)  # fmt: skip
"""Metrics of the comparison of two settings over seeds, in the order of its lines."""
_SIGNS = {
    "old box": "something not shown gets the old box: textual bias, %",
    "old name": "the old name is written: visual bias, %",
}


def dot(
    ax: Axes,
    y: float,
    value: float | None,
    ends: Ends,
    colour: str,
    marker: str = "o",
    *,
    is_full: bool = True,
) -> None:
    """Draw a value on line `y`, and a line between the `ends` of its interval unless they are `None`."""
    if value is None:
        ax.text(0, y, "undefined", fontsize=7, color=palette.MEDIUM, va="center")
        return
    if None not in ends:
        ax.plot(ends, [y, y], color=colour, linewidth=1.5, marker="|", markersize=5)
    style = {"markersize": 5.5, "markerfacecolor": colour if is_full else "white", "clip_on": False}
    ax.plot(value, y, marker=marker, color=colour, **style)


def _lines(
    names: Sequence[str], n: int, width: float, title: str, **options: Any
) -> tuple[Figure, list[Axes]]:
    """A figure of n panels with one line per name."""
    size = (width, 1.2 + 0.34 * len(names))
    figure, axes = palette.panels(n, size, title, sharey=True, **options)
    for ax in axes:
        palette.name_lines(ax, names)
    return figure, axes


def _with_rules(
    rows: Rows, n: int, width: float, title: str
) -> tuple[Figure, list[Axes], list[tuple[str, str]]]:
    """`_lines` of settings and of rules that look at nothing, with the colour and marker of each."""
    settings = [row["name"] for row in rows if row["kind"] == "setting"]
    rules = [f"rule: {row['name']}" for row in rows if row["kind"] != "setting"]
    figure, axes = _lines([*settings, *rules], n, width, title)
    for ax in axes:
        ax.axhline(len(settings) - 0.5, color=palette.GREY, linewidth=0.8)
    looks = [(palette.setting(name, settings), "o") for name in settings]
    return figure, axes, looks + [(palette.DARK, "x")] * len(rules)


def _ends(row: Mapping[str, Any], key: str) -> Ends:
    return row[f"{key}_low"], row[f"{key}_high"]


def _write(ax: Axes, x: float, y: float, text: str) -> None:
    """Write a text to the right of a point."""
    ax.annotate(text, (x, y), (8, 0), textcoords="offset points", fontsize=8, va="center")


def _legend(figure: Figure, full: str, hollow: str) -> None:
    style = {"marker": "o", "linestyle": "", "color": "black"}
    handles = [Line2D([], [], label=full, **style)]
    handles.append(Line2D([], [], label=hollow, markerfacecolor="white", **style))
    figure.legend(handles=handles, loc="outside right center")


def rates(rows: Rows, *, metrics: Sequence[str], n: int, title: str, hard: bool = False) -> Figure:
    """A panel per metric, a line per setting and per rule that looks at nothing; 95 % intervals
    (`bias.grounding_rows`).

    Args:
        metrics: keys of the catalogue.
        hard: also draw the hard subset, hollow.
    """
    lines = [row for row in rows if row["entities"] == "all"]
    of_hard = {(row["name"], row["kind"]): row for row in rows if row["entities"] == "hard"}
    title = f"{title} (n = {n:,}, single run, 95 % intervals over tweets)"
    figure, axes, looks = _with_rules(lines, len(metrics), 3.1, title)
    for ax, key in zip(axes, metrics, strict=True):
        for y, (row, look) in enumerate(zip(lines, looks, strict=True)):
            dot(ax, y - 0.14 * hard, row[key], _ends(row, key), *look)
            if hard:
                other = of_hard[row["name"], row["kind"]]
                dot(ax, y + 0.18, other[key], _ends(other, key), *look, is_full=False)
        ax.set(xlim=(-4, 104), xticks=range(0, 101, 25), xlabel=CATALOGUE[key].axis)
    if hard:
        n_hard = next((row["tweets"] for row in of_hard.values()), 0)
        _legend(figure, "all entities", f"hard subset ({n_hard:,} tweets)")
    return figure


def naming(rows: Rows, *, n: int) -> Figure:
    """N-Rate of each setting and rule, with N-Count beside it (`bias.naming_rows`)."""
    title = f"Names that are not in the text (n = {n:,} tweets, single run, 95 % intervals)"
    figure, (ax,), looks = _with_rules(rows, 1, 6.4, title)
    highest = [max(row["n_rate"] or 0, row["n_rate_high"] or 0) for row in rows]
    for y, (row, look) in enumerate(zip(rows, looks, strict=True)):
        if row["n_predictions"]:
            dot(ax, y, row["n_rate"], _ends(row, "n_rate"), *look)
        count = f"N-Count {row['n_count']:,} of {row['n_predictions']:,}"
        _write(ax, highest[y], y, count if row["n_predictions"] else "no prediction")
    right = max(1, *highest)
    xlabel = "N-Rate: names of which the text has no word, % (0 is right)"
    ax.set(xlim=(-0.02 * right, 1.5 * right), xlabel=xlabel)
    return figure


def image_caused(rows: Rows) -> Figure:
    """N-Rate at the real image (full) and at a blank one (hollow), a panel per text, with the difference
    (`bias.image_caused_rows`).
    """
    texts, names = unique(rows, "text"), unique(rows, "name")
    title = "Names of which the text has no word, at the real and at a blank image (single run)"
    figure, axes = _lines(names, len(texts), 4.8, title)
    for ax, text in zip(axes, texts, strict=True):
        of_text = [row for row in rows if row["text"] == text]
        right = max(1.0, *(row[key] for row in of_text for key in ("n_rate real", "n_rate blank")))
        for row in of_text:
            y, colour = names.index(row["name"]), palette.setting(row["name"], names)
            dot(ax, y, row["n_rate real"], (row["n_rate blank"], row["n_rate real"]), colour)
            dot(ax, y, row["n_rate blank"], (None, None), colour, is_full=False)
            _write(ax, right, y, f"{row['difference']:+.1f} ({row['ci_low']:.1f} to {row['ci_high']:.1f})")
        ticks = [tick for tick in ax.get_xticks() if 0 <= tick <= right]
        ax.set(xlim=(-0.03 * right, 1.75 * right), xticks=ticks)
        ax.set(xlabel="N-Rate, %   (written: image-caused part, 95 %)")
        ax.set_title(f"text {text} (n = {max(row['tweets'] for row in of_text):,} tweets)")
    _legend(figure, "real image", "blank image")
    return figure


def renamed(rows: Rows) -> Figure:
    """After renaming, the share of tweets that put a box where the old one was, and that write the old name
    (`bias.rename_rows`).
    """
    names = unique(rows, "name")
    title = "One shown entity renamed to a name that the image does not show (single run, 95 %)"
    figure, axes = _lines(names, len(_SIGNS), 4.6, title)
    for ax, (sign, label) in zip(axes, _SIGNS.items(), strict=True):
        for row in (row for row in rows if row["sign"] == sign):
            y, colour = names.index(row["name"]), palette.setting(row["name"], names)
            dot(ax, y, row["share"], (row["ci_low"], row["ci_high"]), colour)
            _write(ax, row["ci_high"], y, f"{row['count']} of {row['tweets']}")
        ax.set(xlim=(-3, 128), xticks=range(0, 101, 25), xlabel=label)
    return figure


def groundings(rows: Rows, *, blind: Rows = (), n: int) -> Figure:
    """False against missed grounding of each setting with 95 % intervals, and of rules that look at nothing;
    rules that treat all entities alike are on the dotted line.

    Args:
        rows: of `comparison.grounding_rows`.
        blind: of `comparison.blind_rows`.
    """
    title = f"Grounding where the span is right (n = {n:,}, single run)"
    figure, (ax,) = palette.panels(1, (6.2, 4.5), title)
    ax.plot([0, 100], [100, 0], color=palette.DARK, linestyle=":", linewidth=1)
    ax.text(72, 28, "all entities alike", rotation=-45, ha="center", va="bottom", fontsize=8)
    for k, row in enumerate(blind):
        x, y = row["false_grounding"], row["missed_grounding"]
        ax.plot(x, y, "x", color=palette.DARK, markersize=6, clip_on=False)
        place = (7, -9) if y > 50 else (7, 4 + 10 * (k % 3))
        ax.annotate(row["rule"], (x, y), place, textcoords="offset points", fontsize=7)
    names = unique(rows, "setting")
    for k, row in enumerate(rows):
        x, y = row["false_grounding"], row["missed_grounding"]
        if x is None or y is None:
            continue
        colour = palette.setting(row["setting"], names)
        size = 12 - 8 * k / max(1, len(rows) - 1)  # dots that coincide are drawn within each other
        ax.plot(x, y, "o", color=colour, markersize=size, label=row["setting"], clip_on=False)
        ax.plot(_ends(row, "false_grounding"), [y, y], color=colour)
        ax.plot([x, x], _ends(row, "missed_grounding"), color=colour)
    ax.set(xlim=(-2, 102), ylim=(-2, 102), aspect="equal")
    ax.set_xlabel("false grounding: boxed / not in the image, %")
    ax.set_ylabel("missed grounding: no box / in the image, %")
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def over_seeds(scores: Mapping[str, Any], *, metric: str = "gmner_f1") -> Figure:
    """A metric of every setting over seeds, a panel per split (`compare.seeds.summary`)."""
    rows = [row for row in scores["rows"] if row["metric"] == metric]
    names = scores["settings"]
    n_seeds = {name: max((r["n_seeds"] for r in rows if r["setting"] == name), default=0) for name in names}
    labels = [f"{name} ({n_seeds[name]})" for name in names]
    title = "Every setting (seeds); line: 95 % interval over seeds and tweets"
    figure, axes = _lines(labels, len(scores["splits"]), 2.9, title, sharex=True)
    for ax, split in zip(axes, scores["splits"], strict=True):
        for row in (row for row in rows if row["split"] == split):
            _seeds(ax, names.index(row["setting"]), row, palette.setting(row["setting"], names))
        ax.set(title=f"{split} (n = {scores['n_tweets'][split]:,})", xlabel=CATALOGUE[metric].axis)
    return figure


def differences(scores: Mapping[str, Any]) -> Figure:
    """The compared pair, a panel per split, a line per metric (`compare.seeds.summary`)."""
    first, second = scores["pair"]
    metrics = [metric for metric in _OF_PAIR if metric in unique(scores["comparisons"], "metric")]
    better = {1: "more is better", -1: "less is better"}
    labels = [f"{CATALOGUE[metric].label} ({better[CATALOGUE[metric].better]})" for metric in metrics]
    full = "filled = every seed agrees and the interval excludes 0"
    title = f"{first} − {second}: blue better, red worse; {full}; line: 95 % interval over seeds and tweets"
    figure, axes = _lines(labels, len(scores["splits"]), 3.2, title, sharex=True)
    for ax, split in zip(axes, scores["splits"], strict=True):
        for row in scores["comparisons"]:
            if row["split"] == split and row["metric"] in metrics:
                colour = palette.DIFFERENCES[int(np.sign(row["mean"])) * row["better"]]
                is_full = row["verdict"] in ("shown", "the opposite is shown")
                _seeds(ax, metrics.index(row["metric"]), row, colour, is_full=is_full)
        ax.axvline(0, color=palette.DARK, linewidth=0.8)
        ax.set(title=f"{split} (n = {scores['n_tweets'][split]:,})", xlabel=f"{first} − {second}, points")
    return figure


def _seeds(ax: Axes, y: float, row: Mapping[str, Any], colour: str, *, is_full: bool = True) -> None:
    """The mean over seeds with its interval, and each seed as a faint dot below it."""
    dot(ax, y, row["mean"], (row["ci_low"], row["ci_high"]), colour, is_full=is_full)
    seeds = list(row["per_seed"].values())
    ax.scatter(seeds, [y + 0.25] * len(seeds), s=9, color=colour, alpha=0.55, linewidths=0)


def seed_values(rows: Rows) -> list[dict[str, Any]]:
    """Rows of scores as the values of a figure: one column per seed."""
    return [
        {key: value for key, value in row.items() if key != "per_seed"}
        | {f"seed {seed}": value for seed, value in row["per_seed"].items()}
        for row in rows
    ]
