"""TrimKV: a trained gate says at first sight how long a token is worth keeping (2512.03324)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from namm_mm.errors import UsageError, message
from namm_mm.policies.base import LayerView, Policy
from namm_mm.policies.model_shape import heads_of
from namm_mm.policies.trim_gates import MAKE, TrimGates, load_gates

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class TrimKV(Policy):
    """``(now - position) log beta``, with ``log beta = logsigmoid(MLP([k; v]))`` of each head.

    The learned rival that does not transfer: its gates are trained for one model. It looks at no
    attention.

    Attributes
    ----------
    gates
        The trained gates: a bundled name, a file, or the gates themselves.
    anyway
        Use gates that were trained for a model of another name.
    """

    name: ClassVar[str] = "trimkv"
    gates: TrimGates | str | Path = "smollm2"
    anyway: bool = False
    loaded: TrimGates = field(init=False, repr=False, compare=False)

    def check(self) -> None:
        """Load the gates; raise `UsageError` where there are none."""
        given = self.gates
        loaded = given if isinstance(given, TrimGates) else load_gates(given)
        object.__setattr__(self, "loaded", loaded)

    @property
    def made_for(self) -> str:
        """The model of the gates' training; empty where any is taken."""
        return "" if self.anyway else str(self.loaded.card.get("model", ""))

    def for_model(self, model: nn.Module) -> Self:
        """Return itself.

        Raises
        ------
        UsageError
            The gates were trained for other layers or heads.
        """
        whole: Any = model
        config = whole.config.get_text_config(decoder=True)
        heads = heads_of(config)
        given = (int(config.num_hidden_layers), heads.kv, 2 * heads.size)
        if given != self.loaded.shape:
            raise UsageError(
                message(
                    "the gates of trimkv do not fit the model",
                    given=f"layers, kv heads, and size of a key with its value {given}",
                    expected=f"{self.loaded.shape}, those of "
                    f"{self.loaded.card.get('model', 'another model')}",
                    then=MAKE,
                )
            )
        return self

    def score(self, view: LayerView) -> Tensor:
        """(row, kv_head, slot): 0 for the newest token, below 0 for others."""
        return view.age * self.loaded.log_retention(view.layer, view.keys, view.values)
