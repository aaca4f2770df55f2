"""The vision tower in one attention call and without gradient: equal to the stock way."""

import copy

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model

import released
from mcr_lib.training import adapters, families, vision

HUBS = {
    "qwen2.5-vl": "Qwen/Qwen2.5-VL-7B-Instruct", "qwen3-vl": "Qwen/Qwen3-VL-4B-Instruct",
    "qwen3.5": "Qwen/Qwen3.5-9B", "glm-4.6v": "zai-org/GLM-4.6V-Flash",
}  # fmt: skip
SIZES = {
    "one image": [(4, 4)],
    "windows cut by the border": [(12, 22)],
    "several": [(4, 4), (20, 10), (16, 16)],
}


@pytest.fixture(scope="module", params=HUBS)
def model(request):
    """A chance model of a family with attention sdpa."""
    published = families.PUBLISHED[HUBS[request.param]]
    kind = getattr(transformers, families.FAMILIES[request.param].model_class)
    torch.manual_seed(0)
    tokens = {name: 190 + k for k, name in enumerate(families.FAMILIES[request.param].tokens)}
    config = kind.config_class(**released.shrunk(published, 200) | tokens)
    return kind._from_config(config, attn_implementation="sdpa").eval()


def images(model, sizes):
    grid = torch.tensor([(1, *size) for size in sizes])
    config = model.config.vision_config
    n_values = config.temporal_patch_size * config.patch_size**2 * 3
    generator = torch.Generator().manual_seed(1)
    return torch.randn(int(grid.prod(-1).sum()), n_values, generator=generator), grid


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_all_windows_at_once_see_what_they_saw_one_by_one(model, sizes):
    model = copy.deepcopy(model)
    pixels, grid = images(model, sizes)
    stock = torch.cat(model.model.get_image_features(pixels, grid).pooler_output)
    vision.attend_at_once(model)
    assert "flash" in model.model.visual.config._attn_implementation
    at_once = torch.cat(model.model.get_image_features(pixels, grid).pooler_output)
    torch.testing.assert_close(at_once, stock, rtol=1e-5, atol=1e-5)


def test_attention_that_is_not_sdpa_stays(model):
    model = copy.deepcopy(model)
    model.model.visual.config._attn_implementation = "eager"
    vision.attend_at_once(model)
    assert model.model.visual.config._attn_implementation == "eager"


@adapters.quiet()
def adapted(model, *, is_frozen):
    """A copy with LoRA and gradient checkpointing, the number of passes of a vision block, and a loss."""
    model = copy.deepcopy(model)
    model.activation_checkpointing_enable({"use_reentrant": False})
    model.enable_input_require_grads()
    targets = families.LANGUAGE_LAYERS
    torch.manual_seed(0)
    peft = get_peft_model(model, LoraConfig(r=2, target_modules=targets, init_lora_weights=False)).train()
    if is_frozen:
        vision.without_gradient(peft)
    passes = []
    model.model.visual.blocks[0].attn.register_forward_hook(lambda *_: passes.append(1))
    pixels, grid = images(model, [(4, 4)])
    ids = torch.tensor([[5, 6, *[model.config.image_token_id] * 4, 7, 8, 9]])
    is_image = (ids == model.config.image_token_id).int()
    given = {"input_ids": ids, "pixel_values": pixels, "image_grid_thw": grid, "mm_token_type_ids": is_image}
    loss = peft(**given, labels=ids.masked_fill(is_image.bool(), -100)).loss
    loss.backward()
    gradients = [p.grad for p in peft.parameters() if p.requires_grad]
    return loss.item(), gradients, len(passes)


def test_a_frozen_tower_is_computed_once_and_adapters_learn_the_same(model):
    loss, gradients, n_passes = adapted(model, is_frozen=False)
    same_loss, same_gradients, n_fewer = adapted(model, is_frozen=True)
    n_stock = 2 if model.config.model_type == "qwen2_5_vl" else 1  # transformers spares it Qwen3-VL
    assert (same_loss, n_passes, n_fewer) == (loss, n_stock, 1)
    assert len(gradients) > 4
    assert all(gradient.abs().sum() > 0 for gradient in gradients)
    for same, gradient in zip(same_gradients, gradients, strict=True):
        assert torch.equal(same, gradient)


def test_a_tower_that_is_trained_keeps_its_gradient(model):
    model = copy.deepcopy(model)
    vision.without_gradient(model)
    model.model.get_image_features(*images(model, [(4, 4)])).pooler_output[0].sum().backward()
    assert model.model.visual.patch_embed.proj.weight.grad.abs().sum() > 0
