r"""What is searched in: a law that depends on the parameters, and the estimates that one sample of it gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from .baselines import Features, LinearBaseline, fit_baseline
from .estimators import LogProb, log_weight, policy_gradient, policy_hvp
from .score import score_gradient, score_hvp
from .transport import storm_transport


class Task:
    """A law, and estimates of one sample. Means over samples are taken of what each single one gives.

    `baseline` is what `fit` makes of samples, an array or a tree, or `None`.
    """

    def sample(self, key: Key[Array, ""], params: Any) -> Any:
        """One sample, a tree of arrays."""
        raise NotImplementedError

    def gradient(self, params: Any, sample: Any, baseline: Any) -> Any:
        """The sample's estimate of the gradient."""
        raise NotImplementedError

    def hvp(self, params: Any, sample: Any, tangent: Any, baseline: Any) -> Any:
        """The sample's estimate of the Hessian times a vector."""
        raise NotImplementedError

    def log_weight(self, params: Any, drawn_at: Any, sample: Any) -> Float[Array, ""]:
        """The logarithm of the sample's density, less that at the parameters at which it was drawn."""
        raise NotImplementedError

    def fit(self, params: Any, samples: Any) -> Any:
        """What is to be known of samples, for the estimates of later ones; `None` for nothing."""
        return None

    def draw(self, key: Key[Array, ""], params: Any, count: int) -> Any:
        """So many samples, along the first axis."""
        return jax.vmap(lambda key: self.sample(key, params))(jax.random.split(key, count))

    def mean_gradient(self, params: Any, samples: Any, baseline: Any = None) -> Any:
        """The mean of the samples' gradients."""
        return _mean(lambda sample: self.gradient(params, sample, baseline), samples)

    def mean_change(self, params: Any, previous: Any, samples: Any, baseline: Any = None) -> Any:
        """The mean of the samples' changes of the gradient, by importance weights; see :func:`storm_transport`."""

        def one(sample: Any) -> Any:
            new, old = (self.gradient(at, sample, baseline) for at in (params, previous))
            return storm_transport(new, old, self.log_weight(previous, params, sample))

        return _mean(one, samples)


def _mean(one: Callable[[Any], Any], samples: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), jax.vmap(one)(samples))


@dataclass(frozen=True)
class PolicyTask(Task):
    """The expected discounted return of a policy."""

    rollout: Callable[[Any, Any], Any]
    """`rollout(key, params)`, one trajectory."""
    log_prob: LogProb
    """`log_prob(params, observation, action)`, of one step."""
    discount: float
    discount_from: Literal["start", "step"] = "start"
    bootstrap: Callable[[Any], Any] | None = None
    """The value after the clock struck, as in :func:`policy_gradient`."""
    features: Features | None = None
    """Of a :class:`LinearBaseline`; no baseline without them."""
    ridge: float = 1e-2
    """The strength of its regression."""

    def sample(self, key: Key[Array, ""], params: Any) -> Any:
        """One trajectory."""
        return self.rollout(key, params)

    def gradient(self, params: Any, sample: Any, baseline: Any) -> Any:
        """By :func:`policy_gradient`."""
        return policy_gradient(self.log_prob, params, sample, baseline=self._baseline(baseline), **self._sums)

    def hvp(self, params: Any, sample: Any, tangent: Any, baseline: Any) -> Any:
        """By :func:`policy_hvp`."""
        return policy_hvp(self.log_prob, params, sample, tangent, baseline=self._baseline(baseline), **self._sums)

    def log_weight(self, params: Any, drawn_at: Any, sample: Any) -> Float[Array, ""]:
        """Of the actions of a trajectory."""
        return log_weight(self.log_prob, params, drawn_at, sample)

    def fit(self, params: Any, samples: Any) -> Any:
        """The weights of the baseline."""
        del params
        return None if self.features is None else fit_baseline(self.features, samples, ridge=self.ridge, **self._sums)

    def _baseline(self, weights: Any) -> LinearBaseline | None:
        return None if self.features is None or weights is None else LinearBaseline(weights, self.features)

    @property
    def _sums(self) -> dict[str, Any]:
        return {"discount": self.discount, "discount_from": self.discount_from, "bootstrap": self.bootstrap}


@dataclass(frozen=True)
class ScoreTask(Task):
    r"""Any :math:`J(\theta) = \mathbb{E}_{z \sim p_\theta}\, \ell(z, \theta)`: stochastic hypergradients, for one.

    Its baseline is the mean of :math:`\ell` over samples of the past.
    """

    draw_one: Callable[[Any, Any], Any]
    """`draw_one(key, params)`, one sample."""
    value_and_grad: Callable[[Any, Any], tuple[Any, Any]]
    r"""`value_and_grad(params, sample)`: :math:`\ell` and its gradient with the sample held fixed."""
    log_density: Callable[[Any, Any], Any]
    """`log_density(params, sample)`."""

    def sample(self, key: Key[Array, ""], params: Any) -> Any:
        """One sample."""
        return jax.lax.stop_gradient(self.draw_one(key, params))

    def gradient(self, params: Any, sample: Any, baseline: Any) -> Any:
        """By :func:`score_gradient`."""
        density = lambda theta: self.log_density(theta, sample)
        offset = 0.0 if baseline is None else baseline
        return score_gradient(lambda theta: self.value_and_grad(theta, sample), density, params, offset)

    def hvp(self, params: Any, sample: Any, tangent: Any, baseline: Any) -> Any:
        """By :func:`score_hvp`."""
        gradient = lambda theta: self.gradient(theta, sample, baseline)
        return score_hvp(gradient, lambda theta: self.log_density(theta, sample), params, tangent)

    def log_weight(self, params: Any, drawn_at: Any, sample: Any) -> Float[Array, ""]:
        """Of one sample."""
        return self.log_density(params, sample) - self.log_density(drawn_at, sample)

    def fit(self, params: Any, samples: Any) -> Any:
        r"""The mean of :math:`\ell`."""
        return jnp.mean(jax.vmap(lambda sample: self.value_and_grad(params, sample)[0])(samples))
