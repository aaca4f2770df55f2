"""Reports for the terminal: a data check and a score as tables and sentences."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console

from mcr_lib.bias import ABSENT
from mcr_lib.metrics import TASKS
from mcr_lib.referring import METRICS
from mcr_lib.study.catalogue import TEXTUAL_BIAS, label, labels
from mcr_lib.study.check import CheckReport, quirks_by_kind
from mcr_lib.study.render import terminal

_ID_NOTES = {
    "missing": "count as empty answers", "null": "no answer in the row: count as empty answers",
    "repeated": "the last row counts", "unknown": "left out",
    "shortened": "read without IMGID:, folder, .jpg, .png or .0",
}  # fmt: skip
_PLACINGS = {
    "exact": "placed", "lenient": "placed without spaces", "duplicate": "duplicate",
    "unplaced": "not in the text",
}  # fmt: skip


def show_check(report: CheckReport, console: Console) -> None:
    """Print every statistic beside the expected one, the state of the images, the quirks and the verdict."""
    columns, lines = report.found, []
    for name in dict.fromkeys(name for statistics in columns.values() for name in statistics):
        lines.append(line := [name])
        for column, statistics in columns.items():
            value, expected = statistics.get(name), report.expected.get(column, {}).get(name)
            cell = "" if value is None else f"{_number(value)} ({_number(expected)})"
            line.append(cell if value is None or expected in (None, value) else f"[bold red]{cell}[/]")
    console.print(terminal(f"{report.source}: found (expected)", ["", *columns], lines))
    if len(report.n_types) > 4:
        console.print(f"types: {_counts(report.n_types)}", highlight=False)
    images, problems = report.images, report.images.problems
    counts = ", ".join(f"{count:,} {kind}" for kind, count in images.counts.items())
    _print(console, f"images of {images.n_examples:,} tweets: {counts}")
    more = [f"… and {len(problems) - 5:,} more (all with --json)"] if len(problems) > 5 else []
    for problem in [*problems[:5], *more]:
        _print(console, f"  {problem}")
    _print(console, "quirks:" if report.quirks else "quirks: none")
    for kind, quirks in quirks_by_kind(report.quirks).items():
        _print(console, f"  {len(quirks):,} × {kind}, e.g. {quirks[0].where}: {quirks[0].what[:80]}")
    for difference in report.broken or report.differences[:5]:
        _print(console, f"DIFFERS  {difference}", style="bold red" if report.broken else "yellow")
    if not report.broken:
        _print(console, report.verdict, style="green")


def _number(value: int | str | None) -> str:
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else value


def show_score(result: Mapping[str, Any], console: Console | None = None) -> None:
    """Print a report of `scoring.score_examples`; without console as plain text, 120 columns wide."""
    console = console or Console(width=120, force_terminal=False, force_jupyter=False)
    _print(console, f"{result['predictions']}: {result['n_examples']:,} tweets")
    if "note" in result:
        _print(console, result["note"], style="yellow")
    tasks, lines = [task for task in TASKS if task in result], []
    for task in tasks:
        lines.append([task.upper(), *_cells(result[task], ("p", "r", "f1")), _ends(result[task]["ci95"])])
    if tasks:
        console.print(terminal("scores, %", ["", "P", "R", "F1", "95 % interval of F1"], lines))
    if grec := result.get("grec"):
        lines = [[label(f"grec_{k}"), *_cells(grec, [k]), _ends(grec["ci95"][k])] for k in METRICS]
        console.print(terminal("GREC, %", ["", "", "95 % interval"], lines))
    types = result["by_type"].get("mner", {})
    if 0 < len(types) <= 5:
        cell = "{f1:.2f} ({n_gold:,})".format_map
        lines = [[task.upper(), *map(cell, rows.values())] for task, rows in result["by_type"].items()]
        console.print(terminal("F1 by type, % (gold entities)", ["", *types], lines))
    _show_bias(result, console)
    _show_parsing(result, console)
    if "yardsticks" in result:
        lines = [[name, *_cells(row, ("gmner_f1", "n_f1"))] for name, row in result["yardsticks"].items()]
        own = {"gmner_f1": result["gmner"]["f1"], "n_f1": result["textual_bias"]["n_f1"]}
        lines.append([f"[bold]{cell}[/]" for cell in ("this file", *_cells(own, own))])
        console.print(terminal("yardsticks: perfect text, no model", ["", *labels(own).values()], lines))
    if compared := result.get("compare"):
        for task in (task for task in (*tasks, "grec") if task in compared):
            _print(console, compared[task]["verdict"])
        _show_ids(compared["ids"], f"of {compared['with']}, ", console)
    _print(console, f"signature: {result['signature']}")


def _show_bias(result: Mapping[str, Any], console: Console) -> None:
    if textual := result.get("textual_bias"):
        hard, sharing = textual["hard"], textual["box_sharing"]
        rows = {"all tweets": textual, f"hard subset (tweets: {hard['n_tweets']:,})": hard}
        lines = [
            [name, *_cells(row, TEXTUAL_BIAS)] for name, row in rows.items()
        ]  # the paper's: no hard subset
        console.print(terminal("textual bias, %", ["", *labels(TEXTUAL_BIAS).values()], lines))
        pairs = f"{sharing['pairs']:,} (gold {sharing['gold_pairs']:,})"
        wrong = _counts(textual["wrong_boxes"])
        _print(console, f"wrong boxes show: {wrong}; pairs that share a box: {pairs}")
    visual = result["visual_bias"]
    n_count = f"{label('n_count')} {visual['n_count']:,} of {visual['n_predictions']:,} predictions"
    n_rate = f"{label('n_rate')} {_cells(visual, ['n_rate'])[0]} %"
    parts = _counts({kind: visual[f"{kind}_count"] for kind in ABSENT})
    _print(console, f"visual bias: {n_count} ({n_rate}): {parts}")


def _show_parsing(result: Mapping[str, Any], console: Console) -> None:
    parse, placing, other = result["parse"], result["placing"], dict(result["other_parse"])
    n, failed = parse["n_answers"], parse["failed_by_reason"]
    parsed = f"read as they are {_share(parse['ok'], n)}, mended {_share(parse['lenient'], n)}"
    parsed += f"{_why(parse['repairs'])}, not read {_share(sum(failed.values()), n)}{_why(failed)}"
    _print(console, f"answers: {n:,}; {parsed}")
    lost, boxes = parse["lost_entities"], parse["lost_boxes"]
    dropped = f"entities dropped: {sum(lost.values()):,}{_why(lost)}" if lost else ""
    wrong = f"answers with boxes not read (a wrong location): {_counts(boxes)}" if boxes else ""
    file = f"file: read as {result['format']} (docs/scoring.md); --format names another"
    notes = [dropped, wrong, parse.get("advice"), parse.get("other_form"), file * (result["format"] != "mcr")]
    for line in filter(None, [*notes, result["coordinates"].get("question")]):
        _print(console, line, style="yellow")
    n = placing["n_predictions"]
    kinds = ", ".join(f"{name} {_share(placing[key], n)}" for key, name in _PLACINGS.items())
    _print(console, f"predictions: {n:,}; {kinds}, with several boxes {placing['several_boxes']:,}")
    how = {"lenient": "leniently", "strict": "strictly"}[other.pop("parse")]
    f1 = [f"{label(key)} {value:.2f}" for key, value in other.items()]
    _print(console, f"read {how} instead: {', '.join(f1)}")
    _show_ids(result["ids"], "", console)
    if n := result["image_size_differs"]:
        note = f"{n:,} rows name another image size than annotated (boxes scored as shares)"
        _print(console, note, style="yellow")


def _show_ids(ids_by_kind: Mapping[str, Mapping[str, Any]], prefix: str, console: Console) -> None:
    for kind, ids in ids_by_kind.items():
        if ids["count"]:
            count, some = f"{ids['count']:,} ({_ID_NOTES[kind]})", ", ".join(ids["first"])
            _print(console, f"{prefix}{kind} ids: {count}, e.g. {some}", style="yellow")


def _print(console: Console, text: str, *, style: str | None = None) -> None:
    """Print one line as it is: words of a file are no markup, and the terminal wraps the line."""
    console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)


def _why(counts: Mapping[str, int]) -> str:
    return f" ({_counts(counts)})" if counts else ""


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _ends(interval: Sequence[float] | None) -> str:
    return " to ".join(f"{end:.2f}" for end in interval or ()) or "–"


def _cells(row: Mapping[str, float | None], keys: Iterable[str]) -> list[str]:
    return ["–" if row.get(key) is None else f"{row[key]:.2f}" for key in keys]


def _share(count: int, total: int) -> str:
    return f"{count:,} ({100 * count / total:.1f} %)" if total else "0"
