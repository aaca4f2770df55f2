"""What a setting is shown: one half of a tweet, in training as in answering, while its gold stays that of the
whole.
"""

from dataclasses import replace

import pytest
from PIL import Image

from mcr_lib import prompts
from mcr_lib.data import modality
from mcr_lib.data.predictions import read_predictions
from mcr_lib.schema import Entity, Example
from mcr_lib.study.runs import config
from mcr_lib.study.runs.settings import Study


@pytest.fixture
def tweet(tmp_path):
    Image.new("RGB", (60, 45), "red").save(tmp_path / "7.png")
    rome = Entity("Rome", 1, 2, "LOC", ((1, 2, 30, 40),))
    return Example(
        "7",
        "demo",
        "test",
        ("Go", "Rome"),
        (rome,),
        ("LOC",),
        images=(str(tmp_path / "7.png"),),
        image_size_px=(60, 45),
        image_only=(),
    )


def test_a_floor_is_shown_one_half_of_a_tweet_and_nothing_of_the_other(tweet, tmp_path):
    assert modality.masked(tweet, "full", tmp_path / "grey") is tweet
    text = modality.masked(tweet, "text", tmp_path / "grey")
    assert (text.text, text.entities) == ("Go Rome", tweet.entities)
    with Image.open(text.images[0]) as picture:
        assert picture.size == (60, 45)
        assert picture.getcolors() == [(60 * 45, modality.GREY)]
    image = modality.masked(tweet, "image", tmp_path / "grey")
    assert (image.tokens, image.entities, image.images) == ((), (), tweet.images)
    assert modality.masked(replace(tweet, images=()), "text", tmp_path / "none").images == ()
    assert not (tmp_path / "none").exists()


@pytest.mark.nano
@pytest.mark.slow
def test_floors_are_trained_and_asked_on_what_they_see_and_taught_the_gold_of_the_whole_tweet(tmp_path):
    stage = {"stage": "sft", "rows": "answers", "options": {"max_steps": 1}}
    settings = {
        "full": stage,
        "text": {**stage, "modality": "text"},
        "image": {**stage, "modality": "image"},
        "cvo": {"stage": "cvo", "modality": "text"},
    }
    made = Study(config.load("nano", tmp_path, {"settings": settings}))
    full, text, image = (made.rows(name) for name in ("full", "text", "image"))
    assert (
        [row["completion"] for row in full]
        == [row["completion"] for row in text]
        == [row["completion"] for row in image]
    )
    assert [row["prompt"] for row in full] == [row["prompt"] for row in text]
    assert [row["images"] for row in full] == [row["images"] for row in image]
    tweets = {example.id: example for example in made.examples("train")}
    for blind, deaf in zip(text, image, strict=True):
        with Image.open(blind["images"][0]) as picture:
            assert (picture.size, picture.getcolors(2)) == (
                tweets[blind["id"]].image_size_px,
                [(picture.width * picture.height, modality.GREY)],
            )
        assert not set(prompts.text_of(deaf["prompt"]).split("\n")[-1].split())
    whole, halved = (
        Study(config.load("nano", tmp_path, {"settings": {"cvo": {"stage": "cvo"}}})).rows("cvo"),
        made.rows("cvo"),
    )
    assert [row["gold"] for row in halved] == [row["gold"] for row in whole]
    assert all("grey" in row["images"][0] for row in halved)
    assert len({made.fingerprint(name) for name in ("full", "text", "image")}) == 3
    for name in ("text", "image"):
        header, rows = read_predictions(made.answer(name, "dev"))
        assert header["modality"] == name
        assert {(row.id, row.image_size_px) for row in rows} == {
            (e.id, e.image_size_px) for e in made.examples("dev")
        }
