r"""The reverse of a diffusion in steps, as kernels that draw several candidates of the next point.

Levels go from :math:`T`, noise, to 0, data. A kernel has `steps`, :math:`T`, and the methods of :class:`Kernel`. Points
have a first axis for the batch; candidates have a second one.
"""

from __future__ import annotations

from typing import Any, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dini_zoo.kit.checking import at_least, decreasing, holds, known, not_negative, whole, within

from .chains import Chain
from .masked import filled, revealed, token_probabilities
from .processes import Field


class Kernel(Protocol):
    r"""What is sampled: :math:`p(x_{t-1} \mid x_t)` for levels :math:`t` from `steps` to 1."""

    @property
    def steps(self) -> int:
        """How many."""
        ...

    def start(self, key: Array, n: int) -> Array:
        """So many points at the last level."""
        ...

    def predict(self, x: Array, t: Any) -> Any:
        """What the network says of points at a level: its one call in a step."""
        ...

    def draw(self, key: Array, x: Array, predicted: Any, t: Any, n: int) -> Array:
        """Candidates `(batch, n, ...)` of the points at level `t - 1`."""
        ...

    def complete(self, x: Array, predicted: Any, key: Array | None = None) -> Array:
        """The data that are predicted; where they are discrete, with a key a random guess."""
        ...


class GaussianReverse(eqx.Module):
    r"""The reverse of a chain with a data prediction: ancestral sampling (:math:`\eta = 1`), or with less noise.

    Parameters
    ----------
    chain
        The levels.
    data
        A function `(x, time)` of a batch and one of the chain's times: the data prediction.
    shape
        Of a single point.
    eta
        Multiplies the noise of :meth:`Chain.reverse`.
    last_std
        Of noise that is added in the last step. Without it its candidates are all alike, and it is not guided.

    Raises
    ------
    ValueError
        For a negative `eta` or `last_std`.
    """

    chain: Chain
    data: Field
    shape: tuple[int, ...] = eqx.field(static=True)
    eta: Any
    last_std: Any

    def __init__(self, chain: Chain, data: Field, shape: tuple[int, ...], *, eta: Any = 1.0, last_std: Any = 0.0):
        not_negative("eta", eta)
        not_negative("last_std", last_std)
        self.chain, self.data, self.shape, self.eta, self.last_std = chain, data, tuple(shape), eta, last_std

    @property
    def steps(self) -> int:
        """The chain's."""
        return len(self.chain)

    @property
    def random(self) -> bool:
        """Whether candidates differ: there is noise in some step."""
        settings = (self.eta, self.last_std)
        return any(not known(one) or one > 0 for one in settings)

    def start(self, key: Array, n: int) -> Array:
        """Standard normal points."""
        return jax.random.normal(key, (n, *self.shape))

    def predict(self, x: Array, t: Any) -> Array:
        """The data prediction."""
        return self.data(x, self.chain.times[jnp.maximum(t - 1, 0)])

    def law(self, x: Array, predicted: Array, t: Any) -> tuple[Array, Array]:
        """Mean and standard deviation of the next points."""
        mean, std = self.chain.reverse(x, predicted, t - 1, self.eta)
        return mean, jnp.where(t == 1, self.last_std, std)

    def draw(self, key: Array, x: Array, predicted: Array, t: Any, n: int) -> Array:
        """Candidates."""
        mean, std = self.law(x, predicted, t)
        noise = jax.random.normal(key, (len(x), n, *x.shape[1:]), x.dtype)
        return (mean[:, None] + std * noise).astype(x.dtype)

    def complete(self, x: Array, predicted: Array, key: Array | None = None) -> Array:
        """The data prediction itself."""
        return predicted


class MaskedReverse(eqx.Module):
    r"""The reverse of a masked diffusion of sequences, each hidden token revealed independently.

    Parameters
    ----------
    denoise
        A function `(x, m)` of sequences `(n, L)` and the probability of a mask at their level: logits `(n, L, K)`.
        The probabilities of tokens that are seen are not used.
    masks
        These probabilities at levels 0 to `T`, the first one zero, rising.
    length
        Of a sequence, :math:`L`.
    mask
        The number of a hidden token, :math:`K`.

    Raises
    ------
    ValueError
        For masks that do not rise from zero, to at most one.
    """

    denoise: Field
    masks: Float[Array, " T1"]
    length: int = eqx.field(static=True)
    mask: int = eqx.field(static=True)

    def __init__(self, denoise: Field, masks: Any, length: int, mask: int):
        at_least("length", length, 1)
        at_least("mask", mask, 0)
        self.denoise, self.masks, self.length, self.mask = denoise, jnp.asarray(masks), length, mask
        if self.masks.ndim != 1 or len(self.masks) < 2:
            raise ValueError(f"masks must be a vector for levels 0 to T, T at least 1: given shape {self.masks.shape}.")
        levels = np.asarray(masks) if known(masks) else self.masks
        decreasing("the chance that a token is seen", 1 - levels)
        holds(
            levels,
            lambda levels: (levels[0] == 0) & (levels[-1] <= 1),
            lambda: f"masks must rise from 0 to at most 1: given {masks}.",
        )

    @property
    def steps(self) -> int:
        """As many as there are levels above the data's."""
        return len(self.masks) - 1

    @property
    def random(self) -> bool:
        """Candidates differ."""
        return True

    def start(self, key: Array, n: int) -> Int[Array, "n L"]:
        """Sequences with nothing to be seen."""
        return jnp.full((n, self.length), self.mask)

    def predict(self, x: Int[Array, "n L"], t: Any) -> Float[Array, "n L K"]:
        """The probabilities of each token."""
        within("t", t, len(self.masks))
        return token_probabilities(self.denoise(x, self.masks[t]), x, mask=self.mask)

    def draw(self, key: Array, x: Array, predicted: Array, t: Any, n: int) -> Array:
        """Candidates."""
        uniform = jax.random.uniform(key, (len(x), n, self.length), predicted.dtype)
        stay = self.masks[t - 1] / self.masks[t]
        return revealed(uniform, x[:, None], predicted[:, None], stay, mask=self.mask)

    def complete(self, x: Array, predicted: Array, key: Array | None = None) -> Array:
        """Hidden tokens as is most probable, or drawn."""
        return filled(x, predicted, mask=self.mask, key=key)


def start_key_of(key: Array, steps: int) -> Array:
    """The key of the first points; those of the steps are split from `key` itself."""
    whole("steps", steps)
    return jax.random.fold_in(key, steps + 1)


def rollouts(key: Array, kernel: Kernel, batch: int) -> Array:
    """Points of all levels `(T + 1, batch, ...)` of samples without guidance, the data in front."""
    at_least("batch", batch, 1)

    def step(x: Array, given: Any) -> Any:
        t, key = given
        new = kernel.draw(key, x, kernel.predict(x, t), t, 1)[:, 0]
        return new, new

    x = kernel.start(start_key_of(key, kernel.steps), batch)
    given = (jnp.arange(kernel.steps, 0, -1), jax.random.split(key, kernel.steps))
    _, path = jax.lax.scan(step, x, given)
    return jnp.concatenate([path[::-1], x[None]])


def sample(key: Array, kernel: Kernel, batch: int) -> Array:
    """Samples without guidance."""
    return rollouts(key, kernel, batch)[0]
