"""JAXopt's losses of a label and a score, by :mod:`dini.losses` where it has them.

The binary ones work elementwise and broadcast; the multiclass ones take one label and one vector of scores, so that
``jax.vmap`` serves several. Labels that do not exist raise, and give NaN where they are traced.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dini import losses
from dini.extend import dot, targets, trees, vdot

from ._known import shows

__all__ = [
    "binary_hinge_loss",
    "binary_logistic_loss",
    "binary_perceptron_loss",
    "binary_sparsemax_loss",
    "huber_loss",
    "make_fenchel_young_loss",
    "multiclass_hinge_loss",
    "multiclass_logistic_loss",
    "multiclass_perceptron_loss",
    "multiclass_sparsemax_loss",
    "sparse_plus",
    "sparse_sigmoid",
]


@shows("2.5", "loss.huber_loss(0.0, 3.0)")
def huber_loss(target: Any, pred: Any, delta: Any = 1.0) -> jax.Array:
    r"""Return :math:`\tfrac12 r^2` for :math:`|r| \le \delta` and :math:`\delta(|r| - \tfrac12\delta)` beyond.

    ``r`` is the difference of ``target`` and ``pred``. Twice this is :class:`dini.losses.Huber` of :math:`r^2`.
    """
    size = jnp.abs(jnp.asarray(target) - pred)
    return jnp.where(size > delta, delta * (size - 0.5 * delta), 0.5 * size**2)


@shows("0.6931", "loss.binary_logistic_loss(1, 0.0).round(4)")
def binary_logistic_loss(label: Any, logit: Any) -> jax.Array:
    r"""Return :math:`\log(1 + e^{\mp s})` of a logit ``s`` with the label one or zero.

    See :func:`dini.losses.logistic_loss`: a label between zero and one is a probability.
    """
    return losses.logistic_loss(*_scored(label, logit))


@shows("0.25", "loss.binary_sparsemax_loss(1, 0.0)")
def binary_sparsemax_loss(label: Any, logit: Any) -> jax.Array:
    """Return the binary sparsemax loss: see :func:`dini.losses.binary_sparsemax_loss`."""
    return losses.binary_sparsemax_loss(*_scored(label, logit))


@shows("[0.   0.25 3.  ]", "loss.sparse_plus(jnp.array([-2.0, 0.0, 3.0]))")
def sparse_plus(x: Any) -> jax.Array:
    r"""Return zero for :math:`x \le -1`, ``x`` for :math:`x \ge 1` and :math:`(x + 1)^2/4` between."""
    return binary_sparsemax_loss(0, x)


@shows("[0.   0.5  0.75]", "loss.sparse_sigmoid(jnp.array([-2.0, 0.0, 0.5]))")
def sparse_sigmoid(x: Any) -> jax.Array:
    r"""Return :math:`\mathrm{clip}((x + 1)/2, 0, 1)`, the derivative of :func:`sparse_plus`."""
    return losses.sparse_sigmoid(trees.inexact(x))


@shows("0.75", "loss.binary_hinge_loss(1, 0.25)")
def binary_hinge_loss(label: Any, score: Any) -> jax.Array:
    r"""Return :math:`\max(0, 1 - s y)` with :math:`y = 1` for the label one and :math:`-1` for zero."""
    score, target = targets("binary_hinge_loss", *_scored(label, score), None)
    return jnp.maximum(0, 1 - score * (2 * target - 1))


@shows("0.25", "loss.binary_perceptron_loss(1, -0.25)")
def binary_perceptron_loss(label: Any, score: Any) -> jax.Array:
    r"""Return :math:`\max(0, -s y)` with :math:`y = 1` for the label one and :math:`-1` for zero."""
    score, target = targets("binary_perceptron_loss", *_scored(label, score), None)
    return jnp.maximum(0, -score * (2 * target - 1))


@shows("0.6931", "loss.multiclass_logistic_loss(1, jnp.array([0.0, 0.0])).round(4)")
def multiclass_logistic_loss(label: Any, logits: jax.Array) -> jax.Array:
    r"""Return :math:`\log \sum_i e^{s_i} - s_y` for a class ``y``, ``label``: see :func:`dini.losses.softmax_loss`."""
    return losses.softmax_loss(trees.inexact(logits), label)


@shows("0.25", "loss.multiclass_sparsemax_loss(0, jnp.array([1.0, 1.0]))")
def multiclass_sparsemax_loss(label: Any, scores: jax.Array) -> jax.Array:
    """Return the sparsemax loss of a class: see :func:`dini.losses.sparsemax_loss`."""
    return losses.sparsemax_loss(trees.inexact(scores), label)


@shows("0.5", "loss.multiclass_hinge_loss(0, jnp.array([1.0, 0.5, -2.0]))")
def multiclass_hinge_loss(label: Any, scores: jax.Array) -> jax.Array:
    r"""Return :math:`\max_i (s_i + 1[i \ne y]) - s_y` for the class ``y``, ``label``."""
    scores, target = targets("multiclass_hinge_loss", trees.inexact(scores), label, -1)
    return jnp.max(scores + 1 - target) - dot(scores, target)


@shows("0.5", "loss.multiclass_perceptron_loss(1, jnp.array([1.0, 0.5, -2.0]))")
def multiclass_perceptron_loss(label: Any, scores: jax.Array) -> jax.Array:
    r"""Return :math:`\max_i s_i - s_y` for the class ``y``, ``label``."""
    scores, target = targets("multiclass_perceptron_loss", trees.inexact(scores), label, -1)
    return jnp.max(scores) - dot(scores, target)


@shows(
    "[-0.5  0.5]",
    "logistic = loss.make_fenchel_young_loss(jax.nn.logsumexp)",
    "jax.grad(logistic, argnums=1)(jnp.array([1.0, 0.0]), jnp.zeros(2))",
)
def make_fenchel_young_loss(max_fun: Callable[..., Any]) -> Callable[..., Any]:
    r"""Return the loss :math:`F(s) - \langle s, y \rangle` of ``(y, s, ...)`` for a maximum ``F(s, ...)``, ``max_fun``.

    The constant with which its least value would be zero is left out.
    """

    def loss(y_true: Any, scores: Any, *args: Any, **kwargs: Any) -> Any:
        return max_fun(scores, *args, **kwargs) - vdot(y_true, scores)

    return loss


def _scored(label: Any, score: Any) -> tuple[Any, Any]:
    """Return the score, then the label, in one shape."""
    score, label = trees.inexact(score), jnp.asarray(label)
    shape = jnp.broadcast_shapes(score.shape, label.shape)
    # a label that has the shape already stays known
    return jnp.broadcast_to(score, shape), label if label.shape == shape else jnp.broadcast_to(label, shape)
