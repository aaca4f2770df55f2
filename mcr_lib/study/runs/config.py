"""What a run is told: defaults live in `Config`, a profile holds departures only, overrides come last; every
value knows its origin.
"""

import difflib
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

import mcr_lib
from mcr_lib.boxes import BOX_FORMATS
from mcr_lib.data.files import read_text
from mcr_lib.data.mrsi import D1_SHARE
from mcr_lib.data.probes import PROBES, VARIANTS
from mcr_lib.errors import UserError
from mcr_lib.statistics import MAX_RESAMPLES
from mcr_lib.study.runs import setting

Split = Annotated[str, Field(pattern="^(train|dev|test)(_[a-z]+)?$")]
"""A split, or on the testbed a split of another distribution than its main one, such as test_unseen."""


class Config(BaseModel):
    """Every key of a profile. Relative paths count from the repository root."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Literal["testbed", "twitter-gmner", "twitter-fmnerg"] = Field("testbed", description="data set")
    version: Literal["v1", "v2"] | None = Field(
        None, description="version of its annotation; null = the newest"
    )
    data_dir: str | None = Field(
        None, description="folder that holds the data set's own folder; null = the testbed, made into the run"
    )
    images_dir: str | None = Field(
        None, description="where images are looked for, at any depth; null = below data_dir"
    )
    testbed_sizes: dict[Split, Annotated[int, Field(ge=1)]] = Field(
        {"train": 1200, "dev": 300, "test": 300},
        description="tweets to make per split; test_unseen and the like have those of their split",
    )
    testbed_knobs: dict[str, Any] = Field(
        {}, description="knobs of the testbed that depart from those of each distribution"
    )
    testbed_seed: int = Field(0, ge=0, description="of the testbed's world")
    bad_images: Literal["error", "skip"] = Field(
        "error", description="what to do about images that are missing or unusable"
    )
    splits: tuple[Split, ...] = Field(("train", "dev", "test"), min_length=1, description="splits to prepare")
    eval_split: Split = Field("test", description="split that is scored")
    answer_splits: tuple[Split, ...] = Field(
        (), description="splits that settings answer, beside eval_split; empty = dev"
    )
    predictions: str | None = Field(None, description="a predictions file to score; null = none")
    stand_in: float | None = Field(
        None,
        ge=0,
        le=1,
        description="without predictions: score gold in which each decision is right at this rate; null = nothing",
    )
    compare: str | None = Field(None, description="a second predictions file to compare it with; null = none")
    scorer: Literal["definition", "e2e", "unco-legacy"] = Field(
        "definition", description="scoring rule of headline numbers"
    )
    parse: Literal["strict", "lenient"] = Field("strict", description="how answers are read")
    n_resamples: int = Field(1000, ge=100, le=MAX_RESAMPLES, description="bootstrap resamples")
    n_degrade_repeats: int = Field(
        5, ge=1, le=100, description="repeats per level where answers are degraded by chance"
    )
    gallery_size: int = Field(9, ge=1, le=60, description="tweets drawn in a gallery")
    chain_styles: tuple[str, ...] = Field((), description="styles of reasoning chains; empty = all")
    d1_share: float = Field(
        D1_SHARE, ge=0, le=1, description="share of training tweets in D1 (chains); the rest is D2 (CVO)"
    )
    family: Literal[tuple(BOX_FORMATS)] = Field(
        "qwen2.5-vl", description="family of backbones: the space in which boxes are written"
    )
    min_pixels: int = Field(
        56 * 56, ge=1, description="fewest pixels of an image as the processor of a released model resizes it"
    )
    max_pixels: int = Field(1280 * 28 * 28, ge=1, description="most pixels, likewise")
    backbone: str = Field(
        "tiny-base",
        description="what settings start from: tiny-base, a model of the hub, a folder, or random",
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="of the weights of models; of a stage: its weights"
    )
    quantization: Literal["none", "4bit"] = Field(
        "none", description="of their language model; 4bit takes a GPU and bitsandbytes"
    )
    settings: dict[setting.Name, setting.Setting] = Field(
        {}, description="models to make and to ask, by name"
    )
    sft: dict[str, Any] = Field({}, description="options of every SFT that depart from their defaults")
    cvo: dict[str, Any] = Field({}, description="options of every CVO that depart from their defaults")
    device: Literal["cpu", "cuda"] | None = Field(
        None, description="of models; null = a GPU where there is one"
    )
    n_processes: int = Field(
        0,
        ge=0,
        description="processes that train and answer together; 0 = one per visible GPU, without one a single",
    )
    max_new_tokens: int = Field(512, ge=1, description="of an answer when models are compared")
    answer_temperature: float = Field(0.0, ge=0, description="of these answers; 0 = greedy")
    answer_batch_size: int = Field(128, ge=1, description="tweets answered at a time")
    probes: tuple[Literal[tuple(dict.fromkeys((*PROBES, *VARIANTS)))], ...] = Field(
        (), description="probes of eval_split; empty = none"
    )
    n_probe_examples: int = Field(100, ge=1, description="tweets that are probed")
    attention_examples: int = Field(
        0, ge=0, description="tweets of eval_split at which attention is looked into; 0 = none"
    )
    seed: int = Field(0, ge=0, description="of every random choice")
    notebooks: tuple[str, ...] | None = Field(
        None, description="notebooks that the profile runs, by name; null = all"
    )


PATHS = ("data_dir", "images_dir", "predictions", "compare", "backbone")


@dataclass(frozen=True)
class Loaded:
    """A configuration with the origin of each value.

    Args:
        config: the values.
        origins: key -> "default", "profile NAME" or "override".
        profile: name or path of the profile.
        folder: the run folder, absolute.
    """

    config: Config
    origins: dict[str, str]
    profile: str
    folder: Path

    def path(self, key: str) -> Path | None:
        """The absolute path that a key names; `None` where it is null."""
        value = getattr(self.config, key)
        return None if value is None else repository() / Path(value).expanduser()

    def rows(self) -> list[tuple[str, Any, str, str]]:
        """(key, value, origin, meaning) of every key."""
        fields = Config.model_fields
        return [
            (key, getattr(self.config, key), self.origins[key], fields[key].description or "")
            for key in fields
        ]

    def __repr__(self) -> str:
        lines = [
            f"{key:18} {written(value):32} {origin:24} {meaning}"
            for key, value, origin, meaning in self.rows()
        ]
        return "\n".join([f"run folder {self.folder.name}", *lines])

    def _repr_html_(self) -> str:
        cells = [[key, written(value), origin, meaning] for key, value, origin, meaning in self.rows()]
        body = "".join(
            "<tr>" + "".join(f"<td style='text-align:left'>{html.escape(c)}</td>" for c in row) + "</tr>"
            for row in cells
        )
        head = "".join(
            f"<th style='text-align:left'>{name}</th>" for name in ("key", "value", "origin", "meaning")
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def repository() -> Path:
    """The repository root: the folder above the package, or the nearest above the working folder, that holds
    `notebooks/profiles`.

    Raises:
        UserError: there is none.
    """
    here = Path.cwd()
    for folder in (Path(mcr_lib.__file__).resolve().parents[1], here, *here.parents):
        if (folder / "notebooks" / "profiles").is_dir():
            return folder
    raise UserError(
        f"no folder notebooks/profiles beside the package or above {here}; run this inside a clone of the repository"
    )


def profile_path(profile: str) -> Path:
    """The file of a profile, given by name or path.

    Raises:
        UserError: there is none; the known names are told.
    """
    folder = repository() / "notebooks" / "profiles"
    given = Path(profile).expanduser()
    for path in ((folder / f"{profile}.yaml"), given):
        if path.suffix in (".yaml", ".yml") and path.is_file():
            return path.resolve()
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    raise UserError(f"unknown profile {profile!r}{_hint(profile, known)}; known: {', '.join(known)}")


def load(profile: str, run: str | Path | None = None, overrides: Mapping[str, Any] | None = None) -> Loaded:
    """The configuration of a run.

    Args:
        profile: a name in `notebooks/profiles` or the path of a yaml file.
        run: the run folder, relative to the repository root; `None` = outputs/<profile>.
        overrides: key -> value, over what the profile says; of a key that holds others `cvo.beta` replaces
            one, `cvo` all of them.

    Raises:
        UserError: an unknown profile or key, a value that a key does not take, or no folder for a source that
            needs one; the key is named.
    """
    path = profile_path(profile)
    departures = _read_profile(path)
    overrides = _spread(overrides or {}, departures)
    origins = dict.fromkeys(Config.model_fields, "default")
    for given, where, origin in (
        (departures, str(path.name), f"profile {path.stem}"),
        (overrides, "overrides", "override"),
    ):
        for key in given:
            if key not in Config.model_fields:
                raise UserError(
                    f"{where}: unknown key {key!r}{_hint(str(key), Config.model_fields)}; known: {', '.join(Config.model_fields)}"
                )
            origins[key] = origin
    try:
        config = Config(**{**departures, **overrides})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) if first["loc"][0] == "settings" else str(first["loc"][0])
        where = "overrides" if first["loc"][0] in overrides else path.name
        raise UserError(
            f"{where}: {key} is {first['input']!r:.80}: {first['msg'][0].lower()}{first['msg'][1:]}"
        ) from error
    setting.check(config.settings, {"sft": config.sft, "cvo": config.cvo}, path.name)
    if config.data_dir is None and config.source != "testbed":
        raise UserError(
            f"{path.name}: source {config.source} needs data_dir, its folder; data/README.md tells where it comes from"
        )
    folder = repository() / Path(run if run is not None else f"outputs/{path.stem}").expanduser()
    return Loaded(config, origins, profile, folder)


def parse_set(pairs: Sequence[str]) -> dict[str, Any]:
    """Overrides of `key=value` strings, values read as YAML.

    Raises:
        UserError: a pair without "=", or a value that is no YAML.

    Example:
        >>> parse_set(["seed=3", "splits=[dev, test]", "images_dir=null", "data_dir=my data"])
        {'seed': 3, 'splits': ['dev', 'test'], 'images_dir': None, 'data_dir': 'my data'}
    """
    overrides = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {pair!r}: expected key=value")
        try:
            overrides[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UserError(
                f"--set {pair!r}: the value is no YAML; put text with : or [ in quotes"
            ) from error
    return overrides


def _spread(overrides: Mapping[str, Any], profile: Mapping[str, Any]) -> dict[str, Any]:
    """Overrides by whole keys: what `cvo.beta` names is put among what the profile says of `cvo`."""
    spread: dict[str, Any] = {}
    for key, value in overrides.items():
        head, *inner = str(key).split(".")
        spread[head] = _put(spread.get(head, profile.get(head)), inner, value)
    return spread


def _put(told: Any, names: Sequence[str], value: Any) -> Any:
    if not names:
        return value
    inside = told if isinstance(told, Mapping) else {}
    return {**inside, names[0]: _put(inside.get(names[0]), names[1:], value)}


def as_arguments(loaded: Loaded) -> list[str]:
    """The arguments of a command of `mcr` that give the same configuration and run folder.

    Example:
        >>> loaded = load("nano", "outputs/x", {"seed": 3, "sft": {"learning_rate": 1e-05}})
        >>> [Path(part).name for part in as_arguments(loaded)[1:4]], as_arguments(loaded)[4:]
        (['nano.yaml', '--out', 'x'], ['--set', 'sft={learning_rate: 1.0e-05}', '--set', 'seed=3'])
    """
    arguments = ["--profile", str(profile_path(loaded.profile)), "--out", str(loaded.folder)]
    for key, value in loaded.config.model_dump(mode="json").items():
        if loaded.origins[key] == "override":
            written = yaml.safe_dump(
                [value], default_flow_style=True, width=10**9, allow_unicode=True, sort_keys=False
            ).strip()[1:-1]
            arguments += ["--set", f"{key}={written}"]
    return arguments


def as_yaml(loaded: Loaded) -> str:
    """The configuration after defaults as a profile that gives the same values, the origin beside each."""
    dumped = loaded.config.model_dump(mode="json")
    return "".join(
        f"{key}: {json.dumps(value, ensure_ascii=False)}  # {loaded.origins[key]}\n"
        for key, value in dumped.items()
    )


def _read_profile(path: Path) -> dict[str, Any]:
    try:
        value = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        line = error.problem_mark.line + 1 if getattr(error, "problem_mark", None) else 1
        raise UserError(
            f"{path}, line {line}: no YAML ({getattr(error, 'problem', None) or error})"
        ) from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected key: value lines, found {type(value).__name__}")
    return value


def _hint(name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def written(value: Any) -> str:
    """A value of a configuration in a line to read."""
    if isinstance(value, BaseModel):
        value = value.model_dump(exclude_defaults=True) or "as it is"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {written(part)}" for key, part in value.items())
    return "null" if value is None else ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
