"""On the toy: the limit as a fixed point beside its closed form, and derivatives beside differences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import dini

from .data import TOY_GAMMA, TOY_RIDGE, toy
from .limit import limit_by_iteration
from .mixing import optimal_mixing_weight
from .spectral import SelfDistillation
from .tuning import Task

#: The weight, the ridge, and the kernel's parameter at which derivatives are compared.
AT = (0.35, TOY_RIDGE, TOY_GAMMA)
_PRECISE = dini.FixedPointIteration(rtol=0.0, atol=1e-13, max_steps=1000)


@dataclass(frozen=True)
class Exactness:
    """Relative errors, by what they are of."""

    limit: float
    """Of the fixed point, beside the closed form."""
    limit_derivatives: dict[str, float]
    """Of its error's derivatives."""
    weight_derivatives: dict[str, float]
    """Of the best weight of the second step, not clipped, beside central differences."""
    step_derivatives: dict[str, float]
    """Of the third step's error, beside central differences."""


def _figures(at: Any, task: Task) -> Any:
    """Half of the squared distance of the limit from the targets, by iteration and in closed form.

    Then the best weight of the second step, and the third step's error.
    """
    alpha, ridge, gamma = at
    K, K_new, _ = task.kernels(gamma)
    model = SelfDistillation.from_kernel(K, task.Y, ridge)
    limit = limit_by_iteration(model, alpha, solver=_PRECISE).x
    # ridge regression with the ridge λ / α, by JAX's own solve
    exact = K @ jnp.linalg.solve(K + ridge / alpha * jnp.eye(len(K)), task.Y)
    first = model.refit(task.Y)
    student = model.refit(first.fitted)
    weight = optimal_mixing_weight(first.predict(K_new), student.predict(K_new), task.Y_val, clip=None)
    third = jnp.mean((model.predict(K_new, jnp.full(2, alpha)) - task.Y_val) ** 2)
    distances = (0.5 * jnp.sum((fitted - task.Y) ** 2) for fitted in (limit, exact))
    return jnp.stack([*distances, weight, third]), jnp.linalg.norm(limit - exact) / jnp.linalg.norm(exact)


def exactness() -> Exactness:
    """Compare."""

    @jax.jit
    def both(at: Any, task: Task) -> Any:
        figures, pullback, limit = jax.vjp(lambda at: _figures(at, task), at, has_aux=True)
        return figures, jax.vmap(pullback)(jnp.eye(len(figures)))[0], limit

    at, task = np.asarray(AT), toy()
    _, slopes, limit = both(at, task)
    differences = []
    for step in 1e-5 * np.diag(at):
        above, below = (np.asarray(both(at + sign * step, task)[0]) for sign in (1, -1))
        differences.append((above - below) / (2 * step.sum()))
    slopes, differences = np.asarray(slopes), np.transpose(differences)

    def errors(found: np.ndarray, truth: np.ndarray) -> dict[str, float]:
        pairs = zip(("α", "λ", "γ"), found, truth, strict=True)
        return {name: float(abs(a - b) / abs(b)) for name, a, b in pairs if b != 0}

    return Exactness(
        float(limit), errors(slopes[0], slopes[1]), errors(slopes[2], differences[2]), errors(slopes[3], differences[3])
    )
