"""When each token of a sample was forgotten: recorded for a few samples, kept beside the records.

What is forgotten never comes back. So the whole history of a memory, at every update, in every layer
and head, is one small number for each token: the update that dropped it.
"""

from __future__ import annotations

import dataclasses
import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from namm_mm.errors import RunError
from namm_mm.records import TokenType
from namm_mm.runs.disk import write_whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from namm_mm.memory import Memory
    from namm_mm.records import Record
    from namm_mm.memory.watch import Update

FOLDER = "history"

SAMPLES = 8
"""Samples of one cell whose history is kept; of more, every so many-th."""

ENTRIES = 2_000_000
"""Layer x head x token in one file; of a larger model, evenly spaced layers are kept."""

QUANTILES = 64
"""Scores of one layer are kept as so many quantiles."""


@dataclass(frozen=True)
class History:
    """The history of one sample under one policy.

    Attributes
    ----------
    forgotten
        (layer, kv_head, token): the number of the update that dropped this token; the number of
        updates where it was held to the end.
    seen
        Tokens seen at each update.
    layers
        Index of each layer of `forgotten` in the model.
    kinds, kind, index
        Type of each token: ``kinds[kind[token]]`` and its index (frame, timestep).
    row, column
        (token,) place of a patch in its picture, -1 for other tokens; empty where no token is one.
    pieces
        Text of each token; empty where the adapter cannot spell them.
    scores
        (layer, quantile) float32: quantiles of all scores that the policy gave in each layer; no
        columns where it gave none.
    rewards, actions
        For control, the reward of each step and (step, action_dim) the actions.
    environment, seed
        What to reset to play the actions again.
    """

    forgotten: NDArray[np.uint16]
    seen: tuple[int, ...]
    layers: tuple[int, ...]
    kinds: tuple[str, ...]
    kind: NDArray[np.uint8]
    index: NDArray[np.int32]
    pieces: tuple[str, ...] = ()
    scores: NDArray[np.float32] = dataclasses.field(
        default_factory=lambda: np.zeros((0, 0), np.float32)
    )
    row: NDArray[np.int16] = dataclasses.field(default_factory=lambda: np.zeros(0, np.int16))
    column: NDArray[np.int16] = dataclasses.field(default_factory=lambda: np.zeros(0, np.int16))
    rewards: tuple[float, ...] = ()
    actions: NDArray[np.float32] = dataclasses.field(
        default_factory=lambda: np.zeros((0, 0), np.float32)
    )
    environment: str = ""
    seed: int = 0

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return int(self.forgotten.shape[2])

    def seen_after(self, update: int) -> int:
        """Tokens seen when `update` was over; all of them after the last, and without any."""
        return self.seen[update] if update < len(self.seen) - 1 else self.tokens

    def kept(
        self, update: int | None = None, layer: int | None = None, head: int | None = None
    ) -> NDArray[np.float64]:
        """Part of the layers and heads that held each token right after an update.

        Parameters
        ----------
        update
            Number of the update; None is the end.
        layer, head
            One of them alone, by its place in `forgotten`; None is the mean over all.

        Returns
        -------
        ndarray
            (token,) from 0 to 1; NaN for tokens that were not seen yet.
        """
        last = len(self.seen) - 1 if update is None else update
        held = self.forgotten > last if self.seen else np.ones_like(self.forgotten, dtype=bool)
        chosen = held[slice(None) if layer is None else [layer]]
        chosen = chosen[:, slice(None) if head is None else [head]]
        fractions = chosen.mean((0, 1))
        fractions[self.seen_after(last) :] = np.nan
        return np.asarray(fractions, dtype=np.float64)

    def of_kind(self, kind: str, fractions: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """Split `fractions` (token,) of one kind by their index: frame, timestep."""
        if kind not in self.kinds:
            return []
        mine = self.kind == self.kinds.index(kind)
        numbers, values = self.index[mine], fractions[mine]
        return [values[numbers == number] for number in np.unique(numbers)]


class Recorder:
    """A watcher that remembers everything until it is asked for a history."""

    def __init__(self) -> None:
        self._updates: dict[int, list[Update]] = defaultdict(list)

    def __call__(self, update: Update) -> None:
        """Take one update of one layer."""
        self._updates[update.layer].append(update)

    def history(
        self, memory: Memory, token_types: Sequence[TokenType], row: int = 0, **facts: Any
    ) -> History:
        """Return the history of `row`; tokens without a type, those of the answer, are left out.

        Parameters
        ----------
        memory
            The memory that was watched.
        token_types
            One for each token.
        facts
            Further attributes of :class:`History`.
        """
        updates = memory.usage(row).updates  # more were seen where copies of the cache went on
        layers = range(memory.layers)
        heads = len(memory.kept(0, row))
        most = max(1, ENTRIES // max(1, heads * len(token_types)))
        layers = layers[:: -(-len(layers) // most)]
        forgotten = np.full((len(layers), heads, len(token_types)), updates, dtype=np.uint16)
        seen: list[int] = []
        scores = []
        for place, layer in enumerate(layers):
            mine = [u for u in self._updates[layer] if row in u.rows and u.number < updates]
            seen = [update.seen for update in mine]
            scored = []
            for update in mine:
                at = update.rows.index(row)
                positions = update.kept[at].cpu().numpy()
                for head in range(heads):
                    held = np.zeros(len(token_types), dtype=bool)
                    known = positions[head]
                    held[known[(known >= 0) & (known < len(token_types))]] = True
                    held[update.seen :] = True  # not seen yet
                    line = forgotten[place, head]
                    line[~held & (line == updates)] = update.number
                scored.append(update.scores[at].flatten().cpu().numpy())
            scores.append(_quantiles(scored))
        kinds = tuple(dict.fromkeys(token_type.kind for token_type in token_types))
        return History(
            forgotten=forgotten,
            seen=tuple(seen),
            layers=tuple(layers),
            kinds=kinds,
            kind=np.array([kinds.index(token_type.kind) for token_type in token_types], dtype=np.uint8),
            index=np.array([token_type.index for token_type in token_types], dtype=np.int32),
            scores=np.stack(scores),
            row=_places([token_type.row for token_type in token_types]),
            column=_places([token_type.column for token_type in token_types]),
            **facts,
        )


def _places(given: Sequence[int | None]) -> NDArray[np.int16]:
    """Return places of patches, -1 for none; empty where there is none at all."""
    if all(place is None for place in given):
        return np.zeros(0, np.int16)
    return np.array([-1 if place is None else place for place in given], dtype=np.int16)


def save(history: History, run: Path, name: str) -> str:
    """Write ``RUN/history/NAME.npz`` and return its path within the run folder.

    Parameters
    ----------
    name
        From :func:`namm_mm.runs.names.file_name`.

    Raises
    ------
    OSError
        It cannot be written.
    """
    file = run / FOLDER / f"{name}.npz"
    file.parent.mkdir(exist_ok=True)
    arrays: dict[str, Any] = {key: np.asarray(value) for key, value in vars(history).items()}
    if len(history.seen) < 256:
        arrays["forgotten"] = history.forgotten.astype(np.uint8)
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    write_whole(file, packed.getvalue())
    return file.relative_to(run).as_posix()


def read(file: Path) -> History:
    """Read what :func:`save` wrote.

    Raises
    ------
    RunError
        The file is missing, cut off, or no history.
    """
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as data:
            return History(
                forgotten=data["forgotten"].astype(np.uint16),
                seen=tuple(data["seen"].tolist()),
                layers=tuple(data["layers"].tolist()),
                kinds=tuple(data["kinds"].tolist()),
                kind=data["kind"],
                index=data["index"],
                pieces=tuple(data["pieces"].tolist()),
                scores=data["scores"],
                **{name: data[name] for name in ("row", "column") if name in data},
                rewards=tuple(data["rewards"].tolist()),
                actions=data["actions"],
                environment=str(data["environment"]),
                seed=int(data["seed"]),
            )
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise RunError(f"{file.name} is no history: {type(error).__name__}: {error}.") from error


def of_record(record: Record, run: Path) -> History | None:
    """Read the history of a record; None where it has none, or its file cannot be read."""
    name = Path(record.media.history).name
    if not name:
        return None
    try:
        return read(run / FOLDER / name)
    except RunError:
        return None


def _quantiles(scores: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    found = np.concatenate(scores) if scores else np.zeros(0, np.float32)
    found = found[np.isfinite(found)]
    if not found.size:
        return np.zeros(0, np.float32)
    return np.quantile(found, np.linspace(0, 1, QUANTILES)).astype(np.float32)
