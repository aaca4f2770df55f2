"""How much memory a GPU needs, estimated from shapes; never compared with a run on a GPU."""

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

from mcr_lib.training import families
from mcr_lib.training.options import CvoOptions, Options, batch_shape

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
FOUR_BITS = 0.516  # bytes per parameter in NF4 with its scales quantised once more (QLoRA: 4 + 0.127 bits)
CUDA_BYTES, FRAGMENTATION = 1.0e9, 1.1  # added, and a factor; ours, a guess


@dataclass(frozen=True)
class Shape:
    """The sizes of a model that its memory depends on; `n_parameters` counts a tied output layer once."""

    n_parameters: int
    hidden: int
    intermediate: int
    n_layers: int
    n_caching: int  # layers that keep keys and values of every token
    queries: int
    keys: int
    vocabulary: int
    linear: tuple[tuple[int, int], ...]  # (inputs, outputs) of the language model's linear layers

    @classmethod
    def of(cls, config: Mapping[str, Any], n_parameters: int) -> "Shape":
        """The shape in a model's config.json, old form or new."""
        text = config.get("text_config") or config
        heads = text["num_attention_heads"]
        size = text.get("head_dim") or text["hidden_size"] // heads
        sizes = [text[name] for name in ("hidden_size", "intermediate_size", "num_hidden_layers")]
        n_keys = (text.get("num_key_value_heads") or heads) * size
        n_caching, linear = families.layer_types(text).count("full_attention"), families.linear_sizes(text)
        return cls(n_parameters, *sizes, n_caching, heads * size, n_keys, text["vocab_size"], tuple(linear))

    @property
    def n_linear(self) -> int:
        """Parameters of the linear layers of the language model, without biases."""
        return sum(inputs * outputs for inputs, outputs in self.linear)

    def n_lora(self, rank: int) -> int:
        """Parameters of a LoRA on these layers: rank x (inputs + outputs) of each."""
        return rank * sum(inputs + outputs for inputs, outputs in self.linear)

    def weights(self, dtype: str, quantization: str) -> float:
        """Bytes of the weights as loaded."""
        if quantization == "none":
            return float(self.n_parameters * BYTES[dtype])
        return self.n_linear * FOUR_BITS + (self.n_parameters - self.n_linear) * BYTES[dtype]

    def rollout(self, rows: int, prompt_tokens: int, completion_tokens: int, dtype: str) -> float:
        """Bytes of generating `rows` answers at once: keys and values, and the prompts in one layer."""
        keys_and_values = (prompt_tokens + completion_tokens) * self.n_caching * 2 * self.keys
        prompt_pass = prompt_tokens * (3 * self.intermediate + 4 * self.hidden)
        return float(rows * (keys_and_values + prompt_pass) * BYTES[dtype])


@dataclass(frozen=True)
class Estimate:
    """Bytes on one GPU, by purpose."""

    weights: float
    trained: float
    update: float
    rollout: float

    @property
    def total(self) -> float:
        """The peak, overhead included."""
        return (self.weights + self.trained + max(self.update, self.rollout)) * FRAGMENTATION + CUDA_BYTES

    def summary(self) -> str:
        """In GB, such as "27.4 GB: weights 16.0, trained 1.0, an update 5.0, a rollout 7.0"."""
        parts = zip(("weights", "trained", "an update", "a rollout"), astuple(self), strict=True)
        listed = ", ".join(f"{name} {value / 1e9:.1f}" for name, value in parts if value)
        return f"{self.total / 1e9:.1f} GB: {listed}"


def of_stage(
    shape: Shape, options: Options, *, n_processes: int, prompt_tokens: int, completion_tokens: int
) -> Estimate:
    """Memory of training on each GPU."""
    rows, _ = batch_shape(options, n_processes)
    size = 2 if options.bf16 or options.fp16 else BYTES[options.weights]
    tokens = prompt_tokens + completion_tokens
    is_cvo = isinstance(options, CvoOptions)
    # values that a layer stores per token, about; with gradient checkpointing the others store their input
    layer = 8 * shape.hidden + 3 * (shape.queries + shape.keys) + 4 * shape.intermediate
    others = shape.n_layers * shape.hidden if options.gradient_checkpointing else (shape.n_layers - 1) * layer
    logits = completion_tokens if is_cvo else tokens  # as float32, with a gradient
    update = rows * (tokens * (others + layer) * size + logits * shape.vocabulary * (size + 8))
    sampled = options.batch_size // n_processes if is_cvo and not options.use_vllm else 0  # at once, as TRL
    if is_cvo and options.filter_d2:
        sampled = max(sampled, options.filter_batch_size)
    rollout = shape.rollout(sampled, prompt_tokens, completion_tokens, options.weights)
    weights = shape.weights(options.weights, options.quantization)
    if options.lora_rank:  # in float32: value, gradient, two moments of AdamW
        return Estimate(weights, 16.0 * shape.n_lora(options.lora_rank), update, rollout)
    copies = 3 + (is_cvo and options.beta > 0)  # gradient, two moments; the reference of KL
    return Estimate(weights, copies * weights, update, rollout)


def of_answers(
    shape: Shape, *, dtype: str, quantization: str, rows: int, prompt_tokens: int, completion_tokens: int
) -> Estimate:
    """Memory of answering on a GPU, `rows` tweets at a time."""
    rollout = shape.rollout(rows, prompt_tokens, completion_tokens, dtype)
    return Estimate(shape.weights(dtype, quantization), 0.0, 0.0, rollout)
