"""Our decoding loop against transformers' own: the same answers, draw by draw, for less work."""

from types import SimpleNamespace

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from transformers import LogitsProcessor
from trl.data_utils import prepare_multimodal_messages

from mcr_lib.data import mrsi
from mcr_lib.testbed import drawing, make
from mcr_lib.training import adapters, backbones, cvo, decode, nano, sampling
from mcr_lib.training.generate import answer_batch
from mcr_lib.training.options import CvoOptions

pytestmark = pytest.mark.canary

HUBS = {"qwen2.5-vl": "Qwen/Qwen2.5-VL-7B-Instruct", "qwen3-vl": "Qwen/Qwen3-VL-4B-Instruct"}
SMALL = {"batch_size": 8, "num_generations": 4, "max_completion_length": 12}
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
    folder, own = tmp_path_factory.mktemp(request.param) / "released", backbones.processor("tiny-base")
    hub = HUBS[request.param]
    nano.write_released(folder, hub, own.tokenizer, seed=0, template=own.chat_template)
    return backbones.load(str(folder), device="cpu", pixels=(4096, 16_384))


def chat(text, n_images):
    images = [{"type": "image"}] * n_images
    return [{"role": "user", "content": [*images, {"type": "text", "text": text}]}]


@pytest.fixture(scope="module")
def chats_and_images():
    """Twelve prompts of uneven lengths with none, one and two images; side by side, five are distinct."""
    scenes = [make("gmner", "test", k).scene for k in range(3)]
    one, another, third = [[drawing.draw(scene)] for scene in scenes]
    rows = [(chat("Name what you see .", 1), one)] * 4 + [(chat("Name what you see .", 1), another)]
    rows += [(chat("Compare the two , please , in a few words .", 2), another + third)] * 3
    rows += [(chat("No image here .", 0), [])] * 3 + [(chat("And now ?", 1), third)]
    return tuple(zip(*rows, strict=True))


def answered(backbone, chats_and_images, *, shared_prefix, seed=0, **how):
    ends = EndsByContent(backbone.processor.tokenizer.eos_token_id)
    torch.manual_seed(seed)
    told = {"processors": [ends], "shared_prefix": shared_prefix, "max_new_tokens": 16, **how}
    answers, sizes = answer_batch(backbone, *chats_and_images, **told)
    return answers, sizes, torch.rand(1).item(), ends.n_rows


@pytest.mark.parametrize("how", SAMPLED)
def test_answers_are_those_of_transformers_loop_draw_by_draw(backbone, chats_and_images, how):
    stock = answered(backbone, chats_and_images, shared_prefix=False, **SAMPLED[how])
    ours = answered(backbone, chats_and_images, shared_prefix=True, **SAMPLED[how])
    assert ours[:2] == stock[:2]
    assert ours[2] == stock[2], "the generator of random numbers goes on from the same state"
    lengths = [len(backbone.processor.tokenizer(text)["input_ids"]) for text in ours[0]]
    assert len(set(lengths)) > 3, "answers end at several steps"


def test_an_answer_that_ends_leaves_and_a_prompt_is_read_once(backbone, chats_and_images):
    n_images, n_rows, parts = [], [], backbone.model.model
    hooks = [
        parts.visual.register_forward_pre_hook(
            lambda _, args, given: n_images.append(len(given["grid_thw"])), with_kwargs=True
        ),
        parts.language_model.register_forward_pre_hook(
            lambda _, args, given: n_rows.append(len(given["inputs_embeds"])), with_kwargs=True
        ),
    ]
    *_, scored = answered(backbone, chats_and_images, shared_prefix=True, temperature=1.0)
    for hook in hooks:
        hook.remove()
    assert n_images == [5]  # one, one, two, none, one
    assert (n_rows[0], scored[0]) == (5, 12)
    assert n_rows[1:] == scored[1:] == sorted(scored[1:], reverse=True)
    assert scored[-1] < 12


def test_a_model_with_a_window_or_a_state_runs_transformers_loop(backbone, chats_and_images, monkeypatch):
    recurrent = transformers.Qwen3_5Config()
    assert "linear_attention" in recurrent.get_text_config().layer_types
    assert not decode.can_share(SimpleNamespace(config=recurrent))
    assert decode.can_share(backbone.model)
    monkeypatch.setattr(decode, "can_share", lambda model: False)
    *_, scored = answered(backbone, chats_and_images, shared_prefix=True, max_new_tokens=2)
    assert scored == [12, 12]


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
