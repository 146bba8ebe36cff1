"""Conditions for degenerate points: the derivative at a kink is replaced by a smooth one, because it was asked for.

At a kink (a bound that is active with a zero multiplier, say) a solution has one-sided derivatives only. A smooth
substitute has the value of the proximal operator itself, so that the solution is the same, and the derivative of a
smooth operator near it.
"""

from __future__ import annotations

from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.records import record
from ..checks.settings import require_count, require_positive
from ..numerics.separable import map_with
from ..penalties import L1
from ..protocols import AnyProblem, Composed
from ..sets import Box, NonNegative
from ._descent import ProximalGradient


def _with_derivative_of(smooth: Any, value: Any) -> Any:
    """Return ``value`` with the derivative of ``smooth``."""
    return jax.tree.map(lambda s, v: s + jax.lax.stop_gradient(v - s), smooth, value)


@record
class SmoothedProximalGradient(ProximalGradient):
    r"""The proximal gradient condition with the derivative of relaxed complementarity.

    A bound :math:`x \ge l` with multiplier :math:`\mu` has :math:`(x - l)\mu = 0`; relaxed to :math:`(x - l)\mu =
    \kappa`, as on the central path of an interior-point method, the projection becomes

    .. math:: l + r(y - l), \qquad r(z) = \tfrac12 \bigl(z + \sqrt{z^2 + 4\kappa}\bigr),

    whose derivative :math:`\tfrac12 (1 + z / \sqrt{z^2 + 4\kappa})` goes from 0 to 1 over a width of
    :math:`\sqrt\kappa`. A box has one such term a bound, and soft thresholding, which is the identity minus the
    projection onto a box, two. Away from kinks by more than :math:`\sqrt\kappa` the derivative is the exact one up to
    :math:`O(\kappa / z^2)`.

    Parameters
    ----------
    kappa
        :math:`\kappa`, positive, in the units of ``x`` squared.
    step_size
        As in :class:`ProximalGradient`.

    Raises
    ------
    TypeError
        If the problem's constraint is not :class:`dini.sets.NonNegative` or :class:`dini.sets.Box` and its penalty
        not :class:`dini.penalties.L1`.

    Examples
    --------
    The weakly active bound of min (x - p)^2 over x >= 0 at p = 0, whose one-sided derivatives are 0 and 1:

    >>> import dini, jax, jax.numpy as jnp
    >>> problem = dini.Minimize(lambda x, p: (x - p) ** 2, constraint=dini.sets.NonNegative())
    >>> smooth = dini.Implicit(condition=dini.conditions.SmoothedProximalGradient(kappa=1e-4))
    >>> solve = lambda p: dini.solve(problem, dini.ProjectedGradient(), 1.0, p, differentiation=smooth).x
    >>> float(jax.grad(solve)(0.0)), float(jax.grad(solve)(1.0).round(3))
    (0.5, 1.0)
    """

    kappa: Any = field(default=1e-6, kw_only=True)

    kinked = False

    def __post_init__(self) -> None:
        require_positive("SmoothedProximalGradient's kappa", self.kappa)

    def prox(self, problem: Composed, y: Any) -> Any:
        """Return the proximal point, with the relaxed derivative."""
        return _with_derivative_of(self._relaxed(problem, y), problem.prox(y, self.step_size))

    def _ramp(self, z: jax.Array) -> jax.Array:
        return 0.5 * (z + jnp.sqrt(z * z + 4 * jnp.asarray(self.kappa, z.dtype)))

    def _clip(self, y: Any, lower: Any, upper: Any) -> Any:
        clipped = y
        if lower is not None:
            clipped = jax.tree.map(jnp.add, clipped, map_with(lambda u, low: self._ramp(low - u), y, lower))
        if upper is not None:
            clipped = jax.tree.map(jnp.subtract, clipped, map_with(lambda u, high: self._ramp(u - high), y, upper))
        return clipped

    def _relaxed(self, problem: AnyProblem, y: Any) -> Any:
        constraint, penalty = problem.constraint, problem.penalty
        if isinstance(constraint, NonNegative):
            return jax.tree.map(self._ramp, y)
        if isinstance(constraint, Box):
            return self._clip(y, constraint.lower, constraint.upper)
        if isinstance(penalty, L1):
            weight = jax.tree.map(lambda w: jnp.asarray(w) * self.step_size, penalty.strength)
            inside = self._clip(y, jax.tree.map(jnp.negative, weight), weight)
            return trees.sub(y, inside)
        raise TypeError(
            "SmoothedProximalGradient needs the constraint NonNegative or Box, or the penalty L1: given "
            f"{(constraint or penalty).name}. For others, use PerturbedProximalGradient."
        )


@record
class PerturbedProximalGradient(ProximalGradient):
    r"""The proximal gradient condition with the mean derivative of the proximal operator around its argument.

    The Jacobian at ``y`` is replaced by :math:`\frac1m \sum_{i \le m} \partial\,\mathrm{prox}(y + \sigma z_i)` with
    normal :math:`z_i`, fixed by ``seed`` and used in pairs of opposite sign: the derivative of the Gaussian smoothing
    of the operator, by Monte Carlo. It works with every set and penalty.

    Parameters
    ----------
    scale
        :math:`\sigma`, positive, in the units of ``x``.
    samples
        ``m``, even.
    seed
        Of the random numbers.
    step_size
        As in :class:`ProximalGradient`.

    Examples
    --------
    >>> import dini, jax, jax.numpy as jnp
    >>> problem = dini.Minimize(lambda x, p: jnp.sum((x - p) ** 2), constraint=dini.sets.L2Ball())
    >>> mean = dini.Implicit(condition=dini.conditions.PerturbedProximalGradient(scale=1e-3))
    >>> solve = lambda p: dini.solve(
    ...     problem, dini.ProjectedGradient(), jnp.zeros(2), p, differentiation=mean
    ... ).x
    >>> print(jax.jacobian(solve)(jnp.array([1.0, 0.0])).round(2))  # on the sphere: between 1 and 0 along the radius
    [[0.5 0. ]
     [0.  1. ]]
    """

    scale: Any = field(default=1e-3, kw_only=True)
    samples: int = field(default=64, kw_only=True, metadata={"static": True})
    seed: int = field(default=0, kw_only=True, metadata={"static": True})

    kinked = False

    def __post_init__(self) -> None:
        require_positive("PerturbedProximalGradient's scale", self.scale)
        require_count("PerturbedProximalGradient's samples", self.samples, 2)
        if self.samples % 2:
            raise ValueError(f"PerturbedProximalGradient's samples must be even: given {self.samples}.")

    def prox(self, problem: Composed, y: Any) -> Any:
        """Return the proximal point, with the mean derivative."""
        leaves, treedef = jax.tree.flatten(y)
        keys = jax.random.split(jax.random.key(self.seed), len(leaves))
        half = self.samples // 2
        noise = [jax.random.normal(k, (half, *u.shape), u.dtype) for k, u in zip(keys, leaves, strict=True)]
        noise = [self.scale * jnp.concatenate([z, -z]).astype(z.dtype) for z in noise]
        moved = lambda z: problem.prox(trees.add(y, z), self.step_size)
        around = jax.vmap(moved)(jax.tree.unflatten(treedef, noise))
        mean = jax.tree.map(lambda u: jnp.mean(u, axis=0), around)
        return _with_derivative_of(mean, problem.prox(y, self.step_size))
