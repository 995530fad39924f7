"""The bases of all adapters.

An adapter serves one modality. It knows models and tokens, and nothing of benchmarks. A class
subclasses one of two bases, which match the two shapes of task: an :class:`AnsweringAdapter`
answers one sample at a time, an :class:`ActingAdapter` gives an agent that acts in a batch of
environments. What is not abstract in a base is optional, and has a default there.

A class is registered, and built by the experiment as ``adapter_class(**options)`` with the options
of the configuration (``configs/adapter/NAME.yaml`` without `name`). Construction checks the options
and loads nothing. :meth:`Adapter.load` loads the model, once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from namm_mm.errors import UnsupportedError, message
from namm_mm.records import Agent, Answer, Inputs, ReencodingAgent, Sample
from namm_mm.records.shape import ACTING, ANSWERING, Shape

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch import nn

    from namm_mm.memory import Memory


class Adapter(ABC):
    """What both shapes of adapter share; subclass one of the two below.

    Attributes
    ----------
    shape
        ``answering`` or ``acting``, as in the task that it serves.
    reads
        Kinds of content that a sample may hold: ``text``, ``video``, ``image``, ``sound``, or one
        of the adapter's own. None does not say: every task of the same shape is tried.
    requires
        Those of them that every sample must hold.
    """

    shape: ClassVar[Shape]
    reads: ClassVar[frozenset[str] | None] = None
    requires: ClassVar[frozenset[str]] = frozenset()

    @property
    @abstractmethod
    def model_name(self) -> str:
        """Identity of the model for records: a hub id, a folder or an asset name."""

    @abstractmethod
    def load(self) -> None:
        """Load the model: from the hub, a local folder, or a bundled asset. Called once.

        Raises
        ------
        UsageError
            The device is absent, the model is of an unknown class, or sizes do not fit.
        RunError
            Files are missing or damaged; the message says which and how to get them.
        """

    @property
    @abstractmethod
    def backbone(self) -> nn.Module:
        """The module whose forward takes ``past_key_values``: the memory is attached to it."""

    def missing(self) -> Iterable[str]:
        """Return what the model lacks on this machine, one sentence each; the default is nothing.

        It is asked before any model of a run is loaded, and loads none itself.
        """
        return ()

    @property
    def facts(self) -> Mapping[str, Any]:
        """How the model is run, for every record, such as a context extension (JSON values only).

        The default is empty. It is asked for failed samples too, so it must not need a loaded
        model.
        """
        return {}


class AnsweringAdapter(Adapter):
    """Answers one sample at a time."""

    shape: ClassVar[Shape] = ANSWERING

    @abstractmethod
    def prepare(self, sample: Sample) -> Inputs:
        """Turn a sample into tensors, with one token type for every token.

        Returns
        -------
        Inputs
            Keyword arguments of the model's forward, a batch of one on the model's device.
        """

    @abstractmethod
    def answer(self, inputs: Inputs, memory: Memory | None) -> Answer:
        """Generate, or choose among the sample's options.

        Parameters
        ----------
        inputs
            What :meth:`prepare` returned.
        memory
            The memory that the caller has attached to `backbone`; the adapter calls the model as
            usual. None: the model runs with its ordinary cache.

        Returns
        -------
        Answer
            The text, and the option where the sample has options.
        """

    @property
    def answering(self) -> str:
        """How the model answers, in one word: ``likelihood``, ``options``, ``generate``.

        It distinguishes numbers of one model. The default is empty.
        """
        return ""

    def pieces(self, inputs: Inputs) -> tuple[str, ...]:
        """Return the text of each token, for reports; the default is empty: tokens are no text."""
        return ()


class LanguageAdapter(AnsweringAdapter):
    """Answers with a causal language model. A NAMM can be evolved on such an adapter alone.

    Where `answering` is ``generate``, :meth:`new_tokens` and :meth:`decode` are needed too.
    """

    @abstractmethod
    def continuation(self, sample: Sample, text: str) -> list[int]:
        """Return the tokens of `text` (an answer, an option) as they come after the prompt."""

    def new_tokens(self, sample: Sample) -> int:
        """Return how many tokens are generated at most as an answer; by default none."""
        return 0

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of generated `tokens`; the default is empty."""
        return ""


class ActingAdapter(Adapter):
    """Gives agents for batches of environments."""

    shape: ClassVar[Shape] = ACTING

    @property
    @abstractmethod
    def dimensions(self) -> tuple[int, int]:
        """State and action dimension of the loaded model."""

    @abstractmethod
    def agent(self, environments: int, memory: Memory | None, *, target_return: float) -> Agent:
        """Start a new episode in each of `environments` environments.

        Parameters
        ----------
        environments
            How many there are.
        memory
            The memory that the caller has attached to `backbone`; None: nothing is evicted.
        target_return
            The return that the agent is asked for, in units of reward.

        Returns
        -------
        Agent
            Its first ``act`` raises a `UsageError` when the state dimension is not the model's.
        """

    @property
    def reencodes(self) -> bool:
        """Whether the policy ``window`` can run: true where :meth:`window_agent` is overridden."""
        return type(self).window_agent is not ActingAdapter.window_agent

    def window_agent(
        self, environments: int, tokens: int, *, target_return: float
    ) -> ReencodingAgent:
        """Start new episodes without a memory: the last `tokens` are encoded for every decision.

        Raises
        ------
        UnsupportedError
            The adapter has no such agent, which is the default.
        """
        raise UnsupportedError(
            message(
                f"{type(self).__name__} does not encode a window of tokens for every decision",
                given=f"a window of {tokens} tokens",
                expected="an adapter that has a `window_agent`, such as decision_transformer",
                then="`recency` with sinks=0 is a window of cached tokens.",
            )
        )
