"""Images: found at any depth, opened whatever their name says, and never trusted."""

import struct
import zlib
from dataclasses import replace

import pytest
from PIL import Image, PngImagePlugin

from mcr_lib import data
from mcr_lib.data.images import (
    MAX_PIXELS,
    find_images,
    image_problem,
    image_size,
    inspect_images,
    open_image,
    usable_images,
)
from mcr_lib.errors import UserError
from mcr_lib.schema import Example


def example(id, path=None, size=None):
    return Example(
        id, "demo", "dev", ("hi",), (), ("PER",), images=(str(path),) if path else (), image_size_px=size
    )


def bomb(path, side=30_000):
    """A PNG of `side` squared pixels in a few bytes: its header alone is honest."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )
    return path


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "a" / "b" / "1.jpg"
    path.parent.mkdir(parents=True)
    Image.new("RGB", (40, 30), "red").save(path, format="PNG")
    return path


def test_images_are_found_by_id_at_any_depth_and_loops_of_links_end(tmp_path, picture):
    (picture.parent / "2.png").write_bytes(b"")
    (picture.parent / "1.png").write_bytes(b"")
    (picture.parent / "loop").symlink_to(tmp_path)
    (tmp_path / "3.txt").write_text("no image")
    found = find_images(tmp_path, {"1", "2", "3", "4"})
    assert found == {"1": picture, "2": picture.parent / "2.png"}
    for name in ("1.JPG", "3.Jpg", "4.webp", "5.jfif", "6.GIF", "7.bmp", "8.JPEG", "._9.jpg"):
        (picture.parent / name).write_bytes(b"")
    found = find_images(tmp_path, [*"123456789"])
    assert "".join(found) == "12345678"
    assert found["1"] == picture
    with pytest.raises(UserError, match="does not exist"):
        find_images(tmp_path / "none", {"1"})


def test_png_bytes_under_a_jpg_name_open_fine(picture):
    assert image_problem(picture) == ((40, 30), None)
    assert open_image(picture).getpixel((0, 0)) == (255, 0, 0)


def test_transparent_parts_are_laid_on_white(tmp_path):
    path = tmp_path / "1.jpg"
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(path, format="PNG")
    assert open_image(path).getpixel((0, 0)) == (255, 255, 255)


def test_pixels_stay_where_they_are_stored_whatever_exif_says(tmp_path):
    path = tmp_path / "1.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees"
    Image.new("RGB", (40, 30)).save(path, format="JPEG", exif=exif)
    assert open_image(path).size == image_problem(path)[0] == (40, 30)


def broken(tmp_path, kind):
    path = tmp_path / f"{kind}.jpg"
    if kind == "cut":
        Image.effect_noise((300, 300), 90).save(path, format="JPEG")
        path.write_bytes(path.read_bytes()[:4000])
    elif kind == "cut-png":
        Image.effect_noise((300, 300), 90).save(path, format="PNG")
        path.write_bytes(path.read_bytes()[:4000])
    elif kind == "text":
        path.write_text("<html>not found</html>")
    elif kind == "eps":  # which Pillow would hand to an outside program
        path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "folder":
        path.mkdir()
    elif kind == "bomb":
        bomb(path)
    elif kind == "small bomb":
        bomb(path, 8_000)
    return path


@pytest.mark.parametrize(
    "kind", ["cut", "cut-png", "text", "eps", "empty", "folder", "bomb", "small bomb", "missing"]
)
def test_a_bad_image_is_one_sentence_and_never_decoded_beyond_the_limit(tmp_path, kind):
    path = broken(tmp_path, kind)
    size, problem = image_problem(path)
    assert size is None
    assert problem
    assert kind != "eps" or problem == "no image that can be recognised"
    with pytest.raises(UserError) as raised:
        open_image(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_image_too_thin_for_a_model_is_left_out_before_rows_are_made(tmp_path):
    for name, size in (("thin", (402, 2)), ("just", (400, 2))):
        Image.new("RGB", size).save(tmp_path / f"{name}.png")
    assert image_problem(tmp_path / "just.png") == ((400, 2), None)
    assert image_problem(tmp_path / "thin.png") == (
        None,
        "402 x 2 pixels is too thin; models take sides up to 200 : 1",
    )
    both = [example(name, tmp_path / f"{name}.png") for name in ("thin", "just")]
    assert [e.id for e in usable_images(both, on_bad_image="skip")[0]] == ["just"]


def test_the_limit_is_far_above_any_tweet():
    assert MAX_PIXELS > 10 * 1200 * 1200


def test_bad_images_stop_or_are_skipped_and_counted(tmp_path, picture):
    examples = [
        example("1", picture),
        example("2", picture, (40, 30)),
        example("3", picture, (41, 30)),
        example("4", broken(tmp_path, "cut")),
        example("5"),
    ]
    usable, report = usable_images(examples, on_bad_image="skip")
    assert [(e.id, e.image_size_px) for e in usable] == [("1", (40, 30)), ("2", (40, 30))]
    assert report.counts == {"present": 3, "missing": 1, "unreadable": 1, "of another size than annotated": 1}
    assert [problem.startswith(f"{tmp_path}") for problem in report.problems] == [True, True, False]
    assert report.problems[2] == "no image of 1 tweet: 5"
    with pytest.raises(UserError, match="images of 5 tweets: 3 present, 1 missing, 1 unreadable"):
        usable_images(examples)
    assert usable_images(examples[:2])[0] == usable


def test_the_three_real_images_open_and_are_as_annotated(gmner_dir, real):
    tweets = {tweet.id: tweet for split in data.SPLITS for tweet in real(split)}
    some = [
        replace(tweets[id], images=(str(path),))
        for id, path in find_images(gmner_dir / "images", tweets.keys()).items()
    ]
    report, sizes = inspect_images(some)
    assert (len(some), report.counts["present"], report.problems) == (3, 3, ())
    assert all(open_image(e.images[0]).size == sizes[e.id] for e in some)


def png_with(text_size, tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "x" * text_size, zip=True)
    path = tmp_path / f"{text_size}.png"
    Image.new("RGB", (40, 30), "red").save(path, pnginfo=info, icc_profile=b"\0" * text_size)
    return path


def test_large_profiles_and_comments_are_read_past_and_huge_ones_told_by_every_reader(tmp_path, monkeypatch):
    path = png_with(2_000_000, tmp_path)
    assert image_problem(path) == ((40, 30), None)
    assert image_size(path) == open_image(path).size == (40, 30)
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_CHUNK", 1_000_000)
    sentence = "its metadata are too large; save it again without them"
    assert image_problem(path) == (None, sentence)
    for reader in (image_size, open_image):
        with pytest.raises(UserError, match=sentence):
            reader(path)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", "an AVIF image, which is not read here; convert it"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif", "an AVIF image"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC image"),
        (b"II*\0\x08\0\0\0", "a TIFF image"),
        (b'<?xml version="1.0"?>\n<svg xmlns="x"/>', "an SVG drawing"),
        (b"\n<!DOCTYPE html><html>404</html>", "a page of HTML, which is not read here; get the image again"),
        (b"", "an empty file"),
        (b"what?", "no image that can be recognised"),
    ],
)
def test_a_file_of_another_kind_under_the_name_of_an_image_is_called_what_it_is(tmp_path, head, said):
    path = tmp_path / "1.jpg"
    path.write_bytes(head)
    assert image_problem(path)[1].startswith(said)
    with pytest.raises(UserError, match=said):
        image_size(path)
