"""Tables whose cells are coloured by their value."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mcr_lib.metrics import SCORERS
from mcr_lib.study.figures import palette
from mcr_lib.study.figures.palette import Rows

_TASKS = list(palette.TASKS)
_REWARDS = list(palette.REWARDS)


def heat_table(ax: Axes, values: pd.DataFrame, texts: pd.DataFrame, *, vmax: float) -> Axes:
    """Draw a table from 0 (white) to `vmax` (blue) with a text in each cell; cells of NaN are grey.

    Args:
        values: one row per case, one column per quantity.
        texts: of the same shape.
        vmax: three quarters of the colour map, so that texts stay legible.
    """
    options = {"vmin": 0, "vmax": vmax / 0.75, "cmap": palette.SHADES, "cbar": False}
    sns.heatmap(values.astype(float), annot=texts, fmt="", annot_kws={"fontsize": 8}, ax=ax, **options)
    for row, column in np.argwhere(values.isna().to_numpy()):  # seaborn leaves these empty
        ax.text(column + 0.5, row + 0.5, texts.iat[row, column], ha="center", va="center", fontsize=8)
    ax.set(facecolor=palette.FAINT, xlabel="", ylabel="")
    ax.tick_params(length=0, rotation=0)
    ax.xaxis.tick_top()
    ax.grid(visible=False)
    return ax


def values_table(
    ax: Axes, rows: Rows, name: str, columns: Sequence[str], *, vmax: float = 100, digits: int | None = None
) -> Axes:
    """`heat_table` of rows of numbers; `None` is a dash.

    Args:
        name: key of the row's name.
        columns: keys of the values, left to right.
        digits: after the point; `None` = two, and none for whole numbers of percent.
    """
    values = pd.DataFrame(rows, columns=[name, *columns]).set_index(name).astype(float)

    def text(value: float) -> str:
        whole = vmax > 1 and float(value).is_integer()
        return (
            "–"
            if np.isnan(value)
            else f"{value:.{0 if whole else 2}f}"
            if digits is None
            else f"{value:.{digits}f}"
        )

    return heat_table(ax, values, values.map(text), vmax=vmax)


def answers(rows: Rows) -> Figure:
    """F1 of each task for each hand-made answer (`cases.answer_rows`)."""
    figure, ax = plt.subplots(figsize=(6, 4.2))
    values_table(ax, rows, "answer", _TASKS).set_title("F1 of one tweet with two entities, % (n = 1)")
    return figure


def scorers(rows: Rows) -> Figure:
    """GMNER F1 of each hand-made case under each scorer (`cases.scorer_rows`)."""
    figure, ax = plt.subplots(figsize=(6.4, 3))
    values_table(ax, rows, "case", SCORERS).set_title("GMNER F1 of hand-made cases, % (n = 1 or 2 tweets)")
    return figure


def types(rows: Rows, *, n: int) -> Figure:
    """GMNER F1 by entity type and setting (`compared.type_rows`)."""
    labels = [key for key in rows[0] if key != "setting"]
    figure, ax = plt.subplots(figsize=(1.6 + 0.75 * len(labels), 0.42 * len(rows) + 1.1))
    values_table(ax, rows, "setting", labels, digits=1)
    ax.set_title(f"GMNER F1 by type, % (n = {n:,}, single run)", x=-0.2, pad=8)
    return figure


def rewards(rows: Rows) -> Figure:
    """The five rewards of each hand-made answer (`injection.reward_rows`), and their sum."""
    figure, ax = plt.subplots(figsize=(8.2, 4.4))
    reward_table(ax, rows, "answer").set_title(
        "Five rewards of one answer, each in [0, 1], and their sum R, λ = 1"
    )
    return figure


def hand_made(rows: Rows) -> Figure:
    """The rewards of each hand-made rollout and its advantage in its group (`rollout_views.hand_made_rows`)."""
    size = (8.4, 0.42 * len(rows) + 1.3)
    figure, (left, right) = plt.subplots(1, 2, figsize=size, width_ratios=(6, 3), sharey=True)
    reward_table(left, rows, "rollout").set_title("rewards in [0, 1] and their sum R")
    values = np.array([row["advantage"] for row in rows])
    shades = np.where(values >= 0, palette.BLUE, palette.RED)
    bars = right.barh(np.arange(len(rows)) + 0.5, values, color=shades, height=0.6)
    right.bar_label(bars, [f"{value:+.2f}" for value in values], padding=3, fontsize=8)
    right.axvline(0, color=palette.DARK, linewidth=0.8)
    edge = 1.9 * max(1.0, np.abs(values).max())
    right.set(xlim=(-edge, edge), title="advantage")
    right.grid(visible=False)
    return figure


def reward_table(ax: Axes, rows: Rows, name: str) -> Axes:
    """`heat_table` of five rewards in [0, 1] and their sum R in [0, 5], each coloured within its own range."""
    values = pd.DataFrame(rows).set_index(name)[[*_REWARDS, "R"]].astype(float)
    heat_table(ax, values.assign(R=values["R"] / len(_REWARDS)), values.map("{:.2f}".format), vmax=1)
    ax.axvline(len(_REWARDS), color="white", linewidth=4)
    return ax


def repairs(rows: Rows) -> Figure:
    """How often mending one mistake raises each reward, and that it lowers none (`injection.repair_rows`)."""
    keys = {f"raise {symbol}": symbol for symbol in _REWARDS} | {"lower some reward": "falls"}
    shares = [
        {"mended": f"{row['mended']} (n = {row['repairs']:,})"}
        | {column: 100 * row[key] / row["repairs"] for key, column in keys.items()}
        for row in rows
    ]
    figure, ax = plt.subplots(figsize=(6.6, 3.2))
    values_table(ax, shares, "mended", list(keys.values()), digits=0)
    ax.axvline(len(_REWARDS), color="white", linewidth=4)
    ax.set_title("Repairs that raise each reward, and that lower any, %")
    return figure


def orders(rows: Rows) -> Figure:
    """The place at which each wording states each constraint (`injection.order_rows`)."""
    symbols = [key for key in rows[0] if key != "wording"]
    figure, ax = plt.subplots(figsize=(4.2, 0.22 * len(rows) + 0.8))
    values_table(ax, rows, "wording", symbols, vmax=4, digits=0).set_title("Place of each constraint")
    ax.hlines(range(3, len(rows), 3), 0, len(symbols), color="white", linewidth=3)
    return figure


def verifier(rows: Rows) -> Figure:
    """What the verifier reports for each kind of planted error (`injection.mutation_rows`)."""
    columns = [key for key in rows[0] if key not in ("planted", "chains", "passing")]
    named = [{**row, "planted": f"{row['planted']} (n = {row['chains']:,})"} for row in rows]
    figure, ax = plt.subplots(figsize=(2.6 + 0.72 * len(columns), 1.4 + 0.34 * len(rows)))
    values_table(ax, named, "planted", columns, digits=1)
    ax.set_xticks(ax.get_xticks(), columns, rotation=35, ha="left", rotation_mode="anchor")
    ax.axvline(1, color="white", linewidth=4)
    ax.set_title("Planted error, and what the verifier reports, % of chains")
    return figure


def consistency(rows: Rows) -> Figure:
    """Per setting and probe the share of clean answers among tweets right on the original, with both counts
    (`bias_views.consistency_rows`).
    """
    frame = pd.DataFrame(rows)
    frame["text"] = [
        f"{row['consistency']:.0f} %\n{row['clean']} of {row['right']}" if row["right"] else "none\nright"
        for row in rows
    ]
    names, probes = (frame[key].unique() for key in ("name", "probe"))
    table = frame.set_index(["name", "probe"]).unstack().reindex(names)
    values, texts = (table[key][probes] for key in ("consistency", "text"))
    figure, ax = plt.subplots(figsize=(1.4 + 0.82 * len(probes), 1.5 + 0.5 * len(names)))
    heat_table(ax, values, texts.fillna("–"), vmax=100)
    ax.set_xticks(ax.get_xticks(), [palette.PROBES[probe] for probe in probes], fontsize=7.5)
    ax.set_title("Clean on the probe, of the tweets that were right before (single run)", x=-0.2)
    return figure
