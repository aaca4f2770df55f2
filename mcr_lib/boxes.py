"""Boxes: formats, the only IoU, the only hit rule, and the coordinate spaces of the model families.

A box is (x1, y1, x2, y2), continuous, without "+1" (paper silent; ours, as in the field's released scorers).
Four spaces:

    original_px   pixels of the image file: gold boxes and scoring
    model_px      pixels of the image as the processor resized it to `model_size` (Qwen2.5-VL)
    norm1000      0..1000 along either side, whatever the size (Qwen3-VL, GLM-4.5V)
    norm1         0..1 along either side: only read, for answers are written in whole numbers (Kimi-VL)

Forgetting this conversion is the most common mistake in this field; it happens here and nowhere else.
Rounding loses a little, so training rewards compare in the model's own space with the gold box as
`written_box` would write it there.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from mcr_lib.errors import UserError

Box = tuple[float, float, float, float]  # (x1, y1, x2, y2) with x1 <= x2 and y1 <= y2
Size = tuple[int, int]  # (width, height) in pixels
Space = Literal["original_px", "model_px", "norm1000", "norm1"]
SPACES: tuple[Space, ...] = get_args(Space)


@dataclass(frozen=True, slots=True)
class BoxFormat:
    """How a family of models writes boxes."""

    space: Space  # the coordinates that it was trained to write
    unit: int  # image sides are resized to multiples of this, in pixels
    is_checked: bool = True  # documented by the released model; else inferred from the architecture alone


BOX_FORMATS = {  # by family
    "qwen2.5-vl": BoxFormat("model_px", 28),
    "mimo-vl": BoxFormat("model_px", 28, is_checked=False),  # it has the architecture of Qwen2.5-VL
    "qwen3-vl": BoxFormat("norm1000", 32),
    "qwen3.5": BoxFormat("norm1000", 32),
    "glm-4.5v": BoxFormat("norm1000", 28),
    "glm-4.6v": BoxFormat("norm1000", 28),
}
MAX_RATIO = 200  # of an image's longer to its shorter side, at most, for the processors of these families


def box_format(name: str) -> BoxFormat:
    """The box format of a model family; an unknown one raises `UserError`."""
    if name not in BOX_FORMATS:
        raise UserError(f"unknown model family {name!r}; choose one of {', '.join(BOX_FORMATS)}")
    return BOX_FORMATS[name]


def area_px2(box_xyxy: Box) -> float:
    """Area of a box; 0 for an empty or upside-down one."""
    x1, y1, x2, y2 = box_xyxy
    return max(0, x2 - x1) * max(0, y2 - y1)


def iou(a_xyxy: Box, b_xyxy: Box) -> float:
    """Intersection over union of two boxes of one space, in [0, 1]; 0 if both are empty.

    IoU(a, b) = |a ∩ b| / (|a| + |b| - |a ∩ b|)
    """
    overlap, union = _overlap_union(a_xyxy, b_xyxy)
    return overlap / union if union > 0 else 0.0


def giou(a_xyxy: Box, b_xyxy: Box) -> float:
    """Generalised IoU, in (-1, 1]: IoU less the share of the smallest box around both that neither covers.

    Example:
        >>> giou((0, 0, 2, 2), (0, 0, 2, 1)), giou((0, 0, 1, 1), (3, 0, 4, 1))
        (0.5, -0.5)
    """
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = a_xyxy, b_xyxy
    hull = area_px2((min(ax1, bx1), min(ay1, by1), max(ax2, bx2), max(ay2, by2)))
    union = _overlap_union(a_xyxy, b_xyxy)[1]
    return iou(a_xyxy, b_xyxy) - (hull - union) / hull if hull > 0 else 0.0


def best_iou(box_xyxy: Box, gold_boxes_xyxy: Sequence[Box]) -> float:
    """The largest IoU of a box with any of the gold boxes; 0 if there are none."""
    return max((iou(box_xyxy, gold) for gold in gold_boxes_xyxy), default=0.0)


def is_hit(
    box_xyxy: Box, gold_boxes_xyxy: Sequence[Box], *, threshold: float = 0.5, inclusive: bool = False
) -> bool:
    """Whether a box hits any of the gold boxes: best IoU > threshold, or >= threshold if `inclusive`.

    The task paper writes "greater than 0.5", most released scorers compute ">=".

    Example:
        >>> half = [(0, 0, 100, 50)]
        >>> is_hit((0, 0, 100, 100), half), is_hit((0, 0, 100, 100), half, inclusive=True)
        (False, True)
    """
    best = best_iou(box_xyxy, gold_boxes_xyxy)
    return best >= threshold if inclusive else best > threshold


def largest(boxes_xyxy: Sequence[Box]) -> Box:
    """The box of largest area, the first of equals: the answer for an entity with several boxes (ours)."""
    return max(boxes_xyxy, key=area_px2)


def space_size(space: Space, image_size: Size, model_size: Size | None) -> Size:
    """(width, height) of the image in `space`; an unknown one, or model_px without a size: `ValueError`."""
    if space == "original_px":
        return image_size
    if space in ("norm1000", "norm1"):
        return (1000, 1000) if space == "norm1000" else (1, 1)
    if space != "model_px":
        raise ValueError(f"unknown coordinate space {space!r}; known: {', '.join(SPACES)}")
    if model_size is None:
        needed = "model_size, the (width, height) that the processor resized the image to"
        raise ValueError(f"boxes in model_px need {needed}")
    return model_size


def to_space(box_xyxy_px: Box, space: Space, *, image_size: Size, model_size: Size | None = None) -> Box:
    """A box of original pixels in another space, not rounded.

    Example:
        >>> to_space((60, 45, 300, 450), "norm1000", image_size=(600, 450))
        (100.0, 100.0, 500.0, 1000.0)
    """
    return _scale(box_xyxy_px, image_size, space_size(space, image_size, model_size))


def from_space(box_xyxy: Box, space: Space, *, image_size: Size, model_size: Size | None = None) -> Box:
    """A box of another space in original pixels: the inverse of `to_space`."""
    return _scale(box_xyxy, space_size(space, image_size, model_size), image_size)


def written_box(
    box_xyxy_px: Box, space: Space, *, image_size: Size, model_size: Size | None = None
) -> tuple[int, int, int, int]:
    """A gold box as an answer writes it: whole numbers inside the image, at least one unit wide and high.

    Example:
        >>> written_box((60, 45, 61, 450), "norm1000", image_size=(6000, 450))
        (10, 100, 11, 1000)
    """
    x1, y1, x2, y2 = to_space(box_xyxy_px, space, image_size=image_size, model_size=model_size)
    width, height = space_size(space, image_size, model_size)
    (x1, x2), (y1, y2) = _whole(x1, x2, width), _whole(y1, y2, height)
    return (x1, y1, x2, y2)


def resized_size(image_size: Size, *, unit: int = 28, min_pixels: int, max_pixels: int) -> Size:
    """The (width, height) to which a Qwen-VL image processor resizes an image.

    Both sides become multiples of `unit` (28 for Qwen2.5-VL, 32 for Qwen3-VL); area in [min_pixels,
    max_pixels] and aspect ratio are kept as nearly as whole units allow.

    Raises:
        ValueError: an aspect ratio above 200, which the processor refuses.

    Example:
        >>> resized_size((600, 450), min_pixels=56 * 56, max_pixels=28 * 28 * 1280)
        (588, 448)
    """
    width, height = image_size
    if max(width, height) > MAX_RATIO * min(width, height):
        limit = f"the processor takes aspect ratios up to {MAX_RATIO}"
        raise ValueError(f"an image of {width} x {height} pixels is too thin: {limit}")
    new_width, new_height = (round(side / unit) * unit for side in image_size)
    if new_width * new_height > max_pixels:
        shrink = math.sqrt(width * height / max_pixels)
        new_width, new_height = (max(unit, math.floor(side / shrink / unit) * unit) for side in image_size)
    elif new_width * new_height < min_pixels:
        grow = math.sqrt(min_pixels / (width * height))
        new_width, new_height = (math.ceil(side * grow / unit) * unit for side in image_size)
    return (new_width, new_height)


def _overlap_union(a_xyxy: Box, b_xyxy: Box) -> tuple[float, float]:
    """|a ∩ b| and |a ∪ b|."""
    ax1, ay1, ax2, ay2 = a_xyxy
    bx1, by1, bx2, by2 = b_xyxy
    overlap = area_px2((max(ax1, bx1), max(ay1, by1), min(ax2, bx2), min(ay2, by2)))
    return overlap, area_px2(a_xyxy) + area_px2(b_xyxy) - overlap


def _scale(box: Box, old: Size, new: Size) -> Box:
    if old == new:
        return box
    sx, sy = new[0] / old[0], new[1] / old[1]
    return (box[0] * sx, box[1] * sy, box[2] * sx, box[3] * sy)


def _whole(low: float, high: float, limit: int) -> tuple[int, int]:
    """Both ends as whole numbers in [0, limit]; if equal, the end that loses less moves outwards by one."""
    first, last = (min(max(round(v), 0), limit) for v in (low, high))
    if first < last:
        return first, last
    is_left = first == limit or (first > 0 and low + high < 2 * first)
    return (first - 1, first) if is_left else (first, first + 1)
