"""Runs that spend the same number of costly gradients: the method, and what takes one step for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

import dini

from .checks import Targets
from .inner import Armijo, as_solver, evaluated
from .method import SSO, per_example
from .stepsizes import TargetSearch


@dataclass(frozen=True)
class Task:
    """What is learned, and from what."""

    predict: Callable[[Any, Any], Targets]
    loss: Callable[[Targets, Any], Array]
    """Of each example."""
    draw: Callable[[Any, Any], Any]
    """Takes the parameters and an item of the run's order to a batch."""
    watch: Callable[[Any, Any], Any]
    """Takes the parameters before a step and the step's batch to what is recorded."""
    tol: float = 1e-6
    """The norm of a surrogate's gradient at which inner steps end."""

    def mean(self, params: Any, batch: Any) -> Float[Array, ""]:
        """The loss of a batch."""
        return jnp.mean(self.loss(self.predict(params, batch), batch))


def surrogates(task: Task, inner: Armijo, params: Any, items: Any, eta: Any, steps: Any) -> tuple[Any, Array, Array]:
    """One run of the method: what was watched, evaluations of the model, and the last step size in target space."""
    sso = SSO(task.predict, per_example(task.loss), eta, steps, inner, loss=task.loss, tol=task.tol)

    def step(carried: Any, item: Any) -> Any:
        params, state = carried
        batch = task.draw(params, item)
        seen = task.watch(params, batch)
        params, state, _ = sso.update(params, state, batch)
        return (params, state), seen

    example = task.draw(params, jax.tree.map(lambda leaf: leaf[0], items))
    (last, state), seen = jax.lax.scan(step, (params, sso.init(params, example)), items)
    return _ended(task, last, items, seen), state.evaluations, state.eta


def descent(task: Task, params: Any, items: Any, rate: Any, adaptive: Any) -> Array:
    """One run of Adam, if it is to be adaptive, or of gradient descent: what was watched.

    Both are one program, since what it costs to compile is the gradient.
    """
    rules = optax.sgd(rate), optax.adam(rate)

    def step(carried: Any, item: Any) -> Any:
        params, states = carried
        batch = task.draw(params, item)
        seen = task.watch(params, batch)
        gradient = jax.grad(task.mean)(params, batch)
        (plain, one), (scaled, other) = (
            rule.update(gradient, state, params) for rule, state in zip(rules, states, strict=True)
        )
        updates = jax.tree.map(lambda u, v: jnp.where(adaptive, v, u), plain, scaled)
        return (optax.apply_updates(params, updates), (one, other)), seen

    (last, _), seen = jax.lax.scan(step, (params, tuple(rule.init(params) for rule in rules)), items)
    return _ended(task, last, items, seen)


def line_search(task: Task, inner: Armijo, params: Any, items: Any) -> tuple[Any, Array]:
    """One run of gradient descent with Armijo's search on the loss of each batch: what was watched, evaluations."""
    solver: Any = as_solver(inner)
    problem = dini.Minimize(task.mean)

    def step(carried: Any, item: Any) -> Any:
        params, state = carried
        batch = task.draw(params, item)
        seen = task.watch(params, batch)
        state = state._replace(step_size=jnp.full_like(state.step_size, inner.first / inner.expansion))
        new, after = solver.step(problem, params, state, batch)
        return (new, after), (seen, evaluated(solver, state, after))

    example = task.draw(params, jax.tree.map(lambda leaf: leaf[0], items))
    (last, _), (seen, spent) = jax.lax.scan(step, (params, solver.init(problem, params, example)), items)
    return _ended(task, last, items, seen), jnp.sum(spent)


def _ended(task: Task, params: Any, items: Any, seen: Any) -> Any:
    """What was watched before each step, and after the last one."""
    last = task.draw(params, jax.tree.map(lambda leaf: leaf[-1], items))
    end = task.watch(params, last)
    return jax.tree.map(lambda all, one: jnp.concatenate([all, one[None]]), seen, end)


@dataclass(frozen=True)
class Race:
    """One method with each of its step sizes, from each seed."""

    rates: tuple[float, ...]
    course: Float[np.ndarray, "rates seeds steps"]
    """The loss before each step and after the last."""
    evaluations: Float[np.ndarray, "rates seeds"]
    """Of the model in inner steps."""

    @property
    def ends(self) -> Float[np.ndarray, "rates seeds"]:
        """The last losses; infinite where a run has diverged."""
        return np.where(np.isfinite(self.course[..., -1]), self.course[..., -1], np.inf)

    @property
    def best(self) -> int:
        """The step size whose last losses are least in the mean."""
        return int(np.argmin(self.ends.mean(axis=1)))

    @property
    def final(self) -> Float[np.ndarray, " seeds"]:
        """The last losses with that step size."""
        return self.ends[self.best]

    @property
    def rate(self) -> float:
        """That step size."""
        return self.rates[self.best]


def orders(count: int, batch: int, steps: int, random: np.random.Generator) -> np.ndarray:
    """Which examples each step sees: whole permutations in batches, what is left over dropped."""
    whole = count // batch
    epochs = -(-steps // whole)
    shuffled = [random.permutation(count)[: whole * batch].reshape(whole, batch) for _ in range(epochs)]
    return np.concatenate(shuffled)[:steps]


def stacked(trees: Sequence[Any]) -> Any:
    """Trees of one shape side by side."""
    return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *trees)


class Contest:
    """A task's runs as compiled programs, each of which serves all step sizes and numbers of inner steps."""

    def __init__(self, task: Task, inner: Armijo, starts: Sequence[Any], items: Sequence[Any]):
        self.starts, self.items = list(starts), list(items)
        self._method = jax.jit(lambda *given: surrogates(task, inner, *given))
        self._search = jax.jit(lambda params, items: line_search(task, inner, params, items))
        # a program for each search, which serves all seeds
        self._searched = jax.jit(
            lambda params, items, steps, search: surrogates(task, inner, params, items, search, steps),
            static_argnames="search",
        )
        runs = jax.vmap(lambda *given: descent(task, *given), (None, None, 0, 0))
        self._descents = jax.jit(jax.vmap(runs, (0, 0, None, None)))

    def method(self, eta: float, steps: int, seed: int) -> tuple[Any, int, float]:
        """What the method has watched with a step size, evaluations of the model, and the step size itself."""
        return self._numbers(self._method(self.starts[seed], self.items[seed], float(eta), steps))

    def searched(self, search: TargetSearch, steps: int, seed: int) -> tuple[Any, int, float]:
        """The same with a search in target space, and the last step size that it has found."""
        return self._numbers(self._searched(self.starts[seed], self.items[seed], steps, search=search))

    @staticmethod
    def _numbers(found: tuple[Any, Array, Array]) -> tuple[Any, int, float]:
        return jax.tree.map(np.asarray, found[0]), int(found[1]), float(found[2])

    def search(self, seed: int) -> tuple[Any, int]:
        """What stochastic gradient descent with a line search has watched, and evaluations of the model."""
        seen, spent = self._search(self.starts[seed], self.items[seed])
        return jax.tree.map(np.asarray, seen), int(spent)

    def descents(self, plain: Sequence[float], adaptive: Sequence[float]) -> tuple[Any, Any]:
        """What gradient descent and Adam have watched with their rates: rates along the first axis, then seeds."""
        rates, flags = jnp.asarray([*plain, *adaptive], float), jnp.arange(len(plain) + len(adaptive)) >= len(plain)
        seen = self._descents(stacked(self.starts), stacked(self.items), rates, flags)
        swapped = jax.tree.map(lambda leaf: np.swapaxes(np.asarray(leaf), 0, 1), seen)
        cut = len(plain)
        return jax.tree.map(lambda leaf: leaf[:cut], swapped), jax.tree.map(lambda leaf: leaf[cut:], swapped)
