r"""JAXopt's objectives of data ``(X, y)``, with ``n`` rows, by the losses of :mod:`dini.losses`.

Those that are :class:`CompositeLinearFunction` tell coordinate methods of their matrix and of how curved they are.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from dini import losses
from dini.extend import dot, trees, vdot

from ._known import shows
from ._linear_operator import LinearOperator

__all__ = [
    "CompositeLinearFunction",
    "binary_logreg",
    "l2_multiclass_logreg",
    "l2_multiclass_logreg_with_intercept",
    "least_squares",
    "multiclass_linear_svm_dual",
    "multiclass_logreg",
    "multiclass_logreg_with_intercept",
    "ridge_regression",
]


class CompositeLinearFunction:
    r"""Base of the functions :math:`f(x) = h(A x) + \langle x, b \rangle` with a matrix ``A`` that depends on the data.

    A subclass has ``subfun(predictions, *args)``, which is ``h``, and ``make_linop(*args)``, which returns ``A`` as a
    :class:`LinearOperator`; it may have ``b(*args)``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import base, objective
    >>> class Squares(objective.CompositeLinearFunction):
    ...     def subfun(self, predictions, X):
    ...         return jnp.sum(predictions**2)
    ...
    ...     def make_linop(self, X):
    ...         return base.LinearOperator(X)
    >>> print(Squares()(jnp.ones(2), 2 * jnp.eye(2)))
    8.0
    """

    def b(self, *args: Any, **kwargs: Any) -> Any:
        """Return the linear term, ``None`` for none."""
        del args, kwargs

    def lipschitz_const(self, hyperparams: Any) -> Any:
        """Return a Lipschitz constant of the gradient of ``subfun``."""
        raise NotImplementedError(f"{type(self).__name__} has no lipschitz_const.")

    def subfun(self, predictions: Any, *args: Any, **kwargs: Any) -> Any:
        """Return ``h`` of the predictions."""
        raise NotImplementedError(f"{type(self).__name__} needs a method subfun(predictions, *args).")

    def make_linop(self, *args: Any, **kwargs: Any) -> Any:
        """Return the matrix."""
        raise NotImplementedError(f"{type(self).__name__} needs a method make_linop(*args).")

    def __call__(self, params: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the value."""
        value = self.subfun(self.make_linop(*args, **kwargs).matvec(params), *args, **kwargs)
        linear = self.b(*args, **kwargs)
        return value if linear is None else value + vdot(params, linear)


class _OfSamples(CompositeLinearFunction):
    """A mean of losses of the predictions ``X x``."""

    curvature = 1.0

    def make_linop(self, data: tuple[Any, Any]) -> LinearOperator:
        """Return ``X``."""
        return LinearOperator(data[0])

    def columnwise_lipschitz_const(self, data: tuple[Any, Any]) -> jax.Array:
        """Return the curvature of a loss times the squared norm of each column of ``X``: a bound for each coordinate.

        As in JAXopt, it is not divided by the number of samples, and so is larger than need be.
        """
        return self.make_linop(data).column_l2_norms(squared=True) * self.curvature


class _LeastSquares(_OfSamples):
    r"""Return :math:`\frac{1}{2n} \|X W - y\|^2`, for ``W`` and ``y`` with one column or several.

    Called as ``least_squares(W, (X, y))``. Where ``y`` does not have the shape of ``X W``, with which it would be
    broadcast, it raises ``ValueError``.
    """

    def subfun(self, predictions: Any, data: tuple[Any, Any]) -> jax.Array:
        """Return half the mean squared residual."""
        if jnp.shape(data[1]) != jnp.shape(predictions):
            raise ValueError(
                f"least_squares needs a y of the shape {jnp.shape(predictions)} of X W: given {jnp.shape(data[1])}."
            )
        return 0.5 * jnp.mean((predictions - jnp.asarray(data[1])) ** 2)


class _MeanLoss(_OfSamples):
    """A mean of one of dini's losses."""

    loss: Any

    def subfun(self, predictions: Any, data: tuple[Any, Any]) -> jax.Array:
        """Return the mean loss."""
        return jnp.mean(self.loss(trees.inexact(predictions), data[1]))


class _BinaryLogreg(_MeanLoss):
    """Return the mean logistic loss of ``X w`` for labels of zero and one. Called as ``binary_logreg(w, (X, y))``."""

    curvature, loss = 0.25, staticmethod(losses.logistic_loss)


class _MulticlassLogreg(_MeanLoss):
    """Return the mean multiclass logistic loss of ``X W`` for classes ``y``, as ``multiclass_logreg(W, (X, y))``."""

    curvature, loss = 0.5, staticmethod(losses.softmax_loss)


class _MulticlassLinearSvmDual(CompositeLinearFunction):
    r"""Return the dual of the multiclass linear support vector machine, with its sign turned, to be minimized.

    :math:`\frac{1}{2\lambda} \|X^\top (Y - \beta)\|^2 - \langle \beta, 1 - Y \rangle` over :math:`\beta`, whose rows
    lie in the simplex; ``Y`` has the classes as unit vectors, and the weights are
    :math:`X^\top (Y - \beta) / \lambda`. Called as ``multiclass_linear_svm_dual(beta, l2reg, (X, Y))``.
    """

    def subfun(self, predictions: Any, l2reg: Any, data: tuple[Any, Any]) -> jax.Array:
        r"""Return the quadratic term, of :math:`X^\top \beta`."""
        rest = self.make_linop(l2reg, data).matvec(data[1]) - predictions
        return 0.5 / l2reg * vdot(rest, rest)

    def make_linop(self, l2reg: Any, data: tuple[Any, Any]) -> LinearOperator:
        r"""Return :math:`X^\top`."""
        del l2reg
        return LinearOperator(data[0].T)

    def columnwise_lipschitz_const(self, l2reg: Any, data: tuple[Any, Any]) -> jax.Array:
        """Return the squared norm of each row of ``X``, as JAXopt does: without the division by ``l2reg``."""
        return self.make_linop(l2reg, data).column_l2_norms(squared=True)

    def b(self, l2reg: Any, data: tuple[Any, Any]) -> Any:
        """Return :math:`Y - 1`."""
        del l2reg
        return data[1] - 1


least_squares = _LeastSquares()
binary_logreg = _BinaryLogreg()
multiclass_logreg = _MulticlassLogreg()
multiclass_linear_svm_dual = _MulticlassLinearSvmDual()


@shows("1.25", "objective.ridge_regression(jnp.ones(2), 1.0, (jnp.eye(2), jnp.array([2.0, 1.0])))")
def ridge_regression(params: jax.Array, l2reg: Any, data: tuple[Any, Any]) -> jax.Array:
    r"""Return :math:`\frac{1}{2n} \|X W - y\|^2 + \tfrac12 \lambda \|W\|^2`, with ``l2reg`` as :math:`\lambda`."""
    return least_squares(params, data) + 0.5 * l2reg * jnp.sum(jnp.asarray(params) ** 2)


def multiclass_logreg_with_intercept(params: tuple[Any, Any], data: tuple[Any, Any]) -> jax.Array:
    """Return the mean multiclass logistic loss of ``X W + b`` for classes ``y``, with ``params = (W, b)``."""
    W, b = params
    predictions = dot(jnp.asarray(data[0]), jnp.asarray(W))
    return multiclass_logreg.subfun(predictions + jnp.broadcast_to(b, predictions.shape), data)


def l2_multiclass_logreg(W: jax.Array, l2reg: Any, data: tuple[Any, Any]) -> jax.Array:
    r"""Return the mean multiclass logistic loss of ``X W`` for classes ``y``, plus :math:`\tfrac12 \lambda \|W\|^2`."""
    return multiclass_logreg(W, data) + 0.5 * l2reg * jnp.sum(jnp.asarray(W) ** 2)


@shows(
    "1.0986",
    "params, data = (jnp.zeros((2, 3)), jnp.zeros(3)), (jnp.ones((4, 2)), jnp.array([0, 1, 2, 0]))",
    "objective.l2_multiclass_logreg_with_intercept(params, 1.0, data).round(4)",
)
def l2_multiclass_logreg_with_intercept(params: tuple[Any, Any], l2reg: Any, data: tuple[Any, Any]) -> jax.Array:
    r"""Return the same for ``X W + b``, with ``params = (W, b)``; the intercept has no penalty."""
    W = jnp.asarray(params[0])
    return multiclass_logreg_with_intercept(params, data) + 0.5 * l2reg * jnp.sum(W**2)
