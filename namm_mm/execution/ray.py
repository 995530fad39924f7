"""Run units of work in Ray actors, each of which loads its model once and keeps it.

A worker that dies, for whatever reason, is replaced, and the unit that it had goes to another one;
a unit that loses one worker after the other is given up. An exception of the work itself is not
repeated: it is raised here, as under serial execution. Results are journaled by this process, as
they come, and given back in the order of the units, so that nothing depends on who was faster.
"""

from __future__ import annotations

import gc
import logging
import os
import pickle
import secrets
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Event, current_thread, main_thread
from typing import TYPE_CHECKING, Any, Generic

from namm_mm.errors import RunError, message
from namm_mm.execution.base import Factory, OnDone, Result, Results, U, Work
from namm_mm.execution.progress import Progress, Silent

if TYPE_CHECKING:
    from namm_mm.execution.settings import ExecutionSettings

STARTS = 3
"""Ray gives itself 30 seconds to start, which a busy machine may exceed."""

REMOVALS = 50
"""Attempts at removing Ray's folder, a tenth of a second apart."""

OBJECTS = 256 * 2**20
"""Bytes of shared memory for what is on its way to workers; a generation is a few megabytes."""


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
        self._folder: Path | None = None
        self._started = False
        self._workers: list[Any] = []
        ray = self._connect()
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
        with _noting_interrupts() as interrupted:
            for key, result in self._results(missing, interrupted):
                self.journal.put(key, result)
                if on_done is not None:
                    on_done(sum(self.journal.get(unit.key) is not None for unit in units))
            if interrupted.is_set():  # swallowed while the last result was fetched
                raise KeyboardInterrupt
        found = [self.journal.get(unit.key) for unit in units]
        return [result for result in found if result is not None]  # all of them, by now

    def _results(self, units: dict[str, U], interrupted: Event) -> Iterator[tuple[str, Result]]:
        """Keys and results, as they come."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        waiting, idle = deque(units), list(range(len(self._workers)))
        flying: dict[Any, tuple[int, str]] = {}
        losses: Counter[str] = Counter()
        while waiting or flying:
            while waiting and idle:
                place, key = idle.pop(), waiting.popleft()
                flying[self._workers[place].do.remote(units[key])] = (place, key)
            ready, _ = ray.wait(list(flying), num_returns=1, timeout=1.0)
            if interrupted.is_set():
                raise KeyboardInterrupt
            if not ready:
                continue
            (done,) = ready
            place, key = flying.pop(done)
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
        import ray

        for worker in self._workers:
            ray.kill(worker)
        self._workers = []
        if self._started:
            ray.shutdown()
            self._started = False
        self._remove_folder()

    def _worker(self) -> Any:
        return self._actor.remote(self._factory, self.settings.threads)

    def _connect(self) -> Any:
        """Start Ray on this machine, for this run alone, or connect to what is running."""
        with _private(local=self.settings.address is None):
            import ray

            if ray.is_initialized():
                return ray
            for attempt in range(1, STARTS + 1):
                try:
                    self._init(ray)
                    break
                except BaseException as error:  # Ray raises many kinds, and Exception itself
                    _clear_up(ray, error)
                    self._remove_folder()
                    if not isinstance(error, Exception):  # Ctrl-C
                        raise
                    if "timed out during startup" in str(error) and attempt < STARTS:
                        self.progress.say("Ray took too long to start: trying again")
                        continue
                    raise _unreachable(error, self.settings.address) from error
        self._started = True
        return ray

    def _init(self, ray: Any) -> None:
        common: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if self.settings.address is not None:
            ray.init(address=self.settings.address, **common)
            return
        self._folder = Path(tempfile.mkdtemp(prefix="namm-"))
        ray.init(
            num_cpus=self.settings.worker_count * self.settings.threads,
            include_dashboard=False,
            object_store_memory=OBJECTS,
            _temp_dir=str(self._folder),
            **common,
        )

    def _remove_folder(self) -> None:
        """Remove what Ray wrote; those of its processes that are still ending may write more."""
        folder, self._folder = self._folder, None
        for _ in range(REMOVALS):
            if folder is None or not folder.exists():
                return
            shutil.rmtree(folder, ignore_errors=True)
            if folder.exists():
                time.sleep(0.1)


@contextmanager
def _noting_interrupts() -> Iterator[Event]:
    """An event that Ctrl-C sets, beside its usual effect: Ray's own calls may swallow that one."""
    noted = Event()
    if current_thread() is not main_thread():
        yield noted
        return
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: Any) -> None:
        noted.set()
        if callable(before):
            before(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _private(*, local: bool) -> Iterator[None]:
    """Start Ray without news for its makers, on this machine's own address and with a secret token.

    Without them Ray opens its ports to the network and writes a token into the home folder. The
    environment is afterwards as it was; what Ray has started has inherited it, and imports what
    this process can.
    """
    before = dict(os.environ)
    wanted = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # workers that want no GPU see none
    }
    if local:
        wanted["RAY_worker_niceness"] = "0"  # beside other work, 15 would make a run starve
        wanted["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # Ray's own way to stay on 127.0.0.1
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        if not any(name.startswith("RAY_AUTH_") for name in before):
            wanted["RAY_AUTH_TOKEN"] = _token()
    for name, value in wanted.items():
        os.environ.setdefault(name, value)
    logger = logging.getLogger("ray._private.authentication")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it announces the token, which is as it should be
    try:
        yield
    finally:
        logger.setLevel(level)
        os.environ.clear()
        os.environ.update(before)


@cache
def _token() -> str:
    """What lets processes of this user's Ray talk to each other.

    One for as long as this process lives: Ray reads its token once, so that a second cluster with
    another one would refuse the process that started it.
    """
    return secrets.token_hex(32)


def _clear_up(ray: Any, error: BaseException) -> None:
    """Stop what a failed start left, whose processes Ray would leave until this one ends."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        node: Any = frame.f_locals.get("self")
        if hasattr(node, "kill_all_processes"):
            node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
            break
    ray.shutdown()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def _unreachable(error: Exception, address: str | None) -> RunError:
    return RunError(
        message(
            f"Ray cannot be reached ({type(error).__name__}: {error})",
            given=address,
            expected="a running cluster, or null to start one on this machine",
            then="execution=serial needs none.",
        )
    )


def _given_up(losses: int, error: Exception) -> RunError:
    why = (str(error).strip().splitlines() or [""])[-1].strip()
    return RunError(
        f"a unit of work lost {losses} workers, one after the other ({type(error).__name__}: {why})"
        ". It may need more memory than a worker has: take fewer workers. What was finished is "
        "kept, and the same command goes on from there."
    )
