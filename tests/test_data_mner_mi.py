"""MNER-MI and MNER-MI-Plus: rows as the authors write them, images by the names in the rows."""

import json
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcr_lib import data
from mcr_lib.data import mner_mi
from mcr_lib.data.images import usable_images
from mcr_lib.errors import UserError
from mcr_lib.study import check as checking
from mcr_lib.study.check import check

ROW = {"id": 7, "text": ["hi", "Ada", "Byron"], "images": ["7_0.jpg"], "label": ["O", "B-PER", "I-PER"]}
OF_2017 = {"id": "twitter2017-O_538", "images": ["twitter2017-O_538.jpg"], "label": ["O", "B-MISC", "I-MISC"]}


def read(folder, *rows, version="v1", split="train"):
    """A file of rows (objects, or lines as they are), written and read."""
    lines = [row if isinstance(row, str) else json.dumps({**ROW, "url": "", **row}) for row in rows]
    path = folder / "text" / f"{mner_mi.FILES[version]}_{split}.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return data.read_split("mner-mi", folder, split=split, version=version)


def test_a_row_becomes_an_example_of_span_and_type_without_boxes(tmp_path):
    ((one,), quirks) = read(tmp_path, {})
    assert (one.id, one.source, one.split, one.constraints) == ("7", "mner-mi-v1", "train", ("span", "type"))
    assert [(e.text, e.span, e.type, e.boxes_xyxy_px) for e in one.entities] == [
        ("Ada Byron", (1, 3), "PER", None)
    ]
    assert (one.images, one.labels, quirks) == (("7_0.jpg",), ("PER", "LOC", "ORG", "MIS"), [])


def test_rows_of_twitter_2017_have_mis_for_misc_and_say_so(tmp_path):
    (first, second), quirks = read(tmp_path, {}, OF_2017, version="plus")
    assert (first.source, second.id) == ("mner-mi-plus", "twitter2017-O_538")
    assert [e.type for e in second.entities] == ["MIS"]
    assert [(q.kind, q.where) for q in quirks] == [(mner_mi.MISC, "MNER-UNI_train.txt, line 2")]


def test_a_line_in_pythons_notation_is_read_too(tmp_path):
    assert read(tmp_path, str({**ROW, "url": None})) == read(tmp_path, {})


def test_orphans_empty_tokens_and_tweets_without_image_are_mended_or_told(tmp_path):
    (one,), quirks = read(
        tmp_path, {"text": ["hi", " ", "New  York"], "label": ["O", "O", "I-LOC"], "images": []}
    )
    assert (one.tokens, [e.text for e in one.entities], one.images) == (("hi", "New York"), ["New York"], ())
    assert [q.kind for q in quirks] == ["I- tag without a B- before it (read as B-)", mner_mi.NO_IMAGE]


@pytest.mark.parametrize(
    ("bent", "says"),
    [
        ({"images": [f"7_{k}.jpg" for k in range(5)]}, "tweet 7 has 5 images and 3 tokens; expected up to 4"),
        ({"label": ["O", "B-OTHER", "O"]}, "tag 'B-OTHER' is not O, nor B- or I- with one of PER, LOC, ORG"),
        ({"label": ["O", "B-PER"]}, 'expected a JSON object with "id", "text" and "label" of one length'),
        ({"label": ["O", "", "O"]}, "is not O, nor B- or I-"),
        ({"text": "hi Ada Byron"}, "expected a JSON object"),
        ({"images": "7_0.jpg"}, "expected a JSON object"),
        ({"images": [None]}, "expected a JSON object"),
        ({"id": "../7"}, "id '../7' cannot be a file name"),
        ({"text": [""] * 3}, "tweet 7 has 1 images and 0 tokens"),
        ('{"id": 7, "te', "expected a JSON object"),
        ("7", "expected a JSON object"),
        ("[" * 99_999, "expected a JSON object"),
    ],
)
def test_a_bent_row_is_one_sentence_with_its_line(tmp_path, bent, says):
    with pytest.raises(UserError) as raised:
        read(tmp_path, {"id": 1}, bent)
    assert str(raised.value).startswith(f"{tmp_path}/text/MNER-MI_train.txt, line 2: ")
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_all_bent_rows_are_named_and_a_repeated_id_is_one(tmp_path):
    with pytest.raises(UserError, match=r"line 2: id 7 is repeated.*faults in 2 tweets: line 2, line 3"):
        read(tmp_path, {}, {}, {"label": ["X"] * 3})
    with pytest.raises(UserError, match="holds no tweet"):
        read(tmp_path, "")


def test_a_missing_split_or_version_is_one_sentence_that_says_what_is_there(tmp_path, sample_dir):
    with pytest.raises(UserError, match=r"split 'dev' of mner-mi v1: .*; found train, val, test"):
        data.read_split("mner-mi", sample_dir, split="dev")
    with pytest.raises(UserError, match="holds no text/MNER-UNI_"):
        data.read_split("mner-mi", tmp_path, split="val", version="plus")
    with pytest.raises(UserError, match=r"no version 'v2'; choose one of v1, plus"):
        data.read_split("mner-mi", sample_dir, split="val", version="v2")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["O", *(f"{head}-{label}" for head in "BI" for label in mner_mi.LABELS)])))
def test_tags_that_are_written_from_the_entities_read_back_equal(tags):
    row = {"id": 1, "text": [f"w{k}" for k in range(len(tags) + 1)], "label": [*tags, "O"], "images": []}
    id, tokens, read_tags, images = mner_mi._row(json.dumps(row))
    assert (id, tokens, read_tags, images) == ("1", tuple(row["text"]), row["label"], ())


# --- images
# ----------------------------------------------------------------------------------------------------------


def load(root, split="train", version="v1"):
    examples = data.load_split("mner-mi", root, split=split, version=version, images_dir=root)
    return {example.id: example.images for example in examples}


def test_images_are_found_by_the_names_of_the_rows_in_their_order(sample_dir):
    folder = sample_dir / "Dataset"
    assert load(sample_dir)["103"] == tuple(str(folder / f"images/103_{k}.jpg") for k in range(4))
    plus = load(sample_dir, version="plus")["twitter2017-17_01_7"]
    assert plus == (str(folder / "twitter2017_images" / "17_01_7.jpg"),)
    without = data.load_split("mner-mi", sample_dir, split="train")
    assert all(example.images == () for example in without)


def test_of_several_images_a_missing_one_keeps_its_name_and_stops_who_needs_it(sample_dir, tmp_path):
    shutil.copytree(sample_dir / "Dataset", tmp_path / "Dataset")
    (tmp_path / "Dataset/images/102_1.jpg").unlink()
    (tmp_path / "Dataset/images/104_0.jpg").unlink()
    images = load(tmp_path)
    assert (images["102"][1], images["104"]) == ("102_1", ("104_0",))
    examples = data.load_split("mner-mi", tmp_path, split="train", images_dir=tmp_path)
    with pytest.raises(
        UserError, match="images of 6 tweets: 4 present, 1 missing, 1 unreadable; 102_1: the image"
    ):
        usable_images(examples)
    some, report = usable_images(examples, on_bad_image="skip")
    assert [e.id for e in some] == ["101", "103", "105", "106"]
    assert all(e.image_size_px == (240, 180) for e in some)
    assert report.problems == ("102_1: the image does not exist", "no image of 1 tweet: 104")


def test_an_image_named_like_the_tweet_is_not_taken_for_one_that_the_row_does_not_name(tmp_path, sample_dir):
    shutil.copy(sample_dir / "images" / "100201.jpg", tmp_path / "7.jpg")
    read(tmp_path, {"images": []})
    assert load(tmp_path) == {"7": ()}


def test_a_tweet_that_names_no_image_is_whole_and_not_missing_one(tmp_path):
    read(tmp_path, {"images": []})
    examples = data.load_split("mner-mi", tmp_path, split="train", images_dir=tmp_path)
    some, report = usable_images(examples)
    assert some == examples
    assert (report.counts["missing"], report.counts["without an image, as annotated"]) == (0, 1)


# --- check
# -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v1", "plus"])
def test_the_sample_is_as_its_scenes_say(sample_dir, version):
    report = check("mner-mi", sample_dir, version=version)
    assert (report.differences, report.broken) == ([], [])
    assert set(report.images.counts.values()) == {report.images.n_examples, 0}
    assert report.n_types["MIS"] == report.found["all"]["MIS"] > 0
    assert "boxes" not in report.found["all"]


def test_counts_that_the_paper_prints_are_told_and_stop_nothing(sample_dir, tmp_path, monkeypatch):
    shutil.copytree(sample_dir / "Dataset", tmp_path / "Dataset")
    assert check("mner-mi", tmp_path).differences == [
        "train: tweets is 6, expected 6,856", "val: tweets is 3, expected 860",
        "test: tweets is 3, expected 860",
    ]  # fmt: skip
    almost = {"train": {"tweets": 6}, "val": {"tweets": 3}, "test": {"tweets": 3}, "all": {"tweets": 13}}
    monkeypatch.setitem(checking.PRINTED, "mner-mi-v1", almost)
    report = check("mner-mi", tmp_path)
    assert (report.differences, report.broken) == (["all: tweets is 12, expected 13"], [])
    assert report.verdict.startswith("1 of 4 statistics differ")


def test_a_split_that_is_not_there_is_told_by_the_check(sample_dir, tmp_path):
    shutil.copytree(sample_dir / "Dataset" / "text", tmp_path / "text")
    (tmp_path / "text" / "MNER-MI_val.txt").unlink()
    assert "val: tweets is missing, expected 860" in check("mner-mi", tmp_path).differences
