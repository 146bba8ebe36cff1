r"""A latent equation for sequences of frames: an encoder gives the control its context, a decoder draws the state.

.. math:: x_0 \sim p(x_0), \qquad dX = b(X)\, dt + s(X)\, d\hat B, \qquad \text{frame}_i \sim N(D(X(t_i)), v I).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dini_zoo.kit.checking import at_least, positive

from .equation import FractionalSDE
from .noise import MarkovNoise


class Bound(NamedTuple):
    """The parts of the negative evidence bound of a clip, without constants."""

    error: Float[Array, ""]
    """Squared, over all frames."""
    kl: Float[Array, ""]
    """Of the path."""
    kl_start: Float[Array, ""]
    """Of where it starts."""
    frames: Float[Array, "n p"]
    """What the decoder draws."""


def normal_divergence(mean: Array, log_variance: Array, other_mean: Array, other_log_variance: Array) -> Array:
    """Of a normal law with independent entries from another one."""
    difference = log_variance - other_log_variance
    square = (mean - other_mean) ** 2 / jnp.exp(other_log_variance)
    return 0.5 * jnp.sum(jnp.exp(difference) + square - 1 - difference)


class VideoSDE(eqx.Module):
    """A latent equation with fractional noise, and networks from frames to its control and from its state to frames.

    Parameters
    ----------
    noise
        Fractional, or Brownian.
    pixels
        Of a frame, which is a vector.
    dims
        Of the state.
    width, features
        Hidden units, and numbers that the encoder makes of a frame.
    interval
        The time between two frames.
    steps
        Of Euler's method between two frames.
    key
        Of the weights.

    Examples
    --------
    >>> from .noise import FractionalNoise
    >>> model = VideoSDE(FractionalNoise(kind="I"), 9, dims=2, width=8, features=4, key=jax.random.key(0))
    >>> model.bound(jnp.zeros((5, 9)), jax.random.key(1)).frames.shape
    (5, 9)
    """

    noise: MarkovNoise
    encoder: eqx.nn.MLP
    neighbours: eqx.nn.Linear
    smoother: eqx.nn.Linear
    first: eqx.nn.MLP
    decoder: eqx.nn.MLP
    field: eqx.nn.MLP
    scale: eqx.nn.MLP
    force: eqx.nn.MLP
    start_mean: Float[Array, " D"]
    start_log_variance: Float[Array, " D"]
    interval: float = eqx.field(static=True)
    steps: int = eqx.field(static=True)

    def __init__(
        self,
        noise: MarkovNoise,
        pixels: int,
        *,
        dims: int = 4,
        width: int = 128,
        features: int = 32,
        interval: float = 0.05,
        steps: int = 3,
        key: Array,
    ):
        at_least("pixels", pixels, 1)
        at_least("steps", steps, 1)
        positive("interval", interval)
        keys = iter(jax.random.split(key, 8))
        mlp = lambda n, m, depth, act: eqx.nn.MLP(n, m, width, depth, act, key=next(keys))
        K = len(noise.speeds)
        self.noise = noise
        self.encoder = mlp(pixels, features, 1, jax.nn.silu)
        self.neighbours = eqx.nn.Linear(3 * features, features, key=next(keys))
        self.smoother = eqx.nn.Linear(3 * features, features, key=next(keys))
        self.first = mlp(4 * features, 2 * dims, 1, jax.nn.silu)
        self.decoder = mlp(dims, pixels, 1, jax.nn.silu)
        self.field = mlp(dims, dims, 2, jnp.tanh)
        self.scale = eqx.filter_vmap(lambda key: eqx.nn.MLP(1, 1, 16, 1, jnp.tanh, key=key))(
            jax.random.split(next(keys), dims)
        )
        force = mlp(dims * (1 + K) + features, dims, 2, jnp.tanh)
        last = lambda network: (network.layers[-1].weight, network.layers[-1].bias)
        # at first the posterior is the prior
        self.force = eqx.tree_at(last, force, tuple(map(jnp.zeros_like, last(force))))
        self.start_mean, self.start_log_variance = jnp.zeros(dims), jnp.zeros(dims)
        self.interval, self.steps = interval, steps

    def drift(self, x: Float[Array, " D"], t: Any) -> Float[Array, " D"]:
        """At most 4 in each direction."""
        return 4 * jnp.tanh(self.field(x))

    def diffusion(self, x: Float[Array, " D"], t: Any) -> Float[Array, " D"]:
        """Of each entry by its own network."""
        return jax.nn.softplus(eqx.filter_vmap(lambda network, x: network(x[None])[0])(self.scale, x))

    def control(self, x: Array, y: Array, t: Any, context: Float[Array, "n f"]) -> Float[Array, " D"]:
        """From the state, the noise's processes, and the context between two frames."""
        place = jnp.clip(t / self.interval, 0, len(context) - 1)
        i = jnp.minimum(place.astype(int), len(context) - 2)
        share = place - i
        interpolated = (1 - share) * context[i] + share * context[i + 1]
        return self.force(jnp.concatenate([x, y.reshape(-1), interpolated]))

    def equation(self) -> FractionalSDE:
        """The latent equation."""
        return FractionalSDE(self.drift, self.diffusion, self.noise, self.control)

    def times(self, frames: int) -> Float[Array, " n"]:
        """Of the frames."""
        at_least("frames", frames, 1)
        return self.interval * jnp.arange(frames)

    def bound(self, clip: Float[Array, "n p"], key: Array) -> Bound:
        """The parts of the negative evidence bound, by one path."""
        for_start, for_path = jax.random.split(key)
        h = jax.vmap(self.encoder)(clip)
        g = _beside(self.smoother, jax.nn.silu(_beside(self.neighbours, h)))
        mean, log_variance = jnp.split(self.first(jnp.concatenate([g[0], h[0], h[1], h[2]])), 2)
        log_variance = jnp.clip(log_variance, -10.0, 10.0)
        x0 = mean + jnp.exp(0.5 * log_variance) * jax.random.normal(for_start, mean.shape)
        path = self.equation().sample(for_path, x0, self.times(len(clip)), steps=self.steps, posterior=True, context=g)
        frames = jax.vmap(self.decoder)(path.x)
        kl_start = normal_divergence(mean, log_variance, self.start_mean, self.start_log_variance)
        return Bound(jnp.sum((frames - clip) ** 2), path.kl, kl_start, frames)

    def draw(self, key: Array, frames: int) -> Float[Array, "n p"]:
        """A new clip."""
        for_start, for_path = jax.random.split(key)
        std = jnp.exp(0.5 * self.start_log_variance)
        x0 = self.start_mean + std * jax.random.normal(for_start, std.shape)
        path = self.equation().sample(for_path, x0, self.times(frames), steps=self.steps)
        return jax.vmap(self.decoder)(path.x)


def _beside(linear: eqx.nn.Linear, h: Float[Array, "n f"]) -> Float[Array, "n f"]:
    """A linear map of each frame's features with those before and after: a convolution over three frames."""
    around = jnp.concatenate([jnp.pad(h, ((1, 0), (0, 0)))[:-1], h, jnp.pad(h, ((0, 1), (0, 0)))[1:]], axis=1)
    return jax.vmap(linear)(around)
