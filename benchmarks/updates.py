"""What `prefix.py` and `gpu.py` measure with: chance models of any shape, rows whose prompts and answers have
wanted lengths, and TRL's trainers with a clock and a memory gauge in them.

Lengths are in tokens: P of a prompt with its image, R of an answer, G answers to a prompt. An update sends
G (P + R) tokens per prompt through the model, with a shared prefix P + G R: their ratio is what sharing gains
where time is proportional to tokens.
"""

import copy
import ctypes
import gc
import itertools
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from statistics import median
from types import MethodType
from typing import Any

import numpy as np
import psutil
import torch
import transformers
from peft import PeftModel
from PIL import Image
from transformers import PrinterCallback, TrainerCallback

from mcr_lib.boxes import BOX_FORMATS
from mcr_lib.data import load_split, mrsi
from mcr_lib.data.images import open_image
from mcr_lib.styles import STYLES
from mcr_lib.testbed import folder as testbed_folder
from mcr_lib.training import adapters, backbones, cvo, families, preflight, sft
from mcr_lib.training.backbones import Backbone
from mcr_lib.training.options import CvoOptions, Options, SftOptions

WORDS = "the name stands in the text and the man on the left of the picture wears it on his shirt , so "
OFFERED = {kind: "shared_prefix" in kind.model_fields for kind in (CvoOptions, SftOptions)}  # by this version


def shrunk(model: families.Published, vocabulary: int) -> dict[str, Any]:
    """`shrunk` of `released`, which lies beside the tiny base."""
    sys.path.append(str(Path(__file__).parents[1] / "data" / "tiny-base" / "make"))
    return import_module("released").shrunk(model, vocabulary)


def bound(prompt: int, answer: int, group: int, *, head: int | None = None) -> float:
    """How many times fewer tokens a shared prefix leaves, G (P + R) / (P + G R); of prompts that share only
    their first `head` tokens G (P + R) / (head + G (P - head + R)).
    """
    head = prompt if head is None else head
    return group * (prompt + answer) / (head + group * (prompt - head + answer))


def common_head(backbone: Backbone, rows: Sequence[Any]) -> int:
    """Tokens that the prompts of the first row's tweet have in common, the image's among them."""
    of_tweet = [row for row in rows if row["id"] == rows[0]["id"]]
    chats = [row["prompt"] for row in of_tweet]
    texts = backbone.processor.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
    images = [[open_image(path) for path in row["images"]] for row in of_tweet]
    return len(os.path.commonprefix(backbone.processor(text=texts, images=images)["input_ids"]))


def chance(
    config: Mapping[str, Any],
    family: str,
    *,
    device: str,
    dtype: torch.dtype,
    attention: str = "",
    seed: int = 0,
) -> Backbone:
    """A backbone of chance weights, made on the device itself, whose logits spread by 2.

    `config`: arguments of the family's configuration class; `attention`: "" = as `backbones.load`. The
    tokenizer is that of tiny-base, the budget of pixels without a limit.
    """
    known = families.FAMILIES[family]
    kind = getattr(transformers, known.model_class)
    processor = copy.deepcopy(backbones.outline("tiny-base").processor)
    unit = BOX_FORMATS[family].unit
    for part in (processor.image_processor, processor.video_processor):
        part.patch_size = known.patch
        part.size = {"shortest_edge": unit**2, "longest_edge": 4096 * unit**2}
    tokens = {name: getattr(_tiny(), name) for name in _TOKENS}
    of_text = {name: getattr(_tiny().text_config, name) for name in ("eos_token_id", "pad_token_id")}
    parts = {name: dict(config[name]) for name in ("text_config", "vision_config")}
    for part in parts.values():  # so that a layer changes what it gets as much at any size
        part["initializer_range"] = part["hidden_size"] ** -0.5
    parts["text_config"] |= {**of_text, "bos_token_id": None}
    whole = {**config, **tokens, **parts}
    torch.manual_seed(seed)
    attention = attention or ("sdpa" if device.startswith("cuda") else "eager")
    with torch.device(device):
        model = kind._from_config(kind.config_class(**whole), dtype=dtype, attn_implementation=attention)
    model.attention_as_made = attention
    model.generation_config.update(**of_text)
    hidden, head = parts["text_config"]["hidden_size"], model.get_output_embeddings().weight
    spread = 1.0 if head.is_meta else float(head.detach().float().std()) * hidden**0.5  # of the logits
    torch.nn.init.constant_(model.model.language_model.norm.weight, 2 / spread)
    return Backbone("chance", family, "brief", model.eval(), processor)


_TOKENS = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")


def _tiny() -> transformers.PreTrainedConfig:
    return backbones.outline("tiny-base").config


def tweets(folder: Path, n: int, *, image_px: tuple[int, int], seed: int = 0) -> list[Any]:
    """Tweets of the testbed, with images of noise of that size in place of theirs."""
    rng = np.random.default_rng(seed)
    testbed_folder.write(folder, "train", n, seed=seed)
    found, width, height = [], *image_px
    for example in load_split("testbed", folder, split="train", images_dir=folder)[:n]:
        path = folder / f"noise_{example.id}_{width}x{height}.png"
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, compress_level=1)
        found.append(replace(example, images=(str(path),), image_size_px=image_px, entities=()))
    return found


def cvo_rows(backbone: Backbone, folder: Path, n: int, *, prompt: int) -> list[dict[str, Any]]:
    """Rows of CVO with prompts of about `prompt` tokens."""

    def rows(image_px: tuple[int, int]) -> list[dict[str, Any]]:
        drawn = [(tweet, "terse") for tweet in tweets(folder, n, image_px=image_px)]
        return list(mrsi.grpo_rows(drawn, backbone.target, prompt="mcr"))

    return _fitted(backbone, rows, prompt)


def sft_rows(
    backbone: Backbone, folder: Path, n: int, *, n_styles: int, prompt: int, answer: int
) -> list[dict[str, Any]]:
    """Rows of SFT, `n_styles` per tweet (from the eighth on of a style again), with completions of `answer`
    tokens of chance words.
    """
    styles = list(itertools.islice(itertools.cycle(STYLES), n_styles))
    text = _text(backbone, answer)

    def rows(image_px: tuple[int, int]) -> list[dict[str, Any]]:
        found = []
        for tweet in tweets(folder, n, image_px=image_px):
            for style in styles:
                chat = backbone.target.messages(tweet, "mcr", style)
                completion = [{"role": "assistant", "content": [{"type": "text", "text": text}]}]
                row = {"prompt": chat, "images": [*tweet.images], "completion": completion}
                found.append({**row, "style": style, "id": tweet.id})
        return found

    return _fitted(backbone, rows, prompt)


def _text(backbone: Backbone, n_tokens: int) -> str:
    words = (WORDS * n_tokens).split()
    n = next(n for n in range(1, len(words)) if _length(backbone, words[:n]) >= n_tokens)
    return " ".join(words[:n])


def _length(backbone: Backbone, words: Sequence[str]) -> int:
    return len(backbone.processor.tokenizer(" ".join(words))["input_ids"])


def _fitted(backbone: Backbone, rows: Callable, prompt: int) -> list[dict[str, Any]]:
    """Rows whose images have the size with which the longest prompt has about `prompt` tokens."""
    unit = BOX_FORMATS[backbone.family].unit
    smallest = preflight.check_rows(backbone, rows((2 * unit, 2 * unit)), max_completion_length=1)
    n = max(4, prompt - smallest["longest_prompt"] + 4)  # tokens of the image
    height = max(2, round((0.75 * n) ** 0.5))
    return rows((round(n / height) * unit, height * unit))


def made_up(backbone: Backbone, lengths: Sequence[int], *, seed: int = 0) -> list[list[int]]:
    """Answers of those many tokens, drawn among ordinary ones; the last ends the answer."""
    rng, tokenizer = np.random.default_rng(seed), backbone.processor.tokenizer
    ordinary = np.setdiff1d(np.arange(len(tokenizer)), tokenizer.all_special_ids)
    ordinary = np.setdiff1d(ordinary, list(tokenizer.added_tokens_decoder))
    drawn = [rng.choice(ordinary, n).tolist() for n in lengths]
    return [[*ids[:-1], tokenizer.eos_token_id] if ids else [] for ids in drawn]


def cvo_trainer(
    backbone: Backbone,
    rows: Sequence[Any],
    folder: Path,
    options: CvoOptions,
    *,
    answer: int | Sequence[int] | None = None,
) -> Any:
    """CVO's trainer; with `answer` no answer is sampled: they are made up, of that many tokens (in turn)."""
    folder.mkdir(parents=True, exist_ok=True)
    trainer = cvo.make_trainer(backbone, rows, folder, options, prompt="mcr")
    if answer is not None:
        numbers = [answer] if isinstance(answer, int) else answer

        def write(self: Any, prompt_ids: Sequence[Any], *_: Any, **__: Any) -> tuple[list[list[int]], None]:
            lengths = itertools.islice(itertools.cycle(numbers), len(prompt_ids))
            return made_up(backbone, [*lengths], seed=self.state.global_step), None

        trainer._generate_single_turn = MethodType(write, trainer)
    return trainer


def force_length(trainer: Any, answer: int) -> None:
    """Has every sampled answer go on for `answer` tokens, without tokens that stand for images."""
    trainer.generation_config.min_new_tokens = answer
    config = trainer.accelerator.unwrap_model(trainer.model).config
    trainer.generation_config.suppress_tokens = [config.image_token_id, config.video_token_id]


def sharing(options: Options, is_shared: bool) -> Options:
    """The options with the shared prefix on or off; one that does not offer it is always off."""
    is_offered = OFFERED[type(options)]
    return options.model_copy(update={"shared_prefix": is_shared}) if is_offered else options


class Clock(TrainerCallback):
    """Seconds and peak bytes of each update of a trainer after `warm_up` ones, in `rows`.

    seconds: the whole update; on a CPU, its own time. sampling: of it, answers with the preparation of
    prompts and images. update: log-probabilities, backward pass and optimizer, without sampling and rewards.
    peak, sampling_peak: bytes, of a GPU all that is allocated, of a CPU what the process grew by.
    Stops training after `n` such updates, or when `limit_s` is over.
    """

    def __init__(self, trainer: Any, n: int, *, limit_s: float = float("inf"), warm_up: int = 1) -> None:
        self.n, self.warm_up, self.rows, self.spent = n, warm_up, [], {}
        self.device, self.until = trainer.accelerator.device, time.monotonic() + limit_s
        for name in ("_generate", "_generate_and_score_completions", "_get_per_token_logps_and_entropies"):
            if hasattr(trainer, name):
                setattr(trainer, name, self._timed(name, getattr(trainer, name)))
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(self)

    def _timed(self, name: str, function: Callable) -> Callable:
        def run(*given: Any, **named: Any) -> Any:
            before, logps = self._now(), self.spent.get("_get_per_token_logps_and_entropies", 0.0)
            result = function(*given, **named)
            self.spent[name] = self.spent.get(name, 0.0) + self._now() - before
            if name == "_generate":
                self.sampling_peak = self._peak()
                self._reset()
            if name == "_generate_and_score_completions":
                after = self.spent.get("_get_per_token_logps_and_entropies", 0.0)
                self.spent["log-probabilities there"] = after - logps
            return result

        return run

    def _now(self) -> float:
        if self.device.type != "cuda":
            return time.process_time()  # which other work does not disturb
        torch.cuda.synchronize()
        return time.perf_counter()

    def _reset(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        else:
            ctypes.CDLL(None).malloc_trim(0)
            Path("/proc", "self", "clear_refs").write_text("5")  # Linux: the peak starts anew
            self.before = psutil.Process().memory_info().rss

    def _peak(self) -> int:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated()
        lines = Path("/proc", "self", "status").read_text().splitlines()
        kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
        return 1024 * kilobytes - self.before

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Starts the clock."""
        self.spent, self.sampling_peak = {}, 0
        self._reset()
        self.began = self._now()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Reads the clock."""
        seconds = self._now() - self.began
        scored = self.spent.get("_generate_and_score_completions", 0.0)
        row = {"seconds": seconds, "sampling": self.spent.get("_generate", 0.0)}
        row["update"] = seconds - scored + self.spent.get("log-probabilities there", 0.0)
        row |= {"peak": self._peak(), "sampling_peak": self.sampling_peak}
        if state.global_step > self.warm_up:
            self.rows.append(row)
        is_over = time.monotonic() > self.until and self.rows
        control.should_training_stop = bool(len(self.rows) >= self.n or is_over)

    def summary(self) -> dict[str, float]:
        """Medians over the updates measured, of peaks the largest, and their number."""
        found = {key: median(row[key] for row in self.rows) for key in ("seconds", "sampling", "update")}
        found |= {key: max(row[key] for row in self.rows) for key in ("peak", "sampling_peak")}
        return {**found, "n_updates": len(self.rows)}


@contextmanager
def used(trainer: Any, backbone: Backbone) -> Any:
    """Gives the model back as it came when the trainer has done with it."""
    with adapters.quiet():
        try:
            yield trainer
        finally:
            _give_back(trainer, backbone)


def _give_back(trainer: Any, backbone: Backbone) -> None:
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    if isinstance(model, PeftModel):
        model = model.unload()
        if hasattr(model, "peft_config"):
            del model.peft_config
    tower = model.model.visual
    for module in (model, tower):
        module.__dict__.pop("forward", None)  # which the trainer replaced, as both the attention
    own = getattr(model, "attention_as_made", "sdpa" if model.device.type == "cuda" else "eager")
    tower.config._attn_implementation = model.config.get_text_config()._attn_implementation = own
    if model.is_gradient_checkpointing:
        model.gradient_checkpointing_disable()
    trainer.model = trainer.model_wrapped = trainer.optimizer = trainer.lr_scheduler = None
    trainer.callback_handler.model = trainer.callback_handler.optimizer = None
    trainer.accelerator.free_memory()
    backbone.model.eval()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def cost(
    trainer: Any, backbone: Backbone, *, n: int, limit_s: float = float("inf"), warm_up: int = 1
) -> dict[str, float]:
    """`Clock.summary` of n updates of a trainer, which is used up. Without a warm-up, the comparison of both
    paths on its first batch is left out, too.
    """
    if not warm_up and getattr(trainer, "shared", None):
        trainer.shared.is_checked = True
    with used(trainer, backbone):
        clock = Clock(trainer, n, limit_s=limit_s, warm_up=warm_up)
        trainer.train()
        return clock.summary()


def one_batch(trainer: Any) -> dict[str, Any]:
    """What CVO's trainer makes of one generation batch, before it is cut into parts."""
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1  # which `train` sets
    loader = iter(trainer.get_train_dataloader())
    return trainer._generate_and_score_completions(next(loader))


def log_probabilities(
    trainer: Any, batch: Mapping[str, Any], *, rows: int | None = None, method: Any = None
) -> torch.Tensor:
    """Log-probabilities of the answers of a batch, `rows` at a time, shape (all rows, R); `method`: the class
    whose function is called (`None` = the trainer's own).
    """
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    names = ("pixel_values", "image_grid_thw", "num_images", "mm_token_type_ids", "token_type_ids")
    given = {name: batch[name] for name in names if batch.get(name) is not None}
    function = (method or type(trainer))._get_per_token_logps_and_entropies
    n = batch["completion_ids"].shape[1]
    return function(trainer, trainer.model, ids, mask, n, batch_size=rows, **given)[0]


def disturb_lora(model: torch.nn.Module) -> None:
    """Gives the adapters weights: as they start, B is 0 and A gets no gradient."""
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.01)


def versions() -> dict[str, str]:
    """Of what the numbers depend on."""
    import accelerate
    import peft
    import trl

    found = {m.__name__: m.__version__ for m in (torch, transformers, trl, peft, accelerate)}
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {os.cpu_count()} cores"
    return {**found, "device": name}


def sft_trainer(backbone: Backbone, rows: Sequence[Any], folder: Path, options: SftOptions) -> Any:
    """SFT's trainer."""
    folder.mkdir(parents=True, exist_ok=True)
    return sft.make_trainer(backbone, rows, folder, options)
