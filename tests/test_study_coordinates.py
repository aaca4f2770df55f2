"""Boxes in a space, order or size other than the one named are noticed, and perfect ones never are."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcr_lib import boxes, metrics, rewards, yardsticks
from mcr_lib.data.predictions import Prediction
from mcr_lib.schema import Entity, Example, PredictedEntity
from mcr_lib.study.tables import coordinates

IMAGE = (400, 300)
GOLD = [(60, 40, 180, 260), (200, 100, 300, 240), (20, 20, 120, 110), (10, 150, 110, 290)]


def tweet(gold, image=IMAGE):
    tokens = tuple(f"N{k}" for k in range(len(gold)))
    entities = tuple(Entity(tokens[k], k, k + 1, "PER", (box,)) for k, box in enumerate(gold))
    return Example("1", "demo", "test", tokens, entities, ("PER",), image_size_px=image)


def checked(example, written, space="original_px", model_size=None):
    """The report on an answer whose boxes are written like this."""
    row = Prediction("1", "", coordinate_space=space, model_size=model_size)
    said = [PredictedEntity(e.text, "PER", (box,)) for e, box in zip(example.entities, written, strict=True)]
    size = {"image_size": example.image_size_px, "model_size": model_size}
    in_px = [PredictedEntity(p.text, "PER", (boxes.from_space(p.box_xyxy, space, **size),)) for p in said]
    judged, parsed = metrics.judge(example, in_px), SimpleNamespace(entities=tuple(said))
    return coordinates.check(SimpleNamespace(judged=[judged], parsed=[parsed], rows=[row]))


def in_space(space, model_size=None):
    return [boxes.to_space(box, space, image_size=IMAGE, model_size=model_size) for box in GOLD]


@pytest.mark.parametrize(
    ("written", "fits"),
    [
        (in_space("norm1000"), "norm1000, xyxy"),
        (in_space("norm1"), "norm1, xyxy"),
        ([(b, a, d, c) for a, b, c, d in GOLD], "original_px, yxyx"),
        ([(a, b, c - a, d - b) for a, b, c, d in GOLD], "original_px, xywh"),
        ([(b, a, d, c) for a, b, c, d in in_space("norm1000")], "norm1000, yxyx"),
        ([((a + c) / 2, (b + d) / 2, c - a, d - b) for a, b, c, d in GOLD], "original_px, cxcywh"),
        ([((a + c) / 2, (b + d) / 2, c - a, d - b) for a, b, c, d in in_space("norm1")], "norm1, cxcywh"),
        ([tuple(100 * v for v in box) for box in in_space("norm1")], "percent, xyxy"),
        ([tuple(3 * v for v in box) for box in GOLD], "pixels of an image 3.00 times as large, xyxy"),
        ([tuple(v / 2 for v in box) for box in GOLD], "pixels of an image 0.50 times as large, xyxy"),
    ],
)
def test_the_reading_that_hits_the_gold_is_named(written, fits):
    sorted_corners = [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in written]
    report = checked(tweet(GOLD), sorted_corners)
    assert report["fits"] == fits
    assert report["question"].startswith("wrong coordinate space, order or size? ")
    assert f"read as {fits}, 4 of 4 boxes would hit the gold" in report["question"]


def test_a_model_size_given_as_height_and_width_is_noticed():
    report = checked(tweet(GOLD), in_space("model_px", (392, 308)), "model_px", (308, 392))
    assert report["other_shape"] == 1
    assert "1 of 1 name a model_size of another shape" in report["question"]


def test_boxes_within_0_and_1_are_norm1_by_geometry_where_no_name_is_right():
    example = tweet(GOLD)
    report = checked(example, [(0.1, 0.1, 0.2, 0.3)] * 4)
    assert (report["within_unit"], report["hits"], report["fits"]) == (4, 0, "norm1, xyxy")
    assert report["question"].endswith("norm1 fits (judged by geometry)")
    assert "question" not in checked(example, in_space("norm1"), "norm1")


def test_a_few_boxes_beyond_the_image_are_counted_and_not_questioned():
    report = checked(tweet(GOLD * 10), [(500, 10, 600, 50), *(GOLD * 10)[1:]])
    assert (report["beyond_image"], report["n_boxes"]) == (1, 40)
    assert "question" not in report


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n", [4, 30])
def test_a_model_that_points_at_random_places_is_not_taken_for_a_wrong_space(seed, n):
    rng = np.random.default_rng(seed)

    def drawn():
        x, y = rng.integers(1, 300), rng.integers(1, 200)
        return (x, y, x + rng.integers(20, 400 - x), y + rng.integers(20, 300 - y))

    report = checked(tweet([drawn() for _ in range(n)]), [drawn() for _ in range(n)])
    assert report["hits"] <= 2
    assert not {"question", "fits"} & {*report}


side = st.integers(58, 1200)


@given(
    st.tuples(side, side),
    st.lists(st.tuples(*[st.floats(0, 1)] * 4), min_size=1, max_size=6),
    st.sampled_from(["original_px", "model_px", "norm1000", "norm1"]),
    st.sampled_from([28, 32]),
    st.sampled_from([56 * 56, 28 * 28 * 1280]),
)
def test_perfect_answers_are_never_questioned(image, shares, space, unit, max_pixels):
    """Gold boxes of at least 4 pixels a side, written in whole numbers where the space has such."""
    gold = []
    for a, b, c, d in shares:
        x1, y1 = 1 + round(a * (image[0] - 6)), 1 + round(b * (image[1] - 6))
        gold.append(
            (x1, y1, x1 + 4 + round(c * (image[0] - x1 - 4)), y1 + 4 + round(d * (image[1] - y1 - 4)))
        )
    example = tweet(gold, image)
    model_size = boxes.resized_size(image, unit=unit, min_pixels=56 * 56, max_pixels=max_pixels)
    if space in ("original_px", "norm1"):
        written = [boxes.to_space(box, space, image_size=image) for box in gold]
    else:
        of_gold = rewards.written_gold(example, space, model_size=model_size)
        written = [p.box_xyxy for p in yardsticks.perfect(of_gold)]
    report = checked(example, written, space, model_size if space == "model_px" else None)
    assert "question" not in report
