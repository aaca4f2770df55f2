"""Forest plots of the comparison over seeds: each seed a dot, their mean and its interval."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mcr_lib.study.compare.evidence import BETTER
from mcr_lib.study.compare.tables import CONTROLLED, LABELS, OF_PAIR
from mcr_lib.study.figures import plots
from mcr_lib.study.figures.plots_training import colour

Rows = Sequence[Mapping[str, Any]]

_SHADES = {1: "#0072B2", 0: plots.REFERENCE_COLOUR, -1: "#D55E00"}
"""Of a difference that is better, none, or worse."""


def settings(scores: Mapping[str, Any], metric: str = "gmner_f1") -> Figure:
    """A metric of every setting, a panel per split."""
    names = scores["settings"]
    panels = [
        [row for row in scores["rows"] if (row["split"], row["metric"]) == (split, metric)]
        for split in scores["splits"]
    ]
    figure, axes = _panels(len(panels), len(names))
    for ax, split, rows in zip(axes, scores["splits"], panels, strict=True):
        by_name = {row["setting"]: row for row in rows}
        for y, name in enumerate(names):
            if name in by_name:
                _draw(ax, by_name[name], y, colour(name, names))
        ax.set(
            title=f"{split} (n = {scores['n_tweets'][split]:,})", xlabel=f"{LABELS.get(metric, metric)}, %"
        )
    axes[0].set(
        yticks=range(len(names)),
        yticklabels=[f"{name} ({_n_seeds(panels, name)})" for name in names],
        ylim=(len(names) - 0.5, -0.5),
    )
    return _headed(figure, scores, "Every setting (seeds)")


def differences(scores: Mapping[str, Any]) -> Figure:
    """The pair that is tested, a panel per split, a line per metric; filled = every seed agrees and the
    interval excludes 0.
    """
    (first, second), there = scores["pair"], {row["metric"] for row in scores["comparisons"]}
    metrics = [metric for metric in OF_PAIR if metric in there]
    figure, axes = _panels(len(scores["splits"]), len(metrics))
    for ax, split in zip(axes, scores["splits"], strict=True):
        for row in scores["comparisons"]:
            if row["split"] == split and row["metric"] in metrics:
                is_shown = row["verdict"] in ("shown", "the opposite is shown")
                shade = _SHADES[int(np.sign(row["mean"])) * row["better"]]
                _draw(ax, row, metrics.index(row["metric"]), shade, is_filled=is_shown)
        ax.axvline(0, color=plots.REFERENCE_COLOUR, linewidth=0.8)
        ax.set(title=f"{split} (n = {scores['n_tweets'][split]:,})", xlabel=f"{first} − {second}, points")
    labels = [
        f"{OF_PAIR[metric]} ({'more' if BETTER[metric] > 0 else 'less'} is better)" for metric in metrics
    ]
    axes[0].set(yticks=range(len(metrics)), yticklabels=labels, ylim=(len(metrics) - 0.5, -0.5))
    return _headed(
        figure,
        scores,
        f"{first} − {second}: blue better, red worse; filled = every seed agrees and the interval excludes 0",
    )


def values(rows: Rows) -> list[dict[str, Any]]:
    """Rows of scores as the values of a figure: one column per seed."""
    return [
        {
            **{k: v for k, v in row.items() if k != "per_seed"},
            **{f"seed {s}": v for s, v in row["per_seed"].items()},
        }
        for row in rows
    ]


def _panels(n: int, n_lines: int) -> tuple[Figure, Sequence[Axes]]:
    size = (2.0 + 2.6 * n, 1.3 + 0.34 * n_lines)
    figure, axes = plt.subplots(1, n, figsize=size, sharey=True, sharex=True, squeeze=False)
    for ax in axes[0]:
        ax.grid(visible=False, axis="y")
        ax.grid(visible=True, axis="x")
    return figure, axes[0]


def _draw(ax: Axes, row: Mapping[str, Any], y: float, shade: str, *, is_filled: bool = True) -> None:
    """The seeds as faint dots below the line, the mean with its interval on it."""
    if row["ci_low"] is not None:
        ax.plot([row["ci_low"], row["ci_high"]], [y, y], color=shade, linewidth=1.6)
    ax.plot(
        row["mean"], y, marker="o", markersize=6, color=shade, markerfacecolor=shade if is_filled else "white"
    )
    ax.scatter(
        list(row["per_seed"].values()),
        [y + 0.25] * row["n_seeds"],
        s=9,
        color=shade,
        alpha=0.55,
        linewidths=0,
    )


def _n_seeds(panels: Sequence[Rows], name: str) -> int:
    return max((row["n_seeds"] for rows in panels for row in rows if row["setting"] == name), default=0)


def _headed(figure: Figure, scores: Mapping[str, Any], title: str) -> Figure:
    figure.suptitle(f"{title}; line: 95 % interval over seeds and tweets", x=0.01, ha="left", fontsize=10)
    if scores["source"] == "testbed":
        figure.supxlabel(CONTROLLED, fontsize=7.5, color=plots.REFERENCE_COLOUR, x=0.01, ha="left")
    return figure
