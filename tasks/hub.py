"""Data sets of the hub: what is in its cache, fetched if that is asked, and why it cannot be."""

from __future__ import annotations

from pathlib import Path

from namm_mm.errors import RunError, message

HUB = "hub"
"""The source that is no folder: the hub's cache, or the hub itself."""


def command(repository: str, *files: str, revision: str | None = None) -> str:
    """What fetches a data set, or some of its files, on a machine with a network."""
    words = ["hf download", repository, *files, "--repo-type dataset"]
    return " ".join([*words, f"--revision {revision}"] if revision else words)


def cached(repository: str, name: str | None = None) -> Path | None:
    """A file of a data set in the hub's cache, or its folder there; None if it is not."""
    from huggingface_hub import snapshot_download, try_to_load_from_cache
    from huggingface_hub.errors import LocalEntryNotFoundError

    if name is not None:
        found = try_to_load_from_cache(repository, name, repo_type="dataset")
        return Path(found) if isinstance(found, str) else None
    try:
        return Path(snapshot_download(repository, repo_type="dataset", local_files_only=True))
    except (LocalEntryNotFoundError, OSError):
        return None


def fetch(
    repository: str,
    *names: str,
    title: str = "",
    given: str = "",
    expected: str = "a hub that answers",
    then: str = "",
    revision: str | None = None,
) -> Path:
    """Take a file from the hub's cache, else from the hub.

    Parameters
    ----------
    names
        What it may be called, the likeliest first; none takes the whole data set.
    title
        What the error calls it: by default its repository.
    given, expected, then
        For the error; `then` is by default the command for a machine with a network.

    Raises
    ------
    RunError
        None can be had; the reason is that of the last.
    """
    from huggingface_hub import hf_hub_download, snapshot_download

    reason = ""
    for name in names or (None,):
        try:
            return Path(
                snapshot_download(repository, repo_type="dataset", revision=revision)
                if name is None
                else hf_hub_download(repository, name, repo_type="dataset", revision=revision)
            )
        except Exception as error:  # the hub's client raises errors of several libraries
            reason = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
    elsewhere = command(repository, *names[:1], revision=revision)
    raise RunError(
        message(
            f"cannot get {title or repository} from the hub ({reason})",
            given=given or repository,
            expected=expected,
            then=then or f"On a machine with a network: `{elsewhere}`.",
        )
    )
