"""Jacobians along a solver's path: implicit at each of its points, and of each point by unrolling."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import dini
from dini_zoo.kit.checking import at_least

from .ridge import Data, Exact, ridge


def iterates(theta: Float[Array, " p"], data: Data, solver: dini.Solver, steps: int) -> Float[Array, "steps p"]:
    """The points after 1, 2, … steps from zero. Differentiating them unrolls the solver."""
    x = jnp.zeros_like(theta)

    def step(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
        carry = solver.step(ridge, *carry, theta, *data)
        return carry, carry[0]

    return jax.lax.scan(step, (x, solver.init(ridge, x, theta, *data)), None, length=steps)[1]


class Path(NamedTuple):
    """A solver's points and their Jacobians, with the errors of all of them in Euclidean and spectral norm."""

    x: Float[np.ndarray, "steps p"]
    implicit: Float[np.ndarray, "steps p p"]
    unrolled: Float[np.ndarray, "steps p p"]
    solution_error: Float[np.ndarray, " steps"]
    implicit_error: Float[np.ndarray, " steps"]
    unrolled_error: Float[np.ndarray, " steps"]
    bound: Float[np.ndarray, " steps"]
    """The theorem's, on the implicit error."""
    estimate: Float[np.ndarray, " steps"]
    """dini's estimate of the implicit relative error, times the size of the exact Jacobian (Frobenius norm)."""
    reliable: np.ndarray
    """dini's verdict: whether the implicit Jacobian's relative error is below one percent."""


def follow(theta: Float[np.ndarray, " p"], data: Data, exact: Exact, solver: dini.Solver, steps: int) -> Path:
    """Take the steps and all the Jacobians, and set them against the exact ones."""
    at_least("steps", steps, 1)

    @jax.jit
    def run(theta: Array) -> tuple[Array, Array, Array, dini.certified.Certificate]:
        def implicit(x: Array) -> tuple[Array, dini.certified.Certificate]:
            # the verdict on an early point is bad, and is part of what is to be shown
            return dini.certified.jacobian(ridge, x, (theta, *data), on_failure="ignore")

        x = iterates(theta, data, solver, steps)
        unrolled = jax.jacfwd(iterates)(theta, data, solver, steps)
        jacobian, certificate = jax.vmap(implicit)(x)
        return x, jacobian, unrolled, certificate

    x, implicit, unrolled, certificate = jax.tree.map(np.asarray, run(jnp.asarray(theta)))
    solution_error = np.linalg.norm(x - exact.x, axis=1)
    return Path(
        x,
        implicit,
        unrolled,
        solution_error,
        np.linalg.norm(implicit - exact.jacobian, 2, axis=(1, 2)),
        np.linalg.norm(unrolled - exact.jacobian, 2, axis=(1, 2)),
        exact.constants.slope * solution_error,
        certificate.error * np.linalg.norm(exact.jacobian),
        certificate.reliable,
    )
