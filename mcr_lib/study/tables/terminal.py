"""Reports for the terminal: a data check and a score as tables and sentences."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from mcr_lib.data.check import CheckReport, quirks_by_kind
from mcr_lib.metrics import TASKS
from mcr_lib.study.tables.catalogue import TEXTUAL_BIAS, label, labels
from mcr_lib.study.tables.render import terminal

_ID_NOTES = {"missing": "count as empty answers", "repeated": "the last row counts", "unknown": "left out"}


def show_check(report: CheckReport, console: Console) -> None:
    """Print every statistic beside the expected one, the state of the images, the quirks and the verdict."""
    columns, rows = report.found, []
    for name in dict.fromkeys(name for statistics in columns.values() for name in statistics):
        values = [(of.get(name), report.expected.get(column, {}).get(name)) for column, of in columns.items()]
        rows.append([name, *(_checked(value, expected) for value, expected in values)])
    console.print(terminal(f"{report.source}: found (expected)", ["", *columns], rows))
    if len(report.n_types) > 4:
        console.print(f"types: {_counts(report.n_types)}", highlight=False)
    images, problems = report.images, report.images.problems
    counts = ", ".join(f"{count:,} {kind}" for kind, count in images.counts.items())
    _print(console, f"images of {images.n_examples:,} tweets: {counts}")
    for problem in problems[:5]:
        _print(console, f"  {problem}")
    if len(problems) > 5:
        _print(console, f"  … and {len(problems) - 5:,} more (all with --json)")
    _print(console, "quirks:" if report.quirks else "quirks: none")
    for kind, quirks in quirks_by_kind(report.quirks).items():
        _print(console, f"  {len(quirks):,} × {kind}, e.g. {quirks[0].where}: {quirks[0].what[:80]}")
    for difference in report.differences:
        _print(console, f"DIFFERS  {difference}", style="bold red")
    if not report.differences:
        _print(console, report.verdict, style="green")


def _checked(value: int | str | None, expected: int | str | None) -> str:
    if value is None:
        return ""
    cell = f"{_number(value)} ({_number(expected)})"
    return cell if expected in (None, value) else f"[bold red]{cell}[/]"


def _number(value: int | str | None) -> str:
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else value


def print_score(result: Mapping[str, Any]) -> None:
    """Print a report as plain text, 120 columns wide."""
    show_score(result, Console(width=120, force_terminal=False, force_jupyter=False))


def show_score(result: Mapping[str, Any], console: Console) -> None:
    """Print scores with intervals, per type, bias, how the answers were parsed, yardsticks and a comparison.

    Args:
        result: from `scoring.score_examples`.
    """
    _print(console, f"{result['predictions']}: {result['n_examples']:,} tweets")
    scores = {task.upper(): result[task] for task in TASKS if task in result}
    lines = [[name, *map(_f, (s["p"], s["r"], s["f1"])), _interval(s["ci95"])] for name, s in scores.items()]
    console.print(terminal("scores, %", ["", "P", "R", "F1", "95 % interval of F1"], lines))
    types = list(result["by_type"].get("mner", {}))
    if len(types) <= 5:
        lines = []
        for task, rows in result["by_type"].items():
            lines.append([task.upper(), *(f"{row['f1']:.2f} ({row['n_gold']:,})" for row in rows.values())])
        console.print(terminal("F1 by type, % (gold entities)", ["", *types], lines))
    _show_bias(result, console)
    _show_parsing(result, console)
    if "yardsticks" in result:
        lines = [[name, _f(row["gmner_f1"]), _f(row["n_f1"])] for name, row in result["yardsticks"].items()]
        own = ("this file", _f(result["gmner"]["f1"]), _f(result["textual_bias"]["n_f1"]))
        lines.append([f"[bold]{cell}[/]" for cell in own])
        columns = ["", label("gmner_f1"), label("n_f1")]
        console.print(terminal("yardsticks: perfect text, no model", columns, lines))
    if "compare" in result:
        compared = result["compare"]
        for task in TASKS:
            if task in compared:
                _print(console, compared[task]["verdict"])
        _show_ids(compared["ids"], f"of {compared['with']}, ", console)
    _print(console, f"signature: {result['signature']}")


def _show_bias(result: Mapping[str, Any], console: Console) -> None:
    if "textual_bias" in result:
        textual = result["textual_bias"]
        hard, wrong, sharing = textual["hard"], textual["wrong_boxes"], textual["box_sharing"]
        rows = {"all tweets": textual, f"hard subset (tweets: {hard['n_tweets']:,})": hard}
        lines = [[name, *(_f(row[key]) for key in TEXTUAL_BIAS)] for name, row in rows.items()]
        console.print(terminal("textual bias, %", ["", *labels(TEXTUAL_BIAS).values()], lines))
        pairs = f"{sharing['pairs']:,} (gold {sharing['gold_pairs']:,})"
        _print(console, f"wrong boxes show: {_counts(wrong)}; pairs that share a box: {pairs}")
    visual = result["visual_bias"]
    n_count = f"{label('n_count')} {visual['n_count']:,} of {visual['n_predictions']:,} predictions"
    n_rate = f"{label('n_rate')} {_f(visual['n_rate'])} %"
    _print(console, f"visual bias: {n_count} ({n_rate}), altered {visual['altered']:,}")


def _show_parsing(result: Mapping[str, Any], console: Console) -> None:
    parse, placing, other = result["parse"], result["placing"], result["other_parse"]
    n, failed = parse["n_answers"], parse["failed_by_reason"]
    parsed = f"read as they are {_share(parse['ok'], n)}, mended {_share(parse['lenient'], n)}"
    reasons = f" ({_counts(failed)})" if failed else ""
    _print(console, f"answers: {n:,}; {parsed}, not read {_share(sum(failed.values()), n)}{reasons}")
    n, names = placing["n_predictions"], {"exact": "placed", "lenient": "placed without spaces"}
    names |= {"duplicate": "duplicate", "unplaced": "not in the text"}
    kinds = ", ".join(f"{name} {_share(placing[key], n)}" for key, name in names.items())
    _print(console, f"predictions: {n:,}; {kinds}, with several boxes {placing['several_boxes']:,}")
    f1 = ", ".join(f"{label(key)} {value:.2f}" for key, value in other.items() if key != "parse")
    _print(console, f"read {'leniently' if other['parse'] == 'lenient' else 'strictly'} instead: {f1}")
    _show_ids(result["ids"], "", console)
    if n := result["image_size_differs"]:
        note = "rows name another image size than annotated (boxes scored as shares)"
        _print(console, f"{n:,} {note}", style="yellow")


def _show_ids(ids_by_kind: Mapping[str, Mapping[str, Any]], prefix: str, console: Console) -> None:
    for kind, ids in ids_by_kind.items():
        if ids["count"]:
            count = f"{prefix}{kind} ids: {ids['count']:,} ({_ID_NOTES[kind]})"
            _print(console, f"{count}, e.g. {', '.join(ids['first'])}", style="yellow")


def _print(console: Console, text: str, *, style: str | None = None) -> None:
    """Print one line as it is: words of a file are no markup, and the terminal wraps the line."""
    console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _f(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _interval(ends: list[float] | None) -> str:
    return "–" if ends is None else f"{ends[0]:.2f} to {ends[1]:.2f}"


def _share(count: int, total: int) -> str:
    return f"{count:,} ({100 * count / total:.1f} %)" if total else "0"
