"""Errors a user meets, and how they are worded.

Every message says what was given, what was expected, the nearest valid name where there is one, and
the next command to run. A :class:`UsageError` ends the command line with exit code 2, a
:class:`RunError` with 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NammError(Exception):
    """Base of every error that this package raises on purpose."""

    exit_code = 1


class UsageError(NammError, ValueError):
    """The caller asked for something that cannot be: a wrong name, value, shape or combination."""

    exit_code = 2


class RunError(NammError, RuntimeError):
    """A valid request that failed while running: a broken file, a missing device, a full disk."""

    exit_code = 1


class UnsupportedError(UsageError, NotImplementedError):
    """A transformers feature that the evicting memory does not serve, said before it goes wrong."""


class NammWarning(UserWarning):
    """Something runs, but not as it was meant to: the message says what to do."""


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """Return the valid name closest to `name`, or None when nothing is close."""
    found = difflib.get_close_matches(name.lower(), [v for v in valid], n=1, cutoff=0.5)
    return found[0] if found else None


def message(
    what: str, *, given: object, expected: str, valid: Iterable[str] = (), then: str = ""
) -> str:
    """Word an error.

    Parameters
    ----------
    what
        What went wrong, in a few words and without a full stop.
    given
        The offending value, shown with ``repr``.
    expected
        What would have been right.
    valid
        Valid names, for a "did you mean".
    then
        The next command or step.
    """
    names = sorted(valid)
    text = f"{what}: got {given!r}, expected {expected}."
    close = nearest(given, names) if isinstance(given, str) else None
    if close:
        text += f" Did you mean {close!r}?"
    if names:
        text += f" Known: {', '.join(names)}."
    return f"{text} {then}".rstrip()
