"""The attention section of notebook 06: averages, figures, and settings that are left out."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from mcr_lib.data.predictions import Prediction
from mcr_lib.schema import Entity, Example
from mcr_lib.study.figures import bars
from mcr_lib.study.runs import config
from mcr_lib.study.runs.settings import Study
from mcr_lib.study.tables import attention

STUDY = SimpleNamespace(config=config.Config(n_resamples=100))


def look(id, mass, cut, *, part="answer", start=0, images=()):
    gold = Entity("Rome", start, start + 1, "LOC", ((0, 0, 10, 10),))
    tweet = Example(
        id, "demo", "test", ("Rome",) * (start + 1), (gold,), ("LOC",), images=images, image_size_px=(60, 40)
    )
    masses = {"gold": np.array(mass), "rest": np.array([1.0, 0.0]), "words": np.array([np.nan, np.nan])}
    cuts = {"image": 2 * cut, "gold": cut, "elsewhere": None}
    return SimpleNamespace(
        example=tweet,
        gold=gold,
        part=part,
        mass=masses,
        n_sinks=3.0,
        log_probability=-1.0,
        cuts=cuts,
    )


LOOKS = {
    "base": [look("1", [2.0, 4.0], -1.0), look("1", [4.0, 4.0], -3.0, start=2), look("2", [5.0, 5.0], -8.0)],
    "mcr": [],
}


def test_masses_are_means_over_layers_then_boxes_without_undefined_values():
    (row,) = attention.rows(STUDY, LOOKS)
    assert (row["setting"], row["part"], row["boxes"], row["tweets"], row["sinks"]) == (
        "base",
        "answer",
        3,
        2,
        3.0,
    )
    assert row["gold"] == 4.0  # (3 + 4 + 5) / 3
    assert row["gold_low"] == 3.5  # the mean of tweet 1 drawn twice: (3 + 4) / 2
    assert row["gold_high"] == 5.0  # of tweet 2 drawn twice
    assert row["rest"] == 0.5
    assert [row["words"], row["words_low"], row["cut_elsewhere"]] == [None] * 3
    assert (row["cut_gold"], row["cut_image"]) == (-4.0, -8.0)


def test_reasoning_has_rows_of_its_own_and_results_are_tidy():
    looks = {"mcr": [look("1", [2.0, 2.0], -1.0), look("1", [6.0, 6.0], -2.0, part="reasoning")]}
    found = attention.rows(STUDY, looks)
    assert [(row["part"], row["gold"]) for row in found] == [("answer", 2.0), ("reasoning", 6.0)]
    study = SimpleNamespace(config=config.Config(attention_examples=5), examples=lambda split: [])
    study.examples = lambda split: [look("1", [1.0], 0.0, images=("1.png",)).example]
    results = attention.result_rows(study, found)
    assert len({row["metric"] for row in results}) == len(results) == 12  # 2 parts x (3 masses + 3 cuts)
    value = {row["metric"]: row["value"] for row in results}
    assert (value["attention_gold_reasoning"], value["cut_image_answer"], value["cut_elsewhere_answer"]) == (
        6.0,
        -2.0,
        None,
    )
    assert "split=test" in results[0]["signature"]
    assert attention.result_rows(study, []) == []


def test_bars_show_these_values():
    looks = {
        "base": [look("1", [2.0, 4.0], -1.0), look("2", [5.0, 5.0], -8.0)],
        "mcr": [look("1", [3.0, 5.0], -2.0)],
    }
    rows = attention.rows(STUDY, looks)
    heights = [bar.get_height() for bar in bars.attention(rows).axes[0].patches]
    assert heights == [4.0, 4.0, 0.5, 0.5]  # base and mcr: gold, then rest; words could not be measured
    assert [bar.get_height() for bar in bars.cuts(rows).axes[0].patches] == [
        -9.0,
        -4.0,
        -4.5,
        -2.0,
    ]


def share(id, image, is_boxed, is_shown=False):
    gold = SimpleNamespace(is_groundable=is_shown)
    return SimpleNamespace(example=look(id, [1.0], 0.0).example, gold=gold, is_boxed=is_boxed, image=image)


def test_shares_are_means_per_group_of_plain_fine_tuning_one_of_mcr_and_of_boxes_of_what_is_shown():
    settings = {"sft": SimpleNamespace(stage="sft"), "mcr": SimpleNamespace(stage="cvo")}
    study = type("Study", (), {"config": STUDY.config, "__getitem__": lambda _, name: settings[name]})()
    of_sft = [share("1", 0.8, False), share("1", 0.6, False), share("2", 0.4, True)]
    of_sft.append(share("1", 0.9, True, is_shown=True))
    rows = attention.share_rows(
        study, {"sft": of_sft, "mcr": [share("1", 0.9, False), share("2", 0.8, True)]}
    )
    found = [
        [row[key] for key in ("group", "setting", "answers", "boxed", "image", "sentence")] for row in rows
    ]
    assert found == [
        ["normal", "sft", 2, 0, 70.0, 30.0],
        ["textual bias", "sft", 1, 1, 40.0, 60.0],
        ["shown", "sft", 1, 1, 90.0, 10.0],
        ["MCR", "mcr", 2, 1, 85.0, 15.0],
        ["shown", "mcr", 0, 0, None, None],
    ]
    assert (rows[3]["image_low"], rows[3]["image_high"]) == (80.0, 90.0)  # either tweet drawn twice
    rows = [row for row in rows if row["group"] != "shown"]
    figure = bars.image_shares(rows, paper={"normal": 71.8, "MCR": 74.4})
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert heights[:3] == [70.0, 40.0, 85.0]
    assert [h for h in heights[3:] if h == h and h] == [71.8, 74.4]  # the group that is not known has no bar
    assert len(bars.image_shares(rows, paper={}).axes[0].patches) == 3
    none, *_ = attention.share_rows(study, {"sft": [share("2", 0.4, True)]})
    assert (none["answers"], none["image"], none["sentence"]) == (0, None, None)


def test_the_papers_shares_are_read_from_its_table_by_group(monkeypatch):
    rows = {"SFT, right": [1.5, 98.5], "SFT, textual bias": [3.5, 96.5], "MCR": [2.5, 97.5]}
    table = {"columns": ["vision", "sentence"], "rows": rows}
    monkeypatch.setattr(attention.facts, "all_facts", lambda: {"tables": {"T5": table}})
    assert attention.paper_shares() == {"normal": 1.5, "textual bias": 3.5, "MCR": 2.5}


def test_entities_are_drawn_that_are_not_shown_as_many_boxed_as_not_and_as_many_boxes_of_what_is_shown():
    def row(tweet, box):
        answer = f'<answer>[{{"entity": "Rome", "type": "LOC", "bbox_2d": {box}}}]</answer>'
        return Prediction(tweet.id, answer, False, "original_px", None, (60, 40))

    rome = Entity("Rome", 0, 1, "LOC", ())
    tweets = [replace(look(str(k), [1.0], 0.0).example, entities=(rome,)) for k in range(6)]
    answered = [(t, row(t, "null" if k < 4 else "[1, 2, 3, 4]")) for k, t in enumerate(tweets)]
    shown = look("shown", [1.0], 0.0).example
    answered += [(shown, row(shown, "null")), (tweets[0], Prediction("0", "nothing", False, "original_px"))]
    drawn = attention._drawn(answered, 3, seed=0)
    assert len(drawn) == 5
    assert {("4", 0), ("5", 0)} < drawn <= {(str(k), 0) for k in range(6)}
    boxed = look("boxed", [1.0], 0.0).example
    answered.append((boxed, row(boxed, "[1, 2, 3, 4]")))
    assert attention._drawn(answered, 3, seed=0) == drawn | {("boxed", boxed.entities[0].start)}
    assert len(attention._drawn(answered, 50, seed=0)) == 7


@pytest.mark.canary
def test_answered_settings_are_looked_at_and_the_others_are_listed(tmp_path):
    sizes, settings = (
        {"train": 2, "dev": 2, "test": 6},
        {"base": {}, "sft": {"stage": "sft", "rows": "answers"}, "half": {"modality": "text"}},
    )
    given = {
        "testbed_sizes": sizes,
        "splits": ["train", "dev", "test"],
        "settings": settings,
        "max_new_tokens": 64,
        "attention_examples": 3,
    }
    study = Study(config.load("tiny", tmp_path, given))
    assert (attention.looks(study), attention.image_shares(study)) == ({}, {})
    study.answer("base")
    looks = attention.looks(study)
    assert set(looks) == {"base"}
    assert {look.example.id for look in looks["base"]} <= {example.id for example in attention.chosen(study)}
    none = Study(config.load("tiny", tmp_path, {**given, "attention_examples": 0}))
    assert attention.looks(none) == {}
