"""Check of a data set: statistics beside the expected ones, state of the images, quirks of the files.

Expected are the published totals and the counts per split of the public release. An `expected.json` in the
folder (the embedded sample has one) replaces them. Nothing is expected of the testbed.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mcr_lib.data import SPLITS, Quirk, find_source, located, of_each, read_split
from mcr_lib.data.files import read_text
from mcr_lib.data.images import ImageReport, inspect_images
from mcr_lib.data.twitter_gmner import FOLDERS, xml_files
from mcr_lib.errors import UserError
from mcr_lib.schema import FORMAT_VERSION, Example, checksum

_SHARED = "occurs in more than one split"
Columns = dict[str, dict[str, int | str]]  # split or "all" -> statistic -> value

_ROWS = ("tweets", "entities", "PER", "LOC", "ORG", "OTHER", "groundable", "not groundable", "boxes",
    "entities with several boxes", "tweets with xml", "tweets without entity", "checksum")  # fmt: skip
_V1 = (
    (7000, 11782, 5019, 1919, 3035, 1809, 4694, 7088, 5680, 419, 3926, 358, "da4a256d6706"),
    (1500, 2453, 1072, 408, 595, 378, 986, 1467, 1166, 85, 832, 87, "53428f6f82ec"),
    (1500, 2543, 1104, 404, 638, 397, 1036, 1507, 1244, 103, 855, 82, "92baafd552ed"),
    (10000, 16778, 7195, 2731, 4268, 2584, 6716, 10062, 8090, 607, 5613, 527),
)
_V2 = (
    (7000, 11779, 5019, 1918, 3035, 1807, 4733, 7046, 5723, 421, 3925, 358, "8dcce4098eaa"),
    (1500, 2450, 1072, 407, 595, 376, 991, 1459, 1171, 85, 832, 87, "982b4382f58f"),
    (1500, 2543, 1104, 404, 638, 397, 1046, 1497, 1254, 103, 855, 82, "f6d26e4abbd5"),
    (10000, 16772, 7195, 2729, 4268, 2580, 6770, 10002, 8148, 609, 5612, 527),
)
_FINE_CHECKSUMS = ("0c836a097387",), ("674bb8c1ec8c",), ("3c954ab18b3c",), ()
_FINE_V2 = [(*v2[:12], *fine) for v2, fine in zip(_V2, _FINE_CHECKSUMS, strict=True)]
_RELEASES = {"twitter-gmner-v1": _V1, "twitter-gmner-v2": _V2, "twitter-fmnerg-v2": _FINE_V2}
# the totals of v1 equal the task paper's table (16,778 / 6,716 / 8,090); the rest was counted in the release
EXPECTED: dict[str, Columns] = {
    name: dict(zip((*SPLITS, "all"), [dict(zip(_ROWS, c, strict=False)) for c in columns], strict=True))
    for name, columns in _RELEASES.items()
}
PRINTED: dict[str, Columns] = {  # in the paper's T7, not counted in files: a difference stops nothing
    "mner-mi-v1": {"train": {"tweets": 6856}, "val": {"tweets": 860}, "test": {"tweets": 860}},
    "grec-v1": {"train": {"drawn": 14000}, "val": {"tweets": 5309}, "testA + testB": {"tweets": 19066}},
}


def leakage(examples_by_split: Mapping[str, Sequence[Example]]) -> list[Quirk]:
    """Return a quirk for each text that occurs in several tweets and each id that occurs in several splits.

    Example:
        >>> from dataclasses import replace
        >>> tweet = Example("1", "demo", "dev", ("Go", "!"), (), ())
        >>> [quirk.kind for quirk in leakage({"train": [replace(tweet, id="2")], "dev": [tweet]})]
        ['text that occurs in more than one split']
    """
    places, splits_of = defaultdict(list), defaultdict(list)
    for split, examples in examples_by_split.items():
        for example in examples:
            asks_about = () if "span" in example.constraints else example.images  # where the names are given
            places[example.text, asks_about].append((split, example.id))
            splits_of[example.id].append(split)
    quirks = []
    for (text, _), where in places.items():
        if len(where) > 1:
            kind = _SHARED if len({split for split, _ in where}) > 1 else "occurs twice in one split"
            quirks.append(Quirk(f"text that {kind}", ", ".join(f"{split} {id}" for split, id in where), text))
    shared = {id: ", ".join(splits) for id, splits in splits_of.items() if len(splits) > 1}
    return quirks + [Quirk(f"id that {_SHARED}", where, id) for id, where in shared.items()]


@dataclass(frozen=True, slots=True)
class CheckReport:
    """Result of `check` for a source and version."""

    source: str
    found: Columns
    expected: Columns  # as far as values are expected
    images: ImageReport
    quirks: tuple[Quirk, ...]
    n_types: dict[str, int]  # type -> number of entities, over all splits
    is_own: bool  # expected by an `expected.json` in the folder

    @property
    def differences(self) -> list[str]:
        """One sentence per statistic that differs from the expected one."""
        return [
            f"{column}: {name} is {_shown(value)}, expected {_shown(expected)}"
            for column, statistics in self.expected.items()
            for name, expected in statistics.items()
            if (value := self.found.get(column, {}).get(name)) != expected
        ]

    @property
    def broken(self) -> list[str]:
        """What should stop a run: ids in several splits, and differences of splits that claim to be as
        expected, by their number of tweets, within a tenth, or by an `expected.json`.
        """
        kinds = Counter(quirk.kind for quirk in self.quirks if quirk.kind.endswith(_SHARED))
        shared = [f"{n:,} × {kind}" for kind, n in kinds.items()] if f"id that {_SHARED}" in kinds else []
        n = {column: statistics["tweets"] for column, statistics in self.found.items()}
        share = {c: n.get(c, 0) / known.get("tweets", 1) for c, known in self.expected.items()}
        claims = {c for c, value in share.items() if 0.9 <= value <= 1.1 and self.source not in PRINTED}
        return shared + [d for d in self.differences if self.is_own or d.split(":")[0] in claims]

    @property
    def verdict(self) -> str:
        """What is `broken`, one per line, or one sentence if nothing is."""
        if not self.broken and not self.expected:
            return f"Nothing is published about {self.source}: its statistics are held against nothing."
        n = sum(len(statistics) for statistics in self.expected.values())
        if (d := self.differences) and not self.broken:
            return f"{len(d)} of {n} statistics differ from those published: other data, or a part of those."
        return "\n".join(self.broken) or f"All {n} statistics are as expected."

    def to_json(self) -> dict[str, Any]:
        """Return the report as one JSON object; quirks are counted, with up to three places each."""
        expected = defaultdict(dict, self.expected)
        statistics = {
            column: {name: {"found": v, "expected": expected[column].get(name)} for name, v in values.items()}
            for column, values in self.found.items()
        }
        quirks = [
            {"kind": kind, "count": len(group), "first": [f"{q.where}: {q.what}" for q in group[:3]]}
            for kind, group in quirks_by_kind(self.quirks).items()
        ]
        return {
            "format_version": FORMAT_VERSION, "source": self.source, "statistics": statistics,
            "types": self.n_types, "images": {**self.images.counts, "problems": list(self.images.problems)},
            "quirks": quirks, "differences": self.differences, "broken": self.broken,
        }  # fmt: skip


def quirks_by_kind(quirks: Sequence[Quirk]) -> dict[str, list[Quirk]]:
    """Group quirks by kind, the most frequent kind first."""
    kinds = Counter(quirk.kind for quirk in quirks).most_common()
    return {kind: [quirk for quirk in quirks if quirk.kind == kind] for kind, _ in kinds}


def check(
    source: str, root: str | Path, *, version: str | None = None, images_dir: str | Path | None = None,
    splits: Sequence[str] | None = None,
) -> CheckReport:  # fmt: skip
    """Read a source and compare it with the expected statistics.

    `images_dir` is searched for images at any depth; `None` = `root`. `splits`: `None` = those of the release
    as far as they are there if statistics are expected of the source, else every split in the folder.
    """
    known, version = find_source(source, version)
    name = f"{source}-{version}"
    expected = _expected(Path(root), name)
    xml_ids = set() if known.names_images else xml_files(root, version)
    present = known.split_names(root, version)
    is_whole = not splits or set(known.splits) <= set(splits)  # else the totals cannot be compared
    splits = splits or [split for split in present if not expected or split in known.splits] or known.splits
    read_splits = of_each(splits, partial(read_split, source, root, version=version, images_dir=images_dir))
    by_split = {split: examples for split, (examples, _) in read_splits.items()}
    quirks = [quirk for _, some in read_splits.values() for quirk in some]
    everyone = [example for examples in by_split.values() for example in examples]
    count = partial(_statistics, coarse_of=known.coarse_of, xml_ids=None if known.names_images else xml_ids)
    found = {split: {**count(some), "checksum": checksum(some)} for split, some in by_split.items()}
    if {"testA", "testB"} <= found.keys():
        found["testA + testB"] = count([*by_split["testA"], *by_split["testB"]])
    if (n_drawn := expected.get("train", {}).get("drawn")) and "train" in found:
        found["train"]["drawn"] = min(n_drawn, len(by_split["train"]))
    found["all"] = count(everyone)
    expected = {column: value for column, value in expected.items() if column in splits or is_whole}
    orphans = sorted(xml_ids - {e.id for e in everyone}) if set(present) <= set(splits) else []
    quirks += [Quirk("xml of no tweet (left out)", f"{FOLDERS[version]}/xml/{id}.xml", id) for id in orphans]
    quirks += leakage(by_split)
    with_images = located(source, everyone, images_dir or root)
    n_types = Counter(entity.type for example in everyone for entity in example.entities)
    types = {label: n_types[label] for label in (everyone[0].labels if everyone else ())}
    images, own = inspect_images(with_images)[0], Path(root) / "expected.json"
    return CheckReport(name, found, expected, images, tuple(quirks), types, own.is_file())


def _statistics(examples: Sequence[Example], coarse_of: Mapping[str, str], xml_ids: Any) -> dict[str, int]:
    """Count one split as far as it is annotated, boxes once per mention; `xml_ids` = `None`: it has none."""
    entities = [entity for example in examples for entity in example.entities]
    n_boxes = [len(entity.boxes_xyxy_px or ()) for entity in entities]
    types = Counter(coarse_of.get(entity.type, entity.type) for entity in entities)
    labels = [coarse_of.get(label, label) for label in (examples[0].labels if examples else ())]
    n_groundable, n_images = sum(map(bool, n_boxes)), [len(example.images) for example in examples]
    counts = {"tweets": len(examples), "entities": len(entities)} | {label: types[label] for label in labels}
    if not examples or "box" in examples[0].constraints:
        counts |= {"groundable": n_groundable, "not groundable": len(entities) - n_groundable}
        counts |= {"boxes": sum(n_boxes), "entities with several boxes": sum(n > 1 for n in n_boxes)}
    if xml_ids is not None:
        counts["tweets with xml"] = sum(example.id in xml_ids for example in examples)
    if any(n > 1 for n in n_images):
        counts |= {"images": sum(n_images), "tweets with several images": sum(n > 1 for n in n_images)}
    return counts | {"tweets without entity": sum(not example.entities for example in examples)}


def _expected(root: Path, name: str) -> Columns:
    path = root / "expected.json"
    if not path.is_file():
        return EXPECTED.get(name) or PRINTED.get(name, {})
    try:
        value = json.loads(read_text(path))
        return {column: dict(statistics) for column, statistics in value["statistics"][name].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        shape = f'{{"statistics": {{"{name}": {{split: {{statistic: value}}}}}}}}'
        raise UserError(f"{path}: expected {shape} ({error!r:.80})") from error


def _shown(value: int | str | None) -> str:
    return "missing" if value is None else f"{value:,}" if isinstance(value, int) else value
