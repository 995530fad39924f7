"""Put a plan together: what runs, what it downloads, what it needs, and what would fit."""

from __future__ import annotations

from namm_mm.errors import NammError
from namm_mm.execution.settings import SERIAL
from namm_mm.experiment.settings import CellSettings, ExperimentSettings
from namm_mm.models.known import ModelFacts
from namm_mm.plan import memory, times
from namm_mm.plan.configuration import facts_of
from namm_mm.plan.devices import Device, local_device
from namm_mm.plan.downloads import model_downloads
from namm_mm.plan.fitting import advice
from namm_mm.plan.plans import CellPlan, Plan
from namm_mm.plan.workload import Workload, workload
from namm_mm.registry.registry import build
from namm_mm.tasks import TASKS
from namm_mm.tasks.base import is_acting


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
    seeds = len(settings.seeds)
    cells = tuple(_cell(cell, device, seeds) for cell in settings.cells)
    workers = 1 if settings.execution.name == SERIAL else settings.execution.worker_count
    return Plan(settings.name, settings.config_hash, device, cells, workers)


def _cell(cell: CellSettings, device: Device, seeds: int) -> CellPlan:
    task = build(TASKS, cell.task.name, cell.task.options)
    model = str(cell.adapter.options.get("model", ""))
    facts = _facts(model)
    outlook = task.outlook(cell.split, cell.limit)
    load = workload(cell, outlook, facts, device, acting=is_acting(task))
    needs: tuple[memory.CacheNeed, ...] = ()
    weights = seconds = kv_per_token = fits = None
    would_fit: tuple[str, ...] = ()
    if facts is not None:
        weights = facts.weights(load.number_bytes, load.quantization)
        kv_per_token = facts.kv_per_token(load.number_bytes)
        needs = _needs(cell, facts, load)
        seconds = times.cell_seconds(cell, facts, device, load, needs, weights)
        largest = max(needs, key=lambda need: need.total)
        room = device.all_memory if cell.adapter.options.get("device_map") else device.memory
        fits = weights + memory.RUNTIME + largest.total <= room * memory.HEADROOM
        if not fits:
            would_fit = tuple(advice(facts, device, largest, load.context, load.number_bytes))
    return CellPlan(
        name=cell.name,
        adapter=cell.adapter.name,
        model=model,
        task=cell.task.name,
        dtype=load.precision,
        context=load.context,
        context_from=load.context_from,
        sequences=load.sequences,
        samples=load.samples,
        seeds=seeds,
        downloads=(*model_downloads(model, facts), *outlook.downloads),
        weights=weights,
        kv_per_token=kv_per_token,
        needs=needs,
        seconds=None if seconds is None else seconds * seeds,
        fits=fits,
        would_fit=would_fit,
    )


def _facts(model: str) -> ModelFacts | None:
    """Facts of a model; None where nothing is known of it, or its configuration is unreadable."""
    try:
        return facts_of(model)
    except NammError:
        return None


def _needs(cell: CellSettings, facts: ModelFacts, load: Workload) -> tuple[memory.CacheNeed, ...]:
    return tuple(
        memory.need(
            policy,
            facts,
            others=cell.policies,
            context=load.context,
            prompt=load.prompt,
            interval=cell.interval,
            number_bytes=load.number_bytes,
            sequences=load.sequences,
        )
        for policy in cell.policies
    )
