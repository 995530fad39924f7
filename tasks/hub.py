"""Data sets of the hub: find them in its cache, or fetch them."""

from __future__ import annotations

from pathlib import Path

from namm_mm.errors import RunError, message

HUB = "hub"
"""The source that names no folder: the hub's cache, or the hub itself."""


def command(repository: str, *files: str, revision: str | None = None) -> str:
    """Return the command that fetches a data set, or some of its files."""
    words = ["hf download", repository, *files, "--repo-type dataset"]
    return " ".join([*words, f"--revision {revision}"] if revision else words)


def cached(repository: str, name: str | None = None) -> Path | None:
    """Return a file of a data set in the hub's cache, or its folder there; None if it is absent."""
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
    """Return a file from the hub's cache, else from the hub.

    Parameters
    ----------
    names
        Names that the file may have, the most likely first; no name takes the whole data set.
    title
        Name of the data set in the error; by default its repository.
    given, expected, then
        Parts of the error; `then` is by default the command for a machine with a network.

    Raises
    ------
    RunError
        None can be fetched; the message has the reason for the last name.
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
