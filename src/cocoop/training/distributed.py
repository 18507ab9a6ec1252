"""One fit on several devices: the images of a batch are shared out and the gradients summed.

`accelerate launch` starts the processes. The first one leads: it alone decides what is run, tests and
writes; the others wait to be called to the next fit and take part in it.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

LONGEST_WAIT = timedelta(hours=12)  # of the others, while the first process tests


@dataclass(frozen=True)
class Group:
    """The processes of one fit, seen from one of them.

    Attributes:
        size: how many they are.
        rank: which of them this is; 0 leads.
    """

    size: int = 1
    rank: int = 0

    def part(self, batch: Shaped[Tensor, "b ..."]) -> Shaped[Tensor, "p ..."]:
        """Return this process's images of a batch, or their labels."""
        return batch[self.rank :: self.size]

    def sum(self, terms: Float[Tensor, " t"], parameters: Sequence[nn.Parameter]) -> Float[Tensor, " t"]:
        """Sum the gradients over all processes, in place, and return the sums of their loss terms."""
        if self.size == 1:
            return terms.detach()
        from accelerate.utils import reduce

        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([terms.detach(), *(gradient.flatten() for gradient in gradients)])
        sizes = [len(terms), *(gradient.numel() for gradient in gradients)]
        total, *sums = reduce(flat, "sum").split(sizes)
        for gradient, summed in zip(gradients, sums, strict=True):
            gradient.copy_(summed.view_as(gradient))
        return total

    def call(self, message: Any) -> None:
        """As the leader, tell the others what comes next; None sends them home."""
        if self.size > 1:
            _broadcast(message)

    def calls(self) -> Iterator[Any]:
        """As one of the others, yield what the leader tells until it sends us home."""
        while (message := _broadcast(None)) is not None:
            yield message


SINGLE = Group()


def join_group(device: str) -> tuple[Group, str]:
    """Join the processes that a launcher started, if it did; return the group and where to compute.

    Each process takes a GPU of its own, or they share the processors where `device` says so or there is none.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return SINGLE, device
    from accelerate import PartialState

    on_cpu = device == "cpu" or not torch.cuda.is_available()
    state = PartialState(cpu=on_cpu, timeout=LONGEST_WAIT)
    return Group(state.num_processes, state.process_index), str(state.device)


def _broadcast(message: Any) -> Any:
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([message], from_process=0)[0]
