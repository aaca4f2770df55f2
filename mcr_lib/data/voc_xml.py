"""PASCAL VOC annotation files as labelImg and others write them: the boxes of one image by name."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError
from xml.sax.saxutils import escape

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from mcr_lib.boxes import Box, Size
from mcr_lib.errors import UserError

SizeOf = Callable[[str], Size | None]  # of an image by its id; `None` = there is none
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True, slots=True)
class Annotation:
    """Content of one file."""

    filename: str  # the inner one, which may differ from the file's own name
    size_px: Size
    objects: tuple[tuple[str, Box], ...]  # (name, box in pixels as written) in file order
    quirks: tuple[str, ...] = ()  # what was mended


def read_annotation(path: str | Path, size_of: SizeOf = lambda _: None, *, strip: bool = True) -> Annotation:
    """Read the annotation of one image; a file with a DTD or entities is refused (only attacks use them).
    `size_of` is asked if the file has no image size. `strip`: leave out stray blanks of names.
    """
    try:
        data = Path(path).read_bytes()
        return _annotation(fromstring(data, forbid_dtd=True), Path(path), data, size_of, strip)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except ParseError as error:
        reason = f"broken XML ({str(error).split(':')[0]})"
        raise UserError(f"{path}, line {error.position[0]}: {reason}; get the file again") from error
    except DefusedXmlException as error:
        line = data.count(b"\n", 0, max(0, data.find(b"<!"))) + 1
        problem = "declares a DTD or entities, which annotation files never need; refused"
        raise UserError(f"{path}, line {line}: {problem}") from error
    except (ValueError, LookupError) as error:  # an encoding that Python does not have
        raise UserError(f"{path}, line 1: broken XML ({error})") from error


def annotation_xml(annotation: Annotation) -> str:
    """Return the text of a file that `read_annotation` reads back equal."""
    width, height = annotation.size_px
    lines = [
        "<annotation>", f"\t<filename>{escape(annotation.filename)}</filename>", "\t<size>",
        f"\t\t<width>{width}</width>", f"\t\t<height>{height}</height>", "\t\t<depth>3</depth>", "\t</size>",
    ]  # fmt: skip
    for name, box in annotation.objects:
        corners = [f"\t\t\t<{tag}>{value}</{tag}>" for tag, value in zip(_CORNERS, box, strict=True)]
        lines += ["\t<object>", f"\t\t<name>{escape(name)}</name>"]
        lines += ["\t\t<bndbox>", *corners, "\t\t</bndbox>", "\t</object>"]
    return "\n".join([*lines, "</annotation>", ""])


def _annotation(root: Element, path: Path, data: bytes, size_of: SizeOf, strip: bool) -> Annotation:
    for node in root.iter():
        node.tag = node.tag.rpartition("}")[2]  # without namespace
    if root.tag != "annotation":
        raise UserError(f"{path}, line 1: expected <annotation>, found <{root.tag[:40]}>")
    sides, quirks, objects = [_number(root.findtext(f"size/{side}")) for side in ("width", "height")], [], []
    size = tuple(int(side) for side in sides if side and side == int(side) > 0)
    if len(size) < 2:
        if (size := size_of(path.stem)) is None:
            problem = "<size> with a <width> and a <height> in whole pixels is missing"
            raise UserError(f"{path}, line 1: {problem}, and so is the image that would tell")
        quirks.append("xml without an image size (that of the image is taken)")
    for k, node in enumerate(root.iter("object")):
        name = node.findtext("name") or ""
        texts = [node.findtext(f"bndbox/{tag}") for tag in _CORNERS]
        box, problem = _inside([_number(text) for text in texts], size)
        if node.find("bndbox") is None:
            problem = "is missing; expected a <bndbox> with xmin, ymin, xmax and ymax"
        elif problem:
            problem += f": ({', '.join(str(text).strip()[:20] for text in texts)})"
        if problem or not name.strip():
            starts = [match.start() for match in re.finditer(rb"<(?:\w+:)?object\b", data)]
            line = data[: starts[k] if k < len(starts) else 0].count(b"\n") + 1  # 1 in UTF-16
            what = f"the box of {name!r} {problem}" if name.strip() else "an <object> without a <name>"
            raise UserError(f"{path}, line {line}: {what}")
        if box != tuple(map(_number, texts)):
            quirks.append("box that leaves the image by up to a pixel (cut there)")
        if strip and name != (name := " ".join(re.split(r"[ \t\r\n]+", name)).strip(" ")):
            quirks.append("name with stray blanks (without them)")
        objects.append((name, box))
    return Annotation((root.findtext("filename") or "").strip(), size, tuple(objects), tuple(quirks))


def _inside(box: Sequence[float | None], size: Size) -> tuple[Box, str | None]:
    """The box without what leaves the image by up to a pixel, and what else is wrong with it."""
    if None in box or min(box) < -1:
        return (0, 0, 0, 0), "is not four numbers of 0 or more"
    x1, y1, x2, y2 = cut = tuple(min(max(value, 0), side) for value, side in zip(box, size * 2, strict=True))
    if x1 >= x2 or y1 >= y2:
        return cut, "is empty or upside down; expected xmin < xmax and ymin < ymax"
    if box[2] > size[0] + 1 or box[3] > size[1] + 1:
        return cut, f"leaves the image of {size[0]} x {size[1]} pixels"
    return cut, None


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return None if not isfinite(value) else int(text) if text.strip().isdecimal() else value
