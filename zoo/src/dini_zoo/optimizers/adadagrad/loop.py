"""Training with a batch that grows, step by step: any optax optimizer, any test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from ...kit.checking import one_length, trainable
from ..moments import Moments, Tree, directional_moments, gradient_moments
from .controller import Batches, BatchSizeController, Control

#: `test(found, along)`: what a batch's moments ask for; `along()` returns those of the inner products.
Test = Callable[[Moments, Callable[[], Moments]], Array]


class Training(NamedTuple):
    """What is carried from step to step."""

    params: Tree
    optimizer: Any
    """The optimizer's state."""
    control: Control
    samples: int
    """Seen so far."""


class Step(NamedTuple):
    """What a step tells."""

    size: int
    """Of its batch."""
    loss: float
    """The mean on its batch, before the step."""
    required: float
    """What the test asks for; zero where none was due."""


class GrowingBatch:
    """Takes steps on batches that a test makes larger.

    A step is taken before its batch's test counts: the test makes the *next* batch larger. It sees the gradients of
    the step's own examples, at the parameters before the step.

    Parameters
    ----------
    loss
        `loss(params, example)`: a number. The batch's loss is the mean of these.
    optimizer
        An optax transformation. One that asks for it is given `batch_size`.
    controller
        Of the sizes.
    test
        `test(found, along)`: the size that a batch's moments ask for. `along()` returns the moments of the inner
        products with the mean's direction, by one more pass through the batch. With `None` the batch stays as it is.
    micro_batch
        So many examples at a time, as in :func:`accumulate`.

    Examples
    --------
    >>> import jax.numpy as jnp, numpy as np, optax
    >>> from dini_zoo.optimizers.adadagrad import norm_test
    >>> x = np.random.default_rng(0).normal(3.0, 1.0, 1000)
    >>> loop = GrowingBatch(
    ...     lambda w, x: 0.5 * (w - x) ** 2,
    ...     optax.sgd(0.5),
    ...     BatchSizeController(2, 1000),
    ...     lambda found, along: norm_test(found, 0.5),
    ... )
    >>> batches = Batches(1000, np.random.default_rng(1))
    >>> state, steps = loop.init(jnp.zeros(())), []
    >>> while state.samples < 3000:
    ...     state, step = loop.step(state, x, batches)
    ...     steps.append(step)
    >>> steps[0].size, steps[-1].size, bool(abs(state.params - np.mean(x)) < 0.1)
    (2, 1000, True)
    """

    def __init__(
        self,
        loss: Callable[[Tree, Any], Array],
        optimizer: optax.GradientTransformation,
        controller: BatchSizeController,
        test: Test | None,
        *,
        micro_batch: int | None = None,
    ):
        self.loss, self.controller, self.test, self.micro_batch = loss, controller, test, micro_batch
        self.optimizer = optax.with_extra_args_support(optimizer)
        self._step = jax.jit(self._taken, static_argnames="due")

    def init(self, params: Tree) -> Training:
        """The state before the first step.

        Raises `TypeError` if `params` holds anything else than arrays of floats, as an Equinox module may.
        """
        trainable("params", params)
        return Training(params, self.optimizer.init(params), self.controller.init(), 0)

    def step(self, state: Training, data: Tree, batches: Batches) -> tuple[Training, Step]:
        """One step on the next batch of `data`, a tree of arrays with the examples along their first axes.

        Raises `ValueError` where `batches` are of another number of examples than `data` has, and where the test meets
        gradients that are not finite.
        """
        count = one_length("data", data)
        if batches.count != count:
            raise ValueError(f"batches must be of the {count} examples of the data: given Batches({batches.count}).")
        size = int(state.control.size)
        indices, weights = batches.draw(size)
        due = self.test is not None and bool(self.controller.due(state.control))
        params, optimizer, *figures = self._step(*state[:3], data, indices, weights, due=due)
        # numbers of the host from here on: the next step's shape depends on them
        control, value, required = jax.device_get(figures)
        if not control.sound:
            raise ValueError(f"The gradients of a batch of {size} are not finite after {state.samples} samples.")
        state = Training(params, optimizer, control, state.samples + size)
        return state, Step(size, float(value), float(required))

    def _taken(
        self, params: Tree, optimizer: Any, control: Control, data: Tree, indices: Array, weights: Array, *, due: bool
    ) -> tuple[Tree, Any, Control, Float[Array, ""], Float[Array, ""]]:
        batch = jax.tree.map(lambda leaf: jnp.asarray(leaf)[indices], data)
        how: dict[str, Any] = {"weights": weights, "micro_batch": self.micro_batch}
        found, value = gradient_moments(self.loss, params, batch, **how)
        slope = jax.tree.map(lambda g, p: g.astype(jnp.asarray(p).dtype), found.mean, params)
        along = lambda: directional_moments(self.loss, params, batch, found.direction, **how)
        required = self.test(found, along) if due and self.test is not None else jnp.zeros(())
        updates, optimizer = self.optimizer.update(slope, optimizer, params, batch_size=found.count)
        return (
            optax.apply_updates(params, updates),
            optimizer,
            self.controller.update(control, required),
            value,
            required,
        )
