r"""What solvers of variational inequalities share: the natural residual, extragradient steps without a constant.

A trial of the extragradient method from ``x``, in the set, with the step size ``t`` is

.. math:: y = \Pi_C(x - t F(x)), \qquad t\,\|F(x) - F(y)\| \le \nu\,\|x - y\| \qquad (1), (2)

and where (2) holds, the step leads to :math:`\Pi_C(x - t F(y))` (3). For a monotone ``F`` this is nearer to every
solution than ``x`` by :math:`(1 - \nu^2)\,\|x - y\|^2` at least, whatever the Lipschitz constant is, which need not be
known. A trial that fails is a step that leaves ``x`` where it is and shortens ``t``.

Steps are taken in the variables :math:`u_i = x_i / c_i`, whose scales are estimated once, when a solve starts
(:mod:`dini.scaling`): a norm sees all elements there, in whatever units they are. The inequality in ``u`` has the
operator :math:`c \cdot F(c \cdot u)`, which is monotone where ``F`` is, and the set :math:`C / c`. The projection onto
that is known where the elements of ``C`` are independent; elements that a set couples have one scale. Scales are powers
of two, so that a point on a bound stays there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ... import scaling, trees
from ...conditions._variational import inverse_size
from ...problems import VariationalInequality
from ...sets import Product, Set
from ...trees import Scalar, Tree
from .._base import Solver
from ..judge import _newton_steps

#: the share that (2) leaves, and what is left of it, at which the next step size is twice as long
CONTRACTION, SHORT = 0.9, 0.45
#: estimates of the scales, of which each corrects the last: from one to the next a sixteenth is left of their
#: logarithm's error where all unknowns are coupled
ROUNDS = 2
#: the residual's step size follows that of the steps where one is so many times the other
APART = 10.0


class Scaled(NamedTuple):
    """A variational inequality in scaled variables."""

    problem: VariationalInequality
    scales: Tree

    def outside(self, u: Tree) -> Any:
        """Return a point in the user's units."""
        return jax.tree.map(jnp.multiply, self.scales, u)

    def inside(self, x: Tree) -> Any:
        """Return a point of the user's in scaled variables."""
        return jax.tree.map(jnp.divide, x, self.scales)

    def operator(self, u: Tree, *args: Tree) -> Any:
        """Return the operator."""
        return self.outside(self.problem.operator(self.outside(u), *args))

    def prox(self, u: Tree, step_size: Any) -> Any:
        """Return the projection onto the set."""
        return self.inside(self.problem.prox(self.outside(u), step_size))


def scales_of(problem: VariationalInequality, x: Tree, args: tuple[Tree, ...]) -> Any:
    """Return the scales of the unknowns at the projection of a start: ones, if they are alike or not known."""
    ones = jax.tree.map(jnp.ones_like, x)
    x, args, problem = jax.lax.stop_gradient((problem.prox(x, 1.0), args, problem))
    program = scaling.linearized(lambda u: problem.operator(u, *args), x)
    if program is None:
        return ones

    def finer(_: Any, scales: Tree) -> Any:
        scaled = Scaled(problem, scales)
        both = lambda u, v: tuple(map(scaled.outside, program(scaled.outside(u), scaled.outside(v))))
        more = scaling.by_products(both, scaled.inside(x), ones)
        return _coupled(problem.constraint, jax.tree.map(jnp.multiply, scales, more))

    found = jax.lax.fori_loop(0, ROUNDS, finer, ones)
    top = trees.max_abs(found)
    return scaling.evened(jax.tree.map(lambda c: c / top.astype(c.dtype), found))


def _coupled(constraint: Set, scales: Tree) -> Any:
    """Return scales with one for all elements that the set couples: their geometric mean."""
    if isinstance(constraint, Product):
        return jax.tree.map(_coupled, constraint.sets, scales, is_leaf=lambda node: isinstance(node, Set))
    if constraint.elementwise or not trees.size(scales):
        return scales
    logs = trees.total([jnp.sum(jnp.log(c)) for c in jax.tree.leaves(scales)])
    mean = jnp.exp(logs / trees.size(scales))
    return jax.tree.map(lambda c: jnp.full_like(c, mean), scales)


class NaturalSolver(Solver):
    """Base of the solvers of variational inequalities, whose :meth:`advance` is a step in scaled variables.

    Their states have a field ``scaling``; ``error``, ``operator`` and the like in them are in scaled variables.
    """

    def advance(self, problem: Scaled, x: Tree, state: Any, *args: Tree) -> tuple[Any, Any]:
        """Take a step."""
        raise NotImplementedError

    def step(self, problem: VariationalInequality, x: Tree, state: Any, *args: Tree) -> tuple[Any, Any]:
        """Try one step."""
        scaled = Scaled(problem, state.scaling)
        now, state = self.advance(scaled, scaled.inside(x), state, *args)
        return scaled.outside(now), state

    def readings(self, x: Tree, state: Any) -> dict[str, Any]:
        """Return what the state tells, the direction in the user's units."""
        values = super().readings(x, state)
        if "direction" in values:
            values["direction"] = jax.tree.map(jnp.multiply, state.scaling, values["direction"])
        return values


class Trial(NamedTuple):
    """Where a step leads and the operator there, whether it is taken, and the next step size."""

    point: Tree
    value: Tree
    accept: Any
    step_size: Any


def ahead(problem: Scaled, x: Tree, value: Tree, step_size: Any) -> Any:
    """Return the trial point (1)."""
    return problem.prox(trees.axpy(-step_size, value, x), step_size)


def extragradient(
    problem: Scaled, x: Tree, value: Tree, y: Tree, there: Tree, step_size: Any, args: tuple[Tree, ...]
) -> Trial:
    """Return what becomes of a trial ``y``, at which the operator is ``there``."""
    gap, rise = (norm.astype(step_size.dtype) for norm in trees.norms(trees.sub(x, y), trees.sub(value, there)))
    growth = jax.lax.stop_gradient(step_size * rise / jnp.where(gap > 0, gap, 1))
    finite = jnp.isfinite(rise)
    # where x does not move, it is a solution; rounding alone may fail the test there
    good = finite & ((growth <= CONTRACTION) | (gap == 0))

    def lead(_: Any) -> tuple[Any, Any]:
        # (3)
        point = ahead(problem, x, there, step_size)
        return point, problem.operator(point, *args)

    point, value = jax.lax.cond(good, lead, lambda _: (y, there), None)
    good &= trees.all_finite(value)
    cut = jnp.clip(0.7 * CONTRACTION / jnp.where(growth > 0, growth, 1), 0.1, 0.7)
    cut = jnp.where(finite & (growth > CONTRACTION), cut, 0.1)
    factor = jnp.where(good, jnp.where(growth < SHORT, 2.0, 1.0), cut)
    return Trial(point, value, good, jax.lax.stop_gradient(factor * step_size).astype(step_size.dtype))


def natural_step(problem: Scaled, x: Tree, args: tuple[Tree, ...], otherwise: Any) -> Any:
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


def force(problem: Scaled, x: Tree, value: Tree, step_size: Any) -> Any:
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
