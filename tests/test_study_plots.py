"""Plots draw what they are given: heights, styles, and the CSV beside the PNG."""

import csv

import matplotlib as mpl
import pytest

mpl.use("Agg")

import matplotlib.pyplot as plt
from PIL import Image

from mcr_lib.errors import UserError
from mcr_lib.schema import Entity, Example, PredictedEntity
from mcr_lib.study.figures import plots
from mcr_lib.study.tables import comparison, examples


@pytest.fixture
def ax():
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


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
    plots.draw_example(
        ax, tweet, Image.new("RGB", (120, 100)), [PredictedEntity("Mira Solt", "PER", ((12, 10, 62, 90),))]
    )
    drawn = rectangles(ax)
    assert (10, 10, 50, 80, "solid") in drawn
    assert any(rectangle[:4] == (12, 10, 50, 80) and rectangle[4] != "solid" for rectangle in drawn)


def test_a_tweet_without_an_image_is_still_drawn_with_its_text(ax, tweet):
    plots.draw_example(ax, tweet, None)
    texts = [text.get_text() for text in ax.texts]
    assert "no image here" in texts
    assert any("LOC Velmo: not in the image" in text for text in texts)


def test_stacked_bars_reach_the_sum_of_their_parts(ax):
    rows = [{"type": "PER", "yes": 3, "no": 4}]
    plots.stacked_bars(
        ax,
        rows,
        x="type",
        parts={"in the image": "yes", "not in the image": "no"},
        colours=plots.GROUNDABLE_COLOURS,
    )
    assert max(y + h for _, y, _, h, _ in rectangles(ax)) == 7
    assert min(y for _, y, _, _, _ in rectangles(ax)) == 0


def test_count_bars_start_at_zero_and_show_every_count(ax):
    plots.count_bars(ax, {0: 2, 1: 1500}, xlabel="entities", ylabel="tweets")
    assert ax.get_ylim()[0] == 0
    assert [t.get_text() for t in ax.texts] == ["2", "1,500"]


def test_a_heatmap_writes_every_value_and_a_dash_for_none(ax):
    plots.reward_heatmap(ax, [{"case": "a", "x": 100.0, "y": None}], case="case", columns=["x", "y"])
    assert [t.get_text() for t in ax.texts] == ["100", "–"]


def test_score_bars_carry_the_interval_of_the_table(ax):
    report = {"gmner": {"p": 60.0, "r": 60.0, "f1": 60.0, "ci95": [55.0, 66.0]}, "mner": None, "eeg": None}
    rows = comparison.task_rows({"run": report})
    plots.score_bars(ax, rows, n=10)
    low, high = ax.collections[0].get_segments()[0][:, 1]
    assert (low, high) == (pytest.approx(55), pytest.approx(66))


def test_yardsticks_are_sorted_and_labelled(ax):
    plots.yardstick_bars(
        ax, {"never a box": 58.87, "full image iff PER": 53.13}, highlight={"mine": 70.0}, n=1500
    )
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "full image iff PER",
        "never a box",
        "mine",
    ]


def test_degradation_draws_a_line_per_accuracy_through_the_mean(ax):
    rows = [
        {"accuracy": "box", "level": level, "f1": f1}
        for level, f1 in [(0.5, 60), (0.5, 62), (1.0, 100), (1.0, 100)]
    ]
    plots.degradation(ax, rows, reference=("paper", 70.6))
    (line,) = [line for line in ax.lines if line.get_label() == "box"]
    assert list(line.get_xdata()) == [50, 100]
    assert list(line.get_ydata()) == [61, 100]


def test_save_writes_a_picture_and_the_values_it_shows(tmp_path, ax):
    plots.count_bars(ax, {"PER": 3}, xlabel="x", ylabel="y")
    path = plots.save(ax.figure, tmp_path / "figures", "counts", [{"type": "PER", "n": 3}])
    with Image.open(path) as picture:
        assert picture.size[0] > 100
    assert list(csv.DictReader(path.with_suffix(".csv").read_text().splitlines())) == [
        {"type": "PER", "n": "3"}
    ]
    assert sorted(p.name for p in path.parent.iterdir()) == ["counts.csv", "counts.png"]


def test_save_into_a_file_is_a_users_mistake_in_one_sentence(tmp_path, ax):
    (tmp_path / "figures").write_text("a file, not a folder")
    with pytest.raises(UserError, match="cannot write"):
        plots.save(ax.figure, tmp_path / "figures", "counts", [])


def test_a_gallery_has_one_frame_per_example(tweet):
    figure = plots.gallery([tweet, tweet], [None, Image.new("RGB", (120, 100))])
    assert sum(ax.axison for ax in figure.axes) == 2
    plt.close(figure)


def test_the_style_file_is_found_and_applied():
    with mpl.rc_context():
        plots.use_style()
        assert mpl.rcParams["axes.spines.top"] is False


def test_an_entity_table_has_a_row_per_entity_and_the_share_of_the_largest_box(tweet):
    table = examples.entity_table([tweet])
    # 50 x 80 of 120 x 100 pixels
    assert table["box_share"].iloc[0] == pytest.approx(4000 / 12000)
    assert table["n_boxes"].tolist() == [1, 0]


def test_a_tweet_table_finds_tweets_mixed_within_a_type():
    entities = (Entity("a", 0, 1, "PER", ((0, 0, 1, 1),)), Entity("b", 1, 2, "PER", ()))
    mixed = Example("1", "demo", "dev", ("a", "b"), entities, ("PER",))
    assert examples.tweet_table([mixed])["is_mixed_within_type"].tolist() == [True]
