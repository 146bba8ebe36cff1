"""The transformation: a program with random choices becomes an estimate of its expectation.

The equations of the program's jaxpr are done in order. A choice whose strategy calls the continuation once is done in
place: its score and offset are gathered, and what follows is :math:`e^s k + o`. At any other choice the rest of the
equations becomes a function, which the strategy calls.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from .drawing import CALLS, branching, called, draw, has_sites, joined, stopped, unknown
from .jaxprs import Environment, bind_again
from .sites import sample_p, site_of
from .strategies import LIMIT


@dataclasses.dataclass(frozen=True)
class State:
    """What an interpretation carries on."""

    key: Array
    inputs: tuple[Array, ...] = ()
    """All that the program is differentiated in."""
    pure: bool = False
    """Whether choices are simply drawn, without derivatives."""
    evaluations: int = 1
    """As often is what follows enumerated."""

    def split(self) -> tuple[Array, State]:
        """A key for one equation, and the state of what follows it."""
        key, here = jax.random.split(self.key)
        return here, dataclasses.replace(self, key=key)


Finish = Callable[[list[Any], State], Array]


@dataclasses.dataclass(frozen=True)
class Continuation:
    """The rest of a program after an equation, as a strategy sees it."""

    run: Callable[[Any, State], Array]
    state: State

    @property
    def key(self) -> Array:
        """Its random key."""
        return self.state.key

    @property
    def inputs(self) -> tuple[Array, ...]:
        """All that the program is differentiated in."""
        return self.state.inputs

    def __call__(self, value: Any, *, pure: bool = False) -> Array:
        """An estimate of the rest."""
        return self.run([value], dataclasses.replace(self.state, pure=self.state.pure or pure))

    def times(self, evaluations: int, limit: int = LIMIT) -> Continuation:
        """The same, to be called so often. Raises `ValueError` where the program then enumerates too much."""
        total = self.state.evaluations * evaluations
        if total > limit:
            raise ValueError(
                f"The program's choices have {total} combined values to be enumerated, more than {limit}: take another "
                "strategy for some of them."
            )
        return Continuation(self.run, dataclasses.replace(self.state, evaluations=total))

    def keyed(self, key: Array) -> Continuation:
        """The same with another key."""
        return Continuation(self.run, dataclasses.replace(self.state, key=key))


def estimate(closed: Any, values: Sequence[Any], state: State, finish: Finish) -> Array:
    """The estimate of a jaxpr's program, of which `finish` makes a scalar."""
    return _rest(closed.jaxpr, 0, Environment.of(closed, values), state, finish)


def _rest(jaxpr: Any, start: int, env: Environment, state: State, finish: Finish) -> Array:
    score, offset = 0.0, 0.0
    for i, equation in enumerate(jaxpr.eqns[start:], start):
        values = env.read(equation.invars)
        if not has_sites(equation):
            env.write(equation.outvars, bind_again(equation, values))
            continue
        here, state = state.split()
        if state.pure or not branching(equation):
            outs, more, then = draw(equation, values, here, state.pure)
            score, offset = joined(score, offset, more, then)
            env.write(equation.outvars, outs)
            continue

        def rest(outs: list[Any], later: State, i: int = i, equation: Any = equation) -> Array:
            # what a pure continuation computes has no derivative: none is to be traced
            after = Environment({k: stopped(v) for k, v in env.items()} if later.pure else env)
            after.write(equation.outvars, outs)
            return _rest(jaxpr, i + 1, after, later, finish)

        return _ended(score, offset, _branch(equation, values, here, Continuation(rest, state)))
    return _ended(score, offset, finish(env.read(jaxpr.outvars), state))


def _ended(score: Any, offset: Any, rest: Array) -> Array:
    return (jnp.exp(score) * rest + offset).astype(rest.dtype)


def _branch(equation: Any, values: Sequence[Any], key: Array, rest: Continuation) -> Array:
    """An equation in which there is a choice with branches."""
    params, name = equation.params, equation.primitive.name
    if equation.primitive is sample_p:
        site = site_of(equation, values)
        return _ended(site.invalid(), 0.0, site.strategy.estimate(key, site, rest))
    inner = dataclasses.replace(rest.state, key=key)
    if name in CALLS:
        return estimate(called(equation), values, inner, rest.run)
    if name == "cond":
        index, *operands = values
        # the continuation is done in each branch
        branches = [
            lambda *operands, branch=branch: estimate(branch, operands, inner, rest.run)
            for branch in params["branches"]
        ]
        return jax.lax.switch(index, branches, *operands)
    site = branching(equation)[0]
    if name in ("scan", "while"):
        raise NotImplementedError(
            f"{site.where} is in a loop (`{name}`), and its strategy {type(site.strategy).__name__} calls the rest of "
            "the program more than once: unroll the loop, or take `reparam()` or `reinforce()`."
        )
    raise unknown(equation)
