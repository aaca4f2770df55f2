"""Canaries: one silent fault of the training stack each. Every one was seen running; none stops a training or
spoils its loss curve.
"""

import dataclasses
import json
import shutil
from dataclasses import replace

import pytest
import torch
from PIL import Image
from tokenizers import AddedToken

from mcr_lib import chains
from mcr_lib.data import mrsi
from mcr_lib.errors import UserError
from mcr_lib.training import adapters, backbones, cvo, families, generate, loop, preflight, sft
from mcr_lib.training.options import CvoOptions, SftOptions

pytestmark = pytest.mark.canary

SFT = SftOptions(
    max_steps=1, batch_size=8, learning_rate=1e-3, lr_scheduler_type="constant", lora_rank=0,
    weight_decay=0.0, save_steps=1, per_device_batch_size=8,
)  # fmt: skip
CVO = CvoOptions(
    batch_size=8, num_generations=4, max_completion_length=8, lora_rank=0, check_groups=0, num_iterations=2,
    save_steps=3, filter_d2=False,
)  # fmt: skip


@pytest.fixture(scope="module")
def backbone(nano_folder):
    return backbones.load(str(nano_folder), device="cpu")


@pytest.fixture(scope="module")
def sft_rows(backbone, nano_tweets):
    return list(mrsi.answer_rows(nano_tweets, backbone.target, prompt="direct"))


@pytest.fixture(scope="module")
def grpo_rows(backbone, nano_tweets):
    return list(mrsi.grpo_rows([(e, "terse") for e in nano_tweets], backbone.target, prompt="direct"))


@pytest.fixture(scope="module")
def trained(nano_folder, sft_rows, tmp_path_factory):
    """A folder after one update of full fine-tuning, with its checkpoint."""
    folder = tmp_path_factory.mktemp("trained")
    sft.train(str(nano_folder), sft_rows, folder, SFT, prompt="direct", device="cpu")
    return folder


def weights(model):
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def test_a_full_fine_tune_goes_on_from_the_weights_of_its_checkpoint(trained, nano_folder):
    # the trainer's own loader finds no name that it knows in the checkpoint, warns, and goes on from what it
    # has
    at_start = weights(backbones.load(str(nano_folder), device="cpu").model)
    finished = weights(backbones.load(str(trained / "model"), device="cpu").model)
    again, checkpoint = loop.started(str(nano_folder), trained, SFT, "cpu")
    assert checkpoint == trained / "checkpoints" / "checkpoint-1"
    assert all(torch.equal(value, finished[name]) for name, value in weights(again.model).items())
    changed = [name for name in finished if not torch.equal(finished[name], at_start[name])]
    assert changed
    assert not [name for name in changed if "visual" in name], "the vision tower is frozen"


def test_kl_is_measured_against_the_start_after_a_resume_too(trained, nano_folder):
    # a reference model is loaded from where the model says that it came from, which would be the checkpoint
    again, _ = loop.started(str(nano_folder), trained, SFT, "cpu")
    assert again.model.config._name_or_path == str(nano_folder)


def test_a_tokenizer_that_merges_across_the_end_of_the_prompt_is_refused(nano_folder, sft_rows):
    merging = backbones.load(str(nano_folder), device="cpu")
    merging.processor.tokenizer.add_tokens([AddedToken("\n<answer>[", normalized=False)])
    with pytest.raises(UserError, match="tokens of the prompt change when its completion follows"):
        preflight.check_rows(merging, sft_rows)


def test_a_model_is_trained_on_the_very_tokens_that_it_is_asked_in(nano_folder, sft_rows, tmp_path):
    model = backbones.load(str(nano_folder), device="cpu")
    trainer = sft.make_trainer(model, sft_rows, tmp_path, SFT)
    batch = trainer.data_collator([trainer.train_dataset[k] for k in range(8)])
    for k, row in enumerate(sft_rows):
        text = model.processor.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)
        images = [Image.open(path).convert("RGB") for path in row["images"]]
        asked = model.processor(text=[text], images=images, return_tensors="pt")["input_ids"][0]
        ids, labels = batch["input_ids"][k], batch["labels"][k]
        assert torch.equal(ids[: len(asked)], asked)
        assert (labels[: len(asked)] == -100).all()
        learned = model.processor.tokenizer.decode(labels[labels != -100])
        assert learned == row["completion"][0]["content"][0]["text"] + "<|im_end|>\n"


def test_prompts_of_two_lengths_in_a_batch_are_answered_as_alone(nano_folder, backbone, grpo_rows, tmp_path):
    assert backbone.processor.tokenizer.padding_side == "left"
    rows = sorted(grpo_rows, key=lambda row: len(json.dumps(row["prompt"])))
    ends = [rows[0], rows[-1]]
    images = [[Image.open(path).convert("RGB") for path in row["images"]] for row in ends]
    alone = [
        generate.answer_batch(backbone, [row["prompt"]], [image], max_new_tokens=8)[0][0]
        for row, image in zip(ends, images, strict=True)
    ]
    assert (
        generate.answer_batch(backbone, [row["prompt"] for row in ends], images, max_new_tokens=8)[0] == alone
    )
    model = backbones.load(str(nano_folder), device="cpu")
    trainer = cvo.make_trainer(
        model, ends, tmp_path, CVO.model_copy(update={"num_iterations": 1, "top_k": 1}), prompt="direct"
    )
    asked = [cvo_prompt(row, image) for row, image in zip(ends, images, strict=True)]
    ids, found, fields = trainer._tokenize_prompts(asked)
    with adapters.quiet():
        sampled, _ = trainer._generate_single_turn(ids, found, fields, 1)
    assert [trainer._tokenizer.decode(some, skip_special_tokens=True) for some in sampled] == alone


def cvo_prompt(row, images):
    from trl.data_utils import prepare_multimodal_messages

    return prepare_multimodal_messages(row["prompt"], images=images)


def test_the_loss_of_an_update_does_not_depend_on_its_parts(nano_folder, sft_rows, trained, tmp_path):
    # stock: a mean of the means of the parts, 1e-3 off where their lengths differ
    halves = SFT.model_copy(update={"per_device_batch_size": 2})
    sft.train(str(nano_folder), sft_rows, tmp_path, halves, prompt="direct", device="cpu")
    (whole,), (parts,) = loop.read_log(trained), loop.read_log(tmp_path)
    assert parts["loss"] == pytest.approx(whole["loss"], abs=2e-6)
    assert parts["grad_norm"] == pytest.approx(whole["grad_norm"], abs=1e-5)


def test_lora_is_on_the_language_model_alone_at_7b_too():
    import re

    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    # the published numbers of Qwen2.5-VL-7B; the class's own defaults are those of 72B
    text = {
        "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
        "num_key_value_heads": 4, "vocab_size": 152064,
    }  # fmt: skip
    vision = {
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "out_hidden_size": 3584,
    }
    with torch.device("meta"):
        model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision))
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    adapted = [name for name in linear if re.fullmatch(families.LANGUAGE_LAYERS, name)]
    assert len(adapted) == families.lora_modules("qwen2_5_vl", {"num_hidden_layers": 28}) == 7 * 28
    assert not [name for name in adapted if "visual" in name]
    by_short_names = [
        name for name in linear if name.rpartition(".")[2] in ("gate_proj", "up_proj", "down_proj", "qkv")
    ]
    assert (
        len([name for name in by_short_names if "visual" in name]) == 4 * 32
    )  # what short names would have hit besides


@pytest.mark.parametrize("harm", ["state", "weights", "optimizer", "no random state", "no weights"])
def test_a_checkpoint_in_pieces_is_passed_over_for_the_one_before(trained, tmp_path, harm):
    whole = trained / "checkpoints" / "checkpoint-1"
    for step in (9, 10):  # by number, not by name
        shutil.copytree(whole, tmp_path / f"checkpoint-{step}")
    newest = tmp_path / "checkpoint-10"
    assert loop.newest_complete(tmp_path) == newest
    if harm.startswith("no "):
        (newest / {"no random state": "rng_state.pth", "no weights": "model.safetensors"}[harm]).unlink()
    else:
        path = (
            newest
            / {"state": "trainer_state.json", "weights": "model.safetensors", "optimizer": "optimizer.pt"}[
                harm
            ]
        )
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert loop.newest_complete(tmp_path) == tmp_path / "checkpoint-9"
    assert loop.newest_complete(tmp_path / "none") is None


def test_checkpoints_of_cvo_fall_where_sampling_begins(backbone, grpo_rows, tmp_path):
    # between them, answers that were sampled for several updates would be lost
    trainer = cvo.make_trainer(backbone, grpo_rows, tmp_path, CVO, prompt="direct")
    assert (trainer.args.save_steps, trainer.args.steps_per_generation * trainer.num_iterations) == (4, 2)


def test_the_order_of_prompts_in_a_later_epoch_does_not_depend_on_the_earlier_ones(
    backbone, grpo_rows, tmp_path
):
    # the stock sampler of a resumed run begins with the order of the first epoch
    options = CVO.model_copy(update={"num_iterations": 1})
    unbroken, resumed = (
        cvo.make_trainer(backbone, grpo_rows, tmp_path, options, prompt="direct") for _ in range(2)
    )
    per_epoch = len(grpo_rows) // 2
    orders = []
    for epoch in range(3):
        unbroken.state.global_step = epoch * per_epoch
        orders.append(list(unbroken._get_train_sampler()))
    sampler = resumed._get_train_sampler()
    resumed.state.global_step = 2 * per_epoch + 1
    assert list(sampler) == orders[2]
    assert orders[0] != orders[1] != orders[2]
    assert sorted(orders[1]) == sorted([*range(8)] * 4)


def test_what_a_released_model_brings_along_does_not_bend_its_answers(nano_folder, backbone, grpo_rows):
    # Qwen2.5-VL's files ask for a penalty on repeated tokens, also of greedy answers
    row = grpo_rows[0]
    images = [[Image.open(path).convert("RGB") for path in row["images"]]]
    plain, _ = generate.answer_batch(backbone, [row["prompt"]], images, max_new_tokens=8)
    bent = backbones.load(str(nano_folder), device="cpu")
    bent.model.generation_config.update(repetition_penalty=5.0, do_sample=True, temperature=7.0, top_k=3)
    assert generate.answer_batch(bent, [row["prompt"]], images, max_new_tokens=8)[0] == plain


def test_images_are_opened_when_read_and_as_they_are_stored(sft_rows, tmp_path):
    # stock: decoded pixels of all rows in memory, turned as their EXIF data say, away from their boxes
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.new("RGB", (40, 20)).save(tmp_path / "turned.jpg", exif=exif)
    made = loop.dataset([{**row, "images": [str(tmp_path / "turned.jpg")]} for row in sft_rows])
    assert made[0]["images"][0].size == (40, 20)
    assert made.data.nbytes < 50_000


def test_a_dataset_needs_a_row_and_a_row_no_image(sft_rows):
    mixed = loop.dataset([{**sft_rows[0], "images": []}, *sft_rows[1:]])
    assert [len(row["images"]) for row in mixed] == [0, *(len(row["images"]) for row in sft_rows[1:])]
    with pytest.raises(UserError, match="no row to train on"):
        loop.dataset([])


def test_image_tokens_that_do_not_equal_image_features_are_told(nano_folder, sft_rows, monkeypatch):
    other = backbones.load(str(nano_folder), device="cpu")
    monkeypatch.setattr(other.processor.image_processor, "merge_size", 1)
    with pytest.raises(UserError, match=r"\d+ image tokens for \d+ image features"):
        preflight.check_rows(other, sft_rows)


def test_a_row_that_does_not_fit_is_told(nano_folder, sft_rows, grpo_rows):
    short = backbones.load(str(nano_folder), device="cpu")
    found = preflight.check_rows(short, sft_rows)
    assert found["longest"] <= found["longest_prompt"] + found["longest_completion"]
    short.model.config.get_text_config().max_position_embeddings = found["longest"] - 1
    with pytest.raises(UserError, match=f"more than the {found['longest'] - 1} of the model"):
        preflight.check_rows(short, sft_rows)
    with pytest.raises(UserError, match="max_completion_length is 8; raise it"):
        preflight.check_gold(short, grpo_rows, CVO)


def test_groups_that_are_all_equal_stop_cvo_before_it_begins(backbone, grpo_rows):
    with pytest.raises(UserError, match="all 2 sampled groups of 4 answers are equal in reward"):
        preflight.check_groups(
            backbone, grpo_rows, CVO.model_copy(update={"check_groups": 2}), prompt="direct"
        )


def test_gold_that_its_own_answer_does_not_reach_is_told(backbone, grpo_rows):
    # strict rewards place a name of which only the second mention is annotated at the first
    gold = json.loads(grpo_rows[0]["gold"])
    entity = {"text": "Ada", "start": 2, "end": 3, "type": "PER", "boxes_xyxy_px": []}
    row = {
        **grpo_rows[0],
        "gold": json.dumps({**gold, "tokens": ["Ada", "meets", "Ada"], "entities": [entity]}),
    }
    with pytest.raises(
        UserError,
        match=f"the gold answer to tweet {row['id']} earns 0.00 of reward_count; its annotation is broken",
    ):
        preflight.check_gold(
            backbone, [*grpo_rows[1:], row], replace_all(CVO, max_completion_length=99, rewards="strict")
        )


WITHOUT_EFFECT = {
    "sft": {
        "model_init_kwargs", "trust_remote_code", "router_aux_loss_coef", "chat_template_path",
        "dataset_text_field", "dataset_kwargs", "dataset_num_proc", "eos_token", "pad_token",
        "truncation_mode", "shuffle_dataset", "packing", "packing_strategy", "padding_free",
        "pad_to_multiple_of", "eval_packing", "assistant_only_loss", "activation_offloading",
    },
    "cvo": {
        "model_init_kwargs", "trust_remote_code", "router_aux_loss_coef", "num_generations_eval",
        "pad_to_multiple_of", "ds3_gather_for_generation", "generation_batch_size",
        "steps_per_generation", "generation_kwargs", "chat_template_kwargs", "cache_implementation",
        "ref_model_mixup_alpha", "ref_model_sync_steps", "use_adaptive_entropy", "entropy_coef_min",
        "entropy_coef_max", "entropy_coef_delta", "entropy_target", "max_tool_calling_iterations",
        "off_policy_mask_threshold", "log_completions", "log_multimodal", "num_completions_to_print",
        "log_unique_prompts", "log_completions_hub_repo", "use_transformers_continuous_batching",
        "transformers_continuous_batching_config", "use_transformers_paged",
    },
}  # fmt: skip
"""Options of TRL alone that we leave as they are: of text, of logs, of generation elsewhere, or off."""


@pytest.mark.parametrize("stage", ["sft", "cvo"])
def test_every_option_of_trl_that_changes_a_result_is_set(stage):
    # defaults of TRL have changed between releases; a new option must be looked at before it is left alone
    from transformers import TrainingArguments
    from trl import GRPOConfig, SFTConfig

    config, ours = {"sft": (SFTConfig, SftOptions), "cvo": (GRPOConfig, CvoOptions)}[stage]
    general = {field.name for field in dataclasses.fields(TrainingArguments)}
    of_trl = {field.name for field in dataclasses.fields(config)} - general
    set_here = set(ours().for_trl()) - general
    assert set_here <= of_trl
    left = {name for name in of_trl - set_here if not name.startswith(("vllm_", "use_vllm"))}
    assert left == WITHOUT_EFFECT[stage]


def test_options_reach_the_trainer_as_they_are_told(backbone, grpo_rows, tmp_path):
    options = replace_all(CVO, beta=0.07, temperature=0.8, seed=5, warmup_steps=3, adam_beta2=0.9)
    trainer = cvo.make_trainer(backbone, grpo_rows, tmp_path, options, prompt="direct")
    for name, value in options.for_trl().items():
        found = getattr(trainer.args, name)
        found = getattr(found, "value", found)  # an enumeration of transformers
        assert name == "save_steps" or found == (list(value) if isinstance(value, tuple) else value), name
    assert trainer.ref_model is not None
    assert (trainer.args.per_device_train_batch_size, trainer.args.gradient_accumulation_steps) == (8, 1)


@pytest.mark.parametrize(
    ("prompt", "earned", "why"), [("direct", [1, 1, 0], ""), ("mcr", [0, 1, 0], "no_reasoning")]
)
def test_what_reasoning_is_asked_of_a_prompt_reaches_the_rewards_and_the_rollouts(
    backbone, nano_tweets, tmp_path, prompt, earned, why
):
    rows = list(mrsi.grpo_rows([(e, "terse") for e in nano_tweets], backbone.target, prompt=prompt))
    trainer = cvo.make_trainer(
        backbone, rows, tmp_path, replace_all(CVO, reasoning="agreeing"), prompt=prompt
    )
    (chain,) = mrsi.build_chains([(e, "terse") for e in nano_tweets[:1]], seed=0).chains
    whole = chains.render(chain, "qwen2.5-vl", tuple(rows[0]["model_size"]))
    said = [whole.partition("</think>\n")[2], whole, "no answer"]
    columns = {name: [rows[0][name]] * 3 for name in ("gold", "model_size", "family", "id")}
    told = {}
    noting, *others = trainer.reward_funcs
    assert noting(completions=said, completion_ids=[[1]] * 3, log_extra=told.__setitem__, **columns) == earned
    assert all(function(completions=said, **columns) == earned for function in others)
    assert told["worthless"] == [why, "", "no_answer"]


def replace_all(options, **changes):
    return options.model_copy(update=changes)


def test_a_model_of_another_architecture_is_refused(nano_folder, trained, tmp_path):
    other = backbones.load(str(nano_folder), device="cpu")
    backbones.save(replace(other), tmp_path / "other")
    config = json.loads((tmp_path / "other" / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] = 3
    (tmp_path / "other" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="config.json is not the file that was saved"):
        backbones.load(str(tmp_path / "other"), device="cpu")
    with pytest.raises(UserError, match="is of another architecture: 11 weights do not fit|cannot be loaded"):
        backbones.load(str(nano_folder), device="cpu", weights=tmp_path / "other")
