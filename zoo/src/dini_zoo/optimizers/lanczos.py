r"""Lanczos' method: the spectrum of a symmetric operator from a few products with it.

After :math:`m` products, with :math:`V` the orthonormal basis of the Krylov space of a start vector :math:`v`,

.. math:: H V = V T + \beta_m v_{m+1} e_m^\top, \qquad
          T = \operatorname{tridiag}(\beta_j, \alpha_j, \beta_j) = S \Theta S^\top .

The Ritz values :math:`\theta_j` approach the ends of the spectrum; with the weights :math:`\omega_j = S_{1j}^2` they
are Gauss' quadrature of :math:`v^\top f(H) v`. Vectors are trees of arrays. The basis is sharded as they are, inside of
`jax.jit` with a mesh whose axes are of JAX's automatic kind.

References
----------
B. N. Parlett, "The symmetric eigenvalue problem", SIAM, 1998, chapter 13. S. Ubaru, J. Chen, Y. Saad, "Fast estimation
of tr(f(A)) via stochastic Lanczos quadrature", 2017.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ..kit.checking import trainable

Tree = Any
Matvec = Callable[[Tree], Tree]


class Lanczos(NamedTuple):
    """A tridiagonal matrix and its basis."""

    alphas: Float[Array, " m"]
    betas: Float[Array, " m"]
    r"""The last one, :math:`\beta_m`, is of what the basis leaves out."""
    basis: Tree
    """A tree like the vectors, with an axis of length `m` in front; zero from where the space is exhausted."""
    steps: Int[Array, ""]
    """How many vectors there are: less than `m` where the space is exhausted before."""


class Ritz(NamedTuple):
    """Ritz values in ascending order.

    Where the space was exhausted early, the values that there are not repeat the start vector's Rayleigh quotient, with
    weight zero and an infinite residual.
    """

    values: Float[Array, " m"]
    weights: Float[Array, " m"]
    residuals: Float[Array, " m"]
    r"""The norms :math:`\|H x - \theta x\| = \beta_m |S_{mj}|`: so near is an eigenvalue."""
    coordinates: Float[Array, "m m"]
    """The Ritz vectors in the basis, as columns."""


class Eigenpair(NamedTuple):
    """An approximate eigenvalue with its vector, of length one."""

    value: Float[Array, ""]
    vector: Tree
    residual: Float[Array, ""]
    """An eigenvalue is no farther than this."""


class Extremes(NamedTuple):
    """The ends of a spectrum."""

    largest: Eigenpair
    smallest: Eigenpair


class Spectrum(NamedTuple):
    """Quadrature of a spectrum: a distribution on points, like that of the eigenvalues."""

    values: Float[Array, "probes m"]
    weights: Float[Array, "probes m"]
    """Their sum is one."""

    def mean(self, fun: Callable[[Array], Array]) -> Float[Array, ""]:
        r"""An estimate of :math:`\frac1P \operatorname{tr} f(H)`, the mean of a function over the eigenvalues."""
        return jnp.sum(self.weights * fun(self.values))

    def density(self, at: Float[Array, " n"], width: float) -> Float[Array, " n"]:
        """The density of the eigenvalues at some points, every point of the quadrature a Gaussian of that width."""
        if not isinstance(width, jax.core.Tracer) and not width > 0:
            raise ValueError(f"width must be positive: given {width}.")
        apart = (jnp.asarray(at)[:, None] - self.values.ravel()) / width
        return jnp.exp(-(apart**2) / 2) @ self.weights.ravel() / (width * jnp.sqrt(2 * jnp.pi))


def _raised(leaf: Any) -> Array:
    leaf = jnp.asarray(leaf)
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        raise ValueError(f"start must have arrays of real floating-point numbers: given {leaf.dtype}.")
    return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))


def _sum(tree: Tree) -> Array:
    leaves = jax.tree.leaves(tree)
    return sum(leaves[1:], leaves[0])


def _dots(rows: Tree, v: Tree) -> Array:
    """The inner products of a vector with each row of a basis, or with one vector."""
    return _sum(jax.tree.map(lambda a, b: jnp.tensordot(a, b, b.ndim), rows, v))


def _norm(v: Tree) -> Array:
    return jnp.sqrt(_dots(v, v))


def _combined(coordinates: Array, basis: Tree) -> Tree:
    return jax.tree.map(lambda rows: jnp.tensordot(coordinates.astype(rows.dtype), rows, 1), basis)


def _minus(v: Tree, factor: Array, u: Tree) -> Tree:
    return jax.tree.map(lambda a, b: a - factor.astype(a.dtype) * b, v, u)


def _scaled(factor: Array, v: Tree) -> Tree:
    return jax.tree.map(lambda a: factor.astype(a.dtype) * a, v)


def unit(name: str, v: Tree) -> Tree:
    """A vector divided by its length, in at least single precision; `name` is what it is called where it is zero.

    Raises `ValueError` for a vector that is seen to be zero or not finite; one that is traced becomes NaN.
    """
    v = jax.tree.map(_raised, v)
    # the largest entry is divided out first: the squares of tiny ones are none
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf), initial=0) for leaf in jax.tree.leaves(v)]))
    if not isinstance(largest, jax.core.Tracer) and not 0 < largest < jnp.inf:
        raise ValueError(f"{name} must be finite and not zero: its largest entry is {largest}.")
    scaled = jax.tree.map(lambda leaf: leaf / largest.astype(leaf.dtype), v)
    return _scaled(1 / _norm(scaled), scaled)


def random_direction(key: Array, like: Tree) -> Tree:
    """A random vector of length one, like a tree of arrays, all directions alike."""
    trainable("like", like)
    leaves, structure = jax.tree.flatten(like)
    keys = jax.random.split(key, len(leaves))
    drawn = [
        jax.random.normal(key, jnp.shape(leaf), _raised(leaf).dtype) for key, leaf in zip(keys, leaves, strict=True)
    ]
    return unit("direction", jax.tree.unflatten(structure, drawn))


def lanczos(matvec: Matvec, start: Tree, num_steps: int, *, reorthogonalize: bool = True) -> Lanczos:
    """Tridiagonalize a symmetric operator on the Krylov space of a vector.

    Parameters
    ----------
    matvec
        The operator: a linear, symmetric function of trees like `start`.
    start
        A vector that is not zero, of any length: an array of floats, or a tree of them.
    num_steps
        Of products; no more are taken than there are unknowns.
    reorthogonalize
        Whether every vector is made orthogonal to all before it, twice. Without it rounding brings copies of
        eigenvalues that have converged, and the basis is none.

    Raises
    ------
    ValueError
        For less than one step, a start that is seen to be zero or not finite, numbers that are not real, an operator
        that returns another tree. An operator that returns NaN makes NaN of the values and of their residuals.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> d = jnp.array([1.0, 2.0, 4.0])
    >>> found = ritz(lanczos(lambda v: d * v, jnp.ones(3), 3))
    >>> print(found.values.round(4), found.weights.round(4))
    [1. 2. 4.] [0.3333 0.3333 0.3333]
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1: given {num_steps}.")
    dtypes = jax.tree.map(lambda leaf: jnp.asarray(leaf).dtype, start)
    shapes = jax.eval_shape(matvec, start)
    first = unit("start", start)
    start = jax.tree.map(_raised, start)
    if jax.tree.structure(shapes) != jax.tree.structure(start) or any(
        a.shape != b.shape for a, b in zip(jax.tree.leaves(shapes), jax.tree.leaves(start), strict=True)
    ):
        raise ValueError(f"matvec must return a tree like start: given {shapes} for {jax.tree.map(jnp.shape, start)}.")
    size = sum(leaf.size for leaf in jax.tree.leaves(start))
    num_steps = min(num_steps, size)
    kind = jnp.result_type(*jax.tree.leaves(first))
    eps = jnp.finfo(kind).eps

    def apply(v: Tree) -> Tree:
        given = jax.tree.map(lambda leaf, dtype: leaf.astype(dtype), v, dtypes)
        return jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), matvec(given), v)

    def step(carried: Any, j: Array) -> Any:
        basis, before, v, beta = carried
        basis = jax.tree.map(lambda rows, leaf: rows.at[j].set(leaf), basis, v)
        w = apply(v)
        whole = _norm(w)
        alpha = _dots(v, w)
        w = _minus(_minus(w, alpha, v), beta, before)
        if reorthogonalize:
            for _ in range(2):
                w = jax.tree.map(jnp.subtract, w, _combined(_dots(basis, w), basis))
        left = _norm(w)
        # what rounding leaves of a space that is exhausted is no direction; NaN is none either, and to be seen
        there = ~(left <= 100 * eps * whole)
        beta = jnp.where(there, left, 0)
        return (basis, v, _scaled(jnp.where(there, 1 / jnp.where(there, left, 1), 0), w), beta), (alpha, beta)

    basis = jax.tree.map(lambda leaf: jnp.zeros((num_steps, *leaf.shape), leaf.dtype), start)
    carried = (basis, jax.tree.map(jnp.zeros_like, first), first, jnp.zeros((), kind))
    (basis, *_), (alphas, betas) = lax.scan(step, carried, jnp.arange(num_steps))
    # vectors are there up to the first that had no length left
    ended = jnp.cumsum(betas[:-1] == 0) > 0
    return Lanczos(alphas, betas, basis, jnp.asarray(num_steps) - jnp.sum(ended))


def ritz(found: Lanczos) -> Ritz:
    r"""The eigenvalues of the tridiagonal matrix, with their weights :math:`\omega_j = S_{1j}^2` and residuals."""
    alphas, betas, _, steps = found
    absent = jnp.arange(alphas.size) >= steps
    alphas = jnp.where(absent, alphas[0], alphas)
    between = betas[:-1]
    matrix = jnp.diag(alphas) + jnp.diag(between, 1) + jnp.diag(between, -1)
    values, S = jnp.linalg.eigh(matrix)
    residuals = betas[-1] * jnp.abs(S[-1])
    outside = jnp.sum(jnp.where(absent[:, None], S**2, 0), axis=0)
    return Ritz(values, S[0] ** 2, jnp.where(outside > 0.5, jnp.inf, residuals), S)


def _pair(found: Lanczos, of: Ritz, j: int) -> Eigenpair:
    return Eigenpair(of.values[j], _combined(of.coordinates[:, j], found.basis), of.residuals[j])


def extremes(matvec: Matvec, start: Tree, num_steps: int = 30) -> Extremes:
    """The largest and the smallest eigenvalue with their vectors.

    Ritz values lie inside of the spectrum: what they miss, the residual bounds.

    Parameters
    ----------
    matvec, start, num_steps
        As in :func:`lanczos`. The start must not be orthogonal to what is sought: take a :func:`random_direction`.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> d = jnp.append(jnp.linspace(0.0, 1.0, 99), 3.0)
    >>> found = extremes(lambda v: d * v, random_direction(jax.random.key(0), d), 20)
    >>> print(f"{found.largest.value:.4f} {found.smallest.value:.2f} {abs(found.largest.vector[-1]):.4f}")
    3.0000 0.00 1.0000
    """
    found = lanczos(matvec, start, num_steps)
    of = ritz(found)
    # what an exhausted space has not is no end of the spectrum: it lies between
    there = of.residuals != jnp.inf
    last = jnp.argmax(jnp.where(there, of.values, -jnp.inf))
    first = jnp.argmin(jnp.where(there, of.values, jnp.inf))
    return Extremes(_pair(found, of, last), _pair(found, of, first))


def quadrature(matvec: Matvec, like: Tree, *, key: Array, num_steps: int = 30, probes: int = 8) -> Spectrum:
    """The whole spectrum by stochastic Lanczos quadrature.

    Parameters
    ----------
    matvec, num_steps
        As in :func:`lanczos`.
    like
        A tree of the unknowns' structure.
    key
        Of the random start vectors.
    probes
        How many there are; one after the other.

    Raises
    ------
    ValueError
        For less than one probe, and as in :func:`lanczos`.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> d = jnp.linspace(1.0, 2.0, 200)
    >>> found = quadrature(lambda v: d * v, d, key=jax.random.key(0), num_steps=15, probes=20)
    >>> print(f"{found.mean(jnp.log):.1f} {jnp.mean(jnp.log(d)):.1f} {found.weights.sum():.1f}")
    0.4 0.4 1.0
    """
    if probes < 1:
        raise ValueError(f"probes must be at least 1: given {probes}.")

    def one(key: Array) -> tuple[Array, Array]:
        of = ritz(lanczos(matvec, random_direction(key, like), num_steps))
        return of.values, of.weights

    values, weights = lax.map(one, jax.random.split(key, probes))
    return Spectrum(values, weights / probes)
