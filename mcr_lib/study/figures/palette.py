"""What all figures share: colours of settings and of kinds of answer, greys for all else, and the style.

No other palette has a colour: types are letters, tasks and splits are panels or line styles. All colours have
a contrast of 3 or more on their ground and are 20 or more apart by CIEDE2000, also without red or green cones
(Machado 2009; a test computes it). Kinds of one colour differ in hatching and are named in text.
"""

import csv
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from mcr_lib.data.files import written_whole

Rows = Sequence[Mapping[str, Any]]
Panels = tuple[Figure, list[Axes]]
Fill = tuple[str, str]  # colour and hatching
WIDTH_IN = 10.6  # of the widest figure: at 1080 px its text of 8 points is 11 px high
DARK, MEDIUM, GREY, LIGHT, FAINT = "#444444", "#666666", "#949494", "#D9D9D9", "#EEEEEE"
TONES = ("#000000", "#4A4A4A", "#949494")  # for what is neither a setting nor a kind of answer
SHADES = "Blues"  # colour map of tables
SETTINGS = {"base": "#0F6666", "sft": "#4798B2", "mrsi": "#0F0F66", "mcr": "#2626FF"}
OTHER_SETTINGS = ("#997300", "#000000", "#4C3C0B", "#63997E")
KINDS = {"right": "#63997E", "wrong region": "#FF4000", "invented": "#802000", "lost": "#33141C"}
RIGHT, REGION, INVENTED, LOST = KINDS.values()
KINDS_INK = ("#417B6B", "#C3470E", "#621701", "#290B17")  # of `KINDS`, for text on white
DARK_SETTINGS = ("#476D71", "#D5F6FE", "#753DF1", "#93ACFC", "#C5AC04", "#9CA298", "#FCF9C7", "#0D7831")
DARK_KINDS = ("#31A380", "#F94207", "#FFE9D3", "#F7A4DA")  # on a dark ground, in the order of the light ones
TASKS = dict(zip(("GMNER", "MNER", "EEG"), TONES, strict=True))
GROUNDABLE = {"groundable": (DARK, ""), "not groundable": (GREY, "")}
REWARDS = ("R_c", "R_s", "R_t", "R_u", "R_e")
GOLD_ERRORS = {"right": (RIGHT, ""), "boxed, not in the image": (REGION, ""), "box misses": (REGION, "///"),
    "box left out": (REGION, "..."), "wrong type": (LOST, "///"), "wrong boundary": (LOST, "..."),
    "left out": (LOST, "")}  # fmt: skip
EXTRA_ERRORS = {"name not in the text": (INVENTED, ""), "no entity": (INVENTED, "///")}
WRONG_BOXES = {"own entity, inexact": (REGION, "///"), "another entity": (REGION, ""),
    "image only": (REGION, "xx"), "background": (REGION, "...")}  # fmt: skip
ORIGINS = {"image only": (INVENTED, ""), "trained on": (INVENTED, "///"), "neither": (INVENTED, "...")}
FAULTS = {"clean": (RIGHT, ""), "not read": (LOST, "///"), "name not in the text": (INVENTED, ""),
    "box not wanted": (REGION, ""), "box misses": (REGION, "///"), "box left out": (REGION, "..."),
    "entity left out": (LOST, "")}  # fmt: skip
_OF_PAPER = ("simulated, perfect text", "simulated, the paper's text", "the paper")
REPORTED = dict(zip(_OF_PAPER, TONES[::-1], strict=True))
CONTRADICTIONS = {"agrees": GREY, "named, not shown": REGION, "shown, not named": INVENTED, "both": LOST}
VERDICTS = {"kept": "o", "too even": "s", "never right": "v", "too hard": "^", "too easy": "D"}  # markers
DIFFERENCES = {1: RIGHT, 0: DARK, -1: REGION}  # better, equal, worse
PROBES = {"blank_mean": "blank:\none colour", "blank_noise": "blank:\nnoise", "blank_blur": "blank:\nblur",
    "blank": "blank:\nthe worst", "swap_hard": "other image,\nsame type",
    "swap_easy": "other image,\nother type", "mute": "muted\nname", "mute_blank": "muted,\nblank",
    "erase": "erased\nbox", "rename": "renamed", "add_bait": "bait\nadded", "all": "all\nprobes"}  # fmt: skip
FLAWS = {"faithful": "states it", "missing_name": "lacks\na name", "missing_type": "lacks\na type",
    "missing_slot": "lacks\na box", "missing_negation": "lacks “not\nshown”", "foreign_slot": "another\nbox",
    "wrong_type": "another\ntype", "wrong_negation": "denies\na box", "unknown_name": "another\nname",
    "stray_claim": "claim of\nno name", "no_reasoning": "no\nreasoning",
    "unread": "answer\nnot read"}  # fmt: skip


def use_style() -> None:
    """Apply the project's theme to seaborn and matplotlib."""
    style = mpl.rc_params_from_file(Path(__file__).with_name("mcr.mplstyle"), use_default_template=False)
    sns.set_theme(style="ticks", palette=[DARK], font="DejaVu Sans", rc=style)


def setting(name: str, names: Iterable[str]) -> str:
    """The colour of a setting: fixed for the four of the paper, by its place among `names` for others."""
    others = [other for other in names if other not in SETTINGS]
    return SETTINGS.get(name) or OTHER_SETTINGS[others.index(name) % len(OTHER_SETTINGS)]


def ink(colour: str) -> str:
    """Black or white, whichever has the higher contrast on a colour (4.58 or more)."""
    rgb = np.array(mpl.colors.to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)  # sRGB, IEC 61966-2-1
    return "black" if linear @ (0.2126, 0.7152, 0.0722) > 0.179 else "white"


def unique(rows: Rows, key: str) -> list[Any]:
    """The values of a key, in the order in which they first occur."""
    return list(dict.fromkeys(row[key] for row in rows))


def panels(n: int, size: Sequence[float], title: str = "", *, n_columns: int = 0, **options: Any) -> Panels:
    """A figure of n panels of (width, height) inches, `n_columns` (0 = all) to a row, at most `WIDTH_IN`."""
    n_columns = min(n_columns or n, n)
    n_rows = -(-n // n_columns)
    figsize = (min(WIDTH_IN, size[0] * n_columns), size[1] * n_rows + 0.3)
    figure, axes = plt.subplots(n_rows, n_columns, figsize=figsize, squeeze=False, **options)
    for ax in axes.flat[n:]:
        ax.set_axis_off()
    if title:
        lines = (textwrap.fill(line, int(12.5 * figsize[0])) for line in title.splitlines())
        figure.suptitle("\n".join(lines), x=0.01, ha="left")
    return figure, list(axes.flat[:n])


def name_lines(ax: Axes, names: Sequence[str]) -> None:
    """Name the lines 0, 1, ... of a horizontal chart, the first at the top; the grid marks values."""
    ax.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5), ylabel="")
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x")


def legend(figure: Figure, fills: Mapping[str, Fill | str]) -> Figure:
    """The figure with a legend of fills, or of colours, to its right."""
    pairs = {label: (fill, "") if isinstance(fill, str) else fill for label, fill in fills.items()}
    style = {"edgecolor": "white", "linewidth": 0}
    handles = [
        Patch(facecolor=colour, hatch=hatch, label=label.replace("_", " "), **style)
        for label, (colour, hatch) in pairs.items()
    ]
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
                lines = textwrap.fill(note, int(17 * figure.get_figwidth()))
                figure.supxlabel(lines, fontsize=8, color=DARK, x=0.01, ha="left")
            save(figure, folder, name, data if values is None else values)

    return show
