"""The simulated teacher: it says what the picture shows, judges as the gold does, and passes the verifier."""

import re

import pytest

from mcr_lib import chains, testbed
from mcr_lib.data import mrsi
from mcr_lib.testbed import teacher
from mcr_lib.testbed.world import BY_NAME


@pytest.mark.parametrize("distribution", testbed.DISTRIBUTIONS)
def test_its_chains_say_the_gold_and_every_emblem_of_the_picture(distribution):
    for k in range(300):
        item = testbed.make(distribution, "train", k)
        (chain,) = mrsi.build_chains([(item.example, "distill")], seed=0, teacher=teacher.say).chains
        assert (chain.source, chains.check(chain, item.example)) == ("mllm", None)
        listed = chain.text.split(" . ")[0].removeprefix("picture : ").removesuffix(" .")
        looks = (
            [" ".join(text.split()[2:]) for text in listed.split(" ; ")] if listed != teacher.EMPTY else []
        )
        assert sorted(looks) == sorted(teacher.look(shown.name) for shown in item.scene.shown)


def test_where_an_emblem_stands_is_the_ninth_of_its_centre():
    assert teacher.place((1, 1, 30, 30), (90, 90)) == "top left"
    assert teacher.place((31, 31, 60, 60), (90, 90)) == "middle centre"
    assert teacher.place((61, 61, 90, 90), (90, 90)) == "bottom right"


def test_no_two_beings_look_alike_in_its_words():
    assert len({teacher.look(name) for name in BY_NAME}) == len(BY_NAME)


def test_other_styles_stay_templates():
    example = testbed.make("gmner", "train", 0).example
    pairs = [(example, "terse"), (example, "distill")]
    built = mrsi.build_chains(pairs, seed=0, teacher=teacher.say).chains
    assert [chain.source for chain in built] == ["template", "mllm"]
    assert built[0] == mrsi.build_chains(pairs[:1], seed=0).chains[0]


def test_a_teacher_that_errs_is_caught():
    example = testbed.make("gmner", "train", 0).example

    def wrong(tweet):
        return re.sub("missing , not shown , no box", "found top left , shown", teacher.say(tweet))

    tweets = (testbed.make("gmner", "train", k).example for k in range(50))
    absent = next(e for e in tweets if any(not x.is_groundable for x in e.entities))
    with pytest.raises(ValueError, match="does not pass the verifier"):
        mrsi.build_chains([(absent, "distill")], seed=0, teacher=wrong)
    assert mrsi.build_chains([(example, "terse")], seed=0, teacher=wrong).chains
