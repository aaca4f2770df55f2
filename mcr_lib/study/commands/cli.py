"""The `mcr` command. Each command imports its own heavy libraries when it runs.

Exit codes: 0 done; 1 a check differs, a notebook failed, or a bug (with its traceback); 2 a mistake of the
user, in one sentence; 130 interrupted.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from mcr_lib import __version__
from mcr_lib.errors import UserError
from mcr_lib.study.commands import arguments, compare, data, predict, preflight, stages, testbed
from mcr_lib.training import launch


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    given = _parser().parse_args(argv)
    if hasattr(sys.stdout, "reconfigure"):  # print what the terminal can show rather than fail
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return given.run(given)
    except UserError as error:
        print(f"mcr: {launch.whose()}{error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("mcr: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    about = "Grounded multimodal named entity recognition: data, scores, notebooks."
    parser = argparse.ArgumentParser(prog="mcr", description=about)
    parser.add_argument("--version", action="version", version=f"mcr_lib {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    data.add_commands(commands)
    run = commands.add_parser("run", help="run the notebooks of a profile by papermill")
    arguments.add_profile(run)
    only = "run only this notebook (01 or its name); repeatable"
    run.add_argument("--only", action="append", default=[], metavar="NOTEBOOK", help=only)
    run.add_argument("--from", dest="start_from", metavar="NOTEBOOK", help="begin with this notebook")
    run.set_defaults(run=_run)
    for module in (stages, predict, preflight, testbed, compare):
        module.add_commands(commands)
    return parser


def _run(given: argparse.Namespace) -> int:
    from mcr_lib.study.commands import runner
    from mcr_lib.study.runs.config import parse_set

    options = {"out": given.out, "only": given.only, "start_from": given.start_from}
    overrides = parse_set(given.pairs)
    return runner.run(given.profile, overrides=overrides, console=arguments.console(), **options)


if __name__ == "__main__":
    sys.exit(main())
