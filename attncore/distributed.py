"""Which device trains, in which precision: asked of the machine, not guessed."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from attncore.errors import DataError


def choose_device(name: str) -> torch.device:
    """The device that a configuration names.

    Raises:
        DataError: it is not a device's name, or this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DataError(
            f"device={name!r}: must be auto, cpu, cuda, cuda:N or mps"
        ) from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise DataError(
            f"device={name!r}: this machine has no CUDA device that PyTorch can use;"
            " use --device cpu"
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DataError(
            f"device={name!r}: this machine has {torch.cuda.device_count()} CUDA"
            " devices, counted from 0"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DataError(
            f"device={name!r}: this machine has no MPS device; use --device cpu"
        )
    return device


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """The dtype of matrix products; "tf32" is float32, see `tensor_float_32`.

    "auto" takes bfloat16 where the device's hardware multiplies it fast: a CUDA device
    of compute capability 8.0 or more, or a CPU with AVX512-BF16 or AMX; else float32.
    """
    if name != "auto":
        halves = {"bfloat16": torch.bfloat16, "float16": torch.float16}
        return halves.get(name, torch.float32)
    if device.type == "cuda":
        fast = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        able = torch.cpu.get_capabilities() if device.type == "cpu" else {}
        fast = bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    return torch.bfloat16 if fast else torch.float32


@contextmanager
def tensor_float_32(device: torch.device, allowed: bool = True) -> Iterator[None]:
    """Let CUDA multiply float32 matrices as TF32 within the block, or forbid it.

    TF32 keeps 10 bits of a factor's fraction, float32 23. That holds for cuDNN's LSTM
    too. Other devices are left alone.
    """
    if device.type != "cuda":
        yield
        return
    cudnn: Any = torch.backends.cudnn
    before = torch.get_float32_matmul_precision(), cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        cudnn.allow_tf32 = before[1]


@dataclass(frozen=True)
class Group:
    """The processes that train together.

    Attributes:
        device: this process's own.
        rank: its number, from 0.
        size: how many there are.
    """

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def is_rank_0(self) -> bool:
        """True in the one process that writes."""
        return self.rank == 0

    def share(self, rows: np.ndarray) -> np.ndarray:
        """This process's part of the rows.

        Together the parts are all rows, each once.
        """
        return rows[self.rank :: self.size]

    def total(self, value: Tensor) -> Tensor:
        """The sum over the processes, the same in all of them."""
        if self.size > 1:
            dist.all_reduce(value)
        return value

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, in order of rank, in all of them."""
        values = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def from_rank_0(self, value: Any) -> Any:
        """The leader's value, in all processes."""
        values = [value]
        if self.size > 1:
            dist.broadcast_object_list(values)
        return values[0]

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module with gradients averaged over the processes in a backward pass."""
        if self.size == 1:
            return module
        # Since PyTorch 2.13 the option has another name, and the old one warns.
        names = inspect.signature(DistributedDataParallel).parameters
        new = "forward_sync_buffers" in names
        option: Any = {"forward_sync_buffers" if new else "broadcast_buffers": False}
        return DistributedDataParallel(module, **option)

    @contextmanager
    def rank_0_first(self) -> Iterator[None]:
        """Rank 0 runs the block before the others do.

        So it alone fetches what all can then read.
        """
        if self.size > 1 and not self.is_rank_0:
            dist.barrier()
        try:
            yield
        finally:
            if self.size > 1 and self.is_rank_0:
                dist.barrier()

    @contextmanager
    def agreed(self) -> Iterator[None]:
        """A mistake that one process finds in the block is raised in all of them.

        Without, the others would wait for it.
        """
        mistake: Exception | None = None
        try:
            yield
        except (ValueError, OSError) as error:
            if self.size == 1:
                raise
            mistake = error
        for found in self.gather(mistake):
            if found is not None:
                raise found


@contextmanager
def processes(device: str = "auto") -> Iterator[Group]:
    """Join the processes that `torchrun` started, each GPU with one of them.

    Without `torchrun`, a group of one. Within another such block it is the same group.

    Raises:
        DataError: the device is missing.
    """
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    chosen = choose_device(device)
    if several and chosen.type == "cuda" and chosen.index is None:
        chosen = choose_device(f"cuda:{os.environ['LOCAL_RANK']}")
    if not several and not dist.is_initialized():
        yield Group(chosen)
        return
    opened = not dist.is_initialized()
    if opened:
        if chosen.type == "cuda":
            torch.cuda.set_device(chosen)
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Group(chosen, dist.get_rank(), dist.get_world_size())
    finally:
        if opened:
            dist.destroy_process_group()
