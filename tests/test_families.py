"""Families of backbones: real classes at tiny random size through every stage, published shapes on the meta
device, names and folders.
"""

import json
import re
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
import transformers
import trl
import yaml

import architecture
import released as chance
import tasks
from mcr_lib import chains
from mcr_lib.boxes import BOX_FORMATS as SPACES
from mcr_lib.data import load_split, mrsi
from mcr_lib.data.images import open_image
from mcr_lib.data.predictions import Prediction, parse_prediction, read_predictions
from mcr_lib.errors import UserError
from mcr_lib.metrics import judge, outcome, ratios, totals
from mcr_lib.study.commands import predict
from mcr_lib.study.commands import preflight as preflight_table
from mcr_lib.study.runs import config, memory
from mcr_lib.study.runs.settings import Study
from mcr_lib.training import (
    adapters,
    backbones,
    cards,
    cvo,
    families,
    generate,
    loop,
    preflight,
    sft,
)
from mcr_lib.training.options import CvoOptions, SftOptions
from tests.conftest import REPOSITORY

pytestmark = [
    pytest.mark.canary,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # GLM-4.6V's processor
]

MODELS = {
    "qwen2.5-vl": "Qwen/Qwen2.5-VL-7B-Instruct", "mimo-vl": "XiaomiMiMo/MiMo-VL-7B-RL",
    "qwen3-vl": "Qwen/Qwen3-VL-4B-Instruct", "qwen3.5": "Qwen/Qwen3.5-9B",
    "glm-4.6v": "zai-org/GLM-4.6V-Flash",
}  # fmt: skip
"""One of each family."""

WITH_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nI help.<|im_end|>\n{% endif %}"
    + architecture.CHAT_TEMPLATE
)
THINKING = architecture.CHAT_TEMPLATE.replace(
    "<|im_start|>assistant\n{% endif %}", "{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}"
)
OF_TRL = Path(trl.__file__).parent / "chat_templates"
GLM = (
    "[gMASK]<sop>{% for m in messages %}<|{{ m.role }}|>\n{% if m.role == 'assistant' %}"
    "{% set text = m.content if m.content is string else m.content[0].text %}"
    "{% if '</think>' in text and m.reasoning_content is not string %}"
    "<think>{{ text.split('</think>')[0].split('<think>')[-1] }}</think>\n{{ text.split('</think>')[-1] }}"
    "{% else %}<think></think>\n{{ text }}{% endif %}{% else %}"
    "{% for part in m.content %}{% if part.type == 'image' %}<|begin_of_image|><|image|><|end_of_image|>"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}"
    "{{ '/nothink' if m.role == 'user' and enable_thinking is false }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>"
    "{{ '\n<think></think>' if enable_thinking is false }}{% endif %}"
)
TEMPLATES = {
    "qwen2.5-vl": WITH_SYSTEM, "mimo-vl": WITH_SYSTEM, "qwen3-vl": architecture.CHAT_TEMPLATE,
    "qwen3.5": (OF_TRL / "qwen3_5_think.jinja").read_text(), "glm-4.6v": GLM,
}  # fmt: skip
"""Shapes of the families' own templates; Qwen3.5's is its own, as TRL ships it."""


def pixels(family):
    """A budget of 4 to 12 image tokens."""
    return (4 * SPACES[family].unit ** 2, 12 * SPACES[family].unit ** 2)


@pytest.fixture(scope="module")
def tokenizer():
    return architecture.train_tokenizer(tasks.texts())


@pytest.fixture(scope="module")
def released(tokenizer, tmp_path_factory):
    """Family -> a folder as the hub has it, of chance weights."""
    root = tmp_path_factory.mktemp("released")
    for family, hub in MODELS.items():
        chance.write(root / hub.split("/")[1], hub, tokenizer, seed=0, template=TEMPLATES[family])
    return {family: root / hub.split("/")[1] for family, hub in MODELS.items()}


@pytest.fixture(scope="module")
def pictured(gmner_dir, tmp_path_factory):
    """The real tweets whose image lies beside the annotations, read from a copy of their files alone."""
    ids, root = (
        {path.stem for path in (gmner_dir / "images").glob("*.jpg")},
        tmp_path_factory.mktemp("pictured"),
    )
    if not ids:
        pytest.skip("no image of a real tweet beside the annotations")
    texts = [path.read_text() for path in (gmner_dir / "Twitter10000_v2.0" / "txt").glob("*.txt")]
    found = [
        block
        for text in texts
        for block in text.split("\n\n")
        if block.partition("\n")[0].removeprefix("IMGID:") in ids
    ]
    for folder in ("txt", "xml"):
        (root / "Twitter10000_v2.0" / folder).mkdir(parents=True)
    (root / "Twitter10000_v2.0" / "txt" / "test.txt").write_text("\n\n".join(found) + "\n\n")
    for path in (gmner_dir / "Twitter10000_v2.0" / "xml" / f"{id}.xml" for id in ids):
        if path.is_file():
            shutil.copy(path, root / "Twitter10000_v2.0" / "xml")
    return load_split("twitter-gmner", root, split="test", images_dir=gmner_dir / "images")


def perfect_text(example, family, size):
    (chain,) = mrsi.build_chains([(example, "terse")], seed=0).chains
    return chains.render(chain, family, size)


def gmner_f1(examples, answers):
    judged = [
        judge(e, parse_prediction(answer, e, "strict")[1])
        for e, answer in zip(examples, answers, strict=True)
    ]
    return ratios(totals([outcome(each, "gmner") for each in judged]))["f1"].percent


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:shared_prefix is off. it needs full attention in every layer")
@pytest.mark.parametrize("family", MODELS)
def test_a_family_goes_through_every_stage(released, nano_tweets, tmp_path, family):
    few, by_id, budget = (
        nano_tweets[:4],
        {e.id: e for e in nano_tweets},
        dict(zip(("min_pixels", "max_pixels"), pixels(family), strict=True)),
    )
    target = backbones.outline(str(released[family]), pixels=pixels(family)).target
    assert (target.family, target.wording) == (family, "full")
    as_on_gpus = {"weights": "bfloat16", "bf16": True, "gradient_checkpointing": True}
    steps = {
        "max_steps": 1,
        "batch_size": 4,
        "per_device_batch_size": 4,
        "lora_rank": 4,
        "learning_rate": 1e-2,
        **budget,
        **as_on_gpus,
    }

    rows = list(
        mrsi.sft_rows(
            mrsi.build_chains([(e, "terse") for e in few], seed=0).chains, by_id, target, prompt="direct"
        )
    )
    took = sft.train(
        str(released[family]), rows, tmp_path / "sft", SftOptions(**steps), prompt="direct", device="cpu"
    )
    assert (took["n_steps"], took["checks"]["images_opened"]) == (1, 4)

    rows = list(mrsi.grpo_rows([(e, "terse") for e in few], target, prompt="direct"))
    options = CvoOptions(
        **steps, num_generations=4, max_completion_length=64, check_groups=0, filter_d2=False
    )
    took = cvo.train(
        str(tmp_path / "sft" / "model"), rows, tmp_path / "cvo", options, prompt="direct", device="cpu"
    )
    assert (took["n_steps"], took["checks"]["gold_answers"]) == (1, 4)

    trained = backbones.load(str(tmp_path / "cvo" / "model"), device="cpu", dtype=torch.bfloat16)
    assert trained.target == target, "the budget of pixels and the family stay with the model"
    before = backbones.load(
        str(released[family]), device="cpu", dtype=torch.bfloat16, pixels=pixels(family)
    ).model.state_dict()
    changed = {
        name for name, value in trained.model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed
    assert all(re.fullmatch(families.FAMILIES[family].lora_targets + r"\.weight", name) for name in changed)

    generate.generate(trained, few, tmp_path / "said.jsonl", prompt="direct", max_new_tokens=3)
    header, said = read_predictions(tmp_path / "said.jsonl")
    assert header["coordinate_space"] == SPACES[family].space
    assert [row.model_size for row in said] == [target.size(example) for example in few]
    assert gmner_f1(few, said) in (None, 0.0)
    perfect = [
        replace(row, answer=perfect_text(e, family, row.model_size)) for e, row in zip(few, said, strict=True)
    ]
    assert gmner_f1(few, perfect) == 100


@pytest.mark.slow
def test_a_profile_for_gpus_goes_through_with_a_released_model_of_chance_weights(released, tmp_path):
    told = {
        "source": "testbed", "data_dir": None, "testbed_sizes": {"train": 8, "dev": 2, "test": 2},
        "device": "cpu", "n_processes": 1, "backbone": str(released["qwen3-vl"]), "min_pixels": 4 * 32 * 32,
        "max_pixels": 12 * 32 * 32, "max_new_tokens": 2,
        "settings": {
            "base": {}, "mrsi": {"stage": "sft", "styles": ["terse"]},
            "mcr": {"stage": "cvo", "start": "mrsi", "data": "train"},
        },
    }  # fmt: skip
    profile = yaml.safe_load((REPOSITORY / "notebooks" / "profiles" / "qwen3-vl-8b.yaml").read_text())
    told["sft"] = profile["sft"] | {"max_steps": 1, "batch_size": 2}
    told["cvo"] = profile["cvo"] | {
        "max_steps": 1,
        "batch_size": 4,
        "num_generations": 4,
        "max_completion_length": 64,
        "check_groups": 0,
        "filter_std": 0,  # chance weights earn nothing: the filter of D2 runs and keeps every row
        "filter_max": 0,
        "filter_median": [0, 9],
    }
    loaded = config.load("qwen3-vl-8b", tmp_path / "run", told)
    assert {line.mark for line in preflight_table.lines(loaded)} == {"✓"}

    study = Study(loaded)
    files = {name: read_predictions(study.answer(name, "test")) for name in ("base", "mcr")}
    for header, rows in files.values():
        assert header["coordinate_space"] == "norm1000"
        assert [row.model_size for row in rows] == [
            study.target.size(example) for example in study.examples("test")
        ]
    options = {row["option"]: (row["value"], row["origin"]) for row in study.record("mcr")["options"]}
    assert options["weights"] == ("bfloat16", "run")
    assert options["max_pixels"] == (12 * 32 * 32, "run")
    assert options["gradient_checkpointing"] == (True, "profile")
    fewer = Study(config.load("qwen3-vl-8b", tmp_path / "run", told | {"max_pixels": 6 * 32 * 32}))
    assert study.is_done("mcr")
    assert not fewer.is_done("mcr"), "another budget of pixels is another model"


@pytest.mark.parametrize("family", MODELS)
def test_real_tweets_go_through_every_family(released, pictured, tmp_path, family):
    backbone = backbones.load(
        str(released[family]), device="cpu", pixels=(SPACES[family].unit ** 2, 150 * SPACES[family].unit ** 2)
    )
    found, target = pictured, backbone.target
    images = [[open_image(path) for path in e.images] for e in found]
    chats = [row["prompt"] for row in mrsi.grpo_rows([(e, "terse") for e in found], target, prompt="mcr")]
    _, sizes = generate.answer_batch(backbone, chats, images, max_new_tokens=2)
    answers = []
    for example, (picture,), (size,) in zip(found, images, sizes, strict=True):
        if example.image_size_px is not None:
            assert (picture.size, size) == (example.image_size_px, target.size(example))
        seen = {"coordinate_space": backbone.space, "model_size": size, "image_size_px": picture.size}
        answers.append(Prediction(example.id, perfect_text(example, family, size), **seen))
        _, entities = parse_prediction(answers[-1], example, "strict")
        said = {"entities": [{"entity": e.text, "type": e.type, "bbox_2d": e.box_xyxy} for e in entities]}
        predict.draw(said, example.images[0], tmp_path / f"{example.id}.png")
        drawn = open_image(tmp_path / f"{example.id}.png")
        assert drawn.width / drawn.height == pytest.approx(picture.width / picture.height, rel=0.01)
        for entity, gold in zip(entities, example.entities, strict=True):
            assert (entity.box_xyxy is not None) == gold.is_groundable
    assert any(
        e.box_xyxy for a, ex in zip(answers, found, strict=True) for e in parse_prediction(a, ex, "strict")[1]
    ), "nothing was drawn"
    assert gmner_f1(found, answers) == 100


@pytest.mark.parametrize("hub", families.PUBLISHED)
def test_published_shapes_have_the_published_numbers(hub):
    published = families.PUBLISHED[hub]
    family = families.FAMILIES[published.family]
    kind = getattr(transformers, family.model_class)
    with torch.device("meta"):
        model = kind(kind.config_class(**published.config))
    assert sum(p.numel() for p in model.parameters()) == published.n_parameters
    linear = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    adapted = {name: module for name, module in linear.items() if re.fullmatch(family.lora_targets, name)}
    assert len(adapted) == families.lora_modules(family.model_type, published.text)
    assert adapted.keys() == {name for name in linear if ".language_model.layers." in name}
    assert (
        sum(16 * (module.in_features + module.out_features) for module in adapted.values())
        == published.n_lora
    )
    shape = memory.Shape.of(published.config, published.n_parameters)
    assert shape.n_lora(16) == published.n_lora
    assert shape.n_linear == sum(module.in_features * module.out_features for module in adapted.values())
    assert (
        SPACES[published.family].unit
        == family.patch * family.merge
        == published.vision["patch_size"] * published.vision["spatial_merge_size"]
    )
    for name, (_, number) in family.tokens.items():
        assert getattr(model.config, name) == number


def test_the_numbers_of_7b_are_those_that_others_publish():
    # 8.29 B is on the hub's page of Qwen2.5-VL-7B; 16 x 28 layers x (2·7168 + 2·4096 + 3·22528) = 40,370,176
    seven = families.PUBLISHED["Qwen/Qwen2.5-VL-7B-Instruct"]
    assert (seven.n_parameters, seven.n_lora) == (8_292_166_656, 16 * 28 * (2 * 7168 + 2 * 4096 + 3 * 22_528))
    shape = memory.Shape.of(seven.config, seven.n_parameters)
    lora = {
        "weights": "bfloat16",
        "bf16": True,
        "lora_rank": 16,
        "gradient_checkpointing": True,
        "per_device_batch_size": 2,
    }
    update = memory.of_stage(
        shape, SftOptions(**lora), n_processes=4, prompt_tokens=900, completion_tokens=100
    )
    assert update.weights == 2 * 8_292_166_656
    assert update.trained == 16 * 40_370_176
    # 2 rows x 1000 tokens x ((28·3584 + 8·3584 + 3·4096 + 4·18944) values of 2 bytes + 152,064 x 10 bytes)
    assert update.update == 2 * 1000 * ((28 * 3584 + 8 * 3584 + 3 * 4096 + 4 * 18_944) * 2 + 152_064 * 10)
    sampled = memory.of_stage(
        shape, CvoOptions(**lora), n_processes=4, prompt_tokens=900, completion_tokens=100
    )
    # 16 rows x 1000 tokens x 28 layers x 2 x 512 x 2 bytes, and the prompts' pass of 16 x 900 x (3·18944 +
    # 4·3584) x 2 bytes
    assert sampled.rollout == 16 * 1000 * 28 * 2 * 512 * 2 + 16 * 900 * (3 * 18_944 + 4 * 3584) * 2
    four = memory.of_stage(
        shape,
        SftOptions(**lora, quantization="4bit"),
        n_processes=1,
        prompt_tokens=900,
        completion_tokens=100,
    )
    assert four.weights == pytest.approx(6_525_288_448 * 0.516 + (8_292_166_656 - 6_525_288_448) * 2)
    full = memory.of_stage(
        shape, CvoOptions(**{**lora, "lora_rank": 0}), n_processes=1, prompt_tokens=900, completion_tokens=100
    )  # gradient, two moments, and the model that KL is measured against
    assert full.trained == 4 * full.weights


def test_families_are_told_by_type_name_and_vocabulary(released):
    assert {family: cards.card(str(folder))["family"] for family, folder in released.items()} == {
        family: family for family in MODELS
    }
    assert families.family_of({"model_type": "llava"}, "some/model") is None
    assert (
        families.family_of({"model_type": "qwen3_vl", "text_config": {"vocab_size": 151_936}}, "x")
        == "qwen3-vl"
    )
    for published in families.PUBLISHED.values():
        config = {"model_type": families.FAMILIES[published.family].model_type, "text_config": published.text}
        assert families.family_of(config, "my-folder") == published.family
    assert set(families.FAMILIES) <= set(SPACES)


def test_the_budget_of_pixels_is_that_of_the_profile(released):
    for family, folder in released.items():
        own = backbones.outline(str(folder)).target
        published = families.PUBLISHED[MODELS[family]]
        assert (own.min_pixels, own.max_pixels) == (published.min_pixels, published.max_pixels)
        given = backbones.outline(str(folder), pixels=pixels(family)).target
        assert (given.min_pixels, given.max_pixels) == pixels(family)
    with pytest.raises(UserError, match="at least one unit of 32 x 32 pixels"):
        backbones.outline(str(released["qwen3-vl"]), pixels=(10, 900))


def test_a_prompt_that_ends_with_think_is_closed(tokenizer, released, tmp_path):
    def ending(template):
        folder = tmp_path / "thinking"
        shutil.copytree(released["qwen3-vl"], folder, dirs_exist_ok=True)
        (folder / "chat_template.jinja").write_text(template)
        chat = [{"role": "user", "content": [{"type": "text", "text": "?"}]}]
        processor = backbones.outline(str(folder)).processor
        return processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)[-24:]

    assert ending(THINKING).endswith("<|im_start|>assistant\n")
    with pytest.raises(UserError, match="ends a prompt with <think>"):
        ending(
            architecture.CHAT_TEMPLATE.replace(
                "assistant\n{% endif %}", "assistant\n{{ '<think>' }}{% endif %}"
            )
        )


SWITCHED = {
    name: (OF_TRL / f"{name}.jinja").read_text() for name in ("qwen3_5_nothink", "qwen3_6", "qwen3_8")
}
SWITCHED |= {"qwen3_5_think": TEMPLATES["qwen3.5"], "glm": GLM}


@pytest.mark.parametrize("name", SWITCHED)
def test_a_template_with_a_switch_is_off_and_keeps_what_an_answer_reasons(tokenizer, nano_tweets, name):
    family = "glm-4.6v" if name == "glm" else "qwen3.5"
    template = backbones._switched_off(SWITCHED[name], families.FAMILIES[family].switch)
    write = partial(tokenizer.apply_chat_template, chat_template=template, tokenize=False)
    said = "<think>Ada is a person.</think><answer>[]</answer>"
    asking = backbones.Backbone("b", family, "full", None, None)
    for shots in ((), [(nano_tweets[0], said)]):
        chat = asking.messages(nano_tweets[1], "cot-3shot" if shots else "cot", shots)
        prompt = write(chat, add_generation_prompt=True)
        assert prompt.endswith("<think></think>" if name == "glm" else "<think>\n\n</think>\n\n")
        for content in (said, [{"type": "text", "text": said}]):  # as rows have it, and as TRL may pass it on
            assert write([*chat, {"role": "assistant", "content": content}]) == prompt + said + "<|im_end|>"
        assert prompt.count(said) == len(shots)


def test_a_template_that_changes_an_answer_is_told(released, nano_tweets, tmp_path):
    folder = tmp_path / "rearranging"
    shutil.copytree(released["qwen3-vl"], folder)
    (folder / "chat_template.jinja").write_text(
        architecture.CHAT_TEMPLATE.replace("{{ part['text'] }}", "{{ part['text'].split('</think>')[-1] }}")
    )
    outline = backbones.outline(str(folder), pixels=pixels("qwen3-vl"))
    built = mrsi.build_chains([(e, "terse") for e in nano_tweets[:2]], seed=0).chains
    rows = list(mrsi.sft_rows(built, {e.id: e for e in nano_tweets}, outline.target, prompt="direct"))
    with pytest.raises(UserError, match="the chat template changes what the model is to write"):
        preflight.check_rows(outline, rows)


def test_a_model_of_the_hub_is_found_in_its_cache(released, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    kept = tmp_path / "models--XiaomiMiMo--MiMo-VL-7B-RL"
    shutil.copytree(released["qwen2.5-vl"], kept / "snapshots" / ("0" * 40))
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("0" * 40)
    assert cards.card("XiaomiMiMo/MiMo-VL-7B-RL")["family"] == "mimo-vl"
    assert (
        backbones.load("XiaomiMiMo/MiMo-VL-7B-RL", device="cpu", pixels=pixels("mimo-vl")).family == "mimo-vl"
    )
    said = predict.predict("XiaomiMiMo/MiMo-VL-7B-RL", "Ada in Oslo", device="cpu", max_new_tokens=2)
    assert (said["prompt"], said["entities"]) == ("direct", [])
    assert said["parse"]["reason"], "chance weights cannot answer in two tokens"


def test_a_model_that_is_not_here_is_told_with_what_to_download(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        UserError,
        match=r"hf download Qwen/Qwen2.5-VL-7B-Instruct \(17 GB\) brings it.*HF_HOME.*--set backbone=FOLDER",
    ):
        backbones.load("Qwen/Qwen2.5-VL-7B-Instruct")
    message = (
        "some/model is no folder, and no model of that name has been downloaded: hf download some/model "
    )
    with pytest.raises(UserError, match=message):
        cards.card("some/model")


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def shard(folder, number):
    return folder / f"model-0000{number}-of-00005.safetensors"


HARMS = {
    "missing": (lambda f: shard(f, 2).unlink(), "1 of 5 files of weights are missing, the first is"),
    "cut": (lambda f: cut(shard(f, 3)), "00003-of-00005.safetensors is no whole safetensors file"),
    "a page": (lambda f: shard(f, 1).write_text("<html>"), "is no whole safetensors file"),
    "index": (lambda f: (f / "model.safetensors.index.json").write_text("{}"), "no index of shards"),
    "config": (lambda f: (f / "config.json").write_text("["), "no configuration of a model"),
    "type": (
        lambda f: changed(f, model_type="llava"),
        "is a 'llava'; types that can be loaded: glm4v, qwen2_5_vl, qwen3_5, qwen3_vl",
    ),
    "awq": (
        lambda f: changed(f, quantization_config={"quant_method": "awq"}),
        "is stored quantised; take the original",
    ),
    "tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "the processor of .* cannot be loaded"),
}


def changed(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize("harm", HARMS)
def test_a_folder_that_is_not_whole_is_told_in_a_sentence(released, tmp_path, harm):
    folder = tmp_path / "copy"
    shutil.copytree(released["qwen2.5-vl"], folder)
    do, message = HARMS[harm]
    do(folder)
    with pytest.raises(UserError, match=message) as raised:
        backbones.load(str(folder), device="cpu")
    assert "\n" not in str(raised.value)


def test_weights_of_another_shape_are_told(released, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(released["qwen2.5-vl"], folder)
    config = json.loads((folder / "config.json").read_text())
    changed(
        folder,
        text_config={**config["text_config"], "num_hidden_layers": 4, "layer_types": ["full_attention"] * 4},
    )
    with pytest.raises(UserError, match="is of another architecture: 12 weights do not fit"):
        backbones.load(str(folder), device="cpu")


def test_four_bits_take_a_gpu_bitsandbytes_and_lora(released, tmp_path, monkeypatch):
    folder = str(released["qwen2.5-vl"])
    with pytest.raises(UserError, match="quantization=4bit needs a GPU"):
        backbones.load(folder, device="cpu", quantization="4bit")
    with pytest.raises(UserError, match="no GPU that torch can use was found"):
        backbones.load(folder, device="cuda", quantization="4bit")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(backbones, "find_spec", lambda name: None)
    with pytest.raises(
        UserError, match="needs bitsandbytes, which is not installed; pip install bitsandbytes"
    ):
        backbones.load(folder, device="cuda", quantization="4bit")
    with pytest.raises(UserError, match="4bit leaves only LoRA to be trained"):
        loop.started(folder, tmp_path, SftOptions(quantization="4bit", lora_rank=0), "cpu")


def test_too_little_memory_for_the_weights_is_told(released, monkeypatch):
    def full(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(transformers.PreTrainedModel, "to", full)
    remedy = "take quantization=4bit, dtype=bfloat16 or a smaller model"
    with pytest.raises(UserError, match=f"memory is too little for the weights of .*{remedy}"):
        backbones.load(str(released["qwen2.5-vl"]), device="cpu")


def test_float16_trains_an_adapter_in_float32(released, nano_tweets, tmp_path, monkeypatch):
    # TRL makes the adapter of a 4-bit model bfloat16, and the scaler of float16 stops at its first gradient
    backbone = backbones.load(str(released["qwen2.5-vl"]), device="cpu", pixels=pixels("qwen2.5-vl"))
    backbone.model.is_loaded_in_4bit = True
    built = mrsi.build_chains([(e, "terse") for e in nano_tweets[:2]], seed=0).chains
    rows = list(mrsi.sft_rows(built, {e.id: e for e in nano_tweets}, backbone.target, prompt="direct"))
    options = SftOptions(batch_size=2, per_device_batch_size=2)
    with adapters.quiet():
        trainer = sft.make_trainer(backbone, rows, tmp_path, options)
    monkeypatch.setattr(
        trainer,
        "train",
        lambda **_: found.append({p.dtype for p in trainer.model.parameters() if p.requires_grad}),
    )
    found = []
    for trainer.args.fp16 in (False, True):
        loop.run(trainer, tmp_path, None, options, None)
    assert found == [{torch.bfloat16}, {torch.float32}]


def test_the_page_of_families_tells_what_is_true():
    text = (REPOSITORY / "docs" / "families.md").read_text()
    for published in families.PUBLISHED.values():
        (row,) = [line for line in text.split("\n") if f"`{published.hub}`" in line and line.startswith("|")]
        assert f"{published.n_parameters:,}" in row
        assert f"{published.n_lora:,}" in row
    for name, family in families.FAMILIES.items():
        (row,) = [line for line in text.split("\n") if line.startswith(f"| `{name}`")]
        assert {"asked": "when asked", "always": "always"}[family.thinks] in row
        assert f"| {SPACES[name].unit} |" in row
