"""Guards of a derivative: marks of failed solves, and tests of the point."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .. import trees
from ..linear._symmetry import require_symmetric
from ..status import DerivativeError, OnFailure, Status, guard
from ..trees import Tree
from ..verification import _equations
from ._linearization import Linearization, instantiated
from ._rules import rederived
from ._verdict import TOLERANCE


def mark(status: Any, on_failure: OnFailure) -> jax.Array | None:
    """Return one where the solve has not failed and NaN elsewhere, a factor of the derivative, which its transpose has.

    Nothing is marked, and ``None`` returned, where no status is known or the caller wants the derivative as it is.
    """
    if status is None or on_failure in ("warn", "ignore"):
        return None
    # of a solve that a callback has stopped, `refused` speaks
    sound = (status == Status.CONVERGED) | (status == Status.STOPPED)
    return jnp.where(sound, 1.0, jnp.nan)


def marked(x: Tree, status: jax.Array, on_failure: OnFailure) -> Any:
    """Return ``x``, with a derivative that is marked where the solve has failed."""

    def derive(primals: Tree, tangents: Tree) -> Any:
        return times(mark(primals[1], on_failure), instantiated(primals[0], tangents[0]))

    return x if on_failure in ("warn", "ignore") else rederived(x, status, derive)


def refused(x: Tree, failed: jax.Array, report: Callable[..., Exception], on_failure: OnFailure) -> Any:
    """Return ``x``, whose derivative is a failure where ``failed`` holds."""

    def derive(primals: Tree, tangents: Tree) -> Any:
        dx = instantiated(primals[0], tangents[0])
        return guard(dx, primals[1], report, (jnp.zeros(()),), on_failure)

    return rederived(x, failed, derive)


def never(inputs: Any) -> jax.Array:
    """Return zero, which seems to depend on the inputs.

    JAX cannot differentiate a linear solve of which only what its solver holds depends on something. Added to the
    right-hand side it makes the solve depend on the inputs; as a factor ``1 + never`` of the solution, the transposed
    solve, too.
    """
    no = jnp.zeros((), bool)
    parts = [jnp.where(no, jnp.real(jnp.sum(jnp.ravel(leaf)[:1])), 0) for leaf in jax.tree.leaves(inputs)]
    return sum(parts, jnp.zeros(()))


def times(factor: jax.Array | None, tree: Tree) -> Any:
    """Return ``factor * tree``, a product with a scalar that keeps dtypes, or the tree where there is no factor."""
    return tree if factor is None else jax.tree.map(lambda leaf: leaf * factor.astype(leaf.dtype), tree)


def on_a_solution(
    derivative: Any, at: Linearization, parameters: Any, residual: Tree, on_failure: OnFailure, name: str
) -> Any:
    """Return a derivative, guarded by two tests of the point.

    The residual is compared with what a step of the point's own size makes, and each element of the point with the
    point to which Newton's method leads from there (:mod:`dini.verification._equations`).
    """
    x, residual, parameters = jax.lax.stop_gradient((at.x, residual, parameters))
    u = trees.varied(x)
    u = trees.scale((1 + trees.norm(x)) / trees.norm(u), u)
    size, scale = trees.norm(residual), trees.norm(jax.lax.stop_gradient(at.matvec(u)))
    relative_error = jnp.zeros_like(size)
    if _equations.can_follow(x):
        relative_error = _equations.followed(lambda u: at.function(u, parameters), x).error.astype(size.dtype)

    def report(figures: Any) -> DerivativeError:
        size, scale, relative_error = map(float, figures)
        if relative_error > TOLERANCE:
            what = f"Newton's method from there shows an error of {100 * relative_error:.1g} % in one of its elements"
        else:
            what = f"the residual is {size:.1e}, and a change of the point by its own size makes {scale:.1e}"
        return DerivativeError(
            f"{name[0].upper()}{name[1:]} does not satisfy the optimality condition: {what}. Check that "
            "the condition is the solver's, with arguments in the same order, and that the solver converges. If a "
            'derivative that may be wrong is acceptable, pass on_failure="ignore".',
            Status.CONDITION,
        )

    wrong = ~(size <= TOLERANCE * scale) | (relative_error > TOLERANCE)
    return guard(derivative, wrong, report, (jnp.stack([size, scale, relative_error]),), on_failure)


def as_declared(derivative: Any, at: Linearization, on_failure: OnFailure, name: str) -> Any:
    """Return a derivative, guarded by a test of the symmetry that a user has declared."""
    if not at.declared:
        return derivative
    what = f"The Jacobian of the condition of {name}"
    return require_symmetric(derivative, at.matvec, at.x, at.structure, on_failure, what, "`symmetric`, `structure`")
