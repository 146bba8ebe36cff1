r"""What a solver has left behind, used for the linear system of the derivative.

A factor :math:`M \approx A` refines a solution: :math:`w \leftarrow w + M^{-1} (b - A w)`. With :math:`b = 0` and a
fixed vector for :math:`w` the same loop applies :math:`I - M^{-1} A` again and again, so that it tells beside each
solution how near the factor is, whatever it was made of: other active constraints, another point, regularization. Once
nothing is left of that vector, nothing is of the solution's error. An eigenvalue of one is a singular system, which a
right-hand side alone would not show.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from .. import trees
from ..checks.records import record
from ..trees import Tree
from ._dense import Dense, lost_pivots
from ._protocol import Matvec, Structure

#: a factor is believed that adds a digit in each round, but for so many: errors of unlike units may grow at first
_NEAR, _GRACE = 0.1, 4
#: the power of the unit roundoff at which all digits are there: two rounds of a factor with half of them are enough
_ALL = 0.875


class LastFactor(Protocol):
    """What :class:`Reused` needs of a factor, for vectors in the units of its system."""

    @property
    def otherwise(self) -> Any:
        """What solves the system where the factor is another's; ``None``: then it is called singular."""
        ...

    def solve(self, r: jax.Array) -> jax.Array:
        """Return the solution of the factorized system."""
        ...


@record
class CholeskyFactor:
    """The Cholesky factor of a matrix: lower triangular, of shape ``(d, d)``."""

    lower: Any
    otherwise = Dense()

    def solve(self, r: jax.Array) -> jax.Array:
        """Return the solution of the factorized system, NaN where it was singular to working precision."""
        w = jax.scipy.linalg.cho_solve((self.lower, True), r.astype(self.lower.dtype), check_finite=False)
        lost = lost_pivots(self.lower, jnp.sum(jnp.square(self.lower), axis=1))
        return jnp.where(lost, jnp.nan, w)


@record
class SparseFactor:
    """The nonzeros of a sparse matrix, whose factor the host remembers, or a band's is made again.

    Parameters
    ----------
    values
        The nonzeros in the order of the solver's pattern.
    otherwise
        A :class:`Sparse` or :class:`SparseDirect` that works by them.
    """

    values: Any
    otherwise: Any

    def solve(self, r: jax.Array) -> jax.Array:
        """Return the solution of the factorized system."""
        return self.otherwise.with_nonzeros(self.values, r, "positive definite")[0]


@record
class Reused:
    r"""Refinement by the factor of a matrix nearby, or another solver, in units in which the system is of size one.

    The factor is believed where the spectral radius of :math:`I - M^{-1} A` is seen to be below a tenth: the matrix is
    regular then, and as definite as the factor's own. Elsewhere (there is no factor, the system is singular, a Hessian
    is indefinite at the solution itself) another solver factorizes the map, and what is singular is seen.

    Parameters
    ----------
    factor
        A :class:`LastFactor`.
    known
        Whether there is one; ``None`` where there is never one.
    right, left
        The units of the unknown, and what residuals are multiplied by; trees like the right-hand side. Of a symmetric
        system, one is a multiple of the other.
    """

    factor: Any
    known: Any
    right: Any = None
    left: Any = None

    def transposed(self) -> Reused:
        """Return the solver for the transposed system."""
        turned = getattr(self.factor, "transposed", lambda: self.factor)()
        return dataclasses.replace(self, factor=turned, right=self.left, left=self.right)

    def __call__(self, matvec: Matvec, b: Any, structure: Structure) -> tuple[Any, jax.Array]:
        """Return the solution and whether the matrix looks singular."""
        back = ravel_pytree(b)[1]
        right, left = _of(self.right), _of(self.left)
        product = lambda w: left * _of(matvec(back(right * w)))
        # in units in which it is even, a system needs no scaling of its own
        other, structure = self.factor.otherwise, structure if self.right is None else None
        own = left * _of(b)
        if self.known is None:
            w, failed = other(product, own, structure)
            return back(right * w), failed
        w, near = self._refined(product, own)
        if other is None:
            return back(right * w), ~near
        # a loop of one pass at most: in a batch, a branch would be taken for every lane, whether one needs it or not
        eliminate = lambda _: (jnp.ones((), bool), *other(product, own, structure))
        _, w, failed = jax.lax.while_loop(lambda now: ~now[0], eliminate, (near, w, jnp.zeros((), bool)))
        return back(right * w), failed

    def _refined(self, product: Matvec, b: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the refined solution, and whether the factor is as near as it must be."""
        solved = jax.vmap(lambda r, w: self.factor.solve(r - product(w)).astype(w.dtype))
        nothing, least = jnp.zeros_like(b), jnp.finfo(b.dtype).eps ** _ALL
        sides = jnp.stack([b, nothing])

        def going(now: Any) -> jax.Array:
            count, _, left = now
            return self.known & (left > least) & (left < _NEAR ** (count - _GRACE))

        def refine(now: Any) -> Any:
            count, w, _ = now
            w = w + solved(sides, w)
            return count + 1, w, jnp.max(jnp.abs(w[1]))

        one = jnp.ones((), b.dtype)
        _, w, left = jax.lax.while_loop(going, refine, (0 * one, jnp.stack([nothing, trees.varied(b)]), one))
        return w[0], self.known & (left <= least)

    def relative(self, left: Any, b: Any, w: Tree) -> jax.Array:
        """Return the size of a residual relative to the right-hand side, in the units of the system."""
        if self.right is None:
            return trees.norm(left)
        units = _of(self.left)
        return relative_size(units * _of(left), units * _of(b), _of(w) / _of(self.right))

    def accept(self, eps: float) -> float:
        """Return the relative residual up to which a solution is believed."""
        return eps**0.5


def relative_size(left: jax.Array, b: jax.Array, w: jax.Array) -> jax.Array:
    """Return the size of a residual relative to the right-hand side, without rounding errors of a large solution."""
    size = jnp.maximum(trees.max_abs(b), jnp.finfo(b.dtype).eps ** 0.5 * trees.max_abs(w))
    return trees.max_abs(left) / jnp.where(size > 0, size, 1)


def _of(tree: Tree) -> Any:
    """Return a tree as a vector; one where there is none."""
    return 1 if tree is None else ravel_pytree(tree)[0]
