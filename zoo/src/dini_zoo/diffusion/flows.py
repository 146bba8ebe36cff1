r"""Flows by diffrax: points carried along an ordinary differential equation, and the density that goes with them.

.. math:: \frac{dx}{dt} = F(x, t), \qquad \frac{d}{dt} \log p_t(x(t)) = -\mathrm{div}\, F(x(t), t).

The divergence is exact, with one directional derivative for each dimension, or Hutchinson's estimate :math:`v^\top
(\partial F / \partial x)\, v` with random signs :math:`v` that stay the same along the path.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dini_zoo.kit.checking import at_least, positive, real

from .processes import Field, Process


def integrate(
    drift: Field,
    x: Any,
    t0: Any,
    t1: Any,
    *,
    solver: diffrax.AbstractSolver | None = None,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    steps: int | Array | None = None,
    adjoint: diffrax.AbstractAdjoint | None = None,
    max_steps: int = 4096,
) -> Any:
    """The solution at `t1`, from `x` at `t0`, forward or backward in time.

    Parameters
    ----------
    drift
        `drift(x, t)` of a batch, or of any tree of arrays, and a time.
    solver
        One of diffrax'; `Tsit5` if it is not given.
    rtol, atol
        Of the steps, whose error is measured over the whole batch. Not used where `steps` is given.
    steps
        So many steps of one size, or the times from `t0` to `t1` between which to step, in place of adaptive steps.
    adjoint
        One of diffrax', by which derivatives are taken.
    max_steps
        More than these raise `diffrax`' error.
    """
    positive("rtol", rtol)
    positive("atol", atol)
    real("t0", t0)
    real("t1", t1)
    first, controller = None, diffrax.PIDController(rtol=rtol, atol=atol)
    if isinstance(steps, int):
        at_least("steps", steps, 1)
        first, controller, max_steps = (t1 - t0) / steps, diffrax.ConstantStepSize(), steps + 1
    elif steps is not None:
        controller, max_steps = diffrax.StepTo(ts=steps), len(steps)
    found = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, x, _: drift(x, t)),
        diffrax.Tsit5() if solver is None else solver,
        t0,
        t1,
        first,
        x,
        stepsize_controller=controller,
        saveat=diffrax.SaveAt(t1=True),
        max_steps=max_steps,
        **({} if adjoint is None else {"adjoint": adjoint}),
    )
    return jax.tree.map(lambda leaf: leaf[0], found.ys)


def with_divergence(drift: Field, probes: Array | None = None) -> Field:
    """The drift and its divergence at a batch: a function `(x, t)` that returns `(F, div F)`.

    Parameters
    ----------
    drift
        Of a batch `(n, ...)` and a time, each point on its own.
    probes
        Signs `(m, n, ...)` of Hutchinson's estimate, whose mean is taken; exact if they are not given.
    """

    def both(x: Array, t: Any) -> tuple[Array, Array]:
        value, push = jax.linearize(lambda x: drift(x, t), x)
        if probes is None:
            flat = x.reshape(len(x), -1)
            d = flat.shape[1]

            def one(i: Array) -> Array:
                v = jnp.zeros_like(flat).at[:, i].set(1).reshape(x.shape)
                return push(v).reshape(len(x), d)[:, i]

            return value, jnp.sum(jax.vmap(one)(jnp.arange(d)), axis=0)
        products = jax.vmap(lambda v: jnp.sum((v * push(v)).reshape(len(x), -1), axis=1))(probes)
        return value, jnp.mean(products, axis=0)

    return both


def carried_log_density(
    drift: Field, x: Float[Array, "n ..."], t0: Any, t1: Any, *, probes: Array | None = None, **options: Any
) -> tuple[Float[Array, "n ..."], Float[Array, " n"]]:
    r"""The points at `t1` of a flow from `x` at `t0`, and :math:`\log p_{t0}(x) - \log p_{t1}(x(t_1))` of each.

    That difference is :math:`\int_{t_0}^{t_1} \mathrm{div} F\, dt`. `options` are those of :func:`integrate`.
    """
    both = with_divergence(drift, probes)
    return integrate(lambda state, t: both(state[0], t), (x, jnp.zeros(len(x), x.dtype)), t0, t1, **options)


def signs(key: Array, count: int, shape: tuple[int, ...], dtype: Any = None) -> Float[Array, "m n ..."]:
    """Random signs for Hutchinson's estimate."""
    at_least("probes", count, 1)
    return jax.random.rademacher(key, (count, *shape), jnp.result_type(float) if dtype is None else dtype)


def ode_sample(process: Process, score: Field, x: Float[Array, "n ..."], *, end: Any = 1e-3, **options: Any) -> Array:
    """Points at time 1 carried to time `end` by the probability flow: the decoding of a latent."""
    return integrate(process.reverse(score, ode=True), x, 1.0, end, **options)


def encode(process: Process, score: Field, x: Float[Array, "n ..."], *, end: Any = 1e-3, **options: Any) -> Array:
    """Points at time `end` carried to time 1 by the probability flow: the latents that :func:`ode_sample` inverts."""
    return integrate(process.reverse(score, ode=True), x, end, 1.0, **options)


def log_likelihood(
    process: Process,
    score: Field,
    x: Float[Array, "n ..."],
    *,
    key: Array | None = None,
    probes: int = 1,
    end: Any = 1e-3,
    prior: Callable[[Array], Array] | None = None,
    **options: Any,
) -> Float[Array, " n"]:
    r"""The logarithm of the density of the probability flow at time `end`, for each point.

    .. math:: \log p(x) = \log p_1(x(1)) + \int_{end}^1 \mathrm{div}\, F\, dt,

    with `prior`, a function of a batch, for :math:`\log p_1`: that of `process.prior_sample` if none is given, which
    has mean zero. A law that has a mean is given by it, such as a mixture's `diffused(...).log_prob`. Exact up to the
    solver if no `key` is given; with one, the divergence is estimated with so many `probes`. `options` are those of
    :func:`integrate`. Raises `ValueError` for a prior that does not return a number for each point.
    """
    chosen = None if key is None else signs(key, probes, x.shape, x.dtype)
    last, change = carried_log_density(process.reverse(score, ode=True), x, end, 1.0, probes=chosen, **options)
    logs = process.prior_logp(last) if prior is None else jnp.asarray(prior(last))
    if logs.shape != (len(x),):
        raise ValueError(f"prior must return a number for each of the {len(x)} points: it gave shape {logs.shape}.")
    return logs + change
