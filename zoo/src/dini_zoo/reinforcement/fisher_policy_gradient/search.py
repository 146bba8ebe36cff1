"""Search: a published optimizer with the samples that it asks for, as one loop that can be mapped and compiled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Key

from dini_zoo.kit.checking import at_least, known

from .tasks import Task
from .transport import harpg_midpoint, igt_lookahead, lookahead_norm, transport_state


class Estimated(NamedTuple):
    """What an iteration gives an optimizer."""

    gradient: Any
    transport: Any
    """Or `None`."""
    samples: Any
    """All that were drawn, along the first axis."""


class Oracle:
    """Where an optimizer wants its samples, and what it is given of them."""

    #: The least number of samples.
    least = 1

    def __call__(self, task: Task, key: Any, params: Any, state: Any, baseline: Any, count: int) -> Estimated:
        """Draw samples and make estimates of them."""
        raise NotImplementedError


class AtParameters(Oracle):
    """Gradients at the parameters: plain, normalized and momentum methods."""

    def __call__(self, task: Task, key: Any, params: Any, state: Any, baseline: Any, count: int) -> Estimated:
        """Draw samples and make estimates of them."""
        samples = task.draw(key, params, count)
        return Estimated(task.mean_gradient(params, samples, baseline), None, samples)


class AtLookahead(Oracle):
    """Gradients at :func:`igt_lookahead`."""

    def __call__(self, task: Task, key: Any, params: Any, state: Any, baseline: Any, count: int) -> Estimated:
        """Draw samples and make estimates of them."""
        ahead = igt_lookahead(params, state)
        samples = task.draw(key, ahead, count)
        return Estimated(task.mean_gradient(ahead, samples, baseline), None, samples)


def _product(task: Task, params: Any, sample: Any, tangent: Any, baseline: Any) -> Any:
    return task.hvp(params, sample, tangent, baseline)


@dataclass(frozen=True)
class AtMidpoint(Oracle):
    """Gradients at the parameters of half of the samples, and curvature along the last move of the other half.

    Each of the other half has a midpoint of its own: the mean is one of independent estimates.
    """

    hvp: Callable[..., Any] = _product
    """`hvp(task, params, sample, tangent, baseline)`, of one sample."""
    least = 2

    def __call__(self, task: Task, key: Any, params: Any, state: Any, baseline: Any, count: int) -> Estimated:
        """Draw samples and make estimates of them."""
        one, other = jax.random.split(key)
        samples = task.draw(one, params, count - count // 2)

        def single(key: Any) -> tuple[Any, Any]:
            where, onward = jax.random.split(key)
            middle = harpg_midpoint(where, params, state)
            sample = task.sample(onward, middle.params)
            return sample, self.hvp(task, middle.params, sample, middle.move, baseline)

        others, products = jax.vmap(single)(jax.random.split(other, count // 2))
        transport = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), products)
        both = jax.tree.map(lambda *parts: jnp.concatenate(parts), samples, others)
        return Estimated(task.mean_gradient(params, samples, baseline), transport, both)


class ByWeights(Oracle):
    """Gradients at the parameters, and of the same samples at the previous ones with importance weights."""

    def __call__(self, task: Task, key: Any, params: Any, state: Any, baseline: Any, count: int) -> Estimated:
        """Draw samples and make estimates of them."""
        samples = task.draw(key, params, count)
        change = task.mean_change(params, transport_state(state).previous, samples, baseline)
        return Estimated(task.mean_gradient(params, samples, baseline), change, samples)


class Path(NamedTuple):
    """What a search went through, iterations along the first axis."""

    params: Any
    r""":math:`\theta_t`, before the step of iteration `t`."""
    estimate: Any
    r""":math:`d_t`, the estimate of :math:`\nabla J(\theta_t)`."""
    lookahead: Float[Array, " T"]
    """How far the point of :func:`igt_lookahead` is from the parameters, whether or not it is used."""
    finite: Bool[Array, " T"]
    """Whether all estimates so far were finite."""


class Found(NamedTuple):
    """The end of a search, and its path."""

    params: Any
    state: Any
    path: Path


def search(
    task: Task,
    optimizer: optax.GradientTransformationExtraArgs,
    oracle: Oracle,
    params: Any,
    key: Key[Array, ""],
    *,
    steps: int,
    samples: int,
    keep: float = 0.8,
) -> Found:
    r"""Search along estimates of a gradient.

    What the task fits to samples, such as a policy's baseline, is first fitted on samples that are drawn for it before
    the first iteration, as many as in one: without it the first curvatures may be too noisy to recover from. After each
    iteration it is `keep` of what it was, and the rest of what fits the samples of this iteration, so that no sample
    meets a baseline that has seen it.

    Parameters
    ----------
    task
        A law and its estimates: :class:`PolicyTask` or :class:`ScoreTask`.
    optimizer
        One of this package's, such as `n_pg_igt(0.3)`, or a chain with :func:`transported_momentum` in it.
    oracle
        What the optimizer asks for: `AtLookahead()` for :func:`n_pg_igt`, `AtMidpoint()` for :func:`harpg` and
        :func:`n_harpg`, `ByWeights()` for :func:`storm_pg`, `AtParameters()` for the others.
    params
        :math:`\theta_0`.
    key
        For all samples.
    steps
        Iterations.
    samples
        In an iteration, all together: trajectories of a policy.
    keep
        The share of the old baseline.

    Returns
    -------
    Found
        It says with `path.finite` where something was not finite. Nothing is mended or clipped.

    Raises
    ------
    ValueError
        For fewer steps or samples than there must be, or a share outside of [0, 1].

    Examples
    --------
    The mean of a normal law that brings its samples near to one:

    >>> from dini_zoo.reinforcement.fisher_policy_gradient import AtMidpoint, ScoreTask, n_harpg, search
    >>> task = ScoreTask(
    ...     draw_one=lambda key, t: t + jax.random.normal(key),
    ...     value_and_grad=lambda t, z: ((z - 1) ** 2, 0 * t),
    ...     log_density=lambda t, z: -0.5 * (z - t) ** 2,
    ... )
    >>> found = search(task, n_harpg(1.0, maximize=False), AtMidpoint(), 0.0, jax.random.key(0), steps=200, samples=20)
    >>> print(bool(abs(found.params - 1) < 0.1), found.path.params.shape)
    True (200,)
    """
    at_least("steps", steps, 1)
    at_least("samples", samples, oracle.least)
    if known(keep) and not 0 <= keep <= 1:
        raise ValueError(f"keep must be from 0 to 1: given {keep}.")
    params = jax.tree.map(jnp.asarray, params)

    def iteration(carry: Any, key: Any) -> tuple[Any, Path]:
        params, state, baseline = carry
        ahead = lookahead_norm(params, state)
        gradient, transport, drawn = oracle(task, key, params, state, baseline, samples)
        extra = {} if transport is None else {"transport": transport}
        updates, state = optimizer.update(gradient, state, params, **extra)
        baseline = jax.tree.map(lambda old, new: keep * old + (1 - keep) * new, baseline, task.fit(params, drawn))
        own = transport_state(state)
        return (optax.apply_updates(params, updates), state, baseline), Path(params, own.momentum, ahead, own.finite)

    before, onward = jax.random.split(key)
    baseline = task.fit(params, task.draw(before, params, samples))
    carry = (params, optimizer.init(params), baseline)
    (params, state, _), path = jax.lax.scan(iteration, carry, jax.random.split(onward, steps))
    return Found(params, state, path)
