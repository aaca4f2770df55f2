"""Pre-flight: what would go wrong after an hour, told before the first minute. Each check is a function from
`Around` to lines.

    ✓   as it should be
    ✗   would stop or spoil the run; what to do stands beside it
    –   cannot be checked on this machine, and why

Nothing is downloaded, trained or written; a testbed of a few tweets goes into a temporary folder. Memory and
disk are estimates.
"""

import importlib.metadata
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from mcr_lib.boxes import BOX_FORMATS, box_format
from mcr_lib.errors import UserError
from mcr_lib.study.runs.preflight_around import Around, Line
from mcr_lib.training import cards, families, memory
from mcr_lib.training.options import CvoOptions, Options, batch_shape

INSTALL = "pip install '.[train]' in the clone"


def versions(around: Around) -> Iterator[Line]:
    """Installed packages within the ranges that this release was made for, as pyproject.toml tells them."""
    try:
        from packaging.requirements import Requirement

        asked = [Requirement(text) for text in importlib.metadata.requires("mcr-lib") or ()]
    except (ImportError, importlib.metadata.PackageNotFoundError):
        yield Line("–", "versions", "mcr-lib is not installed as a package", INSTALL)
        return
    wrong, n = [], 0
    for requirement in asked:
        if requirement.marker is not None and not any(
            requirement.marker.evaluate({"extra": extra}) for extra in ("", "train")
        ):
            continue
        n += 1
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is not installed")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version} is not {requirement.specifier}")
    if wrong:
        yield Line("✗", "versions", "; ".join(wrong), INSTALL)
    else:
        yield Line("✓", "versions", f"{n} packages, all within the ranges of pyproject.toml")


def extras(around: Around) -> Iterator[Line]:
    """Packages that only some profiles need."""
    options = [around.study.options(name)[0] for name in around.trained]
    for package, need, is_needed, todo in (
        ("bitsandbytes", "4 bits", around.config.quantization == "4bit", "pip install bitsandbytes"),
        (
            "vllm",
            "use_vllm",
            any(getattr(each, "use_vllm", False) for each in options),
            "pip install -r requirements-vllm.lock",
        ),
    ):
        if is_needed and _is_installed(package):
            yield Line("✓", package, f"{importlib.metadata.version(package)}, for {need}")
        elif is_needed:
            yield Line("✗", package, f"not installed, and {need} cannot do without", todo)


def backbone(around: Around) -> Iterator[Line]:
    """The backbone is here, its files are whole, and its family is the one that the profile names."""
    told = cards.card(around.study.backbone)
    n_files, shape = sum(name.endswith(".safetensors") for name in told["sha256"]), around.shape
    size = f", {shape.n_parameters / 1e6:,.1f} M parameters" if shape else ""
    found = f"{around.config.backbone}: {told['family']}{size}, weights in {n_files} file{'s' * (n_files != 1)}, whole"
    if told["family"] != around.config.family:
        yield Line(
            "✗",
            "backbone",
            f"{found}; the profile says family {around.config.family}",
            f"--set family={told['family']}",
        )
    else:
        yield Line("✓", "backbone", found)
    family = families.FAMILIES.get(told["family"])
    asked = [
        name
        for name, setting in around.study.settings.items()
        if setting.stage == "none" and setting.prompt == "direct"
    ]
    if family is not None and family.thinks == "always" and asked and around.config.max_new_tokens < 1024:
        found = f"{told['family']} always reasons first, {', '.join(asked)} gets {around.config.max_new_tokens} tokens"
        yield Line("✗", "room to answer", found, "--set max_new_tokens=2048")


def gpus(around: Around) -> Iterator[Line]:
    """As many GPUs as the profile shares its batch among, able to compute in its type of number."""
    if around.config.device == "cpu" or (not around.needs_gpu and not around.gpus):
        yield Line("✓", "GPU", "none is needed")
        return
    wanted = max(1, around.config.n_processes)
    if around.gpus is None:
        yield Line("–", "GPU", "torch is not installed, so nothing sees a GPU", INSTALL)
    elif not around.gpus:
        yield Line(
            "✗",
            "GPU",
            f"{wanted} needed, none that torch sees",
            "run it where there is one; profile tiny needs none",
        )
    elif len(around.gpus) < wanted:
        todo = f"--set n_processes={len(around.gpus)}: the batch stays, in more parts"
        yield Line("✗", "GPU", f"{wanted} needed, {len(around.gpus)} visible", todo)
    elif around.config.dtype == "bfloat16" and not all(gpu.has_bfloat16 for gpu in around.gpus):
        todo = "--set dtype=float16 --set sft.bf16=false --set sft.fp16=true --set cvo.bf16=false --set cvo.fp16=true"
        yield Line("✗", "GPU", f"{around.gpus[0].name} does not compute in bfloat16", todo)
    else:
        yield Line(
            "✓", "GPU", f"{len(around.gpus)} × {around.gpus[0].name}, {around.gpus[0].n_bytes / 1e9:.0f} GB"
        )


def data(around: Around) -> Iterator[Line]:
    """The data set is here, and the images that training needs."""
    config = around.config
    if config.data_dir is None:
        n = ", ".join(f"{name} {n:,}" for name, n in config.testbed_sizes.items())
        yield Line(
            "✓",
            "data",
            f"the testbed, made when it is needed ({n}); {sum(map(len, around.splits.values()))} made now, to try",
        )
        return
    yield Line(
        "✓", "data", ", ".join(f"{split} {len(found):,} tweets" for split, found in around.splits.items())
    )
    n, with_image = (
        sum(map(len, around.splits.values())),
        sum(bool(e.images) for found in around.splits.values() for e in found),
    )
    todo = "data/README.md tells where they are; --set images_dir=DIR takes any folder that holds <id>.jpg at some depth"
    if with_image == n:
        yield Line("✓", "images", f"{n:,} tweets, each with its image")
    elif with_image > n / 2 and config.bad_images == "skip":
        yield Line(
            "✓",
            "images",
            f"{with_image:,} of {n:,} tweets have one; the others are left out (bad_images=skip)",
        )
    elif not around.trained:
        yield Line(
            "✓", "images", f"{with_image:,} of {n:,} tweets have one; nothing is trained, scores need none"
        )
    else:
        others = "; or --set bad_images=skip" if with_image > n / 2 else ""
        yield Line("✗", "images", f"{with_image:,} of {n:,} tweets have one", todo + others)


def rows(around: Around) -> Iterator[Line]:
    """On the rows of a few tweets: image tokens equal image features, prompt and completion fit, images keep
    to the budget of pixels.
    """
    if not around.trained:
        return
    if not around.tweets:
        yield Line("–", "rows", "no tweet with an image to try")
        return
    from mcr_lib.training.preflight import check_rows

    few = around.study.over(around.tweets)
    for name in around.trained:
        options, _ = few.options(name)
        length = options.max_completion_length if isinstance(options, CvoOptions) else None
        found = check_rows(around.outline, few.rows(name), max_completion_length=length)
        around.lengths[name] = (found["longest_prompt"], found["longest_completion"])
        prompt, completion = around.lengths[name]
        fits = f"{prompt:,} + {completion:,} of {found['limit']:,} tokens at most, in prompt and completion of {len(few.tweets(name))} tweets"
        yield Line(
            "✓", "rows", f"{name}: {found['images_opened']} images, as many tokens as features; {fits}"
        )


def pixels(around: Around) -> Iterator[Line]:
    """No image takes more pixels than the budget, as thin ones do: neither side can be less than a unit."""
    if not around.study.settings:
        return
    target = around.outline.target
    unit, sizes = (
        box_format(target.family).unit,
        [(e.id, e.image_size_px, target.size(e)) for e in around.tweets if e.image_size_px],
    )
    past = [(id, size, made) for id, size, made in sizes if made[0] * made[1] > target.max_pixels]
    budget = f"{target.min_pixels:,} to {target.max_pixels:,} pixels, {target.max_pixels // unit**2} tokens at most"
    if past:
        id, size, made = past[0]
        found = f"the image of tweet {id}, {size[0]} x {size[1]}, becomes {made[0]} x {made[1]}, past max_pixels {target.max_pixels:,}"
        yield Line("✗", "pixels", found, f"--set max_pixels={made[0] * made[1]}, or leave the tweet out")
    elif sizes:
        yield Line("✓", "pixels", f"{budget}; {len(sizes)} images tried keep to it")


def batches(around: Around) -> Iterator[Line]:
    """Processes × rows at a time × accumulation is the batch that the profile states, a whole number of
    groups for GRPO.
    """
    for name in around.trained:
        options, _ = around.study.options(name)
        n, stated = around.n_processes, options.batch_size
        per_device, accumulation = batch_shape(options, n)
        found = f"{name}: {n} process{'es' * (n > 1)} × {per_device} × {accumulation} = {n * per_device * accumulation} rows per update"
        if isinstance(options, CvoOptions) and stated % options.num_generations:
            found = f"{found}, which num_generations {options.num_generations} does not divide"
            yield Line(
                "✗",
                "batch",
                found,
                f"--set cvo.batch_size={max(stated // options.num_generations, 1) * options.num_generations}",
            )
        elif isinstance(options, CvoOptions):
            yield Line(
                "✓",
                "batch",
                f"{found}: {stated // options.num_generations} prompts × {options.num_generations} generations",
            )
        else:
            yield Line("✓", "batch", found)


def room(around: Around) -> Iterator[Line]:
    """Memory per GPU (or of the machine, where none is used), estimated, against what there is."""
    if around.shape is None:
        yield Line("–", "memory", f"the shape of {around.config.backbone} is not known here")
        return
    config, needed = around.config, []
    for name in around.trained:
        options, _ = around.study.options(name)
        prompt, completion = around.lengths.get(name) or _guessed(around, options)
        lengths = {"prompt_tokens": prompt, "completion_tokens": completion}
        needed.append(
            (name, memory.of_stage(around.shape, options, n_processes=around.n_processes, **lengths))
        )
    if around.study.settings:
        prompt = max([length for length, _ in around.lengths.values()] or [_guessed(around, None)[0]])
        prompt *= 4 if any(setting.prompt == "cot-3shot" for setting in around.study.settings.values()) else 1
        answers = memory.of_answers(
            around.shape, dtype=config.dtype, quantization=config.quantization, rows=config.answer_batch_size, prompt_tokens=prompt,
            completion_tokens=config.max_new_tokens,
        )  # fmt: skip
        needed.append(("answers", answers))
    there, where = _there(around)
    for name, estimate in needed:
        told = f"{name}, estimated: {estimate.summary()}"
        if there is None:
            yield Line("–", "memory", told, where)
        elif estimate.total > there:
            yield Line("✗", "memory", f"{told}; {where}", LEVERS["answers" if name == "answers" else "stage"])
        else:
            yield Line("✓", "memory", f"{told}; {where}")


def disk(around: Around) -> Iterator[Line]:
    """Room for checkpoints and models of the run, and for the backbone where it is not here yet; estimated."""
    if around.shape is None or not around.trained:
        return
    needed = 0.0
    for name in around.trained:
        options, _ = around.study.options(name)
        weights = around.shape.n_parameters * memory.BYTES[options.weights]
        part = 4.0 * around.shape.n_lora(options.lora_rank) if options.lora_rank else weights
        model = part if getattr(options, "save", "merged") == "adapter" and options.lora_rank else weights
        needed += (
            3 * 3 * part + model
        )  # three checkpoints, each with two moments per weight; the finished model
    yield _disk("disk", "checkpoints and models", needed, around.loaded.folder, "--out DIR on another disk")
    known = families.PUBLISHED.get(around.config.backbone)
    if known and not _is_here(around.config.backbone):
        home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
        yield _disk(
            "disk", f"download of {known.hub}", 2.0 * known.n_parameters, home, "HF_HOME=DIR on another disk"
        )


LONGEST_TEXT = 250
"""Letters of a long tweet, where no tokenizer is here to count its tokens."""

LEVERS = {
    "answers": "too little: lower answer_batch_size or max_pixels",
    "stage": "too little: quantization=4bit, gradient_checkpointing, or lower per_device_batch_size, max_pixels, max_completion_length",
}
"""What to do about memory."""

CHECKS = (versions, extras, backbone, gpus, data, rows, pixels, batches, room, disk)
"""In the order of the table; later ones use what earlier ones found."""


def run(around: Around) -> list[Line]:
    """All lines of the table. A user's mistake in one check is a line with ✗; where the backbone is not here,
    one line says so and the checks that need it say that they cannot be made.
    """
    lines: list[Line] = []
    for check in CHECKS:
        name = {"room": "memory", "batches": "batch", "gpus": "GPU"}.get(check.__name__, check.__name__)
        try:
            lines += check(around)
        except UserError as error:
            is_known = any(line.found == str(error) for line in lines)
            mark, todo = ("–", "see above") if is_known else ("✗", "")
            lines.append(
                Line(mark, name, f"needs the {_cause(lines, str(error))}" if is_known else str(error), todo)
            )
        except ImportError as error:
            lines.append(Line("–", name, f"{error.name or error} is not installed", INSTALL))
    return lines


def _cause(lines: list[Line], sentence: str) -> str:
    return next(line.check for line in lines if line.found == sentence)


def _guessed(around: Around, options: Options | None) -> tuple[int, int]:
    """Tokens of the longest prompt and completion without a tokenizer: a token per three letters of prompt
    (1,500) and tweet, images as large as the budget.
    """
    unit = BOX_FORMATS[around.config.family].unit
    prompt = around.config.max_pixels // unit**2 + (1500 + LONGEST_TEXT) // 3
    return prompt, options.max_completion_length if isinstance(options, CvoOptions) else 400


def _there(around: Around) -> tuple[float | None, str]:
    """Bytes of the smallest GPU, or of the machine's memory where no GPU is used, and how to say so."""
    if around.gpus and around.config.device != "cpu":
        least = min(around.gpus, key=lambda gpu: gpu.n_bytes)
        return float(least.n_bytes), f"{least.n_bytes / 1e9:.1f} GB there"
    if around.needs_gpu:
        return None, "no GPU here to compare it with"
    if not hasattr(os, "sysconf"):
        return None, "this system does not tell its memory"
    n_bytes = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return n_bytes, f"{n_bytes / 1e9:.1f} GB of the machine"


def _disk(check: str, what: str, needed: float, folder: Path, todo: str) -> Line:
    at = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(at).free
    told = f"{what}, estimated: {needed / 1e9:,.1f} GB; {free / 1e9:,.1f} GB free"
    return Line("✓", check, told) if needed < free else Line("✗", check, told, todo)


def _is_here(name: str) -> bool:
    try:
        return cards.folder_of(name).is_dir()
    except UserError:
        return False


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
