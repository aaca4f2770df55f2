"""One run on one GPU, of at most 8 minutes: what a shared prefix saves at released sizes, against stock TRL.

    python benchmarks/gpu.py --out DIR [--tiny] [--device cpu] [--limit SECONDS] [--models 7B 3B]

Weights are chance, of the published shapes of Qwen2.5-VL, made on the GPU: nothing is downloaded. Training is
LoRA in bfloat16 with gradient checkpointing, as in the profiles, on images of about 1,000 tokens. Each row is
printed when it is measured, and DIR/gpu.json is written anew, so that a run that is cut keeps what it has. A
row that finds too little time left is "not run". --tiny: the same on the smallest shapes, for the CPU.

Stock is TRL's trainer with shared_prefix: false and transformers' way through the vision tower; "vision" is
stock with the tower of `mcr_lib.training.vision`; "shared" has both. P, R, G and what is measured: `updates`.
"""

import argparse
import gc
import json
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import updates
from torch.nn.attention import SDPBackend, sdpa_kernel
from trl import GRPOTrainer

from mcr_lib.study.runs import memory
from mcr_lib.training import adapters, families, preflight, vision
from mcr_lib.training.backbones import Backbone
from mcr_lib.training.options import CvoOptions, SftOptions

HUB = "Qwen/Qwen2.5-VL-{}-Instruct"
G = 8
ROW_S = {"model": 75, "cvo": 40, "exact": 45, "sft": 40, "step": 70, "plain": 40}  # at most
PARTS = ["cvo", "exact", "step", "sft", "plain"]
SIDES = {"stock": (False, False), "vision": (False, True), "shared": (True, True)}  # shares a prefix, tower


class TooLong(Exception):
    """A row's time is over."""


class Report:
    """The rows, printed and written as they come."""

    def __init__(self, out: Path, limit_s: float) -> None:
        self.path, self.began = out / "gpu.json", time.monotonic()
        self.until = self.began + limit_s
        self.facts: dict[str, Any] = updates.versions()
        self.facts |= {"shared_prefix": all(updates.OFFERED.values()), "rows": []}
        out.mkdir(parents=True, exist_ok=True)
        self._write()

    def left(self) -> float:
        """Seconds left for this model."""
        return self.until - time.monotonic()

    def row(self, kind: str, measure: Callable[[], dict[str, Any]], **names: Any) -> dict[str, Any] | None:
        """Measures a row within its budget; `None` if it failed or was not run."""
        began, limit = time.monotonic(), int(min(ROW_S[kind], self.left()))
        row = {**names, "at_s": round(began - self.began, 1)}
        values = None
        if limit < ROW_S[kind] / 3:
            row["not run"] = f"{max(limit, 0)} s left"
        else:
            signal.signal(signal.SIGALRM, _stop)
            signal.alarm(limit)
            try:
                row |= (values := measure())
            except TooLong:
                row["not run"] = f"stopped after {limit} s"
            except torch.OutOfMemoryError:
                row["not run"] = "out of memory"
            except Exception as error:  # the rows after it are worth the rented time
                traceback.print_exc()
                row["not run"] = f"{type(error).__name__}: {error!s:.300}"
            finally:
                signal.alarm(0)
        gc.collect()
        torch.cuda.empty_cache()
        row["row_s"] = round(time.monotonic() - began, 1)
        self.facts["rows"].append(row)
        self._write()
        print("  ".join(f"{key} {_short(value)}" for key, value in row.items()), flush=True)
        return values

    def _write(self) -> None:
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.facts, indent=1))
        part.replace(self.path)


def _stop(*_: Any) -> None:
    raise TooLong


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@adapters.quiet()
def main(arguments: list[str] | None = None) -> int:
    """Measures the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of gpu.json")
    parser.add_argument("--device", default=None, help="cuda or cpu (default: a GPU if there is one)")
    parser.add_argument("--limit", type=float, default=480, help="seconds in all")
    parser.add_argument("--models", nargs="+", default=["7B", "3B"], choices=["3B", "7B"])
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--dtype", help="of weights (default bfloat16; on a CPU float32: 16 bits are slow)")
    parser.add_argument("--tiny", action="store_true", help="smallest shapes, short prompts")
    parser.add_argument("--prompt", type=int, default=None, help="P, tokens (default 1,100; --tiny 100)")
    parser.add_argument("--answer", type=int, default=None, help="R, tokens (default 150; --tiny 8)")
    given = parser.parse_args(arguments)
    device = given.device or ("cuda" if torch.cuda.is_available() else "cpu")
    report = Report(given.out, given.limit)
    print(json.dumps(report.facts), flush=True)
    with tempfile.TemporaryDirectory() as name:
        for k, size in enumerate(given.models, start=1):
            report.until = report.began + given.limit * (k / len(given.models)) ** 0.7  # the first has more
            measure_model(report, size, Path(name), device=device, given=given)
            gc.collect()
            torch.cuda.empty_cache()
    print(*table(report.facts["rows"]), sep="\n", flush=True)
    return 0


def measure_model(
    report: Report, size: str, scratch: Path, *, device: str, given: argparse.Namespace
) -> None:
    """All rows of one shape."""
    made: list[Work] = []

    def make() -> dict[str, Any]:
        published = families.PUBLISHED[HUB.format(size)]
        config = updates.shrunk(published, 3000) if given.tiny else published.config
        dtype = getattr(torch, given.dtype or ("bfloat16" if device == "cuda" else "float32"))
        before = torch.cuda.memory_allocated() / 1e9
        backbone = updates.chance(config, "qwen2.5-vl", device=device, dtype=dtype)
        made.append(Work(report, size, backbone, scratch, given))
        return {"n_parameters": made[0].shape.n_parameters, "held_before_gb": before}

    if report.row("model", make, what="weights by chance", model=size) is not None:
        for part in given.parts:
            getattr(made[0], part)()


class Work:
    """The rows of one model."""

    def __init__(
        self, report: Report, size: str, backbone: Backbone, scratch: Path, given: argparse.Namespace
    ) -> None:
        self.report, self.size, self.backbone, self.scratch = report, size, backbone, scratch
        self.is_gpu = backbone.model.device.type == "cuda"
        self.answer = given.answer or (8 if given.tiny else 150)
        prompt = given.prompt or (100 if given.tiny else 1100)
        self.n = 1 if given.tiny else 2
        self.rows = updates.cvo_rows(backbone, scratch, 4, prompt=prompt)
        sizes = {"prompt": prompt, "answer": self.answer}
        self.sft_rows = {k: updates.sft_rows(backbone, scratch, 2, n_styles=k, **sizes) for k in (2, G)}
        self.heads = {k: updates.common_head(backbone, rows) for k, rows in self.sft_rows.items()}
        self.lengths = {k: preflight.check_rows(backbone, rows) for k, rows in self.sft_rows.items()}
        checked = preflight.check_rows(backbone, self.rows, max_completion_length=self.answer)
        self.prompt = checked["longest_prompt"]
        config = backbone.config.to_dict()
        self.shape = memory.Shape.of(config, sum(p.numel() for p in backbone.model.parameters()))

    def options(self, kind: Any, *, batch_size: int, **departures: Any) -> Any:
        """As the profiles for one GPU of 80 GB, but for the batch."""
        dtype = str(self.backbone.model.dtype).removeprefix("torch.")
        usual = {"bf16": dtype == "bfloat16", "weights": dtype}
        usual |= {"gradient_checkpointing": True, "lora_dropout": 0.0}
        usual |= {"batch_size": batch_size, "per_device_batch_size": 8, "max_steps": 100, "save_steps": 1000}
        if kind is CvoOptions:
            usual |= {"num_generations": G, "max_completion_length": self.answer, "filter_batch_size": 1}
        return kind(**usual | departures)

    def cvo(self) -> None:
        """Log-probabilities and backward pass of a group, answers made up."""
        for side in SIDES:
            self._cvo("cvo", "CVO update", side, self.options(CvoOptions, batch_size=G))

    def plain(self) -> None:
        """The same without gradient checkpointing."""
        options = self.options(CvoOptions, batch_size=G, gradient_checkpointing=False)
        for side in ("vision", "shared"):
            self._cvo("plain", "CVO update, all activations kept", side, options)

    def step(self) -> None:
        """A whole step: the trainer samples answers of R tokens itself."""
        for side in ("stock", "shared"):
            options = self.options(CvoOptions, batch_size=G)
            self._cvo("step", "CVO step, sampling included", side, options, samples=True)

    def _cvo(self, kind: str, what: str, side: str, options: CvoOptions, *, samples: bool = False) -> None:
        is_shared, _ = SIDES[side]

        def measure() -> dict[str, Any]:
            wanted = updates.sharing(options, is_shared)
            made_up = None if samples else self.answer
            folder = self.scratch / f"{self.size} {what} {side}"
            trainer = updates.cvo_trainer(self.backbone, self.rows, folder, wanted, answer=made_up)
            self._look(trainer, side)
            if samples:
                updates.force_length(trainer, self.answer)
            n = 1 if samples else self.n
            found = updates.cost(trainer, self.backbone, n=n, limit_s=ROW_S[kind] * 0.6)
            estimate = self._estimate(options, self.prompt, self.answer, samples=samples)
            values = self._values(found, options.batch_size, self.prompt, estimate) | _checks(folder)
            if samples:
                values["sampling_s"] = round(found["sampling"], 3)
                values["sampled_per_s"] = round(options.batch_size * self.answer / found["sampling"])
                values["sampling_peak_gb"] = found["sampling_peak"] / 1e9
            return values

        if is_shared and not updates.OFFERED[CvoOptions]:
            return
        bound = updates.bound(self.prompt, self.answer, G)
        names = {"what": what, "model": self.size, "side": side, "P": self.prompt, "R": self.answer, "G": G}
        self.report.row(kind, measure, **names, bound=round(bound, 2))

    def sft(self) -> None:
        """SFT on two and on eight styles of each tweet."""
        for n_styles, rows in self.sft_rows.items():
            for side, (is_shared, _) in SIDES.items():
                if updates.OFFERED[SftOptions] or not is_shared:
                    self._sft(n_styles, rows, side)

    def _look(self, trainer: Any, side: str) -> None:
        """Has the vision tower look as that side does."""
        if SIDES[side][1]:
            vision.attend_at_once(self.backbone.model)
            vision.without_gradient(trainer.model)

    def _sft(self, n_styles: int, rows: list[dict[str, Any]], side: str) -> None:
        checked, head = self.lengths[n_styles], self.heads[n_styles]
        prompt, answer = checked["longest_prompt"], checked["longest_completion"]
        options = self.options(SftOptions, batch_size=max(4, n_styles))

        def measure() -> dict[str, Any]:
            folder = self.scratch / f"{self.size} sft {n_styles} {side}"
            wanted = updates.sharing(options, SIDES[side][0])
            trainer = updates.sft_trainer(self.backbone, rows, folder, wanted)
            self._look(trainer, side)
            found = updates.cost(trainer, self.backbone, n=self.n, limit_s=ROW_S["sft"] * 0.6)
            estimate = self._estimate(options, prompt, answer, samples=False)
            return self._values(found, options.batch_size, prompt, estimate, answer) | _checks(folder)

        names = {"what": f"SFT, {n_styles} styles", "model": self.size, "side": side}
        names |= {"P": prompt, "R": answer, "G": n_styles, "head": head}
        bound = round(updates.bound(prompt, answer, n_styles, head=head), 2)
        self.report.row("sft", measure, **names, bound=bound)

    def _estimate(self, options: Any, prompt: int, answer: int, *, samples: bool) -> memory.Estimate:
        lengths = {"prompt_tokens": prompt, "completion_tokens": answer}
        estimate = memory.of_stage(self.shape, options, n_processes=1, **lengths)
        return estimate if samples else replace(estimate, rollout=0.0)

    def _values(
        self, found: dict[str, float], n_rows: int, prompt: int, estimate: memory.Estimate,
        answer: int | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        tokens = n_rows * (prompt + (answer or self.answer))  # as sent without sharing, on both sides
        values: dict[str, Any] = {"update_s": round(found["update"], 3), "step_s": round(found["seconds"], 3)}
        values["n_updates"] = found["n_updates"]
        values["tokens_per_s"] = round(tokens / found["update"])
        values["peak_gb"] = found["peak"] / 1e9
        if self.is_gpu:
            free, total = torch.cuda.mem_get_info()
            values["reserved_gb"] = torch.cuda.max_memory_reserved() / 1e9
            values["device_gb"] = (total - free) / 1e9
        held = max(found["peak"], found["sampling_peak"])
        values |= {"estimate_gb": estimate.total / 1e9, "estimate/held": estimate.total / held}
        return values | {"estimate": estimate.summary()}

    def exact(self) -> None:
        """Log-probabilities and gradients in 16 bits: both paths, and the stock path in other batches, each
        against the stock path; for log-probabilities also against float32 where the memory is there.
        """
        dtype = str(self.backbone.model.dtype).removeprefix("torch.")
        names = {"what": f"exactness in {dtype}", "model": self.size}
        self.report.row("exact", self._exact, **names)

    def _exact(self) -> dict[str, Any]:
        options = updates.sharing(self.options(CvoOptions, batch_size=4, num_generations=2), True)
        folder, half = self.scratch / f"{self.size} exact", self.answer // 2
        lengths = [self.answer, half]  # of the answers to each of two prompts
        trainer = updates.cvo_trainer(self.backbone, self.rows, folder, options, answer=lengths)
        with updates.used(trainer, self.backbone):
            updates.disturb_lora(trainer.model)
            trainer.model.gradient_checkpointing_enable({"use_reentrant": False})  # for want of memory
            batch = updates.one_batch(trainer)
            paths = {"stock": (GRPOTrainer, None), "stock, batches of 1": (GRPOTrainer, 1)}
            paths |= {"stock, another kernel": (GRPOTrainer, None)}
            if updates.OFFERED[CvoOptions]:
                paths["shared"] = (type(trainer), None)
            values, gradients = {}, {}
            shape, is_token = batch["completion_ids"].shape, batch["completion_mask"].bool()
            weights = torch.randn(shape, generator=torch.Generator().manual_seed(0))
            for name, (method, rows) in paths.items():
                trainer.model.zero_grad(set_to_none=True)
                other = sdpa_kernel(SDPBackend.MATH) if name == "stock, another kernel" else nullcontext()
                with other:  # of the backward pass too, which computes what checkpointing dropped
                    logps = updates.log_probabilities(trainer, batch, rows=rows, method=method)
                    (logps * weights.to(logps))[is_token].mean().backward()
                trained = [p for p in trainer.model.parameters() if p.requires_grad and p.grad is not None]
                gradients[name] = torch.cat([p.grad.flatten().float() for p in trained])
                values[name] = logps.detach().float()[is_token]
            trainer.model.zero_grad(set_to_none=True)
            found = {}
            for name in list(paths)[1:]:
                difference = (values[name] - values["stock"]).abs()
                far = (gradients[name] - gradients["stock"]).norm() / gradients["stock"].norm()
                found[f"{name}: mean |Δ log p|"] = float(difference.mean())
                found[f"{name}: max"] = float(difference.max())
                found[f"{name}: |Δ gradient| / |gradient|"] = float(far)
            found |= self._against_float32(trainer, batch, values)
        return found

    def _against_float32(self, trainer: Any, batch: Any, values: dict[str, torch.Tensor]) -> dict[str, float]:
        if self.is_gpu and 4 * self.shape.n_parameters > torch.cuda.mem_get_info()[0]:
            return {}
        dtype = self.backbone.model.dtype
        frozen = [p for p in trainer.model.parameters() if not p.requires_grad]
        autocast, trainer.accelerator.autocast = trainer.accelerator.autocast, torch.no_grad
        for parameter in frozen:
            parameter.data = parameter.data.float()
        try:
            exact = updates.log_probabilities(trainer, batch, rows=1, method=GRPOTrainer)
        finally:
            for parameter in frozen:
                parameter.data = parameter.data.to(dtype)
            trainer.accelerator.autocast = autocast
        exact = exact.detach()[batch["completion_mask"].bool()]
        named = ((name, (value - exact).abs().mean()) for name, value in values.items())
        return {f"{name}: mean |log p - float32|": float(value) for name, value in named}


def _checks(folder: Path) -> dict[str, Any]:
    """Whether sharing stayed on, and how far off its log-probabilities were on the first batch."""
    path = folder / "checks.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The first side over each other one, beside the bound."""
    lines = [f"{'':44}{'time':>8}{'bound':>8}{'memory':>9}"]
    by_name: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        if "side" in row:
            by_name.setdefault((row["what"], row["model"]), {})[row["side"]] = row
    for (what, model), sides in by_name.items():
        first, *others = (side for side in SIDES if side in sides)
        for other in others:
            name = f"{what}, {model}: {other}"
            if missing := [side for side in (first, other) if "not run" in sides[side]]:
                lines.append(f"{name:44}   not run: {', '.join(missing)}")
                continue
            stock, faster = sides[first], sides[other]
            key = "step_s" if "step" in what else "update_s"
            ratio, share = stock[key] / faster[key], faster["peak_gb"] / stock["peak_gb"]
            bound = f"{faster['bound']:7.2f}x" if other == "shared" else f"{'-':>8}"
            seconds = f"{stock[key]:.2f} s -> {faster[key]:.2f} s"
            peaks = f"{stock['peak_gb']:.1f} GB -> {faster['peak_gb']:.1f} GB"
            lines.append(f"{name:44}{ratio:7.2f}x{bound}{share:8.0%}   {first} {seconds}, {peaks}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
