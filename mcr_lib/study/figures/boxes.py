"""Boxes on images: gold solid and black, predicted dashed, numbered, in the colour of their kind of answer;
bait (what only the image shows) dotted; below, a line per entity with ✓ or ✗ and the kind of error.
"""

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

from mcr_lib import metrics, testbed
from mcr_lib.data.images import open_image
from mcr_lib.errors import UserError
from mcr_lib.metrics import Judged
from mcr_lib.rewards import NAMES
from mcr_lib.schema import Entity, Example, PredictedEntity
from mcr_lib.study.figures import palette
from mcr_lib.study.figures.palette import Rows
from mcr_lib.study.runs.config import as_text
from mcr_lib.study.tables import comparison
from mcr_lib.testbed import drawing, folder

if TYPE_CHECKING:
    from mcr_lib.study.tables.rollouts import Group

Predictions = Sequence[PredictedEntity] | None  # boxes in original pixels; `None` = no answer to draw
_COLUMN_IN, _IMAGE_IN, _LINE_IN = 3.5, 2.3, 0.165  # inches: widest column, highest image, height of a line
_PER_IN, _INDENT = 14.5, "      "  # letters to an inch
_WHERE = {True: "shown", False: "not shown", None: "not annotated"}
_FILLS = palette.GOLD_ERRORS | palette.EXTRA_ERRORS
_SOLID, _DASHED, _DOTTED, _CLAIMED = "solid", (0, (4, 2)), (0, (1, 1)), (0, (6, 2, 1, 2))


class Frame(NamedTuple):
    """One image of a grid: what `draw_example` draws, with a title (empty = split and id)."""

    example: Example
    image: Image | None
    predictions: Predictions = None
    title: str = ""
    claimed: Sequence[Sequence[float]] = ()  # boxes of the reasoning that the answer does not have
    below: str = ""  # more text


def draw_box(
    ax: Axes, box: Sequence[float], colour: str, style: Any, label: str = "", *, end: str = "top",
    shift: float = 0, width: float = 1.8,
) -> None:  # fmt: skip
    """Draw a box of a line `width` with a white rim, and a label, if any, at its upper or lower (`end`) left
    corner, a `shift` to the right.
    """
    x1, y1, x2, y2 = box
    rim = {"edgecolor": "white", "linewidth": width + 1.2, "alpha": 0.6}
    for edge in (rim, {"edgecolor": colour, "linewidth": width, "linestyle": style}):
        ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, **edge))
    if label:
        top, bottom = sorted(ax.get_ylim())
        margin = 0.1 * (bottom - top)
        is_above = y1 - top > margin if end == "top" else bottom - y2 < margin
        background = {"facecolor": colour, "edgecolor": "none", "pad": 1.2, "alpha": 0.9}
        style = {"fontsize": 8, "color": palette.ink(colour), "va": "bottom" if is_above else "top"}
        x, y = max(x1, ax.get_xlim()[0]) + shift, y1 if end == "top" else y2
        ax.text(x, y, _plain(label), bbox=background, clip_on=True, **style)


def draw_example(
    ax: Axes, example: Example, image: Image | None, predictions: Predictions = None, *,
    claimed: Sequence[Sequence[float]] = (), lines: Sequence[str] | None = None,
) -> Axes:  # fmt: skip
    """Draw a tweet with gold, bait and predicted boxes, and those that only its reasoning has (`claimed`);
    below, `lines` (`None` = its text and a line per entity).
    """
    width, height = image.size if image is not None else example.image_size_px or (300, 200)
    if image is None:
        ax.text(width / 2, height / 2, "no image here", ha="center", va="center", color=palette.MEDIUM)
    else:
        ax.imshow(np.asarray(image), extent=(0, width, height, 0))
    ax.set(xlim=(0, width), ylim=(height, 0), aspect="equal", xticks=[], yticks=[])
    ax.spines[:].set(visible=True, color=palette.LIGHT)
    is_gold_named = predictions is None
    for bait in example.image_only or ():
        for box in bait.boxes_xyxy_px:
            draw_box(ax, box, palette.MEDIUM, _DOTTED, bait.text * is_gold_named)
    for entity in example.entities:
        for box in entity.boxes_xyxy_px or ():
            label = f"{entity.type or ''} {entity.text}" * is_gold_named
            draw_box(ax, box, "#000000", _SOLID, label, width=1.8 if is_gold_named else 3)
    for box in claimed:
        draw_box(ax, box, palette.LOST, _CLAIMED, "claimed")
    labels: list[tuple[float, float]] = []
    for number, (kind, predicted, _) in enumerate(_kinds(example, predictions), 1):
        if predicted and predicted.box_xyxy:
            x, _, _, y = predicted.box_xyxy
            while any(abs(x - a) < 0.08 * width and abs(y - b) < 0.1 * height for a, b in labels):
                x += 0.08 * width
            labels.append((x, y))
            place = {"end": "bottom", "shift": x - predicted.box_xyxy[0]}
            draw_box(ax, predicted.box_xyxy, _FILLS[kind][0], _DASHED, str(number), **place)
    text = "\n".join(_text_lines(Frame(example, image, predictions), 46) if lines is None else lines)
    ax.text(0, -0.03, text, transform=ax.transAxes, va="top", fontsize=8, linespacing=1.3)
    return ax


def _kinds(example: Example, given: Predictions) -> list[tuple[str, PredictedEntity | None, Entity | None]]:
    """Kind (`comparison.kinds`), prediction and gold of each gold entity, then of each other prediction."""
    judged = metrics.judge(example, given or ())
    (of_gold, extras), predicted = comparison.kinds(judged), [one for _, one in judged.effective]
    found = {k: predicted[i] for i, k in judged.pairing.touches + judged.pairing.matches}
    named = [(kind, found.get(k), example.entities[k]) for k, kind in enumerate(of_gold)]
    others = [(kind, predicted[i], None) for i, kind in extras.items()]
    return [] if given is None else named + others


def _text_lines(frame: Frame, n_letters: int, with_text: bool = True) -> list[str]:
    example, entities = frame.example, []
    lines = textwrap.wrap(_plain(example.text), n_letters)[:4] if with_text else []
    for number, (kind, predicted, gold) in enumerate(_kinds(example, frame.predictions)[:12], 1):
        one, is_right = predicted or gold, kind == "right"
        how = ("no box", "box")[bool(predicted.boxes_xyxy)] if is_right else kind
        entities.append(f"{'✗✓'[is_right]} {number} {one.type or '–'} {one.text}: {how}")
    if frame.predictions is None:
        entities = [f"{e.type or ''} {e.text}: {_WHERE[e.is_groundable]}" for e in example.entities[:8]]
        entities += [f"bait {b.type} {b.text}: shown, not named" for b in (example.image_only or ())[:6]]
    for line in (*(entities or ["no entity"]), *frame.below.splitlines()):
        lines += textwrap.wrap(_plain(line), n_letters, subsequent_indent=_INDENT)
    return lines


def _plain(text: str) -> str:
    """Text that matplotlib's fonts can draw: `$` escaped, emoji as dots."""
    return "".join(c if ord(c) < 0x2600 or c in "✓✗" else "·" for c in text).replace("$", r"\$")


def _frame(example: Example, *rest: Any) -> Frame:
    return Frame(example, open_image(example.images[0]) if example.images else None, *rest)


def grid(rows: Sequence[Sequence[Frame]]) -> Figure:
    """Frames in rows, each row as high as its titles and the texts below its images need; the text of a tweet
    stands once above a row of it.
    """
    n_columns = max(map(len, rows))
    column = min(_COLUMN_IN, palette.WIDTH_IN / n_columns)
    image, n_letters, width = min(_IMAGE_IN, 0.72 * column), int(_PER_IN * (column - 0.2)), n_columns * column
    heads = [_head(row, n_letters * n_columns) for row in rows]
    lines = [[_text_lines(f, n_letters, not h) for f in row] for row, h in zip(rows, heads, strict=True)]
    titles = [max(frame.title.count("\n") for frame in row) for row in rows]
    above = [_LINE_IN * (1.8 + n + 1.2 * len(head)) for n, head in zip(titles, heads, strict=True)]
    below = [_LINE_IN * (1 + max(map(len, of))) for of in lines]
    frames = [frame for row in rows for frame in row]
    key = "Solid: gold; " + "dashed: predicted, by number; " * any(f.predictions is not None for f in frames)
    key += "dotted: shown, not named" + "; dash-dotted, » «: reasoning alone" * any(f.below for f in frames)
    key = textwrap.wrap(key, int(_PER_IN * width))
    height = sum(above) + sum(below) + image * len(rows) + _LINE_IN * (3 + len(key))
    figure = plt.figure(figsize=(width, height))
    # layout engines only estimate heights of texts; set now, since saving forgets a "none" of the start
    figure.set_layout_engine("none")
    figure.text(0.1 / width, 1, "\n".join(key), fontsize=8, color=palette.DARK, va="top")
    size, y = ((column - 0.2) / width, image / height), height - _LINE_IN * (len(key) + 0.6)
    for row, head, of, title, text in zip(rows, heads, lines, above, below, strict=True):
        figure.text(0.1 / width, (y - 0.4 * _LINE_IN) / height, "\n".join(head), fontsize=9, va="top")
        y -= title + image
        for k, frame in enumerate(row):
            ax = figure.add_axes(((k * column + 0.1) / width, y / height, *size))
            draw_example(ax, *frame[:3], claimed=frame.claimed, lines=of[k]).set_anchor("NW")
            name = frame.title or f"{frame.example.split} · {frame.example.id}"
            ax.set_title(name, fontsize=8, loc="left", color=palette.DARK)
        y -= text
    return figure


def _head(row: Sequence[Frame], n_letters: int) -> list[str]:
    """Id and text of the tweet if all frames of a row show it, else nothing."""
    tweets = {(f.example.split, f.example.id, f.example.text) for f in row}
    text = "{} {}: {}".format(*min(tweets)) if len(tweets) == 1 < len(row) else ""
    return textwrap.wrap(_plain(text), n_letters)


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


def probed(tweets: Mapping[str, Example], *, answers: Mapping[str, Predictions] | None = None) -> Figure:
    """One tweet as it is and under each probe, with the gold that is right there (`bias.one_tweet`), or with
    the answer to it, by probe.
    """
    given, names = answers or {}, {**palette.PROBES, "original": "original"}
    frames = [_frame(tweet, given.get(k), names[k].replace("\n", " ")) for k, tweet in tweets.items()]
    return _wrapped(frames, 4)


def side_by_side(by_setting: Mapping[str, Sequence[Judged]]) -> Figure:
    """The same tweets in every setting, a row per tweet, with gold and predicted boxes."""
    columns = [[_frame(j.example, j.predictions, name) for j in of] for name, of in by_setting.items()]
    return grid(list(zip(*columns, strict=True)))


def rollouts(groups: "Sequence[Group]") -> Figure:
    """Groups of rollouts, a row each: the best, the middle and the worst answer, with rewards, advantage and
    reasoning; dash-dotted, and between » and «: what the reasoning claims and the answer does not have.
    """
    rows = []
    for group in groups:
        frames, last = [], len(group.rows) - 1
        for k in dict.fromkeys((0, last // 2, last)):
            judged, row = group.judged[k], group.rows[k]
            five = zip(palette.REWARDS, (row[name] for name in NAMES), strict=True)
            rewards = " ".join(f"{symbol} {value:.2f}" for symbol, value in five if value is not None)
            why = f"\nearns nothing: {row['worthless'].replace('_', ' ')}" if row["worthless"] else ""
            title = f"{group.setting}, update {group.step}: R {row['reward']:.2f}"
            title += f", advantage {row['advantage']:+.2f}\n{rewards}{why}"
            frame = _frame(judged.example, judged.predictions, title, row["claimed"])
            frames.append(frame._replace(below=f"reasoning: {row['reasoning'] or 'none'}"))
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
