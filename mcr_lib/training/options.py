"""Every option that changes a training result: value, origin and reason; names are TRL's, except `OURS`.

Nothing is left to TRL's own defaults: they change between releases, and differ from ms-swift's, with which
the paper was trained. Origins: "paper" (`data/paper_facts.yaml`), "ms-swift" (its documented default), "TRL"
(its default in 1.16) or "ours".
"""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median, pstdev
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo

from mcr_lib.data.validation import did_you_mean, first_error
from mcr_lib.errors import UserError
from mcr_lib.prompts import Kind
from mcr_lib.rewards import DEFAULTS, NAMES, SIGMA, WEIGHTS, Reasoning, RewardKind, Rewards

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Dtype = Literal["float32", "bfloat16", "float16"]
Port = Annotated[int, Field(ge=1, le=65535)]
Correction = Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]
Schedule = Literal["linear", "cosine", "constant", "constant_with_warmup"]
Aggregation = Literal["sum_then_normalize", "normalize_then_sum"]
GrpoLoss = Literal["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "vespo"]
Scale = Literal["sum", "share"]
Unit = Literal["pairs", "tweets"]
Spread = Literal["group", "batch", "none"]
Weights = tuple[float, float, float, float, float]
VERDICTS = ("kept", "too even", "never right", "too hard", "too easy")  # of the filter of D2 on a row
_WHY_CORRECTION = "vLLM's sampling distribution differs slightly from the policy"
_WEIGHTS_FROM = "paper (λ1, λ5), ours (λ2–λ4)"
_WHY_GROUPS = "prompts sampled before training, which stops if every group is equal; 0 = no check"


def _of(origin: str, default: Any, why: str = "", **limits: Any) -> Any:
    return Field(default, description=why, json_schema_extra={"origin": origin}, **limits)


class Options(BaseModel):
    """The options that SFT and CVO have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_train_epochs: float = _of("paper", 2.0, "2 for Qwen2.5-VL; 5 of SFT for MiMo-VL", gt=0)
    max_steps: int = _of("ours", -1, "if positive, replaces the epochs; for short runs", ge=-1)
    batch_size: Positive = _of("paper", 16, "rows per update, over all processes and accumulation")
    learning_rate: float = _of("paper", 1e-4, "of LoRA; for full fine-tuning ms-swift has 1e-5", gt=0)
    lr_scheduler_type: Schedule = _of("paper", "cosine")
    warmup_steps: float = _of("ms-swift", 0.0, "updates, or below 1 a share of them", ge=0)
    weight_decay: float = _of("ms-swift", 0.1, ge=0)
    adam_beta1: Share = _of("ms-swift", 0.9)
    adam_beta2: Share = _of("ms-swift", 0.95)
    adam_epsilon: float = _of("TRL", 1e-8, gt=0)
    max_grad_norm: float = _of("ms-swift", 1.0, gt=0)
    optim: Literal["adamw_torch_fused", "adamw_torch"] = _of("TRL", "adamw_torch_fused")
    lora_rank: int = _of("ms-swift", 8, "0 = full fine-tuning; LoRA: paper, rank: silent", ge=0)
    lora_alpha: Positive = _of("ms-swift", 32)
    lora_dropout: Share = _of("ms-swift", 0.05)
    save: Literal["adapter", "merged"] = _of("ours", "adapter", "of LoRA: the adapter, or the whole model")
    train_vision: bool = _of("ms-swift", False, "full fine-tuning: also the vision tower with its merger")
    bf16: bool = _of("ours", False, "mixed precision; for GPUs")
    fp16: bool = _of("ours", False, "mixed precision for GPUs without bfloat16 (T4)")
    weights: Dtype = _of("ours", "float32", "as loaded; 16 bits for LoRA on GPUs, where they stay so")
    quantization: Literal["none", "4bit"] = _of("ours", "none", "of the weights that LoRA does not train")
    min_pixels: Positive | None = _of("ours", None, "of a released model's images; null = the processor's")
    max_pixels: Positive | None = _of("ours", None, "likewise")
    seed: int = _of("ours", 0, "of order, dropout, new adapters and sampling", ge=0)
    per_device_batch_size: Positive = _of("ours", 16, "rows per process at a time; memory, not the result")
    gradient_checkpointing: bool = _of("ours", False, "less memory, slower; not the result")
    shared_prefix: bool = _of("ours", True, "what rows begin with is computed once (prefix); not the result")
    save_steps: Positive = _of("ours", 50, "updates between checkpoints; not the result")

    @property
    def pixels(self) -> tuple[int, int] | None:
        """Fewest and most pixels of an image of a released model; `None` = the processor's."""
        is_set = self.min_pixels is not None and self.max_pixels is not None
        return (self.min_pixels, self.max_pixels) if is_set else None

    def describe(self, origins: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        """A row per option; `origins` are of the values that are not defaults."""
        rows = []
        for name, value in self.model_dump(mode="json").items():
            field = type(self).model_fields[name]
            origin = (origins or {}).get(name, self._origin(name))
            rows.append({"option": name, "value": value, "origin": origin, "why": field.description})
        return rows

    def _origin(self, name: str) -> str:
        return type(self).model_fields[name].json_schema_extra["origin"]

    def for_trl(self) -> dict[str, Any]:
        """The options that TRL has by the same name."""
        return self.model_dump(exclude=set(OURS))


class SftOptions(Options):
    """Supervised fine-tuning on answers or on chains (MRSI)."""

    max_length: Positive | None = _of("ours", None, "TRL's 1024 would cut image tokens")
    completion_only_loss: bool = _of("ms-swift", True, "no loss on the prompt")
    loss_type: Literal["nll", "dft"] = _of("TRL", "nll")
    average_over_tokens: bool = _of("ours", True, "loss over an update's tokens; TRL: mean of means")


class CvoOptions(Options):
    """GRPO with the rewards that check the constraints (CVO)."""

    batch_size: Positive = _of("paper", 64, "answers per update: prompts x num_generations")
    learning_rate: float = _of("paper", 5e-6, "of LoRA", gt=0)
    lr_scheduler_type: Schedule = _of("ms-swift", "cosine", "paper: of MRSI; of CVO silent")
    warmup_steps: float = _of("paper", 0.05, "updates, or below 1 a share of them", ge=0)
    num_generations: int = _of("paper", 8, "answers per prompt, G", ge=2)
    max_completion_length: Positive = _of("ms-swift", 512, "tokens")
    temperature: float = _of("paper", 1.5, "of sampling and of the log-probabilities", gt=0)
    top_k: int = _of("paper", 200, "most tokens sampled from; TRL scores without this cut; 0 = no cut", ge=0)
    top_p: float = _of("paper", 0.95, "mass sampled from, after top_k; likewise; 1 = no cut", gt=0, le=1)
    min_p: Share | None = _of("TRL", None)
    repetition_penalty: float = _of("TRL", 1.0, gt=0)
    beta: float = _of("paper", 0.005, "weight of KL against the start", ge=0)
    use_bias_correction_kl: bool = _of("ours", False, "as in the GRPO paper; TRL's default has changed")
    importance_sampling_level: Literal["token", "sequence"] = _of("ms-swift", "token")
    loss_type: GrpoLoss = _of("paper", "grpo", "divided by the answer's length: Eq. 12; TRL's is dapo")
    sapo_temperature_pos: float = _of("TRL", 1.0, "of sapo alone, as the next", gt=0)
    sapo_temperature_neg: float = _of("TRL", 1.05, gt=0)
    vespo_k_pos: float = _of("TRL", 2.0, "of vespo alone, as the next three", ge=0)
    vespo_lambda_pos: float = _of("TRL", 3.0, ge=0)
    vespo_k_neg: float = _of("TRL", 3.0, ge=0)
    vespo_lambda_neg: float = _of("TRL", 2.0, ge=0)
    scale_rewards: Spread = _of("paper", "group", "advantages are divided by the group's spread: Eq. 11")
    multi_objective_aggregation: Aggregation = _of("TRL", "sum_then_normalize", "R is a sum: paper")
    num_iterations: Positive = _of("ms-swift", 1, "updates per sampled batch")
    epsilon: Share = _of("paper", 0.15, "clipping of the ratio, below")
    epsilon_high: float | None = _of("paper", 0.25, "above; null = as below; of cispo the largest", ge=0)
    delta: float | None = _of("ms-swift", None)
    mask_truncated_completions: bool = _of("ms-swift", False, "a cut answer is wrong, and trained on as such")
    top_entropy_quantile: Share = _of("ms-swift", 1.0)
    entropy_coef: float = _of("TRL", 0.0, ge=0)
    shuffle_dataset: bool = _of("ms-swift", True)
    disable_dropout: bool = _of("TRL", False)
    sync_ref_model: Literal[False] = _of("ms-swift", False)
    cast_lm_head_to_fp32: bool = _of("TRL", False)
    rewards: RewardKind = _of("paper", "paper", "strict = ours (strict_rewards), with σ 0.5 and λ 1")
    reward_weights: Weights = _of(_WEIGHTS_FROM, WEIGHTS, f"λ1..λ5 of {', '.join(NAMES)}")
    sigma: float = _of("paper", SIGMA, "σ, IoU up to which a box earns nothing", ge=0, lt=1)
    reasoning: Reasoning = _of("ours", "free", "what reasoning a reward requires: rewards.Reasoning")
    use_vllm: bool = _of("ours", False, "sampled by a vLLM server with its own GPUs; not exactly repeatable")
    vllm_mode: Literal["server", "colocate"] = _of("ours", "server", "colocate is refused")
    vllm_server_base_url: str | None = _of("ours", None, "replaces host and port")
    vllm_server_host: str = _of("ours", "127.0.0.1")
    vllm_server_port: Port = _of("TRL", 8000)
    vllm_group_port: Port = _of("TRL", 51216, "for new weights to the server")
    vllm_server_timeout: float = _of("TRL", 240.0, "seconds", gt=0)
    vllm_importance_sampling_correction: bool = _of("TRL", True, _WHY_CORRECTION)
    vllm_importance_sampling_mode: Correction = _of("TRL", "sequence_mask")
    vllm_importance_sampling_clip_max: float | None = _of("TRL", 3.0, gt=0)
    vllm_importance_sampling_clip_min: float | None = _of("TRL", None, ge=0)
    check_groups: int = _of("ours", 8, _WHY_GROUPS, ge=0)
    filter_d2: bool = _of("paper", True, "train on the rows of which sampled answers differ enough in R")
    filter_std: float = _of("paper", 0.1, "least standard deviation of R over a row's answers", ge=0)
    filter_max: float = _of("paper", 0.8, "least R of its best answer", ge=0)
    filter_median: tuple[float, float] = _of("paper", (0.08, 0.6), "least and most median of R")
    filter_scale: Scale = _of("ours", "sum", "R of these, paper silent: sum, or share of the weights' sum")
    filter_keeps: Unit = _of("ours", "pairs", "with a pair that passes: itself, or its tweet in every style")
    filter_batch_size: Positive = _of("ours", 16, "answers sampled at a time, per process; memory")

    @pydantic.model_validator(mode="before")
    @classmethod
    def _take_the_defaults_of_the_set(cls, given: dict[str, Any]) -> dict[str, Any]:
        sigma, weights = DEFAULTS["strict" if given.get("rewards") == "strict" else "paper"]
        return {"sigma": sigma, "reward_weights": weights, **given}

    def _origin(self, name: str) -> str:
        is_of_strict = self.rewards == "strict" and name in ("sigma", "reward_weights")
        return "ours" if is_of_strict else super()._origin(name)

    @pydantic.field_validator("vllm_mode")
    @classmethod
    def _refuse_colocate(cls, value: str) -> str:
        if value == "colocate":
            problem = "in the trainer's own process TRL 1.16 expands image tokens twice"
            raise ValueError(f"{problem}; take server, with GPUs of its own")
        return value

    @pydantic.field_validator("loss_type")
    @classmethod
    def _refuse_luspo_of_tokens(cls, value: str, info: ValidationInfo) -> str:
        if value == "luspo" and info.data.get("importance_sampling_level") != "sequence":
            raise ValueError("this loss weighs whole answers; set importance_sampling_level: sequence too")
        return value

    @pydantic.field_validator("filter_median")
    @classmethod
    def _refuse_an_empty_range(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError("the least median stands first, then the most")
        return value

    @property
    def sampling(self) -> dict[str, Any]:
        """How answers are sampled, in training, for its checks and for the filter of D2."""
        names = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
        return {name: getattr(self, name) for name in names}

    def rewarding(self, prompt: Kind) -> dict[str, Any]:
        """Arguments of `rewards.grpo_reward_functions` for a prompt; a direct one requires no reasoning."""
        reasoning = "free" if prompt == "direct" else self.reasoning
        return {"kind": self.rewards, "sigma": self.sigma, "reasoning": reasoning}

    def scaled(self, rewards: Rewards) -> float:
        """R on the scale of the filter's thresholds.

        So that they mean the same for every source, a reward that the source does not annotate counts as the
        weighted mean of the others: R · Σ λ_k / Σ λ_k over the annotated (paper silent; ours).
        """
        total, pairs = rewards.total(self.reward_weights), zip(self.reward_weights, NAMES, strict=True)
        known = [weight for weight, name in pairs if getattr(rewards, name) is not None]
        if self.filter_scale == "share":
            return total / sum(known)
        return total if len(known) == len(NAMES) else total * sum(self.reward_weights) / sum(known)

    def judge(self, totals: Sequence[float]) -> dict[str, Any]:
        """Deviation, maximum and median of a row's R, and the filter's verdict: "kept" or the first reason.

        Example:
            >>> CvoOptions().judge([0.1, 0.3, 0.5, 1.1])
            {'std': 0.374166, 'max': 1.1, 'median': 0.4, 'verdict': 'kept'}
        """
        std, most, middle = (round(of(totals), 6) for of in (pstdev, max, median))  # 0.3 + 0.3 + 0.2 is 0.8
        low, high = self.filter_median
        applies = (std < self.filter_std, most < self.filter_max, middle < low, middle > high)
        reasons = (reason for reason, is_so in zip(VERDICTS[1:], applies, strict=True) if is_so)
        return {"std": std, "max": most, "median": middle, "verdict": next(reasons, "kept")}

    def chosen(self, judged: Iterable[Mapping[str, Any]]) -> set[tuple[str, str]]:
        """(id, style) of the rows that CVO trains on, of judged ones.

        Example:
            >>> rows = [{"id": "a", "style": style, "verdict": "kept"} for style in ("terse", "distill")]
            >>> rows[0]["verdict"] = "too easy"
            >>> sorted(CvoOptions().chosen(rows)), len(CvoOptions(filter_keeps="tweets").chosen(rows))
            ([('a', 'distill')], 2)
        """
        keys = [((row["id"], row["style"]), row["verdict"] == "kept") for row in judged]
        ids = {id for (id, _), passes in keys if passes and self.filter_keeps == "tweets"}
        return {key for key, passes in keys if passes or key[0] in ids}

    @property
    def vllm_url(self) -> str:
        """Address of the vLLM server."""
        own = f"http://{self.vllm_server_host}:{self.vllm_server_port}"
        return (self.vllm_server_base_url or own).rstrip("/")


OURS = (  # options that TRL does not have by that name
    "batch_size", "per_device_batch_size", "lora_rank", "lora_alpha", "lora_dropout", "train_vision",
    "weights", "quantization", "min_pixels", "max_pixels", "save", "average_over_tokens", "rewards",
    "sigma", "reasoning", "check_groups", "gradient_checkpointing", "shared_prefix",
    "filter_d2", "filter_std", "filter_max", "filter_median", "filter_scale", "filter_keeps",
    "filter_batch_size",
)  # fmt: skip
WITHOUT_EFFECT = (  # on results, but by rounding and draws: not in a setting's fingerprint
    "per_device_batch_size", "gradient_checkpointing", "shared_prefix", "save_steps", "filter_batch_size",
    "vllm_server_base_url", "vllm_server_host", "vllm_server_port", "vllm_group_port", "vllm_server_timeout",
)  # fmt: skip


def options_of(stage: str, departures: Mapping[str, Any], where: str) -> Options:
    """The options of a stage with departures from the defaults; errors name them by `where`."""
    kind = {"sft": SftOptions, "cvo": CvoOptions}[stage]
    for name in departures:
        if name not in kind.model_fields:
            hint = did_you_mean(name, kind.model_fields)
            raise UserError(f"{where}: unknown option {name!r} of {stage}{hint}")
    try:
        return kind(**departures)
    except ValidationError as error:
        (name, *_), _, reason = first_error(error)
        raise UserError(f"{where}: {name} of {stage} is {departures[name]!r:.60}: {reason}") from error


def batch_shape(options: Options, n_processes: int) -> tuple[int, int]:
    """Rows per process at a time, and accumulation steps: over all processes they make up `batch_size`."""
    per_process, rest = divmod(options.batch_size, n_processes)
    if rest or not per_process:
        shares = f"batch_size {options.batch_size} cannot be shared by {n_processes} processes"
        raise UserError(f"{shares}; take a multiple of their number")
    most = min(options.per_device_batch_size, per_process)
    per_device = max(n for n in range(1, most + 1) if per_process % n == 0)
    return per_device, per_process // per_device
