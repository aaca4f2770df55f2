"""Reports for the terminal: a data check and a score as tables with the sentences that read them."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from mcr_lib.data.check import CheckReport, quirks_by_kind

_TASKS = (("gmner", "GMNER"), ("mner", "MNER"), ("eeg", "EEG"))


def show_check(report: CheckReport, console: Console) -> None:
    """Every statistic beside the expected one, the images, the quirks, and whether all is as expected."""
    table = _table(f"{report.source}: found (expected)", "", *report.found)
    for name in dict.fromkeys(name for statistics in report.found.values() for name in statistics):
        cells = []
        for column in report.found:
            found, expected = (
                statistics.get(column, {}).get(name) for statistics in (report.found, report.expected)
            )
            if found is None:
                cells.append("")
            elif expected is None:
                cells.append(f"{_n(found)} (–)")
            else:
                cells.append(
                    f"{_n(found)} ({_n(expected)})"
                    if found == expected
                    else f"[bold red]{_n(found)} ({_n(expected)})[/]"
                )
        table.add_row(name, *cells)
    console.print(table)
    if len(report.n_types) > 4:
        console.print(
            "types: " + ", ".join(f"{name} {count:,}" for name, count in report.n_types.items()),
            highlight=False,
        )
    counts = ", ".join(f"{count:,} {kind}" for kind, count in report.images.counts.items())
    _say(console, f"images of {report.images.n_examples:,} tweets: {counts}")
    for problem in report.images.problems[:5]:
        _say(console, f"  {problem}")
    if len(report.images.problems) > 5:
        _say(console, f"  … and {len(report.images.problems) - 5:,} more (all with --json)")
    _say(console, "quirks:" if report.quirks else "quirks: none")
    for kind, quirks in quirks_by_kind(report.quirks).items():
        _say(console, f"  {len(quirks):,} × {kind}, e.g. {quirks[0].where}: {quirks[0].what[:80]}")
    for difference in report.differences:
        _say(console, f"DIFFERS  {difference}", style="bold red")
    if not report.differences:
        _say(console, report.verdict, style="green")


def show_score(result: Mapping[str, Any], console: Console) -> None:
    """Scores with intervals, per type, bias, how the answers were read, yardsticks, and a comparison where
    there is one.
    """
    _say(console, f"{result['predictions']}: {result['n_examples']:,} tweets")
    table = _table("scores, %", "", "P", "R", "F1", "95 % interval of F1")
    for key, name in _TASKS:
        if key in result:
            s = result[key]
            table.add_row(name, _f(s["p"]), _f(s["r"]), _f(s["f1"]), _ci(s["ci95"]))
    console.print(table)
    table = _table("F1 by type, % (gold entities)", "", *result["by_type"].get("mner", {}))
    for key, name in _TASKS:
        if key in result["by_type"]:
            table.add_row(
                name, *(f"{row['f1']:.2f} ({row['n_gold']:,})" for row in result["by_type"][key].values())
            )
    if len(table.columns) <= 6:
        console.print(table)
    _show_bias(result, console)
    _show_reading(result, console)
    if "yardsticks" in result:
        table = _table("yardsticks: perfect text, no model", "", "GMNER F1", "N-F1")
        for name, row in result["yardsticks"].items():
            table.add_row(name, _f(row["gmner_f1"]), _f(row["n_f1"]))
        table.add_row(
            "[bold]this file[/]",
            f"[bold]{_f(result['gmner']['f1'])}[/]",
            f"[bold]{_f(result['textual_bias']['n_f1'])}[/]",
        )
        console.print(table)
    if "compare" in result:
        for key, _ in _TASKS:
            if key in result["compare"]:
                _say(console, result["compare"][key]["verdict"])
        _show_ids(result["compare"]["ids"], f"of {result['compare']['with']}, ", console)
    _say(console, f"signature: {result['signature']}")


def _show_bias(result: Mapping[str, Any], console: Console) -> None:
    if "textual_bias" in result:
        table = _table(
            "textual bias, %",
            "",
            "N-Pre",
            "N-Rec",
            "N-F1",
            "false grounding",
            "missed grounding",
            "balanced accuracy",
        )
        hard = result["textual_bias"]["hard"]
        for name, row in (
            ("all tweets", result["textual_bias"]),
            (f"hard subset (tweets: {hard['n_tweets']:,})", hard),
        ):
            keys = ("n_pre", "n_rec", "n_f1", "false_grounding", "missed_grounding", "balanced_accuracy")
            table.add_row(name, *(_f(row[key]) for key in keys))
        console.print(table)
        wrong, sharing = result["textual_bias"]["wrong_boxes"], result["textual_bias"]["box_sharing"]
        told = ", ".join(f"{kind} {count:,}" for kind, count in wrong.items())
        _say(
            console,
            f"wrong boxes show: {told}; pairs that share a box: {sharing['pairs']:,} (gold {sharing['gold_pairs']:,})",
        )
    visual = result["visual_bias"]
    _say(
        console,
        f"visual bias: N-Count {visual['n_count']:,} of {visual['n_predictions']:,} predictions (N-Rate {_f(visual['n_rate'])} %), "
        f"altered {visual['altered']:,}",
    )


def _show_reading(result: Mapping[str, Any], console: Console) -> None:
    parse, placing = result["parse"], result["placing"]
    n, n_failed = parse["n_answers"], sum(parse["failed_by_reason"].values())
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in parse["failed_by_reason"].items())
    _say(
        console,
        f"answers: {n:,}; read as they are {_share(parse['ok'], n)}, mended {_share(parse['lenient'], n)}, "
        f"not read {_share(n_failed, n)}{f' ({reasons})' if reasons else ''}",
    )
    n = placing["n_predictions"]
    _say(
        console,
        f"predictions: {n:,}; placed {_share(placing['exact'], n)}, placed without spaces {_share(placing['lenient'], n)}, "
        f"duplicate {_share(placing['duplicate'], n)}, not in the text {_share(placing['unplaced'], n)}, "
        f"with several boxes {placing['several_boxes']:,}",
    )
    other = result["other_parse"]
    told = ", ".join(f"{name} F1 {other[f'{key}_f1']:.2f}" for key, name in _TASKS if f"{key}_f1" in other)
    _say(console, f"read {'leniently' if other['parse'] == 'lenient' else 'strictly'} instead: {told}")
    _show_ids(result["ids"], "", console)
    if result["image_size_differs"]:
        n_other = result["image_size_differs"]
        _say(
            console,
            f"{n_other:,} rows name another image size than annotated (boxes scored as shares)",
            style="yellow",
        )


def _show_ids(ids_by_kind: Mapping[str, Mapping[str, Any]], prefix: str, console: Console) -> None:
    for kind, ids in ids_by_kind.items():
        if ids["count"]:
            note = {
                "missing": "count as empty answers",
                "repeated": "the last row counts",
                "unknown": "left out",
            }[kind]
            _say(
                console,
                f"{prefix}{kind} ids: {ids['count']:,} ({note}), e.g. {', '.join(ids['first'])}",
                style="yellow",
            )


def _say(console: Console, text: str, *, style: str | None = None) -> None:
    """One line as it is: the words of a file are no markup, and the terminal breaks it where it must."""
    console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _n(value: int | str) -> str:
    return f"{value:,}" if isinstance(value, int) else value


def _f(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _ci(interval: list[float] | None) -> str:
    return "–" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}"


def _share(count: int, total: int) -> str:
    return f"{count:,} ({100 * count / total:.1f} %)" if total else "0"
