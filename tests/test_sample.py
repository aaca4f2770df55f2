"""The embedded sample is what its script makes, and its boxes frame what is drawn."""

import filecmp
import runpy
from pathlib import Path

import pytest
from PIL import ImageChops

from mcr_lib import data
from mcr_lib.data.images import open_image
from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(REPOSITORY / "data" / "make_sample.py"))


def test_the_script_makes_the_committed_sample(script, sample_dir, tmp_path):
    script["main"](tmp_path)
    made = {str(p.relative_to(tmp_path)): p for p in sorted(tmp_path.rglob("*")) if p.is_file()}
    assert sorted(made) == sorted(
        str(p.relative_to(sample_dir)) for p in sample_dir.rglob("*") if p.is_file()
    )
    for name, path in made.items():
        if path.suffix == ".jpg":  # pixels, since the bytes depend on the library that packs them
            assert ImageChops.difference(open_image(path), open_image(sample_dir / name)).getbbox() is None, (
                name
            )
        else:
            assert filecmp.cmp(path, sample_dir / name, shallow=False), name


def test_every_box_frames_what_is_drawn_to_the_pixel(script):
    for scene in script["TRAIN"] + script["DEV"] + script["TEST"]:
        empty = script["draw"]((*scene[:5], []))
        for thing in scene[5]:
            drawn = ImageChops.difference(script["draw"]((*scene[:5], [thing])), empty).getbbox()
            x, y, w, h = thing[1:]
            assert max(abs(a - b) for a, b in zip(drawn, (x, y, x + w, y + h), strict=True)) <= 1, (
                scene[0],
                thing,
            )


def test_the_sample_shows_what_the_task_is_about(sample_dir):
    everyone = [
        e
        for split in data.SPLITS
        for e in data.load_split("twitter-gmner", sample_dir, split=split, images_dir=sample_dir)
    ]
    entities = [entity for example in everyone for entity in example.entities]
    assert len(everyone) == 24
    assert {e.type for e in entities} == set(everyone[0].labels)
    assert any(len(e.boxes_xyxy_px) > 1 for e in entities)
    assert any(not example.entities for example in everyone)
    assert all(
        Path(example.images[0]).read_bytes()[1:4] == b"PNG" for example in everyone
    )  # as some of the real ones, under .jpg
