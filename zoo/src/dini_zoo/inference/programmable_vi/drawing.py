"""Programs whose choices are done in place: values, and the score and offset that their strategies add.

The rest of the program, an estimate :math:`k`, becomes :math:`e^s k + o`. Score and offset of several choices join, so
that such choices may stand in loops and branches. Simulation is the case in which all choices are simply drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from .jaxprs import Environment, bind_again, evaluate, within
from .sites import cost_p, program_p, sample_p, site_of

#: Primitives that only call a jaxpr. The first is called `pjit` before JAX 0.12.
CALLS = ("jit", "pjit", "closed_call", "core_call", "checkpoint", "remat", "remat2", program_p.name)

#: Whether a call's choices have no derivative, by what its equation says.
_detached = lambda equation: equation.params.get("detached", False)


def has_sites(equation: Any) -> bool:
    """Whether there is a random choice or a cost in an equation, at any depth."""
    return any(one.primitive in (sample_p, cost_p) for one in within(equation))


def choices(equation: Any) -> list[Any]:
    """The random choices in an equation, at any depth, without values: not those that are detached."""
    found = (one for one in within(equation, _detached) if one.primitive is sample_p)
    return [site_of(one, [None] * len(one.invars)) for one in found]


def branching(equation: Any) -> list[Any]:
    """Those whose strategy calls the rest of the program more than once."""
    return [site for site in choices(equation) if site.strategy.branches]


def called(equation: Any) -> Any:
    """The jaxpr that an equation calls."""
    return equation.params["jaxpr"] if "jaxpr" in equation.params else equation.params["call_jaxpr"]


def stopped(value: Any) -> Any:
    """A value without its derivative."""
    return jax.lax.stop_gradient(value) if jnp.issubdtype(jnp.result_type(value), jnp.inexact) else value


def joined(score: Any, offset: Any, more: Any, then: Any) -> tuple[Any, Any]:
    """Score and offset of two choices, one after the other."""
    return score + more, offset + jnp.exp(score) * then


def unknown(equation: Any) -> NotImplementedError:
    """What to raise at an equation that cannot be looked into."""
    places = ", ".join(site.where for site in choices(equation)) or "a cost"
    return NotImplementedError(
        f"There is {places} inside of `{equation.primitive.name}`, whose own rules it would not survive: draw it "
        "outside, and hand the value in."
    )


def drawn(closed: Any, values: Sequence[Any], key: Array, pure: bool) -> tuple[list[Any], Any, Any]:
    """Outputs, score and offset of a program without branches; with `pure` all values are drawn without derivatives."""
    env, score, offset = Environment.of(closed, values), 0.0, 0.0
    for equation in getattr(closed, "jaxpr", closed).eqns:
        values = env.read(equation.invars)
        if has_sites(equation):
            key, here = jax.random.split(key)
            outs, more, then = draw(equation, values, here, pure)
            score, offset = joined(score, offset, more, then)
        else:
            outs = bind_again(equation, values)
        env.write(equation.outvars, outs)
    return env.read(getattr(closed, "jaxpr", closed).outvars), score, offset


def draw(equation: Any, values: Sequence[Any], key: Array, pure: bool) -> tuple[list[Any], Any, Any]:
    """Outputs, score and offset of an equation in which there are choices."""
    name = equation.primitive.name
    if equation.primitive is cost_p:
        return [], 0.0, jnp.sum(values[0])
    if equation.primitive is sample_p:
        site = site_of(equation, values)
        if pure:
            value, score, offset = jax.lax.stop_gradient(site.stopped.draw(key)), 0.0, 0.0
        else:
            value, score, offset = site.strategy.draw(key, site)
        return [value], score + site.invalid(), offset
    if _detached(equation):
        outs, score, _ = drawn(called(equation), [stopped(one) for one in values], key, pure=True)
        return outs, score, 0.0
    if name in CALLS:
        return drawn(called(equation), values, key, pure)
    if name in _CONTROL:
        return _CONTROL[name](equation.params, values, key, pure)
    raise unknown(equation)


def _float(value: Any) -> Array:
    """Score or offset as loops and branches carry it."""
    return jnp.asarray(value, jnp.result_type(float))


def _cond(params: Any, values: Sequence[Any], key: Array, pure: bool) -> tuple[list[Any], Any, Any]:
    index, *operands = values

    def one(branch: Any) -> Any:
        def run(*operands: Any) -> Any:
            outs, score, offset = drawn(branch, operands, key, pure)
            return outs, _float(score), _float(offset)

        return run

    return jax.lax.switch(index, [one(branch) for branch in params["branches"]], *operands)


def _typed(values: Sequence[Any], like: Sequence[Any]) -> list[Array]:
    """Values of a loop's carry with the types of its jaxpr."""
    return [jnp.asarray(value, one.aval.dtype) for value, one in zip(values, like, strict=True)]


def _scan(params: Any, values: Sequence[Any], key: Array, pure: bool) -> tuple[list[Any], Any, Any]:
    body = params["jaxpr"]
    if "num_consts" in params:
        n, m = params["num_consts"], params["num_carry"]
    else:  # from JAX 0.12 on a tree says which operands are what
        n, m, _ = (len(list(one)) for one in params["ft_in"].unpack())
    consts, carried, rows = values[:n], values[n : n + m], values[n + m :]
    like = getattr(body, "jaxpr", body).invars[n : n + m]

    def step(carry: Any, row: Any) -> Any:
        carried, score, offset = carry
        key, row = row
        outs, more, then = drawn(body, [*consts, *carried, *row], key, pure)
        score, offset = joined(score, offset, _float(more), _float(then))
        return (_typed(outs[:m], like), score, offset), outs[m:]

    start = (_typed(carried, like), _float(0.0), _float(0.0))
    keys = jax.random.split(key, params["length"])
    end, stacked = jax.lax.scan(
        step, start, (keys, rows), params["length"], reverse=params["reverse"], unroll=params["unroll"]
    )
    carried, score, offset = end
    return [*carried, *stacked], score, offset


def _while(params: Any, values: Sequence[Any], key: Array, pure: bool) -> tuple[list[Any], Any, Any]:
    n, m = params["cond_nconsts"], params["body_nconsts"]
    for_cond, for_body, carried = values[:n], values[n : n + m], values[n + m :]
    cond, body = params["cond_jaxpr"], params["body_jaxpr"]
    if any(has_sites(one) for one in getattr(cond, "jaxpr", cond).eqns):
        raise NotImplementedError(
            "A choice stands in the condition of a `while_loop`: draw it in the body, and carry it."
        )
    like = getattr(body, "jaxpr", body).invars[m:]

    def step(state: Any) -> Any:
        carried, key, score, offset = state
        key, here = jax.random.split(key)
        outs, more, then = drawn(body, [*for_body, *carried], here, pure)
        return _typed(outs, like), key, *joined(score, offset, _float(more), _float(then))

    go_on = lambda state: evaluate(cond, [*for_cond, *state[0]])[0]
    carried, _, score, offset = jax.lax.while_loop(go_on, step, (_typed(carried, like), key, _float(0.0), _float(0.0)))
    return carried, score, offset


_CONTROL = {"cond": _cond, "scan": _scan, "while": _while}
