"""The shape of a penalty, and a user's own."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import register_dataclass

from .. import trees
from ..functions import as_function, close
from ..separable import Separable


class Penalty(Separable):
    """Base of the penalties; subclasses are frozen dataclasses registered as pytrees."""

    #: whether the penalty is a convex function; if not, its proximal operator need not be nonexpansive
    convex: bool = True

    def value(self, x: Any) -> jax.Array:
        """Return ``g(x)``."""
        raise NotImplementedError

    def prox(self, x: Any, step_size: Any) -> Any:
        r"""Return the proximal point :math:`\arg\min_p \tfrac12\|p - x\|^2 + \eta\, g(p)`."""
        raise NotImplementedError

    def kink_distance(self, x: Any, step_size: Any) -> jax.Array:
        """Return how far ``x`` is from the nearest point where ``prox(., step_size)`` has no derivative.

        The Euclidean distance of the whole tree, or a lower bound of it: within it, the derivative can be trusted.
        Infinity where the operator is differentiable everywhere, NaN where nothing is known (the default).
        """
        del step_size
        return jnp.full((), jnp.nan, trees.real_dtype(x))


def smallest(gaps: Any, x: Any) -> jax.Array:
    """Return the smallest element of a tree, infinity if it has none, as a scalar for ``x``."""
    dtype = trees.real_dtype(x)
    least = [jnp.min(gap, initial=jnp.inf).astype(dtype) for gap in jax.tree.leaves(gaps)]
    return functools.reduce(jnp.minimum, least, jnp.full((), jnp.inf, dtype))


def gap_at(size: jax.Array, threshold: jax.Array) -> jax.Array:
    """Return the distance of a size from a positive threshold; a threshold of zero is none."""
    return jnp.where(threshold > 0, jnp.abs(size - threshold), jnp.inf)


@register_dataclass
@dataclass(frozen=True)
class Custom(Penalty):
    """A user's own penalty, given by ``function(x)`` and ``proximal(x, step_size)``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.penalties import Custom
    >>> ridge = Custom(lambda x: 0.5 * jnp.sum(x**2), lambda x, step_size: x / (1 + step_size))
    >>> ridge.prox(jnp.array([2.0]), 1.0)
    Array([1.], dtype=float32)
    """

    function: Any
    proximal: Any

    def __post_init__(self) -> None:
        for name in ("function", "proximal"):
            if callable(getattr(self, name)):
                object.__setattr__(self, name, as_function(getattr(self, name), f"Custom's {name}"))

    def value(self, x: Any) -> jax.Array:
        """Return the user's value."""
        return self.function(x)

    def prox(self, x: Any, step_size: Any) -> Any:
        """Return the user's proximal point."""
        return self.proximal(x, step_size)

    def closed(self, x: Any) -> Custom:
        """Return the penalty with everything that its functions close over made explicit."""
        step = jax.ShapeDtypeStruct((), trees.real_dtype(x))
        return dataclasses.replace(self, function=close(self.function, x), proximal=close(self.proximal, x, step))

    def check(self, x: Any) -> None:
        """Raise unless the functions return what they should."""
        step = jnp.ones((), trees.real_dtype(x))
        trees.require_same("The output of Custom's proximal", jax.eval_shape(self.prox, x, step), x, "the unknown x")
        shape = jax.eval_shape(self.value, x)
        if getattr(shape, "shape", None) != ():
            raise TypeError(f"Custom's function must return one number: given {shape}.")
