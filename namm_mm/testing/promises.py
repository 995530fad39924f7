"""How the conformance kit tells what holds: it tries every promise, then lists the broken ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from namm_mm.errors import NammError


class ConformanceError(NammError, AssertionError):
    """A component breaks promises; the message lists each with what was seen."""


class Promises:
    """Collects which promises of one component hold.

    Parameters
    ----------
    subject
        What is checked, for the message.
    """

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.kept: list[str] = []
        self.broken: list[str] = []

    @contextmanager
    def promise(self, text: str) -> Iterator[None]:
        """Try one promise in the block; :func:`require` or any exception breaks it."""
        try:
            yield
        except ConformanceError as error:
            self.broken.append(f"{text}: {error}")
        except Exception as error:  # whatever the component does wrong is what we are here to tell
            self.broken.append(f"{text}: raised {type(error).__name__}: {error}")
        else:
            self.kept.append(text)

    def conclude(self) -> tuple[str, ...]:
        """Return the promises that hold.

        Raises
        ------
        ConformanceError
            Some do not.
        """
        if self.broken:
            count = len(self.broken) + len(self.kept)
            lines = "\n".join(f"- {line}" for line in self.broken)
            raise ConformanceError(
                f"{self.subject} breaks {len(self.broken)} of {count} promises:\n{lines}"
            )
        return tuple(self.kept)


def require(condition: object, otherwise: str) -> None:
    """Raise `ConformanceError` with what was seen unless `condition` holds."""
    if not condition:
        raise ConformanceError(otherwise)
