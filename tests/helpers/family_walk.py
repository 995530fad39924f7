"""Is a memory on a model of this family right? Served or refused; all else is wrong.

Served means four things. Under policy ``full`` the logits are those of the plain model. Under a
policy that evicts, they are those of the family's own eager attention over all keys, under a dense
mask that replays the evictions. A row of a batch gives what it gives alone, and decoding gives what
one call gives.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import families
import torch
import transformers
from family_recipes import PACKAGES, PARTS
from torch import Tensor
from transformers.cache_utils import DynamicCache
from transformers.masking_utils import eager_mask

from namm_mm.errors import NammError
from namm_mm.memory import Memory, attach
from namm_mm.memory.layout import Layout
from namm_mm.memory.swapping import swapped_attention
from namm_mm.policies import Policy, Threshold, create

KINDS = {"served": "Served", "refused": "Refused"}
COLUMNS = {"served": "special rules", "refused": "why"}
HEAD = """# Which models a memory can be attached to

This table is written by a test, which makes a tiny random model of every family of causal language
models, and of those that read images and text, in transformers {version}, and tries a memory on it:
`UPDATE_SNAPSHOTS=1 pytest tests/unit/test_memory_families.py`.

| result | families | what was seen |
| --- | --- | --- |
| served | {served} | policy `full` gives the plain model's logits; a policy that evicts gives those of the family's own eager attention under a dense mask that replays the evictions; a row of a batch gives what it gives alone; decoding gives what one call gives |
| refused | {refused} | an error that says why, at the latest at the end of the first call |

Images and videos make no difference to a memory, unless the model lets their tokens attend to later
ones: such a call is refused. Encoder-decoder models are refused: their cross-attention is not
served. A decoder that has a causal class of its own, such as that of Whisper, is served. A model
whose layers reuse the keys of other layers (`num_kv_shared_layers` above 0, as in Gemma 3n) is
refused, whatever its family. A layer with a state (convolution, state space, linear attention)
keeps its state as it is; `memory.kept(layer)` counts the layers of attention alone.
"""  # noqa: E501
INTERVAL, LENGTH = 16, 44
CUT = 40  # what comes after is decoded
CLOSE = 2e-3
_NAME = "namm_family_replay"


@dataclass(frozen=True)
class Verdict:
    """What became of a family.

    Attributes
    ----------
    kind
        ``served``, ``refused``, or ``wrong``, which includes a model that could not be tried.
    why
        Reason of a refusal, or what went wrong.
    rules
        What is special about its attention, as the memory computes it.
    """

    family: str
    kind: str
    why: str = ""
    rules: tuple[str, ...] = ()


class Coin(Policy):
    """Keeps about half of all tokens, other ones in each head."""

    name = "coin"

    def __init__(self) -> None:
        super().__init__(budget=Threshold())

    def score(self, view: Any) -> Tensor:
        return create("random", budget=Threshold(), seed=3, sinks=0).score(view) - 0.4


def judge(family: str) -> Verdict:
    """Build a tiny model of `family` and try a memory on it."""
    tokens = torch.randint(3, 58, (2, LENGTH), generator=torch.Generator().manual_seed(0))
    try:
        model = _built(family)
        with attach(model, "full"):
            pass
        with torch.no_grad():
            plain = _call(model, tokens).logits
        return _judge(family, model, tokens, plain)
    except NammError as error:
        return Verdict(family, "refused", _first(error))
    except Exception as error:
        return Verdict(family, "wrong", f"{type(error).__name__}: {_first(error)}")


def _built(family: str) -> Any:
    try:
        return families.tiny_model(family)
    except Exception:  # a configuration alone may be enough to refuse
        Layout.of(families.tiny_config(family).get_text_config(decoder=True))
        raise


def _judge(family: str, model: Any, tokens: Tensor, plain: Tensor) -> Verdict:
    options: Any = {"interval": INTERVAL, "storage": "per_head"}
    one = tokens[:1]
    with torch.no_grad():
        with attach(model, "full", **options) as memory:
            kept = _call(model, tokens).logits
            rules = _rules(memory, model)
        if _far(kept, plain):
            return Verdict(family, "wrong", f"full differs by {_off(kept, plain):.1e}")
        with attach(model, Coin(), **options):
            both, evicted = _call(model, tokens).logits, _call(model, one).logits
        with attach(model, Coin(), **options):
            decoded = _decoded(model, one)
        visible = _visible_after(model, one, options)
        with _replay(model, visible):
            expected = _call(model, one, use_cache=False).logits
    if _far(evicted, expected):
        return Verdict(family, "wrong", f"eviction differs by {_off(evicted, expected):.1e}")
    if not _far(evicted, plain[:1]):
        return Verdict(family, "wrong", "eviction left no mark")
    if _far(both[:1], evicted):
        return Verdict(family, "wrong", f"a row differs alone by {_off(both[:1], evicted):.1e}")
    if _far(decoded, evicted):
        with torch.no_grad():
            alone = _decoded(model, one)
            with attach(model, "full"):
                attached = _decoded(model, one)
        if not _far(alone, plain[:1]) or _far(attached, alone):
            return Verdict(family, "wrong", f"decoding differs by {_off(decoded, evicted):.1e}")
        rules = (*rules, "the plain model's own decoding differs from one call")
    return Verdict(family, "served", "", (*rules, *_tried(family)))


def _tried(family: str) -> Iterator[str]:
    """Tell what was tried, where it is not the whole model."""
    if family in PARTS:
        yield f"attach to its `{PARTS[family]}`"
    if family in PACKAGES:
        yield f"tried as its text decoder: the whole model needs {PACKAGES[family]}"


def _call(model: Any, tokens: Tensor, **named: Any) -> Any:
    return model(**families.inputs(model, tokens), **named)


def _decoded(model: Any, tokens: Tensor) -> Tensor:
    """Logits of a prompt and of the tokens after it, one by one, on a cache of the user."""
    own = DynamicCache(config=model.config)
    parts = [tokens[:, :CUT], *torch.split(tokens[:, CUT:], 1, dim=1)]
    found = [_call(model, part, past_key_values=own, use_cache=True).logits for part in parts]
    return torch.cat(found, 1)


def _off(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).abs().max())


def _far(got: Tensor, expected: Tensor) -> bool:
    off = _off(got, expected)
    return not off < CLOSE * max(1.0, float(expected.abs().max()))


def _first(error: BaseException) -> str:
    return " ".join(str(error).split())


def _rules(memory: Memory, model: Any) -> tuple[str, ...]:
    memories = memory.cache.sequences.memories
    formulas = [layer.formula for layer in memories]
    layout = memory.caches.carrier.layout
    found = []
    windows = sum(formula.window is not None for formula in formulas)
    if windows:
        found.append("sliding window" if windows == len(formulas) else "window in some layers")
    if any(formula.softcap is not None for formula in formulas):
        found.append("capped products")
    if any(formula.sinks is not None for formula in formulas):
        found.append("attention sinks")
    if len(formulas) < len(layout.kinds):
        found.append("evicts in its layers of attention alone")
    if any(layout.states[i] for i, kind in enumerate(layout.kinds) if "Full" in kind.__name__):
        found.append("attention beside a state")
    if "kv_lora_rank" in model.config.get_text_config(decoder=True).to_dict():
        found.append("latent attention: what is stored is expanded")
    return tuple(found)


def _visible_after(model: Any, tokens: Tensor, options: Any) -> list[Tensor]:
    """For each layer of attention (kv_head, query, key) bool: what each query may see."""
    length = tokens.shape[1]
    found: list[Tensor] = []
    for update in range(INTERVAL, length + INTERVAL, INTERVAL):
        start, stop = update - INTERVAL, min(length, update)
        with attach(model, Coin(), **options) as memory:
            _call(model, tokens[:, :update])
            if update <= length:
                kept = [memory.kept(layer) for layer in range(memory.layers)]
        if not found:
            sizes = [(len(heads), length, length) for heads in kept]
            found = [torch.zeros(size, dtype=torch.bool) for size in sizes]
            before: list[list[Tensor]] = [[] for _ in kept]
        block = torch.arange(start, stop)
        for layer, visible in enumerate(found):
            visible[:, block[:, None], block] = block <= block[:, None]
            for head, positions in enumerate(before[layer]):
                visible[head, block[:, None], positions] = True
        before = kept
    return found


@contextmanager
def _replay(model: Any, visible: list[Tensor]) -> Iterator[None]:
    """Let the layers call their family's own eager attention under the masks `visible`."""
    calls = iter(visible)

    def attention(
        module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **named: Any
    ) -> Any:
        own = next(calls)
        allowed = own.repeat_interleave(query.shape[1] // own.shape[0], 0)[None]
        least = torch.finfo(query.dtype).min
        hidden = torch.zeros(allowed.shape).masked_fill(~allowed, least)
        if attention_mask is not None:
            hidden = hidden.masked_fill(attention_mask < least / 2, least)
        eager = vars(sys.modules[type(module).__module__])["eager_attention_forward"]
        return eager(module, query, key, value, hidden, **named)

    config = model.config.get_text_config(decoder=True)
    with swapped_attention(config, _NAME, attention, eager_mask):
        yield


def table(verdicts: Sequence[Verdict]) -> str:
    """Return the document of what is served."""
    counts = {kind: sum(v.kind == kind for v in verdicts) for kind in (*KINDS, "wrong")}
    lines = [HEAD.format(version=transformers.__version__, **counts)]
    for kind, title in KINDS.items():
        lines += [f"## {title}", "", f"| family | {COLUMNS[kind]} |", "| --- | --- |"]
        chosen = sorted((v for v in verdicts if v.kind == kind), key=lambda v: v.family)
        for verdict in chosen:
            said = ", ".join(verdict.rules) if kind == "served" else verdict.why
            if kind == "refused" and verdict.family in PACKAGES:
                said += (
                    f" Tried as its text decoder: the whole model needs {PACKAGES[verdict.family]}."
                )
            lines.append(f"| `{verdict.family}` | {said.replace('|', '/')} |")
        lines.append("")
    return "\n".join(lines)
