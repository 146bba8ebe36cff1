r"""Schrödinger bridges: of all interpolants the one whose SDE has the least kinetic energy.

For noise :math:`\epsilon` and independent ends,

.. math::
    \max_I \min_u \; E \int_0^1 \big[\tfrac12 |u|^2 - (\dot I + (\dot\gamma - \epsilon / \gamma) z) \cdot u\big] dt

has :math:`u = b + \epsilon s` as its inner minimizer, and its solution is the bridge. The noise is integrated by parts,
:math:`E[z \cdot u(x_t)] = \gamma E[\mathrm{div}\, u]`, which leaves a finite variance at the ends:

.. math:: E \big[\tfrac12 |u|^2 - \dot I \cdot u - (\gamma \dot\gamma - \epsilon)\, \mathrm{div}\, u\big].

With :math:`u = \sum_j c_j \varphi_j` the inner problem is a quadratic, which dini solves and differentiates implicitly.

References
----------
Albergo, Boffi and Vanden-Eijnden, 2023 (arXiv 2303.08797). Bunne, Hsieh, Cuturi and Krause, "The Schrödinger bridge
between Gaussian measures has a closed form", 2022 (arXiv 2202.05722).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

import dini
from dini_zoo.kit.checking import at_least, known, positive, same_shape

from ..interpolants import CustomInterpolant, brownian


def _root(A: Array) -> Array:
    values, vectors = jnp.linalg.eigh(A)
    return (vectors * jnp.sqrt(jnp.maximum(values, 0.0))) @ vectors.T


def _covariance(name: str, A: Array, *, singular: bool) -> None:
    """Raise `ValueError` for a known matrix that is no covariance, to rounding."""
    if not known(A):
        return
    kind = "semidefinite" if singular else "definite"
    matrix = np.asarray(A)
    small = len(matrix) * np.finfo(matrix.dtype).eps * np.max(np.abs(matrix), initial=0.0)
    if matrix.ndim != 2 or not np.all(np.isfinite(matrix)) or np.max(np.abs(matrix - matrix.T)) > 8 * small:
        raise ValueError(f"{name} must be a symmetric matrix of finite numbers: given {matrix}.")
    least = np.linalg.eigvalsh(matrix)[0]
    if least < -small or (not singular and least <= small):
        raise ValueError(f"{name} must be positive {kind}: given {matrix}, whose least eigenvalue is {least:.2e}.")


def gaussian_bridge(A: Float[Array, "d d"], B: Float[Array, "d d"], eps: Any) -> Callable[[Any], Float[Array, "d d"]]:
    r"""The covariance at each time of the bridge from :math:`N(0, A)` to :math:`N(0, B)`, with noise :math:`\epsilon`.

    .. math::
        \Sigma_t = (1-t)^2 A + t^2 B + t (1-t) (C + C^\top + 2 \epsilon I), \quad
        C = \tfrac12 (A^{1/2} D A^{-1/2} - 2 \epsilon I), \quad
        D = (4 A^{1/2} B A^{1/2} + 4 \epsilon^2 I)^{1/2}.

    Raises `ValueError` for an :math:`\epsilon` that is not positive, matrices of different shapes, and matrices that
    are not symmetric, :math:`A` positive definite and :math:`B` semidefinite.
    """
    positive("eps", eps)
    same_shape("B", B, "A", jnp.shape(A))
    A, B = jnp.asarray(A, jnp.result_type(float)), jnp.asarray(B, jnp.result_type(float))
    _covariance("A", A, singular=False)
    _covariance("B", B, singular=True)
    unit, root = jnp.eye(len(A)), _root(A)
    D = _root(4 * root @ B @ root + 4 * eps**2 * unit)
    C = 0.5 * (root @ D @ jnp.linalg.inv(root) - 2 * eps * unit)
    return lambda t: (1 - t) ** 2 * A + t**2 * B + t * (1 - t) * (C + C.T + 2 * eps * unit)


def path_energy(v: Float[Array, " n"], eps: Any) -> Float[Array, ""]:
    r"""The kinetic energy :math:`\int (\dot v / 2 - \epsilon)^2 / v\, dt` of normal laws with variances `v` at equal
    steps of time, by Simpson's rule on the straight line between each two."""
    h = 1 / (len(v) - 1)
    slope = jnp.diff(v) / h
    middle = 0.5 * (v[1:] + v[:-1])
    return h * jnp.sum((0.5 * slope - eps) ** 2 * (1 / v[1:] + 4 / middle + 1 / v[:-1]) / 6)


def optimal_variance_path(a: Any, b: Any, eps: Any, *, nodes: int = 65) -> Float[Array, " n"]:
    r"""The variances of the least energy from `a` to `b`, at equal steps of time, by `dini.minimize`.

    Differentiable in `a`, `b` and :math:`\epsilon`. Raises `ValueError` for ends and noise that are not positive.
    """
    for name, value in (("a", a), ("b", b), ("eps", eps)):
        positive(name, value)
    at_least("nodes", nodes, 3)
    a, b, eps = (jnp.asarray(value, jnp.result_type(float)) for value in (a, b, eps))
    t = jnp.linspace(0.0, 1.0, nodes)

    def whole(inner: Array, a: Array, b: Array) -> Array:
        return jnp.concatenate([a[None], jnp.exp(inner), b[None]])

    def energy(inner: Array, a: Array, b: Array, eps: Array) -> Array:
        return path_energy(whole(inner, a, b), eps)

    start = jnp.log((1 - t) ** 2 * a + t**2 * b + 2 * eps * t * (1 - t))[1:-1]
    found = dini.minimize(energy, start, a, b, eps, solver=dini.TrustRegionNewtonCG())
    return whole(found.x, a, b)


class Bridge(NamedTuple):
    """An optimized interpolant, and the drift of its SDE."""

    interpolant: CustomInterpolant
    coefficients: Float[Array, " k"]
    """Of the features of the drift."""
    energies: Float[Array, " steps"]
    """The kinetic energy at each step of the path's optimization, on that step's batch."""


#: `features(x, t)` of a batch: vectors `(k, n, d)`.
type Features = Callable[[Array, Array], Array]


def _inner(
    interpolant: CustomInterpolant, features: Features, eps: Any, t: Array, x0: Array, x1: Array, z: Array
) -> tuple[Array, Array]:
    """The matrix and the vector of the inner quadratic."""
    x = interpolant.sample(t, x0, x1, z)
    phi, n = features(x, t), len(x)
    # each point depends on itself alone: one direction for the whole batch gives a column of every Jacobian
    directions = jnp.eye(x.shape[1], dtype=x.dtype)
    columns = jax.vmap(lambda v: jax.jvp(lambda x: features(x, t), (x,), (jnp.broadcast_to(v, x.shape),))[1])(
        directions
    )
    divergence = jnp.einsum("iknj,ij->kn", columns, directions)
    product = interpolant.gamma_at(t)[1] - eps
    target = jnp.einsum("knd,nd->k", phi, interpolant.mean_dot(t, x0, x1)) + divergence @ product
    return jnp.einsum("ind,jnd->ij", phi, phi) / n, target / n


def _drift(G: Array, r: Array) -> Array:
    """The coefficients of the inner minimizer, by dini."""
    inner = dini.Quadratic(lambda G, r: G, lambda G, r: -r)
    return dini.minimize(inner, jnp.zeros_like(r), G, r, solver=dini.BFGS(start="hessian")).x


def schrodinger_bridge(
    key: Array,
    sample0: Callable[[Array, int], Float[Array, "n d"]],
    sample1: Callable[[Array, int], Float[Array, "n d"]],
    eps: float,
    path: Callable[[Array, Array, Array], Array],
    features: Features,
    optimizer: optax.GradientTransformation,
    *,
    steps: int,
    batch: int = 1024,
    final: int = 50_000,
) -> Bridge:
    r"""Optimize the path of an interpolant until its SDE has the least energy.

    The path is :math:`I = (1-t) x_0 + t x_1 + t (1-t) N(t, x_0, x_1)`, the noise
    :math:`\gamma^2 = 2 \epsilon t (1-t)`: where :math:`N` is zero, the energy is that of the independent coupling.

    Parameters
    ----------
    key
        Of all draws.
    sample0, sample1
        `sample(key, n)`: points of the two laws.
    eps
        The noise, positive.
    path
        :math:`N`, an Equinox module: `path(t, x0, x1)` with `t` of shape `(n,)`.
    features
        :math:`\varphi`: `features(x, t)`, of shape `(k, n, d)`.
    optimizer
        Of optax, for the path: it ascends the outer problem, which descends the energy.
    steps, batch
        Of the optimizer, and pairs of points in each.
    final
        Pairs for the drift at the end.

    Raises
    ------
    ValueError
        For noise that is not positive, and counts below one.
    """
    positive("eps", eps)
    for name, value in (("steps", steps), ("batch", batch), ("final", final)):
        at_least(name, value, 1)

    def interpolant(path: Any) -> CustomInterpolant:
        def whole(t: Any, x0: Array, x1: Array) -> Array:
            t = jnp.asarray(t)[..., None]
            return (1 - t) * x0 + t * x1 + t * (1 - t) * path(t[..., 0], x0, x1)

        return CustomInterpolant(whole, brownian(2 * eps))

    def system(path: Any, key: Array, n: int) -> tuple[Array, Array]:
        one, other, times, noise = jax.random.split(key, 4)
        x0, x1 = sample0(one, n), sample1(other, n)
        t = (jnp.arange(n) + jax.random.uniform(times, (n,), x0.dtype)) / n
        return _inner(interpolant(path), features, eps, t, x0, x1, jax.random.normal(noise, x0.shape, x0.dtype))

    arrays, static = eqx.partition(path, eqx.is_inexact_array)

    def energy(arrays: Any, key: Array) -> Array:
        G, r = system(eqx.combine(arrays, static), key, batch)
        c = _drift(G, r)
        # twice the inner minimum, with its sign changed: E|u|²
        return 2 * (r @ c - 0.5 * c @ G @ c)

    def step(carried: Any, key: Array) -> Any:
        arrays, state = carried
        value, slope = jax.value_and_grad(energy)(arrays, key)
        updates, state = optimizer.update(slope, state, arrays)
        return (optax.apply_updates(arrays, updates), state), value

    @jax.jit
    def optimize(arrays: Any, key: Array) -> Any:
        first, last = jax.random.split(key)
        start = (arrays, optimizer.init(arrays))
        (arrays, _), energies = jax.lax.scan(step, start, jax.random.split(first, steps))
        G, r = system(eqx.combine(arrays, static), last, final)
        return arrays, _drift(G, r), energies

    arrays, coefficients, energies = optimize(arrays, key)
    return Bridge(interpolant(eqx.combine(arrays, static)), coefficients, energies)
