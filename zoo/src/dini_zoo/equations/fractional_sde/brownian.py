"""Brownian motion on a fixed grid, as a path for diffrax: all its increments are drawn at once."""

from __future__ import annotations

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dini_zoo.kit.checking import known, within


class GridBrownianPath(diffrax.AbstractBrownianPath):
    """The increments of Brownian motion between the times of a grid: a solver must step from each to the next.

    `diffrax.VirtualBrownianTree` can be asked for any times, and pays for it with a search at each; of
    `diffrax.UnsafeBrownianPath` no gradient can be taken in reverse. Here a step costs a look into an array.

    Parameters
    ----------
    grid
        Times that rise, such as those of `diffrax.StepTo`.
    shape, dtype
        Of the motion.
    levy_area
        What a solver asks for beside the increments.
    key
        Of the increments.

    Examples
    --------
    >>> path = GridBrownianPath(jnp.linspace(0.0, 1.0, 5), (2,), key=jax.random.key(0))
    >>> path.evaluate(0.25, 0.5).shape
    (2,)
    """

    grid: Float[Array, " n"]
    normals: tuple[Float[Array, "m ..."], ...]
    """Standard normal numbers for each interval: of the increments, and of their areas."""
    levy_area: type[Any] = eqx.field(static=True)

    def __init__(
        self,
        grid: Float[Array, " n"],
        shape: tuple[int, ...],
        dtype: Any = None,
        *,
        levy_area: type[Any] = diffrax.BrownianIncrement,
        key: Array,
    ):
        areas = (diffrax.BrownianIncrement, diffrax.SpaceTimeLevyArea, diffrax.SpaceTimeTimeLevyArea)
        count = 1 + areas.index(levy_area)
        dtype = jnp.result_type(float) if dtype is None else dtype
        self.grid = grid
        self.normals = tuple(
            jax.random.normal(one, (len(grid) - 1, *shape), dtype) for one in jax.random.split(key, count)
        )
        self.levy_area = levy_area

    @property
    def t0(self) -> Any:
        return self.grid[0]

    @property
    def t1(self) -> Any:
        return self.grid[-1]

    def evaluate(self, t0: Any, t1: Any = None, left: bool = True, use_levy: bool = False) -> Any:
        """The increment over the interval of the grid from `t0` to `t1`."""
        del left
        if t1 is None:
            raise ValueError("The path has increments alone: give t0 and t1.")
        i = jnp.searchsorted(self.grid, 0.5 * (t0 + t1), side="right") - 1
        if known(i):
            # of a step that a solver computes and does not take, NaN would be in its derivatives
            within("the interval of the grid from t0 to t1", i, len(self.grid) - 1)
        parts = [normals[i] for normals in self.normals]
        dt = jnp.asarray(t1 - t0, parts[0].dtype)
        # the areas' variances, relative to the time
        scaled = [jnp.sqrt(dt / share) * part for part, share in zip(parts, (1, 12, 720), strict=False)]
        return self.levy_area(dt, *scaled) if use_levy else scaled[0]


def levy_area_of(solver: diffrax.AbstractSolver) -> type[Any]:
    """The simplest area that a solver is content with."""
    least = getattr(solver, "minimal_levy_area", diffrax.AbstractBrownianIncrement)
    if issubclass(least, diffrax.AbstractSpaceTimeTimeLevyArea):
        return diffrax.SpaceTimeTimeLevyArea
    if issubclass(least, diffrax.AbstractSpaceTimeLevyArea):
        return diffrax.SpaceTimeLevyArea
    return diffrax.BrownianIncrement
