"""Plug a NAMM into a Decision Transformer, play four environments, and read what it kept."""

from namm_mm import attach, policy
from namm_mm.adapters.control.adapter import DecisionTransformerAdapter
from namm_mm.experiment.kept import by_kind, kept_fractions
from namm_mm.policies import Threshold
from namm_mm.tasks.offline_rl import OfflineRlTask

adapter = DecisionTransformerAdapter("pocket_rl_hopper")
adapter.load()
task = OfflineRlTask("Hopper-v5", max_steps=200)  # of 1000, to be done in seconds
samples = task.samples("test", limit=4, seed=0)

# 60 tokens, the size of the published window, of which the newest 16 stay whatever their scores
chosen = policy("namm", budget=Threshold(limit=60), recents=16)
with attach(adapter.backbone, chosen, interval=48, storage="per_head") as memory:
    agent = adapter.agent(len(samples), memory, target_return=task.target_return())
    for episode in task.play(samples, agent):
        use = memory.usage(episode.row)
        token_types = agent.token_types[: use.seen]
        kept = by_kind(kept_fractions(memory, token_types, episode.row), token_types)
        print(f"{episode.sample.id}: return {sum(episode.rewards):.0f}", end=", ")
        print(f"{use.tokens_final:.0f} of {use.seen} tokens, kept by kind", end=" ")
        print({kind: f"{part:.0%}" for kind, part in kept.items()})
