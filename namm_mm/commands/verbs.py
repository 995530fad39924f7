"""The verbs of the command line, with a line about each."""

from __future__ import annotations

from collections.abc import Mapping

VERBS: Mapping[str, str] = {
    "transfer": "run one NAMM and other policies on every cell of an experiment",
    "evolve": "evolve a NAMM on text, in stages; the same command resumes a stopped run",
    "evaluate": "run one adapter on one task under one policy",
    "ask": "answer one question about a file under several policies, side by side",
    "report": "make a report from the records of runs",
    "build": "make a bundled asset again",
    "new": "write a package with an adapter and a task of your own; it runs as it is",
    "models": "show or fetch models that are in no package; licence and origin are shown first",
    "namm": "say what a NAMM is: training, features, threshold, interval, scores, licence",
    "list": "show adapters, tasks, policies, NAMMs, models, experiments and evolutions",
    "doctor": "check the installation and say what is missing",
    "completion": "print a script that completes the command line in bash, zsh or fish",
}
