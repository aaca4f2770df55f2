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
    """Content of one file.

    Args:
        filename: the inner `filename`, which may differ from the file's own name.
        objects: (name, box in pixels as written) in file order.
    """

    filename: str
    size_px: Size
    objects: tuple[tuple[str, Box], ...]


def read_annotation(path: str | Path) -> Annotation:
    """Read the annotation of one image.

    Raises:
        UserError: the file is missing or not well-formed XML, declares a DTD or entities (refused: only
            attacks use them), lacks a size, or has a box that is not four numbers, is upside down or leaves
            the image; the message gives file and line.
    """
    try:
        data = Path(path).read_bytes()
        return _annotation(fromstring(data, forbid_dtd=True), _File(path, data))
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
    size = "".join(
        f"\n\t\t<{tag}>{n}</{tag}>" for tag, n in zip(("width", "height"), annotation.size_px, strict=True)
    )
    lines = ["<annotation>", f"\t<filename>{escape(annotation.filename)}</filename>"]
    lines.append(f"\t<size>{size}\n\t\t<depth>3</depth>\n\t</size>")
    for name, box in annotation.objects:
        corners = "".join(f"\n\t\t\t<{tag}>{value}</{tag}>" for tag, value in zip(_CORNERS, box, strict=True))
        box_xml = f"\t\t<bndbox>{corners}\n\t\t</bndbox>"
        lines.append(f"\t<object>\n\t\t<name>{escape(name)}</name>\n{box_xml}\n\t</object>")
    return "\n".join([*lines, "</annotation>", ""])


@dataclass(frozen=True, slots=True)
class _File:
    path: str | Path
    data: bytes

    def error(self, message: str, *, nth_object: int | None = None) -> UserError:
        """Return an error that names the file and the line of an object (line 1 without one)."""
        line = 1
        if nth_object is not None:
            starts = [match.start() for match in re.finditer(rb"<object\b", self.data)]
            if nth_object < len(starts):  # not so in an encoding where the tag has other bytes
                line += self.data.count(b"\n", 0, starts[nth_object])
        return UserError(f"{self.path}, line {line}: {message}")


def _annotation(root: Element, file: _File) -> Annotation:
    if root.tag != "annotation":
        raise file.error(f"expected <annotation>, found <{root.tag[:40]}>")
    size = (_number(root.findtext("size/width")), _number(root.findtext("size/height")))
    if not all(isinstance(side, int) and side > 0 for side in size):
        raise file.error("<size> with a <width> and a <height> in whole pixels is missing")
    objects = tuple(_object(node, k, size, file) for k, node in enumerate(root.iter("object")))
    return Annotation((root.findtext("filename") or "").strip(), size, objects)


def _object(node: Element, k: int, size: Size, file: _File) -> tuple[str, Box]:
    name = node.findtext("name") or ""
    if not name.strip():
        raise file.error("an <object> without a <name>", nth_object=k)
    written = [node.findtext(f"bndbox/{tag}") for tag in _CORNERS]
    box = tuple(_number(text) for text in written)
    problem = _box_problem(box, size, ", ".join(str(text)[:20] for text in written))
    if problem is not None:
        raise file.error(f"the box of {name!r} {problem}", nth_object=k)
    return name, box


def _box_problem(box: tuple[float | None, ...], size: Size, shown: str) -> str | None:
    if any(value is None for value in box):
        return f"is not four numbers of 0 or more: ({shown})"
    x1, y1, x2, y2 = box
    if x1 >= x2 or y1 >= y2:
        return f"is empty or upside down: ({shown}); expected xmin < xmax and ymin < ymax"
    if x2 > size[0] or y2 > size[1]:
        return f"leaves the image of {size[0]} x {size[1]} pixels: ({shown})"
    return None


def _number(text: str | None) -> float | None:
    text = (text or "").strip()
    if not _NUMBER.fullmatch(text):
        return None
    return float(text) if "." in text else int(text)
