"""Run units of work in Ray actors, each of which loads its model once and keeps it.

A worker that dies, for whatever reason, is replaced, and the unit that it had goes to another one;
a unit that loses one worker after the other is given up. An exception of the work itself is not
repeated: it is raised here, as under serial execution. Results are journaled by this process, as
they come, and given back in the order of the units, so that nothing depends on who was faster.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Any, Generic

from namm_mm.errors import RunError
from namm_mm.execution.base import Factory, OnDone, Result, Results, U, Work
from namm_mm.execution.progress import Progress, Silent
from namm_mm.execution.ray_cluster import Cluster
from namm_mm.execution.settings import ExecutionSettings
from namm_mm.execution.signals import noted, raise_noted


class Resident(Generic[U]):
    """Lives in a worker process, with the work that it made there.

    Parameters
    ----------
    factory
        Makes the work, when the first unit comes; pickled, so that what fails then fails as work.
    threads
        Of torch, and of the libraries below it.
    """

    def __init__(self, factory: bytes, threads: int) -> None:
        os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        self._factory = factory
        self._threads = threads
        self._work: Work[U] | None = None

    def do(self, unit: U) -> Result:
        """Do one unit."""
        if self._work is None:
            factory: Factory[U] = pickle.loads(self._factory)
            self._work = factory()
            if "torch" in sys.modules:  # it counts CPUs where the variables above came too late
                sys.modules["torch"].set_num_threads(self._threads)
        return self._work(unit)


class RayExecution(Generic[U]):
    """Some workers, each with one unit at a time.

    Parameters
    ----------
    factory
        Makes the work in each worker; picklable.
    journal
        Where results go, and come from if they are there.
    settings
        Workers, threads, GPUs and retries.
    progress
        Is told when a worker is lost.

    Raises
    ------
    RunError
        Ray cannot start, or its cluster cannot be reached.
    """

    def __init__(
        self,
        factory: Factory[U],
        journal: Results,
        settings: ExecutionSettings,
        progress: Progress | None = None,
    ) -> None:
        self.journal = journal
        self.settings = settings
        self.progress = progress or Silent()
        self._workers: list[Any] = []
        self._cluster = Cluster(settings, self.progress)
        ray = self._cluster.ray
        try:
            self._factory = ray.put(ray.cloudpickle.dumps(factory))  # for later workers, too
            self._actor = ray.remote(
                num_cpus=settings.threads,
                num_gpus=settings.gpus_per_worker,
                max_restarts=0,  # replacing a worker is done here, where it is counted
                max_task_retries=0,
            )(Resident)
            self._workers = [self._worker() for _ in range(settings.worker_count)]
        except BaseException:
            self.close()
            raise

    def run(self, units: Sequence[U], on_done: OnDone | None = None) -> list[Result]:
        """See :class:`~namm_mm.execution.base.Execution`.

        Raises
        ------
        RunError
            A unit lost more workers than `retries` allow.
        """
        missing = {unit.key: unit for unit in units if self.journal.get(unit.key) is None}
        with noted() as signals:
            for key, result in self._results(missing, signals):
                self.journal.put(key, result)
                if on_done is not None:
                    on_done(sum(self.journal.get(unit.key) is not None for unit in units))
            raise_noted(signals)  # one that was swallowed while the last result was fetched
        found = [self.journal.get(unit.key) for unit in units]
        return [result for result in found if result is not None]  # all of them, by now

    def _results(self, units: dict[str, U], signals: list[int]) -> Iterator[tuple[str, Result]]:
        """Keys and results, as they come."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        waiting, idle = deque(units), list(range(len(self._workers)))
        running: dict[Any, tuple[int, str]] = {}
        losses: Counter[str] = Counter()
        while waiting or running:
            while waiting and idle:
                place, key = idle.pop(), waiting.popleft()
                running[self._workers[place].do.remote(units[key])] = (place, key)
            ready, _ = ray.wait(list(running), num_returns=1, timeout=1.0)
            raise_noted(signals)
            if not ready:
                continue
            (done,) = ready
            place, key = running.pop(done)
            try:
                result = ray.get(done)
            except RayTaskError as error:
                raise error.cause or error from None
            except RayError as error:  # the worker, its node or what it held is gone
                losses[key] += 1
                self._workers[place] = self._worker()  # the next run needs it if this one ends here
                if losses[key] > self.settings.retries:
                    raise _given_up(losses[key], error) from error
                self.progress.say(f"lost a worker ({type(error).__name__}): another one takes over")
                waiting.appendleft(key)
            else:
                yield key, result
            idle.append(place)

    def close(self) -> None:
        """Stop the workers, and Ray where it was started here."""
        for worker in self._workers:
            self._cluster.ray.kill(worker)
        self._workers = []
        self._cluster.close()

    def _worker(self) -> Any:
        return self._actor.remote(self._factory, self.settings.threads)


def _given_up(losses: int, error: Exception) -> RunError:
    why = (str(error).strip().splitlines() or [""])[-1].strip()
    return RunError(
        f"a unit of work lost {losses} workers, one after the other ({type(error).__name__}: {why})"
        ". It may need more memory than a worker has: take fewer workers. What was finished is "
        "kept, and the same command goes on from there."
    )
