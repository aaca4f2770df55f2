"""MRSI's training: supervised fine-tuning on answers or chains, as a thin set-up of TRL's SFTTrainer.

Options and their origins: `options.SftOptions`; checks before training: `preflight`; resume, curves,
checkpoints: `loop`.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from trl import SFTConfig, SFTTrainer

from mcr_lib import prompts
from mcr_lib.training import adapters, loop, preflight
from mcr_lib.training.backbones import Backbone
from mcr_lib.training.options import SftOptions

CURVES = {
    "loss": "loss", "mean_token_accuracy": "token_accuracy", "entropy": "entropy", "grad_norm": "grad_norm",
    "learning_rate": "learning_rate", "epoch": "epoch",
}  # fmt: skip
"""TRL's name -> ours, of the columns of `log.jsonl` beside step, n_steps and seconds. Loss in nats per token
of the completion.
"""


@adapters.quiet()
def train(
    start: str,
    rows: loop.Rows,
    folder: str | Path,
    options: SftOptions,
    *,
    prompt: prompts.Kind,
    device: str | None = None,
    progress: loop.Progress | None = None,
    card: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Fine-tunes a backbone on rows of `mrsi.sft_rows`; a stopped run continues from its newest checkpoint.

    Args:
        folder: for checkpoints, `log.jsonl`, `checks.json` and `model/`.
        prompt: the prompt format of the rows, for the card of the model, as `card`.
        device: `None` = a GPU where there is one.

    Returns:
        A report: updates, rows, checks, peak memory.

    Raises:
        UserError: rows that cannot be trained on, a backbone that cannot be loaded, a batch that cannot be
            shared, no room.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    backbone, checkpoint = loop.started(start, folder, options, device)
    checks = preflight.check_rows(backbone, rows)
    loop.note(folder / "checks.json", checks)
    trainer = make_trainer(backbone, rows, folder, options)
    loop.run(trainer, folder, checkpoint, options, curves=CURVES, progress=progress)
    trained = replace(backbone, prompt=prompt)
    loop.finish(trainer, trained, folder, start=start, options=options, card=card or {})
    return loop.report(trainer, rows, checks)


def make_trainer(backbone: Backbone, rows: loop.Rows, folder: Path, options: SftOptions) -> SFTTrainer:
    """The trainer, set up.

    Raises:
        UserError: rows that cannot be trained on, or a batch that processes cannot share.
    """
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
