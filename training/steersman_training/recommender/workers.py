"""Data parallelism over processes that torchrun started: each has a share of the users, and gradients are means over the events of all."""

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn


class Workers(NamedTuple):
    """This process among those that train. All must make the same calls in the same order."""

    rank: int = 0
    size: int = 1

    @staticmethod
    def join(device: torch.device) -> "Workers":
        """The processes that torchrun started, on one machine or several; without it, this one alone."""
        if not dist.is_torchelastic_launched():
            return Workers()
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return Workers(dist.get_rank(), dist.get_world_size())

    def most(self, number: int, device: torch.device) -> int:
        """The largest of the workers' numbers."""
        if self.size == 1:
            return number
        largest = torch.tensor(number, device=device)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return int(largest)

    def agree(self, number: float, device: torch.device) -> float:
        """The number of the first worker."""
        if self.size == 1:
            return number
        agreed = torch.tensor(number, dtype=torch.float64, device=device)
        dist.broadcast(agreed, 0)
        return float(agreed)

    def first_table(self, table: Tensor, device: torch.device) -> Tensor:
        """The two-dimensional table of the first worker: what each computes of the same data may differ by rounding, and then in shape."""
        if self.size == 1:
            return table
        shape = torch.tensor(table.shape, device=device)
        dist.broadcast(shape, 0)
        shared = table.to(device) if self.rank == 0 else torch.empty(*shape.tolist(), dtype=table.dtype, device=device)
        dist.broadcast(shared, 0)
        return shared.cpu()

    def share_gradients(self, model: nn.Module, events: int) -> None:
        """Replaces gradients of the mean loss over a worker's events by those over all workers' events. None counts as zero."""
        if self.size == 1:
            return
        weights = list(model.parameters())
        parts = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
        pooled = torch.cat([*(part.flatten() * events for part in parts), parts[0].new_tensor([events])])
        dist.all_reduce(pooled)
        pooled /= pooled[-1].clone()
        for weight, part in zip(weights, pooled[:-1].split([weight.numel() for weight in weights]), strict=True):
            weight.grad = part.view_as(weight)

    def part(self) -> None:
        """Ends data parallelism: the first worker goes on alone, the other processes exit."""
        if self.size > 1:
            dist.destroy_process_group()
        if self.rank:
            raise SystemExit(0)
