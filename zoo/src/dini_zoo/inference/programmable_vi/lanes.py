"""Branches and loops under `jax.vmap` whose condition differs between lanes.

JAX computes all branches then, and a loop's body until the last lane has ended, and selects among the values. A cost,
or the density of a choice that has an address, has no value that could be selected: it would count for every lane. So
they are refused there. A choice without an address may stay: in lanes that do not take it, its score has the mean zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jax.interpreters import batching
from jax.lax import cond_p, while_p

from .jaxprs import within
from .sites import cost_p, program_p, sample_p


def _counted(jaxprs: Sequence[Any]) -> str:
    """What would count for every lane; empty where nothing would."""
    for jaxpr in jaxprs:
        for one in (inner for equation in jaxpr.eqns for inner in within(equation)):
            if one.primitive is cost_p:
                return "A cost"
            if one.primitive in (sample_p, program_p) and one.params.get("address"):
                return f"The choice {one.params['address']!r}"
    return ""


def _differs(params: Any, mapped: Sequence[bool]) -> bool:
    """Whether the lanes of a loop may end at different times."""
    n, m = params["cond_nconsts"], params["body_nconsts"]
    for_cond, for_body, carried = list(mapped[:n]), list(mapped[n : n + m]), list(mapped[n + m :])
    while True:
        after = [a or b for a, b in zip(carried, _reached(params["body_jaxpr"], for_body + carried), strict=True)]
        if after == carried:
            return _reached(params["cond_jaxpr"], for_cond + carried)[0]
        carried = after


def _reached(closed: Any, mapped: Sequence[bool]) -> list[bool]:
    """Which outputs depend on operands that differ between lanes, or on draws."""
    found = {one for one, yes in zip(closed.jaxpr.invars, mapped, strict=True) if yes}
    differing = lambda variables: any(not hasattr(one, "val") and one in found for one in variables)
    for equation in closed.jaxpr.eqns:
        if differing(equation.invars) or any(one.primitive is sample_p for one in within(equation)):
            found.update(equation.outvars)
    return [differing([one]) for one in closed.jaxpr.outvars]


def _guard(primitive: Any, jaxprs: Callable[[Any], Any], differs: Callable[[Any, Sequence[bool]], bool]) -> None:
    rule = batching.fancy_primitive_batchers[primitive]

    def guarded(axis: Any, values: Any, axes: Any, **params: Any) -> Any:
        counted = _counted([getattr(one, "jaxpr", one) for one in jaxprs(params)])
        if counted and differs(params, [one is not None for one in axes]):
            raise NotImplementedError(
                f"{counted} stands in `{primitive.name}` under `jax.vmap`, and the condition differs between lanes: it "
                "would count for all of them. Take `jnp.where` in its place, with a cost of zero where there is none."
            )
        return rule(axis, values, axes, **params)

    batching.fancy_primitive_batchers[primitive] = guarded


def refuse_where_lanes_differ() -> None:
    """Put the refusal in front of JAX's own rules, once."""
    _guard(cond_p, lambda params: params["branches"], lambda _, mapped: mapped[0])
    _guard(while_p, lambda params: [params["body_jaxpr"]], _differs)
