"""What all problems have in common."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial

from .. import trees
from ..functions import as_function, close, function_name
from ..protocols import Minimization
from ..trees import Tree


def _split_aux(output: Any, name: str) -> tuple[Any, Any]:
    if not (isinstance(output, tuple) and len(output) == 2):
        raise TypeError(f"With has_aux=True, {name} must return a pair (value, aux): given {type(output).__name__}.")
    return output


class Problem:
    """Base of the problems: a user's function of ``(x, *args)`` and the condition that a solution satisfies.

    Subclasses are frozen dataclasses, registered as pytrees, with the fields ``fun`` and ``has_aux``.
    """

    fun: Any
    has_aux: bool
    #: a set that a solution is in, and a penalty that is added: problems that take them have fields of these names
    constraint: Any = None
    penalty: Any = None
    #: whether the Jacobian of the condition was declared to be symmetric
    symmetric: bool = False

    @property
    def parts(self) -> tuple[Any, ...]:
        """The constraint and the penalty, those that there are."""
        return tuple(part for part in (self.constraint, self.penalty) if part is not None)

    @property
    def valued(self) -> bool:
        """Whether the objective can be evaluated: not with a penalty that is known by its proximal operator alone."""
        return self.penalty is None or self.penalty.valued

    @property
    def composite(self) -> bool:
        """Whether a proximal operator, or what is like one, is in the condition: that of a constraint or a penalty."""
        return self.constraint is not None or self.penalty is not None

    @property
    def name(self) -> str:
        """The problem in words, for messages."""
        return f"{type(self).__name__}({function_name(self.fun)})"

    def _wrap(self) -> None:
        # JAX rebuilds problems from arbitrary leaves: only what a user passes is converted
        if callable(self.fun):
            object.__setattr__(self, "fun", as_function(self.fun, f"{type(self).__name__}'s fun"))
        elif self.fun is None or isinstance(self.fun, int | float | str):
            raise TypeError(f"{type(self).__name__}'s fun must be callable: given {self.fun!r}.")

    def _replace(self, **changes: Any) -> Any:
        # the base is no dataclass, its subclasses are
        return dataclasses.replace(self, **changes)  # pyright: ignore[reportArgumentType]

    def _output(self, x: Tree, *args: Tree) -> Any:
        """Return the main output of ``fun``."""
        output = self.fun(x, *args)
        return _split_aux(output, self.name)[0] if self.has_aux else output

    def aux(self, x: Tree, *args: Tree) -> Any:
        """Return the auxiliary output of ``fun`` (``None`` without ``has_aux``)."""
        return _split_aux(self.fun(x, *args), self.name)[1] if self.has_aux else None

    def residual(self, x: Tree, *args: Tree) -> Any:
        """Return what vanishes at a solution, for an equation."""
        raise NotImplementedError

    def objective(self, x: Tree, *args: Tree) -> jax.Array:
        """Return what a solution makes small: of an equation, half the squared norm of its residual."""
        residual = self.residual(x, *args)
        return 0.5 * trees.vdot(residual, residual)

    def closed(self, x: Tree, *args: Tree) -> Any:
        """Return the same problem with everything that its functions close over made explicit, checked at ``x``."""
        problem = self._replace(fun=close(self.fun, x, *args))
        problem.check(x, *args)
        return problem

    def check(self, x: Tree, *args: Tree) -> None:
        """Raise unless the function's output and the problem's parts fit ``x``."""
        raise NotImplementedError

    def real_view(self) -> Any:
        """Return the problem on pairs of real numbers that stands for this one on complex numbers."""
        return self._replace(fun=Partial(_on_reals, self.fun, has_aux=self.has_aux))


def hessian_block(problem: Minimization, x: Tree, rows: jax.Array, *args: Tree) -> jax.Array:
    """Return the rows and columns of the Hessian of the smooth part that belong to some elements of the unknown.

    An objective that knows better says so in a method ``hessian_block(x, rows, *args)``.
    """
    own = getattr(problem.fun, "hessian_block", None)
    if own is not None and isinstance(x, jax.Array) and x.ndim == 1:
        return own(x, rows, *args)
    flat, unravel = ravel_pytree(x)
    product = jax.linearize(lambda u: ravel_pytree(problem.gradient(unravel(u), *args))[0], flat)[1]
    columns = jax.vmap(product)(jax.nn.one_hot(rows, flat.size, dtype=flat.dtype))
    return columns[:, rows]


def _on_reals(fun: Callable[..., Any], x: Tree, *args: Tree, has_aux: bool) -> Any:
    output = fun(trees.from_real(x), *args)
    if has_aux:
        return trees.to_real(output[0]), output[1]
    return trees.to_real(output)


def check_unknown(x: Tree, name: str = "init") -> Any:
    """Return the unknown as arrays of fixed type, or raise: it must be a pytree of floating-point or complex arrays."""
    if x is None:
        raise TypeError(f"{name} must be a starting point, a pytree of arrays (also with a bracket): given None.")
    for path, leaf in jax.tree_util.tree_leaves_with_path(x):
        if not trees.is_inexact(leaf):
            where = f"{name}{jax.tree_util.keystr(path)}"
            given = trees.describe(leaf)
            raise TypeError(
                f"{where} must be a floating-point or complex array, since derivatives are taken in it: given {given}. "
                "Use for example jnp.zeros(n) or x.astype(float)."
            )
    return trees.strong(jax.tree.map(jnp.asarray, x))


def check_like_unknown(what: str, output: Any, x: Tree) -> None:
    """Raise unless an output has the structure, shapes and dtypes of the unknown."""
    trees.require_same(what, output, x, "the unknown x")
