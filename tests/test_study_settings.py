"""Settings and options as data: no model is loaded here."""

import subprocess
import sys

import pytest

from mcr_lib.data import mrsi
from mcr_lib.errors import UserError
from mcr_lib.schema import Example
from mcr_lib.study.runs.setting import Setting, check, lineage, stage_options
from mcr_lib.training.options import OURS, WITHOUT_EFFECT, CvoOptions, SftOptions, options_of

ORIGINS = {"paper", "ms-swift", "TRL", "ours", "paper (λ1, λ5), ours (λ2–λ4)"}


def test_every_option_tells_its_origin():
    for kind in (SftOptions, CvoOptions):
        assert {row["origin"] for row in kind().describe()} <= ORIGINS
    options = {row["option"]: row for row in CvoOptions().describe()}
    of_paper = {  # App. D.3, E.4 and Eq. 11
        "num_train_epochs": 2.0, "batch_size": 64, "num_generations": 8, "learning_rate": 5e-6,
        "warmup_steps": 0.05, "epsilon": 0.15, "epsilon_high": 0.25, "temperature": 1.5, "top_k": 200,
        "top_p": 0.95, "beta": 0.005, "loss_type": "grpo", "filter_d2": True, "filter_std": 0.1,
        "filter_max": 0.8, "filter_median": [0.08, 0.6],
    }  # fmt: skip
    assert {name: options[name]["value"] for name in of_paper} == of_paper
    assert {options[name]["origin"] for name in of_paper} == {"paper"}
    of_mrsi = {
        "num_train_epochs": 2.0,
        "batch_size": 16,
        "learning_rate": 1e-4,
        "lr_scheduler_type": "cosine",
    }
    found = {row["option"]: row for row in SftOptions().describe()}
    assert {name: found[name]["value"] for name in of_mrsi} == of_mrsi
    assert {found[name]["origin"] for name in of_mrsi} == {"paper"}


def test_options_that_are_ours_do_not_reach_trl_and_all_of_them_exist():
    fields = set(SftOptions.model_fields) | set(CvoOptions.model_fields)
    assert set(OURS) <= fields
    assert set(WITHOUT_EFFECT) <= fields
    assert not set(OURS) & set(CvoOptions().for_trl())


def test_a_setting_departs_from_the_profile_and_the_profile_from_the_defaults():
    setting = Setting(stage="cvo", options={"beta": 0.1})
    options, origins = stage_options(setting, {"beta": 0.2, "epsilon": 0.3}, name="mcr", of_run={"seed": 7})
    assert (options.beta, options.epsilon, options.seed, options.temperature) == (0.1, 0.3, 7, 1.5)
    assert origins == {"seed": "run", "beta": "setting mcr", "epsilon": "profile"}
    assert (
        stage_options(Setting(stage="sft", options={"seed": 3}), {}, name="a", of_run={"seed": 7})[0].seed
        == 3
    )


def test_a_line_of_settings_is_told_from_its_first():
    settings = {"c": Setting(start="b", stage="cvo"), "b": Setting(start="a", stage="sft"), "a": Setting()}
    assert lineage(settings, "c") == ["a", "b", "c"]
    with pytest.raises(UserError, match="unknown setting 'd'; settings has c, b, a"):
        lineage(settings, "d")
    check(settings, {"sft": {"lora_rank": 4}}, "mine.yaml")
    with pytest.raises(UserError, match="mine.yaml: settings a, b, a start from each other in a circle"):
        check({"a": Setting(start="b"), "b": Setting(start="a")}, {}, "mine.yaml")
    assert Setting(stage="sft").part == "d1"
    assert Setting(stage="sft", rows="answers").part == "train"
    with pytest.raises(
        UserError, match="mine.yaml: cvo: unknown option 'lora_rnak' of cvo .did you mean lora_rank"
    ):
        check(settings, {"cvo": {"lora_rnak": 4}}, "mine.yaml")
    with pytest.raises(UserError, match="unknown style 'sonnet'"):
        check({"a": Setting(stage="sft", styles=("sonnet",))}, {}, "mine.yaml")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_generations", 1),
        ("sigma", 1.0),
        ("temperature", 0),
        ("reward_weights", [1, 1]),
        ("beta", -1),
        ("rewards", "kind"),
    ],
)
def test_a_value_that_an_option_does_not_take_is_told(name, value):
    with pytest.raises(UserError, match=f"^here: {name} of cvo is ") as raised:
        options_of("cvo", {name: value}, "here")
    assert "\n" not in str(raised.value)


def test_a_set_of_rewards_brings_its_own_sigma_and_weights():
    paper, strict = options_of("cvo", {}, "here"), options_of("cvo", {"rewards": "strict"}, "here")
    assert (paper.rewards, paper.sigma, paper.reward_weights) == ("paper", 0.3, (0.3, 0.3, 0.3, 0.3, 0.2))
    assert (strict.sigma, strict.reward_weights) == (0.5, (1, 1, 1, 1, 1))
    mixed = options_of("cvo", {"rewards": "strict", "sigma": 0.3}, "here")
    assert (mixed.sigma, mixed.reward_weights) == (0.3, (1, 1, 1, 1, 1))

    def origins(options, given):
        rows = {row["option"]: row["origin"] for row in options.describe(given)}
        return rows["sigma"], rows["reward_weights"]

    assert origins(paper, {}) == ("paper", "paper (λ1, λ5), ours (λ2–λ4)")
    assert origins(strict, {"rewards": "mine.yaml"}) == ("ours", "ours")
    assert origins(mixed, {"sigma": "mine.yaml"}) == ("mine.yaml", "ours")
    assert strict.rewarding("mcr") == {"kind": "strict", "sigma": 0.5, "reasoning": "free"}


def test_vllm_in_the_trainers_own_process_is_refused_with_the_reason():
    with pytest.raises(
        UserError,
        match="^here: vllm_mode of cvo is 'colocate': in the trainer's own process .* image tokens twice",
    ):
        options_of("cvo", {"use_vllm": True, "vllm_mode": "colocate"}, "here")


def test_where_a_server_is_does_not_change_what_is_made():
    assert {name for name in CvoOptions.model_fields if name.startswith("vllm_server")} < set(WITHOUT_EFFECT)
    assert not {"use_vllm", "vllm_importance_sampling_mode", "vllm_importance_sampling_correction"} & set(
        WITHOUT_EFFECT
    )


def test_the_same_share_of_tweets_has_nothing_to_do_with_d1():
    tweets = [Example(str(k), "demo", "train", ("a",), (), ("PER",)) for k in range(2000)]
    d1 = mrsi.tweets_of(mrsi.split(mrsi.pairs(tweets, n_styles=1, seed=0), d1_share=0.5, seed=0)[0])
    half = mrsi.some(d1, share=0.5, seed=0)
    # a fair half of about 1,000: 4 standard deviations are 4·sqrt(1000·0.25) = 63
    assert abs(len(half) - len(d1) / 2) < 63
    assert mrsi.some(tweets, share=1.0, seed=0) == tweets


def test_settings_are_read_without_loading_a_model():
    code = "import sys, mcr_lib.study.runs.settings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
