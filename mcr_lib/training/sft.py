"""MRSI's training: supervised fine-tuning on answers or chains, as a thin set-up of TRL's SFTTrainer."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from trl import SFTConfig, SFTTrainer

from mcr_lib import prompts
from mcr_lib.training import adapters, loop, preflight
from mcr_lib.training.backbones import Backbone
from mcr_lib.training.options import SftOptions


@adapters.quiet()
def train(
    start: str,
    rows: loop.Rows,
    folder: Path,
    options: SftOptions,
    *,
    prompt: prompts.Kind,
    device: str | None = None,
    progress: loop.Progress = None,
    card: loop.Map | None = None,
) -> dict[str, Any]:
    """Fine-tunes a backbone on rows of `mrsi.sft_rows` and returns `loop.report`.

    A stopped run continues from its newest checkpoint. `prompt`, the prompt format of the rows, and `card` go
    into the card of the model. `device`: `None` = a GPU where there is one.
    """
    backbone, checkpoint = loop.started(start, folder, options, device)
    checks = preflight.check_rows(backbone, rows)
    loop.note(folder, checks)
    trainer = make_trainer(backbone, rows, folder, options)
    loop.run(trainer, folder, checkpoint, options, progress)
    loop.save(trainer, replace(backbone, prompt=prompt), folder, start, options, card or {})
    return loop.report(trainer, rows, checks)


def make_trainer(backbone: Backbone, rows: loop.Rows, folder: Path, options: SftOptions) -> SFTTrainer:
    """The trainer, set up."""
    arguments = loop.arguments(options, folder, backbone.model.device)
    trainer = SFTTrainer(
        model=backbone.model,
        args=loop.on_one_gpu(SFTConfig(**arguments, packing=False, assistant_only_loss=False)),
        train_dataset=loop.dataset(rows),
        processing_class=backbone.processor,
        peft_config=loop.lora(options, backbone),
    )
    if options.average_over_tokens:
        trainer.model_accepts_loss_kwargs = True
    return trainer
