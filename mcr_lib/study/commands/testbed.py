"""`mcr testbed make` writes sets of the controlled world as files; `mcr testbed gallery` draws examples."""

import argparse
from pathlib import Path
from typing import Any

from mcr_lib.errors import UserError
from mcr_lib.study.commands.arguments import add_set, group

_MAKE = """\
The set is named after its split, and after its distribution if that is not gmner (test_unseen). Read it with
mcr data check testbed --root DIR, and score answers to it with mcr score --source testbed --root DIR --split
NAME.
"""


def add_commands(commands: Any) -> None:
    """Add `testbed` and its commands to the parser of `mcr`."""
    testbed = group(commands, "testbed", "the controlled world")
    about = "write a set: pictures, Twitter-GMNER's own files, and a sidecar"
    make = testbed.add_parser("make", help=about, description=_MAKE)
    add, kinds = make.add_argument, "caption, gmner, adversarial or unseen (default: %(default)s)"
    add("--distribution", default="gmner", help=kinds)
    add("--n", type=int, default=300, help="tweets (default: %(default)s)")
    add("--out", required=True, metavar="DIR", help="folder of the data set; sets that are in it stay")
    gallery = testbed.add_parser("gallery", help="draw the first tweets of each distribution")
    add = gallery.add_argument
    add("--distribution", action="append", help="only this one; repeatable (default: all)")
    add("--n", type=int, default=4, help="tweets per distribution (default: %(default)s)")
    add("--out", required=True, metavar="FILE.png", help="the picture; a CSV of its tweets goes beside it")
    for command, run in ((make, _make), (gallery, _gallery)):
        command.add_argument("--split", default="test", help="train, dev or test (default: %(default)s)")
        add_set(command, "KNOB=VALUE", "turn a knob; repeatable")
        command.add_argument("--seed", type=int, default=0, help="of the world (default: %(default)s)")
        command.set_defaults(run=run)


def _make(given: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import Progress

    from mcr_lib import testbed
    from mcr_lib.study.runs.config import parse_set
    from mcr_lib.testbed import folder

    knobs = testbed.altered(testbed.find(given.distribution), parse_set(given.pairs))
    name = folder.set_name(given.distribution, given.split)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=given.n)
        options = {"seed": given.seed, "knobs": knobs, "progress": lambda n: bar.update(task, completed=n)}
        examples = folder.write(given.out, name, given.n, **options)
    counts = f"{len(examples):,} tweets with {sum(len(e.entities) for e in examples):,} entities"
    print(f"{name}: {counts} in {given.out}; read it as source testbed, split {name}")
    return 0


def _gallery(given: argparse.Namespace) -> int:
    from mcr_lib.study.figures import boxes, palette
    from mcr_lib.study.runs.config import parse_set
    from mcr_lib.testbed import DISTRIBUTIONS

    out, names = Path(given.out), given.distribution or tuple(DISTRIBUTIONS)
    if out.suffix != ".png":
        raise UserError(f"--out {out}: expected the name of a .png file")
    palette.use_style()
    options = {"split": given.split, "seed": given.seed, "knobs": parse_set(given.pairs)}
    figure, rows = boxes.gallery_of_testbed(given.n, distributions=names, **options)
    print(f"{palette.save(figure, out.parent, out.stem, rows)}: {len(rows)} tweets")
    return 0
