"""Cases of other people's files and habits, where a folder of them lies beside the checkout: data, images,
special tokens, odd names, paths. What each must give is written here by hand, from its `expected.txt`.
"""

import json
import re
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from mcr_lib.answer import parse_answer, write_answer
from mcr_lib.data import load_split, mrsi
from mcr_lib.data.images import image_problem, image_size, open_image
from mcr_lib.data.voc_xml import read_annotation
from mcr_lib.errors import UserError
from mcr_lib.rewards import rewards, written_gold
from mcr_lib.study.commands import cli
from mcr_lib.study.runs import config
from mcr_lib.yardsticks import perfect
from tests.conftest import REPOSITORY

CASES = REPOSITORY.parent / "shared" / "cases"
if not CASES.is_dir():
    pytest.skip(f"no folder of cases at {CASES.parent.name}/{CASES.name} beside the checkout",
        allow_module_level=True)  # fmt: skip

BOXES = {"Sela Brandt": (60, 40, 180, 260)}


def case(number):
    return next(CASES.glob(f"{number}-*"))


@pytest.fixture
def data(tmp_path):
    """A copy of the cases' data set: three tweets of train, one of dev, four of test, with images."""
    root = shutil.copytree(CASES / "_base", tmp_path / "data", copy_function=shutil.copyfile)
    for path in (root, *root.rglob("*")):
        path.chmod(0o755)
    return root


@pytest.fixture
def mcr(capsys, monkeypatch):
    """Run a command in this process: its exit code and what it printed."""
    monkeypatch.setenv("COLUMNS", "300")

    def run(*arguments):
        capsys.readouterr()
        code = cli.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return run


@pytest.fixture
def check(mcr, data):
    return lambda: mcr("data", "check", "twitter-gmner", "--root", data)


def on(data):
    return "--profile", "nano", "--set", "source=twitter-gmner", "--set", f"data_dir={data}"


def put(data, path, id="73001"):
    shutil.copyfile(path, data / "Twitter10000_v2.0" / "xml" / f"{id}.xml")


def test_01_a_float_of_many_decimals_is_read_and_scored(data, check, mcr):
    put(data, case("01") / "73001.xml")
    assert check()[0] == 0
    box = (60.40000152587891, 40.70000076293945, 180.3125, 259.6576232910156)
    tweet = load_split("twitter-gmner", data, split="test")[0]
    assert tweet.entities[0].boxes_xyxy_px == (box,)
    code, said = mcr("score", "--root", data, "--predictions", case("01") / "gold.jsonl", "--resamples", 100)
    assert code == 0, said


@pytest.mark.parametrize("size", ["0", "", "400.0"])
def test_02_the_size_is_that_of_the_image_and_without_it_all_such_files_are_named(data, check, size):
    text = (case("02") / "73001.xml").read_text()
    if size == "400.0":
        text = text.replace("<width>0", "<width>400.0").replace("<height>0", "<height>300.0")
    elif not size:
        text = (case("02") / "nosize.xml").read_text()
    for id in ("73001", "73002"):
        (data / f"Twitter10000_v2.0/xml/{id}.xml").write_text(text)
    code, said = check()
    assert code == 0, said
    assert ("2 × xml without an image size" in said) == (size != "400.0")
    assert load_split("twitter-gmner", data, split="test")[0].image_size_px == (400, 300)
    for id in ("73001", "73002"):
        (data / f"images/{id}.jpg").unlink()
    code, said = check()
    assert (code, "2 tweets: 73001, 73002" in said) == ((0, True) if size == "400.0" else (2, True)), said


@pytest.mark.parametrize("name", ["blank_first", "bom_crlf", "utf16", "part", "name_space", "namespace",
    "lower", "ampersand", "doctype", "empty", "polygon"])  # fmt: skip
def test_04_dialects_of_xml_are_read_or_named_with_what_to_do(data, name):
    path = case("04") / f"{name}.xml"
    refused = {
        "ampersand": "broken XML .*; get the file again", "empty": "broken XML .*; get the file again",
        "blank_first": "broken XML .*; get the file again", "doctype": "declares a DTD .* refused",
        "polygon": "the box of 'Sela Brandt' is missing; expected a <bndbox>",
    }  # fmt: skip
    if name in refused:
        with pytest.raises(UserError, match=rf"{name}.xml, line \d: {refused[name]}"):
            read_annotation(path)
    else:
        ((found, box),) = read_annotation(path).objects
        assert (found.title(), box) == ("Sela Brandt", BOXES["Sela Brandt"])


def test_06_ids_that_splits_share_are_told_loudly(data, check):
    txt = data / "Twitter10000_v2.0/txt"
    shutil.copyfile(txt / "test.txt", txt / "dev.txt")
    code, said = check()
    loud = "DIFFERS  4 × text that occurs in more than one split\nDIFFERS  4 × id that occurs in more than"
    assert (code, loud in said) == (1, True), said


def test_21_a_broken_exif_changes_nothing_but_the_turning():
    paths = sorted(case("21").glob("*.jpg"))
    assert len(paths) == 11
    for path in paths:
        assert image_problem(path) == ((320, 240), None)
        assert open_image(path).size == image_size(path) == (320, 240)
        upright = open_image(path, upright=True).size
        is_odd = path.stem in ("orientation_9", "orientation_text", "rubbish")
        assert upright in ((320, 240), (240, 320))
        assert upright == (320, 240) or not is_odd
    assert open_image(case("21") / "good_6.jpg", upright=True).size == (240, 320)


@pytest.mark.parametrize("name", ["icc_2mb.png", "text_2mb.png"])
def test_22_a_large_profile_or_text_is_no_hindrance(name):
    path = case("22") / name
    assert open_image(path).size == image_size(path) == image_problem(path)[0] == (320, 240)


def test_23_common_files_are_read_and_others_called_what_they_are():
    called = {
        "avif": "an AVIF image", "heic": "a HEIC image", "tiff": "a TIFF image", "svg": "an SVG drawing",
        "html": "a page of HTML", "empty": "an empty file",
    }  # fmt: skip
    paths = [path for path in sorted(case("23").iterdir()) if path.suffix in (".jpg", ".png")]
    assert len(paths) == 17
    for path in paths:
        size, problem = image_problem(path)
        if path.stem in called:
            remedy = "convert it" if path.stem in ("avif", "heic", "tiff", "svg") else "get the image again"
            assert re.fullmatch(f"{called[path.stem]}, which is not read here; {remedy}.*", problem)
            with pytest.raises(UserError, match=called[path.stem]):
                open_image(path)
        elif path.stem != "truncated":
            assert (size, open_image(path).mode) == ((320, 240), "RGB"), path
    with pytest.raises(UserError, match="the image is damaged .*; get it again"):
        open_image(case("23") / "truncated.jpg")


@pytest.fixture
def odd(data, tmp_path):
    """The tweets with odd names."""
    shutil.rmtree(data / "Twitter10000_v2.0")
    shutil.copyfile(case("25") / "make.py", tmp_path / "make.py")
    subprocess.run([sys.executable, "make.py"], cwd=tmp_path, check=True)
    return data


def test_25_names_that_no_chain_can_say_are_left_out_and_perfect_answers_score_100(odd, check, mcr, tmp_path):
    assert check()[0] == 0
    out = tmp_path / "dir with space é"
    code, said = mcr("chains", "build", "--root", odd, "--out", out, "--d1-share", 1)
    assert code == 0, said
    assert "left out, for a name that reads as a tag, a slot or a box: " in said
    assert "4 tweets: 81002, 81003, 81004, 81019" in said
    tweets = load_split("twitter-gmner", odd, split="test")
    rows = [
        {"id": t.id, "coordinate_space": "original_px", "answer": write_answer(perfect(t))} for t in tweets
    ]
    file = tmp_path / "perfect.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for scorer in ("definition", "e2e"):
        code, said = mcr("score", "--root", odd, "--predictions", file, "--scorer", scorer, "--json")
        assert (code, json.loads(said)["gmner"]["f1"]) == (0, 100)


def test_25_what_a_model_is_taught_of_special_tokens_in_a_name_earns_and_scores_100(odd, mcr, tmp_path):
    target, answers = mrsi.Target("qwen2.5-vl", 56 * 56, 200704, "full"), []
    for tweet in load_split("twitter-gmner", odd, split="test"):
        (row,) = mrsi.answer_rows([tweet], target, prompt="direct")
        text = row["completion"][0]["content"][0]["text"]
        assert "<|" not in text + row["prompt"][-1]["content"][-1]["text"]
        gold = written_gold(tweet, "model_px", model_size=target.size(tweet))
        for kind in ("paper", "strict"):
            earned = rewards(parse_answer(text, labels=tweet.labels), gold, kind=kind)
            assert {earned.total([k == one for k in range(5)]) for one in range(5)} == {1}, tweet.id
        space = {"coordinate_space": "model_px", "model_size": target.size(tweet)}
        answers.append(
            {"id": tweet.id, "answer": text}
            | (space if target.size(tweet) else {"coordinate_space": "original_px"})
        )
    file = tmp_path / "taught.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in answers))
    for scorer in ("definition", "e2e"):
        code, said = mcr("score", "--root", odd, "--predictions", file, "--scorer", scorer, "--json")
        assert (code, json.loads(said)["gmner"]["f1"]) == (0, 100)


def test_27_every_suffix_is_seen_in_any_case_and_missing_images_are_named(data, check):
    image, names = data / "images" / "73001.jpg", ("Jpg", "jfif", "webp", "gif", "bmp", "JPG", "jpeg")
    for suffix in names:
        other = image.rename(image.with_name(f"73001.{suffix}"))
        assert "8 present, 0 missing" in check()[1], suffix
        other.rename(image)
    for name in ("73001.jpg.jpg", "73001 (1).jpg", "0073001.jpg"):
        other = image.rename(image.with_name(name))
        assert "no image of 1 tweet: 73001" in check()[1], name
        other.rename(image)
    (data / "images" / "__MACOSX").mkdir()
    (data / "images" / "__MACOSX" / "._73001.jpg").write_bytes(image.read_bytes())
    (data / "images" / "loop").symlink_to("../images")
    code, said = check()
    assert (code, "8 present, 0 missing, 0 unreadable" in said) == (0, True), said


@pytest.mark.parametrize(
    ("pair", "told"),
    [
        ("sft.learning_rate=1,5e-4", "learning_rate of sft is '1,5e-4': input should be a valid number"),
        ("splits=test", "splits is 'test': .* a list such as"), ("version=2", "should be 'v1' or 'v2'"),
        ("bad_images=Skip", "should be 'error' or 'skip'"), ("device=gpu", "should be 'cpu' or 'cuda'"),
        ("settings.mrc.options.beta=0", "did you mean mcr"), ("seed", "expected key=value"),
        ("sft.lora_targets=all-linear", "unknown option"), ("learning_rate=1e-4", "unknown key"),
        ("cvo.reward_weights=1,1,1,1,1", "a list such as"), ("eval_split=validation", "should match"),
        ("chain_styles=[text_first]", "unknown style .*; choose from"), ("quantization=4", "'4bit'"),
    ],
)  # fmt: skip
def test_28_a_slip_in_a_value_is_one_sentence(pair, told):
    with pytest.raises(UserError, match=told):
        config.load("nano", "outputs/x", config.parse_set([pair]))


def test_28_a_power_of_ten_is_a_number():
    loaded = config.load("nano", "outputs/x", config.parse_set(["sft.learning_rate=1e-4"]))
    assert loaded.options["sft"][0].learning_rate == 1e-4


TYPED = ["Sela <|image_pad|> Brandt", "Sela <|im_end|> Brandt", "<|vision_start|><|image_pad|><|vision_end|>",
    "<image> Sela Brandt", "</think> Sela", "<answer>[]</answer> Sela", "שלום כהן", "Cafe\u0301 🎸",
    "two\nlines", "{{ messages }} {% raw %}"]  # fmt: skip


@pytest.mark.nano
def test_32_special_tokens_and_odd_texts_are_text_to_predict(data, mcr, nano_folder):
    image = data / "images" / "73001.jpg"
    for text in TYPED:
        how = ("--model", nano_folder, "--image", image, "--max-new-tokens", 2)
        code, said = mcr("predict", *how, "--text", text)
        assert code == 0, (text, said)


@pytest.mark.nano
def test_33_predict_answers_or_says_what_the_file_is_and_draws_in_the_format_of_the_name(
    data, mcr, nano_folder, tmp_path
):
    how = ("predict", "--model", nano_folder, "--text", "Sela Brandt", "--max-new-tokens", 1)
    good = ["23/mpo.jpg", "23/cmyk.jpg", "23/webp.jpg", "23/grey16.png", "23/palette_alpha.png", "23/la.png",
        "21/rational_minus1_0.jpg", "21/header_twice.jpg", "22/icc_2mb.png"]  # fmt: skip
    for number, name in (each.split("/") for each in good):
        code, said = mcr(*how, "--image", case(number) / name)
        assert code == 0, (name, said)
    bad = {"avif.jpg": "an AVIF image", "heic.jpg": "a HEIC image", "html.jpg": "a page of HTML"}
    for path, told in [
        *((case("23") / name, told) for name, told in bad.items()),
        ("https://example.org/a.jpg", "does not exist"), (data / "images", "a folder, not an image"),
    ]:  # fmt: skip
        code, said = mcr(*how, "--image", path)
        assert (code, told in said) == (2, True), said
    assert mcr(*how, "--image", data / "images" / "73001.jpg", "--draw", tmp_path / "drawn.jpg")[0] == 0
    with Image.open(tmp_path / "drawn.jpg") as drawn:
        assert drawn.format == "JPEG"


@pytest.mark.nano
def test_34_preflight_opens_the_images_and_the_run_agrees(data, mcr, tmp_path):
    own = ("--out", tmp_path / "run")
    code, said = mcr("preflight", *on(data), *own)
    assert (code, "8 tweets, each with its image, all opened" in said) == (0, True), said
    shutil.copyfile(case("22") / "icc_2mb.png", data / "images" / "71003.jpg")
    assert mcr("preflight", *on(data), *own)[0] == 0
    shutil.copyfile(case("23") / "html.jpg", data / "images" / "71003.jpg")
    code, said = mcr("preflight", *on(data), *own)
    assert (code, "71003.jpg: a page of HTML" in said, "bad_images=skip" in said) == (2, True, True), said
    code, said = mcr("sft", *on(data), *own, "--setting", "sft")
    assert (code, "71003.jpg: a page of HTML" in said) == (2, True), said
    shutil.copyfile(CASES / "_base/images/71003.jpg", data / "images" / "71003.jpg")
    Image.new("RGB", (640, 480)).save(data / "images" / "71001.jpg")
    code, said = mcr("preflight", *on(data), *own)
    assert (code, "71001.jpg: 640 x 480 pixels, annotated as" in said) == (2, True), said


@pytest.mark.smoke
def test_29_41_a_part_of_the_data_runs_in_a_long_folder_of_temporary_files(
    data, check, mcr, monkeypatch, tmp_path
):
    code, said = check()
    assert (code, "other data, or a part of those." in said) == (0, True), said
    long = (
        tmp_path / "job-1391630.batch" / "user-name" / "project-name" / ("session-" + "0123456789abcdef" * 4)
    )
    long.mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(long))
    code, said = mcr("run", *on(data), "--only", "01", "--out", tmp_path / "run {1} [b]")
    assert (code, "done in" in said) == (0, True), said
    assert (tmp_path / "run {1} [b]" / "data" / "train.jsonl").is_file()
    assert "expected.json" in (REPOSITORY / "data" / "README.md").read_text()


@pytest.mark.smoke
def test_38_missing_and_broken_images_are_named_and_a_run_may_skip_them(data, check, mcr, tmp_path):
    shutil.copyfile(case("23") / "html.jpg", data / "images" / "71002.jpg")
    shutil.copyfile(case("23") / "heic.jpg", data / "images" / "73003.jpg")
    (data / "images" / "72001.jpg").unlink()
    said = check()[1]
    for told in ("71002.jpg: a page of HTML", "73003.jpg: a HEIC image", "no image of 1 tweet: 72001"):
        assert told in said
    arguments = ("run", *on(data), "--only", "01", "--out", tmp_path / "run")
    code, said = mcr(*arguments)
    assert (code, "skip them with bad_images=skip" in said) == (2, True), said
    assert mcr(*arguments, "--set", "bad_images=skip")[0] == 0


@pytest.mark.smoke
def test_35_papermill_runs_a_notebook_from_any_folder(tmp_path, monkeypatch):
    import papermill
    from jupyter_client.kernelspec import NoSuchKernel

    out = tmp_path / "aus gabe é"
    out.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    notebook = REPOSITORY / "notebooks" / "01_data_preparation.ipynb"
    how = {"parameters": {"profile": "nano", "run": str(tmp_path / "run")}, "progress_bar": False}
    with pytest.raises(NoSuchKernel):
        papermill.execute_notebook(str(notebook), str(out / "02.ipynb"), kernel_name="no-such-kernel", **how)
    papermill.execute_notebook(str(notebook), str(out / "01.ipynb"), kernel_name="python3", **how)
    assert "widgets" not in json.loads((out / "01.ipynb").read_text())["metadata"]
