"""Pictures of settings: rows as the model sees them, curves, rollouts, the same tweets side by side, scores
and errors by setting.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mcr_lib.answer import parse_answer
from mcr_lib.data.images import open_image
from mcr_lib.metrics import Judged
from mcr_lib.rewards import NAMES
from mcr_lib.study.figures import plots
from mcr_lib.study.figures.plots_chains import REWARD_COLOURS
from mcr_lib.study.tables import comparison
from mcr_lib.study.tables.injection import REWARD_COLUMNS
from mcr_lib.study.tables.rollouts import Group
from mcr_lib.study.tables.training import EncodedRow

Rows = Sequence[Mapping[str, Any]]

SETTING_COLOURS = {"base": "#8C8C8C", "sft": "#56B4E9", "mrsi": "#E69F00", "mcr": "#0072B2"}
OTHER_COLOURS = ("#009E73", "#CC79A7", "#D55E00", "#000000", "#6A3D9A", "#B8A500", "#8B5A2B", "#9E0142")

ERROR_COLOURS = dict(
    zip(
        (*comparison.GOLD_KINDS, *comparison.EXTRA_KINDS),
        ("#D9D9D9", "#E69F00", "#D55E00", "#F0B08A", "#F0E442", "#56B4E9", "#0072B2", "#009E73", "#CC79A7"),
        strict=True,
    )
)


def colour(name: str, names: Sequence[str]) -> str:
    """The colour of a setting: fixed for the four of the paper, by place for others."""
    others = [other for other in names if other not in SETTING_COLOURS]
    return SETTING_COLOURS.get(name) or OTHER_COLOURS[others.index(name) % len(OTHER_COLOURS)]


def as_seen(seen: Mapping[str, EncodedRow]) -> Figure:
    """The image of a row as resized for the model, one frame per setting, with the boxes that its completion
    teaches in its own numbers.
    """
    figure, axes = plt.subplots(1, len(seen), figsize=(3.6 * len(seen), 3.9), squeeze=False)
    for ax, (name, row) in zip(axes.flat, seen.items(), strict=True):
        width, height = row.size or (300, 200)
        if row.images:
            ax.imshow(
                np.asarray(row.images[0].convert("RGB")),
                extent=(0, width, height, 0),
                interpolation="nearest",
            )
        ax.set(
            xlim=(0, width),
            ylim=(height, 0),
            aspect="equal",
            title=f"{name}: {width} × {height} px as resized",
        )
        ax.grid(visible=False)
        for entity in parse_answer(
            row.completion, labels=row.example.labels, constraints=row.example.constraints
        ).entities:
            if entity.box_xyxy:
                label = f"{entity.text} {list(entity.box_xyxy)}"
                plots.draw_box(
                    ax,
                    entity.box_xyxy,
                    plots.TYPE_COLOURS.get(entity.type, plots.OTHER_COLOUR),
                    "solid",
                    label,
                )
    return figure


def curves(rows: Rows, panels: Mapping[str, str], *, title: str, n_columns: int = 3) -> Figure:
    """Curves over updates, a panel per quantity, a line per setting; where many, a running mean over the raw
    line.

    Args:
        rows: of `training.curve_rows`.
        panels: key of the rows -> label of the axis with its unit.
    """
    names = list(dict.fromkeys(row["setting"] for row in rows))
    n_rows = -(-len(panels) // n_columns)
    figure, axes = plt.subplots(
        n_rows, n_columns, figsize=(3.1 * n_columns, 2.5 * n_rows + 0.5), squeeze=False
    )
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    for ax, (key, label) in zip(axes.flat, panels.items(), strict=False):
        for name in names:
            points = [
                (row["step"], row[key]) for row in rows if row["setting"] == name and row.get(key) is not None
            ]
            if points:
                _line(ax, *np.array(points, dtype=float).T, colour(name, names), name)
        if not ax.lines:
            ax.text(
                0.5,
                0.5,
                "not measured in this run",
                transform=ax.transAxes,
                ha="center",
                color=plots.OTHER_COLOUR,
            )
        ax.set(xlabel="update", ylabel=label)
        _axes(ax)
    if len(names) > 1:
        axes.flat[0].legend()
    figure.suptitle(title + " (single run)", x=0.01, ha="left", fontsize=10)
    return figure


def rewards(rows: Rows) -> Figure:
    """The five rewards and their sum R over updates: mean of an update's answers, their spread as a band; a
    row of panels per setting.
    """
    names = list(dict.fromkeys(row["setting"] for row in rows))
    figure, axes = plt.subplots(len(names), 6, figsize=(11.4, 2.3 * len(names) + 0.5), squeeze=False)
    series = [*((f"{key}_mean", f"{key}_std", symbol, REWARD_COLOURS[symbol]) for key, symbol in zip(NAMES, REWARD_COLUMNS, strict=True)),
              ("reward", "reward_std", "R", "#000000")]  # fmt: skip
    for line, name in zip(axes, names, strict=True):
        of_setting = [row for row in rows if row["setting"] == name]
        for ax, (mean, spread, symbol, shade) in zip(line, series, strict=True):
            kept = [row for row in of_setting if row.get(mean) is not None]
            steps, middle = (np.array([row[key] for row in kept], dtype=float) for key in ("step", mean))
            if len(kept):
                width = np.array([row.get(spread) or 0.0 for row in kept])
                ax.fill_between(steps, middle - width, middle + width, color=shade, alpha=0.12, linewidth=0)
                _line(ax, steps, middle, shade, None)
            ax.set(
                title=f"{name} · {symbol}",
                xlabel="update",
                ylim=(0, len(NAMES) * 1.04 if symbol == "R" else 1.04),
            )
            ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    figure.suptitle(
        "Rewards of sampled answers: mean, and ± spread (single run)", x=0.01, ha="left", fontsize=10
    )
    return figure


def hand_made(rows: Rows) -> Figure:
    """The rewards of each hand-made rollout, and the advantage that its group gives it
    (`rollouts.hand_made_rows`).
    """
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(8.4, 0.42 * len(rows) + 1.3), width_ratios=(6, 3), sharey=True
    )
    plots.reward_heatmap(left, rows, case="rollout", columns=(*REWARD_COLUMNS, "R"), vmax=1.0, digits=2)
    left.axvline(len(REWARD_COLUMNS) - 0.5, color="white", linewidth=4)
    left.set_title("rewards in [0, 1] and their sum R", pad=22)
    values = np.array([row["advantage"] for row in rows])
    bars = right.barh(range(len(rows)), values, color=np.where(values >= 0, "#0072B2", "#D55E00"), height=0.6)
    right.bar_label(bars, [f"{value:+.2f}" for value in values], padding=3, fontsize=8)
    right.axvline(0, color=plots.REFERENCE_COLOUR, linewidth=0.8)
    edge = 1.9 * max(1.0, np.abs(values).max())
    right.set(xlim=(-edge, edge), title="advantage")
    right.grid(visible=False)
    return figure


def rollouts(groups: Sequence[Group], n_columns: int = 4) -> Figure:
    """Groups of rollouts, a row each: gold boxes solid, those of the answer dashed, with R and advantage;
    best and worst where many.
    """
    chosen = [_ends(len(group.rows), n_columns) for group in groups]
    drawn = [
        [(group.judged[k].example, group.judged[k].predictions) for k in some]
        for group, some in zip(groups, chosen, strict=True)
    ]
    figure, axes = plots.picture_grid(drawn, n_columns, head=0.3)
    for line, group, some in zip(axes, groups, chosen, strict=True):
        image = _image(group.judged[0])
        for ax in line[len(some) :]:
            ax.set_axis_off()
        for ax, k in zip(line, some, strict=False):
            judged, row = group.judged[k], group.rows[k]
            plots.draw_example(ax, judged.example, image, judged.predictions)
            five = " ".join(
                f"{s} {row[n]:.2f}" for n, s in zip(NAMES, REWARD_COLUMNS, strict=True) if row[n] is not None
            )
            worthless = f"\nearns nothing: {row['worthless']}" if row["worthless"] else ""
            title = f"{group.setting}, update {group.step} · R {row['reward']:.2f}, advantage {row['advantage']:+.2f}\n{five}{worthless}"
            ax.set_title(title, fontsize=7, color="black")
            ax.set_anchor("N")
    return figure


def side_by_side(by_setting: Mapping[str, Sequence[Judged]], note: str = "") -> Figure:
    """The same tweets in every setting, a row per tweet: gold boxes solid, predicted boxes dashed; the note
    above.
    """
    names, columns = list(by_setting), list(by_setting.values())
    tweets = list(zip(*columns, strict=True))
    figure, axes = plots.picture_grid(
        [[(j.example, j.predictions) for j in tweet] for tweet in tweets], len(names)
    )
    for line, tweet in zip(axes, tweets, strict=True):
        image = _image(tweet[0])
        for ax, name, judged in zip(line, names, tweet, strict=True):
            plots.draw_example(ax, judged.example, image, judged.predictions)
            ax.set_title(
                f"{name} · {judged.example.id}", fontsize=8, color=colour(name, names), fontweight="bold"
            )
            ax.set_anchor("N")
    if note:
        figure.suptitle(note, fontsize=7.5, color=plots.REFERENCE_COLOUR, x=0.01, ha="left")
    return figure


def groundings(rows: Rows, blind: Rows = (), *, n: int) -> Figure:
    """False against missed grounding of each setting with 95 % intervals (`comparison.grounding_rows`), and of
    rules that look at nothing (`comparison.blind_rows`); those that treat all entities alike lie on the dotted
    line.
    """
    figure, ax = plt.subplots(figsize=(5.0, 4.6))
    ax.plot([0, 100], [100, 0], color=plots.REFERENCE_COLOUR, linestyle=":", linewidth=1)
    ax.annotate(
        "all entities alike",
        (72, 28),
        rotation=-45,
        ha="center",
        va="bottom",
        fontsize=8,
        color=plots.REFERENCE_COLOUR,
    )
    for row in blind:
        ax.plot(
            row["false_grounding"], row["missed_grounding"], "x", color="#444444", markersize=6, clip_on=False
        )
        at_top = row["missed_grounding"] > 50
        place = {"xytext": (7, -2 if at_top else 4), "va": "top" if at_top else "bottom"}
        ax.annotate(
            row["rule"],
            (row["false_grounding"], row["missed_grounding"]),
            textcoords="offset points",
            fontsize=7,
            **place,
        )
    names, axes = [row["setting"] for row in rows], ("false_grounding", "missed_grounding")
    for k, row in enumerate(rows):
        if None not in [row[key] for key in axes]:
            x, y = (
                [[max(0, row[key] - row[f"{key}_low"])], [max(0, row[f"{key}_high"] - row[key])]]
                for key in axes
            )
            style = {
                "color": colour(row["setting"], names),
                "label": row["setting"],
                "fmt": "o",
                "capsize": 2.5,
            }
            style["markersize"] = 12 - 8 * k / max(
                1, len(rows) - 1
            )  # those that coincide stand in each other
            ax.errorbar(*(row[key] for key in axes), xerr=x, yerr=y, **style)
    ax.set(
        xlim=(-2, 102),
        ylim=(-2, 102),
        aspect="equal",
        title=f"Grounding where the span is right (n = {n:,}, single run)",
    )
    ax.set(
        xlabel="false grounding: boxed / not in the image, %",
        ylabel="missed grounding: no box / in the image, %",
    )
    if ax.get_legend_handles_labels()[0]:
        ax.legend(
            **(
                {"loc": "upper right"}
                if len(rows) <= 5
                else {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}
            )
        )
    return figure


def types(rows: Rows, *, n: int) -> Figure:
    """GMNER F1 by entity type and setting (`comparison.type_rows`)."""
    labels = [key for key in rows[0] if key != "setting"]
    figure, ax = plt.subplots(figsize=(1.6 + 0.75 * len(labels), 0.42 * len(rows) + 1.1))
    plots.reward_heatmap(ax, rows, case="setting", columns=labels, digits=1)
    ax.set_title(f"GMNER F1 by type, % (n = {n:,}, single run)", pad=22)
    return figure


def errors(rows: Rows, *, n: int) -> Figure:
    """What became of the gold entities, and what was predicted beside them, by setting
    (`comparison.error_rows`).
    """
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(9.6, 0.5 * len(rows) + 2.2), width_ratios=(3, 1.4), sharey=True
    )
    parts = (
        (left, comparison.GOLD_KINDS, f"gold entities (n = {n:,} tweets)"),
        (right, comparison.EXTRA_KINDS, "beside them"),
    )
    for ax, kinds, title in parts:
        _stacked(ax, rows, kinds)
        ax.set(
            title=title,
            xlabel="entities",
            yticks=range(len(rows)),
            yticklabels=[row["setting"] for row in rows],
            xlim=(0, None),
        )
        ax.grid(visible=False, axis="y")
        ax.legend(
            ncols=4 if ax is left else 1,
            loc="upper center",
            bbox_to_anchor=(0.5, -0.55 / len(rows) - 0.08),
            fontsize=7,
        )
    left.invert_yaxis()
    return figure


def _stacked(ax: Axes, rows: Rows, kinds: Sequence[str]) -> None:
    """Horizontal bars, one per row, stacked from counts by kind, each count written into its part unless that
    is small.
    """
    start, longest = np.zeros(len(rows)), max(1.0, *(sum(row[kind] for kind in kinds) for row in rows))
    for kind in kinds:
        counts = np.array([row[kind] for row in rows], dtype=float)
        ax.barh(range(len(rows)), counts, left=start, color=ERROR_COLOURS[kind], height=0.62, label=kind)
        for k in np.flatnonzero(counts > 0.04 * longest):
            place = {"ha": "center", "va": "center", "fontsize": 7, "color": plots.ink(ERROR_COLOURS[kind])}
            ax.text(start[k] + counts[k] / 2, k, f"{counts[k]:.0f}", **place)
        start += counts


def noted(figure: Figure, note: str) -> Figure:
    """The figure with a line below it, where there is one to be said."""
    if note:
        figure.supxlabel(note, fontsize=7.5, color=plots.REFERENCE_COLOUR, x=0.01, ha="left")
    return figure


def _line(ax: Axes, steps: np.ndarray, values: np.ndarray, shade: str, label: str | None) -> None:
    """A line; of more than 40 points the raw one is faint and a running mean over a twentieth of them stands
    on it.
    """
    width = len(steps) // 20
    if width < 2:
        ax.plot(steps, values, color=shade, label=label, marker="o" if len(steps) < 3 else None)
        return
    ax.plot(steps, values, color=shade, alpha=0.3, linewidth=0.8)
    smooth = np.convolve(values, np.ones(width) / width, mode="valid")
    ax.plot(steps[width - 1 :], smooth, color=shade, label=label)


def _axes(ax: Axes) -> None:
    """Whole updates below; quantities that cannot be negative start at 0, shares in percent end at 100."""
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    if ax.dataLim.y0 >= 0:
        ax.set_ylim(0, 104 if ax.get_ylabel().endswith("%") else None)


def _image(judged: Judged) -> Any:
    return open_image(judged.example.images[0]) if judged.example.images else None


def _ends(n: int, n_shown: int) -> list[int]:
    """The first and the last of n, so many in all."""
    if n <= n_shown:
        return list(range(n))
    half = -(-n_shown // 2)
    return [*range(half), *range(n - (n_shown - half), n)]
