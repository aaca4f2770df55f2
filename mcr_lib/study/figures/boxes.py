"""Boxes on images: tweets with gold, bait and predicted boxes, resized images, overlays of attention.

Gold boxes are solid, predicted boxes dashed, bait (what only the image shows) dotted.
"""

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL.Image import Image

from mcr_lib import testbed
from mcr_lib.answer import parse_answer
from mcr_lib.data.images import open_image
from mcr_lib.data.mrsi import Target
from mcr_lib.errors import UserError
from mcr_lib.metrics import Judged
from mcr_lib.rewards import NAMES
from mcr_lib.schema import Example, PredictedEntity
from mcr_lib.study.figures import palette
from mcr_lib.testbed.drawing import draw
from mcr_lib.testbed.folder import set_name

if TYPE_CHECKING:
    from mcr_lib.study.tables.bias_cases import Case
    from mcr_lib.study.tables.rollout_views import Group
    from mcr_lib.study.tables.training_views import EncodedRow
    from mcr_lib.training.attention import Look

MOST = 12
"""Tweets of a distribution in a gallery of the testbed."""
_DASHED, _DOTTED = (0, (4, 2)), (0, (1, 1))
_COLUMN_IN, _IMAGE_IN, _TITLE_IN, _LINE_IN, _MARGIN_IN = 3.3, 2.3, 0.25, 0.145, 0.3
"""Sizes within a grid in inches: column width, height of an image, its title, a line of text, the margin."""


class Frame(NamedTuple):
    """One image of a grid.

    Args:
        example: its gold entities and bait are drawn.
        image: in original pixels; `None` draws an empty frame.
        predictions: boxes in original pixels; `None` = there are none to draw.
        title: empty = split and id.
        colour: of the title.
    """

    example: Example
    image: Image | None
    predictions: Sequence[PredictedEntity] | None = None
    title: str = ""
    colour: str = palette.BLACK


# Drawing one image
# ------------------------------------------------------------------------------------------------------------


def draw_box(ax: Axes, box: Sequence[float], colour: str, style: Any, label: str | None = None) -> None:
    """Draw a box with a white rim and, if given, its label at the upper left corner."""
    x1, y1, x2, y2 = box
    for edge in ({"edgecolor": "white", "linewidth": 3.2, "alpha": 0.7},
                 {"edgecolor": colour, "linewidth": 1.8, "linestyle": style}):  # fmt: skip
        ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, **edge))
    if label:
        background = {"facecolor": colour, "edgecolor": "none", "pad": 1.2, "alpha": 0.9}
        top, bottom = sorted(ax.get_ylim())
        va = (
            "bottom" if y1 - top > 0.08 * (bottom - top) else "top"
        )  # above the box, or inside at the image's edge
        ax.text(x1, y1, _plain(label), fontsize=6.5, color="white", va=va, bbox=background, clip_on=True)


def _canvas(ax: Axes, image: Image | None, size: tuple[float, float], **options: Any) -> None:
    """An image over an axis in its pixels."""
    width, height = size
    if image is not None:
        ax.imshow(np.asarray(image), extent=(0, width, height, 0), **options)
    ax.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
    ax.tick_params(labelsize=7)
    ax.grid(visible=False)


def draw_example(
    ax: Axes, example: Example, image: Image | None, predictions: Sequence[PredictedEntity] | None = None
) -> Axes:
    """Draw the image of a tweet with gold boxes, bait and, if given, predicted boxes; the text and one line
    per entity below.

    Args:
        image: in original pixels; `None` draws an empty frame of the annotated size.
        predictions: boxes in original pixels.
    """
    width, height = image.size if image is not None else example.image_size_px or (300, 200)
    _canvas(ax, image, (width, height))
    if image is None:
        ax.text(width / 2, height / 2, "no image here", ha="center", va="center", color=palette.GREY)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set(visible=True, color=palette.LIGHT)
    for entity in example.entities:
        for box in entity.boxes_xyxy_px or ():
            draw_box(ax, box, palette.entity_type(entity.type), "solid", entity.text)
    for bait in example.image_only or ():
        for box in bait.boxes_xyxy_px:
            draw_box(ax, box, palette.BLACK, _DOTTED, bait.text)
    for entity in predictions or ():
        if entity.box_xyxy:
            draw_box(ax, entity.box_xyxy, palette.entity_type(entity.type), _DASHED)
    ax.set_title(f"{example.split} · {example.id}", fontsize=7.5, color=palette.MEDIUM)
    place = {"transform": ax.transAxes, "va": "top", "fontsize": 7, "linespacing": 1.35}
    ax.text(0, -0.03, "\n".join(_text_lines(example, predictions)), **place)
    return ax


def _text_lines(example: Example, predictions: Sequence[PredictedEntity] | None) -> list[str]:
    """The text in up to four lines, then up to six each of gold entities, bait, predicted entities."""
    entities = [_entity_line("gold", e.type, e.text, e.is_groundable) for e in example.entities[:6]]
    entities = entities or ["gold · no entity"]
    entities += [f"bait · {b.type} {b.text}: only in the image" for b in (example.image_only or ())[:6]]
    if predictions is not None:
        predicted = [_entity_line("pred", e.type, e.text, bool(e.boxes_xyxy)) for e in predictions[:6]]
        entities += predicted or ["pred · no entity"]
    lines = textwrap.wrap(_plain(example.text), 46)[:4]
    for entity in entities:
        lines += textwrap.wrap(_plain(entity), 52, subsequent_indent="      ")
    return lines


def _entity_line(kind: str, type: str | None, text: str, is_groundable: bool | None) -> str:
    where = {True: "in the image", False: "not in the image", None: "not annotated"}[is_groundable]
    return f"{kind} · {type or '–'} {text}: {where}"


def _plain(text: str) -> str:
    """Text that matplotlib's fonts can draw: `$` escaped, emoji as dots."""
    return "".join(c if ord(c) < 0x2600 else "·" for c in text).replace("$", r"\$")


def _image(example: Example) -> Image | None:
    return open_image(example.images[0]) if example.images else None


# Grids of images
# ------------------------------------------------------------------------------------------------------------


def grid(rows: Sequence[Sequence[Frame]]) -> Figure:
    """Frames in rows, each row as high as its titles and the texts below its images need."""
    above, below = [], []
    for row in rows:
        above.append(_TITLE_IN + 0.15 * max(frame.title.count("\n") for frame in row))
        lines = max(len(_text_lines(frame.example, frame.predictions)) for frame in row)
        below.append(0.15 + _LINE_IN * lines)
    width = _COLUMN_IN * max(len(row) for row in rows)
    height = 2 * _MARGIN_IN + sum(above) + sum(below) + _IMAGE_IN * len(rows)
    figure = plt.figure(figsize=(width, height))
    figure.set_layout_engine("none")  # layout engines only estimate the height of the texts below images
    y = height - _MARGIN_IN
    for row, title, text in zip(rows, above, below, strict=True):
        y -= title + _IMAGE_IN
        for k, frame in enumerate(row):
            place = (
                (k * _COLUMN_IN + 0.1) / width,
                y / height,
                (_COLUMN_IN - 0.2) / width,
                _IMAGE_IN / height,
            )
            ax = draw_example(figure.add_axes(place), frame.example, frame.image, frame.predictions)
            ax.set_anchor("N")
            if frame.title:
                ax.set_title(
                    frame.title, fontsize=8 - "\n" in frame.title, color=frame.colour, fontweight="bold"
                )
        y -= text
    return figure


def _wrapped(frames: Sequence[Frame], n_columns: int) -> Figure:
    return grid([frames[k : k + n_columns] for k in range(0, len(frames), n_columns)])


def gallery(examples: Sequence[Example], *, images: Sequence[Image | None], n_columns: int = 3) -> Figure:
    """Tweets side by side."""
    return _wrapped([Frame(e, image) for e, image in zip(examples, images, strict=True)], n_columns)


def answered(judged: Sequence[Judged], *, n_columns: int = 3) -> Figure:
    """Tweets with gold and predicted boxes."""
    return _wrapped([Frame(j.example, _image(j.example), j.predictions) for j in judged], n_columns)


def cases(cases: "Sequence[Case]") -> Figure:
    """The hand-made tweets, one per row: the right answer left, that of the shortcut right."""
    frames = []
    for case in cases:
        colour = palette.RIGHT if case.name == "right" else palette.SHORTCUT
        title = f"{case.example.id} bias · {case.name}"
        frames.append(Frame(case.example, case.picture, case.answer, title, colour))
    return _wrapped(frames, 2)


def probed(tweets: Mapping[str, Example], *, n_columns: int = 4) -> Figure:
    """One tweet as it is and under each probe, with the gold that is right there.

    Args:
        tweets: probe -> the tweet (`bias_views.one_tweet`).
    """
    titles = {name: palette.PROBES.get(name, name).replace("\n", " ") for name in tweets}
    frames = [Frame(e, _image(e), title=titles[name]) for name, e in tweets.items()]
    return _wrapped(frames, n_columns)


def side_by_side(by_setting: Mapping[str, Sequence[Judged]]) -> Figure:
    """The same tweets in every setting, a row per tweet, with gold and predicted boxes."""
    names = list(by_setting)
    rows = []
    for tweet in zip(*by_setting.values(), strict=True):
        image = _image(tweet[0].example)
        rows.append([
            Frame(j.example, image, j.predictions, f"{name} · {j.example.id}", palette.setting(name, names))
            for name, j in zip(names, tweet, strict=True)
        ])  # fmt: skip
    return grid(rows)


def rollouts(groups: "Sequence[Group]", *, n_columns: int = 4) -> Figure:
    """Groups of rollouts, a row each, with rewards and advantage; of larger groups the best and the worst."""
    rows = []
    for group in groups:
        n, half = len(group.rows), -(-n_columns // 2)
        chosen = range(n) if n <= n_columns else [*range(half), *range(n - (n_columns - half), n)]
        image = _image(group.judged[0].example)
        frames = []
        for judged, row in ((group.judged[k], group.rows[k]) for k in chosen):
            symbols = zip(palette.REWARDS, NAMES, strict=True)
            rewards = " ".join(
                f"{symbol} {row[name]:.2f}" for symbol, name in symbols if row[name] is not None
            )
            total = f"{group.setting}, update {group.step} · R {row['reward']:.2f}, advantage {row['advantage']:+.2f}"
            worthless = f"\nearns nothing: {row['worthless']}" if row["worthless"] else ""
            frames.append(Frame(judged.example, image, judged.predictions, f"{total}\n{rewards}{worthless}"))
        rows.append(frames)
    return grid(rows)


def gallery_of_testbed(
    n_each: int, *, distributions: Sequence[str] = tuple(testbed.DISTRIBUTIONS), split: str = "test", seed: int = 0,
    knobs: Mapping[str, Any] | None = None,
) -> tuple[Figure, list[dict[str, Any]]]:  # fmt: skip
    """The first examples of each distribution of the testbed, a row each, and their ids.

    Args:
        n_each: examples per distribution.
        seed: of the world.
        knobs: departures from the knobs of each distribution.

    Raises:
        UserError: an unknown distribution, split or knob, knobs that cannot be met, or a number out of range.
    """
    if not 1 <= n_each <= MOST or seed < 0:
        expected = f"expected 1 to {MOST} tweets and a seed of 0 or more"
        raise UserError(f"gallery: n is {n_each} and the seed {seed}; {expected}")
    frames, rows = [], []
    for name in distributions:
        changed = testbed.altered(testbed.find(name), knobs or {})
        for index in range(n_each):
            tweet = testbed.make(name, split, index, seed=seed, knobs=changed)
            frames.append(Frame(tweet.example, draw(tweet.scene)))
            rows.append({"set": set_name(name, split), "id": tweet.example.id, "text": tweet.example.text})
    return _wrapped(frames, n_each), rows


def knob_rows(knobs: Mapping[str, Any] | None = None) -> list[dict[str, str]]:
    """One row per knob of the testbed: its value in each distribution after the departures."""
    changed = {name: testbed.altered(of, knobs or {}).to_json() for name, of in testbed.DISTRIBUTIONS.items()}
    first = next(iter(changed.values()))
    return [
        {"knob": knob} | {name: _value(values[knob]) for name, values in changed.items()} for knob in first
    ]


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {share:g}" for key, share in value.items())
    return ", ".join(f"{part:g}" for part in value) if isinstance(value, tuple) else str(value)


# Resized images and attention
# ------------------------------------------------------------------------------------------------------------


def as_seen(rows: "Mapping[str, EncodedRow]") -> Figure:
    """The image of a training row as resized for the model, one per setting, with the boxes that its
    completion teaches in its own numbers (`training_views.encoded_rows`).
    """
    figure, axes = plt.subplots(1, len(rows), figsize=(3.6 * len(rows), 3.9), squeeze=False)
    for ax, (name, row) in zip(axes.flat, rows.items(), strict=True):
        size = row.size or (300, 200)
        _canvas(ax, row.images[0].convert("RGB") if row.images else None, size, interpolation="nearest")
        ax.set_title(f"{name}: {size[0]} × {size[1]} px as resized")
        example = row.example
        answer = parse_answer(row.completion, labels=example.labels, constraints=example.constraints)
        for entity in answer.entities:
            if entity.box_xyxy:
                label = f"{entity.text} {list(entity.box_xyxy)}"
                draw_box(ax, entity.box_xyxy, palette.entity_type(entity.type), "solid", label)
    return figure


def resized(
    examples: Sequence[Example], *, target: Target, boxes: Sequence[Sequence[Mapping[str, Any]]]
) -> Figure:
    """Per tweet the original with its gold boxes and, beside it, the resized image with the boxes that are to
    be written, in its pixels.

    Args:
        boxes: of each example (`injection.target_boxes`).
    """
    heights = [min(2.0, e.image_size_px[1] / e.image_size_px[0]) + 0.12 for e in examples]
    size = (8.4, 4.1 * sum(heights))
    figure, axes = plt.subplots(len(examples), 2, figsize=size, squeeze=False, height_ratios=heights)
    for (left, right), example, rows in zip(axes, examples, boxes, strict=True):
        image, size = open_image(example.images[0]).convert("RGB"), target.size(example)
        _canvas(left, image, image.size)
        _canvas(right, image.resize(size), size)
        for row in rows:
            colour = palette.entity_type(row["type"])
            draw_box(left, row["gold"], colour, "solid", row["entity"])
            draw_box(right, row["drawn"], colour, "dashed", str(list(row["written"])))
        left.set_title(f"{example.id}: original, {image.size[0]} × {image.size[1]} px, gold", fontsize=8.5)
        label = f"as resized, {size[0]} × {size[1]} px; to be written for {target.family}"
        right.set_title(label, fontsize=8.5)
    return figure


def overlays(entities: Sequence[tuple[str, int]], *, looks: "Mapping[str, Sequence[Look]]") -> Figure:
    """Attention to each cell of the image at the digits of one box of the answer, a row per entity, a column
    per setting.

    Args:
        entities: id of the tweet and first token of the entity (`attention_views.most_boxed`).
        looks: setting -> its looks (`attention_views.looks`).
    """
    by_entity = {
        name: {(look.example.id, look.gold.start): look for look in some if look.part == "answer"}
        for name, some in looks.items()
    }
    rows = [{name: by_entity[name].get(entity) for name in looks} for entity in entities]
    top = max(np.nanmax(look.heat) for row in rows for look in row.values() if look is not None)
    size = (2.6 * len(looks) + 0.8, 2.5 * len(rows) + 0.2)
    figure, axes = plt.subplots(len(rows), len(looks), figsize=size, squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        some = next(look for look in row.values() if look is not None)
        for ax, (name, look) in zip(line, row.items(), strict=True):
            _overlay(ax, some, None if look is None else np.nan_to_num(look.heat), top)
            title = (
                "writes no box for it"
                if look is None
                else f"its region {np.nanmean(look.mass['gold']):.1f} ×"
            )
            colour = palette.setting(name, list(looks))
            ax.set_title(f"{name}: {title}", fontsize=8, color=colour, fontweight="bold")
        line[0].set_ylabel(f"{some.gold.text}\n{some.example.id}", fontsize=8)
    scale = mpl.cm.ScalarMappable(mpl.colors.Normalize(0, top), palette.WARM)
    label = "attention per token, × a token's share\n(mean over heads and layers)"
    figure.colorbar(scale, ax=axes, label=label, shrink=0.7)
    palette.title(figure, "Where it looks when it writes a box; gold box solid (single run)")
    return figure


def _overlay(ax: Axes, look: "Look", heat: np.ndarray | None, top: float) -> None:
    image = open_image(look.example.images[0])
    _canvas(ax, image.convert("L"), image.size, cmap="gray", vmin=0, vmax=255)
    if heat is not None:
        alpha = np.clip(0.85 * np.sqrt(heat / top), 0, 1)
        _canvas(ax, heat, image.size, cmap=palette.WARM, vmin=0, vmax=top, alpha=alpha)
    ax.set(xticks=[], yticks=[])
    for box in look.gold.boxes_xyxy_px:
        draw_box(ax, box, palette.entity_type(look.gold.type), "solid")
