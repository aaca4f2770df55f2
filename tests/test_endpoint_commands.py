"""`mcr prompt` and `mcr chains build` with a served model: real commands, real servers on loopback."""

import base64
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from mcr_lib import chains, data, prompts
from mcr_lib.answer import parse_answer
from mcr_lib.data import mrsi
from mcr_lib.data.predictions import read_predictions
from mcr_lib.schema import Entity, Example
from mcr_lib.styles import STYLES
from mcr_lib.training.endpoint import KEY, Endpoint
from tests.chat_server import MODEL
from tests.conftest import REPOSITORY
from tests.test_cli import mcr
from tests.test_endpoint import SECRET, chat, log, started, texts_since

pytestmark = pytest.mark.server
SAMPLE = ("--root", "data/sample")
TWEET = Example(
    "7", "demo", "train", ("bad", "once", "Ada", "Byron", "in", "Rome"),
    (Entity("Ada Byron", 2, 4, "PER", ((10, 10, 50, 80),)), Entity("Rome", 5, 6, "LOC", ())), ("PER", "LOC"),
    image_size_px=(100, 90),
)  # fmt: skip


@pytest.fixture(scope="module")
def port():
    with started("serve") as port:
        yield port


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv(KEY, SECRET)


def to(port, path=""):
    return ("--endpoint", f"http://127.0.0.1:{port}{path}/v1", "--model", MODEL)


@pytest.mark.parametrize(("kind", "n_images"), [("direct", 1), ("cot", 1), ("cot-3shot", 4)])
def test_a_prompted_baseline_is_a_predictions_file_that_is_scored(kind, n_images, port, tmp_path):
    before, out = log(port), tmp_path / "p.jsonl"
    done = mcr("prompt", *to(port), *SAMPLE, "--prompt", kind, "--out", out)
    assert (done.returncode, "unanswered 0" in done.stdout) == (0, True), done.stderr
    sent = log(port)["images"][len(before["images"]) :]
    assert [len(urls) for urls in sent] == [n_images] * 8
    header, rows = read_predictions(out)
    assert [row.id for row in rows] == [
        e.id for e in data.load_split("twitter-gmner", REPOSITORY / "data/sample", split="test")
    ]
    assert len(header["shots"]) == n_images - 1
    assert header["sampling"] == {"max_tokens": 2048, "temperature": 0}
    assert header["usage"]["output_tokens"] == 8 * 7
    sizes = [Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).size for *_, url in sent]
    assert sorted(row.model_size for row in rows) == sorted(sizes)
    assert {row.coordinate_space for row in rows} == {"model_px"}
    score = mcr("score", *SAMPLE, "--predictions", out, "--resamples", 100)
    assert score.returncode == 0, score.stderr
    before = log(port)
    content = out.read_bytes()
    assert mcr("prompt", *to(port), *SAMPLE, "--prompt", kind, "--out", out).returncode == 0
    assert texts_since(port, before) == []
    assert out.read_bytes() == content
    assert SECRET.encode() not in content + (tmp_path / "p.jsonl.kept").read_bytes()


def test_a_dry_run_prices_and_asks_nothing(port, tmp_path):
    before, price = log(port), ("--price", 2, 10, "--dry-run")
    done = mcr(
        "prompt", *to(port), *SAMPLE, "--n", 3, "--out", tmp_path / "p", *price, "--set", "max_tokens=10"
    )
    assert (done.returncode, "requests 3, " in done.stdout) == (0, True), done.stderr
    assert "output tokens 30" in done.stdout
    for writer, n in (("llm", 9), ("mllm", 5)):
        done = mcr(
            "chains", "build", *to(port), *SAMPLE, *WHOLE, "--writer", writer, "--out", tmp_path / "c", *price
        )
        assert f"requests {n}, " in done.stdout, done.stderr
    assert (texts_since(port, before), list(tmp_path.iterdir())) == ([], [])


def test_after_a_kill_the_same_command_goes_on_and_asks_only_what_was_in_flight(tmp_path):
    with started("serve", 0.7) as port:
        command = ["prompt", *to(port), *SAMPLE, "--split", "train", "--in-flight", "2", "--out", "p.jsonl"]
        command[command.index("data/sample")] = str(REPOSITORY / "data/sample")
        how = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(REPOSITORY)}}
        python = [sys.executable, "-m", "mcr_lib"]
        process = subprocess.Popen([*python, *command], **how, stderr=subprocess.PIPE)
        while len(log(port)["texts"]) < 3:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        time.sleep(1)  # what was in flight is answered to nobody
        assert [path.name for path in tmp_path.iterdir()] == ["p.jsonl.kept"]
        n_kept = (tmp_path / "p.jsonl.kept").read_bytes().count(b"\n") - 1  # the first line is empty
        assert 1 <= n_kept < 8
        done = subprocess.run([*python, *command], **how, capture_output=True, text=True)
        assert f"answers 10, new {10 - n_kept}, " in done.stdout, done.stderr
        asked = Counter(log(port)["texts"])
        assert len(asked) == 10
        assert asked.total() <= 10 + 2
        assert len(read_predictions(tmp_path / "p.jsonl")[1]) == 10


WHOLE = ("--d1-share", 1)


def built(tmp_path, name):
    train = data.load_split("twitter-gmner", REPOSITORY / "data/sample", split="train")
    return mrsi.read_chains(tmp_path / name / "chains.jsonl", train)


def test_an_llm_rewrites_conclusions_then_an_mllm_looks_and_both_stand_in_one_file(port, tmp_path):
    before = log(port)
    rest = (*SAMPLE, *WHOLE, "--json")
    done = mcr("chains", "build", *to(port), *rest, "--out", tmp_path / "llm")
    facts = json.loads(done.stdout)
    n_llm, n_mllm = (
        sum(facts["styles"].get(n, 0) for n in STYLES if STYLES[n].kind == kind) for kind in KINDS
    )
    assert (facts["asked"], facts["fallen_back"], facts["rejects"]) == (n_llm, 0, {})
    assert facts["sources"] == {"llm": n_llm, "template": 20 - n_llm}
    start = ("--start", tmp_path / "llm/chains.jsonl", "--writer", "mllm")
    done = mcr("chains", "build", *to(port), *rest, *start, "--out", tmp_path / "both")
    assert json.loads(done.stdout)["sources"] == {
        "llm": n_llm,
        "mllm": n_mllm,
        "template": 20 - n_llm - n_mllm,
    }
    both = built(tmp_path, "both")
    assert {STYLES[c.style].kind: c.source for c in both} == {
        "formal": "template", "conclusion": "llm", "distill": "mllm",
    }  # fmt: skip
    assert [c for c in both if c.source == "llm"] == [c for c in built(tmp_path, "llm") if c.source == "llm"]
    card = (tmp_path / "both/README.md").read_text()
    assert f"llm {n_llm}" in card
    assert f"; this call asked {MODEL}." in card
    last = log(port)
    looks = [urls for urls in last["images"][len(before["images"]) :] if urls]
    assert len(looks) == n_mllm
    assert {body["temperature"] for body in last["bodies"][len(before["bodies"]) :]} == {0.7}
    before = log(port)
    again = mcr("chains", "build", *to(port), *rest, *start, "--out", tmp_path / "both")
    assert json.loads(again.stdout)["usage"]["new"] == 0
    assert texts_since(port, before) == []


KINDS = ("conclusion", "distill")


def test_a_rejected_chain_is_asked_again_with_its_flaw_and_else_the_template_stays(port, tmp_path):
    with Endpoint(f"http://127.0.0.1:{port}/v1", MODEL, tmp_path / "kept") as one:
        how = {"ask": lambda _, text: one.ask(chat(text)).text, "styles": ["terse"], "each": one.each}
        built = mrsi.build_chains([(TWEET, "terse"), (TWEET, "formal")], seed=0, **how)
        assert [c.source for c in built.chains] == ["llm", "template"]
        assert (built.rejects, built.n_asked, built.n_fallen_back) == ({"number": 1}, 1, 0)
        built = mrsi.build_chains([(TWEET, "terse")], seed=0, n_tries=1, **how)
        assert (built.chains[0].source, built.rejects, built.n_fallen_back) == ("template", {"number": 1}, 1)
        assert one.usage()["new"] == 2


def test_the_request_to_an_mllm_holds_the_gold_and_the_boxes_as_it_writes_them():
    chain = chains.build(TWEET, "distill", mrsi.np.random.default_rng(0))
    request = chains.reason_request(chain, TWEET, [(100, 111, 500, 888)])
    assert request.split("Result:\n")[1].split("\n") == [
        '"Ada Byron": PER, [[box 1]], which is at [100, 111, 500, 888]', '"Rome": LOC, not in the image',
    ]  # fmt: skip
    assert TWEET.text in request
    assert STYLES["distill"].instruction.lead in request
    nobody = Example("8", "demo", "train", ("hi",), (), ("PER",), image_size_px=(100, 90))
    chain = chains.build(nobody, "distill", mrsi.np.random.default_rng(0))
    assert chains.reason_request(chain, nobody, []).endswith("Result:\nno name")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--model", "gpt-9"), "how gpt-9 writes boxes cannot be told by its name; tell it by --family: "),
        (("--images", "tests"), "no tweet of test has an image below tests; --images tells where they are"),
        (("--set", "max_tokens"), "--set 'max_tokens': expected key=value"),
        (("--in-flight", 0), "an endpoint needs --in-flight"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, sentence, port, tmp_path):
    done = mcr("prompt", *to(port), *SAMPLE, "--out", tmp_path / "p.jsonl", *arguments)
    assert (done.returncode, done.stderr.startswith(f"mcr: {sentence}")) == (2, True), done.stderr
    assert (done.stderr.count("\n"), list(tmp_path.iterdir())) == (1, [])


def test_a_broken_server_is_one_sentence_and_the_same_command_goes_on(port, tmp_path):
    with started("break", port) as proxy:
        out, rest = tmp_path / "p.jsonl", (*SAMPLE, "--n-tries", 1, "--in-flight", 1)
        done = mcr("prompt", *to(proxy, "/429"), *rest, "--out", out)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert done.stderr.startswith("mcr: 127.0.0.1 gave no answer in 1 tries: status 429")
        assert not out.exists()
        done = mcr("chains", "build", *to(proxy, "/always-wrong"), *rest, "--out", tmp_path / "c")
        assert (done.returncode, done.stderr.count("mcr: ")) == (2, 1)  # after lines of progress
        assert "answers as gpt-2" in done.stderr
        done = mcr("chains", "build", *to(proxy)[:2], *rest, "--out", tmp_path / "c")
        assert done.stderr == "mcr: --endpoint needs --model, the name under which the server knows it\n"
        done = mcr("prompt", *to(proxy, "/429"), *SAMPLE, "--out", out)
        assert (done.returncode, out.exists()) == (0, True), done.stderr


def test_an_image_that_no_model_takes_is_told_before_anything_is_asked(port, tmp_path):
    shutil.copytree(REPOSITORY / "data/sample", tmp_path / "sample")
    before, rest = log(port), (*to(port), "--root", tmp_path / "sample", "--out", tmp_path / "p.jsonl")
    image = tmp_path / "sample/images/300401.jpg"  # of the first tweet
    Image.new("RGB", (900, 3)).save(image)
    done = mcr("prompt", *rest)
    assert (done.returncode, done.stderr) == (2, f"mcr: {image}: {THIN}\n")
    image.unlink()
    image = tmp_path / "sample/images/300402.jpg"
    image.write_bytes(image.read_bytes()[:300])
    assert "the image is damaged" in mcr("prompt", *rest).stderr
    assert texts_since(port, before) == []


THIN = "900 x 3 pixels is too thin; models take sides up to 200 : 1"


def test_boxes_are_shown_to_an_mllm_in_the_size_in_which_the_image_is_sent(port, tmp_path):
    shutil.copytree(REPOSITORY / "data/sample", tmp_path / "sample")
    for path in filter(Path.is_file, (tmp_path / "sample/images").iterdir()):  # a copy of half the size
        with Image.open(path) as image:
            half = image.convert("RGB").resize((image.width // 2, image.height // 2))
        half.save(path)
    before = log(port)
    how = ("--writer", "mllm", "--write", "terse", "--styles", "terse")
    rest = ("--root", tmp_path / "sample", *WHOLE, *how)
    done = mcr("chains", "build", *to(port), *rest, "--out", tmp_path / "c", "--json")
    assert json.loads(done.stdout)["sources"] == {"mllm": 10}, done.stderr
    last, n_boxes = log(port), 0
    for text, (url,) in zip(*(last[key][len(before[key]) :] for key in ("texts", "images")), strict=True):
        width, height = Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).size
        for numbers in re.findall(r"which is at \[(.*)\]", text):
            x1, y1, x2, y2 = map(int, numbers.split(","))
            assert 0 <= x1 < x2 <= width
            assert 0 <= y1 < y2 <= height
            n_boxes += 1
    assert n_boxes == 14


def test_a_request_without_an_answer_is_an_empty_row_and_exit_1(port, tmp_path):
    shutil.copytree(REPOSITORY / "data/sample", tmp_path / "sample")
    path = tmp_path / "sample/Twitter10000_v2.0/txt/test.txt"
    path.write_text(path.read_text().replace("\n", "\nrefuse\tO\nme\tO\n", 1))
    rest = (*to(port), "--root", tmp_path / "sample", "--out", tmp_path / "p.jsonl")
    mcr("prompt", *rest, "--split", "train")
    done = mcr("prompt", *rest)
    assert (done.returncode, "unanswered 1, " in done.stdout) == (1, True), done.stderr
    assert done.stderr.endswith("mcr: for what is unanswered, run the same command again\n")
    rows = read_predictions(tmp_path / "p.jsonl")[1]
    assert [row.is_null for row in rows] == [True] + [False] * 7


def test_transformers_serves_the_tiny_model_and_counts_the_tokens_that_we_expect(tmp_path):
    if not all(map(find_spec, ("fastapi", "uvicorn", "openai"))):
        pytest.skip(
            "transformers serve needs fastapi, uvicorn and openai (pip install 'transformers[serving]')"
        )
    from mcr_lib.training import backbones, generate

    backbone = backbones.load("tiny-base", device="cpu")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    code = f"import sys; sys.argv[1:] = {arguments!r}; from transformers.cli.transformers import main; main()"
    model = str(REPOSITORY / "data/tiny-base")
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health")
                break
            except OSError:
                time.sleep(0.25)
        url = ("--endpoint", f"http://127.0.0.1:{port}/v1", "--model", model, "--family", "qwen2.5-vl")
        rest = (*SAMPLE, "--out", tmp_path / "p.jsonl", "--n", 2, "--set", "max_tokens=12")
        most = ("--max-pixels", backbone.target.max_pixels)  # of its processor
        done = mcr("prompt", *url, *rest, *most, "--in-flight", 1)
        assert done.returncode == 0, done.stderr
    finally:
        process.kill()
        process.communicate()
    header, rows = read_predictions(tmp_path / "p.jsonl")
    examples = data.load_split(
        "twitter-gmner", REPOSITORY / "data/sample", split="test", images_dir=REPOSITORY / "data/sample"
    )[:2]
    n_tokens = 0
    for example, row in zip(examples, rows, strict=True):
        messages, image = prompts.messages(example, "direct"), Image.open(example.images[0])
        file = io.BytesIO()
        image.convert("RGB").resize(row.model_size, Image.Resampling.BICUBIC).save(
            file, "JPEG", quality=95, subsampling=0
        )
        sent = Image.open(file).convert("RGB")
        text = backbone.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        n_tokens += backbone.processor(text=[text], images=[sent], return_tensors="pt")["input_ids"].shape[1]
        (answer,), ((size,),) = generate.answer_batch(backbone, [messages], [[sent]], max_new_tokens=12)
        assert (row.answer, row.model_size) == (answer, size)
    assert header["usage"]["input_tokens"] == n_tokens
    assert parse_answer(rows[0].answer, labels=("PER",)).reason is not None  # cut after 12 tokens
