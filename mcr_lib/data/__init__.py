"""Readers of data sets: files -> `Example`s, one module per format. `load_split` reads any source by name."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mcr_lib.data.images import find_images
from mcr_lib.data.sidecar import completed
from mcr_lib.data.twitter_gmner import COARSE_OF, FMNERG, GMNER, SPLITS, TESTBED, Quirk, ReadSplit, TxtLayout
from mcr_lib.data.twitter_gmner import read_split as _read
from mcr_lib.errors import UserError
from mcr_lib.schema import Example

__all__ = ["COARSE_OF", "SOURCES", "SPLITS", "Quirk", "Source", "find_source", "load_split", "read_split"]
Folder = str | Path


@dataclass(frozen=True, slots=True)
class Source:
    """A data set that can be loaded by name, in these versions (the default first)."""

    layout: TxtLayout
    versions: tuple[str, ...]
    coarse_of: dict[str, str]  # type -> coarser type of published statistics; empty = the types themselves


SOURCES = {
    "testbed": Source(TESTBED, ("v1",), {}),
    "twitter-gmner": Source(GMNER, ("v2", "v1"), {}),
    "twitter-fmnerg": Source(FMNERG, ("v2",), COARSE_OF),
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
    """Read the tweets of one split, without paths of images, and the quirks of its files."""
    known, version = find_source(source, version)
    examples, quirks = _read(root, split=split, version=version, layout=known.layout, images_dir=images_dir)
    return completed(root, split, examples, version=version), quirks


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
    searched for images by id, at any depth; `None` = no images.
    """
    examples, _ = read_split(source, root, split=split, version=version, images_dir=images_dir)
    paths = {} if images_dir is None else find_images(images_dir, {example.id for example in examples})
    return [replace(e, images=(str(paths[e.id]),)) if e.id in paths else e for e in examples]
