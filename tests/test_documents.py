"""The documents: links lead somewhere, tables are narrow enough, sentences on results follow the evidence."""

import re

import pytest

from tests.conftest import REPOSITORY
from tools import headline

DOCUMENTS = [
    REPOSITORY / "README.md",
    REPOSITORY / "REPRODUCING.md",
    REPOSITORY / "LOG.md",
    REPOSITORY / "data" / "README.md",
    REPOSITORY / "data" / "tiny-base" / "README.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
]
README = (REPOSITORY / "README.md").read_text()


def slug(heading):
    """The anchor that GitHub gives a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


def anchors(path):
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    return {slug(heading) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


def links(text):
    """Targets of links and pictures, those in code left out."""
    text = re.sub(r"```.*?```|(?<!`)`[^`\n]*`", "", text, flags=re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_link_of_a_document_leads_to_a_file_and_a_heading(path):
    for target in links(path.read_text()):
        if target.startswith("https://"):
            assert "OWNER" not in target, f"{target} leads nowhere while the repository has no address"
            continue
        name, _, anchor = target.partition("#")
        found = (path.parent / name).resolve() if name else path
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found), target


def test_links_and_anchors_are_found():
    text = '[a](b.md#c-d) `[x](y)` ![p](q.png) <img src="r.png">\n```\n[no](no.md)\n```\n[![s](t.png)](u)'
    assert links(text) == ["b.md#c-d", "q.png", "t.png", "u", "r.png"]
    assert slug("What the paper's `gain` is made of") == "what-the-papers-gain-is-made-of"


def tables(text):
    return re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)


def test_readme_has_one_table_of_results_and_none_that_github_cuts():
    generated = re.findall(r"<!-- table: (\w+) -->\n(.*?)<!-- end -->", README, re.DOTALL)
    with_table = [name for name, text in generated if tables(text)]
    assert with_table == ["claims"]
    for table in tables(README):
        assert len(re.split(r"(?<!\\)\|", table.split("\n")[0].strip("|"))) <= 5, table


def test_readme_begins_with_one_sentence_and_the_picture():
    assert re.search(r"^# .*\n\n\*\*.*\n\n<!-- table: example -->\n<img ", README)


def row(name, values, **more):
    numbers = {"mean": sum(values) / len(values), "ci_low": min(values), "ci_high": max(values)}
    seeds = {str(k): value for k, value in enumerate(values)}
    return {"name": name, "split": "test", "per_seed": seeds, "n_seeds": len(values), **numbers, **more}


def test_the_sentence_on_results_counts_the_seeds_on_the_side_of_the_mean(monkeypatch):
    monkeypatch.setattr(headline, "rows", lambda: [row("MCR − SFT", [-3.0, -2.0, 1.0])])
    assert (
        "MCR scores below plain fine-tuning on answers (SFT) in two of three seeds**" in headline.sentence()
    )
    assert "GMNER F1 −1.3 points (95 %: −3.0 to +1.0) on `test`." in headline.sentence()
    monkeypatch.setattr(headline, "rows", lambda: [row("MCR − SFT", [3.0, 2.0, 1.0])])
    assert (
        "MCR scores above plain fine-tuning on answers (SFT) in three of three seeds**" in headline.sentence()
    )


def test_the_sentence_on_results_names_controls_and_what_cannot_be_told_apart(monkeypatch):
    first, second, *_ = headline.CONTROLS
    shown = [row("MCR − SFT", [3.0, 2.0, 1.0]), row(first, [-1.0, 2.0]), row(second, [-3.0, -1.0])]
    monkeypatch.setattr(headline, "rows", lambda: shown)
    told = headline.sentence()
    of_first, of_second = (headline.CONTROLS[name] for name in (first, second))
    assert (
        f"Its difference from {of_first} is not distinguishable from zero: +0.5 points (95 %: −1.0 to +2.0)."
        in told
    )
    assert f"It scores below {of_second}: −2.0 points (95 %: −3.0 to −1.0)." in told


def test_a_claim_on_results_stands_beside_how_far_the_reasoning_states_the_answer():
    assert "MCR scores" in headline.sentence()
    assert re.search(r"Its reasoning states its answer in \d+ % of `test`", headline.sentence())


def test_the_figure_of_the_main_comparison_has_the_values_of_the_evidence():
    path = REPOSITORY / f"{headline.FIGURE}.csv"
    assert path.read_text() == headline.values()
    assert path.with_suffix(".png").is_file()
    shown = [r for r in headline.rows() if r["n_seeds"]]
    labels = [text.get_text() for text in headline.draw(shown).axes[0].get_yticklabels()]
    assert labels == [r["name"] for r in shown]
