"""Bait for the probe `add_bait`: an emblem that a tweet does not name, pasted into its picture."""

from dataclasses import replace
from random import Random

from PIL import Image

from mcr_lib import bias
from mcr_lib.data.chance import pick
from mcr_lib.data.probes import TRIES, Edit, share_covered, shown
from mcr_lib.schema import Example, ImageOnly
from mcr_lib.testbed.drawing import emblem
from mcr_lib.testbed.world import BEINGS

_EMBLEM_PX, _GAP_PX = (28, 44), 2


def baited(example: Example, image: Image.Image, rng: Random) -> Edit | None:
    """A tweet of the testbed with one emblem more in its picture, which it does not name: if possible of the
    type of something that it names and the picture lacks. `None` off the testbed, and where there is no room.
    """
    if example.image_only is None:
        return None
    things = shown(example)
    absent = {e.type for e in example.entities if not e.is_groundable}
    free = [
        b
        for b in BEINGS
        if b.name not in {t.text for t in things} and bias.wording(b.name, example.tokens) == "invented"
    ]
    being = pick(rng, [b for b in free if b.type in absent] or free)
    taken = [box for thing in things for box in thing.boxes_xyxy_px]
    for attempt in range(TRIES):
        side = _EMBLEM_PX[0] + int(
            rng.random() * (_EMBLEM_PX[1] - _EMBLEM_PX[0] + 1) * (attempt < TRIES // 2)
        )
        x, y = (int(rng.random() * (length - side + 1)) for length in image.size)
        around = (x + 1 - _GAP_PX, y + 1 - _GAP_PX, x + side + _GAP_PX, y + side + _GAP_PX)
        if min(image.size) >= side and not any(share_covered(box, around) for box in taken):
            small, new = (
                emblem(being).resize((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0),
                image.copy(),
            )
            new.paste(small, (x, y), small)
            bait = ImageOnly(being.name, being.type, ((x + 1, y + 1, x + side, y + side),))
            return Edit(replace(example, image_only=(*example.image_only, bait)), image=new)
    return None
