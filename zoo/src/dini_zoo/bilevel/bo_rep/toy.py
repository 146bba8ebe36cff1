r"""A bilevel problem in ten dimensions whose outer slope grows exponentially, with noisy oracles and a known solution.

.. math:: g(x, y) = \tfrac12 (y - A x)^\top Q (y - A x), \qquad
          f(x, y) = \tfrac1d \sum_i \cosh(y_i - c_i) + \tfrac1{20} \sum_i \sqrt{1 + x_i^2},

so that :math:`y^\star(x) = A x`, and :math:`\Phi` with its gradient is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

import dini

from ..oracles import Oracles, Slopes
from .method import BOREP, BOREPState
from .momentum import normalize, normalized_momentum
from .refinement import epoch_sgd

D = 10
_random = np.random.default_rng(0)
A = (_random.standard_normal((D, D)) / np.sqrt(D) + np.eye(D)).astype(np.float32)
C = _random.standard_normal(D).astype(np.float32)
Q = np.linspace(1, 4, D, dtype=np.float32)
START = np.full(D, 4.0, np.float32)
NOISE, NU, GAMMA, RADIUS = 0.1, 0.1, 0.1, 1.0
REFINEMENT: dict[str, Any] = {"step": GAMMA, "steps": 20, "stages": 6, "radius": 10.0}


def outer(x: Array, y: Array, _: Any) -> Array:
    """:math:`f`."""
    return jnp.mean(jnp.cosh(y - C)) + 0.05 * jnp.sum(jnp.sqrt(1 + x**2))


def inner(x: Array, y: Array, _: Any) -> Array:
    """:math:`g`."""
    return 0.5 * jnp.sum(Q * (y - A @ x) ** 2)


def phi(x: Array) -> Array:
    r""":math:`\Phi`."""
    return outer(x, A @ x, None)


def implicit_phi(x: Array) -> Array:
    """The same through a solve of the inner problem, which dini differentiates."""
    solver = dini.Newton(tol=1e-10)
    return outer(x, dini.minimize(lambda y, x: inner(x, y, None), jnp.zeros_like(x), x, solver=solver).x, None)


class Noisy(Oracles):
    """Each answer with noise added to it, which is its batch of data: one vector, or two of them for `upper`."""

    def upper(self, x: Any, y: Any, data: Any) -> Slopes:
        found = super().upper(x, y, None)
        return Slopes(found.x + data[0], found.y + data[1])

    def lower(self, x: Any, y: Any, data: Any) -> Any:
        slope = super().lower(x, y, None)
        return slope if data is None else slope + data  # without noise, for second derivatives

    def hessian(self, x: Any, y: Any, z: Any, data: Any) -> Any:
        return super().hessian(x, y, z, None) + data

    def cross(self, x: Any, y: Any, z: Any, data: Any) -> Any:
        return super().cross(x, y, z, None) + data


def noise(key: Array, count: int) -> Array:
    """So many vectors, drawn at once: random numbers would cost more than all else."""
    return NOISE * jax.random.normal(key, (count, D))


NOISY = Noisy(outer, inner)


@dataclass(frozen=True)
class Variant:
    """One way to solve it."""

    name: str
    rate: float
    beta: float = 0.9
    normalized: bool = True
    period: int = 2
    inner_steps: int = 3
    radius: float = RADIUS
    refined: bool = True


def variants(etas: tuple[float, ...], rates: tuple[float, ...], *, ablation: bool) -> list[Variant]:
    """BO-REP, the baselines at each rate and, if asked for, what is left of BO-REP without each of its parts."""
    first = etas[0]
    plain: dict[str, Any] = {"normalized": False, "period": 1, "inner_steps": 1, "radius": np.inf, "refined": False}
    left = [
        Variant("without refinement", first, refined=False),
        Variant("without momentum", first, beta=0.0),
        Variant("one inner step, every step", first, period=1, inner_steps=1),
        Variant("radius 0.01", first, radius=0.01),
    ]
    return [
        *(Variant("BO-REP", eta) for eta in etas),
        *(left if ablation else ()),
        *(Variant("SOBA", rate, beta=0.0, **plain) for rate in rates),
        *(Variant("MA-SOBA", rate, **plain) for rate in rates),
    ]


@dataclass(frozen=True)
class Course:
    """A variant's runs, a row for each seed."""

    variant: Variant
    slope: Float[np.ndarray, "seeds steps"]
    r"""The true :math:`\|\nabla \Phi(x_k)\|`; infinite from where a number was not finite."""
    phi: Float[np.ndarray, " seeds"]
    """At the end."""
    projected: Float[np.ndarray, " seeds"]
    """The share of inner updates that left their ball."""

    @property
    def final(self) -> float:
        """The mean slope of the last tenth of the steps and of all seeds."""
        return float(np.mean(self.slope[:, -(self.slope.shape[1] // 10 or 1) :]))

    def reached(self, bound: float) -> float:
        """After how many steps the slope of the slowest seed was below for the first time."""
        below = self.slope < bound
        return float(np.max(np.where(below.any(axis=1), below.argmax(axis=1), np.inf)))


def solve(variants: list[Variant], keys: Array, steps: int) -> list[Course]:
    """Run all variants for all keys; those that differ in numbers only share a program."""
    refine = partial(epoch_sgd, lambda y, key: NOISY.lower(START, y, noise(key, 1)[0]), jnp.zeros(D), **REFINEMENT)
    starts = jax.jit(jax.vmap(refine))(keys)
    kinds: dict[tuple[Any, ...], list[Variant]] = {}
    for one in variants:
        kinds.setdefault((one.normalized, one.period, one.inner_steps), []).append(one)
    found: dict[Variant, Course] = {}
    for kind, members in kinds.items():
        program = jax.jit(jax.vmap(partial(_run, *kind, steps), in_axes=(0, 0, 0, 0, 0)))
        lanes = [(one, i) for one in members for i in range(len(keys))]
        numbers = [
            np.array([getattr(one, name) for one, _ in lanes], np.float32) for name in ("rate", "beta", "radius")
        ]
        ys = jnp.stack([starts[i] if one.refined else jnp.zeros(D) for one, i in lanes])
        slope, value, projected, finite = map(np.asarray, program(*numbers, ys, keys[np.array([i for _, i in lanes])]))
        slope = np.where(finite, slope, np.inf)
        value = np.where(finite[:, -1], value, np.inf)
        for j, one in enumerate(members):
            rows = slice(j * len(keys), (j + 1) * len(keys))
            found[one] = Course(one, slope[rows], value[rows], projected[rows])
    return [found[one] for one in variants]


def _run(
    normalized: bool,
    period: int,
    inner_steps: int,
    steps: int,
    rate: Array,
    beta: Array,
    radius: Array,
    y: Array,
    key: Array,
) -> tuple[Array, ...]:
    average = optax.chain(optax.ema(beta, debias=False), optax.scale_by_learning_rate(rate))
    optimizer = normalized_momentum(rate, beta) if normalized else average
    method = BOREP(NOISY, optimizer, NU, GAMMA, period, inner_steps, radius)

    def sample(key: Array) -> tuple[Array, Array]:
        drawn = noise(key, inner_steps + 4)
        return drawn[:2], drawn[2:]

    def watch(state: BOREPState) -> tuple[Array, Array]:
        return jnp.linalg.norm(jax.grad(phi)(state.x)), state.finite

    found = method.run(method.init(START, y), sample, key, steps=steps, every=1, watch=watch)
    slope, finite = found.watched
    return slope, phi(found.x), found.projected, finite


def direction_error() -> float:
    """How far the direction at the exact inner variables is from that of dini's implicit hypergradient."""
    exact = jax.jit(jax.grad(implicit_phi))(START)
    oracles, y = Oracles(outer, inner), A @ START
    z = oracles.upper(START, y, None).y / Q
    h = oracles.upper(START, y, None).x - oracles.cross(START, y, z, None)
    ours, _ = normalize().update(h, optax.EmptyState())
    return float(jnp.linalg.norm(ours - exact / jnp.linalg.norm(exact)))
