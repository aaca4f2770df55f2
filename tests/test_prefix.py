"""What rows begin with is computed once: numbers, gradients and curves are those of rows one by one."""

import dataclasses
import functools
import json

import peft
import pytest
import torch
import transformers
from accelerate.data_loader import SeedableRandomSampler
from hypothesis import given, settings
from hypothesis import strategies as st
from trl.trainer.utils import add_fused_lm_head

import released
from mcr_lib.data import mrsi
from mcr_lib.styles import PAPER
from mcr_lib.training import adapters, backbones, cvo, families, loop, prefix, sft
from mcr_lib.training.options import CvoOptions, SftOptions

IMAGE, END, VOCABULARY = 3, 4, 40
MODELS = {
    "qwen2.5-vl": "Qwen/Qwen2.5-VL-3B-Instruct", "qwen3-vl": "Qwen/Qwen3-VL-4B-Instruct",
    "glm-4.6v": "zai-org/GLM-4.6V-Flash", "qwen3.5": "Qwen/Qwen3.5-9B",
}  # fmt: skip
N_VALUES = {"qwen2.5-vl": 3 * 2 * 14 * 14, "qwen3-vl": 3 * 2 * 16 * 16, "glm-4.6v": 3 * 2 * 14 * 14}


def model_of(family, attention="eager", lora=False):
    published = families.PUBLISHED[MODELS[family]]
    kind = getattr(transformers, families.FAMILIES[family].model_class)
    known = {"image_token_id": IMAGE, "video_token_id": 5, "vision_start_token_id": 2}
    known |= {"vision_end_token_id": END, "image_start_token_id": 2, "image_end_token_id": END}
    ids = {name: known.get(name, 1) for name in families.FAMILIES[family].tokens}
    torch.manual_seed(0)
    config = kind.config_class(**released.shrunk(published, VOCABULARY) | ids)
    model = kind._from_config(config, attn_implementation=attention).eval()
    for name, value in model.named_parameters():  # far from the near-constant start
        if value.ndim > 1:
            value.data.normal_(0, 0.3 if "embed" in name else 0.2)
    add_fused_lm_head(model, temperature=0.7, outputs=("log_probs", "entropy", "is_top1"))
    if lora:
        targets = families.FAMILIES[family].lora_targets
        with adapters.quiet():
            config = peft.LoraConfig(r=4, target_modules=targets, lora_alpha=8)
            model = peft.get_peft_model(model, config)
        for name, value in model.named_parameters():
            if "lora_B" in name:
                value.data.normal_(0, 0.1)
    if prefix.obstacle(model) is None:
        prefix.enable(model)
    return model


@pytest.fixture(
    scope="module", params=["qwen2.5-vl", "qwen3-vl", "qwen2.5-vl sdpa", "qwen3-vl lora", "glm-4.6v lora"]
)
def model(request):
    family, _, how = request.param.partition(" ")
    made = model_of(family, "sdpa" if how == "sdpa" else "eager", how == "lora")
    made.n_values = N_VALUES[family]
    return made


GRIDS = st.sampled_from([(1, 2, 2), (1, 4, 2), (1, 4, 6)])
TEXT = st.lists(st.integers(6, VOCABULARY - 1), max_size=6)
ROWS = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4)  # of a tweet: instruction and answer
TWEETS = st.lists(st.tuples(st.lists(GRIDS, max_size=2), TEXT, ROWS), min_size=1, max_size=3)


def batch_of(tweets, n_values, *, sides, order, all_scored=False):
    """Padded as TRL does: prompts on the left and answers on the right, or all on the right."""
    generator, rows = torch.Generator().manual_seed(7), []
    for grids, text, own in tweets:
        shown = [t for g in grids for t in (2, *[IMAGE] * (g[1] * g[2] // 4), END)]
        pixels = [torch.randn(g[1] * g[2], n_values, generator=generator) for g in grids]
        rows += [([1, *shown, *text, *instruction, 1], answer, grids, pixels) for instruction, answer in own]
    rows = [rows[k % len(rows)] for k in order] if order else rows
    p, r = max(len(row[0]) for row in rows), max(1, *[len(row[1]) for row in rows])
    ids, mask = torch.zeros(len(rows), p + r, dtype=torch.long), torch.zeros(len(rows), p + r).long()
    labels = torch.full_like(ids, -100)
    for k, (prompt, answer, *_) in enumerate(rows):
        start = 0 if sides == "right" else p - len(prompt)
        end = start + len(prompt) + len(answer)
        ids[k, start:end] = torch.tensor(prompt + answer)
        mask[k, start:end] = 1
        first = start + (1 if all_scored else len(prompt))
        labels[k, first:end] = ids[k, first:end]
    batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    if pixels := [x for row in rows for x in row[3]]:
        grids = torch.tensor([g for row in rows for g in row[2]])
        batch |= {"pixel_values": torch.cat(pixels), "image_grid_thw": grids}
        batch["mm_token_type_ids"] = (ids == IMAGE).int()
    return batch


def scores_and_gradients(model, run, weights):
    model.zero_grad()
    output = run()
    (output.log_probs * weights - 0.1 * output.entropy * weights).sum().backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return output, gradients


def assert_equal(model, batch):
    scored = batch["labels"][:, 1:] != -100
    weights = torch.rand(scored.shape, generator=torch.Generator().manual_seed(1)) + 0.5
    stock, of_stock = scores_and_gradients(model, lambda: model(**batch, fused_lm_head=True), weights)
    ours, of_ours = scores_and_gradients(model, lambda: prefix.score(model, **batch), weights)
    torch.testing.assert_close(ours.log_probs, stock.log_probs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.entropy, stock.entropy, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.loss, stock.loss, rtol=1e-5, atol=1e-6)
    assert torch.equal(ours.label_mask, stock.label_mask)
    largest = max((g.norm() for g in of_stock.values()), default=0)
    assert of_ours.keys() <= of_stock.keys()
    for name, gradient in of_stock.items():
        error = (of_ours.get(name, torch.zeros_like(gradient)) - gradient).norm()
        assert error <= 1e-5 * gradient.norm() + 1e-6 * largest, name


@settings(max_examples=6, deadline=None)
@given(TWEETS, st.sampled_from(["left", "right"]), st.lists(st.integers(0, 9), max_size=7), st.booleans())
def test_scores_and_gradients_are_those_of_rows_one_by_one(model, tweets, sides, order, all_scored):
    assert_equal(model, batch_of(tweets, model.n_values, sides=sides, order=order, all_scored=all_scored))


def test_layers_with_a_state_are_scored_row_by_row_and_the_log_says_so():
    model, notes = model_of("qwen3.5"), []
    with pytest.warns(
        UserWarning, match="shared_prefix is off: .* qwen3_5_text has layers of linear_attention"
    ):
        scored = prefix.Shared(notes.append, model)(model)
    assert notes == [{"shared_prefix": False}]
    batch = batch_of(GROUPS, 3 * 2 * 16 * 16, sides="left", order=[])
    stock = model(**batch, fused_lm_head=True)
    assert torch.equal(scored(**batch, fused_lm_head=True).log_probs, stock.log_probs)


GROUPS = [
    ([(1, 4, 2)], [7, 8, 9, 10], [([11], [20, 21, 22]), ([11], [23]), ([11], []), ([11], [24, 25])]),
    ([(1, 2, 2), (1, 4, 6)], [7, 8], [([12, 13], [26, 27]), ([12, 13], [28, 29, 30])]),
]
"""Two groups of one prompt each, of 3 + 2 + 4 + 1 + 1 and 2 + 1 + 6 + 4 + 2 + 2 + 1 prompt tokens."""


def layout_of(batch):
    layout, _, arguments = prefix._packed(model_of("qwen2.5-vl"), **batch)
    return layout, arguments


def test_the_packed_row_has_each_prompt_and_each_image_once():
    batch = batch_of(GROUPS, 4, sides="left", order=[4, 0, 1, 5, 2, 3])
    layout, arguments = layout_of(batch)
    # [1][2 I I E][7 8 9 10][11][1] and its answers; [1][2 I E][2 6*I E][7 8][12 13][1] and its
    assert len(layout.sources) == 11 + (3 + 1 + 0 + 2) + 17 + (2 + 3)
    assert sorted(arguments["image_grid_thw"].tolist()) == [[1, 2, 2], [1, 4, 2], [1, 4, 6]]
    assert len(arguments["pixel_values"]) == 8 + 4 + 24
    tokens, real = arguments["input_ids"][0], batch["attention_mask"].bool()
    assert torch.equal(tokens[layout.where][real], batch["input_ids"][real])
    # a token sees as many tokens as stand before it in its row, and itself
    n_seen = torch.cat([seen.expand(-1, -1, len(q[0]), -1).sum(-1).flatten() for q, _, seen in layout.pieces])
    assert torch.equal(n_seen[layout.back][layout.where][real], batch["attention_mask"].cumsum(-1)[real])


@given(st.lists(st.lists(st.integers(-2, 2), min_size=1, max_size=5), min_size=1, max_size=7))
def test_rows_of_a_group_begin_alike_and_grouping_never_costs_tokens(rows):
    groups = prefix.plan(rows)
    assert sorted(k for _, members in groups for k in members) == list(range(len(rows)))
    for length, members in groups:
        assert len({tuple(rows[k][:length]) for k in members}) == 1
        assert len(members) == 1 or all(token >= 0 for k in members for token in rows[k][length:])
    n_tokens = sum(n + sum(len(rows[k]) - n for k in members) for n, members in groups)
    assert n_tokens <= sum(map(len, rows))


def test_answers_of_one_prompt_that_lie_apart_are_scored_alike(model):
    assert_equal(model, batch_of(GROUPS, model.n_values, sides="left", order=[4, 0, 1, 5, 2, 3]))


def test_equal_words_under_different_images_share_nothing():
    one, other = (([(1, 4, 2)], [7, 8], [([11], [20]), ([11], [21])]) for _ in range(2))
    layout, arguments = layout_of(batch_of([one, other], 4, sides="left", order=[0, 2, 1, 3]))
    assert len(layout.sources) == 2 * (9 + 2)  # [1][2 I I E][7 8][11][1]
    assert len(arguments["pixel_values"]) == 2 * 8


def test_a_wrong_mask_turns_sharing_off_and_is_recorded(monkeypatch):
    model, notes = model_of("qwen2.5-vl"), []
    batch = batch_of(GROUPS, N_VALUES["qwen2.5-vl"], sides="left", order=[])
    laid_out = prefix._laid_out

    def all_seen(*arguments):
        layout = laid_out(*arguments)
        for *_, seen in layout.pieces:
            seen.fill_(True)
        return layout

    monkeypatch.setattr(prefix, "_laid_out", all_seen)
    shared = prefix.Shared(notes.append)
    with pytest.warns(UserWarning, match="shared_prefix is off"):
        output = shared(model)(**batch, fused_lm_head=True)
    assert torch.equal(output.log_probs, model(**batch, fused_lm_head=True).log_probs)
    assert [note["shared_prefix"] for note in notes] == [False]
    assert notes[0]["shared_prefix_off_by"] > 0.1


CVO = CvoOptions(
    max_steps=20, batch_size=4, num_generations=2, max_completion_length=8, lora_rank=0, check_groups=0,
    temperature=1.0, top_k=0, top_p=1.0, learning_rate=1e-3, lr_scheduler_type="constant", warmup_steps=0,
    beta=0.04, filter_d2=False, save_steps=100, per_device_batch_size=2, lora_dropout=0, num_iterations=2,
    adam_epsilon=1e-3,  # smaller, AdamW makes updates of mere rounding where a gradient is 0
)  # fmt: skip


def curve(folder, tmp_path, make, options, rows):
    """The log of a run and its checks."""
    torch.manual_seed(0)
    backbone = backbones.load(str(folder), device="cpu")
    with adapters.quiet():
        trainer = make(backbone, rows, tmp_path, options)
        loop.run(trainer, tmp_path, None, options, None)
    path = tmp_path / "checks.json"
    return loop.read_log(tmp_path), json.loads(path.read_text()) if path.is_file() else {}


def assert_alike(log, stock, names):
    for ours, theirs in zip(log, stock, strict=True):
        for name in (name for name in names if name in theirs):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4, abs=1e-4), (ours["step"], name)


@pytest.mark.nano
@pytest.mark.slow
@pytest.mark.parametrize(
    "departures", [{}, {"lora_rank": 4, "gradient_checkpointing": True, "max_steps": 4}], ids=["full", "lora"]
)
def test_updates_of_cvo_follow_the_stock_curve(nano_folder, nano_tweets, tmp_path, monkeypatch, departures):
    packed, pack = [], prefix._packed
    monkeypatch.setattr(prefix, "_packed", lambda *a, **k: packed.append(pack(*a, **k)) or packed[-1])
    target = backbones.outline(str(nano_folder)).target
    rows = list(mrsi.grpo_rows([(e, "terse") for e in nano_tweets], target, prompt="direct"))
    logs = []
    for is_shared in (True, False):
        (folder := tmp_path / str(is_shared)).mkdir()
        options = CVO.model_copy(update={**departures, "shared_prefix": is_shared})
        make = functools.partial(cvo.make_trainer, prompt="direct")
        log, checks = curve(nano_folder, folder, make, options, rows)
        logs.append(log)
        assert checks.get("shared_prefix") is (True if is_shared else None)
        assert checks.get("shared_prefix_off_by", 0) < 1e-5
    assert_alike(*logs, ("loss", "kl", "entropy", "reward", "length", "clipped"))
    assert all(packed), "each part of a batch holds whole groups"
    assert len(packed) >= 2 * len(logs[0])


SFT = SftOptions(
    max_steps=20, batch_size=4, learning_rate=1e-3, lr_scheduler_type="constant", lora_rank=0,
    weight_decay=0.0, save_steps=100, per_device_batch_size=2, lora_dropout=0, adam_epsilon=1e-3,
)  # fmt: skip


@pytest.mark.nano
@pytest.mark.slow
@pytest.mark.parametrize(
    ("wording", "departures"),
    [
        ("brief", {}),
        ("full", {"average_over_tokens": False, "loss_type": "dft", "max_steps": 2, "train_vision": True}),
    ],
)
def test_updates_of_sft_on_several_styles_follow_the_stock_curve(
    nano_folder, nano_tweets, tmp_path, wording, departures
):
    target = dataclasses.replace(backbones.outline(str(nano_folder)).target, wording=wording)
    drawn = [(e, style) for style in PAPER[:2] for e in nano_tweets]
    chains = mrsi.build_chains(drawn, seed=0).chains
    rows = list(mrsi.sft_rows(chains, {e.id: e for e in nano_tweets}, target, prompt="mcr"))
    logs = []
    for is_shared in (True, False):
        (folder := tmp_path / str(is_shared)).mkdir()
        options = SFT.model_copy(update={**departures, "shared_prefix": is_shared})
        log, checks = curve(nano_folder, folder, sft.make_trainer, options, rows)
        logs.append(log)
        assert checks.get("shared_prefix") is (True if is_shared else None)
    assert_alike(*logs, ("loss", "token_accuracy", "entropy", "grad_norm"))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.integers(0, 3), st.integers(0, 3))
def test_the_rows_of_a_tweet_are_drawn_together_in_an_order_of_seed_and_epoch(ids, seed, epoch):
    order = []
    for _ in range(2):
        sampler = sft._TweetByTweet([str(k) for k in ids], seed)
        sampler.set_epoch(epoch)
        order.append(list(sampler))
    assert order[0] == order[1]
    assert sorted(order[0]) == list(range(len(ids)))
    assert len(sampler) == len(ids)
    tweets = [ids[row] for row in order[0]]
    assert len([tweet for k, tweet in enumerate(tweets) if tweets[k - 1 : k] != [tweet]]) == len({*ids})


def test_rows_of_different_tweets_keep_the_order_of_accelerate():
    stock = SeedableRandomSampler(range(9), data_seed=5)
    assert list(sft._TweetByTweet([str(k) for k in range(9)], 5)) == list(stock)
