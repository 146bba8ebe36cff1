r"""Points moved by a loss of their homology by scale and function, or by scale alone.

The function :math:`1 - e^{-|x - m|^2 / s^2}` has a basin, in which points enter first. By both parameters the loss is
:math:`\sum_j w_j r_j (0.65 - d_j)` over the points :math:`(r_j, d_j)` of the Hilbert measure in degree 1, by the scale
alone :math:`\sum_j w_j r_j`: minus the total persistence.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from dini_zoo.kit.training import Trainer

from .complexes import Filtration
from .filtrations import rips_lower_star
from .landscapes import landscape
from .measures import signed_measure
from .vectorizations import TopologicalLoss, linear_functional

MIDDLE, RADIUS, LEVEL = (0.3, 0.35), 0.22, 0.65
ONE, TWO = "one parameter", "two parameters"


def basin(points: Float[Array, "n 2"]) -> Float[Array, " n"]:
    """The function whose basin is at `MIDDLE`."""
    return 1 - jnp.exp(-jnp.sum((points - jnp.array(MIDDLE)) ** 2, axis=1) / RADIUS**2)


def filtered(points: Float[Array, "n 2"]) -> Filtration:
    """By scale and function."""
    return rips_lower_star(points, basin(points))


def loss_of(kind: str, max_points: int = 128) -> TopologicalLoss:
    """The loss by one parameter or by two."""
    options: dict[str, Any] = {"degree": 1, "max_points": max_points, "engine": "multipers"}
    if kind == TWO:
        return TopologicalLoss(filtered, lambda p: p[0] * (LEVEL - p[1]), **options)
    return TopologicalLoss(rips_lower_star, lambda p: p[0], **options)


def cloud(count: int, seed: int) -> np.ndarray:
    """Points at random in the unit square."""
    return np.random.RandomState(seed).rand(count, 2)


@dataclass(frozen=True)
class Moved:
    """Points on their way, step by step: with what was before each step, and after the last one."""

    first: np.ndarray
    last: np.ndarray
    sides: np.ndarray
    """The longest side of the bounding box."""
    losses: np.ndarray
    sizes: np.ndarray
    """How many points the measure has."""


class Mover:
    """Adam's steps on points, one program for all of them."""

    def __init__(self, kind: str, steps: int, rate: float):
        self._loss = loss_of(kind)

        def loss(points: Array, batch: Any, key: Any) -> Any:
            measure = self._loss.measure(points)
            side = jnp.max(jnp.max(points, axis=0) - jnp.min(points, axis=0))
            return linear_functional(measure, self._loss.phi), (side, measure.count)

        self._trainer = Trainer(loss, optax.adam(rate), steps=steps, aux=True)
        self._last = jax.jit(lambda points: loss(points, None, None))

    def __call__(self, points: np.ndarray, advance: Callable[[int], None]) -> Moved:
        course = self._trainer(jnp.asarray(points), key=jax.random.key(0), advance=advance)
        value, (side, size) = self._last(course.model)
        joined = lambda path, end: np.append(path, end)
        sides, sizes = course.aux
        return Moved(
            points, np.asarray(course.model), joined(sides, side), joined(course.loss, value), joined(sizes, size)
        )


@dataclass(frozen=True)
class Shown:
    """A cloud's Hilbert measure, and its landscape on a grid."""

    points: np.ndarray
    weights: np.ndarray
    grid: tuple[np.ndarray, np.ndarray]
    landscape: np.ndarray


@functools.partial(jax.jit, static_argnums=1)
def _described(points: Array, side: int) -> Any:
    """The Hilbert measure, the grid, and the first landscape on it."""
    filtration = filtered(points)
    measure, ranks = (
        signed_measure(filtration, 1, invariant, engine="multipers", max_points=room)
        for invariant, room in (("hilbert", 128), ("rank", 512))
    )
    grid = jnp.linspace(0, 0.6, side), jnp.linspace(0, 1.0, side)
    at = jnp.stack(jnp.meshgrid(*grid, indexing="ij"), axis=-1).reshape(-1, 2)
    # scales have about half of the function's range
    return measure, grid, landscape(ranks, 1, at, direction=np.array([0.5, 1.0])).reshape(side, side)


def shown(points: np.ndarray, side: int) -> Shown:
    """What is drawn of a cloud."""
    measure, grid, heights = jax.tree.map(np.asarray, _described(jnp.asarray(points), side))
    return Shown(measure.points[measure.mask], measure.weights[measure.mask], grid, heights)
