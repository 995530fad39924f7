"""Whether a NAMM that remembers 34 bytes of a token decides as one that remembers 132.

    python research/benchmarks/compact_state.py

Each sample runs with both states, under the budget of its modality in ``experiment=pocket``. The
overlap of what they keep is the Jaccard index of the kept positions of each head, mean over heads
and layers; tokens since the last eviction, which are all kept, do not count. In control the compact
NAMM follows the other's episode for the overlap, and plays its own for the return.

Rounding in bfloat16 moves decisions, too: ``by interval`` is the overlap of the float32 state with
itself when the prompt is fed in pieces. ``16 at a time`` feeds both states 16 tokens at a time, so
that the compact one is rounded at every frame, as in decoding.

Results of each sample are appended to OUT.jsonl: a stopped run goes on. OUT.md is the table.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from namm_mm import attach
from namm_mm.adapters.base import AnsweringAdapter
from namm_mm.adapters.control.adapter import DecisionTransformerAdapter
from namm_mm.adapters.text.adapter import TextAdapter
from namm_mm.adapters.video.adapter import LlavaVideoAdapter
from namm_mm.memory import Memory
from namm_mm.policies.namm import NammPolicy
from namm_mm.records import Agent, Sample, TokenType
from namm_mm.tasks.base import AnsweringTask
from namm_mm.tasks.long_text.task import LongTextTask
from namm_mm.tasks.offline_rl import OfflineRlTask
from namm_mm.tasks.video_qa import VideoQaTask
from research.benchmarks.common import RESULTS, options, parse
from research.benchmarks.compact_state_results import Line, read, table

Kept = list[list[set[int]]]
"""Positions that each head of each layer keeps."""


@dataclass(frozen=True)
class Bench:
    """An answering modality, loaded, and how the NAMM runs there."""

    row: str
    adapter: AnsweringAdapter
    task: AnsweringTask
    budget: str
    interval: int

    def policies(self) -> tuple[NammPolicy, NammPolicy]:
        """Return the NAMM with the float32 state, and with the compact one."""
        exact = NammPolicy(budget=self.budget, state="float32")
        return exact, NammPolicy(budget=self.budget)


def main() -> None:
    """Run what is missing, and write the table."""
    parser = options(
        __doc__,
        rows=("text", "video", "control"),
        text=500,
        video=105,
        episodes=8,
        steps=300,
        pieces=25,
        dtype="auto",
        out=RESULTS / "compact_state",
    )
    args = parse(parser)
    path: Path = args.out.with_suffix(".jsonl")
    for row in args.rows:
        for line in RUNS[row](args, read(path)):
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(line)) + "\n")
    text = table(list(read(path).values()), (__doc__ or "").split("\n\n", 2)[2])
    print(text)
    args.out.with_suffix(".md").write_text(text, encoding="utf-8")


def text_lines(args: argparse.Namespace, done: dict[tuple[str, str], Line]) -> Iterator[Line]:
    """Yield the rows of text: SmolLM2 on long prompts."""
    adapter = TextAdapter(model="smollm2-135m-instruct", device="cpu", dtype=args.dtype)
    task = LongTextTask(words=300)
    adapter.load()
    bench = Bench(f"SmolLM2-135M, {number_type(adapter)}", adapter, task, "threshold", 128)
    samples = task.samples("test", args.text, 0)
    for sample in samples[: args.pieces]:
        exact, compact = bench.policies()
        for row, one, other, pieces in (
            (f"{bench.row}: float32, by interval", exact, exact, (None, bench.interval)),
            (f"{bench.row}: 16 at a time", exact, compact, (16, 16)),
        ):
            if (row, sample.id) not in done:
                ends = _read_through(bench, sample, (one, other), pieces)
                yield Line(row, sample.id, jaccard(*ends))
    yield from answered(bench, samples, done)


def video_lines(args: argparse.Namespace, done: dict[tuple[str, str], Line]) -> Iterator[Line]:
    """Yield the row of video: the pocket video model on generated videos."""
    adapter, task = LlavaVideoAdapter(), VideoQaTask()
    adapter.load()
    row = f"pocket_video, {number_type(adapter)}"
    bench = Bench(row, adapter, task, "pool:0.5", 64)
    yield from answered(bench, task.samples("test", args.video, 0), done)


def number_type(adapter: AnsweringAdapter) -> str:
    """Return the type of the model's numbers: ``bfloat16``."""
    return str(next(adapter.backbone.parameters()).dtype).removeprefix("torch.")


def answered(
    bench: Bench, samples: Sequence[Sample], done: dict[tuple[str, str], Line]
) -> Iterator[Line]:
    """Yield one line for each sample that was not answered yet."""
    for sample in samples:
        if (bench.row, sample.id) in done:
            continue
        inputs = bench.adapter.prepare(sample)
        scores, live, ends = [], [], []
        for policy in bench.policies():
            with attach(
                bench.adapter.backbone, policy, interval=bench.interval, storage="per_head"
            ) as memory:
                answer = bench.adapter.answer(inputs, memory)
            scores.append(bench.task.score(sample, answer).value)
            live.append(memory.usage().live_final or 0)
            ends.append(_until(memory, len(inputs.token_types) // bench.interval * bench.interval))
        yield Line(bench.row, sample.id, jaccard(*ends), tuple(scores), tuple(live))


def _read_through(
    bench: Bench,
    sample: Sample,
    policies: Sequence[NammPolicy],
    pieces: Sequence[int | None],
) -> list[Kept]:
    """Run the prompt under each policy, so many tokens at a time; return what it kept."""
    ids = bench.adapter.prepare(sample).tensors["input_ids"]
    model: Any = bench.adapter.backbone
    ends = []
    for policy, piece in zip(policies, pieces, strict=True):
        with (
            torch.no_grad(),
            attach(model, policy, interval=bench.interval, storage="per_head") as memory,
        ):
            for part in torch.split(ids, piece or ids.shape[1], dim=1):
                model(part, past_key_values=memory.cache, logits_to_keep=1)
        ends.append(_until(memory, ids.shape[1] // bench.interval * bench.interval))
    return ends


class Followed(Agent):
    """An agent that is followed by another, which sees what it sees and compares what is kept."""

    def __init__(self, leader: Agent, follower: Agent, memories: Sequence[Memory]) -> None:
        self._leader, self._follower, self._memories = leader, follower, memories
        self._updates: dict[int, int] = {}
        self.overlaps: dict[int, list[float]] = {}

    @property
    def token_types(self) -> tuple[TokenType, ...]:
        """See :class:`namm_mm.records.Agent`."""
        return self._leader.token_types

    def act(self, states: Any, rewards: Any, alive: Any) -> Any:
        """Let both act; compare their memories right after each eviction."""
        actions = self._leader.act(states, rewards, alive)
        self._follower.act(states, rewards, alive)
        for row in np.flatnonzero(alive).tolist():
            use = self._memories[0].usage(row)
            if use.updates > self._updates.get(row, 0):
                self._updates[row] = use.updates
                first, second = (_until(memory, use.seen, row) for memory in self._memories)
                found = jaccard(first, second)
                self.overlaps.setdefault(row, []).append(1.0 if found is None else found)
        return actions


def control_lines(args: argparse.Namespace, done: dict[tuple[str, str], Line]) -> Iterator[Line]:
    """Yield the row of control: a pocket Decision Transformer that plays Hopper."""
    task = OfflineRlTask("Hopper-v5", max_steps=args.steps)
    samples = task.samples("test", args.episodes, 0)
    row = f"pocket_rl_hopper, {args.steps} steps"
    if all((row, sample.id) in done for sample in samples):
        return
    adapters = [DecisionTransformerAdapter("pocket_rl_hopper", device="cpu") for _ in range(2)]
    for adapter in adapters:
        adapter.load()
    how: Any = {"budget": "threshold:60", "recents": 16}
    policies = NammPolicy(state="float32", **how), NammPolicy(**how)
    target = task.target_return()

    def begin(number: int) -> Any:
        return attach(adapters[number].backbone, policies[number], interval=48, storage="per_head")

    with begin(0) as one, begin(1) as two:
        agents = [
            adapter.agent(len(samples), memory, target_return=target)
            for adapter, memory in zip(adapters, (one, two), strict=True)
        ]
        followed = Followed(agents[0], agents[1], (one, two))
        first = {episode.row: episode for episode in task.play(samples, followed)}
        live = [one.usage(row).live_final or 0 for row in range(len(samples))]
    with begin(1) as two:
        agent = adapters[1].agent(len(samples), two, target_return=target)
        second = {episode.row: episode for episode in task.play(samples, agent)}
        less = [two.usage(row).live_final or 0 for row in range(len(samples))]
    for place, sample in enumerate(samples):
        overlaps = followed.overlaps.get(place, [])
        yield Line(
            row,
            sample.id,
            sum(overlaps) / len(overlaps) if overlaps else None,
            (first[place].score.value, second[place].score.value),
            (live[place], less[place]),
        )


RUNS: dict[str, Callable[[argparse.Namespace, dict[tuple[str, str], Line]], Iterator[Line]]] = {
    "text": text_lines,
    "video": video_lines,
    "control": control_lines,
}


def _until(memory: Memory, end: int, row: int = 0) -> Kept:
    """What a memory keeps of the first `end` tokens."""
    return [
        [{at for at in head.tolist() if at < end} for head in memory.kept(layer, row)]
        for layer in range(memory.layers)
    ]


def jaccard(first: Kept, second: Kept) -> float | None:
    """Return the mean Jaccard index over heads; None where nothing was evicted in time."""
    pairs = [
        (one, other)
        for layers in zip(first, second, strict=True)
        for one, other in zip(*layers, strict=True)
        if one or other
    ]
    if not pairs:
        return None
    return sum(len(one & other) / len(one | other) for one, other in pairs) / len(pairs)


if __name__ == "__main__":
    main()
