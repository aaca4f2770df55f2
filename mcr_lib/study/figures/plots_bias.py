"""Pictures of notebook 06: shortcuts drawn, rates with intervals beside rules that look at nothing, wrong
boxes, probes, consistency.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mcr_lib import bias
from mcr_lib.data.images import open_image
from mcr_lib.schema import Example, PredictedEntity
from mcr_lib.study.figures import plots
from mcr_lib.study.figures.plots_training import colour
from mcr_lib.study.tables.bias import FAITHFUL, WRONG
from mcr_lib.study.tables.bias_cases import Case

Rows = Sequence[Mapping[str, Any]]

BLIND_COLOUR = "#444444"
WRONG_COLOURS = dict(zip(WRONG, ("#BBBBBB", "#D55E00", "#0072B2", "#F0E442"), strict=True))
INVENTED_COLOURS = dict(zip(bias.INVENTED, ("#0072B2", "#777777", "#CCCCCC"), strict=True))
FAULT_COLOURS = dict(
    zip(bias.FAULTS, ("#000000", "#0072B2", "#D55E00", "#E69F00", "#F0E442", "#CC79A7"), strict=True)
)
FAULT_COLOURS = {"clean": "#009E73", **FAULT_COLOURS}
FLAW_COLOURS = (
    "#D55E00",
    "#0072B2",
    "#E69F00",
    "#CC79A7",
    "#56B4E9",
    "#F0E442",
    "#000000",
    "#999999",
    "#7A4A00",
    "#004A73",
    "#DDDDDD",
    "#5B2C83",
)

PROBE_LABELS = {
    "blank_mean": "blank:\none colour", "blank_noise": "blank:\nnoise", "blank_blur": "blank:\nblur", "blank": "blank:\nthe worst",
    "swap_hard": "other image,\nsame type", "swap_easy": "other image,\nother type", "mute": "muted\nname", "mute_blank": "muted,\nblank",
    "erase": "erased\nbox", "rename": "renamed", "add_bait": "bait\nadded", "all": "all\nprobes",
}  # fmt: skip


def cases(drawn: Sequence[Case]) -> Figure:
    """The hand-made tweets, one per row: the right answer left, that of the shortcut right; gold boxes solid,
    predicted ones dashed.
    """
    pairs = [drawn[k : k + 2] for k in range(0, len(drawn), 2)]
    figure, axes = plots.picture_grid([[(case.example, case.answer) for case in pair] for pair in pairs], 2)
    for ax, case in zip(axes.flat, drawn, strict=True):
        plots.draw_example(ax, case.example, case.picture, case.answer)
        shade = "#1a7f4f" if case.name == "right" else "#b3400a"
        ax.set_title(f"{case.example.id} bias · {case.name}", fontsize=9, color=shade, fontweight="bold")
        ax.set_anchor("N")
    return figure


def rates(rows: Rows, panels: Mapping[str, str], *, n: int, hard: bool = False, title: str = "") -> Figure:
    """A panel per metric, a line per setting and, grey, per rule that looks at nothing; dots with 95 %
    intervals.

    Args:
        rows: of `tables.bias.grounding_rows`.
        panels: key of the metric -> what the axis says, with an arrow to the better side.
        hard: also draw the hard subset, hollow.
    """
    every = [row for row in rows if row["entities"] == "all"]
    names = [row["name"] for row in every if row["kind"] == "setting"]
    figure, axes = plt.subplots(
        1, len(panels), figsize=(2.2 + 2.4 * len(panels), 1.5 + 0.33 * len(every)), sharey=True, squeeze=False
    )
    for ax, (key, label) in zip(axes.flat, panels.items(), strict=True):
        for y, row in enumerate(every):
            shade = colour(row["name"], names) if row["kind"] == "setting" else BLIND_COLOUR
            _dot(ax, row, key, y - 0.14 * hard, shade, "o" if row["kind"] == "setting" else "x")
            if hard:
                of_hard = next(
                    r
                    for r in rows
                    if (r["name"], r["kind"], r["entities"]) == (row["name"], row["kind"], "hard")
                )
                _dot(
                    ax,
                    of_hard,
                    key,
                    y + 0.18,
                    shade,
                    "o" if row["kind"] == "setting" else "x",
                    is_hollow=True,
                )
        ax.set(xlim=(-4, 104), xticks=range(0, 101, 25), xlabel=label, ylim=(len(every) - 0.5, -0.5))
        ax.axhline(len(names) - 0.5, color="#bbbbbb", linewidth=0.8)
        ax.grid(visible=True, axis="x")
        ax.grid(visible=False, axis="y")
    labels = [row["name"] if row["kind"] == "setting" else f"rule: {row['name']}" for row in every]
    axes[0, 0].set_yticks(range(len(every)), labels)
    if hard:
        n_hard = next((row["tweets"] for row in rows if row["entities"] == "hard"), 0)
        label = f"hard subset ({n_hard:,} tweets)"
        handles = [Line2D([], [], marker="o", linestyle="", color="k", label="all entities"),
                   Line2D([], [], marker="o", linestyle="", color="k", markerfacecolor="white", label=label)]  # fmt: skip
        figure.legend(handles=handles, loc="outside lower right", ncols=2)
    figure.suptitle(
        f"{title} (n = {n:,}, single run, 95 % intervals over tweets)", fontsize=10, x=0.01, ha="left"
    )
    return figure


def _dot(
    ax: Axes, row: Mapping[str, Any], key: str, y: float, shade: str, marker: str, *, is_hollow: bool = False
) -> None:
    if row[key] is None:
        ax.text(0, y, "undefined", fontsize=7, color="#888888", va="center")
        return
    low, high = row.get(f"{key}_low"), row.get(f"{key}_high")
    spread = None if low is None else [[max(0, row[key] - low)], [max(0, high - row[key])]]
    face = {"markerfacecolor": "white"} if is_hollow else {}
    ax.errorbar(
        row[key],
        y,
        xerr=spread,
        fmt=marker,
        color=shade,
        capsize=2.5,
        linewidth=1.3,
        markersize=5,
        clip_on=False,
        **face,
    )


def naming(rows: Rows, *, n: int) -> Figure:
    """N-Rate of each name and rule with its interval, N-Count of all predictions written beside it."""
    names = [row["name"] for row in rows if row["kind"] == "setting"]
    figure, ax = plt.subplots(figsize=(6.4, 1.3 + 0.36 * len(rows)))
    for y, row in enumerate(rows):
        if row["n_predictions"]:
            is_rule = row["kind"] == "blind rule"
            _dot(
                ax,
                row,
                "n_rate",
                y,
                BLIND_COLOUR if is_rule else colour(row["name"], names),
                "x" if is_rule else "o",
            )
        at = max(row["n_rate"] or 0, row["n_rate_high"] or 0)
        told = (
            f"N-Count {row['n_count']:,} of {row['n_predictions']:,}"
            if row["n_predictions"]
            else "no prediction"
        )
        ax.annotate(told, (at, y), (8, 0), textcoords="offset points", fontsize=8, va="center")
    right = max([*(row["n_rate_high"] or row["n_rate"] or 0 for row in rows), 1])
    ax.set(
        xlim=(-0.02 * right, right * 1.5),
        ylim=(len(rows) - 0.5, -0.5),
        xlabel="N-Rate: names of which the text has no word, % (0 is right)",
    )
    ax.axhline(len(names) - 0.5, color="#bbbbbb", linewidth=0.8)
    ax.set_yticks(
        range(len(rows)),
        [f"rule: {row['name']}" if row["kind"] == "blind rule" else row["name"] for row in rows],
    )
    ax.grid(visible=True, axis="x")
    ax.grid(visible=False, axis="y")
    ax.set_title(f"Names that are not in the text (n = {n:,} tweets, single run, 95 % intervals)")
    return figure


def invented(rows: Rows) -> Figure:
    """A panel per split: N-Rate of each name, its bar parted by where the names come from; N-Count at its
    end.

    Args:
        rows: of `tables.bias.invented_rows`.
    """
    names, splits = (list(dict.fromkeys(row[key] for row in rows)) for key in ("name", "split"))
    kinds = [kind for kind in INVENTED_COLOURS if any(kind in row for row in rows)]
    highest = max(1.0, *(100 * row["n_count"] / max(1, row["n_predictions"]) for row in rows))
    size = (2.2 + 2.6 * len(splits), 1.6 + 0.36 * len(names))
    figure, axes = plt.subplots(1, len(splits), figsize=size, sharey=True, sharex=True, squeeze=False)
    for ax, split in zip(axes.flat, splits, strict=True):
        for row in (row for row in rows if row["split"] == split):
            y, start = names.index(row["name"]), 0.0
            for kind in kinds:
                share = 100 * row.get(kind, 0) / max(1, row["n_predictions"])
                ax.barh(y, share, left=start, color=INVENTED_COLOURS[kind], height=0.62)
                start += share
            ax.text(start + 0.02 * highest, y, f"{row['n_count']:,}", va="center", fontsize=8)
        ax.set(
            xlim=(0, 1.2 * highest), ylim=(len(names) - 0.5, -0.5), xlabel="N-Rate, %  (N-Count at the end)"
        )
        ax.set_title(split)
        ax.set_yticks(range(len(names)), names)
        ax.grid(visible=False, axis="y")
    handles = [
        Line2D([], [], marker="s", linestyle="", markersize=7, color=INVENTED_COLOURS[kind], label=kind)
        for kind in kinds
    ]
    figure.legend(handles=handles, loc="outside right upper", fontsize=8)
    figure.suptitle(
        "Where names come from of which the text has no word (single run)", fontsize=10, x=0.01, ha="left"
    )
    return figure


def stacked(
    rows: Rows, shades: Mapping[str, str], *, title: str, xlabel: str, as_share: bool = False
) -> Figure:
    """Horizontal bars, one per name, stacked from the counts of some kinds; each part's count in it, the
    total at the end.

    Args:
        shades: kind, a key of the rows -> colour.
        as_share: whether bars are drawn as shares of their total, all of one length.
    """
    kinds = [kind for kind in shades if any(kind in row for row in rows)]
    totals = [max(1, sum(row.get(kind, 0) for kind in kinds)) for row in rows]
    longest = 100 if as_share else max(totals)
    figure, ax = plt.subplots(figsize=(9.2, 1.5 + 0.42 * len(rows)))
    for y, (row, total) in enumerate(zip(rows, totals, strict=True)):
        start, scale = 0.0, 100 / total if as_share else 1.0
        for kind in kinds:
            count = row.get(kind, 0)
            ax.barh(y, count * scale, left=start, color=shades[kind], height=0.62)
            if count * scale > 0.04 * longest:
                place = {"ha": "center", "va": "center", "fontsize": 7.5, "color": plots.ink(shades[kind])}
                ax.text(start + count * scale / 2, y, f"{count:,}", **place)
            start += count * scale
        ax.text(
            start + 0.01 * longest, y, f"{sum(row.get(kind, 0) for kind in kinds):,}", va="center", fontsize=8
        )
    ax.set(xlim=(0, 1.1 * longest), ylim=(len(rows) - 0.5, -0.5), xlabel=xlabel, title=title)
    ax.set_yticks(range(len(rows)), [row["name"] for row in rows])
    ax.grid(visible=False, axis="y")
    handles = [
        Line2D([], [], marker="s", linestyle="", markersize=7, color=shades[kind], label=kind)
        for kind in kinds
    ]
    figure.legend(handles=handles, loc="outside right upper", fontsize=8)
    return figure


def probed(
    tweets: Mapping[str, Example],
    answers: Mapping[str, Sequence[PredictedEntity]] | None = None,
    n_columns: int = 4,
) -> Figure:
    """One tweet as it is and under each probe, with the gold that is right there; answers dashed, where
    given.
    """
    shown = list(tweets.items())
    rows = [shown[k : k + n_columns] for k in range(0, len(shown), n_columns)]
    said = answers or {}
    figure, axes = plots.picture_grid(
        [[(example, said.get(name)) for name, example in row] for row in rows], n_columns
    )
    for ax in axes.flat[len(shown) :]:
        ax.set_axis_off()
    for ax, (name, example) in zip(axes.flat, shown, strict=False):
        plots.draw_example(ax, example, open_image(example.images[0]), said.get(name))
        ax.set_title(
            PROBE_LABELS.get(name, name).replace("\n", " "), fontsize=9, color="black", fontweight="bold"
        )
        ax.set_anchor("N")
    return figure


def consistency(rows: Rows) -> Figure:
    """A table of settings and probes: the share of clean answers among tweets right on the original, with
    both counts.
    """
    names, variants = (list(dict.fromkeys(row[key] for row in rows)) for key in ("name", "probe"))
    cell = {(row["name"], row["probe"]): row for row in rows}
    shares = np.array([[_share(cell.get((name, variant))) for variant in variants] for name in names])
    figure, ax = plt.subplots(figsize=(1.4 + 0.82 * len(variants), 1.5 + 0.5 * len(names)))
    shades = plt.get_cmap("Blues").with_extremes(bad="#eeeeee")
    ax.imshow(np.ma.masked_invalid(shares) * 0.75, cmap=shades, vmin=0, vmax=100, aspect="auto")
    for i, j in np.ndindex(shares.shape):
        row = cell.get((names[i], variants[j]))
        text = (
            "–"
            if row is None
            else f"{row['consistency']:.0f} %\n{row['clean']} of {row['right']}"
            if row["right"]
            else "none\nright"
        )
        ax.text(
            j,
            i,
            text,
            ha="center",
            va="center",
            fontsize=7.5,
            color="white" if shares[i, j] * 0.75 > 60 else "black",
        )
    ax.set_xticks(range(len(variants)), [PROBE_LABELS[variant] for variant in variants], fontsize=7.5)
    ax.set_yticks(range(len(names)), names)
    ax.tick_params(length=0)
    ax.xaxis.tick_top()
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    ax.set_title("Clean on the probe, of the tweets that were right before (single run)", pad=12)
    return figure


def faults(rows: Rows) -> Figure:
    """Per setting and probe: what became of the tweets that were right on the original, in percent."""
    chosen = [row for row in rows if row["probe"] not in ("blank", "all")]
    names, variants = (list(dict.fromkeys(row[key] for row in chosen)) for key in ("name", "probe"))
    n_columns = 2 if len(names) > 1 else 1
    n_lines = -(-len(names) // n_columns)
    size = (1.8 + 4.4 * n_columns, 0.7 + (0.9 + 0.24 * len(variants)) * n_lines)
    figure, axes = plt.subplots(n_lines, n_columns, figsize=size, squeeze=False, sharey=True)
    for ax in axes.flat[len(names) :]:
        ax.set_axis_off()
    for ax, name in zip(axes.flat, names, strict=False):
        of_name = {row["probe"]: row for row in chosen if row["name"] == name}
        for y, variant in enumerate(variants):
            row, start = of_name.get(variant), 0.0
            for kind, shade in FAULT_COLOURS.items():
                share = 100 * row[kind] / row["right"] if row and row["right"] else 0
                ax.barh(y, share, left=start, color=shade, height=0.7)
                start += share
            ax.text(101, y, f"{row['right'] if row else 0}", fontsize=7, va="center")
        ax.set_yticks(
            range(len(variants)),
            [PROBE_LABELS[variant].replace("\n", " ") for variant in variants],
            fontsize=7.5,
        )
        ax.set(
            ylim=(len(variants) - 0.5, -0.5),
            xlim=(0, 108),
            xticks=range(0, 101, 25),
            xlabel="% of tweets right on the original",
        )
        ax.set_title(name, color=colour(name, names), fontweight="bold")
        ax.grid(visible=False, axis="y")
    handles = [
        Line2D([], [], marker="s", linestyle="", markersize=7, color=shade, label=kind)
        for kind, shade in FAULT_COLOURS.items()
    ]
    figure.legend(handles=handles, loc="outside right upper", fontsize=8)
    figure.suptitle(
        "What becomes of right answers under a probe (single run; right of each bar: tweets)",
        fontsize=10,
        x=0.01,
        ha="left",
    )
    return figure


def image_caused(rows: Rows) -> Figure:
    """N-Rate at the real image (full) and at a blank one (hollow), for the text as it is and muted, with the
    difference.
    """
    texts = list(dict.fromkeys(row["text"] for row in rows))
    names = list(dict.fromkeys(row["name"] for row in rows))
    size = (2.2 + 4.0 * len(texts), 1.5 + 0.5 * len(names))
    figure, axes = plt.subplots(1, len(texts), figsize=size, squeeze=False, sharey=True)
    for ax, text in zip(axes.flat, texts, strict=True):
        of_text = [row for row in rows if row["text"] == text]
        right = max([1.0, *(max(row["n_rate real"], row["n_rate blank"]) for row in of_text)])
        for row in of_text:
            y, shade = names.index(row["name"]), colour(row["name"], names)
            ax.plot([row["n_rate blank"], row["n_rate real"]], [y, y], color=shade, linewidth=2, zorder=1)
            ax.plot(row["n_rate real"], y, "o", color=shade, markersize=7, clip_on=False)
            ax.plot(
                row["n_rate blank"], y, "o", color=shade, markersize=7, markerfacecolor="white", clip_on=False
            )
            told = f"{row['difference']:+.1f} ({row['ci_low']:.1f} to {row['ci_high']:.1f})"
            ax.text(1.08 * right, y, told, fontsize=7.5, va="center")
        n = max(row["tweets"] for row in of_text)
        ax.set(
            xlim=(-0.03 * right, 1.75 * right),
            ylim=(len(names) - 0.5, -0.5),
            xlabel="N-Rate, %   (written: image-caused part, 95 %)",
        )
        ax.set_title(f"text {text} (n = {n:,} tweets)")
        ax.set_xticks([tick for tick in ax.get_xticks() if 0 <= tick <= right])
        ax.set_yticks(range(len(names)), names)
        ax.grid(visible=True, axis="x")
        ax.grid(visible=False, axis="y")
    handles = [Line2D([], [], marker="o", linestyle="", color="k", label="real image"),
               Line2D([], [], marker="o", linestyle="", color="k", markerfacecolor="white", label="blank image")]  # fmt: skip
    figure.legend(handles=handles, loc="outside right upper")
    figure.suptitle(
        "Names of which the text has no word, at the real image and at a blank one (single run)",
        fontsize=10,
        x=0.01,
        ha="left",
    )
    return figure


def renamed(rows: Rows) -> Figure:
    """After renaming, the share of tweets in which something that is not shown got the old box, and in which
    the old name was written.
    """
    labels = {
        "old box": "something not shown gets the old box: textual bias, %",
        "old name": "the old name is written: visual bias, %",
    }
    names = list(dict.fromkeys(row["name"] for row in rows))
    figure, axes = plt.subplots(1, 2, figsize=(9.2, 1.3 + 0.36 * len(names)), sharey=True)
    for ax, sign in zip(axes, labels, strict=True):
        for row in (row for row in rows if row["sign"] == sign):
            y, high = names.index(row["name"]), row["ci_high"]
            _dot(
                ax,
                {"share": row["share"], "share_low": row["ci_low"], "share_high": high},
                "share",
                y,
                colour(row["name"], names),
                "o",
            )
            ax.annotate(
                f"{row['count']} of {row['tweets']}",
                (high, y),
                (8, 0),
                textcoords="offset points",
                fontsize=8,
                va="center",
            )
        ax.set(xlim=(-3, 122), xticks=range(0, 101, 25), ylim=(len(names) - 0.5, -0.5), xlabel=labels[sign])
        ax.set_yticks(range(len(names)), names)
        ax.grid(visible=True, axis="x")
        ax.grid(visible=False, axis="y")
    figure.suptitle(
        "One shown entity renamed to a name that the image does not show (single run, 95 %)",
        fontsize=10,
        x=0.01,
        ha="left",
    )
    return figure


def faithful(rows: Rows) -> Figure:
    """Answers by whether their reasoning states what they answer, and the first flaw where it does not, in
    percent.
    """
    flaws = dict.fromkeys(key for row in rows for key in row if key not in FAITHFUL)
    shades = {"faithful": "#009E73"} | {
        flaw.replace("_", " "): FLAW_COLOURS[k % len(FLAW_COLOURS)] for k, flaw in enumerate(flaws)
    }
    told = [
        {key.replace("_", " "): value for key, value in row.items()}
        | {"name": f"{row['name']}: {row['share']:.1f} %\n({row['ci_low']:.1f} to {row['ci_high']:.1f})"}
        for row in rows
    ]
    title = "Answers whose own reasoning states just what they answer (95 % intervals)"
    return stacked(told, shades, title=title, xlabel="% of answers (single run)", as_share=True)


def _share(row: Mapping[str, Any] | None) -> float:
    return np.nan if row is None or row["consistency"] is None else row["consistency"]
