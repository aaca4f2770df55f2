"""Twitter-GMNER (Yu et al., ACL 2023), versions v1 and v2, and Twitter-FMNERG (Wang et al., ACM MM 2023),
which shares its files.

    DIR/Twitter10000_v2.0/txt/{train,dev,test}.txt    tokens and BIO tags
    DIR/Twitter10000_v2.0/xml/<id>.xml                boxes by name, PASCAL VOC
    DIR/Twitter10000/...                              v1

An object belongs to every mention whose tokens, joined by one space, equal its name; a mention without an
object is annotated as not in the image. Files are joined by FILE name (inner `filename`s of the release often
name another image). Boxes stay as written: pixels of the stored image, counted from 1.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mcr_lib.data import voc_xml
from mcr_lib.data.bio import Sample, chunks, read_samples
from mcr_lib.data.files import is_safe_id, written_whole
from mcr_lib.errors import UserError
from mcr_lib.schema import Entity, Example

SPLITS = ("train", "dev", "test")
LABELS = ("PER", "LOC", "ORG", "OTHER")
FOLDERS = {"v1": "Twitter10000", "v2": "Twitter10000_v2.0"}


@dataclass(frozen=True, slots=True)
class Quirk:
    """Something odd in the files that reading mends or passes over.

    Args:
        kind: what it is, in words; the same for all of its kind.
        where: the place, e.g. "txt/train.txt, line 12".
        what: the words concerned.
    """

    kind: str
    where: str
    what: str


@dataclass(frozen=True, slots=True)
class TxtLayout:
    """Which text files hold a task and in which column.

    Args:
        source: name of the data set, without version.
        folder: folder of the text files below the version's folder.
        n_columns: columns of a token line.
        labels: the label set; its tags stand in the last column.
    """

    source: str
    folder: str
    n_columns: int
    labels: tuple[str, ...]


GMNER = TxtLayout("twitter-gmner", "txt", 2, LABELS)
TESTBED = TxtLayout("testbed", "txt", 2, LABELS)


def read_split(
    root: str | Path, *, split: str, version: str = "v2", layout: TxtLayout = GMNER
) -> tuple[list[Example], list[Quirk]]:
    """The tweets of one split in file order, without images, and the quirks met.

    Args:
        root: the folder that holds `Twitter10000_v2.0` (or `Twitter10000`), or that folder itself.

    Raises:
        UserError: a folder or file is missing, broken or contradicts itself; file and line are named.
    """
    folder = version_folder(root, version)
    path = folder / layout.folder / f"{split}.txt"
    if not path.is_file():
        found = split_names(root, version, layout)
        raise UserError(
            f"split {split!r} of {layout.source} {version}: {path} does not exist; found {', '.join(found) or 'no .txt there'}"
        )
    xml_ids = xml_files(root, version)
    quirks: list[Quirk] = []
    examples = []
    for sample in read_samples(path, n_columns=layout.n_columns):
        xml_path = folder / "xml" / f"{sample.id}.xml"
        annotation = voc_xml.read_annotation(xml_path) if sample.id in xml_ids else None
        examples.append(_example(sample, annotation, path, xml_path, split, version, layout, quirks))
    return examples, quirks


def write_split(root: str | Path, split: str, examples: Sequence[Example], *, version: str = "v2") -> None:
    """Write tweets in Twitter-GMNER's own files, which `read_split` reads back equal (but for `source` and
    image paths).

    Raises:
        ValueError: something that the files cannot say: an id unsafe as a file name, a token with white space
            in it, a type outside of `LABELS`, boxes without an image size, two mentions of one name with
            different boxes, or boxes not annotated.
        UserError: the folder cannot be written.
    """
    folder = Path(root) / FOLDERS[version]
    blocks = []
    annotations = {}
    for example in examples:
        blocks.append(_txt_block(example))
        if any(entity.boxes_xyxy_px for entity in example.entities):
            annotations[example.id] = voc_xml.annotation_xml(_annotation(example))
    for id, text in annotations.items():
        with written_whole(folder / "xml" / f"{id}.xml") as file:
            file.write(text)
    with written_whole(folder / "txt" / f"{split}.txt") as file:
        file.write("\n".join(blocks))


def version_folder(root: str | Path, version: str) -> Path:
    """The folder of one version below `root`, or `root` itself where it is that folder.

    Raises:
        UserError: there is none.
    """
    if version not in FOLDERS:
        raise UserError(f"unknown version {version!r}; choose one of {', '.join(FOLDERS)}")
    root = Path(root)
    name = FOLDERS[version]
    for folder in (root / name, root):
        if folder.name == name and folder.is_dir():
            return folder
    other = [f"{v} ({n})" for v, n in FOLDERS.items() if (root / n).is_dir()]
    hint = (
        f"found {', '.join(other)} there; choose it with --version"
        if other
        else "data/README.md tells where it comes from"
    )
    raise UserError(f"{root} holds no folder {name} (version {version}); {hint}")


def split_names(root: str | Path, version: str, layout: TxtLayout = GMNER) -> list[str]:
    """The splits that are there, ordinary ones first.

    Raises:
        UserError: there is no folder of that version.
    """
    names = {path.stem for path in (version_folder(root, version) / layout.folder).glob("*.txt")}
    return [split for split in SPLITS if split in names] + sorted(names - set(SPLITS))


def xml_files(root: str | Path, version: str) -> set[str]:
    """The ids that have an annotation file."""
    folder = version_folder(root, version) / "xml"
    if not folder.is_dir():
        raise UserError(f"{folder} does not exist; without it no entity has a box")
    return {entry.name[:-4] for entry in os.scandir(folder) if entry.name.endswith(".xml")}


def _example(
    sample: Sample,
    annotation,
    path: Path,
    xml_path: Path,
    split: str,
    version: str,
    layout: TxtLayout,
    quirks,
) -> Example:
    txt_place = f"{path.parent.name}/{path.name}, line "
    try:
        found = chunks(sample.columns[-1], layout.labels)
    except ValueError as error:
        message, k = error.args
        raise UserError(f"{path}, line {sample.line + 1 + k}: {message}") from error
    boxes_of = defaultdict(list)
    for name, box in annotation.objects if annotation else ():
        boxes_of[name].append(box)
    entities = []
    for chunk in found:
        text = " ".join(sample.tokens[chunk.start : chunk.end])
        entities.append(Entity(text, chunk.start, chunk.end, chunk.label, tuple(boxes_of.get(text, ()))))
        if chunk.is_repaired:
            quirks.append(
                Quirk(
                    "I- tag without a B- before it (read as B-)",
                    f"{txt_place}{sample.line + 1 + chunk.start}",
                    text,
                )
            )
    texts = [entity.text for entity in entities]
    for name, boxes in boxes_of.items():
        if name not in texts:
            quirks += [
                Quirk("box whose name is no entity of the text (left out)", f"xml/{xml_path.name}", name)
            ] * len(boxes)
    if repeated := sorted({t for t in texts if texts.count(t) > 1}):
        place = f"{txt_place}{sample.line}"
        quirks.append(
            Quirk(
                "tweet that names something twice (each mention gets the boxes)", place, ", ".join(repeated)
            )
        )
    if annotation and annotation.filename != f"{sample.id}.jpg":
        quirks.append(
            Quirk(
                "xml whose inner filename names another image (file name counts)",
                f"xml/{xml_path.name}",
                annotation.filename,
            )
        )
    size = annotation.size_px if annotation else None
    return Example(
        sample.id,
        f"{layout.source}-{version}",
        split,
        sample.tokens,
        tuple(entities),
        layout.labels,
        image_size_px=size,
    )


def _txt_block(example: Example) -> str:
    if not is_safe_id(example.id):
        raise ValueError(f"example {example.id!r}: the id cannot be a file name")
    if any(not token or token.split() != [token] for token in example.tokens):
        raise ValueError(f"example {example.id}: a token is empty or holds white space")
    tags = ["O"] * len(example.tokens)
    for entity in example.entities:
        if entity.type not in LABELS or entity.boxes_xyxy_px is None:
            raise ValueError(
                f"example {example.id}: {entity.text!r} has no type of {', '.join(LABELS)} or no annotated groundability"
            )
        tags[entity.start : entity.end] = [f"B-{entity.type}"] + [f"I-{entity.type}"] * (
            entity.end - entity.start - 1
        )
    rows = "".join(f"{token}\t{tag}\n" for token, tag in zip(example.tokens, tags, strict=True))
    return f"IMGID:{example.id}\n{rows}"


def _annotation(example: Example) -> voc_xml.Annotation:
    if example.image_size_px is None:
        raise ValueError(f"example {example.id}: boxes without an image size")
    boxes_of = dict(_unique_boxes(example.entities, example.id))
    objects = tuple((name, box) for name, boxes in boxes_of.items() for box in boxes)
    return voc_xml.Annotation(f"{example.id}.jpg", example.image_size_px, objects)


def _unique_boxes(entities: Iterable[Entity], id: str) -> Iterable[tuple[str, tuple]]:
    seen = {}
    for entity in entities:
        if seen.setdefault(entity.text, entity.boxes_xyxy_px) != entity.boxes_xyxy_px:
            raise ValueError(
                f"example {id}: two mentions of {entity.text!r} with different boxes; the format joins boxes by name"
            )
    return seen.items()
