"""Tables and figures of notebook 02, and `mcr chains build`."""

import hashlib
import json
import shutil
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest

mpl.use("Agg")

import matplotlib.pyplot as plt

from mcr_lib import constraints, data, statements
from mcr_lib.data import mrsi
from mcr_lib.data.files import read_jsonl
from mcr_lib.schema import Entity, PredictedEntity
from mcr_lib.study.commands import cli
from mcr_lib.study.figures import bars, heat
from mcr_lib.study.runs import config
from mcr_lib.study.runs.artifacts import RunFolder
from mcr_lib.study.runs.settings import Study
from mcr_lib.study.tables import cases, injection, mistakes
from mcr_lib.styles import STYLES
from mcr_lib.testbed import teacher

QWEN = mrsi.Target("qwen2.5-vl", 3136, 10**6)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def tweets(sample_dir):
    return data.load_split("twitter-gmner", sample_dir, split="train", images_dir=sample_dir)


# mistakes
# ----------------------------------------------------------------------------


def test_each_planted_error_is_the_one_asked_for():
    said = statements.of_example(cases.TWEET)
    rng = np.random.default_rng(0)
    for _ in range(20):
        [wrong] = {
            (a.name, b.type)
            for a, b in zip(said, mistakes.plant("wrong type", said, cases.TWEET, rng), strict=True)
            if a != b
        }
        assert wrong[1] in cases.TWEET.labels
        assert len(mistakes.plant("dropped entity", said, cases.TWEET, rng)) == 1
        added = mistakes.plant("added entity", said, cases.TWEET, rng)
        assert {s.name for s in added} - {s.name for s in said} == {"enters"}
        flipped = mistakes.plant("flipped groundability", said, cases.TWEET, rng)
        assert sum(a.is_groundable != b.is_groundable for a, b in zip(said, flipped, strict=True)) == 1
    assert mistakes.plant("swapped slots", said, cases.TWEET, rng) is None  # one thing is shown
    both = [said[0], replace(said[1], is_groundable=True, slot=2)]
    assert [s.slot for s in mistakes.plant("swapped slots", both, cases.TWEET, rng)] == [2, 1]
    assert mistakes.plant("wrong type", [], cases.TWEET, rng) is None


def test_repairs_of_an_answer_with_one_mistake_lead_to_the_perfect_one():
    perfect = (PredictedEntity("Ada Byron", "PER", (mistakes.A,)), PredictedEntity("Rome", "LOC"))
    for kind, wrong in {
        "type": (replace(perfect[0], type="LOC"), perfect[1]),
        "boundary": (replace(perfect[0], text="Ada"), perfect[1]),
        "box": (replace(perfect[0], boxes_xyxy=(mistakes.C,)), perfect[1]),
        "groundability": (perfect[0], replace(perfect[1], boxes_xyxy=(mistakes.C,))),
        "untouching one dropped": (*perfect, PredictedEntity("Eve", "PER")),
        "missing entity added": (perfect[0],),
    }.items():
        answers = [repair.answer for repair in mistakes.repairs(wrong, mistakes.WORLD) if repair.kind == kind]
        assert perfect in answers, kind
    assert list(mistakes.repairs(perfect, mistakes.WORLD)) == []


def test_a_repair_that_takes_anothers_words_is_marked():
    gold = replace(mistakes.WORLD, entities=(mistakes.WORLD.entities[0], Entity("in Rome", 2, 4, "LOC", ())))
    answer = (PredictedEntity("Ada", "PER"), PredictedEntity("Byron in", "LOC"))
    [first, _] = [repair for repair in mistakes.repairs(answer, gold) if repair.kind == "boundary"]
    assert first.answer[0].text == "Ada Byron"
    assert first.moves_others


# tables
# ----------------------------------------------------------------------------


def test_claims_are_listed_per_constraint():
    task = constraints.of_task(cases.TWEET.constraints)
    assert [one.symbol for one in task] == ["C_s", "C_t", "C_e", "C_u"]
    assert [one.claim(cases.TWEET.entities[1]) for one in task] == ["Oracle Arena", "LOC", False, None]


def test_rewrites_are_kept_or_named():
    kept = {row["a rewriter that returns"]: (row["kept"], row["flaw"]) for row in injection.rewrite_rows()}
    assert kept.pop("the same facts, other words") == ("llm", "")
    assert all(source == "template" and flaw for source, flaw in kept.values())


def test_the_verifier_table_passes_templates_only(tweets):
    rows = injection.mutation_rows(tweets, seed=0)
    assert rows[0]["passing"] == rows[0]["chains"] == len(tweets) * len(STYLES)
    assert [row["passing"] for row in rows[1:]] == [0] * len(mistakes.PLANTED)


def test_the_teachers_chain_says_the_bait_that_the_terse_one_of_the_same_tweet_leaves_out():
    tweet, (terse, taught) = injection.with_teacher()
    assert [(c.style, c.source) for c in (terse, taught)] == [("terse", "template"), ("distill", "mllm")]
    assert {e.is_groundable for e in tweet.example.entities} == {True, False}
    looks = {teacher.look(bait.text) for bait in tweet.example.image_only}
    assert looks
    assert all(look in taught.text for look in looks)
    assert not any(look in terse.text for look in looks)
    heads = [line for line in injection.chains_text([terse, taught]).split("\n") if line.startswith("──")]
    assert ["template" in heads[0], "simulated teacher" in heads[1]] == [True, True]


def test_a_setting_that_asks_for_the_teacher_has_its_chains_in_a_file(tmp_path):
    styles = {"stage": "sft", "styles": ["terse", "distill"]}
    settings = {"mrsi": styles, "taught": {**styles, "chains": "teacher"}}
    study = Study(config.load("nano", tmp_path, {"settings": settings, "n_styles": 2}))
    built = injection.of_teacher(study)
    assert list(built) == ["teacher-taught"]
    pairs = study.pairs("taught")
    assert [(c.id, c.style) for c in built["teacher-taught"].chains] == [(e.id, style) for e, style in pairs]
    files = {"template": mrsi.build_chains(pairs, seed=0), **built}
    counts = {(r["file"], r["style"], r["source"]): r["chains"] for r in injection.source_rows(files)}
    n_distill = sum(style == "distill" for _, style in pairs)
    assert 0 < n_distill < len(pairs)
    assert counts == {
        ("template", "terse", "template"): len(pairs) - n_distill,
        ("template", "distill", "template"): n_distill,
        ("teacher-taught", "terse", "template"): len(pairs) - n_distill,
        ("teacher-taught", "distill", "simulated teacher"): n_distill,
    }
    folder = RunFolder(tmp_path)
    lines = injection.write_all(folder, pairs, [], files)
    assert lines[-1] == "rejects.json: 0 rejected"
    read = mrsi.read_chains(folder.chains("teacher-taught"), study.examples("train"))
    assert read == built["teacher-taught"].chains
    rejects = json.loads((folder.path / "chains" / "rejects.json").read_text())
    assert {name: counts["chains"] for name, counts in rejects.items()} == dict.fromkeys(files, len(pairs))


def test_shares_of_d1_and_d2_are_of_their_own_entities():
    nobody = replace(cases.TWEET, id="2", entities=())
    d2 = [(nobody, "formal"), (nobody, "distill"), (cases.TWEET, "distill")]
    table = injection.split_table([(cases.TWEET, "formal")], d2)
    assert table.loc["in the image", "D1 (MRSI), %"] == 50
    assert table.loc["without entity", "D2 (CVO), %"] == 66.7  # two of its three pairs
    assert table.loc["pairs", "D1 (MRSI), %"] == 25
    assert table.loc["tweets", "D1 (MRSI), %"] == 50  # one of two tweets
    assert list(table.loc["tweets in both", ["D1 (MRSI)", "D2 (CVO)"]]) == [1, 1]
    assert table.loc["distill", "D2 (CVO)"] == 2


def test_gold_answers_reach_the_maximum_on_every_task(tweets):
    text_only, grounding = [], []
    for tweet in tweets:
        without_boxes = tuple(replace(entity, boxes_xyxy_px=None) for entity in tweet.entities)
        without_types = tuple(replace(entity, type=None) for entity in tweet.entities)
        text_only.append(replace(tweet, constraints=("span", "type"), entities=without_boxes))
        grounding.append(replace(tweet, constraints=("groundable", "box"), entities=without_types))
    assert injection.gold_answers_reach_the_maximum([*tweets, *text_only, *grounding], QWEN)


@pytest.mark.parametrize(("family", "reach"), [("qwen2.5-vl", None), ("qwen3-vl", (1000, 1000))])
def test_target_boxes_are_where_gold_is_on_the_original(tweets, family, reach):
    target = replace(QWEN, family=family)
    rows = injection.target_rows(tweets, target, 2)
    with_box = [e.id for e in tweets if any(entity.boxes_xyxy_px for entity in e.entities)]
    assert list(dict.fromkeys(row["id"] for row in rows)) == with_box[:2]
    for row in rows:
        ends = zip(row["gold"], row["original, px"] * 2, (reach or row["resized, px"]) * 2, strict=True)
        exact = [value * to / of for value, of, to in ends]
        assert row["written"] == pytest.approx(exact, abs=1)


# pictures
# ----------------------------------------------------------------------------


def test_every_figure_draws(tweets):
    built = mrsi.build_chains(mrsi.pairs(tweets, tuple(STYLES), n_styles=99, seed=0), seed=0).chains
    for figure in (
        heat.verifier(injection.mutation_rows(tweets[:3], seed=0)),
        bars.lengths(injection.length_rows(built), limit=64),
    ):
        figure.canvas.draw()
        assert figure.axes
    lengths = bars.lengths(injection.length_rows(built), limit=64)
    counts = [sum(bar.get_height() for bar in ax.patches) for ax in lengths.axes if ax.patches]
    assert counts == [len(tweets)] * len(STYLES)  # nobody falls off the right edge


# files
# ----------------------------------------------------------------------------


def test_what_the_notebook_writes_is_read_back(tweets, tmp_path):
    d1, d2 = mrsi.split(mrsi.pairs(tweets, seed=0), d1_share=0.5, seed=0)
    built = mrsi.build_chains(d1, seed=0)
    lines = injection.write_all(RunFolder(tmp_path), d1, d2, {"template": built})
    names = [line.split(":")[0] for line in lines]
    assert names == ["d1.jsonl", "d2.jsonl", "template.jsonl", "rejects.json"]
    assert mrsi.read_chains(RunFolder(tmp_path).chains("template"), tweets) == built.chains
    header, rows = read_jsonl(RunFolder(tmp_path).data("d2"), kind="pairs")
    assert [(row["id"], row["style"]) for _, row in rows] == [(e.id, style) for e, style in d2]


def test_chains_build_writes_the_same_bytes_a_card_and_checksums(sample_dir, tmp_path, capsys):
    for name in ("a", "b"):
        arguments = ["--root", str(sample_dir), "--out", str(tmp_path / name), "--d1-share", "1"]
        assert cli.main(["chains", "build", *arguments]) == 0
    assert "20 chains, all verified" in capsys.readouterr().out, "two styles of each of ten tweets"
    for name in ("chains.jsonl", "README.md", "checksums.txt"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    for line in (tmp_path / "a" / "checksums.txt").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((tmp_path / "a" / name).read_bytes()).hexdigest() == digest
    card = (tmp_path / "a" / "README.md").read_text()
    assert "20 chains about 10 tweets (17 entities, 14 of them in the image)" in card


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--styles", "terse,sonnet"], "unknown style 'sonnet'; choose from formal"),
        (["--n-styles", "0"], "--n-styles is 0; a tweet has at least one"),
        (["--source", "snli"], "unknown source 'snli'"),
        (["--d1-share", "1.5"], "--d1-share is 1.5; expected a share in [0, 1]"),
        (["--split", "deev"], "deev"),
    ],
)
def test_a_mistake_of_chains_build_is_one_sentence_and_writes_nothing(
    sample_dir, tmp_path, capsys, arguments, message
):
    out = ["--root", str(sample_dir), "--out", str(tmp_path / "out")]
    assert cli.main(["chains", "build", *out, *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_chains_build_refuses_a_folder_that_is_a_file(sample_dir, tmp_path, capsys):
    (tmp_path / "out").write_text("x")
    assert cli.main(["chains", "build", "--root", str(sample_dir), "--out", str(tmp_path / "out")]) == 2
    assert "cannot write" in capsys.readouterr().err


def test_chains_build_leaves_a_name_out_that_it_cannot_say_and_counts_it(sample_dir, tmp_path, capsys):
    root = shutil.copytree(sample_dir, tmp_path / "data")
    with (root / "Twitter10000_v2.0/txt/train.txt").open("a") as file:
        file.write("\nIMGID:9\nsee\tO\n</think>\tB-ORG\n")
    arguments = ["--root", str(root), "--out", str(tmp_path / "out"), "--d1-share", "1"]
    assert cli.main(["chains", "build", *arguments]) == 0
    said = capsys.readouterr().out
    assert "20 chains, all verified" in said
    assert "left out, for a name that reads as a tag, a slot or a box: 1 tweet: 9" in said
