"""NAMMs on the Hugging Face hub: a repository holds the safetensors file, its card and a page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from namm_mm.errors import RunError, message
from namm_mm.namm.facts import Described, facts

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")

_PAGE = """---
license: {licence}
library_name: namm-mm
tags:
- namm
- kv-cache
---

# {name}

A neural attention memory model (NAMM, arXiv 2410.13166) for namm-mm:
it decides which tokens stay in the KV cache of a transformer.

{about}.

| | |
| --- | --- |
{facts}

```python
import namm_mm as nm

namm = nm.Namm.from_pretrained("{name}")
with nm.attach(model, namm) as memory:
    model.generate(**inputs)
```

`namm.json` says how it was made.
"""


def is_repository(source: str) -> bool:
    """Whether `source` has the form ``OWNER/NAME``."""
    return _REPOSITORY.fullmatch(source) is not None


def page(name: str, namm: Described) -> str:
    """Return the README of a repository: training, scores, licence and how to use it."""
    licence = str(namm.card.get("licence", "unknown")).lower()
    about = str(namm.card.get("about", "")).rstrip(".")
    rows = (f"| {key} | {_cell(value)} |" for key, value in facts(namm))
    return _PAGE.format(
        name=name, licence=licence, about=about[:1].upper() + about[1:], facts="\n".join(rows)
    )


def _cell(value: str) -> str:
    """A value as one cell of a Markdown table."""
    return " ".join(value.replace("|", "\\|").split())


def download(repository: str, files: Sequence[str], revision: str | None = None) -> Path:
    """Return a folder with `files` of a repository: from the cache, or from the hub.

    Raises
    ------
    RunError
        The hub cannot be reached, or has no such repository.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(files)))
    except Exception as error:  # the client raises those of several libraries
        raise RunError(
            message(
                f"the hub does not give {repository} ({type(error).__name__})",
                given=repository,
                expected="a public repository, or one that your account may read",
                then="Check the name, the network and `hf auth whoami`. A local path that does not "
                "exist is taken for a repository if it has two parts.",
            )
        ) from error


def upload(folder: Path, repository: str, *, private: bool, summary: str) -> str:
    """Put the files of `folder` into a repository; return the address of the commit.

    Raises
    ------
    RunError
        The hub refuses, or cannot be reached.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        commit = api.upload_folder(repo_id=repository, folder_path=folder, commit_message=summary)
    except Exception as error:  # the client raises those of several libraries
        raise RunError(
            message(
                f"the hub does not take {repository} ({type(error).__name__}: {error})",
                given=repository,
                expected="a repository that your account may write to",
                then="Log in with `hf auth login`.",
            )
        ) from error
    return str(commit.commit_url)
