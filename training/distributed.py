"""One process or many: what torchrun sets up, and nothing without it."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import distributed


@dataclass(frozen=True)
class World:
    """This process among its peers.

    Attributes:
        rank: 0..size - 1; rank 0 writes files and prints.
        size: processes in all.
        device: where this process computes.
        local_rank: 0..processes of this machine - 1.
    """

    rank: int
    size: int
    device: torch.device
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    @property
    def leads_machine(self) -> bool:
        """Whether this process keeps the cache of its machine."""
        return self.local_rank == 0

    def follow(self, decision: bool) -> bool:
        """The leader's decision, which every process must take alike."""
        if self.size == 1:
            return decision
        told = torch.tensor([decision], dtype=torch.uint8, device=self.device)
        distributed.broadcast(told, src=0)
        return bool(told.item())


def join_world() -> World:
    """Take part in torchrun's group (WORLD_SIZE set), or be alone."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if size > 1:
        distributed.init_process_group("nccl" if cuda else "gloo", rank=rank, world_size=size)
    return World(rank, size, device, local)


def leave_world() -> None:
    """End the group, if there is one."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
