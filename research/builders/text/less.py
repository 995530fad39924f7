"""``namm-mm build less``: train the kernels of LESS for a model of any kind, layer by layer.

First each layer is trained alone, from queries, keys and values of the frozen model, as published.
Then all layers are trained together, so that what the model says comes close to what it says with
the full cache. A trained layer, and each pass over all layers, is kept beside the output: a
build that was interrupted goes on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from namm_mm.commands.build import Builder
from namm_mm.errors import UsageError, message
from namm_mm.policies import Policy, create
from namm_mm.policies.projections import output_projections
from namm_mm.residuals.less import KERNELS, LessKernels
from research.builders.text.smollm2 import NAME, file_for
from research.residuals import joint, recording, training
from research.residuals.material import HELD_OUT, Material, material

Parts = tuple[Mapping[str, Tensor], ...]


@dataclass(frozen=True)
class LessTraining:
    """What kernels are trained with.

    Attributes
    ----------
    model, policy, budget
        The model, and the policy whose evicted tokens the state is for.
    sequences
        Training sequences.
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
        A language model, a video model or a Decision Transformer: an asset, a folder or a hub id.
    policy, budget
        The policy that evicts while the kernels are trained, and its part of the tokens.
    out
        The ``.safetensors`` file; None is the bundled one of SmolLM2 or of a pocket model.
    sequences, epochs, joint_epochs, seed
        Training sequences (512 tokens of prose, a question about a video, an episode), passes over
        them for each layer alone and for all layers together, and the seed.
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
        return train_model(material(self.model, self.sequences), settings, file, say)


def train_model(
    given: Material, settings: LessTraining, file: Path, say: Callable[[str], None]
) -> Path:
    """Train all layers of the model; the last `HELD_OUT` sequences judge. Write `file`."""
    model = given.model
    state = file.with_suffix(".layers")
    _begin(state, settings)
    layers = int(model.config.get_text_config(decoder=True).num_hidden_layers)
    waiting = [n for n in range(layers) if not (state / f"{n:02}.safetensors").is_file()]
    if waiting:
        say(f"recording {len(given.calls)} sequences")
        recorded = recording.record(model, given.calls)
        size = next(model.parameters()).element_size()
        policy = create(settings.policy, budget=settings.budget)
        projections = output_projections(model)
        for number in waiting:
            start = time.monotonic()
            projection = projections[number].flatten(0, 1).T.float()
            one = Layer(recorded[number], number, layers, given.interval, size, projection)
            part, row = train_layer(one, policy, settings)
            row["seconds"] = round(time.monotonic() - start, 1)
            save_file(part, state / f"{number:02}.part", metadata={"row": json.dumps(row)})
            (state / f"{number:02}.json").write_text(json.dumps(row), encoding="utf-8")
            (state / f"{number:02}.part").rename(state / f"{number:02}.safetensors")
            say(f"layer {number}: {json.dumps(row)}")
    alone = tuple(load_file(state / f"{n:02}.safetensors") for n in range(layers))
    rows = [json.loads((state / f"{n:02}.json").read_text(encoding="utf-8")) for n in range(layers)]
    parts, distances = together(given, alone, settings, state, say)
    made_by = f"namm-mm build less model={settings.model} policy={settings.policy}"
    card = {**asdict(settings), "made_by": made_by, "licence": "Apache-2.0", "layers": rows}
    card |= {"interval": given.interval, f"{given.unit}_from_full".replace(" ", "_"): distances}
    return LessKernels(parts, card).save(file)


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
    given: Material,
    parts: Parts,
    settings: LessTraining,
    state: Path,
    say: Callable[[str], None],
) -> tuple[Parts, dict[str, float]]:
    """Train all layers together; return kernels, and how far each stage is from the full cache."""
    if not settings.joint_epochs:
        return parts, {}
    model = given.model.float().requires_grad_(False)
    policy, interval = create(settings.policy, budget=settings.budget), given.interval
    lessons = list(joint.make_lessons(given, policy))
    taught, judged = lessons[:-HELD_OUT], lessons[-HELD_OUT:]
    distances = {
        "without": joint.distance(model, joint.silent(parts), judged, interval),
        "each_layer_alone": joint.distance(model, parts, judged, interval),
    }
    say(f"held-out sequences, {given.unit} from the full cache: {json.dumps(distances)}")
    course = joint.Course(state / "joint", settings.joint_epochs, interval, settings.seed)
    parts = joint.train(model, parts, taught, course, say)
    distances["together"] = joint.distance(model, parts, judged, interval)
    say(f"held-out sequences, {given.unit} from the full cache: {json.dumps(distances)}")
    return parts, {name: float(f"{value:.4g}") for name, value in distances.items()}


@dataclass(frozen=True)
class Layer:
    """One layer of a model over all sequences.

    Attributes
    ----------
    recorded
        Its queries, keys and values in each sequence.
    number, layers
        Its index, and the number of layers.
    interval, size
        Tokens between two evictions, and bytes of a number of the cache.
    projection
        (hidden, input): its output projection.
    """

    recorded: list[recording.Attended]
    number: int
    layers: int
    interval: int
    size: int
    projection: Tensor

    def examples(self, which: list[recording.Attended], evicting: Policy) -> list[training.Example]:
        """Return what a policy leaves of each sequence."""
        return [
            training.make_example(
                one,
                recording.visible(one, evicting, self.interval, self.number, self.layers),
                self.interval,
                self.projection,
            )
            for one in which
        ]

    def error(self, out: Tensor, example: training.Example) -> float:
        """Return the error of an output after its projection."""
        return float(training.error(out, example, self.interval, self.projection))


def train_layer(
    layer: Layer, policy: Policy, settings: LessTraining
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Train one layer; return its tensors and its errors on the sequences that were held out."""
    interval, projection, recorded = layer.interval, layer.projection, layer.recorded
    trained_on, held_out = recorded[:-HELD_OUT], recorded[-HELD_OUT:]
    first = recorded[0]
    torch.manual_seed(settings.seed + layer.number)
    part = training.new_part(
        first.queries.shape[0], first.keys.shape[0], first.keys.shape[2],
        settings.hidden, settings.features,
    )  # fmt: skip
    taught = layer.examples(trained_on, policy)
    part = training.train(part, taught, interval, projection, settings.epochs)
    judged = layer.examples(held_out, policy)
    dim = first.keys.shape[2]
    # Tokens that cost as much as the state.
    extra = settings.features * (dim + 1) * 4 / (2 * dim * layer.size + 4)
    tokens = sum(one.keys.shape[1] for one in held_out) / len(held_out)
    larger = create(settings.policy, budget=min(1.0, settings.budget + extra / tokens))
    with torch.no_grad():
        errors = {
            "sparse": [layer.error(e.sparse, e) for e in judged],
            "less": [layer.error(training.joined(part, e, interval), e) for e in judged],
            "equal_bytes": [layer.error(e.sparse, e) for e in layer.examples(held_out, larger)],
        }
    means = {name: sum(found) / len(found) for name, found in errors.items()}
    return part, {
        "recovered": round(1 - means["less"] / means["sparse"], 4),
        "recovered_by_equal_bytes": round(1 - means["equal_bytes"] / means["sparse"], 4),
    }
