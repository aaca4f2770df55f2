"""CVO: GRPO with rewards that check the constraints, as a thin set-up of TRL's GRPOTrainer."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.request import ProxyHandler, build_opener

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.utils.data import Sampler
from trl import GRPOConfig, GRPOTrainer
from trl.trainer import grpo_trainer

from mcr_lib.answer import parse_answer
from mcr_lib.data.files import written_whole
from mcr_lib.errors import UserError
from mcr_lib.prompts import Kind
from mcr_lib.rewards import NAMES, Rewards, completion_text, grpo_reward_functions, worthless
from mcr_lib.schema import Example
from mcr_lib.training import adapters, cards, d2_filter, decode, loop, prefix, preflight
from mcr_lib.training.backbones import Backbone
from mcr_lib.training.loop import Rows
from mcr_lib.training.options import CvoOptions
from mcr_lib.training.pictures import Pictures


@adapters.quiet()
def train(
    start: str, rows: Rows, folder: Path, options: CvoOptions, *, prompt: Kind, device: str | None = None,
    progress: loop.Progress = None, card: loop.Map | None = None,
) -> dict[str, Any]:  # fmt: skip
    """As `sft.train`, by GRPO on rows of `mrsi.grpo_rows`, those that the filter of D2 keeps.

    `start` is also the reference model of KL.
    """
    check_server(start, options)
    backbone, checkpoint = loop.started(start, folder, options, device)
    checks = preflight.check_rows(backbone, rows, max_completion_length=options.max_completion_length)
    checks |= preflight.check_gold(backbone, rows, options)
    if options.filter_d2:
        of_filter = {"prompt": prompt, "start": start, "progress": progress}
        rows, facts = d2_filter.kept(backbone, rows, folder, options, **of_filter)
        checks |= facts
    if checkpoint is None:
        checks |= preflight.check_groups(backbone, rows, options, prompt=prompt)
    loop.note(folder, checks, is_new=checkpoint is None)
    trainer = make_trainer(backbone, rows, folder, options, prompt=prompt)
    loop.run(trainer, folder, checkpoint, options, progress)
    if trainer.accelerator.is_main_process:
        write_rollouts(folder, options)
    loop.save(trainer, replace(backbone, prompt=prompt), folder, start, options, card or {})
    return loop.report(trainer, rows, checks)


def check_server(start: str, options: CvoOptions) -> None:
    """Refuses to go on if a vLLM server is to sample and none answers, with the command that starts it."""
    if not options.use_vllm:
        return
    if options.loss_type == "vespo" and options.vllm_importance_sampling_mode.startswith("sequence"):
        problem = "loss_type vespo weighs the answers of a vLLM server token by token"
        raise UserError(f"{problem}; set vllm_importance_sampling_mode: token_truncate or token_mask")
    if find_spec("vllm") is None:
        problem = "use_vllm needs vllm, which is not installed"
        raise UserError(f"{problem}; pip install -r requirements-vllm.lock brings what goes together")
    try:
        with build_opener(ProxyHandler({})).open(f"{options.vllm_url}/health", timeout=10):
            pass
    except (OSError, ValueError) as error:
        served = start
        if adapters.is_adapter(start):  # the server gets the adapter's weights before its first sample
            served = adapters.locate_base(cards.folder_of(start), cards.card(start))
        remedy = f"start one on GPUs of its own: {server_command(served, options)}"
        raise UserError(f"no vLLM server answers at {options.vllm_url} ({error}); {remedy}") from error


def server_command(start: str, options: CvoOptions) -> str:
    """The command that starts a vLLM server as TRL 1.16 needs it, with the image sizes of training."""
    pixels = dict(zip(("min_pixels", "max_pixels"), options.pixels, strict=True)) if options.pixels else {}
    processor = f" --mm-processor-kwargs '{json.dumps(pixels)}'" if pixels else ""
    serve = f"VLLM_SERVER_DEV_MODE=1 vllm serve {start} --port {options.vllm_server_port}"
    serve += ' --weight-transfer-config \'{"backend": "nccl"}\''
    return f"{serve} --logprobs-mode processed_logprobs --max-logprobs -1{processor}"


def make_trainer(
    backbone: Backbone, rows: Rows, folder: Path, options: CvoOptions, *, prompt: Kind
) -> GRPOTrainer:
    """The trainer, set up."""
    n_per_update, rest = divmod(options.batch_size, options.num_generations)
    if rest or len(rows) < n_per_update:
        sizes = f"batch_size {options.batch_size} with num_generations {options.num_generations}"
        rule = "an update takes a whole number of groups, and no more than there are prompts"
        remedy = "take another batch_size or, where the filter of D2 kept too few, more tweets or a wider one"
        raise UserError(f"{sizes} and {len(rows)} prompts: {rule}; {remedy}")
    n, arguments = options.num_iterations, loop.arguments(options, folder, backbone.model.device)
    arguments["save_steps"] = -(-options.save_steps // n) * n  # a run continues where sampling begins
    arguments["reward_weights"] = list(options.reward_weights)
    logs = {"log_completions": True, "num_completions_to_print": 0, "log_multimodal": False}
    data = loop.dataset(rows, Pictures(backbone.processor, folder / "checkpoints"))
    trainer = _Trainer(
        model=backbone.model, args=loop.on_one_gpu(GRPOConfig(**arguments, **logs)),
        reward_funcs=_noting(options.rewarding(prompt)), train_dataset=data,
        processing_class=backbone.processor, peft_config=loop.lora(options, backbone),
    )  # fmt: skip
    if options.shared_prefix:
        models = filter(None, (trainer.model, trainer.ref_model))
        trainer.shared = prefix.Shared(partial(loop.note, folder, is_new=False), *models)
    trainer.reads_once = options.shared_prefix and decode.can_share(backbone.model)
    return trainer


class _Trainer(GRPOTrainer):
    """GRPOTrainer with `prefix` and `decode`, whose order of prompts is a function of seed and epoch."""

    shared: prefix.Shared | None = None
    reads_once = False

    def log(self, *logs: Any) -> None:
        self.log_completions = bool(self._logs["prompt"])  # with no update left it would empty the last file
        super().log(*logs)

    def _get_train_sampler(self, dataset: Any = None) -> Sampler:
        return _ByEpoch(super()._get_train_sampler(dataset), self)

    def _get_per_token_logps_and_entropies(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        scorer = _without_empty(self.shared(model) if self.shared else model)
        return super()._get_per_token_logps_and_entropies(scorer, *args, **kwargs)

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        by_part = self.loss_type == "bnpo" or self.top_entropy_quantile < 1 or self.entropy_coef
        is_one_update = self.args.steps_per_generation == self.args.gradient_accumulation_steps
        if by_part or not (self.shared and is_one_update):
            return super()._prepare_inputs(generation_batch)
        with patch.object(grpo_trainer, "shuffle_sequence_dict", _in_order):  # order is without effect here
            return super()._prepare_inputs(generation_batch)

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[Any, ...]:
        firsts, self.place = decode.distinct(prompts) if self.reads_once else [range(len(prompts))] * 2
        ids, images, inputs = super()._tokenize_prompts([prompts[k] for k in firsts])
        # of a prompt without images among others TRL 1.16 has None, which the processor refuses
        return [ids[k] for k in self.place], images and [images[k] or [] for k in self.place], inputs

    def _generate_single_turn(self, *asked: Any) -> tuple[Any, ...]:
        if not self.reads_once:
            return super()._generate_single_turn(*asked)
        with patch.object(self.model, "generate", partial(decode.generate, self.model, self.place)):
            return super()._generate_single_turn(*asked)


def _without_empty(model: Callable[..., Any]) -> Callable[..., Any]:
    """The model for a part of a mixed batch: where no row has an image, it gets no empty tensor of pixels."""

    def scored(**batch: Any) -> Any:
        pixels = batch.get("pixel_values")
        empty = () if pixels is None or len(pixels) else ("pixel_values", "image_grid_thw")
        return model(**{name: value for name, value in batch.items() if name not in empty})

    return scored


def _in_order(batch: dict[str, Any]) -> dict[str, Any]:
    torch.randperm(len(batch["prompt_ids"]))  # as TRL, so that what is drawn next is the same
    return batch


class _ByEpoch(Sampler):
    """TRL's sampler, seeded anew at each epoch: by itself it begins a continued run with the first order."""

    def __init__(self, sampler: Sampler, trainer: GRPOTrainer) -> None:
        self.sampler, self.trainer = sampler, trainer

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[int]:
        args, step = self.trainer.args, self.trainer.state.global_step
        if self.sampler.shuffle:
            per_epoch = len(self.sampler) // (args.generation_batch_size * args.steps_per_generation)
            self.sampler.generator.manual_seed(args.seed + step // per_epoch)
        yield from self.sampler


def _noting(rewarding: Mapping[str, Any]) -> list[Callable[..., list[float | None]]]:
    """The reward functions; the first one also logs columns of `rollouts.parquet` beside the rewards."""
    first, *others = grpo_reward_functions(**rewarding)

    def why_worthless(completion: Any, gold: str) -> str:
        example, text = Example.from_row(json.loads(gold)), completion_text(completion)
        parsed = parse_answer(text, labels=example.labels, constraints=example.constraints)
        return worthless(parsed, example, sigma=rewarding["sigma"], reasoning=rewarding["reasoning"]) or ""

    def noting(*, completions, completion_ids, id, log_extra, **columns: Any) -> list[float | None]:
        log_extra("id", list(id))
        log_extra("n_tokens", [len(ids) for ids in completion_ids])
        log_extra("worthless", list(map(why_worthless, completions, columns["gold"])))
        return first(completions=completions, **columns)

    noting.__name__ = first.__name__
    return [noting, *others]


def write_rollouts(folder: Path, options: CvoOptions) -> None:
    """Collects what TRL logged per update in `rollouts.parquet`, a row per sampled answer.

    Columns: step, group (within the step, from 0), id, answer, worthless (why it earns nothing: a defect of
    the answer, or of its reasoning where that counts; "" = it may earn), n_tokens, the five rewards by name
    (null = not annotated), reward (R), advantage.
    """
    rows, before = [], None
    for path in sorted((folder / "checkpoints" / "completions").glob("completions_*.parquet")):
        table = pq.read_table(path)
        sampled = table.drop_columns(["step"])
        if before is None or not sampled.equals(before):  # a batch serves num_iterations updates
            rows += [_rollout(row, k, options) for k, row in enumerate(table.to_pylist())]
        before = sampled
    with written_whole(folder / "rollouts.parquet", "wb") as file:
        pq.write_table(pa.Table.from_pylist(rows), file)


def _rollout(row: Mapping[str, Any], k: int, options: CvoOptions) -> dict[str, Any]:
    values = {name: row[f"reward_{name}"] for name in NAMES}
    rewards = {name: None if v is None or math.isnan(v) else v for name, v in values.items()}
    found = {"step": row["step"], "group": k // options.num_generations, "id": row["id"]}
    found |= {"answer": completion_text(row["completion"]), "worthless": row["worthless"]}
    total = Rewards(**rewards).total(options.reward_weights)
    return {**found, "n_tokens": row["n_tokens"], **rewards, "reward": total, "advantage": row["advantage"]}
