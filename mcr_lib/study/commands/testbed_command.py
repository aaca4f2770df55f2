"""`mcr testbed`: make sets of the controlled world as files, and look at its distributions."""

import argparse
from pathlib import Path
from typing import Any

from mcr_lib.errors import UserError


def add_commands(commands: Any) -> None:
    """Add `testbed` and its commands to the parser of `mcr`."""
    testbed = commands.add_parser("testbed", help="the controlled world").add_subparsers(
        title="commands", required=True, metavar="COMMAND"
    )
    make = testbed.add_parser(
        "make", help="write a set: pictures, Twitter-GMNER's own files, and a sidecar", description=_MAKE_HELP
    )
    make.add_argument(
        "--distribution", default="gmner", help="caption, gmner, adversarial or unseen (default: %(default)s)"
    )
    make.add_argument("--n", type=int, default=300, help="tweets (default: %(default)s)")
    make.add_argument(
        "--out", required=True, metavar="DIR", help="folder of the data set; sets that are there already stay"
    )
    gallery = testbed.add_parser("gallery", help="draw the first tweets of each distribution")
    gallery.add_argument("--distribution", action="append", help="only this one; repeatable (default: all)")
    gallery.add_argument("--n", type=int, default=4, help="tweets per distribution (default: %(default)s)")
    gallery.add_argument(
        "--out", required=True, metavar="FILE.png", help="the picture; a CSV of what it shows lies beside it"
    )
    for command, run in ((make, _make), (gallery, _gallery)):
        command.add_argument("--split", default="test", help="train, dev or test (default: %(default)s)")
        command.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="KNOB=VALUE",
            dest="pairs",
            help="turn a knob; repeatable",
        )
        command.add_argument("--seed", type=int, default=0, help="of the world (default: %(default)s)")
        command.set_defaults(run=run)


_MAKE_HELP = (
    "The set is named after its split, and after its distribution where that is not gmner (test_unseen). Read it with "
    "mcr data check testbed --root DIR, and score answers to it with mcr score --source testbed --root DIR --split NAME."
)


def _make(arguments: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import Progress

    from mcr_lib import testbed
    from mcr_lib.study.runs.config import parse_set
    from mcr_lib.testbed import folder

    knobs = testbed.altered(testbed.find(arguments.distribution), parse_set(arguments.pairs))
    name = folder.set_name(arguments.distribution, arguments.split)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=arguments.n)
        examples = folder.write(
            arguments.out,
            name,
            arguments.n,
            seed=arguments.seed,
            knobs=knobs,
            progress=lambda done: progress.update(task, completed=done),
        )
    n_entities = sum(len(example.entities) for example in examples)
    print(
        f"{name}: {len(examples):,} tweets with {n_entities:,} entities in {arguments.out}; read it as source testbed, split {name}"
    )
    return 0


def _gallery(arguments: argparse.Namespace) -> int:
    from mcr_lib.study.figures import boxes, palette
    from mcr_lib.study.runs.config import parse_set
    from mcr_lib.testbed import DISTRIBUTIONS

    out = Path(arguments.out)
    if out.suffix != ".png":
        raise UserError(f"--out {out}: expected the name of a .png file")
    palette.use_style()
    figure, rows = boxes.gallery_of_testbed(
        arguments.n, distributions=arguments.distribution or tuple(DISTRIBUTIONS), split=arguments.split, seed=arguments.seed,
        knobs=parse_set(arguments.pairs),
    )  # fmt: skip
    print(f"{palette.save(figure, out.parent, out.stem, rows)}: {len(rows)} tweets")
    return 0
