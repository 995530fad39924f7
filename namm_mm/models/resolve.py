"""Find a model by name: a local folder, a bundled asset, a packaged model, or a hub id.

:func:`resolve` is the one way from a name in a configuration to files on disk. It looks, in this
order, at

1. a **local folder** (anything holding a ``config.json`` or ``card.json``, in hub layout);
2. a **bundled** asset, a folder of ``namm_mm/assets`` with a card that carries the SHA-256 of every
   file: a damaged one is refused, with the command that makes it again; where it holds only the
   trained part of a model, the rest is taken from packages (:mod:`namm_mm.models.composed`);
3. a **packaged** model, whose weights come inside a Python package: converted once and cached;
   or a **fetched** one, which ``namm-mm models get NAME`` has put into the cache;
4. a **hub id** ``owner/name``, from the local hub cache or, when online, the hub.

A name stands for one set of weights: ``smollm2-135m-instruct`` is always the packaged, quantised
SmolLM2 and never silently the hub's original, whose numbers differ.
"""

from __future__ import annotations

from pathlib import Path

from namm_mm.errors import UsageError, message
from namm_mm.models import cards, fetched, hub
from namm_mm.models import composed as composed_model
from namm_mm.models import packaged as packaged_model


def resolve(name: str) -> Path | str:
    """Find the files behind the name of a model.

    Parameters
    ----------
    name
        A local folder, a bundled asset, a packaged model, or a hub id.

    Returns
    -------
    Path or str
        A folder in hub layout, or a hub id: either goes to ``from_pretrained``.

    Raises
    ------
    UsageError
        Nothing has this name; the message holds the nearest one.
    RunError
        The name is known, but files are missing or damaged; the message holds the exact command.
    """
    folder = Path(name).expanduser()
    if _holds_model(folder):
        return _whole(folder)
    if (cards.BUNDLED / name / cards.CARD).is_file() and "/" not in name:
        cards.verify(cards.BUNDLED / name)
        return _whole(cards.BUNDLED / name)
    if name in packaged_model.MODELS:
        return _verified(packaged_model.convert(packaged_model.MODELS[name]))
    if name in fetched.MODELS:
        return _verified(fetched.located(fetched.MODELS[name]))
    if hub.is_id(name) and not folder.exists():
        return hub.reachable(name)
    raise _no_such_model(name)


def check_name(name: str) -> None:
    """Raise `UsageError` for a name that stands for no model; nothing is read or converted."""
    folder = Path(name).expanduser()
    known = {*packaged_model.MODELS, *fetched.MODELS, *cards.bundled()}
    if not _holds_model(folder) and name not in known and (not hub.is_id(name) or folder.exists()):
        raise _no_such_model(name)


def _no_such_model(name: str) -> UsageError:
    if Path(name).expanduser().is_dir():
        expected = "a folder in hub layout, with a config.json"
    else:
        expected = "a local folder, a hub id `owner/name`, or the name of an asset"
    return UsageError(
        message(
            "no such model",
            given=name,
            expected=expected,
            valid=[
                *_folders_beside(Path(name)),
                *(*packaged_model.MODELS, *fetched.MODELS, *cards.bundled(), *hub.MODELS),
            ],
            then="`namm-mm list` shows what is here.",
        )
    )


def _holds_model(folder: Path) -> bool:
    return any((folder / file).is_file() for file in ("config.json", cards.CARD))


def _folders_beside(path: Path) -> list[str]:
    """Return the models in the folder where `path` was looked for, as they would be given."""
    parent = path.expanduser().parent
    if not parent.is_dir():
        return []
    found = sorted(folder.name for folder in parent.iterdir() if _holds_model(folder))
    return [str(path.parent / name) for name in found]


def _whole(folder: Path) -> Path:
    """The folder itself, or that of the whole model if it holds the trained part of one."""
    if (folder / composed_model.TRAINED).is_file():
        return _verified(composed_model.compose(folder))
    return folder


def _verified(folder: Path) -> Path:
    cards.verify(folder)
    return folder
