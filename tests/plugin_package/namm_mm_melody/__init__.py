"""Melodies for namm-mm: an adapter, a task and a policy, registered through entry points."""
