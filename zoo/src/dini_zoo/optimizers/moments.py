r"""Mean and spread of per-example estimates: of gradients, of hypergradients, of anything that is averaged.

Of the estimates :math:`G_1, \dots, G_b`, trees of arrays, only three things are kept: their number, their mean and the
sums of squared deviations from it, coordinate by coordinate. They can be merged exactly, so a batch may come in parts,
one after the other or from many devices.

References
----------
T. F. Chan, G. H. Golub, R. J. LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances",
1979.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ..kit.checking import one_length, trainable

Tree = Any


class Moments(NamedTuple):
    r"""Number, mean and squared deviations of some estimates :math:`G_1, \dots, G_b`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> found = moments(jnp.array([[1.0, 2, 0], [3, -1, 1], [2, 0, 2], [0, 1, -1]]))
    >>> print(found.mean, found.total_variance)
    [1.5 0.5 0.5] 5.0
    """

    count: Float[Array, ""]
    """:math:`b`."""
    mean: Tree
    r""":math:`g = \frac1b \sum_i G_i`."""
    deviations: Tree
    r""":math:`\sum_i (G_i - g)^2`, coordinate by coordinate."""

    @property
    def variance(self) -> Tree:
        """The sample variance of each coordinate, with :math:`b - 1` in the denominator."""
        return jax.tree.map(lambda d: d / (self.count - 1).astype(d.dtype), self.deviations)

    @property
    def total_variance(self) -> Float[Array, ""]:
        r"""The trace :math:`\sum_j \operatorname{Var}(G_{:j})` of the sample covariance."""
        return _total(jax.tree.map(jnp.sum, self.variance))

    @property
    def squared_norm(self) -> Float[Array, ""]:
        r""":math:`\|g\|^2`."""
        return _total(jax.tree.map(_squares, self.mean))

    @property
    def direction(self) -> Tree:
        r"""The unit vector :math:`u = g / \|g\|`; zero where :math:`g` is."""
        # the largest entry is divided out first: squares of tiny gradients are none
        largest = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf), initial=0) for leaf in jax.tree.leaves(self.mean)]))
        scale = jnp.where(largest > 0, largest, 1)
        scaled = jax.tree.map(lambda leaf: leaf / scale.astype(leaf.dtype), self.mean)
        norm = jnp.sqrt(_total(jax.tree.map(_squares, scaled)))
        norm = jnp.where(norm > 0, norm, 1)
        return jax.tree.map(lambda leaf: leaf / norm.astype(leaf.dtype), scaled)


def _total(tree: Tree) -> Array:
    leaves = jax.tree.leaves(tree)
    return sum(leaves[1:], leaves[0])


def _squares(leaf: Array) -> Array:
    return jnp.sum(jnp.square(jnp.abs(leaf)))


def _raised(leaf: Array) -> Array:
    """In at least single precision: sums of many small squares need it."""
    return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))


def _checked(weights: Any, length: int) -> Array | None:
    if weights is not None and np.shape(weights) != (length,):
        raise ValueError(f"weights must have one number for each of the {length} examples: given {np.shape(weights)}.")
    return None if weights is None else jnp.asarray(weights)


def _axes(leaf: Any) -> frozenset[str]:
    """The axes of `jax.shard_map` along which an array of this type varies; none elsewhere."""
    # JAX 0.12 has another name for what it called `vma` before
    kind = getattr(leaf, "manual_axis_type", None)
    return (getattr(leaf, "vma", None) if kind is None else kind.varying) or frozenset()


def _varying(leaf: Array, axes: frozenset[str]) -> Array:
    missing = tuple(axes - _axes(jax.typeof(leaf)))
    return lax.pcast(leaf, missing, to="varying") if missing else leaf


def varying_like(tree: Tree, batch: Tree) -> Tree:
    """A tree of parameters as a device's own, inside of a `jax.shard_map` whose devices have batches of their own.

    JAX sums the derivative with respect to what all devices have in common over the devices: an example's gradient
    would be the sum of one on each of them.

    Parameters
    ----------
    tree
        Arrays that may be the same on all devices.
    batch
        Arrays with the axes along which devices differ. Without any, and outside of `shard_map`, nothing happens.
    """
    axes = frozenset[str]().union(*(_axes(jax.typeof(leaf)) for leaf in jax.tree.leaves(batch)))
    return jax.tree.map(lambda leaf: _varying(jnp.asarray(leaf), axes), tree) if axes else tree


def moments(estimates: Tree, weights: Float[Array, " b"] | None = None) -> Moments:
    """The moments of a tree of estimates.

    Parameters
    ----------
    estimates
        A tree whose arrays have the estimates along their first axes, `b` of them.
    weights
        How often each of them counts: one, or zero for what only fills up the arrays. A row with weight zero changes
        nothing, whatever is in it.

    Raises
    ------
    ValueError
        If the first axes differ, or the weights are not one for each estimate.
    """
    length = one_length("estimates", estimates)
    weights = _checked(weights, length)
    if weights is None:
        weights = jnp.ones(length)
    count = jnp.sum(_raised(weights))

    def mean_of(leaf: Array) -> Array:
        w = weights.astype(leaf.real.dtype)
        return jnp.tensordot(w, leaf, 1) / jnp.maximum(count, 1).astype(leaf.dtype)

    def deviations_of(leaf: Array, mean: Array) -> Array:
        return jnp.tensordot(weights.astype(leaf.real.dtype), jnp.square(jnp.abs(leaf - mean)), 1)

    there = lambda leaf: jnp.where((weights > 0).reshape(-1, *[1] * (leaf.ndim - 1)), leaf, 0)
    estimates = jax.tree.map(lambda leaf: there(_raised(jnp.asarray(leaf))), estimates)
    mean = jax.tree.map(mean_of, estimates)
    return Moments(count, mean, jax.tree.map(deviations_of, estimates, mean))


def merge(a: Moments, b: Moments) -> Moments:
    r"""The moments of two groups of estimates together.

    .. math:: g = g_a + \frac{n_b}{n} (g_b - g_a), \qquad D = D_a + D_b + \frac{n_a n_b}{n} (g_b - g_a)^2,
              \qquad n = n_a + n_b .

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> x = jnp.array([1.0, 3, 2, 0, 7])
    >>> print(f"{merge(moments(x[:2]), moments(x[2:])).variance:.4f} {jnp.var(x, ddof=1):.4f}")
    7.3000 7.3000
    """
    count = a.count + b.count
    share = b.count / jnp.maximum(count, 1)
    mean = jax.tree.map(lambda x, y: x + share.astype(x.dtype) * (y - x), a.mean, b.mean)
    between = jax.tree.map(lambda x, y: jnp.square(jnp.abs(y - x)), a.mean, b.mean)
    added = lambda x, y, d: x + y + (a.count * share).astype(d.dtype) * d
    return Moments(count, mean, jax.tree.map(added, a.deviations, b.deviations, between))


def across(found: Moments, axis_name: Any) -> Moments:
    """The moments of all devices' estimates together, the same on each: inside of `jax.shard_map` or `jax.vmap`.

    Each device brings the moments of its own, as many estimates as it has. The sum of squares around the common mean
    needs that mean first: two sums over the devices, of as many numbers as an estimate has.

    Parameters
    ----------
    found
        A device's own moments.
    axis_name
        The name of the axis of devices, or names.
    """
    count = lax.psum(found.count, axis_name)
    share = found.count / jnp.maximum(count, 1)
    mean = jax.tree.map(lambda x: lax.psum(share.astype(x.dtype) * x, axis_name), found.mean)
    apart = jax.tree.map(lambda x, y: jnp.square(jnp.abs(x - y)), found.mean, mean)
    own = jax.tree.map(lambda d, e: d + found.count.astype(e.dtype) * e, found.deviations, apart)
    return Moments(count, mean, lax.psum(own, axis_name))


def accumulate(
    estimate: Callable[[Any], Tree],
    batch: Tree,
    *,
    weights: Float[Array, " b"] | None = None,
    micro_batch: int | None = None,
) -> Moments:
    """The moments of an estimate over the examples of a batch.

    Parameters
    ----------
    estimate
        `estimate(example)`: a tree of arrays, such as the gradient of one example's loss, or a hypergradient that one
        random key gives. One that differentiates with respect to what all devices of a `jax.shard_map` have in common
        is given that by :func:`varying_like`; the functions below do so.
    batch
        A tree whose arrays have the examples along their first axes.
    weights
        One for each example, or zero for those that only fill up the arrays.
    micro_batch
        So many examples at a time, whose moments are merged: the memory is that of so many estimates. All at once if it
        is not given. Parts that only fill up are skipped, so that with arrays of one shape a small batch costs little.

    Raises
    ------
    ValueError
        If the first axes differ, the weights are not one for each example, or `micro_batch` is less than one.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> x = jnp.arange(10.0)
    >>> found = accumulate(jax.grad(lambda x: x**2), x, micro_batch=4)
    >>> print(found.count, found.mean, found.variance)
    10.0 9.0 36.666668
    """
    length = one_length("batch", batch)
    weights = _checked(weights, length)
    if micro_batch is not None and micro_batch < 1:
        raise ValueError(f"micro_batch must be at least 1: given {micro_batch}.")
    each = jax.vmap(estimate)
    if micro_batch is None or micro_batch >= length:
        return moments(each(batch), weights)

    parts = -(-length // micro_batch)
    filled = parts * micro_batch - length

    def divided(leaf: Any) -> Array:
        # the last example once more, with weight zero: what the estimate makes of it is known to be finite
        leaf = jnp.asarray(leaf)
        leaf = jnp.concatenate([leaf, jnp.repeat(leaf[-1:], filled, axis=0)])
        return leaf.reshape(parts, micro_batch, *leaf.shape[1:])

    weights = jnp.ones(length) if weights is None else weights
    weights = jnp.concatenate([weights, jnp.zeros(filled, weights.dtype)]).reshape(parts, micro_batch)
    batch = jax.tree.map(divided, batch)
    part = lambda given: moments(each(given[0]), given[1])
    shape = jax.eval_shape(part, jax.tree.map(lambda leaf: leaf[0], (batch, weights)))
    nothing = jax.tree.map(lambda leaf: _varying(jnp.zeros(leaf.shape, leaf.dtype), _axes(leaf)), shape)

    def step(found: Moments, given: Any) -> tuple[Moments, None]:
        return lax.cond(jnp.any(given[1] > 0), lambda: merge(found, part(given)), lambda: found), None

    return lax.scan(step, nothing, (batch, weights))[0]


def gradient_moments(
    loss: Callable[[Tree, Any], Array],
    params: Tree,
    batch: Tree,
    *,
    weights: Float[Array, " b"] | None = None,
    micro_batch: int | None = None,
) -> tuple[Moments, Float[Array, ""]]:
    """The moments of the gradients of single examples, and the batch's mean loss.

    Parameters
    ----------
    loss
        `loss(params, example)`: a number. The batch's loss must be the mean of these: a network that mixes its
        examples, as batch normalization does, has no gradients of single ones.
    params
        Where: a tree of arrays of floats.
    batch, weights, micro_batch
        As in :func:`accumulate`.

    Raises
    ------
    TypeError
        If `params` holds anything else, as an Equinox module with its activation does.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> found, value = gradient_moments(lambda w, x: 0.5 * (w - x) ** 2, 0.0, jnp.array([1.0, 2.0, 6.0]))
    >>> print(found.mean, found.variance, value)
    -3.0 7.0 6.8333335
    """
    trainable("params", params)
    params = varying_like(params, batch)

    def both(example: Any) -> tuple[Tree, Array]:
        value, slope = jax.value_and_grad(loss)(params, example)
        return slope, value

    found = accumulate(both, batch, weights=weights, micro_batch=micro_batch)
    (slope, value), (squares, _) = found.mean, found.deviations
    return Moments(found.count, slope, squares), value


def directional_moments(
    loss: Callable[[Tree, Any], Array],
    params: Tree,
    batch: Tree,
    direction: Tree,
    *,
    weights: Float[Array, " b"] | None = None,
    micro_batch: int | None = None,
) -> Moments:
    r"""The moments of the numbers :math:`\langle \nabla f_i, u \rangle`, by forward mode: no gradient is stored.

    Parameters
    ----------
    loss, params, batch, weights, micro_batch
        As in :func:`gradient_moments`.
    direction
        :math:`u`, a tree like `params`; the tests ask for `gradient_moments(...)[0].direction`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> found = directional_moments(lambda w, x: w @ x, jnp.zeros(2), jnp.eye(2), jnp.array([1.0, 3.0]))
    >>> print(found.mean, found.variance)
    2.0 2.0
    """
    trainable("params", params)
    params = varying_like(jax.tree.map(jnp.asarray, params), batch)
    direction = varying_like(jax.tree.map(lambda p, u: jnp.asarray(u, p.dtype), params, direction), batch)
    slope = lambda example: jax.jvp(lambda at: loss(at, example), (params,), (direction,))[1]
    return accumulate(slope, batch, weights=weights, micro_batch=micro_batch)


def inner_products(estimates: Tree, direction: Tree) -> Float[Array, " b"]:
    r"""The numbers :math:`\langle G_i, u \rangle` of estimates that are there, one for each along the first axes."""

    def one(leaf: Any, u: Any) -> Array:
        leaf, u = jnp.asarray(leaf), jnp.asarray(u)
        return (leaf.reshape(leaf.shape[0], -1) @ jnp.conj(u.ravel())).real

    return _total(jax.tree.map(one, estimates, direction))
