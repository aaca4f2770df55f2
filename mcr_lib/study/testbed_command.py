"""`mcr testbed`: make sets of the controlled world as files, and look at its distributions."""

import argparse
from pathlib import Path
from typing import Any

from mcr_lib.errors import UserError


def add_commands(commands: Any) -> None:
    """Add `testbed` and its commands to the parser of `mcr`."""
    testbed = commands.add_parser("testbed", help="the controlled world").add_subparsers(title="commands", required=True, metavar="COMMAND")
    make = testbed.add_parser("make", help="write a set: pictures, Twitter-GMNER's own files, and a sidecar", description=_MAKE_HELP)
    make.add_argument("--distribution", default="gmner", help="caption, gmner, adversarial or unseen (default: %(default)s)")
    make.add_argument("--n", type=int, default=300, help="tweets (default: %(default)s)")
    make.add_argument("--out", required=True, metavar="DIR", help="folder of the data set; sets that are there already stay")
    gallery = testbed.add_parser("gallery", help="draw the first tweets of each distribution")
    gallery.add_argument("--distribution", action="append", help="only this one; repeatable (default: all)")
    gallery.add_argument("--n", type=int, default=4, help="tweets per distribution (default: %(default)s)")
    gallery.add_argument("--out", required=True, metavar="FILE.png", help="the picture; a CSV of what it shows lies beside it")
    for command, run in ((make, _make), (gallery, _gallery)):
        command.add_argument("--split", default="test", help="train, dev or test (default: %(default)s)")
        command.add_argument("--set", action="append", default=[], metavar="KNOB=VALUE", dest="pairs", help="turn a knob; repeatable")
        command.add_argument("--seed", type=int, default=0, help="of the world (default: %(default)s)")
        command.set_defaults(run=run)
    pretrain = testbed.add_parser("pretrain", help="train the tiny base model from nothing, measure it, write its card")
    pretrain.add_argument("--out", required=True, metavar="DIR", help="run folder; a killed run goes on from there")
    pretrain.add_argument("--share", type=float, default=1.0, help="of the recipe's steps, in (0, 1] (default: %(default)s)")
    pretrain.add_argument("--n-measured", type=int, default=1000, help="tweets per split and distribution (default: %(default)s)")
    pretrain.set_defaults(run=_pretrain)


_MAKE_HELP = (
    "The set is named after its split, and after its distribution where that is not gmner (test_unseen). Read it with "
    "mcr data check testbed --root DIR, and score answers to it with mcr score --source testbed --root DIR --split NAME."
)


def _make(arguments: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import Progress

    from mcr_lib.sources import testbed
    from mcr_lib.sources.testbed import folder
    from mcr_lib.study.config import parse_set

    knobs = testbed.altered(testbed.find(arguments.distribution), parse_set(arguments.pairs))
    name = folder.set_name(arguments.distribution, arguments.split)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=arguments.n)
        examples = folder.write(
            arguments.out, name, arguments.n, seed=arguments.seed, knobs=knobs, progress=lambda done: progress.update(task, completed=done)
        )
    n_entities = sum(len(example.entities) for example in examples)
    print(f"{name}: {len(examples):,} tweets with {n_entities:,} entities in {arguments.out}; read it as source testbed, split {name}")
    return 0


def _gallery(arguments: argparse.Namespace) -> int:
    from mcr_lib.sources.testbed import DISTRIBUTIONS
    from mcr_lib.study import plots, testbed_gallery
    from mcr_lib.study.config import parse_set

    out = Path(arguments.out)
    if out.suffix != ".png":
        raise UserError(f"--out {out}: expected the name of a .png file")
    plots.use_style()
    figure, rows = testbed_gallery.gallery(
        arguments.n, distributions=arguments.distribution or tuple(DISTRIBUTIONS), split=arguments.split, seed=arguments.seed,
        knobs=parse_set(arguments.pairs),
    )  # fmt: skip
    print(f"{plots.save(figure, out.parent, out.stem, rows)}: {len(rows)} tweets")
    return 0


def _pretrain(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    if not 0 < arguments.share <= 1 or arguments.n_measured < 1:
        raise UserError(
            f"--share {arguments.share:g} --n-measured {arguments.n_measured}: expected a share in (0, 1] and at least one tweet"
        )
    import torch

    from mcr_lib.stages import backbones, pretrain, pretrain_measure
    from mcr_lib.study import base_card, plots
    from mcr_lib.study.artifacts import RunFolder

    console = Console(stderr=True)
    folder = Path(arguments.out)
    recipe = pretrain.RECIPE if arguments.share == 1 else pretrain.RECIPE.scaled(arguments.share)
    n_steps = {phase.name: phase.steps for phase in recipe.phases}

    def report(line: dict[str, Any]) -> None:
        losses = ", ".join(f"{name} {line[name]:.3f}" for name in base_card.CURVES if name in line)
        console.print(f"{line['phase']} {line['step']:,} of {n_steps[line['phase']]:,}, {line['seconds']:.0f} s: {losses}", highlight=False)

    with RunFolder(folder).locked():
        backbone = pretrain.pretrain(recipe, folder, report=report)
        measured = {
            split: pretrain_measure.measure(backbone, split=split, n=arguments.n_measured, progress=lambda line: console.print(line))
            for split in ("dev", "test")
        }
        log = base_card.read_log(folder)
        command = "mcr testbed pretrain --out DIR" + ("" if arguments.share == 1 else f" --share {arguments.share:g}")
        told = base_card.card(
            recipe, measured, seconds=float(log["seconds"].max()), command=command, threads=torch.get_num_threads()
        )  # fmt: skip
        base = folder / "backbone"
        plots.use_style()
        plots.save(base_card.curves(log), base, "curves", log.to_dict("records"))
        (base / "log.jsonl").write_bytes((folder / "log.jsonl").read_bytes())
        backbones.save(backbone, base, dtype=torch.float16, **told)
        base_card.write_readme(base, told, n_parameters=sum(p.numel() for p in backbone.model.parameters()))
    print((base / "README.md").read_text(encoding="utf-8"))
    return 0
