"""Whether the boxes of a file can be in the space, order and size that it names (ours).

A box read in another space than it was written in is the most common mistake of the field and looks like a
weak model. Two signs give it away: geometry (boxes that leave the image or lie within 0..1, a `model_size` of
another shape than the image) and agreement with gold, where another reading hits far more boxes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from mcr_lib import boxes
from mcr_lib.answer import NO_PLACE
from mcr_lib.boxes import Box, Size
from mcr_lib.data.predictions import Prediction

if TYPE_CHECKING:
    from mcr_lib.study.tables.scoring import ScoredFile

MIN_SHARE = 0.05  # of odd boxes or sizes, above which a file is questioned
_UNIT = 32  # pixels; no processor rounds the sides of an image to larger units


@dataclass(frozen=True, slots=True)
class _Written:
    box: Box  # as written
    row: Prediction
    image: Size  # in whose pixels gold is
    gold: tuple[Box, ...]  # of the matched entity


def check(answers: "ScoredFile") -> dict[str, Any]:
    """Counts of odd boxes and sizes, of boxes that hit gold as they are read, and, in doubt, the `question`.

    A perfect file raises none: no box of it leaves the image, and no reading agrees better.
    """
    written, sizes = [], []
    for judged, parsed, row in zip(answers.judged, answers.parsed, answers.rows, strict=True):
        image = row and (row.image_size_px or judged.example.image_size_px)
        if parsed is None or image is None:
            continue
        sizes += [(row.model_size, image)] if row.coordinate_space == "model_px" else []
        gold_of = {id(predicted): gold.boxes_xyxy_px or () for predicted, gold in judged.matched}
        px = {"image_size": judged.example.image_size_px or image, "model_size": image}
        for predicted, entity in zip(judged.predictions, parsed.entities, strict=True):
            if entity.boxes_xyxy not in ((), NO_PLACE):
                gold = (boxes.to_space(box, "model_px", **px) for box in gold_of.get(id(predicted), ()))
                written.append(_Written(entity.boxes_xyxy[0], row, image, tuple(gold)))
    with_gold = [w for w in written if w.gold]
    counts = {
        "n_boxes": len(written), "beyond_image": sum(map(_is_beyond, written)),
        "within_unit": sum(map(_is_within_unit, written)),
        "other_shape": sum(_is_bent(*pair) for pair in sizes),
        "hits": _n_hits(with_gold, "xyxy", 1.0, None), "n_with_gold": len(with_gold),
    }  # fmt: skip
    odd = {
        "boxes leave the image": (counts["beyond_image"], len(written)),
        "boxes lie within 0..1": (counts["within_unit"], len(written)),
        "model sizes have another shape than the image": (counts["other_shape"], len(sizes)),
    }
    signs = [f"{n:,} of {of:,} {what}" for what, (n, of) in odd.items() if n > MIN_SHARE * of]
    n_best, best = 0, ""
    for name, how in _readings(with_gold):
        if (n := _n_hits(with_gold, *how)) > n_best:
            n_best, best = n, name
    if is_better := n_best >= max(3, 2 * counts["hits"], 0.3 * len(with_gold)):
        hits = f"{n_best:,} of {len(with_gold):,} boxes would hit the gold, now {counts['hits']:,}"
        signs.append(f"read as {best}, {hits} (judged by the gold)")
    elif counts["within_unit"] > MIN_SHARE * len(written):
        signs.append("norm1 fits (judged by geometry)")
    if signs:
        counts["question"] = f"wrong coordinate space, order or size? {'; '.join(signs)}"
    return counts | ({"fits": best} if is_better else {})


def _readings(written: list[_Written]) -> Iterator[tuple[str, tuple[str, float, str | None]]]:
    """Name -> order, factor and space of every other way to read the boxes."""
    if not written:
        return
    for order in ("xyxy", "yxyx", "xywh"):
        for space in (*boxes.SPACES, "model_size as (height, width)"):
            yield f"{space}, {order}", (order, 1.0, space)
    ratios = [sum(_read(w, "xyxy", 1.0, None)[0]) / max(sum(w.gold[0]), 1) for w in written]
    if (factor := median(ratios)) > 0:
        yield f"pixels of an image {factor:.2f} times as large", ("xyxy", factor, None)


def _read(w: _Written, order: str, factor: float, space: str | None) -> list[Box]:
    """A box in pixels of the image, read otherwise; several where parsing may have sorted width and x."""
    model, space = w.row.model_size, space or w.row.coordinate_space
    if space.startswith("model_") and model is None:
        return []
    space, model = (space, model) if space in boxes.SPACES else ("model_px", model[::-1])
    x1, y1, x2, y2 = (value / factor for value in w.box)
    read = [(x1, y1, x2, y2)] if order == "xyxy" else [(y1, x1, y2, x2)]
    if order == "xywh":
        read = [(x, y, x1 + x2, y1 + y2) for x in {x1, x2} for y in {y1, y2}]
    return [boxes.from_space(box, space, image_size=w.image, model_size=model) for box in read]


def _n_hits(written: list[_Written], *how: Any) -> int:
    return sum(any(boxes.is_hit(box, w.gold, inclusive=True) for box in _read(w, *how)) for w in written)


def _size(w: _Written) -> Size:
    return boxes.space_size(w.row.coordinate_space, w.image, w.row.model_size)


def _is_beyond(w: _Written) -> bool:
    """Whether a box leaves the image by more than a pixel and a hundredth of its side."""
    (width, height), (x1, y1, x2, y2) = _size(w), w.box
    room = [0.01 * side + min(side, 1) for side in (width, height)]
    return x1 < -room[0] or y1 < -room[1] or x2 > width + room[0] or y2 > height + room[1]


def _is_within_unit(w: _Written) -> bool:
    return w.row.coordinate_space != "norm1" and min(w.box) >= 0 and max(w.box) <= 1


def _is_bent(model: Size, image: Size) -> bool:
    """Whether the sides are scaled so differently that no rounding to whole units explains it."""
    (width, height), scales = image, [new / old for new, old in zip(model, image, strict=True)]
    return abs(scales[0] - scales[1]) > _UNIT / width + _UNIT / height
