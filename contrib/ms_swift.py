"""The settings of a profile for ms-swift, with which the paper was trained: rows, rewards and commands.

    python contrib/ms_swift.py --profile NAME [--run DIR] [--setting NAME] --out DIR

    OUT/<setting>.jsonl        rows in ms-swift's format: messages, images, and for GRPO what rewards read
    OUT/<setting>.sh           swift sft or swift rlhf --rlhf_type grpo, with the profile's options as flags
    OUT/rewards_<setting>.py   the five rewards as a plug-in of ms-swift; imports mcr_lib.rewards
    OUT/filter_<setting>.py    the filter of D2, run by the script on answers of `swift sample`

Boxes are written as the family of the backbone speaks: for Qwen2.5-VL in pixels of the image as resized, so
the commands set the pixel budget that the rows were written for. Row format, plug-in interface and flags are
those of ms-swift's documentation (4.6); nothing here imports it. What a `swift` command would do differently
is listed in NOT_CARRIED, and noted in the script where a profile departs from it.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mcr_lib.data import mrsi
from mcr_lib.data.files import write_text
from mcr_lib.errors import UserError
from mcr_lib.rewards import NAMES
from mcr_lib.study.runs import config, setting
from mcr_lib.study.runs.settings import Study
from mcr_lib.training import cards, families
from mcr_lib.training.options import CvoOptions, Options, SftOptions

MODEL_TYPES = {
    "qwen2.5-vl": ("qwen2_5_vl", "qwen2_5_vl"),
    "mimo-vl": ("qwen2_5_vl", "mimo_vl"),
    "qwen3-vl": ("qwen3_vl", "qwen3_vl"),
}
"""Family -> ms-swift's model_type and template."""

PLACEHOLDERS = ("<image>", "<video>", "<audio>", "<bbox>", "<ref-object>")
"""What ms-swift replaces wherever it stands in a message."""

SAME = (
    "num_train_epochs", "learning_rate", "lr_scheduler_type", "weight_decay", "adam_beta1", "adam_beta2",
    "adam_epsilon", "max_grad_norm",
    "optim", "seed", "bf16", "fp16", "gradient_checkpointing", "save_steps", "max_length", "num_generations",
    "max_completion_length",
    "temperature", "top_p", "min_p", "repetition_penalty", "beta", "num_iterations", "epsilon",
    "epsilon_high", "delta",
    "importance_sampling_level", "top_entropy_quantile", "sync_ref_model",
)  # fmt: skip
"""Options that ms-swift has by the same name and meaning."""

TRANSLATED = (
    "max_steps", "batch_size", "per_device_batch_size", "warmup_steps", "lora_rank", "lora_alpha",
    "lora_dropout", "train_vision",
    "weights", "quantization", "min_pixels", "max_pixels", "loss_type", "scale_rewards",
    "multi_objective_aggregation", "top_k",
    "shuffle_dataset", "mask_truncated_completions", "reward_weights", "sigma", "reasoning",
    "rewards", "filter_d2", "filter_std", "filter_max", "filter_median", "filter_scale", "use_vllm",
    "vllm_mode", "vllm_server_base_url", "vllm_server_host", "vllm_server_port", "vllm_group_port",
    "vllm_server_timeout",
    "vllm_importance_sampling_correction", "vllm_importance_sampling_mode",
    "vllm_importance_sampling_clip_max",
)  # fmt: skip
"""Options that become other flags, or go into the plug-in or the shell."""

NOT_CARRIED = {
    "completion_only_loss": "its loss is on the answer alone",
    "average_over_tokens": "it averages the loss in its own way",
    "use_bias_correction_kl": "its KL term has no such correction",
    "entropy_coef": "it adds no entropy term",
    "disable_dropout": "it keeps dropout",
    "cast_lm_head_to_fp32": "it keeps the dtype of the weights",
    "filter_keeps": "the filter script keeps pairs",
    "shared_prefix": "it trains on rows one by one",
    "check_groups": "it samples nothing before training",
    "filter_batch_size": "swift sample has its own",
    **dict.fromkeys(("sapo_temperature_pos", "sapo_temperature_neg"), "it has its own value"),
    **dict.fromkeys(
        ("vespo_k_pos", "vespo_lambda_pos", "vespo_k_neg", "vespo_lambda_neg"), "it has no vespo"
    ),
    "save": "adapter and merged model are both kept",
    "vllm_importance_sampling_clip_min": "it bounds the ratio from above alone",
}
"""Options that have no counterpart, and what ms-swift does."""


def export(study: Study, out: str | Path, name: str | None = None) -> list[Path]:
    """Write rows, plug-in and commands of the settings that train.

    Args:
        name: of a setting; it and what it starts from; `None` = all.

    Returns:
        The files, in the order in which they are used.

    Raises:
        UserError: no such setting or none that trains, no tweet, a family that is not known here, or a tweet
            with a placeholder in it.
    """
    wanted = setting.lineage(study.settings, name) if name else list(study.settings)
    trained = [each for each in wanted if study[each].stage != "none"]
    if not trained:
        raise UserError(f"nothing to export: {name or 'the profile'} trains no model")
    out, family = Path(out), family_of(study)
    if cards.is_hub_name(study.backbone):
        study.target = mrsi.Target(
            family, *study.pixels, "full"
        )  # of a released model, whose files need not be here
    paths = []
    for each in trained:
        options, _ = study.options(each)
        rows = study.rows(each)
        if not rows:
            raise UserError(
                f"setting {each} has no tweet to train on; its tweets are those of {study[each].part} that"
                " have an image"
            )
        texts = {
            f"{each}.jsonl": "".join(json.dumps(swift_row(row), ensure_ascii=False) + "\n" for row in rows)
        }
        if isinstance(options, CvoOptions):
            texts[f"rewards_{each}.py"] = plugin(options.rewarding(study[each].prompt))
            if options.filter_d2:
                texts[f"filter_{each}.py"] = filter_script(each, options, study[each].prompt)
        texts[f"{each}.sh"] = script(study, each, options, family)
        for file_name, text in texts.items():
            paths.append(out / file_name)
            write_text(paths[-1], text)
        paths[-1].chmod(0o755)
    return paths


def swift_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of `mrsi.sft_rows` or `mrsi.grpo_rows` in ms-swift's format: text with `<image>` where an image
    stands, paths, other columns.

    Raises:
        UserError: the text itself holds a placeholder.
    """
    messages = [
        {"role": m["role"], "content": _content(m["content"], row["id"])}
        for m in [*row["prompt"], *row.get("completion", ())]
    ]
    images = [str(Path(path).resolve()) for path in row["images"]]
    more = {key: row[key] for key in ("gold", "model_size", "family") if key in row}
    return {"messages": messages, "images": images, **more}


def flags(options: Options, family: str) -> list[tuple[str, str]]:
    """The options of a stage as flags of ms-swift, without the leading dashes, values quoted for a shell.

    Example:
        >>> dict(flags(CvoOptions(beta=0.1), "qwen2.5-vl"))["beta"]
        '0.1'
    """
    given = options.model_dump()
    found = [(key, given[key]) for key in SAME if given.get(key) is not None]
    found += [("max_steps", options.max_steps)] if options.max_steps > 0 else []
    found += [("warmup_ratio" if options.warmup_steps < 1 else "warmup_steps", options.warmup_steps)]
    if options.lora_rank:
        found += [
            ("tuner_type", "lora"),
            *((key, given[key]) for key in ("lora_rank", "lora_alpha", "lora_dropout")),
        ]
        found += [("target_regex", f"^{families.FAMILIES[family].lora_targets}$")]
    else:
        found += [
            ("tuner_type", "full"),
            ("freeze_vit", not options.train_vision),
            ("freeze_aligner", not options.train_vision),
        ]
    found += [("torch_dtype", options.weights)]
    found += [("quant_method", "bnb"), ("quant_bits", 4)] if options.quantization == "4bit" else []
    found += (
        _of_cvo(options)
        if isinstance(options, CvoOptions)
        else [("enable_dft_loss", options.loss_type == "dft")]
    )
    return [(key, _written(value)) for key, value in found]


def _of_cvo(options: CvoOptions) -> list[tuple[str, Any]]:
    is_each_scaled = options.multi_objective_aggregation == "normalize_then_sum"
    return [
        ("loss_type", options.loss_type),
        ("advantage_estimator", "grpo"),
        ("kl_in_reward", False),
        ("scale_rewards", "gdpo" if is_each_scaled else options.scale_rewards),
        ("top_k", options.top_k or -1),
        ("dataset_shuffle", options.shuffle_dataset),
        ("overlong_filter", options.mask_truncated_completions),
        ("reward_funcs", [f"mcr_{name}" for name in NAMES]),
        ("reward_weights", options.reward_weights),
        ("log_completions", True),
        *_of_vllm(options),
    ]


def _of_vllm(options: CvoOptions) -> list[tuple[str, Any]]:
    if not options.use_vllm:
        return []
    found = [("use_vllm", True), ("vllm_mode", options.vllm_mode), ("vllm_server_base_url", options.vllm_url)]
    found += [
        ("vllm_server_group_port", options.vllm_group_port),
        ("vllm_server_timeout", options.vllm_server_timeout),
    ]
    if options.vllm_importance_sampling_correction:
        found += [("rollout_importance_sampling_mode", options.vllm_importance_sampling_mode)]
    if options.vllm_importance_sampling_correction and options.vllm_importance_sampling_clip_max is not None:
        found += [("rollout_importance_sampling_threshold", options.vllm_importance_sampling_clip_max)]
    return found


def script(study: Study, name: str, options: Options, family: str) -> str:
    """The shell script that trains a setting and leaves `output/<setting>-model`, and of LoRA
    `output/<setting>-adapter`.
    """
    is_sft, (model_type, template), start = (
        isinstance(options, SftOptions),
        MODEL_TYPES[family],
        _start(study, name, options),
    )
    given = [(key, _written(value)) for key, value in start]
    given += [("model_type", model_type), ("template", template)]
    is_filtered = not is_sft and options.filter_d2
    given += [("dataset", f"{name}{'_kept' * is_filtered}.jsonl")]
    given += [] if is_sft else [("external_plugins", f"rewards_{name}.py")]
    given += [
        ("output_dir", f"output/{name}"),
        ("add_version", "false"),
        ("eval_strategy", "no"),
        ("save_total_limit", "2"),
    ]
    given += [
        ("logging_steps", "1"),
        ("per_device_train_batch_size", '"$rows"'),
        ("gradient_accumulation_steps", '"$accumulation"'),
    ]
    given += flags(options, family)
    command = "swift sft" if is_sft else "swift rlhf --rlhf_type grpo"
    notes = [f"# Not carried over: {departure}" for departure in not_carried(options)]
    if not is_sft:
        served = (
            f"beforehand, on other GPUs: swift rollout --model {_written(dict(start)['model'])} --port"
            f" {options.vllm_server_port}"
        )
        notes.append(
            f"# Rollouts by vLLM: {served if options.use_vllm else '--use_vllm true --vllm_mode colocate'}"
        )
    return _SCRIPT.format(
        name=name, profile=Path(study.loaded.profile).name.removesuffix(".yaml"),
        notes="".join(f"{note}\n" for note in notes),
        filtered=_filtered(name, options, start, (model_type, template)) if is_filtered else "",
        n_processes=study.config.n_processes or 1, smallest=study.target.min_pixels,
        largest=study.target.max_pixels,
        batch=options.batch_size, rows=options.per_device_batch_size,
        command=" \\\n  ".join([command, *(f"--{key} {value}" for key, value in given), '"$@"']),
        handed_over=(_MERGED if options.lora_rank else _WHOLE).format(name=name),
    )  # fmt: skip


_SCRIPT = """#!/usr/bin/env bash
# Setting {name} of profile {profile} by ms-swift, with the flags of its documentation (4.6). Written by
# contrib/ms_swift.py; nobody has run it yet.
# What follows the name of this script goes to swift as well.
{notes}set -euo pipefail
cd "$(dirname "$0")"
export NPROC_PER_NODE="${{NPROC_PER_NODE:-{n_processes}}}"
# The boxes in {name}.jsonl are written for images resized to within this budget.
export MIN_PIXELS={smallest} MAX_PIXELS={largest}
batch={batch} rows={rows}  # per update, and of one process at a time
accumulation=$((batch / (rows * NPROC_PER_NODE)))
if ((accumulation * rows * NPROC_PER_NODE != batch)); then
  echo "$NPROC_PER_NODE processes of $rows rows do not make up a batch of $batch" >&2
  exit 2
fi
{filtered}{command}
newest="$(find output/{name} -maxdepth 1 -name 'checkpoint-*' | sort -V | tail -n 1)"
{handed_over}
"""
_FILTERED = """if [ ! -s {name}_kept.jsonl ]; then
  {sample}
  "${{PYTHON:-python}}" filter_{name}.py {name}.jsonl samples_{name}.jsonl > {name}_kept.part
  mv {name}_kept.part {name}_kept.jsonl
fi
"""
_WHOLE = 'ln -sfn "$PWD/$newest" output/{name}-model'
_MERGED = """ln -sfn "$PWD/$newest" output/{name}-adapter
swift export --adapters "$newest" --merge_lora true --output_dir output/{name}-model"""


def _filtered(name: str, options: CvoOptions, start: Sequence[tuple[str, str]], kind: tuple[str, str]) -> str:
    """The lines that sample from the start and filter; flags of `swift sample` are of its documentation."""
    given = [(key, value) for key, value in start if key != "ref_adapters"]
    given += [("model_type", kind[0]), ("template", kind[1]), ("dataset", f"{name}.jsonl")]
    given += [("sampler_engine", "vllm"), ("num_return_sequences", options.num_generations)]
    given += [("n_best_to_keep", options.num_generations), ("max_new_tokens", options.max_completion_length)]
    given += [("temperature", options.temperature), ("top_p", options.top_p), ("top_k", options.top_k or -1)]
    given += [("output_dir", "."), ("output_file", f"samples_{name}.jsonl"), ("resume", "true")]
    sample = " \\\n    ".join(["swift sample", *(f"--{key} {_written(value)}" for key, value in given)])
    return _FILTERED.format(name=name, sample=sample)


def filter_script(name: str, options: CvoOptions, prompt: str) -> str:
    """The source of the filter of D2 (paper, App. D.3) on answers that ms-swift sampled."""
    departures = options.model_dump(mode="json", exclude_defaults=True)
    return f'''"""Keeps the rows of {name}.jsonl on which the start mostly fails and sometimes succeeds.

    python filter_{name}.py {name}.jsonl SAMPLES.jsonl > {name}_kept.jsonl

SAMPLES: rows of `swift sample`, each with the messages of a row and an answer as the last one.
"""

import json
import sys
from collections import Counter, defaultdict

from mcr_lib.rewards import NAMES, Rewards, grpo_reward_functions
from mcr_lib.training.options import CvoOptions

OPTIONS = CvoOptions(**json.loads({json.dumps(departures)!r}))
REWARDS = grpo_reward_functions(**OPTIONS.rewarding({prompt!r}))


def key(messages, row):
    images = [image["path"] if isinstance(image, dict) else image for image in row.get("images") or ()]
    return json.dumps([[message["content"] for message in messages], images])


def verdict(row, answers):
    columns = {{name: [row[name]] * len(answers) for name in ("gold", "model_size", "family")}}
    earned = zip(*(reward(completions=answers, **columns) for reward in REWARDS), strict=True)
    totals = [OPTIONS.scaled(Rewards(**dict(zip(NAMES, five, strict=True)))) for five in earned]
    return OPTIONS.judge(totals)["verdict"]


rows, samples = ([json.loads(line) for line in open(path, encoding="utf-8")] for path in sys.argv[1:3])
answers = defaultdict(list)
for sample in samples:
    answers[key(sample["messages"][:-1], sample)].append(sample["messages"][-1]["content"])
counts = Counter()
for row in rows:
    sampled = answers[key(row["messages"], row)]
    of_row = verdict(row, sampled) if len(sampled) > 1 else "without answers"
    counts[of_row] += 1
    if of_row == "kept":
        print(json.dumps(row, ensure_ascii=False))
print(", ".join(f"{{n}} {{name}}" for name, n in counts.most_common()), file=sys.stderr)
if not counts["kept"]:
    sys.exit("the filter of D2 keeps no row: {name}_kept.jsonl would be empty")
'''


def not_carried(options: Options) -> list[str]:
    """What a profile departs in that ms-swift has no flag for.

    Example:
        >>> not_carried(CvoOptions(entropy_coef=0.1))
        ['entropy_coef=0.1 (it adds no entropy term)']
    """
    fields = type(options).model_fields
    departed = [key for key in NOT_CARRIED if key in fields and getattr(options, key) != fields[key].default]
    return [f"{key}={_written(getattr(options, key))} ({NOT_CARRIED[key]})" for key in departed]


def plugin(rewarding: Mapping[str, Any]) -> str:
    """The source of the plug-in: one reward function per constraint, the same that TRL gets."""
    given = ", ".join(f"{key}={json.dumps(value)}" for key, value in rewarding.items())
    return f'''"""The rewards of CVO for ms-swift: R_c, R_s, R_t, R_u, R_e.

Their names are mcr_count, mcr_span, mcr_type, mcr_grounding, mcr_entailment:

    swift rlhf --rlhf_type grpo --external_plugins plugin.py --reward_funcs mcr_count mcr_span ...

Needs mcr_lib beside ms-swift: pip install the repository, which brings no torch.
Rows hold gold, model_size and family.
"""

from mcr_lib.rewards import grpo_reward_functions

try:
    from swift.rewards import ORM, orms
except ImportError:  # ms-swift 3
    from swift.plugin import ORM, orms


def register(reward):
    """Make one of the five a reward function of ms-swift, under its own name."""

    class Reward(ORM):
        def __call__(self, completions, gold, model_size, family, **_):
            return reward(completions=completions, gold=gold, model_size=model_size, family=family)

    Reward.__name__ = reward.__name__.replace("reward_", "mcr_")  # what ms-swift logs
    orms[Reward.__name__] = Reward


for function in grpo_reward_functions({given}):
    register(function)
'''


def family_of(study: Study) -> str:
    """The family of the profile's backbone.

    Raises:
        UserError: ms-swift's name for it is not known here.
    """
    published = families.PUBLISHED.get(study.backbone)
    family = published.family if published else study.config.family
    if family not in MODEL_TYPES:
        raise UserError(
            f"family {family} has no counterpart in ms-swift that is known here; choose one of"
            f" {', '.join(MODEL_TYPES)}"
        )
    return family


def _start(study: Study, name: str, options: Options) -> list[tuple[str, str]]:
    """The flags that say which model a setting starts from; settings that train nothing are passed over."""
    start = study[name].start
    while start != setting.BACKBONE and study[start].stage == "none":
        start = study[start].start
    if start == setting.BACKBONE:
        return [
            ("model", study.backbone),
            *([("use_hf", "true")] if cards.is_hub_name(study.backbone) else []),
        ]
    before, _ = study.options(start)
    if not (options.lora_rank and before.lora_rank):
        return [("model", f"output/{start}-model")]
    base = [(key, value) for key, value in _start(study, start, before) if key in ("model", "use_hf")]
    return [
        *base,
        *(
            (key, f"output/{start}-adapter")
            for key in ("adapters", "ref_adapters")[: 1 + isinstance(options, CvoOptions)]
        ),
    ]


def _content(parts: str | Sequence[Mapping[str, str]], id: str) -> str:
    texts = [parts] if isinstance(parts, str) else [part["text"] for part in parts if part["type"] == "text"]
    if held := [word for word in PLACEHOLDERS for text in texts if word in text]:
        raise UserError(
            f"tweet {id} holds {held[0]!r}, which ms-swift would take for a placeholder; leave the tweet out"
        )
    if isinstance(parts, str):
        return parts
    return "".join("<image>" if part["type"] == "image" else part["text"] for part in parts)


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return (
        " ".join(map(_written, value))
        if isinstance(value, list | tuple)
        else f"{value:g}"
        if isinstance(value, float)
        else shlex.quote(str(value))
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Write the files and return the exit code: 0, or 2 for a mistake of the user."""
    parser = argparse.ArgumentParser(
        prog="python contrib/ms_swift.py",
        description=(
            "Writes, per setting, SETTING.jsonl (rows), rewards_SETTING.py (the five rewards as a plug-in,"
            " for GRPO) and SETTING.sh (the command, with the options of the profile). Run the scripts in the"
            " order in which they are printed."
        ),
    )
    parser.add_argument(
        "--profile", metavar="NAME", help="of notebooks/profiles, or a yaml file (default: that of --run)"
    )
    parser.add_argument("--run", metavar="DIR", dest="folder", help="run folder (default: outputs/NAME)")
    parser.add_argument(
        "--setting", metavar="NAME", help="it and what it starts from (default: all that are trained)"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="where the files go")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="pairs",
        help="override a key; repeatable",
    )
    try:
        for path in _exported(parser.parse_args(argv)):
            print(path)
    except UserError as error:
        print(f"ms_swift: {error}", file=sys.stderr)
        return 2
    return 0


def _exported(arguments: argparse.Namespace) -> list[Path]:
    folder = arguments.folder and Path(arguments.folder).absolute()
    if arguments.profile is None and folder is None:
        raise UserError("nothing to export; give --profile NAME, or --run DIR with the folder of a run")
    profile = arguments.profile or str(folder / "profile.yaml")
    if arguments.profile is None and not Path(profile).is_file():
        raise UserError(f"{folder} holds no profile.yaml, so no run was made there; give --profile NAME too")
    study = Study(config.load(profile, folder, config.parse_set(arguments.pairs)))
    return export(study, arguments.out, arguments.setting)


if __name__ == "__main__":
    sys.exit(main())
