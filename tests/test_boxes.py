"""Boxes: IoU against counting pixels, the hit rule at its edge, coordinate spaces there and back."""

import itertools

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mcr_lib import boxes
from mcr_lib.errors import UserError

corner = st.integers(0, 12)
box = st.tuples(corner, corner, corner, corner).map(
    lambda t: (min(t[0], t[2]), min(t[1], t[3]), max(t[0], t[2]), max(t[1], t[3]))
)


def pixels(b):
    return {(x, y) for x in range(b[0], b[2]) for y in range(b[1], b[3])}


@given(box, box)
def test_iou_is_shared_pixels_over_all_pixels(a, b):
    both, either = pixels(a) & pixels(b), pixels(a) | pixels(b)
    assert boxes.iou(a, b) == pytest.approx(len(both) / len(either) if either else 0.0)
    assert boxes.iou(a, b) == boxes.iou(b, a)


def test_iou_of_a_box_with_itself_is_one_and_of_an_empty_one_zero():
    assert boxes.iou((3, 4, 9, 9), (3, 4, 9, 9)) == 1.0
    assert boxes.iou((3, 4, 3, 9), (3, 4, 3, 9)) == 0.0


def test_a_hit_is_above_one_half_or_at_it_when_asked():
    gold = [(500, 500, 600, 600), (0, 0, 100, 100)]
    half, more = (0, 0, 100, 50), (0, 0, 100, 51)
    assert not boxes.is_hit(half, gold)
    assert boxes.is_hit(half, gold, inclusive=True)
    assert boxes.is_hit(more, gold)
    assert not boxes.is_hit(more, [])


sizes = st.tuples(st.integers(58, 1200), st.integers(58, 1200))


@given(sizes, sizes, st.tuples(*[st.floats(0, 1)] * 4), st.sampled_from(boxes.SPACES))
def test_a_box_comes_back_from_every_space(size, model_size, shares, space):
    b = (shares[0] * size[0], shares[1] * size[1], shares[2] * size[0], shares[3] * size[1])
    there = boxes.to_space(b, space, image_size=size, model_size=model_size)
    assert boxes.from_space(there, space, image_size=size, model_size=model_size) == pytest.approx(
        b, abs=1e-6
    )


@given(sizes, sizes, st.data(), st.sampled_from(boxes.SPACES))
def test_a_written_box_is_whole_inside_and_not_empty(size, model_size, data, space):
    x1, y1 = data.draw(st.integers(1, size[0] - 1)), data.draw(st.integers(1, size[1] - 1))
    x2, y2 = data.draw(st.integers(x1 + 1, size[0])), data.draw(st.integers(y1 + 1, size[1]))
    written = boxes.written_box((x1, y1, x2, y2), space, image_size=size, model_size=model_size)
    width, height = boxes.space_size(space, size, model_size)
    assert all(isinstance(v, int) for v in written)
    assert 0 <= written[0] < written[2] <= width
    assert 0 <= written[1] < written[3] <= height
    exact = boxes.to_space((x1, y1, x2, y2), space, image_size=size, model_size=model_size)
    assert all(abs(w - e) <= 1.0 for w, e in zip(written, exact, strict=True))


def test_model_pixels_need_the_model_size_and_spaces_are_known():
    with pytest.raises(ValueError, match="model_size"):
        boxes.space_size("model_px", (10, 10), None)
    with pytest.raises(ValueError, match="unknown coordinate space"):
        boxes.space_size("yards", (10, 10), None)


def test_too_thin_an_image_is_refused_as_by_the_processor():
    with pytest.raises(ValueError, match="too thin"):
        boxes.resized_size((2010, 10), min_pixels=56 * 56, max_pixels=10**6)


@pytest.mark.canary
def test_resized_size_is_what_the_processor_does():
    smart_resize = pytest.importorskip("transformers.models.qwen2_vl.image_processing_qwen2_vl").smart_resize
    for unit in (28, 32):
        for width in (58, 74, 112, 140, 153, 600, 601, 1024, 1200):
            for height in (58, 113, 168, 450, 599, 1200):
                for low, high in ((4 * unit * unit, 1280 * unit * unit), (56 * 56, 100 * unit * unit)):
                    theirs = smart_resize(height, width, factor=unit, min_pixels=low, max_pixels=high)
                    assert (
                        boxes.resized_size((width, height), unit=unit, min_pixels=low, max_pixels=high)
                        == theirs[::-1]
                    )


@pytest.mark.canary
def test_the_processor_of_glm_counts_an_image_twice():
    smart_resize = pytest.importorskip("transformers.models.glm46v.image_processing_glm46v").smart_resize
    for size in itertools.product((28, 58, 74, 153, 601, 1200), (29, 113, 450, 1200)):
        for low, high in ((4 * 784, 1280 * 784), (56 * 56, 100 * 784)):
            theirs = smart_resize(2, *size[::-1], min_pixels=2 * low, max_pixels=2 * high)
            assert boxes.resized_size(size, min_pixels=low, max_pixels=high) == theirs[::-1]


@given(
    st.integers(10, 4000),
    st.floats(1 / 190, 190),
    st.integers(4, 16384),
    st.sampled_from([28, 32]),
    st.data(),
)
def test_a_written_box_comes_back_within_one_resized_pixel(width, aspect, n_units, unit, data):
    size = (width, max(1, round(width / aspect)))
    assume(max(size) <= 200 * min(size))
    model_size = boxes.resized_size(size, unit=unit, min_pixels=4 * unit**2, max_pixels=n_units * unit**2)
    x1, y1 = data.draw(st.integers(0, size[0] - 1)), data.draw(st.integers(0, size[1] - 1))
    x2, y2 = data.draw(st.integers(x1 + 1, size[0])), data.draw(st.integers(y1 + 1, size[1]))
    for space in boxes.SPACES:
        sides = boxes.space_size(space, size, model_size)
        written = boxes.written_box((x1, y1, x2, y2), space, image_size=size, model_size=model_size)
        back = boxes.from_space(written, space, image_size=size, model_size=model_size)
        for k, original in enumerate((x1, y1, x2, y2)):
            assert abs(back[k] - original) <= 1.0 * size[k % 2] / sides[k % 2] + 1e-9


def test_a_family_is_found_by_name_or_refused_in_one_sentence():
    assert boxes.box_format("qwen3-vl") == boxes.BoxFormat("norm1000", 32)
    with pytest.raises(UserError, match="unknown model family 'qwen'; choose one of qwen2.5-vl"):
        boxes.box_format("qwen")
