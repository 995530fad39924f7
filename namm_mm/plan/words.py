"""A plan as text for a person, and as plain values for a program."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from namm_mm.plan.plans import CellPlan, Plan
from namm_mm.results.words import duration, size
from namm_mm.tasks.base import Download


def as_mapping(plan: Plan) -> dict[str, Any]:
    """Return plain values, sizes in bytes and times in seconds."""
    plain = asdict(plan)
    for cell, found in zip(plain["cells"], plan.cells, strict=True):
        cell["peak"] = found.peak
        for need, of_policy in zip(cell["needs"], found.needs, strict=True):
            need["total"] = of_policy.total
    plain["downloads"] = [asdict(download) for download in plan.downloads]
    plain["fits"] = plan.fits
    return plain


def lines(plan: Plan) -> Iterator[str]:
    """Yield the plan line by line."""
    yield f"plan of {plan.experiment}, configuration {plan.config_hash[:12]}"
    yield f"on {plan.device.title}; nothing is fetched and nothing runs"
    for cell in plan.cells:
        yield ""
        yield from _cell(cell)
    yield ""
    yield "downloads"
    for download in plan.downloads:
        yield from _download(download)
    if not plan.downloads:
        yield "  none"
    absent = [d for d in plan.downloads if not d.cached]
    if absent:
        known = sum(d.bytes or 0 for d in absent)
        unknown = sum(d.bytes is None for d in absent)
        more = f", and {unknown} of unknown size" if unknown else ""
        yield f"  to fetch: {size(known)}{more}"
    seconds = [cell.seconds for cell in plan.cells]
    if seconds and all(s is not None for s in seconds):
        total = sum(s or 0 for s in seconds) / plan.workers
        shared = f" with {plan.workers} workers" if plan.workers > 1 else ""
        yield f"time: about {duration(total)}{shared}, by rooflines: expect 1 to 3 x"
    yield f"verdict: {_verdict(plan)}"


def _cell(cell: CellPlan) -> Iterator[str]:
    yield f"{cell.name}: {cell.task} with {cell.adapter} ({cell.model}, {cell.dtype})"
    samples = "all samples of the data" if cell.samples is None else f"{cell.samples:,} samples"
    runs = len(cell.needs) or "?"
    yield f"  runs     {samples} x {runs} policies x {cell.seeds} seeds"
    together = f", {cell.sequences} side by side" if cell.sequences > 1 else ""
    yield f"  context  {cell.context:,} tokens: {cell.context_from}{together}"
    if cell.weights is None or cell.kv_per_token is None:
        yield "  memory   unknown: the model is in no table and its config.json not on this machine"
        yield f"           get it: hf download {cell.model} config.json"
        return
    yield f"  weights  {size(cell.weights)}"
    yield f"  KV       {size(cell.kv_per_token)} a token"
    for need in cell.needs:
        most = "at most " if need.at_most else ""
        label = need.policy if need.budget == "full" else f"{need.policy} {need.budget}"
        yield (
            f"    {label:<26} {most}{need.tokens:,} tokens: cache {size(need.cache)}, "
            f"policy {size(need.state)}, activations {size(need.working)}"
        )
    yield f"  peak     {size(cell.peak or 0)}" + ("" if cell.fits else ": does not fit")
    for sentence in cell.would_fit:
        yield f"           would fit: {sentence}"
    if cell.seconds is not None:
        yield f"  time     about {duration(cell.seconds)}"


def _download(download: Download) -> Iterator[str]:
    amount = "size unknown" if download.bytes is None else size(download.bytes)
    state = "here" if download.cached else "absent"
    yield f"  {download.what} ({download.files}): {amount}, {state}"
    if download.cached:
        return
    if download.command:
        yield f"      {download.command}"
    if download.where:
        yield f"      goes to {download.where}"
    if download.note:
        yield f"      {download.note}"


def _verdict(plan: Plan) -> str:
    bad = [cell.name for cell in plan.cells if cell.fits is False]
    unknown = [cell.name for cell in plan.cells if cell.fits is None]
    if bad:
        return f"{', '.join(bad)} does not fit on {plan.device.title}"
    if unknown:
        return f"cannot be said for {', '.join(unknown)}"
    return "fits"
