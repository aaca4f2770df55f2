"""Our decoding loop against transformers' own: the same answers, draw by draw, for less work."""

from types import SimpleNamespace

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from transformers import LogitsProcessor
from trl.data_utils import prepare_multimodal_messages

import released
from mcr_lib.data import mrsi
from mcr_lib.testbed import drawing, make
from mcr_lib.training import adapters, backbones, cvo, decode, sampling
from mcr_lib.training.generate import answer_batch
from mcr_lib.training.options import CvoOptions

pytestmark = [
    pytest.mark.canary,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # GLM-4.6V's processor
]

HUBS = {
    "qwen2.5-vl": "Qwen/Qwen2.5-VL-7B-Instruct", "qwen3-vl": "Qwen/Qwen3-VL-4B-Instruct",
    "glm-4.6v": "zai-org/GLM-4.6V-Flash",
}  # fmt: skip
SMALL = {"batch_size": 8, "num_generations": 4, "max_completion_length": 8}
SAMPLED = {
    "greedy": {},
    "free": {"temperature": 1.0},
    "cut": {"temperature": 1.5, "top_k": 200, "top_p": 0.95, "min_p": 0.001, "repetition_penalty": 1.3},
}


class EndsByContent(LogitsProcessor):
    """Ends an answer when all ids so far sum up to a multiple of 7; notes the rows that it sees."""

    def __init__(self, end):
        self.end, self.n_rows = end, []

    def __call__(self, input_ids, scores):
        self.n_rows.append(len(input_ids))
        scores[input_ids.sum(-1) % 7 == 0, self.end] = 1e4
        return scores


@pytest.fixture(scope="module", params=["tiny-base", *HUBS])
def backbone(request, tmp_path_factory):
    """The shipped model, and one of chance weights of each architecture."""
    if request.param == "tiny-base":
        return backbones.load("tiny-base", device="cpu")
    folder, own = (
        tmp_path_factory.mktemp(request.param) / "released",
        backbones.outline("tiny-base").processor,
    )
    hub = HUBS[request.param]
    template = own.chat_template
    if request.param == "glm-4.6v":
        image = "<|begin_of_image|><|image|><|end_of_image|>"
        template = template.replace("<|vision_start|><|image_pad|><|vision_end|>", image)
    released.write(folder, hub, own.tokenizer, seed=0, template=template)
    return backbones.load(str(folder), device="cpu", pixels=(4096, 16_384))


def chat(text, n_images):
    images = [{"type": "image"}] * n_images
    return [{"role": "user", "content": [*images, {"type": "text", "text": text}]}]


@pytest.fixture(scope="module")
def chats_and_images():
    """Nine prompts of uneven lengths with none, one and two images; side by side, five are distinct."""
    scenes = [make("gmner", "test", k).scene for k in range(3)]
    one, another, third = [[drawing.draw(scene)] for scene in scenes]
    rows = [(chat("Name what you see .", 1), one)] * 3 + [(chat("Name what you see .", 1), another)]
    rows += [(chat("Compare the two , please , in a few words .", 2), another + third)] * 2
    rows += [(chat("No image here .", 0), [])] * 2 + [(chat("And now ?", 1), third)]
    return tuple(zip(*rows, strict=True))


def answered(backbone, chats_and_images, *, shared_prefix, **how):
    """Answers and sizes; a number drawn afterwards; rows scored and read at each step, and images read."""
    ends, read, n_images = EndsByContent(backbone.processor.tokenizer.eos_token_id), [], []
    noted = {
        "language_model": lambda _, args, given: read.append(len(given["inputs_embeds"])),
        "visual": lambda _, args, given: n_images.append(len(given["grid_thw"])),
    }
    hooks = [
        getattr(backbone.model.model, name).register_forward_pre_hook(hook, with_kwargs=True)
        for name, hook in noted.items()
    ]
    torch.manual_seed(0)
    how = {"processors": [ends], "shared_prefix": shared_prefix, "max_new_tokens": 10, **how}
    answers = answer_batch(backbone, *chats_and_images, **how)
    for hook in hooks:
        hook.remove()
    return answers, torch.rand(1).item(), (ends.n_rows, read, n_images)


@pytest.mark.parametrize("how", SAMPLED)
def test_answers_are_those_of_transformers_loop_draw_by_draw_for_less_work(backbone, chats_and_images, how):
    stock, drawn, _ = answered(backbone, chats_and_images, shared_prefix=False, **SAMPLED[how])
    ours, drawn_ours, (scored, read, n_images) = answered(
        backbone, chats_and_images, shared_prefix=True, **SAMPLED[how]
    )
    assert (ours, drawn_ours) == (stock, drawn)
    assert (read[0], n_images) == (5, [5])  # one, another, both, none, third: each is read once
    assert (scored[0], scored[1:]) == (9, read[1:])
    assert 1 <= scored[-1] < 9
    assert scored == sorted(scored, reverse=True), "answers that have ended are not read on"


def test_a_model_with_a_window_or_a_state_runs_transformers_loop(nano_folder, chats_and_images, monkeypatch):
    backbone = backbones.load(str(nano_folder), device="cpu")
    recurrent = transformers.Qwen3_5Config()
    assert "linear_attention" in recurrent.get_text_config().layer_types
    assert not decode.can_share(SimpleNamespace(config=recurrent))
    assert decode.can_share(backbone.model)
    monkeypatch.setattr(decode, "can_share", lambda model: False)
    *_, (scored, *_) = answered(backbone, chats_and_images, shared_prefix=True, max_new_tokens=2)
    assert scored == [9, 9]


@pytest.mark.parametrize("lora_rank", [0, 4])
def test_cvo_samples_the_answers_of_trl(nano_folder, nano_tweets, tmp_path, lora_rank):
    answers = {}
    for shared_prefix in (False, True):
        backbone = backbones.load(str(nano_folder), device="cpu")
        rows = list(mrsi.grpo_rows([(e, "terse") for e in nano_tweets[:2]], backbone.target, prompt="direct"))
        options = {"lora_rank": lora_rank, "lora_dropout": 0, "shared_prefix": shared_prefix, **SMALL}
        with adapters.quiet():
            trainer = cvo.make_trainer(backbone, rows, tmp_path, CvoOptions(**options), prompt="direct")
        batch = [trainer.train_dataset[k // 4] for k in range(8)]
        prompts = [prepare_multimodal_messages(row["prompt"], images=row["images"]) for row in batch]
        torch.manual_seed(0)
        with adapters.quiet():
            ids, completions, *_ = trainer._generate(prompts)
        assert "generate" not in vars(trainer.model)
        answers[shared_prefix] = (ids, completions, torch.rand(1).item())
    assert answers[True] == answers[False]


def test_the_cut_of_sampling_measures_the_same_in_both_loops(nano_folder, nano_tweets):
    backbone = backbones.load(str(nano_folder), device="cpu")
    rows = list(mrsi.grpo_rows([(e, "terse") for e in nano_tweets[:2]], backbone.target, prompt="direct"))
    ours, stock = (
        sampling.measure_cut(backbone, rows, CvoOptions(**SMALL, top_k=20, shared_prefix=is_shared))
        for is_shared in (True, False)
    )
    assert ours == pytest.approx(stock, abs=1e-5)


@given(st.lists(st.sampled_from("ab")))
def test_distinct_prompts_put_in_their_places_are_all_prompts(prompts):
    firsts, place = decode.distinct(prompts)
    kept = [prompts[k] for k in firsts]
    assert [kept[k] for k in place] == prompts
    assert all(one != other for one, other in zip(kept, kept[1:], strict=False))
