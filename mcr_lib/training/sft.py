"""MRSI's training: supervised fine-tuning on answers or chains, as a thin set-up of TRL's SFTTrainer."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from trl import SFTConfig, SFTTrainer

from mcr_lib.prompts import Kind
from mcr_lib.training import adapters, loop, preflight
from mcr_lib.training.backbones import Backbone
from mcr_lib.training.loop import Rows
from mcr_lib.training.options import SftOptions
from mcr_lib.training.pictures import Pictures


@adapters.quiet()
def train(
    start: str, rows: Rows, folder: Path, options: SftOptions, *, prompt: Kind, device: str | None = None,
    progress: loop.Progress = None, card: loop.Map | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Fine-tunes a backbone on rows of `mrsi.sft_rows`; `prompt` (of the rows) and `card`: for its card."""
    backbone, checkpoint = loop.started(start, folder, options, device)
    checks = preflight.check_rows(backbone, rows)
    loop.note(folder, checks)
    trainer = make_trainer(backbone, rows, folder, options)
    loop.run(trainer, folder, checkpoint, options, progress)
    loop.save(trainer, replace(backbone, prompt=prompt), folder, start, options, card or {})
    return loop.report(trainer, rows, checks)


def make_trainer(backbone: Backbone, rows: Rows, folder: Path, options: SftOptions) -> SFTTrainer:
    """The trainer, set up."""
    arguments = loop.arguments(options, folder, backbone.model.device)
    args = loop.on_one_gpu(SFTConfig(**arguments, packing=False, assistant_only_loss=False))
    data = loop.dataset(rows, Pictures(backbone.processor, folder / "checkpoints"))
    trainer = SFTTrainer(
        model=backbone.model, args=args, train_dataset=data,
        processing_class=backbone.processor, peft_config=loop.lora(options, backbone),
    )  # fmt: skip
    if options.average_over_tokens:
        trainer.model_accepts_loss_kwargs = True
    return trainer
