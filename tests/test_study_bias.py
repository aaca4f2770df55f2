"""Notebook 06: answers read or listed as missing, and rows for rules whose shortcuts are known."""

import csv
import json
from dataclasses import replace

import pytest

from mcr_lib import bias, metrics, yardsticks
from mcr_lib.answer import write_answer
from mcr_lib.boxes import largest
from mcr_lib.data import probes
from mcr_lib.data.predictions import finished_row, write_predictions
from mcr_lib.errors import UserError
from mcr_lib.schema import PredictedEntity, checksum
from mcr_lib.study.figures import bars, boxes, forest, heat
from mcr_lib.study.runs import config
from mcr_lib.study.runs.artifacts import RunFolder
from mcr_lib.study.runs.settings import Study
from mcr_lib.study.tables import bias as bias_tables
from mcr_lib.study.tables import cases, comparison, scoring

N = 6
PROFILE = """
testbed_sizes: {train: 30, dev: 8, test: 30}
splits: [train, dev, test]
device: cpu
n_resamples: 100
n_probe_examples: 6
probes: [blank, swap, mute, erase, rename, add_bait]
settings:
  perfect: {stage: sft, rows: answers}
  stale: {stage: sft, rows: answers}
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A run whose settings have no model: only existing files in predictions/ can be read."""
    root = tmp_path_factory.mktemp("bias")
    (root / "p.yaml").write_text(PROFILE)
    return Study(config.load(str(root / "p.yaml"), root / "run"))


@pytest.fixture(scope="module")
def made(study):
    return bias_tables.make_probes(study)


def data_of(examples):
    return f"{examples[0].source}:{checksum(examples)}"


def beyond(study, example):
    """Three names that the text of a tweet lacks: of its bait or else of a training tweet, of a training
    tweet, and of nobody.
    """
    trained_on = [e.text for tweet in study.examples("train") for e in tweet.entities]
    others = [name for name in trained_on if bias.wording(name, example.tokens) == "foreign"]
    bait = [shown.text for shown in example.image_only]
    return [(bait or others)[0], next(name for name in others if name not in bait), "Zzyzx"]


def answer(study, stem, examples, rule, **header):
    rows = [finished_row(example, rule(example)) for example in examples]
    write_predictions(study.run.predictions(stem), rows, **{"data": data_of(examples), **header})


@pytest.fixture(scope="module")
def found(study, made):
    """One setting is always right; the other answers every probe as it would answer the tweet that it was."""
    test = study.examples("test")
    original = {example.id: example for example in test}
    for name, rule in (
        ("perfect", yardsticks.perfect),
        ("stale", lambda e: yardsticks.perfect(original[e.id])),
    ):
        answer(study, f"{name}.test", test, rule)
        for variant, some in made.items():
            answer(study, f"{name}.test.{variant}", [p.example for p in some], rule)
    answer(study, "perfect.dev", study.examples("dev"), yardsticks.perfect)
    answer(
        study,
        "stale.dev",
        study.examples("dev"),
        lambda e: [PredictedEntity(name, "PER", ()) for name in beyond(study, e)],
    )
    return bias_tables.collect(study)


def test_every_variant_of_the_profile_is_made_and_handed_over(study, made):
    assert list(made) == list(probes.VARIANTS)
    assert all(0 < len(some) <= N for some in made.values())
    head, *rows = study.run.data("test.erase").read_text().splitlines()
    assert json.loads(head)["split"] == "test.erase"
    assert [json.loads(row)["id"] for row in rows] == [p.example.id for p in made["erase"]]
    assert (study.run.path / "data" / "probes" / "erase" / f"{made['erase'][0].example.id}.png").is_file()


def test_all_existing_answers_are_read_and_nothing_is_missing(found, made):
    assert (list(found.answers), found.missing) == (["perfect", "stale"], [])
    assert all(list(probed) == list(made) for probed in found.probe_answers.values())
    assert "single run, seed 0" in found.description


def test_a_perfect_setting_is_consistent_and_one_that_never_looks_again_is_not(found, made):
    rows = {(row["name"], row["probe"]): row for row in bias_tables.consistency_rows(found)}
    assert [probe for name, probe in rows if name == "perfect"] == [
        "blank_mean", "blank_noise", "blank_blur", "blank", "swap_hard", "swap_easy", "mute", "erase",
        "rename", "add_bait", "all", "mute_blank",
    ]  # fmt: skip
    for (name, probe), row in rows.items():
        n = N if probe == "all" else len(made[row["worst"] or probe])
        n_clean = n if name == "perfect" or probe == "add_bait" else 0
        assert (row["tweets"], row["right"], row["clean"], row["consistency"]) == (
            n,
            n,
            n_clean,
            100.0 * (n_clean > 0),
        )
        assert row["ci_low"] == row["ci_high"] == row["consistency"]  # all resamples are alike
        first = "name not in the text" if probe in ("mute", "rename", "mute_blank") else "box not wanted"
        if probe != "all":
            assert row[first] == n - n_clean
        assert sum(row[kind] for kind in bias.FAULTS) == n - n_clean


def test_names_beyond_the_text_are_counted_per_split_by_origin(found, study):
    rows = {(row["split"], row["name"]): row for row in bias_tables.foreign_rows(found)}
    assert list(rows) == [("test", "perfect"), ("test", "stale"), ("dev", "perfect"), ("dev", "stale")]
    dev = study.examples("dev")
    n_baited = sum(bool(e.image_only) for e in dev)
    assert 0 < n_baited < len(dev)
    kinds = {"image only": n_baited, "trained on": 16 - n_baited, "neither": 8}
    counts = {"foreign": 24, "n_predictions": 24, **kinds}
    assert rows["dev", "stale"] == {"name": "stale", "split": "dev", **counts}
    assert all(
        row["foreign"] == 0 < row["n_predictions"] for key, row in rows.items() if key != ("dev", "stale")
    )
    results = {
        (r["split"], r["setting"], r["metric"]): r for r in bias_tables.result_rows(found, all_tables(found))
    }
    row = results["dev", "stale", "foreign_count_image_only"]
    assert (row["value"], row["n"]) == (n_baited, 8)
    assert f"data={data_of(dev)}" in row["signature"]
    assert "split=dev" in row["signature"]
    assert f"data={data_of(found.examples)}" in results["test", "stale", "foreign_count_neither"]["signature"]
    figure = bars.foreign(list(rows.values()))
    assert [ax.get_title("left") or ax.get_title() for ax in figure.axes] == [
        "test",
        "dev",
    ]  # where the style of figures puts it
    assert [text.get_text() for text in figure.axes[1].texts][-2:] == ["0", "24"]  # N-Count at the ends


def test_the_worst_blank_image_is_reported(study, found, made):
    half = {p.example.id for p in made["blank_noise"][: N // 2]}
    original = {e.id: e for e in found.examples}
    noise = [p.example for p in made["blank_noise"]]
    answer(study, "other", noise, lambda e: yardsticks.perfect(original[e.id] if e.id in half else e))
    answers = scoring.read_answers(noise, study.run.predictions("other"), found.config.parse)
    probed = {"perfect": {**found.probe_answers["perfect"], "blank_noise": answers}}
    rows = {row["probe"]: row for row in bias_tables.consistency_rows(replace(found, probe_answers=probed))}
    assert (rows["blank"]["worst"], rows["blank"]["consistency"], rows["blank"]["clean"]) == (
        "blank_noise",
        50.0,
        3,
    )
    assert (rows["all"]["consistency"], rows["all"]["box not wanted"]) == (50.0, 3)
    assert rows["blank"]["ci_low"] < 50 < rows["blank"]["ci_high"]
    del probed["perfect"]["blank_blur"]
    rows = bias_tables.consistency_rows(replace(found, probe_answers=probed))
    assert "blank" not in {row["probe"] for row in rows}


def test_what_was_wrong_before_is_not_counted(found):
    unread = [replace(one, is_read=False) for one in found.answers["perfect"].judged]
    wrong = replace(found.answers["perfect"], judged=unread)
    rows = bias_tables.consistency_rows(replace(found, answers={**found.answers, "perfect": wrong}))
    assert {(row["right"], row["consistency"]) for row in rows if row["name"] == "perfect"} == {(0, None)}
    assert "none\nright" in [text.get_text() for text in heat.consistency(rows).axes[0].texts]


def test_names_of_what_is_muted_are_caused_by_the_image_alone_if_a_blank_one_silences_them(
    found, study, made
):
    # "perfect" names nothing that is not in the text; "stale" names it at the blank image too: the image
    # causes neither
    rows = {(row["name"], row["text"]): row for row in bias_tables.image_caused_rows(found)}
    assert {row["difference"] for row in rows.values()} == {0.0}
    muted = rows["stale", "muted"]
    assert muted["foreign real"] == muted["foreign blank"] > 0
    # a setting that reads the old names off the image: stale at the real one, perfect at the blank one
    looking = {
        "looking": {
            "mute": found.probe_answers["stale"]["mute"],
            "mute_blank": found.probe_answers["perfect"]["mute_blank"],
        }
    }
    (row,) = bias_tables.image_caused_rows(
        replace(found, answers={"looking": found.answers["perfect"]}, probe_answers=looking)
    )
    n_muted = sum(len(p.changed) for p in made["mute"])
    n_named = sum(len(e.entities) for e in found.examples if e.id in {p.example.id for p in made["mute"]})
    assert (row["text"], row["foreign real"], row["foreign blank"]) == ("muted", n_muted, 0)
    assert row["difference"] == pytest.approx(100 * n_muted / n_named, abs=0.01)
    assert row["ci_low"] > 0


def test_old_boxes_and_old_names_after_renaming(study, found, made):
    some = {p.example.id: p for p in made["rename"]}
    box = {id: largest(p.changed[0].boxes_xyxy_px) for id, p in some.items()}

    def keeps_the_box(example):
        new = {e.text for e in example.entities} - {
            e.text for e in next(x for x in found.examples if x.id == example.id).entities
        }
        return [
            replace(p, boxes_xyxy=(box[example.id],)) if p.text in new else p
            for p in yardsticks.perfect(example)
        ]

    tweets = [p.example for p in made["rename"]]
    answer(study, "keeps.test.rename", tweets, keeps_the_box)
    keeps = scoring.read_answers(tweets, study.run.predictions("keeps.test.rename"), found.config.parse)
    rows = bias_tables.rename_rows(
        replace(found, probe_answers={"keeps": {"rename": keeps}, "stale": found.probe_answers["stale"]})
    )
    n = len(tweets)
    assert [(row["name"], row["sign"], row["count"], row["share"]) for row in rows] == [
        ("keeps", "old box", n, 100.0), ("keeps", "old name", 0, 0.0),
        ("stale", "old box", 0, 0.0), ("stale", "old name", n, 100.0),
    ]  # fmt: skip


def test_blind_rules_come_after_the_settings_on_all_and_on_hard_entities(found):
    rows = bias_tables.grounding_rows(found)
    assert [row["name"] for row in rows if row["entities"] == "all"] == [
        "perfect",
        "stale",
        *yardsticks.BLIND,
    ]
    never = next(row for row in rows if row["name"] == "never a box" and row["entities"] == "all")
    entities = [e for x in found.examples for e in x.entities]
    n_absent = sum(not e.is_groundable for e in entities)
    assert (
        never["n_rec"],
        never["false_grounding"],
        never["missed_grounding"],
        never["balanced_accuracy"],
    ) == (100.0, 0.0, 100.0, 50.0)
    assert never["n_pre"] == pytest.approx(100 * n_absent / len(entities), abs=0.01)
    perfect = next(row for row in rows if row["name"] == "perfect")
    assert (perfect["n_f1"], perfect["n_f1_low"], perfect["balanced_accuracy"]) == (100.0, 100.0, 100.0)


def test_reasoning_that_differs_from_the_answer_is_not_faithful(study, found):
    example = next(e for e in found.examples if len(e.entities) == 1 and not e.entities[0].is_groundable)
    entity = example.entities[0]
    predicted = [PredictedEntity(entity.text, entity.type)]
    true = write_answer(predicted, think=f'"{entity.text}" : {entity.type} , not shown ;')
    false = write_answer(predicted, think=f'"{entity.text}" : {entity.type} , shown at [1, 2, 3, 4] ;')
    others = [e for e in found.examples if e.id != example.id]
    rows = [
        {"id": example.id, "answer": true},
        {"id": others[0].id, "answer": false},
        {"id": others[1].id, "answer": "nothing"},
    ]
    write_predictions(
        study.run.predictions("r"), [{**row, "coordinate_space": "original_px"} for row in rows]
    )
    three = [example, *others[:2]]
    answers = scoring.read_answers(three, study.run.predictions("r"), found.config.parse)
    (row,) = bias_tables.faithful_rows(
        replace(found, examples=three, answers={"r": answers, "mute": found.answers["perfect"]})
    )
    assert (row["name"], row["split"], row["answers"]) == ("r", "test", 3)
    assert (row["faithful"], row["share"]) == (1, 33.33)
    assert (row["foreign_slot"], row["unread"]) == (1, 1)
    silent = replace(found.answers["perfect"], prompt="mcr")  # answers without the required reasoning
    (row,) = bias_tables.faithful_rows(
        replace(found, answers={"r": silent, "direct": replace(silent, prompt="direct")})
    )
    assert (row["faithful"], row["no_reasoning"]) == (0, 30)
    of_both = bias_tables.faithful_rows(
        replace(found, answers={"r": silent}, other_splits={"dev": {"r": silent}})
    )
    assert [row["split"] for row in of_both] == ["test", "dev"]
    lines = [label.get_text() for label in bars.faithful(of_both).axes[0].get_yticklabels()]
    assert lines == [f"{split} · r, n = 30\n0.0 % (0.0 to 0.0)" for split in ("test", "dev")]


def test_reasoning_is_judged_on_every_split_and_a_stray_one_of_a_setting_without_is_none(found):
    dev = replace(found.other_splits["dev"]["perfect"], prompt="mcr")
    asked = replace(found.answers["perfect"], prompt="mcr")
    both = replace(found, answers={"r": asked}, other_splits={"dev": {"r": dev}})
    rows = bias_tables.faithful_rows(both)
    assert [(row["split"], row["answers"]) for row in rows] == [("test", 30), ("dev", 8)]
    tables = dict.fromkeys(all_tables(found), []) | {"faithful": rows}
    results = bias_tables.result_rows(both, tables)
    assert [(row["split"], row["n"]) for row in results] == [("test", 30), ("dev", 8)]
    assert [f"split={row['split']}|" in row["signature"] for row in results] == [True, True]
    first = replace(asked.parsed[0], think="well")
    stray = replace(asked, prompt="direct", parsed=[first, *asked.parsed[1:]])
    assert bias_tables.flaws(stray) == []
    assert len(bias_tables.flaws(replace(stray, prompt="mcr"))) == 30


def all_tables(found):
    return {
        "grounding": bias_tables.grounding_rows(found),
        "sharing": bias_tables.sharing_rows(found),
        "rename": bias_tables.rename_rows(found),
        "consistency": bias_tables.consistency_rows(found),
        "image caused": bias_tables.image_caused_rows(found),
        "faithful": bias_tables.faithful_rows(found),
        "foreign": bias_tables.foreign_rows(found),
        "type errors": bias_tables.type_error_rows(found),
    }


def test_results_are_added_to_those_of_05_and_replace_their_own(found, tmp_path):
    folder, tables = RunFolder(tmp_path), all_tables(found)
    results = bias_tables.result_rows(found, tables)
    keys = [(row["split"], row["setting"], row["metric"]) for row in results]
    assert len(set(keys)) == len(keys)
    assert {tuple(row) for row in results} == {comparison.RESULT_COLUMNS}
    metrics = {metric for *_, metric in keys}
    wanted = (
        "consistency consistency_blank consistency_add_bait false_grounding_hard image_caused_foreign_rate "
        "image_caused_foreign_rate_muted type_errors "
        "type_errors_text_decided renamed_old_box renamed_old_name wrong_box_another_entity "
        "pairs_that_share_a_box"
    )
    assert set(wanted.split()) <= metrics
    erase = next(row for row in results if row["metric"] == "consistency_erase" and row["setting"] == "stale")
    assert (erase["value"], erase["n"], erase["split"]) == (0.0, N, "test")
    assert f"probe=erase:{checksum([p.example for p in found.probes['erase']])}" in erase["signature"]
    from_05 = {**erase, "metric": "gmner_f1", "value": 12.5}
    assert comparison.add_results(folder, [from_05]) == ["results.csv"]
    for _ in range(2):
        lines = bias_tables.write(found, folder, tables, results, "a note")
        assert lines == ["scores/bias.json", "results.csv"]
    rows = list(csv.DictReader(folder.results.read_text().splitlines()))
    assert len(rows) == len(results) + 1
    assert (rows[0]["metric"], rows[0]["value"]) == ("gmner_f1", "12.5")
    assert json.loads(folder.score("bias").read_text())["note"] == "a note"


def test_figures_show_both_counts_and_every_name(found):
    tables = all_tables(found)
    cells = [text.get_text() for text in heat.consistency(tables["consistency"]).axes[0].texts]
    assert f"100 %\n{N} of {N}" in cells
    assert f"0 %\n0 of {N}" in cells
    figure = forest.rates(
        tables["grounding"], metrics=["false_grounding", "balanced_accuracy"], n=30, hard=True, title="t"
    )
    assert [ax.get_xlabel() for ax in figure.axes] == ["← false grounding, %", "balanced accuracy, % →"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()][:3] == [
        "perfect",
        "stale",
        "rule: never a box",
    ]
    assert "n = 30" in figure.get_suptitle()
    n_hard = sum(any(bias.is_hard(e, entity) for entity in e.entities) for e in found.examples)
    assert figure.legends[0].get_texts()[1].get_text() == f"hard subset ({n_hard} tweets)"
    for draw, rows in ((forest.image_caused, tables["image caused"]), (forest.renamed, tables["rename"])):
        assert len(draw(rows).axes) == 2
    (ax,) = bars.wrong_boxes(tables["sharing"], n=30).axes
    assert [text.get_text() for text in ax.texts if text.get_text()] == ["0", "0"]
    assert len(boxes.probed(bias_tables.one_tweet(found)).axes) >= 1 + len(found.probes)


def test_files_that_are_missing_or_of_other_data_are_listed_and_the_rest_is_read(study, found, made):
    path = study.run.predictions("stale.test")
    kept = path.read_text()
    erase, dev = study.run.predictions("perfect.test.erase"), study.run.predictions("perfect.dev")
    kept_erase, kept_dev = erase.read_text(), dev.read_text()
    try:
        path.unlink()
        erase.unlink()
        dev.unlink()
        answer(
            study,
            "perfect.test.swap_easy",
            [p.example for p in made["swap_easy"]],
            yardsticks.perfect,
            data="testbed-v1:0123456789ab",
        )
        answer(
            study,
            "perfect.test.swap_hard",
            [p.example for p in made["swap_hard"]],
            yardsticks.perfect,
            data=None,
        )
        again = bias_tables.collect(study)
        assert list(again.answers) == ["perfect"]
        assert set(made) - set(again.probe_answers["perfect"]) == {"erase", "swap_easy", "swap_hard"}
        hard, easy = (data_of([p.example for p in made[v]]) for v in ("swap_hard", "swap_easy"))
        refused = "perfect: predictions/perfect.test.swap_{} has answers to data {}, this run has {}: refused"
        assert again.missing == [
            refused.format("hard.jsonl", "that it does not name", hard),
            refused.format("easy.jsonl", "testbed-v1:0123456789ab", easy),
            "perfect: predictions/perfect.test.erase.jsonl does not exist: left out",
            "perfect: predictions/perfect.dev.jsonl does not exist: left out",
            "stale: predictions/stale.test.jsonl does not exist: left out",
        ]
        assert all(sentence in again.description for sentence in again.missing)
        assert again.other_splits == {}
        rows = all_tables(again)
        shown = {row["probe"] for row in rows["consistency"]}
        assert {"blank", "mute"} <= shown
        assert not {"erase", "all"} & shown, "what has answered fewer probes has less to fail"
    finally:
        path.write_text(kept)
        erase.write_text(kept_erase)
        dev.write_text(kept_dev)


def test_a_predictions_file_has_its_probes_beside_it(study, found, made, tmp_path):
    overrides = {"stand_in": None, "predictions": str(tmp_path / "mine.jsonl"), "settings": {}}
    other = Study(config.load(study.loaded.profile, study.loaded.folder, overrides))
    rows = [finished_row(e, yardsticks.perfect(e)) for e in found.examples]
    write_predictions(tmp_path / "mine.jsonl", rows)  # a file of one's own need not name its data
    write_predictions(
        tmp_path / "mine.erase.jsonl",
        [finished_row(p.example, yardsticks.perfect(p.example)) for p in made["erase"]],
    )
    again = bias_tables.collect(other)
    assert (list(again.answers), list(again.probe_answers["predictions"])) == (["predictions"], ["erase"])
    assert again.missing[0] == f"predictions: {tmp_path.name}/mine.blank_mean.jsonl does not exist: left out"
    write_predictions(tmp_path / "mine.jsonl", rows, data="twitter-gmner-v1:0123456789ab")
    here = data_of(found.examples)
    again = bias_tables.collect(other)
    assert (again.answers, again.probe_answers) == ({}, {})
    other_data = f"answers to data twitter-gmner-v1:0123456789ab, this run has {here}"
    assert again.missing == [f"predictions: {tmp_path.name}/mine.jsonl has {other_data}: refused"]
    write_predictions(tmp_path / "mine.jsonl", [{**row, "id": f"x{row['id']}"} for row in rows])
    assert bias_tables.collect(other).missing == [
        f"predictions: {tmp_path.name}/mine.jsonl has no answer to any of these 30 tweets: left out"
    ]


def test_without_probes_and_answers_there_is_nothing_to_draw(study):
    other = Study(config.load(study.loaded.profile, study.loaded.folder, {"settings": {}, "probes": []}))
    again = bias_tables.collect(other)
    assert "none; the profile names none" in again.description
    assert bias_tables.one_tweet(again) == {}
    tables = all_tables(again)
    assert [name for name, rows in tables.items() if rows] == ["grounding"]  # the blind rules need no answers
    assert bias_tables.result_rows(again, tables) == []


def test_an_unknown_probe_is_refused_by_the_configuration(study):
    with pytest.raises(UserError, match="probes is 'blanc'"):
        config.load(study.loaded.profile, None, {"probes": ["blanc"]})


def test_hand_made_shortcuts_are_noticed_by_their_own_measure():
    names = ("perfect", "box not wanted (textual bias)", "name not in the text (visual bias)")
    right, textual, visual = ([metrics.judge(cases.TWEET, cases.ANSWERS[name])] for name in names)
    blind = [metrics.judge(cases.TWEET, yardsticks.never_a_box(cases.TWEET))]
    # textual: one of one absent entity is boxed; visual: one of three names is not in the text;
    # never a box: "absent" said of both, right of one: N-Pre 1/2, N-Rec 1/1
    expected = [(100, 100, 100, 0, 0), (0, 0, 0, 100, 0), (100, 100, 100, 0, 0), (50, 100, 67, 0, 100)]
    for one, values in zip((right, textual, visual, blind), expected, strict=True):
        assert tuple(round(ratio.percent or 0) for ratio in bias.textual_bias(one).values()) == values
    counts = [bias.visual_bias(one)["n_rate"].numerator.sum() for one in (right, textual, visual, blind)]
    assert counts == [0, 0, 1, 0]
    assert bias.wrong_boxes(textual)["another entity"] == 1
