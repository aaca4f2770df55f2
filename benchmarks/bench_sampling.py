"""Our decoding loop against transformers' own on the CPU, and what images cost in training; one core.

    python benchmarks/bench_sampling.py [backbone]

The last line printed is a JSON object. `sampling`: CPU seconds of 64 answers, 8 to each of 8 prompts, by both
loops (median of 3), and whether they are equal. `images`: CPU milliseconds of one image, at the sizes of tiny
and of the paper: decoded, resized, from memory and disk of `Pictures`, and to make patches of a resized one.
"""

import json
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import torch
from transformers import Qwen2VLImageProcessor

from mcr_lib import prompts, testbed
from mcr_lib.data.images import open_image
from mcr_lib.testbed import drawing
from mcr_lib.training import backbones
from mcr_lib.training.generate import answer_batch
from mcr_lib.training.pictures import Pictures

SIZES = {"tiny": ((126, 125), 28_224), "paper": ((1024, 768), 1_003_520)}
"""Size in pixels, and the budget of pixels."""
PAPER = {"temperature": 1.5, "top_k": 200, "top_p": 0.95}


def cpu(work, n):
    """Median of the CPU seconds that `work` takes."""
    seconds = []
    for _ in range(n):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return statistics.median(seconds)


def sampling(name):
    """Both loops at the sampling of `tiny` and of the paper."""
    backbone = backbones.load(name, device="cpu")
    tweets = [testbed.make("gmner", "test", k) for k in range(8) for _ in range(8)]
    asked = [replace(tweet.example, images=("drawn",)) for tweet in tweets]
    chats = [prompts.messages(example, "mcr", wording=backbone.wording) for example in asked]
    images, facts = [[drawing.draw(tweet.scene)] for tweet in tweets], {}
    for which, how in {"tiny": {"temperature": 0.7}, "paper": PAPER}.items():
        answers = {}

        def sample(shared_prefix, how=how, answers=answers):
            torch.manual_seed(0)
            how = {"max_new_tokens": 128, "shared_prefix": shared_prefix, **how}
            answers[shared_prefix], _ = answer_batch(backbone, chats, images, **how)

        stock, ours = (cpu(lambda shared=shared: sample(shared), 3) for shared in (False, True))
        lengths = [len(ids) for ids in backbone.processor.tokenizer(answers[True])["input_ids"]]
        tokens = {"mean_tokens": statistics.mean(lengths), "most_tokens": max(lengths)}
        times = {"stock_s": round(stock, 2), "ours_s": round(ours, 2), "ratio": round(stock / ours, 2)}
        facts[which] = {**times, **tokens, "are_equal": answers[True] == answers[False]}
    return facts


def image_times(size, pixels):
    """Milliseconds of one image."""
    processor = Qwen2VLImageProcessor(size={"shortest_edge": 3136, "longest_edge": pixels})
    of = SimpleNamespace(image_processor=processor)
    with tempfile.TemporaryDirectory() as folder:
        paths = [f"{folder}/{k}.jpg" for k in range(2)]
        for path in paths:
            drawing.draw(testbed.make("gmner", "test", 0).scene).resize(size).save(path, quality=90)
        opened = {
            "decoded": open_image,
            "decoded_and_resized": Pictures(of, Path(folder), memory=0, disk=0),  # room for one of the two
            "from_memory": Pictures(of, Path(folder)),
            "from_disk": Pictures(of, Path(folder), memory=0),
        }
        times = {name: cpu(lambda each=each: [*map(each, paths)], 20) for name, each in opened.items()}
        images = [*map(opened["from_memory"], paths)]
        times["patches"] = cpu(lambda: [processor([image], return_tensors="pt") for image in images], 20)
    return {name: round(1e3 * seconds / 2, 2) for name, seconds in times.items()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    images = {which: image_times(*each) for which, each in SIZES.items()}
    print(json.dumps({"sampling": sampling(*(sys.argv[1:] or ["tiny-base"])), "images": images}))
