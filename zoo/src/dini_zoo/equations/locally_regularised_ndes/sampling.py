"""One point of a solve, at random: uniform in time, or uniform over the solver's own steps."""

from __future__ import annotations

from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from ..arguments import interval
from ..wrappers import WatchingSolver

#: The share of an interval at its end in which no time is drawn: a step from there would have no length.
END = 1e-6


def sample_time(key: Array, t0: Any, t1: Any) -> Float[Array, ""]:
    r"""A time that is uniform in :math:`[t_0, t_1)`, but for the last millionth.

    Raises
    ------
    ValueError
        If the ends are no numbers, or the same.

    Examples
    --------
    >>> times = jax.vmap(lambda key: sample_time(key, 2.0, 1.0))(jax.random.split(jax.random.key(0), 1000))
    >>> bool(times.max() <= 2.0), bool(times.min() > 1.0), round(float(times.mean()), 1)
    (True, True, 1.5)
    """
    interval(t0, t1)
    t0, t1 = (jnp.asarray(t, jnp.result_type(t0, t1, float)) for t in (t0, t1))
    return t0 + (t1 - t0) * (1 - END) * jax.random.uniform(key, dtype=t0.dtype)


class SampledStep(NamedTuple):
    """A point of a solve, and the accepted step in which it is. Constants for every derivative."""

    t: Float[Array, ""]
    z: PyTree
    """The state there."""
    h: Float[Array, ""]
    """The length of the step, positive."""
    count: Int[Array, ""]
    """Accepted steps so far."""


class SamplingSolver(WatchingSolver):
    r"""Wraps a diffrax solver, and keeps one point of its solve: its state is the pair of the solver's and the point.

    With a `time` the point is there, by the solver's own interpolation. With a `key` it is the start of an accepted
    step, each with the same probability: of :math:`n` steps so far, the last one takes the place with probability
    :math:`1/n`. Either takes the memory of one state, however many steps there are, and leaves the solution as it is.

    Parameters
    ----------
    solver
        Any.
    time, key
        One of them.
    """

    solver: diffrax.AbstractSolver[Any]
    time: Any = None
    key: Any = None

    def __check_init__(self) -> None:
        if (self.time is None) == (self.key is None):
            raise ValueError("A SamplingSolver needs a time or a key, and not both.")

    def start(self, terms: Any, t0: Any, y0: Any, args: Any) -> SampledStep:
        """The start, before any step."""
        del terms, args
        t0, y0 = jax.lax.stop_gradient((t0, y0))
        return SampledStep(t0, y0, jnp.zeros_like(t0), jnp.zeros((), jnp.int32))

    def watch(
        self, kept: SampledStep, terms: Any, t0: Any, t1: Any, y0: Any, y1: Any, error: Any, dense: Any, args: Any
    ) -> SampledStep:
        """The point, if it is of this step."""
        del terms, y1, error, args
        t0, t1, y0, dense = jax.lax.stop_gradient((t0, t1, y0, dense))
        if self.time is None:
            chance = jax.random.uniform(jax.random.fold_in(self.key, kept.count))
            here = chance * (kept.count + 1) < 1
            t, z = t0, y0
        else:
            time = jax.lax.stop_gradient(self.time)
            here = (t0 <= time) & (time < t1)
            t = jnp.clip(time, t0, t1)
            z = self.solver.interpolation_cls(t0=t0, t1=t1, **dense).evaluate(t)
        pick = lambda new, old: jnp.where(here, new, old)
        return SampledStep(pick(t, kept.t), jax.tree.map(pick, z, kept.z), pick(t1 - t0, kept.h), kept.count + 1)


def constant(tree: PyTree) -> PyTree:
    """The same numbers, without derivatives."""
    arrays, rest = eqx.partition(tree, eqx.is_inexact_array)
    return eqx.combine(jax.lax.stop_gradient(arrays), rest)
