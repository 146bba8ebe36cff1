r"""What a solver has left behind, used for the linear system of the derivative.

A factor :math:`M \approx A` refines a solution: :math:`w \leftarrow w + M^{-1} (b - A w)`. With :math:`b = 0` and a
fixed vector for :math:`w` the same loop is a power iteration for :math:`I - M^{-1} A`, so that it tells beside each
solution how near the factor is, whatever it was made of: other active constraints, another point, regularization. An
eigenvalue of one is a singular system, which a right-hand side alone would not show.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import jax
import jax.flatten_util
import jax.numpy as jnp

from .. import trees
from ..checks.records import record
from ..trees import Tree
from ._dense import Dense, lost_pivots
from ._protocol import Matvec, Structure

#: a factor is believed where each round adds a digit at least, and refines until all of them are there
_NEAR, _LEAST, _ROUNDS = 0.1, 3, 17


class LastFactor(Protocol):
    """What :class:`Reused` needs of a factor."""

    @property
    def otherwise(self) -> Any:
        """What solves the system where the factor is another's; ``None``: then it is called singular."""
        ...

    def solve(self, r: Tree) -> Tree:
        """Return the solution of the factorized system."""
        ...


@record
class CholeskyFactor:
    """The Cholesky factor of a matrix: lower triangular, of shape ``(d, d)``."""

    lower: Any
    otherwise = Dense()

    def solve(self, r: Tree) -> Tree:
        """Return the solution of the factorized system, NaN where it was singular to working precision."""
        flat, unravel = jax.flatten_util.ravel_pytree(r)
        w = jax.scipy.linalg.cho_solve((self.lower, True), flat.astype(self.lower.dtype), check_finite=False)
        lost = lost_pivots(self.lower, jnp.sum(jnp.square(self.lower), axis=1))
        return unravel(jnp.where(lost, jnp.nan, w).astype(flat.dtype))


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

    def solve(self, r: Tree) -> Tree:
        """Return the solution of the factorized system."""
        return self.otherwise.with_nonzeros(self.values, r, "positive definite")[0]


@record
class Reused:
    r"""Refinement by the factor of a matrix nearby, or another solver, in units in which the system is of size one.

    The factor is believed where the spectral radius of :math:`I - M^{-1} A`, by power iteration, is below a tenth: a
    matrix is regular then, and as definite as the factor's own. Elsewhere (there is no factor, the system is singular,
    a Hessian is indefinite at the solution itself) another solver factorizes the map, and what is singular is seen.

    Parameters
    ----------
    factor
        A :class:`LastFactor`, in the units of the system.
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
        product = lambda w: _times(self.left, matvec(_times(self.right, w)))
        own = _times(self.left, b)
        # in units in which it is even, a system needs no scaling of its own
        other, structure = self.factor.otherwise, structure if self.right is None else None
        if self.known is None:
            w, failed = other(product, own, structure)
            return _times(self.right, w), failed
        w, near = self._refined(product, own)
        if other is None:
            return _times(self.right, w), ~near
        # a loop of one pass at most: in a batch, a branch would be taken for every lane, whether one needs it or not
        eliminate = lambda _: (jnp.ones((), bool), *other(product, own, structure))
        _, w, failed = jax.lax.while_loop(lambda now: ~now[0], eliminate, (near, w, jnp.zeros((), bool)))
        return _times(self.right, w), failed

    def _refined(self, product: Matvec, b: Any) -> tuple[Any, jax.Array]:
        """Return the refined solution, and whether the factor is as near as it must be."""
        solved = jax.vmap(lambda r, w: self.factor.solve(trees.sub(r, product(w))))
        each = jax.vmap(trees.max_abs)
        start = jax.tree.map(lambda r: jnp.stack([r, jnp.zeros_like(r)]), b)
        eps = trees.eps(b)

        def going(now: Any) -> jax.Array:
            count, w, size, ratio = now
            # what the next round would add
            rest = ratio[0] * size[0] > eps * trees.max_abs(jax.tree.map(lambda part: part[0], w))
            return self.known & (count < _ROUNDS) & ((count < _LEAST) | (rest & (ratio[1] < _NEAR)))

        def refine(now: Any) -> Any:
            count, w, last, _ = now
            step = solved(start, w)
            size = each(step)
            moved = trees.add(w, step)
            # of the second, what is left of a vector of size one
            left = each(moved)[1]
            ratio = jnp.stack([size[0] / jnp.where(last[0] > 0, last[0], 1), left])
            unit = jnp.stack([jnp.ones_like(left), 1 / jnp.where(left > 0, left, 1)])
            w = jax.tree.map(lambda part: part * unit.reshape(2, *[1] * (part.ndim - 1)).astype(part.dtype), moved)
            return count + 1, w, size, ratio

        probe = trees.varied(b)
        probe = trees.scale(1 / trees.max_abs(probe), probe)
        first = jax.tree.map(lambda r, p: jnp.stack([jnp.zeros_like(r), p]), b, probe)
        none = jnp.zeros(2, trees.max_abs(b).dtype)
        _, w, size, ratio = jax.lax.while_loop(going, refine, (jnp.zeros((), jnp.int32), first, none, none))
        w = jax.tree.map(lambda part: part[0], w)
        settled = ratio[0] * size[0] <= eps**0.5 * trees.max_abs(w)
        return w, self.known & (ratio[1] < _NEAR) & settled

    def relative(self, left: Any, b: Any, w: Tree) -> jax.Array:
        """Return the size of a residual beside the right-hand side, in the units of the system."""
        if self.right is None:
            return trees.norm(left)
        return relative_size(_times(self.left, left), _times(self.left, b), jax.tree.map(jnp.divide, w, self.right))

    def accept(self, eps: float) -> float:
        """Return the relative residual up to which a solution is believed."""
        return eps**0.375


def relative_size(left: Any, b: Any, w: Tree) -> jax.Array:
    """Return the size of a residual beside the right-hand side; rounding errors of a large solution count as none."""
    size = jnp.maximum(trees.max_abs(b), trees.eps(b) ** 0.5 * trees.max_abs(w))
    return trees.max_abs(left) / jnp.where(size > 0, size, 1)


def _times(units: Any, tree: Tree) -> Any:
    """Return the elements of a tree times units."""
    return tree if units is None else jax.tree.map(jnp.multiply, units, tree)
