"""Tables of notebook 04: rewards and advantages of hand-made rollouts, and the rollouts of a training."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import pandas as pd

from mcr_lib import metrics, rewards, testbed, verify
from mcr_lib.answer import ParsedAnswer, parse_answer, write_answer
from mcr_lib.boxes import Box, Size, Space, box_format, from_space
from mcr_lib.data.files import read_jsonl
from mcr_lib.data.predictions import Prediction, parse_prediction
from mcr_lib.study.runs.settings import Study
from mcr_lib.study.tables import cases
from mcr_lib.study.tables.audit import Rows, by_column, case_rewards

HAND_MADE = ("perfect", "box not wanted (textual bias)", "name not in the text (visual bias)", "malformed")
EPSILON = 1e-4  # added to the standard deviation of a group, as in TRL
_ANSWER_IN_WORDS = '"Kevin Durant" : PER , {} ; "Oracle Arena" : LOC , not shown , no box ;'
REASONING = {
    "states the answer": _ANSWER_IN_WORDS.format("shown at [52, 31, 188, 240]"),
    "states it, the box a little off": _ANSWER_IN_WORDS.format("shown at [50, 30, 190, 235]"),
    "says another thing": _ANSWER_IN_WORDS.format("not shown , no box"),
    "says nothing of it": "A tweet with names .",
    "none": None,
}  # what a model may write before the perfect answer to `cases.TWEET`


def advantages(totals: Sequence[float]) -> list[float]:
    """The advantage of each answer of a group: (R - mean) / (sample standard deviation + 1e-4), as in TRL."""
    values = np.asarray(totals, dtype=float)
    return ((values - values.mean()) / (values.std(ddof=1) + EPSILON)).tolist()


def hand_made_rows(
    names: Sequence[str] = HAND_MADE, *, kind: rewards.RewardKind = "paper", weights: Sequence[float] = ()
) -> Rows:
    """Hand-made answers (`case_rewards`) as one group: rewards, R by `weights` or the set's, advantage."""
    earned = [case_rewards(name, kind) for name in names]
    totals = [five.total(weights or rewards.DEFAULTS[kind][1]) for five in earned]
    return [
        {"rollout": name, **by_column(five), "R": round(total, 4), "advantage": round(advantage, 4)}
        for name, five, total, advantage in zip(names, earned, totals, advantages(totals), strict=True)
    ]


def reasoning_rows() -> Rows:
    """R of the perfect answer after different reasoning, by demand, and its flaw under the strictest."""
    rows, demands, tweet = [], get_args(rewards.Reasoning), cases.TWEET
    for name, think in REASONING.items():
        parsed = parse_answer(write_answer(cases.ANSWERS["perfect"], think=think), labels=tweet.labels)
        totals = {demand: rewards.rewards(parsed, tweet, reasoning=demand).total() for demand in demands}
        flaw = rewards.worthless(parsed, tweet, reasoning=demands[-1]) or ""
        rows.append({"reasoning": name, **totals, "flaw": flaw})
    return rows


def read(study: Study, names: Sequence[str]) -> pd.DataFrame:
    """The rollouts of several settings in one table (columns: `cvo.write_rollouts`, and setting)."""
    frames = [pd.read_parquet(study.run.setting(n) / "rollouts.parquet").assign(setting=n) for n in names]
    return pd.concat(frames or [pd.DataFrame(columns=["setting", "step", "worthless"])], ignore_index=True)


def with_quartiles(log: Rows, frame: pd.DataFrame) -> Rows:
    """Rows of logs, each with the quartiles of each reward of the answers to its update, <reward>_q25 and
    <reward>_q75 (`frame`: of `read`).
    """
    of_rewards = [*rewards.NAMES, "reward"]
    typed = frame.astype(dict.fromkeys(of_rewards, float))  # one that is never annotated has no type
    by_update = typed.groupby(["setting", "step"])[of_rewards]
    both = [by_update.quantile(q / 100).add_suffix(f"_q{q}") for q in (25, 75)]
    quartiles = pd.concat(both, axis=1).to_dict("index")
    return [row | quartiles.get((row["setting"], row["step"]), {}) for row in log]


def filter_rows(study: Study, names: Sequence[str]) -> Rows:
    """The rows of D2 that `d2_filter` judged, if it ran; on the testbed, which `contradicts` a shortcut."""
    files = {name: study.run.setting(name) / "filter.jsonl" for name in names}
    read_of = {name: read_jsonl(path, kind="filter")[1] for name, path in files.items() if path.is_file()}
    rows = [{"setting": name, **row} for name, judged in read_of.items() for _, row in judged]
    tweets = (e for name in read_of for e in study.tweets(name) if e.image_only is not None)
    known = {e.id: {"contradicts": bool(testbed.contradictions(e))} for e in tweets}
    return [row | known.get(row["id"], {}) for row in rows]


def contradiction_rows(study: Study, judged: Rows) -> Rows:
    """Contradicting `filter_rows`, if known, by setting: of all, by each criterion alone, of those that pass
    all, and of these by style.
    """
    rows = []
    for name in dict.fromkeys(row["setting"] for row in judged if "contradicts" in row):
        o, of = study.options(name)[0], pd.DataFrame(row for row in judged if row["setting"] == name)
        meets = {
            "all of D2": of["std"] >= 0, "standard deviation alone": of["std"] >= o.filter_std,
            "maximum alone": of["max"] >= o.filter_max,
            "median alone": of["median"].between(*o.filter_median), "all three": of["verdict"] == "kept",
        }  # fmt: skip
        if len(styles := of["style"].unique()) > 1:  # where they differ, the style tells the verdict
            meets |= {f"all three, {one}": meets["all three"] & (of["style"] == one) for one in styles}
        for rule, is_met in meets.items():
            known = of["contradicts"][is_met].dropna()  # not of joint sources
            n_against, share = int(known.sum()), round(100 * known.mean(), 1) if len(known) else None
            counts = {"rows": int(is_met.sum()), "known": len(known), "contradicting": n_against}
            rows.append({"setting": name, "rule": rule, **counts, "contradicting, %": share})
    return rows


def health_rows(frame: pd.DataFrame, curves: Sequence[Mapping[str, Any]]) -> Rows:
    """Per setting and update, in percent: groups with equal rewards, answers cut off, worthless answers."""
    flags = (frame["worthless"] != "").groupby([frame["setting"], frame["step"]])
    rows, worthless = [], (100 * flags.mean()).to_dict()
    for curve in curves:
        head = {"setting": curve["setting"], "step": curve["step"]}
        shares = {"equal groups": 100 * curve["equal_groups"], "cut off": 100 * curve["truncated"]}
        rows.append(head | shares | {"worthless": worthless.get(tuple(head.values()))})
    return rows


def _ends(frame: pd.DataFrame, share: int) -> list[pd.DataFrame]:
    """The rows of the first and of the last 1 / share of the updates, at least one update each."""
    edge = max(1, (n_steps := int(frame["step"].max())) // share)
    return [frame[frame["step"] <= edge], frame[frame["step"] > n_steps - edge]]


@dataclass(frozen=True)
class Group:
    """The answers sampled for one prompt in one update, the best first."""

    setting: str
    step: int  # from 1
    judged: tuple[metrics.Judged, ...]  # boxes in original pixels; no entity if it cannot be parsed
    rows: tuple[dict[str, Any], ...]  # columns of `read`, and of `_thought`


def group(study: Study, frame: pd.DataFrame, setting: str, step: int, number: int) -> Group:
    """A group of the rollouts of a setting, the best answer first."""
    part = frame[(frame["setting"] == setting) & (frame["step"] == step) & (frame["group"] == number)]
    rows = part.sort_values("reward", ascending=False, kind="stable").to_dict("records")
    example = next(e for e in study.tweets(setting) if e.id == rows[0]["id"])
    space, sizes = box_format(study.target.family).space, (study.target.size(example), example.image_size_px)
    judged = []
    for row in rows:
        answer = Prediction(example.id, row["answer"], False, space, *sizes)
        parsed, entities = parse_prediction(answer, example, "strict")
        judged.append(metrics.judge(example, entities))
        row |= _thought(parsed, space, *sizes)
    return Group(setting, step, tuple(judged), tuple(rows))


def _thought(parsed: ParsedAnswer, space: Space, model_size: Size | None, image_size: Size | None) -> dict:
    """The reasoning of an answer, with » and « around what a readable answer does not have, and
    those boxes, `claimed`, in original pixels.
    """
    known = {part for e in parsed.entities for part in (e.text, e.box_xyxy)}
    stray: dict[Box, None] = {}

    def mark(match: re.Match) -> str:
        part = match[1] or tuple(map(float, re.findall(r"-?\d+(?:\.\d+)?", match[0])))
        if parsed.reason is not None or part in known:
            return match[0]
        if image_size and not match[1]:
            stray[from_space(part, space, image_size=image_size, model_size=model_size)] = None
        return f"»{match[0]}«"

    text = re.sub(rf'"([^"\n]+)"|{verify.BOX.pattern}', mark, parsed.think or "")
    return {"reasoning": text, "claimed": list(stray)}


def widest_groups(study: Study, frame: pd.DataFrame) -> list[Group]:
    """Per setting the group of widest spread of R in the first and last tenth, preferably with a gold box."""
    widest = []
    for name, part in frame.groupby("setting", sort=False):
        shown = {e.id for e in study.tweets(name) if any(entity.is_groundable for entity in e.entities)}
        groups = part.groupby(["step", "group"]).agg(spread=("reward", "std"), id=("id", "first"))
        groups["has_box"] = groups["id"].isin(shown) & (groups["spread"] > 0)
        for some in _ends(groups.reset_index(), 10):
            best = some.sort_values(["has_box", "spread"], ascending=False, kind="stable").iloc[0]
            widest.append(group(study, frame, name, int(best["step"]), int(best["group"])))
    return widest


def groups_text(groups: Sequence[Group]) -> str:
    """Up to three answers of each group, the two best and the worst, with R and advantage, to read."""
    lines = []
    for one in groups:
        lines.append(f"── {one.setting}, update {one.step}: {one.judged[0].example.text}")
        for row in one.rows if len(one.rows) <= 3 else (*one.rows[:2], one.rows[-1]):
            lines.append("R {reward:.2f}  advantage {advantage:+.2f}  {answer}".format(**row))
    return "\n".join(lines)
