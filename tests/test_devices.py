import pytest
import torch

import attncore as ac
from attncore.distributed import choose_device, choose_precision, tensor_float_32


def test_devices_are_chosen_by_what_there_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto").type == "cpu"
    with pytest.raises(ac.DataError, match="no CUDA device"):
        choose_device("cuda")
    with pytest.raises(ac.DataError, match="must be auto, cpu, cuda"):
        choose_device("gpu0")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ac.DataError, match="no MPS device"):
        choose_device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device("auto").type == "cuda"
    with pytest.raises(ac.DataError, match="has 1 CUDA devices"):
        choose_device("cuda:3")


def test_precision_is_asked_of_the_device(monkeypatch):
    cpu = torch.device("cpu")
    assert choose_precision("float32", cpu) == torch.float32
    assert choose_precision("bfloat16", cpu) == torch.bfloat16
    for able, dtype in (
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({}, torch.float32),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able)
        assert choose_precision("auto", cpu) == dtype
    for capability, dtype in (((9, 0), torch.bfloat16), ((7, 5), torch.float32)):
        monkeypatch.setattr(
            torch.cuda, "get_device_capability", lambda device, c=capability: c
        )
        assert choose_precision("auto", torch.device("cuda")) == dtype


def test_tf32_is_allowed_for_cuda_and_only_within_the_block():
    for device, within in (("cuda", "high"), ("cpu", "highest")):
        with tensor_float_32(torch.device(device)):
            assert torch.get_float32_matmul_precision() == within
        assert torch.get_float32_matmul_precision() == "highest"
