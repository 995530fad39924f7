"""What can be known to be wrong with the policies of a cell before any model loads."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from namm_mm.adapters import ADAPTERS
from namm_mm.adapters.base import ActingAdapter, Adapter, AnsweringAdapter
from namm_mm.errors import NammError, UsageError, message
from namm_mm.experiment.settings import OWN_BUDGET, CellSettings, PolicySettings
from namm_mm.memory.carriers import check_made_for
from namm_mm.memory.layout import Layout
from namm_mm.models.local import decoder_config
from namm_mm.policies import budgets, create
from namm_mm.policies.base import Budget, KeepAll, Policy, Selection, Threshold
from namm_mm.policies.head_table import MAKE
from namm_mm.records.shape import TEXT
from namm_mm.registry.registry import build


def policy_problems(cell: CellSettings) -> Iterator[str]:
    """Yield what is wrong with the policies of a cell and with their budgets."""
    runs = [(_label(policy), policy.budget) for policy in cell.policies]
    for name, budget in {run for run in runs if runs.count(run) > 1}:
        yield at(cell, "policies", f"{name!r} with budget {budget!r} is listed twice.")
    for policy in cell.policies:
        if policy.name:
            yield from _policy(cell, policy)


def _label(settings: PolicySettings) -> str:
    """The policy as records name it."""
    try:
        return create(settings.name, **settings.options).name
    except NammError:  # said with the policy itself
        return settings.name


def _policy(cell: CellSettings, settings: PolicySettings) -> Iterator[str]:
    try:
        policy = create(settings.name, **settings.options)
    except NammError as error:
        yield at(cell, "policies", str(error))
        return
    adapter = _adapter(cell)
    if adapter is not None and (unread := content_problem(policy, adapter)):
        yield at(cell, "policies", unread)
    if adapter is not None and policy.made_for not in ("", adapter.model_name):
        yield at(
            cell,
            "policies",
            message(
                f"{policy.name} was trained for another model",
                given=adapter.model_name,
                expected=policy.made_for,
                then="`namm-mm build` trains one for this model. anyway=true uses this one.",
            ),
        )
    elif adapter is not None and (misfit := _misfit(policy, adapter.model_name)):
        yield at(cell, "policies", misfit)
    if policy.needs is not None:
        try:
            policy.needs.check_interval(cell.interval)
        except UsageError as error:
            yield at(cell, "interval", str(error))
    if policy.reencodes:
        yield from _window(cell, settings)
    else:
        yield from _budget(cell, settings, policy)


def _misfit(policy: Policy, model: str) -> str:
    """Say which feature maps do not fit the heads of a model whose configuration is here."""
    if policy.residual is None or (config := decoder_config(model)) is None:
        return ""
    try:
        check_made_for(policy, config, Layout.of(config).attention)
    except UsageError as error:
        return str(error)
    return ""


def content_problem(policy: Policy, adapter: Adapter) -> str:
    """Return what is wrong where a policy must be told of tokens that the adapter has none of."""
    content = policy.content
    if policy.probe is not None and isinstance(adapter, ActingAdapter):
        return message(
            f"{policy.name} needs a model that reads token ids",
            given=f"the adapter {type(adapter).__name__}",
            expected="an adapter that answers, such as text or llava_video",
            then="Take the policy below it alone.",
        )
    if content is None:
        return ""
    reads = adapter.reads or {content}
    fits = reads == {TEXT} if content == TEXT else content in reads
    if isinstance(adapter, AnsweringAdapter) and fits:
        return ""
    example = "text alone, such as text" if content == TEXT else f"{content}, such as llava_video"
    return message(
        f"{policy.name!r} is for {content}",
        given=f"the adapter {type(adapter).__name__}",
        expected=f"an adapter that reads {example}",
        then="Other policies, such as snapkv and keydiff, run with this adapter.",
    )


def _model(cell: CellSettings) -> str:
    adapter = _adapter(cell)
    return "another adapter's model" if adapter is None else adapter.model_name


def _adapter(cell: CellSettings) -> Adapter | None:
    try:
        return build(ADAPTERS, cell.adapter.name, cell.adapter.options)
    except NammError:  # said with the adapter itself
        return None


def _window(cell: CellSettings, settings: PolicySettings) -> Iterator[str]:
    adapter = _adapter(cell)
    if adapter is not None and not (isinstance(adapter, ActingAdapter) and adapter.reencodes):
        yield at(
            cell,
            "policies",
            message(
                f"{settings.name!r} encodes its tokens anew for every decision",
                given=cell.adapter.name,
                expected="an adapter for control that can, such as decision_transformer",
                then="`recency` with sinks=0 is a window of cached tokens.",
            ),
        )
    if settings.budget != OWN_BUDGET and not settings.budget.startswith("tokens:"):
        yield at(
            cell,
            f"budget of {settings.name!r}",
            message(
                "nothing is evicted",
                given=settings.budget,
                expected="the size of the window: tokens:60 for 20 steps",
            ),
        )


def _budget(cell: CellSettings, settings: PolicySettings, policy: Policy) -> Iterator[str]:
    words = settings.budget
    if words == OWN_BUDGET:
        for wrong in _uneven(cell, policy.selection):
            yield at(cell, f"budget of {settings.name!r}", wrong)
        return
    if budgets.matched_policy(words) is not None and not isinstance(policy.selection, KeepAll):
        yield from _match(cell, settings)
        return
    for wrong in _size(cell, words, policy):
        yield at(cell, f"budget of {settings.name!r}", wrong)


def _size(cell: CellSettings, words: str, policy: Policy) -> Iterator[str]:
    """Yield what is wrong with a budget that matches no other policy."""
    if isinstance(policy.selection, KeepAll):
        if words != policy.selection.describe():
            yield message(
                "this policy keeps every token",
                given=words,
                expected="no budget, or another policy",
            )
        return
    try:
        selection = dataclasses.replace(policy, budget=budgets.parse(words)).selection
    except NammError as error:
        yield str(error)
        return
    if words.startswith("threshold") and not isinstance(policy.selection, Threshold):
        yield message(
            "the scores of this policy have no threshold",
            given=words,
            expected="a size: tokens:64, fraction:0.25",
        )
    yield from _uneven(cell, selection)


def _uneven(cell: CellSettings, selection: Selection) -> Iterator[str]:
    """Yield what is wrong with sizes that differ from head to head."""
    if not isinstance(selection, Budget) or not selection.uneven:
        return
    words = selection.describe()
    if selection.table is not None and selection.table.model not in ("", model := _model(cell)):
        yield message(
            "the table of heads was made on another model",
            given=f"{words}, made on {selection.table.model}",
            expected=f"one made on {model}",
            then=MAKE,
        )
    if cell.storage != "per_head":
        yield message(
            "heads cannot have sizes of their own where all keep the same number",
            given=f"{words} with storage {cell.storage}",
            expected="storage per_head",
            then="Set storage=per_head, or take fraction:F.",
        )


def _match(cell: CellSettings, settings: PolicySettings) -> Iterator[str]:
    followed = budgets.matched_policy(settings.budget)
    traced = [name for name in map(_traced, cell.policies) if name]
    if followed not in traced and not any(map(_broken, _named(cell, followed))):
        yield at(
            cell,
            "budgets",
            message(
                f"nothing to match for {settings.name!r}",
                given=settings.budget,
                expected="match: and a policy of the same cell that has a budget of its own",
                valid=traced,
                then="Add that policy, or give a size: tokens:64, fraction:0.25.",
            ),
        )


def _named(cell: CellSettings, name: str | None) -> Iterator[PolicySettings]:
    return (settings for settings in cell.policies if settings.name == name)


def _broken(settings: PolicySettings) -> bool:
    """Whether a policy cannot be made: that is said with the policy itself."""
    try:
        create(settings.name, **settings.options)
    except NammError:
        return True
    return False


def _traced(settings: PolicySettings) -> str:
    """The name of a policy whose sizes others can match: it follows nobody, and evicts."""
    if budgets.matched_policy(settings.budget) is not None or settings.budget == "full":
        return ""
    try:
        policy = create(settings.name, **settings.options)
    except NammError:
        return ""
    evicts = not policy.reencodes and not isinstance(policy.selection, KeepAll)
    return settings.name if evicts else ""


def at(cell: CellSettings, key: str, what: str) -> str:
    """Return a problem under its full key: ``cells.text.interval: ...``."""
    return f"cells.{cell.name}.{key}: {what}"
