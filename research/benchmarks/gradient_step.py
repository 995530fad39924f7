"""Whether a small step along the gradient of a refinement gives better answers.

    python research/benchmarks/gradient_step.py --fraction 0.12

Takes the gradients of some training prompts under the head sizes of a probe, clipped as in a
refinement, and runs the same prompts and as many others after steps of several lengths along their
mean and against it. Prints the mean cosine of the gradients of two prompts, and the changes in nats
per token of the answer, by which a refinement is judged (:mod:`research.gradients.refinement`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from namm_mm.namm import Namm
from namm_mm.records import Sample
from namm_mm.registry.reader import Choice
from namm_mm.tasks.long_text.task import LongTextTask
from research.benchmarks.common import markdown, options
from research.builders.text.refine import FAMILIES
from research.gradients.answer_gradients import Evaluation, Evaluators, Rule, make_evaluators
from research.gradients.refinement_settings import RefinementSettings

LENGTHS = (0.03, 0.1, 0.3)


def main() -> None:
    """Print the table."""
    args = options(
        __doc__,
        model="smollm2-135m-instruct",
        start="general",
        fraction=0.12,
        prompts=12,
        words=150,
        interval=64,
    ).parse_args()
    torch.set_num_threads(1)
    namm = Namm.from_pretrained(args.start)
    choice = Choice("text", {"model": args.model, "dtype": "float32", "device": "cpu"})
    run = make_evaluators([choice], namm, "full", 0.0)
    samples = LongTextTask(families=FAMILIES, words=args.words).samples(
        "train", 2 * args.prompts, 5
    )
    same, other = samples[: args.prompts], samples[args.prompts :]
    rule = Rule(fraction=args.fraction, probed=True, temperature=RefinementSettings().temperature)
    gradients = [_gradient(run, one, namm.parameters, rule, args.interval) for one in same]
    print(f"mean cosine of two prompts: {mean_cosine(gradients):.3f}\n")
    along = direction(gradients)
    before = [_value(run, part, namm.parameters, rule, args.interval) for part in (same, other)]
    rows = []
    for length in LENGTHS:
        row = [f"{length:g}"]
        for part, start in zip((same, other), before, strict=True):
            for sign in (-1.0, 1.0):  # the gradient is that of minus the value
                vector = namm.parameters + sign * length * along
                row.append(f"{_value(run, part, vector, rule, args.interval) - start:+.3f}")
        rows.append(row)
    heads = [f"{part}, {way}" for part in ("same", "other") for way in ("along", "against")]
    print(markdown(["length of the step", *heads], rows))


def _gradient(run: Evaluators, sample: Sample, vector: Tensor, rule: Rule, interval: int) -> Tensor:
    asked = Evaluation.make(sample, vector, rule, interval=interval, gradient=True)
    return torch.tensor(run(asked)["gradient"])


def _value(
    run: Evaluators, samples: Sequence[Sample], vector: Tensor, rule: Rule, interval: int
) -> float:
    asked = [Evaluation.make(sample, vector, rule, interval=interval) for sample in samples]
    return sum(float(run(one)["value"]) for one in asked) / len(asked)


def mean_cosine(gradients: Sequence[Tensor]) -> float:
    """Return the mean cosine between the gradients of two different prompts."""
    unit = torch.nn.functional.normalize(torch.stack(list(gradients)), dim=1)
    count = len(unit)
    return float(((unit @ unit.T).sum() - unit.square().sum()) / (count * (count - 1)))


def direction(gradients: Sequence[Tensor]) -> Tensor:
    """Return the unit vector of the mean of the clipped gradients."""
    clip = RefinementSettings().gradient_clip
    clipped = [one * min(1.0, clip / max(1e-9, float(one.norm()))) for one in gradients]
    return torch.nn.functional.normalize(torch.stack(clipped).mean(0), dim=0)


if __name__ == "__main__":
    main()
