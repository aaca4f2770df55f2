"""Dots with intervals: one value per line, settings above rules that look at nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mcr_lib.study.figures import palette
from mcr_lib.study.figures.palette import Rows
from mcr_lib.study.tables.catalogue import CATALOGUE

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
    ax: Axes, y: float, value: float | None, ends: Sequence[float | None], colour: str, *,
    marker: str = "o", is_filled: bool = True,
) -> None:  # fmt: skip
    """Draw a value on line `y`, and a line between the `ends` of its interval unless they are `None`."""
    if value is None:
        ax.text(0, y, "undefined", fontsize=7, color=palette.MEDIUM, va="center")
        return
    if None not in ends:
        ax.plot(ends, [y, y], color=colour, linewidth=1.5, marker="|", markersize=5)
    face = colour if is_filled else "white"
    ax.plot(value, y, marker=marker, color=colour, markersize=5.5, markerfacecolor=face, clip_on=False)


def _lines(
    names: Sequence[str], n_panels: int = 1, *, width: float, **options: Any
) -> tuple[Figure, Sequence[Axes]]:
    """A figure of panels with one line per name."""
    size = (2.2 + width * n_panels, 1.5 + 0.34 * len(names))
    figure, axes = plt.subplots(1, n_panels, figsize=size, sharey=True, squeeze=False, **options)
    for ax in axes.flat:
        palette.name_lines(ax, names)
    return figure, axes.flat


def _written(ax: Axes, x: float, y: float, text: str) -> None:
    """Write a text to the right of a point."""
    ax.annotate(text, (x, y), (8, 0), textcoords="offset points", fontsize=8, va="center")


def _settings(rows: Rows) -> list[str]:
    return [row["name"] for row in rows if row["kind"] == "setting"]


def _line_names(rows: Rows) -> list[str]:
    return [row["name"] if row["kind"] == "setting" else f"rule: {row['name']}" for row in rows]


def _look(row: Mapping[str, Any], settings: Sequence[str]) -> dict[str, str]:
    """Colour and marker of a setting, or of a rule that looks at nothing."""
    if row["kind"] == "setting":
        return {"colour": palette.setting(row["name"], settings), "marker": "o"}
    return {"colour": palette.DARK, "marker": "x"}


def _handles(filled: str, hollow: str) -> list[Line2D]:
    style = {"marker": "o", "linestyle": "", "color": "black"}
    return [
        Line2D([], [], label=filled, **style),
        Line2D([], [], label=hollow, markerfacecolor="white", **style),
    ]


def rates(rows: Rows, *, metrics: Sequence[str], n: int, hard: bool = False, title: str = "") -> Figure:
    """A panel per metric, a line per setting and per rule that looks at nothing; 95 % intervals.

    Args:
        rows: of `bias_views.grounding_rows`.
        metrics: keys of the catalogue.
        n: number of tweets.
        hard: also draw the hard subset, hollow.
    """
    lines = [row for row in rows if row["entities"] == "all"]
    of_hard = {(row["name"], row["kind"]): row for row in rows if row["entities"] == "hard"}
    names = _settings(lines)
    figure, axes = _lines(_line_names(lines), len(metrics), width=2.4)
    for ax, key in zip(axes, metrics, strict=True):
        for y, row in enumerate(lines):
            look = _look(row, names)
            dot(ax, y - 0.14 * hard, row[key], _ends(row, key), **look)
            if hard:
                other = of_hard[row["name"], row["kind"]]
                dot(ax, y + 0.18, other[key], _ends(other, key), is_filled=False, **look)
        ax.set(xlim=(-4, 104), xticks=range(0, 101, 25), xlabel=CATALOGUE[key].axis)
        ax.axhline(len(names) - 0.5, color=palette.GREY, linewidth=0.8)
    if hard:
        n_hard = next((row["tweets"] for row in of_hard.values()), 0)
        handles = _handles("all entities", f"hard subset ({n_hard:,} tweets)")
        figure.legend(handles=handles, loc="outside right upper")
    palette.title(figure, f"{title} (n = {n:,}, single run, 95 % intervals over tweets)")
    return figure


def _ends(row: Mapping[str, Any], key: str) -> tuple[float | None, float | None]:
    return row[f"{key}_low"], row[f"{key}_high"]


def naming(rows: Rows, *, n: int) -> Figure:
    """N-Rate of each setting and rule, with N-Count of all predictions beside it (`bias_views.naming_rows`)."""
    names = _settings(rows)
    figure, (ax,) = _lines(_line_names(rows), width=4.2)
    for y, row in enumerate(rows):
        rightmost, count = max(row["n_rate"] or 0, row["n_rate_high"] or 0), "no prediction"
        if row["n_predictions"]:
            dot(ax, y, row["n_rate"], _ends(row, "n_rate"), **_look(row, names))
            count = f"N-Count {row['n_count']:,} of {row['n_predictions']:,}"
        _written(ax, rightmost, y, count)
    right = max([*(row["n_rate_high"] or row["n_rate"] or 0 for row in rows), 1])
    ax.set(
        xlim=(-0.02 * right, right * 1.5),
        xlabel="N-Rate: names of which the text has no word, % (0 is right)",
    )
    ax.axhline(len(names) - 0.5, color=palette.GREY, linewidth=0.8)
    palette.title(figure, f"Names that are not in the text (n = {n:,} tweets, single run, 95 % intervals)")
    return figure


def image_caused(rows: Rows) -> Figure:
    """N-Rate at the real image (full) and at a blank one (hollow), a panel per text, with the difference
    (`bias_views.image_caused_rows`).
    """
    texts, names = (list(dict.fromkeys(row[key] for row in rows)) for key in ("text", "name"))
    figure, axes = _lines(names, len(texts), width=4.0)
    for ax, text in zip(axes, texts, strict=True):
        of_text = [row for row in rows if row["text"] == text]
        right = max([1.0, *(max(row["n_rate real"], row["n_rate blank"]) for row in of_text)])
        for row in of_text:
            y, shade = names.index(row["name"]), palette.setting(row["name"], names)
            ax.plot([row["n_rate blank"], row["n_rate real"]], [y, y], color=shade, zorder=1)
            dot(ax, y, row["n_rate real"], (None, None), shade)
            dot(ax, y, row["n_rate blank"], (None, None), shade, is_filled=False)
            difference = f"{row['difference']:+.1f} ({row['ci_low']:.1f} to {row['ci_high']:.1f})"
            _written(ax, 1.03 * right, y, difference)
        ax.set(xlim=(-0.03 * right, 1.75 * right), xlabel="N-Rate, %   (written: image-caused part, 95 %)")
        ax.set_xticks([tick for tick in ax.get_xticks() if 0 <= tick <= right])
        ax.set_title(f"text {text} (n = {max(row['tweets'] for row in of_text):,} tweets)")
    figure.legend(handles=_handles("real image", "blank image"), loc="outside right upper")
    palette.title(
        figure, "Names of which the text has no word, at the real and at a blank image (single run)"
    )
    return figure


def renamed(rows: Rows) -> Figure:
    """After renaming, the share of tweets that put a box where the old one was, and that write the old name
    (`bias_views.rename_rows`).
    """
    names = list(dict.fromkeys(row["name"] for row in rows))
    figure, axes = _lines(names, len(_SIGNS), width=3.7)
    for ax, (sign, label) in zip(axes, _SIGNS.items(), strict=True):
        for row in (row for row in rows if row["sign"] == sign):
            y = names.index(row["name"])
            shade = palette.setting(row["name"], names)
            dot(ax, y, row["share"], (row["ci_low"], row["ci_high"]), shade)
            _written(ax, row["ci_high"], y, f"{row['count']} of {row['tweets']}")
        ax.set(xlim=(-3, 128), xticks=range(0, 101, 25), xlabel=label)
    palette.title(
        figure, "One shown entity renamed to a name that the image does not show (single run, 95 %)"
    )
    return figure


def groundings(rows: Rows, *, blind: Rows = (), n: int) -> Figure:
    """False against missed grounding of each setting with 95 % intervals, and of rules that look at nothing;
    rules that treat all entities alike are on the dotted line.

    Args:
        rows: of `compared.grounding_rows`.
        blind: of `compared.blind_rows`.
        n: number of tweets.
    """
    figure, ax = plt.subplots(figsize=(6.2, 4.6))
    ax.plot([0, 100], [100, 0], color=palette.DARK, linestyle=":", linewidth=1)
    place = {"rotation": -45, "ha": "center", "va": "bottom", "fontsize": 8, "color": palette.DARK}
    ax.annotate("all entities alike", (72, 28), **place)
    for k, row in enumerate(blind):
        x, y = row["false_grounding"], row["missed_grounding"]
        ax.plot(x, y, "x", color=palette.DARK, markersize=6, clip_on=False)
        is_high = y > 50
        place = {"xytext": (7, -2 if is_high else 4 + 10 * (k % 3)), "va": "top" if is_high else "bottom"}
        ax.annotate(row["rule"], (x, y), textcoords="offset points", fontsize=7, **place)
    names = [row["setting"] for row in rows]
    for k, row in enumerate(rows):
        x, y = row["false_grounding"], row["missed_grounding"]
        if x is None or y is None:
            continue
        shade = palette.setting(row["setting"], names)
        size = 12 - 8 * k / max(1, len(rows) - 1)  # dots that coincide are drawn within each other
        ax.plot(x, y, "o", color=shade, markersize=size, label=row["setting"], clip_on=False)
        ax.plot(_ends(row, "false_grounding"), [y, y], color=shade, linewidth=1.5)
        ax.plot([x, x], _ends(row, "missed_grounding"), color=shade, linewidth=1.5)
    ax.set(
        xlim=(-2, 102), ylim=(-2, 102), aspect="equal", xlabel="false grounding: boxed / not in the image, %"
    )
    ax.set(ylabel="missed grounding: no box / in the image, %")
    ax.set_title(f"Grounding where the span is right (n = {n:,}, single run)")
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def over_seeds(scores: Mapping[str, Any], *, metric: str = "gmner_f1") -> Figure:
    """A metric of every setting over seeds, a panel per split (scores of `compare.seeds.summary`)."""
    rows = [row for row in scores["rows"] if row["metric"] == metric]
    names = scores["settings"]
    n_seeds = {name: max((r["n_seeds"] for r in rows if r["setting"] == name), default=0) for name in names}
    figure, axes = _lines(
        [f"{name} ({n_seeds[name]})" for name in names], len(scores["splits"]), width=2.6, sharex=True
    )
    for ax, split in zip(axes, scores["splits"], strict=True):
        for row in (row for row in rows if row["split"] == split):
            _seeds(ax, names.index(row["setting"]), row, palette.setting(row["setting"], names))
        ax.set(title=f"{split} (n = {scores['n_tweets'][split]:,})", xlabel=CATALOGUE[metric].axis)
    palette.title(figure, "Every setting (seeds); line: 95 % interval over seeds and tweets")
    return figure


def differences(scores: Mapping[str, Any]) -> Figure:
    """The compared pair, a panel per split, a line per metric; filled = every seed agrees and the interval
    excludes 0 (scores of `compare.seeds.summary`).
    """
    first, second = scores["pair"]
    measured = {row["metric"] for row in scores["comparisons"]}
    metrics = [metric for metric in _OF_PAIR if metric in measured]
    better = {1: "more is better", -1: "less is better"}
    names = [f"{CATALOGUE[metric].label} ({better[CATALOGUE[metric].better]})" for metric in metrics]
    figure, axes = _lines(names, len(scores["splits"]), width=2.6, sharex=True)
    for ax, split in zip(axes, scores["splits"], strict=True):
        for row in scores["comparisons"]:
            if row["split"] == split and row["metric"] in metrics:
                shade = palette.SIGNS[int(np.sign(row["mean"])) * row["better"]]
                is_shown = row["verdict"] in ("shown", "the opposite is shown")
                _seeds(ax, metrics.index(row["metric"]), row, shade, is_filled=is_shown)
        ax.axvline(0, color=palette.DARK, linewidth=0.8)
        ax.set(title=f"{split} (n = {scores['n_tweets'][split]:,})", xlabel=f"{first} − {second}, points")
    filled = (
        "filled = every seed agrees and the interval excludes 0; line: 95 % interval over seeds and tweets"
    )
    palette.title(figure, f"{first} − {second}: blue better, red worse; {filled}")
    return figure


def _seeds(ax: Axes, y: float, row: Mapping[str, Any], shade: str, *, is_filled: bool = True) -> None:
    """The mean over seeds with its interval, and each seed as a faint dot below it."""
    dot(ax, y, row["mean"], (row["ci_low"], row["ci_high"]), shade, is_filled=is_filled)
    seeds = list(row["per_seed"].values())
    ax.scatter(seeds, [y + 0.25] * len(seeds), s=9, color=shade, alpha=0.55, linewidths=0)


def seed_values(rows: Rows) -> list[dict[str, Any]]:
    """Rows of scores as the values of a figure: one column per seed."""
    return [
        {key: value for key, value in row.items() if key != "per_seed"}
        | {f"seed {seed}": value for seed, value in row["per_seed"].items()}
        for row in rows
    ]
