"""The processes that train one detector together: which of them this is, and what they tell each other.

torchrun starts them and says in the environment who they are; a process that it did not start is alone. Each holds the
whole network and all weights stay equal, since every step is made with the mean of all gradients. What is told goes as
tensors, never pickled. It knows nothing of detectors.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed

#: The others wait so long for the first, which reads the history alone. Where it dies, torchrun ends them.
PATIENCE = timedelta(days=7)
CPU = torch.device("cpu")
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Processes:
    """rank: of this process, from 0; count: of all; device: where this one computes."""

    rank: int = 0
    count: int = 1
    device: torch.device = CPU

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def average_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """The mean over the processes, in all of them."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if self.count == 1 or not gradients:
            return
        together = torch.cat([gradient.reshape(-1) for gradient in gradients])
        distributed.all_reduce(together)
        together /= self.count
        for gradient, mean in zip(gradients, torch.split(together, [each.numel() for each in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def agreed(self, value: float) -> float:
        """What the first process says, in all of them."""
        if self.count == 1:
            return value
        told = torch.tensor([value], dtype=torch.float64)
        distributed.broadcast(told, 0)
        return float(told)

    def share(self, tensors: Tensors | None) -> dict[str, Tensor]:
        """The first process's tensors (CPU), in all of them; the others give None."""
        if self.count == 1:
            return dict(tensors or {})
        header = self._share_header(tensors)
        shared: dict[str, Tensor] = {}
        for name, kind, shape in header:
            own = None if tensors is None else tensors[name].contiguous()
            shared[name] = torch.empty(shape, dtype=getattr(torch, kind)) if own is None else own
            if shared[name].numel():
                distributed.broadcast(shared[name].reshape(-1).view(torch.uint8), 0)
        return shared

    def _share_header(self, tensors: Tensors | None) -> list[tuple[str, str, list[int]]]:
        described = [
            (name, str(value.dtype).removeprefix("torch."), list(value.shape))
            for name, value in (tensors or {}).items()
        ]
        text = json.dumps(described).encode()
        length = int(self.agreed(len(text)))
        told = torch.frombuffer(bytearray(text), dtype=torch.uint8) if self.is_first else torch.empty(length).byte()
        distributed.broadcast(told, 0)
        return [(name, kind, shape) for name, kind, shape in json.loads(told.numpy().tobytes())]


ALONE = Processes()


def started_by_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


@contextmanager
def training_processes(device: str = "cpu") -> Iterator[Processes]:
    """Those of this torchrun, until the block ends. device: "cpu" or "cuda"; with torchrun, each process gets a GPU of
    its own."""
    if not started_by_torchrun():
        yield Processes(device=torch.device(device))
        return
    own = torch.device(device)
    if own.type == "cuda":
        own = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    backend = "cpu:gloo,cuda:nccl" if own.type == "cuda" else "gloo"
    distributed.init_process_group(backend, timeout=PATIENCE)
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size(), own)
    finally:
        distributed.destroy_process_group()
