r"""How far the extreme eigenvalues of a batch's Hessian are from those of all data's: random-matrix theory.

The model is :math:`H_b = H + E`, where :math:`E` is symmetric with mean zero and entries of variance
:math:`\sigma^2 / b_{eff}`. Of :math:`P` parameters only :math:`P \sigma^2` enters, the *noise* of single examples:
:math:`\mathrm E \|(H_i - H) v\|^2` for a unit vector :math:`v`.

References
----------
D. Granziol, S. Zohren, S. Roberts, "Learning rates as a function of batch size: a random matrix theory approach to
neural network training", JMLR 23(173), 2022 (arXiv 2006.09092). F. Benaych-Georges, R. R. Nadakuditi, "The eigenvalues
and eigenvectors of finite, low rank perturbations of large random matrices", 2011. J. Baik, G. Ben Arous, S. Péché,
"Phase transition of the largest eigenvalue for nonnull complex sample covariance matrices", 2005.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..curvature import hessian_operator
from ..lanczos import random_direction, unit
from ..moments import accumulate, varying_like

Number = Float[Array, "..."] | float
Tree = Any


def require(name: str, value: Any, holds: Callable[[np.ndarray], Any], needed: str) -> None:
    """Raise `ValueError` for a number that is not as needed; traced ones pass."""
    if value is None or isinstance(value, jax.core.Tracer):
        return
    if not np.all(holds(np.asarray(value))):
        raise ValueError(f"{name} must be {needed}: given {value}.")


def number(name: str, value: Any, holds: Callable[[Any], Any], needed: str) -> Array:
    """A number as an array, or `ValueError` if it is not as needed; a traced one that is not becomes NaN.

    A comparison with NaN is false, and the branch that it leads to may well have a plausible value.
    """
    require(name, value, holds, needed)
    value = jnp.asarray(value, float)
    return jnp.where(holds(value), value, jnp.nan)


def there(value: Any) -> Any:
    """Whether numbers are any: false of NaN alone."""
    return value == value


def positive(value: Any) -> Any:
    """Whether numbers are greater than zero."""
    return value > 0


def not_negative(value: Any) -> Any:
    """Whether numbers are zero or more."""
    return value >= 0


def effective_batch_size(batch_size: Number, num_data: Number | None = None) -> Array:
    r"""The batch size that counts: :math:`1 / b_{eff} = 1 / b - 1 / N` without replacement, :math:`b` with it.

    Parameters
    ----------
    batch_size
        :math:`b`.
    num_data
        :math:`N`, of which the batch is drawn without replacement; `None` where it is drawn with replacement.

    Raises
    ------
    ValueError
        For a batch smaller than one or larger than the data. Of numbers that are traced the result is then NaN, here
        and in the other functions of this package.

    Examples
    --------
    >>> print(effective_batch_size(100), effective_batch_size(100, 200), effective_batch_size(200, 200))
    100.0 200.0 inf
    """
    b = number("batch_size", batch_size, lambda b: b >= 1, "at least 1")
    if num_data is None:
        return b
    data = number("num_data", num_data, lambda data: data >= 1, "at least 1")
    if not isinstance(num_data, jax.core.Tracer):
        require("batch_size", batch_size, lambda b: b <= np.asarray(num_data), f"at most num_data, {num_data}")
    left = 1 / b - 1 / data
    whole = jnp.where(b == data, jnp.inf, jnp.nan)
    return jnp.where(left > 0, 1 / jnp.where(left > 0, left, 1), whole)


def batch_extreme_eigenvalues(
    largest: Number, smallest: Number, noise: Number, batch_size: Number, num_data: Number | None = None
) -> tuple[Array, Array]:
    r"""The extreme eigenvalues of a batch's Hessian, on average.

    An eigenvalue that stands out of the noise is pushed away from zero; one that does not is lost in its bulk:

    .. math:: \lambda_1(H_b) = \lambda_1 + \frac{P \sigma^2}{b_{eff} \lambda_1}
              \quad \text{if } \lambda_1 > \sigma \sqrt{P / b_{eff}}, \qquad 2 \sigma \sqrt{P / b_{eff}} \text{ else,}

    and the mirror image of it for the smallest.

    Parameters
    ----------
    largest, smallest
        The extreme eigenvalues of all data's Hessian.
    noise
        :math:`P \sigma^2`, from :func:`hessian_noise`. With the noise along the eigenvector of `largest` in its place,
        which is what counts where noise has directions, only the first of the two values is meant.
    batch_size, num_data
        As in :func:`effective_batch_size`.

    Raises
    ------
    ValueError
        For a negative noise, eigenvalues or a noise that are NaN, and as in :func:`effective_batch_size`.

    Examples
    --------
    >>> for b in (4, 64, 1024):
    ...     print("{:.3f} {:.3f}".format(*batch_extreme_eigenvalues(3.0, -1.5, 400 * 0.5**2, b)))
    10.000 -10.000
    3.521 -2.542
    3.033 -1.565
    """
    spread = number("noise", noise, not_negative, "at least 0") / effective_batch_size(batch_size, num_data)
    edge = 2 * jnp.sqrt(spread)

    def beyond(spike: Array) -> Array:
        """Of an eigenvalue with its sign turned positive, if it has one."""
        outside = spike > jnp.sqrt(spread)
        pushed = jnp.where(outside, spike + spread / jnp.where(outside, spike, 1), edge)
        return jnp.where(there(spike), pushed, jnp.nan)

    top = beyond(number("largest", largest, there, "a number"))
    return top, -beyond(-number("smallest", smallest, there, "a number"))


def overlap(spike: Number, noise: Number, batch_size: Number, num_data: Number | None = None) -> Array:
    r"""How much of an eigenvector survives: :math:`\langle u', u \rangle^2 = 1 - P \sigma^2 / (b_{eff} \lambda^2)`.

    It is zero where the eigenvalue is lost in the noise. The arguments are those of
    :func:`batch_extreme_eigenvalues`.

    Examples
    --------
    >>> print(overlap(3.0, 100.0, 64), overlap(3.0, 100.0, 8))
    0.8263889 0.0
    """
    square = number("spike", spike, there, "a number") ** 2
    spread = number("noise", noise, not_negative, "at least 0") / effective_batch_size(batch_size, num_data)
    left = jnp.where(square > 0, jnp.maximum(1 - spread / jnp.where(square > 0, square, 1), 0), 0 * spread)
    return jnp.where(there(square), left, jnp.nan)


def covariance_top_eigenvalue(spike: Number, bulk: Number, ratio: Number) -> Array:
    r"""The largest eigenvalue of a sample covariance, as of a Gauss-Newton matrix: multiplicative noise.

    .. math:: \ell \Big(1 + \frac{\gamma s^2}{\ell - s^2}\Big) \quad \text{if } \ell > s^2 (1 + \sqrt\gamma), \qquad
              s^2 (1 + \sqrt\gamma)^2 \text{ else.}

    Parameters
    ----------
    spike
        :math:`\ell`, the population's largest eigenvalue.
    bulk
        :math:`s^2`, all its others.
    ratio
        :math:`\gamma = P / b`, of the dimension to the number of examples.

    Raises
    ------
    ValueError
        For a bulk or a ratio that is not positive, and a spike that is NaN.

    Examples
    --------
    >>> print(covariance_top_eigenvalue(5.0, 1.0, 0.5), covariance_top_eigenvalue(1.2, 1.0, 0.25))
    5.625 2.25
    """
    bulk, ratio = (number(name, x, positive, "positive") for name, x in (("bulk", bulk), ("ratio", ratio)))
    spike, root = number("spike", spike, there, "a number"), jnp.sqrt(ratio)
    outside = spike > bulk * (1 + root)
    apart = jnp.where(outside, spike - bulk, 1)
    found = jnp.where(outside, spike * (1 + root**2 * bulk / apart), bulk * (1 + root) ** 2)
    return jnp.where(there(spike), found, jnp.nan)


def hessian_noise(
    loss: Callable[[Tree, Any], Array],
    params: Tree,
    data: Tree,
    direction: Tree | None = None,
    *,
    key: Array | None = None,
    num_probes: int = 4,
    micro_batch: int | None = None,
) -> Float[Array, ""]:
    r"""The noise of single examples' Hessians, :math:`\frac1N \sum_i \|(H_i - H) v\|^2` for a unit vector :math:`v`.

    In the model this is :math:`P \sigma^2` for every :math:`v`. Networks are far from it: along the first eigenvector
    :math:`u_1` of the Hessian the noise can be forty times that of a random direction. That one counts for the largest
    eigenvalue: by perturbation theory :math:`\lambda_1(H_b) \approx \lambda_1 + V_1 / (b_{eff} \lambda_1)`, with
    :math:`V_1` the noise along :math:`u_1`.

    Parameters
    ----------
    loss
        `loss(params, example)`: a number.
    params
        Where: a tree of arrays of floats.
    data
        A tree of arrays with the examples along their first axes.
    direction
        :math:`v`, of any length: the first eigenvector, from :func:`dini_zoo.optimizers.lanczos.extremes`.
    key
        Without a direction, of random ones, over which the noise is averaged.
    num_probes
        How many.
    micro_batch
        So many examples at a time.

    Raises
    ------
    ValueError
        Without a direction and a key, and for both; for less than one probe; for a direction that is seen to be zero
        or not finite.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> loss = lambda w, a: 0.5 * jnp.sum(a * w**2)
    >>> data = jnp.array([[1.0, 5.0], [3.0, 5.0]])
    >>> print(hessian_noise(loss, jnp.zeros(2), data, jnp.array([1.0, 0.0])))
    1.0
    """
    if (direction is None) == (key is None):
        raise ValueError("hessian_noise needs a direction, or a key for random ones, and not both.")
    if num_probes < 1:
        raise ValueError(f"num_probes must be at least 1: given {num_probes}.")

    params = varying_like(params, data)

    def along(v: Tree) -> Array:
        v = varying_like(unit("direction", v), data)
        found = accumulate(lambda one: hessian_operator(loss, params, one)(v), data, micro_batch=micro_batch)
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(found.deviations)) / found.count

    if direction is not None:
        return along(direction)
    assert key is not None
    keys = jax.random.split(key, num_probes)
    return jnp.mean(jax.lax.map(lambda key: along(random_direction(key, params)), keys))
