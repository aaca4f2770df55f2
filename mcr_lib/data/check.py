"""Are these files what the papers describe? Statistics beside what is expected, the state of the images, and
quirks.

Expected are the published totals and the counts per split of the public release; a folder that holds an
`expected.json` (the embedded sample does) is held against that instead, and of a source that nothing is
published about (the testbed) nothing is expected.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mcr_lib.data import SPLITS, Quirk, find_source, read_split
from mcr_lib.data.files import read_text
from mcr_lib.data.images import ImageReport, find_images, inspect_images
from mcr_lib.data.twitter_gmner import FOLDERS, split_names, xml_files
from mcr_lib.errors import UserError
from mcr_lib.schema import FORMAT_VERSION, Example, checksum

_COLUMNS = (*SPLITS, "all")
Statistics = dict[str, int | str]

_ROWS = (
    "tweets", "entities", "PER", "LOC", "ORG", "OTHER", "groundable", "not groundable", "boxes", "entities with several boxes",
    "tweets with xml", "tweets without entity", "checksum",
)  # fmt: skip
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
_FINE_CHECKSUMS = ("0c836a097387", "674bb8c1ec8c", "3c954ab18b3c")


def _table(columns: Sequence[Sequence[int | str]]) -> dict[str, Statistics]:
    return {
        name: dict(zip(_ROWS, column, strict=False)) for name, column in zip(_COLUMNS, columns, strict=True)
    }


EXPECTED: dict[str, dict[str, Statistics]] = {
    "twitter-gmner-v1": _table(_V1),
    "twitter-gmner-v2": _table(_V2),
    "twitter-fmnerg-v2": _table(
        [(*v2[:12], *fine) for v2, fine in zip(_V2, [[c] for c in _FINE_CHECKSUMS] + [[]], strict=True)]
    ),
}
"""Source and version -> split (or "all") -> statistic -> value. v1 in all equals the task paper's table
(16,778 / 6,716 / 8,090); the rest was counted in the public release. `checksum` is `schema.checksum` of the
split.
"""


def split_statistics(
    examples: Sequence[Example], *, coarse_of: Mapping[str, str] | None = None, n_xml: int = 0
) -> Statistics:
    """Counts of one split, by the names of `EXPECTED`; boxes are counted once per mention.

    Args:
        coarse_of: type -> the type under which it is counted; types that it lacks count as themselves.
        n_xml: how many of the tweets have an annotation file.

    Example:
        >>> split_statistics([Example("1", "demo", "dev", ("hi",), (), ("PER",))])["tweets without entity"]
        1
    """
    entities = [entity for example in examples for entity in example.entities]
    labels = list(
        dict.fromkeys(
            (coarse_of or {}).get(label, label) for label in (examples[0].labels if examples else ())
        )
    )
    types = Counter((coarse_of or {}).get(entity.type, entity.type) for entity in entities)
    n_groundable = sum(bool(entity.is_groundable) for entity in entities)
    return {
        "tweets": len(examples),
        "entities": len(entities),
        **{label: types[label] for label in labels},
        "groundable": n_groundable,
        "not groundable": len(entities) - n_groundable,
        "boxes": sum(len(entity.boxes_xyxy_px or ()) for entity in entities),
        "entities with several boxes": sum(len(entity.boxes_xyxy_px or ()) > 1 for entity in entities),
        "tweets with xml": n_xml,
        "tweets without entity": sum(not example.entities for example in examples),
    }


def leakage(examples_by_split: Mapping[str, Sequence[Example]]) -> list[Quirk]:
    """Texts that occur in more than one tweet, and ids that occur in more than one split, each as a quirk.

    Example:
        >>> tweet = Example("1", "demo", "dev", ("Go", "!"), (), ())
        >>> [quirk.kind for quirk in leakage({"train": [replace(tweet, id="2")], "dev": [tweet]})]
        ['text that occurs in more than one split']
    """
    places: dict[str, list[tuple[str, str]]] = defaultdict(list)
    splits_of: dict[str, list[str]] = defaultdict(list)
    for split, examples in examples_by_split.items():
        for example in examples:
            places[example.text].append((split, example.id))
            splits_of[example.id].append(split)
    quirks = []
    for text, found in places.items():
        if len(found) > 1:
            crosses = len({split for split, _ in found}) > 1
            kind = (
                "text that occurs in more than one split"
                if crosses
                else "text that occurs twice in one split"
            )
            quirks.append(Quirk(kind, ", ".join(f"{split} {id}" for split, id in found), text))
    quirks += [
        Quirk("id that occurs in more than one split", ", ".join(s), id)
        for id, s in splits_of.items()
        if len(s) > 1
    ]
    return quirks


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What `check` found.

    Args:
        source: name and version.
        found: split or "all" -> statistic -> value.
        expected: the same, as far as anything is expected.
        images: the state of the images.
        quirks: every quirk met.
        n_types: how often each type occurs, over all splits.
    """

    source: str
    found: dict[str, Statistics]
    expected: dict[str, Statistics]
    images: ImageReport
    quirks: tuple[Quirk, ...]
    n_types: dict[str, int]

    @property
    def differences(self) -> list[str]:
        """One sentence per statistic that is not as expected."""
        return [
            f"{column}: {name} is {_shown(self.found.get(column, {}).get(name))}, expected {_shown(value)}"
            for column, statistics in self.expected.items()
            for name, value in statistics.items()
            if self.found.get(column, {}).get(name) != value
        ]

    @property
    def verdict(self) -> str:
        """All differences, a line each, or that there is none."""
        if not self.expected:
            return f"Nothing is published about {self.source}: its statistics are held against nothing."
        n = sum(len(statistics) for statistics in self.expected.values())
        return "\n".join(self.differences) or f"All {n} statistics are as expected."

    def to_json(self) -> dict[str, Any]:
        """The report as one JSON object; quirks are counted, with up to three places each."""
        return {
            "format_version": FORMAT_VERSION,
            "source": self.source,
            "statistics": {
                column: {
                    name: {"found": value, "expected": self.expected.get(column, {}).get(name)}
                    for name, value in statistics.items()
                }
                for column, statistics in self.found.items()
            },
            "types": self.n_types,
            "images": {**self.images.counts, "problems": list(self.images.problems)},
            "quirks": [
                {"kind": kind, "count": len(quirks), "first": [f"{q.where}: {q.what}" for q in quirks[:3]]}
                for kind, quirks in quirks_by_kind(self.quirks).items()
            ],
            "differences": self.differences,
        }


def quirks_by_kind(quirks: Iterable[Quirk]) -> dict[str, list[Quirk]]:
    """Quirks grouped by kind, the most frequent kind first."""
    groups: dict[str, list[Quirk]] = defaultdict(list)
    for quirk in quirks:
        groups[quirk.kind].append(quirk)
    return dict(sorted(groups.items(), key=lambda item: -len(item[1])))


def check(
    source: str,
    root: str | Path,
    *,
    version: str | None = None,
    images_dir: str | Path | None = None,
    splits: Sequence[str] | None = None,
) -> CheckReport:
    """Read a source and hold it against what is expected.

    Args:
        images_dir: where images are looked for, at any depth; `None` = below `root`.
        splits: which to read; `None` = the three ordinary ones where statistics are expected of the source,
            else every one that is there.

    Raises:
        UserError: files are missing or broken.
    """
    found_source, version = find_source(source, version)
    name = f"{source}-{version}"
    expected = _expected(Path(root), name)
    xml_ids = xml_files(root, version)
    there = split_names(root, version, found_source.layout)
    splits = splits or (SPLITS if expected else there)
    by_split, quirks = {}, []
    for split in splits:
        by_split[split], met = read_split(source, root, split=split, version=version)
        quirks += met
    everyone = [example for examples in by_split.values() for example in examples]
    found = {}
    for column, examples in {**by_split, "all": everyone}.items():
        n_xml = sum(example.id in xml_ids for example in examples)
        found[column] = split_statistics(examples, coarse_of=found_source.coarse_of, n_xml=n_xml)
        if column != "all":
            found[column]["checksum"] = checksum(examples)
    expected = {
        column: value for column, value in expected.items() if column in splits or set(SPLITS) <= set(splits)
    }
    orphans = sorted(xml_ids - {e.id for e in everyone}) if set(there) <= set(splits) else []
    quirks += [Quirk("xml of no tweet (left out)", f"{FOLDERS[version]}/xml/{id}.xml", id) for id in orphans]
    quirks += leakage(by_split)
    paths = find_images(images_dir or root, {e.id for e in everyone})
    report, _ = inspect_images(
        [replace(e, images=(str(paths[e.id]),)) if e.id in paths else e for e in everyone]
    )
    n_types = Counter(entity.type for example in everyone for entity in example.entities)
    return CheckReport(
        name, found, expected, report, tuple(quirks), {t: n_types[t] for t in found_source.layout.labels}
    )


def _expected(root: Path, name: str) -> dict[str, Statistics]:
    path = root / "expected.json"
    if not path.is_file():
        return EXPECTED.get(name, {})
    try:
        value = json.loads(read_text(path))
        return {column: dict(statistics) for column, statistics in value["statistics"][name].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f'{path}: expected {{"statistics": {{"{name}": {{split: {{statistic: value}}}}}}}} ({error!r:.80})'
        ) from error


def _shown(value: int | str | None) -> str:
    return "missing" if value is None else f"{value:,}" if isinstance(value, int) else value
