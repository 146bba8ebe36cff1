r"""What an embedded Runge-Kutta solver knows of its own step: an estimate of its error, and one of the stiffness.

A step from :math:`(t, z)` of length :math:`h` has stages :math:`g_i = z + h \sum_l a_{il} k_l` with
:math:`k_i = f(g_i, t + c_i h)`, and an error vector :math:`e = h \sum_i (b_i - \hat b_i) k_i`. From them

.. math:: E = \Big\| \frac{e}{\text{atol} + \text{rtol} \max(|z|, |z_\text{new}|)} \Big\|, \qquad
          S = \frac{\|k_a - k_b\|}{\|g_a - g_b\|} \quad\text{for two stages with}\quad c_a = c_b ,

with root mean squares as norms. A controller accepts a step with :math:`E < 1`; :math:`S` is about the modulus of the
greatest eigenvalue of :math:`\partial f / \partial z`.

References
----------
Pal, Ma, Shah, Rackauckas, "Opening the blackbox: accelerating neural differential equations by regularizing internal
solver heuristics", ICML 2021 (arXiv 2105.03918). Shampine, "Stiffness and nonstiff differential equation solvers, II:
detecting stiffness with Runge-Kutta methods", ACM TOMS 3, 1977. Hairer, Nørsett, Wanner, "Solving ordinary differential
equations I", II.4 (the starting step), "II", IV.2 (the stiffness).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from ..kit.checking import at_least, positive, same_tree
from .arguments import tolerances

#: A norm of a tree of arrays.
Norm = Callable[[Any], Any]


def rms(tree: PyTree) -> Float[Array, ""]:
    """The root mean square of all entries of a tree; zero, with derivative zero, of zeros.

    Entries are scaled before they are squared, so that none is too small or too large for it.

    Examples
    --------
    >>> print(f"{rms({'a': jnp.array([3e-30, 0.0]), 'b': jnp.array([4e-30, 0.0])}):.2e}")
    2.50e-30
    """
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    count = sum(leaf.size for leaf in leaves)
    if not count:
        return jnp.zeros(())
    largest = jax.lax.stop_gradient(jnp.max(jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in leaves if leaf.size])))
    usable = jnp.isfinite(largest) & (largest > 0)
    scale = jnp.where(usable, largest, 1)
    squares = jnp.zeros((), scale.dtype)
    for leaf in leaves:
        x = jnp.where(usable, leaf, 0) / scale
        squares += jnp.sum(jnp.real(x * jnp.conj(x)))
    # two `where`s: neither the value nor the derivative is that of the root of zero
    root = jnp.sqrt(jnp.where(usable, squares, 1) / count)
    return jnp.where(usable, scale * root, largest)


def scaled_error(error: PyTree, y0: PyTree, y1: PyTree, *, rtol: Any, atol: Any, norm: Norm = rms) -> Float[Array, ""]:
    r"""The error estimate of a step in units of what is tolerated, :math:`E`.

    Parameters
    ----------
    error
        :math:`e`, a tree as the state.
    y0, y1
        The state before and after the step.
    rtol, atol
        Tolerances, as a `diffrax.PIDController` has them.
    norm
        Root mean square, if no other is given.

    Returns
    -------
    array
        :math:`E`; infinite, with derivative zero, where an estimate is not finite.

    Examples
    --------
    >>> print(f"{scaled_error(jnp.array([1e-3, 0.0]), jnp.ones(2), jnp.zeros(2), rtol=1e-3, atol=0.0):.4f}")
    0.7071
    """
    same_tree("error", error, "y0", y0)
    same_tree("y1", y1, "y0", y0)

    def ratio(e: Array, a: Array, b: Array) -> tuple[Array, Array]:
        unit = atol + rtol * jnp.maximum(jnp.abs(a), jnp.abs(b))
        # atol may be zero where the state is
        usable = jnp.isfinite(jnp.abs(e)) & jnp.isfinite(unit) & ((unit > 0) | (e == 0))
        within = usable & (unit > 0)
        return jnp.where(within, e, 0) / jnp.where(within, unit, 1), jnp.all(usable)

    pairs = [ratio(*map(jnp.asarray, three)) for three in zip(*map(jax.tree.leaves, (error, y0, y1)), strict=True)]
    E = norm([value for value, _ in pairs])
    usable = jnp.all(jnp.stack([good for _, good in pairs])) if pairs else jnp.array(True)
    return jnp.where(usable, E, jnp.inf)


def tableau_of(solver: diffrax.AbstractSolver) -> diffrax.ButcherTableau | None:
    """The tableau of an explicit Runge-Kutta solver, wrapped or not; of others there is none."""
    while isinstance(found := getattr(solver, "solver", None), diffrax.AbstractSolver):
        solver = found
    tableau = getattr(solver, "tableau", None)
    return tableau if isinstance(tableau, diffrax.ButcherTableau) and not tableau.implicit else None


def equal_stages(solver: diffrax.AbstractSolver) -> tuple[int, int] | None:
    """The last two stages, counted from zero, that an explicit solver has at the same time, if there are two.

    Examples
    --------
    >>> equal_stages(diffrax.Tsit5()), equal_stages(diffrax.Dopri8()), equal_stages(diffrax.Bosh3())
    ((5, 6), (12, 13), None)
    """
    tableau = tableau_of(solver)
    if tableau is None:
        return None
    c = [tableau.c1, *map(float, tableau.c)]
    pairs = [(i, j) for j in range(len(c)) for i in range(j) if c[i] == c[j]]
    return max(pairs, key=lambda pair: pair[::-1], default=None)


def stiffness_is_known(solver: diffrax.AbstractSolver, terms: Any) -> None:
    """Raise `ValueError` where a solver's steps show no stiffness."""
    if isinstance(terms, diffrax.MultiTerm):
        if tableau_of(solver) is None and hasattr(solver, "calculate_jacobian"):
            raise ValueError(
                f"The stiffness of {type(solver).__name__} is not estimated: its terms have tableaus of their own. "
                "Give stiffness=False."
            )
    elif equal_stages(solver) is None:
        raise ValueError(
            f"A stiffness estimate needs an explicit Runge-Kutta solver with two stages at the same time, such as "
            f"Tsit5, Dopri5 or Dopri8: given {type(solver).__name__}. Give stiffness=False to do without."
        )


def stage_stiffness(
    solver: diffrax.AbstractSolver,
    terms: Any,
    t0: Any,
    t1: Any,
    y0: PyTree,
    y1: PyTree,
    error: PyTree,
    dense_info: dict[str, Any],
    args: PyTree,
    norm: Norm = rms,
) -> Float[Array, ""]:
    r"""The stiffness estimate of a step, :math:`S`, from what a diffrax solver returns of it.

    With noise (`terms` is a `diffrax.MultiTerm` whose first is the drift :math:`\mu`) stages see different increments.
    There it is :math:`\|\mu(z_\text{new}) - \mu(z_\text{new} - e)\| / \|e\|`, at two more evaluations of the drift.

    Returns
    -------
    array
        :math:`S`; zero where the two states are the same up to rounding, which is no difference to divide by. For
        :math:`h S` below about a thousandth this happens in single precision.
    """
    if isinstance(terms, diffrax.MultiTerm):
        drift = terms.terms[0]
        other = jax.tree.map(lambda y, e: y - e, y1, error)
        rates = jax.tree.map(jnp.subtract, drift.vf(t1, y1, args), drift.vf(t1, other, args))
        return _quotient(rates, jax.tree.map(jnp.subtract, y1, other), y1, 1.0, norm)
    pair, tableau = equal_stages(solver), tableau_of(solver)
    assert pair is not None
    assert tableau is not None
    k = dense_info["k"]  # times h

    def stage(i: int) -> PyTree:
        a = np.zeros(tableau.num_stages)
        a[:i] = tableau.a_lower[i - 1] if i else []
        combine = lambda y, k: y + jnp.tensordot(jnp.asarray(a, k.dtype), k, axes=1, precision="highest")
        return jax.tree.map(combine, y0, k)

    difference = jax.tree.map(jnp.subtract, *map(stage, pair[::-1]))
    rates = jax.tree.map(lambda k: k[pair[1]] - k[pair[0]], k)
    return _quotient(rates, difference, y1, jnp.abs(t1 - t0), norm)


def _quotient(rates: PyTree, difference: PyTree, y: PyTree, h: Any, norm: Norm) -> Array:
    """The quotient of two norms, where the difference of two states is more than rounding."""
    below = norm(difference)
    resolution = max((float(jnp.finfo(leaf.dtype).eps) for leaf in jax.tree.leaves(y)), default=0.0)
    distinct = below > jax.lax.stop_gradient(2 * resolution * norm(y))
    return jnp.where(distinct, norm(rates) / jnp.where(distinct, below * h, 1), 0)


@lru_cache(maxsize=64)
def _stability_size(solver: type, tableau_key: tuple[float, ...]) -> float:
    del solver
    # R(-x) = sum_i p_i x^i, with 1 at zero
    p = np.polynomial.Polynomial(tableau_key)
    roots = np.concatenate([(p - one).roots() for one in (1.0, -1.0)])
    real = np.sort(np.real(roots[(np.abs(np.imag(roots)) < 1e-9) & (np.real(roots) > 1e-6)]))
    for left, right in zip(real, [*real[1:], real[-1] + 1.0] if len(real) else [], strict=True):
        if abs(p((left + right) / 2)) > 1:
            return float(left)
    return float("inf")


def stability_size(solver: diffrax.AbstractSolver) -> float:
    r"""How far to the left an explicit Runge-Kutta solver is stable.

    The greatest :math:`x` with :math:`|R(-s)| \le 1` for all :math:`s \le x`, where
    :math:`R(z) = 1 + z b^\top (I - z A)^{-1} \mathbb{1}` is its stability polynomial. A step of length :math:`h` is
    stable where :math:`h S` is less.

    Raises
    ------
    ValueError
        If the solver is no explicit Runge-Kutta method.

    Examples
    --------
    >>> print(round(stability_size(diffrax.Tsit5()), 4), round(stability_size(diffrax.Dopri5()), 4))
    3.5068 3.3066
    """
    tableau = tableau_of(solver)
    if tableau is None:
        raise ValueError(f"solver must be an explicit Runge-Kutta method: given {type(solver).__name__}.")
    n = tableau.num_stages
    A = np.zeros((n, n))
    for i, row in enumerate(tableau.a_lower):
        A[i + 1, : i + 1] = row
    powers = np.ones(n)
    p = [1.0]
    for i in range(n):
        p.append(float((-1) ** (i + 1) * tableau.b_sol @ powers))
        powers = A @ powers
    # coefficients that are zero but for rounding would have roots far away
    kept = [value if abs(value) > 1e-14 else 0.0 for value in p]
    return _stability_size(type(solver), tuple(np.trim_zeros(kept, "b")))


def initial_step(
    f: Callable[[Any, Any, Any], Any],
    t: Any,
    z: PyTree,
    args: PyTree,
    rtol: Any,
    atol: Any,
    order: Any,
    *,
    direction: Any = 1.0,
    norm: Norm = rms,
) -> Float[Array, ""]:
    r"""The length of the first step of a solve from :math:`(t, z)`, by the rule of Hairer, Nørsett and Wanner.

    It is careful: so short that the first step does not fail, not so long that the error is what is tolerated.

    Parameters
    ----------
    f
        The vector field, `f(t, z, args)`.
    order
        Of the error estimate: 5 for `diffrax.Tsit5`.
    direction
        -1 where time runs backward.

    Examples
    --------
    >>> h = initial_step(lambda t, z, args: -z, 0.0, jnp.ones(3), None, 1e-6, 1e-6, 5)
    >>> print(f"{h:.4f}")
    0.0289
    """
    tolerances(rtol, atol)
    positive("order", order)
    unit = jax.tree.map(lambda z: atol + rtol * jnp.abs(z), z)
    in_units = lambda tree: norm(jax.tree.map(jnp.divide, tree, unit))
    f0 = f(t, z, args)
    d0, d1 = in_units(z), in_units(f0)
    tiny = (d0 < 1e-5) | (d1 < 1e-5)
    h0 = jnp.where(tiny, 1e-6, 0.01 * d0 / jnp.where(tiny, 1, d1))
    f1 = f(t + direction * h0, jax.tree.map(lambda z, k: z + direction * h0 * k, z, f0), args)
    d2 = in_units(jax.tree.map(jnp.subtract, f1, f0)) / h0
    most = jnp.maximum(d1, d2)
    still = most <= 1e-15
    h1 = jnp.where(still, jnp.maximum(1e-6, 1e-3 * h0), (0.01 / jnp.where(still, 1, most)) ** (1 / order))
    return jnp.minimum(100 * h0, h1)


def exponential_schedule(start: float, end: float, steps: int) -> optax.Schedule:
    r"""A weight that falls from :math:`\lambda_0` to :math:`\lambda_1` in so many steps, by the same share in each.

    .. math:: \lambda(t) = \lambda_0 \, (\lambda_1 / \lambda_0)^{t / T}, \qquad t \le T ,

    and :math:`\lambda_1` from then on.

    Raises
    ------
    ValueError
        If a weight or the number of steps is not positive.

    Examples
    --------
    >>> schedule = exponential_schedule(100.0, 1.0, 10)
    >>> print([round(float(schedule(t)), 6) for t in (0, 5, 10, 20)])
    [100.0, 10.0, 1.0, 1.0]
    """
    at_least("steps", steps, 1)
    for name, value in (("start", start), ("end", end)):
        positive(name, value)
    if start == end:
        return optax.constant_schedule(start)
    return optax.exponential_decay(start, steps, end / start, end_value=end)
