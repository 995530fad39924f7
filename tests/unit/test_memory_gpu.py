"""On a CUDA device the memory keeps and answers what it does on the CPU."""

from __future__ import annotations

import pytest
import torch

from namm_mm.memory import attach
from namm_mm.policies import Budget, create
from namm_mm.testing.tiny import tiny_llama, tiny_tokens

EVICTING = [
    *("h2o", "l2_all", "recency", "random", "namm", "snapkv", "tova", "keydiff", "lagkv"),
    *("protected", "expected_attention", "criticalkv", "pyramid"),
]


@pytest.mark.gpu
@pytest.mark.parametrize("storage", ["shared", "per_head"])
@pytest.mark.parametrize("name", ["full", *EVICTING])
def test_cuda_keeps_what_the_cpu_keeps(name: str, storage: str) -> None:
    policy = create(name) if name == "full" else create(name, budget=Budget(tokens=40))
    tokens = tiny_tokens(3, 150)
    mask = torch.ones_like(tokens)
    mask[1, :37] = 0
    kept, logits = {}, {}
    for device in ("cpu", "cuda"):
        model = tiny_llama().to(device)
        with torch.no_grad(), attach(model, policy, interval=32, storage=storage) as memory:
            out = model(tokens.to(device), attention_mask=mask.to(device))
        logits[device] = out.logits[mask.bool().to(device)].cpu()
        kept[device] = [
            [head.tolist() for head in memory.kept(layer, row)]
            for layer in range(2)
            for row in range(3)
        ]
    assert kept["cuda"] == kept["cpu"]
    torch.testing.assert_close(logits["cuda"], logits["cpu"], atol=2e-3, rtol=1e-3)


@pytest.mark.gpu
def test_reported_bytes_are_those_of_the_cuda_allocator() -> None:
    model, tokens = tiny_llama().to("cuda"), tiny_tokens(1, 2048).to("cuda")
    policy = create("h2o", budget=Budget(tokens=512))
    with torch.no_grad(), attach(model, policy, interval=256) as memory:
        model(tokens)
        memory.reset()
        before = torch.cuda.memory_allocated()
        model(tokens)
        allocated = torch.cuda.memory_allocated() - before
    # the allocator rounds every tensor up to 512 bytes
    assert 0 <= allocated - memory.usage().bytes_final < 16_384
