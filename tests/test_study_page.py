"""The HTML of an executed notebook: complete without a network."""

import re

import nbformat
import pytest

from mcr_lib.study.commands.runner import page
from tests.conftest import REPOSITORY
from tools import colab

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
FETCHED = (
    r"""(?:\ssrc|\sdata|<link\b[^>]*\shref)\s*=\s*["']?\s*(?:https?:)?//"""
    r"""|url\(\s*["']?(?:https?:)?//|@import|<script"""
)
"""What makes a browser ask for another file; a link that one clicks does not."""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The page of all text cells of the notebooks, with badges, the cell for Colab and a table."""
    folder, cells = tmp_path_factory.mktemp("pages"), []
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        notebook.cells[0].source += "\n" + colab.badge(path.stem, "https://github.com/someone/mcr")
        cells += [cell for cell in notebook.cells if cell.cell_type == "markdown"]
    (hidden,) = [cell for cell in notebook.cells if cell.id == colab.CELL_ID]
    table = nbformat.v4.new_output("display_data", {"text/html": "<table><tr><td>$5</td></tr></table>"})
    cells += [hidden, nbformat.v4.new_code_cell("1", outputs=[table])]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "all.ipynb")
    return page(folder / "all.ipynb", "all"), cells


def test_a_page_asks_for_nothing(pages):
    text, _ = pages
    assert re.findall(FETCHED, text) == []
    assert "colab-badge" not in text
    assert "google.colab" not in text
    assert "<table><tr><td>$5</td></tr></table>" in text


def test_every_formula_is_drawn_by_the_browser_itself(pages):
    text, cells = pages
    formulas = [found for cell in cells if cell.cell_type == "markdown"
                for found in re.findall(r"\$\$.+?\$\$|\$[^$\n]+\$", cell.source, re.DOTALL)]  # fmt: skip
    assert len(formulas) > 10
    assert text.count("<math ") == text.count("</math>") == len(formulas)
    drawn = re.findall(r"<math .*?</math>", text, re.DOTALL)
    assert all(re.match(r"<math [^>]*><mrow><m", one) for one in drawn)
    assert not [one for one in drawn if re.search(r"<(mi|mo|mn|mtext)></|\\[a-z]+|<p>|<em>", one)]
    assert {"mfrac", "msub", "mtable"} <= set(re.findall(r"<(m\w+)", text))
    outside = re.sub(r"<math .*?</math>|<style.*?</style>", "", text, flags=re.DOTALL)
    assert not re.search(r"\\(?:frac|text|sum)\b|\$\$|[\ue000\ue001]", outside)
