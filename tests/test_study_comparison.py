"""Settings beside each other: errors by kind, tests, tidy results, the tweets that are shown."""

import csv

import numpy as np
import pytest

from mcr_lib import bias, data, metrics, yardsticks
from mcr_lib.data.predictions import finished_row, write_predictions
from mcr_lib.schema import CONSTRAINTS, PredictedEntity
from mcr_lib.study import catalogue
from mcr_lib.study.runs import config
from mcr_lib.study.runs.artifacts import RunFolder
from mcr_lib.study.tables import cases, comparison, scoring

CONFIG = config.Config(n_resamples=100)

KINDS = {
    "perfect": {"right": 2},
    "wrong type": {"right": 1, "wrong type": 1},
    "wrong boundary": {"right": 1, "wrong boundary": 1},
    "box misses": {"right": 1, "box misses": 1},
    "box not given": {"right": 1, "box left out": 1},
    "box not wanted (textual bias)": {"right": 1, "boxed, not in the image": 1},
    "name not in the text (visual bias)": {"right": 2, "name not in the text": 1},
    "entity left out": {"right": 1, "left out": 1},
    "entity twice": {"right": 2},
    "empty": {"left out": 2},
}


@pytest.fixture(scope="module")
def tweets(sample_dir):
    return data.load_split("twitter-gmner", sample_dir, split="test")


@pytest.fixture(scope="module")
def reports(tweets, tmp_path_factory):
    """Perfect answers, and the same without a box, scored on the sample."""
    folder = tmp_path_factory.mktemp("predictions")
    reports = {}
    for name, rule in (("perfect", yardsticks.perfect), ("blind", yardsticks.YARDSTICKS["never a box"])):
        write_predictions(folder / f"{name}.jsonl", [finished_row(e, rule(e)) for e in tweets])
        reports[name] = scoring.score_examples(tweets, folder / f"{name}.jsonl", n_resamples=100)
    return reports


def test_blind_rules_stand_below_the_settings_and_one_by_type_treats_not_all_alike(tweets, reports):
    of_rule = reports["perfect"]["yardsticks"]
    never, by_type = of_rule["never a box"], of_rule["whole image iff PER"]
    assert (never["false_grounding"], never["missed_grounding"]) == (0.0, 100.0)
    entities = [e for tweet in tweets for e in tweet.entities]
    boxed = [e.type == "PER" for e in entities if not e.is_groundable]
    assert by_type["false_grounding"] == round(100 * sum(boxed) / len(boxed), 2)
    assert by_type["false_grounding"] + by_type["missed_grounding"] != 100
    below = {row["setting"]: row["N-F1"] for row in comparison.bias_rows(reports)[len(reports) :]}
    assert below == {f"({rule})": f"{of_rule[rule]['n_f1']:.1f}" for rule in yardsticks.BLIND}
    assert comparison.bias_rows({}) == []


def judged(tweets, rule):
    return [metrics.judge(e, rule(e)) for e in tweets]


@pytest.mark.parametrize("name", cases.ANSWERS)
def test_each_mistake_is_counted_as_what_it_is(name):
    counts = comparison.error_kinds([metrics.judge(cases.TWEET, cases.ANSWERS[name])])
    assert {kind: n for kind, n in counts.items() if n} == KINDS[name]


def test_a_word_of_the_text_that_names_nothing_is_no_invented_name():
    answer = [PredictedEntity("enters", "PER"), PredictedEntity("Oslo", "LOC")]
    counts = comparison.error_kinds([metrics.judge(cases.TWEET, answer)])
    assert (counts["no entity"], counts["name not in the text"], counts["left out"]) == (1, 1, 2)


def test_a_wrong_region_counts_before_a_wrong_type():
    counts = comparison.error_kinds([metrics.judge(cases.TWEET, [PredictedEntity("Kevin Durant", "ORG")])])
    assert (counts["box left out"], counts["wrong type"]) == (1, 0)


def test_kinds_of_errors_add_up_to_gold_and_predictions_and_agree_with_the_scorer(tweets):
    rng = np.random.default_rng(0)
    for accuracy in (0.3, 0.6, 0.9):
        answers = [
            metrics.judge(e, yardsticks.degrade(e, dict.fromkeys(CONSTRAINTS, accuracy), rng)) for e in tweets
        ]
        counts = comparison.error_kinds(answers)
        assert sum(counts[kind] for kind in comparison.GOLD_KINDS) == sum(len(e.entities) for e in tweets)
        assert counts["right"] == sum(metrics.outcome(j, "gmner").tp.total() for j in answers)
        explained = sum(len(j.pairing.matches) + len(j.pairing.touches) for j in answers)
        n_extra = sum(len(j.effective) for j in answers) - explained
        assert sum(counts[kind] for kind in comparison.EXTRA_KINDS) == n_extra


def test_results_are_tidy_one_row_per_setting_split_and_metric(reports, tmp_path):
    folder = RunFolder(tmp_path)
    by_split = {"dev": {"perfect": reports["perfect"]}, "test": reports}
    lines = comparison.write(folder, by_split, {"scores": []}, seed=7)
    assert {"scores/perfect.dev.json", "scores/blind.test.json", "results.csv"} <= set(lines)
    assert all((tmp_path / line).is_file() for line in lines)
    rows = list(csv.DictReader(folder.results.read_text().splitlines()))
    assert tuple(rows[0]) == comparison.RESULT_COLUMNS
    keys = [(row["setting"], row["split"], row["metric"]) for row in rows]
    assert len(set(keys)) == len(keys)
    by_key = dict(zip(keys, rows, strict=True))
    assert {key[:2] for key in keys} == {("perfect", "dev"), ("perfect", "test"), ("blind", "test")}
    wanted = {"gmner_f1", "mner_f1", "eeg_f1", *catalogue.TEXTUAL_BIAS, "n_count", "n_rate", "unread"}
    assert wanted <= {key[2] for key in keys}
    # the sample's test split names 17 entities in 8 tweets; never a box: false grounding 0, missed grounding
    # 100 by construction
    assert by_key["blind", "test", "false_grounding"]["value"] == "0.0"
    assert by_key["blind", "test", "missed_grounding"]["value"] == "100.0"
    perfect = by_key["perfect", "test", "gmner_f1"]
    assert perfect["value"] == perfect["ci_low"] == "100.0"
    balanced = by_key["blind", "test", "balanced_accuracy"]
    assert [balanced[key] for key in ("value", "ci_low", "ci_high")] == ["50.0"] * 3  # in every resample
    assert {row["seed"] for row in rows} == {"7"}
    assert {row["n"] for row in rows} == {"8"}
    assert "split=test" in by_key["blind", "test", "n_count"]["signature"]


def test_dev_is_beside_test_and_every_number_has_its_interval(reports):
    first, _ = comparison.score_rows({"dev": reports, "test": reports})
    assert list(first) == ["setting", "GMNER, dev", "GMNER, test", "MNER, test", "EEG, test", "not read"]
    assert first["GMNER, dev"] == "100.0\n(100.0\u00a0to\u00a0100.0)"
    assert first["not read"] == "0.0"
    alone = comparison.score_rows({"dev": {}, "test": reports})
    assert [row["GMNER, dev"] for row in alone] == ["–", "–"]
    perfect, blind, *rules = comparison.bias_rows(reports)
    assert (blind["setting"], blind["N-Count"]) == ("blind", 0)
    assert blind["missed grounding"] == "100.0\n(100.0\u00a0to\u00a0100.0)"
    assert perfect["N-F1"].startswith("100.0")
    assert [rule["setting"] for rule in rules] == [f"({name})" for name in yardsticks.BLIND]
    assert blind["N-F1"].startswith(rules[0]["N-F1"])  # the setting is that rule
    assert comparison.bias_rows({}) == []


def test_every_two_settings_are_tested_the_later_minus_the_earlier(tweets):
    by_setting = {
        "blind": judged(tweets, yardsticks.YARDSTICKS["never a box"]),
        "perfect": judged(tweets, yardsticks.perfect),
    }
    (row,) = comparison.pair_rows(by_setting, CONFIG)
    counts = metrics.totals([metrics.outcome(j, "gmner") for j in by_setting["blind"]])
    blind_f1 = metrics.ratios(counts)["f1"].percent
    assert (row["pair"], row["difference"]) == ("perfect − blind", round(100 - blind_f1, 2))
    assert row["ci_low"] > 0
    assert len(comparison.pair_rows({**by_setting, "again": by_setting["blind"]}, CONFIG)) == 3


def test_tweets_are_shown_on_which_settings_differ_most(tweets):
    right, none = judged(tweets, yardsticks.perfect), judged(tweets, lambda e: ())
    drawn = comparison.most_different({"a": right, "b": none}, 2)
    sizes = sorted((len(e.entities) for e in tweets), reverse=True)
    assert [len(j.example.entities) for j in drawn["a"]] == sizes[:2]
    assert [j.example.id for j in drawn["a"]] == [j.example.id for j in drawn["b"]]
    assert comparison.most_different({}, 2) == {}
    halves = [right[:4] + none[4:], none[:4] + right[4:]]
    drawn = comparison.most_different(dict(zip("ab", halves, strict=True)), 4)
    better = [len(a.predictions) > len(b.predictions) for a, b in zip(drawn["a"], drawn["b"], strict=True)]
    assert better == [False, True, False, True], "by turns one that each answers better, the later first"
    assert len(comparison.drawn_rows(drawn)) == 8


def test_a_verdict_is_of_mcr_against_plain_fine_tuning_and_knows_which_side_is_better(tweets):
    stages = {"sft": {"stage": "sft", "rows": "answers"}, "mcr": {"stage": "cvo"}}
    given = config.Config(settings={"base": {}, **stages}, n_resamples=200)
    boxed, perfect = judged(tweets, yardsticks.box_iff_per), judged(tweets, yardsticks.perfect)
    answers = {"base": perfect, "sft": boxed, "mcr": perfect}
    f1 = {name: metrics.score(of)["gmner"]["f1"] for name, of in answers.items()}
    text = comparison.verdict(f1, "gmner_f1", given)
    assert text.startswith("GMNER F1, %: base 100.0, sft ")
    assert " mcr is better than sft by " in text
    answers = {"sft": perfect * 4, "mcr": boxed * 4}
    false = {name: bias.textual_bias(of)["false_grounding"] for name, of in answers.items()}
    assert " mcr is worse than sft by " in comparison.verdict(false, "false_grounding", given)
    assert " mcr is better than sft by " in comparison.verdict(false, "a share", given)
    assert " mcr is worse than sft by " in comparison.verdict(false, "a share", given, better=-1)
    assert comparison.verdict({}, "gmner_f1", given) == ""
    alone = comparison.verdict({"predictions": f1["mcr"]}, "gmner_f1", given)
    assert alone == "GMNER F1, %: predictions 100.0 (95 % interval 100.0 to 100.0)."


def test_dev_is_beside_the_scored_split_if_the_run_has_it():
    assert comparison.splits(CONFIG) == ["dev", "test"]
    assert comparison.splits(config.Config(splits=("train", "test"))) == ["test"]
    assert comparison.splits(config.Config(eval_split="dev")) == ["dev"]
    named = ("test", "dev", "test_unseen", "test_adversarial")
    given = config.Config(answer_splits=named, splits=("train", "dev", "test", "test_unseen"))
    assert comparison.splits(given) == ["dev", "test_unseen", "test"]
