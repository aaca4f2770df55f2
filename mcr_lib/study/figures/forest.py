"""Dots with intervals, one value per line: settings above rules that look at nothing (n = tweets)."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from mcr_lib.study.catalogue import CATALOGUE
from mcr_lib.study.compare.tables import cells
from mcr_lib.study.figures import palette
from mcr_lib.study.figures.palette import Panels, Rows, panels, unique

Row = Mapping[str, Any]
_BESIDE = {"xytext": (8, 0), "textcoords": "offset points", "fontsize": 8, "va": "center"}  # right of a point
_LINEAR = 10  # points
_HOLLOW = {"markerfacecolor": "white"}
_SIGNS = {"old box": "something not shown gets the old box: textual bias, %",
    "old name": "the old name is written: visual bias, %"}  # fmt: skip


def _dot(ax: Axes, y: float, value: float | None, ends: Sequence[float | None], **style: Any) -> None:
    """Draw a value on line `y`, and a line between the `ends` of its interval unless they are `None`."""
    if value is None:
        ax.text(0, y, "undefined", fontsize=8, color=palette.MEDIUM, va="center")
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
    style = {"marker": "o", "linestyle": "", "color": palette.DARK}
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
    title = "Predicted names that do not occur in the text, at the real and at a blank image (single run)"
    figure, axes = _lines(names, len(texts), 4.8, title)
    x = max(1.0, *(row[key] for row in rows for key in ("rate real", "rate blank")))
    for ax, text in zip(axes, texts, strict=True):
        of_text = [row for row in rows if row["text"] == text]
        for row in of_text:
            y, style = names.index(row["name"]), {"color": palette.setting(row["name"], names)}
            _dot(ax, y, row["rate real"], (row["rate blank"], row["rate real"]), **style)
            _dot(ax, y, row["rate blank"], (None, None), **style, **_HOLLOW)
            ax.annotate("{difference:+.1f} ({ci_low:.1f} to {ci_high:.1f})".format(**row), (x, y), **_BESIDE)
        ticks = [tick for tick in MaxNLocator(4).tick_values(0, x) if tick <= x]
        ax.set(
            xlim=(-0.03 * x, 1.75 * x),
            xticks=ticks,
            xlabel="foreign names, %   (written: image-caused part, 95 %)",
        )
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


def claims(rows: Rows) -> Figure:
    """A line per row of `Plan.evaluate` that has a run and something to draw, under its claim; the tables
    have the others, such as descriptions of one setting.
    """
    lines, told = [], [row for row in rows if row["second"] or row["kind"] == "level"]
    run = [row for row in told if row["n_seeds"]]  # `lines`: label and row; `None` = heading of a claim
    for number in unique(run, "number"):
        of_claim = [row for row in run if row["number"] == number]
        heading = "{number}  {claim} ({paper})".format(**of_claim[0]).strip()
        lines += [(line, None) for line in textwrap.wrap(heading, 60)]
        lines += [(": ".join(cells(row)[:2]), row) for row in of_claim]
    title = "Claims over seeds. Full dot: shown, cross: the opposite is shown, ring: neither; ↑ ↓: expected; "
    title += "bar: none or little; small dots: seeds; line: 95 %"
    if n_missing := len(told) - len(run):
        title += f"\n{n_missing} of {len(told)} contrasts have no run yet, and no line here"
    figure, (ax,) = panels(1, (palette.WIDTH_IN, 1.4 + 0.24 * len(lines)), title)
    palette.name_lines(ax, [text for text, _ in lines])
    ax.axvline(0, color=palette.DARK, linewidth=0.8)
    styles = {
        "shown": {"color": palette.RIGHT},
        "the opposite is shown": {"color": palette.REGION, "marker": "X"},
    }
    for y, (tick, (_, row)) in enumerate(zip(ax.get_yticklabels(), lines, strict=True)):
        tick.set(fontsize=8, fontweight="normal" if row else "bold")
        if row is None:
            continue
        if row["kind"] in ("equal", "little", "level"):
            ends = [0 if row["kind"] == "level" else -row["margin"], row["margin"]]
            ax.plot(ends, [y, y], color=palette.LIGHT, linewidth=9, solid_capstyle="butt", zorder=0)
        style, n = styles.get(row["verdict"], {"color": palette.DARK, **_HOLLOW}), row["n_seeds"]
        _dot(ax, y, row["mean"], (row["ci_low"], row["ci_high"]), **style)
        ax.scatter([*row["per_seed"].values()], [y + 0.25] * n, 9, style["color"], alpha=0.55, lw=0)
    ax.set_xscale("symlog", linthresh=_LINEAR, linscale=0.8)  # a style may move by 70 points, the rest by 5
    (low, high), ticks = ax.get_xlim(), (-100, -30, -10, -5, 0, 5, 10, 30, 100)
    ax.set_xticks(*[[x for x in ticks if low <= x <= high]] * 2, fontsize=8)
    beside = ax.twinx()
    words = ["{}  {} seeds  {}".format(*cells(row)[2:]) if row else "" for _, row in lines]
    beside.set_yticks(range(len(lines)), words, fontsize=8)
    beside.set_ylim(ax.get_ylim())
    beside.tick_params(length=0)
    beside.grid(visible=False)
    ax.set(xlabel=f"first − second, points (without a second: %); beyond {_LINEAR} logarithmic")
    return figure


def curves(rows: Rows, *, title: str, xlabel: str, scale: str = "linear") -> Figure:
    """Means over seeds, their intervals and seeds against `x`, by `panel` and `line`; ring: the default."""
    names, values = unique(rows, "line"), sorted({row["x"] for row in rows})
    figure, axes = panels(len(unique(rows, "panel")), (3.5, 3.1), title, n_columns=2, sharey=True)
    for ax, panel in zip(axes, unique(rows, "panel"), strict=True):
        for marker, name in zip("osDv^" * len(names), names, strict=False):
            of = sorted((r for r in rows if (r["panel"], r["line"]) == (panel, name)), key=lambda r: r["x"])
            x, colour = [row["x"] for row in of], palette.setting(name, names)
            ax.plot(x, [row["mean"] for row in of], color=colour, marker=marker, markersize=5, label=name)
            for row in of:
                seeds = list(row["per_seed"].values())
                ax.scatter([row["x"]] * len(seeds), seeds, s=9, color=colour, alpha=0.5, linewidths=0)
                ax.plot([row["x"]] * 2, [row["ci_low"], row["ci_high"]], color=colour, linewidth=1.5)
                if row.get("default"):
                    ax.plot(row["x"], row["mean"], "o", markersize=11, color=colour, fillstyle="none")
        ax.set(title=panel, xlabel=xlabel, ylabel="%", xscale=scale)
        if scale == "log":
            ax.set_xticks(values, [f"{x:g}" for x in values])
            ax.minorticks_off()
    axes[0].legend()
    return figure


def seed_values(rows: Rows) -> Rows:
    """Rows of scores as the values of a figure: one column per seed."""
    seeds = [{f"seed {seed}": value for seed, value in row.get("per_seed", {}).items()} for row in rows]
    return [{k: row[k] for k in row if k != "per_seed"} | of for row, of in zip(rows, seeds, strict=True)]
