"""Backbones: a model with its processor, and what prompts and boxes it was made for.

A folder of `save` holds safetensors, the processor and `backbone.json`: family (of `boxes.BOX_FORMATS`),
wording, the prompt it was trained on, prompt version, and checksums of its files.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
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
from mcr_lib.answer import Form
from mcr_lib.boxes import BOX_FORMATS, Space
from mcr_lib.data.files import write_json
from mcr_lib.data.mrsi import Target
from mcr_lib.errors import UserError
from mcr_lib.schema import FORMAT_VERSION, Example
from mcr_lib.training import adapters, families, launch, vision
from mcr_lib.training.cards import CARD, card, checksum, folder_of

Quantization = Literal["none", "4bit"]
Chat = list[prompts.Message]
State = Mapping[str, torch.Tensor] | None
Pixels = tuple[int, int]  # fewest and most of an image as the processor resizes it
_LOAD_ERRORS = (OSError, ValueError, RuntimeError, KeyError, SafetensorError, StrictDataclassError)
_LOCAL = {"local_files_only": True, "trust_remote_code": False}


@dataclass(frozen=True)
class Backbone:
    """A model ready to be prompted or trained; its tokenizer pads on the left."""

    name: str  # as it was requested, for reports
    family: str
    wording: prompts.Wording
    model: PreTrainedModel
    processor: ProcessorMixin
    prompt: prompts.Kind = "direct"  # the one it was trained on
    form: Form = "json"  # of its answers
    style: str | None = None  # whose instruction the prompt mcr gives; `None` = that of the wording

    @property
    def config(self) -> PreTrainedConfig:
        """The configuration of the model."""
        return self.model.config

    @property
    def space(self) -> Space:
        """The coordinate space of its boxes."""
        return BOX_FORMATS[self.family].space

    def messages(self, example: Example, prompt: prompts.Kind, shots: prompts.Shots = ()) -> Chat:
        """The chat that asks it about a tweet."""
        how = {"wording": self.wording, "style": self.style, "form": self.form, "shots": shots}
        chat = prompts.messages(example, prompt, **how)
        if shots and families.FAMILIES[self.family].switch:  # else the template drops what they reason
            whole = {"reasoning_content": ""}
            chat = [each | whole if each["role"] == "assistant" else each for each in chat]
        return chat

    @property
    def target(self) -> Target:
        """The target that training rows are written for."""
        return replace(_target(self.processor, self.family, self.wording), form=self.form)


@dataclass(frozen=True)
class Outline:
    """A backbone without its weights: enough to write rows for it and to check them."""

    config: PreTrainedConfig
    processor: ProcessorMixin
    target: Target


def load(
    name: str, *, device: str | None = None, dtype: torch.dtype = torch.float32,
    weights: str | Path | None = None, quantization: Quantization = "none", pixels: Pixels | None = None,
    base: str | None = None, train_as: LoraConfig | None = None,
) -> Backbone:  # fmt: skip
    """A backbone by folder or name: shipped, or of a downloaded model of the hub, whose own code is not run.

    An adapter is merged into its base, unless that has 4 bits or the adapter is trained further (`train_as`).
    `device`: `None` = a GPU where there is one. `dtype` is of the weights; with "4bit", which is of the
    language model's linear layers (NF4, quantised twice: QLoRA), of the computation. `weights`: a checkpoint
    to load them from. `pixels`: of a released model; a folder of `save` has its own. `base`: if it has moved.
    """
    launch.free()
    folder, entries = folder_of(name), card(name)
    processor = _processor(folder, entries, pixels)
    if entries["kind"] == "adapter":
        base = adapters.locate_base(folder, entries, base)
        model = load(base, device=device, dtype=dtype, quantization=quantization).model
        model = adapters.attached(model, folder, train_as)
        if train_as is None and quantization == "none":
            model = model.merge_and_unload()
    elif base is not None:
        raise UserError(f"{name} is a whole model, and no adapter that would need --base")
    else:
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        model = _model(name, Path(weights or folder), entries["family"], device, dtype, quantization)
        model.config._name_or_path = str(folder)  # GRPO loads its reference model from there
    asked = (entries.get("prompt", "direct"), entries.get("answer_form", "json"), entries.get("style"))
    return Backbone(name, entries["family"], entries["wording"], model.eval(), processor, *asked)


def usual_dtype(name: str, device: str | None = None) -> torch.dtype:
    """The default dtype of a backbone: 16 bits for released models and adapters on a GPU, else 32."""
    if device == "cpu" or not torch.cuda.is_available() or card(name)["kind"] == "backbone":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def outline(name: str, *, pixels: Pixels | None = None) -> Outline:
    """A backbone by name or folder, without its weights."""
    folder, entries = folder_of(name), card(name)
    processor = _processor(folder, entries, pixels)
    try:
        config = AutoConfig.from_pretrained(folder, **_LOCAL)
    except _LOAD_ERRORS as error:
        raise UserError(f"the configuration of {folder} cannot be read: {adapters.reason(error)}") from error
    return Outline(config, processor, _target(processor, entries["family"], entries["wording"]))


def save(
    backbone: Backbone, folder: str | Path, *, dtype: torch.dtype | None = None, state: State = None,
    **entries: Any,
) -> None:  # fmt: skip
    """Writes a backbone, in another dtype if one is given; `entries` go into its card.

    `state`: the weights of a model that is cut over processes, gathered; `None` = those of the model.
    """
    model = backbone.model
    _silence()
    once: dict[Any, torch.Tensor] = {}  # tied weights stay one tensor, which is stored once
    state = {
        name: once.setdefault((value.data_ptr(), value.shape), value.to(dtype or value.dtype).contiguous())
        for name, value in (model.state_dict() if state is None else _tied(model, state)).items()
    }
    before = model.config.dtype  # which is made a string
    model.save_pretrained(folder, state_dict=state)
    model.config.dtype = before
    _write_card(backbone, Path(folder), kind="backbone", **entries)


def _tied(model: PreTrainedModel, state: State) -> dict[str, torch.Tensor]:
    """Gathered weights in which tied ones are one tensor again."""
    return {name: state[model.all_tied_weights_keys.get(name, name)] for name in state}


def save_adapter(
    backbone: Backbone, folder: str | Path, *, start: str, state: State = None, **entries: Any
) -> None:
    """Writes the adapter of a backbone trained from `start`; `entries` go into its card, `state` as above."""
    folder = Path(folder)
    _silence()
    base = adapters.base_of(start, folder)
    adapters.write(backbone.model, folder, base, state)
    _write_card(backbone, folder, kind="adapter", coordinate_space=backbone.space, base=base, **entries)


def _write_card(backbone: Backbone, folder: Path, *, kind: str, **entries: Any) -> None:
    backbone.processor.save_pretrained(folder)
    files = [p for p in sorted(folder.iterdir()) if p.is_file() and p.name != CARD and p.suffix != ".md"]
    head = {"format_version": FORMAT_VERSION, "kind": kind, "family": backbone.family}
    head |= {"wording": backbone.wording, "prompt": backbone.prompt, "prompt_version": prompts.PROMPT_VERSION}
    write_json(folder / CARD, {**head, **entries, "sha256": {p.name: checksum(p) for p in files}})


def _model(
    name: str, source: Path, family: str, device: str, dtype: torch.dtype, quantization: Quantization
) -> PreTrainedModel:
    options = {"dtype": dtype, "use_safetensors": True, **_LOCAL, **_placement(device, dtype, quantization)}
    kind = getattr(transformers, families.FAMILIES[family].model_class)
    _silence()
    try:
        model, report = kind.from_pretrained(source, output_loading_info=True, **options)
        model = model if quantization == "4bit" else model.to(device)
    except torch.OutOfMemoryError as error:
        remedy = "take quantization=4bit, dtype=bfloat16 or a smaller model"
        raise UserError(f"the GPU's memory is too little for the weights of {name}; {remedy}") from error
    except _LOAD_ERRORS as error:
        raise UserError(f"backbone {source} cannot be loaded: {adapters.reason(error)}") from error
    if misfits := sorted(report["missing_keys"]) + sorted(report["unexpected_keys"]):
        count = f"{len(misfits)} weights do not fit, the first is {misfits[0]}"
        raise UserError(f"backbone {source} is of another architecture: {count}")
    vision.attend_at_once(model)
    return model


def _placement(device: str, dtype: torch.dtype, quantization: Quantization) -> dict[str, Any]:
    if (is_gpu := device.startswith("cuda")) and not torch.cuda.is_available():
        reason = "no GPU that torch can use was found, and this profile (device=cuda) is made for one"
        raise UserError(f"{reason}; profile tiny needs none")
    attention = {"attn_implementation": "sdpa" if is_gpu else "eager"}  # a quarter faster on a CPU
    if quantization == "none":
        return attention
    if not is_gpu:
        raise UserError("quantization=4bit needs a GPU; without one take quantization=none")
    if find_spec("bitsandbytes") is None:
        remedy = "pip install bitsandbytes, or quantization=none"
        raise UserError(f"quantization=4bit needs bitsandbytes, which is not installed; {remedy}")
    nf4 = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": dtype}
    four_bits = BitsAndBytesConfig(load_in_4bit=True, **nf4, llm_int8_skip_modules=["visual", "lm_head"])
    return {**attention, "quantization_config": four_bits, "device_map": {"": device}}


def _processor(folder: Path, entries: dict[str, Any], pixels: Pixels | None) -> ProcessorMixin:
    if (family := entries["family"]) not in families.FAMILIES:
        reason = f"family {family!r} is of an architecture that cannot be loaded"
        raise UserError(f"{folder}: {reason}; known: {', '.join(families.FAMILIES)}")
    try:
        kind = getattr(transformers, families.FAMILIES[family].processor_class)
        processor = kind.from_pretrained(folder, **_LOCAL)
    except _LOAD_ERRORS as error:
        raise UserError(f"the processor of {folder} cannot be loaded: {adapters.reason(error)}") from error
    processor.tokenizer.padding_side = "left"
    if entries["kind"] == "released":
        if switch := families.FAMILIES[family].switch:
            processor.chat_template = _switched_off(processor.chat_template, switch)
        _close_think(processor, folder)
        if pixels is not None:
            _set_pixels(processor, pixels, family)
    return processor


def _set_pixels(processor: ProcessorMixin, pixels: Pixels, family: str) -> None:
    (fewest, most), unit = pixels, BOX_FORMATS[family].unit
    if not fewest <= most or most < unit**2:
        need = f"a budget of at least one unit of {unit} x {unit} pixels is needed"
        raise UserError(f"min_pixels {fewest} and max_pixels {most}: {need}")
    for part in (processor.image_processor, processor.video_processor):
        frames = families.FAMILIES[family].frames
        part.size = {"shortest_edge": fewest * frames, "longest_edge": most * frames}


def _switched_off(template: str, switch: str) -> str:
    """A chat template with thinking off whose final answer follows the prompt word for word, then ends.

    Such templates rearrange what an answer reasons, which ours write themselves, and some end it by nothing.
    """
    off = f"{{%- set {switch} = false %}}{{%- set last = messages[-1] %}}"
    is_answer = "{%- if last.role == 'assistant' %}"
    before = "{%- set messages = messages[:-1] %}{%- set add_generation_prompt = true %}{%- endif -%}"
    answer = "{%- for part in last.content %}{{ part.text if part is mapping else part }}{% endfor %}"
    return off + is_answer + before + template + is_answer + answer + "{{ eos_token }}{% endif %}"


def _close_think(processor: ProcessorMixin, folder: Path) -> None:
    """Removes <think> from the end of a prompt: completions here begin with it themselves."""
    chat = [{"role": "user", "content": "?"}]
    for _ in range(2):  # as it is, and closed
        text = processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        if not text.rstrip().endswith("<think>"):
            return
        processor.chat_template = processor.chat_template.replace(r"assistant\n<think>\n", r"assistant\n")
    problem = "ends a prompt with <think>, which answers here write themselves"
    raise UserError(f"the chat template of {folder} {problem}; take it out there")


def _target(processor: ProcessorMixin, family: str, wording: prompts.Wording) -> Target:
    size, frames = processor.image_processor.size, families.FAMILIES[family].frames
    return Target(family, size["shortest_edge"] // frames, size["longest_edge"] // frames, wording)


def _silence() -> None:
    """Turns off progress bars and warnings of transformers: what matters of them is checked here."""
    logging.disable_progress_bar()
    logging.set_verbosity_error()
