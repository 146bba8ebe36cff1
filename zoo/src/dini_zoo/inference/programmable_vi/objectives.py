r"""Objectives of variational inference, all to be maximized, all programs for `expectation`.

A target is a model with data given, :math:`\gamma(z) = p(x, z)`; a guide is a distribution :math:`q_\phi(z)` of
dictionaries of the target's choices: a generative function, or what `marginal` and `normalize` make.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.lax import stop_gradient
from jax.scipy.special import logsumexp

from .drawing import choices
from .importance import Algorithm, ImportanceSampler, Target, marginal, normalize
from .sites import detached
from .strategies import Implicit, Reinforce, Reparam


def elbo(target: Target, guide: Any, *args: Any, sticking: bool = False) -> Array:
    r"""The evidence's lower bound :math:`E_q[\log p(x, z) - \log q(z)]`.

    Parameters
    ----------
    target, guide
        See the module.
    *args
        The guide's parameters :math:`\phi`.
    sticking
        Whether :math:`\log q` is taken at parameters without derivative: its score has mean zero, and left out the
        variance vanishes where the guide is exact. It needs a guide of reparametrized choices with an exact density.

    Raises
    ------
    ValueError
        Where the guide's choices are not the target's, or `sticking` is asked of another guide.

    References
    ----------
    Roeder, Wu, Duvenaud, "Sticking the Landing: Simple, Lower-Variance Gradient Estimators for Variational Inference",
    NeurIPS 2017.
    """
    if sticking:
        _only(guide, args, (Reparam, Implicit), "sticking")
    log_q, z = guide.random_weighted(*args)
    if sticking:
        log_q = guide.estimate_logpdf(z, *stop_gradient(args))
    return target.log_density(z) - log_q


def iwelbo(target: Target, guide: Any, *args: Any, n: int) -> Array:
    r"""The importance-weighted bound :math:`E[\log \frac1n \sum_k p(x, z_k) / q(z_k)]` with n particles.

    References
    ----------
    Burda, Grosse, Salakhutdinov, "Importance Weighted Autoencoders", ICLR 2016.
    """
    return _log_mean(_log_weights(target, guide, args, n))


def _log_weights(target: Target, guide: Any, args: Any, n: int) -> Array:
    if n < 1:
        raise ValueError(f"`n` must be at least 1: given {n}.")
    return jax.vmap(lambda _: elbo(target, guide, *args))(jnp.arange(n))


def _log_mean(log_weights: Array) -> Array:
    return logsumexp(log_weights) - math.log(log_weights.size)


def vimco(target: Target, guide: Any, *args: Any, n: int) -> Array:
    r"""`iwelbo` for a guide of REINFORCE choices, with a baseline for each particle from the others.

    Particle k's baseline is the bound with its weight replaced by the geometric mean of the others'. Value and
    derivatives, second ones too, have the same expectation as without.

    Raises
    ------
    ValueError
        Where n is below 2, or a choice of the guide has another strategy.

    References
    ----------
    Mnih, Rezende, "Variational Inference for Monte Carlo Objectives", ICML 2016.
    """
    if n < 2:
        raise ValueError(f"`n` must be at least 2, for a baseline from the other particles: given {n}.")
    _only(guide, args, (Reinforce,), "vimco")

    def particle(_: Any) -> tuple[Array, Array]:
        log_q, z = guide.random_weighted(*args)
        return target.log_density(z) - log_q, log_q

    log_weights, log_q = jax.vmap(particle)(jnp.arange(n))
    others = (jnp.sum(log_weights) - log_weights) / (n - 1)
    replaced = jnp.where(jnp.eye(n, dtype=bool), others[:, None], log_weights)
    baselines = stop_gradient(jax.vmap(_log_mean)(replaced))
    # the choices multiply all by exp(sum of scores): particle k's own score cancels in its term, whose mean is zero
    return _log_mean(log_weights) + jnp.sum(baselines * jnp.expm1(stop_gradient(log_q) - log_q))


def hvi_elbo(
    target: Target, guide: Any, *args: Any, selection: Any, algorithm: Algorithm | None = None, n: int = 1
) -> Array:
    """The bound with a hierarchical guide: its choices beyond the `selection` are integrated out by an `algorithm`.

    With one particle from the prior this is hierarchical variational inference; with an `ImportanceSampler` of more,
    and n outer particles, importance-weighted and doubly importance-weighted hierarchical inference.

    References
    ----------
    Ranganath, Tran, Blei, "Hierarchical Variational Models", ICML 2016. Sobolev, Vetrov, "Importance Weighted
    Hierarchical Variational Inference", NeurIPS 2019.
    """
    return iwelbo(target, marginal(selection, guide, algorithm), *args, n=n)


def wake_phi(target: Target, guide: Any, *args: Any, n: int) -> Array:
    r"""The guide's wake phase, :math:`\log q_\phi(z)` at samples of the posterior, by n particles of the guide.

    The samples have no derivative: the gradient is that of :math:`-KL(p(z | x) \| q)` as n grows.

    References
    ----------
    Bornschein, Bengio, "Reweighted Wake-Sleep", ICLR 2015.
    """
    return guide.estimate_logpdf(_posterior(target, guide, args, n), *args)


def wake_theta(target: Target, guide: Any, *args: Any, n: int) -> Array:
    r"""The model's wake phase, :math:`\log p_\theta(x, z)` at the same samples; see `wake_phi`."""
    return target.log_density(_posterior(target, guide, args, n))


def _posterior(target: Target, guide: Any, args: Any, n: int) -> Any:
    """A sample without derivative."""
    draw = lambda target, args: normalize(target, ImportanceSampler(n, guide, args)).random_weighted()[1]
    return detached(draw, target, args)


def _only(guide: Any, args: Any, allowed: tuple[type, ...], asking: str) -> None:
    """Raise `ValueError` where the guide has choices of other strategies."""
    closed = jax.make_jaxpr(lambda args: guide.random_weighted(*args))(args)
    for equation in closed.jaxpr.eqns:
        for site in choices(equation):
            if not isinstance(site.strategy, allowed):
                names = " or ".join(one.__name__ for one in allowed)
                raise ValueError(
                    f"`{asking}` needs a guide whose choices are all {names}: {site.where} is "
                    f"{type(site.strategy).__name__}."
                )
