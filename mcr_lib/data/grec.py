"""GREC on gRefCOCO (Liu et al., CVPR 2023; He et al., 2023): expressions, each with one target or none.

    DIR/grefcoco/grefs(unc).json    ref_id, split, image_id, ann_id ([-1] = no target), sentences (sent)
    DIR/grefcoco/instances.json     COCO's images (id, file_name, width, height), annotations (id, bbox xywh)
    DIR/.../COCO_train2014_*.jpg    COCO's train2014, at any depth

An expression is an example: its text is also its one entity, which is given, not asked. Constraints:
groundable, box. Those with several targets are left out, as in the paper (App. E.1), and counted as quirks.
Ids are those of refs with the number of the sentence. Boxes are in pixels counted from 0, cut at the edges of
the image. Pickles are never read: they can run code.
"""

import json
from collections import Counter, defaultdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from mcr_lib.boxes import Box, Size
from mcr_lib.data.files import is_safe_id, read_text, refuse
from mcr_lib.data.twitter_gmner import Quirk, ReadSplit
from mcr_lib.errors import UserError
from mcr_lib.schema import Entity, Example

SPLITS = ("train", "val", "testA", "testB")
REFS, INSTANCES = "grefs(unc).json", "instances.json"
SEVERAL = "expression with several targets (left out, as in the paper)"  # kinds of quirks
CUT = "box that leaves the image (cut there)"
_OF_REF = ("ref_id", "split", "image_id", "ann_id", "sentences")
_Files = tuple[dict[str, list[Any]], dict[Any, tuple[str, Size]], dict[Any, Any]]  # what `_read` returns


def read_split(root: str | Path, *, split: str, version: str = "v1", images_dir: Any = None) -> ReadSplit:
    """Read the expressions of a split in file order, and its quirks; `root` = `grefcoco` or its parent."""
    folder, (refs, images, boxes_xywh) = _files(root)
    if split not in refs:
        names = ", ".join(split_names(root, version))
        raise UserError(f"split {split!r} of grec: {folder / REFS} has no expression of it; found {names}")
    examples, quirks, faults = [], [], {}
    for id, text, image, targets in refs[split]:
        words = tuple(text.split()) if isinstance(text, str) else ()
        name, size = images.get(image, ("", (0, 0)))
        box, is_cut = ((), False) if targets == [-1] else _box(boxes_xywh.get(targets[0]), size)
        if len(targets) > 1:
            quirks.append(Quirk(SEVERAL, f"{REFS}, ref {id}", " ".join(words)))
        elif not words or not is_safe_id(id):
            problem = "has no words, or an id that cannot be a file name"
            faults[id] = f"{folder / REFS}: expression {id} {problem}"
        elif not name:
            faults[id] = f"{folder / INSTANCES} lacks the image {image}, which expression {id} needs"
        elif box is None:
            need = f"needs a box x, y, width, height with an area for annotation {targets[0]}"
            found = f"found {boxes_xywh.get(targets[0])!s:.80} in an image of {size[0]} x {size[1]}"
            faults[id] = f"{folder / INSTANCES}: expression {id} {need}, {found}"
        else:
            quirks += [Quirk(CUT, f"{INSTANCES}, annotation {targets[0]}", id)] * is_cut
            whole = Entity(" ".join(words), 0, len(words), None, (box,) if box else ())
            facts = (id, f"grec-{version}", split, words, (whole,), (), ("groundable", "box"))
            examples.append(Example(*facts, images=(name,), image_size_px=size))
    refuse(faults)
    return examples, quirks


def split_names(root: str | Path, version: str) -> list[str]:
    """Return the names of the splits that are there, `SPLITS` first."""
    names = _files(root)[1][0]
    return [split for split in SPLITS if split in names] + sorted({*names} - {*SPLITS})


def _files(root: str | Path) -> tuple[Path, _Files]:
    for folder in (Path(root) / "grefcoco", Path(root)):
        if (folder / REFS).is_file():
            stamps = [path.stat() for path in (folder / REFS, folder / INSTANCES) if path.is_file()]
            return folder, _read(folder, tuple((stamp.st_mtime_ns, stamp.st_size) for stamp in stamps))
        for path in folder.glob("grefs*.p"):
            remedy = f"get {REFS} of the same release"
            raise UserError(f"{path} is a pickle, which can run code and is never read; {remedy}")
    raise UserError(f"{root} holds no grefcoco/{REFS}; data/README.md tells where it comes from")


@lru_cache(maxsize=1)
def _read(folder: Path, _: tuple[tuple[int, int], ...]) -> _Files:
    """By split (id, expression, image, targets); images and boxes by id. Read anew when a file changes."""
    try:
        coco = _json(folder / INSTANCES)
        sizes = {row["id"]: (row["file_name"] + "", (row["width"], row["height"])) for row in coco["images"]}
        if not all(min(size) > 0 for _, size in sizes.values()):
            raise TypeError("size of an image")
        boxes = {row["id"]: row["bbox"] for row in coco["annotations"]}
    except (KeyError, TypeError, AttributeError) as error:
        expected = "COCO's images (id, file_name, width, height) and annotations (id, bbox)"
        raise UserError(f"{folder / INSTANCES}: expected {expected} ({error!r:.80})") from error
    refs, n_of, place = defaultdict(list), Counter(), "the file"
    try:
        for number, ref in enumerate(_json(folder / REFS), start=1):
            place = f"ref {number}"
            ref_id, split, image, targets, sentences = (ref[key] for key in _OF_REF)
            targets = targets if isinstance(targets, list) else [targets]
            hash((image, *targets))  # a list raises TypeError
            if not targets or not isinstance(split, str) or not isinstance(sentences, list):
                raise TypeError("ann_id, split or sentences")
            for text in sentences:
                refs[split].append((f"{ref_id}_{n_of[ref_id]}", text, image, targets))
                n_of[ref_id] += 1
    except (KeyError, TypeError, AttributeError) as error:
        expected = f"a list of objects with {', '.join(_OF_REF)}"
        raise UserError(f"{folder / REFS}: {place}: expected {expected} ({error!r:.80})") from error
    return dict(refs), sizes, boxes


def _json(path: Path) -> Any:
    """A file without its outlines, which are most of it; a sentence is its `sent` alone."""

    def kept(row: dict[str, Any]) -> Any:
        row.pop("segmentation", None)
        return row.get("sent", row)

    try:
        return json.loads(read_text(path), object_hook=kept)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({str(error)[:100]}); get the file again") from error


def _box(box_xywh: Any, size: Size) -> tuple[Box | None, bool]:
    """The corners within the image, `None` = no box with an area; and whether it was cut."""
    try:
        x, y, width, height = box_xywh
        whole = (x, y, x + width, y + height)
        box = (max(x, 0), max(y, 0), min(whole[2], size[0]), min(whole[3], size[1]))
        return (box if box[0] < box[2] and box[1] < box[3] else None), box != whole
    except (TypeError, ValueError):
        return None, False
