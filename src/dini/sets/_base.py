"""The shape of a set, products over leaves, and a user's own set."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import register_dataclass

from .. import trees
from ..functions import as_function, close
from ..separable import Separable


class Set(Separable):
    """Base of the sets; subclasses are frozen dataclasses registered as pytrees."""

    def project(self, x: Any) -> Any:
        r"""Return the Euclidean projection :math:`\arg\min_{p \in C} \tfrac12\|p - x\|^2`."""
        raise NotImplementedError

    def residual(self, x: Any) -> jax.Array:
        """Return the distance of ``x`` from the set (zero for a member)."""
        return trees.norm(trees.sub(x, self.project(x)))

    def kink_distance(self, x: Any) -> jax.Array:
        """Return the distance from ``x`` to the nearest point where the projection has no derivative, or less.

        NaN: not known.
        """
        return jnp.full((), jnp.nan, trees.real_dtype(x))


@register_dataclass
@dataclass(frozen=True)
class Product(Set):
    """A set for each part of the unknown: ``sets`` is a tree whose leaves are sets, a prefix of the unknown's tree.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.sets import NonNegative, Product, Simplex
    >>> product = Product({"a": NonNegative(), "b": Simplex()})
    >>> product.project({"a": jnp.array([-1.0, 2.0]), "b": jnp.array([1.0, 1.0])})
    {'a': Array([0., 2.], dtype=float32), 'b': Array([0.5, 0.5], dtype=float32)}
    """

    sets: Any

    def _map(self, fun: Any, x: Any) -> Any:
        return jax.tree.map(fun, self.sets, x, is_leaf=lambda node: isinstance(node, Set))

    def project(self, x: Any) -> Any:
        """Project each part onto its set."""
        return self._map(lambda part, u: part.project(u), x)

    def check(self, x: Any) -> None:
        """Raise unless the tree of sets is a prefix of ``x`` and each set fits its part."""
        try:
            self._map(lambda part, u: part.check(u), x)
        except (ValueError, TypeError) as error:
            raise ValueError(f"Product does not fit the unknown x with shapes {trees.describe(x)}: {error}") from error


@register_dataclass
@dataclass(frozen=True)
class Custom(Set):
    """A user's own set, given by its projection ``projection(x)``; JAX differentiates it as it stands.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.sets import Custom
    >>> halfline = Custom(lambda x: jnp.maximum(x, 1.0))
    >>> halfline.project(jnp.array([0.0, 3.0]))
    Array([1., 3.], dtype=float32)
    """

    projection: Any

    def __post_init__(self) -> None:
        if callable(self.projection):
            object.__setattr__(self, "projection", as_function(self.projection, "Custom's projection"))

    def project(self, x: Any) -> Any:
        """Return the user's projection."""
        return self.projection(x)

    def closed(self, x: Any) -> Custom:
        """Return the set with everything that its function closes over made explicit."""
        return dataclasses.replace(self, projection=close(self.projection, x))

    def check(self, x: Any) -> None:
        """Raise unless the projection returns a tree like ``x``."""
        trees.require_same("The output of Custom's projection", jax.eval_shape(self.project, x), x, "the unknown x")
