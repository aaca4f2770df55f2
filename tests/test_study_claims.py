"""The claims: what their file must hold, when a row counts as shown, what is missing, and the documents."""

import json
import shutil

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mcr_lib.answer import write_answer
from mcr_lib.data.files import read_jsonl, write_json, write_jsonl
from mcr_lib.data.predictions import write_predictions
from mcr_lib.errors import UserError
from mcr_lib.schema import FORMAT_VERSION, PredictedEntity
from mcr_lib.statistics import Ratio
from mcr_lib.study.commands import cli
from mcr_lib.study.compare import claims, tables
from mcr_lib.study.compare.claims import Plan
from mcr_lib.study.compare.evidence import METRICS, Evidence, OverSeeds, number, summary
from mcr_lib.study.compare.merge import merge
from mcr_lib.study.figures import forest
from mcr_lib.study.runs import config, prepare
from mcr_lib.study.runs.artifacts import RunFolder
from tests.conftest import REPOSITORY
from tests.test_study_seeds import make_run, trained, tweets  # noqa: F401
from tools import drawn, one_seed, readme

PLAN = Plan.read()
SPLITS = {"dev": 30, "test": 60, "test_adversarial": 30}


def made(levels, seeds=(1, 2, 3), **head):
    """Evidence in which a setting has every metric at its level in percent, on every split, for each seed."""
    terms = {}
    for name, level in levels.items():
        for seed, split in ((seed, split) for seed in seeds for split in SPLITS):
            n = SPLITS[split]
            ratio = Ratio(np.full(n, level), np.full(n, 100))
            terms |= {(seed, name, split, metric): [(1, ratio)] for metric in METRICS}
            terms[seed, name, split, "n_count"] = number(seed)
    signatures = {split: f"of {split}" for split in SPLITS}
    about = {"profile": "claims", "settings": [*levels], "seeds": [*seeds], "splits": [*SPLITS]}
    about |= {"eval_split": "test", "source": "testbed", "signatures": signatures, "contradicting": 0.03}
    return Evidence(about | {"missing": [], "runs": []} | head, dict(SPLITS), terms)


def test_what_many_settings_lack_is_one_sentence():
    names = [f"s{k}" for k in range(6)]
    evidence = made(dict.fromkeys(names, 50), missing=["seed 1: 3 of 8 answers were cut short"])
    assert evidence.missing() == ["seed 1: 3 of 8 answers were cut short"]
    for key in [key for key in evidence.terms if key[2] == "dev" and key[1] != "s0" and key[0] > 1]:
        del evidence.terms[key]
    named = ", ".join(f"s{k} (seed 2, 3)" for k in (1, 2, 3))
    assert evidence.missing()[0] == f"no answers to dev of {named}, 2 other settings"
    assert len(evidence.missing()) == 2


def test_a_pair_that_no_split_has_is_told_and_the_rest_is_written(tmp_path, capsys):
    evidence = made({"sft": 50, "mcr": 60, "base": 40})
    for key in [key for key in evidence.terms if key[1] == "mcr"]:
        del evidence.terms[key]
    evidence.write(tmp_path / "in" / "evidence.json.gz")
    arguments = [str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--resamples", "100"]
    assert cli.main(["compare", *arguments, "--pair", "mcr", "sft"]) == 0
    told = capsys.readouterr().out
    assert "no split was answered by both settings: nothing is compared" in told
    assert "missing: no answers to test of mcr (seed 1, 2, 3)" in told
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["rows"]


def contrast(**given):
    return claims.Contrast(**{"first": "mcr", "measures": ["gmner_f1"], "splits": ["test"], **given})


DIFFERENCE = {"kind": "difference", "second": "sft", "expect": "higher"}
EQUAL = {"kind": "equal", "second": "sft", "margin": 2}
LITTLE = {"kind": "little", "first": (), "second": "mcr", "knob": "σ", "values": {"a": 0}, "default": 0.3}
LEVEL = {"kind": "level", "margin": 1}


@pytest.mark.parametrize(
    ("given", "per_seed", "ci95", "expected"),
    [
        (DIFFERENCE, (1, 2, 3), (0.5, 3), "shown"),
        (DIFFERENCE, (1, 2, 3), (-0.1, 3), "not shown"),
        (DIFFERENCE, (-1, 2, 3), (0.1, 3), "not shown"),  # one seed has the other sign
        (DIFFERENCE, (-1, -2, -3), (-3, -0.5), "the opposite is shown"),
        (DIFFERENCE | {"expect": "lower"}, (-1, -2, -3), (-3, -0.5), "shown"),
        (DIFFERENCE, (1, 2), (1, 2), "too few seeds"),
        (EQUAL, (-1, 0, 1), (-1.9, 1.9), "shown"),
        (EQUAL, (-1, 0, 1), (-1.9, 2.1), "not shown"),
        (EQUAL, (3, 4, 5), (2.5, 5), "the opposite is shown"),
        (EQUAL, (-3, -4, -5), (-5, -2.5), "the opposite is shown"),
        (EQUAL, (0, 0, 0), None, "not shown"),
        (LITTLE, (0, 0, 1), (-1, 1), "shown"),
        (LITTLE, (0, 0, 9), (0, 9), "not shown"),
        (LEVEL, (0, 0.1, 0.2), (0, 0.9), "shown"),
        (LEVEL, (-7, -7, -7), (-9, -5), "shown"),  # bounded above alone
        (LEVEL, (0, 0, 2), (0, 1.5), "not shown"),
        (LEVEL, (3, 3, 3), (2, 4), "the opposite is shown"),
        (LEVEL, (3, 3, 3), None, "not shown"),
        ({"kind": "description"}, (1,), (1, 1), "described"),
    ],
)
def test_a_row_counts_as_shown_by_the_rule_of_its_kind(given, per_seed, ci95, expected):
    assert contrast(**given).verdict(OverSeeds(per_seed, ci95), wanted=3) == expected


@given(low=st.floats(-9, 9), width=st.floats(0, 9), margin=st.floats(0.1, 5))
def test_equal_is_symmetric_and_a_wider_margin_never_takes_back_that_it_is_shown(low, width, margin):
    def verdict(low, high, margin):
        over = OverSeeds((low, high, (low + high) / 2), (low, high))
        return contrast(kind="equal", second="sft", margin=margin).verdict(over, 3)

    assert verdict(low, low + width, margin) == verdict(-low - width, -low, margin)
    if verdict(low, low + width, margin) == "shown":
        assert verdict(low, low + width, 2 * margin) == "shown"


def test_the_plan_covers_the_claims_of_the_paper_with_the_seeds_that_were_settled():
    seeds = {claim.number: claim.seeds for claim in PLAN.claims if claim.paper != "ours"}
    assert seeds == {str(k): 5 if k < 5 else 3 for k in range(1, 12)}
    assert len({claim.number for claim in PLAN.claims}) == len(PLAN.claims)
    assert {"σ of R_u", "λ1, weight of R_c", "λ5, weight of R_e"} == {
        one.knob for claim in PLAN.claims for one in claim.contrasts if one.kind == "little"
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"measures": ["gmner"]}, r"claims.0.contrasts.0.measures.0 is gmner: input should be 'gmner_f1'"),
        ({"expect": None}, r"contrasts.0 is .*: a contrast of the kind difference needs expect"),
        ({"kind": "sweep"}, r"contrasts.0.kind is sweep: input should be 'difference'"),
        ({"kind": "little"}, r"a contrast of the kind little needs knob"),
        ({"margin": -1}, r"contrasts.0.margin is -1: input should be greater than 0"),
        ({"sign": 1}, r"contrasts.0.sign is 1: extra inputs are not permitted"),
    ],
)
def test_a_mistake_in_the_file_is_one_sentence(tmp_path, change, message):
    one = {"first": "mcr", "measures": ["gmner_f1"], "splits": ["test"], **DIFFERENCE, **change}
    claim = {"number": "1", "claim": "c", "paper": "T1", "seeds": 3, "contrasts": [one]}
    plan = {"format_version": FORMAT_VERSION, "profile": "claims", "claims": [claim]}
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump(plan))
    with pytest.raises(UserError, match=message) as raised:
        Plan.read(tmp_path / "claims.yaml")
    assert "\n" not in str(raised.value)
    (tmp_path / "claims.yaml").write_text("claims: [")
    with pytest.raises(UserError, match=r"claims.yaml is no YAML"):
        Plan.read(tmp_path / "claims.yaml")


def test_what_is_missing_is_said_and_the_rest_is_evaluated():
    evidence = made({"sft": 70, "mrsi": 75, "mcr": 80}, seeds=(1, 2, 3, 4, 5))
    for key in [key for key in evidence.terms if key[:2] == (4, "mrsi") or key[1:3] == ("mcr", "dev")]:
        del evidence.terms[key]
    rows = PLAN.evaluate(evidence, n_resamples=100)
    by_key = {(r["number"], r["first"], r["second"], r["metric"], r["split"]): r for r in rows}
    assert len(by_key) == len(rows)
    shown = by_key["1", "mcr", "sft", "gmner_f1", "test"]
    assert (shown["mean"], shown["verdict"], shown["missing"]) == (10, "shown", "")
    few = by_key["4", "mcr", "mrsi", "gmner_f1", "test"]
    assert (few["n_seeds"], few["verdict"]) == (4, "too few seeds")
    assert few["missing"] == "mrsi lacks seed 4"
    none = by_key["5", "cvo-only", "mcr", "gmner_f1", "test"]
    assert (none["verdict"], none["missing"]) == ("no run", "no setting cvo-only in these runs")
    split = by_key["G", "mcr", "sft", "gmner_f1", "dev"]
    assert split["missing"] == "no GMNER F1 of mcr on dev"
    mner = by_key["2", "mcr", "sft", "mner_f1", "test"]  # 10 points apart, so they are not equal
    assert mner["verdict"] == "the opposite is shown"


def test_the_interval_of_a_number_is_over_seeds_alone():
    rows = PLAN.evaluate(made({"mcr": 80}), n_resamples=1000)
    (count,) = [r for r in rows if r["first"] == "mcr" and r["metric"] == "n_count"]
    # seeds have 1, 2 and 3; all of one seed are drawn one time in 27, so the interval reaches both ends
    assert (count["per_seed"], count["mean"]) == ({"1": 1, "2": 2, "3": 3}, 2)
    assert (count["ci_low"], count["ci_high"]) == (1, 3)


def test_a_sweep_has_its_values_in_order_with_the_default_among_them():
    evidence = made({"mcr": 80, "sigma-04": 79, "sigma-00": 78})
    points = PLAN.sweeps(evidence, n_resamples=100)
    sigma = {row["x"]: row["mean"] for row in points if row["panel"] == "σ of R_u, seeds 1, 2, 3"}
    assert sigma == {0: 78, 0.4: 79, 0.3: 80}
    assert [row["x"] for row in points if row["default"]] == [0.3]  # of the others nothing was run
    ax = forest.curves(points, title="", xlabel="value").axes[0]
    assert list(ax.lines[0].get_xdata()) == [0, 0.3, 0.4]
    del evidence.terms[3, "sigma-00", "test", "gmner_f1"]
    assert {tuple(row["per_seed"]) for row in PLAN.sweeps(evidence)} == {("1", "2")}  # those of all points


def test_numbers_of_a_run_are_taken_from_its_records_answers_and_results(tweets, sample_dir, tmp_path):  # noqa: F811
    run = RunFolder(make_run(tmp_path / "1", 1, tweets, sample_dir))
    trained(run.path, base="b0", sft={"seconds": 90}, mcr={"seconds": 60})  # mcr starts from sft
    line = "sft,test,1,attention_on_image_normal,61.5,60,63,9,s"
    run.results.write_text(f"setting,split,seed,metric,value,ci_low,ci_high,n,signature\n{line}\n")
    terms = merge([run.path]).terms
    minutes = {key[1]: of[0][1].percent for key, of in terms.items() if key[3] == "training_minutes"}
    assert minutes == {"sft": 1.5, "mcr": 2.5}
    assert terms[1, "sft", "test", "attention_on_image_normal"][0][1].percent == 61.5
    for name in ("base", "mcr"):
        counted = terms[1, name, "test", "n_count"][0][1].percent
        assert counted == terms[1, name, "test", "n_rate"][0][1].numerator.sum()
    trained(run.path, base="b0", mcr={"seconds": 60})
    assert not [key for key in merge([run.path]).terms if key[3] == "training_minutes"]


def test_answers_whose_reasoning_states_them_are_counted_on_every_split(tweets, sample_dir, tmp_path):  # noqa: F811
    run = RunFolder(make_run(tmp_path / "1", 1, tweets, sample_dir))
    some = tweets["dev"]
    one, entity = next((e, e.entities[0]) for e in some if e.entities)  # a wrong answer may be faithful
    think = f'"{entity.text}" : {entity.type} , not shown ;'
    answer = write_answer([PredictedEntity(entity.text, entity.type)], think=think)
    rows = [{"id": e.id, "answer": answer if e is one else "nothing"} for e in some]
    path = run.predictions("mcr.dev")
    header = json.loads(path.read_text().split("\n", 1)[0]) | {"prompt": "mcr"}
    keys = ("setting", "seed", "split", "data", "prompt")
    given = {key: header[key] for key in keys}
    write_predictions(path, [{**row, "coordinate_space": "original_px"} for row in rows], **given)
    terms = {key[1:]: of[0][1].percent for key, of in merge([run.path]).terms.items() if key[3] == "faithful"}
    assert terms == {("mcr", "dev", "faithful"): 100 / len(some)}


def test_runs_of_the_profile_are_tested_claim_by_claim(tweets, sample_dir, tmp_path, capsys, monkeypatch):  # noqa: F811
    few = PLAN.model_copy(update={"claims": (PLAN.claims[0], *PLAN.claims[4:6])})  # 80 rows take long to draw
    monkeypatch.setattr(Plan, "read", lambda: few)
    folders = [make_run(tmp_path / str(seed), seed, tweets, sample_dir) for seed in (1, 2, 3)]
    for folder in folders:
        manifest = json.loads((folder / "manifest.json").read_text())
        write_json(folder / "manifest.json", manifest | {"profile": "claims"})
    out = tmp_path / "out"
    assert cli.main(["compare", *map(str, folders), "--out", str(out), "--resamples", "100"]) == 0
    printed = capsys.readouterr().out
    assert "| 1 | MCR scores higher than fine-tuning on answers | mcr − sft | GMNER F1, test ↑ |" in printed
    assert "| no run: no setting cvo-only in these runs |" in printed
    assert "3 of 5 | too few seeds: only seed 1, 2, 3 |" in printed
    rows = json.loads((out / "claims.json").read_text())["rows"]
    assert {(r["verdict"], r["n_seeds"]) for r in rows if r["number"] == "1"} == {
        ("too few seeds", 3), ("no run", 0)  # nothing answered test_adversarial
    }  # fmt: skip
    assert not (out / "sweeps.png").exists()  # no setting of a sweep was run


def test_documents_show_the_committed_claims_and_refuse_those_of_another_plan(tmp_path, monkeypatch):
    text = "".join(f"<!-- table: {t} -->\n<!-- end -->\n" for t in ("claims", "claims_rows", "claims_values"))
    for module in (readme, tables, claims):
        monkeypatch.setattr(module, "repository", lambda: tmp_path)
    (tmp_path / "data").mkdir()
    shutil.copy(REPOSITORY / "data" / "claims.yaml", tmp_path / "data" / "claims.yaml")
    empty = readme.filled(text)
    assert empty.count(tables.CONTROLLED) == 3
    assert "| 1. MCR scores higher than fine-tuning on answers (T1) | mcr − sft, GMNER F1, test ↑ |" in empty
    assert "not run yet" in empty
    evidence = made({"sft": 70, "mrsi": 75, "mcr": 80}, seeds=(1, 2, 3, 4, 5))
    scores, rows = summary(evidence, n_resamples=100), PLAN.evaluate(evidence, n_resamples=100)
    folder = tmp_path / "data" / "results" / "claims"
    write_json(folder / "scores.json", scores)
    write_json(folder / "claims.json", {"note": tables.note(scores), "rows": rows})
    (folder / "claims.png").touch()
    filled = readme.filled(text)
    assert filled.count(tables.CONTROLLED) == 3
    assert "| mcr − sft, GMNER F1, test ↑ | +10.0 (+10.0 to +10.0) | 5 | 2 shown |" in filled
    assert "| mcr − sft | MNER F1, test | +10.0 (+10.0 to +10.0) | 5 | the opposite is shown |" in filled
    assert "| 2 shown, 8 no run |" in filled  # claim 4: of its five contrasts one has both settings
    assert "](data/results/claims/claims.png)" in filled
    assert tables.settings_table(scores) in filled
    write_json(folder / "claims.json", {"note": "", "rows": rows[1:]})
    with pytest.raises(UserError, match="claims.json is not of data/claims.yaml as it is now; mcr compare"):
        readme.filled(text)


def doses(folder, *shares, **head):
    for share in shares:
        evidence = made({"sft": 50 + 9 * share, "mcr": 80}, contradicting=share, **head)
        evidence.write(folder / f"{share:g}" / "evidence.json.gz")
    return [folder / f"{share:g}" for share in shares]


def test_the_dose_figure_has_a_point_per_share_setting_and_panel(tmp_path, capsys):
    folders = doses(tmp_path, 1.0, 0.01, 0.1)
    points = drawn.dose(folders, n_resamples=100)
    of_sft = [(p["x"], p["mean"]) for p in points if (p["panel"], p["line"]) == ("GMNER F1, test", "sft")]
    assert of_sft == [(1, 50.09), (10, 50.9), (100, 59)]
    assert len(points) == 3 * 2 * 4
    arguments = [*map(str, folders), "--out", str(tmp_path), "--resamples", "100"]
    assert drawn.main(["dose", *arguments]) == 0
    assert (tmp_path / "dose.png").is_file()
    (other,) = doses(tmp_path / "other", 0.3, signatures={"test": "of other tweets"})
    capsys.readouterr()
    assert drawn.main(["dose", str(other), *arguments]) == 2
    assert "was tested on other tweets than" in capsys.readouterr().err
    (twice,) = doses(tmp_path / "twice", 0.1)
    with pytest.raises(UserError, match="both have the share 0.1; name one of them"):
        drawn.dose([*folders, twice])


def test_what_the_filter_kept_stands_beside_what_cvo_gained(tweets, sample_dir, tmp_path, capsys):  # noqa: F811
    with pytest.raises(UserError, match=r"is no run folder: profile.yaml is not there"):
        drawn.kept([tmp_path])
    run = RunFolder(make_run(tmp_path / "1", 1, tweets, sample_dir, cvo={"filter_std": 0.03}))
    train = [*tweets["test"], *tweets["dev"]]
    against = [any(e.is_groundable is False for e in tweet.entities) for tweet in train]
    keeps = [k % 3 > 0 for k in range(len(train))]
    n_kept, n_against = sum(keeps), sum(a and b for a, b in zip(against, keeps, strict=True))
    assert 0 < n_against < n_kept < len(train), "both kinds are kept"
    prepare.write_examples(run, {"train": train})
    assert drawn.main(["kept", str(run.path), "--out", str(tmp_path)]) == 2
    assert "no setting of CVO with a filter" in capsys.readouterr().err
    judged = [
        {"id": tweet.id, "style": "terse", "std": 0.2 * is_kept, "max": 0.9, "median": 0.3,
         "verdict": "kept" if is_kept else "too even"}
        for tweet, is_kept in zip(train, keeps, strict=True)
    ]  # fmt: skip
    write_jsonl(run.setting("mcr") / "filter.jsonl", judged, kind="filter")
    (row,) = drawn.kept([run.path])
    assert (row["setting"], row["seed"]) == ("mcr", 1)
    assert (row["before pairs"], row["before contradicting"]) == (len(train), sum(against))
    assert row["kept pairs"] == row["std pairs"] == n_kept
    assert row["kept contradicting"] == row["std contradicting"] == n_against
    assert (row["trained pairs"], row["trained contradicting"]) == (n_kept, n_against)
    assert row["max pairs"] == row["median pairs"] == len(train)
    assert row["share"] == round(100 * n_against / n_kept, 1)
    of_test = [r for r in summary(merge([run.path]), n_resamples=100)["rows"] if r["split"] == "test"]
    answers = {(r["setting"], r["metric"]): r["mean"] for r in of_test}
    for key in ("gmner_f1", "false_grounding"):
        assert row[f"start {key}"] == pytest.approx(answers[row["start"], key], abs=0.01)
        assert row[f"end {key}"] == pytest.approx(answers["mcr", key], abs=0.01)
    assert drawn.main(["kept", str(run.path), "--out", str(tmp_path)]) == 0
    assert (tmp_path / "kept.png").is_file()


def test_answers_are_counted_by_the_kind_of_their_chain(tweets, sample_dir, tmp_path, capsys):  # noqa: F811
    run = RunFolder(make_run(tmp_path / "1", 1, tweets, sample_dir))
    assert drawn.main(["looks", str(run.path), "--out", str(tmp_path)]) == 0
    rows = {(row["setting"], row["chains"]): row for row in drawn.looks([run.path])}
    n, nothing = len(tweets["test"]), rows["mcr", "describe the picture"]
    assert (nothing["n"], nothing["share"], "gmner_f1" in nothing) == (0, 0, False)
    assert (rows["mcr", "do not"]["n"], rows["mcr", "do not"]["share"]) == (n, 100)
    path, text = run.predictions("mcr.test"), "<think> picture : . </think>\n<answer>[]</answer>"
    header, given = read_jsonl(path, kind="predictions")
    looks = {"answer": text, "coordinate_space": "original_px"}
    rows = [{"id": row["id"], **looks} if k < n // 3 else row for k, (_, row) in enumerate(given)]
    head = {key: header[key] for key in header if key not in ("format_version", "kind", "sha256")}
    write_jsonl(path, rows, kind="predictions", **head)
    rows = {(row["setting"], row["chains"]): row for row in drawn.looks([run.path])}
    assert [rows["mcr", kind]["n"] for kind in drawn.CHAINS] == [n // 3, n - n // 3]
    path.unlink()
    capsys.readouterr()
    assert drawn.main(["looks", str(run.path), "--out", str(tmp_path)]) == 2
    assert "no answers of mrsi, mcr, plain, plain-mcr" in capsys.readouterr().err


def test_the_steps_of_cvo_are_those_of_runs_that_have_both_styles(tmp_path, capsys):
    for seed in (1, 2):
        run = RunFolder(tmp_path / str(seed))
        write_json(run.manifest, {"format_version": FORMAT_VERSION, "seed": seed, "notebooks": {}})
        for name in drawn.STYLES[: 3 - seed]:
            rows = [{"step": k, "reward": k / 4, "entropy": 0.2, "length": 50 + seed} for k in (1, 2)]
            write_jsonl(run.setting(name) / "log.jsonl", rows, kind="log")
    arguments = [*(str(tmp_path / seed) for seed in "12"), "--out", str(tmp_path / "out")]
    assert drawn.main(["steps", *arguments]) == 0
    lines = (tmp_path / "out" / "steps.csv").read_text().splitlines()
    assert lines[0] == "seed,setting,step,reward,entropy,length"
    assert lines[1:] == [
        f"1,{name},{k},{k / 4},0.2,51" for name in ("mcr", "one-style-mcr") for k in (1, 2)
    ], "seed 2 has no run of one style"
    assert (tmp_path / "out" / "steps.png").is_file()
    capsys.readouterr()
    assert drawn.main(["steps", *arguments[1:]]) == 2
    assert "no run has mcr and one-style-mcr" in capsys.readouterr().err


def test_what_claims_need_of_one_seed_is_listed_in_their_order(capsys):
    names, splits = ("mcr", "sft"), ("test", "test_adversarial")
    assert list(one_seed.wanted(PLAN, ["2", "1"])) == [(name, split) for name in names for split in splits]
    of_mcr = one_seed.wanted(PLAN, ["10", "11"])["mcr", "test"]
    assert of_mcr == {"probes", "attention"}
    assert not one_seed.wanted(PLAN, ["1"])["mcr", "test"]
    assert ("sigma-05", "test") in one_seed.wanted(PLAN)
    assert one_seed.main(["1", "--out", "unused", "--claims", "1,12"]) == 2
    assert capsys.readouterr().err.startswith("no claim '12'; the plan has 1, 2")


@pytest.mark.nano
def test_claims_without_notebooks_leave_a_run_folder_that_compare_reads(tmp_path):
    settings = {
        "base": {},
        "sft": {"stage": "sft", "rows": "answers", "options": {"max_steps": 1}},
        "other": {},
    }
    given = {"probes": ["blank"], "attention_examples": 1, "attention_answers": 2, "settings": settings}
    settings["none"] = {"stage": "sft", "chains": "absent"}
    loaded = config.load("nano", tmp_path / "run", given)
    wants = {("none", "test"): set(), ("sft", "test"): {"probes", "attention"}, ("base", "dev"): set()}
    (failed,) = one_seed.answer(loaded, wants)
    assert failed.startswith("none, test: ")
    assert "chains/absent.jsonl does not exist" in failed
    evidence = merge([tmp_path / "run"])
    found = {key[1:] for key in evidence.terms}
    assert {("sft", "test", "gmner_f1"), ("sft", "test", "image_caused_foreign_rate.blank_mean")} <= found
    assert ("base", "dev", "gmner_f1") in found
    assert not [key for key in found if key[0] == "other"]
    files = sorted((tmp_path / "run" / "predictions").glob("*.jsonl"))
    before = [path.stat().st_mtime_ns for path in files]
    one_seed.answer(loaded, wants)
    assert [path.stat().st_mtime_ns for path in files] == before
