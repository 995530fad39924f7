"""Whether a server answers at all, known in seconds."""

from __future__ import annotations

import queue
import ssl
import threading
import urllib.error
import urllib.request

SECONDS = 4.0
"""How long a server may take to answer."""


def unreachable(url: str, seconds: float = SECONDS) -> str:
    """Return why a server does not answer.

    Parameters
    ----------
    url
        Of the server; the proxies of the environment are respected.
    seconds
        How long to wait, finding the address included.

    Returns
    -------
    str
        The reason; empty where there is any answer.
    """
    answers: queue.Queue[str] = queue.Queue()

    def ask() -> None:
        request = urllib.request.Request(url, method="HEAD")
        try:
            urllib.request.urlopen(request, timeout=seconds).close()
        except urllib.error.HTTPError as error:
            error.close()
            answers.put("")  # an answer, if not a friendly one
        except urllib.error.URLError as error:
            # A certificate of one's own is for the library to judge, which may know it.
            answers.put("" if isinstance(error.reason, ssl.SSLError) else _words(error.reason))
        except (OSError, ValueError) as error:
            answers.put(_words(error))
        else:
            answers.put("")

    # A thread: finding an address has no time limit of its own.
    threading.Thread(target=ask, daemon=True).start()
    try:
        why = answers.get(timeout=seconds + 0.5)
    except queue.Empty:
        why = f"no answer within {seconds:g} seconds"
    return f"{url}: {why}" if why else ""


def _words(reason: object) -> str:
    if isinstance(reason, OSError):
        return reason.strerror or str(reason)
    return str(reason)
