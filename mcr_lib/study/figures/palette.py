"""What all figures share: one colour per setting, type, task, error (Okabe-Ito: colour-blind safe), style."""

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from mcr_lib.data.files import written_whole

Rows = Sequence[Mapping[str, Any]]
Panels = tuple[Figure, list[Axes]]
BLUE, SKY, GREEN, ORANGE = "#0072B2", "#56B4E9", "#009E73", "#E69F00"
RED, PINK, YELLOW, BLACK = "#D55E00", "#CC79A7", "#F0E442", "#000000"
DARK, MEDIUM, GREY, LIGHT, FAINT = "#444444", "#666666", "#B8B8B8", "#D9D9D9", "#EEEEEE"
SHADES = "Blues"  # colour map of tables
SETTINGS = {"base": "#8C8C8C", "sft": SKY, "mrsi": ORANGE, "mcr": BLUE}
OTHER_SETTINGS = (GREEN, PINK, RED, BLACK, "#6A3D9A", "#B8A500", "#8B5A2B", "#9E0142")
TYPES = {"PER": BLUE, "LOC": GREEN, "ORG": ORANGE, "OTHER": PINK, "MIS": PINK}
TASKS = {"GMNER": BLUE, "MNER": SKY, "EEG": ORANGE}
GROUNDABLE = {"groundable": YELLOW, "not groundable": GREY}
DECISIONS = {"span": BLUE, "type": ORANGE, "groundable": GREEN, "box": RED, "all four": BLACK}
REWARDS = {"R_c": MEDIUM, "R_s": BLUE, "R_t": ORANGE, "R_u": RED, "R_e": GREEN}
SIGMAS = {"paper, σ = 0.0": SKY, "paper, σ = 0.3": BLUE, "paper, σ = 0.5": BLACK,
    "strict, σ = 0.5": ORANGE, "strict, and a stray box": RED}  # fmt: skip
GOLD_ERRORS = {"right": LIGHT, "wrong type": ORANGE, "boxed, not in the image": RED,
    "box left out": "#F0B08A", "box misses": YELLOW, "wrong boundary": SKY, "left out": BLUE}  # fmt: skip
EXTRA_ERRORS = {"no entity": GREEN, "name not in the text": PINK}
WRONG_BOXES = {"own entity, inexact": GREY, "another entity": RED, "image only": BLUE, "background": YELLOW}
ORIGINS = {"image only": BLUE, "trained on": "#777777", "neither": LIGHT}
FAULTS = {"clean": GREEN, "not read": BLACK, "name not in the text": BLUE, "box not wanted": RED,
    "box misses": ORANGE, "box left out": YELLOW, "entity left out": PINK}  # fmt: skip
FLAWS = (RED, BLUE, ORANGE, PINK, SKY, YELLOW, BLACK, "#999999", "#7A4A00", "#004A73", LIGHT, "#5B2C83")
REPORTED = {"simulated, perfect text": LIGHT, "simulated, the paper's text": SKY, "the paper": BLUE}
YARDSTICKS = {"made from gold, no model": GREY, "score": TASKS["GMNER"]}
CONTRADICTIONS = {"agrees": LIGHT, "named, not shown": RED, "shown, not named": BLUE, "both": BLACK}
VERDICTS = {"kept": GREEN, "too even": MEDIUM, "never right": RED, "too hard": ORANGE, "too easy": SKY}
DIFFERENCES = {1: BLUE, 0: DARK, -1: RED}  # better, equal, worse
PROBES = {"blank_mean": "blank:\none colour", "blank_noise": "blank:\nnoise", "blank_blur": "blank:\nblur",
    "blank": "blank:\nthe worst", "swap_hard": "other image,\nsame type", "mute": "muted\nname",
    "swap_easy": "other image,\nother type", "mute_blank": "muted,\nblank", "erase": "erased\nbox",
    "rename": "renamed", "add_bait": "bait\nadded", "all": "all\nprobes"}  # fmt: skip


def use_style() -> None:
    """Apply the project's theme to seaborn and matplotlib."""
    order = [BLUE, ORANGE, GREEN, PINK, SKY, RED, MEDIUM]
    style = mpl.rc_params_from_file(Path(__file__).with_name("mcr.mplstyle"), use_default_template=False)
    sns.set_theme(style="ticks", palette=order, font="DejaVu Sans", rc=style)


def setting(name: str, names: Iterable[str]) -> str:
    """The colour of a setting: fixed for the four of the paper, by its place among `names` for others."""
    others = [other for other in names if other not in SETTINGS]
    return SETTINGS.get(name) or OTHER_SETTINGS[others.index(name) % len(OTHER_SETTINGS)]


def entity_type(label: str | None) -> str:
    """The colour of an entity type; grey if the type is unknown."""
    return TYPES.get(label, MEDIUM)


def ink(colour: str) -> str:
    """Black or white, whichever is easier to read on a colour."""
    red, green, blue = mpl.colors.to_rgb(colour)
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.45 else "white"


def unique(rows: Rows, key: str) -> list[Any]:
    """The values of a key, in the order in which they first occur."""
    return list(dict.fromkeys(row[key] for row in rows))


def panels(n: int, size: Sequence[float], title: str = "", *, n_columns: int = 0, **options: Any) -> Panels:
    """A figure of n panels of (width, height) inches in rows of up to `n_columns` (0 = all)."""
    n_columns = min(n_columns or n, n)
    n_rows = -(-n // n_columns)
    figsize = (size[0] * n_columns, size[1] * n_rows + 0.3)
    figure, axes = plt.subplots(n_rows, n_columns, figsize=figsize, squeeze=False, **options)
    for ax in axes.flat[n:]:
        ax.set_axis_off()
    if title:
        figure.suptitle(title, x=0.01, ha="left")
    return figure, list(axes.flat[:n])


def name_lines(ax: Axes, names: Sequence[str]) -> None:
    """Name the lines 0, 1, ... of a horizontal chart, the first at the top; the grid marks values."""
    ax.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5), ylabel="")
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x")


def legend(figure: Figure, colours: Mapping[str, str]) -> Figure:
    """The figure with a legend of coloured squares to its right."""
    handles = [Patch(color=colour, label=label.replace("_", " ")) for label, colour in colours.items()]
    figure.legend(handles=handles, loc="outside right center")
    return figure


def save(figure: Figure, folder: str | Path, name: str, values: Rows) -> Path:
    """Write `<name>.png` and `<name>.csv` (the values shown) atomically and return the PNG's path."""
    path = Path(folder) / f"{name}.png"
    with written_whole(path, "wb") as file:
        figure.savefig(file, format="png")
    with written_whole(path.with_suffix(".csv")) as file:
        writer = csv.DictWriter(file, dict.fromkeys(k for row in values for k in row), lineterminator="\n")
        writer.writeheader()
        writer.writerows(values)
    return path


def shower(folder: str | Path, note: str = "") -> Callable[..., None]:
    """Apply the style; return `show`: draw data, if any, with a note; save with `values` (or data) as CSV."""
    use_style()

    def show(draw: Callable[..., Figure], data: Any, name: str, *, values=None, note=note, **options) -> None:
        if data:
            figure = draw(data, **options)
            if note:
                figure.supxlabel(note, fontsize=7.5, color=DARK, x=0.01, ha="left")
            save(figure, folder, name, data if values is None else values)

    return show
