"""Pictures of the testbed: emblems on a cluttered ground, described by a scene and drawn with Pillow."""

from dataclasses import dataclass
from functools import lru_cache
from random import Random

from PIL import Image, ImageDraw

from mcr_lib.boxes import Box
from mcr_lib.data.chance import pick
from mcr_lib.testbed.world import BY_NAME, COLOURS, Being

_FINE = 128  # side of an emblem's master copy in pixels; scaling it down smooths the edges
_TRIES = 60
_GROUNDS = ("#e8e4da", "#d9e6ef", "#dfe9d8", "#efe0dd", "#e4def0", "#cfd4da", "#f4f1e6", "#bfc9bd")
_INK = ("#9a9488", "#8d99a6", "#a7a29a", "#7f8c83", "#b3a6a0")
_DARK = "#1d1d1f"

_POLYGONS = {
    "house": ((0.5, 0), (1, 0.38), (1, 1), (0, 1), (0, 0.38)),
    "shield": ((0, 0), (1, 0), (1, 0.62), (0.5, 1), (0, 0.62)),
    "star": (
        (0.5, 0), (0.66, 0.3), (1, 0.3), (0.78, 0.56), (0.9, 1), (0.5, 0.78), (0.1, 1), (0.22, 0.56),
        (0, 0.3), (0.34, 0.3),
    ),
}  # fmt: skip
"""Outline -> corners as shares of the side; a disc has none."""


@dataclass(frozen=True, slots=True)
class Shown:
    """An emblem in a picture, in pixels from 0.

    Args:
        cover: share of the height that a strip hides, in [0, 0.4]; 0 = no strip.
        cover_at: start of the strip, as a share of the height.
    """

    name: str
    x: int
    y: int
    width: int
    height: int
    cover: float = 0.0
    cover_at: float = 0.0

    @property
    def box_xyxy_px(self) -> Box:
        """Its box in the format of Twitter-GMNER: first and last pixel, counted from 1."""
        return (self.x + 1, self.y + 1, self.x + self.width, self.y + self.height)


@dataclass(frozen=True, slots=True)
class Scene:
    """Content of a picture.

    Args:
        shown: emblems in the order they are drawn.
        ground: background colour.
        clutter: seed of the `n_clutter` lines and blobs behind the emblems.
    """

    size_px: tuple[int, int]
    shown: tuple[Shown, ...]
    ground: str
    clutter: str
    n_clutter: int

    def boxes_of(self, name: str) -> tuple[Box, ...]:
        """Return the boxes of every emblem of that name, largest first."""
        boxes = [(s.width * s.height, s.box_xyxy_px) for s in self.shown if s.name == name]
        return tuple(box for _, box in sorted(boxes, reverse=True))


def compose(
    rng: Random, names: list[str], *, size_px: tuple[int, int], scale_px: tuple[int, int], occlusion: float,
    n_clutter: int,
) -> Scene | None:  # fmt: skip
    """Place an emblem per name at random without overlap; `None` if they do not fit.

    Args:
        scale_px: smallest and largest side of an emblem; the largest is lowered from try to try.
        occlusion: share of emblems with a hidden strip, in [0, 1].
    """
    smallest, largest = scale_px
    for attempt in range(_TRIES):
        upper = max(smallest, largest - (largest - smallest) * attempt // (_TRIES // 2))
        placed: list[Shown] = []
        for name in names:
            if (one := _place(rng, name, placed, size_px, (smallest, upper), occlusion)) is None:
                break
            placed.append(one)
        else:
            return Scene(size_px, tuple(placed), pick(rng, _GROUNDS), f"{rng.random():.17f}", n_clutter)
    return None


def draw(scene: Scene) -> Image.Image:
    """Draw a scene as an RGB image of its size."""
    image = Image.new("RGB", scene.size_px, scene.ground)
    pen = ImageDraw.Draw(image)
    rng = Random(scene.clutter)
    width, height = scene.size_px
    for _ in range(scene.n_clutter):
        x, y, w, h = rng.random() * width, rng.random() * height, 4 + rng.random() * 30, 2 + rng.random() * 18
        ink = pick(rng, _INK)
        if rng.random() < 0.5:
            pen.line((x, y, x + 2 * w - 30, y + 2 * h - 20), fill=ink, width=1 + int(rng.random() * 3))
        else:
            pen.ellipse((x, y, x + w, y + h), outline=ink, width=2)
    for shown in scene.shown:
        size = (shown.width, shown.height)
        small = emblem(BY_NAME[shown.name]).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
        image.paste(small, (shown.x, shown.y), small)
        if shown.cover:
            top = shown.y + shown.cover_at * shown.height
            right, bottom = shown.x + shown.width - 1, top + shown.cover * shown.height
            pen.rectangle((shown.x, top, right, bottom), fill=scene.ground)
    return image


@lru_cache(maxsize=256)
def emblem(being: Being) -> Image.Image:
    """Draw the RGBA master copy of an emblem; it touches all four sides."""
    big = 4 * _FINE
    image = Image.new("RGBA", (big, big), (0, 0, 0, 0))
    pen = ImageDraw.Draw(image)
    for rim, fill in ((0, _DARK), (big // 22, COLOURS[being.colour])):
        if being.outline == "disc":
            pen.ellipse((rim, rim, big - 1 - rim, big - 1 - rim), fill=fill)
        else:
            scale, corners = 1 - 2.6 * rim / big, _POLYGONS[being.outline]
            points = [tuple((0.5 + (x - 0.5) * scale) * (big - 1) for x in corner) for corner in corners]
            pen.polygon(points, fill=fill)
    c, m = big * 0.5, big * (0.6 if being.outline == "house" else 0.5)
    if being.mark == "dot":
        pen.ellipse((c - 0.2 * big, m - 0.2 * big, c + 0.2 * big, m + 0.2 * big), fill="#ffffff")
    elif being.mark == "bar":
        pen.rectangle((c - 0.28 * big, m - 0.1 * big, c + 0.28 * big, m + 0.1 * big), fill=_DARK)
    return image.resize((_FINE, _FINE), Image.Resampling.LANCZOS)


def _is_close(o: Shown, x: int, y: int, width: int, height: int) -> bool:
    is_level = x < o.x + o.width + 2 and o.x < x + width + 2
    return is_level and y < o.y + o.height + 2 and o.y < y + height + 2


def _place(
    rng: Random, name: str, placed: list[Shown], size_px: tuple[int, int], scale_px: tuple[int, int],
    occlusion: float,
) -> Shown | None:  # fmt: skip
    smallest, largest = scale_px
    for _ in range(8):
        side, aspect = smallest + rng.random() * (largest - smallest), 0.85 + 0.35 * rng.random()
        width, height = max(smallest, round(side * aspect)), max(smallest, round(side / aspect))
        if width > size_px[0] or height > size_px[1]:
            continue
        x, y = int(rng.random() * (size_px[0] - width + 1)), int(rng.random() * (size_px[1] - height + 1))
        if any(_is_close(other, x, y, width, height) for other in placed):
            continue
        cover = 0.15 + 0.2 * rng.random() if rng.random() < occlusion else 0.0
        return Shown(name, x, y, width, height, cover, rng.random() * (1 - cover) if cover else 0.0)
    return None
