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
    """Measured ones of `panels` (key -> label with unit) over updates, by setting (`loop.read_log`)."""
    frame, names = pd.DataFrame(rows), unique(rows, "setting")
    measured = {key: label for key, label in panels.items() if key in frame and frame[key].notna().any()}
    flat = [label for key, label in measured.items() if not frame[key].any()]
    title += " (single run)" + f"\nalways 0: {', '.join(flat)}" * bool(flat)
    measured = {key: label for key, label in measured.items() if label not in flat} or measured
    figure, axes = palette.panels(len(measured), (3.4, 2.6), title, n_columns=3)
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
    """The five rewards and their sum R over updates, a panel each by setting: rows of logs, with the middle
    half of the answers to an update if they have quartiles (`rollouts.with_quartiles`).
    """
    frame, names = pd.DataFrame(rows), unique(rows, "setting")
    columns = [*((f"{name}_mean", name) for name in NAMES), ("reward", "reward")]
    keys = list(zip((*palette.REWARDS, "R"), columns, strict=True))
    title = (
        "Rewards of sampled answers (single run). Line: running median of means of updates; band: the middle "
    )
    title += "half of the answers to an update; numbers: mean of the first → of the last third of updates"
    figure, axes = palette.panels(6 * len(names), (3.3, 1.9), title, n_columns=3)
    for ax, (name, (symbol, (mean, key))) in zip(axes, product(names, keys), strict=True):
        columns = ["step", mean, f"{key}_q25", f"{key}_q75"]
        points = frame[frame["setting"] == name].reindex(columns=columns).dropna(subset=[mean]).astype(float)
        colour, third = palette.setting(name, names), max(1, len(points) // 3)
        ax.fill_between(*(points[c] for c in ("step", *columns[2:])), color=colour, alpha=0.15, linewidth=0)
        _line(ax, points["step"], points[mean], colour)
        change = [values.mean() for values in (points[mean][:third], points[mean][-third:])]
        top = None if symbol == "R" else 1.04  # how large R can be is a matter of λ
        ax.set(title="{} · {} {:.2f} → {:.2f}".format(name, symbol, *change), xlabel="update", ylabel="")
        ax.set_ylim(0, top)
    return figure


def selection(rows: Rows, *, thresholds: Mapping[str, tuple[float, float, float]]) -> Figure:
    """R of the best and of the middle answer to each row of D2, by verdict (`rollouts.filter_rows`), a little
    spread, since many agree; filled marks contradict a shortcut; `thresholds` of `rollouts.thresholds`.
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
        style = {"edgecolors": palette.MEDIUM, "linewidths": 0.8}
        filled = {**style, "facecolors": palette.TONES[0]}
        for verdict, marker in palette.VERDICTS.items():
            is_so = points["verdict"] == verdict
            hollow = {**style, "facecolors": "none", "label": f"{verdict} ({is_so.sum():,})"}
            ax.scatter(x[is_so & ~against], y[is_so & ~against], 18, marker=marker, **hollow)
            ax.scatter(x[is_so & against], y[is_so & against], 26, marker=marker, **filled)
        if against.any():
            ax.scatter([], [], 26, label=f"contradicts a shortcut ({against.sum():,})", **filled)
        ax.fill_between([low, min(high, top)], least, top, color=palette.RIGHT, alpha=0.15, linewidth=0)
        style = {"color": palette.DARK, "linestyle": ":", "linewidth": 1}
        for draw, value in ((ax.axhline, least), (ax.axvline, low), (ax.axvline, high)):
            if 0 < value < top:
                draw(value, **style)
        edge = (-0.03 * top, top)
        ax.set(title=f"{name} (n = {len(points):,})", xlim=edge, ylim=edge)
        ax.set(xlabel="median of R over the answers to a row", ylabel="maximum of R")
        ax.legend(loc="lower right", markerscale=1.3)
    return figure


def _line(ax: Axes, steps: pd.Series, values: pd.Series, colour: str, label: str | None = None) -> None:
    """A line; of more than 20 points a faint one, and its running median over a tenth of them."""
    style = {"color": colour, "estimator": None, "legend": False, "markeredgewidth": 0, "ax": ax}
    if (width := len(steps) // 10) >= 2:
        sns.lineplot(x=steps, y=values, alpha=0.35, linewidth=0.8, **style)
        values = values.rolling(width).median()
    sns.lineplot(x=steps, y=values, label=label, marker="o" if len(steps) < 3 else None, **style)
    ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))


def reward_u(rows: Rows) -> Figure:
    """R_u against the IoU of the box that counts (`audit.grounding_rows`), a panel per set of rewards."""
    frame = pd.DataFrame(rows)
    frame[["kind", "which"]] = frame["line"].str.split(", ", n=1).to_list()
    title = "R_u of one entity: nothing up to σ, then on a line to 1 (paper) or the IoU itself (strict)"
    figure, axes = palette.panels(2, (4.2, 3.0), title, sharey=True)
    for ax, (kind, part) in zip(axes, frame.groupby("kind", sort=False), strict=True):
        style = {"style": "which", "color": palette.DARK, "estimator": None, "sort": False}
        sns.lineplot(part, x="iou", y="R_u", ax=ax, **style)
        ax.set(title=kind, xlabel="IoU with the gold box", ylabel="R_u", xlim=(0, 1), ylim=(-0.03, 1.05))
        ax.legend(loc="upper left")
    return figure


def degradation(rows: Rows, *, reference: float | None = None, n: int) -> Figure:
    """GMNER F1 if one decision, or all four, get worse (`simulate.degradation_rows`); n = tweets; a line at
    `reference`, the paper's best, where these are its tweets.
    """
    frame = pd.DataFrame(rows).rename(columns={"accuracy": "lowered"})
    n_draws = frame["repeat"].nunique()
    draws = f"{n_draws} draws, band = range" if n_draws > 1 else "single draw"
    title = f"Gold answers with one decision, or all four alike, made worse (n = {n:,}, {draws})"
    figure, (ax,) = palette.panels(1, (6.8, 4.1), title)
    style = {"color": palette.DARK, "errorbar": ("pi", 100), "markers": True, "markersize": 7}
    sns.lineplot(frame, x=100 * frame["level"], y="f1", style="lowered", ax=ax, **style)
    if reference is not None:
        ax.axhline(reference, color=palette.MEDIUM, linewidth=1.2)
        place = {"xycoords": ("axes fraction", "data"), "xytext": (0, 3), "textcoords": "offset points"}
        ax.annotate(f"paper's best: {reference}", (0.01, reference), fontsize=8, **place)
    ax.set(xlabel="accuracy of what is lowered, % (the rest perfect)", ylabel="GMNER F1, %", ylim=(0, 103))
    ax.legend(title="lowered", loc="lower right")
    return figure
