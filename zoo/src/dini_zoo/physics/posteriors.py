r"""What is known of a few unknowns after data were seen: Laplace's method, variational inference, and NUTS.

A posterior is given by its energy :math:`E(z) = -\log p(z \mid \text{data})` up to a constant. Its most probable point
is the minimum of :math:`E`, which `dini.minimize` finds, or `dini.least_squares` where :math:`E = \tfrac12 |r|^2`: a
function of all that the energy depends on. What is here is the spread around it.

References ---------- MacKay, "Bayesian interpolation", Neural Computation 1992: Laplace's method and the evidence.
Kucukelbir et al., "Automatic differentiation variational inference", JMLR 2017. Hoffman and Gelman, "The No-U-Turn
sampler", JMLR 2014, here as blackjax has it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float

from dini_zoo.kit.checking import at_least, finite, known, marked, positive

#: Minus the logarithm of a density, up to a constant, at `(d,)`.
Energy = Callable[[Float[Array, " d"]], Float[Array, ""]]


#: So many standard deviations from the mode Laplace's law is one of it.
AWAY = 0.1


class Gaussian(eqx.Module):
    """A normal law: the mean, and a lower triangular root of the covariance."""

    mean: Float[Array, " d"]
    root: Float[Array, "d d"]

    @property
    def covariance(self) -> Float[Array, "d d"]:
        """Of the unknowns."""
        return self.root @ self.root.T

    @property
    def deviation(self) -> Float[Array, " d"]:
        """The standard deviation of each unknown."""
        return jnp.linalg.norm(self.root, axis=1)

    def draw(self, key: Array, count: int) -> Float[Array, "count d"]:
        """So many draws."""
        return self.mean + jax.random.normal(key, (count, len(self.mean)), self.mean.dtype) @ self.root.T


def _positive_definite(H: Array) -> None:
    """Raise `ValueError` for a known matrix that is not positive definite."""
    if not known(H):
        return
    finite("The energy's Hessian", H)
    least = np.linalg.eigvalsh(np.asarray(H))[[0, -1]]
    if least[0] <= np.finfo(H.dtype).eps * abs(least[1]):
        raise ValueError(
            "z must be a minimum of the energy with curvature in each direction: its Hessian has eigenvalues from "
            f"{least[0]:.3g} to {least[1]:.3g}. Minimize further, or give the unknowns a prior."
        )


def laplace(energy: Energy, z: Float[Array, " d"]) -> Gaussian:
    r"""The normal law :math:`N(z, H^{-1})` at a minimum of the energy, where :math:`H = \nabla^2 E(z)`.

    Under `jit` a Hessian that is not positive definite gives NaN, and so does a `z` that is no minimum, further from it
    than a tenth of a standard deviation; else they raise `ValueError`.

    Examples
    --------
    >>> law = laplace(lambda z: 2.0 * jnp.sum(z**2), jnp.zeros(2))
    >>> law.covariance.tolist()
    [[0.25, 0.0], [0.0, 0.25]]
    """
    H, slope = jax.hessian(energy)(z), jax.grad(energy)(z)
    _positive_definite(H)
    # Newton's step, in standard deviations: at the mode it is a matter of rounding and of a minimizer's tolerance
    off = jnp.sqrt(jnp.abs(slope @ jnp.linalg.solve(H, slope)))
    if known(off) and off > AWAY:
        raise ValueError(
            f"z must be a minimum of the energy: the one nearby is {float(off):.3g} standard deviations away, at most "
            f"{AWAY:g} is near. Minimize first."
        )
    # H = U U' with an upper triangle U, Cholesky's factor in the reverse order: the root is U^-T, a lower one
    flip = lambda M: M[::-1, ::-1]
    reverse = jnp.linalg.cholesky(flip(H))
    inverse = flip(jax.scipy.linalg.solve_triangular(reverse, jnp.eye(len(z), dtype=H.dtype), lower=True))
    return marked(Gaussian(z, inverse.T), off <= AWAY)


def negative_log_evidence(energy: Energy, z: Float[Array, " d"]) -> Float[Array, ""]:
    r"""Laplace's :math:`-\log \int e^{-E} \approx E(z) + \tfrac12 \log \det \nabla^2 E(z) - \tfrac d2 \log 2 \pi`.

    At the minimum; differentiable in it and in what the energy holds, so that a noise or a prior can be tuned. Where
    the Hessian is not positive definite it is NaN.
    """
    root = jnp.linalg.cholesky(jax.hessian(energy)(z))
    return energy(z) + jnp.sum(jnp.log(jnp.diagonal(root))) - 0.5 * len(z) * jnp.log(2 * jnp.pi)


class Variational(NamedTuple):
    """A fitted normal law with independent coordinates, and the bound on the way."""

    law: Gaussian
    bound: Float[Array, " steps"]
    r"""Of each step: :math:`E_q[-\log p] - H(q)` from its draws, an upper bound of the negative log evidence."""


def mean_field(
    energy: Energy, start: Gaussian, key: Array, *, steps: int = 1000, draws: int = 8, rate: float = 0.02
) -> Variational:
    r"""The normal law :math:`q` with independent coordinates that is nearest in :math:`KL(q \,\|\, p)`, by Adam.

    .. math:: \min_{m, s}\; E_{\xi}\, E(m + e^s \xi) - \textstyle\sum_i s_i - \tfrac d2 \log 2 \pi e

    Parameters
    ----------
    energy
        Of one point.
    start
        Where the means and deviations start, such as Laplace's.
    key
        Of the draws, which are in pairs :math:`\pm \xi`.
    steps, draws, rate
        Of Adam, whose rate falls to zero as a cosine; draws are those of a step, an even number.

    Raises
    ------
    ValueError
        For an odd number of draws, and a start that is not finite.
    """
    at_least("steps", steps, 1)
    at_least("draws", draws, 2)
    positive("rate", rate)
    finite("start", start)
    if draws % 2:
        raise ValueError(f"draws must be even, they are in pairs: given {draws}.")
    d, dtype = len(start.mean), start.mean.dtype
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps))

    def bound(params: tuple[Array, Array], key: Array) -> Array:
        mean, log = params
        half = jax.random.normal(key, (draws // 2, d), dtype)
        xi = jnp.concatenate([half, -half])
        return (
            jnp.mean(jax.vmap(energy)(mean + jnp.exp(log) * xi)) - jnp.sum(log) - 0.5 * d * jnp.log(2 * jnp.pi * jnp.e)
        )

    def step(carried: Any, key: Array) -> Any:
        params, state = carried
        value, slope = jax.value_and_grad(bound)(params, key)
        updates, state = optimizer.update(slope, state)
        return (optax.apply_updates(params, updates), state), value

    params = (start.mean, jnp.log(start.deviation))
    (params, _), bounds = jax.lax.scan(step, (params, optimizer.init(params)), jax.random.split(key, steps))
    return Variational(Gaussian(params[0], jnp.diag(jnp.exp(params[1]))), bounds)


class Samples(NamedTuple):
    """What a sampler drew in several chains, and how far it is to be believed."""

    z: Float[Array, "chains draws d"]
    divergent: Bool[Array, "chains draws"]
    """Where the integrator left the energy's surface: such regions are not explored."""
    rhat: Float[Array, " d"]
    """The split between and within chains: above 1.01 they do not agree."""
    size: Float[Array, " d"]
    """So many independent draws say as much."""
    gradients: Float[Array, ""]
    """Gradients of the energy that a draw has cost, in the mean."""

    @property
    def mean(self) -> Float[Array, " d"]:
        """Of all draws."""
        return jnp.mean(self.z, axis=(0, 1))

    @property
    def covariance(self) -> Float[Array, "d d"]:
        """Of all draws."""
        return jnp.cov(self.z.reshape(-1, self.z.shape[-1]), rowvar=False)

    def draw(self, key: Array, count: int) -> Float[Array, "count d"]:
        """Some of the draws, with replacement."""
        return jax.random.choice(key, self.z.reshape(-1, self.z.shape[-1]), (count,))


def nuts(
    energy: Energy, start: Gaussian, key: Array, *, warmup: int = 300, draws: int = 300, chains: int = 4
) -> Samples:
    """Draws by the No-U-Turn sampler of blackjax, whose steps and masses adapt in each chain's warm-up.

    It moves in coordinates in which `start` is the standard normal law: where that is near the posterior, directions in
    which much is known and those in which nothing is cost alike.

    Parameters
    ----------
    energy
        Of one point.
    start
        A law such as Laplace's, from which each chain's start is drawn.
    key
        Of all that is random.
    warmup, draws
        Of each chain.
    chains
        Side by side, at least two: chains that do not agree are the only sign of a mode that was missed.

    Raises
    ------
    ModuleNotFoundError
        Where blackjax is not installed.
    """
    try:
        import blackjax
    except ImportError as error:
        raise ModuleNotFoundError(
            f"NUTS is blackjax's, which cannot be imported ({error}). Install it: `pip install 'dini-zoo[sampling]'`.",
            name="blackjax",
        ) from error
    at_least("warmup", warmup, 1)
    at_least("draws", draws, 4)
    at_least("chains", chains, 2)
    finite("start", start)
    point = lambda xi: start.mean + start.root @ xi
    log_density = lambda xi: -energy(point(xi))
    warm = blackjax.window_adaptation(blackjax.nuts, log_density)

    def chain(key: Array, xi: Array) -> Any:
        for_warmup, for_draws = jax.random.split(key)
        (state, found), _ = warm.run(for_warmup, xi, warmup)
        kernel = blackjax.nuts(log_density, **found).step

        def step(state: Any, key: Array) -> Any:
            state, info = kernel(key, state)
            return state, (state.position, info.is_divergent, info.num_integration_steps)

        return jax.lax.scan(step, state, jax.random.split(for_draws, draws))[1]

    for_start, for_chains = jax.random.split(key)
    first = jax.random.normal(for_start, (chains, len(start.mean)), start.mean.dtype)
    xi, divergent, count = jax.vmap(chain)(jax.random.split(for_chains, chains), first)
    z = xi @ start.root.T + start.mean
    rhat = blackjax.diagnostics.potential_scale_reduction(z)
    size = blackjax.diagnostics.effective_sample_size(z)
    return Samples(z, divergent, rhat, size, jnp.mean(count.astype(z.dtype)))
