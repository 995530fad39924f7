"""Run an answering task: every sample under every policy, matched policies first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from namm_mm.errors import RunError, UnsupportedError
from namm_mm.experiment.cell import Cell, Result, Stopwatch
from namm_mm.experiment.telling import told
from namm_mm.experiment.watching import keep, watched
from namm_mm.records import Inputs, Media, Record, Sample, Trace
from namm_mm.runs.history import Recorder
from namm_mm.runs.pictures import SAMPLES, save_frames

if TYPE_CHECKING:
    from namm_mm.experiment.settings import PolicySettings


def answer_samples(
    cell: Cell, samples: Sequence[Sample], *, first: int = 0, count: int | None = None
) -> Iterator[Record]:
    """Yield one record for each sample and policy.

    A failed sample has records with the error: under all policies where it cannot be prepared, else
    under the policy that failed.

    Parameters
    ----------
    first, count
        Index of the first of `samples` among the `count` samples of the run, which decides for
        which of them pictures and histories are saved. By default `samples` are all of them.

    Raises
    ------
    UnsupportedError
        The model cannot carry a memory.
    """
    adapter, _ = cell.answering()
    count = len(samples) if count is None else count
    step = -(-count // SAMPLES)
    closely = watched(cell, count)
    for number, sample in enumerate(samples, start=first):
        try:
            if sample.fault:
                raise RunError(sample.fault)
            inputs = adapter.prepare(sample)
        except UnsupportedError:
            raise
        except Exception as error:  # the other samples are run
            yield from (cell.failed(sample, settings, error) for settings in cell.runs)
            continue
        traces: dict[str, tuple[Trace, ...]] = {}
        frames = ""
        if cell.folder is not None and (number % step == 0 or number in closely):
            frames = save_frames(cell.folder, cell.settings.name, inputs)
        for settings in cell.runs:
            recorder = Recorder() if number in closely else None
            yield _answer(cell, inputs, settings, traces, frames, recorder)


def _answer(
    cell: Cell,
    inputs: Inputs,
    settings: PolicySettings,
    traces: dict[str, tuple[Trace, ...]],
    frames: str,
    recorder: Recorder | None,
) -> Record:
    (adapter, task), sample, watch = cell.answering(), inputs.sample, Stopwatch()
    try:
        policy = told(adapter, inputs, cell.policy(settings, traces))
        with cell.attach(policy, recorder) as memory:
            answer = adapter.answer(inputs, memory)
        score = task.score(sample, answer)
        traces.setdefault(settings.name, (memory.trace(),))
        seconds = watch.seconds
        media = Media(frames=frames)
        if recorder is not None:
            pieces = adapter.pieces(inputs)
            file = keep(cell, recorder, memory, sample, policy, inputs.token_types, pieces=pieces)
            media = Media(frames, file)
        result = Result(
            sample, answer, score, inputs.token_types, seconds, media, dict(inputs.details)
        )
        return cell.scored(result, policy, memory)
    except UnsupportedError:
        raise
    except Exception as error:  # it is in the record, and counted in every table
        return cell.failed(sample, settings, error)
