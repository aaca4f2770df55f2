"""Every picture of the project: functions that take data and an axis and return the axis.

Colours are fixed: one per entity type, one per task, one per accuracy, the same in every figure (Okabe-Ito,
safe for colour-blind readers). Gold boxes are solid, predicted boxes dashed, bait dotted. `save` writes a PNG
and, beside it, a CSV of the values that it shows.
"""

import csv
import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from PIL.Image import Image

from mcr_lib.data.files import written_whole
from mcr_lib.schema import Example, PredictedEntity

TYPE_COLOURS = {"PER": "#0072B2", "LOC": "#009E73", "ORG": "#E69F00", "OTHER": "#CC79A7", "MIS": "#CC79A7"}
TASK_COLOURS = {"GMNER": "#0072B2", "MNER": "#56B4E9", "EEG": "#E69F00"}
GROUNDABLE_COLOURS = {"in the image": "#F0E442", "not in the image": "#B8B8B8"}
ACCURACY_COLOURS = {
    "span": "#0072B2",
    "type": "#E69F00",
    "groundable": "#009E73",
    "box": "#D55E00",
    "all four": "#000000",
}
REFERENCE_COLOUR = "#444444"
OTHER_COLOUR = "#666666"
BAIT_COLOUR = "#000000"

_COLUMN_IN, _PICTURE_IN, _TITLE_IN, _TEXT_IN, _EDGE_IN = 3.3, 2.3, 0.25, (0.15, 0.145), (0.3, 0.45)
"""Grids of pictures in inches: a column, a picture, its title, the text below (and per line), the edges above
and below.
"""


def use_style() -> None:
    """Apply the style file of the project to matplotlib."""
    mpl.style.use(Path(__file__).with_name("mcr.mplstyle"))


def save(figure: Figure, folder: str | Path, name: str, values: Sequence[Mapping[str, Any]]) -> Path:
    """Write `<name>.png` and `<name>.csv` (the values shown, one row each) into a folder, whole or not at
    all, and return the PNG's path.

    Raises:
        UserError: the folder cannot be written.
    """
    folder = Path(folder)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    with written_whole(folder / f"{name}.png", "wb") as file:
        file.write(picture.getvalue())
    columns = list(dict.fromkeys(key for row in values for key in row))
    with written_whole(folder / f"{name}.csv") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(values)
    return folder / f"{name}.png"


def stacked_bars(
    ax: Axes,
    rows: Sequence[Mapping[str, Any]],
    *,
    x: str,
    parts: Mapping[str, str],
    colours: Mapping[str, str],
) -> Axes:
    """Bars of counts, one per row, stacked from `parts` (label -> key of the row), each part's count written
    into it (beside it where low).

    Args:
        rows: one mapping per bar.
        x: key of the bar's name.
        parts: label -> key, from the bottom up.
        colours: label -> colour.
    """
    names = [str(row[x]) for row in rows]
    bottom = np.zeros(len(rows))
    tallest = max((sum(float(row[key]) for key in parts.values()) for row in rows), default=0)
    for label, key in parts.items():
        heights = np.array([float(row[key]) for row in rows])
        ax.bar(names, heights, bottom=bottom, color=colours[label], label=label, width=0.65)
        for k, height in enumerate(heights):
            is_low = height < 0.05 * tallest
            if height:
                place = {"ha": "left" if is_low else "center", "va": "center", "fontsize": 7.5}
                ax.text(k + 0.34 * is_low, bottom[k] + height / 2, f"{int(height):,}", **place)
        bottom += heights
    ax.set_ylim(0, float(bottom.max(initial=1)) * 1.08)
    ax.legend(loc="upper right")
    return ax


def count_bars(
    ax: Axes, counts: Mapping[Any, int], *, xlabel: str, ylabel: str, colour: str = OTHER_COLOUR
) -> Axes:
    """Bars of counts by category, in the mapping's order, starting at 0, each with its count."""
    bars = ax.bar([str(key) for key in counts], list(counts.values()), color=colour, width=0.7)
    ax.bar_label(bars, [f"{count:,}" for count in counts.values()], fontsize=7.5)
    ax.set(xlabel=xlabel, ylabel=ylabel, ylim=(0, max(counts.values(), default=1) * 1.12))
    return ax


def shares_histogram(ax: Axes, shares_by_type: Mapping[str, Sequence[float]], *, xlabel: str) -> Axes:
    """Histogram of shares in [0, 1], stacked by entity type, 20 bins."""
    names = [name for name, values in shares_by_type.items() if len(values)]
    values = [np.asarray(shares_by_type[name], dtype=float) for name in names]
    if values:
        ax.hist(
            values,
            bins=np.linspace(0, 1, 21),
            stacked=True,
            color=[TYPE_COLOURS.get(n, OTHER_COLOUR) for n in names],
            label=names,
        )
        ax.legend(loc="upper right")
    ax.set(xlabel=xlabel, ylabel="entities", xlim=(0, 1))
    return ax


def image_sizes(ax: Axes, sizes_px: Sequence[tuple[float, float]]) -> Axes:
    """Width against height of images in pixels, one translucent dot each; the diagonal is square."""
    widths, heights = (np.array([size[k] for size in sizes_px], dtype=float) for k in (0, 1))
    limit = 1.05 * max([1.0, *widths, *heights])
    ax.plot([0, limit], [0, limit], color=REFERENCE_COLOUR, linewidth=0.8, linestyle=":")
    ax.scatter(widths, heights, s=9, alpha=0.25, color=OTHER_COLOUR, linewidths=0)
    ax.set(xlabel="width, px", ylabel="height, px", xlim=(0, limit), ylim=(0, limit), aspect="equal")
    return ax


def draw_example(
    ax: Axes, example: Example, image: Image | None, predictions: Sequence[PredictedEntity] | None = None
) -> Axes:
    """The image of a tweet with gold boxes (solid), what only the image shows where that is known (dotted,
    black) and, where given, predicted boxes (dashed), the text below, one line per entity.

    Args:
        image: as stored, in original pixels; `None` draws an empty frame of the annotated size.
        predictions: boxes in original pixels.
    """
    width, height = image.size if image is not None else example.image_size_px or (300, 200)
    if image is not None:
        ax.imshow(np.asarray(image), extent=(0, width, height, 0))
    else:
        ax.text(width / 2, height / 2, "no image here", ha="center", va="center", color="#bbbbbb")
    ax.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[], aspect="equal")
    ax.grid(visible=False)
    for spine in ax.spines.values():
        spine.set(visible=True, color="#cccccc")
    for entity in example.entities:
        for box in entity.boxes_xyxy_px or ():
            draw_box(ax, box, TYPE_COLOURS.get(entity.type, OTHER_COLOUR), "solid", entity.text)
    for bait in example.image_only or ():
        for box in bait.boxes_xyxy_px:
            draw_box(ax, box, BAIT_COLOUR, (0, (1, 1)), bait.text)
    for entity in predictions or ():
        if entity.box_xyxy:
            draw_box(ax, entity.box_xyxy, TYPE_COLOURS.get(entity.type, OTHER_COLOUR), (0, (4, 2)), None)
    ax.set_title(f"{example.split} · {example.id}", fontsize=7.5, color=OTHER_COLOUR)
    ax.text(
        0,
        -0.03,
        "\n".join(_lines(example, predictions)),
        transform=ax.transAxes,
        va="top",
        fontsize=7,
        linespacing=1.35,
    )
    return ax


def gallery(
    examples: Sequence[Example],
    images: Sequence[Image | None],
    predictions: Sequence[Sequence[PredictedEntity]] | None = None,
    *,
    n_columns: int = 3,
) -> Figure:
    """A figure of examples side by side, each drawn by `draw_example`."""
    n_columns = max(1, min(n_columns, len(examples)))
    answers = predictions if predictions is not None else [None] * len(examples)
    drawn = list(zip(examples, answers, strict=True))
    figure, axes = picture_grid(
        [drawn[k : k + n_columns] for k in range(0, len(drawn), n_columns)] or [[]], n_columns
    )
    for ax in axes.flat[len(examples) :]:
        ax.set_axis_off()
    for ax, example, image, answer in zip(axes.flat, examples, images, answers, strict=False):
        draw_example(ax, example, image, answer)
        ax.set_anchor("N")
    return figure


def picture_grid(
    rows: Sequence[Sequence[tuple[Example, Sequence[PredictedEntity] | None]]],
    n_columns: int,
    *,
    head: float = 0.0,
) -> tuple[Figure, np.ndarray]:
    """A figure with frames for `draw_example`, each row as high as the texts below its pictures need.

    Args:
        rows: what will be drawn in each row: tweets with their answers.
        head: room above each picture in inches, for titles of several lines.
    """
    texts = [
        _TEXT_IN[0] + _TEXT_IN[1] * max((len(_lines(example, answer)) for example, answer in row), default=0)
        for row in rows
    ]
    height, width = (
        sum(texts) + len(rows) * (_PICTURE_IN + _TITLE_IN + head) + _EDGE_IN[1],
        _COLUMN_IN * n_columns,
    )
    figure = plt.figure(figsize=(width, height + _EDGE_IN[0]))
    figure.set_layout_engine(
        "none"
    )  # afterwards: matplotlib forgets a "none" of the start once the figure was saved
    axes, top = np.empty((len(rows), n_columns), dtype=object), height
    for i, text in enumerate(
        texts
    ):  # placed by hand: a layout engine only estimates what hangs below a picture
        top -= _TITLE_IN + head + _PICTURE_IN
        for j in range(n_columns):
            left, size = (
                j * _COLUMN_IN + 0.1,
                ((_COLUMN_IN - 0.2) / width, _PICTURE_IN / (height + _EDGE_IN[0])),
            )
            axes[i, j] = figure.add_axes((left / width, top / (height + _EDGE_IN[0]), *size))
        top -= text
    return figure, axes


def reward_heatmap(
    ax: Axes,
    rows: Sequence[Mapping[str, Any]],
    *,
    case: str,
    columns: Sequence[str],
    vmax: float = 100.0,
    digits: int | None = None,
) -> Axes:
    """A table of cases × values, each cell coloured from 0 (white) to `vmax` (blue) with its number; `None`
    is a grey dash.

    Args:
        rows: one mapping per case.
        case: key of the case's name.
        columns: keys of the values, left to right.
        digits: after the point; `None` = two, and none for whole numbers of percent.
    """
    values = np.array([[np.nan if row[c] is None else float(row[c]) for c in columns] for row in rows])
    shades = mpl.colormaps["Blues"].with_extremes(bad="#eeeeee")
    ax.imshow(np.ma.masked_invalid(values) * 0.75, cmap=shades, vmin=0, vmax=vmax, aspect="auto")
    for i, j in np.ndindex(values.shape):
        n_digits = digits if digits is not None else 0 if vmax > 1 and float(values[i, j]).is_integer() else 2
        text = "–" if np.isnan(values[i, j]) else f"{values[i, j]:.{n_digits}f}"
        ax.text(
            j,
            i,
            text,
            ha="center",
            va="center",
            fontsize=8,
            color="white" if values[i, j] * 0.75 > 0.6 * vmax else "black",
        )
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(rows)), [str(row[case]) for row in rows])
    ax.tick_params(length=0)
    ax.xaxis.tick_top()
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    return ax


def score_bars(ax: Axes, rows: Sequence[Mapping[str, Any]], *, n: int) -> Axes:
    """F1 of each task by name with its 95 % interval: rows of `comparison.task_rows`, grouped by name.

    Args:
        n: number of tweets, told in the title.
    """
    names = list(dict.fromkeys(row["name"] for row in rows))
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    width = 0.8 / max(1, len(tasks))
    for k, task in enumerate(tasks):
        chosen = [row for row in rows if row["task"] == task]
        x = np.array([names.index(row["name"]) for row in chosen]) + (k - (len(tasks) - 1) / 2) * width
        f1 = np.array([row["f1"] for row in chosen])
        spread = np.array(
            [[max(0, row["f1"] - row["ci_low"]), max(0, row["ci_high"] - row["f1"])] for row in chosen]
        ).T
        bars = ax.bar(
            x,
            f1,
            width * 0.92,
            yerr=spread,
            color=TASK_COLOURS[task],
            label=task,
            capsize=2.5,
            ecolor=REFERENCE_COLOUR,
        )
        ax.bar_label(
            bars,
            [f"{value:.1f}" for value in f1],
            label_type="center",
            fontsize=7.5,
            color=ink(TASK_COLOURS[task]),
        )
    ax.set_xticks(range(len(names)), names)
    ax.set(
        ylabel="F1, %",
        ylim=(0, 116),
        yticks=range(0, 101, 20),
        title=f"F1 with 95 % bootstrap interval over tweets (n = {n:,}, single run)",
    )
    ax.legend(ncols=3, loc="upper right")
    return ax


def yardstick_bars(
    ax: Axes, f1_by_name: Mapping[str, float], *, highlight: Mapping[str, float] | None = None, n: int
) -> Axes:
    """Horizontal bars of GMNER F1: grey for answers made without a model, coloured for scores to be read
    against them.

    Args:
        f1_by_name: yardstick -> GMNER F1 in percent.
        highlight: score -> GMNER F1 in percent, drawn in the task's colour.
        n: number of tweets, told in the title.
    """
    rows = [(name, value, "#B8B8B8") for name, value in f1_by_name.items()]
    rows += [(name, value, TASK_COLOURS["GMNER"]) for name, value in (highlight or {}).items()]
    rows.sort(key=lambda row: row[1])
    bars = ax.barh(
        [name for name, _, _ in rows],
        [value for _, value, _ in rows],
        color=[colour for _, _, colour in rows],
        height=0.65,
    )
    ax.bar_label(bars, [f"{value:.2f}" for _, value, _ in rows], padding=3, fontsize=8)
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x")
    ax.set(xlim=(0, 110), xlabel="GMNER F1, %", title=f"Yardsticks: perfect text, no model (n = {n:,})")
    if highlight:
        handles = [
            Patch(color="#B8B8B8", label="made from gold, no model"),
            Patch(color=TASK_COLOURS["GMNER"], label="score"),
        ]
        ax.legend(handles=handles, loc="lower right")
    return ax


def degradation(
    ax: Axes, rows: Sequence[Mapping[str, Any]], *, reference: tuple[str, float] | None = None
) -> Axes:
    """GMNER F1 against one accuracy that is lowered alone, a line per accuracy, the spread over repeats
    shaded.

    Args:
        rows: mappings with `accuracy` (its name), `level` in [0, 1], `f1` in percent, several repeats per
            level.
        reference: label and F1 of a horizontal line.
    """
    for name, colour in ACCURACY_COLOURS.items():
        levels = sorted({row["level"] for row in rows if row["accuracy"] == name})
        if not levels:
            continue
        repeats = [
            [row["f1"] for row in rows if row["accuracy"] == name and row["level"] == level]
            for level in levels
        ]
        x = 100 * np.array(levels)
        ax.plot(x, [np.mean(r) for r in repeats], marker="o", color=colour, label=name)
        ax.fill_between(
            x,
            [np.min(r) for r in repeats],
            [np.max(r) for r in repeats],
            color=colour,
            alpha=0.2,
            linewidth=0,
        )
    if reference is not None:
        ax.axhline(reference[1], color=REFERENCE_COLOUR, linestyle=":", linewidth=1.2)
        ax.annotate(
            reference[0],
            (0.01, reference[1]),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            fontsize=8,
        )
    ax.set(xlabel="accuracy of what is lowered, % (the rest perfect)", ylabel="GMNER F1, %", ylim=(0, 103))
    ax.legend(title="lowered", title_fontsize=8, loc="lower right")
    return ax


def ink(colour: str) -> str:
    """Black or white, whichever is read more easily on a colour."""
    red, green, blue = mpl.colors.to_rgb(colour)
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.45 else "white"


def draw_box(ax: Axes, box: Sequence[float], colour: str, style: Any, label: str | None) -> None:
    """A box with a white rim and, where given, its label at the upper left corner."""
    x1, y1, x2, y2 = box
    ax.add_patch(
        Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor="white", linewidth=3.2, alpha=0.7)
    )
    ax.add_patch(
        Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=1.8, linestyle=style)
    )
    if label:
        box_style = {"facecolor": colour, "edgecolor": "none", "pad": 1.2, "alpha": 0.9}
        top, bottom = sorted(ax.get_ylim())
        va = (
            "bottom" if y1 - top > 0.08 * (bottom - top) else "top"
        )  # above the box, or inside where the image ends
        ax.text(x1, y1, _plain(label), fontsize=6.5, color="white", va=va, bbox=box_style, clip_on=True)


def _lines(example: Example, predictions: Sequence[PredictedEntity] | None) -> list[str]:
    """What stands below a picture: the text in up to four lines, then gold entities, bait and predicted
    entities, up to six of each.
    """
    lines = textwrap.wrap(_plain(example.text), 46)[:4]
    entities = [f"gold · {_entity_line(e.text, e.type, e.is_groundable)}" for e in example.entities[:6]] or [
        "gold · no entity"
    ]
    entities += [
        _plain(f"bait · {b.type} {b.text}: only in the image") for b in (example.image_only or ())[:6]
    ]
    if predictions is not None:
        entities += [
            f"pred · {_entity_line(e.text, e.type, bool(e.boxes_xyxy))}" for e in predictions[:6]
        ] or ["pred · no entity"]
    return lines + [
        line for entity in entities for line in textwrap.wrap(entity, 52, subsequent_indent="      ")
    ]


def _entity_line(text: str, type: str | None, is_groundable: bool | None) -> str:
    where = {True: "in the image", False: "not in the image", None: "not annotated"}[is_groundable]
    return _plain(f"{type or '–'} {text}: {where}")


def _plain(text: str) -> str:
    """Text that matplotlib's fonts can draw: `$` escaped, characters that DejaVu Sans lacks (emoji) shown as
    a box-free dot.
    """
    text = "".join(c if ord(c) < 0x2600 else "·" for c in text)
    return text.replace("$", r"\$")
