r"""Ridge and kernel chosen by validation error: along a grid, and by hypergradient descent.

The outer objective is the squared error on held-out points of a model that is itself the answer of a solve,

.. math:: \min_{\lambda, \gamma} \; \tfrac1m \| k_\gamma(X_{val}, X) \, \beta(\lambda, \gamma) - Y_{val} \|^2 ,

where :math:`\beta` is the plain fit, or the last step of a self-distillation whose weights are the best ones for each
:math:`\lambda` and :math:`\gamma`, or free, too. dini differentiates the solves and the weights, and descends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import dini

from .ridge import Targets, kernel_ridge_fit, squared_distances
from .spectral import SelfDistillation


class Task(NamedTuple):
    """A regression, as squared distances between its points."""

    D: Float[Array, "n n"]
    D_val: Float[Array, "m n"]
    D_test: Float[Array, "l n"]
    Y: Targets
    Y_val: Float[Array, " m *c"]
    Y_test: Float[Array, " l *c"]

    @classmethod
    def of(cls, train: tuple[Any, Any], validation: tuple[Any, Any], test: tuple[Any, Any]) -> Task:
        """From points and their targets."""
        (X, Y), (X_val, Y_val), (X_test, Y_test) = train, validation, test
        return cls(*_distances(X, X_val, X_test), *map(jnp.asarray, (Y, Y_val, Y_test)))

    def kernels(self, gamma: Any) -> tuple[Array, Array, Array]:
        """Gaussian kernels of the training points with themselves, and of the others with them."""
        return jnp.exp(-gamma * self.D), jnp.exp(-gamma * self.D_val), jnp.exp(-gamma * self.D_test)


@jax.jit
def _distances(X: Array, X_val: Array, X_test: Array) -> tuple[Array, Array, Array]:
    inner, to_val, to_test = (squared_distances(Z, X) for Z in (X, X_val, X_test))
    return (inner + inner.T) / 2, to_val, to_test


#: Of the ridge and of the kernel's parameter; what follows are weights.
Logarithms = Sequence[Array] | Float[Array, " d"]


class Errors(NamedTuple):
    """Mean squared errors."""

    validation: Array
    test: Array


def mean_square(predictions: Array, targets: Array) -> Array:
    """Over points and outputs."""
    return jnp.mean((predictions - targets) ** 2)


def plain(x: Logarithms, task: Task) -> Errors:
    """Of ridge regression; `x` is the logarithms of the ridge and of the kernel's parameter."""
    K, K_val, K_test = task.kernels(jnp.exp(x[1]))
    fit = kernel_ridge_fit(K, task.Y, jnp.exp(x[0]))
    return Errors(mean_square(fit.predict(K_val), task.Y_val), mean_square(fit.predict(K_test), task.Y_test))


def _distilled(x: Logarithms, task: Task, alphas: Callable[[SelfDistillation, Array], Array]) -> Errors:
    K, K_val, K_test = task.kernels(jnp.exp(x[1]))
    model = SelfDistillation.from_kernel(K, task.Y, jnp.exp(x[0]))
    dual_coef = model.dual_coef(alphas(model, K_val))
    return Errors(mean_square(K_val @ dual_coef, task.Y_val), mean_square(K_test @ dual_coef, task.Y_test))


def greedy(x: Logarithms, task: Task, steps: int) -> Errors:
    """Of the last step of a self-distillation with the best weights for this ridge and kernel."""
    return _distilled(x, task, lambda model, K_val: model.greedy_weights(K_val, task.Y_val, steps))


def joint(x: Logarithms, task: Task) -> Errors:
    """Of the last step of a self-distillation; what `x` has beyond the two logarithms is its weights."""
    return _distilled(x, task, lambda model, K_val: jnp.asarray(x[2:]))


@dataclass(frozen=True)
class Search:
    """What a search tried, and where it ended."""

    best: np.ndarray
    """Logarithms of ridge and kernel, and weights if they were free."""
    validation: float
    test: float
    tried: np.ndarray
    """Points of the search, in order."""
    evaluations: int
    """Of the validation error, with its derivative in a descent."""
    seconds: float
    status: str = "all tried"
    """How it ended."""


def grid_search(errors: Callable[[Any, Task], Errors], task: Task, ridges: Any, gammas: Any) -> tuple[Search, Errors]:
    """Try all pairs of logarithms; the errors of each, kernels in rows, come with it."""

    @jax.jit
    def row(gamma: Array, ridges: Array, task: Task) -> Errors:  # what depends on the kernel alone is done once
        return jax.vmap(lambda ridge: errors((ridge, gamma), task))(ridges)

    ridges, gammas = np.asarray(ridges, float), np.asarray(gammas, float)
    program = row.lower(gammas[0], ridges, task).compile()
    start = time.perf_counter()
    rows = [program(gamma, ridges, task) for gamma in gammas]
    found = Errors(*(np.stack(parts) for parts in zip(*rows, strict=True)))
    seconds = time.perf_counter() - start
    i, j = np.unravel_index(np.argmin(found.validation), found.validation.shape)
    tried = np.stack([np.tile(ridges, len(gammas)), np.repeat(gammas, len(ridges))], axis=1)
    best = np.array([ridges[j], gammas[i]])
    at = float(found.validation[i, j]), float(found.test[i, j])
    return Search(best, *at, tried, len(tried), seconds), found


def descend(
    errors: Callable[[Any, Task], Errors],
    task: Task,
    start: Any,
    *,
    max_steps: int,
    shares: int = 0,
    advance: Callable[[int], None] = lambda steps: None,
) -> Search:
    """Descend the validation error by hypergradients, from a start.

    BFGS; with `shares`, the last so many numbers are weights from 0 to 1, and L-BFGS-B keeps them there. A search that
    has taken all of its steps ends where it is: `status` says so.
    """
    free = len(start) - shares
    how: dict[str, Any] = {"solver": dini.BFGS(max_steps=max_steps, rtol=1e-4)}
    if shares:
        bounds = (np.r_[np.full(free, end), np.full(shares, side)] for end, side in ((-np.inf, 0.0), (np.inf, 1.0)))
        solver = dini.LBFGSB(max_steps=max_steps, rtol=1e-4)
        how = {"solver": solver, "constraint": dini.sets.Box(*bounds)}
    seen: list[np.ndarray] = []

    def see(info: dict[str, Any]) -> None:
        seen.append(np.array(info["x"]))
        advance(1)

    def search(start: Array, task: Task) -> tuple[dini.Solution, Errors]:
        value = lambda x, task: errors(x, task).validation
        found = dini.minimize(value, start, task, on_failure="ignore", monitor=dini.Callback(see), **how)
        return found, errors(found.x, task)

    start = jnp.asarray(start, task.D.dtype)
    program = jax.jit(search).lower(start, task).compile()
    begin = time.perf_counter()
    solution, at = jax.block_until_ready(program(start, task))
    return Search(
        best=np.asarray(solution.x),
        validation=float(at.validation),
        test=float(at.test),
        tried=np.stack([np.asarray(start), *seen]),
        evaluations=int(solution.stats.steps) + 1,
        seconds=time.perf_counter() - begin,
        status=dini.Status(int(solution.status)).name.lower(),
    )
