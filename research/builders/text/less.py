"""``namm-mm build less``: train the kernels of LESS for a language model, layer by layer.

First each layer is trained alone, from queries, keys and values of the frozen model, as published.
Then all layers are trained together, so that the model's next-token distribution comes close to
that of the full cache. A trained layer, and each pass over all layers, is kept beside the output: a
build that was interrupted goes on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from namm_mm.adapters.text.adapter import TextAdapter
from namm_mm.commands.build import Builder
from namm_mm.errors import UsageError, message
from namm_mm.policies import Policy, create
from namm_mm.policies.projections import output_projections
from namm_mm.residuals.less import KERNELS, LessKernels
from research.builders.text.smollm2 import NAME, file_for
from research.residuals import joint, recording, training

HELD_OUT = 8  # sequences of the test split that judge a layer

Parts = tuple[Mapping[str, Tensor], ...]


@dataclass(frozen=True)
class LessTraining:
    """What kernels are trained with.

    Attributes
    ----------
    model, policy, budget
        The model, and the policy whose evicted tokens the state is for.
    sequences, tokens, interval
        Training sequences, their length, and tokens between two evictions.
    hidden, features
        Width of the small networks, and features of a query or a key.
    epochs, joint_epochs, seed
        Passes over the sequences for a layer alone and for all layers together, and the seed of the
        start and the order.
    """

    model: str = NAME
    policy: str = "h2o"
    budget: float = 0.1
    sequences: int = 24
    tokens: int = 512
    interval: int = 128
    hidden: int = 64
    features: int = 8
    epochs: int = 40
    joint_epochs: int = 3
    seed: int = 0


@dataclass(frozen=True)
class BuildLess(Builder):
    """Trains kernels of LESS.

    Attributes
    ----------
    model
        A language model: an asset, a folder or a hub id.
    policy, budget
        The policy that evicts while the kernels are trained, and its part of the tokens.
    out
        The ``.safetensors`` file; None replaces the bundled one, that of SmolLM2.
    sequences, epochs, joint_epochs, seed
        Training sequences of 512 tokens, passes over them for each layer alone and for all layers
        together, and the seed.
    """

    model: str = NAME
    policy: str = "h2o"
    budget: float = 0.1
    out: Path | None = None
    sequences: int = 24
    epochs: int = 40
    joint_epochs: int = 3
    seed: int = 0

    def build(self, say: Callable[[str], None] = print) -> Path:
        """Return the file; `say` is told one line for each layer."""
        file = file_for(self.model, self.out, KERNELS)
        settings = LessTraining(
            self.model,
            self.policy,
            self.budget,
            self.sequences,
            epochs=self.epochs,
            joint_epochs=self.joint_epochs,
            seed=self.seed,
        )
        adapter = TextAdapter(model=self.model)
        adapter.load()
        given = [
            *recording.cut_prose(adapter.tokenizer, "train", self.sequences, settings.tokens),
            *recording.cut_prose(adapter.tokenizer, "test", HELD_OUT, settings.tokens),
        ]
        return train_model(adapter.backbone, given, settings, file, say)


def train_model(
    model: Any,
    given: list[Tensor],
    settings: LessTraining,
    file: Path,
    say: Callable[[str], None],
) -> Path:
    """Train all layers of `model`; the last `HELD_OUT` sequences judge. Write `file`."""
    state = file.with_suffix(".layers")
    _begin(state, settings)
    layers = int(model.config.num_hidden_layers)
    waiting = [n for n in range(layers) if not (state / f"{n:02}.safetensors").is_file()]
    if waiting:
        say(f"recording {len(given)} sequences")
        recorded = recording.record(model, given)
        policy = create(settings.policy, budget=settings.budget)
        projections = output_projections(model)
        for number in waiting:
            start = time.monotonic()
            projection = projections[number].flatten(0, 1).T.float()
            part, row = _layer(recorded[number], policy, settings, number, layers, projection)
            row["seconds"] = round(time.monotonic() - start, 1)
            save_file(part, state / f"{number:02}.part", metadata={"row": json.dumps(row)})
            (state / f"{number:02}.json").write_text(json.dumps(row), encoding="utf-8")
            (state / f"{number:02}.part").rename(state / f"{number:02}.safetensors")
            say(f"layer {number}: {json.dumps(row)}")
    alone = tuple(load_file(state / f"{n:02}.safetensors") for n in range(layers))
    rows = [json.loads((state / f"{n:02}.json").read_text(encoding="utf-8")) for n in range(layers)]
    parts, nats = together(model, given, alone, settings, state, say)
    made_by = f"namm-mm build less model={settings.model} policy={settings.policy}"
    card = {**asdict(settings), "made_by": made_by, "licence": "Apache-2.0", "layers": rows}
    return LessKernels(parts, {**card, "nats_from_full": nats}).save(file)


def _begin(state: Path, settings: LessTraining) -> None:
    """Make the folder of what is done already; refuse one that was begun with other settings."""
    state.mkdir(parents=True, exist_ok=True)
    wanted, file = json.dumps(asdict(settings)), state / "settings.json"
    begun = file.read_text(encoding="utf-8") if file.is_file() else wanted
    if begun != wanted:
        raise UsageError(
            message(
                f"the build in {state} was begun with other settings",
                given=wanted,
                expected=begun,
                then="Remove the folder to begin anew.",
            )
        )
    file.write_text(wanted, encoding="utf-8")


def together(
    model: Any,
    given: list[Tensor],
    parts: Parts,
    settings: LessTraining,
    state: Path,
    say: Callable[[str], None],
) -> tuple[Parts, dict[str, float]]:
    """Train all layers together; return kernels, and how far each stage is from the full cache."""
    if not settings.joint_epochs:
        return parts, {}
    model = model.float().requires_grad_(False)
    policy = create(settings.policy, budget=settings.budget)
    lessons = list(joint.make_lessons(model, given, policy, settings.interval))
    taught, judged = lessons[:-HELD_OUT], lessons[-HELD_OUT:]
    nats = {
        "without": joint.distance(model, joint.silent(parts), judged, settings.interval),
        "each_layer_alone": joint.distance(model, parts, judged, settings.interval),
    }
    say(f"held-out sequences, nats from the full cache: {json.dumps(nats)}")
    course = joint.Course(state / "joint", settings.joint_epochs, settings.interval, settings.seed)
    parts = joint.train(model, parts, taught, course, say)
    nats["together"] = joint.distance(model, parts, judged, settings.interval)
    say(f"held-out sequences, nats from the full cache: {json.dumps(nats)}")
    return parts, {name: round(value, 4) for name, value in nats.items()}


def _layer(
    recorded: list[recording.Attended],
    policy: Policy,
    settings: LessTraining,
    number: int,
    layers: int,
    projection: Tensor,
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Train one layer; return its tensors and its errors on the sequences that were held out."""
    interval = settings.interval

    def examples(which: list[recording.Attended], evicting: Policy) -> list[training.Example]:
        return [
            training.make_example(
                one,
                recording.visible(one, evicting, interval, number, layers),
                interval,
                projection,
            )
            for one in which
        ]

    trained_on, held_out = recorded[:-HELD_OUT], recorded[-HELD_OUT:]
    first = recorded[0]
    torch.manual_seed(settings.seed + number)
    part = training.new_part(
        first.queries.shape[0], first.keys.shape[0], first.keys.shape[2],
        settings.hidden, settings.features,
    )  # fmt: skip
    part = training.train(part, examples(trained_on, policy), interval, projection, settings.epochs)
    judged = examples(held_out, policy)
    dim, size = first.keys.shape[2], settings.features
    extra = size * (dim + 1) * 4 / (2 * dim * 2 + 4)  # tokens in bfloat16 that the state costs
    larger = create(settings.policy, budget=min(1.0, settings.budget + extra / settings.tokens))
    with torch.no_grad():
        errors = {
            "sparse": [_error(e.sparse, e, interval, projection) for e in judged],
            "less": [
                _error(training.joined(part, e, interval), e, interval, projection) for e in judged
            ],
            "equal_bytes": [
                _error(e.sparse, e, interval, projection) for e in examples(held_out, larger)
            ],
        }
    means = {name: sum(found) / len(found) for name, found in errors.items()}
    return part, {
        "recovered": round(1 - means["less"] / means["sparse"], 4),
        "recovered_by_equal_bytes": round(1 - means["equal_bytes"] / means["sparse"], 4),
    }


def _error(out: Tensor, example: training.Example, interval: int, projection: Tensor) -> float:
    return float(training.error(out, example, interval, projection))
