"""Pre-flight: reports before a run starts what would stop or spoil it later. Each check is a function from
`Context` to lines of a table.

    ✓   as it should be
    ✗   would stop or spoil the run; the last column says what to do
    –   cannot be checked on this machine, and why

Nothing is downloaded or trained, and nothing is written but a testbed of a few tweets into a temporary
folder. Memory and disk are estimates.
"""

import importlib.metadata
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from mcr_lib.boxes import BOX_FORMATS, box_format
from mcr_lib.data.images import image_size, usable_images
from mcr_lib.errors import UserError
from mcr_lib.schema import Example
from mcr_lib.study.runs import artifacts, prepare
from mcr_lib.study.runs.config import RANDOM, Loaded
from mcr_lib.study.runs.settings import Study
from mcr_lib.training import cards, families, memory
from mcr_lib.training.options import CvoOptions, Options, batch_shape

N_TRIED = 24
"""Tweets whose rows are checked: with long texts, many entities, large images, and some others."""

N_TESTBED = 8
"""Tweets per split of the testbed that is made for the checks."""

INSTALL = "pip install '.[train]' in the clone"

LEVERS = {
    "answers": "too little: lower answer_batch_size or max_pixels",
    "stage": "too little: quantization=4bit, gradient_checkpointing, "
    "or lower per_device_batch_size, max_pixels, max_completion_length",
}
"""What to do about memory."""


@dataclass(frozen=True)
class Line:
    """One line of the table: mark, what was checked, the result, what to do."""

    mark: Literal["✓", "✗", "–"]
    check: str
    result: str
    todo: str = ""


@dataclass(frozen=True)
class Gpu:
    """A GPU that torch sees."""

    name: str
    n_bytes: int
    has_bfloat16: bool


class Context:
    """What the checks of a profile look at; each part is loaded once.

    Args:
        loaded: the configuration.
        scratch: a folder for what has to be written to be checked.
    """

    def __init__(self, loaded: Loaded, scratch: Path) -> None:
        self.loaded, self.config = loaded, loaded.config
        sizes = {name: min(n, N_TESTBED) for name, n in self.config.testbed_sizes.items()}
        small = self.config.model_copy(update={"testbed_sizes": sizes})
        writes = self.config.data_dir is None or self.config.backbone == RANDOM
        self.study = Study(replace(loaded, config=small, folder=scratch) if writes else loaded)
        self.lengths: dict[str, tuple[int, int]] = {}

    @property
    def trained(self) -> dict[str, Options]:
        """The settings that are trained, with their options."""
        return {name: options for name, (options, _) in self.loaded.options.items()}

    @cached_property
    def gpus(self) -> list[Gpu] | None:
        """The GPUs; `None` without torch."""
        try:
            import torch
        except ImportError:
            return None
        n = torch.cuda.device_count() if torch.cuda.is_available() else 0
        all_of_them = map(torch.cuda.get_device_properties, range(n))
        return [Gpu(each.name, each.total_memory, each.major >= 8) for each in all_of_them]

    @property
    def needs_gpu(self) -> bool:
        """Whether the profile is made for GPUs."""
        return self.config.device == "cuda" or self.config.quantization == "4bit"

    @property
    def n_processes(self) -> int:
        """The number of processes that share an update."""
        return self.config.n_processes or 1

    @cached_property
    def splits(self) -> dict[str, list[Example]]:
        """The tweets by split, with the paths of their images."""
        return prepare.load_examples(self.study.loaded)

    @cached_property
    def tweets(self) -> list[Example]:
        """A few training tweets with a usable image."""
        with_image = [example for example in self.splits.get("train", ()) if example.images]
        orders = (lambda e: -len(e.text), lambda e: -len(e.entities), lambda e: -_area(e))
        chosen = [e for order in orders for e in sorted(with_image, key=order)[: N_TRIED // 4]]
        chosen += with_image[:: max(1, len(with_image) // N_TRIED)]
        few = list({example.id: example for example in chosen}.values())[:N_TRIED]
        return usable_images(few, on_bad_image="skip")[0]

    @cached_property
    def outline(self) -> Any:
        """The backbone without its weights; `UserError` if it is missing or incomplete."""
        from mcr_lib.training import backbones

        return backbones.outline(self.study.backbone, pixels=self.study.pixels)

    @cached_property
    def shape(self) -> memory.Shape | None:
        """The sizes that memory depends on, from the backbone's own files or else from published numbers;
        `None` if neither is known.
        """
        name = self.study.backbone
        try:
            folder = cards.folder_of(name)
            return memory.Shape.of(cards.config(folder), cards.n_parameters(folder, name))
        except UserError:
            known = families.PUBLISHED.get(self.config.backbone)
            return known and memory.Shape.of(known.config, known.n_parameters)


def _area(example: Example) -> int:
    try:
        width, height = example.image_size_px or image_size(example.images[0])
    except UserError:
        return 0
    return width * height


def versions(context: Context) -> Iterator[Line]:
    """Installed packages are within the ranges of pyproject.toml."""
    try:
        from packaging.requirements import Requirement

        required = [Requirement(text) for text in importlib.metadata.requires("mcr-lib") or ()]
    except (ImportError, importlib.metadata.PackageNotFoundError):
        yield Line("–", "versions", "mcr-lib is not installed as a package", INSTALL)
        return
    wrong, n = [], 0
    for requirement in required:
        name, marker, ranges = requirement.name, requirement.marker, requirement.specifier
        if marker is not None and not any(marker.evaluate({"extra": extra}) for extra in ("", "train")):
            continue
        n += 1
        if (version := _version(name)) is None:
            wrong.append(f"{name} is not installed")
        elif not ranges.contains(version, prereleases=True):
            wrong.append(f"{name} {version} is not {ranges}")
    if wrong:
        yield Line("✗", "versions", "; ".join(wrong), INSTALL)
    else:
        yield Line("✓", "versions", f"{n} packages, all within the ranges of pyproject.toml")


def extras(context: Context) -> Iterator[Line]:
    """Packages that only some profiles need."""
    is_4bit = context.config.quantization == "4bit"
    uses_vllm = any(getattr(options, "use_vllm", False) for options in context.trained.values())
    for is_needed, package, purpose, todo in (
        (is_4bit, "bitsandbytes", "4 bits", "pip install bitsandbytes"),
        (uses_vllm, "vllm", "use_vllm", "pip install -r requirements-vllm.lock"),
    ):
        if is_needed and (version := _version(package)):
            yield Line("✓", package, f"{version}, for {purpose}")
        elif is_needed:
            yield Line("✗", package, f"not installed, and {purpose} cannot do without", todo)


def backbone(context: Context) -> Iterator[Line]:
    """The backbone is here, its files are whole, and its family is the one of the profile."""
    config, card, shape = context.config, cards.card(context.study.backbone), context.shape
    family = card["family"]
    n_files = sum(name.endswith(".safetensors") for name in card["sha256"])
    size = f", {shape.n_parameters / 1e6:,.1f} M parameters" if shape else ""
    weights = f"weights in {n_files} file{'s' * (n_files != 1)}, whole"
    result = f"{config.backbone}: {family}{size}, {weights}"
    if family == config.family:
        yield Line("✓", "backbone", result)
    else:
        result = f"{result}; the profile says family {config.family}"
        yield Line("✗", "backbone", result, f"--set family={family}")
    known, settings = families.FAMILIES.get(family), context.study.settings
    direct = [name for name, one in settings.items() if one.stage == "none" and one.prompt == "direct"]
    if known is not None and known.thinks == "always" and direct and config.max_new_tokens < 1024:
        room = f"{', '.join(direct)} gets {config.max_new_tokens} tokens"
        result = f"{family} always reasons first, {room}"
        yield Line("✗", "room to answer", result, "--set max_new_tokens=2048")


def gpus(context: Context) -> Iterator[Line]:
    """There are as many GPUs as processes, and they compute in the profile's dtype."""
    config, there = context.config, context.gpus
    n_needed, mark, todo = max(1, config.n_processes), "✗", ""
    if config.device == "cpu" or (not context.needs_gpu and not there):
        mark, result = "✓", "none is needed"
    elif there is None:
        mark, result, todo = "–", "torch is not installed, so nothing sees a GPU", INSTALL
    elif not there:
        result = f"{n_needed} needed, none that torch sees"
        todo = "run it where there is one; profile tiny needs none"
    elif len(there) < n_needed:
        result = f"{n_needed} needed, {len(there)} visible"
        todo = f"--set n_processes={len(there)}: the batch stays, in more parts"
    elif config.dtype == "bfloat16" and not all(gpu.has_bfloat16 for gpu in there):
        result = f"{there[0].name} does not compute in bfloat16"
        switches = (f"--set {stage}.bf16=false --set {stage}.fp16=true" for stage in ("sft", "cvo"))
        todo = f"--set dtype=float16 {' '.join(switches)}"
    else:
        mark, result = "✓", f"{len(there)} × {there[0].name}, {there[0].n_bytes / 1e9:.0f} GB"
    yield Line(mark, "GPU", result, todo)


def data(context: Context) -> Iterator[Line]:
    """The data set is here, and the images that training needs."""
    config, splits = context.config, context.splits
    n = sum(map(len, splits.values()))
    if config.data_dir is None:
        sizes = ", ".join(f"{name} {size:,}" for name, size in config.testbed_sizes.items())
        result = f"the testbed, made when it is needed ({sizes}); {n} made now, to try"
        yield Line("✓", "data", result)
        return
    yield Line("✓", "data", ", ".join(f"{name} {len(tweets):,} tweets" for name, tweets in splits.items()))
    with_image = sum(bool(example.images) for tweets in splits.values() for example in tweets)
    mark, result, todo = "✓", f"{with_image:,} of {n:,} tweets have one", ""
    if with_image == n:
        result = f"{n:,} tweets, each with its image"
    elif with_image > n / 2 and config.bad_images == "skip":
        result = f"{result}; the others are left out (bad_images=skip)"
    elif not context.trained:
        result = f"{result}; nothing is trained, scores need none"
    else:
        mark, todo = "✗", "data/README.md tells where they are; --set images_dir=DIR takes any folder that "
        todo += f"holds <id>.jpg at some depth{'; or --set bad_images=skip' if with_image > n / 2 else ''}"
    yield Line(mark, "images", result, todo)


def rows(context: Context) -> Iterator[Line]:
    """On the rows of a few tweets: as many image tokens as image features, and prompt and completion fit."""
    if not context.trained:
        return
    if not context.tweets:
        yield Line("–", "rows", "no tweet with an image to try")
        return
    from mcr_lib.training.preflight import check_rows

    few = context.study.over(context.tweets)
    for name, options in context.trained.items():
        most = options.max_completion_length if isinstance(options, CvoOptions) else None
        tokens = check_rows(context.outline, few.rows(name), max_completion_length=most)
        prompt, completion = tokens["longest_prompt"], tokens["longest_completion"]
        context.lengths[name] = (prompt, completion)
        where = f"in prompt and completion of {len(few.tweets(name))} tweets"
        fits = f"{prompt:,} + {completion:,} of {tokens['limit']:,} tokens at most, {where}"
        result = f"{name}: {tokens['images_opened']} images, as many tokens as features; {fits}"
        yield Line("✓", "rows", result)


def pixels(context: Context) -> Iterator[Line]:
    """No image exceeds the budget of pixels. Thin ones can, since neither side is less than a unit."""
    if not context.study.settings:
        return
    target = context.outline.target
    unit, limit = box_format(target.family).unit, target.max_pixels
    sizes = [(e.id, e.image_size_px, target.size(e)) for e in context.tweets if e.image_size_px]
    for id, (width, height), (new_width, new_height) in sizes:
        n_pixels = new_width * new_height
        if n_pixels > limit:
            size = f"{width} x {height}, becomes {new_width} x {new_height}, past max_pixels {limit:,}"
            todo = f"--set max_pixels={n_pixels}, or leave the tweet out"
            yield Line("✗", "pixels", f"the image of tweet {id}, {size}", todo)
            return
    if sizes:
        budget = f"{target.min_pixels:,} to {limit:,} pixels, {limit // unit**2} tokens at most"
        yield Line("✓", "pixels", f"{budget}; {len(sizes)} images tried keep to it")


def batches(context: Context) -> Iterator[Line]:
    """Processes × rows at a time × accumulation is the stated batch; for GRPO a whole number of groups."""
    for name, options in context.trained.items():
        n, batch_size = context.n_processes, options.batch_size
        per_device, accumulation = batch_shape(options, n)
        factors = f"{n} process{'es' * (n > 1)} × {per_device} × {accumulation}"
        result = f"{name}: {factors} = {n * per_device * accumulation} rows per update"
        if not isinstance(options, CvoOptions):
            yield Line("✓", "batch", result)
            continue
        n_generations = options.num_generations
        n_prompts, rest = divmod(batch_size, n_generations)
        if rest:
            todo = f"--set cvo.batch_size={max(n_prompts, 1) * n_generations}"
            result = f"{result}, which num_generations {n_generations} does not divide"
            yield Line("✗", "batch", result, todo)
        else:
            yield Line("✓", "batch", f"{result}: {n_prompts} prompts × {n_generations} generations")


def room(context: Context) -> Iterator[Line]:
    """The estimated memory per GPU, or of the machine if it has none, is there."""
    config, shape, settings, needed = context.config, context.shape, context.study.settings, []
    if shape is None:
        yield Line("–", "memory", f"the shape of {config.backbone} is not known here")
        return
    for name, options in context.trained.items():
        prompt, completion = context.lengths.get(name) or _guessed_lengths(context, options)
        lengths = {"prompt_tokens": prompt, "completion_tokens": completion}
        estimate = memory.of_stage(shape, options, n_processes=context.n_processes, **lengths)
        needed.append((name, estimate, LEVERS["stage"]))
    if settings:
        prompts = [prompt for prompt, _ in context.lengths.values()] or [_guessed_lengths(context, None)[0]]
        n_texts = 4 if any(one.prompt == "cot-3shot" for one in settings.values()) else 1
        estimate = memory.of_answers(
            shape, dtype=config.dtype, quantization=config.quantization, rows=config.answer_batch_size,
            prompt_tokens=n_texts * max(prompts), completion_tokens=config.max_new_tokens,
        )  # fmt: skip
        needed.append(("answers", estimate, LEVERS["answers"]))
    n_bytes, where = _available(context)
    for name, estimate, todo in needed:
        result = f"{name}, estimated: {estimate.summary()}"
        if n_bytes is None:
            yield Line("–", "memory", result, where)
        elif estimate.total > n_bytes:
            yield Line("✗", "memory", f"{result}; {where}", todo)
        else:
            yield Line("✓", "memory", f"{result}; {where}")


def disk(context: Context) -> Iterator[Line]:
    """There is room for checkpoints, models and a backbone that has to be downloaded; estimated."""
    shape, name = context.shape, context.config.backbone
    if shape is None or not context.trained:
        return
    needed = 0.0
    for options in context.trained.values():
        weights = shape.n_parameters * memory.BYTES[options.weights]
        trained = 4.0 * shape.n_lora(options.lora_rank) if options.lora_rank else weights
        is_adapter = options.lora_rank and options.save == "adapter"
        # three checkpoints, each with two moments per weight, and the finished model
        needed += 3 * 3 * trained + (trained if is_adapter else weights)
    todo = "--out DIR on another disk"
    yield _disk_line("checkpoints and models", needed, context.loaded.folder, todo)
    known = families.PUBLISHED.get(name)
    with suppress(UserError):  # of a model that has not been downloaded
        known = None if cards.folder_of(name).is_dir() else known
    if known:
        home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
        todo, n_bytes = "HF_HOME=DIR on another disk", 2.0 * known.n_parameters
        yield _disk_line(f"download of {known.hub}", n_bytes, home, todo)


CHECKS = {
    "versions": versions, "extras": extras, "backbone": backbone, "GPU": gpus, "data": data, "rows": rows,
    "pixels": pixels, "batch": batches, "memory": room, "disk": disk,
}  # fmt: skip
"""In the order of the table; later ones use the results of earlier ones."""


def run(context: Context) -> list[Line]:
    """All lines of the table. A `UserError` in one check becomes a line with ✗; a check that fails with the
    sentence of an earlier one becomes a line with – that refers to it.
    """
    lines: list[Line] = []
    for name, check in CHECKS.items():
        try:
            lines += check(context)
        except UserError as error:
            sentence = str(error)
            cause = next((line.check for line in lines if line.result == sentence), None)
            failed = Line("–", name, f"needs the {cause}", "see above")
            lines.append(failed if cause else Line("✗", name, sentence))
        except ImportError as error:
            lines.append(Line("–", name, f"{error.name or error} is not installed", INSTALL))
    return lines


def _guessed_lengths(context: Context, options: Options | None) -> tuple[int, int]:
    """Tokens of the longest prompt and completion, estimated without a tokenizer: a token per three letters
    of prompt (1,500) and a long tweet (250), images as large as the budget.
    """
    unit = BOX_FORMATS[context.config.family].unit
    prompt = context.config.max_pixels // unit**2 + (1500 + 250) // 3
    return prompt, options.max_completion_length if isinstance(options, CvoOptions) else 400


def _available(context: Context) -> tuple[float | None, str]:
    """Bytes of the smallest GPU, or of the machine's memory if no GPU is used, and a phrase for it."""
    if context.gpus and context.config.device != "cpu":
        least = min(gpu.n_bytes for gpu in context.gpus)
        return float(least), f"{least / 1e9:.1f} GB there"
    if context.needs_gpu:
        return None, "no GPU here to compare it with"
    if (n_bytes := artifacts.memory()) is None:
        return None, "this system does not tell its memory"
    return float(n_bytes), f"{n_bytes / 1e9:.1f} GB of the machine"


def _disk_line(what: str, needed: float, folder: Path, todo: str) -> Line:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    result = f"{what}, estimated: {needed / 1e9:,.1f} GB; {free / 1e9:,.1f} GB free"
    return Line("✓", "disk", result) if needed < free else Line("✗", "disk", result, todo)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
