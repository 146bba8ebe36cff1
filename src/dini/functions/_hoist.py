"""Functions with everything that they close over made explicit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import jax
import jax.core
import jax.numpy as jnp

from ..trees import Tree
from . import programs


class hoist:
    """A function with everything that it closes over made explicit.

    Tracing ``fun(*example)`` finds the arrays and tracers that the function closes over, also those hidden in nested
    functions, modules and callable objects; they become ``consts``. Calling the object evaluates
    ``fun`` as a pure function of ``consts`` and its arguments, so that a custom derivative rule can see (and
    differentiate) what a plain Python closure hides. Two such functions are equal if their programs are the same.
    """

    def __init__(self, fun: Callable[..., Any], *example: Any):
        closed, shape = jax.make_jaxpr(fun, return_shape=True)(*example)
        self.consts: list[Any] = list(closed.consts)
        self.shape: Any = shape
        # what it closes over comes first among the inputs: the program outlives the values, and keeps none of them
        bare = closed.jaxpr
        self._jaxpr = bare.replace(constvars=[], invars=[*bare.constvars, *bare.invars], consts=[])
        self._trees = jax.tree.structure(example), jax.tree.structure(shape)
        self._digest: int | None = None

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return (
            isinstance(other, hoist)
            and hash(self) == hash(other)
            and self._trees == other._trees
            and programs.same(self._jaxpr, other._jaxpr)
        )

    def __hash__(self) -> int:
        if self._digest is None:
            self._digest = programs.digest(self._jaxpr)
        return self._digest

    def without_values(self) -> hoist:
        """Return the function without what it closes over."""
        bare = copy.copy(self)
        bare.consts = []
        return bare

    def calls(self, primitive: str) -> bool:
        """Return whether a primitive whose name begins so is anywhere in the function's program."""
        pending = [self._jaxpr]
        while pending:
            for equation in pending.pop().eqns:
                if equation.primitive.name.startswith(primitive):
                    return True
                pending += [part for part in jax.tree.leaves(list(equation.params.values())) if hasattr(part, "eqns")]
        return False

    def __call__(self, consts: list[Any], *args: Tree) -> Any:
        """Evaluate the function with its hoisted values given."""
        outputs = jax.core.eval_jaxpr(self._jaxpr, (), *consts, *jax.tree.leaves(args))
        # a constant output is a literal of the program, no array
        return jax.tree.unflatten(self._trees[1], [jnp.asarray(output) for output in outputs])
