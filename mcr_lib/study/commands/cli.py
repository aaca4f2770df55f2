"""The `mcr` command: check data, score predictions, build chains, run notebooks. A command imports its own
heavy libraries.

Exit codes: 0 done; 1 a check differs, a notebook failed, or a bug (with its traceback); 2 a mistake of the
user, told in one sentence; 130 interrupted.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from mcr_lib import __version__
from mcr_lib.errors import UserError
from mcr_lib.study.commands import compare_command, preflight_command, stage_commands, testbed_command
from mcr_lib.training import launch


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = _parser().parse_args(argv)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(
            errors="backslashreplace"
        )  # a terminal that lacks a character is no reason to lose a report
    try:
        return arguments.run(arguments)
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
    parser = argparse.ArgumentParser(
        prog="mcr", description="Grounded multimodal named entity recognition: data, scores, notebooks."
    )
    parser.add_argument("--version", action="version", version=f"mcr_lib {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    data = commands.add_parser("data", help="look at a data set").add_subparsers(
        title="commands", required=True, metavar="COMMAND"
    )
    check = data.add_parser(
        "check", help="statistics beside the expected ones, images, quirks; exit 1 on any difference"
    )
    check.add_argument("source", help="twitter-gmner, twitter-fmnerg or testbed")
    check.add_argument("--root", required=True, help="the folder that holds the data set's own folder")
    check.add_argument("--version", help="v1 or v2 (default: the newest)")
    check.add_argument(
        "--images", metavar="DIR", help="where the images are, at any depth (default: below --root)"
    )
    check.add_argument("--json", action="store_true", help="print one JSON object")
    check.set_defaults(run=_check)

    score = commands.add_parser("score", help="score a predictions file", description=_SCORE_HELP)
    score.add_argument("--source", default="twitter-gmner", help="data set (default: %(default)s)")
    score.add_argument("--root", required=True, help="the folder that holds the data set's own folder")
    score.add_argument("--version", help="of the annotation: v1 or v2 (default: the newest)")
    score.add_argument("--split", default="test", help="default: %(default)s")
    score.add_argument(
        "--predictions", required=True, metavar="FILE", help="JSONL: id and answer, or id and entities"
    )
    score.add_argument(
        "--scorer",
        choices=("definition", "e2e", "unco-legacy"),
        default="definition",
        help="default: %(default)s",
    )
    score.add_argument(
        "--parse",
        choices=("strict", "lenient"),
        default="strict",
        help="how answers are read (default: %(default)s)",
    )
    score.add_argument(
        "--compare",
        metavar="OTHER",
        help="another predictions file for the same tweets: paired test and verdict",
    )
    score.add_argument(
        "--resamples", type=int, default=1000, metavar="N", help="bootstrap resamples (default: %(default)s)"
    )
    score.add_argument("--seed", type=int, default=0, help="of bootstrap and test (default: %(default)s)")
    score.add_argument("--json", action="store_true", help="print one JSON object")
    score.set_defaults(run=_score)

    chains = commands.add_parser("chains", help="reasoning chains").add_subparsers(
        title="commands", required=True, metavar="COMMAND"
    )
    build = chains.add_parser("build", help="write verified chains of D1 with a data card and checksums")
    build.add_argument("--source", default="twitter-gmner", help="data set (default: %(default)s)")
    build.add_argument("--root", required=True, help="the folder that holds the data set's own folder")
    build.add_argument(
        "--out", required=True, metavar="DIR", help="where chains.jsonl, README.md and checksums.txt go"
    )
    build.add_argument("--version", help="of the annotation (default: the newest)")
    build.add_argument("--split", default="train", help="default: %(default)s")
    build.add_argument("--styles", metavar="NAMES", help="separated by commas (default: all)")
    build.add_argument(
        "--d1-share",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="share of tweets in D1; 1 = all (default: %(default)s)",
    )
    build.add_argument("--seed", type=int, default=0, help="of D1 and of the wordings (default: %(default)s)")
    build.add_argument(
        "--privileged", action="store_true", help="also name what only the image shows (testbed)"
    )
    build.add_argument("--json", action="store_true", help="print one JSON object")
    build.set_defaults(run=_build_chains)

    run = commands.add_parser("run", help="run the notebooks of a profile by papermill")
    run.add_argument(
        "--profile",
        default="tiny",
        metavar="NAME",
        help="of notebooks/profiles, or a yaml file (default: %(default)s)",
    )
    run.add_argument("--out", metavar="DIR", help="run folder (default: outputs/NAME)")
    run.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="pairs",
        help="override a key of the profile; repeatable",
    )
    run.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NOTEBOOK",
        help="run only this notebook (01 or its name); repeatable",
    )
    run.add_argument("--from", dest="start_from", metavar="NOTEBOOK", help="begin with this notebook")
    run.set_defaults(run=_run)
    stage_commands.add_commands(commands)
    preflight_command.add_commands(commands)
    testbed_command.add_commands(commands)
    compare_command.add_commands(commands)
    return parser


_SCORE_HELP = (
    "GMNER, MNER and EEG with 95 % intervals, per type, bias, how the answers were read, and yardsticks. A row of the file is a JSON "
    'object with "id" and either "entities" (boxes in original pixels) or "answer" (raw model text) with "coordinate_space".'
)


def _check(arguments: argparse.Namespace) -> int:
    from mcr_lib.data.check import check

    report = check(arguments.source, arguments.root, version=arguments.version, images_dir=arguments.images)
    if arguments.json:
        _print_json(report.to_json())
    else:
        from mcr_lib.study.tables.show import show_check

        show_check(report, _console())
    return 1 if report.differences else 0


def _score(arguments: argparse.Namespace) -> int:
    from mcr_lib.study.tables.scoring import score_file

    result = score_file(
        source=arguments.source, root=arguments.root, version=arguments.version, split=arguments.split, predictions=arguments.predictions,
        scorer=arguments.scorer, parse=arguments.parse, compare=arguments.compare, n_resamples=arguments.resamples, seed=arguments.seed,
    )  # fmt: skip
    if arguments.json:
        _print_json(result)
    else:
        from mcr_lib.study.tables.show import show_score

        show_score(result, _console())
    return 0


def _build_chains(arguments: argparse.Namespace) -> int:
    from mcr_lib.study.commands import chains_command

    built = chains_command.build(
        source=arguments.source, root=arguments.root, out=arguments.out, version=arguments.version, split=arguments.split,
        styles=[name.strip() for name in arguments.styles.split(",")] if arguments.styles else (), d1_share=arguments.d1_share,
        seed=arguments.seed, privileged=arguments.privileged,
    )  # fmt: skip
    if arguments.json:
        _print_json(built)
    else:
        print(chains_command.summary(built))
    return 0


def _run(arguments: argparse.Namespace) -> int:
    from mcr_lib.study.commands import runner
    from mcr_lib.study.runs import config

    return runner.run(
        arguments.profile,
        out=arguments.out,
        overrides=config.parse_set(arguments.pairs),
        only=tuple(arguments.only),
        start_from=arguments.start_from,
        console=_console(),
    )


def _console() -> Any:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 132)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))


if __name__ == "__main__":
    sys.exit(main())
