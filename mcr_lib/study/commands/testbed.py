"""`mcr testbed make` writes sets of the controlled world as files; `mcr testbed gallery` draws examples."""

from argparse import Namespace
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from mcr_lib import testbed
from mcr_lib.errors import UserError
from mcr_lib.study.figures import boxes, palette
from mcr_lib.study.runs.config import parse_set
from mcr_lib.testbed import folder


def make(given: Namespace) -> int:
    """`mcr testbed make`."""
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


def gallery(given: Namespace) -> int:
    """`mcr testbed gallery`."""
    out, names = Path(given.out), given.distribution or tuple(testbed.DISTRIBUTIONS)
    if out.suffix != ".png":
        raise UserError(f"--out {out}: expected the name of a .png file")
    palette.use_style()
    options = {"split": given.split, "seed": given.seed, "knobs": parse_set(given.pairs)}
    figure, rows = boxes.gallery_of_testbed(given.n, distributions=names, **options)
    print(f"{palette.save(figure, out.parent, out.stem, rows)}: {len(rows)} tweets")
    return 0
