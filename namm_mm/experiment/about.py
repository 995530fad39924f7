"""What a run says of itself: its tags and notes, its configuration, the networks that it used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from namm_mm.experiment.checkpoints import checkpoints
from namm_mm.experiment.notes import policy_notes, threshold_notes
from namm_mm.experiment.settings import ExperimentSettings, PolicySettings
from namm_mm.models import cards
from namm_mm.namm import Namm
from namm_mm.namm.checkpoint import save
from namm_mm.policies import create
from namm_mm.policies.namm import NammPolicy
from namm_mm.policies.over import Over
from namm_mm.records import Provenance
from namm_mm.runs.tracker import RunInfo, Tracker


def run_info(
    settings: ExperimentSettings, provenance: Provenance, job_type: str, group: str = ""
) -> RunInfo:
    """Return who the run is; `group` is that of a sweep, the experiment otherwise."""
    tags = dict.fromkeys(
        tag
        for cell in settings.cells
        for tag in (
            f"adapter:{cell.adapter.name}",
            f"task:{cell.task.name}",
            *(f"policy:{policy.name}" for policy in cell.policies),
        )
    )
    return RunInfo(
        experiment=settings.name,
        job_type=job_type,
        config=settings.as_mapping(),
        provenance=provenance,
        tags=(*tags, "zero-shot") if job_type == "transfer" else tuple(tags),
        notes=tuple(dict.fromkeys(_notes(settings))),
        group=group,
    )


def _networks(settings: ExperimentSettings) -> Iterator[tuple[PolicySettings, Namm]]:
    for cell in settings.cells:
        for chosen in cell.policies:
            policy = create(chosen.name, **chosen.options)
            while isinstance(policy, Over):
                policy = policy.below
            if isinstance(policy, NammPolicy):
                yield chosen, policy.network


def _notes(settings: ExperimentSettings) -> Iterator[str]:
    """What the cards of the NAMMs and of the bundled models say about where they come from."""
    for _, network in _networks(settings):
        if about := network.card.get("about"):
            yield f"namm: {about}"
    yield from threshold_notes(settings)
    yield from policy_notes(settings)
    bundled = set(cards.bundled())
    for cell in settings.cells:
        model = cell.adapter.options.get("model")
        if model in bundled:
            kind = cards.read_card(cards.BUNDLED / str(model)).get("kind", "bundled model")
            yield f"{model}: {kind}; its scores are not those of any published model"


def keep_networks(settings: ExperimentSettings, folder: Path, tracker: Tracker) -> None:
    """Keep every NAMM of the run with its card, so that its numbers can be made again."""
    known: set[str] = set()
    for policy, network in _networks(settings):
        source = ", ".join(checkpoints(policy.name, policy.options))
        if source in known:
            continue
        name = f"namm-{len(known)}" if known else "namm"
        known.add(source)
        file = save(network, folder / "artifacts" / name / "namm.safetensors")
        files = [file, file.with_suffix(".json")]
        tracker.artifact(name, files, "model", dict(network.card))
