"""What runs units of work: the door that serial and distributed execution share.

A **unit** describes one piece of work and carries a key, the hash of all that its result depends
on. The **work** does a unit: it holds what is slow to load, such as a model, and is made once in
every process by a **factory**. An **execution** takes units and gives results in their order; what
the journal has is never done again, so a run that was stopped at any moment goes on from there.

::

    factory = functools.partial(make_work, settings)    # picklable, and so are the units
    with closing(start(execution_settings, factory, journal)) as execution:
        results = execution.run(units)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

Result = Mapping[str, Any]
"""What one unit gave."""


class Results(Protocol):
    """Where results of units go, and come from if they are there."""

    def get(self, key: str) -> Result | None:
        """Return the result of a finished unit, None for one that is not."""
        ...

    def put(self, key: str, result: Result) -> None:
        """Keep the result of a unit, before the next one begins."""
        ...


class Unit(Protocol):
    """A piece of work that can be done again and gives the same."""

    @property
    def key(self) -> str:
        """Hash of everything that its result depends on."""
        ...


U = TypeVar("U", bound=Unit)
V = TypeVar("V", bound=Unit, contravariant=True)

Work = Callable[[U], Result]
"""Does one unit; what it returns must be JSON for a journal on disk, and picklable for workers."""

Factory = Callable[[], Work[U]]
"""Makes the work in the process that does it. Picklable, unless the work stays in this process."""

OnDone = Callable[[int], None]
"""Is told after each unit how many are done."""


class Execution(Protocol[V]):
    """Runs units."""

    def run(self, units: Sequence[V], on_done: OnDone | None = None) -> list[Result]:
        """Return the results in the order of `units`: all of them, or an exception.

        Every finished unit is in the journal before the next one begins, whatever happens then.
        """
        ...

    def close(self) -> None:
        """Let go of processes and files."""
        ...
