"""Which pairs of D_R a setting is trained on, and what its rows are made of; no model is loaded."""

import pytest

from mcr_lib import prompts, testbed
from mcr_lib.data import mrsi
from mcr_lib.errors import UserError
from mcr_lib.study.runs import config, prepare
from mcr_lib.study.runs.artifacts import RunFolder
from mcr_lib.study.runs.setting import Setting
from mcr_lib.study.runs.settings import Study
from mcr_lib.styles import PAPER

TWEETS = [testbed.make("gmner", "train", k).example for k in range(60)]
QWEN = mrsi.Target("qwen2.5-vl", 56 * 56, 28 * 28 * 256)
SETTINGS = {
    "sft": {"stage": "sft", "rows": "answers"},
    "mrsi": {"stage": "sft", "styles": ["formal", "distill", "terse"], "prompt": "mcr"},
    "mcr": {"stage": "cvo", "start": "mrsi", "prompt": "mcr"},
    "all": {"stage": "sft", "data": "train", "prompt": "mcr"},
    "half": {"stage": "sft", "data": "train", "prompt": "mcr", "share": 0.5},
}


def study(tmp_path, **overrides):
    overrides = {"settings": SETTINGS, "chain_styles": [], **overrides}
    one = Study(config.load("nano", tmp_path, overrides))
    one._examples["train"] = TWEETS
    return one


def keys(drawn):
    return {(example.id, style) for example, style in drawn}


def test_mcr_is_trained_on_the_other_half_of_the_pairs_that_mrsi_learned(tmp_path):
    """D2 = D_R without D1 (App. D.3): the styles are those of the setting it starts from."""
    one = study(tmp_path)
    d1, d2 = keys(one.pairs("mrsi")), keys(one.pairs("mcr"))
    d_r = keys(mrsi.pairs(TWEETS, ["formal", "distill", "terse"], seed=0))
    assert d1 | d2 == d_r
    assert not d1 & d2
    assert {id for id, _ in d1} & {id for id, _ in d2}, "a tweet may stand in both"
    by_tweets = study(tmp_path, split_by="tweets")
    assert not {e.id for e in by_tweets.tweets("mrsi")} & {e.id for e in by_tweets.tweets("mcr")}


def test_a_setting_without_styles_takes_those_of_the_profile_or_the_papers(tmp_path):
    assert {style for _, style in study(tmp_path).pairs("all")} == set(PAPER)
    assert len(study(tmp_path).pairs("all")) == 120
    few = study(tmp_path, chain_styles=["terse"], n_styles=3)
    assert keys(few.pairs("all")) == {(tweet.id, "terse") for tweet in TWEETS}
    half = study(tmp_path).tweets("half")
    assert len(study(tmp_path).pairs("half")) == 2 * len(half), "a share is of tweets, each with its styles"


def test_plain_fine_tuning_sees_each_tweet_once(tmp_path):
    one = study(tmp_path)
    rows = prepare.training_rows(one["sft"], one.pairs("sft"), QWEN, one.loaded, TWEETS)
    assert [row["id"] for row in rows] == [tweet.id for tweet in TWEETS]


@pytest.mark.parametrize("name", ["mrsi", "mcr"])
def test_a_row_asks_with_the_instruction_of_its_own_style(tmp_path, name):
    one = study(tmp_path, answer_form="paper")
    rows = prepare.training_rows(one[name], one.pairs(name), QWEN, one.loaded, TWEETS)
    assert [(row["id"], row["style"]) for row in rows] == [(e.id, style) for e, style in one.pairs(name)]
    by_id = {tweet.id: tweet for tweet in TWEETS}
    for row in rows:
        expected = prompts.messages(by_id[row["id"]], "mcr", style=row["style"], form="paper")
        assert row["prompt"] == expected


def test_a_view_of_one_modality_keeps_the_instruction_of_the_style(tmp_path):
    image_only = Setting(stage="sft", modality="image", prompt="mcr")
    one = study(tmp_path)
    rows = prepare.training_rows(image_only, one.pairs("mrsi"), QWEN, one.loaded, TWEETS)
    leads = {row["style"]: prompts.STYLES[row["style"]].instruction.lead for row in rows}
    assert all(leads[row["style"]] in prompts.text_of(row["prompt"]) for row in rows)


def test_a_file_of_chains_serves_a_setting_if_it_holds_all_of_its_pairs(tmp_path):
    one = study(tmp_path)
    pairs = one.pairs("mrsi")
    path, setting = RunFolder(tmp_path).chains("llm"), one["mrsi"].model_copy(update={"chains": "llm"})
    templates = prepare.training_rows(one["mrsi"], pairs, QWEN, one.loaded, TWEETS)
    mrsi.write_chains(path, mrsi.build_chains(pairs, seed=0).chains, TWEETS)
    assert prepare.training_rows(setting, pairs, QWEN, one.loaded, TWEETS) == templates
    mrsi.write_chains(path, mrsi.build_chains(pairs[1:], seed=0).chains, TWEETS)
    lack = f"1 of {len(pairs)} pairs of tweet and style are missing, the first is {pairs[0][0].id} with"
    with pytest.raises(UserError, match=lack):
        prepare.training_rows(setting, pairs, QWEN, one.loaded, TWEETS)


def test_what_rows_are_made_from_names_pairs_form_and_prompts(tmp_path):
    one = study(tmp_path)
    known = prepare.sources(one["mcr"], one.pairs("mcr"), one.loaded)
    for other in ({"n_styles": 1}, {"split_by": "tweets"}, {"answer_form": "paper"}, {"d1_share": 0.4}):
        changed = study(tmp_path, **other)
        assert prepare.sources(changed["mcr"], changed.pairs("mcr"), changed.loaded) != known, other
