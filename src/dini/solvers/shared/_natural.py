r"""What solvers of variational inequalities share: the natural residual, extragradient steps without a constant.

A trial of the extragradient method from ``x``, in the set, with the step size ``t`` is

.. math:: y = \Pi_C(x - t F(x)), \qquad t\,\|F(x) - F(y)\| \le \nu\,\|x - y\| \qquad (1), (2)

and where (2) holds, the step leads to :math:`\Pi_C(x - t F(y))` (3). For a monotone ``F`` this is nearer to every
solution than ``x`` by :math:`(1 - \nu^2)\,\|x - y\|^2` at least, whatever the Lipschitz constant is, which nobody needs
to know. A trial that fails is a step that leaves ``x`` where it is and shortens ``t``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ... import trees
from ...conditions._variational import inverse_size
from ...problems import VariationalInequality
from ...trees import Scalar, Tree
from ..judge import _newton_steps

#: the share that (2) leaves, and what is left of it, at which the next step size is twice as long
CONTRACTION, SHORT = 0.9, 0.45
#: the residual's step size follows that of the steps where one is so many times the other
APART = 10.0


class Trial(NamedTuple):
    """Where a step leads and the operator there, whether it is taken, and the next step size."""

    point: Tree
    value: Tree
    accept: Any
    step_size: Any


def ahead(problem: VariationalInequality, x: Tree, value: Tree, step_size: Any) -> Any:
    """Return the trial point (1)."""
    return problem.prox(trees.axpy(-step_size, value, x), step_size)


def extragradient(
    problem: VariationalInequality, x: Tree, value: Tree, y: Tree, there: Tree, step_size: Any, args: tuple[Tree, ...]
) -> Trial:
    """Return what becomes of a trial ``y``, at which the operator is ``there``."""
    gap, rise = (norm.astype(step_size.dtype) for norm in trees.norms(trees.sub(x, y), trees.sub(value, there)))
    spent = jax.lax.stop_gradient(step_size * rise / jnp.where(gap > 0, gap, 1))
    finite = jnp.isfinite(rise)
    # where x does not move, it is a solution; rounding alone may fail the test there
    good = finite & ((spent <= CONTRACTION) | (gap == 0))

    def lead(_: Any) -> tuple[Any, Any]:
        # (3)
        point = ahead(problem, x, there, step_size)
        return point, problem.operator(point, *args)

    point, value = jax.lax.cond(good, lead, lambda _: (y, there), None)
    good &= trees.all_finite(value)
    cut = jnp.clip(0.7 * CONTRACTION / jnp.where(spent > 0, spent, 1), 0.1, 0.7)
    cut = jnp.where(finite & (spent > CONTRACTION), cut, 0.1)
    factor = jnp.where(good, jnp.where(spent < SHORT, 2.0, 1.0), cut)
    return Trial(point, value, good, jax.lax.stop_gradient(factor * step_size).astype(step_size.dtype))


def natural_step(problem: VariationalInequality, x: Tree, args: tuple[Tree, ...], otherwise: Any) -> Any:
    """Return one over the size of the operator's Jacobian, or ``otherwise`` where that shows none."""
    return inverse_size(lambda u: problem.operator(u, *args), x, otherwise)


def followed(width: Any, step_size: Any) -> Any:
    """Return the step size of the residual, which becomes that of the steps where they are far apart."""
    ratio = step_size / width
    return jnp.where((ratio > APART) | (ratio < 1 / APART), step_size, width)


def first_length(x: Tree, value: Tree, dtype: Any) -> Any:
    """Return a step size for an operator that does not change: a step as long as ``x``, or of length one from zero."""
    size, force = trees.norms(*jax.lax.stop_gradient((x, value)))
    size, force = size.astype(dtype), force.astype(dtype)
    known = (force > 0) & jnp.isfinite(force)
    return jnp.where(known, jnp.where(size > 0, size, 1) / jnp.where(known, force, 1), 1).astype(dtype)


def force(problem: VariationalInequality, x: Tree, value: Tree, step_size: Any) -> Any:
    r"""Return the natural residual over its step size, :math:`(x - \Pi_C(x - \eta F(x))) / \eta`, in units of ``F``."""
    return trees.scale(1 / step_size, trees.sub(x, ahead(problem, x, value, step_size)))


def far(x: Tree, origin: Any, eps: Any) -> Any:
    """Return whether a point is farther from zero than anything that could come back."""
    return (origin > 0) & (eps**2 * trees.norm(jax.lax.stop_gradient(x)) > origin)


def sizes(x: Tree, extent: Any, accept: Any, eps: Any) -> tuple[Any, Any]:
    """Return the largest sizes of the elements so far, and those that count."""
    extent = _newton_steps.extended(extent, x, accept)
    return extent, _newton_steps.sizes(x, extent, eps)


def norm_of(v: Tree, like: Scalar) -> Any:
    """Return a norm in the dtype of scalars."""
    return trees.norm(v).astype(like.dtype)
