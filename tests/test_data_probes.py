"""Probes: what each leaves of text, image and gold, on tweets small enough to check by eye; determinism; real
annotation.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from mcr_lib import bias, data, yardsticks
from mcr_lib.data import probes
from mcr_lib.data.images import open_image
from mcr_lib.errors import UserError
from mcr_lib.metrics import judge
from mcr_lib.schema import Entity, Example, ImageOnly
from mcr_lib.testbed import folder
from mcr_lib.testbed.bait import baited
from mcr_lib.testbed.world import BY_NAME

LABELS = ("PER", "LOC", "ORG", "OTHER")
WHITE, RED, BLUE = (255, 255, 255), (200, 0, 0), (0, 0, 200)
# Ada red at pixels 10..19, Oslo blue at 60..79 of an image of 100 x 80; Bob is named and not shown
ADA, OSLO = (11, 11, 20, 20), (61, 41, 80, 60)
TEXT = ("Hey", "@", "Ada", "and", "Bob", ",", "Ada", "in", "Oslo", "!")
TWEET = Example(
    "t1", "demo", "test", TEXT,
    (
        Entity("Ada", 2, 3, "PER", (ADA,)), Entity("Bob", 4, 5, "PER", ()),
        Entity("Ada", 6, 7, "PER", (ADA,)), Entity("Oslo", 8, 9, "LOC", (OSLO,)),
    ),
    LABELS, image_size_px=(100, 80), image_only=(),
)  # fmt: skip
NAMES = {"PER": ("Ada Byron", "Bob", "Eve Adams"), "LOC": ("Oslo Fjord", "Rome")}


def picture():
    image = Image.new("RGB", (100, 80), WHITE)
    image.paste(RED, (10, 10, 20, 20))
    image.paste(BLUE, (60, 40, 80, 60))
    return image


@pytest.fixture(scope="module")
def tweet(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "t1.png"
    picture().save(path)
    return replace(TWEET, images=(str(path),))


def shown(id, *things, labels=LABELS, images=("x.png",)):
    """A tweet that names and shows these (name, type)."""
    tokens = tuple(name for name, _ in things)
    entities = tuple(Entity(name, k, k + 1, type_, ((1, 1, 5, 5),)) for k, (name, type_) in enumerate(things))
    return Example(
        id, "demo", "test", tokens, entities, labels, images=images, image_size_px=(9, 9), image_only=()
    )


def test_probes_apply_where_an_image_shows_something_that_is_named(tweet):
    assert probes.applies(tweet)
    assert not probes.applies(TWEET)  # no image
    assert not probes.applies(probes.blanked(tweet))


def test_a_blank_image_grounds_nothing_and_leaves_the_text(tweet):
    (probe,) = probes.make("blank_mean", [tweet], tweet.images[0] + ".d")
    assert (probe.example.id, probe.example.tokens, probe.changed) == ("t1", TEXT, ())
    assert [e.boxes_xyxy_px for e in probe.example.entities] == [(), (), (), ()]
    assert probe.example.image_only == ()
    # 100 red and 400 blue of 8,000 pixels: (7500·255 + 100·200) / 8000 = 241.6; 7500·255 / 8000 = 239.1; +
    # 400·200 / 8000 = 249.1
    assert open_image(probe.example.images[0]).getcolors() == [(8000, (242, 239, 249))]


@pytest.mark.parametrize("kind", ["mean", "noise", "blur"])
def test_no_edge_of_what_was_shown_is_left_in_a_blank_image(kind):
    image = picture()
    blank = probes.blank_image(image, kind, Random(0))
    assert blank.size == image.size
    pixels = np.asarray(blank).astype(int)
    if kind == "noise":
        cells = pixels[::8, ::8]  # 10 lines of 13 cells, the last one cut
        assert (np.repeat(np.repeat(cells, 8, axis=0), 8, axis=1)[:80, :100] == pixels).all()
        assert len({tuple(cell) for cell in cells.reshape(-1, 3)}) > 100
        assert cells.std() == pytest.approx(
            np.asarray(image).std(), rel=0.4
        )  # as varied as the image, but for what is clipped
        assert (np.asarray(probes.blank_image(image, kind, Random(0))) == pixels).all()
    else:
        steps = max(np.abs(np.diff(pixels, axis=0)).max(), np.abs(np.diff(pixels, axis=1)).max())
        assert steps <= 4  # the picture itself has steps of 255


def test_a_swapped_image_shows_nothing_of_which_a_word_is_in_the_text():
    rome, ada = shown("rome", ("Rome", "LOC")), shown("ada", ("Ada", "PER"))
    eve, kit = shown("eve", ("Eve", "PER")), shown("kit", ("Kit", "ORG"))
    may = {
        d.id: [probes.may_swap(TWEET, d, is_hard=hard) for hard in (True, False)]
        for d in (rome, ada, eve, kit)
    }
    # the tweet's groundable entities are a PER and a LOC
    assert may == {"rome": [True, False], "ada": [False, False], "eve": [True, False], "kit": [False, True]}
    assert not probes.may_swap(TWEET, replace(kit, images=()), is_hard=False)
    assert not probes.may_swap(TWEET, replace(kit, id="t1"), is_hard=False)
    assert not probes.may_swap(TWEET, probes.blanked(kit), is_hard=False)  # shows nothing
    mixed = replace(kit, image_only=(ImageOnly("Zoe", "PER", ((1, 1, 2, 2),)),))
    assert probes.may_swap(TWEET, mixed, is_hard=True)
    new = probes.swapped(TWEET, mixed)
    assert (new.images, new.image_size_px, [t.text for t in new.image_only]) == (
        ("x.png",),
        (9, 9),
        ["Kit", "Zoe"],
    )
    assert not any(e.boxes_xyxy_px for e in new.entities)
    assert probes.swapped(TWEET, replace(kit, image_only=None)).image_only is None  # unknown stays unknown


def test_muting_takes_every_mention_of_what_is_shown_and_keeps_the_spans_of_the_rest():
    edit = probes.muted(TWEET)
    assert (
        edit.example.text == "Hey someone and Bob , someone in this place !"
    )  # the sign of the handle goes with it
    assert edit.example.entities == (Entity("Bob", 3, 4, "PER", ()),)
    assert [thing.text for thing in edit.example.image_only] == ["Ada", "Oslo"]
    assert [e.text for e in edit.changed] == ["Ada", "Ada", "Oslo"]


def test_where_a_word_of_a_muted_name_is_left_nothing_is_muted():
    assert probes.muted(replace(TWEET, tokens=(*TEXT[:-1], "#oslo"))) is None
    fine = replace(
        TWEET,
        labels=(*LABELS, "musician"),
        entities=(replace(TWEET.entities[0], type="musician"), *TWEET.entities[1:]),
    )
    assert probes.muted(fine).example.tokens[1] == "someone"  # a fine type of PER


def test_a_muted_tweet_on_a_blank_image_shows_nothing(tweet, tmp_path):
    (probe,) = probes.make("mute_blank", [tweet], tmp_path)
    assert (probe.example.text, probe.example.image_only) == (probes.muted(TWEET).example.text, ())
    assert len(open_image(probe.example.images[0]).getcolors()) == 1
    assert probe.example.images[0] == str(tmp_path / "mute_blank" / "t1.png")


def test_an_erased_entity_is_painted_over_to_the_pixel_and_the_others_stay():
    tweet = replace(TWEET, entities=TWEET.entities[:3])  # Ada alone is shown
    edit = probes.erased(tweet, picture(), Random(0))
    assert [e.boxes_xyxy_px for e in edit.example.entities] == [(), (), ()]
    assert [e.text for e in edit.changed] == ["Ada", "Ada"]
    counts = {colour: n for n, colour in edit.image.getcolors()}
    # the rest is 7,500 white and 400 blue of 7,900: mean (242, 242, 252)
    assert counts == {WHITE: 7500, BLUE: 400, (242, 242, 252): 100}
    both = {tuple(e.text for e in probes.erased(TWEET, picture(), Random(k)).changed) for k in range(9)}
    assert both == {("Ada", "Ada"), ("Oslo",)}
    oslo = next(
        e for k in range(9) if (e := probes.erased(TWEET, picture(), Random(k))).changed[0].text == "Oslo"
    )
    assert [e.boxes_xyxy_px for e in oslo.example.entities] == [(ADA,), (), (ADA,), ()]


def test_nothing_is_erased_that_would_take_another_entity_with_it():
    entities = (Entity("Ada", 2, 3, "PER", ((1, 1, 100, 80),)), TWEET.entities[1], TWEET.entities[3])
    tweet = replace(TWEET, entities=entities)
    # Oslo covers 361 of Ada's 7,821 px², less than a tenth; Ada covers all of Oslo
    assert {probes.erased(tweet, picture(), Random(k)).changed[0].text for k in range(9)} == {"Oslo"}
    alike = replace(tweet, entities=(Entity("Ada", 2, 3, "PER", (OSLO,)), *entities[1:]))
    assert probes.erased(alike, picture(), Random(0)) is None


def test_a_renamed_entity_has_a_name_of_its_type_that_neither_text_nor_image_holds():
    for k in range(20):
        edit = probes.renamed(TWEET, NAMES, Random(k))
        names = [(e.text, e.span, e.boxes_xyxy_px) for e in edit.example.entities]
        if edit.changed[0].text == "Ada":  # Ada Byron shares a word, Bob is in the text
            assert edit.example.text == "Hey Eve Adams and Bob , Eve Adams in Oslo !"
            assert names == [
                ("Eve Adams", (1, 3), ()),
                ("Bob", (4, 5), ()),
                ("Eve Adams", (6, 8), ()),
                ("Oslo", (9, 10), (OSLO,)),
            ]
        else:
            assert edit.example.text == "Hey @ Ada and Bob , Ada in Rome !"
            assert names[3] == ("Rome", (8, 9), ())
        assert edit.example.image_only == (
            ImageOnly(edit.changed[0].text, edit.changed[0].type, edit.changed[0].boxes_xyxy_px),
        )
    assert probes.renamed(TWEET, {"PER": ("Bob",)}, Random(0)) is None
    eve_is_shown = replace(
        TWEET, entities=TWEET.entities[:1], image_only=(ImageOnly("Eve", "PER", ((1, 1, 2, 2),)),)
    )
    assert probes.renamed(eve_is_shown, {"PER": ("Eve Adams",)}, Random(0)) is None


def test_training_names_are_sorted_by_type_without_handles():
    handle = shown("h", ("@", "OTHER"), ("Zed", "PER"))
    handle = replace(handle, entities=handle.entities[1:])
    found = probes.training_names(
        [handle, shown("a", ("Zoe", "PER"), ("Ann", "PER"), ("Rome", "LOC")), shown("b", ("Ann", "PER"))]
    )
    assert found == {"PER": ("Ann", "Zoe"), "LOC": ("Rome",)}


def test_bait_is_drawn_into_free_ground_and_changes_no_box():
    for k in range(20):
        edit = baited(TWEET, picture(), Random(k))
        assert edit.example.entities == TWEET.entities
        (bait,) = edit.example.image_only
        ((x1, y1, x2, y2),) = bait.boxes_xyxy_px
        assert bait.type == BY_NAME[bait.text].type == "PER"  # that of Bob, who is named and not shown
        before, after = np.asarray(picture()).astype(int), np.asarray(edit.image).astype(int)
        ys, xs = np.nonzero((before != after).any(axis=2))
        assert (x1, y1) <= (xs.min() + 1, ys.min() + 1)
        assert (xs.max() + 1, ys.max() + 1) <= (x2, y2)
        assert xs.max() - xs.min() >= 24  # an emblem touches all four sides of its box
        assert 28 <= x2 - x1 + 1 <= 44
        for box in (ADA, OSLO):
            assert max(box[0], x1) > min(box[2], x2) or max(box[1], y1) > min(box[3], y2)
    assert baited(replace(TWEET, image_only=None), picture(), Random(0)) is None
    assert baited(TWEET, picture().crop((0, 0, 30, 30)), Random(0)) is None  # Ada is in the way


def test_the_right_answer_to_a_probe_is_clean_and_that_to_the_original_is_not(testbed):
    original = {e.id: e for e in testbed.chosen}
    for variant in probes.VARIANTS:
        made = testbed.make(variant)
        assert len(made) >= 10, variant
        for probe in made:
            assert bias.fault(judge(probe.example, yardsticks.perfect(probe.example))) is None
            stale = bias.fault(judge(probe.example, yardsticks.perfect(original[probe.example.id])))
            if variant == "add_bait":
                assert stale is None
            else:
                assert stale == (
                    "name not in the text"
                    if variant in ("mute", "mute_blank", "rename")
                    else "box not wanted"
                ), variant
        assert {p.example.id for p in made} <= set(original)
        assert all(open_image(p.example.images[0]).size == p.example.image_size_px for p in made)


def test_a_probe_is_a_function_of_seed_and_id(testbed, tmp_path):
    for variant in probes.VARIANTS:
        forward, backward = (
            testbed.make(variant),
            testbed.make(variant, examples=testbed.chosen[::-1], pool=testbed.examples[::-1]),
        )
        assert [p.example for p in forward] == [p.example for p in backward[::-1]]
    assert probes.choose(testbed.examples[::-1], 5, seed=1) == probes.choose(testbed.examples, 5, seed=1)
    assert probes.choose(testbed.examples, 5, seed=1) != probes.choose(testbed.examples, 5, seed=2)
    assert [p.example for p in testbed.make("rename")] != [p.example for p in testbed.make("rename", seed=1)]


def test_an_id_that_is_no_file_name_is_told_and_an_unknown_probe_too(tweet, tmp_path):
    with pytest.raises(UserError, match=r"tweet id '\.\./t1' cannot be the name of an image"):
        probes.make("erase", [replace(tweet, id="../t1")], tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="unknown probe 'blanc'"):
        probes.make("blanc", [tweet], tmp_path)


def test_text_probes_of_real_tweets_keep_every_span(real):
    tweets = [replace(e, images=("x",)) for e in real("test")[::5] if e.image_size_px]
    names = probes.training_names(real("test"))
    n_muted = n_renamed = 0
    for tweet in filter(probes.applies, tweets):
        n_shown = sum(bool(e.is_groundable) for e in tweet.entities)
        if edit := probes.muted(tweet):  # the constructor of Example checks each span
            n_muted += 1
            assert len(edit.example.entities) == len(tweet.entities) - n_shown
            assert edit.example.image_only is None
        if edit := probes.renamed(tweet, names, Random(tweet.id)):
            n_renamed += 1
            assert len(edit.example.entities) == len(tweet.entities)
            assert sum(bool(e.is_groundable) for e in edit.example.entities) == n_shown - len(edit.changed)
    assert min(n_muted, n_renamed) > 130  # of 165


@dataclass
class Sixteen:
    """Sixteen tweets of a small testbed to which probes apply."""

    root: Path
    examples: list
    chosen: list
    names: dict

    def make(self, variant, examples=None, pool=None, seed=0):
        given = {"pool": pool or self.examples, "names": self.names, "seed": seed}
        return probes.make(variant, examples or self.chosen, self.root / "probes", bait=baited, **given)


@pytest.fixture(scope="module")
def testbed(tmp_path_factory):
    root = tmp_path_factory.mktemp("testbed")
    folder.write(root, "test", 40)
    examples = data.load_split("testbed", root, split="test", images_dir=root)
    return Sixteen(root, examples, probes.choose(examples, 16, seed=0), probes.training_names(examples))
