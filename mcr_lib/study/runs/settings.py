"""Trains and evaluates each setting of a run once; results are cached by fingerprint, and training that was
interrupted resumes if its fingerprint is still the same.

    settings/<name>/fingerprint.json   the record: setting, options, time, memory; status "done" once complete
    settings/<name>/{model,checkpoints,log.jsonl,checks.json,rollouts.parquet}
    predictions/<name>.<split>.jsonl
"""

import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

from mcr_lib import metrics, prompts
from mcr_lib.data import mrsi
from mcr_lib.data.files import read_jsonl, write_json
from mcr_lib.data.images import usable_images
from mcr_lib.data.predictions import read_predictions
from mcr_lib.errors import UserError
from mcr_lib.schema import FORMAT_VERSION, Example, checksum
from mcr_lib.study.runs import cache, code, config, joint, model_card, prepare, setting
from mcr_lib.study.runs.artifacts import RunFolder, environment, fingerprint
from mcr_lib.study.runs.config import RANDOM, Loaded
from mcr_lib.study.runs.prepare import Tweets
from mcr_lib.study.runs.progress import Progress
from mcr_lib.study.runs.setting import BACKBONE, Setting
from mcr_lib.training import cards, launch
from mcr_lib.training.options import WITHOUT_EFFECT, Options


@dataclass
class Job:
    """What a training function is called with, and what it returned."""

    start: str  # name or folder of the model
    rows: list[dict[str, Any]]
    folder: Path
    options: Options
    how: dict[str, Any]  # prompt, device, progress, card
    facts: dict[str, Any] = field(default_factory=dict)


class Study:
    """The settings of a run, with their data, models and answers; `progress` is called as these are made."""

    def __init__(self, loaded: Loaded, progress: Progress | None = None) -> None:
        self.loaded, self.config, self.run = loaded, loaded.config, RunFolder(loaded.folder)
        self.settings, self.progress = self.config.settings, progress
        self.pixels = self.config.min_pixels, self.config.max_pixels  # for released models only
        self._examples: dict[str, list[Example]] = {}
        self._pairs: dict[str, list[mrsi.Pair]] = {}
        self._training: dict[str, list[Example]] = {}

    def __getitem__(self, name: str) -> Setting:
        setting.lineage(self.settings, name, "this run")
        return self.settings[name]

    def with_starts(self, names: Iterable[str]) -> list[str]:
        """The given settings, each after those that it starts from."""
        return list(dict.fromkeys(one for name in names for one in setting.lineage(self.settings, name)))

    def of_stage(self, *stages: str) -> list[str]:
        """The settings of the given stages, each after those that it starts from; `UserError` if none is."""
        if not (names := [n for n in self.with_starts(self.settings) if self[n].stage in stages]):
            of_stage, known = " or ".join(stages), ", ".join(self.settings) or "none at all"
            raise UserError(
                f"profile {self.loaded.profile} has no setting of stage {of_stage}; it has {known}"
            )
        return names

    def examples(self, split: str) -> list[Example]:
        """The tweets of a split; of train only those with a usable image (`bad_images`).

        A split of a joint source is named after both, e.g. "grec_testA".
        """
        known = [*self.config.splits, *self.config.joint_splits]
        if split not in known:
            raise UserError(f"no split {split!r} in this run; it has {', '.join(known)}")
        if split not in self._examples:
            if split in self.config.joint_splits:
                tweets = prepare.load_joint(self.loaded, *self.config.joint_splits[split])
            else:
                tweets = prepare.load_examples(self.loaded, [split])[split]
            self._examples[split] = (self._usable if split == "train" else self._whole)(tweets)
        return self._examples[split]

    @property
    def training(self) -> dict[str, list[Example]]:
        """Source -> its training examples whose images are usable, first the source of the run."""
        if not self._training:
            own = {self.config.source: self.examples("train")}
            others = {name: prepare.load_joint(self.loaded, name) for name in self.config.joint}
            usable = {name: self._usable(examples) for name, examples in others.items()}
            if lost := next((name for name in usable if not usable[name]), None):
                problem = f"none of the {len(others[lost]):,} examples of {lost} has all its images"
                remedy = f"--set joint.{lost}.images_dir=DIR tells where they are"
                raise UserError(f"{problem}; {remedy}, or leave {lost} out of joint")
            self._training = joint.renamed(own | usable)
        return self._training

    def everyone(self, name: str) -> list[Example]:
        """The training examples of every source that a setting is trained on."""
        of_each = self.training.values() if self[name].joint else [self.examples("train")]
        return list(chain.from_iterable(of_each))

    def pairs(self, name: str, tweets: Tweets | None = None) -> list[mrsi.Pair]:
        """The pairs of D_R that a setting is trained on; `tweets`: of these alone, not of all of train."""
        c, one = self.config, self[name]
        if tweets is None:
            if name not in self._pairs:
                self._pairs[name] = self.pairs(name, self.everyone(name))
            return self._pairs[name]
        some = mrsi.some(tweets, share=one.share, seed=c.seed)
        line = (self[each] for each in reversed(setting.lineage(self.settings, name)))
        styles = next((each.styles for each in line if each.styles), c.chain_styles)
        drawn = mrsi.pairs(some, styles, n_styles=c.n_styles, seed=c.seed)
        d1, d2 = mrsi.split(drawn, d1_share=c.d1_share, seed=c.seed, by=c.split_by)
        return {"train": drawn, "d1": d1, "d2": d2}[one.part]

    def tweets(self, name: str) -> list[Example]:
        """The tweets that a setting is trained on."""
        return mrsi.tweets_of(self._kept(name))

    def _kept(self, name: str) -> list[mrsi.Pair]:
        """The pairs of a setting; with `kept_by` those that the filter of that setting kept, if it ran."""
        if (by := self[name].kept_by) is None or not self.is_done(by):
            return self.pairs(name)
        judged = read_jsonl(self.run.setting(by) / "filter.jsonl", kind="filter")[1]
        kept = self.options(by)[0].chosen(row for _, row in judged)
        return [(example, style) for example, style in self.pairs(name) if (example.id, style) in kept]

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The training rows of a setting, in the format of its backbone and its modality."""
        how = {"loaded": self.loaded, "everyone": self.everyone(name)}
        return prepare.training_rows(self[name], self._kept(name), self.target, **how)

    def options(self, name: str) -> setting.OptionsWithOrigins:
        """The options of a setting that is trained, with their origins."""
        return self.loaded.options[name]

    @cached_property
    def target(self) -> mrsi.Target:
        """The format of rows: family, pixels and wording of the backbone, and the form of answers."""
        from mcr_lib.training import backbones

        outline = backbones.outline(self.backbone, pixels=self.pixels)
        return replace(outline.target, form=self.config.answer_form)

    @property
    def backbone(self) -> str:
        """Name or folder of the backbone that settings start from; random weights are written if missing."""
        if self.config.backbone != RANDOM:
            return config.backbone_name(self.config)
        folder = self.run.path / "backbone"
        if not (folder / cards.CARD).is_file():
            from mcr_lib.training import nano

            nano.write(part := folder.with_name(f"{folder.name}.{os.getpid()}.part"), seed=self.config.seed)
            try:
                part.rename(folder)
            except OSError:  # another process of this run was first, and wrote the same
                shutil.rmtree(part)
        return str(folder)

    def load(self, name: str) -> Any:
        """The trained model of a setting as a `backbones.Backbone`."""
        import torch

        from mcr_lib.training import backbones

        # under a launcher each process has its own GPU
        device = str(launch.together(self._device).device) if launch.is_member() else self._device
        how = {"dtype": getattr(torch, self.config.dtype), "quantization": self.config.quantization}
        backbone = backbones.load(self._model(name), device=device, pixels=self.pixels, **how)
        return replace(backbone, name=name, form=self.config.answer_form, style=self.test_style(name))

    def test_style(self, name: str) -> str:
        """The style that the prompt `mcr` asks a setting, or the backbone as it is, for at test."""
        return (name != BACKBONE and self[name].test_style) or self.config.test_style

    def fingerprint(self, name: str) -> str:
        """What a setting's model is made from: setting and options, start, tweets, images, chains, code."""
        if name == BACKBONE:
            return self._backbone_fingerprint
        one = self[name]
        if one.stage == "none":
            return self.fingerprint(one.start)
        options = self.options(name)[0].model_dump(mode="json", exclude=set(WITHOUT_EFFECT))
        own = one.model_dump(mode="json", exclude={*setting.APART, "joint"}), options
        data = prepare.sources(one, self.pairs(name), self.loaded)
        data += [self.fingerprint(one.kept_by)] if one.kept_by else []
        return fingerprint(own, self.fingerprint(one.start), data, code.code_fingerprint(one.stage))

    def is_done(self, name: str) -> bool:
        """Whether a setting's model is there and current: made from what it would be made from now."""
        return self[name].stage == "none" or cache.is_done(self.run.setting(name), self.fingerprint(name))

    def record(self, name: str) -> dict[str, Any]:
        """The content of a setting's `fingerprint.json`; empty if there is none."""
        return cache.read_record(self.run.setting(name))

    def train(self, name: str) -> dict[str, Any]:
        """Train a setting's model, after those it starts from, unless it is done; returns its `record`."""
        for one in self.todo(name):
            with self.recorded(one) as job:
                train = import_module(f"mcr_lib.training.{self[one].stage}").train
                job.facts = train(job.start, job.rows, job.folder, job.options, **job.how)
        return {} if self[name].stage == "none" else self.record(name)

    def todo(self, *names: str) -> Iterator[str]:
        """The settings that must be trained now, one at a time: what each starts from is trained before, and
        a model that another setting has made from the same is taken from there.
        """
        for name in names:
            one, folder = self[name], self.run.setting(name)
            if one.stage != "none" and not launch.is_member():
                if self.is_done(name):
                    continue
                command = f"{one.stage} --setting {name} {self.loaded.command_options()}"
                launch.require_launcher(self.config.n_processes, command)
            for other in (one.start, one.kept_by):
                if other not in (BACKBONE, None):
                    self.train(other)
            if one.stage == "none":
                continue
            state = launch.together(self._device)
            with state.main_process_first():  # it makes data and backbone where they are missing
                expected = self.fingerprint(name)
            folders = (folder, *map(self.run.setting, self.settings))
            done = next((other for other in folders if cache.is_done(other, expected)), None)
            state.wait_for_everyone()
            if done is None:
                yield name
            elif done != folder:
                if state.is_main_process:
                    cache.link(done, folder)
                state.wait_for_everyone()

    @contextmanager
    def recorded(self, name: str) -> Iterator[Job]:
        """What a training of `todo` gets; once its `facts` are set, they complete the setting's record."""
        c, one, folder, began = self.config, self[name], self.run.setting(name), time.monotonic()
        state, expected = launch.together(self._device), self.fingerprint(name)
        (options, origins), data = self.options(name), self.rows(name)
        record = {
            "format_version": FORMAT_VERSION, "fingerprint": expected,
            "setting": one.model_dump(mode="json", exclude_defaults=True),
            "start": self.fingerprint(one.start), "options": options.describe(origins),
            "n_processes": state.num_processes,
        }  # fmt: skip
        if state.is_main_process:
            if self.record(name).get("fingerprint") != expected:
                shutil.rmtree(folder, ignore_errors=True)
            write_json(folder / cache.FINGERPRINT, {**record, "status": "begun"})
        state.wait_for_everyone()
        judged = self.examples("dev" if "dev" in c.splits else c.eval_split)  # to choose a model by
        gold = {"source": judged[0].source, "checksum": checksum(judged), "split": judged[0].split}
        signature = metrics.signature(scorer=c.scorer, parse=c.parse, **gold)
        card = {"setting": name, "made_from": expected, "score_signature": signature}
        card |= {"answer_form": c.answer_form, "style": self.test_style(name)}

        def report(done: int, of: int, row: dict[str, Any]) -> None:
            if self.progress:
                self.progress(f"{name}: {row.get('task', one.stage)}", done, of, dict(row))

        how = {"prompt": one.prompt, "device": self._device, "progress": report, "card": card}
        yield (job := Job(self._model(one.start), data, folder, options, how))
        if state.is_main_process and job.facts:
            facts = job.facts | {"seconds": round(time.monotonic() - began, 1), "made_with": environment()}
            record |= {"status": "done", **facts}
            trained_on = " + ".join([c.source, *(c.joint if one.joint else ())])
            model_card.write(self.run, name, record, backbone=self.backbone, source=trained_on)
            write_json(folder / cache.FINGERPRINT, record)
        state.wait_for_everyone()

    def answer(
        self, name: str, split: str | None = None, *, examples: Tweets | None = None, stem: str | None = None
    ) -> Path:
        """The file of answers to a split (`None` = eval_split) or to other `examples`, then named `stem`."""
        with launch.together(self._device).main_process_first() if launch.is_member() else nullcontext():
            path, is_answered, tweets, how = self._plan(name, split, examples, stem)
        if is_answered:
            return path
        from mcr_lib.training.generate import generate

        if examples is None:  # others, such as a probe, are answered by one process
            command = f"generate --setting {name} --split {how['split']} {self.loaded.command_options()}"
            launch.require_launcher(self.config.n_processes, command)
        self.train(name)
        backbone, c = self.load(name), self.config
        if how["prompt"] == "cot-3shot":
            source, _ = c.joint_splits.get(how["split"], (c.source, ""))  # whose task the shots show
            own = self.examples("train") if source == c.source else self.training[source]
            how["shots"] = mrsi.worked_examples(own, self.target, seed=c.seed)
        task = f"{name}: answers to {path.stem.removeprefix(f'{name}.')}"  # a split, or a probe of it
        how["progress"] = self.progress and (lambda done, of: self.progress(task, done, of, {}))
        generate(backbone, tweets, path, seed=c.seed, setting=name, batch_size=c.answer_batch_size, **how)
        return path

    def is_answered(self, name: str) -> bool:
        """Whether the answers to eval_split are there and current."""
        return self._plan(name)[1]

    def can_answer(self, name: str) -> bool:
        """Whether a setting can answer now, without any training."""
        trained = [one for one in setting.lineage(self.settings, name) if self[one].stage != "none"]
        return not trained or self.is_done(trained[-1])

    def _plan(
        self, name: str, split: str | None = None, examples: Tweets | None = None, stem: str | None = None
    ) -> tuple[Path, bool, list[Example], dict[str, Any]]:
        """File of some answers, whether it is there and current, their tweets, arguments of `generate`."""
        c, one, split = self.config, self[name], split or self.config.eval_split
        given = self.examples(split) if examples is None else self._whole(examples)
        tweets, model = prepare.as_shown(one, given, self.loaded), self.fingerprint(name)
        how = {"prompt": one.prompt, "max_new_tokens": c.max_new_tokens, "temperature": c.answer_temperature}
        asked = prompts.PROMPT_VERSION, c.answer_form, self.test_style(name)
        data = cache.of_images(tweets), checksum(tweets)
        expected = fingerprint(model, how, c.seed, *asked, *data, code.code_fingerprint("generate"))
        source = f"{given[0].source}:{checksum(given)}" if given else None
        how |= {"split": split, "modality": one.modality, "data": source, "model": model}
        path = self.run.predictions(stem or f"{name}.{split}")
        is_answered = path.is_file() and read_predictions(path)[0].get("fingerprint") == expected
        return path, is_answered, tweets, how | {"fingerprint": expected}

    def _model(self, name: str) -> str:
        if name == BACKBONE:
            return self.backbone
        one = self[name]
        return self._model(one.start) if one.stage == "none" else str(self.run.setting(name) / "model")

    @cached_property
    def _backbone_fingerprint(self) -> str:
        sums = cards.card(self.backbone)["sha256"]
        return fingerprint(sums, self.pixels) if config.is_released(self.config) else fingerprint(sums)

    def _usable(self, examples: Tweets) -> list[Example]:
        """The tweets whose images can all be used."""
        return usable_images(examples, on_bad_image=self.config.bad_images)[0]

    def _whole(self, examples: Tweets) -> list[Example]:
        """The tweets, with images that cannot be used removed."""
        by_id = {example.id: example for example in self._usable(examples)}
        return [by_id.get(example.id, replace(example, images=())) for example in examples]

    @property
    def _device(self) -> str:
        import torch

        return self.config.device or ("cuda" if torch.cuda.is_available() else "cpu")
