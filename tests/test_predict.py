"""`mcr predict`: any photo in, boxes in its own pixels out."""

import json

import pytest
from PIL import Image, ImageDraw

from mcr_lib.errors import UserError
from mcr_lib.study.commands import cli, predict
from mcr_lib.training import generate

pytestmark = pytest.mark.nano

ANSWER = (
    '<answer>[{"entity": "Ada", "type": "PER", "bbox_2d": [0, 0, 84, 56]}, '
    '{"entity": "Oslo", "type": "LOC", "bbox_2d": null}]</answer>'
)


@pytest.fixture
def seen(monkeypatch):
    """The pictures that the model is shown; it always answers the same."""
    pictures = []
    real = generate.answer_batch

    def answer_batch(backbone, chats, images, **options):
        pictures.extend(picture for some in images for picture in some)
        _, sizes = real(backbone, chats, images, **{**options, "max_new_tokens": 1})
        return [ANSWER], sizes

    monkeypatch.setattr(generate, "answer_batch", answer_batch)
    return pictures


def run(nano_folder, path, **options):
    return predict.predict(str(nano_folder), "Ada in Oslo", image=path and str(path), device="cpu", **options)


def photo(path, mode="RGB", size=(600, 400), **save):
    """Left half bright, right half dark, in any mode."""
    image = Image.new("RGB", size, "black")
    ImageDraw.Draw(image).rectangle((0, 0, size[0] // 2 - 1, size[1]), fill="white")
    image.convert(mode).save(path, **save)
    return path


def test_boxes_are_in_pixels_of_the_photo(nano_folder, seen, tmp_path):
    result = run(nano_folder, photo(tmp_path / "a.png"))
    # 600 x 400 is shrunk 2.92 times to fit 168 x 168 pixels, then down to units of 28: 196 x 112; 84·600/196
    # = 257.1, 56·400/112 = 200
    assert result["entities"][0] == {"entity": "Ada", "type": "PER", "bbox_2d": [0, 0, 257, 200]}
    assert result["entities"][1] == {"entity": "Oslo", "type": "LOC", "bbox_2d": None}
    assert result["parse"] == {"reason": None, "repairs": []}
    assert (result["image_size_px"], result["prompt"]) == ([600, 400], "direct")


@pytest.mark.parametrize(
    ("name", "mode", "size"),
    [
        ("huge.jpg", "RGB", (5000, 4000)),
        ("tiny.png", "RGB", (2, 2)),
        ("grey.png", "L", (300, 200)),
        ("cmyk.jpg", "CMYK", (300, 200)),
        ("palette.png", "P", (300, 200)),
        ("bits.png", "1", (300, 200)),
        ("see_through.png", "RGBA", (300, 200)),
    ],
)
def test_photos_of_every_kind_are_seen(nano_folder, seen, tmp_path, name, mode, size):
    result = run(nano_folder, photo(tmp_path / name, mode, size))
    assert result["image_size_px"] == list(size)
    left, right = (seen[0].getpixel((x, size[1] // 2)) for x in (0, size[0] - 1))
    assert seen[0].mode == "RGB"
    assert min(left) > 240
    assert max(right) < 15


def test_sixteen_bits_of_grey_are_not_all_white(nano_folder, seen, tmp_path):
    grey = Image.new("I;16", (60, 40), 32768)
    grey.putpixel((0, 0), 65535)
    grey.save(tmp_path / "grey.png")
    run(nano_folder, tmp_path / "grey.png")
    assert seen[0].getpixel((0, 0)) == (255, 255, 255)
    assert seen[0].getpixel((5, 5)) == (128, 128, 128)


def test_of_an_animation_the_first_frame_is_seen(nano_folder, seen, tmp_path):
    frames = [Image.new("RGB", (60, 40), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    run(nano_folder, tmp_path / "moving.gif")
    assert seen[0].getpixel((5, 5)) == (255, 0, 0)


def test_a_photo_is_turned_upright(nano_folder, seen, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side: to be turned clockwise by a quarter
    result = run(nano_folder, photo(tmp_path / "side.jpg", exif=exif))
    assert result["image_size_px"] == [400, 600]
    assert min(seen[0].getpixel((200, 10))) > 240  # what was left is now above
    assert max(seen[0].getpixel((200, 590))) < 15


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(b"no image"), "no image that can be recognised"),
        (lambda path: None, "the image does not exist"),
        (lambda path: photo(path, size=(2000, 4)), "2000 x 4 pixels is too thin"),
        (lambda path: path.write_bytes(photo(path).read_bytes()[:200]), "the image is damaged"),
    ],
)
def test_a_file_that_is_no_photo_is_an_error(nano_folder, tmp_path, make, message):
    make(tmp_path / "a.png")
    with pytest.raises(UserError, match=message):
        run(nano_folder, tmp_path / "a.png")


def test_the_command_prints_and_draws(nano_folder, seen, tmp_path, capsys):
    photo(tmp_path / "a.png")
    image = ["--image", str(tmp_path / "a.png")]
    arguments = ["predict", "--model", str(nano_folder), "--text", "Ada in Oslo", *image]
    assert cli.main([*arguments, "--draw", str(tmp_path / "out.png")]) == 0
    assert capsys.readouterr().out == "PER    Ada: at 0, 0 to 257, 200\nLOC    Oslo: not in the image\n"
    with Image.open(tmp_path / "out.png") as drawn:
        assert drawn.size[0] / drawn.size[1] == pytest.approx(1.5, abs=0.01)
        pixels = list(drawn.convert("RGB").get_flattened_data())
    assert pixels.count((68, 68, 68)) > 500  # a dark box
    assert cli.main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["entities"][0]["bbox_2d"] == [0, 0, 257, 200]


def test_an_unreadable_box_is_said_to_be_one_and_a_box_beyond_the_image_is_not_clipped(
    nano_folder, monkeypatch, tmp_path, capsys
):
    answer = ANSWER.replace("[0, 0, 84, 56]", "[0, 0, 8]").replace("null", "[98, 0, 392, 56]")
    monkeypatch.setattr(generate, "answer_batch", lambda *a, **k: ([answer], [[(196, 112)]]))
    path = photo(tmp_path / "a.png")
    entities = run(nano_folder, path)["entities"]
    assert entities[0] == {"entity": "Ada", "type": "PER", "bbox_2d": None, "unreadable_box": True}
    assert entities[1] == {"entity": "Oslo", "type": "LOC", "bbox_2d": [300, 0, 1200, 200]}
    arguments = ["predict", "--model", str(nano_folder), "--text", "Ada in Oslo", "--image", str(path)]
    assert cli.main(arguments) == 0
    shown = capsys.readouterr().out
    assert "PER    Ada: its box could not be read\nLOC    Oslo: at 300, 0 to 1200, 200\n" in shown


def test_drawing_without_an_image_and_an_empty_tweet_are_errors(nano_folder, seen, tmp_path, capsys):
    arguments = ["predict", "--model", str(nano_folder)]
    assert cli.main([*arguments, "--text", "Ada", "--draw", str(tmp_path / "out.png")]) == 2
    assert "--draw needs --image" in capsys.readouterr().err
    assert cli.main([*arguments, "--text", "Ada", "--max-new-tokens", "0"]) == 2
    assert "an answer has at least one token" in capsys.readouterr().err
    assert cli.main([*arguments, "--text", "  "]) == 2
    assert "the tweet is empty" in capsys.readouterr().err


def test_an_answer_that_cannot_be_read_is_shown(nano_folder, tmp_path, capsys):
    assert cli.main(["predict", "--model", str(nano_folder), "--text", "Ada", "--max-new-tokens", "3"]) == 0
    assert capsys.readouterr().out.startswith("the answer could not be read (")


@pytest.mark.parametrize("text", ["Ada <|image_pad|>", "<|im_end|> Ada", "<|vision_start|><|video_pad|>"])
def test_special_tokens_typed_in_a_tweet_are_text(nano_folder, seen, tmp_path, text):
    result = predict.predict(str(nano_folder), text, image=str(photo(tmp_path / "a.png")), device="cpu")
    assert result["entities"]


def test_a_picture_is_drawn_in_the_format_of_its_name_or_refused(tmp_path):
    result = {"entities": []}
    path = photo(tmp_path / "a.png")
    for name, kind in (("b.JPG", "JPEG"), ("b.webp", "WEBP"), ("b", "PNG")):
        predict.draw(result, path, tmp_path / name)
        with Image.open(tmp_path / name) as drawn:
            assert drawn.format == kind
    with pytest.raises(UserError, match=r"no picture can be written as \.docx; choose from .*png"):
        predict.draw(result, path, tmp_path / "b.docx")
