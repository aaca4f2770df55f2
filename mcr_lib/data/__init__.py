"""Readers of data sets: files -> `Example`s, one module per format. `load_split` reads any source by name."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from mcr_lib.data import grec, mner_mi
from mcr_lib.data.images import find_images
from mcr_lib.data.sidecar import completed
from mcr_lib.data.twitter_gmner import COARSE_OF, FMNERG, GMNER, SPLITS, TESTBED, Quirk, ReadSplit, TxtLayout
from mcr_lib.data.twitter_gmner import read_split as _read
from mcr_lib.data.twitter_gmner import split_names as _split_names
from mcr_lib.errors import UserError
from mcr_lib.schema import Example

__all__ = ["COARSE_OF", "SOURCES", "SPLITS", "Quirk", "Source", "find_source", "load_split", "read_split"]
Folder = str | Path


@dataclass(frozen=True, slots=True)
class Source:
    """A data set that can be loaded by name, in these versions (the default first)."""

    read: Callable[..., ReadSplit]  # (root, split=, version=, images_dir=) -> its tweets and quirks
    split_names: Callable[[Folder, str], list[str]]  # (root, version) -> the splits that are there
    versions: tuple[str, ...]
    splits: tuple[str, ...] = SPLITS  # of the release
    coarse_of: Mapping[str, str] = field(default_factory=dict)  # type -> coarser type of published statistics
    names_images: bool = False  # its rows do; else boxes (xml) and image of a tweet are in files of its id


def _read_txt(root: Folder, *, layout: TxtLayout, split: str, version: str, **where: Any) -> ReadSplit:
    examples, quirks = _read(root, split=split, version=version, layout=layout, **where)
    return completed(root, split, examples, version=version), quirks


def _of_txt(layout: TxtLayout, *versions: str, **more: Any) -> Source:
    read, names = partial(_read_txt, layout=layout), partial(_split_names, layout=layout)
    return Source(read, names, versions, **more)


def _of_module(module: ModuleType, *versions: str) -> Source:
    return Source(module.read_split, module.split_names, versions, module.SPLITS, names_images=True)


SOURCES = {
    "testbed": _of_txt(TESTBED, "v1"),
    "twitter-gmner": _of_txt(GMNER, "v2", "v1"),
    "twitter-fmnerg": _of_txt(FMNERG, "v2", coarse_of=COARSE_OF),
    "mner-mi": _of_module(mner_mi, *mner_mi.FILES),
    "grec": _of_module(grec, "v1"),
}


def find_source(source: str, version: str | None = None) -> tuple[Source, str]:
    """Return the source of this name and its version; `None` = the default version."""
    if source not in SOURCES:
        raise UserError(f"unknown source {source!r}; choose one of {', '.join(SOURCES)}")
    versions = SOURCES[source].versions
    if version is not None and version not in versions:
        raise UserError(f"{source} has no version {version!r}; choose one of {', '.join(versions)}")
    return SOURCES[source], version or versions[0]


def read_split(
    source: str, root: Folder, *, split: str, version: str | None = None, images_dir: Folder | None = None
) -> ReadSplit:
    """Read the tweets of one split, `images` as its rows name them (`located`), and quirks of its files."""
    known, version = find_source(source, version)
    return known.read(root, split=split, version=version, images_dir=images_dir)


def of_each(splits: Iterable[str], read: Callable[..., Any]) -> dict[str, Any]:
    """Split -> what `read` gives of it; a `UserError` tells the faults of all splits."""
    result, faults = {}, []
    for split in splits:
        try:
            result[split] = read(split=split)
        except UserError as error:
            faults.append(str(error))
    if faults:
        raise UserError("; and ".join(dict.fromkeys(faults)))
    return result


def load_split(
    source: str, root: Folder, *, split: str, version: str | None = None, images_dir: Folder | None = None
) -> list[Example]:
    """Load the tweets of one split in file order; whatever is unknown or broken is a `UserError`.

    `root` is the parent of the data set's own folder; `split` may name any file in it; `images_dir` is
    searched for images by name, at any depth; `None` = no images.
    """
    examples = read_split(source, root, split=split, version=version, images_dir=images_dir)[0]
    return located(source, examples, images_dir)


def located(source: str, examples: Sequence[Example], images_dir: Folder | None) -> list[Example]:
    """The tweets of `read_split` with the paths of their images below a folder; `None` = without images.

    Where rows name images, those that are missing keep their names, so that who needs them hears of it.
    """
    is_named = SOURCES[source].names_images
    stems = [[_stem(name) for name in e.images] if is_named else [e.id] for e in examples]
    paths = {} if images_dir is None else find_images(images_dir, {name for some in stems for name in some})
    is_kept = is_named and images_dir is not None
    found = (names if is_kept or not paths.keys().isdisjoint(names) else () for names in stems)
    images = (tuple(str(paths.get(name, name)) for name in names) for names in found)
    pairs = zip(examples, images, strict=True)
    return [e if e.images == some else replace(e, images=some) for e, some in pairs]


def _stem(name: str) -> str:
    """The name of an image file without suffix, nor the mark that only rows of MNER-MI-Plus have."""
    return name.removeprefix(mner_mi.MARK).rpartition(".")[0] or name
