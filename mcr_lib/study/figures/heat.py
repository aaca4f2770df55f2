"""Tables whose cells are coloured by their value."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mcr_lib.study.figures import palette
from mcr_lib.study.figures.palette import Rows, panels


def heat_table(ax: Axes, values: pd.DataFrame, texts: pd.DataFrame, *, vmax: float = 100) -> Axes:
    """Draw a table from 0 (white) to `vmax` (blue) with a text in each cell; cells of NaN are grey."""
    colours = {"vmin": 0, "vmax": vmax / 0.75, "cmap": palette.SHADES, "cbar": False}  # darker is illegible
    sns.heatmap(values, annot=texts, fmt="", annot_kws={"fontsize": 8}, ax=ax, **colours)
    for text in ax.texts:  # seaborn writes white on middle shades, which is hard to read
        column, row = map(int, text.get_position())
        text.set_color(palette.ink(ax.collections[0].to_rgba(values.iat[row, column])))
    for row, column in np.argwhere(values.isna().to_numpy()):  # seaborn writes nothing there
        ax.text(column + 0.5, row + 0.5, texts.iat[row, column], ha="center", va="center", fontsize=8)
    ax.set(facecolor=palette.FAINT, xlabel="", ylabel="")
    ax.tick_params(length=0, rotation=0)
    ax.xaxis.tick_top()
    return ax


def number_table(ax: Axes, values: pd.DataFrame, *, digits: int = 1, vmax: float = 100) -> Axes:
    """`heat_table` of numbers, all with as many digits after the point."""
    texts = values.map(f"{{:.{digits}f}}".format)
    return heat_table(ax, values, texts.mask(values.isna(), "–"), vmax=vmax)


def numbers(rows: Rows, *, title: str, **options: float) -> Figure:
    """A table of rows of a name and numbers, with the options of `number_table`."""
    size = (2.4 + 0.8 * (len(rows[0]) - 1), 0.7 + max(0.22, 0.4 - 0.01 * len(rows)) * len(rows))
    figure, (ax,) = panels(1, size, title)
    number_table(ax, pd.DataFrame(rows).set_index(next(iter(rows[0]))).astype(float), **options)
    return figure


def rewards(rows: Rows, *, title: str = "The paper's five rewards, and their weighted sum R") -> Figure:
    """The five rewards of hand-made answers, their sum R, and their advantages if the rows have them."""
    has_advantage, n = "advantage" in rows[0], len(rows)
    width, options = (4.2, {"width_ratios": (6, 3), "sharey": True}) if has_advantage else (7.8, {})
    figure, axes = panels(1 + has_advantage, (width, 0.36 * n + 0.9), title, **options)
    values = pd.DataFrame(rows).set_index(next(iter(rows[0])))[[*palette.REWARDS, "R"]].astype(float)
    most = [1, 1, 1, 1, 1, values["R"].max()]
    heat_table(axes[0], values / most, values.map("{:.2f}".format), vmax=1)
    axes[0].axvline(5, color="white", linewidth=4)
    if has_advantage:
        advantages = np.array([row["advantage"] for row in rows])
        colours = [palette.DIFFERENCES[1 if value >= 0 else -1] for value in advantages]
        bars = axes[1].barh(np.arange(n) + 0.5, advantages, color=colours, height=0.6)
        axes[1].bar_label(bars, fmt="%+.2f", padding=3, fontsize=8)
        axes[1].axvline(0, color=palette.DARK, linewidth=0.8)
        axes[1].grid(visible=False)
        edge = 1.9 * max(1.0, np.abs(advantages).max())
        axes[1].set(xlim=(-edge, edge), xlabel="advantage")
    return figure


def audit(rows: Rows) -> Figure:
    """How often each mistake costs, is free, or pays, by set of rewards (`audit.audit_rows`)."""
    frame = pd.DataFrame(rows)
    frame.index = frame["mistake"] + frame["n"].map(" (n = {:,})".format)
    title = "One mistake more: how often it lowers R (costs), leaves it (free) or raises it (pays), %"
    names = palette.unique(rows, "rewards")
    figure, axes = panels(len(names), (4.1, 0.36 * len(set(frame.index)) + 0.9), title, sharey=True)
    for ax, name in zip(axes, names, strict=True):
        part = frame[frame["rewards"] == name]
        shares = part[["costs", "free", "pays"]].mul(100 / part["n"], axis=0)
        number_table(ax, shares).axvline(1, color="white", linewidth=4)
        ax.set_title(name, pad=22)
    return figure


def verifier(rows: Rows) -> Figure:
    """What the verifier reports for each kind of planted error (`injection.mutation_rows`)."""
    frame = pd.DataFrame(rows)
    frame.index = frame["planted"] + frame["chains"].map(" (n = {:,})".format)
    shares = frame.drop(columns=["planted", "chains", "passing"]).astype(float)
    size = (2.6 + 0.72 * len(shares.columns), 1.1 + 0.34 * len(rows))
    figure, (ax,) = panels(
        1, size, "Planted error (line), and what the verifier reports (column), % of chains"
    )
    number_table(ax, shares).axvline(1, color="white", linewidth=4)
    ax.set_xticks(ax.get_xticks(), shares.columns, rotation=35, ha="left", rotation_mode="anchor")
    return figure


def consistency(rows: Rows) -> Figure:
    """Share of clean answers among tweets right before, by setting and probe (`bias.consistency_rows`)."""
    frame = pd.DataFrame(rows)
    counts = frame["clean"].astype(str) + " of " + frame["right"].astype(str)
    frame["text"] = frame["consistency"].astype(float).map("{:.0f} %\n".format) + counts
    frame.loc[frame["right"] == 0, "text"] = "none\nright"
    names = palette.unique(rows, "name")  # the worst blank image is one of the others
    probes = [probe for probe in palette.unique(rows, "probe") if probe not in ("blank", "mute_blank")]
    cells = frame.set_index(["name", "probe"]).unstack().reindex(names)
    values, texts = cells["consistency"][probes].astype(float), cells["text"][probes].fillna("–")
    size = (1.8 + 0.82 * len(probes), 1.2 + 0.5 * len(names))
    figure, (ax,) = panels(
        1, size, "% of the tweets answered right before that stay right under a probe (single run)"
    )
    heat_table(ax, values, texts).set_xticks(ax.get_xticks(), [palette.PROBES[probe] for probe in probes])
    return figure
