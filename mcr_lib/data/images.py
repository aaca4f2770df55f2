"""Image files: found by id, opened safely whatever their suffix, checked before long work begins.

Images are not rotated by EXIF unless asked for: boxes were drawn on the pixels as stored.
"""

import os
import re
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from mcr_lib.boxes import MAX_RATIO
from mcr_lib.data.files import listed
from mcr_lib.errors import UserError
from mcr_lib.schema import Example

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".jfif", ".jpe", ".apng")  # in any case
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP")  # whatever the suffix; others may start outside programs
MAX_PIXELS = 50_000_000  # refused before decoding; images of tweets have at most 1,440,000
# bytes of a PNG's profile and comments, unpacked, which nobody needs here; beyond these Pillow refuses it
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = 50_000_000
OnBadImage = Literal["error", "skip"]
Usable = tuple[list[Example], "ImageReport"]
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError)
_REFUSED = {
    FileNotFoundError: "the image does not exist", IsADirectoryError: "a folder, not an image",
    Image.DecompressionBombError: f"refused: more than {MAX_PIXELS:,} pixels",
}  # fmt: skip
_OTHERS = {  # what stands under names of images -> how it begins
    "an AVIF image": rb".{4}ftyp(avi|mif1.{4,12}avif)", "a HEIC image": rb".{4}ftyp(hei|hev|mif|msf)",
    "a TIFF image": rb"II\*\0|MM\0\*", "an SVG drawing": rb"\s*(<\?xml.*?>\s*)?(<!--.*?-->\s*)?<svg",
    "a page of HTML": rb"\s*<(!doctype html|html|head|body)", "a PDF": rb"%PDF", "an empty file": rb"$",
}  # fmt: skip


def find_images(root: str | Path, ids: Collection[str]) -> dict[str, Path]:
    """Map each id to its image file below `root`; of several files the first by suffix, then by path."""
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"folder of images {root} does not exist")
    best, visited = {}, set()
    for folder, folders, names in os.walk(root, followlinks=True):
        if (real := os.path.realpath(folder)) in visited:
            folders.clear()
            continue
        visited.add(real)
        folders.sort()
        for name in names:
            stem, dot, suffix = name.rpartition(".")
            if stem in ids and (lower := dot + suffix.lower()) in SUFFIXES:
                candidate = (SUFFIXES.index(lower), lower != dot + suffix, Path(folder) / name)
                best[stem] = min(best.get(stem, candidate), candidate)
    return {id: path for id, (*_, path) in sorted(best.items())}


def image_problem(path: str | Path) -> tuple[tuple[int, int] | None, str | None]:
    """Decode an image, coarsely if its format can; return ((width, height), None) or (None, problem)."""
    try:
        with _opened(path) as image:
            width, height = image.size
            if max(image.size) > MAX_RATIO * min(image.size):
                return None, f"{width} x {height} pixels is too thin; models take sides up to {MAX_RATIO} : 1"
            image.draft("RGB", (max(1, width // 8), max(1, height // 8)))
            image.load()
        return (width, height), None
    except UserError as error:
        return None, str(error).removeprefix(f"{path}: ")


def open_image(path: str | Path, *, upright: bool = False) -> Image.Image:
    """Open an image as RGB, on white where it is transparent; of an animation the first frame.

    `upright` rotates by EXIF; not for images with boxes, which are in pixels as stored.
    """
    with _opened(path) as opened:
        image = ImageOps.exif_transpose(opened) if upright else opened
        if image.mode.startswith("I"):  # 16 bits of grey
            return image.point(lambda value: value / 256).convert("L").convert("RGB")
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            above = image.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", above.size, "white"), above).convert("RGB")
        return image.convert("RGB")


def image_size(path: str | Path) -> tuple[int, int]:
    """Return the (width, height) of an image without decoding it."""
    with _opened(path) as image:
        return image.size


@dataclass(frozen=True, slots=True)
class ImageReport:
    """State of the images of some examples."""

    n_examples: int
    counts: dict[str, int]  # an image "of another size than annotated" is also "present"
    problems: tuple[str, ...]  # a sentence per image unreadable or of another size, and one on the missing


def inspect_images(examples: Sequence[Example]) -> tuple[ImageReport, dict[str, tuple[int, int]]]:
    """Return a report on the images of each example, and id -> size of the first, if all are readable.

    An example whose task needs no image may be without (counted if there are any); a file that does not
    exist is missing.
    """
    problems, sizes, n_without = [], {}, sum(map(needs_none, examples))
    gone = cache(lambda path: not Path(path).exists())
    missing = [e.id for e in examples if not needs_none(e) and all(map(gone, e.images))]
    counts = {"present": 0, "missing": len(missing), "unreadable": 0, "of another size than annotated": 0}
    counts |= {"without an image, as annotated": n_without} if n_without else {}
    state_of = cache(image_problem)  # several examples may share an image
    for example in (each for each in examples if not all(map(gone, each.images))):
        states = {path: state_of(path) for path in example.images}
        (size, _), annotated = states[example.images[0]], example.image_size_px
        problems += [f"{path}: {problem}" for path, (_, problem) in states.items() if problem]
        is_readable = all(size for size, _ in states.values())
        counts["present" if is_readable else "unreadable"] += 1
        if is_readable:
            sizes[example.id] = size
        if is_readable and annotated not in (None, size):
            counts["of another size than annotated"] += 1
            differs = "{} x {} pixels, annotated as {} x {}".format(*size, *annotated)
            problems.append(f"{example.images[0]}: {differs}")
    if missing:
        problems.append(f"no image of {listed(missing)}")
    return ImageReport(len(examples), counts, tuple(dict.fromkeys(problems))), sizes


def usable_images(examples: Sequence[Example], *, on_bad_image: OnBadImage = "error") -> Usable:
    """Return the examples whose images are all usable, each with the size of its first, and a report on all.

    One that `needs_none` is among them.
    `on_bad_image`: an image is missing, unreadable or of another size than annotated: stop, or skip it.
    """
    report, sizes = inspect_images(examples)
    sized = {e.id for e in examples if e.id in sizes and e.image_size_px in (None, sizes[e.id])}
    fitting = [e for e in examples if e.id in sized or needs_none(e)]
    if on_bad_image == "error" and len(fitting) < len(examples):
        counts = ", ".join(f"{count} {kind}" for kind, count in report.counts.items() if count)
        hint = "mend them, or skip them with bad_images=skip"
        raise UserError(f"images of {len(examples)} tweets: {counts}; {report.problems[0]}; {hint}")
    return [e if needs_none(e) else replace(e, image_size_px=sizes[e.id]) for e in fitting], report


def needs_none(example: Example) -> bool:
    """Whether an example is whole without an image: it has none, and nothing of it has to be shown."""
    return not example.images and "groundable" not in example.constraints


@contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    """The image, not decoded yet; what goes wrong within the block is a `UserError` too."""
    try:  # without warnings: of many pixels, and of metadata that nobody needs
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise UserError(f"{path}: refused: {width} x {height} pixels, more than {MAX_PIXELS:,}")
            yield image
    except UnidentifiedImageError as error:
        raise UserError(f"{path}: {_what(path)}") from error
    except (*_REFUSED, *_DAMAGE) as error:
        raise UserError(f"{path}: {_REFUSED.get(type(error)) or _damage(error)}") from error


def _what(path: str | Path) -> str:
    head = Path(path).read_bytes()[:1000]
    found = (what for what, start in _OTHERS.items() if re.match(start, head, re.DOTALL | re.IGNORECASE))
    if (what := next(found, None)) is None:
        return "no image that can be recognised"
    remedy = "convert it to JPEG or PNG" if what.endswith(("image", "drawing")) else "get the image again"
    return f"{what}, which is not read here; {remedy}"


def _damage(error: Exception) -> str:
    reason = (str(error).split("\n")[0] or type(error).__name__)[:100]
    damaged = f"the image is damaged ({reason}); get it again"
    return "its metadata are too large; save it again without them" if "MAX_TEXT" in reason else damaged
