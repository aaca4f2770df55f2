"""Pictures of notebook 02: rewards, styles, verification, lengths, D1 and D2, and boxes on images before and
after resizing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mcr_lib.data.images import open_image
from mcr_lib.data.mrsi import Target
from mcr_lib.schema import Example
from mcr_lib.study.figures import plots
from mcr_lib.study.tables import injection
from mcr_lib.study.tables.injection import REWARD_COLUMNS

Rows = Sequence[Mapping[str, Any]]
REWARD_COLOURS = dict(
    zip(REWARD_COLUMNS, ("#666666", "#0072B2", "#E69F00", "#D55E00", "#009E73"), strict=True)
)
"""As the constraints that they check have in other figures; the count is grey."""


def rewards(rows: Rows) -> Figure:
    """The five rewards of each hand-made answer (`injection.reward_rows`), with their sum."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.2, 4.4), width_ratios=(5, 1), sharey=True)
    plots.reward_heatmap(left, rows, case="answer", columns=REWARD_COLUMNS, vmax=1.0)
    plots.reward_heatmap(right, rows, case="answer", columns=("R",), vmax=5.0, digits=2)
    left.set_title("Five rewards of one answer, each in [0, 1]", pad=22)
    right.set_title("sum, λ = 1", pad=22)
    return figure


def grounding(rows: Rows) -> Figure:
    """R_u against the IoU of the one box that counts (`injection.grounding_rows`)."""
    figure, ax = plt.subplots(figsize=(5.8, 3.6))
    styles = {
        "σ = 0.3": ("#56B4E9", "-"),
        "σ = 0.5": ("#D55E00", "-"),
        "σ = 0.7": ("#0072B2", "-"),
        "σ = 0.5, and a stray box": ("#D55E00", ":"),
    }
    for line in dict.fromkeys(row["line"] for row in rows):
        colour, dash = styles.get(line, (plots.OTHER_COLOUR, "-"))
        points = [(row["iou"], row["R_u"]) for row in rows if row["line"] == line]
        shift = {"σ = 0.3": 0.008, "σ = 0.7": -0.008}.get(
            line, 0.0
        )  # lines that coincide above σ, set apart to be seen
        ax.plot(
            [x for x, _ in points],
            [y + shift * (y > 0) for _, y in points],
            color=colour,
            linestyle=dash,
            label=line,
        )
    ax.set(
        xlabel="IoU of the box with the gold box",
        ylabel="R_u",
        xlim=(0, 1),
        ylim=(-0.03, 1.05),
        title="R_u: nothing up to σ, then the IoU",
    )
    ax.legend(loc="upper left")
    return figure


def repairs(rows: Rows) -> Figure:
    """How often mending one mistake raises each reward, and that it lowers none (`injection.repair_rows`)."""
    columns = [f"raise {name}" for name in REWARD_COLUMNS]
    shares = [
        {"mended": f"{row['mended']} (n = {row['repairs']:,})"}
        | {
            name: 100 * row[column] / row["repairs"]
            for name, column in zip(REWARD_COLUMNS, columns, strict=True)
        }
        | {"falls": 100 * row["lower some reward"] / row["repairs"]}
        for row in rows
    ]
    figure, ax = plt.subplots(figsize=(6.6, 3.2))
    plots.reward_heatmap(ax, shares, case="mended", columns=(*REWARD_COLUMNS, "falls"), digits=0)
    ax.axvline(len(REWARD_COLUMNS) - 0.5, color="white", linewidth=4)
    ax.set_title("Repairs that raise each reward, and that lower any, %", pad=22)
    return figure


def orders(rows: Rows) -> Figure:
    """The place at which each constraint is said in each wording (`injection.order_rows`)."""
    symbols = [key for key in rows[0] if key != "wording"]
    figure, ax = plt.subplots(figsize=(4.2, 0.22 * len(rows) + 0.8))
    plots.reward_heatmap(ax, rows, case="wording", columns=symbols, vmax=4.0, digits=0)
    for k in range(3, len(rows), 3):
        ax.axhline(k - 0.5, color="white", linewidth=3)
    ax.set_title("When each constraint is said", pad=22)
    return figure


def caught(rows: Rows) -> Figure:
    """What the verifier makes of each kind of planted error (`injection.mutation_rows`)."""
    columns = [key for key in rows[0] if key not in ("planted", "chains", "passing")]
    named = [{**row, "planted": f"{row['planted']} (n = {row['chains']:,})"} for row in rows]
    figure, ax = plt.subplots(figsize=(2.6 + 0.72 * len(columns), 1.4 + 0.34 * len(rows)))
    plots.reward_heatmap(ax, named, case="planted", columns=columns, digits=1)
    ax.set_xticks(range(len(columns)), columns, rotation=35, ha="left", rotation_mode="anchor")
    ax.axvline(0.5, color="white", linewidth=4)
    ax.set_title("Planted, and what the verifier says, % of chains", pad=58)
    return figure


def lengths(rows: Rows, *, limit: int) -> Figure:
    """Lengths of chains by style, one small histogram each (`injection.length_rows`).

    Args:
        limit: drawn as a line: what the testbed's model can afford.
    """
    names = list(dict.fromkeys(row["style"] for row in rows))
    n_columns = min(3, len(names))
    n_rows = -(-len(names) // n_columns)
    figure, axes = plt.subplots(
        n_rows, n_columns, figsize=(8.4, 1.6 * n_rows + 0.6), sharex=True, squeeze=False
    )
    longest = np.quantile([row["tokens"] for row in rows], 0.999) if rows else 1
    bins = np.linspace(
        0, max(longest, limit) + 1, 41
    )  # one in a thousand is longer; it stands in the last bin
    for ax, name in zip(axes.flat, names, strict=False):
        values = np.array([row["tokens"] for row in rows if row["style"] == name])
        ax.hist(np.minimum(values, bins[-1]), bins=bins, color="#0072B2")
        ax.axvline(limit, color=plots.REFERENCE_COLOUR, linestyle=":", linewidth=1)
        ax.set_title(
            f"{name} · median {np.median(values):.0f}, {100 * np.mean(values <= limit):.0f} % within {limit}",
            fontsize=8,
        )
        ax.set_yticks([])
    for ax in axes.flat[len(names) :]:
        ax.set_axis_off()
    figure.supxlabel("words, numbers and punctuation marks of a chain", fontsize=9)
    figure.suptitle(f"Lengths of chains (n = {len(rows):,}), dotted: {limit}", x=0.01, ha="left", fontsize=10)
    return figure


def resized(examples: Sequence[Example], target: Target) -> Figure | None:
    """Per tweet the original with its gold boxes and, beside it, what the processor sees with the boxes that
    are to be written.

    The picture on the right has the resized pixels; a box drawn there stands where the model will point.
    `None` without examples.
    """
    if not examples:
        return None
    heights = [min(2.0, e.image_size_px[1] / e.image_size_px[0]) + 0.12 for e in examples]
    figure, axes = plt.subplots(
        len(examples), 2, figsize=(8.4, 4.1 * sum(heights)), squeeze=False, height_ratios=heights
    )
    for (left, right), example in zip(axes, examples, strict=True):
        image = open_image(example.images[0]).convert("RGB")
        size = target.size(example)
        rows = injection.target_boxes(example, target)
        _picture(left, image, [(row["gold"], row["entity"], row["type"]) for row in rows], "solid")
        _picture(
            right,
            image.resize(size),
            [(row["drawn"], str(list(row["written"])), row["type"]) for row in rows],
            "dashed",
        )
        left.set_title(f"{example.id}: original, {image.size[0]} × {image.size[1]} px, gold", fontsize=8.5)
        right.set_title(
            f"as resized, {size[0]} × {size[1]} px; to be written for {target.family}", fontsize=8.5
        )
    return figure


def _picture(ax: Axes, image: Any, boxes: Sequence[tuple[Sequence[float], str, str]], style: str) -> None:
    width, height = image.size
    ax.imshow(np.asarray(image), extent=(0, width, height, 0))
    for box, label, type_ in boxes:
        plots.draw_box(ax, box, plots.TYPE_COLOURS.get(type_, plots.OTHER_COLOUR), style, label)
    ax.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
    ax.tick_params(labelsize=7)
    ax.grid(visible=False)
