"""Images of training rows: resized once, in bounded memory and on disk, and the same pixels as without."""

import gc
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Glm46VImageProcessor

from mcr_lib.data.images import open_image
from mcr_lib.training import backbones, loop, pictures
from mcr_lib.training.pictures import Pictures

pytestmark = pytest.mark.canary

SIZES = ((126, 125), (300, 200), (1000, 700), (50, 40), (28, 280), (3000, 20))
"""One is too thin to be resized twice to the same size."""


@pytest.fixture(scope="module", params=["qwen2.5-vl", "glm-4.6v"])
def processor(request):
    ours = backbones.outline("tiny-base").processor
    if request.param == "qwen2.5-vl":
        return ours
    size = {edge: 2 * n for edge, n in dict(ours.image_processor.size).items() if n}  # of GLM's two frames
    return SimpleNamespace(image_processor=Glm46VImageProcessor(size=size), tokenizer=ours.tokenizer)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder, draws = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for k, (width, height) in enumerate(SIZES):
        Image.fromarray(draws.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / f"{k}.png")
    return sorted(map(str, folder.glob("*.png")))


@pytest.fixture
def decoded(monkeypatch):
    """The paths that were opened, in order."""
    opened = []
    monkeypatch.setattr(pictures, "open_image", lambda path: opened.append(path) or open_image(path))
    return opened


@pytest.mark.parametrize(
    ("room", "n_decoded"),
    [({}, 6), ({"memory": 1}, 6), ({"memory": 1, "disk": 0}, 18), ({"memory": 1, "disk": 25_000}, 16)],
)
def test_a_processor_makes_the_same_of_an_image_each_time(
    processor, paths, tmp_path, decoded, room, n_decoded
):
    # 25,000 pixels have room for the first image, 112 x 112, alone: of two later epochs it is decoded in none
    opened = Pictures(processor, tmp_path, **room)
    for path in paths * 3:
        stock, ours = (
            processor.image_processor([i], return_tensors="pt") for i in (open_image(path), opened(path))
        )
        assert torch.equal(stock["pixel_values"], ours["pixel_values"])
        assert torch.equal(stock["image_grid_thw"], ours["image_grid_thw"])
    assert len(decoded) == n_decoded


def test_memory_and_disk_hold_as_much_as_they_may(processor, paths, tmp_path):
    opened = Pictures(processor, tmp_path, memory=30_000, disk=30_000)
    for path in paths * 2:
        opened(path)
        kept = sum(image.width * image.height for image in opened.latest.values())
        assert kept <= 30_000 or len(opened.latest) == 1
        on_disk = sum(np.load(file).size // 3 for file in tmp_path.glob("pictures-0-*/*.npy"))
        assert 0 < on_disk + opened.disk <= 30_000


def test_a_disk_that_fails_costs_time_and_no_result(processor, paths, tmp_path, decoded, monkeypatch):
    opened = Pictures(processor, tmp_path, memory=1)
    for path in paths:
        opened(path)
    for file in tmp_path.glob("pictures-0-*/*"):
        file.unlink()
    monkeypatch.setattr(np, "save", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    assert opened(paths[0]).size == (112, 112)
    assert len(decoded) == 7


def test_files_go_with_their_owner_and_those_of_a_killed_run_with_the_next(processor, tmp_path):
    (tmp_path / "pictures-0-killed").mkdir()
    (tmp_path / "pictures-1-of-another-process").mkdir()
    opened = Pictures(processor, tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [opened.folder.name, "pictures-1-of-another-process"]
    del opened
    gc.collect()
    assert [path.name for path in tmp_path.iterdir()] == ["pictures-1-of-another-process"]


def test_copies_of_a_row_in_a_batch_have_one_image(processor, paths, tmp_path, decoded):
    rows = [{"id": str(k), "images": [path]} for k, path in enumerate(paths[:2])]
    batch = loop.dataset(rows, Pictures(processor, tmp_path)).__getitems__([0, 0, 0, 1, 1, 1])
    images = [row["images"][0] for row in batch]
    assert len(set(map(id, images))) == len(decoded) == 2
