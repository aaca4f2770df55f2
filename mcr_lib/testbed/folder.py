"""The testbed as files: Twitter-GMNER's own, a PNG per tweet, and a sidecar for the rest; they read back
equal.

    DIR/Twitter10000/txt/test.txt, xml/<id>.xml, sidecar/test.jsonl
    DIR/images/<id>.png

A set has a name: a split of the distribution `gmner` has the name of the split (test), one of another
distribution is named after both (test_adversarial), so that all of them may share a folder.
`sources.load_split("testbed", DIR, split=NAME, images_dir=DIR)` reads one.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import PIL

from mcr_lib.data.files import written_whole
from mcr_lib.data.sidecar import KIND, read_header, write_sidecar
from mcr_lib.data.twitter_gmner import FOLDERS, SPLITS, write_split
from mcr_lib.errors import UserError
from mcr_lib.schema import Example
from mcr_lib.testbed import SOURCE, Knobs, drawing, find, make

VERSION = SOURCE.rpartition("-")[2]
MAIN = "gmner"
MAX_EXAMPLES = 1_000_000
_BYTES_PER_PIXEL, _BYTES_BESIDE = 0.35, 8_000
"""What a PNG takes at most (seen: 0.16 on average), and what text, boxes and half-filled blocks take beside
it.
"""


def set_name(distribution: str, split: str) -> str:
    """The name of a set.

    Example:
        >>> set_name("gmner", "test"), set_name("unseen", "dev")
        ('test', 'dev_unseen')
    """
    return split if distribution == MAIN else f"{split}_{distribution}"


def set_parts(name: str) -> tuple[str, str]:
    """(distribution, split) of a set's name.

    Raises:
        UserError: an unknown split or distribution.

    Example:
        >>> set_parts("test_adversarial"), set_parts("train")
        (('adversarial', 'test'), ('gmner', 'train'))
    """
    split, _, distribution = name.partition("_")
    if split not in SPLITS:
        raise UserError(
            f"the testbed has no set {name!r}; expected {', '.join(SPLITS)}, or one of these with a distribution (test_unseen)"
        )
    find(distribution or MAIN)
    return distribution or MAIN, split


def write(
    root: str | Path,
    name: str,
    n: int,
    *,
    seed: int = 0,
    knobs: Knobs | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Example]:
    """Make the first n examples of a set and write them; a set of that name that is there already is
    replaced.

    Its sidecar is written last, so a set that was interrupted has none.

    Args:
        root: folder for all of it.
        name: of the set.
        seed: of the world.
        knobs: instead of those of the distribution.
        progress: told after each example how many are done.

    Raises:
        UserError: an unknown set, a number out of range, knobs that cannot be met, or a folder that cannot be
            written or has no room.
    """
    distribution, split = set_parts(name)
    if not 1 <= n <= MAX_EXAMPLES or seed < 0:
        raise UserError(
            f"testbed: n is {n} and the seed {seed}; expected 1 to {MAX_EXAMPLES:,} examples and a seed of 0 or more"
        )
    root = Path(root)
    _check_room(
        root, n * int(_BYTES_BESIDE + _BYTES_PER_PIXEL * (knobs or find(distribution)).side_px[1] ** 2)
    )
    _forget(root, name)
    examples = []
    for index in range(n):
        made = make(distribution, split, index, seed=seed, knobs=knobs)
        with written_whole(image_path(root, made.example), "wb") as file:
            drawing.draw(made.scene).save(file, format="png", compress_level=3)
        examples.append(replace(made.example, split=name))
        progress(index + 1)
    write_split(root, name, examples, version=VERSION)
    write_sidecar(root, name, examples, version=VERSION, recipe=recipe(name, n, seed=seed, knobs=knobs))
    return examples


def write_missing(root: str | Path, name: str, n: int, *, seed: int = 0, knobs: Knobs | None = None) -> bool:
    """Write a set unless it stands there already, made with the same arguments by the same code; returns
    whether it was written.

    Raises:
        UserError: as `write`.
    """
    root = Path(root)
    wanted = recipe(name, n, seed=seed, knobs=knobs)
    header = read_header(root, name, version=VERSION) or {}
    distribution, split = set_parts(name)
    images = (root / "images" / f"{distribution}_{split}_{index}.png" for index in range(n))
    if header.get("recipe") == wanted and all(path.is_file() for path in images):
        return False
    write(root, name, n, seed=seed, knobs=knobs)
    return True


def recipe(name: str, n: int, *, seed: int, knobs: Knobs | None) -> dict[str, Any]:
    """All that a set depends on, JSON-ready."""
    distribution, split = set_parts(name)
    made_with = json.loads(json.dumps((knobs or find(distribution)).to_json()))
    return {
        "source": SOURCE,
        "distribution": distribution,
        "split": split,
        "n": n,
        "seed": seed,
        "knobs": made_with,
        "code": _code(),
    }


def image_path(root: str | Path, example: Example) -> Path:
    """Where the picture of an example lies."""
    return Path(root) / "images" / f"{example.id}.png"


def _forget(root: Path, name: str) -> None:
    """Remove a set: first the sidecar that vouches for it, then the files that a smaller set would leave
    behind.
    """
    own = root / FOLDERS[VERSION]
    distribution, split = set_parts(name)
    told = (read_header(root, name, version=VERSION) or {}).get("recipe")
    n_before = told["n"] if isinstance(told, dict) and type(told.get("n")) is int else 0
    try:
        (own / KIND / f"{name}.jsonl").unlink(missing_ok=True)
        for index in range(min(n_before, MAX_EXAMPLES)):
            id = f"{distribution}_{split}_{index}"
            (own / "xml" / f"{id}.xml").unlink(missing_ok=True)
            (root / "images" / f"{id}.png").unlink(missing_ok=True)
        (own / "xml").mkdir(parents=True, exist_ok=True)  # a reader expects it, even where nothing is shown
    except OSError as error:
        raise UserError(
            f"cannot write {root}: {error.strerror or error}; choose a folder with room that you may write to"
        ) from error


def _check_room(root: Path, n_bytes: int) -> None:
    """Refuse before the work what would fill the disk after most of it."""
    there = next(folder for folder in (root.absolute(), *root.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if free < n_bytes:
        needed, left = (f"{value / 2**20:,.0f} MB" for value in (n_bytes, free))
        raise UserError(
            f"no room in {root}: about {needed} needed, {left} free; make fewer examples, or choose another disk"
        )


@cache
def _code() -> str:
    """Fingerprint of what makes pictures and texts: the modules of the testbed and the release of Pillow."""
    sources = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
    return hashlib.sha256(b"\0".join([*sources, PIL.__version__.encode()])).hexdigest()[:12]
