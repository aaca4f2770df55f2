"""MRSI's data side: D1 and D2, chains and their file, rows for training."""

import hashlib
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from mcr_lib import chains, data, prompts, rewards, yardsticks
from mcr_lib.answer import ParsedAnswer, parse_answer
from mcr_lib.data import mrsi
from mcr_lib.errors import UserError
from mcr_lib.schema import Entity, Example, ImageOnly
from mcr_lib.statements import of_example
from mcr_lib.styles import PAPER, STYLES, say

LABELS = ("PER", "LOC", "ORG", "OTHER")
TWEET = Example(
    "1", "demo", "train", ("Ada", "Byron", "in", "Rome"),
    (Entity("Ada Byron", 0, 2, "PER", ((10, 10, 50, 80),)), Entity("Rome", 3, 4, "LOC", ())), LABELS,
    images=("1.jpg",), image_size_px=(100, 90), image_only=(ImageOnly("Zed", "ORG", ((1, 1, 5, 5),)),),
)  # fmt: skip
QWEN = mrsi.Target("qwen2.5-vl", 56 * 56, 28 * 28 * 256)


@pytest.fixture(scope="module")
def tweets(sample_dir):
    return data.load_split("twitter-gmner", sample_dir, split="train")


def pairs_of(tweets, styles=tuple(STYLES), n_styles=99):
    """Every tweet with every style."""
    return mrsi.pairs(tweets, styles, n_styles=n_styles, seed=0)


def keys(drawn):
    return {(example.id, style) for example, style in drawn}


MANY = [replace(TWEET, id=str(k)) for k in range(2000)]


def test_every_tweet_has_as_many_styles_as_asked_drawn_about_evenly_and_by_its_id_alone():
    drawn = mrsi.pairs(MANY, seed=0)
    assert len(drawn) == len(keys(drawn)) == 4000, "two styles per tweet by default, never the same one"
    counts = Counter(style for _, style in drawn)
    assert counts.keys() == set(PAPER)
    # 2 of 5 styles: 800 of each, standard deviation sqrt(2000 · 0.4 · 0.6) = 22
    assert all(abs(n - 800) < 88 for n in counts.values())
    backwards = mrsi.pairs(MANY[::-2], tuple(reversed(PAPER)), seed=0)
    assert keys(backwards) == {key for key in keys(drawn) if key[0] in {e.id for e in MANY[::-2]}}
    assert keys(mrsi.pairs(MANY, seed=1)) != keys(drawn)
    assert keys(mrsi.pairs(MANY, n_styles=1, seed=0)) < keys(drawn), "fewer styles are a part of more"
    assert len(mrsi.pairs(MANY, ["terse"], seed=0)) == 2000, "a list of one style gives one pair"
    assert len(mrsi.pairs(MANY, n_styles=9, seed=0)) == 10_000, "and never more than there are"


def test_a_share_thins_what_is_drawn_as_it_thins_the_rest():
    drawn = mrsi.draw(MANY, n=400, seed=0)
    assert len(drawn) == 400
    assert drawn == [example for example in MANY if example in drawn]
    left = mrsi.some(drawn, share=0.3, seed=0)
    assert 0.2 < len(left) / 400 < 0.4  # 4 standard deviations: 4·sqrt(0.3·0.7/400) = 0.092


def test_d1_and_d2_share_out_the_pairs_and_a_tweet_may_stand_in_both_with_other_styles():
    drawn = mrsi.pairs(MANY, seed=0)
    d1, d2 = mrsi.split(drawn, d1_share=0.3, seed=0)
    assert keys(d1) | keys(d2) == keys(drawn)
    assert not keys(d1) & keys(d2)
    assert 0.27 < len(d1) / 4000 < 0.33  # 4 standard deviations of a fair draw: 4·sqrt(0.3·0.7/4000) = 0.029
    both = {e.id for e, _ in d1} & {e.id for e, _ in d2}
    assert 0.36 < len(both) / 2000 < 0.48  # one pair on each side: 2 · 0.3 · 0.7 = 0.42, ± 4·0.011
    backwards = mrsi.split(drawn[::-2], d1_share=0.3, seed=0)[0]
    assert keys(backwards) == keys(d1) & keys(drawn[::-2])
    assert keys(d1) <= keys(mrsi.split(drawn, d1_share=0.4, seed=0)[0])
    assert keys(d1) != keys(mrsi.split(drawn, d1_share=0.3, seed=1)[0])
    assert [len(half) for half in mrsi.split(drawn, d1_share=1.0, seed=0)] == [4000, 0]
    assert [len(half) for half in mrsi.split(drawn, d1_share=0.0, seed=0)] == [0, 4000]


def test_the_split_by_whole_tweets_keeps_the_pairs_of_a_tweet_together():
    d1, d2 = mrsi.split(mrsi.pairs(MANY, seed=0), d1_share=0.3, seed=0, by="tweets")
    assert not {e.id for e, _ in d1} & {e.id for e, _ in d2}
    assert len(d1) == 2 * len(mrsi.tweets_of(d1))
    assert 0.26 < len(mrsi.tweets_of(d1)) / 2000 < 0.34


def test_a_chain_depends_on_seed_id_and_style_alone(tweets):
    one = mrsi.build_chains(pairs_of(tweets), seed=3).chains
    other = mrsi.build_chains(pairs_of(tweets[::-1], ["terse", "checklist"]), seed=3).chains
    assert {(c.id, c.style): c for c in other}.items() <= {(c.id, c.style): c for c in one}.items()
    assert len(one) == len(tweets) * len(STYLES)
    assert one != mrsi.build_chains(pairs_of(tweets), seed=4).chains


def test_chains_keep_to_the_first_wordings_where_that_is_asked(tweets):
    by_number = {
        n: mrsi.build_chains(pairs_of(tweets, ["terse"]), seed=0, n_wordings=n).chains
        for n in (1, 2, 3, None)
    }
    for n, built in by_number.items():
        possible = [
            {say(STYLES["terse"], k, of_example(tweet), tweet.constraints) for k in range(n or 3)}
            for tweet in tweets
        ]
        assert all(chain.text in some for chain, some in zip(built, possible, strict=True))
    assert by_number[3] == by_number[None] != by_number[2] != by_number[1]


def test_the_same_seed_writes_the_same_bytes_and_they_are_read_back(tweets, tmp_path):
    built = mrsi.build_chains(pairs_of(tweets), seed=0).chains
    sums = [mrsi.write_chains(tmp_path / name, built, tweets) for name in ("a.jsonl", "b.jsonl")]
    assert sums[0] == sums[1] == hashlib.sha256((tmp_path / "b.jsonl").read_bytes()).hexdigest()
    assert mrsi.read_chains(tmp_path / "a.jsonl", tweets) == built


def edited(path, edit):
    lines = path.read_text().splitlines()
    path.write_text("\n".join(edit(lines)) + "\n")
    return path


def replaced(line, old, new, count=-1):
    """Replaces text in one line of a file."""
    return lambda lines: [*lines[:line], lines[line].replace(old, new, count), *lines[line + 1 :]]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda lines: lines[:-1], "13 chains, but its first line promises 14; the file was cut"),
        (lambda lines: [*lines[:-1], lines[-1][:40]], "line 15: not JSON"),
        (replaced(0, '"format_version": 2', '"format_version": 7'), "format_version 7"),
        (
            replaced(0, '"chains_version": 2', '"chains_version": 1'),
            "reads 2: since then every style has an instr",
        ),
        (replaced(0, "chains", "examples", 1), "holds 'examples'"),
        (replaced(1, "PER", "LOC"), "line 2: the chain of tweet 1 does not pass (other_answer)"),
        (replaced(1, "formal", "sonnet"), "line 2: .*unknown_style"),
        (replaced(1, "[[box 1]]", "[[box 2]]", 1), "line 2: .*foreign_slot"),
        (replaced(1, "50", "51"), "line 2: .*other_gold"),
        (replaced(1, '"id": "1"', '"id": "9"'), "line 2: .*unknown_tweet"),
        (replaced(1, '"answer"', '"answers"'), "line 2: .*not a row of a chain: 'answer'"),
        (lambda lines: replaced(2, "PER", "LOC")(replaced(1, "PER", "LOC")(lines)), "so do 1 others"),
    ],
)
def test_a_chain_file_of_another_version_cut_or_edited_is_refused(tmp_path, edit, message):
    two = [TWEET, replace(TWEET, id="2")]
    mrsi.write_chains(tmp_path / "c.jsonl", mrsi.build_chains(pairs_of(two), seed=0).chains, two)
    with pytest.raises(UserError, match=message.replace("(", r"\(").replace(")", r"\)")):
        mrsi.read_chains(edited(tmp_path / "c.jsonl", edit), two)


def test_what_cannot_be_built_is_told_in_a_sentence():
    with pytest.raises(UserError, match="unknown style 'sonnet'; choose from formal"):
        mrsi.pairs([TWEET], ["sonnet"], seed=0)
    with pytest.raises(UserError, match="a gold box and no image size"):
        mrsi.build_chains(pairs_of([replace(TWEET, image_size_px=None)]), seed=0)


def test_rewrites_are_counted_and_nothing_is_lost(tweets):
    asked = []

    def ask(example, request):
        asked.append(request)
        template = request.split("Reasoning:\n")[1].split("\nYour last answer")[0]
        return {0: None, 1: template.replace("[[box 1]]", "[1, 2, 3, 4]"), 2: "Well: " + template}[
            len(example.text) % 3
        ]

    templates = mrsi.build_chains(pairs_of(tweets, ["terse"]), seed=0)
    built = mrsi.build_chains(pairs_of(tweets, ["terse"]), seed=0, ask=ask, source="mllm")
    assert [c.id for c in built.chains] == [c.id for c in templates.chains]
    kept = [c for c in built.chains if c.source == "mllm"]
    assert all(c.text.startswith("Well: ") for c in kept)
    n_none = sum(len(e.text) % 3 == 0 for e in tweets)
    n_numbers = sum(
        len(e.text) % 3 == 1 and any(entity.is_groundable for entity in e.entities) for e in tweets
    )
    assert len({*asked}) == len(asked), "a second request names the flaw of the first"
    assert sum("rejected: a box is written in numbers, not as a slot." in text for text in asked) == n_numbers
    assert built.rejects == {"empty": 2 * n_none, "number": 2 * n_numbers}
    assert (built.n_asked, built.n_fallen_back) == (len(tweets), n_none + n_numbers)
    assert templates.n_asked == 0
    start = {(c.id, c.style): c for c in kept}
    how = {"ask": lambda example, request: None, "n_tries": 1, "styles": ["terse"], "start": start}
    again = mrsi.build_chains(pairs_of(tweets, ["terse", "distill"]), seed=0, **how)
    assert [c for c in again.chains if c.source == "mllm"] == kept, "what another call wrote stays"
    assert (again.n_asked, again.n_fallen_back) == (len(tweets),) * 2, "distill is not its style"


def test_sft_rows_hold_messages_paths_and_a_completion_that_scores_the_maximum(tweets):
    built = mrsi.build_chains(pairs_of(tweets), seed=0).chains
    by_id = {e.id: e for e in tweets}
    rows = list(mrsi.sft_rows(built, by_id, QWEN, prompt="mcr"))
    assert len(rows) == len(built)
    for row in rows:
        example = by_id[row["id"]]
        text = row["completion"][0]["content"][0]["text"]
        gold = rewards.written_gold(example, "model_px", model_size=QWEN.size(example))
        parsed = parse_answer(text, labels=example.labels)
        assert rewards.rewards(parsed, gold).total((1,) * 5) == 5
        assert parsed.think
        assert row["prompt"][-1]["role"] == "user"
        assert len(row["images"]) == len(example.images)
        asked = prompts.messages(example, "mcr", style=row["style"])
        assert row["prompt"] == asked, "a row carries the instruction of its style"
    json.dumps(rows)


@pytest.mark.parametrize("form", ["json", "paper"])
def test_rows_of_answers_hold_no_reasoning_and_score_the_maximum(tweets, form):
    rows = list(mrsi.answer_rows(tweets, replace(QWEN, form=form), prompt="direct"))
    assert [row["id"] for row in rows] == [tweet.id for tweet in tweets]
    for row, example in zip(rows, tweets, strict=True):
        parsed = parse_answer(row["completion"][0]["content"][0]["text"], labels=example.labels)
        gold = rewards.written_gold(example, "model_px", model_size=QWEN.size(example))
        assert parsed.think is None
        assert rewards.rewards(parsed, gold) == rewards.rewards(ParsedAnswer(yardsticks.perfect(gold)), gold)


def test_grpo_rows_feed_the_reward_functions(tweets):
    rows = list(mrsi.grpo_rows([(tweet, "formal") for tweet in tweets], QWEN, prompt="mcr"))
    assert {row["style"] for row in rows} == {"formal"}
    completions = []
    for example in tweets:
        gold = rewards.written_gold(example, "model_px", model_size=QWEN.size(example))
        completions.append(
            [{"role": "assistant", "content": mrsi.chains.write_answer(yardsticks.perfect(gold))}]
        )
    columns = {name: [row[name] for row in rows] for name in ("gold", "model_size", "family")}
    for function in rewards.grpo_reward_functions():
        assert function(completions=completions, **columns) == [1.0] * len(rows)


def test_worked_examples_mix_shown_and_not_shown_and_are_perfect():
    many = [replace(TWEET, id=str(k)) for k in range(5)] + [replace(TWEET, id="x", entities=())]
    shots = mrsi.worked_examples(many, mrsi.Target("qwen3-vl", 0, 10**6), n=3)
    assert len({e.id for e, _ in shots}) == 3
    for example, text in shots:
        assert [e.text for e in parse_answer(text, labels=LABELS).entities] == ["Ada Byron", "Rome"]
        assert example.entities
    assert shots == mrsi.worked_examples(many[::-1], mrsi.Target("qwen3-vl", 0, 10**6), n=3)
    with pytest.raises(UserError, match="only 0 of 1 tweets have an entity"):
        mrsi.worked_examples(many[-1:], QWEN)


def test_wordings_are_drawn_about_evenly():
    texts = {}
    for k in range(60):
        for chain in mrsi.build_chains(pairs_of([replace(TWEET, id=str(k))]), seed=0).chains:
            texts.setdefault(chain.style, []).append(chain.text)
    for style, said in texts.items():
        shares = np.unique(said, return_counts=True)[1]
        assert len(shares) == len(STYLES[style].wordings) == 3
        assert min(shares) >= 8  # of 60 draws with p = 1/3: 20 ± 3.7


def named(name):
    """A tweet of one entity."""
    tokens = tuple(name.split())
    entity = Entity(name, 0, len(tokens), "ORG", ())
    return replace(TWEET, id="odd", tokens=(*tokens, "!"), entities=(entity,))


@pytest.mark.parametrize("name", ["</think>", "<answer> X", "[5, 3, 8, 4]", "[[box 7]]", "<mner>", "a\x02b"])
def test_a_tweet_with_a_name_that_no_chain_can_say_is_left_out(name):
    odd = named(name)
    assert chains.unsayable(odd) == name
    assert {e.id for e, _ in mrsi.pairs([TWEET, odd], seed=0)} == {TWEET.id}


@pytest.mark.parametrize(
    "name", ['"Q" Name', "<image>", "<|im_end|>", "b\\s", "{x} %s", "null", "PER", "not"]
)
def test_other_odd_names_are_said_by_every_style_and_are_text_to_a_tokenizer(name):
    odd = named(name)
    built = mrsi.build_chains(pairs_of([odd]), seed=0).chains
    assert len(built) == len(STYLES)
    for row in mrsi.sft_rows(built, {"odd": odd}, QWEN, prompt="mcr"):
        assert "<|" not in row["completion"][0]["content"][0]["text"]


def test_a_chain_longer_than_any_is_a_sentence():
    with pytest.raises(UserError, match="too_long; leave the tweet out"):
        mrsi.build_chains([(named("A" * 7000), "terse")], seed=0)
