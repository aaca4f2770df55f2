"""The examples of a run, generated or read, checked and written to its folder, and training rows of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mcr_lib import chains, prompts, testbed
from mcr_lib.data import SPLITS, load_split, mrsi, of_each
from mcr_lib.data.files import read_jsonl, read_text, write_json, write_jsonl, write_text
from mcr_lib.data.modality import masked
from mcr_lib.errors import UserError
from mcr_lib.schema import Example, checksum
from mcr_lib.study.check import CheckReport, check
from mcr_lib.study.runs import artifacts, cache, joint
from mcr_lib.study.runs.artifacts import RunFolder
from mcr_lib.study.runs.config import Loaded, as_yaml
from mcr_lib.study.runs.setting import BUILT, Setting
from mcr_lib.testbed import folder as testbed_folder
from mcr_lib.testbed import teacher

Tweets = Sequence[Example]


def begin(loaded: Loaded) -> dict[str, Any]:
    """Write the configuration and the manifest of a run to its folder; returns the manifest."""
    folder, values = RunFolder(loaded.folder), loaded.config.model_dump(mode="json")
    parameters = {key: {"value": values[key], "origin": loaded.origins[key]} for key in values}
    about = {"profile": loaded.profile, "parameters": parameters, "seed": loaded.config.seed}
    manifest = artifacts.read_manifest(folder) | about | artifacts.environment()
    write_text(folder.profile, as_yaml(loaded))
    write_json(folder.manifest, manifest)
    return manifest


def load_examples(loaded: Loaded, splits: Sequence[str] | None = None) -> dict[str, list[Example]]:
    """Split -> its tweets, with the paths of images that exist; `None` = all splits of the run."""
    config, root = loaded.config, _data_dir(loaded)
    options = {"version": config.version, "images_dir": loaded.path("images_dir") or root}
    chosen = config.splits if splits is None else splits
    return of_each(chosen, partial(load_split, config.source, root, **options))


def _data_dir(loaded: Loaded) -> Path:
    """`data_dir` or, if that is null, a testbed in the run folder, generated if missing."""
    if (given := loaded.path("data_dir")) is not None:
        return given
    config, root = loaded.config, RunFolder(loaded.folder).testbed
    for name in config.splits:
        distribution, split = testbed_folder.set_parts(name)
        n = config.testbed_sizes.get(name, config.testbed_sizes.get(split))
        if n is None:
            known = ", ".join(config.testbed_sizes) or "nothing"
            raise UserError(f"testbed_sizes has no number for {name}; it has some for {known}")
        departures = dict(config.testbed_knobs)
        if (name == "train" and config.testbed_contradicting < 1) or distribution == "shortcut":
            distribution, departures["contradicting"] = "shortcut", config.testbed_contradicting
        how = {"knobs": testbed.altered(testbed.find(distribution), departures), "distribution": distribution}
        testbed_folder.write_missing(root, name, n, seed=config.testbed_seed, **how)
    return root


def load_joint(loaded: Loaded, name: str, split: str | None = None) -> list[Example]:
    """The examples of a joint source's split, with images that exist; `None` = those it is trained on."""
    config, one = loaded.config, loaded.config.joint[name]
    where = {"root": loaded.path("data_dir", one), "images_dir": loaded.path("images_dir", one)}
    made = RunFolder(loaded.folder).testbed.with_name(f"testbed-{name}"), config.testbed_seed
    return joint.load(name, one, split or one.train, seed=config.seed, testbed=made, **where)


def pooled(examples_by_split: Mapping[str, Tweets]) -> list[Example]:
    """The tweets of train, dev and test in one list; of all splits if there is none of these."""
    chosen = [split for split in examples_by_split if split in SPLITS] or list(examples_by_split)
    return [example for split in chosen for example in examples_by_split[split]]


def check_data(loaded: Loaded) -> CheckReport:
    """The statistics of the configured splits beside the expected ones."""
    config, root, images_dir = loaded.config, _data_dir(loaded), loaded.path("images_dir")
    return check(config.source, root, version=config.version, images_dir=images_dir, splits=config.splits)


def write_examples(folder: RunFolder, examples_by_split: Mapping[str, Tweets]) -> list[str]:
    """Write each split to `data/<split>.jsonl` of the run folder; returns a summary line per file."""
    lines = []
    for split, examples in examples_by_split.items():
        path, rows = folder.data(split), (_row(example, folder) for example in examples)
        header = {"source": examples[0].source, "split": split, "checksum": checksum(examples)}
        write_jsonl(path, rows, kind="examples", **header)
        counts = f"{len(examples):,} tweets, {sum(bool(e.images) for e in examples):,} with an image"
        lines.append(f"{path.name}: {counts}, checksum {header['checksum']}")
    return lines


def _row(example: Example, folder: RunFolder) -> dict[str, Any]:
    """The row of an example; images in the run folder by their path in it: it can be moved."""
    root, row = folder.path.absolute(), example.to_row()
    paths = [Path(path).absolute() for path in row["images"]]
    return row | {"images": [str(p.relative_to(root) if p.is_relative_to(root) else p) for p in paths]}


def read_examples(folder: RunFolder, split: str) -> list[Example]:
    """The tweets that `write_examples` wrote."""
    path, examples = folder.data(split), []
    if not path.is_file():
        advice = f"run 01_data_preparation into this run folder first, with {split} among its splits"
        raise UserError(f"{path} does not exist; {advice}")
    for line, row in read_jsonl(path, kind="examples")[1]:
        try:
            example = Example.from_row(row)
            paths = tuple(str(folder.path.absolute() / path) for path in example.images)
            examples.append(replace(example, images=paths))
        except ValueError as error:
            raise UserError(f"{path}, line {line}: {error}") from error
    return examples


def pick(examples: Tweets, n: int, seed: int) -> list[Example]:
    """Up to n random examples, those with an image first."""
    order = np.random.default_rng(seed).permutation(len(examples))
    return sorted((examples[k] for k in order), key=lambda e: not e.images)[:n]


def training_rows(
    setting: Setting, drawn: Sequence[mrsi.Pair], target: mrsi.Target, loaded: Loaded, everyone: Tweets
) -> list[dict[str, Any]]:
    """The rows of a setting in its modality; chains of a file are checked on `everyone`, all of train."""
    prompt, tweets, c = setting.prompt, mrsi.tweets_of(drawn), loaded.config
    target = replace(target, form=c.answer_form)
    if setting.stage == "cvo":
        rows = list(mrsi.grpo_rows(drawn, target, prompt=prompt))
    elif setting.rows == "answers":
        rows = list(mrsi.answer_rows(tweets, target, prompt=prompt))
    else:
        built = chains_of(setting, drawn, loaded, everyone)
        rows = list(mrsi.sft_rows(built, {e.id: e for e in tweets}, target, prompt=prompt))
    if setting.modality == "full":
        return rows
    shown = {example.id: example for example in as_shown(setting, tweets, loaded)}
    chats = [target.messages(shown[row["id"]], prompt, row["style"] or None) for row in rows]
    images = ({"images": list(shown[row["id"]].images)} for row in rows)
    return [row | {"prompt": chat} | own for row, chat, own in zip(rows, chats, images, strict=True)]


def chains_of(
    setting: Setting, drawn: Sequence[mrsi.Pair], loaded: Loaded, everyone: Tweets
) -> list[chains.Chain]:
    """The chains of a setting's pairs, from templates, with the simulated teacher's, or from its file."""
    if setting.chains in BUILT:
        how = {"teacher": teacher_of(loaded) if setting.chains == "teacher" else None}
        return mrsi.build_chains(drawn, seed=loaded.config.seed, n_wordings=setting.wordings, **how).chains
    path, *others = chain_files(setting, loaded)
    if not path.is_file():
        raise UserError(f"{path} does not exist; 02_schema_injection or mcr chains build writes it")
    read = (chain for file in (path, *others) for chain in mrsi.read_chains(file, everyone))
    by_pair = {(chain.id, chain.style): chain for chain in read}
    wanted = [(example.id, style) for example, style in drawn]
    if missing := [pair for pair in wanted if pair not in by_pair]:
        lack = f"{len(missing):,} of {len(wanted):,} pairs of tweet and style are missing"
        advice = "build it with the seed, the styles and the number of styles of this run"
        raise UserError(f"{path}: {lack}, the first is {' with '.join(missing[0])}; {advice}")
    return [by_pair[pair] for pair in wanted]


def chain_files(setting: Setting, loaded: Loaded) -> list[Path]:
    """The file of a setting's chains, and those of joint sources that exist (`<chains>.<source>.jsonl`)."""
    folder, stem = RunFolder(loaded.folder), setting.chains
    sources = loaded.config.joint if setting.joint else ()
    others = (folder.chains(f"{stem}.{source}") for source in sources)
    return [folder.chains(stem), *(path for path in others if path.is_file())]


def teacher_of(loaded: Loaded) -> Callable[[Example], str | None]:
    """The simulated teacher; examples of joint sources, of which it knows nothing, keep their templates."""
    own = f"{loaded.config.source}-"
    return lambda example: teacher.say(example) if example.source.startswith(own) else None


def as_shown(setting: Setting, tweets: Tweets, loaded: Loaded) -> list[Example]:
    """The tweets in the modality of a setting."""
    return [masked(example, setting.modality, loaded.folder / "data" / "grey") for example in tweets]


def sources(setting: Setting, drawn: Sequence[mrsi.Pair], loaded: Loaded) -> list[Any]:
    """Everything that the rows of a setting are made from, for a fingerprint."""
    tweets, of_chains, c = mrsi.tweets_of(drawn), None, loaded.config
    if setting.stage == "cvo" or setting.rows == "chains":
        files = [] if setting.chains in BUILT else filter(Path.is_file, chain_files(setting, loaded))
        text = [read_text(path) for path in files]
        of_chains = [[(e.id, style) for e, style in drawn], chains.CHAINS_VERSION, c.seed, text]
    return [checksum(tweets), cache.of_images(tweets), of_chains, prompts.PROMPT_VERSION, c.answer_form]
