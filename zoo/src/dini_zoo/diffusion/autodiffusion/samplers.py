r"""Samplers on a set of steps, and the distance of what they draw from the data.

A *model* is the data prediction `(x, time, gates)`: `gates` are numbers for the layers, 1 to keep one, or `None`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..chain_sampling import chain_sample
from ..chains import Chain
from ..distances import Moments, frechet_distance, square_root
from ..exponential import multistep_rule, multistep_sample
from .schedules import checked_steps

type Model = Callable[[Array, Any, Any], Array]
#: Of a chain of few levels, noise, a model and its gates: samples.
type Sampler = Callable[[Chain, Array, Model, Any], Array]


def respace(alpha_bar: Float[Array, " T"], steps: Any) -> Chain:
    r"""The chain of some of the levels, which keeps their times.

    Its variances are :math:`\beta'_i = 1 - \bar\alpha_{S_i} / \bar\alpha_{S_{i-1}}`.

    Raises
    ------
    ValueError
        For steps that repeat or are out of range.

    Examples
    --------
    >>> respace(jnp.array([0.9, 0.5, 0.1]), (0, 2)).times
    Array([0, 2], dtype=int32)
    """
    chain = Chain(alpha_bar)
    return chain.respaced(np.array(checked_steps(steps, len(chain))))


def ddim(chain: Chain, z: Float[Array, "n ..."], model: Model, gates: Float[Array, "K B"] | None = None) -> Array:
    """The deterministic sampler, from noise at the chain's last level; a row of gates for each of its steps."""
    if gates is None:
        return chain_sample(None, z, chain, lambda x, t: model(x, t, None))

    def step(x: Array, given: Any) -> Any:
        i, kept = given
        mean, _ = chain.reverse(x, model(x, chain.times[i], kept), i, 0.0)
        return mean.astype(x.dtype), None

    return jax.lax.scan(step, z, (jnp.arange(len(chain)), gates), reverse=True)[0]


def dpm_solver(chain: Chain, z: Float[Array, "n ..."], model: Model, gates: None = None) -> Array:
    """DPM-Solver++ of second order, multistep, which ends at the data; it takes no gates."""
    if gates is not None:
        raise ValueError("dpm_solver takes no gates: search layers with ddim.")
    level = chain.alpha_bar[::-1]
    alpha, sigma = jnp.append(jnp.sqrt(level), 1.0), jnp.append(jnp.sqrt(1 - level), 0.0)
    rule = multistep_rule(alpha, sigma, order=2, lower_final=False)
    times = jnp.append(chain.times[::-1], 0)
    return multistep_sample(None, z, lambda x, t: model(x, t, None), times, rule)


def _themselves(x: Array) -> Array:
    return x


# one program for each number of steps and of samples, for all callers; the model's arrays are given, not constants
@eqx.filter_jit
def _distance(
    sampler: Sampler,
    features: Callable[[Array], Array],
    chain: Chain,
    model: Any,
    z: Array,
    truth: Moments,
    root: Array,
    steps: Array,
    gates: Any,
) -> Array:
    x = sampler(chain.respaced(steps), z, model, gates)
    return frechet_distance(Moments.of(features(x)), truth, root=root)


class SampleDistance:
    r"""Fréchet's distance of samples on a set of steps from the data; the same noise for every set.

    Parameters
    ----------
    chain
        All levels.
    model
        The data prediction `(x, time, gates)`.
    z
        The noise: its number of rows is the number of samples.
    truth
        Moments of the data's features.
    sampler
        :func:`ddim`, :func:`dpm_solver`, or any function like them.
    features
        Of samples; themselves, if it is not given.
    """

    def __init__(
        self,
        chain: Chain,
        model: Model,
        z: Float[Array, "n ..."],
        truth: Moments,
        *,
        sampler: Sampler = ddim,
        features: Callable[[Array], Array] = _themselves,
    ):
        self.chain, self.model, self.z, self.truth = chain, model, z, truth
        self.sampler, self.features = sampler, features
        self._root = square_root(truth.covariance)

    def __call__(self, steps: Any, gates: Any = None) -> float:
        """Of a set of steps; `ValueError` for steps that repeat or are out of range."""
        at: Int[np.ndarray, " K"] = np.array(checked_steps(steps, len(self.chain)))
        given = (self.chain, self.model, self.z, self.truth, self._root, jnp.asarray(at), gates)
        return float(_distance(self.sampler, self.features, *given))
