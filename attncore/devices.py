"""Which device trains, in which precision: asked of the machine, not guessed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from attncore.interactions import DataError


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
    """The dtype of matrix products: "auto" takes bfloat16 where the device's hardware multiplies it fast."""
    if name != "auto":
        return torch.bfloat16 if name == "bfloat16" else torch.float32
    if device.type == "cuda":
        fast = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        able = torch.cpu.get_capabilities() if device.type == "cpu" else {}
        fast = bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    return torch.bfloat16 if fast else torch.float32


@contextmanager
def tensor_float_32(device: torch.device) -> Iterator[None]:
    """Let CUDA multiply float32 matrices as TF32 within the block; other devices are left alone."""
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
