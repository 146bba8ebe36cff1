"""A training loop: scanned, compiled, in batches that a key draws, for any Equinox model and optax transformation."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Int

from .checking import one_length, within


@dataclass(frozen=True)
class Course[M]:
    """A model that was trained, and how. Of several models side by side, every array has an axis for them in front."""

    model: M
    average: M | None
    """The exponential moving average of the weights, if it was asked for."""
    loss: np.ndarray
    """On the batch of each step, before it."""
    aux: Any
    """What the loss returned beside its value, at each step."""
    watched: Any
    """What `watch` returned, before training and after every so many steps."""
    state: Any
    """The optimizer's."""
    carried: Any
    """What the loss carried from step to step, after the last one."""
    seconds: float
    """What the steps took. The first few, which may wait for a compilation, count as the others do."""

    def lane(self, i: int) -> Course[M]:
        """One of several models that were trained side by side."""
        pick = lambda tree: jax.tree.map(lambda leaf: leaf[i] if eqx.is_array(leaf) else leaf, tree)
        return Course(
            *map(pick, (self.model, self.average, self.loss, self.aux, self.watched, self.state, self.carried)),
            self.seconds,
        )


def batches(key: Array, count: int, size: int, steps: int) -> Int[Array, "steps size"]:
    """Indices of each step's examples: pass after pass through `count` of them, each in an order of its own."""
    if not 0 < size <= count:
        raise ValueError(f"batch must be from 1 to {count}, the number of examples: given {size}.")
    passes = -(-steps * size // count)
    orders = jax.vmap(lambda key: jax.random.permutation(key, count))(jax.random.split(key, passes))
    return orders.reshape(-1)[: steps * size].reshape(steps, size)


_batches = jax.jit(batches, static_argnums=(1, 2, 3))


class Trainer[M]:
    """Takes a model through so many steps of an optax transformation.

    Steps are compiled in chunks, once for all models of one structure: call one trainer for all seeds. `together`
    trains several models side by side in one program, which for small ones takes little longer than one.

    Parameters
    ----------
    loss
        `loss(model, batch, key)`: a number, or with `aux` a pair of it and a tree of figures. `batch` is a tree of
        arrays like the data, or `None` where there are none.
    optimizer
        An optax transformation. One that asks for them is given `value`, `grad` and `value_fn`.
    steps
        In all.
    batch
        Examples a step; all of them, in their order, if it is not given.
    every
        Steps in one compiled loop, after which the model is watched and progress is reported; it divides `steps`. About
        a tenth of them if it is not given.
    watch
        `watch(model)`: a tree of figures. Anything random in it needs a key of its own. It sees the average of the
        weights where there is one. A function that `jax.jit` has compiled is shared by trainers that watch alike.
    gradient
        `gradient(model, batch, key)`: `((loss, aux), slope)`, in place of JAX's derivative of `loss`: for gradients of
        single examples, say. `slope` has the form of the model's arrays of floats.
    average
        The decay of an exponential moving average of the weights, such as 0.999.
    aux
        Whether `loss` returns a pair.
    carries
        Whether the loss has a state of its own, such as a running mean: `loss(model, batch, key, carried)` returns
        the pair of its value and the next state, with `aux` its value and the pair of state and figures. It has no
        derivative, and the same shapes in each step. `gradient` is given it too.
    finite
        Whether to raise `FloatingPointError` where a loss is not finite. A training that is meant to diverge sets it
        to False.

    Examples
    --------
    >>> import jax, optax, equinox as eqx, jax.numpy as jnp
    >>> x = jnp.linspace(-1, 1, 32)[:, None]
    >>> def loss(model, batch, key):
    ...     x, y = batch
    ...     return jnp.mean((jax.vmap(model)(x) - y) ** 2)
    >>> trainer = Trainer(loss, optax.adam(0.1), steps=200, batch=8)
    >>> course = trainer(eqx.nn.Linear(1, 1, key=jax.random.key(0)), (x, 2 * x + 1), key=jax.random.key(1))
    >>> bool(abs(course.model.weight[0, 0] - 2) < 1e-2), course.loss.shape
    (True, (200,))
    """

    def __init__(
        self,
        loss: Callable[..., Any],
        optimizer: optax.GradientTransformation,
        *,
        steps: int,
        batch: int | None = None,
        every: int | None = None,
        watch: Callable[[M], Any] | None = None,
        gradient: Callable[..., Any] | None = None,
        average: float | None = None,
        aux: bool = False,
        carries: bool = False,
        finite: bool = True,
    ):
        if steps < 1:
            raise ValueError(f"steps must be at least 1: given {steps}.")
        if every is None:
            every = max(size for size in range(1, max(steps // 10, 1) + 1) if steps % size == 0)
        if every < 1 or steps % every:
            raise ValueError(f"every must divide steps, {steps}: given {every}.")
        self.loss, self.steps, self.batch, self.every = loss, steps, batch, every
        self.optimizer = optax.with_extra_args_support(optimizer)
        self.watch, self.average, self.finite = watch, average, finite
        pair = aux or carries
        derivative = eqx.filter_value_and_grad(loss, has_aux=pair)

        def slope(model: M, batch: Any, key: Array, *carried: Any) -> Any:
            found, gradient = derivative(model, batch, key, *carried)
            return (found if pair else (found, None)), gradient

        self._slope = gradient or slope
        self._aux, self._carries, self._first = aux, carries, threading.Lock()
        self._one = eqx.filter_jit(self._chunk)
        lanes = (eqx.if_array(0), eqx.if_array(0), eqx.if_array(0), eqx.if_array(0), None, 0, 0)
        self._many = eqx.filter_jit(eqx.filter_vmap(self._chunk, in_axes=lanes))
        # what is compiled already is shared with others who watch in the same way
        self._look = watch if watch is None or hasattr(watch, "lower") else eqx.filter_jit(watch)
        self._looks = None if watch is None else eqx.filter_jit(eqx.filter_vmap(watch, in_axes=(eqx.if_array(0),)))

    def __call__(
        self,
        model: M,
        data: Any = None,
        *,
        key: Array,
        order: Any = None,
        step_keys: Any = None,
        state: Any = None,
        carried: Any = None,
        advance: Callable[[int], None] = lambda steps: None,
    ) -> Course[M]:
        """Train a model on `data`, a tree of arrays with the examples along their first axes.

        `order`, an array of shape `(steps, batch)`, says which examples each step sees; else the key draws it, and with
        it a key for each step, which `step_keys` replaces. Raises `ValueError` where the arrays differ in length, or an
        index is of no example.
        `state` is the optimizer's, if training goes on, and `carried` the first state of a loss that has one. `advance`
        is called after every few steps.
        """
        state = self.optimizer.init(eqx.filter(model, eqx.is_inexact_array)) if state is None else state
        order, keys = self._drawn(key, data, order)
        keys = keys if step_keys is None else step_keys
        return self._train(self._one, self._look, (model, state, carried), data, order, keys, advance)

    def together(
        self,
        models: M,
        data: Any = None,
        *,
        keys: Array,
        order: Any = None,
        state: Any = None,
        carried: Any = None,
        advance: Callable[[int], None] = lambda steps: None,
    ) -> Course[M]:
        """Train several models side by side: `eqx.filter_vmap(make)(keys)` makes them, an axis in front of each array.

        All see the same data, each with a key of its own, and so in an order of its own. `state` is the optimizer's, as
        :meth:`initial` makes it: with `optax.inject_hyperparams` each may have a learning rate of its own in it.
        `carried` has an axis for the models in front as well.
        """
        state = self.initial(models) if state is None else state
        drawn = [self._drawn(key, data, None if order is None else order[i]) for i, key in enumerate(keys)]
        orders, step_keys = (jnp.stack(parts) for parts in zip(*drawn, strict=True))
        return self._train(self._many, self._looks, (models, state, carried), data, orders, step_keys, advance)

    def initial(self, models: M) -> Any:
        """The optimizer's state for several models side by side."""
        return eqx.filter_vmap(lambda model: self.optimizer.init(eqx.filter(model, eqx.is_inexact_array)))(models)

    def _drawn(self, key: Array, data: Any, order: Any) -> tuple[Array, Array]:
        """Which examples each step sees, and each step's key."""
        for_order, for_steps = jax.random.split(key)
        keys = jax.random.split(for_steps, self.steps)
        if order is not None:
            if len(order) != self.steps:
                raise ValueError(f"order must have a row for each of the {self.steps} steps: given {np.shape(order)}.")
            within("order", order, one_length("data", data))
            return jnp.asarray(order), keys
        if data is None or self.batch is None:
            return jnp.zeros((self.steps, 0), int), keys
        return _batches(for_order, one_length("data", data), self.batch, self.steps), keys

    def _chunk(self, model: M, state: Any, average: Any, memory: Any, data: Any, order: Array, keys: Array) -> Any:
        params, static = eqx.partition(model, eqx.is_inexact_array)

        def step(carried: Any, given: Any) -> Any:
            params, state, average, memory = carried
            more = (memory,) if self._carries else ()
            indices, key = given
            batch = jax.tree.map(lambda leaf: leaf[indices], data) if indices.size else data
            model = eqx.combine(params, static)
            (value, aux), slope = self._slope(model, batch, key, *more)

            def value_of(params: Any) -> Array:
                found = self.loss(eqx.combine(params, static), batch, key, *more)
                return found[0] if self._aux or self._carries else found

            updates, state = self.optimizer.update(slope, state, params, value=value, grad=slope, value_fn=value_of)
            params = optax.apply_updates(params, updates)
            if average is not None:
                average = jax.tree.map(lambda a, p: self.average * a + (1 - self.average) * p, average, params)
            if self._carries:
                memory, aux = aux if self._aux else (aux, None)
            return (params, state, average, memory), (value, aux)

        start = (params, state, average, memory)
        (params, state, average, memory), (values, aux) = jax.lax.scan(step, start, (order, keys))
        return eqx.combine(params, static), state, average, memory, values, aux

    def _train(
        self, chunk: Any, look: Any, start: tuple[M, Any, Any], data: Any, order: Array, keys: Array, advance: Any
    ) -> Course[M]:
        model, state, memory = start
        if (memory is not None) != self._carries:
            raise ValueError(
                f"A loss with a state of its own needs `carries=True` and its first state as `carried`: given "
                f"carries={self._carries} and {'no' if memory is None else 'a'} first state."
            )
        memory = jax.tree.map(jnp.asarray, memory)
        data = jax.tree.map(jnp.asarray, data)
        average = None if self.average is None else eqx.filter(model, eqx.is_inexact_array)
        static = eqx.filter(model, eqx.is_inexact_array, inverse=True)
        averaged = lambda: None if average is None else eqx.combine(average, static)
        watched = [] if look is None else [look(model)]
        lanes = order.ndim == 3
        values, auxes, seconds = [], [], []
        for i in range(0, self.steps, self.every):
            part = (slice(None), slice(i, i + self.every)) if lanes else slice(i, i + self.every)
            given = (model, state, average, memory, data, order[part], keys[part])
            begin = time.perf_counter()
            # threads that share a trainer compile its program once
            with self._first if not i else contextlib.nullcontext():
                model, state, average, memory, value, aux = chunk(*given)
                values.append(np.asarray(value))
            seconds.append(time.perf_counter() - begin)
            auxes.append(jax.tree.map(np.asarray, aux))
            if self.finite and not np.all(np.isfinite(values[-1])):
                bad = i + int(np.argmax(~np.isfinite(values[-1]).reshape(-1, self.every).all(axis=0)))
                raise FloatingPointError(f"The loss is not finite at step {bad} of {self.steps}.")
            if look is not None:
                watched.append(look(model if average is None else averaged()))
            advance(self.every)
        axis = 1 if lanes else 0
        joined = lambda *parts: np.concatenate(parts, axis=axis)
        return Course(
            model=model,
            average=averaged(),
            loss=joined(*values),
            aux=jax.tree.map(joined, *auxes),
            watched=jax.tree.map(lambda *parts: np.stack(parts, axis=axis), *watched) if watched else None,
            state=state,
            carried=memory,
            # the first part may have been compiled: it counts as the others do
            seconds=len(seconds) * (sum(seconds[1:]) / (len(seconds) - 1) if len(seconds) > 1 else seconds[0]),
        )
