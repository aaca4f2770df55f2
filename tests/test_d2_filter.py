"""The filter of D2 and its file, and sampling that is cut but scored by the whole distribution."""

import itertools
import json
import math
import threading
from types import SimpleNamespace

import pytest
import torch
from transformers import TopKLogitsWarper, TopPLogitsWarper

from mcr_lib.data import mrsi
from mcr_lib.errors import UserError
from mcr_lib.rewards import Rewards
from mcr_lib.training import backbones, cvo, d2_filter, preflight, sampling
from mcr_lib.training.options import VERDICTS, CvoOptions, options_of

G4 = {"num_generations": 4, "max_completion_length": 12, "lora_rank": 0}
EVERY_ROW = {"filter_std": 0, "filter_max": 0, "filter_median": (0, 9)}


# verdicts
# ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("totals", "std", "most", "middle", "verdict"),
    [
        # mean .5: (.16 + .04 + 0 + .36) / 4 = .14, its root .374; middle (.3 + .5) / 2
        ([0.1, 0.3, 0.5, 1.1], 0.374166, 1.1, 0.4, "kept"),
        # mean .2: (3 · .04 + .36) / 4 = .12; median 0 is below .08
        ([0, 0, 0, 0.8], 0.34641, 0.8, 0, "too hard"),
        # mean .4: (.04 + .04 + 0 + 0) / 4 = .02, .1414; best .6 is below .8
        ([0.2, 0.6, 0.4, 0.4], 0.141421, 0.6, 0.4, "never right"),
        # mean 1: (.04 + .04) / 4 = .02; median 1 is above .6
        ([0.8, 1.2, 1, 1], 0.141421, 1.2, 1, "too easy"),
        # mean .05, spread .05 below .1: the first reason of three
        ([0, 0.1, 0, 0.1], 0.05, 0.1, 0.05, "too even"),
        # thresholds themselves are kept: maximum .8 (as .3 + .3 + .2, a sum in floats), median .6;
        # mean .575, (.075625 + 2 · .000625 + .050625) / 4 = .031875
        ([0.3, 0.6, 0.6, 0.3 + 0.3 + 0.2], 0.178536, 0.8, 0.6, "kept"),
        # median .08; mean .265: (3 · .034225 + .308025) / 4 = .102675
        ([0.08, 0.08, 0.08, 0.82], 0.32043, 0.82, 0.08, "kept"),
        # two values .2 apart: the deviation of the population is .1 and kept, of a sample it were .115
        ([0.6, 0.8, 0.6, 0.8], 0.1, 0.8, 0.7, "too easy"),
    ],
)
def test_a_row_is_kept_by_spread_maximum_and_median_of_its_rewards(totals, std, most, middle, verdict):
    judged = CvoOptions().judge(totals)
    assert judged == {"std": pytest.approx(std, abs=1e-5), "max": most, "median": middle, "verdict": verdict}


def test_a_share_is_of_the_weights_of_what_the_source_annotates():
    weights = (0.3, 0.3, 0.3, 0.3, 0.2)
    given = {"reward_weights": weights, "filter_scale": "share"}
    all_five, text_alone = Rewards(1, 1, 1, 0, 0), Rewards(1, 0.5, 0, None, None)
    # .3 + .3 + .3 of 1.4; .3 + .15 of .9
    assert CvoOptions(**given).scaled(all_five) == pytest.approx(0.9 / 1.4)
    assert CvoOptions(**given).scaled(text_alone) == pytest.approx(0.5)
    # .45 as it is; the two that are not annotated count as the mean of the others, so that it is one of 1.4
    assert CvoOptions(reward_weights=weights).scaled(text_alone) == pytest.approx(0.45 * 1.4 / 0.9)
    assert CvoOptions(reward_weights=weights).scaled(all_five) == 0.3 + 0.3 + 0.3


# the step before training, on chance weights
# ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def backbone(nano_folder):
    return backbones.load(str(nano_folder), device="cpu")


@pytest.fixture(scope="module")
def rows(backbone, nano_tweets):
    return list(mrsi.grpo_rows([(e, "terse") for e in nano_tweets], backbone.target, prompt="direct"))


@pytest.fixture
def tmp_path(tmp_path):
    """A folder alone in its own: settings beside it would lend it their answers."""
    (tmp_path / "mcr").mkdir()
    return tmp_path / "mcr"


@pytest.fixture
def scripted(monkeypatch):
    """Sampling replaced: R of a row's four answers by its id, and the rows that were sampled, in order."""
    by_id, asked = {}, []

    def sample_answers(backbone, batch, options):
        asked.extend(row["id"] for row in batch)
        return [[str(value) for value in by_id[row["id"]]] for row in batch]

    def rewards_of(batch, answers, options, *, prompt):
        return [[Rewards(float(text), 0, 0, 0, 0) for text in own] for own in answers]

    monkeypatch.setattr(d2_filter, "sample_answers", sample_answers)
    monkeypatch.setattr(d2_filter, "rewards_of", rewards_of)
    return SimpleNamespace(by_id=by_id, asked=asked)


OPTIONS = CvoOptions(**G4, filter_batch_size=8, reward_weights=(1, 1, 1, 1, 1))
GROUPS = ([0.1, 0.3, 0.5, 1], [0.5] * 4, [0, 0, 0, 0.5], [0, 0, 0, 1], [1, 0.7, 0.7, 1])
"""Kept, too even, never right, too hard, too easy."""


def filtered(backbone, rows, folder, options=OPTIONS, **given):
    how = {"prompt": "direct", "start": backbone.name, **given}
    return d2_filter.kept(backbone, rows, folder, options, **how)


def of_file(folder):
    header, *lines = map(json.loads, (folder / "filter.jsonl").read_text().splitlines())
    return header, lines


def test_rows_are_dropped_for_the_reason_that_the_file_states(backbone, rows, scripted, tmp_path):
    scripted.by_id |= dict(zip([row["id"] for row in rows], itertools.cycle(GROUPS), strict=False))
    told = []
    kept, facts = filtered(
        backbone, rows, tmp_path, progress=lambda done, of, row: told.append((done, of, row["task"]))
    )
    assert [row["id"] for row in kept] == [rows[0]["id"], rows[5]["id"]]
    header, lines = of_file(tmp_path)
    assert "filter_batch_size" not in header["options"], "memory, not the result"
    assert {"temperature", "top_k", "top_p", "filter_scale"} < set(header["options"])
    assert [line["id"] for line in lines] == [row["id"] for row in rows]
    assert [line["verdict"] for line in lines] == [*VERDICTS, *VERDICTS[:3]]
    assert (lines[2]["R"], lines[2]["max"], lines[2]["median"]) == ([0, 0, 0, 0.5], 0.5, 0)
    assert (header["kind"], header["options"]["filter_median"]) == ("filter", [0.08, 0.6])
    assert facts.pop("filter_seconds") >= 0
    assert facts == {
        "filter_rows": 8, "filter_kept": 2, "filter_too_even": 2, "filter_never_right": 2,
        "filter_too_hard": 1, "filter_too_easy": 1,
    }  # fmt: skip
    # 8 answers at a time are 2 rows of 4: told after each of four batches, the last when the file is whole
    assert told == [(n, 8, "filter of D2") for n in (2, 4, 6, 8)]
    assert [path.name for path in tmp_path.iterdir()] == ["filter.jsonl"]


def test_what_was_judged_is_not_sampled_again_until_it_depends_on_something_else(
    backbone, rows, scripted, tmp_path
):
    scripted.by_id |= {row["id"]: GROUPS[0] for row in rows}
    filtered(backbone, rows, tmp_path)
    assert len(scripted.asked) == 8
    again, facts = filtered(backbone, rows, tmp_path, OPTIONS.model_copy(update={"filter_batch_size": 4}))
    assert (len(again), facts["filter_rows"], len(scripted.asked)) == (8, 8, 8)
    changes = ({"temperature": 1.0}, {"filter_max": 0.9}, {"sigma": 0.2}, {"seed": 1})
    for change, n_sampled in zip(changes, (8, 8, 0, 8), strict=True):  # from OPTIONS, then as before it
        before = len(scripted.asked)
        filtered(backbone, rows, tmp_path, OPTIONS.model_copy(update=change))
        assert len(scripted.asked) == before + n_sampled, change
    filtered(backbone, rows[:4], tmp_path)
    assert len(of_file(tmp_path)[1]) == 4


def test_a_setting_with_other_rewards_or_thresholds_judges_the_answers_of_another_one(
    backbone, rows, scripted, tmp_path
):
    scripted.by_id |= {row["id"]: GROUPS[0] for row in rows}
    (tmp_path / "mcr").mkdir()
    filtered(backbone, rows, tmp_path / "mcr")
    for name, change, n_kept in (("low", {"reward_weights": (0.5, 0, 0, 0, 0)}, 0), ("same", {}, 8)):
        options = OPTIONS.model_copy(update={"filter_median": (0.3, 0.6), **change})
        (tmp_path / name).mkdir()
        if n_kept:
            assert filtered(backbone, rows, tmp_path / name, options)[1]["filter_kept"] == n_kept
        else:  # R is half as large
            with pytest.raises(UserError, match="keeps none of 8 rows .8 never right"):
                filtered(backbone, rows, tmp_path / name, options)
    assert len(scripted.asked) == 8, "sampled once"
    filtered(backbone, rows[:4], tmp_path / "same")
    assert len(scripted.asked) == 12, "other rows are another sample"


def test_a_tweet_in_two_styles_is_two_rows(backbone, rows, scripted, tmp_path):
    pair = [{**rows[0], "style": "formal"}, {**rows[0], "style": "distill"}]
    scripted.by_id[rows[0]["id"]] = GROUPS[0]
    kept, facts = filtered(backbone, pair, tmp_path)
    assert ([row["style"] for row in kept], facts["filter_rows"]) == (["formal", "distill"], 2)


@pytest.mark.parametrize(("keeps", "styles"), [("pairs", ["terse"]), ("tweets", ["terse", "distill"])])
def test_a_pair_that_passes_is_kept_alone_or_with_its_tweet_in_every_style(
    keeps, styles, backbone, rows, scripted, tmp_path, monkeypatch
):
    styled = [{**row, "style": style} for row in rows[:2] for style in ("terse", "distill")]
    groups = iter((GROUPS[0], GROUPS[1], GROUPS[2], GROUPS[4]))  # of the four rows the first one passes
    sampled = lambda *_: [[str(value) for value in next(groups)] for _ in range(2)]  # noqa: E731
    monkeypatch.setattr(d2_filter, "sample_answers", sampled)
    kept, facts = filtered(backbone, styled, tmp_path, OPTIONS.model_copy(update={"filter_keeps": keeps}))
    assert [(row["id"], row["style"]) for row in kept] == [(rows[0]["id"], style) for style in styles]
    assert facts["filter_kept"] == 1


def test_nothing_kept_is_one_sentence_with_the_reasons_and_the_file_stays(backbone, rows, scripted, tmp_path):
    groups = (GROUPS[1], GROUPS[3], GROUPS[3], GROUPS[2])
    scripted.by_id |= dict(zip([row["id"] for row in rows], groups, strict=False))
    with pytest.raises(UserError) as raised:
        filtered(backbone, rows[:4], tmp_path)
    assert str(raised.value) == (
        "the filter of D2 keeps none of 4 rows (1 too even, 1 never right, 2 too hard); fine-tune the start"
        " for longer, or lower the first value of filter_median, or take filter_d2=false; see"
        f" {tmp_path / 'filter.jsonl'}"
    )
    assert len(of_file(tmp_path)[1]) == 4


@pytest.mark.nano
def test_a_filter_that_is_killed_ends_as_one_that_is_not_in_any_number_of_processes(
    backbone, rows, tmp_path, monkeypatch
):
    options = OPTIONS.model_copy(update={**EVERY_ROW, "filter_batch_size": 4})  # 8 batches of a row each
    whole_folder, killed_folder = tmp_path / "a" / "whole", tmp_path / "b" / "killed"
    whole_folder.mkdir(parents=True)
    killed_folder.mkdir(parents=True)
    filtered(backbone, rows, whole_folder, options)
    real, own, barrier = d2_filter.sample_answers, threading.local(), threading.Barrier(2)
    one_at_a_time, left = threading.Lock(), itertools.count()

    def until(limit):
        def sample_answers(*arguments, **given):
            if next(left) >= limit:
                raise KeyboardInterrupt
            return real(*arguments, **given)

        return sample_answers

    monkeypatch.setattr(d2_filter, "sample_answers", until(3))
    with pytest.raises(KeyboardInterrupt):
        filtered(backbone, rows, killed_folder, options)
    part = killed_folder / "filter.jsonl.part"
    part.write_bytes(part.read_bytes()[:-9])  # and its last line is cut
    assert len(part.read_text().splitlines()) == 4, "a header, two rows, and half of one"

    def process(rank):
        own.state = SimpleNamespace(
            process_index=rank, num_processes=2, is_main_process=rank == 0, wait_for_everyone=barrier.wait
        )
        filtered(backbone, rows, killed_folder, options)

    def seeded(seed):  # two threads share torch's generator: each draws with it alone
        own.seed = seed

    def one_by_one(*arguments, **given):
        with one_at_a_time:
            generator(own.seed)
            return real(*arguments, **given)

    generator = torch.manual_seed
    monkeypatch.setattr(d2_filter, "sample_answers", one_by_one)
    monkeypatch.setattr(torch, "manual_seed", seeded)
    monkeypatch.setattr("mcr_lib.training.launch.together", lambda device: own.state)
    threads = [threading.Thread(target=process, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    folders = (whole_folder, killed_folder)
    whole, killed = ([{**row, "seconds": 0} for row in of_file(folder)[1]] for folder in folders)
    assert killed == whole
    assert [path.name for path in killed_folder.iterdir()] == ["filter.jsonl"]


@pytest.mark.nano
@pytest.mark.parametrize("loss", ["cispo", "sapo", "luspo", "vespo"])
def test_training_takes_the_rows_that_are_kept_with_every_loss_of_trl(
    backbone, rows, scripted, tmp_path, nano_folder, loss
):
    scripted.by_id |= {row["id"]: GROUPS[k % 2] for k, row in enumerate(rows)}
    level = "sequence" if loss == "luspo" else "token"
    given = {**G4, "max_completion_length": 40, "max_steps": 1, "batch_size": 8, "check_groups": 0}
    options = CvoOptions(
        **given, loss_type=loss, importance_sampling_level=level,
        reward_weights=(1, 1, 1, 1, 1), save_steps=5,
    )  # fmt: skip
    facts = cvo.train(str(nano_folder), rows, tmp_path, options, prompt="direct", device="cpu")
    assert (facts["n_rows"], facts["n_steps"], facts["checks"]["filter_kept"]) == (4, 1, 4)
    checks = json.loads((tmp_path / "checks.json").read_text())
    assert (checks["filter_rows"], checks["filter_too_even"], checks["gold_answers"]) == (8, 4, 8)


def test_options_that_do_not_go_together_are_told():
    with pytest.raises(UserError, match="^here: loss_type of cvo is 'luspo': this loss weighs whole answers"):
        options_of("cvo", {"loss_type": "luspo"}, "here")
    options_of("cvo", {"loss_type": "luspo", "importance_sampling_level": "sequence"}, "here")
    with pytest.raises(UserError, match="^here: filter_median of cvo is .*the least median stands first"):
        options_of("cvo", {"filter_median": [0.6, 0.1]}, "here")
    with pytest.raises(UserError, match="vespo weighs the answers of a vLLM server token by token; set"):
        cvo.check_server("start", CvoOptions(use_vllm=True, loss_type="vespo"))


# sampled from a cut, scored without it
# ----------------------------------------------------------------------------

QUARTERS = torch.tensor([0.5, 0.3, 0.15, 0.05])


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p", "mass"),
    [
        (1, 0, 1.0, 1),
        (1, 2, 1.0, 0.8),  # .5 + .3
        (1, 0, 0.5, 0.5),  # the first alone reaches .5
        (1, 0, 0.51, 0.8),  # it does not reach .51, so the second is kept too
        (1, 3, 0.9, 0.95),  # of .95, top-p asks for .855: .5 + .3 is less, so the third stays
        (1, 3, 0.8, 0.8),  # .76 of .95 is reached by two
        # at T = .5 the probabilities are squared: .25 + .09 + .0225 + .0025 = .365
        (0.5, 1, 1.0, 0.25 / 0.365),
    ],
)
def test_the_kept_mass_is_what_top_k_and_then_top_p_leave(temperature, top_k, top_p, mass):
    cut = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    shuffled = QUARTERS.log()[[2, 0, 3, 1]]
    found = sampling.kept_mass(torch.stack([shuffled, QUARTERS.log()]), **cut)
    assert found.tolist() == pytest.approx([mass, mass], abs=1e-6)


def test_the_kept_mass_is_that_of_the_tokens_which_transformers_samples_from():
    torch.manual_seed(0)
    logits = 3 * torch.randn(64, 500)
    for temperature, top_k, top_p in ((1.5, 200, 0.95), (0.7, 20, 0.9), (1.0, 0, 0.95), (1.0, 50, 1.0)):
        scores, whole = logits / temperature, (logits / temperature).softmax(-1)
        scores = TopKLogitsWarper(top_k)(None, scores) if top_k else scores
        scores = TopPLogitsWarper(top_p)(None, scores) if top_p < 1 else scores
        expected = (whole * scores.isfinite()).sum(-1)
        found = sampling.kept_mass(logits, temperature=temperature, top_k=top_k, top_p=top_p)
        assert torch.allclose(found, expected, atol=1e-5), (temperature, top_k, top_p)


def test_the_distance_of_cut_and_whole_is_summed_over_tokens_up_to_the_end_of_each_answer():
    # two answers, of two tokens and of one: top-2 keeps .8 at every token
    meter = sampling.CutMeter([9], temperature=1, top_k=2, top_p=1.0)
    scores = QUARTERS.log().repeat(2, 1)
    prompt = torch.tensor([[9, 1], [9, 2]])  # an end token in the prompt ends nothing
    assert meter(prompt, scores) is scores
    meter(torch.tensor([[9, 1, 5], [9, 2, 9]]), scores)
    facts = sampling.cut_facts(meter.masses)
    each = math.log(1 / 0.8)
    expected = {"answers": 2, "tokens": 3, "mass": 0.8, "cut": 1, "nats_per_token": each}
    assert facts == pytest.approx({**expected, "nats_per_answer": 1.5 * each})
    whole = sampling.CutMeter([9], temperature=1, top_k=0, top_p=1.0)
    whole(prompt, scores)
    assert sampling.cut_facts(whole.masses)["nats_per_answer"] == pytest.approx(0, abs=1e-6)


@pytest.mark.nano
def test_answers_of_checks_and_filter_are_sampled_from_the_cut_of_training(backbone, rows):
    # with one token to choose from, every answer to a row is the same, at any temperature
    one = CvoOptions(**G4, top_k=1, temperature=5.0)
    groups = preflight.sample_answers(backbone, rows[:2], one)
    assert [len(set(group)) for group in groups] == [1, 1]
    facts = sampling.measure_cut(backbone, rows[:2], one)
    assert facts["answers"] == 8
    assert facts["mass"] < 0.1 < 1 < facts["nats_per_token"]
    free = sampling.measure_cut(backbone, rows[:2], CvoOptions(**G4, top_k=0, top_p=1.0))
    assert (free["mass"], free["cut"]) == (pytest.approx(1, abs=1e-5), 0)
