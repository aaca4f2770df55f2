"""`mcr_lib` under FSDP on CPUs, where accelerate has it for accelerators alone: the kind of processes is told
after they have met by gloo; all else is accelerate's, TRL's and torch's own.
"""

import sys

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

from mcr_lib.study.commands.cli import main

own = AcceleratorState.__init__


def with_fsdp(self, *args, fsdp_plugin=None, **options):
    own(self, *args, fsdp_plugin=fsdp_plugin, **options)
    if self.distributed_type == DistributedType.MULTI_CPU and fsdp_plugin is not None:
        self.distributed_type = DistributedType.FSDP
        self.fsdp_plugin = fsdp_plugin
        PartialState._shared_state["distributed_type"] = self.distributed_type


AcceleratorState.__init__ = with_fsdp
sys.exit(main())
