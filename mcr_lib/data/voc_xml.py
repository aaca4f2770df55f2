"""PASCAL VOC annotation files as labelImg writes them: the boxes of one image by name."""

import re
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError
from xml.sax.saxutils import escape

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from mcr_lib.boxes import Box, Size
from mcr_lib.errors import UserError

_NUMBER = re.compile(r"[0-9]{1,7}(\.[0-9]{1,9})?")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True, slots=True)
class Annotation:
    """What one file says.

    Args:
        filename: the inner `filename`, which need not be the file's own name.
        size_px: (width, height) of the image.
        objects: (name, box in pixels as written) in the order of the file.
    """

    filename: str
    size_px: Size
    objects: tuple[tuple[str, Box], ...]


def read_annotation(path: str | Path) -> Annotation:
    """The annotation of one image.

    Raises:
        UserError: the file is missing or no well-formed XML, declares a DTD or entities (refused: they serve
            attacks only), lacks a size, or holds a box that is not four numbers, is upside down or leaves the
            image; file and line are named.
    """
    try:
        data = Path(path).read_bytes()
        root = fromstring(data, forbid_dtd=True)
        return _annotation(root, _Place(path, data))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except ParseError as error:
        raise UserError(
            f"{path}, line {error.position[0]}: broken XML ({str(error).split(':')[0]}); get the file again"
        ) from error
    except DefusedXmlException as error:
        line = data.count(b"\n", 0, max(0, data.find(b"<!"))) + 1
        raise UserError(
            f"{path}, line {line}: declares a DTD or entities, which annotation files never need; refused"
        ) from error
    except (ValueError, LookupError) as error:  # an encoding that the file names and Python lacks
        raise UserError(f"{path}, line 1: broken XML ({error})") from error


def annotation_xml(annotation: Annotation) -> str:
    """The text of a file that `read_annotation` reads back equal."""
    width, height = annotation.size_px
    lines = ["<annotation>", f"\t<filename>{escape(annotation.filename)}</filename>"]
    lines += [
        f"\t<size>\n\t\t<width>{width}</width>\n\t\t<height>{height}</height>\n\t\t<depth>3</depth>\n\t</size>"
    ]
    for name, box in annotation.objects:
        corners = "".join(f"\n\t\t\t<{tag}>{value}</{tag}>" for tag, value in zip(_CORNERS, box, strict=True))
        lines.append(
            f"\t<object>\n\t\t<name>{escape(name)}</name>\n\t\t<bndbox>{corners}\n\t\t</bndbox>\n\t</object>"
        )
    return "\n".join([*lines, "</annotation>", ""])


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a fault stands: the line is looked up only when there is one."""

    path: str | Path
    data: bytes

    def fault(self, message: str, *, nth_object: int | None = None) -> UserError:
        line = 1
        if nth_object is not None:
            starts = [match.start() for match in re.finditer(rb"<object\b", self.data)]
            if nth_object < len(starts):  # else the file is in an encoding where the tag has other bytes
                line += self.data.count(b"\n", 0, starts[nth_object])
        return UserError(f"{self.path}, line {line}: {message}")


def _annotation(root: Element, place: _Place) -> Annotation:
    if root.tag != "annotation":
        raise place.fault(f"expected <annotation>, found <{root.tag[:40]}>")
    size = (_number(root.findtext("size/width")), _number(root.findtext("size/height")))
    if not all(isinstance(side, int) and side > 0 for side in size):
        raise place.fault("<size> with a <width> and a <height> in whole pixels is missing")
    objects = tuple(_object(node, k, size, place) for k, node in enumerate(root.iter("object")))
    return Annotation((root.findtext("filename") or "").strip(), size, objects)


def _object(node: Element, k: int, size: Size, place: _Place) -> tuple[str, Box]:
    name = node.findtext("name") or ""
    if not name.strip():
        raise place.fault("an <object> without a <name>", nth_object=k)
    written = [node.findtext(f"bndbox/{tag}") for tag in _CORNERS]
    box = tuple(_number(text) for text in written)
    shown = ", ".join(str(text)[:20] for text in written)
    if any(value is None for value in box):
        raise place.fault(f"the box of {name!r} is not four numbers of 0 or more: ({shown})", nth_object=k)
    x1, y1, x2, y2 = box
    if x1 >= x2 or y1 >= y2:
        raise place.fault(
            f"the box of {name!r} is empty or upside down: ({shown}); expected xmin < xmax and ymin < ymax",
            nth_object=k,
        )
    if x2 > size[0] or y2 > size[1]:
        raise place.fault(
            f"the box of {name!r} leaves the image of {size[0]} x {size[1]} pixels: ({shown})", nth_object=k
        )
    return name, box


def _number(text: str | None) -> float | None:
    text = (text or "").strip()
    if not _NUMBER.fullmatch(text):
        return None
    return float(text) if "." in text else int(text)
