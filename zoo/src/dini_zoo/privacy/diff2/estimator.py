r"""The recursive estimator of a mean gradient: restarts, and differences whose noise shrinks with the steps.

.. math::

    v_r = \begin{cases}
        u(x_{r-1}) + N\bigl(0, (C_1 s_1)^2 I\bigr) & T \mid r - 1 \\
        v_{r-1} + \Delta u(x_{r-1}, x_{r-2}) + N\bigl(0, (C_{2,r} s_2)^2 I\bigr) & \text{else,}
    \end{cases} \qquad C_{2,r} = C_2\, \|x_{r-1} - x_{r-2}\|

with the clipped means :math:`u` and :math:`\Delta u` of `clipping.py`. Which of the two comes depends on the number of
the round alone; the radius :math:`C_{2,r}` on points that were released. A term of the objective that has no data, such
as a penalty, is not put into the estimator: its gradient is added to what comes out.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dini_zoo.kit.checking import Right, above_zero, at_least, known, marked, not_negative, scalar, trainable

from ..ledger import Ledger
from .budget import NONE, Noise, counted
from .clipping import Clients, Vectors, clipped_difference_mean, clipped_mean, tree_norm


class EstimatorState(NamedTuple):
    """What is carried from round to round; all of it but the last two was released."""

    previous: Any
    """:math:`x_{r-1}`."""
    estimate: Any
    """:math:`v_r`."""
    restarts: Int[Array, ""]
    differences: Int[Array, ""]
    """How many of each were released."""
    clipped: Float[Array, ""]
    """The share of records whose vector was shortened in the last round. It is not private: not to be released."""
    lost: Int[Array, ""]
    """Records, over all rounds, whose vector was not finite and counted as zero. It is not private, either."""

    @property
    def rounds(self) -> Int[Array, ""]:
        """:math:`r`."""
        return self.restarts + self.differences


def noisy(name: str, tree: Any, key: Array, radius: Any, scale: Any, unit: float = 1.0) -> Any:
    """A tree with independent normal noise of the standard deviation `radius * scale * unit`, none where `scale` is 0.

    The tree's numbers are at most as large as the radius. Noise that is below their resolution would vanish in the sum,
    though a ledger counts it: it raises `ValueError` where `scale`, whose `name` is given, is known. What is no noise,
    or cannot be had, makes the result NaN where it is traced: a radius that is negative, or infinite with noise, a
    `scale` that is negative or not finite, a standard deviation too small for a number.
    """
    scalar(name, scale)
    scalar("The radius of the noise", radius)
    right = not_negative(name, scale)
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(key, len(leaves))
    dtype = jnp.result_type(*leaves)
    least = float(jnp.finfo(dtype).eps)
    if known(scale) and np.any((np.asarray(scale, float) > 0) & (np.asarray(scale, float) * unit < least)):
        raise ValueError(
            f"{name} times its unit, {unit:.3g}, must be at least {least:.2g} or zero, else the noise vanishes in sums "
            f"of {dtype}: given {scale}. Take double precision, by jax.config.update('jax_enable_x64', True)."
        )
    wide, scale = jnp.asarray(radius).astype(dtype), jnp.asarray(scale).astype(dtype) * unit
    std = jnp.where(scale > 0, wide * scale, 0)
    kept = (std >= jnp.finfo(dtype).tiny) & (std < jnp.inf) & (scale >= least)
    # at rest the radius is zero, and what is released says nothing
    right = jnp.all(jnp.asarray(right)) & ((scale == 0) | kept | (wide == 0))
    drawn = [
        leaf + (std * jax.random.normal(one, leaf.shape, dtype)).astype(leaf.dtype)
        for leaf, one in zip(leaves, keys, strict=True)
    ]
    return marked(jax.tree.unflatten(structure, drawn), right)


@dataclass(frozen=True)
class Diff2Estimator:
    """The estimator; `diff2_estimator` says what its arguments are."""

    fun: Vectors
    gradient_clip: Any
    difference_clip: Any
    restart_every: Any
    noise: Noise
    microbatch: int | None

    def __post_init__(self) -> None:
        for name, radius, scale in (
            ("gradient_clip", self.gradient_clip, self.noise.restart),
            ("difference_clip", self.difference_clip, self.noise.difference),
        ):
            scalar(name, radius)
            scalar("noise", scale)
            above_zero(name, radius)
            not_negative("noise", scale)
            if known(radius) and known(scale) and not np.isfinite(radius) and scale > 0:
                raise ValueError(
                    f"{name} must be finite where there is noise, which is proportional to it: given {radius}."
                )
        if known(self.restart_every):
            at_least("restart_every", self.restart_every, 1)
        if self.microbatch is not None:
            at_least("microbatch", self.microbatch, 1)

    @property
    def right(self) -> Right:
        """Whether radii, noise and interval are some, where they are traced."""
        clips = (above_zero("gradient_clip", self.gradient_clip), above_zero("difference_clip", self.difference_clip))
        noise = (
            not_negative("noise.restart", self.noise.restart),
            not_negative("noise.difference", self.noise.difference),
        )
        every = self.restart_every
        interval = True if known(every) else jnp.asarray(every) >= 1
        return functools.reduce(jnp.logical_and, (*clips, *noise, interval))

    def init(self, params: Any) -> EstimatorState:
        """The state before the first round."""
        params = jax.tree.map(jnp.asarray, params)
        trainable("params", params)
        dtype = jnp.result_type(*jax.tree.leaves(params))
        zero = jnp.zeros((), jnp.int32)
        return EstimatorState(
            params, jax.tree.map(jnp.zeros_like, params), zero, zero, jnp.zeros((), dtype), jnp.zeros((), jnp.int32)
        )

    def update(self, state: EstimatorState, params: Any, clients: Clients, key: Array) -> tuple[Any, EstimatorState]:
        """One round: the estimate at `params`, and the next state.

        Parameters
        ----------
        state
            Of `init` or the round before.
        params
            Where the estimate is for; its `previous` is where the one before was for.
        clients
            The records.
        key
            Of the noise, the caller's: secret, and used for nothing else. The number of the round is folded into it, so
            one key may serve all rounds of one run.
        """
        key = jax.random.fold_in(key, state.rounds)
        dtype = state.clipped.dtype
        right = self.right
        like = lambda tree: jax.tree.map(lambda leaf, old: leaf.astype(jnp.result_type(old)), tree, state.estimate)

        def restart() -> tuple[Any, Any, Any]:
            found = clipped_mean(self.fun, params, clients, self.gradient_clip, microbatch=self.microbatch)
            mean = like(noisy("noise.restart", found.mean, key, self.gradient_clip, self.noise.restart))
            return mean, found.clipped.astype(dtype), found.lost.astype(jnp.int32)

        def differ() -> tuple[Any, Any, Any]:
            length = tree_norm(jax.tree.map(jnp.subtract, params, state.previous))
            # without a step there is nothing to clip, be the slope infinite
            radius = jnp.where(length == 0, 0.0, self.difference_clip * length)
            found = clipped_difference_mean(
                self.fun, params, state.previous, clients, radius, microbatch=self.microbatch
            )
            change = noisy("noise.difference", found.mean, key, radius, self.noise.difference)
            mean = like(jax.tree.map(jnp.add, state.estimate, change))
            return mean, found.clipped.astype(dtype), found.lost.astype(jnp.int32)

        first = state.rounds % self.restart_every == 0
        estimate, clipped, lost = jax.lax.cond(first, restart, differ)
        one, estimate = first.astype(jnp.int32), marked(estimate, right)
        return estimate, EstimatorState(
            params, estimate, state.restarts + one, state.differences + 1 - one, clipped, state.lost + lost
        )

    def ledger(self, state: EstimatorState, clients: Clients) -> Ledger:
        """What the rounds so far have released, for neighbors that differ in one replaced record.

        Under `jit` the counts are not known: call it outside.
        """
        return counted(self.noise, int(state.restarts), int(state.differences), clients.effective)


def diff2_estimator(
    fun: Vectors,
    *,
    gradient_clip: Any,
    difference_clip: Any,
    restart_every: Any,
    noise: Noise = NONE,
    microbatch: int | None = None,
) -> Diff2Estimator:
    r"""The estimator of :math:`\frac1P \sum_p \frac1{n_p} \sum_{z \in D_p} g(x, z)` along a path of points.

    Its `init(params)` and `update(state, params, clients, key)` serve any optimizer; `ledger(state, clients)` is what
    was released.

    Parameters
    ----------
    fun
        :math:`g(x, z)` of parameters and one record, a tree like the parameters: `jax.grad(loss)`, say. The values of a
        solve differentiated by dini will do.
    gradient_clip
        :math:`C_1`, in the units of :math:`g`. At the greatest norm of :math:`g` nothing is clipped.
    difference_clip
        :math:`C_2`, in the units of :math:`g` over those of :math:`x`. At the smoothness of :math:`g(\cdot, z)` nothing
        is clipped; far below it, differences say too little, and the iteration diverges.
    restart_every
        :math:`T`. With :math:`T = 1` the estimator is that of DP-GD.
    noise
        :math:`s_1, s_2`, from `calibrate`; without it nothing is private.
    microbatch
        So many records at a time.

    Raises
    ------
    ValueError
        For radii that are not positive, or infinite though there is noise; an interval below one; negative noise.
    """
    return Diff2Estimator(fun, gradient_clip, difference_clip, restart_every, noise, microbatch)
