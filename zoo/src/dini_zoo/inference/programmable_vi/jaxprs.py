"""Evaluating a jaxpr equation by equation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jax.extend.core import Literal, jaxprs_in_params


class Environment(dict[Any, Any]):
    """The values of a jaxpr's variables."""

    @classmethod
    def of(cls, closed: Any, values: Sequence[Any], consts: Sequence[Any] | None = None) -> Environment:
        """What is known before the first equation: arguments, and constants if not the jaxpr's own."""
        env, jaxpr = cls(), getattr(closed, "jaxpr", closed)
        env.write(jaxpr.constvars, getattr(closed, "consts", ()) if consts is None else consts)
        env.write(jaxpr.invars, values)
        return env

    def read(self, variables: Sequence[Any]) -> list[Any]:
        """Values of variables and literals."""
        return [one.val if isinstance(one, Literal) else self[one] for one in variables]

    def write(self, variables: Sequence[Any], values: Sequence[Any]) -> None:
        """Set variables."""
        self.update(zip(variables, values, strict=True))


def bind_again(equation: Any, values: Sequence[Any]) -> list[Any]:
    """Do what an equation says, for these values."""
    found = equation.primitive.get_bind_params(equation.params)
    # a pair of functions and parameters up to JAX 0.11, one dictionary from 0.12 on
    functions, params = found if isinstance(found, tuple) else ((), found)
    with equation.ctx.manager:
        out = equation.primitive.bind(*functions, *values, **params)
    return list(out) if equation.primitive.multiple_results else [out]


def evaluate(closed: Any, values: Sequence[Any], consts: Sequence[Any] | None = None) -> list[Any]:
    """The outputs of a jaxpr with its constants, or with others."""
    env = Environment.of(closed, values, consts)
    for equation in closed.jaxpr.eqns:
        env.write(equation.outvars, bind_again(equation, env.read(equation.invars)))
    return env.read(closed.jaxpr.outvars)


def within(equation: Any, closed: Callable[[Any], bool] = lambda equation: False) -> Iterator[Any]:
    """An equation and all those of its jaxprs, at any depth; not of what is `closed`."""
    yield equation
    if not closed(equation):
        for jaxpr in jaxprs_in_params(equation.params):
            for inner in jaxpr.eqns:
                yield from within(inner, closed)
