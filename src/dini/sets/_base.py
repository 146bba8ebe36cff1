"""The shape of a set, products over leaves, and a user's own set."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.core
import jax.numpy as jnp

from .. import trees
from ..checks import settings
from ..checks.records import record
from ..functions import as_function, close
from ..numerics.separable import Separable, smallest
from ..status import SolveError, Status
from ..trees import Tree
from ._scalar import norm


class Set(Separable):
    """Base of the sets; subclasses stand under the decorator ``record``."""

    #: whether the set is convex; if not, its projection need not be unique or nonexpansive
    convex: bool = True
    #: whether the set is a polyhedron, so that its projection is piecewise affine
    polyhedral: bool = False

    def project(self, x: Tree) -> Tree:
        r"""Return the Euclidean projection :math:`\arg\min_{p \in C} \tfrac12\|p - x\|^2`."""
        raise NotImplementedError

    def project_kl(self, logits: Any) -> Tree:
        r"""Return the Bregman projection of :math:`e^{y}` in the entropy geometry.

        This is :math:`\arg\min_{p \in C} \sum_i p_i \log p_i - p_i - p_i y_i`, with ``logits`` as ``y``.
        """
        raise NotImplementedError(f"{self.name} has no projection in the entropy geometry.")

    def residual(self, x: Tree) -> jax.Array:
        """Return the distance of ``x`` from the set (zero for a member)."""
        return norm(trees.sub(x, self.project(x)))

    def kink_distance(self, x: Tree) -> jax.Array:
        """Return how far the point ``x`` is from the nearest point where the projection is not differentiable.

        One real scalar, the Euclidean distance or a lower bound of it: inside that ball around ``x`` the derivative
        exists (for a polyhedral set: the projection is affine). Infinite where the projection is smooth everywhere,
        NaN where the set does not know.
        """
        return jnp.full((), jnp.nan, trees.real_dtype(x))

    def support(self, direction: Tree) -> jax.Array:
        r"""Return the support function :math:`\sup_{p \in C} \langle p, d \rangle` of a direction ``d``."""
        raise NotImplementedError(f"{self.name} has no support function in closed form.")

    def minimize_linear(self, direction: Tree) -> Any:
        r"""Return a point of :math:`\arg\min_{p \in C} \langle p, d \rangle`, the step of Frank-Wolfe's method.

        It is the gradient of the support function at ``-d``; NaN where a linear function has no minimum on the set.

        Raises
        ------
        NotImplementedError
            If the set has no support function in closed form.

        Examples
        --------
        >>> import jax.numpy as jnp
        >>> from dini.sets import Simplex
        >>> print(Simplex().minimize_linear(jnp.array([3.0, 1.0, 2.0])))
        [0. 1. 0.]
        """
        value, point = jax.value_and_grad(self.support)(trees.neg(direction))
        return trees.scale(jnp.where(jnp.isfinite(value), 1.0, jnp.nan), point)


def believed(p: Any, inputs: Any, good: jax.Array, failure: Callable[..., Exception], *figures: Any) -> Any:
    """Return ``p`` where it is good; elsewhere raise ``failure(*figures)`` if that can be seen now, or return NaN.

    Where it is NaN, so are its derivatives in everything in ``inputs``, the set and the point, also where ``p`` does
    not depend on it.
    """
    # figures, too: a derivative is taken of them, but the exception shows numbers
    good, figures = jax.lax.stop_gradient((good, figures))
    if not isinstance(good, jax.core.Tracer) and not good:
        _require_numbers(*inputs)
        raise failure(*figures)
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(inputs) if trees.is_inexact(leaf)]
    return _marked(p, leaves, good)


def _require_numbers(owner: Set, x: Tree) -> None:
    """Raise if the point is not finite or a parameter is NaN, where that is known: no set is to blame then."""
    bad = jax.lax.stop_gradient(
        (~trees.all_finite(x), [jnp.any(jnp.isnan(leaf)) for leaf in jax.tree.leaves(owner) if trees.is_inexact(leaf)])
    )
    if not settings.known(bad):
        return
    if bad[0]:
        raise SolveError(
            f"The point to project onto {owner.name} is not finite: it has NaN or infinite elements.", Status.NONFINITE
        )
    if any(bad[1]):
        raise ValueError(f"A parameter of {owner.name} is NaN.")


@jax.custom_jvp
def _marked(p: Any, inputs: list[jax.Array], good: jax.Array) -> Any:
    del inputs
    return jax.tree.map(lambda u: u * jnp.where(good, 1, jnp.nan).astype(u.dtype), p)


@_marked.defjvp
def _(primals: Tree, tangents: Tree) -> Any:
    p, inputs, good = primals
    dp, dinputs, _ = tangents
    # In reverse mode a selection may hide NaN on the way to the inputs: so one element is a multiple of all of them, by
    # zero or by NaN. (A sum of all elements would cost a pass.)
    mark = jnp.where(good, 0, jnp.nan) * trees.total([jnp.sum(leaf).real for leaf in dinputs])

    def one(u: jax.Array) -> jax.Array:
        u = u * jnp.where(good, 1, jnp.nan).astype(u.dtype)
        if not u.size:
            return u
        first = jnp.broadcast_to(mark.astype(u.dtype), (1,) * u.ndim)
        zero = jnp.zeros((), u.dtype)
        return u + jax.lax.pad(first, zero, [(0, size - 1, 0) for size in u.shape])

    return _marked(p, inputs, good), jax.tree.map(one, dp)


def hold_arrays(owner: Any, *names: str) -> None:
    """Replace lists of numbers among the parameters of an object that is being made: a list would be a tree of them."""
    for name in names:
        if isinstance(value := getattr(owner, name), list | tuple):
            object.__setattr__(owner, name, jnp.asarray(value))


def require_places(owner: str, kind: str, parts: Any, nothing: str) -> None:
    """Raise if a place in a tree of sets or penalties is ``None``, where the unknown has something."""
    places, _ = jax.tree_util.tree_flatten_with_path(parts, is_leaf=lambda node: node is None or _is_part(node))
    for path, part in places:
        if part is None:
            raise ValueError(
                f"{owner} needs {kind} for each part of the unknown: given None at {jax.tree_util.keystr(path)!r}. Use "
                f"{nothing} for a part that is free."
            )


def _is_part(node: Any) -> bool:
    return isinstance(node, Separable)


def require_real(owner: str, x: Tree) -> None:
    """Raise unless the unknown is real."""
    if trees.has_complex(x):
        raise TypeError(f"{owner} is a set of real numbers: given an unknown with {trees.describe(x)}.")


@record
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

    def __post_init__(self) -> None:
        for part in jax.tree.leaves(self.sets, is_leaf=lambda node: isinstance(node, Set)):
            if not isinstance(part, Set):
                raise TypeError(f"Product needs a tree of sets of dini.sets: given {part!r} in it.")

    @property
    def polyhedral(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether all of the sets are polyhedra."""
        return all(part.polyhedral for part in jax.tree.leaves(self.sets, is_leaf=lambda node: isinstance(node, Set)))

    @property
    def convex(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether all of the sets are convex."""
        return all(part.convex for part in jax.tree.leaves(self.sets, is_leaf=lambda node: isinstance(node, Set)))

    def _map(self, fun: Any, x: Tree) -> Any:
        return jax.tree.map(fun, self.sets, x, is_leaf=lambda node: isinstance(node, Set))

    def project(self, x: Tree) -> Tree:
        """Project each part onto its set."""
        return self._map(lambda part, u: part.project(u), x)

    def project_kl(self, logits: Any) -> Tree:
        """Project each part onto its set in the entropy geometry."""
        return self._map(lambda part, u: part.project_kl(u), logits)

    def kink_distance(self, x: Tree) -> jax.Array:
        """Return the smallest distance of the parts."""
        return smallest(self._map(lambda part, u: part.kink_distance(u), x), x)

    def support(self, direction: Tree) -> jax.Array:
        """Return the sum over the parts."""
        parts = jax.tree.leaves(self._map(lambda part, u: part.support(u), direction))
        return trees.total(parts) if parts else jnp.zeros((), trees.real_dtype(direction))

    def check(self, x: Tree) -> None:
        """Raise unless the tree of sets is a prefix of ``x`` and each set fits its part."""
        try:
            self._map(lambda part, u: part.check(u), x)
        except (ValueError, TypeError) as error:
            require_places("Product", "a set", self.sets, "dini.sets.Free()")
            raise ValueError(f"Product does not fit the unknown x with shapes {trees.describe(x)}: {error}") from error


@record
class Custom(Set):
    """A user's own set, given by its projection ``projection(x)``; JAX differentiates it as it stands.

    Parameters
    ----------
    projection
        Returns the projection of ``x``, a tree like ``x``.
    kink
        Optional: returns a lower bound of the distance of ``x`` from the nearest point where the projection is not
        differentiable, a scalar.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.sets import Custom
    >>> halfline = Custom(lambda x: jnp.maximum(x, 1.0))
    >>> halfline.project(jnp.array([0.0, 3.0]))
    Array([1., 3.], dtype=float32)
    """

    projection: Any
    kink: Any = None

    def __post_init__(self) -> None:
        for name in ("projection", "kink"):
            if callable(getattr(self, name)):
                object.__setattr__(self, name, as_function(getattr(self, name), f"Custom's {name}"))

    def project(self, x: Tree) -> Tree:
        """Return the user's projection."""
        return self.projection(x)

    def kink_distance(self, x: Tree) -> jax.Array:
        """Return the user's distance, NaN where none is given."""
        return super().kink_distance(x) if self.kink is None else self.kink(x)

    def closed(self, x: Tree) -> Custom:
        """Return the set with everything that its function closes over made explicit."""
        kink = self.kink if self.kink is None else close(self.kink, x)
        return dataclasses.replace(self, projection=close(self.projection, x), kink=kink)

    def check(self, x: Tree) -> None:
        """Raise unless the projection returns a tree like ``x`` and the distance is a scalar."""
        trees.require_same("The output of Custom's projection", jax.eval_shape(self.project, x), x, "the unknown x")
        if self.kink is not None and (shape := jax.eval_shape(self.kink, x).shape) != ():
            raise ValueError(f"Custom's kink must return a scalar: given shape {shape}.")
