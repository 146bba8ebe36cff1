r"""The surrogate: a model of the loss in the space of a model's outputs, its *targets*.

A loss :math:`h(\theta) = \tfrac1n \sum_i \ell_i(z_i(\theta))` is costly to differentiate in :math:`z` and cheap to
differentiate from there to :math:`\theta`. From the gradients :math:`G_i = \nabla \ell_i(z_i(\theta_t))` of a batch of
:math:`b` examples, taken once, comes the surrogate

.. math:: q_t(\theta) = \frac1b \sum_i \langle G_i, z_i(\theta) - z_i(\theta_t) \rangle
          + \frac1{\eta b} D\big(z(\theta), z(\theta_t)\big) .

With :math:`D = \tfrac12 \|\cdot\|^2` and losses that are :math:`L`-smooth in :math:`z`, example by example,
:math:`h(\theta_t) + q_t` is nowhere less than the batch's :math:`h` if :math:`\eta \le 1/L`, equals it at
:math:`\theta_t`, and has the same gradient there: what decreases :math:`q_t` decreases :math:`h` as much. Where a loss
has kinks in :math:`z`, as a hinge has, no :math:`\eta` is small enough for that.

References
----------
Lavington, Vaswani, Babanezhad, Schmidt, Le Roux, "Target-based surrogates for stochastic optimization", ICML 2023
(arXiv 2302.02607).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .checks import Targets, require_like, require_positive, total
from .metrics import Diagonal, Divergence, Euclidean, Metric


class Surrogate(eqx.Module):
    """A surrogate, a function of the parameters; `target_surrogate` makes and explains it."""

    predict: Callable[[Any, Any], Targets]
    batch: Any
    targets: Targets
    """The targets at the center; constants of differentiation, as all other fields."""
    gradients: Targets
    eta: Any
    metric: Metric
    covered: Any
    """The data that the metric covers and their targets at the center, or nothing: then it covers the batch."""

    def __call__(self, params: Any) -> Float[Array, ""]:
        """The surrogate: zero at the center."""
        z = self.predict(params, self.batch)
        count = len(jax.tree.leaves(z)[0])
        linear = total(jax.tree.map(lambda g, u, v: g * (u - v), self.gradients, z, self.targets)) / count
        if self.covered is None:
            return linear + self.metric(z, self.targets) / (self.eta * count)
        data, center = self.covered
        far = self.predict(params, data)
        return linear + self.metric(far, center) / (self.eta * len(jax.tree.leaves(far)[0]))

    @property
    def quadratic(self) -> bool:
        """Whether the surrogate is a problem of least squares in the targets."""
        return self.covered is None and not isinstance(self.metric, Divergence)

    def residuals(self, params: Any) -> Targets:
        r"""Residuals whose halved sum of squares is the surrogate, up to a constant.

        They are :math:`\sqrt{h_{ij} / (\eta b)} \, (z_{ij}(\theta) - z_{ij}(\theta_t) + \eta G_{ij} / h_{ij})`.

        Raises
        ------
        TypeError
            Where the metric is a `Divergence`, or covers other data than the batch.
        """
        if self.covered is not None or isinstance(self.metric, Divergence):
            raise TypeError(
                "A surrogate is a problem of least squares if its metric is Euclidean or Diagonal and covers the batch "
                "alone: take a solver of dini.Minimize, such as dini.LBFGS()."
            )
        z = self.predict(params, self.batch)
        count = len(jax.tree.leaves(z)[0])

        def one(h: Array, g: Array, u: Array, v: Array) -> Array:
            return jnp.sqrt(h / (self.eta * count)) * (u - v + self.eta * g / h)

        return jax.tree.map(one, self.metric.weights(z), self.gradients, z, self.targets)


def target_surrogate(
    predict: Callable[[Any, Any], Targets],
    params: Any,
    batch: Any,
    gradients: Targets,
    eta: Any,
    metric: Any = "euclidean",
    *,
    targets: Targets | None = None,
    proximal: Any = None,
) -> Surrogate:
    r"""The surrogate of a loss at `params`, a function of the parameters.

    Parameters
    ----------
    predict
        The model, :math:`(\theta, \text{batch}) \mapsto z`: an array of shape ``(b, ...)``, or a tree of them. What is
        random in it (a mask of dropout) must come from a key in the batch, so that it is the same in all inner steps.
    params
        :math:`\theta_t`, any tree.
    batch
        What `predict` takes.
    gradients
        :math:`G`, the gradient of each example's own loss: not divided by the number of examples.
    eta
        The step size in target space, :math:`\eta > 0`; :math:`1/L` of one example's loss is where theory begins.
    metric
        ``"euclidean"``, weights of a `Diagonal` metric, a function :math:`D(z, z')`, a geometry of dini's mirror
        descent, or one of the classes of `metrics`.
    targets
        :math:`z(\theta_t)`, if it is known already.
    proximal
        Other data, of the batch's form, for the metric to cover: with all data the method is projected stochastic
        gradient descent in target space. Without, the metric covers the batch, and other examples may move.

    Raises
    ------
    ValueError
        Where a gradient's shape is not that of its target, where it is not finite, or where :math:`\eta` is not
        positive, as far as that is known when the surrogate is made.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> predict = lambda w, x: x @ w
    >>> x, y, w = jnp.eye(3), jnp.array([[1.0], [2.0], [3.0]]), jnp.zeros((3, 1))
    >>> surrogate = target_surrogate(predict, w, x, predict(w, x) - y, eta=1.0)
    >>> bool(jnp.allclose(jax.grad(surrogate)(w), (x @ w - y) / 3))
    True
    """
    require_positive("eta", eta, scalar=True)
    center = predict(params, batch) if targets is None else targets
    center, gradients = jax.lax.stop_gradient((center, gradients))
    require_like(gradients, center)
    covered = None if proximal is None else (proximal, jax.lax.stop_gradient(predict(params, proximal)))
    return Surrogate(predict, batch, center, gradients, eta, as_metric(metric), covered)


def as_metric(metric: Any) -> Metric:
    """The metric that is meant by a name, by weights, by a function or by a geometry."""
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, str):
        if metric != "euclidean":
            raise ValueError(f'metric must be "euclidean", or an object: given {metric!r}.')
        return Euclidean()
    if callable(metric) or hasattr(metric, "divergence"):
        return Divergence(metric)
    return Diagonal(metric)
