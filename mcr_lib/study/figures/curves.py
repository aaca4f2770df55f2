"""Lines: training over updates, rewards, and scores as a function of one quantity."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mcr_lib.rewards import NAMES
from mcr_lib.study.figures import palette
from mcr_lib.study.figures.palette import Rows


def curves(rows: Rows, panels: Mapping[str, str], *, title: str, n_columns: int = 3) -> Figure:
    """Curves over updates: a panel per quantity, a line per setting.

    Args:
        rows: of `training_views.curve_rows`.
        panels: key of the rows -> label of the axis with its unit.
    """
    frame = pd.DataFrame(rows)
    names = list(frame["setting"].unique())
    n_rows = -(-len(panels) // n_columns)
    size = (3.1 * n_columns, 2.5 * n_rows + 0.5)
    figure, axes = plt.subplots(n_rows, n_columns, figsize=size, squeeze=False)
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    for ax, (key, label) in zip(axes.flat, panels.items(), strict=False):
        measured = frame.dropna(subset=[key]) if key in frame else frame[:0]
        for name, points in measured.groupby("setting", sort=False):
            _line(ax, points["step"], points[key].astype(float), palette.setting(name, names), name)
        if not len(measured):
            place = {"transform": ax.transAxes, "ha": "center", "color": palette.MEDIUM}
            ax.text(0.5, 0.5, "not measured in this run", **place)
        ax.set(xlabel="update", ylabel=label)
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        if ax.dataLim.y0 >= 0:
            ax.set_ylim(0, 104 if label.endswith("%") else None)
    if len(names) > 1:
        axes.flat[0].legend()
    palette.title(figure, f"{title} (single run)")
    return figure


def rewards(rows: Rows) -> Figure:
    """The five rewards and their sum R over updates: mean and spread of an update's answers; a row of panels
    per setting.
    """
    frame = pd.DataFrame(rows)
    names = frame["setting"].unique()
    figure, axes = plt.subplots(len(names), 6, figsize=(11.4, 2.3 * len(names) + 0.5), squeeze=False)
    keys = [*((f"{name}_mean", f"{name}_std") for name in NAMES), ("reward", "reward_std")]
    symbols = {**palette.REWARDS, "R": palette.BLACK}
    for line, name in zip(axes, names, strict=True):
        for ax, (mean, spread), (symbol, shade) in zip(line, keys, symbols.items(), strict=True):
            points = frame[frame["setting"] == name].reindex(columns=["step", mean, spread])
            points = points.dropna(subset=[mean]).astype(float).fillna(0)
            if len(points):
                ends = (points[mean] - points[spread], points[mean] + points[spread])
                ax.fill_between(points["step"], *ends, color=shade, alpha=0.12, linewidth=0)
                _line(ax, points["step"], points[mean], shade)
            top = len(NAMES) * 1.04 if symbol == "R" else 1.04
            ax.set(title=f"{name} · {symbol}", xlabel="update", ylabel="", ylim=(0, top))
            ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    palette.title(figure, "Rewards of sampled answers: mean, and ± spread (single run)")
    return figure


def _line(ax: Axes, steps: pd.Series, values: pd.Series, shade: str, label: str | None = None) -> None:
    """A line; with more than 40 points a faint one, and its running mean over a twentieth of them."""
    width = len(steps) // 20
    marker = "o" if len(steps) < 3 else None
    options = {"color": shade, "ax": ax, "estimator": None, "legend": False}
    if width >= 2:
        sns.lineplot(x=steps, y=values, alpha=0.3, linewidth=0.8, **options)
        values = values.rolling(width).mean()
    sns.lineplot(x=steps, y=values, label=label, marker=marker, markeredgewidth=0, **options)


def reward_u(rows: Rows) -> Figure:
    """R_u against the IoU of the one box that counts (`injection.grounding_rows`)."""
    frame = pd.DataFrame(rows)
    shift = frame["line"].map({"σ = 0.3": 0.008, "σ = 0.7": -0.008}).fillna(0)  # lines coincide above σ
    frame["R_u"] += shift * (frame["R_u"] > 0)
    dashes = {line: (1, 1) if "stray" in line else "" for line in palette.SIGMAS}
    figure, ax = plt.subplots(figsize=(5.8, 3.6))
    options = {"hue": "line", "style": "line", "palette": palette.SIGMAS, "dashes": dashes, "estimator": None}
    sns.lineplot(frame, x="iou", y="R_u", ax=ax, sort=False, **options)
    ax.set(xlabel="IoU of the box with the gold box", ylabel="R_u", xlim=(0, 1), ylim=(-0.03, 1.05))
    ax.set_title("R_u: nothing up to σ, then the IoU")
    ax.legend(loc="upper left")
    return figure


def degradation(rows: Rows, *, reference: float, n: int) -> Figure:
    """GMNER F1 if one decision alone, or all four alike, get worse (`simulate.degradation_rows`); the band is
    the range over draws.

    Args:
        reference: the paper's best F1, drawn as a line.
        n: number of tweets.
    """
    frame = pd.DataFrame(rows)
    frame["level"] *= 100
    n_draws = frame["repeat"].nunique()
    figure, ax = plt.subplots(figsize=(6.8, 4.4))
    order = [name for name in palette.DECISIONS if name in set(frame["accuracy"])]
    options = {"hue": "accuracy", "hue_order": order, "palette": palette.DECISIONS, "errorbar": ("pi", 100)}
    sns.lineplot(frame, x="level", y="f1", marker="o", markeredgewidth=0, ax=ax, **options)
    ax.axhline(reference, color=palette.DARK, linestyle=":", linewidth=1.2)
    place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
    ax.annotate(f"paper's best: {reference}", (0.01, reference), xytext=(0, 3), fontsize=8, **place)
    ax.set(xlabel="accuracy of what is lowered, % (the rest perfect)", ylabel="GMNER F1, %", ylim=(0, 103))
    ax.legend(title="lowered", loc="lower right")
    draws = f"{n_draws} draws, band = range" if n_draws > 1 else "single draw"
    ax.set_title(f"One decision, or all four alike, made worse (n = {n:,}, {draws})")
    return figure
