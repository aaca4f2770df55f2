"""Runs of several seeds merged: what is measured, refused and missing, and that nothing but the evidence is
needed afterwards.
"""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from mcr_lib import bias, data, metrics, yardsticks
from mcr_lib.data.files import write_json
from mcr_lib.data.predictions import finished_row, write_predictions
from mcr_lib.errors import UserError
from mcr_lib.schema import CONSTRAINTS, FORMAT_VERSION, PredictedEntity, checksum
from mcr_lib.study.commands import cli
from mcr_lib.study.compare import evidence as evidence_module
from mcr_lib.study.compare import tables
from mcr_lib.study.compare.claims import Plan
from mcr_lib.study.compare.evidence import FILE, Evidence, summary
from mcr_lib.study.compare.merge import merge
from mcr_lib.study.figures import forest, palette
from mcr_lib.study.runs import cache, config, prepare, setting
from mcr_lib.study.runs.artifacts import RunFolder

SETTINGS = {"base": {}, "sft": {"stage": "sft", "rows": "answers"}, "mcr": {"stage": "cvo", "start": "sft"}}
RATES = {"base": 0.5, "sft": 0.7, "mcr": 0.95}
"""How often each decision of a made-up setting is right."""


@pytest.fixture(scope="module")
def tweets(sample_dir):
    return {split: data.load_split("twitter-gmner", sample_dir, split=split) for split in ("dev", "test")}


def answered(path, name, tweets, seed, rule, *, split, **header):
    data = f"{tweets[0].source}:{checksum(tweets)}"
    own = {"setting": name, "seed": seed, "split": split, "data": data, "prompt": "direct"}
    write_predictions(path, [finished_row(e, rule(e)) for e in tweets], **own, **header)


def blank(example):
    return replace(example, entities=tuple(replace(entity, boxes_xyxy_px=()) for entity in example.entities))


def make_run(folder, seed, tweets, sample_dir, **overrides):
    """A run folder as `mcr run` leaves it, its answers made from gold; of the blank probe, all of test."""
    given = {
        "source": "twitter-gmner",
        "data_dir": str(sample_dir),
        "settings": SETTINGS,
        "seed": seed,
        "probes": ["blank_mean"],
        "answer_splits": [],
        **overrides,
    }
    loaded = config.load("tiny", folder, given)
    run = RunFolder(folder)
    folder.mkdir(parents=True)
    run.profile.write_text(config.as_yaml(loaded))
    write_json(
        run.manifest,
        {
            "format_version": FORMAT_VERSION,
            "notebooks": {},
            "profile": "tiny",
            "seed": seed,
            "commit": "c0ffee",
        },
    )
    probed = [blank(example) for example in tweets["test"]]
    prepare.write_examples(run, {**tweets, "test.blank_mean": probed})
    for name in loaded.config.settings:
        for split, some in tweets.items():
            rng = np.random.default_rng([seed, list(RATES).index(name), len(split)])
            accuracy = dict.fromkeys(CONSTRAINTS, RATES[name])
            rule = lambda e, a=accuracy, rng=rng: yardsticks.degrade(e, a, rng)  # noqa: E731
            answered(run.predictions(f"{name}.{split}"), name, some, seed, rule, split=split)
        invent = [PredictedEntity("Nobody Here", "PER")] if name == "base" else []
        rule = lambda e, invent=invent: [*yardsticks.perfect(e), *invent]  # noqa: E731
        answered(run.predictions(f"{name}.test.blank_mean"), name, probed, seed, rule, split="test")
    return folder


@pytest.fixture(scope="module")
def runs(tweets, sample_dir, tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    return [make_run(root / str(seed), seed, tweets, sample_dir) for seed in (1, 2, 3)]


@pytest.fixture(scope="module")
def evidence(runs):
    return merge(runs)


def row(scores, setting, split, metric):
    (found,) = [
        r for r in scores["rows"] if (r["setting"], r["split"], r["metric"]) == (setting, split, metric)
    ]
    return found


def entity(row):
    boxes = (tuple(row["bbox_2d"]),) if row["bbox_2d"] else ()
    return PredictedEntity(row["entity"], row["type"], boxes)


def test_numbers_with_each_seed_are_those_of_its_files_alone(runs, evidence, tweets):
    scores = summary(evidence, n_resamples=100)
    for folder, seed in zip(runs, ("1", "2", "3"), strict=True):
        lines = (folder / "predictions" / "mcr.test.jsonl").read_text().splitlines()[1:]
        predicted = {row["id"]: list(map(entity, row["entities"])) for row in map(json.loads, lines)}
        judged = [metrics.judge(example, predicted[example.id]) for example in tweets["test"]]
        f1 = metrics.ratios(metrics.totals([metrics.outcome(j, "gmner") for j in judged]))["f1"].percent
        assert row(scores, "mcr", "test", "gmner_f1")["per_seed"][seed] == round(f1, 2)
        false = bias.textual_bias(judged)["false_grounding"].percent
        assert row(scores, "mcr", "test", "false_grounding")["per_seed"][seed] == round(false, 2)
    found = row(scores, "mcr", "test", "gmner_f1")
    assert found["mean"] == pytest.approx(np.mean(list(found["per_seed"].values())), abs=0.01)
    assert found["ci_low"] < found["mean"] < found["ci_high"]
    assert found["n_seeds"] == 3


def test_what_the_image_causes_and_consistency_come_from_probes(evidence, tweets):
    scores = summary(evidence, n_resamples=100)
    n_gold = sum(len(example.entities) for example in tweets["test"])
    real = row(scores, "base", "test", "foreign_rate")["per_seed"]["1"]
    # base invents one name per tweet at a blank image, beside all gold ones: n_tweets / (n_gold + n_tweets)
    at_blank = 100 * len(tweets["test"]) / (n_gold + len(tweets["test"]))
    assert row(scores, "base", "test", "image_caused_foreign_rate")["per_seed"]["1"] == pytest.approx(
        real - at_blank, abs=0.01
    )
    assert (
        row(scores, "sft", "test", "image_caused_foreign_rate")["per_seed"]["1"]
        == row(scores, "sft", "test", "foreign_rate")["per_seed"]["1"]
    )
    assert set(row(scores, "mcr", "test", "consistency")["per_seed"].values()) == {
        100.0
    }  # perfect after the probe
    assert set(row(scores, "base", "test", "consistency")["per_seed"].values()) == {
        0.0
    }  # a name beyond the text in each
    assert not [r for r in scores["rows"] if r["split"] == "dev" and r["metric"] == "consistency"]


def pair(evidence, first="mcr", second="base"):
    return Plan.of_pair(evidence, first, second).evaluate(evidence, n_resamples=200)


def test_the_pair_is_tested_the_first_minus_the_second_on_every_split_and_metric(evidence):
    scores, rows = summary(evidence, n_resamples=200), pair(evidence)
    primary = rows[0]
    at = [primary[key] for key in ("first", "second", "split", "metric")]
    assert at == ["mcr", "base", "test", "gmner_f1"]
    a, b = (row(scores, name, "test", "gmner_f1")["per_seed"] for name in ("mcr", "base"))
    assert primary["per_seed"] == pytest.approx({seed: a[seed] - b[seed] for seed in a}, abs=0.011)
    assert (primary["verdict"], primary["n_agreeing"]) == ("shown", 3)
    other = pair(evidence, "base", "mcr")[0]
    assert (other["mean"], other["verdict"]) == (pytest.approx(-primary["mean"]), "the opposite is shown")
    # for a rate of mistakes less is better
    wrong = next(r for r in rows if (r["split"], r["metric"]) == ("test", "false_grounding"))
    assert (wrong["expect"], wrong["mean"] < 0) == ("lower", True)
    assert {r["split"] for r in rows} == {"dev", "test"}
    blank = next(r for r in rows if r["metric"] == "image_caused_foreign_rate")
    assert (blank["split"], blank["n_seeds"]) == ("test", 3)
    with pytest.raises(UserError, match="no setting 'mrsi' in these runs; known: base, sft, mcr"):
        pair(evidence, "mrsi", "sft")


def test_missing_answers_are_listed_and_the_rest_is_measured(runs, tmp_path, tweets, sample_dir):
    folder = tmp_path / "two"
    shutil.copytree(runs[1], folder)
    (folder / "predictions" / "mcr.test.jsonl").unlink()
    cut = folder / "predictions" / "sft.test.jsonl"
    cut.write_text("".join(cut.read_text().splitlines(keepends=True)[:-1]))
    some = make_run(
        tmp_path / "four", 4, tweets, sample_dir, settings={name: SETTINGS[name] for name in ("base", "sft")}
    )
    found = merge([runs[0], folder, some])
    scores = summary(found, n_resamples=100)
    assert scores["missing"] == [
        "no answers to dev of mcr (seed 4)",
        "no answers to test of mcr (seed 2, 4)",
        "no consistency (answers to all probes) of mcr (seed 2, 4)",
        f"seed 2: 1 of {len(tweets['test'])} answers of sft to test; they count as empty",
    ]
    assert list(row(scores, "mcr", "test", "gmner_f1")["per_seed"]) == ["1"]
    assert list(row(scores, "sft", "test", "gmner_f1")["per_seed"]) == ["1", "2", "4"]
    assert list(row(scores, "mcr", "dev", "gmner_f1")["per_seed"]) == ["1", "2"]
    primary = pair(found, "mcr", "sft")[0]
    assert (primary["n_seeds"], primary["verdict"]) == (1, "too few seeds")
    assert primary["missing"] == "mcr lacks seed 2, 4"
    text = tables.settings_table(scores)
    assert "| mcr | 2 |" in text
    assert ", 1 seed)" in text


def test_several_folders_may_hold_settings_of_one_seed(runs, tmp_path, tweets, sample_dir):
    parts = [
        make_run(tmp_path / str(k), 1, tweets, sample_dir, settings={n: SETTINGS[n] for n in names})
        for k, names in enumerate((["sft", "mcr"], ["base"]))
    ]
    whole, merged = merge(runs[:1]), merge(parts)
    assert set(merged.terms) == set(whole.terms)
    for key, terms in whole.terms.items():
        assert [ratio.percent for _, ratio in merged.terms[key]] == [ratio.percent for _, ratio in terms]


def test_evidence_of_another_machine_fills_in_what_the_runs_lack(runs, tmp_path, tweets, sample_dir):
    merge(runs[1:]).write(tmp_path / "others" / FILE)
    whole, found = merge(runs), merge([tmp_path / "others", runs[0]])
    assert found.head["seeds"] == [1, 2, 3]
    assert found.missing() == whole.missing() == []
    scores, expected = (summary(one, n_resamples=100)["rows"] for one in (found, whole))
    assert sorted(scores, key=str) == sorted(expected, key=str)
    parts = [
        make_run(tmp_path / str(k), 1, tweets, sample_dir, settings={n: SETTINGS[n] for n in names})
        for k, names in enumerate((["sft", "mcr"], ["base", "sft"]))
    ]
    for part, name in zip(parts, ("sft", "base"), strict=True):
        (part / "predictions" / f"{name}.dev.jsonl").unlink()
    merge(parts[1:]).write(tmp_path / "rest" / FILE)
    filled = merge([parts[0], tmp_path / "rest"])  # sft is in the evidence
    assert filled.missing() == ["no answers to dev of base (seed 1)"]
    again = merge([tmp_path / "rest"])  # alone, as after a change of data/claims.yaml
    assert (again.head, again.n_tweets) == (merge(parts[1:]).head, merge(parts[1:]).n_tweets)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"contradicting": 0.5}, "contradicting: 0.5, not"),
        ({"signatures": {"test": "other"}}, "the tweets of test or their scoring: other, not"),
    ],
)
def test_evidence_of_another_world_is_refused(change, problem, runs, tmp_path, capsys):
    other = merge(runs[1:])
    replace(other, head=other.head | change).write(tmp_path / FILE)
    assert cli.main(["compare", str(runs[0]), str(tmp_path)]) == 2
    assert f"{tmp_path} differs from {runs[0]} in {problem}" in capsys.readouterr().err


def test_seeds_may_have_other_tweets(runs, tmp_path, tweets, sample_dir):
    renamed = {
        split: [replace(example, id=f"other_{example.id}") for example in some]
        for split, some in tweets.items()
    }
    found = merge([runs[0], make_run(tmp_path / "other", 2, renamed, sample_dir)])
    assert found.n_tweets == {split: 2 * len(some) for split, some in tweets.items()}
    assert pair(found, "mcr", "sft")[0]["n_seeds"] == 2
    assert pair(found, "mcr", "sft")[0]["missing"] == "only seed 1, 2"


def broken(folder, what, tweets):
    """Make a copy of a run one that does not belong to the others."""
    profile, predictions = folder / "profile.yaml", folder / "predictions" / "mcr.test.jsonl"
    if what == "options":
        profile.write_text(profile.read_text().replace("cvo: {", 'cvo: {"sigma": 0.3, '))
    elif what == "setting":
        profile.write_text(profile.read_text().replace('"share": 1.0', '"share": 0.5', 1))
    elif what == "gold":
        run = RunFolder(folder)
        prepare.write_examples(run, {"test": [blank(example) for example in tweets["test"]]})
    elif what == "header":
        predictions.write_text(predictions.read_text().replace('"seed": 2', '"seed": 7', 1))
    elif what == "signature":
        predictions.write_text(
            predictions.read_text().replace('"data": "twitter-gmner', '"data": "twitter-gmner-v0', 1)
        )
    elif what == "world":
        profile.write_text(profile.read_text().replace("testbed_seed: 0", "testbed_seed: 7"))
    elif what == "share":
        text, key = profile.read_text(), "testbed_contradicting: "
        profile.write_text(re.sub(f"{key}.*", f"{key}0.3", text))
    elif what == "probes":
        profile.write_text(
            profile.read_text().replace('probes: ["blank_mean"]', 'probes: ["blank_mean", "erase"]')
        )
    elif what == "profile":
        profile.unlink()


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("options", "differs from .* in cvo: "),
        ("setting", "setting base of .* is not that of .*; give one of them another name"),
        ("gold", "tweet .* of test has other gold than in the runs before it"),
        ("header", "answers of seed 7, where this run has 2"),
        ("signature", "answers of data twitter-gmner-v0"),
        ("world", "two differs from .* in testbed_seed: 7, not 0"),
        ("share", "two differs from .* in testbed_contradicting: 0.3, not 0"),
        ("probes", "differs from .* in probes: blank_mean, erase, not blank_mean"),
        ("profile", "is no run folder: profile.yaml is not there"),
        ("same", "seed 2 of base is in two runs"),
    ],
)
def test_runs_that_do_not_belong_together_are_refused_in_a_sentence(runs, tmp_path, tweets, what, message):
    folder = tmp_path / "two"
    shutil.copytree(runs[1], folder)
    broken(folder, what, tweets)
    with pytest.raises(UserError, match=message) as raised:
        merge([runs[1] if what == "same" else runs[0], folder])
    assert "\n" not in str(raised.value)
    with pytest.raises(UserError, match="name at least one run folder"):
        merge([])


def trained(folder, *, base, **changes):
    """Record for each setting of a run what it was trained from, and for each answer which model gave it."""
    run, c = RunFolder(folder), config.load(str(folder / "profile.yaml"), folder).config
    model = {"backbone": base}
    for name, one in c.settings.items():
        model[name] = model[one.start] if one.stage == "none" else f"{name}-{c.seed}"
        if one.stage != "none":
            options = setting.stage_options(one, getattr(c, one.stage), name=name, of_run={"seed": c.seed})
            fields = one.model_dump(mode="json", exclude_defaults=True)
            record = {"setting": fields, "options": options[0].describe(options[1])}
            record |= {"fingerprint": model[name], "start": model[one.start], "status": "done"}
            record = {"format_version": FORMAT_VERSION, **record, **changes.get(name, {})}
            write_json(run.setting(name) / cache.FINGERPRINT, record)
        for path in (folder / "predictions").glob(f"{name}.*"):
            head, rest = path.read_text().split("\n", 1)
            path.write_text(json.dumps({**json.loads(head), "model": model[name]}) + "\n" + rest)
    return folder


@pytest.fixture
def two(runs, tmp_path):
    return [shutil.copytree(run, tmp_path / run.name) for run in runs[:2]]


def test_runs_whose_models_are_those_of_the_profile_and_come_from_one_backbone_are_merged(two, evidence):
    trained(two[0], base="b0", sft={"setting": {"stage": "sft", "rows": "answers", "test_style": "terse"}})
    trained(two[1], base="b0")  # a style that it is asked for at test does not make another model
    shutil.rmtree(two[1] / "settings")  # models need not be copied with answers
    terms = merge(two).terms
    assert terms.keys() == {key for key in evidence.terms if key[0] in (1, 2)}


@pytest.mark.parametrize(
    "change",
    [
        {"fingerprint": "anew"},
        {"status": "begun"},
        {"setting": {"stage": "sft", "rows": "answers", "share": 0.5}},
        {"options": [{"option": "learning_rate", "value": 1e-3, "origin": "profile"}]},
    ],
)
def test_answers_of_a_model_that_the_profile_does_not_describe_are_refused(two, change):
    """A run that was begun again with other options and stopped on the way holds the new profile beside the
    old answers.
    """
    trained(two[0], base="b0", sft=change)
    with pytest.raises(
        UserError,
        match="the model of sft is not the one that these answers and the profile are of; run mcr run again",
    ):
        merge(two)


def test_models_of_a_start_that_was_made_anew_are_refused(two):
    trained(two[0], base="b0", mcr={"start": "sft-0"})
    with pytest.raises(UserError, match="mcr.*: the model of sft is not the one"):
        merge(two)


def test_runs_from_two_backbones_of_one_name_are_refused(two):
    for folder, base in zip(two, ("b0", "b1"), strict=True):
        trained(folder, base=base)
    with pytest.raises(
        UserError,
        match="2: its settings start from other weights than those of .*1, though both call them tiny-base",
    ):
        merge(two)


def test_names_that_the_image_causes_where_the_text_is_muted_are_measured_apart(tweets, sample_dir, tmp_path):
    folder = make_run(tmp_path / "1", 1, tweets, sample_dir, probes=["mute"], settings={"base": {}})
    run, probed = RunFolder(folder), [blank(example) for example in tweets["test"]]
    prepare.write_examples(run, {"test.mute": probed, "test.mute_blank": probed[1:]})
    invent = [PredictedEntity("Nobody Here", "PER")]
    answered(
        run.predictions("base.test.mute"),
        "base",
        probed,
        1,
        lambda e: [*yardsticks.perfect(e), *invent],
        split="test",
    )
    answered(run.predictions("base.test.mute_blank"), "base", probed[1:], 1, yardsticks.perfect, split="test")
    found = merge([folder])
    (terms,) = [
        terms for (*_, metric), terms in found.terms.items() if metric == "image_caused_foreign_rate_muted"
    ]
    n, n_gold = (
        len(probed) - 1,
        sum(len(example.entities) for example in probed[1:]),
    )  # of the tweets that have both
    assert sum(sign * ratio.percent for sign, ratio in terms) == pytest.approx(100 * n / (n_gold + n))


def test_consistency_takes_answers_to_every_probe(tweets, sample_dir, tmp_path):
    folder = make_run(tmp_path / "1", 1, tweets, sample_dir, probes=["blank_mean", "erase"])
    run, probed = RunFolder(folder), [blank(example) for example in tweets["test"]]
    prepare.write_examples(run, {"test.erase": probed})
    for name in ("base", "mcr"):
        answered(run.predictions(f"{name}.test.erase"), name, probed, 1, yardsticks.perfect, split="test")
    found = merge([folder])
    assert {name for _, name, _, metric in found.terms if metric == "consistency"} == {"base", "mcr"}
    assert found.missing() == ["no consistency (answers to all probes) of sft (seed 1)"]
    assert not [row for row in pair(found, "mcr", "sft") if row["metric"] == "consistency"]


def test_evidence_is_enough_to_compute_every_number_again(evidence, tmp_path):
    first, second = tmp_path / "a.json.gz", tmp_path / "b.json.gz"
    evidence.write(first)
    again = Evidence.read(first)
    again.write(second)
    assert first.read_bytes() == second.read_bytes()
    assert summary(again, n_resamples=100) == summary(evidence, n_resamples=100)
    assert pair(again) == pair(evidence)
    first.write_bytes(first.read_bytes()[:100])
    for path in (first, tmp_path / "none.json.gz"):
        with pytest.raises(UserError, match="is no evidence of this release"):
            Evidence.read(path)


def test_evidence_that_was_counted_otherwise_is_refused_in_a_sentence(evidence, tmp_path, monkeypatch):
    path = tmp_path / "a.json.gz"
    monkeypatch.setattr(evidence_module, "SCORER_VERSION", 1)
    evidence.write(path)
    monkeypatch.undo()
    sentence = "counted by scorer version 1, not 3.*mcr compare makes it anew"
    with pytest.raises(UserError, match=sentence) as raised:
        Evidence.read(path)
    assert "\n" not in str(raised.value)


def test_the_figure_of_claims_shows_each_seed_the_mean_its_interval_and_the_verdict_in_words(evidence):
    rows = pair(evidence)
    no_run, alone = {**rows[0], "n_seeds": 0}, {**rows[0], "kind": "description", "second": None}
    ax, beside = forest.claims([*rows, {**no_run, "number": "9"}, {**alone, "number": "8"}]).axes
    assert [label.get_text() for label in ax.get_yticklabels()][:2] == [
        "mcr is better than base (ours)",
        "mcr − base: GMNER F1, test ↑",
    ]
    dots = {round(float(x), 2) for collection in ax.collections for x, _ in collection.get_offsets()}
    assert dots == {value for r in rows for value in r["per_seed"].values()}
    drawn = [list(line.get_xdata()) for line in ax.lines]
    assert [rows[0]["ci_low"], rows[0]["ci_high"]] in drawn
    texts = [text for label in beside.get_yticklabels() if (text := label.get_text())]
    assert texts[0].endswith("3 seeds  shown")
    assert len(texts) == len(rows), "a row without a run, and one of one setting, have no line"
    filled = {line.get_markerfacecolor() for line in ax.lines if line.get_marker() == "o"}
    assert filled >= {palette.RIGHT, "white"}  # something is shown, something is not
    assert forest.seed_values(rows)[0]["seed 1"] == rows[0]["per_seed"]["1"]


def test_the_command_writes_all_that_documents_need(runs, tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(["compare", *map(str, runs), "--out", str(out), "--resamples", "100"]) == 0
    printed = capsys.readouterr().out
    scores, of_claims = (json.loads((out / f"{name}.json").read_text()) for name in ("scores", "claims"))
    assert tables.claims_table(of_claims["rows"]).split("\n")[2].removeprefix("|") in printed
    names = {"evidence.json.gz", "scores.json", "claims.json", "claims.png", "claims.csv"}
    assert {path.name for path in out.iterdir()} == names
    again = Evidence.read(out / "evidence.json.gz")
    assert scores == json.loads(json.dumps(summary(again, n_resamples=100)))
    rows = Plan.of_pair(again, "mcr", "sft").evaluate(again, n_resamples=100)
    assert of_claims["rows"] == json.loads(json.dumps(rows))
    assert tables.CONTROLLED not in printed  # real tweets
    assert tables.CONTROLLED in tables.settings_table({**scores, "source": "testbed"})
    assert cli.main(["compare", str(runs[0]), "--pair", "mcr", "mrsi", "--out", str(out)]) == 2
    assert capsys.readouterr().err == "mcr: no setting 'mrsi' in these runs; known: base, sft, mcr\n"
