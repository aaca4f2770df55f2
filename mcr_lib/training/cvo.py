"""CVO: GRPO with rewards that check the constraints, as a thin set-up of TRL's GRPOTrainer.

Options and their origins: `options.CvoOptions`; rewards and λ: `rewards`; checks before training:
`preflight`; resume, curves, checkpoints: `loop`. Every sampled answer is written to `rollouts.parquet` with
its rewards and its advantage.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.utils.data import Sampler
from trl import GRPOConfig, GRPOTrainer

from mcr_lib import prompts
from mcr_lib.answer import parse_answer
from mcr_lib.data.files import written_whole
from mcr_lib.errors import UserError
from mcr_lib.rewards import NAMES, Rewards, completion_text, grpo_reward_functions, worthless
from mcr_lib.schema import Example
from mcr_lib.training import adapters, cards, loop, preflight
from mcr_lib.training.backbones import Backbone
from mcr_lib.training.options import CvoOptions

CURVES = {
    "loss": "loss", "reward": "reward", "reward_std": "reward_std",
    **{f"rewards/reward_{name}/{kind}": f"{name}_{kind}" for name in NAMES for kind in ("mean", "std")},
    "frac_reward_zero_std": "equal_groups", "completions/clipped_ratio": "truncated",
    "completions/mean_length": "length", "kl": "kl", "entropy": "entropy",
    "clip_ratio/region_mean": "clipped", "grad_norm": "grad_norm", "learning_rate": "learning_rate",
    "epoch": "epoch",
}  # fmt: skip
"""TRL's name -> ours, of the columns of `log.jsonl` beside step, n_steps and seconds.

reward is R = Σ λ_k R_k; equal_groups the share of groups without spread in R; truncated the share of answers
cut at the maximum length; length in tokens; kl and entropy in nats per token.
"""


@adapters.quiet()
def train(
    start: str,
    rows: loop.Rows,
    folder: str | Path,
    options: CvoOptions,
    *,
    prompt: prompts.Kind,
    device: str | None = None,
    progress: loop.Progress | None = None,
    card: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Trains a backbone by GRPO on rows of `mrsi.grpo_rows`; arguments and report as of `sft.train`.

    `start` is also the reference model of KL. `options.reasoning` applies if `prompt` asks for reasoning. The
    folder also gets `rollouts.parquet`.

    Raises:
        UserError: as `sft.train`; groups that are all equal, or no vLLM server where one is to sample.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    check_server(start, options)
    backbone, checkpoint = loop.started(start, folder, options, device)
    checks = preflight.check_rows(backbone, rows, max_completion_length=options.max_completion_length)
    checks |= preflight.check_gold(backbone, rows, options)
    if checkpoint is None:
        checks |= preflight.check_groups(backbone, rows, options, prompt=prompt)
    loop.note(folder / "checks.json", checks, is_new=checkpoint is None)
    trainer = make_trainer(backbone, rows, folder, options, prompt=prompt)
    loop.run(trainer, folder, checkpoint, options, curves=CURVES, progress=progress)
    if trainer.accelerator.is_main_process:
        write_rollouts(folder, options)
    trained = replace(backbone, prompt=prompt)
    loop.finish(trainer, trained, folder, start=start, options=options, card=card or {})
    return loop.report(trainer, rows, checks)


def check_server(start: str, options: CvoOptions) -> None:
    """Checks that a vLLM server is there, if the options ask for one.

    Raises:
        UserError: vllm is not installed here, or no server answers; with the command that starts one.
    """
    if not options.use_vllm:
        return
    if find_spec("vllm") is None:
        raise UserError(
            "use_vllm needs vllm, which is not installed; pip install -r requirements-vllm.lock brings what "
            "goes together"
        )
    try:
        with build_opener(ProxyHandler({})).open(f"{options.vllm_url}/health", timeout=10):
            pass
    except (OSError, ValueError) as error:
        served = start
        if adapters.is_adapter(start):  # the server gets the adapter's weights before its first sample
            served = adapters.locate_base(cards.folder_of(start), cards.card(start))
        command = server_command(served, options)
        raise UserError(
            f"no vLLM server answers at {options.vllm_url} ({error}); start one on GPUs of its own: {command}"
        ) from error


def server_command(start: str, options: CvoOptions) -> str:
    """The command that starts a vLLM server as TRL 1.16 needs it, with the image sizes of training.

    Example:
        >>> server_command("outputs/x/settings/mrsi/model", CvoOptions()).split(" --")[:2]
        ['VLLM_SERVER_DEV_MODE=1 vllm serve outputs/x/settings/mrsi/model', 'port 8000']
    """
    pixels = dict(zip(("min_pixels", "max_pixels"), options.pixels, strict=True)) if options.pixels else {}
    processor = f" --mm-processor-kwargs '{json.dumps(pixels)}'" if pixels else ""
    return (
        f"VLLM_SERVER_DEV_MODE=1 vllm serve {start} --port {options.vllm_server_port} "
        '--weight-transfer-config \'{"backend": "nccl"}\' '
        f"--logprobs-mode processed_logprobs --max-logprobs -1{processor}"
    )


def make_trainer(
    backbone: Backbone, rows: loop.Rows, folder: Path, options: CvoOptions, *, prompt: prompts.Kind
) -> GRPOTrainer:
    """The trainer, set up.

    Raises:
        UserError: rows that cannot be trained on, or a batch that prompts or processes cannot share.
    """
    return _Trainer(
        model=backbone.model,
        args=_config(options, folder, backbone.model.device, n_prompts=len(rows)),
        reward_funcs=_noting(options.rewarding(prompt)),
        train_dataset=loop.dataset(rows),
        processing_class=backbone.processor,
        peft_config=loop.lora(options, backbone),
    )


class _Trainer(GRPOTrainer):
    """GRPOTrainer whose order of prompts is a function of seed and epoch.

    When a run continues in a later epoch, the stock sampler starts again with the order of the first one.
    """

    def _get_train_sampler(self, dataset: Any = None) -> Sampler:
        sampler = super()._get_train_sampler(dataset)
        per_epoch = len(sampler) // (self.args.generation_batch_size * self.args.steps_per_generation)
        return _ByEpoch(sampler, lambda: self.args.seed + self.state.global_step // per_epoch)


class _ByEpoch(Sampler):
    """A shuffling sampler that is seeded anew at each iteration."""

    def __init__(self, sampler: Sampler, seed: Callable[[], int]) -> None:
        self.sampler, self.seed = sampler, seed

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[int]:
        if self.sampler.shuffle:
            self.sampler.generator.manual_seed(self.seed())
        yield from self.sampler


def _config(options: CvoOptions, folder: Path, device: torch.device, *, n_prompts: int) -> GRPOConfig:
    n_per_update, rest = divmod(options.batch_size, options.num_generations)
    if rest or n_prompts < n_per_update:
        sizes = f"batch_size {options.batch_size} with num_generations {options.num_generations}"
        raise UserError(
            f"{sizes} and {n_prompts} prompts: an update takes a whole number of groups, and no more than "
            "there are prompts"
        )
    arguments = loop.arguments(options, folder, device)
    n = options.num_iterations
    arguments["save_steps"] = -(-options.save_steps // n) * n  # a run continues where sampling begins
    arguments["reward_weights"] = list(options.reward_weights)
    logs = {"log_completions": True, "num_completions_to_print": 0, "log_multimodal": False}
    return loop.on_one_gpu(GRPOConfig(**arguments, **logs))


def _noting(rewarding: Mapping[str, Any]) -> list[Callable[..., list[float | None]]]:
    """The reward functions; the first one also logs columns of `rollouts.parquet` beside the rewards."""
    first, *others = grpo_reward_functions(**rewarding)
    judged = {key: rewarding[key] for key in ("sigma", "reasoning")}

    def noting(
        *, completions: list, completion_ids: list, id: list, log_extra: Callable, **columns: Any
    ) -> list:
        log_extra("id", list(id))
        log_extra("n_tokens", [len(ids) for ids in completion_ids])
        answers = zip(completions, columns["gold"], strict=True)
        log_extra("worthless", [_worthless(completion_text(c), gold, judged) for c, gold in answers])
        return first(completions=completions, **columns)

    noting.__name__ = first.__name__
    return [noting, *others]


def _worthless(text: str, gold: str, judged: Mapping[str, Any]) -> str:
    example = Example.from_row(json.loads(gold))
    parsed = parse_answer(text, labels=example.labels, constraints=example.constraints)
    return worthless(parsed, example, **judged) or ""


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
        # a batch that was sampled once serves num_iterations updates
        if before is None or not sampled.equals(before):
            rows += [_rollout(row, k, options) for k, row in enumerate(table.to_pylist())]
        before = sampled
    with written_whole(folder / "rollouts.parquet", "wb") as file:
        pq.write_table(pa.Table.from_pylist(rows), file)


def _rollout(row: Mapping[str, Any], k: int, options: CvoOptions) -> dict[str, Any]:
    rewards = {name: None if math.isnan(value := row[f"reward_{name}"]) else value for name in NAMES}
    return {
        "step": row["step"], "group": k // options.num_generations, "id": row["id"],
        "answer": completion_text(row["completion"]), "worthless": row["worthless"],
        "n_tokens": row["n_tokens"], **rewards, "reward": Rewards(**rewards).total(options.reward_weights),
        "advantage": row["advantage"],
    }  # fmt: skip
