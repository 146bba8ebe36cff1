"""What else one can do with a kernel: a ridge that is tuned, and descent that is stopped early."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn import kernel_ridge, model_selection

from .tuning import Task, mean_square

#: Ridges that are tried, and numbers of steps of descent.
RIDGES = np.logspace(-3, 3, 61)
STOPS = np.unique(np.round(np.logspace(0, 5, 101)))


@dataclass(frozen=True)
class Rival:
    """A model that was chosen by what one may know, and its errors."""

    how: str
    """What was chosen."""
    validation: float
    test: float


def best(what: str, tried: Any, errors: Any) -> Rival:
    """The model of least validation error; `errors` has its validation and test error in each row."""
    at = int(np.argmin(np.asarray(errors)[:, 0]))
    return Rival(f"{what} {tried[at]:.3g}", *map(float, errors[at]))


@jax.jit
def _filtered(K: Any, K_val: Any, K_test: Any, task: Task) -> tuple[Any, Any]:
    d, V = jnp.linalg.eigh(K)
    d = jnp.maximum(d, 0.0)
    Z = (V.T @ task.Y).T

    def errors(factors: Any) -> Any:
        dual_coef = V @ (Z * factors).T
        return jnp.stack([mean_square(K_val @ dual_coef, task.Y_val), mean_square(K_test @ dual_coef, task.Y_test)])

    # descent on the squared error from zero, with the step 1 / d_1: of each eigenvalue it has done 1 - (1 - d)^m
    rest = -jnp.expm1(STOPS[:, None] * jnp.log1p(-jnp.minimum(d / d[-1], 1 - 1e-15)))
    stopped = jnp.where(d > 1e-12 * d[-1], rest / jnp.where(d > 0, d, 1.0), STOPS[:, None] / d[-1])
    return jax.lax.map(errors, 1 / (d + RIDGES[:, None])), jax.lax.map(errors, stopped)


def of_kernel(kernels: tuple[Any, ...], task: Task) -> dict[str, Rival]:
    """Ridge regression tuned on the validation sample, and by cross-validation; gradient descent stopped early."""
    ridges, stops = map(np.asarray, _filtered(*kernels, task))
    search = model_selection.GridSearchCV(
        kernel_ridge.KernelRidge(kernel="precomputed"),
        {"alpha": RIDGES[::5]},
        scoring="neg_mean_squared_error",
        cv=model_selection.KFold(5, shuffle=True, random_state=0),
    )
    K, K_val, K_test = kernels
    search.fit(K, np.asarray(task.Y))
    errors = [
        float(np.mean((search.predict(new) - np.asarray(Y)) ** 2))
        for new, Y in ((K_val, task.Y_val), (K_test, task.Y_test))
    ]
    return {
        "tuned ridge": best("ridge", RIDGES, ridges),
        "cross-validated ridge": Rival(f"ridge {search.best_params_['alpha']:.3g}", *errors),
        "stopped descent": best("steps", STOPS, stops),
    }
