"""Bait for the probe `add_bait`: an emblem that a tweet does not name, pasted into its picture."""

from dataclasses import replace
from random import Random

from PIL import Image

from mcr_lib import bias
from mcr_lib.data.chance import pick
from mcr_lib.data.probes import TRIES, Probe, share_covered, shown
from mcr_lib.schema import Example, ImageOnly
from mcr_lib.testbed.drawing import scaled
from mcr_lib.testbed.knobs import GAP_PX
from mcr_lib.testbed.world import BEINGS

_SMALLEST_PX, _SPREAD_PX = 28, 17  # sides of 28 to 44 pixels


def baited(example: Example, image: Image.Image, rng: Random) -> Probe | None:
    """Return a tweet of the testbed with one more emblem in its picture, which it does not name.

    If possible it has the type of an entity that is named and not shown. `None`: no testbed, or no room.
    """
    if example.image_only is None:
        return None
    things = shown(example)
    names = {thing.text for thing in things}
    absent = {e.type for e in example.entities if not e.is_groundable}
    free = [b for b in BEINGS if b.name not in names and bias.wording(b.name, example.tokens) == "foreign"]
    being = pick(rng, [b for b in free if b.type in absent] or free)
    taken = [box for thing in things for box in thing.boxes_xyxy_px]
    for attempt in range(TRIES):
        side = _SMALLEST_PX + int(rng.random() * _SPREAD_PX * (attempt < TRIES // 2))
        x, y = (int(rng.random() * (length - side + 1)) for length in image.size)
        around = (x + 1 - GAP_PX, y + 1 - GAP_PX, x + side + GAP_PX, y + side + GAP_PX)
        if min(image.size) >= side and not any(share_covered(box, around) for box in taken):
            small, new = scaled(being, (side, side)), image.copy()
            new.paste(small, (x, y), small)
            bait = ImageOnly(being.name, being.type, ((x + 1, y + 1, x + side, y + side),))
            return Probe(replace(example, image_only=(*example.image_only, bait)), image=new)
    return None
