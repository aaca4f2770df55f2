"""CPU seconds to reward 10,000 completions on one core, as GRPOTrainer asks for them: five calls over
columns; prints the number.

python benchmarks/bench_rewards.py DIR      DIR: the folder of Twitter-GMNER
"""

import itertools
import sys
import time

import numpy as np

from mcr_lib import chains, data, rewards, yardsticks
from mcr_lib.answer import write_answer
from mcr_lib.data import mrsi

N, GENERATIONS = 10_000, 8


def main() -> None:
    """Eight completions per tweet, most of them wrong somewhere, each with a chain; batches of 64."""
    rng = np.random.default_rng(0)
    target = mrsi.Target("qwen2.5-vl", 56 * 56, 28 * 28 * 1280)
    tweets = itertools.cycle(data.load_split("twitter-gmner", sys.argv[1], split="train"))
    completions, columns = [], {"gold": [], "model_size": [], "family": []}
    for example in itertools.islice(tweets, N // GENERATIONS):
        row = next(mrsi.grpo_rows([(example, "distill")], target, prompt="mcr"))
        gold = rewards.written_gold(example, "model_px", model_size=target.size(example))
        think = chains.build(example, "distill", rng).text
        for k in range(GENERATIONS):
            said = yardsticks.degrade(gold, dict.fromkeys(gold.constraints, 0.8), rng)
            whole = [
                p if p.box_xyxy is None else type(p)(p.text, p.type, (tuple(map(int, p.box_xyxy)),))
                for p in said
            ]
            completions.append([{"role": "assistant", "content": write_answer(whole, think=f"{think} {k}")}])
            for name in columns:
                columns[name].append(row[name])
    functions = rewards.grpo_reward_functions()
    began = time.process_time()
    for start in range(0, N, 64):
        batch = {name: values[start : start + 64] for name, values in columns.items()}
        for function in functions:
            function(completions=completions[start : start + 64], **batch)
    print(f"{time.process_time() - began:.3f}")


if __name__ == "__main__":
    main()
