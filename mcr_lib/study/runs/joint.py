"""Sources on which a run trains beside its own, and whose tests it answers (the paper's model: three).

    joint:
      mner-mi: {data_dir: data/mner-mi}
      grec: {data_dir: data/grec, n_train: 14000}    drawn by seed from all that are left (App. E.1)

D_R is made of the training sets of all of them alike: K styles per tweet or expression. The answers to a
split stand in `predictions/<setting>.<source>_<split>.jsonl` and are scored on what the source annotates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from mcr_lib.data import SOURCES, find_source, located, mrsi, read_split
from mcr_lib.data.validation import did_you_mean
from mcr_lib.errors import UserError
from mcr_lib.schema import Example
from mcr_lib.testbed import variants

Count = Annotated[int, Field(ge=1)]


class JointSource(BaseModel):
    """A source beside that of the run; relative paths start at the repository root."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str | None = None  # of its annotation; None = its first
    data_dir: str | None = None  # its folder, or the one above; None = the testbed writes a small variant
    images_dir: str | None = None  # at any depth; None = below data_dir
    train: str = "train"  # the split that is trained on
    splits: tuple[str, ...] | None = None  # answered and scored; None = its tests
    n_train: Count | None = None  # most examples of `train`, drawn by seed
    share: float = Field(1.0, gt=0, le=1)  # most of `train`, likewise
    testbed_sizes: dict[str, Count] = {"train": 24, "test": 6}  # of `train`, and of any other split


def check(joint: Mapping[str, JointSource], source: str, where: str) -> None:
    """Refuse a source that does not exist, is the run's own, or whose data cannot be there."""
    for name, one in joint.items():
        known = [each for each in SOURCES if each not in (source, "testbed")]
        if name not in known:
            listed = f"choose from {', '.join(known)}"
            raise UserError(f"{where}: joint names {name!r}{did_you_mean(name, known)}; {listed}")
        find_source(name, one.version)
        if one.data_dir is None and (source != "testbed" or name not in variants.WRITERS):
            problem = f"joint source {name} needs data_dir, its folder"
            raise UserError(f"{where}: {problem}; data/README.md tells where it comes from")


def splits(joint: Mapping[str, JointSource]) -> dict[str, tuple[str, str]]:
    """Key of a split that is answered, such as "grec_testA", -> (source, split)."""
    tests = {name: tuple(s for s in SOURCES[name].splits if s.startswith("test")) for name in joint}
    chosen = {name: tests[name] if one.splits is None else one.splits for name, one in joint.items()}
    pairs = ((name, split) for name, some in chosen.items() for split in some)
    return {f"{name}_{split}": (name, split) for name, split in pairs}


def load(
    name: str, one: JointSource, split: str, *, root: Path | None, images_dir: Path | None, seed: int,
    testbed: tuple[Path, int],
) -> list[Example]:  # fmt: skip
    """The examples of a split with the paths of their images; of the training split those that are drawn.

    `root` = `None`: the testbed's variant in the folder and of the seed `testbed`, written if missing.
    """
    if root is None:
        wanted = {one.train, *(other for _, other in splits({name: one}).values())}
        sizes = {s: one.testbed_sizes.get("train" if s == one.train else "test", 1) for s in sorted(wanted)}
        root, version = testbed[0], find_source(name, one.version)[1]
        variants.write_missing(root, name, sizes, version=version, seed=testbed[1])
    examples, _ = read_split(name, root, split=split, version=one.version, images_dir=images_dir or root)
    if split == one.train:
        n = round(one.share * len(examples))
        examples = mrsi.draw(examples, n=n if one.n_train is None else min(n, one.n_train), seed=seed)
    return located(name, examples, images_dir or root)


def renamed(by_source: Mapping[str, Sequence[Example]]) -> dict[str, list[Example]]:
    """The training sets with unique ids: one that an earlier source has gets the name of its source."""
    taken: set[str] = set()
    result: dict[str, list[Example]] = {}
    for name, examples in by_source.items():
        result[name] = [replace(e, id=f"{name}.{e.id}") if e.id in taken else e for e in examples]
        taken |= {e.id for e in result[name]}
    return result
