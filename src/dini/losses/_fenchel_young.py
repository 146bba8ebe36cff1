"""Fenchel-Young losses on the simplex and on the unit interval."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import xlogy

from ..checks.settings import known
from ..deferred import Array, Float
from ..sets import project_simplex
from ..trees import Tree


def operands(owner: str, scores: Any, target: Any, axis: int | None) -> tuple[jax.Array, jax.Array]:
    """Return scores and targets of one shape; integer targets are classes along ``axis`` (or zeros and ones)."""
    # on the host: within a program, a comparison of known targets is not known
    given = np.asarray(target) if known(target) else None
    scores, target = jnp.asarray(scores), jnp.asarray(target)
    if not jnp.issubdtype(scores.dtype, jnp.floating):
        raise TypeError(f"{owner}'s scores must be real floating-point numbers: given {scores.dtype.name}.")
    if jnp.iscomplexobj(target):
        raise TypeError(f"{owner}'s target must be real: given {target.dtype.name}.")
    if axis is None:
        if target.shape != scores.shape:
            raise ValueError(
                f"{owner}'s target must have the shape {scores.shape} of the scores: given {target.shape}."
            )
        return scores, _probabilities(owner, target, given).astype(scores.dtype)
    if not -scores.ndim <= axis < scores.ndim:
        raise ValueError(f"{owner}'s axis must be an axis of the scores: given {axis} for shape {scores.shape}.")
    if not scores.shape[axis]:
        raise ValueError(f"{owner} needs at least one class: given scores of shape {scores.shape}.")
    if jnp.issubdtype(target.dtype, jnp.integer):
        return scores, _one_hot(owner, target, given, scores, axis % scores.ndim)
    if target.shape != scores.shape:
        raise ValueError(f"{owner}'s target must have the shape {scores.shape} of the scores: given {target.shape}.")
    if given is not None and np.any(given < 0):
        raise ValueError(
            f"{owner}'s target must be classes as integers, or distributions, nowhere negative: given {given}."
        )
    target = target.astype(scores.dtype)
    return scores, jnp.where(target < 0, jnp.nan, target)


def _one_hot(owner: str, target: jax.Array, given: np.ndarray | None, scores: jax.Array, axis: int) -> jax.Array:
    """Return classes as distributions, with NaN for what is no class, where that is not known; otherwise raise."""
    classes, needed = scores.shape[axis], scores.shape[:axis] + scores.shape[axis + 1 :]
    if target.shape != needed:
        raise ValueError(
            f"{owner}'s target must be classes of shape {needed}, or a distribution of floating-point numbers of "
            f"shape {scores.shape}: given {target.dtype.name}{list(target.shape)}."
        )
    # labels of few bits cannot be compared with a larger number of classes, which would wrap around
    labels = target.astype(jnp.int64 if target.dtype.itemsize == 8 else jnp.int32)
    wide = np.zeros(()) if given is None else given.astype(np.int64)
    if np.any((wide < 0) | (wide >= classes)):
        raise ValueError(f"{owner}'s target must be classes from 0 to {classes - 1}: given {given}.")
    exists = jnp.expand_dims((labels >= 0) & (labels < classes), axis)
    return jnp.where(exists, jax.nn.one_hot(labels, classes, dtype=scores.dtype, axis=axis), jnp.nan)


def _probabilities(owner: str, target: jax.Array, given: np.ndarray | None) -> jax.Array:
    """Return a binary target with NaN for what is no probability, where it is not known; otherwise raise."""
    if given is not None and np.any((given < 0) | (given > 1)):
        raise ValueError(
            f"{owner}'s target must be zeros and ones, or probabilities in [0, 1]: given {given}. For labels of -1 and "
            "1, pass (1 + target) / 2."
        )
    if not jnp.issubdtype(target.dtype, jnp.floating):
        target = target.astype(float)
    return jnp.where((target < 0) | (target > 1), jnp.nan, target)


def _centered(scores: jax.Array, target: jax.Array, axis: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return scores less the largest, so that no digits are lost, what that takes from the loss, and where it is inf.

    It takes nothing where the target adds up to one (to rounding). A largest score of infinity is zero afterwards.
    """
    top = jax.lax.stop_gradient(jnp.max(scores, axis=axis, keepdims=True))
    flat = jnp.squeeze(top, axis)
    lack = 1 - jnp.sum(target, axis=axis)
    rest = jnp.where(jnp.isfinite(flat), flat, 0) * lack
    none = jnp.abs(lack) <= scores.shape[axis] * jnp.finfo(scores.dtype).eps
    infinite = jnp.isposinf(flat)
    lost = jnp.where(infinite & (lack > 0) & ~none, jnp.inf, 0)
    centered = _moving_with(scores, jnp.where(jnp.isposinf(scores), 0, scores - top))
    # as constants: the derivatives in the scores and in the target are what they are
    return centered, rest + jax.lax.stop_gradient(lost - jnp.where(none, rest, 0)), infinite


def _possible(scores: jax.Array, excluded: jax.Array) -> jax.Array:
    """Return scores with a finite one, too low to count, for excluded classes."""
    return _moving_with(scores, jnp.where(excluded, jnp.finfo(scores.dtype).min / 4, scores))


@jax.custom_jvp
def _moving_with(changed: jax.Array, values: jax.Array) -> jax.Array:
    """Return values with the derivative of what they were changed from, also where that is infinite."""
    del changed
    return values


@_moving_with.defjvp
def _(primals: Tree, tangents: Tree) -> Any:
    return _moving_with(*primals), tangents[0]


def _times(share: jax.Array, cost: jax.Array) -> jax.Array:
    """Return the share of a cost; none of an infinite one is nothing."""
    return share * jnp.where((share == 0) & jnp.isinf(cost), 0, cost)


def softmax_loss(scores: Float[Array, "*shape"], target: Any, axis: int = -1) -> jax.Array:
    r"""Return the multiclass logistic loss, :math:`\log \sum_i e^{s_i} - \langle s, y \rangle + \sum_i y_i \log y_i`.

    It is the Kullback-Leibler divergence of :math:`\mathrm{softmax}(s)` from ``y``, and zero where they agree.

    **Derivative.** :math:`\mathrm{softmax}(s) - y` in ``s``.

    Parameters
    ----------
    scores
        ``s``; the classes lie along ``axis``. Minus infinity excludes a class: the loss is that without it, and
        infinite where the target has a share in it. Infinity, of one class alone, is the limit as well.
    target
        Classes as integers, one for each slice along ``axis``, or distributions ``y`` of the scores' shape. A traced
        class that does not exist, or a negative share, gives NaN.
    axis
        The axis of the classes.

    Returns
    -------
    jax.Array
        One loss for each slice.

    Raises
    ------
    ValueError, TypeError
        If shapes or types do not fit, a known class is out of range, or a known share is negative.

    See Also
    --------
    optax: ``softmax_cross_entropy`` is this without the target's entropy (the same for classes).

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from dini.losses import softmax_loss
    >>> print(softmax_loss(jnp.array([0.0, 0.0]), 1).round(4))
    0.6931
    >>> print(jax.grad(softmax_loss)(jnp.array([0.0, 0.0]), 1))
    [ 0.5 -0.5]
    """
    scores, target = operands("softmax_loss", scores, target, axis)
    scores, rest, infinite = _centered(scores, target, axis)
    scores = _possible(scores, jnp.isneginf(scores) & (target == 0))
    most = jax.nn.logsumexp(scores, axis=axis)
    cross = most - jnp.sum(scores * target, axis=axis)
    # several scores of infinity have no limit, unless it is infinite; this is the logarithm of their number
    several = infinite & (most > 0) & ~jnp.isposinf(cross)
    return (cross + jnp.sum(xlogy(target, target), axis=axis) + rest) * jnp.where(several, jnp.nan, 1)


def logistic_loss(score: Float[Array, "*shape"], target: Any) -> jax.Array:
    r"""Return the binary logistic loss, :math:`\log(1 + e^s) - s y + y \log y + (1 - y) \log(1 - y)`, elementwise.

    **Derivative.** :math:`\mathrm{sigmoid}(s) - y` in ``s``.

    Parameters
    ----------
    score
        ``s``.
    target
        Zeros and ones, or probabilities ``y`` in [0, 1], of the same shape. What else is traced gives NaN.

    Raises
    ------
    ValueError, TypeError
        If shapes or types do not fit, or a known target is not in [0, 1].

    See Also
    --------
    optax: ``sigmoid_binary_cross_entropy`` is this without the target's entropy (the same for zeros and ones).

    Examples
    --------
    >>> import jax
    >>> from dini.losses import logistic_loss
    >>> print(jax.grad(logistic_loss)(0.0, 1))
    -0.5
    """
    score, target = operands("logistic_loss", score, target, None)
    # of the two classes, the one that is less likely: beside the other, the terms would cancel
    other = target > 0.5
    score, target = jnp.where(other, -score, score), jnp.where(other, 1 - target, target)
    # an infinite score is held at a large number, for a difference that is not NaN
    large = jnp.finfo(score.dtype).max / 4
    held = _moving_with(score, jnp.where(jnp.isinf(score), jnp.where(score > 0, large, -large), score))
    loss = jax.nn.softplus(held) - held * target + xlogy(target, target) + xlogy(1 - target, 1 - target)
    lost = jnp.isposinf(score) | (jnp.isneginf(score) & (target > 0))
    return _moving_with(loss, jnp.where(lost, jnp.inf, loss))


def sparsemax_loss(scores: Float[Array, "*shape"], target: Any, axis: int = -1) -> jax.Array:
    r"""Return the sparsemax loss, :math:`\tfrac12\|y - s\|^2 - \tfrac12\|p - s\|^2` with the projection ``p`` of ``s``.

    ``p`` is :func:`dini.sets.project_simplex` of ``s``, a prediction that may be sparse (Martins and Astudillo 2016).
    This is the Fenchel-Young loss of half the squared norm on the simplex. For a class, it is zero where its score is
    above all others by one.

    **Derivative.** :math:`p - y` in ``s``; the second derivative is that of the projection.

    Parameters
    ----------
    scores, target, axis
        As for :func:`softmax_loss`.

    Returns
    -------
    jax.Array
        One loss for each slice.

    Raises
    ------
    ValueError, TypeError
        If shapes or types do not fit, a known class is out of range, or a known share is negative.

    References
    ----------
    Blondel, Martins, Niculae, "Learning with Fenchel-Young losses", JMLR 2020 (arXiv 1901.02324).

    See Also
    --------
    optax: ``multiclass_sparsemax_loss`` takes classes.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.losses import sparsemax_loss
    >>> print(sparsemax_loss(jnp.array([2.0, 0.5, 0.0]), 0), sparsemax_loss(jnp.array([1.0, 1.0]), 0))
    0.0 0.25
    """
    scores, target = operands("sparsemax_loss", scores, target, axis)
    scores, rest, infinite = _centered(scores, target, axis)
    excluded = jnp.isneginf(scores)
    # infinite where the target has a share in an excluded class; otherwise how many scores are the largest
    cost = jnp.where(excluded, jnp.where(target == 0, 0, jnp.inf * target), scores == 0)
    most = jnp.sum(jax.lax.stop_gradient(cost), axis=axis, dtype=scores.dtype)
    scores = _possible(scores, excluded)
    p = project_simplex(scores, 1.0, axis)
    # <s, p - y> + (|y|^2 - |p|^2)/2; its derivative is p - y + J(s - p), and J vanishes on s - p
    loss = jnp.sum((p - target) * (scores - (p + target) / 2), axis=axis) + rest
    # several scores of infinity have no limit, unless it is infinite
    several = infinite & (most > 1) & (most < jnp.inf)
    return _moving_with(loss, jnp.where(most == jnp.inf, jnp.inf, loss)) * jnp.where(several, jnp.nan, 1)


def sparse_sigmoid(score: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    r"""Return :math:`\mathrm{clip}((s + 1)/2, 0, 1)`, elementwise: the prediction of :func:`binary_sparsemax_loss`.

    It is the first element of the projection of :math:`(s, 0)` onto the simplex.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.losses import sparse_sigmoid
    >>> print(sparse_sigmoid(jnp.array([-2.0, 0.0, 0.5])))
    [0.   0.5  0.75]
    """
    score = jnp.asarray(score)
    # (a NaN stays one)
    inside = ~((score <= -1) | (score >= 1))
    return jnp.where(inside, (score + 1) / 2, (score >= 1).astype(score.dtype))


def binary_sparsemax_loss(score: Float[Array, "*shape"], target: Any) -> jax.Array:
    r"""Return the binary sparsemax loss (a Huber-like hinge), elementwise.

    :math:`h(s) - s y - y (1 - y)` with :math:`h(s) = 0` for :math:`s \le -1`, :math:`s` for :math:`s \ge 1` and
    :math:`(s + 1)^2/4` between: for one, zero from :math:`s = 1` on.

    **Derivative.** :math:`\mathrm{clip}((s + 1)/2, 0, 1) - y` in ``s``.

    Parameters
    ----------
    score, target
        As for :func:`logistic_loss`.

    Raises
    ------
    ValueError, TypeError
        If shapes or types do not fit, or a known target is not in [0, 1].

    References
    ----------
    Blondel, Martins, Niculae, "Learning with Fenchel-Young losses", JMLR 2020, section 4.4.

    See Also
    --------
    optax: ``sparsemax_loss`` takes zeros and ones.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.losses import binary_sparsemax_loss
    >>> print(binary_sparsemax_loss(jnp.array([1.5, 0.0, -1.0]), jnp.array([1, 1, 1])))
    [0.   0.25 1.  ]
    """
    score, target = operands("binary_sparsemax_loss", score, target, None)
    inside, above = (score > -1) & (score < 1), score >= 1
    # the same as squares and products, which do not cancel where the prediction is right
    middle = (jnp.where(inside, score, 0) - (2 * target - 1)) ** 2 / 4
    right = _times(1 - target, jnp.where(above, score, 1) - target)
    left = _times(target, target - 1 - jnp.where(inside | above, -1, score))
    return jnp.where(inside, middle, jnp.where(above, right, left))
