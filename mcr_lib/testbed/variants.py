"""Small variants of joint sources on the testbed, in the files of their releases, for the real readers.

    DIR/text/MNER-MI_<split>.txt, DIR/images/<id>_<k>.png            a tweet with none to three pictures
    DIR/grefcoco/{grefs(unc),instances}.json, DIR/images/<id>.png    one expression, drawn once, twice or not

Words, emblems and pictures are those of the distribution `gmner` with indices of their own, so that no tweet
stands in two sources. In the variant of MNER-MI, pictures beyond the first are of other tweets; that of GREC
asks for one thing by its name, which the picture may not show. (Design ours; paper silent.)
"""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

from mcr_lib.data import grec, mner_mi
from mcr_lib.data.chance import pick
from mcr_lib.data.files import read_text, write_json, write_text, written_whole
from mcr_lib.testbed import Generated, drawing, make
from mcr_lib.testbed.folder import MAIN, code
from mcr_lib.testbed.world import BEINGS

RECIPE = "testbed.json"
SPLIT_OF = {"train": "train", "val": "dev"}  # any other split: test
STEP = 100_000  # between the indices of two splits; those of the testbed itself begin at 0
Tweets = Mapping[str, list[Generated]]  # split -> what it is written from


def write_missing(root: Path, source: str, sizes: Mapping[str, int], *, version: str, seed: int) -> bool:
    """Write a variant unless the same code wrote the same one; return whether it was written."""
    recipe = {"source": source, "version": version, "sizes": dict(sizes), "seed": seed, "code": code()}
    path = root / RECIPE
    if path.is_file() and json.loads(read_text(path)) == recipe:
        return False
    shutil.rmtree(root, ignore_errors=True)
    tweets = {}
    for number, (split, n) in enumerate(sorted(sizes.items()), start=10 * (1 + [*WRITERS].index(source))):
        start = number * STEP
        of = SPLIT_OF.get(split, "test")
        tweets[split] = [make(MAIN, of, index, seed=seed) for index in range(start, start + n)]
    WRITERS[source](root, tweets, version)
    write_json(path, recipe)
    return True


def _write_mner_mi(root: Path, tweets: Tweets, version: str) -> None:
    for split, made in tweets.items():
        lines = []
        for k, one in enumerate(made):
            shown = [made[(k + step) % len(made)] for step in range(k % mner_mi.MAX_IMAGES)]
            names = [f"{one.example.id}_{n}.png" for n in range(len(shown))]
            for name, other in zip(names, shown, strict=True):
                _draw(root / "images" / name, other)
            tags = ["O"] * len(one.example.tokens)
            for entity in one.example.entities:
                label = entity.type if entity.type in mner_mi.LABELS else "MIS"
                rest = [f"I-{label}"] * (entity.end - entity.start - 1)
                tags[entity.start : entity.end] = [f"B-{label}", *rest]
            row = {"id": one.example.id, "text": one.example.tokens, "images": names, "label": tags}
            lines.append(json.dumps({**row, "url": ""}) + "\n")
        path = root / "text" / f"{mner_mi.FILES[version]}_{split}.txt"
        write_text(path, "".join(lines))


def _write_grec(root: Path, tweets: Tweets, version: str) -> None:
    refs, images, annotations = [], [], []
    for split, made in tweets.items():
        for one in made:
            id, (width, height) = len(images) + 1, one.scene.size_px
            name = f"{one.example.id}.png"
            _draw(root / "images" / name, one)
            images.append({"id": id, "file_name": name, "width": width, "height": height})
            rng = Random(one.example.id)
            named = [thing.name for thing in one.scene.shown] if rng.random() < 0.5 else []
            asked = pick(rng, named or [being.name for being in BEINGS])
            first = len(annotations) + 1
            for x1, y1, x2, y2 in one.scene.boxes_of(asked):  # first and last pixel, counted from 1
                box = [x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1]
                annotations.append({"id": len(annotations) + 1, "image_id": id, "bbox": box})
            targets = list(range(first, len(annotations) + 1)) or [-1]
            ref: dict[str, Any] = {"ref_id": id, "split": split, "image_id": id, "ann_id": targets}
            refs.append(ref | {"sentences": [{"sent": asked}]})
    write_json(root / "grefcoco" / grec.REFS, refs)
    write_json(root / "grefcoco" / grec.INSTANCES, {"images": images, "annotations": annotations})


def _draw(path: Path, one: Generated) -> None:
    with written_whole(path, "wb") as file:
        drawing.draw(one.scene).save(file, format="png", compress_level=3)


WRITERS: dict[str, Callable[[Path, Tweets, str], None]] = {"mner-mi": _write_mner_mi, "grec": _write_grec}
