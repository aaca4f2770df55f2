"""README's picture: which tweet is chosen, what is drawn of it, and that flawed reasoning is called so."""

import json

import pytest

from mcr_lib.data import load_split
from mcr_lib.data.predictions import write_predictions
from mcr_lib.errors import UserError
from mcr_lib.study.runs import prepare
from mcr_lib.study.runs.artifacts import RunFolder
from tools import picture


def written(tweet, *, all_boxed=False, think=""):
    """A row of predictions: the gold answer, or one that boxes every entity."""
    first = next(box for entity in tweet.entities for box in entity.boxes_xyxy_px)
    boxes = [e.boxes_xyxy_px[0] if e.boxes_xyxy_px else first if all_boxed else None for e in tweet.entities]
    items = [
        {"entity": e.text, "type": e.type, "bbox_2d": box and [int(value) for value in box]}
        for e, box in zip(tweet.entities, boxes, strict=True)
    ]
    reasoning = f"<think> {think} </think>\n" if think else ""
    answer = f"{reasoning}<answer>{json.dumps(items)}</answer>"
    return {"id": tweet.id, "answer": answer, "coordinate_space": "original_px"}


def stated(tweet):
    """Reasoning that states the gold answer."""
    clauses = []
    for entity in tweet.entities:
        box = [int(value) for value in entity.boxes_xyxy_px[0]] if entity.boxes_xyxy_px else None
        where = f"shown at {box}" if box else "not shown, no box"
        clauses.append(f'"{entity.text}" : {entity.type}, {where} ;')
    return " ".join(clauses)


@pytest.fixture
def run(sample_dir, tmp_path):
    """A run folder with the tweets of the sample, and `answer` to write the answers of both settings."""
    folder = RunFolder(tmp_path)
    images = {"images_dir": sample_dir}
    tweets = [t for t in load_split("twitter-gmner", sample_dir, split="test", **images) if t.entities]
    prepare.write_examples(folder, {"test": tweets})

    def answer(thinks, wrong=()):
        of_base = [written(t, all_boxed=True) for t in tweets]
        of_mcr = [written(t, all_boxed=t.id in wrong, think=thinks.get(t.id, "nothing")) for t in tweets]
        for name, rows in (("base", of_base), ("mcr", of_mcr)):
            write_predictions(folder.predictions(f"{name}.test"), rows)
        return folder

    answer.tweets = {tweet.id: tweet for tweet in tweets}
    return answer


def test_a_tweet_whose_reasoning_states_its_answer_comes_first(run):
    chosen = picture.choose(run({"300404": stated(run.tweets["300404"])}), "test")
    assert chosen.example.id == "300404"
    # of the seven tweets 300401 and 300403 show all they name; the base boxes an absent entity of the others
    facts = {"absent": ["Norvik United"], "flaw": None, "n_like_it": 5, "n_like_it_faithful": 1}
    assert facts.items() <= chosen.facts.items()
    assert chosen.claimed == []


def test_without_one_the_fewest_names_then_an_absent_person_count_and_the_flaw_is_kept(run):
    chosen = picture.choose(run({}), "test")
    assert (
        chosen.example.id == "16_07_01_6"
    )  # two names, as in 300402, where what is absent is an organisation
    assert chosen.facts["flaw"] == "missing_name"
    assert chosen.facts["n_like_it_faithful"] == 0


def test_boxes_of_the_reasoning_that_the_answer_lacks_are_drawn_and_said(run):
    think = stated(run.tweets["300402"]).replace("not shown, no box", "shown at [1, 2, 30, 40]")
    chosen = picture.choose(run({"300402": think}, wrong=[*{*run.tweets} - {"300402"}]), "test")
    assert chosen.claimed == [(1.0, 2.0, 30.0, 40.0)]
    figure = picture.draw(chosen, "a note")
    left, right = figure.axes
    assert "in the reasoning only" not in [text.get_text() for text in left.texts]
    assert "in the reasoning only" in [text.get_text() for text in right.texts]
    said = [text.get_text() for text in figure.texts]
    assert "✗ ORG Norvik United: boxed, but not in the picture" in said
    assert "✓ ORG Norvik United: not in the picture" in said
    assert "✗ the reasoning names a box that the answer does not give" in " ".join(said)
    assert all(text.get_fontsize() >= 8 for text in (*figure.texts, *left.texts, *right.texts))


def test_a_run_without_such_a_tweet_is_told_so(run):
    with pytest.raises(UserError, match="no tweet of test is answered rightly after MCR"):
        picture.choose(run({}, wrong=[*run.tweets]), "test")
