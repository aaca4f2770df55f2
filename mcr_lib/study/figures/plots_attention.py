"""Pictures of attention: where settings look when they write a box, and what cutting attention costs the box."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mcr_lib.data.images import open_image
from mcr_lib.study.figures import plots, plots_training
from mcr_lib.study.tables.attention import CUTS, MASSES, PARTS, Looks, look_at, most_boxed

if TYPE_CHECKING:
    from mcr_lib.training.attention import Look

_SHADES = "YlOrRd"


def masses(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Attention per token at the digits of a box, by setting, a panel per part; 1 = a token's share."""
    figure = _bars(rows, {group: group for group in MASSES}, MASSES)
    for ax in figure.axes:
        ax.axhline(1, color=plots.REFERENCE_COLOUR, linestyle=":", linewidth=1)
    figure.axes[0].set_ylabel("attention per token, × a token's share")
    figure.suptitle(
        "Where it looks when it writes the box of an entity (dotted: no preference; single run)",
        x=0.01,
        ha="left",
        fontsize=10,
    )
    return figure


def cuts(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Change of the log-probability of a box's digits when attention is cut, by setting, a panel per part."""
    figure = _bars(rows, {kind: f"cut_{kind}" for kind in CUTS}, CUTS)
    for ax in figure.axes:
        ax.axhline(0, color=plots.REFERENCE_COLOUR, linewidth=0.8)
    figure.axes[0].set_ylabel("change of log-probability, nats per box")
    figure.suptitle(
        "What a box loses when the answer cannot look at … (single run)", x=0.01, ha="left", fontsize=10
    )
    return figure


def _bars(
    rows: Sequence[Mapping[str, Any]], keys: Mapping[str, str], looks_of: Mapping[str, tuple[str, str]]
) -> Figure:
    """Groups of bars with intervals: a panel per part that has rows, a group per setting, a bar per key."""
    parts = [part for part in PARTS if any(row["part"] == part for row in rows)]
    per_part = [[row for row in rows if row["part"] == part] for part in parts]
    widths = [max(2, len(some)) for some in per_part]
    figure, axes = plt.subplots(
        1,
        len(parts),
        figsize=(2.2 + 1.15 * sum(widths), 3.6),
        width_ratios=widths,
        sharey=True,
        squeeze=False,
    )
    for ax, part, some in zip(axes.flat, parts, per_part, strict=True):
        for k, (name, key) in enumerate(keys.items()):
            drawn = [(x, row) for x, row in enumerate(some) if row[key] is not None]
            values = np.array([row[key] for _, row in drawn])
            spread = [
                [max(0, row[key] - row[f"{key}_low"]) for _, row in drawn],
                [max(0, row[f"{key}_high"] - row[key]) for _, row in drawn],
            ]
            x = np.array([place for place, _ in drawn]) + (k - 1) * 0.27
            label, colour = looks_of[name]
            ax.bar(
                x,
                values,
                0.25,
                yerr=spread,
                color=colour,
                label=label,
                capsize=2,
                ecolor=plots.REFERENCE_COLOUR,
            )
        ax.set_xticks(
            range(len(some)), [f"{row['setting']}\n{row['boxes']} boxes" for row in some], fontsize=7.5
        )
        ax.set(title=PARTS[part], xlim=(-0.6, len(some) - 0.4))
    axes.flat[-1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def overlays(looks: Looks, n: int = 3) -> Figure:
    """Attention to each cell of the image at the digits of one box of the answer, a row per entity, a column
    per setting.
    """
    rows, names = most_boxed(looks, n), list(looks)
    figure, axes = plt.subplots(
        len(rows), len(names), figsize=(2.6 * len(names) + 0.8, 2.5 * len(rows) + 0.2), squeeze=False
    )
    drawn = [[look_at(looks[name], key) for name in names] for key in rows]
    top = max((np.nanmax(look.heat) for line in drawn for look in line if look is not None), default=1.0)
    for line, of_row in zip(axes, drawn, strict=True):
        any_look = next(look for look in of_row if look is not None)
        for ax, name, look in zip(line, names, of_row, strict=True):
            _overlay(ax, any_look, None if look is None else look.heat, top)
            note = (
                f"its region {np.nanmean(look.mass['gold']):.1f} ×"
                if look is not None
                else "writes no box for it"
            )
            ax.set_title(
                f"{name}: {note}", fontsize=8, color=plots_training.colour(name, names), fontweight="bold"
            )
        line[0].set_ylabel(f"{any_look.gold.text}\n{any_look.example.id}", fontsize=8)
    shade = mpl.cm.ScalarMappable(mpl.colors.Normalize(0, top), _SHADES)
    figure.colorbar(
        shade,
        ax=axes,
        label="attention per token, × a token's share (mean over heads and layers)",
        shrink=0.7,
    )
    figure.suptitle(
        "Where it looks when it writes a box; gold box solid (single run)", x=0.01, ha="left", fontsize=10
    )
    return figure


def _overlay(ax: Axes, look: "Look", heat: np.ndarray | None, top: float) -> None:
    image = open_image(look.example.images[0])
    width, height = image.size
    ax.imshow(np.asarray(image.convert("L")), extent=(0, width, height, 0), cmap="gray", vmin=0, vmax=255)
    if heat is not None:
        heat = np.nan_to_num(heat)
        ax.imshow(
            heat,
            extent=(0, width, height, 0),
            cmap=_SHADES,
            vmin=0,
            vmax=top,
            alpha=np.clip(0.85 * np.sqrt(heat / top), 0, 1),
        )
    ax.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[], aspect="equal")
    ax.grid(visible=False)
    for box in look.gold.boxes_xyxy_px:
        plots.draw_box(ax, box, plots.TYPE_COLOURS.get(look.gold.type, plots.OTHER_COLOUR), "solid", None)
