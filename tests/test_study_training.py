"""Tables of notebooks 03 and 04: training rows, options, hand-made and sampled rollouts, curves, progress."""

import io
import json
import math
from dataclasses import replace

import matplotlib as mpl
import pandas as pd
import pytest

mpl.use("Agg")

import matplotlib.pyplot as plt

from mcr_lib import testbed
from mcr_lib.answer import write_answer
from mcr_lib.data import mrsi
from mcr_lib.data.files import write_jsonl
from mcr_lib.errors import UserError
from mcr_lib.prompts import text_of
from mcr_lib.study.figures import boxes, curves, palette
from mcr_lib.study.runs import config
from mcr_lib.study.runs.progress import teller
from mcr_lib.study.runs.settings import Study
from mcr_lib.study.tables import rollouts, training
from mcr_lib.training import loop, sampling
from mcr_lib.training.options import CvoOptions
from mcr_lib.yardsticks import perfect

SETTINGS = {
    "mcr": {"stage": "cvo", "start": "mrsi", "data": "train"},
    "base": {},
    "mrsi": {"stage": "sft", "styles": ["terse"], "options": {"learning_rate": 0.5}},
    "sft": {"stage": "sft", "rows": "answers"},
}


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def study(tmp_path_factory, nano_folder):
    """Four settings of profile nano, none of them trained; the backbone's processor alone is read."""
    overrides = {"settings": SETTINGS, "backbone": str(nano_folder)}
    study = Study(config.load("nano", tmp_path_factory.mktemp("run"), overrides))
    study.__dict__["target"] = mrsi.Target("qwen2.5-vl", 112 * 112, 168 * 168, "brief")
    return study


# hand-made rollouts
# ----------------------------------------------------------------------------


def test_rewards_and_advantages_of_the_four_rollouts_are_those_worked_out_by_hand():
    rows = {row["rollout"]: row for row in rollouts.hand_made_rows()}
    # textual bias: one of two pairs has a box that is not wanted: R_u and R_e 1/2; .3·3 + .15 + .1
    textual = rows["box not wanted (textual bias)"]
    assert [textual[key] for key in ("R_c", "R_s", "R_t", "R_u", "R_e", "R")] == [1, 1, 1, 0.5, 0.5, 1.15]
    # visual bias: three names for two, R_c = 1 - 1·.4, and two right pairs; .18 + .3·3 + .2
    visual = rows["name not in the text (visual bias)"]
    assert [visual[key] for key in ("R_c", "R_s", "R_t", "R_u", "R_e", "R")] == [0.6, 1, 1, 1, 1, 1.28]
    assert rows["malformed"]["R"] == 0
    # mean (1.4 + 1.15 + 1.28 + 0) / 4 = .9575; spread² = (.4425² + .1925² + .3225² + .9575²) / 3 = .41789
    assert rows["perfect"]["advantage"] == pytest.approx(0.4425 / (0.41789**0.5 + 1e-4), abs=1e-4)
    assert sum(row["advantage"] for row in rows.values()) == pytest.approx(0, abs=1e-3)


def test_strict_rewards_push_the_made_up_name_down_where_the_papers_do_not():
    # paper: mean of 1.4, 1.15, 1.28 is 1.2767; strict: 5, 4 and 2/3 + 4/5 + 2/3 + 1/2 + 2/3 = 3.3, mean 4.1
    paper, strict = (
        rollouts.hand_made_rows(rollouts.HAND_MADE[:3], kind=kind) for kind in ("paper", "strict")
    )
    assert [row["R"] for row in strict] == [5, 4, 3.3]
    assert paper[2]["advantage"] > 0 > strict[1]["advantage"] > strict[2]["advantage"]


def test_a_shortcut_is_pushed_up_beside_a_malformed_answer_and_down_among_readable_ones():
    beside, among = rollouts.hand_made_rows(), rollouts.hand_made_rows(rollouts.HAND_MADE[:3])
    assert beside[1]["advantage"] > 0 > among[1]["advantage"]


def test_rewards_of_the_text_alone_do_not_see_the_textual_shortcut():
    rows = rollouts.hand_made_rows(weights=(1, 1, 1, 0, 0))
    assert rows[0]["R"] == rows[1]["R"] == 3 > rows[2]["R"]


# rollouts of a training
# ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sampled(study):
    """Two updates of two groups of two: in update 1 right against empty and equal; in update 2 right against
    unreadable, and equal.
    """
    names = ("count", "span", "type", "grounding", "entailment")
    tweets = [e for e in study.examples("train") if any(entity.boxes_xyxy_px for entity in e.entities)][:2]
    rows = []
    for step, worse, reason in ((1, "<answer>[]</answer>", ""), (2, "no idea", "no_answer_tag")):
        for group, (example, values) in enumerate(zip(tweets, ((0, 5), (5, 5)), strict=True)):
            advantages = rollouts.advantages(values)
            for value, advantage in zip(values, advantages, strict=True):
                answer = gold_answer(study, example) if value else worse
                row = {"step": step, "group": group, "id": example.id, "answer": answer}
                row |= {"worthless": "" if value else reason, "n_tokens": 9}
                row |= {**dict.fromkeys(names, value / 5), "reward": float(value), "advantage": advantage}
                rows.append(row)
    folder = study.run.setting("mcr")
    folder.mkdir(parents=True)
    pd.DataFrame(rows).to_parquet(folder / "rollouts.parquet")
    log = [
        {"step": step, "equal_groups": 0.5, "truncated": 0.25, "reward": 3.75, "kl": 0.1} for step in (1, 2)
    ]
    write_jsonl(folder / "log.jsonl", log, kind="log")
    return rollouts.read(study, ["mcr"])


def gold_answer(study, example):
    from mcr_lib.rewards import written_gold

    return write_answer(perfect(written_gold(example, "model_px", model_size=study.target.size(example))))


def test_groups_with_the_widest_spread_are_shown_the_best_answer_first(study, sampled):
    first, last = rollouts.widest_groups(study, sampled)
    assert [(g.step, [row["reward"] for row in g.rows]) for g in (first, last)] == [(1, [5, 0]), (2, [5, 0])]
    best, worst = first.judged
    assert worst.predictions == ()
    for predicted, gold in best.matched:  # written in pixels of the resized image, read in the original's
        if gold.boxes_xyxy_px:
            largest = max(gold.boxes_xyxy_px, key=lambda b: (b[2] - b[0]) * (b[3] - b[1]))
            assert predicted.box_xyxy == pytest.approx(largest, abs=2)
    assert rollouts.groups_text([last]).splitlines()[-1] == "R 0.00  advantage -0.71  no idea"
    figure = boxes.rollouts([first, last])
    assert sum(ax.axison for ax in figure.axes) == 4
    assert len(first.rows) == len(last.rows) == 2


def test_what_only_the_reasoning_has_is_marked_and_its_box_is_in_original_pixels(study):
    tweet = next(e for e in study.tweets("mcr") if any(entity.is_groundable for entity in e.entities))
    answer = gold_answer(study, tweet)
    box = json.loads(answer.split("<answer>")[1].split("</answer>")[0])
    (said, *_) = (one for one in box if one["bbox_2d"])
    think = f'"{said["entity"]}" at {said["bbox_2d"]} , "Nobody" at [1, 2, 3, 4]'
    texts = [f"<think> {think} </think>{answer}", f"<think> {think} </think> no answer"]
    head = {"setting": "mcr", "step": 1, "group": 0, "id": tweet.id, "reward": 0.0}
    frame = pd.DataFrame([{**head, "answer": text} for text in texts])
    readable, unreadable = rollouts.group(study, frame, "mcr", 1, 0).rows
    assert readable["reasoning"] == think.replace('"Nobody" at [1, 2, 3, 4]', '»"Nobody"« at »[1, 2, 3, 4]«')
    width, model_width = tweet.image_size_px[0], study.target.size(tweet)[0]
    assert [box[0] for box in readable["claimed"]] == pytest.approx([width / model_width])
    assert unreadable["claimed"] == []


def test_a_perfect_answer_earns_what_its_reasoning_allows():
    rows = {row.pop("reasoning"): row for row in rollouts.reasoning_rows()}
    earned = {what: (row["free"], row["present"], row["agreeing"]) for what, row in rows.items()}
    assert earned == {
        "states the answer": (1.4, 1.4, 1.4),
        "states it, the box a little off": (1.4, 1.4, 1.4),
        "says another thing": (1.4, 1.4, 0),
        "says nothing of it": (1.4, 1.4, 0),
        "none": (1.4, 0, 0),
    }
    assert [row["flaw"] for row in rows.values()] == ["", "", "missing_slot", "missing_name", "no_reasoning"]


def test_shares_of_worthless_answers_are_per_update(study, sampled):
    log = loop.read_log(study.run.setting("mcr"))
    rows = rollouts.health_rows(sampled, [{"setting": "mcr", **row} for row in log])
    assert [(row["step"], row["equal groups"], row["cut off"], row["worthless"]) for row in rows] == [
        (1, 50, 25, 0),
        (2, 50, 25, 25),
    ]


def test_the_filter_of_d2_is_counted_and_drawn_per_setting_and_reason(study):
    assert rollouts.filter_rows(study, ["mcr"]) == [], "no filter ran yet"
    verdicts = ["kept", "kept", "too even", "too easy"]
    head = {"style": "", "R": [0, 1], "std": 0.3, "seconds": 0.5}
    judged = [
        {"id": str(k), **head, "max": 1 - k / 10, "median": k / 5, "verdict": verdict}
        for k, verdict in enumerate(verdicts)
    ]
    folder = study.run.setting("mcr")
    folder.mkdir(parents=True, exist_ok=True)
    write_jsonl(folder / "filter.jsonl", judged, kind="filter")
    rows = rollouts.filter_rows(study, ["mcr", "sft"])
    (folder / "filter.jsonl").unlink()
    assert rows == [{"setting": "mcr", **row} for row in judged]
    counts = {"kept": 2, "too even": 1, "never right": 0, "too hard": 0, "too easy": 1}
    (ax,) = curves.selection(rows, thresholds={"mcr": (0.75, 0.1, 0.5)}).axes
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == [f"{name} ({n})" for name, n in counts.items()]
    assert len(ax.lines) == 3
    assert set(palette.VERDICTS) == set(counts)


def test_the_share_of_contradicting_rows_is_counted_before_and_after_the_filter(study, monkeypatch):
    """Six rows of D2 by hand: the criteria of the paper on R in [0, 1]; * contradicts a shortcut."""
    made = (testbed.make("gmner", "train", k).example for k in range(40))
    tweets = {any(not x.is_groundable for x in e.entities) or bool(e.image_only): e for e in made}
    assert set(tweets) == {True, False}
    monkeypatch.setattr(study, "tweets", lambda name: [*tweets.values()])
    options = CvoOptions(filter_std=0.1, filter_max=0.8, filter_median=(0.1, 0.6))
    monkeypatch.setattr(study, "options", lambda name: (options, {}))
    judged = [  # std, maximum, median, verdict, contradicts
        (0.3, 1.0, 0.3, "kept", True),
        (0.2, 0.9, 0.6, "kept", False),
        (0.0, 1.0, 1.0, "too even", False),
        (0.0, 0.0, 0.0, "too even", True),
        (0.2, 0.5, 0.2, "never right", True),
        (0.2, 1.0, 0.9, "too easy", False),
    ]
    keys, head = ("std", "max", "median", "verdict"), {"style": "", "R": [0], "seconds": 0}
    lines = [{"id": tweets[row[-1]].id, **head, **dict(zip(keys, row, strict=False))} for row in judged]
    folder = study.run.setting("mcr")
    folder.mkdir(parents=True, exist_ok=True)
    write_jsonl(folder / "filter.jsonl", lines, kind="filter")
    rows = rollouts.filter_rows(study, ["mcr"])
    (folder / "filter.jsonl").unlink()
    assert [row["contradicts"] for row in rows] == [row[-1] for row in judged]
    table = rollouts.contradiction_rows(study, rows)
    found = {r["rule"]: (r["rows"], r["contradicting"], r["contradicting, %"]) for r in table}
    assert found == {
        "all of D2": (6, 3, 50.0), "standard deviation alone": (4, 2, 50.0),
        "maximum alone": (4, 1, 25.0), "median alone": (3, 2, 66.7), "all three": (2, 1, 50.0),
    }  # fmt: skip
    styled = [{**row, "style": style} for row, style in zip(rows, ("terse", "distill") * 3, strict=True)]
    by_style = {r["rule"]: r["contradicting, %"] for r in rollouts.contradiction_rows(study, styled)}
    assert (by_style["all three, terse"], by_style["all three, distill"]) == (100.0, 0.0)
    other = {**rows[0], "id": "of another source"}
    del other["contradicts"]
    (first, *_) = rollouts.contradiction_rows(study, [*rows, other])
    assert (first["rows"], first["known"], first["contradicting, %"]) == (7, 6, 50.0)
    assert rollouts.contradiction_rows(study, [{"setting": "mcr"}]) == [], "other data"
    (ax,) = curves.selection(rows, thresholds={"mcr": (0.8, 0.1, 0.6)}).axes
    assert ax.get_legend().get_texts()[-1].get_text() == "contradicts a shortcut (3)"
    drawn = [len(points.get_offsets()) for points in ax.collections[: 2 * len(palette.VERDICTS)]]
    assert (sum(drawn[::2]), sum(drawn[1::2])) == (3, 3), "dots, and stars"


@pytest.mark.nano
def test_what_a_cut_leaves_out_is_told_for_the_sampling_of_the_setting_and_of_the_paper(study):
    settings = {"short": {"stage": "cvo", "data": "train"}}
    given = {"settings": settings, "backbone": study.config.backbone, "cvo.max_completion_length": 6}
    study = Study(config.load("nano", study.run.path, given))
    options, rows, start = study.options("short")[0], study.rows("short")[:2], study.load("backbone")
    paper = {key: CvoOptions.model_fields[key].default for key in ("temperature", "top_k", "top_p")}
    own, cut = (sampling.measure_cut(start, rows, options.model_copy(update=of)) for of in ({}, paper))
    assert (own["mass"], own["nats_per_answer"]) == pytest.approx((1, 0), abs=1e-5)
    # chance weights spread over all of a vocabulary of which 200 tokens are kept, so every token is off, by
    # at least the logarithm of the mean mass (Jensen)
    assert (cut["mass"] < 0.5, cut["cut"]) == (True, 1)
    assert cut["nats_per_token"] > -math.log(cut["mass"]) - 1e-3


def test_without_a_setting_there_is_nothing_to_show(study):
    empty = rollouts.read(study, [])
    assert rollouts.health_rows(empty, []) == []
    assert rollouts.widest_groups(study, empty) == []
    assert training.row_in_each(study, []) == {}


# settings and rows
# ----------------------------------------------------------------------------


def test_settings_stand_after_those_that_they_start_from(study):
    assert study.of_stage("none", "sft", "cvo") == ["mrsi", "mcr", "base", "sft"]
    assert study.of_stage("sft") == ["mrsi", "sft"]
    assert study.with_starts(["mcr"]) == ["mrsi", "mcr"]


@pytest.mark.nano
def test_a_setting_stays_to_be_trained_until_a_training_has_given_its_facts(study):
    assert list(study.todo("sft")) == ["sft"]
    with study.recorded("sft") as job:
        assert (job.start, job.folder) == (study.backbone, study.run.setting("sft"))
        assert (job.rows, job.options) == (study.rows("sft"), study.options("sft")[0])
        assert set(job.how) == {"prompt", "device", "progress", "card"}
    assert study.record("sft")["status"] == "begun"
    assert list(study.todo("sft")) == ["sft"]
    with pytest.raises(ZeroDivisionError), study.recorded("sft"):
        raise ZeroDivisionError
    assert not study.is_done("sft")


def test_the_table_lists_what_each_setting_is_trained_on(study):
    rows = {row["setting"]: row for row in training.row_table(study, ["sft", "mrsi", "mcr"])}
    assert (rows["sft"]["tweets"], rows["sft"]["rows"]) == ("8 of train", 8)
    assert rows["mrsi"]["tweets"] == f"{len(study.tweets('mrsi'))} of d1"
    assert rows["mrsi"]["rows"] == len(study.pairs("mrsi"))
    assert rows["mrsi"]["styles"] == 1
    assert (rows["mcr"]["completions"], rows["mcr"]["starts from"]) == ("sampled", "mrsi")


def test_the_same_tweet_is_shown_in_every_setting_where_one_is_common(study):
    shown = training.row_in_each(study, ["sft", "mrsi"])
    assert shown["sft"][0] == shown["mrsi"][0]
    completions = {name: text_of(row["completion"]) for name, (_, row) in shown.items()}
    assert ["<think>" in completions[name] for name in ("mrsi", "sft")] == [True, False]


def test_options_that_settings_share_stand_in_one_column(study):
    rows = {row["option"]: row for row in training.option_rows(study, ["sft", "mrsi"])}
    of_profile = {key: f"{value}  (profile)" for key, value in study.config.sft.items()}
    batch, rate = rows["batch_size"], rows["learning_rate"]
    assert (batch["all"], batch["sft"]) == (of_profile["batch_size"], "")
    assert (rate["all"], rate["sft"]) == ("", of_profile["learning_rate"])
    assert rate["mrsi"] == "0.5  (setting mrsi)"
    assert training.option_rows(study, []) == []


@pytest.mark.nano
def test_the_loss_counts_the_completion_alone_and_the_tokens_of_the_resized_image(study):
    shown = training.row_in_each(study, ["mrsi"])
    encoded = training.encoded_rows(study, shown)
    (example, _), row = shown["mrsi"], encoded["mrsi"]
    assert row.counts_the_completion_alone
    learned = "".join(text for text, is_learned in row.pieces if is_learned)
    assert learned.removesuffix("<|im_end|>\n") == row.completion
    width, height = study.target.size(example)
    n_image = width * height // 28**2
    assert (f"⟨{n_image} image tokens⟩", False) in row.pieces
    assert row.n_tokens == sum(text != f"⟨{n_image} image tokens⟩" for text, _ in row.pieces) + n_image
    page = row._repr_html_()
    assert "&lt;think&gt;" in page
    assert page.count("background:") == row.n_learned


def test_a_mask_that_counts_the_prompt_is_noticed():
    pieces = (("a", False), ("b", True), ("c", True))
    row = training.EncodedRow(pieces, 2, 3, "bc")
    assert row.counts_the_completion_alone
    too_many, too_few = (("a", True), *pieces[1:]), (("a", False), ("b", False), ("c", True))
    for wrong in (too_many, too_few, (*pieces[:2], ("c", False))):
        assert not replace(row, pieces=wrong).counts_the_completion_alone


def test_an_unknown_tweet_is_an_error(study):
    with pytest.raises(UserError, match="no tweet nobody in test"):
        training.raw_answers(study, ["base"], "test", "nobody")


# progress and pictures
# ----------------------------------------------------------------------------


def test_progress_is_a_line_at_the_start_and_at_the_end_of_a_thing():
    stream = io.StringIO()
    tell = teller(stream, every_s=1000)
    for done in (1, 2, 3):
        tell("mrsi: sft", done, 3, {"loss": 0.5})
    assert stream.getvalue().splitlines() == ["mrsi: sft 1 of 3 loss 0.5", "mrsi: sft 3 of 3 loss 0.5"]


def test_a_notebook_clears_progress_at_once_only_where_it_ends():
    waits = []
    tell = teller(io.StringIO(), every_s=0, clear=lambda wait: waits.append(wait))
    for done in (1, 2):
        tell("mrsi: sft", done, 2, {})
    assert waits == [True, False]


def test_a_setting_has_one_colour_in_every_figure():
    names = ["base", "long", "sft", "longer"]
    found = [palette.setting(name, names) for name in names]
    assert len(set(found)) == 4
    assert found[0] == palette.setting("base", ["mcr", "base"])


def test_curves_show_the_values_and_a_running_mean_where_there_are_many():
    rows = [{"setting": "sft", "step": k, "loss": float(k % 2)} for k in range(1, 81)]
    (ax,) = [ax for ax in curves.training(rows, panels={"loss": "loss"}, title="x").axes if ax.axison]
    raw, smooth = ax.lines
    assert list(raw.get_ydata()[:3]) == [1, 0, 1]
    assert set(smooth.get_ydata()) == {0.5}  # over 80 / 20 = 4 values
    assert ax.get_ylim()[0] == 0
    few = curves.training(rows[:5], panels={"loss": "loss", "kl": "kl"}, title="x").axes
    assert [(ax.get_ylabel(), len(ax.lines)) for ax in few] == [
        ("loss", 1)
    ]  # no panel of what was not measured


def test_rewards_over_updates_have_the_quartiles_of_the_answers(sampled):
    """The four answers to update 1 earn 5, 0, 5 and 5: a quarter of the way up stands 3.75."""
    log = [{"setting": "mcr", "step": step, "reward": 3.75} for step in (1, 2)]
    rows = rollouts.with_quartiles(log, sampled)
    earned = sorted(sampled[sampled["step"] == 1]["reward"])
    assert rows[0]["reward_q25"] == pytest.approx(earned[0] + 0.75 * (earned[1] - earned[0]))
    assert rows[0]["reward_q75"] == pytest.approx(earned[2] + 0.25 * (earned[3] - earned[2]))
    axes = curves.rewards(rows).axes
    assert len(axes) == 6
    band = axes[-1].collections[0].get_paths()[0].vertices[:, 1]
    assert {rows[0]["reward_q25"], rows[0]["reward_q75"]} <= {*band.tolist()}
    assert axes[-1].get_title("left") + axes[-1].get_title() == "mcr · R {:.2f} → {:.2f}".format(
        rows[0]["reward"], rows[-1]["reward"]
    )


def test_only_results_of_the_testbed_have_a_note(study):
    assert training.note(study.loaded) == training.TESTBED_NOTE
    real = config.load("twitter-gmner-data", overrides={"data_dir": "x"})
    assert training.note(real) == ""
