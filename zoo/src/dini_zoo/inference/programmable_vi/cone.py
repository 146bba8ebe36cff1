r"""The noisy cone: a posterior that is a thin ring, and guides for it.

:math:`x, y \sim N(0, 10)`, :math:`r = x^2 + y^2`, :math:`z \sim N(r, 0.1 + r / 100)` with standard deviations, and
:math:`z = 5` is observed. Every :math:`(x, y)` on a circle explains it alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import logsumexp
from scipy import integrate, stats

from .distributions import Normal, Uniform
from .generative import Choices, GenerativeFunction, gen
from .importance import Algorithm, ImportanceSampler, Target, given
from .objectives import elbo, hvi_elbo, iwelbo
from .sites import sample

OBSERVED = 5.0
SCALE = 10.0


@gen
def cone() -> Any:
    """The model."""
    x = sample(Normal(), 0.0, SCALE, address="x")
    y = sample(Normal(), 0.0, SCALE, address="y")
    r = x**2 + y**2
    return sample(Normal(), r, 0.1 + r / 100, address="z")


POSTERIOR = given(cone, {"z": OBSERVED})


@gen
def mean_field(params: Array) -> None:
    """Independent normal choices; means and logarithms of deviations."""
    sample(Normal(), params[0], jnp.exp(params[2]), address="x")
    sample(Normal(), params[1], jnp.exp(params[3]), address="y")


@gen
def ring(params: Array) -> None:
    """A normal choice around a point of the circle; logarithms of deviations."""
    angle = 2 * jnp.pi * sample(Uniform(), 0.0, 1.0, address="u")
    radius = jnp.sqrt(OBSERVED)
    sample(Normal(), radius * jnp.cos(angle), jnp.exp(params[0]), address="x")
    sample(Normal(), radius * jnp.sin(angle), jnp.exp(params[1]), address="y")


@jax.tree_util.register_static
@dataclass(frozen=True)
class Midpoints(Algorithm):
    """The integral over one choice, uniform on (0, 1), by the midpoint rule: exact up to the rule's own error."""

    address: str
    n: int

    def log_evidence(self, target: Target) -> Array:
        points = (jnp.arange(self.n) + 0.5) / self.n
        return logsumexp(jax.vmap(lambda u: target.log_density({self.address: u}))(points)) - np.log(self.n)

    def log_evidence_with(self, target: Target, choices: Choices) -> Array:
        return self.log_evidence(target)


XY = ("x", "y")
MIDPOINTS = "ring, midpoints"
#: From where the mean-field guide starts: apart from the ring's axis, too.
MEAN_FIELD = ((0.0, 0.0, 1.0, 1.0), (3.0, 0.0, 1.0, 1.0))
RING = ((0.0, 0.0),)


@dataclass(frozen=True)
class Objective:
    """One of the experiment's objectives."""

    name: str
    program: Callable[[Array], Array]
    starts: tuple[tuple[float, ...], ...]


def objectives(points: int) -> dict[str, Objective]:
    """All of them; `points` are those of the midpoint rule."""
    inner, exact = ImportanceSampler(5), Midpoints("u", points)
    hierarchical = lambda **options: lambda params: hvi_elbo(POSTERIOR, ring, params, selection=XY, **options)
    found = (
        Objective("ELBO", lambda params: elbo(POSTERIOR, mean_field, params), MEAN_FIELD),
        Objective("IWELBO(5)", lambda params: iwelbo(POSTERIOR, mean_field, params, n=5), MEAN_FIELD),
        Objective("HVI", hierarchical(), RING),
        Objective("IWHVI(5,1)", hierarchical(algorithm=inner), RING),
        Objective("DIWHVI(5,5)", hierarchical(algorithm=inner, n=5), RING),
        Objective(MIDPOINTS, hierarchical(algorithm=exact), RING),
    )
    return {one.name: one for one in found}


def guide_of(name: str) -> GenerativeFunction:
    """The guide of an objective."""
    return mean_field if name in ("ELBO", "IWELBO(5)") else ring


def log_evidence() -> float:
    """The exact :math:`\\log p(z = 5)`, by quadrature over r, whose density is exponential with the mean 200."""
    density = lambda r: stats.norm.pdf(OBSERVED, r, 0.1 + r / 100) * np.exp(-r / (2 * SCALE**2)) / (2 * SCALE**2)
    return float(
        np.log(integrate.quad(density, 0, 20, points=(4.5, OBSERVED, 5.5), epsabs=0, epsrel=1e-11, limit=200)[0])
    )
