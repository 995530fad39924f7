"""Records for tests of tracking and reports: invented, but true to the schema and to arithmetic."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from namm_mm.records import Inputs, Media, MemoryUse, Provenance, Record, Sample
from namm_mm.runs.history import History, save
from namm_mm.runs.pictures import save_frames

PROVENANCE = Provenance(
    run="20261121-120000-abc123",
    config_hash="abc123def456",
    commit="0123456789abcdef0123456789abcdef01234567",
    versions={"python": "3.11.7", "torch": "2.13.0", "transformers": "5.23.0"},
    device="cpu (a test)",
    started="2026-11-21T12:00:00+00:00",
)

CELLS = {
    "long_text": ("text", "smollm2-135m", "accuracy", ("passkey", "key_value"), {"text": 1}),
    "video_qa": ("llava_video", "pocket-video", "accuracy", ("colour", "order"), {"frame": 8}),
    "offline_rl": (
        "decision_transformer",
        "pocket-hopper",
        "normalized_score",
        ("hopper",),
        {"return": 20, "state": 20, "action": 20},
    ),
}
METHODS = {
    "full": ("full", 1.0, 0.85),
    "namm": ("threshold", 0.35, 0.8),
    "h2o": ("match:namm", 0.35, 0.6),
    "recency": ("match:namm", 0.35, 0.4),
    "l2": ("tokens:64", 0.25, 0.3),
}
LAYERS = 4


def make_record(**changes: Any) -> Record:
    """One record of a right answer of the full cache, with `changes`."""
    record = Record(
        experiment="pocket",
        adapter="text",
        model="smollm2-135m",
        task="long_text",
        dataset="f00dcafe",
        policy="full",
        budget="full",
        storage="shared",
        protocol="streaming",
        interval=128,
        sample="s000",
        family="passkey",
        seed=0,
        value=1.0,
        metric="accuracy",
        answer="48213",
        memory=MemoryUse(256, 2, (256.0,) * LAYERS, 256.0, 256.0, 65536, 65536),
        kept_by_kind={"text": 1.0},
        kept_by_index={},
        seconds=0.5,
        first_token_seconds=0.2,
        token_seconds=0.01,
        error="",
        provenance=PROVENANCE,
        details={},
    )
    return dataclasses.replace(record, **changes)


def make_records(samples: int = 20, *, run: str = PROVENANCE.run, seed: int = 0) -> list[Record]:
    """A whole run: three cells, five methods, `samples` each; one sample of H2O fails on video."""
    generator = random.Random(seed)
    provenance = dataclasses.replace(PROVENANCE, run=run)
    records = []
    for task, (adapter, model, metric, families, kinds) in CELLS.items():
        hardness = [generator.random() for _ in range(samples)]
        for policy, (budget, kept, skill) in METHODS.items():
            for i in range(samples):
                seen = 256 + generator.randrange(64)
                layers = tuple(
                    seen if policy == "full" else round(seen * kept * (0.6 + 0.25 * layer), 2)
                    for layer in range(LAYERS)
                )
                final = sum(layers) / LAYERS
                value = float(hardness[i] < skill)
                if metric == "normalized_score":
                    value = 100 * skill - 30 * hardness[i]
                broken = task == "video_qa" and policy == "h2o" and i == 3
                records.append(
                    make_record(
                        adapter=adapter,
                        model=model,
                        task=task,
                        metric=metric,
                        policy=policy,
                        budget=budget,
                        sample=f"s{i:03d}",
                        family=families[i % len(families)],
                        seed=i,
                        value=None if broken else value,
                        error="the file clip_3.mp4 ends too early" if broken else "",
                        memory=None
                        if broken
                        else MemoryUse(
                            seen,
                            2,
                            layers,
                            min(seen, final + 64),
                            final,
                            round(256 * min(seen, final + 64)),
                            round(256 * final),
                        ),
                        kept_by_kind={} if broken else dict.fromkeys(kinds, final / seen),
                        kept_by_index={}
                        if broken
                        else {
                            kind: [min(1.0, kept + 0.5 * index / count) for index in range(count)]
                            for kind, count in kinds.items()
                            if count > 1
                        },
                        provenance=provenance,
                    )
                )
    return records


def make_history(task: str, updates: int = 3, *, keep_all: bool = False) -> History:
    """An invented history: each update keeps every so many-th token, fewer from head to head."""
    kinds = {
        "long_text": ("text",),
        "video_qa": ("text", "frame"),
        "speech_qa": ("text", "sound 1", "sound 2"),
    }.get(task, ("return", "state", "action"))
    tokens, layers, heads = 60, 3, 2
    kind, index = np.zeros(tokens, np.uint8), np.zeros(tokens, np.int32)
    if task == "video_qa":  # eight frames of four patches each, then text
        kind[:32], index[:32] = 1, np.arange(32) // 4
    elif task == "speech_qa":  # two seconds of ten tokens, then one and a half, then text
        kind[:35], index[:35] = (
            np.repeat((1, 2), (20, 15)),
            np.repeat((0, 1, 0, 1), (10, 10, 10, 5)),
        )
    elif task == "offline_rl":
        kind, index = (
            (np.arange(tokens) % 3).astype(np.uint8),
            (np.arange(tokens) // 3).astype("i4"),
        )
    seen = tuple(tokens * (update + 1) // updates for update in range(updates))
    forgotten = np.full((layers, heads, tokens), updates, np.uint16)
    for update in reversed(range(0 if keep_all else updates)):
        for layer in range(layers):
            for head in range(heads):
                gone = np.arange(seen[update]) % (update + head + layer + 2) > 0
                forgotten[layer, head, : seen[update]][gone] = update
    control = task == "offline_rl"
    return History(
        forgotten=forgotten,
        seen=() if keep_all else seen,
        layers=tuple(range(layers)),
        kinds=kinds,
        kind=kind,
        index=index,
        pieces=tuple(f" w{token}" for token in range(tokens)) if task == "long_text" else (),
        scores=np.linspace(-1, 1, 64, dtype=np.float32)[None].repeat(layers, 0),
        rewards=tuple(float(step) for step in range(20)) if control else (),
        actions=np.zeros((20, 3), np.float32) if control else np.zeros((0, 0), np.float32),
    )


def with_histories(records: list[Record], folder: Path, samples: tuple[str, ...]) -> list[Record]:
    """The same records; of those `samples`, histories and pictures lie in the run folder."""
    found = []
    frames = torch.linspace(-1, 1, 8).reshape(1, 8, 1, 1, 1).expand(1, 8, 3, 24, 24)
    for record in records:
        if record.sample in samples and not record.error:
            history = make_history(record.task, keep_all=record.policy == "full")
            name = f"{record.task}-{record.sample}-{record.policy}"
            media = Media(history=save(history, folder, name))
            if record.task == "video_qa":
                inputs = Inputs({"pixel_values_videos": frames}, (), Sample(record.sample, ""))
                frames_file = save_frames(folder, "video", inputs)
                media = dataclasses.replace(media, frames=frames_file)
            record = dataclasses.replace(record, media=media)
        found.append(record)
    return found
