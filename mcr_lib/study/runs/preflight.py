"""Pre-flight: what would stop or spoil a run on this machine. Each check yields lines of a table: ✓ as it
should be, ✗ would stop or spoil the run (with what to do), – cannot be checked on this machine (and why).

Nothing is downloaded or trained; only a small testbed is written, into a temporary folder.
"""

import importlib.metadata
import os
import shutil
from collections import namedtuple
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any

from mcr_lib import chains
from mcr_lib.boxes import BOX_FORMATS, box_format
from mcr_lib.data import mrsi
from mcr_lib.data.files import listed
from mcr_lib.data.images import image_size, usable_images
from mcr_lib.errors import UserError
from mcr_lib.schema import Example
from mcr_lib.study.runs import artifacts, memory, prepare
from mcr_lib.study.runs.artifacts import installed_version
from mcr_lib.study.runs.config import RANDOM, Loaded, paper_facts
from mcr_lib.study.runs.settings import Study
from mcr_lib.training import cards, families
from mcr_lib.training.options import CvoOptions, Options, batch_shape

N_TRIED = 24  # tweets whose rows are checked: with long texts, many entities, large images, and some others
INSTALL = "pip install '.[train]' in the clone"

Line = namedtuple("Line", ("mark", "check", "result", "todo"), defaults=("",))
Gpu = namedtuple("Gpu", ("name", "n_bytes", "has_bfloat16"))


class Context:
    """What the checks of a profile look at, loaded once; `scratch` is a folder for what has to be written."""

    def __init__(self, loaded: Loaded, scratch: Path) -> None:
        self.loaded, self.config = loaded, loaded.config
        sizes = {name: min(n, 8) for name, n in self.config.testbed_sizes.items()}  # enough to try
        few = {"testbed_sizes": {"train": 8, "test": 2}}
        joint = {name: one.model_copy(update=few) for name, one in self.config.joint.items()}
        small = self.config.model_copy(update={"testbed_sizes": sizes, "joint": joint})
        writes = self.config.data_dir is None or self.config.backbone == RANDOM
        self.study = Study(replace(loaded, config=small, folder=scratch) if writes else loaded)
        self.trained = {name: options for name, (options, _) in loaded.options.items()}
        self.n_processes = self.config.n_processes or 1  # they share an update
        self.needs_gpu = self.config.device == "cuda" or self.config.quantization == "4bit"
        self.lengths: dict[str, dict[str, int]] = {}  # setting -> tokens of its longest prompt, completion

    @cached_property
    def gpus(self) -> list[Gpu] | None:
        """The GPUs; `None` without torch."""
        try:
            import torch
        except ImportError:
            return None
        n = torch.cuda.device_count() if torch.cuda.is_available() else 0
        properties = map(torch.cuda.get_device_properties, range(n))
        return [Gpu(each.name, each.total_memory, each.major >= 8) for each in properties]

    @cached_property
    def splits(self) -> dict[str, list[Example]]:
        """The tweets by split, with the paths of their images."""
        return prepare.load_examples(self.study.loaded)

    @cached_property
    def tweets(self) -> list[Example]:
        """A few training tweets with a usable image."""

        def area(example: Example) -> int:
            with suppress(UserError):
                width, height = example.image_size_px or image_size(example.images[0])
                return width * height
            return 0

        with_image = [example for example in self.splits.get("train", ()) if example.images]
        others = [e for name in self.config.joint for e in prepare.load_joint(self.study.loaded, name)]
        orders = (lambda e: -len(e.text), lambda e: -len(e.entities), lambda e: -area(e))
        chosen = [e for order in orders for e in sorted(with_image, key=order)[: N_TRIED // 4]]
        chosen += with_image[:: max(1, len(with_image) // N_TRIED)]
        few = list({example.id: example for example in chosen}.values())[:N_TRIED]
        for order in (lambda e: -len(e.text), lambda e: -len(e.images)):
            few += sorted(others, key=order)[: N_TRIED // 4]
        few += others[:: max(1, len(others) // N_TRIED)]
        few = list({example.id: example for example in few}.values())
        return usable_images(few, on_bad_image="skip")[0]

    @cached_property
    def outline(self) -> Any:
        """The backbone without its weights; `UserError` if it is missing or incomplete."""
        from mcr_lib.training import backbones

        return backbones.outline(self.study.backbone, pixels=self.study.pixels)

    @cached_property
    def shape(self) -> memory.Shape | None:
        """The sizes that memory depends on, of the backbone's files or else published; `None` = unknown."""
        name = self.study.backbone
        try:
            folder = cards.folder_of(name)
            return memory.Shape.of(cards.config(folder), cards.n_parameters(folder, name))
        except UserError:
            known = families.PUBLISHED.get(self.config.backbone)
            return known and memory.Shape.of(known.config, known.n_parameters)


def _line(check: str, is_right: Any, result: str, todo: str) -> Line:
    return Line("✓", check, result) if is_right else Line("✗", check, result, todo)


def versions(context: Context) -> Iterator[Line]:
    """Installed packages are within the ranges of pyproject.toml."""
    try:
        from packaging.requirements import Requirement

        required = [Requirement(text) for text in importlib.metadata.requires("mcr-lib") or ()]
    except ImportError:  # of packaging, or of our own metadata
        yield Line("–", "versions", "mcr-lib is not installed as a package", INSTALL)
        return
    extras, wrong = ({"extra": ""}, {"extra": "train"}), []
    needed = [one for one in required if one.marker is None or any(map(one.marker.evaluate, extras))]
    for one in needed:
        if (version := installed_version(one.name)) is None:
            wrong.append(f"{one.name} is not installed")
        elif not one.specifier.contains(version, prereleases=True):
            wrong.append(f"{one.name} {version} is not {one.specifier}")
    fine = f"{len(needed)} packages, all within the ranges of pyproject.toml"
    yield _line("versions", not wrong, "; ".join(wrong) or fine, INSTALL)


def extras(context: Context) -> Iterator[Line]:
    """Packages that only some profiles need."""
    uses_vllm = any(getattr(options, "use_vllm", False) for options in context.trained.values())
    for is_needed, package, purpose, todo in (
        (context.config.quantization == "4bit", "bitsandbytes", "4 bits", "pip install bitsandbytes"),
        (uses_vllm, "vllm", "use_vllm", "pip install -r requirements-vllm.lock"),
    ):
        if is_needed:
            version, missing = installed_version(package), f"not installed, and {purpose} cannot do without"
            yield _line(package, version, f"{version}, for {purpose}" if version else missing, todo)


def backbone(context: Context) -> Iterator[Line]:
    """The backbone is here, its files are whole, and its family is the one of the profile."""
    config, card, shape = context.config, cards.card(context.study.backbone), context.shape
    family, n_files = card["family"], sum(name.endswith(".safetensors") for name in card["sha256"])
    size = f", {shape.n_parameters / 1e6:,.1f} M parameters" if shape else ""
    result = f"{config.backbone}: {family}{size}, weights in {n_files} file{'s' * (n_files != 1)}, whole"
    result += "" if family == config.family else f"; the profile says family {config.family}"
    yield _line("backbone", family == config.family, result, f"--set family={family}")
    known, settings = families.FAMILIES.get(family), config.settings
    direct = [name for name, one in settings.items() if one.stage == "none" and one.prompt == "direct"]
    if known and known.thinks == "always" and direct and config.max_new_tokens < 1024:
        result = f"{family} always reasons first, {', '.join(direct)} gets {config.max_new_tokens} tokens"
        yield Line("✗", "room to answer", result, "--set max_new_tokens=2048")


def gpus(context: Context) -> Iterator[Line]:
    """There are as many GPUs as processes, and they compute in the profile's dtype."""
    config, there, n_needed = context.config, context.gpus, context.n_processes
    if config.device == "cpu" or (not context.needs_gpu and not there):
        yield Line("✓", "GPU", "none is needed")
    elif there is None:
        yield Line("–", "GPU", "torch is not installed, so nothing sees a GPU", INSTALL)
    elif not there:
        todo = "run it where there is one; profile tiny needs none"
        yield Line("✗", "GPU", f"{n_needed} needed, none that torch sees", todo)
    elif len(there) < n_needed:
        todo = f"--set n_processes={len(there)}: the batch stays, in more parts"
        yield Line("✗", "GPU", f"{n_needed} needed, {len(there)} visible", todo)
    elif config.dtype == "bfloat16" and not all(gpu.has_bfloat16 for gpu in there):
        switches = (f"--set {stage}.bf16=false --set {stage}.fp16=true" for stage in ("sft", "cvo"))
        todo = f"--set dtype=float16 {' '.join(switches)}"
        yield Line("✗", "GPU", f"{there[0].name} does not compute in bfloat16", todo)
    else:
        yield Line("✓", "GPU", f"{len(there)} × {there[0].name}, {there[0].n_bytes / 1e9:.0f} GB")


def data(context: Context) -> Iterator[Line]:
    """The data set is here and as expected, and the images that training needs open as they will there."""
    config, splits = context.config, context.splits
    n = sum(map(len, splits.values()))
    if config.data_dir is None:
        sizes = ", ".join(f"{name} {size:,}" for name, size in config.testbed_sizes.items())
        yield Line("✓", "data", f"the testbed, made when it is needed ({sizes}); {n} made now, to try")
        return
    yield Line("✓", "data", ", ".join(f"{name} {len(tweets):,} tweets" for name, tweets in splits.items()))
    report, skips = prepare.check_data(context.study.loaded), config.bad_images == "skip"
    if report.broken:
        yield Line("✗", "data", f"not as expected: {report.broken[0]}", "data/README.md tells what to do")
    counts = report.images.counts
    usable = counts["present"] - counts["of another size than annotated"]
    mark, result, todo = "✓", f"{usable:,} of {n:,} tweets have one", ""
    if usable == n:
        result = f"{n:,} tweets, each with its image, all opened"
    elif usable > n / 2 and skips:
        result += "; the others are left out (bad_images=skip)"
    elif skips and not context.trained:
        result += "; nothing is trained, scores need none"
    else:
        todo = "; --set images_dir=DIR takes any folder that holds <id>.jpg at some depth (data/README.md)"
        mark, todo = "✗", report.images.problems[0] + todo + "; or --set bad_images=skip" * (usable > n / 2)
    yield Line(mark, "images", result, todo)
    if odd := [e.id for tweets in splits.values() for e in tweets if chains.unsayable(e)]:
        yield Line("✓", "chains", f"none for {listed(odd)}, whose names no chain can say")


def joint(context: Context) -> Iterator[Line]:
    """The data of the other sources are here, and D_R is as large as the paper's if its sources are."""
    config, loaded = context.config, context.study.loaded
    if not config.joint:
        return
    for key, (name, split) in config.joint_splits.items():
        tests = prepare.load_joint(loaded, name, split)
        yield _images_of(f"{key}, answered", tests, config.bad_images)
    if config.data_dir is None:
        sizes = {name: one.testbed_sizes.get("train", 1) for name, one in config.joint.items()}
        counts = ", ".join(f"{name} {n:,}" for name, n in sizes.items())
        yield Line("✓", "joint", f"variants on the testbed, made when they are needed: {counts} to train on")
        return
    asked = {e.text for split, tweets in context.splits.items() if split != "train" for e in tweets}
    others = [e for name in config.joint for e in context.study.training[name]]
    if n_leaked := sum(e.text in asked for e in others):
        result = f"{n_leaked:,} texts of {', '.join(config.joint)} that are trained on stand in dev or test"
        yield Line("✗", "leakage", result, "leave that source out, or take another version of it")
    by_source = context.study.training.items()
    n = {name: sum(chains.unsayable(e) is None for e in tweets) for name, tweets in by_source}
    styles = min(config.n_styles, len(mrsi.known_styles(config.chain_styles)))
    result = f"{styles * sum(n.values()):,} pairs of {', '.join(f'{name} {k:,}' for name, k in n.items())}"
    facts = paper_facts()
    sizes = {_PAPER.get(name): counts[0] for name, counts in facts["tables"]["T7"]["rows"].items()}
    wanted = facts["facts"]["n_training_pairs"]["value"]
    if n.keys() == sizes.keys():
        is_so = n == sizes and styles * sum(n.values()) == wanted
        told = ", ".join(f"{name} {k:,}" for name, k in sizes.items())
        result += ", as in the paper" if is_so else f"; the paper has {wanted:,} of {told}"
        todo = "mcr data check says what is missing; or train on these, and say so beside the scores"
        yield _line("D_R", is_so, result, todo)
    else:
        yield Line("✓", "D_R", result)


_PAPER = {"GMNER": "twitter-gmner", "MNER-MI": "mner-mi", "GREC": "grec"}  # its name in T7 -> the source


def _images_of(what: str, examples: list[Example], bad_images: str) -> Line:
    usable, report = usable_images(examples, on_bad_image="skip")
    result = f"{what}: {len(examples):,}, of which {len(usable):,} have all their images"
    is_right = len(usable) == len(examples) or (bad_images == "skip" and len(usable) > len(examples) / 2)
    return _line("joint", is_right, result, report.problems[0] if report.problems else "")


def rows(context: Context) -> Iterator[Line]:
    """On the rows of a few tweets: as many image tokens as image features, and prompt and completion fit."""
    if not context.trained:
        return
    if not context.tweets:
        yield Line("–", "rows", "no tweet with an image to try")
        return
    from mcr_lib.training.preflight import check_rows

    tweets, loaded = context.tweets, context.study.loaded
    for name, options in context.trained.items():
        one, target = context.config.settings[name], context.outline.target
        own = tweets if one.joint else [e for e in tweets if e.source.startswith(f"{context.config.source}-")]
        few = context.study.pairs(name, own)
        built = prepare.training_rows(one, few, target, loaded, tweets)
        most = options.max_completion_length if isinstance(options, CvoOptions) else None
        tokens = check_rows(context.outline, built, max_completion_length=most)
        prompt, completion = tokens["longest_prompt"], tokens["longest_completion"]
        context.lengths[name] = {"prompt_tokens": prompt, "completion_tokens": completion}
        fits = f"{prompt:,} + {completion:,} of {tokens['limit']:,} tokens at most"
        images = f"{tokens['images_opened']} images, as many tokens as features"
        yield Line("✓", "rows", f"{name}: {images}; {fits}, in prompt and completion of {len(few)} rows")


def pixels(context: Context) -> Iterator[Line]:
    """No image exceeds the budget of pixels. Thin ones can, since neither side is less than a unit."""
    if not context.config.settings:
        return
    target = context.outline.target
    unit, limit = box_format(target.family).unit, target.max_pixels
    sizes = [(e.id, e.image_size_px, target.size(e)) for e in context.tweets if e.image_size_px]
    for id, (width, height), (new_width, new_height) in sizes:
        if (n_pixels := new_width * new_height) > limit:
            size = f"{width} x {height}, becomes {new_width} x {new_height}, past max_pixels {limit:,}"
            todo = f"--set max_pixels={n_pixels}, or leave the tweet out"
            yield Line("✗", "pixels", f"the image of tweet {id}, {size}", todo)
            return
    if sizes:
        budget = f"{target.min_pixels:,} to {limit:,} pixels, {limit // unit**2} tokens at most"
        yield Line("✓", "pixels", f"{budget}; {len(sizes)} images tried keep to it")


def batches(context: Context) -> Iterator[Line]:
    """Processes × rows at a time × accumulation is the stated batch; for GRPO a whole number of groups."""
    n, todo = context.n_processes, ""
    for name, options in context.trained.items():
        per_device, accumulation = batch_shape(options, n)
        factors = f"{n} process{'es' * (n > 1)} × {per_device} × {accumulation}"
        result, rest = f"{name}: {factors} = {n * per_device * accumulation} rows per update", 0
        if isinstance(options, CvoOptions):
            n_prompts, rest = divmod(options.batch_size, n_generations := options.num_generations)
            todo = f"--set cvo.batch_size={max(n_prompts, 1) * n_generations}"
            groups = f": {n_prompts} prompts × {n_generations} generations"
            result += f", which num_generations {n_generations} does not divide" if rest else groups
        yield _line("batch", not rest, result + _updates(context, name, options), todo)


def _updates(context: Context, name: str, options: Options) -> str:
    """How many rows a setting is trained on, in how many updates; empty if the data are not there yet."""
    one, n = context.config.settings[name], 0
    with suppress(UserError):
        drawn = context.study.pairs(name) if context.config.data_dir else []
        n = len(drawn if one.stage == "cvo" or one.rows == "chains" else mrsi.tweets_of(drawn))
    if not n:
        return ""
    n_answers = n * getattr(options, "num_generations", 1)
    updates = ceil(options.num_train_epochs * n_answers / options.batch_size)
    updates = options.max_steps if options.max_steps > 0 else updates * getattr(options, "num_iterations", 1)
    return f"; {n:,} rows, {updates:,} updates" + " at most" * getattr(options, "filter_d2", False)


def room(context: Context) -> Iterator[Line]:
    """The estimated memory per GPU, or of the machine if it has none, is there."""
    config, shape, settings, needed = context.config, context.shape, context.config.settings, []
    if shape is None:
        yield Line("–", "memory", f"the shape of {config.backbone} is not known here")
        return
    # where rows were not tried: largest images, a token per three letters of prompt (1,500) and tweet (250)
    prompt_tokens = config.max_pixels // BOX_FORMATS[config.family].unit ** 2 + (1500 + 250) // 3
    todo = "too little: quantization=4bit, gradient_checkpointing, or lower per_device_batch_size, max_pixels"
    for name, options in context.trained.items():
        completion = options.max_completion_length if isinstance(options, CvoOptions) else 400
        lengths = context.lengths.get(name, {"prompt_tokens": prompt_tokens, "completion_tokens": completion})
        estimate = memory.of_stage(shape, options, n_processes=context.n_processes, **lengths)
        needed.append((name, estimate, f"{todo}, max_completion_length"))
    if settings:
        longest = max((one["prompt_tokens"] for one in context.lengths.values()), default=prompt_tokens)
        n_texts = 4 if any(one.prompt == "cot-3shot" for one in settings.values()) else 1
        lengths = {"prompt_tokens": n_texts * longest, "completion_tokens": config.max_new_tokens}
        how = {"dtype": config.dtype, "quantization": config.quantization, "rows": config.answer_batch_size}
        todo = "too little: lower answer_batch_size or max_pixels"
        needed.append(("answers", memory.of_answers(shape, **how, **lengths), todo))
    n_bytes, where = None, "no GPU here to compare it with"
    if context.gpus and config.device != "cpu":
        n_bytes = min(gpu.n_bytes for gpu in context.gpus)
        where = f"{n_bytes / 1e9:.1f} GB there"
    elif not context.needs_gpu:
        n_bytes = artifacts.memory()
        unknown = "this system does not tell its memory"
        where = f"{n_bytes / 1e9:.1f} GB of the machine" if n_bytes else unknown
    for name, estimate, todo in needed:
        result = f"{name}, estimated: {estimate.summary()}"
        if n_bytes is None:
            yield Line("–", "memory", result, where)
        else:
            yield _line("memory", estimate.total <= n_bytes, f"{result}; {where}", todo)


def disk(context: Context) -> Iterator[Line]:
    """There is room for checkpoints, models and a backbone that has to be downloaded; estimated."""
    shape, name, needed = context.shape, context.config.backbone, 0.0
    if shape is None or not context.trained:
        return
    for options in context.trained.values():
        weights = shape.n_parameters * memory.BYTES[options.weights]
        trained = 4.0 * shape.n_lora(options.lora_rank) if options.lora_rank else weights
        # three checkpoints, each with two moments per weight, and the finished model
        needed += 3 * 3 * trained + (trained if options.lora_rank and options.save == "adapter" else weights)
    places = [("checkpoints and models", needed, context.loaded.folder, "--out DIR on another disk")]
    known = families.PUBLISHED.get(name)
    with suppress(UserError):  # of a model that has not been downloaded
        known = None if cards.folder_of(name).is_dir() else known
    if known:
        home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
        size, todo = 2.0 * known.n_parameters, "HF_HOME=DIR on another disk"
        places.append((f"download of {known.hub}", size, home, todo))
    for what, n_bytes, folder, todo in places:
        free = shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free
        result = f"{what}, estimated: {n_bytes / 1e9:,.1f} GB; {free / 1e9:,.1f} GB free"
        yield _line("disk", n_bytes < free, result, todo)


CHECKS = {  # in the order of the table; later ones use the results of earlier ones
    "versions": versions, "extras": extras, "backbone": backbone, "GPU": gpus, "data": data, "joint": joint,
    "rows": rows, "pixels": pixels, "batch": batches, "memory": room, "disk": disk,
}  # fmt: skip


def run(context: Context) -> list[Line]:
    """All lines of the table; a check that fails becomes a line with the reason, or refers to one above."""
    lines: list[Line] = []
    for name, check in CHECKS.items():
        try:
            lines += check(context)
        except UserError as error:
            cause = next((line.check for line in lines if line.result == str(error)), None)
            failed = Line("–", name, f"needs the {cause}", "see above")
            lines.append(failed if cause else Line("✗", name, str(error)))
        except ImportError as error:
            lines.append(Line("–", name, f"{error.name or error} is not installed", INSTALL))
        except Exception as error:
            lines.append(
                Line("✗", name, f"{type(error).__name__}: {error!s:.200}", "a bug: please report it")
            )
    return lines
