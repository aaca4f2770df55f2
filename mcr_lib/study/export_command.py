"""`mcr export`: what a run is made of, for other frameworks."""

import argparse
from pathlib import Path
from typing import Any

from mcr_lib.errors import UserError


def add_commands(commands: Any) -> None:
    """Add `export` to the parser of `mcr`."""
    export = commands.add_parser("export", help="rows, rewards and commands for other frameworks")
    swift = export.add_subparsers(title="frameworks", required=True, metavar="FRAMEWORK").add_parser(
        "ms-swift", help="with which the paper was trained", description=_HELP
    )
    swift.add_argument("--profile", metavar="NAME", help="of notebooks/profiles, or a yaml file (default: that of --run)")
    swift.add_argument("--run", metavar="DIR", dest="folder", help="run folder (default: outputs/NAME)")
    swift.add_argument("--setting", metavar="NAME", help="it and what it starts from (default: all that are trained)")
    swift.add_argument("--out", required=True, metavar="DIR", help="where the files go")
    swift.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="pairs", help="override a key; repeatable")
    swift.set_defaults(run=_ms_swift)


_HELP = (
    "Writes, per setting, SETTING.jsonl (rows), rewards_SETTING.py (the five rewards as a plug-in, for GRPO) and SETTING.sh (the command, "
    "with the options of the profile). Run the scripts in the order in which they are told."
)


def _ms_swift(arguments: argparse.Namespace) -> int:
    from mcr_lib.study import config
    from mcr_lib.study.export_swift import export
    from mcr_lib.study.settings import Study

    folder = arguments.folder and Path(arguments.folder).absolute()
    if arguments.profile is None and folder is None:
        raise UserError("nothing to export; give --profile NAME, or --run DIR with the folder of a run")
    profile = arguments.profile or str(folder / "profile.yaml")
    if arguments.profile is None and not Path(profile).is_file():
        raise UserError(f"{folder} holds no profile.yaml, so no run was made there; give --profile NAME too")
    study = Study(config.load(profile, folder, config.parse_set(arguments.pairs)))
    for path in export(study, arguments.out, arguments.setting):
        print(path)
    return 0
