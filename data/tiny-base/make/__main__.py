"""Makes the tiny base anew: trains it from nothing, measures it, draws its curves, writes its card.

    python data/tiny-base/make --out DIR [--share S] [--n-measured N]

A killed run goes on from its folder; the finished base lies in DIR/backbone.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

import card
import measure
import pretrain
from mcr_lib.errors import UserError
from mcr_lib.study.figures import palette
from mcr_lib.study.runs.artifacts import RunFolder
from mcr_lib.training import backbones


def main(argv: Sequence[str] | None = None) -> int:
    """Run the recipe and return the exit code: 0, or 2 for a mistake of the user."""
    parser = argparse.ArgumentParser(prog="python data/tiny-base/make", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="run folder; a killed run goes on from there"
    )
    parser.add_argument(
        "--share", type=float, default=1.0, help="of the recipe's steps, in (0, 1] (default: %(default)s)"
    )
    parser.add_argument(
        "--n-measured",
        type=int,
        default=1000,
        help="tweets per split and distribution (default: %(default)s)",
    )
    try:
        return _make(parser.parse_args(argv))
    except UserError as error:
        print(f"make: {error}", file=sys.stderr)
        return 2


def _make(arguments: argparse.Namespace) -> int:
    if not 0 < arguments.share <= 1 or arguments.n_measured < 1:
        raise UserError(
            f"--share {arguments.share:g} --n-measured {arguments.n_measured}: expected a share in (0, 1] and at least one tweet"
        )
    console = Console(stderr=True)
    folder = Path(arguments.out)
    recipe = pretrain.RECIPE if arguments.share == 1 else pretrain.RECIPE.scaled(arguments.share)
    n_steps = {phase.name: phase.steps for phase in recipe.phases}

    def report(line: dict[str, Any]) -> None:
        losses = ", ".join(f"{name} {line[name]:.3f}" for name in card.CURVES if name in line)
        console.print(
            f"{line['phase']} {line['step']:,} of {n_steps[line['phase']]:,}, {line['seconds']:.0f} s: {losses}",
            highlight=False,
        )

    with RunFolder(folder).locked():
        backbone = pretrain.pretrain(recipe, folder, report=report)
        measured = {
            split: measure.measure(
                backbone, split=split, n=arguments.n_measured, progress=lambda line: console.print(line)
            )
            for split in ("dev", "test")
        }
        log = card.read_log(folder)
        command = "python data/tiny-base/make --out DIR" + (
            "" if arguments.share == 1 else f" --share {arguments.share:g}"
        )
        told = card.card(
            recipe, measured, seconds=float(log["seconds"].max()), command=command, threads=torch.get_num_threads()
        )  # fmt: skip
        base = folder / "backbone"
        palette.use_style()
        palette.save(card.curves(log), base, "curves", log.to_dict("records"))
        (base / "log.jsonl").write_bytes((folder / "log.jsonl").read_bytes())
        backbones.save(backbone, base, dtype=torch.float16, **told)
        card.write_readme(base, told, n_parameters=sum(p.numel() for p in backbone.model.parameters()))
    print((base / "README.md").read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
