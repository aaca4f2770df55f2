"""The tiny base: seconds to load it (after imports), greedy answers a second at batch 128, and peak memory,
as one JSON line.
"""

import json
import resource
import sys
import time
from dataclasses import replace

from mcr_lib import prompts, testbed
from mcr_lib.testbed import drawing
from mcr_lib.training import backbones
from mcr_lib.training.generate import answer_batch

N = 256

began = time.monotonic()
backbone = backbones.load("tiny-base", device="cpu")
loaded = time.monotonic() - began
made = [testbed.make("gmner", "test", k) for k in range(N)]
chats = [prompts.messages(replace(m.example, images=("drawn",)), wording=backbone.wording) for m in made]
pictures = [[drawing.draw(m.scene)] for m in made]
answer_batch(
    backbone, chats[:8], pictures[:8], max_new_tokens=8
)  # what the first call sets up is not counted
began = time.monotonic()
for start in range(0, N, 128):
    answer_batch(backbone, chats[start : start + 128], pictures[start : start + 128], max_new_tokens=128)
per_second = N / (time.monotonic() - began)
unit = 1024 if sys.platform != "darwin" else 1024**2
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
print(json.dumps({"load_s": round(loaded, 2), "answers_per_s": round(per_second, 1), "peak_mb": round(peak)}))
