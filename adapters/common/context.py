"""Extend the context of a model by scaling its rotary embedding.

``linear:F`` divides positions by F, in place of any scaling that the checkpoint brings (Chen et
al. 2023, arXiv 2306.15595). ``ntk:F`` raises the base of the rotary embedding for F times the
length, ``base * (2 F - 1) ** (d / (d - 2))`` with d the rotated size of a head: dynamic NTK scaling
of factor 2, held at F times the length; for F = 4 that is the recipe of the NAMM paper for Llama-3
(arXiv 2410.13166). It comes on top of a linear scaling that the checkpoint brings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from namm_mm.errors import UsageError, message

KINDS = ("linear", "ntk")


@dataclass(frozen=True)
class ContextExtension:
    """The rule and the factor by which a context is extended.

    Attributes
    ----------
    kind
        ``linear`` or ``ntk``.
    factor
        New length divided by the length that the model was trained on; at least 1.
    """

    kind: str
    factor: float

    def describe(self) -> str:
        """Return the words for a configuration and a record, such as ``ntk:4``."""
        return f"{self.kind}:{self.factor:g}"


def read_extension(words: str | None) -> ContextExtension | None:
    """Return the extension that `words` name, such as ``ntk:4``; None for None.

    Raises
    ------
    UsageError
        The rule is unknown, or the factor is not a number of 1 or more.
    """
    if words is None:
        return None
    kind, _, number = str(words).partition(":")
    if kind not in KINDS:
        raise UsageError(
            message(
                "unknown context extension",
                given=words,
                expected="a rule and a factor, such as linear:2.5 or ntk:4",
                valid=KINDS,
            )
        )
    try:
        factor = float(number)
    except ValueError:
        factor = 0.0
    if not 1.0 <= factor < float("inf"):
        raise UsageError(
            message(
                "wrong factor of the context extension",
                given=words,
                expected="a number of 1 or more after the colon, such as linear:2.5 or ntk:4",
            )
        )
    return ContextExtension(kind, factor)


def extend(config: Any, extension: ContextExtension | None) -> int | None:
    """Change the rotary embedding of a configuration, before its model is built.

    Parameters
    ----------
    config
        A configuration of transformers; its text part is changed in place.
    extension
        None changes nothing.

    Returns
    -------
    int or None
        Longest sequence in tokens after the extension; None where the checkpoint names none.

    Raises
    ------
    UsageError
        The model has no rotary embedding, or one of a kind that cannot be extended.
    """
    text = config.get_text_config(decoder=True)
    if extension is None:
        return context_length(text)
    rope = dict(_optional(text, "rope_parameters") or {})
    kind = rope.get("rope_type")
    if kind is None or (extension.kind == "ntk" and kind not in ("default", "linear")):
        raise UsageError(
            message(
                f"the context of a {text.model_type!r} model cannot be extended by "
                f"{extension.describe()}",
                given=kind or "no rotary embedding",
                expected="a rotary embedding that is not scaled yet, or linearly",
                then="Leave `rope` at null.",
            )
        )
    if extension.kind == "linear":
        text.rope_parameters = {
            "rope_type": "linear",
            "factor": extension.factor,
            "rope_theta": rope["rope_theta"],
            **{k: v for k, v in rope.items() if k == "partial_rotary_factor"},
        }
        return context_length(text)
    own = context_length(text)
    size = _optional(text, "head_dim") or text.hidden_size // text.num_attention_heads
    size = int(size * rope.get("partial_rotary_factor", 1.0))
    rope["rope_theta"] *= (2 * extension.factor - 1) ** (size / (size - 2))
    text.rope_parameters = rope
    return None if own is None else int(own * extension.factor)


def context_length(config: Any) -> int | None:
    """Return the longest sequence in tokens of a configuration; None where it names none."""
    text = config.get_text_config(decoder=True)
    longest: int | None = _optional(text, "max_position_embeddings")
    if longest is None:
        return None
    rope = _optional(text, "rope_parameters") or {}
    if rope.get("rope_type") in ("linear", "dynamic"):
        return int(longest * rope.get("factor", 1.0))
    if rope.get("rope_type") == "yarn" and "original_max_position_embeddings" in rope:
        return max(longest, int(rope["original_max_position_embeddings"] * rope["factor"]))
    return int(longest)


def _optional(config: Any, name: str) -> Any:
    """Return a setting of a configuration of transformers; None where its class has none."""
    return getattr(config, name, None)


def check_length(
    tokens: int,
    longest: int | None,
    *,
    name: str,
    sample: str,
    shorten: str = "Sample fewer frames with adapter.frames",
) -> None:
    """Raise `UsageError` if a prompt and its answer are longer than the model's context.

    `shorten` says how the prompt becomes shorter, for the message.
    """
    if longest is None or tokens <= longest:
        return
    factor = -(-tokens * 10 // longest) / 10
    raise UsageError(
        message(
            f"sample {sample!r} is longer than the context of {name!r}",
            given=f"{tokens} tokens with the answer",
            expected=f"at most {longest}",
            then=f"{shorten}, or extend the context: "
            f"adapter.rope=linear:{factor:g} or adapter.rope=ntk:{factor:g} (times what it has).",
        )
    )
