"""Supports of NumPyro's distributions: whether a value is inside, and whether the ends move with what is traced.

NumPyro says the support of a transformed distribution by its last transformation: that of the exponential of a uniform
choice would be all positive numbers. So both questions are asked of the distribution below, too.
"""

from __future__ import annotations

import importlib
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dini_zoo.kit.checking import traced

#: An end that depends on what is traced.
MOVING = "moving"
SIDES = (("lower_bound", -math.inf), ("upper_bound", math.inf))
#: Those whose values are values of the distribution below, perhaps transformed.
WRAPPED = ("TransformedDistribution", "Independent", "ExpandedDistribution", "MaskedDistribution")


def _below(made: Any) -> Any:
    """The distribution that a distribution wraps, or `None`."""
    library = importlib.import_module("numpyro.distributions")
    return made.base_dist if isinstance(made, tuple(getattr(library, name) for name in WRAPPED)) else None


def inside_of(made: Any, value: Any, *, rounded: bool = False) -> Array:
    """Whether a value is in the support, for each element of the batch; one that was computed may be `rounded`."""
    inside, below = _holds(made.support, value, rounded), _below(made)
    if below is None:
        return inside
    for one in reversed(getattr(made, "transforms", ())):
        value, rounded = one.inv(value), True
    deeper = inside_of(below, value, rounded=rounded)
    return inside & deeper.all(tuple(range(inside.ndim, deeper.ndim)))


def _holds(support: Any, value: Any, rounded: bool) -> Array:
    """Whether a constraint holds."""
    eps = float(jnp.finfo(jnp.result_type(value, float)).eps)
    if type(support).__name__.endswith("Simplex"):
        # a sum of many numbers is rounded: NumPyro's bound is too narrow for it in single precision
        near = jnp.abs(jnp.sum(value, axis=-1) - 1) <= max(1e-6, eps**0.5)
        return jnp.all(value >= 0, axis=-1) & near
    if rounded and any(hasattr(support, name) for name, _ in SIDES):
        low, high = (getattr(support, name, end) for name, end in SIDES)
        slack = lambda end: 16 * eps * jnp.maximum(1, jnp.where(jnp.isinf(end), 1, jnp.abs(end)))
        return (value >= low - slack(low)) & (value <= high + slack(high))
    return jnp.asarray(support(value))


def moves(made: Any) -> bool:
    """Whether an end of the support depends on what is traced."""
    return MOVING in _ends(made)


def _ends(made: Any) -> tuple[Any, ...]:
    """The ends of an element: numbers, `MOVING`, or `None` where elements differ or it is not known."""
    below = _below(made)
    if below is None:
        support = getattr(made, "support", None)
        support = getattr(support, "base_constraint", support)
        return tuple(_number(getattr(support, name, end)) for name, end in SIDES)
    ends = _ends(below)
    for one in getattr(made, "transforms", ()):
        ends = tuple(_moved(one, end) for end in ends)
    return ends


def _number(end: Any) -> Any:
    """An end that all elements have."""
    if traced(end):
        return MOVING
    return float(end) if jnp.ndim(end) == 0 else None


def _moved(transform: Any, end: Any) -> Any:
    """Where a transformation takes an end."""
    if hasattr(transform, "parts"):
        for one in transform.parts:
            end = _moved(one, end)
        return end
    unknown = [name for name, value in vars(transform).items() if traced(value)]
    if end == MOVING or (end is None and not unknown) or transform.domain.event_dim:
        return end
    if not unknown:
        with jax.ensure_compile_time_eval():
            return _number(transform(jnp.asarray(end)))
    if end is not None and math.isinf(end):
        return end
    if hasattr(transform, "loc"):
        # a scale leaves zero where it is
        still = end == 0 and "loc" not in unknown and not np.any(transform.loc)
    else:
        # so does a power, and one
        still = end in (0, 1)
    return end if still else MOVING
