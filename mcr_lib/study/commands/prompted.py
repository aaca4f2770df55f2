"""`mcr prompt`: prompted baselines, the answers of a served model to a split, as a predictions file."""

import sys
from argparse import Namespace
from pathlib import Path

from mcr_lib import prompts
from mcr_lib.boxes import box_format
from mcr_lib.data import mrsi
from mcr_lib.data.images import image_size
from mcr_lib.data.predictions import write_predictions
from mcr_lib.study.commands import arguments
from mcr_lib.study.runs.progress import teller


def command(given: Namespace) -> int:
    """`mcr prompt`."""
    out, target = Path(given.out), arguments.target(given)
    endpoint = arguments.endpoint(given, out.with_name(f"{out.name}.kept"))
    examples, shots = arguments.shown(given, given.split)[: given.n], []
    if given.prompt == "cot-3shot":
        train = [example for example in arguments.shown(given, "train") if example.images]
        shots = mrsi.worked_examples(train, target, seed=given.seed)
    of_shots = [picture for shot, _ in shots for picture in arguments.pictures(shot, target)]
    own = [arguments.pictures(example, target) for example in examples]
    chats = [prompts.messages(example, given.prompt, shots=shots) for example in examples]
    requests = [(chat, [*of_shots, *each]) for chat, each in zip(chats, own, strict=True)]
    if given.dry_run:
        return arguments.tell(endpoint.quote(requests))
    with endpoint:
        answers = endpoint.each(lambda request: endpoint.ask(*request), requests, teller(sys.stderr))
    rows, space = [], box_format(target.family).space
    for example, answer, sent in zip(examples, answers, own, strict=True):
        row = {"id": example.id, "answer": answer.text, "coordinate_space": "original_px"}
        row |= {"error": answer.problem} if answer.text is None else {}
        for path, size in sent[:1]:  # boxes refer to the first image
            row |= {"coordinate_space": space, "model_size": size, "image_size_px": image_size(path)}
        rows.append(row)
    usage = endpoint.usage()
    told = {key: value for key, value in usage.items() if key != "new"}  # the same after a kill
    write_predictions(
        out, rows, setting=f"{given.prompt}, {given.model}", seed=given.seed, prompt=given.prompt,
        prompt_version=prompts.PROMPT_VERSION, answer_form="json", backbone=given.model, family=target.family,
        sampling=endpoint.sampling, shots=[shot.id for shot, _ in shots], usage=told,
    )  # fmt: skip
    return arguments.tell(usage)
