"""Figures show their values: heights, line styles, and the CSV beside the PNG."""

import csv
from dataclasses import replace

import matplotlib as mpl
import pytest

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from PIL import Image

from mcr_lib import bias, metrics, rewards, testbed
from mcr_lib.errors import UserError
from mcr_lib.schema import Entity, Example, PredictedEntity
from mcr_lib.study.figures import bars, boxes, curves, heat, palette
from mcr_lib.study.tables import comparison, examples
from tests.colours import VIEWS, ciede2000, closest, contrast


@pytest.fixture
def ax():
    figure, ax = plt.subplots()
    yield ax
    plt.close("all")


@pytest.fixture
def tweet() -> Example:
    entities = (Entity("Mira Solt", 0, 2, "PER", ((10, 10, 60, 90),)), Entity("Velmo", 3, 4, "LOC", ()))
    return Example(
        "7",
        "demo",
        "test",
        ("Mira", "Solt", "in", "Velmo", "$", "😀"),
        entities,
        ("PER", "LOC"),
        image_size_px=(120, 100),
    )


def rectangles(ax):
    return [(p.get_x(), p.get_y(), p.get_width(), p.get_height(), p.get_linestyle()) for p in ax.patches]


def test_gold_boxes_are_solid_and_predicted_boxes_dashed(ax, tweet):
    predicted = [PredictedEntity("Mira Solt", "PER", ((12, 10, 62, 90),))]
    boxes.draw_example(ax, tweet, Image.new("RGB", (120, 100)), predicted)
    drawn = rectangles(ax)
    assert (10, 10, 50, 80, "solid") in drawn
    assert any(rectangle[:4] == (12, 10, 50, 80) and rectangle[4] != "solid" for rectangle in drawn)


def test_a_tweet_without_an_image_is_still_drawn_with_its_text(ax, tweet):
    boxes.draw_example(ax, tweet, None)
    texts = [text.get_text() for text in ax.texts]
    assert "no image here" in texts
    assert any("LOC Velmo: not shown" in text for text in texts)


def test_predictions_are_numbered_and_listed_with_their_kind_of_error(ax, tweet):
    """The person is boxed right, the place boxed though it is not shown, a third name is not in the text."""
    predicted = [
        PredictedEntity("Mira Solt", "PER", ((12, 10, 62, 90),)),
        PredictedEntity("Velmo", "LOC", ((12, 10, 62, 90),)),
        PredictedEntity("Eve", "PER"),
    ]
    boxes.draw_example(ax, tweet, None, predicted)
    texts = [text.get_text() for text in ax.texts]
    assert {"1", "2"} < set(texts), "one number per box"
    assert not {"3", "PER Mira Solt"} & set(texts), "no box, and gold is in the list"
    corners = {text.get_text(): text.get_position() for text in ax.texts}
    assert corners["1"][0] < corners["2"][0], "numbers of one box stand beside each other"
    lines = next(text for text in texts if "✓" in text).splitlines()
    assert lines[-3] == "✓ 1 PER Mira Solt: box"
    assert lines[-2].startswith("✗ 2 LOC Velmo: boxed, not in the image")
    assert lines[-1] == "✗ 3 PER Eve: name not in the text"
    colours = {mpl.colors.to_hex(p.get_edgecolor()).upper() for p in ax.patches}
    assert {palette.RIGHT, palette.REGION} < colours


def test_what_an_answer_leaves_out_is_listed_as_left_out(ax, tweet):
    boxes.draw_example(ax, tweet, None, [])
    lines = next(text.get_text() for text in ax.texts if "✗" in text.get_text())
    assert "✗ 1 PER Mira Solt: left out" in lines
    assert "✗ 2 LOC Velmo: left out" in lines


def test_the_text_of_a_tweet_stands_once_above_its_row(tweet):
    judged = [metrics.judge(tweet, [])]
    figure = boxes.side_by_side({"sft": judged, "mcr": judged})
    texts = [text.get_text() for text in (*figure.texts, *(t for ax in figure.axes for t in ax.texts))]
    assert sum("Mira Solt in Velmo" in text for text in texts) == 1
    other = replace(tweet, tokens=("Mira", "Solt", "and", "Velmo", "$", "😀"))
    assert not any("Mira Solt in" in text.get_text() for text in boxes.gallery([tweet, other]).texts)


def test_stacked_bars_reach_the_sum_of_their_parts(ax):
    rows = [{"name": "PER", "groundable": 3, "not groundable": 4}]
    bars.stack(ax, rows, palette.GROUNDABLE)
    assert max(x + width for x, _, width, _, _ in rectangles(ax)) == 7
    assert min(x for x, _, _, _, _ in rectangles(ax)) == 0
    assert [text.get_text() for text in ax.texts] == ["3", "4", "7"]  # the parts, then the sum


def test_stacked_shares_are_of_the_whole_that_is_named(ax):
    bars.stack(ax, [{"name": "sft", "image only": 3, "all": 12}], palette.ORIGINS, whole="all")
    assert max(x + width for x, _, width, _, _ in rectangles(ax)) == 25


def test_bars_of_entities_per_tweet_start_at_zero_and_show_every_count():
    (ax,) = bars.entities_per_tweet([{"entities": 0, "tweets": 2}, {"entities": 1, "tweets": 1500}]).axes
    assert ax.get_ylim()[0] == 0
    assert [t.get_text() for t in ax.texts] == ["2", "1,500"]


def test_a_heat_table_writes_every_value_and_a_dash_for_none(ax):
    heat.number_table(
        ax, pd.DataFrame([[100.0, None, 66.667]], index=["a"], columns=["x", "y", "z"]).astype(float)
    )
    assert sorted(t.get_text() for t in ax.texts) == ["100.0", "66.7", "–"]


def test_score_bars_carry_the_interval_of_the_table():
    report = {"gmner": {"p": 60.0, "r": 60.0, "f1": 60.0, "ci95": [55.0, 66.0]}, "mner": None, "eeg": None}
    (ax,) = bars.scores(comparison.task_rows({"run": report}), n=10).axes
    drawn = [sorted({*map(float, line.get_xdata())}) for line in ax.lines]
    assert [60] in drawn
    assert [55, 66] in drawn


def test_yardsticks_are_sorted_and_labelled():
    f1 = {"never a box": 58.87, "mine": 70.0, "full image iff PER": 53.13}
    rows = [{"name": name, "gmner_f1": value} for name, value in f1.items()]
    (ax,) = bars.yardsticks(rows, scored=["mine"], n=1500).axes
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["mine", "never a box", "full image iff PER"]
    values = {
        round(bar.get_y() + bar.get_height() / 2): bar.get_width() for bar in ax.patches if bar.get_width()
    }
    assert values == {0: 70.0, 1: 58.87, 2: 53.13}


def test_degradation_draws_a_line_per_accuracy_through_the_mean():
    points = [(0.5, 60), (0.5, 62), (1.0, 100), (1.0, 100)]
    rows = [{"accuracy": "box", "level": x, "f1": f1, "repeat": k % 2} for k, (x, f1) in enumerate(points)]
    (ax,) = curves.degradation(rows, reference=70.6, n=9).axes
    assert (list(ax.lines[0].get_xdata()), list(ax.lines[0].get_ydata())) == ([50, 100], [61, 100])
    assert [text.get_text() for text in ax.texts] == ["paper's best: 70.6"]
    assert not curves.degradation(rows, n=9).axes[0].texts


def test_save_writes_a_picture_and_the_values_it_shows(tmp_path, ax):
    ax.bar(["PER"], [3])
    path = palette.save(ax.figure, tmp_path / "figures", "counts", [{"type": "PER", "n": 3}])
    with Image.open(path) as picture:
        assert picture.size[0] > 100
    rows = list(csv.DictReader(path.with_suffix(".csv").read_text().splitlines()))
    assert rows == [{"type": "PER", "n": "3"}]
    assert sorted(p.name for p in path.parent.iterdir()) == ["counts.csv", "counts.png"]


def test_save_into_a_file_is_a_users_mistake_in_one_sentence(tmp_path, ax):
    (tmp_path / "figures").write_text("a file, not a folder")
    with pytest.raises(UserError, match="cannot write"):
        palette.save(ax.figure, tmp_path / "figures", "counts", [])


def test_probes_show_their_gold_or_the_answer_to_them(tweet):
    figure = boxes.probed({"original": tweet, "mute": tweet}, answers={"mute": []})
    gold, answer = ("".join(text.get_text() for text in ax.texts) for ax in figure.axes)
    assert "PER Mira Solt: shown" in gold
    assert "✗ 1 PER Mira Solt: left out" in answer
    assert [ax.get_title("left") for ax in figure.axes] == ["original", "muted name"]


def test_a_gallery_has_one_frame_per_example(tweet, tmp_path):
    Image.new("RGB", (120, 100)).save(path := tmp_path / "7.png")
    figure = boxes.gallery([tweet, replace(tweet, images=(str(path),))])
    assert sum(ax.axison for ax in figure.axes) == 2
    plt.close(figure)


def test_show_draws_saves_and_notes_a_figure_unless_there_is_nothing_to_show(tmp_path):
    drawn = []

    def draw(rows, *, title):
        drawn.append(plt.figure())
        drawn[-1].suptitle(title)
        return drawn[-1]

    with mpl.rc_context():
        show = palette.shower(tmp_path, "a note")
        assert mpl.rcParams["axes.spines.top"] is False
        show(draw, [], "empty", title="t")
        assert not drawn
        show(draw, [{"a": 1}], "full", title="t")
        show(draw, [1], "other", title="t", values=[{"b": 2}], note="")
    assert [figure.get_supxlabel() for figure in drawn] == ["a note", ""]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "full.csv",
        "full.png",
        "other.csv",
        "other.png",
    ]
    assert (tmp_path / "other.csv").read_text() == "b\n2\n"
    plt.close("all")


def test_every_kind_has_a_colour():
    assert list(palette.FAULTS) == ["clean", *bias.FAULTS]
    assert set(palette.FLAWS) >= {"faithful", "unread", "no_reasoning", "foreign_slot", "missing_name"}
    assert list(palette.ORIGINS) == list(bias.ORIGINS)
    assert set(palette.GOLD_ERRORS) == set(comparison.GOLD_KINDS)
    assert set(palette.EXTRA_ERRORS) == set(comparison.EXTRA_KINDS)
    assert len(palette.REWARDS) == len(rewards.NAMES)
    fills = [palette.GOLD_ERRORS | palette.EXTRA_ERRORS, palette.FAULTS, palette.WRONG_BOXES, palette.ORIGINS]
    for of in fills:
        assert len(set(of.values())) == len(of), "kinds of one colour differ in hatching"
        assert {colour for colour, _ in of.values()} <= set(palette.KINDS.values())
    made = [testbed.make("gmner", "train", k).example for k in range(40)]
    assert {examples.contradiction(example) for example in made} == set(palette.CONTRADICTIONS)
    assert next(iter(palette.CONTRADICTIONS)) == examples.AGREES


@pytest.mark.parametrize("n", [1, 7, 60, 3000])
def test_every_training_tweet_is_one_mark_of_its_kind(n):
    kinds = list(palette.CONTRADICTIONS)
    rows = [{"kind": kinds[k % 97 % 4 if k % 10 == 0 else 0]} for k in range(n)]
    figure = bars.marks(rows, title="some")
    marks = figure.axes[0].collections[0].get_array()
    assert marks.compressed().tolist() == [kinds.index(row["kind"]) for row in rows]
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == [f"{kind}: {sum(row['kind'] == kind for row in rows):,}" for kind in kinds]
    height, width = marks.shape
    assert height <= width <= max(20, 4 * height)
    plt.close("all")


def test_how_many_tweets_speak_against_a_shortcut_is_a_sentence():
    agree, one = [{"kind": "agrees"}] * 3, [{"kind": "both"}]
    assert examples.contradicting(agree + one) == "1 of 4 training tweets (25.0 %) speaks against a shortcut"
    assert examples.contradicting(one * 2) == "2 of 2 training tweets (100.0 %) speak against a shortcut"
    none = "0 of 3 training tweets (0.0 %) speak against a shortcut: pictures show just what is named"
    assert examples.contradicting(agree).startswith(none)


def test_tweets_of_each_kind_stand_in_a_row_and_an_empty_kind_has_none(tweet):
    figure = boxes.by_kind({"agrees": [tweet] * 3, "named, not shown": [], "both": [tweet]})
    titles = [ax.get_title("left") or ax.get_title() for ax in figure.axes]  # by the style that is set
    assert titles == ["agrees · 7"] * 3 + ["both · 7"]
    assert len({round(ax.get_position().y1, 3) for ax in figure.axes}) == 2
    plt.close("all")


def test_an_entity_table_has_a_row_per_entity_and_the_share_of_the_largest_box(tweet):
    table = examples.entity_table([tweet])
    # 50 x 80 of 120 x 100 pixels
    assert table["box_share"].iloc[0] == pytest.approx(4000 / 12000)
    assert table["n_boxes"].tolist() == [1, 0]


# colours
# ----------------------------------------------------------------------------

PALETTES = {
    "settings": [*palette.SETTINGS.values(), *palette.OTHER_SETTINGS],
    "kinds of answer": [*palette.KINDS.values()],
    "both": [*palette.SETTINGS.values(), *palette.KINDS.values()],
    "greys": [*palette.TONES],
}


def test_the_colour_difference_is_that_of_the_published_pairs():
    pairs = [  # Sharma, Wu and Dalal 2005, Table 1
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, -1.3802, -84.2814), (50, 0, -82.7485), 1.0),
        ((50, 2.49, -0.001), (50, -2.49, 0.0009), 7.1792), ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ]  # fmt: skip
    for one, other, expected in pairs:
        assert ciede2000(one, other) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", PALETTES)
def test_no_two_colours_of_a_palette_are_closer_than_20(name, view):
    distance, pair = closest(PALETTES[name], view)
    assert distance >= 20, pair


def test_colours_are_seen_on_white_and_text_is_read_on_every_colour():
    graphics = {colour for colours in PALETTES.values() for colour in colours}
    graphics |= {palette.DARK, palette.MEDIUM, palette.GREY, *palette.CONTRADICTIONS.values()}
    assert min(map(contrast, graphics)) >= 3
    assert min(contrast(palette.ink(colour), colour) for colour in graphics) >= 4.5
    assert min(map(contrast, (palette.DARK, palette.MEDIUM))) >= 4.5


def test_text_is_read_on_every_shade_of_a_table(ax):
    values = pd.DataFrame(np.linspace(0, 100, 21)[:, None])
    heat.number_table(ax, values)
    shades = [ax.collections[0].to_rgba(value) for value in values[0]]
    assert min(contrast(t.get_color(), shade) for t, shade in zip(ax.texts, shades, strict=True)) >= 4.5


def test_no_figure_is_wider_or_has_smaller_text_than_can_be_read_in_the_report():
    """11 px at 1080 px: 8 points = 8 / 72 inches of at most 10.6."""
    assert 1080 / palette.WIDTH_IN * 8 / 72 >= 11
    with mpl.rc_context():
        palette.use_style()
        figure, axes = palette.panels(7, (3.3, 2), "a title " * 40)
        sizes = [mpl.rcParams[f"{key}.labelsize"] for key in ("axes", "xtick", "ytick")]
        assert min(*sizes, mpl.rcParams["legend.fontsize"]) >= 8
    assert figure.get_figwidth() == palette.WIDTH_IN
    assert len(figure.get_suptitle().splitlines()) > 1, "long titles are wrapped"
