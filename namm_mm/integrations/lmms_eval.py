"""lmms-eval with a memory that forgets: its tasks, its prompts, its scores, any policy of ours.

lmms-eval finds these models by the entry point ``lmms_eval.models`` of this package: run it with
``--model namm_llava_hf --model_args pretrained=MODEL,policy=namm,checkpoint=FILE,interval=512``.

``namm_X`` is lmms-eval's own wrapper X, its arguments and behaviour unchanged, with a memory on its
language model. ``namm_video`` is our video adapter, for video tasks without torchvision and with
its own options (``frames``, ``rope``, ``quantization``). Arguments of the memory: ``policy``,
``checkpoint``, ``budget``, ``interval``, ``storage``, ``protocol``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from namm_mm.adapters.video.adapter import LlavaVideoAdapter
from namm_mm.errors import RunError, UsageError, message
from namm_mm.memory import Memory, attach
from namm_mm.memory.watch import Update, Watcher
from namm_mm.policies import budgets, create
from namm_mm.policies.base import Policy
from namm_mm.records import PROTOCOLS, STORAGES, Sample

WRAPPERS: Mapping[str, tuple[str | None, str | None]] = {
    "llava_hf": ("LlavaHf", "LlavaHf"),
    "video_llava": ("VideoLLaVA", None),
    "llava": ("Llava", None),
    "llava_onevision": ("Llava_OneVision", None),
    "llava_vid": ("LlavaVid", None),
    "longva": ("LongVA", None),
}
"""Wrappers of lmms-eval: the class that takes prompts, and the one that takes chat messages."""

OURS = "video"


@dataclasses.dataclass(frozen=True)
class MemoryArguments:
    """How the memory is run; the words of ``namm-mm evaluate``.

    Raises
    ------
    UsageError
        A word is unknown.
    """

    policy: str = "namm"
    checkpoint: str = ""
    budget: str = ""
    interval: int = 128
    storage: str = "shared"
    protocol: str = "streaming"

    def __post_init__(self) -> None:
        words = (("storage", self.storage, STORAGES), ("protocol", self.protocol, PROTOCOLS))
        for name, given, valid in words:
            if given not in valid:
                raise UsageError(
                    message(f"unknown {name}", given=given, expected="a known one", valid=valid)
                )
        self.make()

    def make(self) -> Policy:
        """Build the policy under its budget."""
        options: dict[str, Any] = {"checkpoint": self.checkpoint} if self.checkpoint else {}
        if self.budget:
            options["budget"] = budgets.parse(self.budget)
        policy: Policy = create(self.policy, **options)
        return policy

    def attach(self, model: Any, watcher: Watcher | None = None) -> Any:
        """Attach a memory to `model`."""
        return attach(
            model,
            self.make(),
            interval=int(self.interval),
            storage=self.storage,
            protocol=self.protocol,
            watcher=watcher,
        )


@dataclasses.dataclass
class Tally:
    """What a memory kept, over all requests of a run: ``model.tally``.

    Attributes
    ----------
    updates
        Evictions, counted for every layer and sequence.
    seen
        Sum over them of the tokens that the sequence had processed by then.
    kept
        Sum over them of the tokens that stayed, means over heads.
    """

    updates: int = 0
    seen: int = 0
    kept: float = 0.0

    def __call__(self, update: Update) -> None:
        """Count one eviction: a watcher of :func:`namm_mm.memory.attach`."""
        self.updates += len(update.rows)
        self.seen += update.seen * len(update.rows)
        self.kept += float((update.kept >= 0).sum(-1).float().mean(-1).sum())

    @property
    def words(self) -> str:
        """One line for a log."""
        if not self.updates:
            return "nothing was evicted: every prompt was shorter than the interval"
        part = self.kept / self.seen
        return f"kept {part:.1%} of the tokens seen, a mean over {self.updates} evictions"


def split_arguments(given: Mapping[str, Any]) -> tuple[MemoryArguments, dict[str, Any]]:
    """Part a wrapper's arguments into those of the memory and the rest."""
    names = {field.name for field in dataclasses.fields(MemoryArguments)}
    own = {key: value for key, value in given.items() if key in names}
    rest = {key: value for key, value in given.items() if key not in names}
    return MemoryArguments(**own), rest


def manifests() -> list[Any]:
    """What lmms-eval is told: one model for each of its wrappers, and ours."""
    from lmms_eval.models.registry_v2 import ModelManifest

    found = [
        ModelManifest(
            f"namm_{name}",
            simple_class_path=f"{__name__}.{name}_simple" if simple else None,
            chat_class_path=f"{__name__}.{name}_chat" if chat else None,
        )
        for name, (simple, chat) in WRAPPERS.items()
    ]
    return [*found, ModelManifest(f"namm_{OURS}", simple_class_path=f"{__name__}.{OURS}_simple")]


def __getattr__(name: str) -> Any:
    """Make the class of a manifest when lmms-eval asks for it, and import its wrapper then."""
    wrapper, _, kind = name.rpartition("_")
    if name.startswith("__") or kind not in ("simple", "chat"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if wrapper == OURS:
        return _our_model()
    if wrapper not in WRAPPERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _with_memory(wrapper, kind)


@cache
def _with_memory(wrapper: str, kind: str) -> type:
    import importlib

    module = importlib.import_module(f"lmms_eval.models.{kind}.{wrapper}")
    base: Any = getattr(module, WRAPPERS[wrapper][kind == "chat"] or "")

    class WithMemory(base):  # type: ignore[misc]
        """The wrapper, with a memory on its model for as long as it answers."""

        def __init__(self, **given: Any) -> None:
            self.memory_arguments, rest = split_arguments(given)
            self.tally = Tally()
            super().__init__(**rest)

        def generate_until(self, requests: Any) -> Any:
            with _attached(self, len(requests)):
                replies = super().generate_until(requests)
            _say(self)
            return replies

        def loglikelihood(self, requests: Any) -> Any:
            with _attached(self, len(requests)):
                scores = super().loglikelihood(requests)
            _say(self)
            return scores

    WithMemory.__name__ = WithMemory.__qualname__ = f"Namm{base.__name__}"
    return WithMemory


@contextmanager
def _attached(wrapper: Any, requests: int) -> Iterator[Memory]:
    """Attach; wrappers swallow what goes wrong in a model, so say it if nothing ran at all."""
    with wrapper.memory_arguments.attach(wrapper.model, wrapper.tally) as memory:
        yield memory
        if requests and not _ran(memory):
            raise RunError(
                message(
                    f"no token went through the memory of {type(wrapper).__name__}",
                    given=f"{requests} requests",
                    expected="a model that calls its own decoder",
                    then="The log of lmms-eval holds the errors that its wrapper went on from.",
                )
            )


def _say(model: Any) -> None:
    """Say into lmms-eval's own log what was kept."""
    import importlib

    logger: Any = importlib.import_module("loguru").logger  # lmms-eval's, and of no other use here
    logger.info(f"{model.memory_arguments.policy}: {model.tally.words}")


def _ran(memory: Memory) -> bool:
    try:
        return memory.usage().seen > 0
    except RunError:  # it holds no row: the model was never called
        return False


@cache
def _our_model() -> type:
    from lmms_eval.api.model import lmms

    class NammVideo(lmms):  # type: ignore[misc]
        """Our video adapter as a model of lmms-eval; takes prompts about one video file."""

        def __init__(
            self,
            pretrained: str = "llava-hf/LLaVA-NeXT-Video-7B-hf",
            batch_size: int = 1,
            device: str = "auto",
            **given: Any,
        ) -> None:
            super().__init__()
            self.memory_arguments, options = split_arguments(given)
            self.tally = Tally()
            self.adapter = LlavaVideoAdapter(
                model=str(pretrained), device=str(device), answer_by="generate", **options
            )
            self.adapter.load()

        def generate_until(self, requests: Any) -> list[str]:
            found = []
            with self.memory_arguments.attach(self.adapter.backbone, self.tally) as memory:
                for request in requests:
                    context, settings, doc_to_visual, doc, task, split = request.args
                    visuals = doc_to_visual(self.task_dict[task][split][doc])
                    sample = Sample(
                        f"{task}/{doc}", str(task), prompt=context, video=_only_video(visuals)
                    )
                    self.adapter.max_new_tokens = int(settings.get("max_new_tokens") or 16)
                    answer = self.adapter.answer(self.adapter.prepare(sample), memory)
                    found.append(_until(answer.text, settings.get("until")))
            _say(self)
            return found

        def loglikelihood(self, requests: Any) -> Any:
            raise UsageError(
                "namm_video answers tasks that generate; namm_llava_hf scores likelihoods too."
            )

        def generate_until_multi_round(self, requests: Any) -> Any:
            raise UsageError("namm_video answers tasks of one round.")

    return NammVideo


def _only_video(visuals: Any) -> Path:
    if len(visuals) == 1 and isinstance(visuals[0], str | Path):
        return Path(visuals[0])
    raise UsageError(
        message(
            "namm_video answers questions about one video file",
            given=[type(visual).__name__ for visual in visuals],
            expected="the path of one video",
            then="namm_llava_hf takes images.",
        )
    )


def _until(text: str, ends: Any) -> str:
    """Cut a reply at the first of the ends that a task names."""
    for end in [ends] if isinstance(ends, str) else ends or []:
        if end:
            text = text.partition(end)[0]
    return text.strip()
