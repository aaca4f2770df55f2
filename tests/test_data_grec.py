"""gRefCOCO: an expression is an example with one entity; its target is a box or none."""

import json
import math
import shutil
import time

import pytest

from benchmarks import grec_files
from mcr_lib import data
from mcr_lib.data import grec, mrsi
from mcr_lib.errors import UserError
from mcr_lib.study.check import PRINTED, check, quirks_by_kind
from mcr_lib.study.tables import facts


@pytest.fixture
def bend(sample_dir, tmp_path):
    """A copy of the sample whose two files a function changes, read again."""
    shutil.copytree(sample_dir / "grefcoco", tmp_path / "grefcoco")

    def read(change, split="train"):
        paths = [tmp_path / "grefcoco" / name for name in (grec.REFS, grec.INSTANCES)]
        refs, coco = (json.loads(path.read_text()) for path in paths)
        change(refs, coco)
        for path, value in zip(paths, (refs, coco), strict=True):
            path.write_text(json.dumps(value))
        return data.read_split("grec", tmp_path, split=split)

    return read


def test_an_expression_is_an_example_whose_one_entity_is_given(sample_dir):
    examples, _ = data.read_split("grec", sample_dir, split="train")
    first = examples[0]
    assert (first.id, first.text, first.constraints) == ("0_0", "woman in orange", ("groundable", "box"))
    (entity,) = first.entities
    assert (entity.text, entity.span, entity.type) == ("woman in orange", (0, 3), None)
    assert entity.boxes_xyxy_px == ((20, 40, 80, 160),)  # xywh 20, 40, 60, 120
    assert (first.images, first.image_size_px) == (("COCO_train2014_000000000101.jpg",), (240, 180))
    assert examples[1].id == "0_1", "the second expression of the ref"
    none = next(e for e in examples if e.text == "a red car")
    assert none.entities[0].boxes_xyxy_px == ()
    assert none.entities[0].is_groundable is False


def test_expressions_with_several_targets_are_left_out_and_counted(sample_dir):
    examples, quirks = data.read_split("grec", sample_dir, split="val")
    assert [e.text for e in examples] == ["tall grey building", "man on the mountain"]
    assert [(q.kind, q.what) for q in quirks] == [(grec.SEVERAL, "the tower and the mountain")]


def test_a_target_that_is_no_list_is_read_as_one(bend):
    def as_numbers(refs, coco):
        for ref in refs:
            if len(ref["ann_id"]) == 1:
                ref["ann_id"] = ref["ann_id"][0]

    before = bend(lambda refs, coco: None)
    assert bend(as_numbers) == before


def test_a_box_is_cut_at_the_edges_and_told(bend):
    (first, *_), quirks = bend(lambda refs, coco: coco["annotations"][0].update(bbox=[-1.5, 40, 300, 120.25]))
    assert first.entities[0].boxes_xyxy_px == ((0, 40, 240, 160.25),)
    assert [q.kind for q in quirks if q.kind == grec.CUT] == [grec.CUT] * 2  # two expressions of one target


@pytest.mark.parametrize(
    "box", [[20, 40, 0, 120], [20, 40, -5, 120], [240, 40, 5, 5], [20, 40, 60], [20, 40, 60, "x"],
            [20, 40, math.nan, 120], None, 7],
)  # fmt: skip
def test_a_box_without_area_is_one_sentence_that_names_annotation_and_expression(bend, box):
    with pytest.raises(UserError) as raised:
        bend(lambda refs, coco: coco["annotations"][0].update(bbox=box))
    said = str(raised.value)
    assert "instances.json: expression 0_0 needs a box x, y, width, height with an area" in said
    assert "annotation 1010, found" in said
    assert said.endswith("in an image of 240 x 180; there are faults in 2 tweets: 0_0, 0_1")


BENT = [
    (lambda refs, coco: coco["images"].pop(0), "lacks the image 101, which expression 0_0 needs"),
    (lambda refs, coco: coco["annotations"].pop(0), "with an area for annotation 1010, found None"),
    (lambda refs, coco: coco["images"][1].update(width=0), "size of an image"),
    (lambda refs, coco: coco["images"][1].update(height="180"), "expected COCO's images"),
    (lambda refs, coco: coco.pop("annotations"), "expected COCO's images"),
    (lambda refs, coco: refs[1].pop("ann_id"), "ref 2: expected a list of objects with ref_id, split"),
    (lambda refs, coco: refs[1].update(ann_id=[]), "ref 2: expected"),
    (lambda refs, coco: refs[1].update(ann_id=[[1]]), "ref 2: expected"),
    (lambda refs, coco: refs[1].update(sentences="x"), "ref 2: expected"),
    (lambda refs, coco: refs.insert(0, 3), "ref 1: expected"),
    (lambda refs, coco: refs[0]["sentences"][0].update(sent=" "), "expression 0_0 has no words"),
    (lambda refs, coco: refs[0]["sentences"].insert(0, {}), "expression 0_0 has no words"),
    (lambda refs, coco: refs[0].update(ref_id="../x"), "an id that cannot be a file name"),
]


@pytest.mark.parametrize(("change", "says"), BENT)
def test_a_bent_file_is_one_sentence(bend, change, says):
    with pytest.raises(UserError) as raised:
        bend(change)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_missing_files_and_splits_are_one_sentence_and_pickles_are_never_read(tmp_path, sample_dir):
    with pytest.raises(UserError, match=r"no expression of it; found train, val, testA, testB"):
        data.read_split("grec", sample_dir, split="test")
    with pytest.raises(UserError, match=r"holds no grefcoco/grefs\(unc\).json"):
        data.read_split("grec", tmp_path, split="train")
    (tmp_path / "grefcoco").mkdir()
    (tmp_path / "grefcoco" / "grefs(unc).p").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(UserError, match="is a pickle, which can run code and is never read"):
        data.read_split("grec", tmp_path, split="train")
    (tmp_path / "grefcoco" / grec.REFS).write_text("[")
    with pytest.raises(UserError, match=r"instances.json does not exist"):
        data.read_split("grec", tmp_path, split="train")
    (tmp_path / "grefcoco" / grec.INSTANCES).write_text('{"images": [], "annotations": []}')
    with pytest.raises(UserError, match=r"grefs\(unc\).json: not JSON"):
        data.read_split("grec", tmp_path, split="train")


def test_a_changed_file_is_read_anew(bend):
    before, _ = bend(lambda refs, coco: None)
    after, _ = bend(lambda refs, coco: refs[0]["sentences"][0].update(sent="the lady"))
    assert (before[0].text, after[0].text) == ("woman in orange", "the lady")


def test_images_of_coco_are_found_at_any_depth(sample_dir, tmp_path):
    images = [e.images for e in data.load_split("grec", sample_dir, split="testA", images_dir=sample_dir)]
    name = "images/train2014/COCO_train2014_000000000104.jpg"
    assert images == [(str(sample_dir / name),)] * 2
    shutil.copytree(sample_dir / "images" / "train2014", tmp_path / "a" / "b")
    again = data.load_split("grec", sample_dir, split="testA", images_dir=tmp_path)
    assert again[0].images == (str(tmp_path / "a" / "b" / name.split("/")[-1]),)
    assert data.load_split("grec", sample_dir, split="testA")[0].images == ()


def test_14000_are_drawn_by_seed_whatever_the_order(sample_dir):
    examples = data.load_split("grec", sample_dir, split="train")
    drawn = mrsi.draw(examples, n=3, seed=1)
    assert [e.id for e in drawn] == [e.id for e in examples if e in drawn]
    assert {e.id for e in drawn} == {e.id for e in mrsi.draw(examples[::-1], n=3, seed=1)}
    assert set(mrsi.draw(examples, n=2, seed=1)) < set(drawn)
    assert len({tuple(e.id for e in mrsi.draw(examples, n=3, seed=seed)) for seed in range(9)}) > 1
    assert mrsi.draw(examples, n=99, seed=1) == examples


# --- check
# -----------------------------------------------------------------------------------------------------------


def test_the_sample_is_as_its_scenes_say(sample_dir):
    report = check("grec", sample_dir)
    assert (report.differences, report.broken) == ([], [])
    assert report.images.counts["present"] == report.images.n_examples == 13
    assert report.found["testA + testB"]["tweets"] == 5


def test_what_differs_from_the_papers_table_is_told_and_stops_nothing(sample_dir, tmp_path):
    shutil.copytree(sample_dir / "grefcoco", tmp_path / "grefcoco")
    report = check("grec", tmp_path)
    assert report.differences == [
        "train: drawn is 6, expected 14,000",
        "val: tweets is 2, expected 5,309",
        "testA + testB: tweets is 5, expected 19,066",
    ]
    assert (report.broken, report.images.counts["missing"]) == ([], 13)
    table = facts.table("T7")
    printed = {name: [n for of in PRINTED[name].values() for n in of.values()] for name in PRINTED}
    assert [*table["GREC"].values()] == printed["grec-v1"]
    assert [*table["MNER-MI"].values()] == printed["mner-mi-v1"]


def test_the_same_words_about_another_image_are_no_leak(bend, tmp_path):
    def repeated(refs, coco):
        refs[0]["sentences"][0]["sent"] = "left one"
        refs[6]["sentences"][0]["sent"] = "left one"  # val, another image
        refs[2]["sentences"][0]["sent"] = refs[3]["sentences"][0]["sent"] = "the one"

    bend(repeated)
    kinds = quirks_by_kind(check("grec", tmp_path).quirks)
    assert "text that occurs in more than one split" not in kinds
    bend(lambda refs, coco: refs[6].update(image_id=101, ann_id=[-1]))
    (leak,) = quirks_by_kind(check("grec", tmp_path).quirks)["text that occurs in more than one split"]
    assert leak.what == "left one"


def test_reading_takes_time_in_proportion_to_the_expressions(tmp_path):
    """A part of the release in three times its share of the limit; benchmarks/bench.py reads all of it."""
    n = 4_200
    grec_files.write(tmp_path, n)
    began = time.process_time()
    report = check("grec", tmp_path)
    assert time.process_time() - began < 3 * 20 * n / 210_000
    assert len(report.quirks) + report.found["all"]["tweets"] == n
