"""From a configuration to the examples of a run: make or read, look, choose some to draw, hand over by file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL.Image import Image

from mcr_lib import testbed
from mcr_lib.data import SPLITS, find_source, load_split
from mcr_lib.data.check import CheckReport, check, quirks_by_kind
from mcr_lib.data.files import read_jsonl, write_jsonl
from mcr_lib.data.images import ImageReport, open_image, usable_images
from mcr_lib.data.shares import V2_SHARES, shares
from mcr_lib.errors import UserError
from mcr_lib.schema import Example, checksum
from mcr_lib.study.runs.artifacts import RunFolder
from mcr_lib.study.runs.config import Loaded
from mcr_lib.testbed import folder as testbed_folder

KIND = "examples"


def data_dir(loaded: Loaded) -> Path:
    """The folder of the data set: `data_dir`, or, where that is null, the testbed's in the run folder, made
    now unless it stands there.

    Raises:
        UserError: a set or a knob that the testbed does not have, no number for a set, or a folder that
            cannot be written.
    """
    if (given := loaded.path("data_dir")) is not None:
        return given
    config, root = loaded.config, RunFolder(loaded.folder).testbed
    for name in config.splits:
        distribution, split = testbed_folder.set_parts(name)
        n = config.testbed_sizes.get(name, config.testbed_sizes.get(split))
        if n is None:
            raise UserError(
                f"testbed_sizes has no number for {name}; it has some for {', '.join(config.testbed_sizes) or 'nothing'}"
            )
        knobs = testbed.altered(testbed.find(distribution), config.testbed_knobs)
        testbed_folder.write_missing(root, name, n, seed=config.testbed_seed, knobs=knobs)
    return root


def load_examples(loaded: Loaded, splits: Sequence[str] | None = None) -> dict[str, list[Example]]:
    """Split -> its tweets, with the paths of those images that are there; of all splits of the run, or of
    some.
    """
    config, root = loaded.config, data_dir(loaded)
    images_dir = loaded.path("images_dir") or root
    chosen = config.splits if splits is None else splits
    return {
        split: load_split(config.source, root, split=split, version=config.version, images_dir=images_dir)
        for split in chosen
    }


def pooled(examples_by_split: Mapping[str, Sequence[Example]]) -> list[Example]:
    """The tweets of the ordinary splits in one list; of whatever splits there are where none of them is
    ordinary.
    """
    chosen = [split for split in examples_by_split if split in SPLITS] or list(examples_by_split)
    return [example for split in chosen for example in examples_by_split[split]]


def check_data(loaded: Loaded) -> CheckReport:
    """The statistics of the configured splits beside the expected ones."""
    config, images_dir = loaded.config, loaded.path("images_dir")
    return check(
        config.source, data_dir(loaded), version=config.version, images_dir=images_dir, splits=config.splits
    )


def knows_bait(examples: Sequence[Example]) -> bool:
    """Whether it is known of every tweet what only its image shows, which is so on the testbed alone."""
    return all(example.image_only is not None for example in examples)


def share_rows(
    examples_by_split: Mapping[str, Sequence[Example]], *, coarse_of: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """One row per share of `sources.shares`, in percent: each split, and Twitter-GMNER v2 (empty where it
    does not tell).
    """
    found = {split: shares(examples, coarse_of=coarse_of) for split, examples in examples_by_split.items()}
    found["Twitter-GMNER v2"] = V2_SHARES
    names = dict.fromkeys(name for values in found.values() for name in values)
    return [
        {"share, %": name, **{c: round(100 * v[name], 1) if name in v else "" for c, v in found.items()}}
        for name in names
    ]


def write_examples(folder: RunFolder, examples_by_split: Mapping[str, Sequence[Example]]) -> list[str]:
    """Write each split to `data/<split>.jsonl` of the run folder; returns one line per file that says what it
    holds.
    """
    lines = []
    for split, examples in examples_by_split.items():
        path = folder.data(split)
        write_jsonl(
            path,
            (e.to_row() for e in examples),
            kind=KIND,
            source=examples[0].source,
            split=split,
            checksum=checksum(examples),
        )
        n_images = sum(bool(e.images) for e in examples)
        lines.append(
            f"{path.name}: {len(examples):,} tweets, {n_images:,} with an image, checksum {checksum(examples)}"
        )
    return lines


def read_examples(folder: RunFolder, split: str) -> list[Example]:
    """The tweets that `write_examples` wrote.

    Raises:
        UserError: the file is missing (run notebook 01 first), of another version, or holds a row that is no
            example.
    """
    path = folder.data(split)
    if not path.is_file():
        raise UserError(
            f"{path} does not exist; run 01_data_preparation into this run folder first, with {split} among its splits"
        )
    return read_file(path)


def read_file(path: Path) -> list[Example]:
    """The tweets of a file of examples.

    Raises:
        UserError: the file is missing, of another version, or holds a row that is no example.
    """
    _, rows = read_jsonl(path, kind=KIND)
    examples = []
    for line, row in rows:
        try:
            examples.append(Example.from_row(row))
        except ValueError as error:
            raise UserError(f"{path}, line {line}: {error}") from error
    return examples


def with_usable_image(loaded: Loaded, examples: Sequence[Example]) -> tuple[list[Example], ImageReport]:
    """The examples that can be drawn or trained on, by the configuration's `bad_images`, and how the images
    stand.
    """
    return usable_images(examples, on_bad_image=loaded.config.bad_images)


def pick(examples: Sequence[Example], n: int, seed: int) -> tuple[list[Example], list[Image | None]]:
    """Up to n examples at random and their images; those with an image come first, one without has `None`."""
    order = np.random.default_rng(seed).permutation(len(examples))
    chosen = sorted((examples[k] for k in order), key=lambda e: not e.images)[:n]
    return chosen, [open_image(e.images[0]) if e.images else None for e in chosen]


def coarse_of(loaded: Loaded) -> dict[str, str]:
    """Type -> the coarser type under which figures group it; empty where types are coarse already."""
    return find_source(loaded.config.source, loaded.config.version)[0].coarse_of


def mixture(tweets: pd.DataFrame) -> dict[str, int]:
    """How many tweets show none, some or all of their entities; `tweets` is from `tables.tweet_table`."""
    n, shown = tweets["n_entities"], tweets["n_groundable"]
    return {
        "nothing groundable": int((shown == 0).sum()),
        "of these, no entity at all": int((n == 0).sum()),
        "all groundable": int(((shown == n) & (n > 0)).sum()),
        "both": int(((shown > 0) & (shown < n)).sum()),
        "of these, both within one type": int(tweets["is_mixed_within_type"].sum()),
    }


def statistics_rows(report: CheckReport) -> list[dict[str, Any]]:
    """One row per statistic: its name and, per split, what was found and what was expected."""
    names = dict.fromkeys(name for statistics in report.found.values() for name in statistics)
    rows = []
    for name in names:
        row: dict[str, Any] = {"statistic": name}
        for column, statistics in report.found.items():
            row[column] = statistics.get(name, "")
            if report.expected:
                row[f"{column}, expected"] = report.expected.get(column, {}).get(name, "")
        rows.append(row)
    return rows


def quirk_rows(report: CheckReport) -> list[dict[str, Any]]:
    """One row per kind of quirk, the most frequent first: how many, and the first place."""
    groups = quirks_by_kind(report.quirks)
    return [
        {"quirk": kind, "count": len(found), "first": f"{found[0].where}: {found[0].what}"}
        for kind, found in groups.items()
    ]
