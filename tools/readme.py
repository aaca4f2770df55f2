"""The tables of the documents, and sentences on results, generated from committed evidence: `python -m
tools.readme` rewrites them between their markers.
"""

import csv
import json
import re
import runpy
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from mcr_lib.data.files import read_text, write_text
from mcr_lib.errors import UserError
from mcr_lib.metrics import SCORERS
from mcr_lib.study.compare import tables as seeds_tables
from mcr_lib.study.render import markdown
from mcr_lib.study.runs.config import repository
from mcr_lib.study.tables import facts
from mcr_lib.verify import FLAWS
from tools import headline

DOCUMENTS = ("README.md", "REPRODUCING.md", "docs/scoring.md")
_MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_NUMBER = re.compile(r"(<!-- paper: (.+?) -->)[\d.,]+(?<=\d)")  # a number of the paper within a sentence
TOUR = "docs/tour"
TINY = "data/results/tiny"
YARDSTICKS = "data/results/twitter-gmner-v2-test/yardsticks.json"
CLAIMS = seeds_tables.COMMITTED
_FIGURES = {
    "claims": "Every claim: difference, interval, seeds and verdict",
    "sweeps": "GMNER F1 against σ, λ1 and λ5",
    "kept": "What CVO changes, against the share of contradicting pairs among those it trains on",
    "looks": "Share of chains that describe the picture, and false grounding of each kind",
    "steps": "Reward, entropy and length of CVO's answers over its updates, with many styles and with one",
    "dose": "GMNER F1 and false grounding against the share of training tweets drawn as the tests are",
}
GAIN = "data/results/twitter-gmner-v2-test/gain.json"
_OPEN = {
    "silent": "ours",
    "our reading": "value",
    "contradiction": "ours",
}  # status of a fact -> what is done


def yardsticks() -> str:
    """GMNER F1 of the yardsticks under each scorer, and N-F1."""
    evidence = json.loads(read_text(repository() / YARDSTICKS))
    columns = {f"`{scorer}`": scorer for scorer in SCORERS} | {"N-F1": "n_f1"}
    first, rows = "perfect text, and …", evidence["rows"].items()
    rows = [{first: name} | {c: f"{row[key]:.2f}" for c, key in columns.items()} for name, row in rows]
    data = f"On {evidence['data']}, {evidence['split']}, n = {evidence['n_examples']:,}."
    return f"{markdown(rows, [first, *columns])}\n\n{data}\n"


def accuracies() -> str:
    """The accuracy of one decision alone, or of all four, at which GMNER F1 equals the paper's best."""
    needed = json.loads(read_text(repository() / YARDSTICKS))["accuracy_for"]
    first = f"accuracy, %, at which GMNER F1 = {needed.pop('f1')}"
    return markdown([{first: "that decision alone is imperfect", **needed}], [first, *needed]) + "\n"


def departures() -> str:
    """Decisions where the paper is silent or not clear, and what is done otherwise, numbered."""
    return "".join(f"{k}. {line}\n" for k, line in enumerate(departure_lines(), start=1))


def departure_lines() -> list[str]:
    """A sentence per decision where the paper is silent, implicit or at odds with itself, then per departure.

    Each fact in its own words: what is done here, where the paper was read, and why if it is our reading.
    """
    of, lines = facts.all_facts(), []
    for name, fact in of["facts"].items():
        if (key := _OPEN.get(fact["status"])) is not None:
            why = fact.get("why") or "; ".join(fact.get("values", ()))
            source = f"{fact['status'].capitalize()}, {fact['where']}{why and f': {why}'}"
            lines.append(with_facts(f"**{name.replace('_', ' ')}**: {fact[key]}. ({source}.)"))
    return lines + [f"{one['what']}: {one['why']}." for one in of["departures"]]


def with_facts(template: str) -> str:
    """A text with each `{fact}` and each `{table[row][column]}` of the paper replaced by its value."""
    of = facts.all_facts()
    values = {name: fact.get("value") for name, fact in of["facts"].items()}
    return template.format(**values, **{name: facts.table(name) for name in of["tables"]})


def published_rows() -> list[dict[str, str]]:
    """Published GMNER F1 with the paper that reports each, the highest first."""
    rows = [{**row, "f1": with_facts(str(row["f1"]))} for row in facts.all_facts()["published_gmner_f1"]]
    return sorted(rows, key=lambda row: -float(row["f1"]))


def reproduction() -> list[dict[str, Any]]:
    """How each table and figure of the paper is reproduced, and its status: `data/reproduction.yaml`."""
    return yaml.safe_load(read_text(repository() / "data" / "reproduction.yaml"))["rows"]


def published() -> str:
    """Published GMNER F1 with the paper that reports each, as context."""
    rows = [{**row, "GMNER F1": row["f1"], "reported by": row["reported_by"]} for row in published_rows()]
    return markdown(rows, ("system", "GMNER F1", "reported by")) + "\n"


def paper() -> str:
    """Every table and figure of the paper: how it would be reproduced, what is expected, its status."""
    rows = []
    for row in reproduction():
        cells = {"command": f"`{row['command']}`" if row["command"] else "–"}
        cells |= {key: with_facts(row[key]) for key in ("hours", "expected")}
        is_open = row["status"] == "not run"
        rows.append(
            {**row, **cells, "status": f"not run: needs {row['missing']}" if is_open else row["status"]}
        )
    columns = ("paper", "what", "command", "hardware", "hours", "expected", "status")
    return markdown(rows, columns) + "\n"


def main_results() -> str:
    """The paper's own main results: F1 of the models that it trains."""
    rows = {}
    for row in facts.f1_rows():
        key = {"direct": "direct", "CoT": "CoT", "3-shot": "CoT, 3 shots"}.get(row["method"], row["method"])
        cells = rows.setdefault(key, {"F1, % (paper's T1)": key})
        cells[f"{row['model']} {row['kind']}"] = row["f1"]
    return markdown([*rows.values()], [*rows["MCR"]]) + "\n"


def gain() -> str:
    """What the paper's N-Pre and N-Rec are worth in GMNER F1, by simulation on the real annotation."""
    evidence, rows = json.loads(read_text(repository() / GAIN)), {}
    for row in evidence["simulated"]:
        system = f"{row['model']} {row['method']}"
        cells = rows.setdefault(system, {"system": system})
        if row["false_grounding"] is None:  # the paper's own row
            cells |= {"N-Pre": f"{row['n_pre']:.1f}", "N-Rec": f"{row['n_rec']:.1f}"}
        cells[f"GMNER F1, {row['kind']}"] = f"{row['f1']:.1f}"
    kinds = [key for key in rows["Qwen2.5-VL-7B SFT"] if key.startswith("GMNER")]
    table = markdown([*rows.values()], ["system", "N-Pre", "N-Rec", *kinds])
    data = f"{evidence['data']}, {evidence['split']}, n = {evidence['n_examples']:,}"
    draws = f"mean of {evidence['n_repeats']} draws, scorer `{evidence['scorer']}`"
    return f"{table}\n\nOn {data}; {draws}.\n"


def recall() -> str:
    """Where the paper's EEG recall comes from."""
    first, rows = "points of EEG recall", json.loads(read_text(repository() / GAIN))["recall"]
    columns = ["EEG recall", "right None", "boxes that hit", "% of gold boxes"]
    return markdown([{**row, first: row["system"]} for row in rows], [first, *columns]) + "\n"


def base() -> str:
    """What the shipped base model can do and which shortcuts it takes, with the bars that it had to reach."""
    measured = json.loads(read_text(repository() / "data" / "tiny-base" / "backbone.json"))["measured"]
    bars = runpy.run_path(str(repository() / "data" / "tiny-base" / "make" / "bars.py"))["BARS"]
    caption, box, false = (
        bars[bar] for bar in ("caption mner_f1", "caption box_accuracy", "gmner false_grounding")
    )
    columns = {
        f"captions: MNER F1 (≥ {caption:g})": ("caption", "mner_f1"),
        f"captions: boxes with IoU > 0.5 (≥ {box:g})": ("caption", "box_accuracy"),
        f"gmner: false grounding (≥ {false:g})": ("gmner", "false_grounding"),
        "bait is named": ("bait", "named_rate"),
        "the same, blank picture": ("bait", "named_rate_blank"),
    }
    first, rows = "%, of tweets", []
    for split, measures in measured.items():
        cells = {column: f"{measures[part][key]:.1f}" for column, (part, key) in columns.items()}
        rows.append({first: f"{split}, {measures['n']:,}", **cells})
    return markdown(rows, [first, *columns]) + "\n"


def tiny() -> str:
    """What `make run` gave: every setting of one seed, dev beside test, with 95 % intervals over tweets."""
    cells, note = _of_run()
    table = []
    for name in dict.fromkeys(setting for setting, _, _ in cells):
        values = {title: _of_tiny(cells.get((name, *at)), digits) for title, digits, *at in _TINY}
        table.append({_FIRST: name, **values, _STATED: _stated(cells, name)})
    columns = [_FIRST, *(title for title, *_ in _TINY), _STATED]
    return f"{markdown(table, columns)}\n\nIntervals: 95 %, over tweets. {note}\n"


def default_run() -> str:
    """The same in sentences, without intervals: F1, false grounding, and what the reasoning states."""
    cells, note = _of_run()
    names = list(dict.fromkeys(setting for setting, _, _ in cells))
    f1, false, stated = [], [], []
    for name in names:
        values = (float(cells[name, *at]["value"]) for at in _DEFAULT_RUN)
        called = _SETTINGS.get(name, name)
        f1.append("{} {:.1f} / {:.1f}".format(called, *values))
        false.append(f"{called} {float(cells[name, 'test', 'false_grounding']['value']):.1f} %")
        if (states := _stated(cells, name)) != "–":
            stated.append(f"{called} {states} %")
    return (
        f"GMNER F1 on `test` / `test_adversarial`: {', '.join(f1)}. False grounding on `test`:"
        f" {', '.join(false)}. {_STATED.capitalize()}: {', '.join(stated)}. {note}\n"
    )


def _stated(cells: dict[tuple[str, str, str], dict[str, str]], name: str) -> str:
    """The share of answers that the reasoning of a setting states, on each split."""
    rows = [cells.get((name, split, "faithful")) for split in _SPLITS]
    return " / ".join(f"{float(row['value']):.1f}" if row else "–" for row in rows) if any(rows) else "–"


def _of_run() -> tuple[dict[tuple[str, str, str], dict[str, str]], str]:
    """(setting, split, metric) -> the row of the committed run; and a note on it."""
    rows = list(csv.DictReader(read_text(repository() / TINY / "results.csv").splitlines()))
    cells = {(row["setting"], row["split"], row["metric"]): row for row in rows}
    shown = next(row for row in rows if row["split"] == "test" and row["metric"] == "gmner_f1")
    data = next(part for part in shown["signature"].split("|") if part.startswith("data="))
    run = f"One run (seed {shown['seed']}), {shown['n']} tweets of test, {data.removeprefix('data=')}."
    return cells, f"{run} {seeds_tables.CONTROLLED}"


def example() -> str:
    """README's picture and what it shows; in how many such tweets the reasoning states the answer."""
    of = json.loads(read_text(repository() / TOUR / "tour.json"))["example"]
    absent, n = " and ".join(of["absent"]), of["n_like_it_faithful"]
    right = f"but its reasoning {said(of['flaw'])}" if of["flaw"] else "and its reasoning states it"
    alt = f"One tweet, two answers: the base model boxes {absent}, after MCR nothing absent is boxed"
    return (
        f'<img src="{TOUR}/example.png" width="800" alt="{alt}">\n\n'
        f"*A tweet of the testbed with two answers of the run below. Left, the textual shortcut: the base"
        f" model boxes {absent}, which the picture does not show. Right, after MCR: the answer is right,"
        f" {right}. Of {of['n_like_it']} such tweets among {of['n_tweets']} (boxed wrongly before, right"
        f" after), the reasoning states the answer in {n or 'none'}.*\n"
    )


def said(flaw: str) -> str:
    """What a reasoning with this flaw does, after "its reasoning"."""
    return _SAID.get(flaw, f"does not state it ({FLAWS.get(flaw, flaw)})")


_SAID = {
    "missing_name": "leaves out a name that is answered",
    "foreign_slot": "names a box that the answer does not give",
    "missing_slot": "does not name the box that the answer gives",
    "wrong_negation": "denies what the answer boxes",
    "missing_negation": "shows what the answer leaves without a box",
    "wrong_type": "gives another type than the answer",
    "missing_type": "leaves out a type",
}
_SETTINGS = {"base": "base", "sft": "SFT", "mrsi": "MRSI", "mcr": "MCR"}
_ORDER = (  # of verdicts in a cell
    "shown", "the opposite is shown", "not shown", "too few seeds", "no run", "not run yet", "described",
)  # fmt: skip
_FIRST = "%, on test unless noted"
_SPLITS = ("test", "test_adversarial", "test_unseen")
_STATED = "reasoning states the answer (test / adversarial / unseen)"
_DEFAULT_RUN = (("test", "gmner_f1"), ("test_adversarial", "gmner_f1"))
"""Split and metric of README's sentence on `make run`."""
_TINY = (
    ("GMNER F1, dev", 1, "dev", "gmner_f1"), ("GMNER F1, test_adversarial", 1, "test_adversarial",
     "gmner_f1"),
    ("GMNER F1, test_unseen", 1, "test_unseen", "gmner_f1"), ("GMNER F1", 1, "test", "gmner_f1"), ("MNER F1",
     1, "test", "mner_f1"),
    ("false grounding", 1, "test", "false_grounding"), ("missed grounding", 1, "test", "missed_grounding"),
    ("foreign names, count", 0, "test", "foreign_count"),
    ("image-caused foreign names, muted", 1, "test", "image_caused_foreign_rate_muted"),
)  # fmt: skip
"""Column, digits, split and metric of the table of `make run`."""


def _of_tiny(row: dict[str, str] | None, digits: int) -> str:
    if row is None or not row["value"]:
        return "–"
    low, high = row["ci_low"], row["ci_high"]
    return f"{float(row['value']):.{digits}f}" + (
        f" [{float(low):.{digits}f}, {float(high):.{digits}f}]" if low and high else ""
    )


def claims() -> str:
    """A row per claim of the paper: its first contrast with a verdict, and the verdicts of all of them."""
    rows, note = _claims()
    lines = []
    for number in dict.fromkeys(row["number"] for row in rows if row["paper"] != "ours"):
        of_claim = [row for row in rows if row["number"] == number]
        judged = [row for row in of_claim if row["kind"] != "description"] or of_claim
        contrast, measure, value, seeds, _ = seeds_tables.cells(judged[0])
        verdicts = Counter(sorted((row["verdict"] for row in judged), key=_ORDER.index))
        words = [f"{n} {word}" if len(judged) > 1 else word for word, n in verdicts.items()]
        line = {"claim (paper)": f"{number}. {judged[0]['claim']} ({judged[0]['paper']})"}
        line |= {"primary contrast": f"{contrast}, {measure}", "mean (95 %)": value, "seeds": seeds}
        lines.append(line | {"verdicts of all contrasts": ", ".join(words)})
    return f"{markdown(lines, [*lines[0]])}\n\n{note}\n"


def claims_rows() -> str:
    """Every row of every claim, those of ours included."""
    rows, note = _claims()
    notes = dict.fromkeys(f"{row['number']}: {row['note']}." for row in rows if row["note"])
    heads = {"number": "#", "claim": "claim", "paper": "paper"}
    table = seeds_tables.claims_table([{**row} for row in rows], *heads).replace("| number |", "| # |", 1)
    figures = "".join(_figure(name) for name in _FIGURES)
    return f"{table}\n\n{' '.join(notes)}\n\n{figures}{note}\n"


def claims_values() -> str:
    """Every setting of the runs behind the claims."""
    if not (path := repository() / CLAIMS / "scores.json").is_file():
        return f"Not run yet. {seeds_tables.CONTROLLED}\n"
    return seeds_tables.settings_table(json.loads(read_text(path)))


def _figure(name: str) -> str:
    path = f"{CLAIMS}/{name}.png"
    return f"![{_FIGURES[name]}]({path})\n\n" if (repository() / path).is_file() else ""


def _claims() -> tuple[list[dict[str, Any]], str]:
    rows, note = seeds_tables.committed()
    return rows, f"Arrows: what the claim expects. {note}"


TABLES: dict[str, Callable[[], str]] = {
    "yardsticks": yardsticks,
    "accuracies": accuracies,
    "departures": departures,
    "published": published,
    "paper": paper,
    "main_results": main_results,
    "gain": gain,
    "recall": recall,
    "base": base,
    "tiny": tiny,
    "default_run": default_run,
    "example": example,
    "headline": lambda: (
        f"![Differences of GMNER F1 between settings]({headline.FIGURE}.png)\n\n{headline.sentence()}\n"
    ),
    "claims": claims,
    "claims_rows": claims_rows,
    "claims_values": claims_values,
}


def filled(text: str) -> str:
    """A document with every marked table, and every marked number of the paper, made anew.

    Raises:
        UserError: a marker names no table.
    """

    def table(match: re.Match[str]) -> str:
        if match[2] not in TABLES:
            raise UserError(f"no table {match[2]!r}; known: {', '.join(TABLES)}")
        return match[1] + TABLES[match[2]]() + match[3]

    return _NUMBER.sub(lambda m: m[1] + with_facts(f"{{{m[2]}}}"), _MARKED.sub(table, text))


def main() -> None:
    """Rewrite the tables of every document, and the figure of the main comparison."""
    headline.write(repository())
    for name in DOCUMENTS:
        path = Path(repository() / name)
        new = filled(read_text(path))
        write_text(path, new)


if __name__ == "__main__":
    main()
