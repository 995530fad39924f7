"""How often the host waits for a device: never in a decoded token, once in a layer's eviction.

The device is simulated (`tests/helpers/simulated_cuda.py`), so that this holds without a GPU.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from interpreted import needs_triton, triton_kernels
from simulated_cuda import CUDA, OUTSIDE, OnDevice, SimulatedCuda, simulated_cuda
from torch import Tensor

from namm_mm.memory import Memory, attach
from namm_mm.policies import Budget, Policy, Threshold, create
from namm_mm.policies.budgets import parse
from namm_mm.policies.head_need import HeadNeed
from namm_mm.testing.tiny import tiny_llama, tiny_tokens

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason="a device is there: it need not be simulated"
)

INTERVAL, PROMPT, LENGTH, ROWS, LAYERS = 32, 86, 100, 2, 2
"""The evictions are after 32, 64 and 96 tokens, the last one while decoding."""

NEED = HeadNeed(((0.1, 1.0), (0.3, 0.4)))
"""One head of the first layer keeps every token, so that it is not observed."""

FEW = Budget(tokens=20)
CASES: list[tuple[str, Policy, str]] = [
    ("h2o", create("h2o", budget=FEW), "shared"),
    ("h2o", create("h2o", budget=FEW), "per_head"),
    ("namm", create("namm", budget=Threshold(30)), "shared"),
    ("namm", create("namm", budget=parse("pool:0.3")), "per_head"),
    ("namm, float32", create("namm", budget=FEW, state="float32"), "per_head"),
    ("probed", create("probed", over="namm", budget="fraction:0.4", need=NEED), "per_head"),
    ("tova", create("tova", budget=FEW), "shared"),
    ("snapkv", create("snapkv", budget=FEW), "shared"),
    ("adakv", create("adakv", budget=0.3), "per_head"),
    ("pyramid", create("pyramid", budget=0.3), "shared"),
    ("criticalkv", create("criticalkv", budget=FEW), "shared"),
    ("expected_attention", create("expected_attention", budget=FEW), "shared"),
]


def kept(memory: Memory) -> list[list[int]]:
    return [
        head.tolist()
        for layer in range(LAYERS)
        for row in range(ROWS)
        for head in memory.kept(layer, row)
    ]


def run(model: Any, tokens: Tensor, memory: Memory) -> list[Tensor]:
    """Read a prompt, then the other tokens one by one; return their logits."""
    return [model(part, past_key_values=memory.cache).logits[:, -1:] for part in parts_of(tokens)]


def parts_of(tokens: Tensor) -> list[Tensor]:
    return [tokens[:, :PROMPT], *torch.split(tokens[:, PROMPT:], 1, dim=1)]


def waits_of(
    device: SimulatedCuda, model: Any, tokens: Tensor, memory: Memory
) -> tuple[list[Tensor], list[str], list[list[str]]]:
    """As :func:`run`, and what the host waited for: in the prompt, and in each token."""
    logits, waits = [], []
    for part in parts_of(tokens):
        device.waits.clear()
        logits.append(model(part, past_key_values=memory.cache).logits[:, -1:].held)
        waits.append(list(device.waits))
    return logits, waits[0], waits[1:]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "policy", "storage"), CASES)
def test_the_host_never_waits_in_a_token_and_once_in_a_layers_eviction(
    name: str, policy: Policy, storage: str
) -> None:
    tokens = tiny_tokens(ROWS, LENGTH)
    how: Any = {"interval": INTERVAL, "storage": storage}
    model: Any = tiny_llama()
    with torch.no_grad(), attach(model, policy, **how) as memory:
        expected = torch.cat(run(model, tokens, memory), dim=1)
        expected_kept = kept(memory)
    with torch.no_grad(), simulated_cuda() as device:
        model, there = device.move(model), OnDevice(tokens)
        with attach(model, policy, **how) as memory:
            run(model, there[:, : PROMPT + 1], memory)  # tables and the network are placed once
            memory.reset()
            found, prompt, decoded = waits_of(device, model, there, memory)
            assert kept(memory) == expected_kept
    torch.testing.assert_close(torch.cat(found, dim=1), expected, atol=2e-4, rtol=1e-4)
    evictions = PROMPT // INTERVAL * LAYERS
    assert len(prompt) == evictions
    for token, waits in enumerate(decoded, PROMPT + 1):
        assert len(waits) == (0 if token % INTERVAL else LAYERS), (token, waits)


@pytest.mark.parametrize(("on_host", "each_call"), [(True, 0), (False, 1)])
def test_a_mask_on_the_host_costs_no_wait(on_host: bool, each_call: int) -> None:
    tokens = tiny_tokens(ROWS, 40)
    mask = torch.ones_like(tokens)
    mask[1, :7] = 0
    with torch.no_grad(), simulated_cuda() as device:
        model, there = device.move(tiny_llama()), OnDevice(tokens)
        with attach(model, create("h2o", budget=FEW), interval=64) as memory:
            for stop in (30, *range(31, 41)):
                part = there[:, :stop] if stop == 30 else there[:, stop - 1 : stop]
                given = mask[:, :stop] if on_host else OnDevice(mask)[:, :stop]
                device.waits.clear()
                model(part, attention_mask=given, past_key_values=memory.cache)
                own = [wait for wait in device.waits if OUTSIDE not in wait]
                assert len(own) == each_call, own
        assert [len(head) for head in memory.kept(0, 1)] == [33, 33]


def test_the_simulated_device_counts_and_refuses() -> None:
    with simulated_cuda() as device:
        numbers = OnDevice(torch.arange(6.0).view(2, 3))
        assert numbers.device.type == "cuda"
        assert float((numbers + 1).sum()) == 21.0
        assert numbers[numbers > 2].shape == (3,)
        assert numbers.cpu().tolist() == [[0, 1, 2], [3, 4, 5]]
        torch.ones(3).to(CUDA)
        assert len(device.waits) == 4
        torch.ones(3).to(CUDA, non_blocking=True)
        assert len(device.waits) == 4
        with pytest.raises(RuntimeError, match="two devices"):
            numbers + torch.ones(3)


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize(
    ("policy", "storage", "runs"),
    [
        (create("namm", budget=parse("pool:0.3")), "per_head", 8),
        (create("h2o", budget=FEW), "shared", 8),
    ],
)
def test_kernels_keep_and_answer_what_torch_does(policy: Policy, storage: str, runs: int) -> None:
    tokens = tiny_tokens(ROWS, LENGTH)
    how: Any = {"interval": INTERVAL, "storage": storage}
    model: Any = tiny_llama()
    with torch.no_grad(), attach(model, policy, **how) as memory:
        expected, expected_kept = torch.cat(run(model, tokens, memory), dim=1), kept(memory)
    with torch.no_grad(), simulated_cuda(triton_kernels()) as device:
        model, there = device.move(model), OnDevice(tokens)
        with attach(model, policy, **how) as memory:
            found, _, decoded = waits_of(device, model, there, memory)
            assert kept(memory) == expected_kept
        assert device.kernels is not None
        assert device.kernels.runs >= runs
    torch.testing.assert_close(torch.cat(found, dim=1), expected, atol=2e-4, rtol=1e-4)
    for token, waits in enumerate(decoded, PROMPT + 1):
        assert len(waits) == (0 if token % INTERVAL else LAYERS), (token, waits)
