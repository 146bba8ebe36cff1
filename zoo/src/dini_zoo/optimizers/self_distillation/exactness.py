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


def _model(ridge: Any, gamma: Any, task: Task) -> tuple[SelfDistillation, Any]:
    K, K_new, _ = task.kernels(gamma)
    return SelfDistillation.from_kernel(K, task.Y, ridge), K_new


def _by_iteration(at: Any, task: Task) -> tuple[Any, Any]:
    """Half of the squared distance of the limit from the targets, and the limit."""
    model, _ = _model(at[1], at[2], task)
    fitted = limit_by_iteration(model, at[0], solver=_PRECISE).x
    return 0.5 * jnp.sum((fitted - task.Y) ** 2), fitted


def _in_closed_form(at: Any, task: Task) -> tuple[Any, Any]:
    # ridge regression with the ridge λ / α, by JAX's own solve
    K, _, _ = task.kernels(at[2])
    fitted = K @ jnp.linalg.solve(K + at[1] / at[0] * jnp.eye(len(K)), task.Y)
    return 0.5 * jnp.sum((fitted - task.Y) ** 2), fitted


def _best_weight(at: Any, task: Task) -> Any:
    model, K_new = _model(at[1], at[2], task)
    first = model.refit(task.Y)
    student = model.refit(first.fitted)
    return optimal_mixing_weight(first.predict(K_new), student.predict(K_new), task.Y_val, clip=None)


def _third_step(at: Any, task: Task) -> Any:
    model, K_new = _model(at[1], at[2], task)
    return jnp.mean((model.predict(K_new, jnp.full(2, at[0])) - task.Y_val) ** 2)


def exactness() -> Exactness:
    """Compare."""
    at, task = jnp.asarray(AT), toy()
    both = jax.jit(
        lambda at: [jax.value_and_grad(fun, has_aux=True)(at, task) for fun in (_by_iteration, _in_closed_form)]
    )
    ((_, ours), slope), ((_, exact), truth) = both(at)
    limit = float(jnp.linalg.norm(ours - exact) / jnp.linalg.norm(exact))
    names = ("α", "λ", "γ")

    def errors(found: Any, truth: Any) -> dict[str, float]:
        found, truth = np.asarray(found), np.asarray(truth)
        return {name: float(abs(a - b) / abs(b)) for name, a, b in zip(names, found, truth, strict=True) if b != 0}

    def beside_differences(fun: Any) -> dict[str, float]:
        steps = 1e-5 * jnp.diag(at)
        around = jnp.concatenate([at + steps, at - steps])
        slope, values = jax.jit(lambda: (jax.grad(fun)(at, task), jax.lax.map(lambda at: fun(at, task), around)))()
        return errors(slope, (values[:3] - values[3:]) / (2 * jnp.diag(steps)))

    return Exactness(limit, errors(slope, truth), beside_differences(_best_weight), beside_differences(_third_step))
