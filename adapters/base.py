"""The door for modalities: what an adapter must do.

An adapter serves one modality. It knows models and tokens, and nothing of benchmarks. There are two
kinds, matching the two shapes of task: an :class:`AnsweringAdapter` answers one sample at a time,
an :class:`ActingAdapter` gives an agent that acts in a batch of environments.

A class is registered, and built by the experiment as ``adapter_class(**options)`` with the options
of the configuration (``configs/adapter/NAME.yaml`` without `name`); construction validates them and
must not load anything. ``load()`` does the slow work, once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from namm_mm.records import Agent, Answer, Inputs, Sample

if TYPE_CHECKING:
    from torch import nn

    from namm_mm.memory import Memory


@runtime_checkable
class Adapter(Protocol):
    """What both kinds of adapter share.

    An adapter may have a property ``facts``, a mapping with JSON values: how the loaded model is
    run, for every record (a context extension, the number of frames).
    """

    @property
    def model_name(self) -> str:
        """Identity of the model for records: a hub id, a folder or an asset name."""
        ...

    def load(self) -> None:
        """Load the model: from the hub, a local folder, or a bundled asset. Called once.

        Raises
        ------
        UsageError
            The device is absent, the model is of an unknown class, or sizes do not fit.
        RunError
            Files are missing or damaged; the message says which and how to get them.
        """
        ...

    @property
    def backbone(self) -> nn.Module:
        """The module whose forward takes ``past_key_values``: the memory is attached to it."""
        ...


@runtime_checkable
class AnsweringAdapter(Adapter, Protocol):
    """Answers one sample at a time."""

    def prepare(self, sample: Sample) -> Inputs:
        """Turn a sample into tensors and one token type for every token."""
        ...

    def answer(self, inputs: Inputs, memory: Memory | None) -> Answer:
        """Generate, or choose among the sample's options.

        The caller has attached `memory` to `backbone`; the adapter just calls the model. With
        ``None`` the model runs with its ordinary cache.
        """
        ...


@runtime_checkable
class ActingAdapter(Adapter, Protocol):
    """Gives agents for batches of environments.

    An adapter may have a method ``window_agent(environments, tokens, *, target_return)``, which
    gives a :class:`ReencodingAgent`: the policy ``window`` is played with it.
    """

    def agent(self, environments: int, memory: Memory | None, *, target_return: float) -> Agent:
        """Start a new episode in each of `environments` environments.

        Raises
        ------
        UsageError
            From the agent's first ``act``, when the state dimension is not the model's.
        """
        ...

    @property
    def dimensions(self) -> tuple[int, int]:
        """State and action dimension of the loaded model."""
        ...
