"""``--cfg job`` and ``--info defaults-tree``: print what is composed, and of which files."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import yaml

from namm_mm.commands import cells, shorthand
from namm_mm.commands.compose import CONFIGS, asked_of_hydra, compose
from namm_mm.commands.overrides import read_overrides
from namm_mm.errors import UsageError, message

if TYPE_CHECKING:
    from hydra.core.default_element import DefaultsTreeNode, InputDefault

    from namm_mm.commands.call import Call

INSPECT_OPTIONS = {"cfg": True, "info": True}

NO_JOB = "Hydra composes the configuration here and does not run it."

INSTEAD = {
    ("cfg", "hydra"): NO_JOB,
    ("cfg", "all"): NO_JOB,
    ("info", "all"): "`--info defaults-tree` and `--cfg job` print it in two parts.",
    ("info", "config"): "`--cfg job` prints it.",
    ("info", "defaults"): "`--info defaults-tree` prints the same files, indented by who asks.",
    ("info", "plugins"): "`namm-mm list` shows what is installed.",
    ("info", "searchpath"): "Files are in the package, and in the folder of `--configs FOLDER`.",
}
"""Values of the two options that Hydra has, and what there is instead."""


def inspected(verb: str, call: Call) -> bool:
    """Print what ``--cfg`` or ``--info`` asks for; return whether one of them was given.

    Raises
    ------
    UsageError
        The configuration cannot be composed, or the value of the option is unknown.
    """
    for option, value in (("cfg", "job"), ("info", "defaults-tree")):
        given = call.options.get(option)
        if given in (None, value):
            continue
        raise UsageError(
            message(
                f"wrong --{option}",
                given=given,
                expected=f"--{option} {value}",
                then=INSTEAD.get((option, str(given)), ""),
            )
        )
    if "cfg" in call.options:
        config = compose(verb, call.words, call.configs)
        sys.stdout.write(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    if "info" in call.options:
        sys.stdout.write("".join(f"{line}\n" for line in _defaults_tree(verb, call)))
    return bool(INSPECT_OPTIONS.keys() & call.options.keys())


def _defaults_tree(verb: str, call: Call) -> Iterator[str]:
    """Yield the files that make a configuration, a line each, indented by which file asks."""
    from hydra import initialize_config_module
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    compose(verb, call.words, call.configs)  # says what is wrong, as everywhere
    overrides = shorthand.in_full(verb, read_overrides(call.words))
    if verb == "transfer":
        overrides, _ = cells.without_choice(cells.of_one_cell(overrides))
    asked = asked_of_hydra(overrides, call.configs)
    with initialize_config_module(CONFIGS, version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        found = loader.compute_defaults_list(verb, asked, RunMode.RUN)
    yield from _lines(found.defaults_tree, 0)


def _lines(tree: DefaultsTreeNode | InputDefault, depth: int) -> Iterator[str]:
    from hydra.core.default_element import DefaultsTreeNode, GroupDefault

    node, children = (
        (tree.node, tree.children) if isinstance(tree, DefaultsTreeNode) else (tree, ())
    )
    if not node.is_virtual():
        path = node.get_config_path()
        if path == "hydra/config":  # Hydra's own, none of which has an effect
            return
        name = (
            f"{node.get_override_key()}: {node.get_name()}"
            if isinstance(node, GroupDefault)
            else path
        )
        yield "  " * depth + name
        depth += 1
    for child in children or ():
        yield from _lines(child, depth)
