"""Backbones: a model with its processor, and what one must know to speak with it.

`load` takes the name of a backbone that this repository ships ("tiny-base"), a folder that `save` wrote, a
folder with an adapter (`adapters`), or a released model of one of the `families`: by its name on the hub,
where it has been downloaded, or by its folder. No code of a model's own is ever run. A folder of `save` holds
safetensors, the processor and `backbone.json`: family (`boxes.BOX_FORMATS`), wording of prompts, the prompt that
it was trained to be asked, prompt version, and checksums of its files.
"""

from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from peft import LoraConfig
from safetensors import SafetensorError
from transformers import AutoConfig, BitsAndBytesConfig, PreTrainedConfig, PreTrainedModel, ProcessorMixin
from transformers.utils import logging

from mcr_lib import prompts
from mcr_lib.boxes import BOX_FORMATS, Space
from mcr_lib.data.files import write_json
from mcr_lib.data.mrsi import Target
from mcr_lib.errors import UserError
from mcr_lib.schema import FORMAT_VERSION
from mcr_lib.training import adapters, families, launch
from mcr_lib.training.cards import CARD, card, checksum, folder_of

Quantization = Literal["none", "4bit"]

Pixels = tuple[int, int]
"""Fewest and most pixels of an image as the processor resizes it."""

_CANNOT = (OSError, ValueError, RuntimeError, KeyError, SafetensorError, StrictDataclassError)
"""What transformers raises about a folder that it cannot make sense of."""

_TOO_LITTLE = "the GPU's memory is too little for the weights of {}; take quantization=4bit, dtype=bfloat16 or a smaller model"


@dataclass(frozen=True)
class Backbone:
    """A model ready to be asked or trained.

    Args:
        name: as it was asked for, for reports.
        family: key of `boxes.BOX_FORMATS`.
        wording: of prompts that it is asked in.
        model: on its device.
        processor: with the tokenizer padding on the left.
        prompt: which it was trained to be asked.
    """

    name: str
    family: str
    wording: prompts.Wording
    model: PreTrainedModel
    processor: ProcessorMixin
    prompt: prompts.Kind = "direct"

    @property
    def config(self) -> PreTrainedConfig:
        """The configuration of the model."""
        return self.model.config

    @property
    def space(self) -> Space:
        """The coordinate space that it speaks."""
        return BOX_FORMATS[self.family].space

    @property
    def target(self) -> Target:
        """What rows for it are made for."""
        return _target(self.processor, self.family, self.wording)


@dataclass(frozen=True)
class Outline:
    """A backbone without its weights: enough to make rows for it and to check them.

    Args:
        name: as it was asked for.
        config: of the model.
        processor: with the tokenizer padding on the left.
        target: what rows for it are made for.
    """

    name: str
    config: PreTrainedConfig
    processor: ProcessorMixin
    target: Target


def load(
    name: str,
    *,
    device: str | None = None,
    dtype: torch.dtype = torch.float32,
    weights: str | Path | None = None,
    quantization: Quantization = "none",
    pixels: Pixels | None = None,
    base: str | None = None,
    train_as: LoraConfig | None = None,
) -> Backbone:
    """A backbone by name or folder; an adapter is merged into its base, unless that is of 4 bits or the
    adapter is to be trained on.

    Args:
        device: `None` = a GPU where there is one.
        dtype: of the weights once loaded; with 4 bits, of what is computed from them.
        weights: a checkpoint of it whose weights are taken instead of its own.
        quantization: "4bit" keeps the linear layers of the language model in 4 bits (NF4, twice quantised:
            QLoRA), for LoRA on a small GPU.
        pixels: of a released model, which would take any; a folder that `save` wrote has its own.
        base: of an adapter, where it is not where it was.
        train_as: how the adapter of a folder with one is to be trained on.

    Raises:
        UserError: the folder is missing, of another version or architecture, a file of it is missing, cut or
            not as it was saved, or 4 bits without a GPU or without bitsandbytes; an adapter for another base.
    """
    launch.free()
    folder, told = folder_of(name), card(name)
    if told["kind"] == "adapter":
        whole = load(
            adapters.locate_base(folder, told, base), device=device, dtype=dtype, quantization=quantization
        )
        model = adapters.attached(whole.model, folder, train_as)
        if train_as is None and quantization == "none":
            model = model.merge_and_unload()
        return Backbone(
            name,
            told["family"],
            told["wording"],
            model.eval(),
            _processor(folder, told, None),
            told["prompt"],
        )
    if base is not None:
        raise UserError(f"{name} is a whole model, and no adapter that would need --base")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    placed = _placed(device, dtype, quantization)
    processor = _processor(folder, told, pixels)
    source = folder if weights is None else Path(weights)
    _be_quiet()
    try:
        model, found = _model_class(told["family"]).from_pretrained(
            source,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            **placed,
        )
    except torch.OutOfMemoryError as error:
        raise UserError(_TOO_LITTLE.format(name)) from error
    except _CANNOT as error:
        raise UserError(f"backbone {source} cannot be loaded: {str(error).splitlines()[0][:160]}") from error
    if lost := sorted(found["missing_keys"]) + sorted(found["unexpected_keys"]):
        raise UserError(
            f"backbone {source} is of another architecture: {len(lost)} weights do not fit, the first is {lost[0]}"
        )
    model.config._name_or_path = str(
        folder
    )  # a reference model is loaded from there, and must not be the checkpoint
    model = model if quantization == "4bit" else _moved(model, device, name)
    return Backbone(
        name, told["family"], told["wording"], model.eval(), processor, told.get("prompt", "direct")
    )


def usual_dtype(name: str, device: str | None = None) -> torch.dtype:
    """What to load a backbone's weights as where nobody says: 16 bits for released models and adapters on a
    GPU, else 32.
    """
    if device == "cpu" or not torch.cuda.is_available() or card(name)["kind"] == "backbone":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def processor(name: str, *, pixels: Pixels | None = None) -> ProcessorMixin:
    """The processor of a backbone by name or folder, without its model; the tokenizer pads on the left.

    Raises:
        UserError: the folder is no backbone of this release, or a file of it is missing or changed.
    """
    return _processor(folder_of(name), card(name), pixels)


def target(name: str, *, pixels: Pixels | None = None) -> Target:
    """What rows for a backbone are made for, without loading its weights.

    Raises:
        UserError: as `load`.
    """
    told = card(name)
    return _target(_processor(folder_of(name), told, pixels), told["family"], told["wording"])


def outline(name: str, *, pixels: Pixels | None = None) -> Outline:
    """A backbone by name or folder, without its weights.

    Raises:
        UserError: as `load`.
    """
    folder, told = folder_of(name), card(name)
    made = _processor(folder, told, pixels)
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except _CANNOT as error:
        raise UserError(
            f"the configuration of {folder} cannot be read: {str(error).splitlines()[0][:160]}"
        ) from error
    return Outline(name, config, made, _target(made, told["family"], told["wording"]))


def save(backbone: Backbone, folder: str | Path, *, dtype: torch.dtype | None = None, **told: Any) -> None:
    """Write a backbone as a folder that `load` reads; `told` goes into its card.

    Args:
        dtype: of the stored weights; `None` = as they are.
    """
    folder = Path(folder)
    model = backbone.model
    _be_quiet()
    state = {name: value.to(dtype or value.dtype).contiguous() for name, value in model.state_dict().items()}
    before = model.config.dtype
    model.config.dtype = dtype or before
    model.save_pretrained(folder, state_dict=state, safe_serialization=True)
    model.config.dtype = before
    _write_card(backbone, folder, kind="backbone", **told)


def save_adapter(backbone: Backbone, folder: str | Path, *, start: str, is_merged: bool, **told: Any) -> None:
    """Write the adapter of a backbone that was trained as a folder that `load` reads; `told` goes into its
    card.

    Args:
        start: name or folder of what was trained.
        is_merged: whether that is an adapter which had been merged.
    """
    folder = Path(folder)
    _be_quiet()
    base = adapters.base_of(start, folder)
    adapters.write(backbone.model, folder, base, folder_of(start) if is_merged else None)
    _write_card(backbone, folder, kind="adapter", coordinate_space=backbone.space, base=base, **told)


def _write_card(backbone: Backbone, folder: Path, *, kind: str, **told: Any) -> None:
    backbone.processor.save_pretrained(folder)
    files = {
        p.name: checksum(p)
        for p in sorted(folder.iterdir())
        if p.is_file() and p.name != CARD and p.suffix != ".md"
    }
    head = {
        "format_version": FORMAT_VERSION,
        "kind": kind,
        "family": backbone.family,
        "wording": backbone.wording,
    }
    head["prompt"] = backbone.prompt
    write_json(folder / CARD, {**head, "prompt_version": prompts.PROMPT_VERSION, **told, "sha256": files})


def _moved(model: PreTrainedModel, device: str, name: str) -> PreTrainedModel:
    try:
        return model.to(device)
    except torch.OutOfMemoryError as error:
        raise UserError(_TOO_LITTLE.format(name)) from error


def _model_class(family: str) -> Any:
    return getattr(transformers, families.FAMILIES[family].model_class)


def _placed(device: str, dtype: torch.dtype, quantization: Quantization) -> dict[str, Any]:
    """Arguments of `from_pretrained` that depend on the device."""
    is_gpu = device.startswith("cuda")
    attention = {
        "attn_implementation": "sdpa" if is_gpu else "eager"
    }  # for few short rows eager is a quarter faster on a CPU
    if is_gpu and not torch.cuda.is_available():
        raise UserError(
            "no GPU that torch can use was found, and this profile (device=cuda) is made for one; profile tiny needs none"
        )
    if quantization == "none":
        return attention
    if not is_gpu:
        raise UserError("quantization=4bit needs a GPU; without one take quantization=none")
    if find_spec("bitsandbytes") is None:
        raise UserError(
            "quantization=4bit needs bitsandbytes, which is not installed; pip install bitsandbytes, or quantization=none"
        )
    four_bits = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=["visual", "lm_head"],
    )  # fmt: skip
    return {**attention, "quantization_config": four_bits, "device_map": {"": device}}


def _processor(folder: Path, told: dict[str, Any], pixels: Pixels | None) -> ProcessorMixin:
    family = told["family"]
    if family not in families.FAMILIES:
        known = ", ".join(families.FAMILIES)
        raise UserError(
            f"{folder}: family {family!r} is of an architecture that cannot be loaded; known: {known}"
        )
    loader = getattr(transformers, families.FAMILIES[family].processor_class).from_pretrained
    try:
        found = loader(folder, local_files_only=True, trust_remote_code=False)
    except _CANNOT as error:
        raise UserError(
            f"the processor of {folder} cannot be loaded: {str(error).splitlines()[0][:160]}"
        ) from error
    found.tokenizer.padding_side = "left"
    if told["kind"] == "released":
        _close_think(found, folder)
        if pixels is not None:
            _set_pixels(found, pixels, BOX_FORMATS[family].unit)
    return found


def _set_pixels(processor: ProcessorMixin, pixels: Pixels, unit: int) -> None:
    fewest, most = pixels
    if not fewest <= most or most < unit**2:
        raise UserError(
            f"min_pixels {fewest} and max_pixels {most}: a budget of at least one unit of {unit} x {unit} pixels is needed"
        )
    for part in (processor.image_processor, processor.video_processor):
        part.size = {"shortest_edge": fewest, "longest_edge": most}


def _close_think(processor: ProcessorMixin, folder: Path) -> None:
    """Take <think> out of the end of a prompt: what we train and read begins with it."""
    prompt = partial(
        processor.apply_chat_template,
        [{"role": "user", "content": "?"}],
        tokenize=False,
        add_generation_prompt=True,
    )
    if not prompt().rstrip().endswith("<think>"):
        return
    processor.chat_template = processor.chat_template.replace(r"assistant\n<think>\n", r"assistant\n")
    if prompt().rstrip().endswith("<think>"):
        raise UserError(
            f"the chat template of {folder} ends a prompt with <think>, which answers here write themselves; take it out there"
        )


def _target(processor: ProcessorMixin, family: str, wording: prompts.Wording) -> Target:
    size = processor.image_processor.size
    return Target(family, size["shortest_edge"], size["longest_edge"], wording)


def _be_quiet() -> None:
    """No bars and no warnings of the library: what matters of them is checked here."""
    logging.disable_progress_bar()
    logging.set_verbosity_error()
