"""Settings made real: each trained once, each asked once, found again by fingerprint.

    settings/<name>/fingerprint.json   what it was made from, options with their origin, what it took; "done" once all of it is there
    settings/<name>/{model,checkpoints,log.jsonl,checks.json,rollouts.parquet}
    predictions/<name>.<split>.jsonl

A fingerprint is of the setting's own fields and options, of the model that it starts from, of the tweets and
images, and of the code of its stage (comments and docstrings do not count). Options that do not change the
result (`options.WITHOUT_EFFECT`) do not count either. A setting that was begun under another fingerprint is
begun anew; under the same one it goes on where it stopped.
"""

import os
import shlex
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mcr_lib import chains, metrics, prompts
from mcr_lib.data import mrsi
from mcr_lib.data.files import read_text, write_json
from mcr_lib.data.modality import masked
from mcr_lib.data.predictions import read_predictions
from mcr_lib.errors import UserError
from mcr_lib.schema import FORMAT_VERSION, Example, checksum
from mcr_lib.study.runs import artifacts, cache, model_card, prepare, setting
from mcr_lib.study.runs.artifacts import RunFolder, fingerprint
from mcr_lib.study.runs.code import code_fingerprint
from mcr_lib.study.runs.config import Loaded, as_arguments, repository
from mcr_lib.study.runs.setting import BACKBONE, Setting
from mcr_lib.training import cards, launch
from mcr_lib.training.options import WITHOUT_EFFECT, Options

RANDOM = "random"
"""A backbone of chance weights, made into the run folder."""

Progress = Callable[[str, int, int, dict[str, Any]], None]
"""Called with (what is being done, how much is done, of how much, figures)."""


class Study:
    """The settings of a run.

    Args:
        loaded: the configuration.
        progress: told about every update and every batch of answers.
    """

    def __init__(self, loaded: Loaded, progress: Progress | None = None) -> None:
        self.loaded, self.config, self.run = loaded, loaded.config, RunFolder(loaded.folder)
        self.settings, self.progress = loaded.config.settings, progress
        self._examples: dict[str, list[Example]] = {}

    def examples(self, split: str) -> list[Example]:
        """The tweets of a split, or of d1 or d2, with the images that can be used (`bad_images`); of train
        those alone that have one.

        Raises:
            UserError: the run has no such split, or an image that cannot be used.
        """
        source = "train" if split in ("d1", "d2") else split
        if source not in self.config.splits:
            raise UserError(f"no split {source!r} in this run; it has {', '.join(self.config.splits)}")
        if split not in self._examples:
            found = self._with_images(prepare.load_examples(self.loaded, [source])[source])
            self._examples[source] = (
                [example for example in found if example.images] if source == "train" else found
            )
            if source == "train":
                halves = mrsi.split_d1_d2(
                    self._examples["train"], d1_share=self.config.d1_share, seed=self.config.seed
                )
                self._examples["d1"], self._examples["d2"] = halves
        return self._examples[split]

    def over(self, tweets: Sequence[Example]) -> "Study":
        """The same settings over these tweets alone, whatever the split: for trying things on a few."""
        few = Study(self.loaded)
        few._examples = dict.fromkeys((*self.config.splits, "d1", "d2"), list(tweets))
        return few

    def options(self, name: str) -> tuple[Options, dict[str, str]]:
        """The options of a setting that is trained, and who departed from a default: option -> origin."""
        found = self[name]
        of_run = {
            "seed": self.config.seed,
            "weights": self.config.dtype,
            "quantization": self.config.quantization,
        }
        of_run |= (
            {"min_pixels": self.config.min_pixels, "max_pixels": self.config.max_pixels}
            if self._is_released
            else {}
        )
        return setting.stage_options(found, getattr(self.config, found.stage), name=name, of_run=of_run)

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The rows that a setting is trained on, as `mrsi` makes them for the backbone, of what its view
        shows.
        """
        found, tweets, target = self[name], self.tweets(name), self.target
        if found.stage == "cvo":
            rows = list(mrsi.grpo_rows(tweets, target, prompt=found.prompt))
        else:
            with_reasoning = found.rows == "chains"
            built = (
                self._chains(found, tweets)
                if with_reasoning
                else mrsi.build_chains(tweets, ["terse"], seed=self.config.seed).chains
            )
            by_id = {example.id: example for example in tweets}
            rows = list(
                mrsi.sft_rows(built, by_id, target, prompt=found.prompt, with_reasoning=with_reasoning)
            )
        if found.modality == "full":
            return rows
        shown = {example.id: example for example in self._seen(found, tweets)}
        asked = {
            id: prompts.messages(example, found.prompt, wording=target.wording)
            for id, example in shown.items()
        }
        return [row | {"prompt": asked[row["id"]], "images": list(shown[row["id"]].images)} for row in rows]

    def tweets(self, name: str) -> list[Example]:
        """The tweets that a setting is trained on."""
        return mrsi.some(self.examples(self[name].tweets), share=self[name].share, seed=self.config.seed)

    @cached_property
    def target(self) -> mrsi.Target:
        """What rows are made for: the backbone, as its processor and its card tell."""
        from mcr_lib.training import backbones

        return backbones.target(self.backbone, pixels=self.pixels)

    @property
    def pixels(self) -> tuple[int, int]:
        """Fewest and most pixels of an image, where the backbone is a released model; others have their own."""
        return self.config.min_pixels, self.config.max_pixels

    @property
    def backbone(self) -> str:
        """Name or folder of the backbone that settings start from."""
        given = self.config.backbone
        if given == RANDOM:
            folder = self.run.path / "backbone"
            if not (folder / cards.CARD).is_file():
                from mcr_lib.training import nano

                made = folder.with_name(f"{folder.name}.{os.getpid()}.part")
                nano.write(made, seed=self.config.seed)
                try:
                    made.rename(folder)
                except OSError:  # another process of this run was first; what it made is the same
                    shutil.rmtree(made)
            return str(folder)
        is_name = given in cards.SHIPPED or (cards.is_hub_name(given) and not (repository() / given).is_dir())
        return given if is_name else str(repository() / Path(given).expanduser())

    def model(self, name: str) -> str:
        """Name or folder of a setting's model, for `backbones.load`; that of its start where it is not
        trained itself.
        """
        found = self.settings.get(name) if name != BACKBONE else None
        if found is None:
            return self.backbone
        return self.model(found.start) if found.stage == "none" else str(self.run.setting(name) / "model")

    def fingerprint(self, name: str) -> str:
        """What a setting's model is made from, as 12 hex digits."""
        found = self.settings.get(name) if name != BACKBONE else None
        if found is None:
            return self._backbone_fingerprint
        if found.stage == "none":
            return self.fingerprint(found.start)
        options = {
            key: value
            for key, value in self.options(name)[0].model_dump(mode="json").items()
            if key not in WITHOUT_EFFECT
        }
        own = found.model_dump(mode="json", exclude={"start", "options"}), options
        return fingerprint(
            own,
            self.fingerprint(found.start),
            self._data(found, self.tweets(name)),
            code_fingerprint(found.stage),
        )

    @cached_property
    def _backbone_fingerprint(self) -> str:
        sums = cards.card(self.backbone)["sha256"]
        return fingerprint(sums, self.pixels) if self._is_released else fingerprint(sums)

    @cached_property
    def _is_released(self) -> bool:
        return self.config.backbone != RANDOM and cards.is_released(self.backbone)

    def is_done(self, name: str) -> bool:
        """Whether a setting's model is there, made from what it would be made from now."""
        return self[name].stage == "none" or self._is_done(self.run.setting(name), self.fingerprint(name))

    def record(self, name: str) -> dict[str, Any]:
        """What `fingerprint.json` tells of a setting; empty where nothing is there.

        Raises:
            UserError: the file is of another version.
        """
        return cache.read_record(self.run.setting(name))

    def train(self, name: str) -> dict[str, Any]:
        """Make the model of a setting, first of those that it starts from, unless it is there; returns its
        `facts`.

        Where several processes are to train together (`n_processes`), they are started from here, and their
        progress told.

        Raises:
            UserError: an unknown setting, what `sft.train` and `cvo.train` raise, or a process that was
                killed.
        """
        found = self[name]
        if (
            found.stage != "none"
            and not launch.is_member()
            and (self.is_done(name) or self._others_did(found.stage, name))
        ):
            return self.record(name)
        if found.start != BACKBONE:
            self.train(found.start)
        if found.stage == "none":
            return {}
        folder, state = self.run.setting(name), self._processes()
        with state.main_process_first():  # it makes data and backbone where they are missing
            wanted = self.fingerprint(name)
        is_done = self._is_done(folder, wanted)
        twin = next(
            (other for other in self.settings if self._is_done(self.run.setting(other), wanted)), None
        )
        state.wait_for_everyone()
        if not is_done and twin is not None:
            if state.is_main_process:
                cache.link(self.run.setting(twin), folder)
            state.wait_for_everyone()
        elif not is_done:
            self._train(name, found, wanted)
        return self.record(name)

    def answer(
        self,
        name: str,
        split: str | None = None,
        *,
        examples: Sequence[Example] | None = None,
        stem: str | None = None,
    ) -> Path:
        """The file with a setting's answers to the tweets of a split, made unless it is there; its model is
        trained first if need be.

        Args:
            split: `None` = the profile's eval_split.
            examples: other tweets instead, e.g. a probe of the split.
            stem: of the file; `None` = <name>.<split>.

        Raises:
            UserError: an unknown setting or split, an image that cannot be read, or a folder that cannot be
                written.
        """
        with self._in_turn():
            asked, c = self._asked(name, split, examples, stem), self.config
        if not asked.is_there and not self._others_answered(name, asked, examples):
            from mcr_lib.training.generate import generate

            self.train(name)
            backbone = self.load(name)
            has_shots = asked.how["prompt"] == "cot-3shot"
            shots = (
                mrsi.worked_examples(self.examples("train"), self.target, seed=c.seed) if has_shots else ()
            )
            what = (
                f"{name}: answers to {asked.path.stem.removeprefix(f'{name}.')}"  # a split, or a probe of one
            )
            generate(
                backbone, asked.tweets, asked.path, **asked.how, shots=shots, batch_size=c.answer_batch_size, seed=c.seed, setting=name,
                progress=self.progress and (lambda done, of: self.progress(what, done, of, {})),
                **asked.told,
            )  # fmt: skip
        return asked.path

    def load(self, name: str) -> Any:
        """The model of a setting as a `backbones.Backbone`; it must be there.

        Raises:
            UserError: what `backbones.load` raises.
        """
        return replace(self._load(self.model(name)), name=name)

    def is_answered(self, name: str, split: str | None = None, **given: Any) -> bool:
        """Whether `answer` with the same arguments has nothing to do."""
        return self._asked(name, split, **given).is_there

    def can_answer(self, name: str) -> bool:
        """Whether a setting could be asked now, without any training."""
        trained = [one for one in setting.lineage(self.settings, name) if self[one].stage != "none"]
        return not trained or self.is_done(trained[-1])

    def _asked(
        self, name: str, split: str | None, examples: Sequence[Example] | None = None, stem: str | None = None
    ) -> "_Asked":
        split, config = split or self.config.eval_split, self.config
        given = self._with_images(examples) if examples is not None else self.examples(split)
        tweets = self._seen(self[name], given)
        how = {
            "prompt": self[name].prompt,
            "max_new_tokens": config.max_new_tokens,
            "temperature": config.answer_temperature,
        }
        model = self.fingerprint(name)
        of_data = prompts.PROMPT_VERSION, cache.images(tweets), checksum(tweets)
        made_from = fingerprint(model, how, config.seed, *of_data, code_fingerprint("generate"))
        data = f"{given[0].source}:{checksum(given)}" if given else None
        told = {
            "split": split,
            "modality": self[name].modality,
            "data": data,
            "model": model,
            "fingerprint": made_from,
        }
        return _Asked(self.run.predictions(stem or f"{name}.{split}"), split, tweets, how, told)

    def __getitem__(self, name: str) -> Setting:
        """A setting by name; told in a sentence where there is none."""
        setting.lineage(self.settings, name, "this run")
        return self.settings[name]

    def _train(self, name: str, found: Setting, wanted: str) -> None:
        if found.stage == "sft":
            from mcr_lib.training.sft import train
        else:
            from mcr_lib.training.cvo import train
        options, origins = self.options(name)
        rows, folder, state, began = (
            self.rows(name),
            self.run.setting(name),
            self._processes(),
            time.monotonic(),
        )
        head = {
            "format_version": FORMAT_VERSION,
            "fingerprint": wanted,
            "setting": found.model_dump(mode="json", exclude_defaults=True),
        }
        head |= {
            "start": self.fingerprint(found.start),
            "options": options.describe(origins),
            "n_processes": state.num_processes,
        }
        if state.is_main_process:
            if cache.read_record(folder).get("fingerprint") != wanted:
                shutil.rmtree(folder, ignore_errors=True)
            write_json(folder / cache.FINGERPRINT, {**head, "status": "begun"})
        state.wait_for_everyone()
        report = self.progress and (
            lambda done, of, row: self.progress(f"{name}: {found.stage}", done, of, dict(row))
        )
        told = {"setting": name, "made_from": wanted, "score_signature": self._score_signature()}
        took = train(
            self.model(found.start),
            rows,
            folder,
            options,
            prompt=found.prompt,
            device=self._device,
            progress=report,
            card=told,
        )
        if state.is_main_process:
            took |= {"seconds": round(time.monotonic() - began, 1), "made_with": artifacts.surroundings()}
            facts = {**head, "status": "done", **took}
            model_card.write(self.run, name, facts, backbone=self.backbone, source=self.config.source)
            write_json(folder / cache.FINGERPRINT, facts)
        state.wait_for_everyone()

    def _score_signature(self) -> str:
        """How the numbers by which a model of this run is chosen are computed."""
        split = "dev" if "dev" in self.config.splits else self.config.eval_split
        examples, c = self.examples(split), self.config
        of, split = examples[0].source, examples[0].split
        return metrics.signature(
            scorer=c.scorer, source=of, checksum=checksum(examples), split=split, parse=c.parse
        )

    def _others_did(self, command: str, name: str, *arguments: str) -> bool:
        """False; a stage for several processes is refused where no launcher started this one."""
        options = as_arguments(self.loaded)
        options = ["--profile", str(self.loaded.profile), *options[4:], *options[2:4]]
        given = [command, "--setting", name, *arguments, *options]
        launch.require_launcher(self.config.n_processes, shlex.join(given))
        return False

    def _others_answered(self, name: str, asked: "_Asked", examples: Sequence[Example] | None) -> bool:
        """As `_others_did`, of answers; other tweets than the run's are for one process."""
        return examples is None and self._others_did("generate", name, "--split", asked.split)

    def _processes(self) -> Any:
        """The processes that train together, as a launcher started them; one without a launcher."""
        return launch.together(self._device)

    def _in_turn(self) -> Any:
        """Of several processes the first one first: it makes data and backbone where they are missing."""
        return self._processes().main_process_first() if launch.is_member() else nullcontext()

    @property
    def _device(self) -> str:
        import torch

        return self.config.device or ("cuda" if torch.cuda.is_available() else "cpu")

    def _load(self, name: str) -> Any:
        import torch

        from mcr_lib.training import backbones

        device = (
            str(self._processes().device) if launch.is_member() else self._device
        )  # each process its own GPU
        return backbones.load(
            name,
            device=device,
            dtype=getattr(torch, self.config.dtype),
            quantization=self.config.quantization,
            pixels=self.pixels,
        )

    def _chains(self, found: Setting, tweets: Sequence[Example]) -> list[chains.Chain]:
        wanted = found.styles or mrsi.known_styles(self.config.chain_styles)
        if found.chains == "template":
            return mrsi.build_chains(tweets, wanted, seed=self.config.seed, n_wordings=found.wordings).chains
        path, ids = self.run.chains(found.chains), {example.id for example in tweets}
        if not path.is_file():
            raise UserError(f"{path} does not exist; 02_schema_injection or mcr chains build writes it")
        built = mrsi.read_chains(path, self.examples("train"))
        return [chain for chain in built if chain.id in ids and chain.style in wanted]

    def _data(self, found: Setting, tweets: Sequence[Example]) -> Any:
        """All that the rows of a setting are made from."""
        of_chains = None
        if found.stage == "sft" and found.rows == "chains":
            path = self.run.chains(found.chains)
            text = None if found.chains == "template" or not path.is_file() else read_text(path)
            of_chains = [
                found.styles or mrsi.known_styles(self.config.chain_styles),
                chains.CHAINS_VERSION,
                self.config.seed,
                text,
            ]
        return [checksum(tweets), cache.images(tweets), of_chains, prompts.PROMPT_VERSION]

    def _with_images(self, examples: Sequence[Example]) -> list[Example]:
        """The tweets, those without a usable image without any; which ones these are is for `bad_images`."""
        usable, _ = prepare.with_usable_image(self.loaded, examples)
        by_id = {example.id: example for example in usable}
        return [by_id.get(example.id, replace(example, images=())) for example in examples]

    def _seen(self, found: Setting, tweets: Sequence[Example]) -> list[Example]:
        """The tweets as a setting is shown them."""
        return [masked(example, found.modality, self.run.path / "data" / "grey") for example in tweets]

    def _is_done(self, folder: Path, wanted: str) -> bool:
        facts = cache.read_record(folder)
        return (
            facts.get("fingerprint") == wanted
            and facts.get("status") == "done"
            and (folder / "model").is_dir()
        )


@dataclass(frozen=True)
class _Asked:
    """What a setting is asked: tweets as it sees them, how, and what the file of its answers tells."""

    path: Path
    split: str
    tweets: list[Example]
    how: dict[str, Any]
    told: dict[str, Any]

    @property
    def is_there(self) -> bool:
        return (
            self.path.is_file()
            and read_predictions(self.path)[0].get("fingerprint") == self.told["fingerprint"]
        )
