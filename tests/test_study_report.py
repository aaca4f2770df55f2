"""The report: it states its result, every count opens its tweets, and no text of a tweet can break it."""

import base64
import csv
import gzip
import json
import re
import shutil
from dataclasses import replace
from html import unescape
from urllib.parse import parse_qs, urlencode

import numpy as np
import pytest
from PIL import Image

from mcr_lib import yardsticks
from mcr_lib.answer import write_answer
from mcr_lib.data.files import write_json
from mcr_lib.data.predictions import write_predictions
from mcr_lib.errors import UserError
from mcr_lib.schema import CONSTRAINTS, FORMAT_VERSION, PredictedEntity, checksum
from mcr_lib.study.commands import report
from mcr_lib.study.figures import palette
from mcr_lib.study.runs import config, prepare
from mcr_lib.study.runs.artifacts import RunFolder
from mcr_lib.study.tables import answers, comparison, scoring, training
from mcr_lib.verify import FLAWS
from tests.colours import VIEWS, closest, contrast
from tests.conftest import REPOSITORY

PROFILE = """
testbed_sizes: {train: 8, dev: 10, test: 24, test_adversarial: 12}
splits: [train, dev, test, test_adversarial]
answer_splits: [dev, test_adversarial]
n_resamples: 100
probes: [mute]
settings:
  base: {}
  sft: {stage: sft, rows: answers}
  mrsi: {stage: sft, prompt: mcr}
  mcr: {stage: cvo, start: mrsi, prompt: mcr}
"""
RATES = {"base": 0.5, "sft": 0.8, "mrsi": 0.7, "mcr": 0.9}
EVIL = '</script><img src=x onerror="alert(1)">&amp;<!--'


def reasoning(entities, rng):
    """Words that state an answer; now and then a box is another one."""
    parts = []
    for e in entities:
        box = [1, 2, 30, 40] if rng.random() < 0.3 else list(map(round, e.box_xyxy or ()))
        parts.append(
            f'"{e.text}" : {e.type} , ' + (f"shown at {box} ;" if e.box_xyxy else "not shown , no box ;")
        )
    return " ".join(parts) or "no name ;"


def answered(run, name, stem, tweets, rate, *, invented=()):
    rng, rows = np.random.default_rng(len(stem)), []
    for example in tweets:
        entities = [*yardsticks.degrade(example, dict.fromkeys(CONSTRAINTS, rate), rng), *invented]
        entities = [
            replace(e, boxes_xyxy=tuple(tuple(map(round, b)) for b in e.boxes_xyxy)) for e in entities
        ]
        think = reasoning(entities, rng) if name in ("mrsi", "mcr") else None
        rows.append({"id": example.id, "answer": write_answer(entities, think=think)})
    head = {"data": f"{tweets[0].source}:{checksum(tweets)}", "coordinate_space": "original_px"}
    prompt = "mcr" if name in ("mrsi", "mcr") else "direct"
    write_predictions(run.predictions(stem), rows, prompt=prompt, **head)


def muted(example):
    return replace(example, tokens=("nothing",), entities=())


def write_rollouts(run, example):
    import pandas as pd

    row = {"step": 3, "group": 0, "id": example.id, "n_tokens": 9, "count": 1.0, "span": 0.5, "type": 0.5}
    row |= {"grounding": 0.0, "entailment": 1.0, "reward": 2.5}
    texts = {write_answer([], think="no name ;"): "", "nothing": "no_answer", EVIL: "no_answer"}
    rows = [row | {"answer": t, "worthless": w, "advantage": 0.1} for t, w in texts.items()]
    run.setting("mcr").mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(run.setting("mcr") / "rollouts.parquet")


def new_run(root):
    """A run folder as `mcr run` leaves it, with answers made from gold."""
    (root / "p.yaml").write_text(PROFILE)
    loaded = config.load(str(root / "p.yaml"), root / "run")
    run, tweets = RunFolder(loaded.folder), prepare.load_examples(loaded)
    probed = {"test.mute": [muted(example) for example in tweets["test"][:6]]}
    prepare.write_examples(run, {**tweets, **probed})
    splits = {split: some for split, some in {**tweets, **probed}.items() if split != "train"}
    for name, rate in RATES.items():
        invented = [PredictedEntity(EVIL, "PER")] if name == "base" else []
        for split, some in splits.items():
            answered(run, name, f"{name}.{split}", some, rate, invented=invented)
    write_rollouts(run, tweets["train"][0])
    by_split = {
        split: {
            n: scoring.score_examples(some, run.predictions(f"{n}.{split}"), n_resamples=100) for n in RATES
        }
        for split, some in splits.items()
        if "." not in split
    }
    comparison.write(run, by_split, {"scores": []}, seed=0)
    facts = {"status": "done", "setting": {"stage": "sft"}, "n_rows": 8, "n_steps": 36, "seconds": 12.5}
    facts |= {"peak_memory_mb": 900.0, "format_version": FORMAT_VERSION, "fingerprint": "abc"}
    write_json(run.setting("mrsi") / "fingerprint.json", facts)
    run.figures.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (40, 300, 3), dtype=np.uint8)
    for name in (*report.FIGURES, "01_types"):
        Image.fromarray(noise).save(run.figures / f"{name}.png")
    run.notebooks.mkdir()
    (run.notebooks / "05_evaluation.html").write_text("executed")
    notebooks = {n: {"status": "done", "seconds": 61.0} for n in ("05_evaluation", "06_bias_analysis")}
    head = {"format_version": FORMAT_VERSION, "commit": "0123456789abcdef", "n_cpus": 2}
    write_json(run.manifest, head | {"notebooks": notebooks})
    return loaded


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return new_run(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def page(loaded):
    return report.write(loaded).read_text()


def blob(page):
    return json.loads(gzip.decompress(base64.b64decode(re.search(r'id="data">([^<]*)<', page)[1])))


def text_of(html):
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def counted(page):
    """(split, setting, kind) -> the number that the page links, and where it leads."""
    found = {}
    for link, number in re.findall(r'<td><a href="#([^"]+)">(\d+)</a>', page):
        where = {key: values[0] for key, values in parse_qs(unescape(link)).items()}
        found[where["s"], where["a"], where["kind"]] = int(number), where
    return found


def test_the_first_screen_states_each_difference_with_its_interval_and_verdict(page, loaded):
    every, refused = answers.collect(loaded)
    assert refused == []
    test, adversarial = every[0], next(one for one in every if one.split == "test_adversarial")
    first = text_of(page[: page.index("What became of every entity")])
    for one, rival in ((test, "sft"), (adversarial, "sft"), (test, "mrsi")):
        row = answers.difference(one, "mcr", rival, "gmner_f1")
        f1 = scoring.f1_ratios(one.files["mcr"].judged, "definition")["gmner"].percent
        assert row["first"] == f1
        numbers = [report.number(row[key]) for key in ("first", "second", "low", "high")]
        assert f"{numbers[0]} against {numbers[1]} GMNER F1" in first
        assert f"points ({numbers[2]} to {numbers[3]})" in first
        expected = report.VERDICTS[1 if row["low"] > 0 and row["p"] < 0.05 else 0]
        assert f"{expected} On {one.split}, mcr" in first
    assert first.count(training.TESTBED_NOTE) == page.count(training.TESTBED_NOTE) == 1
    assert re.search(
        r"Does the reasoning state its own answer\? mrsi : [\d.]+ % on test, [\d.]+ % on test_adversarial",
        first,
    )
    assert "mcr mrsi, trained on by GRPO with rewards" in first


def test_every_count_is_that_of_the_scores_and_leads_to_tweets_that_hold_so_many(page, loaded):
    data, links = blob(page), counted(page)
    results = {
        (row["setting"], row["split"], row["metric"]): row
        for row in csv.DictReader(RunFolder(loaded.folder).results.read_text().splitlines())
    }
    for one in (one for one in answers.collect(loaded)[0] if not one.probe):
        kinds = {name: comparison.error_kinds(of.judged) for name, of in one.files.items()}
        (tweets,) = (s["tweets"] for s in data["sets"] if (s["split"], s["probe"]) == (one.split, ""))
        for row in answers.count_rows(one):
            name, of_csv = row["setting"], results[row["setting"], one.split, "gmner_f1"]
            assert [f"{row['f1']:.2f}", *(f"{end:.2f}" for end in row["ci95"])] == [
                f"{float(of_csv[key]):.2f}" for key in ("value", "ci_low", "ci_high")
            ]
            n_gold, n_pred = sum(map(len, (e.entities for e in one.examples))), 0
            for kind in answers.KINDS:
                number, where = links.get((one.split, name, kind), (0, {}))
                k = data["kinds"].index(kind)
                held = [t["answers"][name] for t in tweets]
                n_held = sum(
                    a["gold"].count(k) + sum(e[3] == k and e[4] < 0 for e in a["entities"]) for a in held
                )
                assert number == row["counts"][kind] == kinds[name][kind] == n_held
                assert not where or where["show"] == "all"
            n_pred = sum(len(a["entities"]) for a in held)
            assert row["f1"] == pytest.approx(200 * row["counts"]["right"] / (n_gold + n_pred))
            n_flawed = sum("flaw" in a for a in held)
            assert links.get((one.split, name, report.NO_FLAW), (0,))[0] == row.get("flawed", 0) == n_flawed
            assert all(
                a["wrong"] == scoring.n_mistakes(j) for a, j in zip(held, one.files[name].judged, strict=True)
            )


def test_the_tweet_that_is_drawn_follows_its_rule(page, loaded):
    test = answers.collect(loaded)[0][0]
    wrong = {name: [scoring.n_mistakes(j) for j in test.files[name].judged] for name in ("mcr", "sft")}
    won = sum(a < b for a, b in zip(wrong["mcr"], wrong["sft"], strict=True))
    assert f"mcr makes fewer mistakes on {won} tweets" in text_of(page)
    ids = [e.id for e, a, b in zip(test.examples, wrong["mcr"], wrong["sft"], strict=True) if a == 0 < b]
    assert f'data-split="test" data-id="{ids[0]}"' in page


def test_the_page_asks_for_nothing_and_links_what_lies_beside_it(page, loaded):
    assert "script src" not in page
    assert set(re.findall(r'<(?:img|link|script)[^>]* (?:src|href)="(data:|[^"]*)', page)) == {"data:"}
    assert set(re.findall(r'href="([^#][^"]*)"', page)) == {
        "data:,",
        "results.csv",
        "notebooks/05_evaluation.html",
    }
    row = ("mrsi", "the backbone", "sft", "8", "36", "12.5", "900.0", "abc")
    assert "".join(f"<td>{cell}</td>" for cell in row) in page
    assert "2 notebooks in 122 s · 2 CPUs · commit 0123456789ab" in text_of(page)
    assert "<td>seed</td><td>0</td><td>default</td>" in page


def test_no_text_of_a_tweet_or_of_a_model_is_markup(page):
    assert EVIL in json.dumps(blob(page)["sets"], ensure_ascii=False).replace('\\"', '"')
    assert "<img src=x" not in page
    assert page.count("</script>") == page.count("<script") == 2


def test_figures_are_at_most_twelve_in_few_colours_with_what_to_look_for_and_a_verdict(page):
    assert page.count("<figure>") == report.MAX_FIGURES < len(report.FIGURES)
    images = re.findall(
        r'<img loading="lazy" width="(\d+)" src="data:image/png;base64,([^"]+)" alt="([^"]+)"', page
    )
    assert [width for width, _, _ in images] == ["200"] * report.MAX_FIGURES
    pngs = [base64.b64decode(png) for _, png, _ in images]
    assert all(png[25] == 3 for png in pngs)  # a palette
    caption = text_of(re.search(r"<figcaption>(.*?)</figcaption>", page, re.S)[1])
    assert re.fullmatch(
        r"Look for .+\. N-F1 on test: mcr .+ \(.+ to .+\): mcr (better|worse|cannot be told)", caption
    )
    assert f"{len(report.FIGURES) + 1 - report.MAX_FIGURES} more are in the notebooks" in page


def test_every_figure_is_one_that_a_notebook_writes_and_every_word_is_there():
    written = set()
    for path in sorted((REPOSITORY / "notebooks").glob("0[3456]_*.ipynb")):
        source = "\n".join("".join(cell["source"]) for cell in json.loads(path.read_text())["cells"])
        written |= set(re.findall(r'^show\(.*"(0\d_\w+)"', source, re.MULTILINE))
    assert set(report.FIGURES) <= written
    assert all(one["look"].startswith("Look for ") for one in report.FIGURES.values())
    assert tuple(report.WORDS["outcomes"]) == answers.KINDS
    assert set(report.WORDS["flaws"]) == {*FLAWS, "unread", "no_reasoning"}
    assert f'"{report.NO_FLAW}"' in (REPOSITORY / "mcr_lib/study/commands/report.js").read_text()


def test_rollouts_of_a_tweet_have_rewards_advantages_and_why_they_earn_nothing(page):
    (one,) = (s for s in blob(page)["sets"] if s["split"] == "rollouts of mcr")
    (tweet,) = one["tweets"]
    assert (tweet["step"], [r["worthless"] for r in tweet["rollouts"]]) == (3, ["", "no_answer", "no_answer"])
    first = tweet["rollouts"][0]
    assert (first["reward"], first["advantage"], first["think"]) == (2.5, 0.1, "no name ;")
    assert dict(first["rewards"]) == {"count": 1, "span": 0.5, "type": 0.5, "grounding": 0, "entailment": 1}


def test_reasoning_is_shown_with_its_boxes_the_name_before_each_and_its_flaw(page, loaded):
    tweets = blob(page)["sets"][0]["tweets"]
    flawed = [t["answers"]["mcr"] for t in tweets if t["answers"]["mcr"].get("flaw") == "foreign_slot"]
    assert flawed
    for answer in flawed:
        wrong = [name for name, box in answer["claims"] if box == [1, 2, 30, 40]]
        assert wrong
        assert all(f'"{name}" ' in answer["think"] for name in wrong)


def test_a_moved_run_keeps_its_pictures(loaded, tmp_path):
    shutil.copytree(loaded.folder, tmp_path / "moved")
    moved = replace(loaded, folder=tmp_path / "moved")
    rows = [json.loads(line) for line in RunFolder(moved.folder).data("test").read_text().splitlines()]
    for row in rows[1:]:
        row["images"] = [path.replace(str(loaded.folder), "/gone") for path in row["images"]]
    RunFolder(moved.folder).data("test").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = blob(report.page(RunFolder(moved.folder), moved))
    assert all(t["picture"] is not None for t in data["sets"][0]["tweets"])
    assert data["pictures"][0].startswith("data:image/png;base64,")


def test_pictures_of_real_tweets_are_left_out_unless_asked_for_and_the_page_says_so(tmp_path, sample_dir):
    given = {"source": "twitter-gmner", "data_dir": str(sample_dir), "splits": ["test"], "settings": {}}
    file = tmp_path / "own.jsonl"
    loaded = config.load("tiny", tmp_path / "run", given | {"predictions": str(file), "probes": []})
    run, tweets = RunFolder(loaded.folder), prepare.load_examples(loaded)["test"]
    Image.new("RGB", (60, 40)).save(tmp_path / "x.png")
    tweets[0] = replace(tweets[0], images=(str(tmp_path / "x.png"),))
    prepare.write_examples(run, {"test": tweets})
    rows = [{"id": e.id, "answer": write_answer(yardsticks.never_a_box(e))} for e in tweets]
    write_predictions(file, rows, coordinate_space="norm1000")
    page, whole = (report.page(run, loaded, pictures=asked) for asked in (False, True))
    assert blob(page)["pictures"] == []
    assert "their pictures are left out (mcr report --pictures puts them in)" in text_of(page)
    assert blob(whole)["pictures"][0].startswith("data:image/jpeg;base64,")
    assert "and their pictures" in text_of(whole)
    first = text_of(page[: page.index("What became of every entity")])
    f1 = scoring.score_examples(tweets, file, n_resamples=100)["gmner"]["f1"]
    assert f"On test, predictions scores {f1:.1f} GMNER F1" in first
    assert "predictions the answers of own.jsonl" in first
    assert "How good are the answers" in first
    assert not {"mcr", training.TESTBED_NOTE, "Differences"} & {*first.split()}
    assert 'class="result">Does the reasoning' not in page


def test_an_empty_folder_has_a_report_too_and_a_foreign_manifest_is_told(tmp_path):
    loaded = config.load("tiny", tmp_path / "mine")
    page = report.write(loaded).read_text()
    assert "0 notebooks in 0 s" in page
    assert "What is in this run?" in page
    assert "<h2>Figures" not in page
    assert 'id="data"' not in page
    RunFolder(loaded.folder).manifest.write_text("[]")
    with pytest.raises(UserError, match="no manifest of this release"):
        report.write(loaded)


def test_answers_to_other_tweets_are_refused_in_a_sentence(loaded, tmp_path):
    shutil.copytree(loaded.folder, tmp_path / "other")
    other = replace(loaded, folder=tmp_path / "other")
    run = RunFolder(other.folder)
    tweets = prepare.read_examples(run, "dev")
    prepare.write_examples(run, {"dev": tweets[:5]})
    page = report.page(run, other)
    assert len(re.findall(r"dev\.jsonl has answers to data \S+, this run has \S+: refused", page)) == len(
        RATES
    )
    assert "<h3>dev" not in page


def colours():
    """Scheme -> name of a variable -> colour."""
    style, found = report.style(), {"light": {}, "dark": {}}
    for media, block in re.findall(r"(dark\) \{\s*)?:root[^{]*\{(.*?)\}", style, re.S):
        found["dark" if media else "light"] |= re.findall(r"--([\w-]+): (#\w{6})", block)
    return found


OTHERS = [f"other-{k}" for k in range(len(palette.OTHER_SETTINGS))]
OF_REPORT = {
    "settings": [*palette.SETTINGS, *OTHERS],
    "kinds": [*report.OUTCOMES],
    "kinds as text": [f"{name}-ink" for name in report.OUTCOMES],
}


def test_the_colours_are_those_of_the_figures():
    light = colours()["light"]
    assert [light[name] for name in OF_REPORT["settings"]] == [
        *palette.SETTINGS.values(),
        *palette.OTHER_SETTINGS,
    ]
    assert [light[name] for name in report.OUTCOMES] == [*palette.KINDS.values()]
    fills = palette.GOLD_ERRORS | palette.EXTRA_ERRORS
    of_kind = {kind: light[outcome] for kind, outcome in report.WORDS["outcomes"].items()}
    assert of_kind == {kind: colour for kind, (colour, _) in fills.items()}
    rest = re.sub(r":root[^{]*\{.*?\}", "", report.style(), flags=re.S)
    assert set(re.findall(r"#\w{6}", rest)) <= {"#000000", "#ffffff"}, "a colour that is no variable"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_graphics_stand_out_in_both_schemes(scheme):
    of = colours()[scheme]
    graphics = [*OF_REPORT["settings"], *OF_REPORT["kinds"]]
    for name in ("ink", "soft", "link", *OF_REPORT["kinds as text"], *graphics):
        for ground in ("page", "card"):
            least = 3 if name in graphics else 4.5
            assert contrast(of[name], of[ground]) >= least, (name, ground)
    assert contrast(of["ink"], of["note"]) >= 4.5


def test_settings_without_a_colour_of_their_own_take_turns():
    assert report.colours(["sft", "a", "b", "c", "d", "e"]) == {
        "sft": "sft", "a": "other-0", "b": "other-1", "c": "other-2", "d": "other-3", "e": "other-0"
    }  # fmt: skip


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", OF_REPORT)
def test_no_two_colours_of_a_palette_look_alike_to_any_eye(name, view):
    for scheme, of in colours().items():
        distance, pair = closest([of[one] for one in OF_REPORT[name]], view)
        assert distance >= 20, (scheme, pair)


@pytest.fixture(scope="module")
def browser():
    """Chromium without a window, or a skip."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright of the extra dev is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    if (chromium := next(filter(None, map(shutil.which, names)), None)) is None:
        pytest.skip("no Chromium on this machine")
    with api.sync_playwright() as playwright:
        chrome = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield chrome
        chrome.close()


@pytest.fixture
def tab(browser, loaded, page):
    """The report as a file, 400 pixels wide; what it asks for, and what its console says, must stay empty."""
    tab = browser.new_page(viewport={"width": 400, "height": 900})
    asked, said = [], []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.goto(RunFolder(loaded.folder).report.as_uri())
    tab.wait_for_selector("body[data-ready]")
    yield tab
    own = tab.url.split("#")[0]
    assert [url for url in asked if url.split("#")[0] != own and not url.startswith("data:")] == []
    assert said == []
    assert tab.evaluate("document.documentElement.scrollWidth") == 400
    tab.close()


LISTED = "[...document.querySelectorAll('#list button')].map(b => b.value)"
FOLLOWED = """async addresses => {
  const seen = [];
  for (const address of addresses) {
    const isTurned = new Promise(done => addEventListener("hashchange", done, { once: true }));
    location.hash = address;
    await isTurned;
    seen.push([document.getElementById("status").textContent, LISTED]);
  }
  return seen;
}""".replace("LISTED", LISTED)
"""Address of some tweets -> what the page says of them, and their ids."""


def state(tab):
    found = parse_qs(tab.evaluate("location.hash.slice(1)"))
    return {key: values[0] for key, values in found.items()}


def go(tab, **where):
    """Follow an address, and wait until the page shows it."""
    tab.evaluate("where => { location.hash = where }", urlencode(where))
    wanted = "([k, v]) => (new URLSearchParams(location.hash.slice(1)).get(k) || '') === v"
    for pair in where.items():
        tab.wait_for_function(wanted, arg=list(pair))
    is_drawn = "new URLSearchParams(location.hash.slice(1)).has('id') || !document.querySelector('#list li')"
    tab.wait_for_function(is_drawn)


@pytest.mark.server
def test_in_a_browser_the_page_is_whole_on_a_phone_and_its_pictures_have_words(tab):
    assert tab.evaluate("innerWidth") == 400
    tab.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    bare = "[...document.querySelectorAll('img, svg')].filter(e => !e.alt && !e.ariaLabel).length"
    assert tab.evaluate(bare) == 0
    assert tab.evaluate("document.querySelectorAll('#drawn .card svg').length") == 2
    assert tab.evaluate("scrollY") == 0
    fields = "[...document.querySelectorAll('select, input')].every(e => e.labels.length === 1)"
    assert tab.evaluate(fields)


@pytest.mark.server
def test_in_a_browser_every_count_opens_exactly_its_tweets(tab, page):
    data, links = blob(page), counted(page)
    tweets = {s["split"]: s["tweets"] for s in data["sets"] if not s["probe"]}
    seen = tab.evaluate(FOLLOWED, [urlencode(where) for _, where in links.values()])
    for ((split, name, kind), (number, _)), (said, ids) in zip(links.items(), seen, strict=True):
        k = data["kinds"].index(kind) if kind in data["kinds"] else None
        expected = []
        for tweet in tweets[split]:
            a = tweet["answers"][name]
            extras = [e[3] for e in a["entities"] if e[4] < 0]
            if "flaw" in a if k is None else k in (*a["gold"], *extras):
                expected.append(tweet["id"])
        assert ids == expected, (split, name, kind)
        assert said.startswith(f"{number} × “{kind}” of {name}, in {len(expected)} tweet")
    assert len(links) > 30
    tab.click("table.counts td a")
    tab.wait_for_function("document.getElementById('kind').value === 'right'")
    assert -5 < tab.evaluate("document.getElementById('browser').getBoundingClientRect().top") < 300


@pytest.mark.server
def test_in_a_browser_keys_filters_probes_layers_and_permalinks_work(tab, page):
    test = blob(page)["sets"][0]["tweets"]
    wrong = {t["id"]: [t["answers"][name]["wrong"] for name in ("mcr", "sft")] for t in test}
    first, second, *_ = differ = tab.evaluate(LISTED)
    assert {id for id, (a, b) in wrong.items() if a != b} <= {*differ}
    tab.keyboard.press("j")
    assert state(tab)["id"] == second
    shown, permalink = tab.inner_text("#view"), tab.url
    tab.goto("about:blank")
    tab.goto(permalink)
    tab.wait_for_selector("body[data-ready]")
    assert (state(tab)["id"], tab.inner_text("#view")) == (second, shown)
    tab.keyboard.press("k")
    assert state(tab)["id"] == first
    for show, sign in (("better", -1), ("worse", 1)):
        go(tab, s="test", a="mcr", b="sft", show=show)
        assert tab.evaluate(LISTED) == [id for id, (a, b) in wrong.items() if (a > b) - (a < b) == sign]
    tab.select_option("#show", "all")
    assert len(tab.evaluate(LISTED)) == len(test)
    name = next(t["gold"][0][0] for t in test if t["gold"])
    tab.fill("#q", name)
    assert tab.evaluate(LISTED) == [t["id"] for t in test if name in " ".join(t["words"])]
    at = state(tab)["id"]
    tab.press("#q", "j")  # a letter here, no step
    assert (tab.input_value("#q"), state(tab).get("id", at)) == (f"{name}j", at)
    go(tab, s="test", a="mcr", b="base", show="all", id=test[0]["id"])
    tab.click("#view >> text=name muted")
    assert (state(tab)["p"], state(tab)["id"]) == ("mute", test[0]["id"])
    assert "nothing" in tab.inner_text("#view .tweet")
    assert EVIL in tab.inner_text("#view")
    tab.click("#layers button")
    assert "no-gold" in tab.get_attribute("body", "class")
    tab.select_option("#split", "rollouts of mcr")
    assert "advantage +0.10" in tab.inner_text("#view")
    assert EVIL in tab.inner_text("#view")
    assert tab.evaluate("document.querySelectorAll('img[src=x]').length") == 0
