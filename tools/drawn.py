"""Figures over several runs: `python -m tools.drawn FIGURE DIR ... --out DIR`.

kept: what CVO gains against what the filter of D2 kept; each DIR is a run with the training tweets of a
testbed and answers of settings of CVO and of those they start from.
looks: how many chains describe the picture, with the instruction and without, and what each kind scores.
steps: reward, entropy and length of CVO with many styles and with one, of the runs that have both.
dose: how much contradiction each stage needs; each DIR is of `mcr compare`, from runs with another share of
training tweets that are drawn as the tests are (`testbed_contradicting`).
"""

import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from mcr_lib import bias, testbed
from mcr_lib.data.files import read_jsonl
from mcr_lib.data.predictions import read_predictions
from mcr_lib.errors import UserError
from mcr_lib.schema import Example
from mcr_lib.study.catalogue import CATALOGUE
from mcr_lib.study.compare.claims import Plan
from mcr_lib.study.compare.evidence import FILE, Evidence, summary
from mcr_lib.study.compare.tables import CONTROLLED
from mcr_lib.study.figures import forest, palette
from mcr_lib.study.runs import config, prepare
from mcr_lib.study.runs.artifacts import RunFolder, read_manifest
from mcr_lib.study.tables import scoring
from mcr_lib.training.loop import read_log

Rows = list[dict[str, Any]]
TEXTUAL = "named, not shown"  # the kind of contradiction that speaks against a box for every name
SPLITS = ("test", "test_adversarial")
PANELS = [(metric, split) for metric in ("gmner_f1", "false_grounding") for split in SPLITS]
SETTINGS = ("sft", "mrsi", "mcr")
ASKED = ("mrsi", "mcr", "plain", "plain-mcr")  # of claim 7
CHAINS = {"describe the picture": True, "do not": False}
_LOOK = "picture :"  # what such a chain begins with: `testbed.teacher.say`
STYLES = ("mcr", "one-style-mcr")  # of claim 6
CURVES = {"reward": "reward R", "entropy": "entropy, nats per token", "length": "length, tokens"}


def kept(runs: Sequence[str | Path]) -> Rows:
    """A row per run and setting of CVO, without sweeps: pairs, and those that contradict, before the filter,
    after each of its thresholds alone, after all, and as trained on; GMNER F1 and false grounding (%, of
    eval_split) before and after CVO.

    Raises:
        UserError: a folder without profile.yaml; runs without any such pair of settings.
    """
    contrasts, result = (one for claim in Plan.read().claims for one in claim.contrasts), []
    of_sweeps = {name for one in contrasts for name in one.values}  # too many for a figure
    for loaded, folder, tested in _opened(runs):
        c = loaded.config
        tweets = prepare.read_examples(folder, "train")
        against = {tweet.id for tweet in tweets if TEXTUAL in testbed.contradictions(tweet)}
        for name, one in c.settings.items():
            if name in of_sweeps:
                continue
            path = folder.setting(name) / "filter.jsonl"
            answered = [folder.predictions(f"{n}.{c.eval_split}") for n in (one.start, name)]
            if one.stage != "cvo" or not (path.is_file() and all(map(Path.is_file, answered))):
                continue
            pairs, options = [row for _, row in read_jsonl(path, kind="filter")[1]], loaded.options[name][0]
            low, high = options.filter_median
            kinds = {"before": lambda _: True, "kept": lambda row: row["verdict"] == "kept"}
            kinds["std"] = lambda row, o=options: row["std"] >= o.filter_std
            kinds["max"] = lambda row, o=options: row["max"] >= o.filter_max
            kinds["median"] = lambda row, low=low, high=high: low <= row["median"] <= high
            values: dict[str, Any] = {"seed": c.seed, "setting": name, "start": one.start}
            for kind, is_kept in kinds.items():
                left = [row["id"] in against for row in pairs if is_kept(row)]
                values |= {f"{kind} pairs": len(left), f"{kind} contradicting": sum(left)}
            trained = [id in against for id, _ in options.chosen(pairs)]  # of kept tweets every style
            values |= {"trained pairs": len(trained), "trained contradicting": sum(trained)}
            values["share"] = round(100 * sum(trained) / max(1, len(trained)), 1)
            for when, path in zip(("start", "end"), answered, strict=True):
                of = _scores(tested, read_predictions(path), c)
                values |= {f"{when} {key}": value for key, value in of.items()}
            result.append(values)
    if not result:
        raise UserError("no setting of CVO with a filter, and answers of it and of its start, in these runs")
    return sorted(result, key=lambda row: row["share"])


def _scores(tested: Sequence[Example], answers: tuple[Any, Any], c: config.Config) -> dict[str, float]:
    header, given = answers
    judged = scoring.join(tested, given, header, parse=c.parse).judged
    f1 = scoring.f1_ratios(judged, c.scorer)["gmner"].percent
    false = bias.textual_bias(judged)["false_grounding"].percent
    values = {"gmner_f1": f1, "false_grounding": false}  # undefined (`None`) without such an entity
    return {key: None if value is None else round(value, 2) for key, value in values.items()}


def kept_figure(points: Rows) -> Figure:
    """Gain of each setting and seed against the share of contradicting pairs among those it trains on."""
    labels = {"gmner_f1": "GMNER F1, points", "false_grounding": "false grounding, points"}
    title = "What CVO changes, against what it trains on (a mark per seed, beside it the pairs)"
    figure, axes = palette.panels(len(labels), (5.2, 4.0), title)
    names = palette.unique(points, "setting")
    for ax, (metric, label) in zip(axes, labels.items(), strict=True):
        ax.axhline(0, color=palette.DARK, linewidth=0.8)
        for marker, name in zip(cycle("os^DvPX"), names, strict=False):
            of = [row for row in points if row["setting"] == name]
            at = [(row["share"], row[f"end {metric}"] - row[f"start {metric}"]) for row in of]
            ax.plot(*zip(*at, strict=True), marker, color=palette.setting(name, names), label=name)
            for row, xy in zip(of, at, strict=True):
                beside = {"xytext": (5, 4), "textcoords": "offset points", "fontsize": 8}
                ax.annotate(str(row["trained pairs"]), xy, color=palette.DARK, **beside)
        ax.set(xlabel="pairs trained on that contradict the shortcut, %", ylabel=f"{label}, CVO − its start")
    axes[0].legend()
    return figure


def _opened(runs: Sequence[str | Path]) -> Iterator[tuple[config.Loaded, RunFolder, list[Example]]]:
    """Each run's configuration, folder and tested tweets."""
    for run in map(Path, runs):
        if not (run / "profile.yaml").is_file():
            raise UserError(f"{run} is no run folder: profile.yaml is not there; mcr run writes it")
        loaded, folder = config.load(str(run / "profile.yaml"), run.absolute()), RunFolder(run)
        yield loaded, folder, prepare.read_examples(folder, loaded.config.eval_split)


def looks(runs: Sequence[str | Path]) -> Rows:
    """A row per run, setting of `ASKED` and kind of chain: number and share of its answers, and their scores.

    Raises:
        UserError: a folder without profile.yaml; runs without answers of these settings.
    """
    result = []
    for loaded, folder, tested in _opened(runs):
        c = loaded.config
        paths = {name: folder.predictions(f"{name}.{c.eval_split}") for name in ASKED}
        for name, path in ((name, path) for name, path in paths.items() if path.is_file()):
            header, given = read_predictions(path)
            for kind, looks_first in CHAINS.items():
                ids = {one.id for one in given if (_LOOK in one.answer) is looks_first}
                part = [tweet for tweet in tested if tweet.id in ids]
                row = {"seed": c.seed, "setting": name, "chains": kind, "n": len(part)}
                row["share"] = round(100 * len(part) / len(tested), 1)
                of_part = (header, [one for one in given if one.id in ids])
                result.append(row | (_scores(part, of_part, c) if part else {}))
    if not result:
        raise UserError(f"no answers of {', '.join(ASKED)} in these runs")
    return result


def looks_figure(points: Rows) -> Figure:
    """Share of answers by kind of chain, and false grounding of each: a mark per seed."""
    title = "Which chains does a model write? plain: not asked for a style (a mark per seed)"
    labels = {"share": "answers, %", "false_grounding": "false grounding, %"}
    figure, axes = palette.panels(len(labels), (5.2, 3.2), title)
    for ax, (key, label) in zip(axes, labels.items(), strict=True):
        for marker, colour, kind in zip("oX", (palette.RIGHT, palette.REGION), CHAINS, strict=True):
            of = [row for row in points if row["chains"] == kind and row.get(key) is not None]
            at = [[row[name] for row in of] for name in ("setting", key)]
            ax.plot(*at, marker, color=colour, label=f"chains that {kind}", alpha=0.7)
        ax.set(ylabel=label, ylim=(-4, 104))
    axes[0].legend(loc="center left")
    return figure


def steps(runs: Sequence[str | Path]) -> Rows:
    """A row per run, setting and update of CVO: its values of `CURVES`.

    Raises:
        UserError: no run has both settings.
    """
    folders = [RunFolder(Path(run)) for run in runs]
    both = [run for run in folders if all((run.setting(name) / "log.jsonl").is_file() for name in STYLES)]
    if not both:
        raise UserError(f"no run has {' and '.join(STYLES)}: their log.jsonl are not there")
    return [
        {"seed": read_manifest(run)["seed"], "setting": name, **{key: row[key] for key in ("step", *CURVES)}}
        for run in both
        for name in STYLES
        for row in read_log(run.setting(name))
    ]


def steps_figure(points: Rows) -> Figure:
    """Mean over seeds (line) and range (band) of each curve."""
    n_seeds, frame = len({row["seed"] for row in points}), pd.DataFrame(points)
    title = f"CVO with many styles and with one (line: mean of {n_seeds} seeds; band: their range)"
    figure, axes = palette.panels(len(CURVES), (3.6, 2.9), title)
    colours = {name: palette.setting(name, [*STYLES]) for name in STYLES}
    for ax, (key, label) in zip(axes, CURVES.items(), strict=True):
        how = {"palette": colours, "style": "setting", "errorbar": ("pi", 100), "legend": ax is axes[0]}
        sns.lineplot(frame, x="step", y=key, hue="setting", ax=ax, **how)
        ax.set(xlabel="update", ylabel=label)
    axes[0].legend()
    return figure


def dose(folders: Sequence[str | Path], *, n_resamples: int = 10_000) -> list[dict[str, Any]]:
    """The points of the figure: metric, split, setting, share in percent as `x`, and the values over seeds.

    Raises:
        UserError: two folders of one share, or folders that were tested on other tweets.
    """
    points, of_share, first = [], {}, None
    for folder in folders:
        evidence = Evidence.read(Path(folder) / FILE)
        share, signatures = evidence.head["contradicting"], evidence.head["signatures"]
        tested = [signatures.get(split) for split in SPLITS]
        first = first or (folder, tested)
        if tested != first[1]:
            raise UserError(f"{folder} was tested on other tweets than {first[0]}; name runs of one world")
        if of_share.setdefault(share, folder) != folder:
            raise UserError(f"{folder} and {of_share[share]} both have the share {share:g}; name one of them")
        values = summary(evidence, n_resamples=n_resamples)["rows"]
        points += [
            {"panel": f"{CATALOGUE[metric].label}, {split}", "line": row["setting"], "x": 100 * share, **row}
            for metric, split in PANELS
            for row in values
            if (row["metric"], row["split"]) == (metric, split) and row["setting"] in SETTINGS
        ]
    return sorted(points, key=lambda row: (PANELS.index((row["metric"], row["split"])), row["x"]))


def main(argv: Sequence[str] | None = None) -> int:
    """Write <which>.png and <which>.csv; 2, with a sentence, for a mistake of the user."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("which", choices=["kept", "looks", "steps", "dose"])
    parser.add_argument("folders", nargs="+", metavar="DIR")
    parser.add_argument("--out", required=True, metavar="DIR")
    parser.add_argument("--resamples", type=int, default=10_000, metavar="N", help="of dose")
    given = parser.parse_args(argv)
    of_runs = {"kept": (kept, kept_figure), "looks": (looks, looks_figure), "steps": (steps, steps_figure)}
    try:
        rows, figure = of_runs.get(given.which, (partial(dose, n_resamples=given.resamples), None))
        points = rows(given.folders)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    mpl.use("Agg")
    with mpl.rc_context():
        show = palette.shower(given.out, CONTROLLED)
        if figure:
            show(figure, points, given.which)
        else:
            title = "How much contradiction does each need? Means over seeds (dots), 95 % intervals"
            how = {"title": title, "xlabel": "training tweets drawn as the tests are, %", "scale": "log"}
            show(forest.curves, points, "dose", values=forest.seed_values(points), **how)
    print(f"written to {given.out}: {given.which}.png, {given.which}.csv")
    return 0


if __name__ == "__main__":
    sys.exit(main())
