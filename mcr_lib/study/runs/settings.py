"""Trains and evaluates each setting of a run once; results are cached by fingerprint.

    settings/<name>/fingerprint.json   the record: setting, options with their origins, time, memory; status
                                       "done" once the model is complete
    settings/<name>/{model,checkpoints,log.jsonl,checks.json,rollouts.parquet}
    predictions/<name>.<split>.jsonl

Training that was interrupted resumes if its fingerprint is still the same; otherwise it starts anew.
"""

import os
import shutil
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from mcr_lib import metrics, prompts
from mcr_lib.data import mrsi
from mcr_lib.data.files import write_json
from mcr_lib.data.predictions import read_predictions
from mcr_lib.errors import UserError
from mcr_lib.schema import FORMAT_VERSION, Example, checksum
from mcr_lib.study.runs import cache, config, model_card, prepare, rows, setting
from mcr_lib.study.runs.artifacts import RunFolder, environment, fingerprint
from mcr_lib.study.runs.code import code_fingerprint
from mcr_lib.study.runs.config import RANDOM, Loaded
from mcr_lib.study.runs.progress import Progress
from mcr_lib.study.runs.setting import BACKBONE, Setting
from mcr_lib.training import cards, launch


class Study:
    """The settings of a run, with their data, models and answers.

    Args:
        loaded: the configuration.
        progress: called after every update and every batch of answers.
    """

    def __init__(self, loaded: Loaded, progress: Progress | None = None) -> None:
        self.loaded, self.config, self.run = loaded, loaded.config, RunFolder(loaded.folder)
        self.settings, self.progress = loaded.config.settings, progress
        self._examples: dict[str, list[Example]] = {}

    def __getitem__(self, name: str) -> Setting:
        """A setting by name; `UserError` if there is none."""
        setting.lineage(self.settings, name, "this run")
        return self.settings[name]

    def over(self, tweets: Sequence[Example]) -> "Study":
        """The same settings with these tweets as every split, to try things on a few."""
        study = Study(self.loaded)
        study._examples = dict.fromkeys((*self.config.splits, "d1", "d2"), list(tweets))
        return study

    def examples(self, split: str) -> list[Example]:
        """The tweets of a split, of d1 or of d2; of train only those with a usable image (`bad_images`).

        Raises:
            UserError: the run has no such split, or an image that cannot be used.
        """
        source = "train" if split in ("d1", "d2") else split
        if source not in self.config.splits:
            raise UserError(f"no split {source!r} in this run; it has {', '.join(self.config.splits)}")
        if split not in self._examples:
            tweets = self._with_images(prepare.load_examples(self.loaded, [source])[source])
            if source == "train":
                tweets = [example for example in tweets if example.images]
                how = {"d1_share": self.config.d1_share, "seed": self.config.seed}
                self._examples["d1"], self._examples["d2"] = mrsi.split_d1_d2(tweets, **how)
            self._examples[source] = tweets
        return self._examples[split]

    def tweets(self, name: str) -> list[Example]:
        """The tweets that a setting is trained on."""
        return mrsi.some(self.examples(self[name].tweets), share=self[name].share, seed=self.config.seed)

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The training rows of a setting, in the format of its backbone and its modality."""
        train = partial(self.examples, "train")
        return rows.training_rows(self[name], self.tweets(name), self.target, self.loaded, train)

    def options(self, name: str) -> setting.OptionsWithOrigins:
        """The options of a setting that is trained, with their origins."""
        self[name]
        return self.loaded.options[name]

    @cached_property
    def target(self) -> mrsi.Target:
        """The format of rows: family, pixels and wording of the backbone."""
        from mcr_lib.training import backbones

        return backbones.target(self.backbone, pixels=self.pixels)

    @property
    def pixels(self) -> tuple[int, int]:
        """Fewest and most pixels of an image, for released models only; other backbones define their own."""
        return self.config.min_pixels, self.config.max_pixels

    @property
    def backbone(self) -> str:
        """Name or folder of the backbone that settings start from; random weights are written if missing."""
        if self.config.backbone != RANDOM:
            return config.backbone_name(self.config)
        folder = self.run.path / "backbone"
        if not (folder / cards.CARD).is_file():
            from mcr_lib.training import nano

            part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
            nano.write(part, seed=self.config.seed)
            try:
                part.rename(folder)
            except OSError:  # another process of this run was first, and wrote the same
                shutil.rmtree(part)
        return str(folder)

    def model(self, name: str) -> str:
        """Name or folder of a setting's model, for `backbones.load`; of its start if it is not trained."""
        one = self.settings.get(name)
        if one is None or name == BACKBONE:
            return self.backbone
        return self.model(one.start) if one.stage == "none" else str(self.run.setting(name) / "model")

    def load(self, name: str) -> Any:
        """The trained model of a setting as a `backbones.Backbone`."""
        import torch

        from mcr_lib.training import backbones

        # under a launcher each process has its own GPU
        device = str(self._processes().device) if launch.is_member() else self._device
        dtype, quantization = getattr(torch, self.config.dtype), self.config.quantization
        backbone = backbones.load(
            self.model(name), device=device, dtype=dtype, quantization=quantization, pixels=self.pixels
        )
        return replace(backbone, name=name)

    def fingerprint(self, name: str) -> str:
        """What a setting's model is made from, as 12 hex digits."""
        one = self.settings.get(name)
        if one is None or name == BACKBONE:
            return self._backbone_fingerprint
        if one.stage == "none":
            return self.fingerprint(one.start)
        (options, _), data = self.options(name), rows.sources(one, self.tweets(name), self.loaded)
        return cache.of_model(one, options, start=self.fingerprint(one.start), data=data)

    def is_done(self, name: str) -> bool:
        """Whether a setting's model is there and current: made from what it would be made from now."""
        return self[name].stage == "none" or cache.is_done(self.run.setting(name), self.fingerprint(name))

    def record(self, name: str) -> dict[str, Any]:
        """The content of a setting's `fingerprint.json`; empty if there is none."""
        return cache.read_record(self.run.setting(name))

    def train(self, name: str) -> dict[str, Any]:
        """Train the model of a setting, after those it starts from, unless it is done; returns its `record`.

        Raises:
            UserError: an unknown setting, several processes without a launcher (`n_processes`), or as
                `sft.train` and `cvo.train` do.
        """
        one = self[name]
        if one.stage != "none" and not launch.is_member():
            if self.is_done(name):
                return self.record(name)
            self._require_launcher(one.stage, name)
        if one.start != BACKBONE:
            self.train(one.start)
        if one.stage == "none":
            return {}
        folder, state = self.run.setting(name), self._processes()
        with state.main_process_first():  # it makes data and backbone where they are missing
            expected = self.fingerprint(name)
        is_done = cache.is_done(folder, expected)
        folders = map(self.run.setting, self.settings)
        twin = next((other for other in folders if cache.is_done(other, expected)), None)
        state.wait_for_everyone()
        if not is_done and twin is not None:
            if state.is_main_process:
                cache.link(twin, folder)
            state.wait_for_everyone()
        elif not is_done:
            self._train(name, expected)
        return self.record(name)

    def answer(
        self,
        name: str,
        split: str | None = None,
        *,
        examples: Sequence[Example] | None = None,
        stem: str | None = None,
    ) -> Path:
        """The file with a setting's answers to the tweets of a split. The model is trained and the file
        written unless they are there.

        Args:
            split: `None` = the profile's eval_split.
            examples: other tweets instead, e.g. a probe of the split; one process answers them.
            stem: of the file; `None` = <name>.<split>.

        Raises:
            UserError: an unknown setting or split, an unusable image, or as `train` does.
        """
        with self._processes().main_process_first() if launch.is_member() else nullcontext():
            plan = self._plan(name, split, examples, stem)
        if plan.is_answered:
            return plan.path
        from mcr_lib.training.generate import generate

        if examples is None:
            self._require_launcher("generate", name, f" --split {plan.split}")
        self.train(name)
        backbone, seed, shots = self.load(name), self.config.seed, ()
        if plan.generation["prompt"] == "cot-3shot":
            shots = mrsi.worked_examples(self.examples("train"), self.target, seed=seed)
        task = f"{name}: answers to {plan.path.stem.removeprefix(f'{name}.')}"  # a split, or a probe of it
        progress = self.progress and (lambda done, of: self.progress(task, done, of, {}))
        generate(
            backbone, plan.tweets, plan.path, **plan.generation, shots=shots, seed=seed, setting=name,
            batch_size=self.config.answer_batch_size, progress=progress, **plan.header,
        )  # fmt: skip
        return plan.path

    def is_answered(self, name: str, split: str | None = None, **given: Any) -> bool:
        """Whether `answer` with the same arguments has nothing to do."""
        return self._plan(name, split, **given).is_answered

    def can_answer(self, name: str) -> bool:
        """Whether a setting can answer now, without any training."""
        trained = [one for one in setting.lineage(self.settings, name) if self[one].stage != "none"]
        return not trained or self.is_done(trained[-1])

    def _plan(
        self, name: str, split: str | None, examples: Sequence[Example] | None = None, stem: str | None = None
    ) -> "_AnswerPlan":
        split, c, one = split or self.config.eval_split, self.config, self[name]
        given = self.examples(split) if examples is None else self._with_images(examples)
        tweets, model = rows.as_shown(one, given, self.loaded), self.fingerprint(name)
        generation = {"prompt": one.prompt, "max_new_tokens": c.max_new_tokens}
        generation |= {"temperature": c.answer_temperature}
        data = prompts.PROMPT_VERSION, cache.of_images(tweets), checksum(tweets)
        header = {
            "split": split,
            "modality": one.modality,
            "data": f"{given[0].source}:{checksum(given)}" if given else None,
            "model": model,
            "fingerprint": fingerprint(model, generation, c.seed, *data, code_fingerprint("generate")),
        }
        return _AnswerPlan(self.run.predictions(stem or f"{name}.{split}"), split, tweets, generation, header)

    def _train(self, name: str, expected: str) -> None:
        one, folder, state, began = self[name], self.run.setting(name), self._processes(), time.monotonic()
        if one.stage == "sft":
            from mcr_lib.training.sft import train
        else:
            from mcr_lib.training.cvo import train
        (options, origins), data = self.options(name), self.rows(name)
        record = {
            "format_version": FORMAT_VERSION,
            "fingerprint": expected,
            "setting": one.model_dump(mode="json", exclude_defaults=True),
            "start": self.fingerprint(one.start),
            "options": options.describe(origins),
            "n_processes": state.num_processes,
        }
        if state.is_main_process:
            if cache.read_record(folder).get("fingerprint") != expected:
                shutil.rmtree(folder, ignore_errors=True)
            write_json(folder / cache.FINGERPRINT, {**record, "status": "begun"})
        state.wait_for_everyone()
        task = f"{name}: {one.stage}"
        report = self.progress and (lambda done, of, row: self.progress(task, done, of, dict(row)))
        card = {"setting": name, "made_from": expected, "score_signature": self._score_signature()}
        model, how = self.model(one.start), {"prompt": one.prompt, "device": self._device}
        facts = train(model, data, folder, options, **how, progress=report, card=card)
        if state.is_main_process:
            facts |= {"seconds": round(time.monotonic() - began, 1), "made_with": environment()}
            record |= {"status": "done", **facts}
            model_card.write(self.run, name, record, backbone=self.backbone, source=self.config.source)
            write_json(folder / cache.FINGERPRINT, record)
        state.wait_for_everyone()

    def _score_signature(self) -> str:
        """The signature of the scores by which a model of this run is chosen."""
        c = self.config
        examples = self.examples("dev" if "dev" in c.splits else c.eval_split)
        data = {"source": examples[0].source, "checksum": checksum(examples), "split": examples[0].split}
        return metrics.signature(scorer=c.scorer, parse=c.parse, **data)

    @cached_property
    def _backbone_fingerprint(self) -> str:
        sums = cards.card(self.backbone)["sha256"]
        return fingerprint(sums, self.pixels) if config.is_released(self.config) else fingerprint(sums)

    def _with_images(self, examples: Sequence[Example]) -> list[Example]:
        """The tweets, with images that cannot be used removed."""
        usable, _ = prepare.with_usable_image(self.loaded, examples)
        by_id = {example.id: example for example in usable}
        return [by_id.get(example.id, replace(example, images=())) for example in examples]

    def _require_launcher(self, command: str, name: str, more: str = "") -> None:
        options = self.loaded.command_options()
        launch.require_launcher(self.config.n_processes, f"{command} --setting {name}{more} {options}")

    def _processes(self) -> Any:
        """The processes of a launcher as accelerate's PartialState; without a launcher a single one."""
        return launch.together(self._device)

    @property
    def _device(self) -> str:
        import torch

        return self.config.device or ("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class _AnswerPlan:
    """How a setting answers some tweets, and the header of the file."""

    path: Path
    split: str
    tweets: list[Example]
    generation: dict[str, Any]
    header: dict[str, Any]

    @property
    def is_answered(self) -> bool:
        if not self.path.is_file():
            return False
        return read_predictions(self.path)[0].get("fingerprint") == self.header["fingerprint"]
