"""The forgetting KV cache: attach a policy to a model, generate, read what was kept.

::

    with attach(model, policy, interval=128) as memory:
        model.generate(**inputs)
    memory.usage()          # tokens and bytes
    memory.kept(layer=0)    # positions that each head still holds
"""

from namm_mm.memory.attach import Memory, attach

__all__ = ["Memory", "attach"]
