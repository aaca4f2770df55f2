"""Makes the tiny base: pretrains it from scratch, measures it, plots its curves, writes its card.

    python data/tiny-base/make --out DIR [--share S] [--n-measured N] [--earlier BASE]

An interrupted run resumes from its folder; the finished base is in DIR/backbone. --earlier spares all phases
but the last: it takes weights and log of a base that these phases made, also with fewer words.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

import card
import measure
import pretrain
from mcr_lib.data.files import read_text
from mcr_lib.errors import UserError
from mcr_lib.study.figures import palette
from mcr_lib.study.runs.artifacts import RunFolder
from mcr_lib.training import backbones

COMMAND = "python data/tiny-base/make"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the recipe and return the exit code: 0, or 2 for a mistake of the user."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__.split("\n")[0])
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="run folder; an interrupted run resumes from it"
    )
    share_help = "share of the recipe's steps, in (0, 1] (default: %(default)s)"
    parser.add_argument("--share", type=float, default=1.0, help=share_help)
    n_help = "tweets per split and distribution (default: %(default)s)"
    parser.add_argument("--n-measured", type=int, default=1000, help=n_help)
    earlier_help = "a base made by all phases but the last: begin with that one"
    parser.add_argument("--earlier", metavar="BASE", help=earlier_help)
    arguments = parser.parse_args(argv)
    try:
        _make(Path(arguments.out), arguments.share, arguments.n_measured, arguments.earlier)
    except UserError as error:
        print(f"make: {error}", file=sys.stderr)
        return 2
    return 0


def _make(folder: Path, share: float, n_measured: int, earlier: str | None) -> None:
    if not 0 < share <= 1 or n_measured < 1:
        expected = "expected a share in (0, 1] and at least one tweet"
        raise UserError(f"--share {share:g} --n-measured {n_measured}: {expected}")
    console = Console(stderr=True)
    recipe = pretrain.RECIPE if share == 1 else pretrain.RECIPE.scaled(share)
    n_steps = {phase.name: phase.steps for phase in recipe.phases}

    def report(line: dict[str, Any]) -> None:
        losses = ", ".join(f"{name} {line[name]:.3f}" for name in card.CURVES if name in line)
        at = f"{line['phase']} {line['step']:,} of {n_steps[line['phase']]:,}, {line['seconds']:.0f} s"
        console.print(f"{at}: {losses}", highlight=False)

    base = folder / "backbone"
    with RunFolder(folder).locked():
        backbone = pretrain.pretrain(recipe, folder, report=report, earlier=earlier)
        measured = {
            split: measure.measure(backbone, split=split, n=n_measured, progress=console.print)
            for split in ("dev", "test")
        }
        log = card.read_log(folder)
        command = f"{COMMAND} --out DIR" + ("" if share == 1 else f" --share {share:g}")
        path, begun = folder / pretrain.EARLIER, {}
        if path.is_file():
            command, begun = f"{command} --earlier BASE", {"earlier": json.loads(read_text(path))}
        seconds = float(log["seconds"].max())
        record = card.card(recipe, measured, seconds=seconds, command=command) | begun
        palette.use_style()
        palette.save(card.curves(log), base, "curves", log.to_dict("records"))
        (base / "log.jsonl").write_bytes((folder / "log.jsonl").read_bytes())
        backbones.save(backbone, base, dtype=torch.float16, **record)
        card.write_readme(base, record, n_parameters=sum(p.numel() for p in backbone.model.parameters()))
    print((base / "README.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(main())
