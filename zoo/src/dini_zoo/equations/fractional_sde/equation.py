r"""Equations with fractional noise: terms for diffrax' SDE solvers but ItoMilstein, samples, and the evidence bound.

.. math::
    dX = b(X, t)\, dt + s(X, t)\, d\hat B, \qquad d\hat B = -\sum_k \omega_k \gamma_k Y_k\, dt + w\, dW,
    \qquad w = \sum_k \omega_k .

Each dimension has a Brownian motion of its own, which its processes :math:`Y_k` share. Under the posterior :math:`dW`
is :math:`u\, dt + dW`, with a control :math:`u(X, Y, t)`; by Girsanov's theorem

.. math:: \mathrm{KL}(Q \| P) = E_Q\, \tfrac12 \int |u|^2 dt .

References
----------
Daems, Opper, Crevecoeur and Birdal, "Variational inference for SDEs driven by fractional noise", ICLR 2024 (arXiv
2310.12975).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax
import numpy as np
from jaxtyping import Array, Float

from dini_zoo.kit.checking import at_least, increasing, known

from .brownian import GridBrownianPath, levy_area_of
from .noise import MarkovNoise

#: Largest step times the fastest speed, with Euler's method: above, the noise is another one.
EULER_LIMIT = 0.5


class State(NamedTuple):
    """What the solver carries, for one path."""

    x: Float[Array, " D"]
    y: Float[Array, "D K"]
    kl: Float[Array, ""]
    r""":math:`\tfrac12 \int |u|^2 dt` so far."""
    martingale: Float[Array, ""]
    r""":math:`\int u \cdot dW` so far."""


class Path(NamedTuple):
    """A path at the times asked for, the first of which is where it starts."""

    x: Float[Array, "n D"]
    y: Float[Array, "n D K"]
    kl: Float[Array, ""]
    r""":math:`\tfrac12 \int |u|^2 dt`; zero without a control."""
    martingale: Float[Array, ""]
    r""":math:`\int u \cdot dW`, of mean zero. The log-likelihood less `kl` less this has less variance than without it:
    none, if the control is the optimal one and steps are small. NaN for a solver of Stratonovich's integral, which has
    another mean."""


class FractionalSDE(eqx.Module):
    """An equation with noise that has memory, and what a posterior adds to it.

    Parameters
    ----------
    drift
        `b(x, t)`, of the shape of `x`, `(D,)`.
    diffusion
        `s(x, t)`, of that shape: each entry may depend on its own entry of `x` alone.
    noise
        A :class:`FractionalNoise`, or Brownian motion, `white_noise()`.
    control
        `u(x, y, t, context)` of shape `(D,)`, with `y` of shape `(D, K)`: what the posterior adds to the noise.

    All may be Equinox modules with parameters to be learned.

    Examples
    --------
    >>> from .noise import FractionalNoise
    >>> sde = FractionalSDE(lambda x, t: -x, lambda x, t: jnp.ones_like(x), FractionalNoise(0.3))
    >>> path = sde.sample(jax.random.key(0), jnp.zeros(2), jnp.linspace(0.0, 1.0, 5), steps=16)
    >>> path.x.shape, path.y.shape, float(path.kl)
    ((5, 2), (5, 2, 5), 0.0)
    """

    drift: Callable[[Array, Any], Array]
    diffusion: Callable[[Array, Any], Array]
    noise: MarkovNoise
    control: Callable[[Array, Array, Any, Any], Array] | None = None

    def initial(self, key: Array, x0: Float[Array, " D"]) -> State:
        """The state of a path from `x0`: the noise's processes start with their own law."""
        zero = jnp.zeros((), x0.dtype)
        return State(x0, self.noise.start(key, len(x0), x0.dtype), zero, zero)

    def terms(self, path: diffrax.AbstractBrownianPath, *, posterior: bool = False, context: Any = None) -> Any:
        """The equation for `diffrax.diffeqsolve`, whose state is a :class:`State`.

        Parameters
        ----------
        path
            Brownian motion of shape `(D,)`, with whatever Lévy area the solver asks for.
        posterior
            Whether the control acts.
        context
            What it is given beside the state and the time.
        """
        omega = self.noise.weights
        control = self.control if posterior else None

        def values(x: Array) -> tuple[Array, Array]:
            return jnp.asarray(self.noise.speeds, x.dtype), omega.astype(x.dtype)

        def forced(t: Any, state: State) -> Array:
            return jnp.zeros_like(state.x) if control is None else control(state.x, state.y, t, context)

        def drift(t: Any, state: State, _: Any) -> State:
            gamma, weights = values(state.x)
            u = forced(t, state)
            dy = u[:, None] - gamma * state.y
            dx = self.drift(state.x, t) + self.diffusion(state.x, t) * (dy @ weights)
            return State(dx, dy, 0.5 * jnp.sum(u**2), jnp.zeros_like(state.martingale))

        def spread(t: Any, state: State, _: Any) -> lineax.AbstractLinearOperator:
            _, weights = values(state.x)
            scale = self.diffusion(state.x, t) * jnp.sum(weights)
            u = forced(t, state)

            def product(dw: Array) -> State:
                dw = dw.astype(state.x.dtype)
                dy = jnp.broadcast_to(dw[:, None], state.y.shape)
                return State(scale * dw, dy, jnp.zeros_like(state.kl), jnp.sum(u * dw))

            return lineax.FunctionLinearOperator(product, jax.ShapeDtypeStruct(state.x.shape, state.x.dtype))

        return diffrax.MultiTerm(diffrax.ODETerm(drift), diffrax.ControlTerm(spread, path))

    def sample(
        self,
        key: Array,
        x0: Float[Array, " D"],
        ts: Float[Array, " n"],
        *,
        steps: int,
        posterior: bool = False,
        context: Any = None,
        solver: diffrax.AbstractSolver | None = None,
        adjoint: diffrax.AbstractAdjoint | None = None,
    ) -> Path:
        """One path from `x0` at `ts[0]`, at times that rise; `jax.vmap` over keys makes many.

        Parameters
        ----------
        steps
            Between two times, of one size.
        posterior, context
            As for :meth:`terms`.
        solver
            One of diffrax' for SDEs; `Euler` if it is not given. With a `diffusion` that depends on `x` it decides
            between Ito's integral (`Euler`) and Stratonovich's (`EulerHeun`, `Heun`,
            `StratonovichMilstein`, ...), which differ: the approximate noise has a Brownian part.
        adjoint
            One of diffrax'; checkpoints if it is not given, all of them if the steps are few.

        Raises
        ------
        ValueError
            For times that do not rise, no steps, a control that is missing, `ItoMilstein`, and where a step of
            Euler's method is half of the fastest process' time or longer. Of times that are not known in time, Equinox'
            error says so.
        """
        increasing("ts", ts)
        at_least("steps", steps, 1)
        at_least("the number of times in ts", len(ts), 2)
        if posterior and self.control is None:
            raise ValueError("The posterior needs a control: given none.")
        solver = diffrax.Euler() if solver is None else solver
        if isinstance(solver, diffrax.ItoMilstein):
            raise ValueError(
                "solver must be another than ItoMilstein, which differentiates the diffusion's matrix: here it is a "
                "function. Take Euler for Ito's integral, StratonovichMilstein for the other."
            )
        ts = jnp.asarray(ts, x0.dtype)
        if isinstance(solver, diffrax.Euler):
            ts = _fine_enough(ts, steps, max(self.noise.speeds))
        for_start, for_path = jax.random.split(key)
        # ends are those of `ts` to the last bit: a control may ask which observation is next
        inner = ts[:-1, None] + jnp.diff(ts)[:, None] * (jnp.arange(steps, dtype=ts.dtype) / steps)
        grid = jnp.append(inner.reshape(-1), ts[-1])
        count = len(grid) - 1
        path = GridBrownianPath(grid, x0.shape, x0.dtype, levy_area=levy_area_of(solver), key=for_path)
        found = diffrax.diffeqsolve(
            self.terms(path, posterior=posterior, context=context),
            solver,
            ts[0],
            ts[-1],
            None,
            self.initial(for_start, x0),
            stepsize_controller=diffrax.StepTo(ts=grid),
            saveat=diffrax.SaveAt(ts=ts),
            max_steps=count,
            adjoint=adjoint or diffrax.RecursiveCheckpointAdjoint(checkpoints=min(count, 1000)),
        )
        ys = found.ys
        ito = isinstance(solver, diffrax.AbstractItoSolver)
        return Path(ys.x, ys.y, ys.kl[-1], ys.martingale[-1] if ito else jnp.full((), jnp.nan, x0.dtype))

    def elbo(
        self,
        key: Array,
        x0: Float[Array, " D"],
        ts: Float[Array, " n"],
        log_likelihood: Callable[[Float[Array, "n D"]], Float[Array, ""]],
        *,
        steps: int,
        low_variance: bool = False,
        **options: Any,
    ) -> Float[Array, ""]:
        r"""An estimate of :math:`E_Q[\log p(o \mid X)] - \mathrm{KL}(Q \| P)` from one path.

        Parameters
        ----------
        log_likelihood
            Of the observations, given the path at `ts`.
        low_variance
            Whether to subtract :math:`\int u \cdot dW`, whose mean is zero.
        options
            Those of :meth:`sample`.

        A random `x0` has a divergence of its own, which is for the caller to subtract.
        """
        path = self.sample(key, x0, ts, steps=steps, posterior=True, **options)
        bound = log_likelihood(path.x) - path.kl
        return bound - path.martingale if low_variance else bound


def _fine_enough(ts: Float[Array, " n"], steps: int, fastest: float) -> Float[Array, " n"]:
    """The times, if steps between them are short enough for Euler's method."""
    message = (
        f"steps must be so many that one times the fastest speed, {fastest:g}, is below {EULER_LIMIT} (Euler's method)"
    )
    if known(ts):
        largest = float(np.max(np.diff(np.asarray(ts))) / steps * fastest)
        if largest >= EULER_LIMIT:
            raise ValueError(f"{message}: given {largest:.2g}, with {steps} between two times.")
        return ts
    return eqx.error_if(
        ts, jnp.max(jnp.diff(ts)) / steps * fastest >= EULER_LIMIT, f"{message}: given {steps} between two."
    )
