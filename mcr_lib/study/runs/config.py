"""The configuration of a run: defaults (`Config`), a profile, then overrides; each value has its origin."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

import mcr_lib
from mcr_lib.answer import Form
from mcr_lib.boxes import BOX_FORMATS
from mcr_lib.data import mrsi
from mcr_lib.data.files import read_text
from mcr_lib.data.probes import PROBES, VARIANTS
from mcr_lib.data.validation import did_you_mean, first_error
from mcr_lib.errors import UserError
from mcr_lib.metrics import SCORERS
from mcr_lib.statistics import MAX_RESAMPLES
from mcr_lib.study import render
from mcr_lib.study.runs import joint as joint_sources
from mcr_lib.study.runs import setting
from mcr_lib.study.runs.joint import JointSource
from mcr_lib.training import cards

RANDOM = "random"  # a backbone with random weights, written into the run folder
SIZES = {"train": 1200, "dev": 300, "test": 300}
PATHS = ("data_dir", "images_dir", "predictions", "compare", "backbone")  # keys whose values are paths

Split = Annotated[str, Field(pattern="^(train|dev|test)(_[a-z]+)?$")]  # test_unseen: another distribution
Probe = Literal[tuple(dict.fromkeys((*PROBES, *VARIANTS)))]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]


def _key(default: Any, meaning: str, **limits: Any) -> Any:
    return Field(default, description=meaning, **limits)


class Config(BaseModel):
    """Every key of a profile. Relative paths start at the repository root."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Literal["testbed", "twitter-gmner", "twitter-fmnerg"] = _key("testbed", "data set")
    version: Literal["v1", "v2"] | None = _key(None, "version of its annotation; null = the newest")
    data_dir: str | None = _key(None, "folder that holds the data set's own folder; null = the testbed")
    images_dir: str | None = _key(None, "folder of the images, at any depth; null = below data_dir")
    joint: dict[str, JointSource] = _key({}, "sources to train on and to answer beside it, by name")
    testbed_sizes: dict[Split, Count] = _key(SIZES, "tweets per split; test_unseen has as many as test")
    testbed_knobs: dict[str, Any] = _key({}, "testbed knobs that differ from those of each distribution")
    testbed_contradicting: Share = _key(1.0, "share of train drawn from gmner; else mentioned is shown")
    testbed_seed: int = _key(0, "of the testbed's world", ge=0)
    bad_images: Literal["error", "skip"] = _key("error", "what to do about missing or unusable images")
    splits: tuple[Split, ...] = _key(("train", "dev", "test"), "splits to prepare", min_length=1)
    eval_split: Split = _key("test", "split that is scored")
    answer_splits: tuple[Split, ...] = _key((), "splits to answer besides eval_split; empty = dev")
    predictions: str | None = _key(None, "a predictions file to score; null = none")
    stand_in: Share | None = _key(None, "without predictions: score gold with decisions right at this rate")
    compare: str | None = _key(None, "a second predictions file to compare it with; null = none")
    scorer: Literal[SCORERS] = _key("definition", "rule of the headline scores")
    parse: Literal["strict", "lenient"] = _key("strict", "how answers are read")
    n_resamples: int = _key(1000, "bootstrap resamples", ge=100, le=MAX_RESAMPLES)
    n_degrade_repeats: int = _key(5, "repeats per level where answers are degraded at random", ge=1, le=100)
    gallery_size: int = _key(9, "tweets drawn in a gallery", ge=1, le=60)
    chain_styles: tuple[str, ...] = _key((), "styles of reasoning that D_R draws from; empty = the paper's")
    n_styles: Count = _key(
        mrsi.N_STYLES, "styles per tweet, drawn by seed: D_R holds as many pairs of each tweet"
    )
    d1_share: Share = _key(mrsi.D1_SHARE, "share of the pairs of D_R in D1 (MRSI); the rest is D2 (CVO)")
    split_by: mrsi.SplitBy = _key("pairs", "what D1 and D2 share out: pairs, or whole tweets (an ablation)")
    answer_form: Form = _key("paper", "how an answer is written: tuples (paper), or json (ours)")
    test_style: str = _key("formal", "whose instruction the prompt mcr gives at test")
    family: Literal[tuple(BOX_FORMATS)] = _key("qwen2.5-vl", "family of backbones, which sets the box format")
    min_pixels: int = _key(56 * 56, "fewest pixels of an image as resized for a released model", ge=1)
    max_pixels: int = _key(1280 * 28 * 28, "most pixels, likewise", ge=1)
    backbone: str = _key("tiny-base", "where settings start: tiny-base, a hub model, a folder, or random")
    dtype: Literal["float32", "bfloat16", "float16"] = _key("float32", "of all weights as loaded")
    quantization: Literal["none", "4bit"] = _key("none", "of the language model; 4bit needs a GPU")
    settings: dict[setting.Name, setting.Setting] = _key({}, "models to train and evaluate, by name")
    sft: dict[str, Any] = _key({}, "options of every SFT that differ from their defaults")
    cvo: dict[str, Any] = _key({}, "options of every CVO that differ from their defaults")
    device: Literal["cpu", "cuda"] | None = _key(None, "of models; null = a GPU if there is one")
    n_processes: int = _key(0, "processes of torchrun that train together; 0 = as it starts", ge=0)
    max_new_tokens: int = _key(512, "most tokens of an answer in evaluation", ge=1)
    answer_temperature: float = _key(0.0, "of these answers; 0 = greedy", ge=0)
    answer_batch_size: int = _key(128, "tweets answered at a time", ge=1)
    probes: tuple[Probe, ...] = _key((), "probes of eval_split; empty = none")
    n_probe_examples: int = _key(100, "tweets that are probed", ge=1)
    attention_examples: int = _key(0, "tweets of eval_split whose attention is measured; 0 = none", ge=0)
    attention_answers: int = _key(50, "right and wrong answers, each, whose attention is divided (T5)", ge=0)
    seed: int = _key(0, "of every random choice", ge=0)
    notebooks: tuple[str, ...] | None = _key(None, "notebooks that the profile runs, by name; null = all")

    @property
    def joint_splits(self) -> dict[str, tuple[str, str]]:
        """Splits of the joint sources that are answered, e.g. "grec_testA" -> (source, split)."""
        return joint_sources.splits(self.joint)


@dataclass(frozen=True)
class Loaded:
    """A configuration with the origin of each value: "default", "profile NAME" or "override"."""

    config: Config
    origins: dict[str, str]
    options: dict[str, setting.OptionsWithOrigins]  # of the settings that are trained
    profile: str  # name or path
    folder: Path  # the run folder, absolute

    def path(self, key: str, of: BaseModel | None = None) -> Path | None:
        """The absolute path that a key names (`of`: of a part of the configuration); `None` where null."""
        value = getattr(of or self.config, key)
        return None if value is None else repository() / Path(value).expanduser()

    def rows(self) -> list[dict[str, str]]:
        """One row per key: key, value, origin, meaning."""
        rows = ((k, as_text(v), self.origins[k], Config.model_fields[k].description) for k, v in self.config)
        return [dict(zip(("key", "value", "origin", "meaning"), row, strict=True)) for row in rows]

    def command_options(self) -> str:
        """The options of a command of `mcr` that give the same configuration and run folder."""
        values, parts = self.config.model_dump(mode="json"), ["--profile", self.profile]
        for key in (key for key, origin in self.origins.items() if origin == "override"):
            parts += ["--set", f"{key}={json.dumps(values[key])}"]
        return shlex.join([*parts, "--out", str(self.folder)])

    def __repr__(self) -> str:
        lines = ["{key:18} {value:32} {origin:24} {meaning}".format(**row) for row in self.rows()]
        return "\n".join([f"run folder {self.folder.name}", *lines])

    def _repr_html_(self) -> str:
        rows, own = self.rows(), {}
        for row in (row for row in rows if row["origin"] != "default"):
            value = row["value"] if len(row["value"]) <= 40 else f"{row['value'][:38]} …"
            own.setdefault(row["origin"], []).append(f"{row['key']} = {value}")
        short = [{"from": origin, "values": " · ".join(values)} for origin, values in own.items()]
        left = "<style>.mcr th, .mcr td {text-align: left !important}</style>"
        every = render.folded(f"all {len(rows)} values", render.html(rows))
        return f"{left}<div class='mcr'>{render.html(short)}{every}</div>"


def repository() -> Path:
    """The repository root, which holds `notebooks/profiles`: above the package or the working folder."""
    here = Path.cwd()
    for folder in (Path(mcr_lib.__file__).resolve().parents[1], here, *here.parents):
        if (folder / "notebooks" / "profiles").is_dir():
            return folder
    where = f"beside the package or above {here}"
    raise UserError(f"no folder notebooks/profiles {where}; run this inside a clone of the repository")


@cache
def paper_facts() -> dict[str, Any]:
    """What the paper says, the whole file `data/paper_facts.yaml`."""
    return yaml.safe_load(read_text(repository() / "data" / "paper_facts.yaml"))


def profile_path(profile: str) -> Path:
    """The file of a profile, given by name or path."""
    folder = repository() / "notebooks" / "profiles"
    for path in (folder / f"{profile}.yaml", Path(profile).expanduser()):
        if path.suffix in (".yaml", ".yml") and path.is_file():
            return path.resolve()
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    raise UserError(f"unknown profile {profile!r}{did_you_mean(profile, known)}; known: {', '.join(known)}")


def backbone_name(config: Config) -> str | None:
    """Name or folder of the backbone; `None` for random weights."""
    name = config.backbone
    if name == RANDOM:
        return None
    is_name = name in cards.SHIPPED or (cards.is_hub_name(name) and not (repository() / name).is_dir())
    return name if is_name else str(repository() / Path(name).expanduser())


def is_released(config: Config) -> bool:
    """Whether the backbone is a released model, not one of ours."""
    return (name := backbone_name(config)) is not None and cards.is_released(name)


def load(profile: str, run: str | Path | None = None, overrides: Mapping[str, Any] | None = None) -> Loaded:
    """The configuration of a run in the folder `run`; `None` = outputs/<profile> of the repository."""
    path = profile_path(profile)
    departures, whole = _read_profile(path), {}
    for key, value in (overrides or {}).items():  # of `cvo` all its options, of `cvo.beta` one of them
        head, *inner = str(key).split(".")
        whole[head] = _replaced(whole.get(head, departures.get(head)), inner, value)
    origins = dict.fromkeys(Config.model_fields, "default")
    layers = (departures, path.name, f"profile {path.stem}"), (whole, "overrides", "override")
    for given, where, origin in layers:
        for key in given:
            if key not in origins:
                hint, known = did_you_mean(key, origins), ", ".join(origins)
                raise UserError(f"{where}: unknown key {key!r}{hint}; known: {known}")
            origins[key] = origin
    try:
        config = Config(**{**departures, **whole})
    except ValidationError as error:
        place, value, reason = first_error(error)
        key = ".".join(map(str, place)) if place[0] in ("settings", "joint") else place[0]
        where = "overrides" if place[0] in whole else path.name
        raise UserError(f"{where}: {key} is {value!r:.80}: {reason}") from error
    mrsi.known_styles((*config.chain_styles, config.test_style))
    of_run = {"seed": config.seed, "weights": config.dtype, "quantization": config.quantization}
    if is_released(config):
        of_run |= {"min_pixels": config.min_pixels, "max_pixels": config.max_pixels}
    options = setting.check(config.settings, {"sft": config.sft, "cvo": config.cvo}, path.name, of_run)
    if config.data_dir is None and config.source != "testbed":
        needs = f"source {config.source} needs data_dir, its folder"
        raise UserError(f"{path.name}: {needs}; data/README.md tells where it comes from")
    joint_sources.check(config.joint, config.source, path.name)
    folder = repository() / Path(run if run is not None else f"outputs/{path.stem}").expanduser()
    return Loaded(config, origins, options, profile, folder)


def parse_set(pairs: Sequence[str]) -> dict[str, Any]:
    """Overrides from `key=value` strings such as splits=[dev, test], values read as YAML."""
    overrides = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {pair!r}: expected key=value")
        try:
            overrides[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            reason = "the value is no YAML; put text with : or [ in quotes"
            raise UserError(f"--set {pair!r}: {reason}") from error
    return overrides


def as_yaml(loaded: Loaded) -> str:
    """The whole configuration as a profile that gives the same values; comments name their origins."""
    values, origins = loaded.config.model_dump(mode="json"), loaded.origins
    dumped = {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}
    return "".join(f"{key}: {text}  # {origins[key]}\n" for key, text in dumped.items())


def _replaced(before: Any, keys: Sequence[str], value: Any) -> Any:
    if not keys:
        return value
    inside = before if isinstance(before, Mapping) else {}
    return {**inside, keys[0]: _replaced(inside.get(keys[0]), keys[1:], value)}


def _read_profile(path: Path) -> dict[str, Any]:
    try:
        value = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        line = error.problem_mark.line + 1 if getattr(error, "problem_mark", None) else 1
        problem = getattr(error, "problem", None) or error
        raise UserError(f"{path}, line {line}: no YAML ({problem})") from error
    if not isinstance(value, dict | None):
        raise UserError(f"{path}: expected key: value lines, found {type(value).__name__}")
    return value or {}


def as_text(value: Any) -> str:
    """A value of a configuration to read, without brackets."""
    if isinstance(value, BaseModel):
        value = value.model_dump(exclude_defaults=True) or "as it is"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {as_text(part)}" for key, part in value.items())
    return "null" if value is None else ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
