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

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True, slots=True)
class Annotation:
    """Content of one file."""

    filename: str  # the inner one, which may differ from the file's own name
    size_px: Size
    objects: tuple[tuple[str, Box], ...]  # (name, box in pixels as written) in file order


def read_annotation(path: str | Path) -> Annotation:
    """Read the annotation of one image; a file with a DTD or entities is refused (only attacks use them)."""
    try:
        data = Path(path).read_bytes()
        return _annotation(fromstring(data, forbid_dtd=True), path, data)
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


def _annotation(root: Element, path: str | Path, data: bytes) -> Annotation:
    if root.tag != "annotation":
        raise UserError(f"{path}, line 1: expected <annotation>, found <{root.tag[:40]}>")
    size = (_number(root.findtext("size/width")), _number(root.findtext("size/height")))
    if not all(isinstance(side, int) and side > 0 for side in size):
        raise UserError(f"{path}, line 1: <size> with a <width> and a <height> in whole pixels is missing")
    objects = []
    for k, node in enumerate(root.iter("object")):
        name = node.findtext("name") or ""
        written = [node.findtext(f"bndbox/{tag}") for tag in _CORNERS]
        box = tuple(map(_number, written))
        problem = _box_problem(box, size, ", ".join(str(text)[:20] for text in written))
        if problem or not name.strip():
            starts = [match.start() for match in re.finditer(rb"<object\b", data)]
            end = starts[k] if k < len(starts) else 0  # not there if the encoding gives the tag other bytes
            line = data[:end].count(b"\n") + 1
            what = f"the box of {name!r} {problem}" if name.strip() else "an <object> without a <name>"
            raise UserError(f"{path}, line {line}: {what}")
        objects.append((name, box))
    return Annotation((root.findtext("filename") or "").strip(), size, tuple(objects))


def _box_problem(box: tuple[float | None, ...], size: Size, shown: str) -> str | None:
    if None in box:
        return f"is not four numbers of 0 or more: ({shown})"
    x1, y1, x2, y2 = box
    if x1 >= x2 or y1 >= y2:
        return f"is empty or upside down: ({shown}); expected xmin < xmax and ymin < ymax"
    if x2 > size[0] or y2 > size[1]:
        return f"leaves the image of {size[0]} x {size[1]} pixels: ({shown})"
    return None


def _number(text: str | None) -> float | None:
    text = (text or "").strip()
    if not re.fullmatch(r"[0-9]{1,7}(\.[0-9]{1,9})?", text):
        return None
    return float(text) if "." in text else int(text)
