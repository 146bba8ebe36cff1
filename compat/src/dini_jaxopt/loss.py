"""JAXopt's losses of a label and a score, by :mod:`dini.losses` where it has them.

The binary ones work elementwise and broadcast; the multiclass ones take one label and one vector of scores, so that
``jax.vmap`` serves several. Labels that do not exist raise, and give NaN where they are traced.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dini import losses, trees
from dini.losses._fenchel_young import operands
from dini.trees import Tree
from dini.trees.products import dot, vdot

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


def huber_loss(target: Any, pred: Any, delta: Any = 1.0) -> jax.Array:
    r"""Return :math:`\tfrac12 r^2` for :math:`|r| \le \delta` and :math:`\delta(|r| - \tfrac12\delta)` beyond.

    ``r`` is the difference of ``target`` and ``pred``. Twice this is :class:`dini.losses.Huber` of :math:`r^2`.

    Examples
    --------
    >>> from dini_jaxopt import loss
    >>> print(loss.huber_loss(0.0, 3.0), loss.huber_loss(0.0, 0.5))
    2.5 0.125
    """
    size = jnp.abs(jnp.asarray(target) - pred)
    return jnp.where(size > delta, delta * (size - 0.5 * delta), 0.5 * size**2)


def binary_logistic_loss(label: Any, logit: Any) -> jax.Array:
    r"""Return :math:`\log(1 + e^{\mp s})` of a logit ``s`` with the label one or zero.

    See :func:`dini.losses.logistic_loss`: a label between zero and one is a probability.

    Examples
    --------
    >>> from dini_jaxopt import loss
    >>> print(loss.binary_logistic_loss(1, 0.0).round(4))
    0.6931
    """
    return losses.logistic_loss(*_scored(label, logit))


def binary_sparsemax_loss(label: Any, logit: Any) -> jax.Array:
    """Return the binary sparsemax loss: see :func:`dini.losses.binary_sparsemax_loss`.

    Examples
    --------
    >>> from dini_jaxopt import loss
    >>> print(loss.binary_sparsemax_loss(1, 0.0))
    0.25
    """
    return losses.binary_sparsemax_loss(*_scored(label, logit))


def sparse_plus(x: Any) -> jax.Array:
    r"""Return zero for :math:`x \le -1`, ``x`` for :math:`x \ge 1` and :math:`(x + 1)^2/4` between.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import loss
    >>> print(loss.sparse_plus(jnp.array([-2.0, 0.0, 3.0])))
    [0.   0.25 3.  ]
    """
    return binary_sparsemax_loss(0, x)


def sparse_sigmoid(x: Any) -> jax.Array:
    r"""Return :math:`\mathrm{clip}((x + 1)/2, 0, 1)`, the derivative of :func:`sparse_plus`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import loss
    >>> print(loss.sparse_sigmoid(jnp.array([-2.0, 0.0, 0.5])))
    [0.   0.5  0.75]
    """
    return losses.sparse_sigmoid(trees.inexact(x))


def binary_hinge_loss(label: Any, score: Any) -> jax.Array:
    r"""Return :math:`\max(0, 1 - s y)` with :math:`y = 1` for the label one and :math:`-1` for zero.

    Examples
    --------
    >>> from dini_jaxopt import loss
    >>> print(loss.binary_hinge_loss(1, 0.25), loss.binary_hinge_loss(0, 0.25))
    0.75 1.25
    """
    score, target = operands("binary_hinge_loss", *_scored(label, score), None)
    return jnp.maximum(0, 1 - score * (2 * target - 1))


def binary_perceptron_loss(label: Any, score: Any) -> jax.Array:
    r"""Return :math:`\max(0, -s y)` with :math:`y = 1` for the label one and :math:`-1` for zero.

    Examples
    --------
    >>> from dini_jaxopt import loss
    >>> print(loss.binary_perceptron_loss(1, -0.25), loss.binary_perceptron_loss(0, -0.25))
    0.25 0.0
    """
    score, target = operands("binary_perceptron_loss", *_scored(label, score), None)
    return jnp.maximum(0, -score * (2 * target - 1))


def multiclass_logistic_loss(label: Any, logits: jax.Array) -> jax.Array:
    r"""Return :math:`\log \sum_i e^{s_i} - s_y` for the class ``y``, ``label``: see :func:`dini.losses.softmax_loss`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import loss
    >>> print(loss.multiclass_logistic_loss(1, jnp.array([0.0, 0.0])).round(4))
    0.6931
    """
    return losses.softmax_loss(trees.inexact(logits), label)


def multiclass_sparsemax_loss(label: Any, scores: jax.Array) -> jax.Array:
    """Return the sparsemax loss of a class: see :func:`dini.losses.sparsemax_loss`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import loss
    >>> print(loss.multiclass_sparsemax_loss(0, jnp.array([1.0, 1.0])))
    0.25
    """
    return losses.sparsemax_loss(trees.inexact(scores), label)


def multiclass_hinge_loss(label: Any, scores: jax.Array) -> jax.Array:
    r"""Return :math:`\max_i (s_i + 1[i \ne y]) - s_y` for the class ``y``, ``label``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import loss
    >>> print(loss.multiclass_hinge_loss(0, jnp.array([1.0, 0.5, -2.0])))
    0.5
    """
    scores, target = operands("multiclass_hinge_loss", trees.inexact(scores), label, -1)
    return jnp.max(scores + 1 - target) - dot(scores, target)


def multiclass_perceptron_loss(label: Any, scores: jax.Array) -> jax.Array:
    r"""Return :math:`\max_i s_i - s_y` for the class ``y``, ``label``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import loss
    >>> print(loss.multiclass_perceptron_loss(1, jnp.array([1.0, 0.5, -2.0])))
    0.5
    """
    scores, target = operands("multiclass_perceptron_loss", trees.inexact(scores), label, -1)
    return jnp.max(scores) - dot(scores, target)


def make_fenchel_young_loss(max_fun: Callable[..., Any]) -> Callable[..., Any]:
    r"""Return the loss :math:`F(s) - \langle s, y \rangle` of ``(y, s, ...)`` for a maximum ``F(s, ...)``, ``max_fun``.

    The constant with which its least value would be zero is left out.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from dini_jaxopt import loss
    >>> logistic = loss.make_fenchel_young_loss(jax.nn.logsumexp)
    >>> print(jax.grad(logistic, argnums=1)(jnp.array([1.0, 0.0]), jnp.zeros(2)))
    [-0.5  0.5]
    """

    def loss(y_true: Any, scores: Any, *args: Tree, **kwargs: Any) -> Any:
        return max_fun(scores, *args, **kwargs) - vdot(y_true, scores)

    return loss


def _scored(label: Any, score: Any) -> tuple[Any, Any]:
    """Return the score, then the label, in one shape."""
    score, label = trees.inexact(score), jnp.asarray(label)
    shape = jnp.broadcast_shapes(score.shape, label.shape)
    # a label that has the shape already stays known
    return jnp.broadcast_to(score, shape), label if label.shape == shape else jnp.broadcast_to(label, shape)
