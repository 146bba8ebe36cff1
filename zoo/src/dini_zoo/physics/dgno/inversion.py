r"""Inverse problems in the space of codes: from a few noisy values of the solution to the input.

The energy of a code :math:`\beta = \tanh z`, given :math:`u` at some points with noise :math:`\sigma`,

.. math:: E(z) = \tfrac\pi2 |z|^2 + \tfrac{1}{2 \sigma^2} \sum_i (u(x_i; \beta) - u_i)^2
    + \tfrac12 \sum_j \lambda_j r_j(\beta)^2 ,

is half of a sum of squares: dini's least squares find its minimum, Laplace's method, variational inference or NUTS
what else is likely. :math:`\pi` is the prior's precision. The published code descends another objective by Adam, with
centers that are redrawn at each step: :func:`descend`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

import dini
from dini_zoo.kit.checking import at_least, finite, one_of, positive

from ..posteriors import Gaussian, Samples, Variational, laplace, mean_field, nuts
from .generative import GenerativeOperator, code

METHODS = ("map", "laplace", "vi", "nuts")


class Observations(eqx.Module):
    """Values of a field at points."""

    x: Float[Array, "p dim"]
    u: Float[Array, " p"]
    field: str = eqx.field(static=True, default="u")

    def __check_init__(self) -> None:
        finite("observations", (self.x, self.u))
        if not jnp.issubdtype(jnp.result_type(self.x), jnp.floating):
            raise TypeError(
                f"x must be places, not numbers of nodes: given {jnp.result_type(self.x)}. Take mesh[nodes]."
            )
        if self.x.ndim != 2 or self.u.shape != self.x.shape[:1]:
            raise ValueError(
                f"observations must be points (p, dim) and a value of each: given shapes {self.x.shape} and "
                f"{self.u.shape}."
            )

    def predicted(self, model: GenerativeOperator, beta: Float[Array, " d"]) -> Float[Array, " p"]:
        """What a code says of them."""
        return model.decode(self.field, self.x, beta[None])[0]


class LatentProblem(eqx.Module):
    """An inverse problem for the latent of a trained model.

    Parameters
    ----------
    model
        Whose decoders are frozen.
    observations
        Points, values, and the name of the field they are of.
    noise
        The deviation of what was observed, in the field's units.
    virtual
        Weighted residuals `(m, r)` of codes `(m, d)`, with centers that are fixed; none if it is not given.
    prior
        The precision of :math:`z`.
    """

    model: GenerativeOperator
    observations: Observations
    noise: Any
    virtual: Callable[[Array], Array] | None = None
    prior: Any = 1.0

    def __check_init__(self) -> None:
        positive("noise", self.noise)
        positive("prior", self.prior)

    def residual(self, z: Float[Array, " d"]) -> Float[Array, " r"]:
        """Half of its squares is the energy."""
        beta = code(z)
        off = (self.observations.predicted(self.model, beta) - self.observations.u) / self.noise
        parts = [jnp.sqrt(self.prior) * z, off]
        if self.virtual is not None:
            parts.append(self.virtual(beta[None])[0])
        return jnp.concatenate(parts)

    def energy(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        """Minus the logarithm of the posterior, up to a constant."""
        return 0.5 * jnp.sum(self.residual(z) ** 2)


class Inversion(NamedTuple):
    """What was found of a latent."""

    z: Float[Array, " d"]
    """The most probable one."""
    energy: Float[Array, ""]
    law: Gaussian | Samples | None
    """What else is likely; `None` of `"map"`."""
    solution: dini.Solution
    """Of the least squares, with its status."""
    variational: Variational | None = None


def invert(
    problem: LatentProblem,
    start: Float[Array, " d"],
    method: Literal["map", "laplace", "vi", "nuts"] = "map",
    *,
    key: Array | None = None,
    solver: Any = None,
    on_failure: Literal["raise", "warn", "nan", "ignore"] = "raise",
    **options: Any,
) -> Inversion:
    """The most probable latent, and with a `method` other than `"map"` a law around it.

    Parameters
    ----------
    problem
        Model, observations, noise, virtual observables, prior.
    start
        Where the least squares start. They find a minimum, which need not be the lowest one.
    method
        `"laplace"`, `"vi"` or `"nuts"`: :func:`..posteriors.laplace`, :func:`..posteriors.mean_field`,
        :func:`..posteriors.nuts`. The last two start at Laplace's law.
    key
        Of the last two.
    solver
        Of the least squares; :class:`dini.LevenbergMarquardt` if it is not given.
    on_failure
        As in :func:`dini.solve`: what happens where they do not converge.
    options
        Of the last two: steps, draws, chains.

    Raises
    ------
    dini.SolveError
        Where no minimum was found.
    ValueError
        For another method, a missing key, and a minimum without curvature.
    """
    one_of("method", method, METHODS)
    if method in ("vi", "nuts") and key is None:
        raise ValueError(f"key must be given for {method!r}, which draws: given None.")
    solver = dini.LevenbergMarquardt() if solver is None else solver
    solution = dini.least_squares(lambda z: problem.residual(z), start, solver=solver, on_failure=on_failure)
    z = solution.x
    energy = problem.energy(z)
    if method == "map":
        return Inversion(z, energy, None, solution)
    law = laplace(problem.energy, z)
    if method == "laplace":
        return Inversion(z, energy, law, solution)
    if method == "vi":
        fitted = mean_field(problem.energy, law, key, **options)
        return Inversion(z, energy, fitted.law, solution, fitted)
    return Inversion(z, energy, nuts(problem.energy, law, key, **options), solution)


def descend(
    objective: Callable[[Float[Array, " d"], Array], Float[Array, ""]],
    start: Float[Array, " d"],
    key: Array,
    *,
    steps: int = 300,
    rate: float = 0.05,
) -> tuple[Float[Array, " d"], Float[Array, " steps"]]:
    """So many steps of Adam, whose rate falls to zero as a cosine, on an objective of a point and a key of the step.

    Returns the last point, and the objective before each step.
    """
    at_least("steps", steps, 1)
    positive("rate", rate)
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps))

    def step(carried: Any, key: Array) -> Any:
        z, state = carried
        value, slope = jax.value_and_grad(objective)(z, key)
        updates, state = optimizer.update(slope, state)
        return (optax.apply_updates(z, updates), state), value

    (z, _), values = jax.lax.scan(step, (start, optimizer.init(start)), jax.random.split(key, steps))
    return z, values


def relative_misfit(predicted: Float[Array, " p"], observed: Float[Array, " p"]) -> Float[Array, ""]:
    r""":math:`\|u - u^{obs}\| / \|u^{obs}\|`, with the derivative zero where it vanishes."""
    square = jnp.sum((predicted - observed) ** 2)
    none = square == 0
    return jnp.where(none, 0.0, jnp.sqrt(jnp.where(none, 1.0, square))) / jnp.linalg.norm(observed)
