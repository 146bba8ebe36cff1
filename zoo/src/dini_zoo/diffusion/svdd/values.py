r"""Values: how good the data will be that a point leads to.

The soft value :math:`v_t(x) = a \log E[e^{r(x_0) / a} \mid x_t = x]` makes decoding exact. It is approximated by the
reward of the predicted data, or by regression on rollouts. A value is a function `(x, t)` of a batch and a level, with
:math:`v_0 = r`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from dini_zoo.kit.checking import at_least, one_of, positive

from ...kit.training import Trainer
from ..kernels import Kernel

type Reward = Callable[[Array], Array]
type Value = Callable[[Array, Any], Array]

#: Where the exponent of the soft loss is cut off.
STEEPEST = 10.0


def host_reward(fun: Callable[[np.ndarray], np.ndarray]) -> Reward:
    """A reward that is computed outside of JAX: a function of a NumPy batch `(n, ...)` that returns `n` numbers.

    Examples
    --------
    >>> import zlib
    >>> reward = host_reward(lambda x: np.array([-len(zlib.compress(row.tobytes())) for row in x]))
    >>> x = jnp.array([[0, 0, 0, 0, 0, 0], [3, 1, 4, 1, 5, 9]])
    >>> bool(jnp.diff(jax.jit(reward)(x)) < 0)
    True
    """

    def call(x: Any) -> np.ndarray:
        found = np.asarray(fun(np.asarray(x)))
        if found.shape != (len(x),):
            raise ValueError(f"A reward must return one number for each of {len(x)} points: given {found.shape}.")
        return found.astype(real)

    real = np.dtype(jnp.result_type(float))

    def reward(x: Array) -> Array:
        return jax.pure_callback(call, jax.ShapeDtypeStruct((len(x),), real), x, vmap_method="sequential")

    return reward


class PosteriorMean(eqx.Module):
    r"""The reward of the predicted data, :math:`v_t(x) = r(\hat x_0(x, t))`: one call of the network, no training.

    Of sequences the prediction has each hidden token replaced by the most probable one, which for rewards that are not
    additive is biased; with `fills` the rewards of so many random replacements are averaged.

    Parameters
    ----------
    kernel
        Whose prediction is taken.
    reward
        Of a batch of data: one number each. It need not be differentiable.
    fills
        0, or how many random guesses are averaged.
    key
        Of these guesses, the same ones in every call.
    """

    kernel: Any
    reward: Reward
    fills: int = eqx.field(static=True)
    key: Array | None

    def __init__(self, kernel: Kernel, reward: Reward, *, fills: int = 0, key: Array | None = None):
        at_least("fills", fills, 0)
        if fills and key is None:
            raise ValueError(f"Random guesses need a key: given none, and fills {fills}.")
        self.kernel, self.reward, self.fills, self.key = kernel, reward, fills, key

    def __call__(self, x: Array, t: Any) -> Float[Array, " n"]:
        """Of points at a level."""
        return self.of(x, self.kernel.predict(x, t), t)

    def of(self, x: Array, predicted: Any, t: Any) -> Float[Array, " n"]:
        """The same, where the kernel's prediction is known."""
        rewarded = lambda data: self.reward(jnp.where(t == 0, x, data))
        if not self.fills:
            return rewarded(self.kernel.complete(x, predicted))
        assert self.key is not None
        keys = jax.random.split(jax.random.fold_in(self.key, t), self.fills)
        return jnp.mean(jax.lax.map(lambda key: rewarded(self.kernel.complete(x, predicted, key)), keys), axis=0)


class LearnedValue(eqx.Module):
    """A model of the value at the levels above zero; at level 0 it is the reward."""

    model: Any
    reward: Reward
    center: Array
    scale: Array
    """What the model says is in units of the rollouts' rewards: their mean and standard deviation."""

    def __call__(self, x: Array, t: Any) -> Float[Array, " n"]:
        """Of points at a level."""
        return jax.lax.cond(
            t == 0,
            lambda: jnp.asarray(self.reward(x), self.center.dtype),
            lambda: self.center + self.scale * self.model(x, t),
        )


def fit_mc_value[M](
    key: Array,
    paths: Array,
    reward: Reward,
    model: M,
    optimizer: optax.GradientTransformation,
    *,
    steps: int,
    batch: int,
    loss: Literal["mean", "soft"] = "mean",
    temperature: Any = 1.0,
    advance: Callable[[int], None] = lambda steps: None,
) -> LearnedValue:
    r"""Fit a value by regression on rollouts of the frozen diffusion.

    .. math::
        \text{mean:} \quad E \big(r(x_0) - f(x_t, t)\big)^2, \qquad
        \text{soft:} \quad E\; e^{(r - f) / a} - (r - f) / a - 1,

    whose minimizers are :math:`E[r \mid x_t]` and the soft value.

    Parameters
    ----------
    key
        Of the batches.
    paths
        Points `(T + 1, n, ...)` of all levels, that of the data in front: see :func:`rollouts`.
    reward
        Of a batch of data.
    model
        A module called as `model(x, t)` with points and a level for each, or one for all: a number each, in units of
        the standard deviation of the rewards.
    optimizer, steps, batch
        Of the training.
    loss, temperature
        Which of the two, and :math:`a > 0` of the second one. Its exponent is cut off at 10.

    Raises
    ------
    ValueError
        For another loss, a temperature that is not positive, and rewards that are not finite.
    """
    one_of("loss", loss, ("mean", "soft"))
    positive("temperature", temperature)
    levels, n = paths.shape[:2]
    rewards = jnp.asarray(reward(paths[0]))
    wrong = int(jnp.sum(~jnp.isfinite(rewards)))
    if wrong:
        raise ValueError(f"reward must be finite on the rollouts, to fit a value: {wrong} of {n} are not.")
    center, scale = jnp.mean(rewards), jnp.std(rewards)
    scale = jnp.where(scale > 0, scale, 1.0)
    sharpness = scale / jnp.asarray(temperature, scale.dtype)

    def measured(model: M, given: tuple[Array, Array, Array], key: Array) -> Array:
        x, t, r = given
        gap = r - model(x, t)
        if loss == "mean":
            return jnp.mean(gap**2)
        u = jnp.minimum(sharpness * gap, STEEPEST)
        return jnp.mean(jnp.expm1(u) - u)

    t = jnp.repeat(jnp.arange(levels), n)
    r = jnp.tile((rewards - center) / scale, levels)
    data = (paths.reshape(levels * n, *paths.shape[2:]), t, r)
    trainer = Trainer(measured, optimizer, steps=steps, batch=batch)
    fitted = trainer(model, data, key=key, advance=advance).model
    return LearnedValue(fitted, reward, center, scale)
