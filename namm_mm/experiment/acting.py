"""Run an acting task: all environments side by side, once for each policy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from namm_mm.errors import RunError, UsageError, message
from namm_mm.experiment.cell import Cell, Result, Stopwatch
from namm_mm.experiment.watching import keep, watched
from namm_mm.policies.base import Budget
from namm_mm.records import Agent, Answer, Media, Record, Sample, TokenType, Trace
from namm_mm.runs.history import Recorder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from namm_mm.experiment.settings import PolicySettings
    from namm_mm.memory import Memory
    from namm_mm.policies.base import Policy
    from namm_mm.records import ReencodingAgent
    from namm_mm.records.agent import Flags, Numbers
    from namm_mm.tasks.base import Episode

OnStep = Callable[[int, int], None]


class TimedAgent(Agent):
    """An agent that notes the time and the action of each decision."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.seconds: list[float] = []
        self.actions: list[NDArray[np.float32]] = []

    def act(self, observations: Numbers, rewards: Numbers, alive: Flags) -> Numbers:
        """See :class:`namm_mm.records.Agent`."""
        watch = Stopwatch()
        actions = self.agent.act(observations, rewards, alive)
        self.seconds.append(watch.seconds)
        self.actions.append(actions)
        return actions

    @property
    def token_types(self) -> tuple[TokenType, ...]:
        """See :class:`namm_mm.records.Agent`."""
        return self.agent.token_types

    def actions_of(self, row: int, steps: int) -> NDArray[np.float32]:
        """Return the first `steps` actions of one environment, (step, action_dim)."""
        import numpy

        return numpy.stack([actions[row] for actions in self.actions[:steps]])


def check_dimensions(cell: Cell) -> None:
    """Raise `UsageError` unless the model and the environment have the same dimensions."""
    adapter, task = cell.acting()
    model, environment = adapter.dimensions, task.dimensions()
    if model != environment:
        raise UsageError(
            message(
                f"cells.{cell.settings.name}: the model {adapter.model_name!r} does not fit "
                "the environment",
                given=f"state and action dimension {model}",
                expected=f"{environment}, as the environment has",
                then="Choose a model that was trained on this environment: `namm-mm list`.",
            )
        )


def act_samples(
    cell: Cell, samples: Sequence[Sample], on_step: OnStep | None = None
) -> Iterator[Record]:
    """Yield one record for each sample (environment and seed) and policy.

    All samples of a policy are one batch. If an exception ends it, samples that have not finished
    get records with the error.

    Raises
    ------
    UsageError
        The model does not fit the environment, or cannot carry a memory.
    """
    check_dimensions(cell)
    traces: dict[str, tuple[Trace, ...]] = {}
    for settings in cell.runs:
        open_samples = {sample.id: sample for sample in samples}
        rows: dict[int, Trace] = {}
        try:
            for record, row, trace in _play(cell, samples, settings, traces, on_step):
                del open_samples[record.sample]
                rows[row] = trace
                yield record
        except UsageError:
            raise
        except Exception as error:  # it is in the records, and counted in every table
            yield from (cell.failed(sample, settings, error) for sample in open_samples.values())
        if len(rows) == len(samples):
            traces.setdefault(settings.name, tuple(rows[row] for row in sorted(rows)))


def _play(
    cell: Cell,
    samples: Sequence[Sample],
    settings: PolicySettings,
    traces: dict[str, tuple[Trace, ...]],
    on_step: OnStep | None,
) -> Iterator[tuple[Record, int, Trace]]:
    (_, task), watch = cell.acting(), Stopwatch()
    policy = cell.policy(settings, traces)
    closely = watched(cell, len(samples)) if not policy.reencodes else range(0)
    recorder = Recorder() if closely else None
    with _agent(cell, policy, len(samples), recorder) as (acting, memory, holder):
        agent = TimedAgent(acting)
        for episode in task.play(samples, agent, on_step=on_step):
            if episode.error:
                record = cell.failed(episode.sample, settings, RunError(episode.error))
                yield record, episode.row, holder.trace(episode.row)
                continue
            first, *later = agent.seconds
            seen = holder.usage(episode.row).seen
            answer = Answer(
                text=_account(episode),
                first_token_seconds=first,
                token_seconds=sum(later) / len(later) if later else 0.0,
                tokens=seen,
            )
            token_types = agent.token_types[:seen]
            history = ""
            if recorder is not None and memory is not None and episode.row in closely:
                history = keep(
                    cell,
                    recorder,
                    memory,
                    episode.sample,
                    policy,
                    token_types,
                    row=episode.row,
                    rewards=episode.rewards,
                    actions=agent.actions_of(episode.row, len(episode.rewards)),
                    environment=str(episode.sample.metadata.get("environment", "")),
                    seed=episode.sample.seed,
                )
            result = Result(
                episode.sample,
                answer,
                episode.score,
                token_types,
                watch.seconds,
                Media(history=history),
                {**episode.details, "environments": len(samples)},
            )
            record = cell.scored(result, policy, holder, episode.row)
            yield record, episode.row, holder.trace(episode.row)


@contextmanager
def _agent(
    cell: Cell, policy: Policy, environments: int, recorder: Recorder | None
) -> Iterator[tuple[Agent, Memory | None, Memory | ReencodingAgent]]:
    """Yield an agent, its memory if it has one, and the one of them that reports what was held."""
    adapter, task = cell.acting()
    target = task.target_return()
    if policy.reencodes:
        window = adapter.window_agent(environments, _window(policy), target_return=target)
        yield window, None, window
        return
    with cell.attach(policy, recorder) as memory:
        yield adapter.agent(environments, memory, target_return=target), memory, memory


def _window(policy: Policy) -> int:
    """Return the size of the window in tokens, which is the budget of the policy."""
    if isinstance(policy.selection, Budget) and policy.selection.tokens is not None:
        return policy.selection.tokens
    raise UsageError(
        message(
            f"budget of {policy.name!r}",
            given=policy.selection.describe(),
            expected="the size of the window: tokens:60 for 20 steps",
        )
    )


def _account(episode: Episode) -> str:
    return f"return {sum(episode.rewards):.1f} in {len(episode.rewards)} steps"
