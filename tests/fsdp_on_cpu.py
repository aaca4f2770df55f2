"""Training under FSDP2 on CPUs, where accelerate has it for accelerators alone: the kind of processes is told
after they have met by gloo; all else is accelerate's, TRL's and torch's own. Run by torchrun in test_launch.
"""

import json
import shutil
import sys
from pathlib import Path

from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType

from mcr_lib.training import cvo, sft
from mcr_lib.training.options import CvoOptions, SftOptions

STEPS = {"batch_size": 8, "max_steps": 3, "save_steps": 2, "learning_rate": 1e-3, "lora_rank": 0}
CVO = CvoOptions(
    batch_size=8, num_generations=4, max_steps=1, max_completion_length=32, check_groups=0, filter_d2=False,
    lora_rank=0, beta=0.04,
)  # fmt: skip


HOW = {"prompt": "direct", "device": "cpu"}


def fine_tune(start: str, folder: Path) -> None:
    """Full fine-tuning and an adapter in 16 bits; of several processes also the first from a checkpoint."""
    rows, how = json.loads((folder / "rows.json").read_text()), HOW
    sft.train(start, rows["sft"], folder / "full", SftOptions(**STEPS), **how)
    if PartialState().num_processes > 1:
        if PartialState().is_main_process:
            kept = "checkpoints/checkpoint-2"
            shutil.copytree(folder / "full" / kept, folder / "continued" / kept)
        PartialState().wait_for_everyone()
        sft.train(start, rows["sft"], folder / "continued", SftOptions(**STEPS), **how)
    of_lora = {**STEPS, "lora_rank": 4, "weights": "bfloat16", "bf16": True, "gradient_checkpointing": True}
    sft.train(start, rows["sft"], folder / "lora", SftOptions(**of_lora), **how)


def with_fsdp(self, *args, fsdp_plugin=None, **options):
    own(self, *args, fsdp_plugin=fsdp_plugin, **options)
    if self.distributed_type == DistributedType.MULTI_CPU and fsdp_plugin is not None:
        self.distributed_type = DistributedType.FSDP
        self.fsdp_plugin = fsdp_plugin
        PartialState._shared_state["distributed_type"] = self.distributed_type


def ends_at_once(*arguments, **options):
    """A trainer whose answers end with their first token in one of the processes alone."""
    trainer = make_trainer(*arguments, **options)
    if PartialState().process_index == 1:
        trainer.generation_config.eos_token_id = [*range(trainer.model.config.get_text_config().vocab_size)]
    return trainer


if __name__ == "__main__":
    own, make_trainer = AcceleratorState.__init__, cvo.make_trainer
    AcceleratorState.__init__, cvo.make_trainer = with_fsdp, ends_at_once
    run = Path(sys.argv[2])
    fine_tune(sys.argv[1], run)
    rows_of_cvo = json.loads((run / "rows.json").read_text())["cvo"]
    cvo.train(str(run / "full" / "model"), rows_of_cvo, run / "cvo", CVO, **HOW)
