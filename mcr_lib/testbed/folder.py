"""The testbed as files: the format of Twitter-GMNER, a PNG per tweet, and a sidecar; they read back equal.

    DIR/Twitter10000/txt/test.txt, xml/<id>.xml, sidecar/test.jsonl
    DIR/images/<id>.png

A set of the distribution `gmner` has the name of its split (test); other sets are named after split and
distribution (test_adversarial), so all may share a folder. Read one with
`data.load_split("testbed", DIR, split=NAME, images_dir=DIR)`.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import PIL

from mcr_lib.data.files import written_whole
from mcr_lib.data.sidecar import read_header, sidecar_path, write_sidecar
from mcr_lib.data.twitter_gmner import FOLDERS, SPLITS, write_split
from mcr_lib.errors import UserError
from mcr_lib.schema import Example
from mcr_lib.testbed import DISTRIBUTIONS, SOURCE, Knobs, drawing, find, make

VERSION, MAIN = SOURCE.rpartition("-")[2], "gmner"
MAX_EXAMPLES = 1_000_000


def set_name(distribution: str, split: str) -> str:
    """Return the name of a set: the split, followed by the distribution unless that is gmner."""
    return split if distribution == MAIN else f"{split}_{distribution}"


def set_parts(name: str) -> tuple[str, str]:
    """Return (distribution, split) of a set's name."""
    split, _, distribution = name.partition("_")
    if split not in SPLITS:
        expected = f"{', '.join(SPLITS)}, or one of these with a distribution (test_unseen)"
        raise UserError(f"the testbed has no set {name!r}; expected {expected}")
    find(distribution or MAIN)
    return distribution or MAIN, split


def write(
    root: str | Path, name: str, n: int, *, seed: int = 0, knobs: Knobs | None = None,
    distribution: str | None = None, progress: Callable[[int], None] = lambda done: None,
) -> list[Example]:  # fmt: skip
    """Write the first n examples of a set in place of an old one; the sidecar last: it marks a whole set.

    `distribution`: other than that of the set's name, for a `train` that is not drawn from gmner.
    """
    recipe = _recipe(name, n, seed, knobs, distribution)
    distribution, split = recipe["distribution"], recipe["split"]
    if not 1 <= n <= MAX_EXAMPLES or seed < 0:
        expected = f"expected 1 to {MAX_EXAMPLES:,} examples and a seed of 0 or more"
        raise UserError(f"testbed: n is {n} and the seed {seed}; {expected}")
    root = Path(root)
    _remove(root, name)
    examples = []
    for index, path in enumerate(_images(root, recipe)):
        item = make(distribution, split, index, seed=seed, knobs=knobs)
        with written_whole(path, "wb") as file:
            drawing.draw(item.scene).save(file, format="png", compress_level=3)
        examples.append(replace(item.example, split=name))
        progress(index + 1)
    write_split(root, name, examples, version=VERSION)
    write_sidecar(root, name, examples, version=VERSION, recipe=recipe)
    return examples


def write_missing(
    root: str | Path, name: str, n: int, *, seed: int = 0, knobs: Knobs | None = None,
    distribution: str | None = None,
) -> bool:  # fmt: skip
    """Write a set unless the same code wrote it from the same arguments; return whether it was written."""
    header, recipe = read_header(root, name, version=VERSION), _recipe(name, n, seed, knobs, distribution)
    if header.get("recipe") == recipe and all(path.is_file() for path in _images(Path(root), recipe)):
        return False
    write(root, name, n, seed=seed, knobs=knobs, distribution=distribution)
    return True


def _recipe(name: str, n: int, seed: int, knobs: Knobs | None, distribution: str | None) -> dict[str, Any]:
    by_name, split = set_parts(name)
    distribution = distribution or by_name
    values = json.loads(json.dumps((knobs or find(distribution)).to_json()))
    what = {"source": SOURCE, "distribution": distribution, "split": split}
    return {**what, "n": n, "seed": seed, "knobs": values, "code": code()}


def _images(root: Path, recipe: Mapping[str, Any]) -> list[Path]:
    stem, n = f"{recipe['distribution']}_{recipe['split']}", min(recipe["n"], MAX_EXAMPLES)
    return [root / "images" / f"{stem}_{index}.png" for index in range(n)]


def _remove(root: Path, name: str) -> None:
    """Remove a set: first its sidecar, then the files that a smaller set would leave behind."""
    xml = root / FOLDERS[VERSION] / "xml"
    old = read_header(root, name, version=VERSION).get("recipe")
    is_known = isinstance(old, dict) and type(old.get("n")) is int
    is_known = is_known and old.get("distribution") in DISTRIBUTIONS
    try:
        sidecar_path(root, name, VERSION).unlink(missing_ok=True)
        for image in _images(root, old | {"split": set_parts(name)[1]}) if is_known else ():
            (xml / f"{image.stem}.xml").unlink(missing_ok=True)
            image.unlink(missing_ok=True)
        xml.mkdir(parents=True, exist_ok=True)  # readers expect it, even if nothing is shown
    except OSError as error:
        hint = "choose a folder with room that you may write to"
        raise UserError(f"cannot write {root}: {error.strerror or error}; {hint}") from error


@cache
def code() -> str:
    """Return a fingerprint of the modules and the words of the testbed and the release of Pillow."""
    here = Path(__file__).parent
    sources = [path.read_bytes() for path in (*sorted(here.glob("*.py")), here / "words.yaml")]
    return hashlib.sha256(b"\0".join([*sources, PIL.__version__.encode()])).hexdigest()[:12]
