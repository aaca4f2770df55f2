"""MNER-MI and MNER-MI-Plus (Huang et al., LREC-COLING 2024): tweets with up to four images, without boxes.

    DIR/text/MNER-MI_{train,val,test}.txt     version v1
    DIR/text/MNER-UNI_{train,val,test}.txt    version plus: v1, and the tweets of Twitter-2017
    DIR/images/, DIR/twitter2017_images/      at any depth

A JSON object a line: id, text (tokens), images (names of files), label (BIO), url. Twitter-2017 writes MISC
for MIS, and its images stand in a folder of their own without the mark before the id; both as in the authors'
own loader, which also takes a line in Python's notation. Constraints: span, type.
"""

import ast
import json
import re
from pathlib import Path
from typing import Any

from mcr_lib.data.bio import chunks
from mcr_lib.data.files import is_safe_id, read_text, refuse
from mcr_lib.data.twitter_gmner import ORPHAN, Quirk, ReadSplit
from mcr_lib.errors import UserError
from mcr_lib.schema import Entity, Example

SPLITS = ("train", "val", "test")
LABELS = ("PER", "LOC", "ORG", "MIS")
FILES = {"v1": "MNER-MI", "plus": "MNER-UNI"}  # version -> how its files begin
MARK = "twitter2017-"  # before ids and names of images of Twitter-2017
MAX_IMAGES = 4
MISC, NO_IMAGE = "tweet with the label MISC (read as MIS)", "tweet that names no image"  # kinds of quirks
_TAG = re.compile(rf"O|[BI]-(?:{'|'.join(LABELS)}|MISC)")


def read_split(root: str | Path, *, split: str, version: str = "v1", images_dir: Any = None) -> ReadSplit:
    """Read a split in file order, and its quirks; `root` = the folder `text`, its parent, or one above."""
    path = _folder(root, version) / f"{FILES[version]}_{split}.txt"
    if not path.is_file():
        names = ", ".join(split_names(root, version))
        raise UserError(f"split {split!r} of mner-mi {version}: {path} does not exist; found {names}")
    examples, quirks, faults = {}, [], {}
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            id, tokens, tags, images = _row(line)
            if id in examples:
                raise ValueError(f"id {id} is repeated; ids must be unique")
            spans = chunks([tag.replace("-MISC", "-MIS") for tag in tags], LABELS)
        except ValueError as error:
            faults[f"line {number}"] = f"{path}, line {number}: {error}"
            continue
        entities = (Entity(" ".join(tokens[s.start : s.end]), s.start, s.end, s.label) for s in spans)
        facts = (id, f"mner-mi-{version}", split, tokens, tuple(entities), LABELS, ("span", "type"))
        examples[id] = Example(*facts, images=images)
        kinds = {ORPHAN: any(s.is_repaired for s in spans), NO_IMAGE: not images}
        kinds[MISC] = any(tag.endswith("-MISC") for tag in tags)
        quirks += [Quirk(kind, f"{path.name}, line {number}", id) for kind, is_so in kinds.items() if is_so]
    refuse(faults)
    if not examples:
        raise UserError(f"{path} holds no tweet; expected a JSON object a line")
    return [*examples.values()], quirks


def split_names(root: str | Path, version: str) -> list[str]:
    """Return the names of the splits that are there, `SPLITS` first."""
    start = f"{FILES[version]}_"
    names = {path.stem.removeprefix(start) for path in _folder(root, version).glob(f"{start}*.txt")}
    return [split for split in SPLITS if split in names] + sorted(names - {*SPLITS})


def _folder(root: str | Path, version: str) -> Path:
    root, pattern = Path(root), f"{FILES[version]}_*.txt"
    for folder in (root / "text", root / "Dataset" / "text", root / "dataset" / "text", root):
        if any(folder.glob(pattern)):
            return folder
    problem = f"holds no text/{pattern} (MNER-MI, version {version})"
    raise UserError(f"{root} {problem}; data/README.md tells where it comes from")


def _row(line: str) -> tuple[str, tuple[str, ...], list[str], tuple[str, ...]]:
    """Id, tokens, tags and names of images of a row; `ValueError` = what is wrong with it."""
    try:
        row = json.loads(line) if '"text"' in line else ast.literal_eval(line.strip())
        id, words, tags, images = str(row["id"]), row["text"], row["label"], row["images"]
        if not type(words) is type(tags) is type(images) is list:
            raise TypeError
        named = [(" ".join(str.split(word)), tag or "none") for word, tag in zip(words, tags, strict=True)]
        images = tuple(name + "" for name in images)
    except (ValueError, SyntaxError, RecursionError, MemoryError, KeyError, TypeError) as error:
        expected = 'a JSON object with "id", "text" and "label" of one length, and "images"'
        raise ValueError(f"expected {expected}; found {line[:60]!r}") from error
    named = [(word, tag) for word, tag in named if word]  # no name can hold an empty token
    if not is_safe_id(id):
        raise ValueError(f"id {id[:80]!r} cannot be a file name; expected letters, digits and _ . - only")
    if len(images) > MAX_IMAGES or not named:
        expected = f"up to {MAX_IMAGES}, and at least one token"
        raise ValueError(f"tweet {id} has {len(images)} images and {len(named)} tokens; expected {expected}")
    if unknown := next((tag for _, tag in named if not _TAG.fullmatch(tag)), None):
        known = f"is not O, nor B- or I- with one of {', '.join(LABELS)}"
        raise ValueError(f"tweet {id}: tag {unknown!r} {known}")
    return id, tuple(word for word, _ in named), [tag for _, tag in named], images
