r"""How a step of a bilevel method moves its adjoint towards the solution of the adjoint system.

The adjoint solves :math:`H v = -\nabla_1 f` with :math:`H = \nabla_{11}^2 g`. Each method is given the direction
:math:`D_v = H v + \nabla_1 f` and products with ``H`` on batches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.records import record
from ..checks.settings import require_count
from ..trees import Tree
from ..trees.products import tensordot


class Adjoint(NamedTuple):
    """What a method for the adjoint is given.

    Attributes
    ----------
    move
        ``move(v, memory, turn) -> (v, memory)``: one step along :math:`-D_v`, on the step's batch of this turn.
    product
        ``product(v, turn) -> (H v, D_v - H v)`` on a batch.
    length
        The length of a step.
    memory
        The state of the steps' rule and estimator.
    count
        The number of the outer step.
    """

    move: Callable[..., Any]
    product: Callable[..., Any]
    length: Any
    memory: Any
    count: Any


@record
class LinearSGD:
    r"""Steps of stochastic gradient descent on the quadratic function whose minimum is the adjoint.

    .. math:: v \leftarrow v - \rho\,(H_i v + \nabla_1 f_j)

    From zero, ``steps`` of them are a Neumann series with so many terms, each factor on a batch of its own.

    Parameters
    ----------
    steps
        How many.
    warm
        Whether they start at the last adjoint, or at zero.

    Examples
    --------
    >>> import dini
    >>> dini.bilevel.LinearSGD(steps=10, warm=False)
    LinearSGD(steps=10, warm=False)
    """

    steps: int = field(default=1, metadata={"static": True})
    warm: bool = field(default=True, metadata={"static": True})

    def __post_init__(self) -> None:
        require_count("LinearSGD's steps", self.steps)

    def run(self, v: Tree, given: Adjoint) -> tuple[Any, Any]:
        """Return the next adjoint and memory."""
        v = v if self.warm else trees.zeros_like(v)
        if self.steps == 1:
            return given.move(v, given.memory, 0)
        body = lambda turn, carry: given.move(*carry, turn)
        return jax.lax.fori_loop(0, self.steps, body, (v, given.memory))


@record
class RandomTerm:
    r"""One random term of the Neumann series, which is the series of so many terms in the mean.

    .. math:: v = -K \rho \prod_{i=1}^{p} (I - \rho H_i)\, \nabla_1 f, \qquad p \sim \text{uniform on } 0, \dots, K - 1

    Parameters
    ----------
    terms
        :math:`K`.
    seed
        Of the random numbers.

    References
    ----------
    Ghadimi, Wang, "Approximation methods for bilevel programming", 2018 (arXiv 1802.02246).

    Examples
    --------
    >>> import dini
    >>> dini.bilevel.RandomTerm(terms=20).steps
    20
    """

    terms: int = field(default=10, metadata={"static": True})
    seed: int = 0

    def __post_init__(self) -> None:
        require_count("RandomTerm's terms", self.terms)

    @property
    def steps(self) -> int:
        """How many batches a step uses at most."""
        return self.terms

    def run(self, v: Tree, given: Adjoint) -> tuple[Any, Any]:
        """Return the next adjoint, and the memory as it is."""
        key = jax.random.fold_in(jax.random.key(self.seed), given.count)
        factors = jax.random.randint(key, (), 0, self.terms)
        b = given.product(trees.zeros_like(v), 0)[1]

        def factor(i: Any, r: Tree) -> Any:
            return trees.axpy(-given.length, given.product(r, i + 1)[0], r)

        r = jax.lax.fori_loop(0, factors, factor, b)
        return trees.scale(-self.terms * given.length, r), given.memory


@record
class Plane:
    r"""The best adjoint in a plane, which is kept from step to step: a Krylov space of the last adjoint.

    Of the plane spanned by :math:`b = -\nabla_1 f` and the last adjoint's step :math:`v + \rho (b - H v)`, the point
    where :math:`\tfrac12 v^\top H v - b^\top v` is smallest. It costs three products with ``H`` in place of one, and no
    length of steps is tuned to the condition of ``H``.

    References
    ----------
    Yang, Yin, Zhang, Zhou, Wen, "LancBiO: dynamic Lanczos-aided bilevel optimization via Krylov subspace", ICLR 2025
    (arXiv 2404.03331), algorithm SubBiO.

    Examples
    --------
    >>> import dini
    >>> dini.bilevel.Plane().steps
    1
    """

    @property
    def steps(self) -> int:
        """How many batches a step uses."""
        return 1

    def run(self, v: Tree, given: Adjoint) -> tuple[Any, Any]:
        """Return the next adjoint, and the memory as it is."""
        image, b = given.product(v, 0)
        b = trees.neg(b)
        along = trees.axpy(given.length, trees.sub(b, image), v)
        # an orthonormal basis, so that the system of two equations is no worse conditioned than H
        first = _unit(b)
        second = _unit(trees.axpy(-trees.vdot(first, along), first, along))
        images = given.product(first, 0)[0], given.product(second, 0)[0]
        a, c, d = trees.vdot(first, images[0]), trees.vdot(first, images[1]), trees.vdot(second, images[1])
        p, q = trees.vdot(first, b), trees.vdot(second, b)
        # where the plane is a line, its second direction is zero
        line = (d == 0) | ~(a * d - c * c > 4 * trees.eps(v) * jnp.abs(a * d))
        determinant = jnp.where(line, 1, a * d - c * c)
        alone = jnp.where(a == 0, 0, p / jnp.where(a == 0, 1, a))
        alpha = jnp.where(line, alone, (d * p - c * q) / determinant)
        beta = jnp.where(line, 0, (a * q - c * p) / determinant)
        return trees.axpy(alpha, first, trees.scale(beta, second)), given.memory


def _unit(v: Tree) -> Any:
    """Return a vector over its length, and zero for zero."""
    top = trees.max_abs(v)
    v = trees.scale(1 / jnp.where(top > 0, top, 1), v)
    length = trees.norm(v)
    return trees.scale(1 / jnp.where(length > 0, length, 1), v)


class _Basis(NamedTuple):
    """A Krylov space: its origin, an orthonormal basis with zeros behind, the next vector, ``T``, the dimension."""

    base: Any
    rows: Any
    following: Any
    matrix: jax.Array
    dimension: jax.Array


@record
class Lanczos:
    r"""The adjoint of a Krylov space that grows by one dimension a step, and restarts when it has ``size``.

    From an adjoint :math:`\bar v` on, with the residual :math:`r = b - H \bar v` of the present batch and an
    orthonormal basis :math:`Q_j`, which Lanczos' recurrence extends by one product with the present ``H``,

    .. math:: v = \bar v + Q_j T_j^{-1} Q_j^\top r, \qquad T_j = Q_j^\top H Q_j \text{ (tridiagonal)} .

    After ``size`` steps the adjoint becomes :math:`\bar v`. Where ``H`` and ``b`` are constant, the steps are those of
    conjugate gradients; where they move slowly, the basis of earlier steps still serves. It costs two products with
    ``H`` in a step, and no length of steps. It is meant for exact or large batches: the entries of ``T`` are of
    different batches.

    Parameters
    ----------
    size
        The largest dimension; as many vectors such as the adjoint are kept.

    References
    ----------
    Yang, Yin, Zhang, Zhou, Wen, "LancBiO: dynamic Lanczos-aided bilevel optimization via Krylov subspace", ICLR 2025
    (arXiv 2404.03331), algorithm LancBiO. Here the basis is reorthogonalized in each step.

    Examples
    --------
    >>> import dini
    >>> dini.bilevel.Lanczos(size=5).steps
    1
    """

    size: int = field(default=10, metadata={"static": True})

    def __post_init__(self) -> None:
        require_count("Lanczos's size", self.size)

    @property
    def steps(self) -> int:
        """How many batches a step uses."""
        return 1

    def start(self, v: Tree) -> Any:
        """Return what is kept from step to step: an empty space, which begins at the first step."""
        rows = jax.tree.map(lambda leaf: jnp.zeros((self.size, *leaf.shape), leaf.dtype), v)
        matrix = jnp.zeros((self.size, self.size), trees.real_dtype(v))
        return _Basis(v, rows, trees.zeros_like(v), matrix, jnp.asarray(self.size, jnp.int32))

    def run(self, v: Tree, given: Adjoint) -> tuple[Any, Any]:
        """Return the next adjoint, and the memory with the larger space."""
        kept, rule = given.memory
        restarts = kept.dimension == self.size
        base = trees.where(restarts, v, kept.base)
        image, b = given.product(base, 0)
        residual = trees.neg(trees.add(b, image))
        rows = trees.where(restarts, trees.zeros_like(kept.rows), kept.rows)
        matrix = jnp.where(restarts, 0, kept.matrix)
        place = jnp.where(restarts, 0, kept.dimension)
        vector = trees.where(restarts, _unit(residual), kept.following)

        image = given.product(vector, 0)[0]
        rows = jax.tree.map(lambda r, q: r.at[place].set(q), rows, vector)
        # by the symmetry of T: what the recurrence knows of the row before, and the new diagonal entry
        along = _coordinates(rows, image).astype(matrix.dtype)
        matrix = matrix.at[place].set(along).at[:, place].set(along)
        rest = trees.sub(image, _combination(along, rows))
        rest = trees.sub(rest, _combination(_coordinates(rows, rest), rows))
        # what is left of a vector within the space is rounding
        exhausted = trees.norm(rest) <= 100 * trees.eps(v) * trees.norm(image)
        following = trees.where(exhausted, trees.zeros_like(rest), _unit(rest))

        there = jnp.diagonal(matrix) != 0
        system = jnp.where(there[:, None] & there[None], matrix, jnp.eye(self.size, dtype=matrix.dtype))
        weights = jnp.linalg.solve(system, jnp.where(there, _coordinates(rows, residual), 0).astype(matrix.dtype))
        new = trees.add(base, _combination(jnp.where(there, weights, 0), rows))
        return new, (_Basis(base, rows, following, matrix, place + 1), rule)


def _coordinates(rows: Tree, v: Tree) -> Any:
    """Return the inner products of stored vectors with one."""
    parts = jax.tree.map(lambda r, leaf: tensordot(r, leaf, leaf.ndim), rows, v)
    return sum(jax.tree.leaves(parts))


def _combination(weights: Any, rows: Tree) -> Any:
    """Return the sum of stored vectors with weights."""
    return jax.tree.map(lambda r: tensordot(weights.astype(r.dtype), r, 1), rows)
