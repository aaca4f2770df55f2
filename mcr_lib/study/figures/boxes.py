"""Boxes on images: gold boxes are solid, predicted boxes dashed, bait (what only the image shows) dotted."""

import textwrap
from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL.Image import Image

from mcr_lib import testbed
from mcr_lib.data.images import open_image
from mcr_lib.errors import UserError
from mcr_lib.metrics import Judged
from mcr_lib.rewards import NAMES
from mcr_lib.schema import Example, PredictedEntity
from mcr_lib.study.figures import palette
from mcr_lib.study.figures.palette import Rows
from mcr_lib.study.runs.config import as_text
from mcr_lib.testbed import drawing, folder

if TYPE_CHECKING:
    from mcr_lib.study.tables.rollouts import Group

Predictions = Sequence[PredictedEntity] | None  # boxes in original pixels; `None` = no answer to draw
_COLUMN_IN, _IMAGE_IN, _LINE_IN = 3.3, 2.3, 0.15  # inches: width of a column, height of an image, of a line
_WHERE = {True: "in the image", False: "not in the image", None: "not annotated"}


class Frame(NamedTuple):
    """One image of a grid: what `draw_example` draws, with a title (empty = split and id)."""

    example: Example
    image: Image | None
    predictions: Predictions = None
    title: str = ""
    colour: str = palette.MEDIUM


def draw_box(ax: Axes, box: Sequence[float], colour: str, style: Any, label: str = "") -> None:
    """Draw a box with a white rim and a label, if any, at its upper left corner."""
    x1, y1, x2, y2 = box
    rim = {"edgecolor": "white", "linewidth": 3.2, "alpha": 0.7}
    for edge in (rim, {"edgecolor": colour, "linewidth": 1.8, "linestyle": style}):
        ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, **edge))
    if label:
        top, bottom = sorted(ax.get_ylim())
        is_inside = y1 - top < 0.08 * (bottom - top)  # no room above the box
        style = {"color": "white", "fontsize": 6.5, "va": "top" if is_inside else "bottom", "clip_on": True}
        background = {"facecolor": colour, "edgecolor": "none", "pad": 1.2, "alpha": 0.9}
        ax.text(x1, y1, _plain(label), bbox=background, **style)


def draw_example(ax: Axes, example: Example, image: Image | None, predictions: Predictions = None) -> Axes:
    """Draw a tweet with gold, bait and predicted boxes; its text and a line per entity below."""
    width, height = image.size if image is not None else example.image_size_px or (300, 200)
    if image is None:
        ax.text(width / 2, height / 2, "no image here", ha="center", va="center", color=palette.GREY)
    else:
        ax.imshow(np.asarray(image), extent=(0, width, height, 0))
    ax.set(xlim=(0, width), ylim=(height, 0), aspect="equal", xticks=[], yticks=[])
    ax.spines[:].set(visible=True, color=palette.LIGHT)
    gold, bait, colour = example.entities, example.image_only or (), palette.entity_type
    boxes = [(box, colour(e.type), "solid", e.text) for e in gold for box in e.boxes_xyxy_px or ()]
    boxes += [(box, palette.BLACK, (0, (1, 1)), b.text) for b in bait for box in b.boxes_xyxy_px]
    boxes += [(p.box_xyxy, colour(p.type), (0, (4, 2))) for p in predictions or () if p.box_xyxy]
    for box in boxes:
        draw_box(ax, *box)
    text = "\n".join(_text_lines(example, predictions))
    ax.text(0, -0.03, text, transform=ax.transAxes, va="top", fontsize=7, linespacing=1.35)
    return ax


def _text_lines(example: Example, predictions: Predictions) -> list[str]:
    gold = [f"gold · {e.type} {e.text}: {_WHERE[e.is_groundable]}" for e in example.entities[:6]]
    lines = gold or ["gold · no entity"]
    lines += [f"bait · {b.type} {b.text}: only in the image" for b in (example.image_only or ())[:6]]
    if predictions is not None:
        shown = [f"pred · {e.type or '–'} {e.text}: {_WHERE[bool(e.boxes_xyxy)]}" for e in predictions[:6]]
        lines += shown or ["pred · no entity"]
    wrapped = [textwrap.wrap(_plain(line), 52, subsequent_indent="      ") for line in lines]
    return sum(wrapped, textwrap.wrap(_plain(example.text), 46)[:4])


def _plain(text: str) -> str:
    """Text that matplotlib's fonts can draw: `$` escaped, emoji as dots."""
    return "".join(c if ord(c) < 0x2600 else "·" for c in text).replace("$", r"\$")


def _frame(example: Example, *rest: Any) -> Frame:
    return Frame(example, open_image(example.images[0]) if example.images else None, *rest)


def grid(rows: Sequence[Sequence[Frame]]) -> Figure:
    """Frames in rows, each row as high as its titles and the texts below its images need."""
    above = [_LINE_IN * (1.5 + max(frame.title.count("\n") for frame in row)) for row in rows]
    below = [_LINE_IN * (1 + max(len(_text_lines(f.example, f.predictions)) for f in row)) for row in rows]
    width = _COLUMN_IN * max(map(len, rows))
    height = sum(above) + sum(below) + _IMAGE_IN * len(rows) + 3 * _LINE_IN
    figure = plt.figure(figsize=(width, height))
    # layout engines only estimate heights of texts; set now, since saving forgets a "none" of the start
    figure.set_layout_engine("none")
    size, y = ((_COLUMN_IN - 0.2) / width, _IMAGE_IN / height), height
    for row, title, text in zip(rows, above, below, strict=True):
        y -= title + _IMAGE_IN
        for k, frame in enumerate(row):
            ax = figure.add_axes(((k * _COLUMN_IN + 0.1) / width, y / height, *size))
            draw_example(ax, frame.example, frame.image, frame.predictions).set_anchor("N")
            name = frame.title or f"{frame.example.split} · {frame.example.id}"
            ax.set_title(name, fontsize=7.5, color=frame.colour)
        y -= text
    return figure


def _wrapped(frames: Sequence[Frame], n_columns: int) -> Figure:
    return grid([frames[k : k + n_columns] for k in range(0, len(frames), n_columns)])


def gallery(examples: Sequence[Example]) -> Figure:
    """Tweets side by side."""
    return _wrapped(list(map(_frame, examples)), 3)


def by_kind(kinds: Mapping[str, Sequence[Example]]) -> Figure:
    """Tweets of each kind, a row each; a kind without tweets has none."""
    return grid([[_frame(e, None, f"{kind} · {e.id}") for e in some] for kind, some in kinds.items() if some])


def answered(judged: Sequence[Judged]) -> Figure:
    """Tweets with gold and predicted boxes."""
    return _wrapped([_frame(j.example, j.predictions) for j in judged], 3)


def probed(tweets: Mapping[str, Example]) -> Figure:
    """One tweet as it is and under each probe, with the gold that is right there (`bias.one_tweet`)."""
    named = {palette.PROBES.get(name, name).replace("\n", " "): tweet for name, tweet in tweets.items()}
    return _wrapped([_frame(tweet, None, name, palette.BLACK) for name, tweet in named.items()], 4)


def side_by_side(by_setting: Mapping[str, Sequence[Judged]]) -> Figure:
    """The same tweets in every setting, a row per tweet, with gold and predicted boxes."""
    columns = []
    for name, judged in by_setting.items():
        colour = palette.setting(name, by_setting)
        columns.append([_frame(j.example, j.predictions, f"{name} · {j.example.id}", colour) for j in judged])
    return grid(list(zip(*columns, strict=True)))


def rollouts(groups: "Sequence[Group]") -> Figure:
    """Groups of rollouts, a row each, with rewards and advantage; of larger ones the two best and worst."""
    rows = []
    for group in groups:
        pairs, frames = list(zip(group.judged, group.rows, strict=True)), []
        for judged, row in pairs if len(pairs) <= 4 else pairs[:2] + pairs[-2:]:
            total = f"R {row['reward']:.2f}, advantage {row['advantage']:+.2f}"
            five = zip(palette.REWARDS, (row[name] for name in NAMES), strict=True)
            rewards = " ".join(f"{symbol} {value:.2f}" for symbol, value in five if value is not None)
            worthless = f"\nearns nothing: {row['worthless']}" if row["worthless"] else ""
            title = f"{group.setting}, update {group.step} · {total}\n{rewards}{worthless}"
            frames.append(_frame(judged.example, judged.predictions, title, palette.BLACK))
        rows.append(frames)
    return grid(rows)


def gallery_of_testbed(
        n_each: int, *, distributions: Sequence[str] = tuple(testbed.DISTRIBUTIONS), split: str = "test",
        seed: int = 0, knobs: Mapping[str, Any] | None = None) -> tuple[Figure, Rows]:  # fmt: skip
    """The first `n_each` tweets of each distribution of the testbed, a row each, and their ids."""
    if not 1 <= n_each <= 12 or seed < 0:
        expected = "expected 1 to 12 tweets and a seed of 0 or more"
        raise UserError(f"gallery: n is {n_each} and the seed {seed}; {expected}")
    frames, rows = [], []
    for name, index in product(distributions, range(n_each)):
        changed = testbed.altered(testbed.find(name), knobs or {})
        tweet = testbed.make(name, split, index, seed=seed, knobs=changed)
        frames.append(Frame(tweet.example, drawing.draw(tweet.scene)))
        rows.append({"set": folder.set_name(name, split), "id": tweet.example.id, "text": tweet.example.text})
    return _wrapped(frames, n_each), rows


def knob_rows(knobs: Mapping[str, Any] | None = None) -> Rows:
    """One row per knob of the testbed: its value in each distribution after the departures."""
    changed = {name: testbed.altered(of, knobs or {}).to_json() for name, of in testbed.DISTRIBUTIONS.items()}
    return [{"knob": k} | {d: as_text(of[k]) for d, of in changed.items()} for k in changed["gmner"]]
