"""MRSI's training: supervised fine-tuning on answers or chains, as a thin set-up of TRL's SFTTrainer."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from accelerate.data_loader import SeedableRandomSampler
from torch.utils.data import Sampler
from trl import SFTConfig, SFTTrainer

from mcr_lib.prompts import Kind
from mcr_lib.training import adapters, loop, prefix, preflight
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
    trainer = _Trainer(
        model=backbone.model, args=args, train_dataset=data,
        processing_class=backbone.processor, peft_config=loop.lora(options, backbone),
    )  # fmt: skip
    if options.average_over_tokens:
        trainer.model_accepts_loss_kwargs = True
    if options.shared_prefix:
        trainer.shared = prefix.Shared(partial(loop.note, folder, is_new=False), trainer.model)
    return trainer


class _Trainer(SFTTrainer):
    """SFTTrainer that draws the rows of a tweet together and computes what they share once (`prefix`)."""

    shared: prefix.Shared | None = None

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler:
        return _TweetByTweet(self.train_dataset.with_format(None)["id"][:], self.args.seed)

    def compute_loss(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        return super().compute_loss(self.shared(model) if self.shared else model, *args, **kwargs)


class _TweetByTweet(Sampler):
    """The order of accelerate's sampler, in which a tweet's rows follow its first one."""

    def __init__(self, ids: Sequence[str], seed: int) -> None:
        self.ids, self.shuffled = ids, SeedableRandomSampler(ids, data_seed=seed)
        self.set_epoch = self.shuffled.set_epoch  # which accelerate calls

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[int]:
        of_tweet: dict[str, list[int]] = {}
        for row in self.shuffled:
            of_tweet.setdefault(self.ids[row], []).append(row)
        return chain.from_iterable(of_tweet.values())
