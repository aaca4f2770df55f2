"""Files -> Examples: one module per data set, each yielding ordinary `Example`s.

`load_split` is the door: whatever the source, it gives a list of Examples.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from mcr_lib.data import images as _images
from mcr_lib.data.sidecar import completed
from mcr_lib.data.twitter_fmnerg import COARSE_OF, FMNERG
from mcr_lib.data.twitter_gmner import GMNER, SPLITS, TESTBED, Quirk, TxtLayout
from mcr_lib.data.twitter_gmner import read_split as _read_twitter
from mcr_lib.errors import UserError
from mcr_lib.schema import Example


@dataclass(frozen=True, slots=True)
class Source:
    """A data set that can be loaded by name.

    Args:
        layout: where its text files are.
        versions: the versions it has, the default first.
        coarse_of: type -> coarser type under which published statistics count it; empty = the types
            themselves.
    """

    layout: TxtLayout
    versions: tuple[str, ...]
    coarse_of: dict[str, str]


SOURCES = {
    "testbed": Source(TESTBED, ("v1",), {}),
    "twitter-gmner": Source(GMNER, ("v2", "v1"), {}),
    "twitter-fmnerg": Source(FMNERG, ("v2",), COARSE_OF),
}

__all__ = ["SOURCES", "SPLITS", "Quirk", "Source", "find_source", "load_split", "read_split"]


def find_source(source: str, version: str | None = None) -> tuple[Source, str]:
    """The source of a name and its version (the default one where `None`).

    Raises:
        UserError: no such source or version; the known ones are named.
    """
    if source not in SOURCES:
        raise UserError(f"unknown source {source!r}; choose one of {', '.join(SOURCES)}")
    found = SOURCES[source]
    if version is not None and version not in found.versions:
        raise UserError(f"{source} has no version {version!r}; choose one of {', '.join(found.versions)}")
    return found, version or found.versions[0]


def read_split(
    source: str, root: str | Path, *, split: str, version: str | None = None
) -> tuple[list[Example], list[Quirk]]:
    """The tweets of one split, without images, and the quirks met while reading.

    Raises:
        UserError: an unknown source, version or split, or broken files; file and line are named.
    """
    found, version = find_source(source, version)
    examples, quirks = _read_twitter(root, split=split, version=version, layout=found.layout)
    return completed(root, split, examples, version=version), quirks


def load_split(
    source: str,
    root: str | Path,
    *,
    split: str,
    version: str | None = None,
    images_dir: str | Path | None = None,
) -> list[Example]:
    """The tweets of one split in file order.

    Args:
        source: a name of `SOURCES`.
        root: the folder that holds the data set's own folder.
        split: "train", "dev", "test", or another set that the folder holds.
        version: of the annotation; `None` = the source's default.
        images_dir: the folder below which images are looked for by id, at any depth; `None` = no images. A
            tweet whose image is not there has none.

    Raises:
        UserError: an unknown source, version or split, or broken files; file and line are named.
    """
    examples, _ = read_split(source, root, split=split, version=version)
    if images_dir is None:
        return examples
    paths = _images.find_images(images_dir, {example.id for example in examples})
    return [replace(e, images=(str(paths[e.id]),)) if e.id in paths else e for e in examples]
