"""Put a plan together: what runs, what it downloads, what it needs, and what would fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from namm_mm.errors import NammError
from namm_mm.execution.settings import SERIAL
from namm_mm.models.known import QUANTIZED_BITS, ModelFacts
from namm_mm.plan import memory, times
from namm_mm.plan.configuration import TOKENS_PER_STEP, facts_of, local_folder
from namm_mm.plan.devices import Device, local_device
from namm_mm.plan.fitting import advice
from namm_mm.registry.registry import build
from namm_mm.tasks import TASKS
from namm_mm.tasks.base import Download, Outlook, Task, is_acting

if TYPE_CHECKING:
    from namm_mm.experiment.settings import CellSettings, ExperimentSettings

QUESTION_TOKENS = 100  # beside the frames of a clip
DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
LOAD_BYTES_PER_SECOND = 1.5e9


@dataclass(frozen=True)
class CellPlan:
    """One cell.

    Attributes
    ----------
    context
        Tokens of the longest sequence that the cell can meet.
    context_from
        Where that number comes from, in words.
    sequences
        How many of them run together: one, or all episodes.
    samples
        Samples of each policy and seed; None where the data would have to be there to know.
    weights
        Bytes of the weights in memory; None, like `needs`, for an unknown model.
    seconds
        Of all policies and samples; None where it cannot be said.
    fits
        Whether weights and the largest need fit on the device; None where it cannot be said.
    would_fit
        What would, one sentence each, if they do not.
    """

    name: str
    adapter: str
    model: str
    task: str
    dtype: str
    context: int
    context_from: str
    sequences: int
    samples: int | None
    seeds: int
    downloads: tuple[Download, ...]
    weights: float | None
    kv_per_token: int | None
    needs: tuple[memory.CacheNeed, ...]
    seconds: float | None
    fits: bool | None
    would_fit: tuple[str, ...]

    @property
    def peak(self) -> float | None:
        """Bytes of weights, runtime and the policy that needs most."""
        if self.weights is None:
            return None
        return self.weights + memory.RUNTIME + max((n.total for n in self.needs), default=0.0)


@dataclass(frozen=True)
class Plan:
    """What an experiment would do.

    Attributes
    ----------
    config_hash
        As in the records that it would make.
    workers
        Processes that share the samples, each on a device of its own.
    """

    experiment: str
    config_hash: str
    device: Device
    cells: tuple[CellPlan, ...]
    workers: int = 1

    @property
    def downloads(self) -> tuple[Download, ...]:
        """Every download once."""
        return tuple({d.what + d.files: d for cell in self.cells for d in cell.downloads}.values())

    @property
    def fits(self) -> bool:
        """False if some cell certainly does not fit."""
        return all(cell.fits is not False for cell in self.cells)


def plan(settings: ExperimentSettings, device: Device | None = None) -> Plan:
    """Plan an experiment; nothing is fetched and no weights are read.

    Parameters
    ----------
    settings
        Checked settings.
    device
        Where it would run; None looks at this machine.
    """
    device = device or local_device()
    cells = tuple(_cell(cell, settings, device) for cell in settings.cells)
    workers = 1 if settings.execution.name == SERIAL else settings.execution.worker_count
    return Plan(settings.name, settings.config_hash, device, cells, workers)


def _cell(cell: CellSettings, settings: ExperimentSettings, device: Device) -> CellPlan:
    task = build(TASKS, cell.task.name, cell.task.options)
    options = cell.adapter.options
    model = str(options.get("model", ""))
    try:
        facts = facts_of(model)
    except NammError:
        facts = None
    outlook = task.outlook(cell.split, cell.limit)
    dtype = _dtype(str(options.get("dtype", "auto")), device)
    acting = is_acting(task)
    samples = outlook.samples
    sequences = (samples or 1) if acting else 1
    context, why = _context(cell, facts, outlook, acting=acting)
    number_bytes = DTYPE_BYTES[dtype]
    quantization = _quantization(options)
    needs: tuple[memory.CacheNeed, ...] = ()
    weights = seconds = fits = None
    would_fit: tuple[str, ...] = ()
    if facts is not None:
        weights = facts.weights(number_bytes, quantization)
        needs = tuple(
            memory.need(
                policy,
                facts,
                others=cell.policies,
                context=context,
                prompt=TOKENS_PER_STEP if acting else context,
                interval=cell.interval,
                number_bytes=number_bytes,
                sequences=sequences,
            )
            for policy in cell.policies
        )
        seconds = _seconds(cell, task, facts, outlook, device, needs, samples, weights, context)
        if seconds is not None:
            seconds *= len(settings.seeds)
        room = device.all_memory if options.get("device_map") else device.memory
        peak = weights + memory.RUNTIME + max(need.total for need in needs)
        fits = peak <= room * memory.HEADROOM
        if not fits:
            would_fit = tuple(
                advice(facts, device, max(needs, key=lambda n: n.total), context, number_bytes)
            )
    return CellPlan(
        name=cell.name,
        adapter=cell.adapter.name,
        model=model,
        task=cell.task.name,
        dtype=f"{quantization} and {dtype}" if quantization else dtype,
        context=context,
        context_from=why,
        sequences=sequences,
        samples=samples,
        seeds=len(settings.seeds),
        downloads=(*_model_downloads(model, facts), *outlook.downloads),
        weights=weights,
        kv_per_token=None if facts is None else facts.kv_per_token(number_bytes),
        needs=needs,
        seconds=seconds,
        fits=fits,
        would_fit=would_fit,
    )


def _quantization(options: Any) -> str | None:
    words = options.get("quantization")
    return words if words in QUANTIZED_BITS else None


def _dtype(name: str, device: Device) -> str:
    if name in DTYPE_BYTES:
        return name
    if device.is_gpu:
        return "bfloat16"
    from namm_mm.adapters.common import loading

    chosen = loading.choose_dtype("auto", loading.choose_device("cpu"))
    return str(chosen).removeprefix("torch.")


def _context(
    cell: CellSettings, facts: ModelFacts | None, outlook: Outlook, *, acting: bool
) -> tuple[int, str]:
    options = cell.adapter.options
    if acting:
        steps = outlook.steps
        return steps * TOKENS_PER_STEP, f"{steps} steps of return, state and action"
    frames = options.get("frames")
    if isinstance(frames, int) and facts is not None and facts.tokens_per_frame:
        clip = frames * facts.tokens_per_frame + facts.trailing
        extra = outlook.tokens or QUESTION_TOKENS
        return clip + extra, f"{frames} frames of {facts.tokens_per_frame} tokens, and a question"
    longest = options.get("max_length")
    model = facts.context * _stretch(options) if facts is not None and facts.context else None
    cut = int(longest) if isinstance(longest, int) else model
    if outlook.tokens is not None and (cut is None or outlook.tokens < cut):
        return outlook.tokens, "a long prompt of the task"
    if cut is not None:
        return int(cut), "the model's longest" if cut == model else "max_length"
    return 4096, "a guess: neither the model nor the task is known"


def _stretch(options: Any) -> float:
    """By how much the adapter extends the model's context."""
    kind, _, factor = str(options.get("rope") or "").partition(":")
    return float(factor) if kind in ("linear", "ntk") and factor else 1.0


def _seconds(
    cell: CellSettings,
    task: Task,
    facts: ModelFacts,
    outlook: Outlook,
    device: Device,
    needs: tuple[memory.CacheNeed, ...],
    samples: int | None,
    weights: float,
    context: int,
) -> float | None:
    from namm_mm.policies import create

    if samples is None:
        return None
    total = weights / LOAD_BYTES_PER_SECOND
    for settings, need in zip(cell.policies, needs, strict=True):
        if is_acting(task):
            body = outlook.environment
            steps = context // TOKENS_PER_STEP
            total += times.acting_seconds(facts, body, episodes=samples, steps=steps)
            continue
        options = cell.adapter.options
        new = outlook.new_tokens or int(options.get("max_new_tokens") or 32)
        one = times.answering_seconds(
            facts,
            device,
            context=context,
            held=need.tokens,
            new_tokens=new if options.get("answer_by") == "generate" else 1,
            needs=create(settings.name, **settings.options).needs,
            number_bytes=DTYPE_BYTES["bfloat16"],
            weights=weights,
        )
        total += one * samples
    return total


def _model_downloads(model: str, facts: ModelFacts | None) -> Iterator[Download]:
    """The weights, where they come from a hub."""
    from huggingface_hub import get_token
    from huggingface_hub.constants import HF_HUB_CACHE

    if "/" not in model or (Path(model).expanduser() / "config.json").is_file():
        return
    note = ""
    if facts is not None and facts.gated and get_token() is None:
        note = f"gated: accept the licence at https://huggingface.co/{model}, then `hf auth login`"
    yield Download(
        what=model,
        files="configuration, tokenizer or processor, and weights",
        bytes=None if facts is None else facts.published_bytes,
        cached=is_cached(model),
        where=str(Path(HF_HUB_CACHE) / f"models--{model.replace('/', '--')}"),
        command=f"hf download {model}",
        note=note,
    )


def is_cached(model: str) -> bool:
    """Whether all weights of a hub model are in the cache: every shard that its index names."""
    import json

    folder = local_folder(model)
    if folder is None:
        return False
    for index in folder.glob("*.index.json"):
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return all((folder / name).is_file() for name in names)
    return any((folder / name).is_file() for name in ("model.safetensors", "pytorch_model.bin"))
