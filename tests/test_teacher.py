"""The simulated teacher: it says what the picture shows, judges as the gold does, and passes the verifier."""

import re
from dataclasses import replace
from random import Random

import pytest

from mcr_lib import chains, testbed
from mcr_lib.data import mrsi
from mcr_lib.study.tables import mistakes
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


def planted(kind, chain, example, rng):
    """The text of a teacher's chain with one error, as a teacher might make it; `None` if it has no room."""
    head, _, tail = chain.text.partition(" . ")
    claims = [claim for claim in tail.split(" ;") if claim.strip()]
    if not example.entities:
        return None
    k = rng.randrange(len(claims))
    if kind == "wrong type":
        own = example.entities[k].type
        other = rng.choice([label for label in example.labels if label != own])
        claims[k] = claims[k].replace(f" : {own} ,", f" : {other} ,")
    elif kind == "dropped entity":
        del claims[k]
    elif kind == "added entity":
        used = {word for entity in example.entities for word in entity.text.split()}
        name = rng.choice([token for token in example.tokens if token not in used])
        claims.insert(k, re.sub('"[^"]+"', f'"{name}"', claims[k]))
    elif kind == "swapped slots":
        shown = [i for i, claim in enumerate(claims) if "[[" in claim]
        if len(shown) < 2:
            return None
        a, b = rng.sample(shown, 2)
        slots = [re.search(r"\[\[box \d\]\]", claims[i]).group() for i in (a, b)]
        claims[a], claims[b] = (claims[i].replace(*pair) for i, pair in ((a, slots), (b, slots[::-1])))
    elif "missing" in claims[k]:
        claims[k] = re.sub("missing , not shown , no box", "found top left , shown at [[box 1]]", claims[k])
    else:
        claims[k] = re.sub(r"found .*", "missing , not shown , no box", claims[k])
    return head + " . " + "".join(f"{claim} ;" for claim in claims)


@pytest.mark.parametrize("kind", mistakes.PLANTED)
def test_planted_errors_in_its_chains_are_rejected(kind):
    rng, flaws = Random(0), []
    for k in range(600):
        example = testbed.make("gmner", "train", k).example
        (chain,) = mrsi.build_chains([(example, "distill")], seed=0, teacher=teacher.say).chains
        text = planted(kind, chain, example, rng)
        if text is not None:
            assert text != chain.text
            flaws.append(chains.check(replace(chain, text=text), example))
    assert len(flaws) > 60
    assert flaws.count(None) <= 0.01 * len(flaws)


def test_a_teacher_that_errs_is_caught():
    example = testbed.make("gmner", "train", 0).example

    def wrong(tweet):
        return re.sub("missing , not shown , no box", "found top left , shown", teacher.say(tweet))

    tweets = (testbed.make("gmner", "train", k).example for k in range(50))
    absent = next(e for e in tweets if any(not x.is_groundable for x in e.entities))
    with pytest.raises(ValueError, match="does not pass the verifier"):
        mrsi.build_chains([(absent, "distill")], seed=0, teacher=wrong)
    assert mrsi.build_chains([(example, "terse")], seed=0, teacher=wrong).chains
