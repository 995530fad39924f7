"""The pocket Decision Transformers: environment, data and training of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from namm_mm.tasks.offline_rl.orders import FIRST, SHOWN
from research.builders.control.ppo import PpoSettings
from research.builders.control.training import TrainingSettings


@dataclass(frozen=True)
class Mixture:
    """How much data each behaviour policy gives, and its exploration noise.

    Attributes
    ----------
    medium, expert, replay
        Transitions of the medium policy, of the expert, and of all snapshots up to the expert
        together.
    medium_noise, expert_noise
        Factor on the policy's own exploration noise. That of PPO is large: with all of it an expert
        Hopper returns 2100 instead of 3200. The replay part has all of it.
    """

    medium: int = 40_000
    expert: int = 30_000
    replay: int = 20_000
    medium_noise: float = 0.5
    expert_noise: float = 0.3


@dataclass(frozen=True)
class PocketModel:
    """One bundled Decision Transformer.

    Attributes
    ----------
    asset
        Name of its folder in ``namm_mm/assets``.
    environment, hidden_velocities, orders
        What the model plays; see :class:`~namm_mm.tasks.offline_rl.OfflineRlTask`.
    policy_steps, snapshot
        Environment steps of PPO, and between two snapshots.
    ppo, mixture, training
        Settings of its behaviour policies, its data and its training.
    slice
        Transitions of each quality that are bundled, rounded up to whole episodes.
    first
        Whether policies and a slice of the data are bundled with it; other models of the same
        environment learn from the same data.
    history
        How checkpoints play for their selection: ``window`` or ``cache``.
    policies_of
        Name of another model whose bundled policies act here; no policy is trained. Those that
        were trained without orders are told the sign of their motors.
    earliest_of
        Name of another model. This one is the earliest checkpoint of its training whose validation
        score is within a point of the best; it shows how much depends on the checkpoint.
    """

    asset: str
    environment: str
    hidden_velocities: bool = False
    orders: bool = False
    policy_steps: int = 400_000
    snapshot: int = 50_000
    ppo: PpoSettings = field(default_factory=PpoSettings)
    mixture: Mixture = field(default_factory=Mixture)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    slice: int = 4_000
    first: bool = True
    history: Literal["cache", "window"] = "window"
    policies_of: str = ""
    earliest_of: str = ""

    @property
    def command(self) -> str:
        """The command that makes it again."""
        return f"namm-mm build pocket-rl asset={self.asset}"

    @property
    def data_folder(self) -> str:
        """Name of the folder of its policies and data, in the work folder."""
        found = f"{self.environment}-orders" if self.orders else self.environment
        return f"{found}-bundled" if self.policies_were_reminded else found

    @property
    def policies_were_reminded(self) -> bool:
        """Whether the policies that act are those of another model with orders."""
        return self.policies_of.endswith("_orders")


HOPPER = PocketModel("pocket_rl_hopper", "Hopper-v5")

WALKER2D = PocketModel(
    "pocket_rl_walker2d",
    "Walker2d-v5",
    policy_steps=800_000,
    snapshot=100_000,
    training=TrainingSettings(updates=1000),
)

LONG = TrainingSettings(window=64, batch=16)
"""Training with a long context: as many steps as a cache of 192 tokens holds."""

QUIET = PpoSettings(
    gamma=0.98,
    gae_lambda=0.92,
    epochs=10,
    max_gradient=0.8,
    value_weight=0.58,
    log_deviation=-2.0,
    orthogonal=False,
)
"""PPO for HalfCheetah with little noise at first, as in the tuned settings of RL Zoo."""

HALFCHEETAH = PocketModel(
    "pocket_rl_halfcheetah",
    "HalfCheetah-v5",
    snapshot=100_000,
    ppo=QUIET,
    mixture=Mixture(medium_noise=1.0, expert_noise=1.0),
    training=TrainingSettings(updates=1500),
)

WITH_ORDERS = TrainingSettings(
    window=64,
    beginning=FIRST + SHOWN,
    batch=8,
    updates=800,
    every=200,
    dropout=0.0,
    hidden_weight=0.5,
)
"""Training with orders, which every window contains, however far back they are."""

HOPPER_ORDERS = PocketModel(
    "pocket_rl_hopper_orders",
    "Hopper-v5",
    orders=True,
    mixture=Mixture(medium=20_000),
    training=replace(WITH_ORDERS, updates=3000, every=500),
    first=False,
    history="cache",
    policies_of="pocket_rl_hopper",
)

HALFCHEETAH_ORDERS = replace(
    HALFCHEETAH,
    asset="pocket_rl_halfcheetah_orders",
    orders=True,
    policy_steps=200_000,
    ppo=replace(QUIET, log_deviation=-1.5),
    mixture=Mixture(medium_noise=0.3, expert_noise=0.3),
    slice=2_500,
    training=WITH_ORDERS,
    history="cache",
)

WALKER2D_ORDERS = replace(
    HOPPER_ORDERS,
    asset="pocket_rl_walker2d_orders",
    environment="Walker2d-v5",
    policies_of="pocket_rl_walker2d",
)


def with_heads(model: PocketModel, heads: int, seed: int = 0) -> PocketModel:
    """Return `model` with so many attention heads of the same width together.

    It is named ``NAME_2`` or ``NAME_4``, and ``NAME_4_seed1`` for a later training seed. The
    bundled policies of `model` act where it trained some of its own. Weights are stored in half
    precision, and are selected as they are stored.
    """
    return replace(
        model,
        asset=f"{model.asset}_{heads}" + (f"_seed{seed}" if seed else ""),
        training=replace(
            model.training, heads=heads, seed=seed, updates=2000, every=500, stored="float16"
        ),
        first=False,
        policies_of=model.policies_of or model.asset,
    )


MODELS: Mapping[str, PocketModel] = {
    model.asset: model
    for model in (
        HOPPER,
        replace(
            HOPPER,
            asset="pocket_rl_hopper_early",
            first=False,
            earliest_of="pocket_rl_hopper",
        ),
        replace(
            HOPPER,
            asset="pocket_rl_hopper_seed1",
            training=TrainingSettings(seed=1),
            first=False,
        ),
        replace(
            HOPPER,
            asset="pocket_rl_hopper_long",
            training=LONG,
            first=False,
        ),
        WALKER2D,
        replace(WALKER2D, asset="pocket_rl_walker2d_long", training=LONG, first=False),
        HALFCHEETAH,
        replace(
            HALFCHEETAH,
            asset="pocket_rl_halfcheetah_hidden",
            hidden_velocities=True,
            training=replace(LONG, dropout=0.0, hidden_weight=0.5),
            first=False,
        ),
        HALFCHEETAH_ORDERS,
        HOPPER_ORDERS,
        WALKER2D_ORDERS,
        replace(
            HOPPER,
            asset="pocket_rl_hopper_hidden",
            hidden_velocities=True,
            training=TrainingSettings(
                window=64,
                batch=16,
                updates=1250,
                dropout=0.0,
                hidden_weight=0.5,
                shifted=True,
            ),
            first=False,
        ),
        *(
            with_heads(model, heads, seed)
            for model in (HOPPER_ORDERS, HALFCHEETAH_ORDERS, WALKER2D_ORDERS)
            for heads, seed in ((4, 0), (4, 1), (4, 2), (2, 0))
        ),
    )
}
"""What can be built. A model that is not in ``namm_mm/assets`` is an experiment.

Hopper without velocities falls: with the data of the policies of `pocket_rl_hopper` it scores 15
with these settings, and 22 at best, with 3,000 updates that are not shifted.
"""
