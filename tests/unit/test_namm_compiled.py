"""The compiled passes give what plain torch gives; without them nothing changes."""

from __future__ import annotations

import ctypes
import shutil
from pathlib import Path

import pytest
import torch

from namm_mm.errors import RunError
from namm_mm.memory import attach
from namm_mm.namm import compiled
from namm_mm.namm.codes import Opened, StateCodes
from namm_mm.namm.spectrogram import Spectrogram
from namm_mm.policies import create
from namm_mm.testing.tiny import TINY, tiny_tokens

pytestmark = pytest.mark.numeric

SHAPES = [(1, 3, 128, 1003), (2, 2, 32, 77), (1, 1, 16, 16), (3, 4, 16, 300)]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler")
    found = compiled._load(compiled.build(tmp_path_factory.mktemp("kernels") / "libcompiled.so"))
    assert found is not None
    return found


@pytest.fixture
def found(library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_library", lambda: library)


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_library", lambda: None)


@pytest.mark.usefixtures("found")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("heads", "group", "queries", "slots"), SHAPES)
def test_softmax_of_what_each_query_sees(
    heads: int, group: int, queries: int, slots: int, threads: int
) -> None:
    products = 5 * torch.randn(1, heads, group, queries, slots)
    newer = torch.ones(queries, queries).triu(1).bool()
    wanted = products.clone()
    wanted[..., slots - queries :].masked_fill_(newer, float("-inf"))
    wanted = wanted.softmax(-1)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    means = compiled.softmax_means(products)
    torch.set_num_threads(before)
    assert means is not None
    torch.testing.assert_close(products, wanted, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(means, wanted.mean(2), atol=1e-6, rtol=1e-5)


@pytest.mark.usefixtures("found")
def test_a_product_that_is_no_number_is_seen() -> None:
    products = torch.randn(1, 1, 1, 16, 40)
    products[0, 0, 0, 3, 7] = float("nan")
    means = compiled.softmax_means(products)
    assert means is not None
    assert means[0, 0, 3, :27].isnan().any()


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("slots", [5, 16, 77, 300])
def test_frames_fold_as_in_torch(
    slots: int, relative: bool, library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch
) -> None:
    spectrogram = Spectrogram(relative=relative)
    attention = torch.rand(2, 3, 48, slots).softmax(-1)
    state = (torch.rand(2, 3, 17, slots + 4), torch.rand(2, 3, 16, slots + 4))
    results = []
    for chosen in (library, None):
        monkeypatch.setattr(compiled, "_library", lambda chosen=chosen: chosen)
        means, last = (part.clone() for part in state)
        spectrogram.fold(means, last, attention)
        results.append((means, last))
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(results[0][0], state[0])


@pytest.mark.parametrize("name", ["llama", "mistral"])
def test_the_same_tokens_are_kept(
    name: str, library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = create("namm", budget=0.3, state="float32")
    kept = []
    for chosen in (library, None):
        monkeypatch.setattr(compiled, "_library", lambda chosen=chosen: chosen)
        model = TINY[name]()
        with torch.no_grad(), attach(model, policy, interval=64, storage="per_head") as memory:
            model(tiny_tokens(2, 300))
        kept.append([head.tolist() for layer in range(2) for head in memory.kept(layer, 1)])
    assert kept[0] == kept[1]


@pytest.mark.usefixtures("missing")
def test_without_a_library_torch_computes() -> None:
    products = torch.randn(1, 1, 1, 16, 20)
    held = products.clone()
    assert compiled.softmax_means(products) is None
    torch.testing.assert_close(products, held, atol=0, rtol=0)


def test_it_can_be_switched_off_and_a_missing_compiler_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(compiled.VARIABLE, "torch")
    assert compiled._library.__wrapped__() is None
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(RunError, match="no C\\+\\+ compiler"):
        compiled.build(tmp_path / "x.so")
    (tmp_path / "broken.so").write_text("no library")
    assert compiled._load(tmp_path / "broken.so") is None


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("slots", [5, 16, 1003])
def test_codes_are_those_of_torch(
    slots: int, wide: bool, library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = torch.Generator().manual_seed(slots)
    means = 3 * torch.rand(2, 3, 17, slots, generator=draw).pow(4)
    weights = torch.rand(2, 3, 16, slots, generator=draw).pow(6)
    means[..., :2], weights[..., 1] = 0.0, 0.0  # nobody attended to these slots
    turns = torch.randint(0, 16, (2, 3, 1, slots), generator=draw, dtype=torch.uint8)
    codes = StateCodes(tuple((torch.rand(17, generator=draw) + 0.01).tolist()), wide=wide)
    packed, opened, read = [], [], []
    for chosen in (library, None):
        monkeypatch.setattr(compiled, "_library", lambda chosen=chosen: chosen)
        packed.append(codes.pack(Opened(means, weights, turns)))
        opened.append(codes.unpack(packed[0]))
        read.append(codes.means(packed[0]))
    differ = (packed[0] != packed[1]).float().mean()
    assert differ < 1e-3  # a mean at the edge of two codes
    torch.testing.assert_close(opened[0], opened[1], atol=1e-7, rtol=1e-5)
    torch.testing.assert_close(read[0], read[1], atol=1e-7, rtol=1e-5)
    assert len(set(packed[0].flatten().tolist())) > 32
