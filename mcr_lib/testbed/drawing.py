"""Pictures of the testbed: emblems on a cluttered ground, described by a scene and drawn with Pillow."""

from dataclasses import dataclass
from functools import lru_cache
from random import Random

from PIL import Image, ImageDraw

from mcr_lib.boxes import Box, Size
from mcr_lib.data.chance import pick
from mcr_lib.testbed.knobs import GAP_PX, Knobs
from mcr_lib.testbed.world import BY_NAME, COLOURS, Being

_FINE, _TRIES = 128, 60  # side of an emblem's master copy in pixels: scaling it down smooths the edges
_GROUNDS = ("#e8e4da", "#d9e6ef", "#dfe9d8", "#efe0dd", "#e4def0", "#cfd4da", "#f4f1e6", "#bfc9bd")
_INK = ("#9a9488", "#8d99a6", "#a7a29a", "#7f8c83", "#b3a6a0")
_DARK = "#1d1d1f"
_POLYGONS = {  # outline -> corners as shares of the side; a disc has none
    "house": ((0.5, 0), (1, 0.38), (1, 1), (0, 1), (0, 0.38)),
    "shield": ((0, 0), (1, 0), (1, 0.62), (0.5, 1), (0, 0.62)),
    "star": ((0.5, 0), (0.66, 0.3), (1, 0.3), (0.78, 0.56), (0.9, 1), (0.5, 0.78), (0.1, 1), (0.22, 0.56),
        (0, 0.3), (0.34, 0.3)),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shown:
    """An emblem in a picture, in pixels from 0; a strip hides the share `cover` of its height."""

    name: str
    x: int
    y: int
    width: int
    height: int
    cover: float = 0.0  # in [0, 0.4]; 0 = no strip
    cover_at: float = 0.0  # start of the strip, as a share of the height

    @property
    def box_xyxy_px(self) -> Box:
        """Its box in the format of Twitter-GMNER: first and last pixel, counted from 1."""
        return (self.x + 1, self.y + 1, self.x + self.width, self.y + self.height)


@dataclass(frozen=True, slots=True)
class Scene:
    """Content of a picture; its emblems in the order they are drawn."""

    size_px: Size
    shown: tuple[Shown, ...]
    ground: str  # background colour
    clutter: str  # seed of the `n_clutter` lines and blobs behind the emblems
    n_clutter: int

    def boxes_of(self, name: str) -> tuple[Box, ...]:
        """Return the boxes of every emblem of that name, largest first."""
        boxes = [(s.width * s.height, s.box_xyxy_px) for s in self.shown if s.name == name]
        return tuple(box for _, box in sorted(boxes, reverse=True))


def compose(rng: Random, names: list[str], size_px: Size, n_clutter: int, knobs: Knobs) -> Scene | None:
    """Place an emblem per name at random without overlap, smaller with each try; `None` = they do not fit."""
    smallest, largest = knobs.scale_px
    for attempt in range(_TRIES):
        upper = max(smallest, largest - (largest - smallest) * attempt // (_TRIES // 2))
        placed: list[Shown] = []
        for name in names:
            if (one := _place(rng, name, placed, size_px, upper, knobs)) is None:
                break
            placed.append(one)
        else:
            return Scene(size_px, tuple(placed), pick(rng, _GROUNDS), f"{rng.random():.17f}", n_clutter)
    return None


def _place(rng: Random, name: str, placed: list[Shown], size: Size, upper: int, knobs: Knobs) -> Shown | None:
    smallest, occlusion = knobs.scale_px[0], knobs.occlusion
    for _ in range(8):
        side, aspect = smallest + rng.random() * (upper - smallest), 0.85 + 0.35 * rng.random()
        width, height = max(smallest, round(side * aspect)), max(smallest, round(side / aspect))
        if width > size[0] or height > size[1]:
            continue
        x, y = int(rng.random() * (size[0] - width + 1)), int(rng.random() * (size[1] - height + 1))
        level = [o for o in placed if x < o.x + o.width + GAP_PX and o.x < x + width + GAP_PX]
        if any(y < o.y + o.height + GAP_PX and o.y < y + height + GAP_PX for o in level):
            continue
        cover = 0.15 + 0.2 * rng.random() if rng.random() < occlusion else 0.0
        return Shown(name, x, y, width, height, cover, rng.random() * (1 - cover) if cover else 0.0)
    return None


def scaled(being: Being, size_px: Size) -> Image.Image:
    """Return an emblem of this size."""
    return emblem(being).resize(size_px, Image.Resampling.BILINEAR, reducing_gap=2.0)


def draw(scene: Scene) -> Image.Image:
    """Draw a scene as an RGB image of its size."""
    image, rng = Image.new("RGB", scene.size_px, scene.ground), Random(scene.clutter)
    pen, (width, height) = ImageDraw.Draw(image), scene.size_px
    for _ in range(scene.n_clutter):
        x, y, w, h = rng.random() * width, rng.random() * height, 4 + rng.random() * 30, 2 + rng.random() * 18
        ink = pick(rng, _INK)
        if rng.random() < 0.5:
            pen.line((x, y, x + 2 * w - 30, y + 2 * h - 20), fill=ink, width=1 + int(rng.random() * 3))
        else:
            pen.ellipse((x, y, x + w, y + h), outline=ink, width=2)
    for shown in scene.shown:
        small = scaled(BY_NAME[shown.name], (shown.width, shown.height))
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
