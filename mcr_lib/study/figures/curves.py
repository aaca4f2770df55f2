"""Lines and points: training over updates, rewards, the filter of D2, scores as a function of a quantity."""

from collections.abc import Mapping
from itertools import product

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mcr_lib.rewards import NAMES
from mcr_lib.study.figures import palette
from mcr_lib.study.figures.palette import Rows, unique


def training(rows: Rows, *, panels: Mapping[str, str], title: str) -> Figure:
    """Measured ones of `panels` (key -> label with unit) over updates, by setting (`training.curve_rows`)."""
    frame, names = pd.DataFrame(rows), unique(rows, "setting")
    measured = {key: label for key, label in panels.items() if key in frame and frame[key].notna().any()}
    figure, axes = palette.panels(len(measured), (3.1, 2.6), f"{title} (single run)", n_columns=3)
    for ax, (key, label) in zip(axes, measured.items(), strict=True):
        for name, points in frame.dropna(subset=[key]).groupby("setting", sort=False):
            _line(ax, points["step"], points[key].astype(float), palette.setting(name, names), name)
        ax.set(xlabel="update", ylabel=label)
        if ax.dataLim.y0 >= 0:
            ax.set_ylim(0, 104 if label.endswith("%") else None)
    if len(names) > 1:
        axes[0].legend()
    return figure


def rewards(rows: Rows) -> Figure:
    """The five rewards and their sum R over updates, a row of panels per setting (`training.curve_rows`)."""
    frame, names = pd.DataFrame(rows), unique(rows, "setting")
    keys = [*((f"{name}_mean", f"{name}_std") for name in NAMES), ("reward", "reward_std")]
    quantities = list(zip(keys, {**palette.REWARDS, "R": palette.BLACK}.items(), strict=True))
    title = "Rewards of sampled answers: mean, and ± spread (single run)"
    figure, axes = palette.panels(6 * len(names), (1.9, 2.3), title, n_columns=6)
    for ax, (name, ((mean, spread), (symbol, colour))) in zip(axes, product(names, quantities), strict=True):
        points = frame[frame["setting"] == name].reindex(columns=["step", mean, spread])
        points = points.dropna(subset=[mean]).astype(float).fillna(0)
        low, high = points[mean] - points[spread], points[mean] + points[spread]
        ax.fill_between(points["step"], low, high, color=colour, alpha=0.12, linewidth=0)
        _line(ax, points["step"], points[mean], colour)
        top = None if symbol == "R" else 1.04  # how large R can be is a matter of λ
        ax.set(title=f"{name} · {symbol}", xlabel="update", ylabel="", ylim=(0, top))
    return figure


def selection(rows: Rows, *, thresholds: Mapping[str, tuple[float, float, float]]) -> Figure:
    """R of the best and of the middle answer to each row of D2, by verdict (`rollouts.filter_rows`), a little
    spread, since many agree; a star contradicts a shortcut; `thresholds` of `rollouts.thresholds`.
    """
    frame, names = pd.DataFrame(rows), unique(rows, "setting")
    title = "Rows that the filter of D2 keeps (shaded) and drops"
    figure, axes = palette.panels(len(names), (5.6, 3.4), title, n_columns=2)
    for ax, name in zip(axes, names, strict=True):
        points, (least, low, high) = frame[frame["setting"] == name], thresholds[name]
        top = 1.06 * max(points["max"].max(), 0.1)
        shift = np.random.default_rng(0).uniform(-0.008 * top, 0.008 * top, (2, len(points)))
        x, y = points["median"] + shift[0], points["max"] + shift[1]
        against = points.reindex(columns=["contradicts"])["contradicts"].eq(True)
        for verdict, colour in palette.VERDICTS.items():
            is_so = points["verdict"] == verdict
            label = f"{verdict} ({is_so.sum():,})"
            style = {"color": colour, "alpha": 0.6, "linewidths": 0}
            ax.scatter(x[is_so & ~against], y[is_so & ~against], 14, label=label, **style)
            ax.scatter(x[is_so & against], y[is_so & against], 60, marker="*", **style)
        if against.any():
            ax.scatter(
                [], [], 60, palette.DARK, marker="*", label=f"contradicts a shortcut ({against.sum():,})"
            )
        shade = {"color": palette.VERDICTS["kept"], "alpha": 0.1, "linewidth": 0}
        ax.fill_between([low, min(high, top)], least, top, **shade)
        style = {"color": palette.DARK, "linestyle": ":", "linewidth": 1}
        for draw, value in ((ax.axhline, least), (ax.axvline, low), (ax.axvline, high)):
            if 0 < value < top:
                draw(value, **style)
        edge = (-0.03 * top, top)
        ax.set(title=f"{name} (n = {len(points):,})", xlim=edge, ylim=edge)
        ax.set(xlabel="median of R over the answers to a row", ylabel="maximum of R")
        ax.legend(loc="lower right", markerscale=1.6)
    return figure


def _line(ax: Axes, steps: pd.Series, values: pd.Series, colour: str, label: str | None = None) -> None:
    """A line; with more than 40 points a faint one, and its running mean over a twentieth of them."""
    style = {"color": colour, "estimator": None, "legend": False, "markeredgewidth": 0, "ax": ax}
    if (width := len(steps) // 20) >= 2:
        sns.lineplot(x=steps, y=values, alpha=0.3, linewidth=0.8, **style)
        values = values.rolling(width).mean()
    sns.lineplot(x=steps, y=values, label=label, marker="o" if len(steps) < 3 else None, **style)
    ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))


def reward_u(rows: Rows) -> Figure:
    """R_u against the IoU of the box that counts (`audit.grounding_rows`)."""
    frame = pd.DataFrame(rows)
    dashes = {line: (2, 1) if line.startswith("strict") else "" for line in palette.SIGMAS}
    title = "R_u: nothing up to σ, then on a line to 1 (paper) or the IoU (strict)"
    figure, (ax,) = palette.panels(1, (5.8, 3.4), title)
    style = {"palette": palette.SIGMAS, "dashes": dashes, "estimator": None, "sort": False}
    sns.lineplot(frame, x="iou", y="R_u", hue="line", style="line", ax=ax, **style)
    ax.set(xlabel="IoU of the box with the gold box", ylabel="R_u", xlim=(0, 1), ylim=(-0.03, 1.05))
    ax.legend(loc="upper left")
    return figure


def degradation(rows: Rows, *, reference: float, n: int) -> Figure:
    """GMNER F1 if one decision, or all four, get worse (`simulate.degradation_rows`); n = tweets."""
    frame = pd.DataFrame(rows)
    n_draws = frame["repeat"].nunique()
    draws = f"{n_draws} draws, band = range" if n_draws > 1 else "single draw"
    title = f"One decision, or all four alike, made worse (n = {n:,}, {draws})"
    figure, (ax,) = palette.panels(1, (6.8, 4.1), title)
    order = [name for name in palette.DECISIONS if name in set(frame["accuracy"])]
    style = {"palette": palette.DECISIONS, "hue_order": order, "errorbar": ("pi", 100), "marker": "o"}
    sns.lineplot(frame, x=100 * frame["level"], y="f1", hue="accuracy", markeredgewidth=0, ax=ax, **style)
    ax.axhline(reference, color=palette.DARK, linestyle=":", linewidth=1.2)
    place = {"xycoords": ("axes fraction", "data"), "xytext": (0, 3), "textcoords": "offset points"}
    ax.annotate(f"paper's best: {reference}", (0.01, reference), fontsize=8, **place)
    ax.set(xlabel="accuracy of what is lowered, % (the rest perfect)", ylabel="GMNER F1, %", ylim=(0, 103))
    ax.legend(title="lowered", loc="lower right")
    return figure
