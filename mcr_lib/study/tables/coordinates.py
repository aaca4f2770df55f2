"""Whether the boxes of a file can be in the space, order and size that it names (ours).

A box read in another space than it was written in is the most common mistake of the field, and looks like a
weak model. Geometry gives it away (boxes that leave the image or lie within 0..1, a `model_size` of another
shape than the image), or gold, which another reading hits far more often. A perfect file shows neither sign.
"""

from collections.abc import Sequence
from statistics import median
from typing import Any

from mcr_lib.answer import NO_PLACE
from mcr_lib.boxes import SPACES, Box, best_iou, space_size

MIN_SHARE = 0.05  # of odd boxes or sizes, above which a file is questioned
_UNIT = 32  # pixels; no processor rounds the sides of an image to larger units
_ORDERS = {  # the corners of four numbers; lenient parsing may have sorted (x, width) and (y, height)
    "xyxy": lambda a, b, c, d: [(a, b, c, d)],
    "yxyx": lambda a, b, c, d: [(b, a, d, c)],
    "xywh": lambda a, b, c, d: [(x, y, a + c, b + d) for x in (a, c) for y in (b, d)],
    "cxcywh": lambda a, b, c, d: [  # the centre, then width and height
        (x - w / 2, y - h / 2, x + w / 2, y + h / 2) for x, w in ((a, c), (c, a)) for y, h in ((b, d), (d, b))
    ],
}


def check(answers: Any) -> dict[str, Any]:
    """Counts of odd boxes, odd sizes and hits of a `ScoredFile`; in doubt a `question` and what `fits`."""
    written, bent = [], []  # (box, name of the space -> size of the image there, gold in shares of the image)
    for one, answer, row in zip(answers.judged, answers.parsed, answers.rows, strict=True):
        if answer is None or not (image := row.image_size_px or one.example.image_size_px):
            continue
        sizes = {space: space_size(space, image, row.model_size or image) for space in SPACES}
        sizes |= {"": sizes[row.coordinate_space], "model_size (height, width)": sizes["model_px"][::-1]}
        sizes["percent"] = (100, 100)
        if row.coordinate_space == "model_px":  # may the two scales differ as rounding makes them?
            (width, height), (new_width, new_height) = image, row.model_size
            bent.append(abs(new_width / width - new_height / height) > _UNIT / width + _UNIT / height)
        gold_size = one.example.image_size_px or image
        gold = {id(p): [_shares(b, gold_size) for b in e.boxes_xyxy_px or ()] for p, e in one.matched}
        pairs = zip(one.predictions, answer.entities, strict=True)
        shown = ((p, e) for p, e in pairs if e.boxes_xyxy not in ((), NO_PLACE))
        written += [(e.boxes_xyxy[0], sizes, gold.get(id(p), ())) for p, e in shown]
    beyond = [min(box := _shares(raw, of[""])) < -0.02 or max(box) > 1.02 for raw, of, _ in written]
    unit = [min(raw) >= 0 and max(raw) <= 1 < of[""][0] for raw, of, _ in written]
    odd = {"leave the image": beyond, "lie within 0..1": unit, "name a model_size of another shape": bent}
    signs = [f"{sum(v):,} of {len(v):,} {what}" for what, v in odd.items() if sum(v) > MIN_SHARE * len(v)]
    paired = [w for w in written if w[2]]
    n_hits = _n_hits(paired, "", "xyxy")
    counts = {"n_boxes": len(written), "beyond_image": sum(beyond), "within_unit": sum(unit)}
    counts |= {"other_shape": sum(bent), "n_with_gold": len(paired), "hits": n_hits}
    if 1.5 * n_hits < len(paired):  # else no other reading can be so much better
        ratio = median(sum(_shares(raw, of[""])) / max(sum(gold[0]), 1e-9) for raw, of, gold in paired)
        if not 0.8 < ratio < 1.25:
            for _, of, _ in paired:
                of[f"pixels of an image {ratio:.2f} times as large"] = [max(ratio, 1e-9) * v for v in of[""]]
        hits = {(space, order): _n_hits(paired, space, order) for space in paired[0][1] for order in _ORDERS}
        space, order = max(hits, key=hits.__getitem__)
        if (n := hits[space, order]) >= max(3, 1.5 * n_hits, 0.3 * len(paired)):
            counts["fits"] = f"{space}, {order}"
            would = f"{n:,} of {len(paired):,} boxes would hit the gold, now {n_hits:,}"
            signs.append(f"read as {counts['fits']}, {would} (judged by the gold)")
    if "fits" not in counts and sum(unit) > MIN_SHARE * len(unit):
        counts["fits"] = "norm1, xyxy"
        signs.append("norm1 fits (judged by geometry)")
    if signs and ("fits" in counts or 2 * n_hits <= len(paired)):
        counts["question"] = f"wrong coordinate space, order or size? {'; '.join(signs)}"
    return counts


def _shares(box: Box, size: Sequence[float]) -> Box:
    return tuple(value / size[k % 2] for k, value in enumerate(box))


def _n_hits(written: Sequence[Any], space: str, order: str) -> int:
    read = (([_shares(box, of[space]) for box in _ORDERS[order](*raw)], gold) for raw, of, gold in written)
    return sum(any(best_iou(box, gold) >= 0.5 for box in boxes) for boxes, gold in read)
