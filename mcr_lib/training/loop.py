"""What SFT and CVO share: rows as a dataset, LoRA, checkpoints and exact resume, curves, the finished model.

checkpoints/     the newest two; a run continues from the newest complete one
log.jsonl        a row per update: step, n_steps, seconds, and the columns of `CURVES` that it has
model/           the finished backbone, or its adapter alone; complete or absent
"""

import json
import os
import shutil
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset
from peft import LoraConfig, PeftModel
from PIL.Image import Image
from safetensors import SafetensorError, safe_open
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from mcr_lib.data.files import read_jsonl, read_text, write_json, write_jsonl
from mcr_lib.data.images import open_image
from mcr_lib.errors import UserError
from mcr_lib.rewards import NAMES
from mcr_lib.training import adapters, backbones, cards, families, launch, vision
from mcr_lib.training.backbones import Backbone
from mcr_lib.training.options import Options, batch_shape

Map = Mapping[str, Any]
Rows = Sequence[Map]  # of `mrsi.sft_rows` or `mrsi.grpo_rows`
Progress = Callable[[int, int, Map], None] | None  # gets updates so far, updates in all, row of the log
CURVES = {
    "loss": "loss", "mean_token_accuracy": "token_accuracy", "reward": "reward", "reward_std": "reward_std",
    **{f"rewards/reward_{name}/{kind}": f"{name}_{kind}" for name in NAMES for kind in ("mean", "std")},
    "frac_reward_zero_std": "equal_groups", "completions/clipped_ratio": "truncated",
    "completions/mean_length": "length", "kl": "kl", "entropy": "entropy",
    "clip_ratio/region_mean": "clipped", "cispo_clip_ratio": "clipped", "grad_norm": "grad_norm",
    "learning_rate": "learning_rate", "epoch": "epoch",
}  # fmt: skip
"""TRL's name -> ours. SFT's loss, kl and entropy in nats per token; reward is R = Σ λ_k R_k; equal_groups the
share of groups without spread in R; truncated the share of answers cut at the most tokens; length in tokens.
"""


def dataset(rows: Rows, opened: Callable[[str], Image] = open_image) -> Dataset:
    """Rows as a dataset that opens their images by `opened` when it is read."""
    if not rows:
        problem = "there is no row to train on; the tweets of this setting's data are none"
        raise UserError(f"{problem}, or none of them has a usable image")
    return Dataset.from_list(rows).with_transform(
        lambda batch: {**batch, "images": [[opened(path) for path in paths] for paths in batch["images"]]}
    )


def started(start: str, folder: Path, options: Options, device: str | None) -> tuple[Backbone, Path | None]:
    """The backbone to train and the checkpoint to continue from (`None` = from the beginning)."""
    folder.mkdir(parents=True, exist_ok=True)
    is_adapter = adapters.is_adapter(start)
    _check_options(is_adapter, options)
    checkpoint = newest_complete(folder / "checkpoints")
    own = str(PartialState().device)  # each process its own GPU
    place = own if device is None or own.startswith(device) else device  # `load` refuses a missing device
    weights = None if options.lora_rank else checkpoint  # the trainer's loader skips whole weights
    train_as = _lora_config(options, cards.card(start)["family"]) if is_adapter else None
    how = {"dtype": getattr(torch, options.weights), "quantization": options.quantization}
    how |= {"pixels": options.pixels, "weights": weights, "train_as": train_as}
    backbone = backbones.load(start, device=place, **how)
    if backbone.model.device.type == "cpu":
        torch.set_flush_denormal(True)
    if launch.is_sharded():
        # by layers alone: the vision tower is gathered with the root, as a batch without image passes it over
        layer = backbone.model.get_decoder().layers[0]
        os.environ["FSDP_TRANSFORMER_CLS_TO_WRAP"] = type(layer).__name__
    if not options.lora_rank:
        backbone.model.model.visual.requires_grad_(options.train_vision)
    return backbone, checkpoint


def _check_options(is_adapter: bool, options: Options) -> None:
    launch.check_sharding()
    is_4bit, is_full = options.quantization == "4bit", not options.lora_rank
    if launch.is_sharded() and (is_4bit or (options.save == "merged" and not is_full)):
        problem = "quantization=4bit and save=merged of an adapter need whole weights, not a part by process"
        raise UserError(f"{problem}; leave 4 bits, save the adapter, and mcr adapters merge makes it whole")
    if is_4bit and is_full:
        problem = "quantization=4bit leaves only LoRA to be trained"
        raise UserError(f"{problem}: set lora_rank, or quantization=none")
    if is_4bit and options.save == "merged":
        problem = "weights of 4 bits cannot take up an adapter without loss"
        raise UserError(f"quantization=4bit with save=merged: {problem}; take save=adapter")
    if is_adapter and is_full:
        problem = "lora_rank 0 (full fine-tuning) of a setting that starts from an adapter"
        raise UserError(f"{problem}; give the start save: merged")


def lora(options: Options, backbone: Backbone) -> LoraConfig | None:
    """The new adapter; `None` = full fine-tuning, or a model whose adapter is trained further."""
    is_new = options.lora_rank and not isinstance(backbone.model, PeftModel)
    return _lora_config(options, backbone.family) if is_new else None


def _lora_config(options: Options, family: str) -> LoraConfig:
    sizes = {"r": options.lora_rank, "lora_alpha": options.lora_alpha, "lora_dropout": options.lora_dropout}
    return LoraConfig(**sizes, bias="none", target_modules=families.FAMILIES[family].lora_targets)


def arguments(options: Options, folder: Path, device: torch.device) -> dict[str, Any]:
    """Arguments of a trainer's configuration: the options, and those that do not change a result."""
    is_cpu = device.type == "cpu"
    names = ("activation_checkpointing", "gradient_checkpointing")  # renamed in transformers 5.2x
    checkpointing = next(name for name in names if name in TrainingArguments.__dataclass_fields__)
    per_device, accumulation = batch_shape(options, PartialState(cpu=is_cpu).num_processes)
    return {
        **options.for_trl(),
        "per_device_train_batch_size": per_device, "gradient_accumulation_steps": accumulation,
        "output_dir": str(folder / "checkpoints"), "save_strategy": "steps", "save_total_limit": 2,
        "logging_steps": 1, "logging_nan_inf_filter": False, "report_to": [], "disable_tqdm": True,
        "use_cpu": is_cpu, "dataloader_pin_memory": not is_cpu, "remove_unused_columns": False,
        # only a vision tower without images goes unused
        "ddp_find_unused_parameters": options.train_vision and not options.gradient_checkpointing,
        "average_tokens_across_devices": True, checkpointing: options.gradient_checkpointing,
    }  # fmt: skip


def on_one_gpu(config: TrainingArguments) -> TrainingArguments:
    """The configuration with one GPU: of several, transformers would use all, each with a whole batch."""
    config._n_gpu = min(config.n_gpu, 1)
    return config


def run(trainer: Trainer, folder: Path, resume: Path | None, options: Options, progress: Progress) -> None:
    """Trains to the end, from the checkpoint `resume` where there is one, and writes `log.jsonl`."""
    vision.without_gradient(trainer.model)
    if hasattr(trainer.model, "peft_config"):
        _check_lora(trainer.model)
    if trainer.args.fp16:  # its gradient scaler refuses bfloat16, TRL's choice for a 4-bit model's adapter
        for parameter in (p for p in trainer.model.parameters() if p.requires_grad):
            parameter.data = parameter.data.float()
    _check_room(folder, trainer.model, is_whole=not (options.lora_rank and options.save == "adapter"))
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_Curves(folder, progress))
    try:
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    except torch.OutOfMemoryError as error:
        remedy = "lower per_device_batch_size, which leaves the result as it is"
        raise UserError(f"the GPU's memory is full; {remedy}") from error
    except (OSError, RuntimeError, SafetensorError) as error:
        if shutil.disk_usage(folder).free > 2**20:  # with less, the failure is blamed on a full disk
            raise
        remedy = "make room, and the same command goes on from the newest checkpoint"
        raise UserError(f"the disk of {folder} is full; {remedy}") from error


def note(folder: Path, checks: Map, *, is_new: bool = True) -> None:
    """Writes `checks.json` from the main process; a run that continues keeps earlier keys."""
    path = folder / "checks.json"
    if PartialState().is_main_process:
        before = {} if is_new or not path.is_file() else json.loads(read_text(path))
        write_json(path, {**before, **checks})


def save(trainer: Trainer, backbone: Backbone, folder: Path, start: str, options: Options, card: Map) -> None:
    """Writes the model trained from `start` to `model/`: its adapter, or whole with LoRA merged (`save`)."""
    trainer.accelerator.wait_for_everyone()
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped) if launch.is_sharded() else None
    if trainer.accelerator.is_main_process:
        model, part = trainer.accelerator.unwrap_model(trainer.model), folder / "model.part"
        shutil.rmtree(part, ignore_errors=True)
        backbone.processor.tokenizer.backend_tokenizer.no_padding()  # stored if this run has padded a batch
        if options.lora_rank and options.save == "adapter":
            backbones.save_adapter(replace(backbone, model=model), part, start=start, state=state, **card)
        else:
            whole = model.merge_and_unload(adapter_names=["default"]) if options.lora_rank else model
            backbones.save(replace(backbone, model=whole), part, state=state, **card)
        shutil.rmtree(folder / "model", ignore_errors=True)
        part.rename(folder / "model")
    trainer.accelerator.wait_for_everyone()


def report(trainer: Trainer, rows: Rows, checks: Map) -> dict[str, Any]:
    """Updates, rows, checks, and peak memory of the process, and of the GPU where there is one, in MB."""
    facts = {"n_steps": trainer.state.global_step, "n_rows": len(rows), "checks": checks}
    with suppress(ImportError):  # Windows
        import resource

        facts["peak_memory_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
    if torch.cuda.is_available():
        facts["peak_gpu_memory_mb"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
    return facts


class _Curves(TrainerCallback):
    """Writes the log: a row per update, flushed before the checkpoint that follows it."""

    def __init__(self, folder: Path, progress: Progress) -> None:
        self.path, self.progress = folder / "log.jsonl", progress

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Keeps the rows up to the checkpoint; later ones will be written again."""
        if state.is_world_process_zero:
            rows = []
            if self.path.is_file():
                content = self.path.read_bytes()
                self.path.write_bytes(content[: content.rfind(b"\n") + 1])  # a kill may cut the last line
                rows = [row for row in read_log(self.path.parent) if row["step"] <= state.global_step]
            write_jsonl(self.path, rows, kind="log")
        self.last = monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: Map, **_: Any) -> None:
        if not state.is_world_process_zero or "loss" not in logs:
            return
        row = {"step": state.global_step, "n_steps": state.max_steps}
        known = {theirs: ours for theirs, ours in CURVES.items() if theirs in logs}
        is_number = {theirs: logs[theirs] == logs[theirs] for theirs in known}  # else nothing was annotated
        row |= {ours: logs[t] for t, ours in known.items() if t == "loss" or is_number[t]}
        now = monotonic()
        row["seconds"], self.last = round(now - self.last, 3), now
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if self.progress:
            self.progress(state.global_step, state.max_steps, row)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The rows of a training folder's log."""
    return [row for _, row in read_jsonl(folder / "log.jsonl", kind="log")[1]]


def newest_complete(checkpoints: Path) -> Path | None:
    """The newest checkpoint that was written to its end; a kill may leave an incomplete one."""
    by_step = sorted(checkpoints.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    return next(filter(_is_complete, reversed(by_step)), None)


def _is_complete(checkpoint: Path) -> bool:
    """Whether every file that resuming reads is there and whole; the state is written last."""
    try:
        step = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))["global_step"]
        weights = list(checkpoint.glob("*.safetensors"))
        for path in weights:
            with safe_open(path, "pt"):
                pass
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return False
    n = int(os.environ.get("WORLD_SIZE", "1"))
    states = ["rng_state.pth"] if n == 1 else [f"rng_state_{k}.pth" for k in range(n)]
    fsdp = sorted(path.name for path in checkpoint.glob("*.bin") if path.name != "training_args.bin")
    own = [] if any(checkpoint.glob("global_step*")) else fsdp or ["optimizer.pt"]  # DeepSpeed, FSDP, others
    zipped = (*own, "scheduler.pt", *states)
    return step > 0 and bool(weights) and all(zipfile.is_zipfile(checkpoint / name) for name in zipped)


def _check_lora(model: torch.nn.Module) -> None:
    adapted = [name for name, module in model.named_modules() if "lora_A" in getattr(module, "_modules", {})]
    text = model.config.get_text_config().to_dict()
    n_expected = families.lora_modules(model.config.model_type, text)
    assert len(adapted) == n_expected, f"LoRA on {len(adapted)} layers, expected {n_expected}"
    assert not any("visual" in name for name in adapted), "LoRA hit the vision tower"


def _check_room(folder: Path, model: torch.nn.Module, *, is_whole: bool = True) -> None:
    """Refuses a disk without room for two checkpoints, a third while it is written, and the model."""
    sizes = [(p.numel() * p.element_size(), p.requires_grad) for p in model.parameters()]
    weights, trained = sum(size for size, _ in sizes), sum(size for size, is_trained in sizes if is_trained)
    saved = trained if hasattr(model, "peft_config") else weights
    needed = 3 * (saved + 2 * trained) + (weights if is_whole else trained)
    if (free := shutil.disk_usage(folder).free) < needed:
        problem = f"no room in {folder} for checkpoints and model"
        sizes_mb = f"about {needed / 2**20:,.0f} MB needed, {free / 2**20:,.0f} MB free"
        raise UserError(f"{problem}: {sizes_mb}; choose another disk with --out")
