"""`mcr data check` and `mcr score`."""

import json
import sys
from argparse import Namespace

from mcr_lib.study.check import check as check_data
from mcr_lib.study.commands.arguments import console
from mcr_lib.study.tables.scoring import score_file, unread
from mcr_lib.study.tables.terminal import show_check, show_score


def check(given: Namespace) -> int:
    """`mcr data check`."""
    report = check_data(given.source, given.root, version=given.version, images_dir=given.images)
    if given.json:
        print(json.dumps(report.to_json(), indent=2))
    else:
        show_check(report, console())
    return 1 if report.broken else 0


def score(given: Namespace) -> int:
    """`mcr score`."""
    keys = ("source", "root", "version", "split", "predictions", "scorer", "parse", "compare", "seed")
    keys += ("format", "space")
    result = score_file(**{key: getattr(given, key) for key in keys}, n_resamples=given.resamples)
    is_unread = result["parse"]["nothing_read"]
    if given.json:
        print(json.dumps(result, indent=2))
    elif not is_unread:
        show_score(result, console())
    if is_unread:
        print(f"mcr: {unread(result)}", file=sys.stderr)
    return int(is_unread)
