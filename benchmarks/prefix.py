"""What a shared prefix saves against stock TRL on a CPU, and that it changes no number.

    python benchmarks/prefix.py [--out DIR] [--rows tiny cvo sft curve]     some 20 minutes of one core
    python benchmarks/prefix.py --check                                     exactness alone, in a minute

Stock TRL is the same trainer with shared_prefix: false, on the same rows, weights and seed; each side is
measured in a process of its own, in its own CPU time on one thread. P, R and G as in `updates`. DIR
(data/results/prefix) gets prefix.json, and the gain by P/R and G as PNG and CSV. --check returns 1 if a
number differs by more than 1e-5 of its size, or if no difference would be seen: another token changes little.

    tiny   whole CVO steps of profile tiny, from tiny-base: sampling, update, step
    cvo    a CVO update of one group, P about 1,000, R 150, G 8, on a chance model of 100 M weights with LoRA,
           without KL: one pass and its way back
    sft    SFT on 2 and on 8 styles of a tweet at that shape
    curve  log-probabilities and backward pass on a small chance model, for several P, R and G
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import seaborn as sns
import torch
import updates
from trl import GRPOTrainer

from mcr_lib.data import load_split, mrsi
from mcr_lib.study.figures import palette
from mcr_lib.study.runs import config
from mcr_lib.study.runs.settings import Study
from mcr_lib.testbed import folder as testbed_folder
from mcr_lib.training import adapters, backbones, families, preflight
from mcr_lib.training.backbones import Backbone
from mcr_lib.training.options import CvoOptions, SftOptions

REPOSITORY = Path(__file__).resolve().parents[1]
TOLERANCE = 1e-5
P, R, G = 1000, 150, 8
SIDES = {"stock": False, "shared": True}
LORA = {"lora_rank": 8, "lora_dropout": 0.0}
WHOLE = {"lora_rank": 0, "learning_rate": 1e-5, "beta": 0.0}
EVER = {"max_steps": 100, "save_steps": 1000, "warmup_steps": 0}
BARS = {  # row: (what is compared, least gain or largest share)
    "tiny: sampling": ("sampling", None), "tiny: CVO update": ("update", 1.8),
    "tiny: CVO step": ("seconds", 1.8),
    "CVO update": ("update", 3.0), "CVO update, peak memory": ("peak", 0.45),
    "SFT, 2 styles": ("seconds", 1.4), "SFT, 8 styles": ("seconds", 2.5),
}  # fmt: skip
MEASURED = {"tiny": ["tiny"], "cvo": ["cvo"], "sft": ["sft2", "sft8"]}
ROWS_OF = {"tiny": "tiny: ", "cvo": "CVO update", "sft2": "SFT, 2 styles", "sft8": "SFT, 8 styles"}
CURVE = [(64, 64), (64, 32), (128, 32), (256, 32), (512, 32)]  # P, R


def main(arguments: list[str] | None = None) -> int:
    """Checks, or measures all rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exactness alone")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "data" / "results" / "prefix")
    parser.add_argument("--rows", nargs="+", default=[*MEASURED, "curve"], choices=[*MEASURED, "curve"])
    parser.add_argument("--one", nargs=2, metavar=("ROW", "SIDE"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    with adapters.quiet(), tempfile.TemporaryDirectory() as name:
        if given.check:
            return check(Path(name))
        if given.one:
            row, side = given.one
            print(json.dumps(one(row, SIDES.get(side), Path(name))))
            return 0
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / "prefix.json"
    found = json.loads(path.read_text()) if path.is_file() else {"rows": {}}
    found |= updates.versions()
    for row in given.rows:
        if row == "curve":
            found["curve"] = _in_process("curve", "both")
            draw(found["curve"], given.out)
        for part in MEASURED.get(row, ()):
            found["rows"][part] = {side: _in_process(part, side) for side in SIDES}
            path.write_text(json.dumps(found, indent=1) + "\n")
            print(*table(found["rows"]), sep="\n", flush=True)
        path.write_text(json.dumps(found, indent=1) + "\n")
    return 0


def _in_process(row: str, side: str) -> Any:
    began = time.monotonic()
    command = [sys.executable, __file__, "--one", row, side]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    print(f"{row}, {side}: measured in {time.monotonic() - began:.0f} s", flush=True)
    return json.loads(done.stdout.splitlines()[-1])


def one(row: str, is_shared: bool | None, scratch: Path) -> Any:
    """Measures one side of a row."""
    torch.set_num_threads(1)
    if row == "curve":
        return curve(scratch)
    if row == "tiny":
        backbone = backbones.load("tiny-base", device="cpu")
        options = Study(config.load("tiny", scratch / "run")).options("mcr")[0]
        options = options.model_copy(update={"max_steps": 100, "save_steps": 1000})
        testbed_folder.write(scratch, "train", 32)
        tweets = load_split("testbed", scratch, split="train", images_dir=scratch)
        drawn = [(tweet, "terse") for tweet in tweets]
        rows = list(mrsi.grpo_rows(drawn, backbone.target, prompt="mcr"))
        trainer = updates.cvo_trainer(backbone, rows, scratch / "cvo", updates.sharing(options, is_shared))
        return updates.cost(trainer, backbone, n=3)
    backbone = middle()
    if row == "cvo":
        rows = updates.cvo_rows(backbone, scratch, 2, prompt=P)
        sizes = {
            "batch_size": G,
            "num_generations": G,
            "per_device_batch_size": G,
            "max_completion_length": R,
        }
        options = updates.sharing(CvoOptions(**sizes, **LORA, **EVER, beta=0.0), is_shared)
        trainer = updates.cvo_trainer(backbone, rows, scratch / "cvo", options, answer=R)
    else:
        n = int(row.removeprefix("sft"))
        rows = updates.sft_rows(backbone, scratch, 2, n_styles=n, prompt=P, answer=R)
        options = SftOptions(batch_size=n, per_device_batch_size=n, **LORA, **EVER)
        trainer = updates.sft_trainer(backbone, rows, scratch / "sft", updates.sharing(options, is_shared))
    lengths = preflight.check_rows(backbone, rows, max_completion_length=R if row == "cvo" else None)
    return updates.cost(trainer, backbone, n=1, warm_up=0) | lengths


def sized(hidden: int, n_layers: int, vocabulary: int, vision: tuple[int, int, int]) -> dict[str, Any]:
    """Arguments of Qwen2.5-VL's configuration class, of these sizes; a head has 64 values."""
    published = families.PUBLISHED["Qwen/Qwen2.5-VL-3B-Instruct"]
    rope = {**published.text["rope_parameters"], "mrope_section": [8, 12, 12]}
    text = {**published.text, "hidden_size": hidden, "intermediate_size": 4 * hidden, "rope_parameters": rope}
    text |= {"num_hidden_layers": n_layers, "vocab_size": vocabulary, "num_attention_heads": hidden // 64}
    text["num_key_value_heads"] = 2 if hidden // 64 % 2 == 0 else 1
    depth, width, inner = vision
    sizes = {"depth": depth, "hidden_size": width, "intermediate_size": inner, "out_hidden_size": hidden}
    sizes |= {"num_heads": width // 64, "fullatt_block_indexes": [depth - 1]}
    return {**published.config, "text_config": text, "vision_config": {**published.vision, **sizes}}


def middle() -> Backbone:
    """A model of 100 M weights; sdpa, as on a GPU: of long prompts eager attention keeps gigabytes."""
    config_of = sized(640, 10, 32_000, (8, 512, 1368))
    return updates.chance(config_of, "qwen2.5-vl", device="cpu", dtype=torch.float32, attention="sdpa")


def curve(scratch: Path) -> list[dict[str, Any]]:
    """The gain of log-probabilities and backward pass by P, R and G, each the faster of two calls."""
    small = sized(256, 4, 3000, (2, 128, 256))
    backbone = updates.chance(small, "qwen2.5-vl", device="cpu", dtype=torch.float32, attention="sdpa")
    found = []
    for prompt, answer in CURVE:
        rows = updates.cvo_rows(backbone, scratch / f"{prompt}", 16, prompt=prompt)
        n = preflight.check_rows(backbone, rows, max_completion_length=answer)["longest_prompt"]
        for group in (2, 4, 8, 16):
            sizes = {"batch_size": group, "num_generations": group, "per_device_batch_size": group}
            options = CvoOptions(**sizes, max_completion_length=answer, **LORA, **EVER)
            folder = scratch / f"{prompt} {answer} {group}"
            trainer = updates.cvo_trainer(
                backbone, rows, folder, updates.sharing(options, True), answer=answer
            )
            with updates.used(trainer, backbone):
                batch = updates.one_batch(trainer)
                seconds = {
                    side: min(_update_s(trainer, batch, method) for _ in range(2))
                    for side, method in (("stock", GRPOTrainer), ("shared", type(trainer)))
                }
            gain, bound = seconds["stock"] / seconds["shared"], updates.bound(n, answer, group)
            row = {"P": n, "R": answer, "G": group, "P/R": round(n / answer, 2), "gain": round(gain, 2)}
            found.append({**row, "bound": round(bound, 2)})
            print(found[-1], file=sys.stderr, flush=True)
    return found


def _update_s(trainer: Any, batch: Any, method: Any) -> float:
    began = time.process_time()
    updates.log_probabilities(trainer, batch, method=method).sum().backward()
    seconds = time.process_time() - began
    trainer.model.zero_grad(set_to_none=True)
    return seconds


def table(rows: dict[str, dict[str, Any]]) -> list[str]:
    """What was measured beside its bar."""
    lines = [f"{'':26}{'stock':>10}{'shared':>10}{'':>4}{'':>8}{'bar':>8}"]
    for part, sides in rows.items():
        for name, (key, bar) in BARS.items():
            if not name.startswith(ROWS_OF[part]):
                continue
            stock, shared = sides["stock"][key], sides["shared"][key]
            if key == "peak":
                share = shared / stock
                values, verdict = (f"{stock / 1e6:.0f} MB", f"{shared / 1e6:.0f} MB"), share <= bar
                value, limit = f"{share:.0%}", f"≤ {bar:.0%}"
            else:
                values, verdict = (f"{stock:.2f} s", f"{shared:.2f} s"), bar is None or stock / shared >= bar
                value, limit = f"{stock / shared:.2f}x", "" if bar is None else f"≥ {bar}x"
            word = "" if bar is None else ("passed" if verdict else "MISSED")
            lines.append(f"{name:26}{values[0]:>10}{values[1]:>10}{value:>10}{limit:>10}  {word}")
    return lines


def draw(rows: list[dict[str, Any]], folder: Path) -> None:
    """The gain by P/R, a colour per G: measured, and the bound by tokens."""
    palette.use_style()
    figure, (ax,) = palette.panels(1, (5.6, 3.6), "Log-probabilities and backward pass, stock over shared")
    frame = pd.DataFrame(rows)
    colours = dict(zip(sorted(frame["G"].unique()), sns.color_palette(palette.SHADES, 5)[1:], strict=False))
    style = {"x": "P/R", "hue": "G", "palette": colours, "estimator": None, "ax": ax}
    sns.lineplot(frame, y="gain", marker="o", markeredgewidth=0, **style)
    sns.lineplot(frame, y="bound", linestyle="--", linewidth=1, legend=False, **style)
    ax.axhline(1, color=palette.GREY, linewidth=1)
    ax.set(xscale="log", xlabel="prompt over answer, P/R (tokens)", ylabel="times faster", ylim=(0, None))
    ticks = sorted(frame["P/R"].unique())
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.legend(title="G (dashed: G(P+R)/(P+GR))")
    palette.save(figure, folder, "prefix", rows)


def check(scratch: Path) -> int:
    """Prints how far the shared path is from the stock one; returns 1 if a number differs too much."""
    torch.set_num_threads(1)
    is_wrong = False
    print(f"{'difference over size':28}{'log p':>13}{'loss':>13}{'gradient':>13}{'a token off':>13}")
    for hub in ("Qwen/Qwen2.5-VL-3B-Instruct", "Qwen/Qwen3-VL-4B-Instruct"):
        family = families.PUBLISHED[hub].family
        small = updates.shrunk(families.PUBLISHED[hub], 3000)
        backbone = updates.chance(small, family, device="cpu", dtype=torch.float32)
        for how, sizes in (("LoRA", LORA), ("whole", WHOLE)):
            if how == "whole":
                backbone.model.requires_grad_(True)
            for stage, kind, difference in (
                ("CVO", CvoOptions, _cvo_difference), ("SFT", SftOptions, _sft_difference)
            ):  # fmt: skip
                name = f"{family}, {how}, {stage}"
                if not updates.OFFERED[kind]:
                    print(f"{name:28}  this version has no shared_prefix")
                    continue
                sizes_of = {key: value for key, value in sizes.items() if key in kind.model_fields}
                off = difference(backbone, scratch / name, sizes_of)
                change = off.get("a token off", 1.0)  # of the log-probabilities, by another first token
                is_far = max(value for key, value in off.items() if key != "a token off") > TOLERANCE
                word = "TOO FAR" if is_far else "BLIND" if change < 100 * TOLERANCE else ""
                is_wrong |= bool(word)
                columns = ("log p", "loss", "gradient", "a token off")
                shown = (f"{off[key]:13.1e}" if key in off else f"{'':13}" for key in columns)
                print(f"{name:28}{''.join(shown)}  {word}".rstrip(), flush=True)
    return int(is_wrong)


def _cvo_difference(backbone: Backbone, scratch: Path, sizes: dict[str, Any]) -> dict[str, float]:
    lengths = {"batch_size": 8, "num_generations": 4, "per_device_batch_size": 8, "max_completion_length": 9}
    rows = updates.cvo_rows(backbone, scratch, 4, prompt=70)
    folder, options = scratch / "x", CvoOptions(**lengths, **sizes, **EVER)
    results = {}
    for side, is_shared in SIDES.items():
        trainer = updates.cvo_trainer(
            backbone, rows, folder, updates.sharing(options, is_shared), answer=[9, 5, 2, 1]
        )
        with updates.used(trainer, backbone):
            updates.disturb_lora(trainer.model)
            batch = updates.one_batch(trainer)
            batch["advantages"] = torch.linspace(-1, 2, 8)
            logps = updates.log_probabilities(trainer, batch).detach()
            loss = trainer.compute_loss(trainer.model, batch)
            results[side] = {"log p": logps, **_backward(trainer.model, loss)}
            if side == "stock":
                place = int(batch["prompt_mask"][0].nonzero()[0])
                batch["prompt_ids"][:, place] = batch["prompt_ids"][:, place] + 1
                other = updates.log_probabilities(trainer, batch).detach()
                token_off = float((other - logps).abs().max() / logps.abs().max())
    return {**_differences(results), "a token off": token_off}


def _sft_difference(backbone: Backbone, scratch: Path, sizes: dict[str, Any]) -> dict[str, float]:
    rows = updates.sft_rows(backbone, scratch, 2, n_styles=4, prompt=70, answer=9)
    options = SftOptions(batch_size=8, per_device_batch_size=8, **sizes, **EVER)
    results = {}
    for side, is_shared in SIDES.items():
        trainer = updates.sft_trainer(backbone, rows, scratch / "x", updates.sharing(options, is_shared))
        with updates.used(trainer, backbone):
            updates.disturb_lora(trainer.model)
            trainer.model.train()
            batch = next(iter(trainer.get_train_dataloader()))
            n = (batch["labels"][:, 1:] != -100).sum()
            results[side] = _backward(
                trainer.model, trainer.compute_loss(trainer.model, batch, num_items_in_batch=n)
            )
    return _differences(results)


def _backward(model: torch.nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    loss.backward()
    named = sorted(model.named_parameters())
    gradient = torch.cat([p.grad.flatten() for _, p in named if p.grad is not None])
    model.zero_grad(set_to_none=True)
    return {"loss": loss.detach(), "gradient": gradient.clone()}


def _differences(results: dict[str, dict[str, torch.Tensor]]) -> dict[str, float]:
    size: Callable[[torch.Tensor], float] = lambda value: float(value.abs().max())  # noqa: E731
    stock, shared = results["stock"], results["shared"]
    return {key: size(shared[key] - stock[key]) / size(stock[key]) for key in stock}


if __name__ == "__main__":
    sys.exit(main())
