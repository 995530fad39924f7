"""Melodies for namm-mm: an adapter, a task and two policies, registered through entry points."""
