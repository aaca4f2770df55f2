"""Adapters as folders: put on, merged, trained further, refused. On a model of chance weights with an
adapter of chance weights.
"""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from mcr_lib import prompts
from mcr_lib.data.images import open_image
from mcr_lib.errors import UserError
from mcr_lib.study.commands import cli
from mcr_lib.training import adapters, backbones, cards, loop, nano
from mcr_lib.training.families import FAMILIES
from mcr_lib.training.options import CvoOptions, SftOptions

pytestmark = pytest.mark.nano

RANK = 4


def trained(backbone, seed, rank=RANK):
    """The backbone with an adapter that does something, as after training."""
    config = LoraConfig(r=rank, lora_alpha=32, target_modules=FAMILIES[backbone.family].lora_targets)
    with adapters.quiet():
        model = get_peft_model(backbone.model, config)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.05
    return replace(backbone, model=model)


@pytest.fixture(scope="module")
def adapter(nano_folder, tmp_path_factory):
    """A folder with an adapter of the nano backbone."""
    folder = tmp_path_factory.mktemp("adapter") / "model"
    backbones.save_adapter(trained(load(nano_folder), 1), folder, start=str(nano_folder), setting="demo")
    return folder


def load(folder, **options):
    return backbones.load(str(folder), device="cpu", **options)


def logits(backbone, example):
    chat = [*prompts.messages(example, "direct", wording=backbone.wording)]
    text = backbone.processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    inputs = backbone.processor(
        text=[text], images=[open_image(path) for path in example.images], return_tensors="pt"
    )
    with torch.no_grad():
        return backbone.model.eval()(**inputs).logits


def options(**departures):
    return CvoOptions(lora_rank=RANK, lora_alpha=32, filter_d2=False, **departures)


def test_an_adapter_is_trained_further_from_its_own_logits(adapter, nano_folder, nano_tweets, tmp_path):
    backbone, _ = loop.started(str(adapter), tmp_path, options(), "cpu")
    at_start = logits(backbone, nano_tweets[0])
    # different from the base alone, so that equal is no accident
    assert (at_start - logits(load(nano_folder), nano_tweets[0])).abs().max() > 0.1
    assert torch.allclose(at_start, logits(load(adapter), nano_tweets[0]), atol=1e-5)
    assert loop.lora(options(), backbone) is None, "no second adapter"
    assert loop.lora(options(), load(adapter)).r == RANK
    is_trained = [name for name, parameter in backbone.model.named_parameters() if parameter.requires_grad]
    assert is_trained
    assert all("lora_" in name for name in is_trained)


def test_an_adapter_that_was_trained_further_is_of_the_whole_model(adapter, nano_folder, tmp_path):
    backbone, _ = loop.started(str(adapter), tmp_path, options(), "cpu")
    backbones.save_adapter(backbone, tmp_path / "again", start=str(adapter))
    card, first = cards.card(str(tmp_path / "again")), cards.card(str(adapter))
    assert card["base"]["weights"] == first["base"]["weights"], "of the whole model, not of the adapter"
    assert (tmp_path / "again" / card["base"]["folder"]).resolve() == nano_folder.resolve()


def test_a_folder_of_an_adapter_tells_all_that_is_needed(adapter):
    card = cards.card(str(adapter))
    assert (card["kind"], card["family"], card["coordinate_space"], card["setting"]) == (
        "adapter",
        "qwen2.5-vl",
        "model_px",
        "demo",
    )
    assert card["prompt_version"] == prompts.PROMPT_VERSION
    assert {
        "adapter_model.safetensors",
        "adapter_config.json",
        "tokenizer.json",
        "chat_template.jinja",
    } <= set(card["sha256"])
    assert not (adapter / "model.safetensors").exists()
    assert (
        "/" + "tmp"
        not in json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"].split(
            ".."
        )[0]
    )


def test_an_adapter_for_another_base_is_refused(adapter, tmp_path):
    nano.write(tmp_path / "other", seed=5)
    with pytest.raises(
        UserError,
        match="^adapter .* is of another base than .*/other: its weights are [0-9a-f]{12}, not [0-9a-f]{12}$",
    ):
        load(adapter, base=str(tmp_path / "other"))
    card = json.loads((tmp_path / "other" / "backbone.json").read_text())
    (tmp_path / "other" / "backbone.json").write_text(json.dumps({**card, "family": "qwen3-vl"}))
    with pytest.raises(
        UserError, match="is of a qwen2.5-vl model, and .*/other is of another architecture, qwen3-vl"
    ):
        load(adapter, base=str(tmp_path / "other"))
    copy = tmp_path / "a" / "b" / "c" / "model"
    shutil.copytree(adapter, copy)
    with pytest.raises(UserError, match="its base .* is not there; tell with --base where it is"):
        load(copy)
    with pytest.raises(UserError, match="is a whole model, and no adapter that would need --base"):
        load("tiny-base", base="tiny-base")


def test_an_adapter_that_does_not_fit_or_was_cut_is_told(adapter, nano_folder, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(adapter, copy)
    weights = copy / "adapter_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000])
    with pytest.raises(UserError, match="adapter_model.safetensors is not the file that was saved"):
        load(copy, base=str(nano_folder))
    save_file(
        {name: value[..., :-1].contiguous() for name, value in load_file(adapter / weights.name).items()},
        weights,
    )
    card = json.loads((copy / "backbone.json").read_text())
    card["sha256"][weights.name] = cards.checksum(weights)
    (copy / "backbone.json").write_text(json.dumps(card))
    with pytest.raises(UserError, match="does not fit its base") as raised:
        load(copy, base=str(nano_folder))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("departures", "message"),
    [
        (
            {"lora_rank": 8},
            "^training goes on with an adapter of lora_rank 4 and lora_alpha 32, .* say 8 and 32; say",
        ),
        (
            {"lora_rank": 0},
            "lora_rank 0 .full fine-tuning. of a setting that starts from an adapter; .* save: merged",
        ),
        ({"quantization": "4bit", "save": "merged"}, "4bit with save=merged: .* take save=adapter"),
    ],
)
def test_what_cannot_be_handed_over_is_told(adapter, tmp_path, departures, message):
    with pytest.raises(UserError, match=message):
        loop.started(
            str(adapter), tmp_path, SftOptions(**{"lora_rank": RANK, "lora_alpha": 32, **departures}), "cpu"
        )


def test_merge_writes_a_whole_model_and_predict_takes_either(
    adapter, nano_folder, nano_tweets, tmp_path, capsys
):
    assert cli.main(["adapters", "merge", str(adapter), str(tmp_path / "whole")]) == 0
    assert torch.allclose(
        logits(load(tmp_path / "whole"), nano_tweets[0]), logits(load(adapter), nano_tweets[0]), atol=1e-6
    )
    capsys.readouterr()
    ask = [
        "predict",
        "--text",
        "Ada in Oslo",
        "--max-new-tokens",
        "4",
        "--json",
        "--image",
        nano_tweets[0].images[0],
    ]
    said = []
    for model in (
        [str(adapter)],
        [str(tmp_path / "whole")],
        [str(adapter), "--base", str(nano_folder)],
        [str(nano_folder)],
    ):
        assert cli.main([*ask, "--model", *model]) == 0
        said.append(json.loads(capsys.readouterr().out)["answer"])
    assert said[0] == said[1] == said[2] != said[3]
    for arguments, message in (
        ((adapter, tmp_path / "whole"), "is there already"),
        ((tmp_path / "whole", tmp_path / "x"), "a whole model already"),
    ):
        assert cli.main(["adapters", "merge", *map(str, arguments)]) == 2
        assert message in capsys.readouterr().err


def test_weights_of_a_base_are_known_by_their_checksums():
    told = {"sha256": {"a.safetensors": "1", "tokenizer.json": "2"}}
    same = {"sha256": {"tokenizer.json": "3", "a.safetensors": "1"}}
    other = {"sha256": {"a.safetensors": "4", "tokenizer.json": "2"}}
    assert adapters._weights(told) == adapters._weights(same) != adapters._weights(other)
