"""Twitter-GMNER (Yu et al., ACL 2023), v1 and v2, and Twitter-FMNERG (Wang et al., ACM MM 2023), which has
the tweets, spans and boxes of v2 with 51 fine types.

    DIR/Twitter10000_v2.0/txt/{train,dev,test}.txt    tokens and BIO tags
    DIR/Twitter10000_v2.0/txt_fine/...                FMNERG: token, coarse tag (8 types), fine tag (51 types)
    DIR/Twitter10000_v2.0/xml/<id>.xml                boxes by name, PASCAL VOC
    DIR/Twitter10000/...                              v1

An object belongs to every mention whose tokens, joined by one space, equal its name; a mention without an
object is annotated as not in the image. Files are joined by FILE name (inner `filename`s of the release often
name another image). Boxes stay as written: pixels of the stored image, counted from 1.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from mcr_lib.data import voc_xml
from mcr_lib.data.bio import Chunk, Sample, chunks, read_samples
from mcr_lib.data.files import is_safe_id, refuse, write_text
from mcr_lib.data.images import find_images, image_size
from mcr_lib.errors import UserError
from mcr_lib.schema import Entity, Example

SPLITS = ("train", "dev", "test")
LABELS = ("PER", "LOC", "ORG", "OTHER")
ORPHAN = "I- tag without a B- before it (read as B-)"  # a kind of quirk
FOLDERS = {"v1": "Twitter10000", "v2": "Twitter10000_v2.0"}

_FINE = {  # type of Twitter-GMNER -> its fine types of FMNERG; holds for every entity of the release
    "PER": "actor artist athlete author businessman character coach director intellectual journalist"
    " musician person_other politician",
    "LOC": "building_other cultural_place entertainment_place sports_facility city continent country"
    " location_other park road state",
    "ORG": "band company educational_institution government_agency news_agency organization_other"
    " political_party social_organization sports_league sports_team",
    "OTHER": "art_other film_and_television_works magazine music written_work event_other festival"
    " sports_event animal award medical_thing ordinance website brand_name_products game product_other"
    " software",
}
COARSE_OF = {fine: coarse for coarse, names in _FINE.items() for fine in names.split()}


@dataclass(frozen=True, slots=True)
class Quirk:
    """An oddity that the reader repairs or ignores: description, place ("txt/dev.txt, line 12"), text."""

    kind: str
    where: str
    what: str


ReadSplit = tuple[list[Example], list[Quirk]]


@dataclass(frozen=True, slots=True)
class TxtLayout:
    """Text files of a data set: folder below the version's, columns of a token line, labels of the last."""

    source: str
    folder: str
    n_columns: int
    labels: tuple[str, ...]


GMNER = TxtLayout("twitter-gmner", "txt", 2, LABELS)
FMNERG = TxtLayout("twitter-fmnerg", "txt_fine", 3, tuple(COARSE_OF))
TESTBED = TxtLayout("testbed", "txt", 2, LABELS)


def read_split(
    root: str | Path, *, split: str, version: str = "v2", layout: TxtLayout = GMNER,
    images_dir: str | Path | None = None,
) -> ReadSplit:  # fmt: skip
    """Read a split in file order, and its quirks; `root` = the version's folder or its parent. Of images only
    the size is read, where the xml file lacks it (`images_dir`; `None` = `root`).
    """
    folder = version_folder(root, version)
    path = folder / layout.folder / f"{split}.txt"
    if not path.is_file():
        names = ", ".join(split_names(root, version, layout)) or "no .txt there"
        raise UserError(f"split {split!r} of {layout.source} {version}: {path} does not exist; found {names}")
    xml_ids, labels, source = xml_files(root, version), layout.labels, f"{layout.source}-{version}"
    examples, quirks, faults, strip = [], [], {}, version != "v1"  # v1's published counts need blanks
    samples = read_samples(path, n_columns=layout.n_columns)
    images = cache(partial(find_images, images_dir or root, {sample.id for sample in samples}))
    size_of = cache(lambda id: image_size(images()[id]) if id in images() else None)
    for sample in samples:
        xml = folder / "xml" / f"{sample.id}.xml"
        try:
            spans = chunks(sample.tags, labels, path, sample.line + 1)
            annotation = voc_xml.read_annotation(xml, size_of, strip=strip) if sample.id in xml_ids else None
        except UserError as error:
            faults[sample.id] = str(error)
            continue
        boxes_of = defaultdict(list)
        for name, box in annotation.objects if annotation else ():
            boxes_of[name].append(box)
        texts = [" ".join(sample.tokens[span.start : span.end]) for span in spans]
        entities = tuple(
            Entity(text, span.start, span.end, span.label, tuple(boxes_of.get(text, ())))
            for text, span in zip(texts, spans, strict=True)
        )
        quirks += _quirks(sample, spans, texts, annotation, f"{path.parent.name}/{path.name}")
        size, tokens = annotation and annotation.size_px, tuple(sample.tokens)
        examples.append(Example(sample.id, source, split, tokens, entities, labels, image_size_px=size))
    refuse(faults)
    return examples, quirks


def write_split(root: str | Path, split: str, examples: Sequence[Example], *, version: str = "v2") -> None:
    """Write tweets in the format of Twitter-GMNER; `read_split` reads all but `source` and images back equal.

    A `ValueError` names what the format cannot express: an id unsafe as a file name, a token with white
    space, a type outside `LABELS`, boxes without image size, not annotated, or unequal for one name.
    """
    folder = Path(root) / FOLDERS[version]
    annotated = [example for example in examples if any(e.boxes_xyxy_px for e in example.entities)]
    texts = {folder / "xml" / f"{e.id}.xml": voc_xml.annotation_xml(_annotation(e)) for e in annotated}
    texts[folder / "txt" / f"{split}.txt"] = "\n".join(map(_txt_block, examples))
    for path, text in texts.items():
        write_text(path, text)


def version_folder(root: str | Path, version: str) -> Path:
    """Return the folder of a version: below `root`, or `root` itself."""
    if version not in FOLDERS:
        raise UserError(f"unknown version {version!r}; choose one of {', '.join(FOLDERS)}")
    root, name = Path(root), FOLDERS[version]
    for folder in (root / name, root):
        if folder.name == name and folder.is_dir():
            return folder
    hint = "data/README.md tells where it comes from"
    if others := ", ".join(f"{v} ({n})" for v, n in FOLDERS.items() if (root / n).is_dir()):
        hint = f"found {others} there; choose it with --version"
    raise UserError(f"{root} holds no folder {name} (version {version}); {hint}")


def split_names(root: str | Path, version: str, layout: TxtLayout) -> list[str]:
    """Return the names of the splits in the folder, `SPLITS` first."""
    names = {path.stem for path in (version_folder(root, version) / layout.folder).glob("*.txt")}
    return [split for split in SPLITS if split in names] + sorted(names - set(SPLITS))


def xml_files(root: str | Path, version: str) -> set[str]:
    """Return the ids that have an annotation file."""
    folder = version_folder(root, version) / "xml"
    if not folder.is_dir():
        raise UserError(f"{folder} does not exist; without it no entity has a box")
    return {entry.name[:-4] for entry in os.scandir(folder) if entry.name.endswith(".xml")}


def _quirks(
    sample: Sample, spans: list[Chunk], texts: list[str], annotation: voc_xml.Annotation | None, txt: str
) -> Iterator[Quirk]:
    for span, text in zip(spans, texts, strict=True):
        if span.is_repaired:
            where = f"{txt}, line {sample.line + 1 + span.start}"
            yield Quirk(ORPHAN, where, text)
    xml = f"xml/{sample.id}.xml"
    for name, n in Counter(name for name, _ in (annotation.objects if annotation else ())).items():
        if name not in texts:
            yield from [Quirk("box whose name is no entity of the text (left out)", xml, name)] * n
    if repeated := sorted(text for text, n in Counter(texts).items() if n > 1):
        kind = "tweet that names something twice (each mention gets the boxes)"
        yield Quirk(kind, f"{txt}, line {sample.line}", ", ".join(repeated))
    yield from (Quirk(kind, xml, sample.id) for kind in (annotation.quirks if annotation else ()))
    if annotation and annotation.filename != f"{sample.id}.jpg":
        kind = "xml whose inner filename names another image (file name counts)"
        yield Quirk(kind, xml, annotation.filename)


def _txt_block(example: Example) -> str:
    if not is_safe_id(example.id):
        raise ValueError(f"example {example.id!r}: the id cannot be a file name")
    if any(not token or token.split() != [token] for token in example.tokens):
        raise ValueError(f"example {example.id}: a token is empty or holds white space")
    tags = ["O"] * len(example.tokens)
    for entity in example.entities:
        if entity.type not in LABELS or entity.boxes_xyxy_px is None:
            problem = f"has no type of {', '.join(LABELS)} or no annotated groundability"
            raise ValueError(f"example {example.id}: {entity.text!r} {problem}")
        n_inside = entity.end - entity.start - 1
        tags[entity.start : entity.end] = [f"B-{entity.type}"] + [f"I-{entity.type}"] * n_inside
    rows = "".join(f"{token}\t{tag}\n" for token, tag in zip(example.tokens, tags, strict=True))
    return f"IMGID:{example.id}\n{rows}"


def _annotation(example: Example) -> voc_xml.Annotation:
    if example.image_size_px is None:
        raise ValueError(f"example {example.id}: boxes without an image size")
    boxes_of = {}
    for entity in example.entities:
        if boxes_of.setdefault(entity.text, entity.boxes_xyxy_px) != entity.boxes_xyxy_px:
            problem = f"two mentions of {entity.text!r} with different boxes; the format joins boxes by name"
            raise ValueError(f"example {example.id}: {problem}")
    objects = tuple((name, box) for name, boxes in boxes_of.items() for box in boxes)
    return voc_xml.Annotation(f"{example.id}.jpg", example.image_size_px, objects)
