"""Served models, over real connections: a small server and a proxy that breaks requests, each a process."""

import contextlib
import json
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mcr_lib import prompts
from mcr_lib.errors import UserError
from mcr_lib.training import endpoint
from mcr_lib.training.endpoint import KEY, Endpoint, is_same_model
from tests.chat_server import MODEL

pytestmark = pytest.mark.server
SCRIPT = str(Path(__file__).with_name("chat_server.py"))
SECRET = "sk-very-secret-7"


@contextlib.contextmanager
def started(*arguments):
    """The port of a process."""
    process = subprocess.Popen(
        [sys.executable, SCRIPT, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def port():
    with started("serve", 0.05) as port:
        yield port


@pytest.fixture(scope="module")
def proxy(port):
    with started("break", port) as port:
        yield port


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(endpoint, "BACKOFF_S", 0.05)
    monkeypatch.setenv(KEY, SECRET)


def log(port):
    return json.loads(urllib.request.urlopen(f"http://127.0.0.1:{port}/log").read())


def texts_since(port, before):
    return log(port)["texts"][len(before["texts"]) :]


def served(port, tmp_path, path="", **how):
    how = {"kept": tmp_path / "kept", "sampling": {"temperature": 0, "max_tokens": 9}, "timeout_s": 5} | how
    return Endpoint(f"http://127.0.0.1:{port}{path}/v1", MODEL, **how)


def chat(text):
    return [prompts.message("user", text)]


def ask_all(one, texts):
    with one:
        return one.each(lambda text: one.ask(chat(text)), texts)


def test_answers_come_in_order_several_at_a_time_and_are_never_asked_for_twice(port, tmp_path):
    before, texts = log(port), [f"a{k % 20}" for k in range(40)]
    one = served(port, tmp_path, in_flight=4, price=(2.0, 10.0))
    answers = ask_all(one, [*texts, "too long", "think apart", "in parts"])
    assert [a.text for a in answers[:40]] == ["<answer>[]</answer>"] * 40
    assert [a.tokens[0] for a in answers[:40]] == [len(text) for text in texts]
    assert [a.is_cut for a in answers[38:]] == [False, False, True, False, False]
    assert answers[41].text == "<think>Well.</think>\n<answer>[]</answer>"
    assert answers[42].text == "<answer>[]</answer>"
    assert sorted(texts_since(port, before)) == sorted([*{*texts}, "too long", "think apart", "in parts"])
    assert 1 < log(port)["most"] <= 4
    # 10 texts of 2 characters, 10 of 3, and 8 + 11 + 8; 7 tokens for each of 23 answers
    expected = {"answers": 23, "new": 23, "cut": 1, "unanswered": 0, "input_tokens": 77, "output_tokens": 161}
    usage = one.usage()
    assert expected.items() <= usage.items()
    assert usage["cost"] == pytest.approx((77 * 2 + 161 * 10) / 1e6)
    before, again = log(port), served(port, tmp_path, price=(2.0, 10.0))
    assert ask_all(again, [*texts, "too long", "think apart", "in parts"]) == answers
    assert texts_since(port, before) == []
    assert again.usage() == usage | {"new": 0}


def test_what_is_sent_is_the_image_as_the_model_takes_it_and_the_fields_that_are_set(port, tmp_path):
    Image.new("RGB", (50, 40), "red").save(tmp_path / "1.png")
    picture = (str(tmp_path / "1.png"), (56, 28))
    with served(port, tmp_path, sampling={"temperature": None, "top_k": 3}) as one:
        one.ask([prompts.message("user", "look", n_images=2)], [picture, picture])
    last = log(port)
    assert last["bodies"][-1] == {"model": MODEL, "top_k": 3}
    assert last["keys"][-1] == f"Bearer {SECRET}"
    for url in last["images"][-1]:
        with urllib.request.urlopen(url) as file, Image.open(file) as image:
            assert (image.size, image.format) == ((56, 28), "JPEG")
            assert image.getpixel((9, 9))[0] > 240
    assert len(last["images"][-1]) == 2


def test_a_key_of_an_answer_holds_model_prompt_image_and_sampling_and_nothing_else(port, tmp_path):
    for name, colour in (("1", "red"), ("2", "blue"), ("3", "red")):
        Image.new("RGB", (28, 28), colour).save(tmp_path / f"{name}.png")
    red, blue, other_red = ((str(tmp_path / f"{k}.png"), (28, 28)) for k in "123")
    one = served(port, tmp_path)
    look = [prompts.message("user", "look", n_images=1)]
    keys = {
        one._key_of(look, [red]), one._key_of(look, [blue]),
        one._key_of([prompts.message("user", "see", n_images=1)], [red]),
        one._key_of(look, [(red[0], (56, 56))]),
        served(port, tmp_path, sampling={"temperature": 1})._key_of(look, [red]),
        Endpoint("http://elsewhere/v1", "other", tmp_path / "kept")._key_of(look, [red]),
    }  # fmt: skip
    assert len(keys) == 6
    moved = Endpoint(
        "http://elsewhere/v1", MODEL, tmp_path / "x", sampling={"max_tokens": 9, "temperature": 0}
    )
    assert moved._key_of(look, [other_red]) == one._key_of(look, [red])


FAULTS = ("429", "500", "cut", "half", "short", "other", "slow", "drip")


@pytest.mark.parametrize("fault", FAULTS)
def test_what_breaks_once_is_asked_again(fault, proxy, port, tmp_path):
    before, texts = log(port), [f"{fault} {k}" for k in range(6)]
    began = time.monotonic()
    timeout = {"timeout_s": 2.0} if fault in ("slow", "drip") else {}
    answers = ask_all(served(proxy, tmp_path, f"/{fault}", in_flight=6, **timeout), texts)
    assert [a.text for a in answers] == ["<answer>[]</answer>"] * 6
    assert Counter(texts_since(port, before)) == Counter(texts)
    assert (time.monotonic() - began > 0.2) or fault != "429"  # as its Retry-After asks


SENTENCES = {
    "429": "gave no answer in 2 tries: status 429, .*too many",
    "500": "gave no answer in 2 tries: status 500, <html>oops</html>",
    "cut": "gave no answer in 2 tries: ",
    "half": 'gave no answer in 2 tries: no chat completion, but {"model": "demo", "choices',
    "other": "gave no answer in 2 tries: no chat completion, but",
    "drip": "gave no answer in 2 tries: an answer that does not end in 0.5 s",
    "slow": "gave no answer in 2 tries: ",
    "wrong": f"answers as gpt-2, not as {MODEL}; name by --model what it serves",
    "404": f"refuses .status 404, .*does not exist.*; look at --endpoint, .* and at --model {MODEL}",
    "401": f"refuses .status 401, .*Incorrect key: Bearer ….*{KEY} holds a key that it does not take",
}


@pytest.mark.parametrize("fault", SENTENCES)
def test_what_stays_broken_is_one_sentence_and_what_was_answered_stays(fault, proxy, port, tmp_path):
    done = ask_all(served(port, tmp_path), ["before"])
    how = {"n_tries": 2, "timeout_s": 0.5} if fault in ("slow", "drip") else {"n_tries": 2}
    with pytest.raises(UserError, match=SENTENCES[fault]) as raised:
        ask_all(served(proxy, tmp_path, f"/always-{fault}", **how), ["before", "after"])
    sentence = str(raised.value)
    assert "\n" not in sentence
    assert SECRET not in sentence + (tmp_path / "kept").read_text()
    assert sentence.endswith("answers so far are kept, and the same command goes on")
    before = log(port)
    assert ask_all(served(port, tmp_path), ["before", "after"])[0] == done[0]
    assert texts_since(port, before) == ["after"]


def test_a_server_that_is_down_or_wants_a_key_is_told(tmp_path, proxy, monkeypatch):
    with started("serve") as gone:
        pass
    with pytest.raises(UserError, match=r"^127\.0\.0\.1 gave no answer in 2 tries: .*refused"):
        ask_all(served(gone, tmp_path, n_tries=2), ["a"])
    monkeypatch.delenv(KEY)
    with pytest.raises(UserError, match=f"status 401, .*; set {KEY} to its key; "):
        ask_all(served(proxy, tmp_path, "/always-401"), ["a"])


def test_a_request_that_alone_is_refused_leaves_the_others_their_answers(port, tmp_path):
    ask_all(served(port, tmp_path), ["first"])
    one = served(port, tmp_path)
    answers = ask_all(one, ["first", "refuse me", "other"])
    assert [a.text for a in answers] == ["<answer>[]</answer>", None, "<answer>[]</answer>"]
    assert answers[1].problem.startswith("status 400, ")
    assert SECRET not in answers[1].problem
    assert (one.usage()["unanswered"], one.usage()["problem"]) == (1, answers[1].problem)
    before = log(port)
    ask_all(served(port, tmp_path), ["refuse me"])
    assert texts_since(port, before) == ["refuse me"], "it is not kept"
    with pytest.raises(UserError, match="gave no answer in 1 tries: status 400"):
        ask_all(served(port, tmp_path, kept=tmp_path / "new"), ["refuse me"])


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("localhost:8000", "--endpoint localhost:8000: expected an address such as http://HOST:PORT/v1"),
        (f"https://me:{SECRET}@host/v1", f"--endpoint: a key is read from {KEY} alone"),
        (f"https://host/v1?key={SECRET}", f"--endpoint: a key is read from {KEY} alone"),
    ],
)
def test_an_address_has_no_key(url, sentence, tmp_path):
    with pytest.raises(UserError, match=f"^{sentence}") as raised:
        Endpoint(url, MODEL, tmp_path / "kept")
    assert SECRET not in str(raised.value)


def test_what_cannot_be_is_told(tmp_path, monkeypatch):
    for wrong in ({"in_flight": 0}, {"n_tries": 0}, {"timeout_s": 0.0}, {"per_minute": -1.0}):
        with pytest.raises(UserError, match="^an endpoint needs --in-flight"):
            served(1, tmp_path, **wrong)
    monkeypatch.setattr(endpoint, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs httpx2, which is not installed"), served(1, tmp_path):
        pass
    monkeypatch.setenv(KEY, "clé")
    with pytest.raises(UserError, match="is plain text"):
        served(1, tmp_path)


def test_no_more_requests_start_in_a_minute_than_are_allowed(port, tmp_path):
    began = time.monotonic()
    ask_all(served(port, tmp_path, per_minute=1200), [str(k) for k in range(11)])
    assert time.monotonic() - began >= 10 * 60 / 1200


def test_a_quote_counts_what_is_not_kept_and_connects_to_nothing(port, tmp_path):
    Image.new("RGB", (28, 28)).save(tmp_path / "1.png")
    requests = [
        ([prompts.message("user", "x" * 90, n_images=1)], [(str(tmp_path / "1.png"), (280, 280))]),
        (chat("known"), []),
    ]
    how = {"sampling": {"max_tokens": 50}, "price": (1.0, 2.0)}
    nowhere = served(1, tmp_path, **how)
    quote = nowhere.quote(requests)
    assert (quote["requests"], quote["output_tokens"]) == (2, 100)
    assert quote["likely_cost"] == quote["cost"]
    assert not (tmp_path / "kept").exists()
    with served(port, tmp_path, **how) as one:
        one.ask(*requests[1])
    quote = served(1, tmp_path, **how).quote(requests)
    # an image of 100 patches of 28 x 28, 90 letters and the brackets of a message around them
    assert (quote["requests"], quote["output_tokens"]) == (1, 50)
    assert 100 + 90 / 4 < quote["input_tokens"] < 100 + 90 / 4 + 40
    assert quote["cost"] == pytest.approx((quote["input_tokens"] + 2 * 50) / 1e6)
    assert quote["likely_cost"] == pytest.approx((quote["input_tokens"] + 2 * 7) / 1e6)  # 7 is its mean


@pytest.fixture(scope="module")
def five(port, tmp_path_factory):
    folder = tmp_path_factory.mktemp("five")
    with served(port, folder) as one:
        for k in range(5):
            one.ask(chat(f"five {k}"))
    return folder, (folder / "kept").read_bytes()


@given(st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_of_answers_that_is_cut_or_damaged_anywhere_loses_that_answer_alone(five, data):
    folder, whole = five
    at = data.draw(st.integers(0, len(whole) - 1))
    n_before = whole[1 : at + 1].count(b"\n")  # of a line only its break may be missing; the first is empty
    (folder / "cut").write_bytes(whole[:at])
    assert len(served(1, folder, kept=folder / "cut")._known) == n_before
    (folder / "bent").write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    assert len(served(1, folder, kept=folder / "bent")._known) >= (3 if whole[at:][:1] == b"\n" else 4)


def test_answers_are_added_behind_a_cut_line(five, port):
    folder, whole = five
    (folder / "cut").write_bytes(whole[:-9])
    for n_asked in (1, 0):
        one = served(port, folder, kept=folder / "cut")
        ask_all(one, [f"five {k}" for k in range(5)])
        assert one.usage()["new"] == n_asked


def test_an_error_that_is_no_ones_mistake_keeps_its_traceback(port, tmp_path):
    def work(item):
        raise ZeroDivisionError(item)

    with served(port, tmp_path) as one, pytest.raises(ZeroDivisionError):
        one.each(work, [1, 2])


def test_names_of_one_model():
    same = [
        ("Qwen/Qwen2.5-VL-72B-Instruct", "qwen2.5-vl-72b-instruct"), ("a", "a@main"), ("x:free", "x"),
        ("gpt-4o", "gpt-4o-2024-08-06"), ("mistral-large-latest", "mistral-large"), ("/models/a/", "a"),
        ("glm-4.5v", "glm-4.5v"),
    ]  # fmt: skip
    other = [
        ("qwen2.5-vl-72b", "qwen2.5-vl-7b"), ("gpt-4o", "gpt-4o-mini"), ("glm-4.5v", "glm-4.5"),
        ("gpt-4o-2024-08-06", "gpt-4o-2024-05-13"),
    ]  # fmt: skip
    assert all(is_same_model(*pair) and is_same_model(*pair[::-1]) for pair in same)
    assert not any(is_same_model(*pair) for pair in other)


def test_a_thousand_answers_at_32_in_flight_take_seconds(tmp_path):
    with started("serve") as port:
        began = time.process_time()  # of the client, whoever else is at work on this machine
        answers = ask_all(served(port, tmp_path, in_flight=32, timeout_s=60), [f"n {k}" for k in range(1000)])
        assert time.process_time() - began < 7.5
    assert len(answers) == 1000
