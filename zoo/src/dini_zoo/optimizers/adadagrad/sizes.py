r"""Tests of a batch: is its mean exact enough, and how large must the next one be?

Each takes the moments of a batch's estimates :math:`G_1, \dots, G_b` with mean :math:`g`, and returns the least size
for which its condition would hold with the spread that was seen, a real number. Infinity stands for "no batch is large
enough" (:math:`g = 0`). The tests know of no optimizer, and of no loss.

=================  ==================================================================================  ================
test               condition on a batch of size :math:`b`                                              parameter
=================  ==================================================================================  ================
norm               :math:`\frac1b \operatorname{Var}(G) \le \eta^2 \|g\|^2`                            :math:`\eta`
inner product      :math:`\frac1b \operatorname{Var}(\langle G_i, g \rangle) \le \theta^2 \|g\|^4`     :math:`\theta`
orthogonality      :math:`\frac1b \operatorname{Var}(G_i - \frac{\langle G_i, g \rangle}{\|g\|^2} g)   :math:`\nu`
                   \le \nu^2 \|g\|^2`
=================  ==================================================================================  ================

The variance of vectors is the sum of those of their coordinates. Inner products and norms are those of all parameters
together. Where an estimate or a count is not as it must be, the tests raise if they see numbers; inside of `jax.jit`,
where they cannot, they return NaN, which :class:`BatchSizeController` takes for the largest batch and reports.

A caution: :math:`\mathrm E \|g\|^2 = \|\nabla F\|^2 + \operatorname{tr} \mathrm{Cov} / b`. Near a stationary point the
norm that is seen is that of the noise, and :math:`b / \eta^2` is asked for whatever the truth: an :math:`\eta` above
one leaves the batch as it is forever. With `debias` the noise is taken off, and a gradient of nothing but noise asks
for the largest batch.

References
----------
T. T.-K. Lau, H. Liu, M. Kolar, "AdAdaGrad: adaptive batch size schemes for adaptive gradient methods", 2024 (arXiv
2402.11215). R. H. Byrd, G. M. Chin, J. Nocedal, Y. Wu, "Sample size selection in optimization methods for machine
learning", 2012 (the norm test). R. Bollapragada, R. Byrd, J. Nocedal, "Adaptive sampling strategies for stochastic
optimization", 2018 (the others).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.core
import jax.numpy as jnp
from jaxtyping import Array, Float

from dini_zoo.kit.checking import above_zero

from ..moments import Moments


def concrete(*values: Any) -> bool:
    """Whether all numbers of some trees are there to be looked at."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values))


def _checked(found: Moments, spread: Array) -> None:
    """Raise for moments that are seen to be of too few estimates or not finite."""
    if not concrete(found, spread):
        return
    if found.count < 2:
        raise ValueError(f"moments must be of at least 2 estimates, else there is no variance: given {found.count:g}.")
    if not jnp.isfinite(spread + found.squared_norm):
        raise ValueError("moments must be of finite estimates: an infinity or a NaN is among them.")


def _signal(found: Moments, debias: bool) -> Array:
    r"""The squared norm of the mean, or what is left of it without the noise's share."""
    if not debias:
        return found.squared_norm
    left = found.squared_norm - found.total_variance / found.count
    return jnp.maximum(left, 0)


def _ratio(spread: Array, signal: Array, bound: Any) -> Array:
    """How many estimates: infinitely many where there is no signal, NaN where there is one in what is given."""
    there = jnp.where(signal == 0, 1, signal)
    return jnp.where(signal == 0, jnp.inf + spread, spread / (jnp.asarray(bound, spread.dtype) ** 2 * there))


def norm_test(
    found: Moments, eta: float, *, coordinatewise: bool = False, debias: bool = False, quantile: float = 1.0
) -> Float[Array, ""]:
    r"""The batch size at which the norm of the mean's error is :math:`\eta` times that of the mean.

    .. math:: \frac{\sum_j \operatorname{Var}(G_{:j})}{\eta^2 \|g\|^2} \qquad \text{or, coordinate by coordinate,}
              \qquad \max_j \frac{\operatorname{Var}(G_{:j})}{\eta^2 g_j^2} .

    Parameters
    ----------
    found
        The moments of the batch's estimates.
    eta
        The error that is allowed, relative to the mean. The theory asks for less than one.
    coordinatewise
        Whether every coordinate by itself must be as exact. Coordinates without spread do not count; one that has a
        spread and no mean asks for infinitely many estimates.
    debias
        Whether to take the noise's share, :math:`\operatorname{Var}(G) / b`, off the squared norm of the mean.
    quantile
        With `coordinatewise`, the share of the coordinates with spread whose condition must hold: one coordinate of
        nothing but noise else makes every batch too small.

    Raises
    ------
    ValueError
        For an `eta` that is not positive, a `quantile` outside of (0, 1], fewer than two estimates, estimates that
        are not finite.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_zoo.optimizers.moments import inner_products, moments
    >>> G = jnp.array([[1.0, 2, 0], [3, -1, 1], [2, 0, 2], [0, 1, -1]])
    >>> print(f"{norm_test(moments(G), 0.5):.4f} {norm_test(moments(G), 0.5, coordinatewise=True):.4f}")
    7.2727 26.6667
    """
    above_zero("eta", eta)
    if not 0 < quantile <= 1:
        raise ValueError(f"quantile must be above 0 and at most 1: given {quantile}.")
    spread = found.total_variance
    _checked(found, spread)
    if not coordinatewise:
        return _ratio(spread, _signal(found, debias), eta)
    flat = lambda tree: jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)])
    variance, mean = flat(found.variance), flat(found.mean)
    signal = jnp.square(jnp.abs(mean))
    if debias:
        signal = jnp.maximum(signal - variance / found.count.astype(variance.dtype), 0)
    noisy = variance != 0
    sizes = jnp.sort(jnp.where(noisy, _ratio(variance, signal, eta), -1))
    silent = sizes.size - jnp.sum(noisy)
    place = silent + jnp.ceil(quantile * (sizes.size - silent)).astype(int) - 1
    chosen = jnp.maximum(sizes[jnp.clip(place, 0, sizes.size - 1)], 0)
    return jnp.where(jnp.isnan(spread), jnp.nan, chosen)


def _consistent(found: Moments, along: Moments) -> None:
    """Raise for products that are seen to be others than those with the mean's direction."""
    if jax.tree.structure(along.mean).num_leaves != 1 or jnp.ndim(jax.tree.leaves(along.mean)[0]):
        raise ValueError("along must be the moments of numbers, one for each estimate: given moments of a tree.")
    if not concrete(found, along):
        return
    norm = float(jnp.sqrt(found.squared_norm))
    near = abs(float(along.mean) - norm) <= 1e-3 * (norm + float(jnp.sqrt(along.deviations)))
    if not near or along.count != found.count:
        raise ValueError(
            "along must be the moments of the same estimates' inner products with `found.direction`: their mean is "
            f"then {norm:.6g}, their number {found.count:g}; given {float(along.mean):.6g} and {along.count:g}."
        )


def inner_product_test(found: Moments, along: Moments, theta: float, *, debias: bool = False) -> Float[Array, ""]:
    r"""The batch size at which the mean is a descent direction with high probability.

    .. math:: \frac{\operatorname{Var}(\langle G_i, g \rangle)}{\theta^2 \|g\|^4}
              = \frac{\operatorname{Var}(\langle G_i, u \rangle)}{\theta^2 \|g\|^2}, \qquad u = \frac{g}{\|g\|} .

    Parameters
    ----------
    found
        The moments of the batch's estimates.
    along
        The moments of :math:`\langle G_i, u \rangle`, with `u = found.direction`: of a loss, from
        :func:`directional_moments`; of estimates that are there, `moments(inner_products(estimates, u))`.
    theta
        The spread along the mean that is allowed, relative to it.
    debias
        As in :func:`norm_test`.

    Raises
    ------
    ValueError
        For a `theta` that is not positive, and where it is seen that the moments are not as they must be.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_zoo.optimizers.moments import inner_products, moments
    >>> G = jnp.array([[1.0, 2, 0], [3, -1, 1], [2, 0, 2], [0, 1, -1]])
    >>> found = moments(G)
    >>> along = moments(inner_products(G, found.direction))
    >>> print(f"{inner_product_test(found, along, 0.5):.4f} {orthogonality_test(found, along, 1.0):.4f}")
    2.1598 1.2782
    """
    above_zero("theta", theta)
    _checked(found, found.total_variance)
    _consistent(found, along)
    return _ratio(along.total_variance, _signal(found, debias), theta)


def orthogonality_test(found: Moments, along: Moments, nu: float, *, debias: bool = False) -> Float[Array, ""]:
    r"""The batch size at which the spread across the mean's direction is small.

    With the identity :math:`\operatorname{Var}(G_i - \langle G_i, u \rangle u) = \operatorname{Var}(G) -
    \operatorname{Var}(\langle G_i, u \rangle)`, no second matrix is needed:

    .. math:: \frac{\operatorname{Var}(G) - \operatorname{Var}(\langle G_i, u \rangle)}{\nu^2 \|g\|^2} .

    Parameters
    ----------
    found, along, debias
        As in :func:`inner_product_test`.
    nu
        The spread across the mean that is allowed, relative to it.

    Raises
    ------
    ValueError
        For a `nu` that is not positive, and where it is seen that the moments are not as they must be.
    """
    above_zero("nu", nu)
    spread = found.total_variance
    _checked(found, spread)
    _consistent(found, along)
    return _ratio(jnp.maximum(spread - along.total_variance, 0), _signal(found, debias), nu)


def augmented_inner_product_test(
    found: Moments, along: Moments, theta: float, nu: float, *, debias: bool = False
) -> Float[Array, ""]:
    """The larger of what :func:`inner_product_test` and :func:`orthogonality_test` ask for, with their parameters."""
    inner = inner_product_test(found, along, theta, debias=debias)
    return jnp.maximum(inner, orthogonality_test(found, along, nu, debias=debias))
