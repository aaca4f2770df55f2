"""Image files: found by id at any depth, opened safely whatever their name says, and looked at before long
work begins.

No EXIF rotation unless asked for: boxes were drawn on the pixels as stored.
"""

import os
import warnings
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from PIL import Image, ImageOps, UnidentifiedImageError

from mcr_lib.boxes import MAX_RATIO
from mcr_lib.errors import UserError
from mcr_lib.schema import Example

SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG")
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP")
"""What may lie under such a name; other formats are not tried, since some are read by outside programs."""

MAX_PIXELS = 50_000_000
"""An image of more pixels is refused before it is decoded; tweets' images have at most 1,440,000."""

OnBadImage = Literal["error", "skip"]


def find_images(root: str | Path, ids: Collection[str]) -> dict[str, Path]:
    """The image file of each id that has one below `root`, at any depth; of several the first by suffix, then
    by path.

    Raises:
        UserError: `root` is no folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"folder of images {root} does not exist")
    found: dict[str, tuple[int, Path]] = {}
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        for name in names:
            stem, dot, suffix = name.rpartition(".")
            if stem in ids and dot + suffix in SUFFIXES:
                candidate = (SUFFIXES.index(dot + suffix), Path(folder) / name)
                found[stem] = min(found.get(stem, candidate), candidate)
    return {id: path for id, (_, path) in sorted(found.items())}


def image_problem(path: str | Path) -> tuple[tuple[int, int] | None, str | None]:
    """The (width, height) of an image and what is wrong with it, either `None`; every pixel is decoded
    (coarsely, where the format can).
    """
    try:
        with _opened(path) as image:
            size = image.size
            if max(size) > MAX_RATIO * min(size):
                raise _Bad(
                    f"{size[0]} x {size[1]} pixels is too thin; models take sides up to {MAX_RATIO} : 1"
                )
            image.draft("RGB", (max(1, size[0] // 8), max(1, size[1] // 8)))
            image.load()
        return size, None
    except _Bad as error:
        return None, str(error)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        return None, f"damaged ({_short(error)})"


def open_image(path: str | Path, *, upright: bool = False) -> Image.Image:
    """The image as RGB, decoded; transparent parts are laid on white, of an animation the first frame is
    taken.

    Args:
        upright: turned as its EXIF data say; where boxes are given they are of the pixels as stored.

    Raises:
        UserError: the file is missing, no image, truncated or has too many pixels.
    """
    try:
        with _opened(path) as opened:
            image = ImageOps.exif_transpose(opened) if upright else opened
            if image.mode.startswith("I"):  # 16 bits of grey
                return image.point(lambda value: value / 256).convert("L").convert("RGB")
            if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                above = image.convert("RGBA")
                return Image.alpha_composite(Image.new("RGBA", above.size, "white"), above).convert("RGB")
            return image.convert("RGB")
    except _Bad as error:
        raise UserError(f"{path}: {error}") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise UserError(f"{path}: the image is damaged ({_short(error)}); get it again") from error


def image_size(path: str | Path) -> tuple[int, int]:
    """The (width, height) of an image, without decoding it.

    Raises:
        UserError: the file is missing, no image, or has too many pixels.
    """
    try:
        with _opened(path) as image:
            return image.size
    except _Bad as error:
        raise UserError(f"{path}: {error}") from error


@dataclass(frozen=True, slots=True)
class ImageReport:
    """How the images of some examples stand.

    Args:
        n_examples: how many examples were looked at.
        counts: how many images are "present", "missing", "unreadable", "of another size than annotated"; the
            last are present too.
        problems: one sentence per image that is unreadable or of another size, in order.
    """

    n_examples: int
    counts: dict[str, int]
    problems: tuple[str, ...]


def inspect_images(examples: Sequence[Example]) -> tuple[ImageReport, dict[str, tuple[int, int]]]:
    """A report on the first image of each example, and the true size of each readable one by id."""
    counts = Counter({"present": 0, "missing": 0, "unreadable": 0, "of another size than annotated": 0})
    problems, sizes = [], {}
    for example in examples:
        if not example.images:
            counts["missing"] += 1
            continue
        size, problem = image_problem(example.images[0])
        if problem is not None:
            counts["unreadable"] += 1
            problems.append(f"{example.images[0]}: {problem}")
            continue
        counts["present"] += 1
        sizes[example.id] = size
        if example.image_size_px is not None and size != example.image_size_px:
            counts["of another size than annotated"] += 1
            annotated = "{} x {}".format(*example.image_size_px)
            problems.append(f"{example.images[0]}: {size[0]} x {size[1]} pixels, annotated as {annotated}")
    return ImageReport(len(examples), dict(counts), tuple(problems)), sizes


def usable_images(
    examples: Sequence[Example], *, on_bad_image: OnBadImage = "error"
) -> tuple[list[Example], ImageReport]:
    """The examples whose image can be used, with their true image size where none is annotated, and a report
    on all.

    Args:
        on_bad_image: "error" stops at images that are missing, unreadable or of another size than annotated;
            "skip" leaves their examples out, and the report counts them.

    Raises:
        UserError: some image cannot be used and `on_bad_image` is "error"; the first is named.
    """
    report, sizes = inspect_images(examples)
    usable = [
        e if e.image_size_px is not None else replace(e, image_size_px=sizes[e.id])
        for e in examples
        if e.id in sizes and e.image_size_px in (None, sizes[e.id])
    ]
    if on_bad_image == "error" and len(usable) < len(examples):
        told = ", ".join(f"{count} {kind}" for kind, count in report.counts.items() if count)
        first = (
            report.problems[0]
            if report.problems
            else f"tweet {next(e.id for e in examples if not e.images)} has none"
        )
        raise UserError(
            f"images of {len(examples)} tweets: {told}; {first}; mend them, or skip them with bad_images=skip"
        )
    return usable, report


class _Bad(Exception):
    """Why a file cannot be used as an image."""


def _opened(path: str | Path) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            image = Image.open(path, formats=FORMATS)
        except FileNotFoundError as error:
            raise _Bad("the image does not exist") from error
        except IsADirectoryError as error:
            raise _Bad("a folder, not an image") from error
        except Image.DecompressionBombError as error:
            raise _Bad(f"refused: more than {MAX_PIXELS:,} pixels") from error
        except UnidentifiedImageError as error:
            raise _Bad("no image that can be recognised") from error
    if image.size[0] * image.size[1] > MAX_PIXELS:
        image.close()
        raise _Bad(f"refused: {image.size[0]} x {image.size[1]} pixels, more than {MAX_PIXELS:,}")
    return image


def _short(error: Exception) -> str:
    return (str(error).split("\n")[0] or type(error).__name__)[:100]
