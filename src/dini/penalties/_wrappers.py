"""Penalties made of penalties: on nonnegative unknowns, scaled, shifted, after an orthogonal map, products."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from .. import trees
from ..checks.records import record
from ..checks.settings import positive, require_positive
from ..functions import as_function, close
from ..numerics.separable import leaves_like, map_with, smallest
from ..sets import Set
from ..sets._base import require_places
from ..trees import Tree
from ..trees.products import dot
from ._base import Penalty, require_broadcast, require_step, total


def _require_penalty(owner: str, penalty: Any) -> None:
    if not isinstance(penalty, Penalty):
        hint = " Wrap a set in dini.penalties.Indicator." if isinstance(penalty, Set) else ""
        raise TypeError(f"{owner} needs a penalty of dini.penalties: given {penalty!r}.{hint}")


class _Wrapper(Penalty):
    """A penalty that holds another one, whose properties it has."""

    penalty: Any

    def __post_init__(self) -> None:
        # an empty place, as in a tree of axes for vmap, passes
        if isinstance(self.penalty, Set | jax.Array | np.ndarray | str | float) or callable(self.penalty):
            _require_penalty(self.name, self.penalty)

    @property
    def convex(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the penalty inside is."""
        return self.penalty.convex

    @property
    def elementwise(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the penalty inside is."""
        return self.penalty.elementwise

    @property
    def monotone(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the penalty inside is."""
        return self.penalty.monotone

    @property
    def valued(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the penalty inside is."""
        return self.penalty.valued

    def check(self, x: Tree) -> None:
        """Raise unless the penalty inside fits ``x``."""
        _require_penalty(self.name, self.penalty)
        self.penalty.check(x)

    def closed(self, x: Tree) -> Any:
        """Return the penalty with everything that its functions close over made explicit."""
        return dataclasses.replace(self, penalty=self.penalty.closed(x))  # pyright: ignore[reportArgumentType]

    def separates_rows(self, x: jax.Array) -> bool:
        """Return whether the penalty inside does."""
        return self.penalty.separates_rows(x)

    def row(self, i: Any, x: jax.Array) -> Any:
        """Return the penalty of one row."""
        return dataclasses.replace(self, penalty=self.penalty.row(i, x))  # pyright: ignore[reportArgumentType]


@record
class NonNegative(_Wrapper):
    r"""A penalty on nonnegative unknowns: :math:`g(x)` where all :math:`x_i \ge 0`, infinite elsewhere.

    Proximal operator: :math:`\mathrm{prox}_{\eta g}(\max(x, 0))`. This holds for penalties of the absolute values that
    decrease in none of them (``monotone``): all norms here, :class:`Ridge`, :class:`Huber`, :class:`L0`, :class:`MCP`,
    :class:`SCAD`. So ``NonNegative(L1(0.5))`` is :math:`\max(x - \eta\lambda, 0)`.

    Raises
    ------
    ValueError
        For a penalty that is not of this kind.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.penalties import L1, NonNegative
    >>> print(NonNegative(L1(1.0)).prox(jnp.array([3.0, 0.5, -3.0]), 1.0))
    [2. 0. 0.]
    """

    penalty: Any

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.penalty, Penalty) and not self.penalty.monotone:
            raise ValueError(
                "NonNegative needs a penalty that depends only on absolute values and does not decrease in them: the "
                f"proximal operator with {self.penalty.name} would be wrong. Given {self.penalty!r}."
            )

    def value(self, x: Tree) -> jax.Array:
        """Return the penalty, or infinity."""
        negative = smallest(x, x) < 0
        return jnp.where(negative, jnp.inf, self.penalty.value(x))

    def prox(self, x: Tree, step_size: Any) -> Tree:
        """Return the proximal point of the positive part."""
        return self.penalty.prox(_positive_part(x), step_size)

    def kink_distance(self, x: Tree, step_size: Any) -> jax.Array:
        """Return a lower bound: the distance of the nearest element from zero or of ``x`` from a kink of the inside.

        Zero is a kink for the elements of an elementwise penalty only where its operator does not vanish nearby.
        """
        inside = self.penalty.kink_distance(_positive_part(x), step_size)
        sizes = jax.tree.map(jnp.abs, x)
        if self.elementwise:
            zeros, ones = trees.zeros_like(x), jax.tree.map(jnp.ones_like, x)
            slopes = jax.jvp(lambda u: self.penalty.prox(u, step_size), (zeros,), (ones,))[1]
            sizes = jax.tree.map(lambda u, slope: jnp.where(slope == 0, jnp.inf, u), sizes, slopes)
        return jnp.minimum(smallest(sizes, x), inside)


def _positive_part(x: Tree) -> Any:
    return jax.tree.map(lambda u: jnp.where(u <= 0, jnp.zeros((), u.dtype), u), x)


@record
class Scaled(_Wrapper):
    r"""A penalty times a factor: :math:`\alpha g(x)`. Proximal operator :math:`\mathrm{prox}_{\alpha\eta g}`.

    Parameters
    ----------
    penalty
        ``g``.
    factor
        :math:`\alpha > 0`, a scalar.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.penalties import L1, Scaled
    >>> print(Scaled(L1(1.0), 2.0).prox(jnp.array([3.0, 0.5]), 1.0))
    [1. 0.]
    """

    penalty: Any
    factor: Any = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive("Scaled's factor", self.factor)

    def value(self, x: Tree) -> jax.Array:
        """Return the scaled value."""
        value = self.penalty.value(x)
        return jnp.asarray(self.factor, value.dtype) * value

    def _steps(self, step_size: Any) -> Any:
        require_step(step_size)
        factor = positive(self.factor)
        return jax.tree.map(lambda eta: eta * factor, step_size)

    def _conjugate_prox(self, x: Tree, eta: jax.Array) -> Any:
        r"""Return that of the conjugate :math:`\alpha\, g^*(\cdot / \alpha)`."""
        factor = jnp.asarray(positive(self.factor))
        return trees.scale(factor, self.penalty.conjugate_prox(trees.scale(1 / factor, x), eta / factor))

    def prox(self, x: Tree, step_size: Any) -> Tree:
        """Return the proximal point of a longer step."""
        return self.penalty.prox(x, self._steps(step_size))

    def kink_distance(self, x: Tree, step_size: Any) -> jax.Array:
        """Return the distance of a longer step."""
        return self.penalty.kink_distance(x, self._steps(step_size))

    def check(self, x: Tree) -> None:
        """Raise unless the factor is a scalar and the penalty fits."""
        super().check(x)
        if jnp.ndim(self.factor) != 0:
            raise ValueError(f"Scaled's factor must be a scalar: given shape {jnp.shape(self.factor)}.")


@record
class Shifted(_Wrapper):
    r"""A penalty around another center: :math:`g(x - c)`. Proximal operator :math:`c + \mathrm{prox}_{\eta g}(x - c)`.

    Parameters
    ----------
    penalty
        ``g``.
    shift
        ``c``: a scalar, an array that broadcasts against ``x``, or a tree like ``x``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.penalties import L1, Shifted
    >>> print(Shifted(L1(1.0), 2.0).prox(jnp.array([5.0, 2.5]), 1.0))
    [4. 2.]
    """

    penalty: Any
    shift: Any = 0.0

    @property
    def monotone(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether it is around zero: no."""
        return False

    def _centered(self, x: Tree) -> Any:
        return jax.tree.map(lambda u, c: u - jnp.asarray(c, u.dtype), x, leaves_like(self.shift, x))

    def value(self, x: Tree) -> jax.Array:
        """Return the penalty of the difference."""
        return self.penalty.value(self._centered(x))

    def _conjugate_prox(self, x: Tree, eta: jax.Array) -> Any:
        r"""Return that of the conjugate :math:`g^* + \langle c, \cdot \rangle`."""
        lower = lambda u, c: u - (eta * c).astype(u.dtype)
        return self.penalty.conjugate_prox(map_with(lower, x, self.shift), eta)

    def prox(self, x: Tree, step_size: Any) -> Tree:
        """Return the shifted proximal point."""
        inner = self.penalty.prox(self._centered(x), step_size)
        return jax.tree.map(lambda u, c: u + jnp.asarray(c, u.dtype), inner, leaves_like(self.shift, x))

    def kink_distance(self, x: Tree, step_size: Any) -> jax.Array:
        """Return the distance of the difference."""
        return self.penalty.kink_distance(self._centered(x), step_size)

    def check(self, x: Tree) -> None:
        """Raise unless the shift broadcasts against ``x`` and the penalty fits."""
        require_broadcast("Shifted", "shift", self.shift, x)
        super().check(x)

    def row(self, i: Any, x: jax.Array) -> Shifted:
        """Return the penalty of one row."""
        shift = jnp.asarray(self.shift)
        return Shifted(self.penalty.row(i, x), shift[i] if shift.ndim == x.ndim and shift.shape[0] > 1 else shift)


@record
class Orthogonal(_Wrapper):
    r"""A penalty after a linear map with orthonormal rows: :math:`g(Qx)` with :math:`QQ^\top = I`.

    Sparsity in a wavelet basis or of a cosine transform, group norms of rotated coordinates. Proximal operator:
    :math:`x + Q^\top(\mathrm{prox}_{\eta g}(Qx) - Qx)`; for a square ``Q`` this is :math:`Q^\top
    \mathrm{prox}_{\eta g}(Qx)`.

    Parameters
    ----------
    penalty
        ``g``.
    transform
        ``Q``: a matrix that multiplies a vector ``x``, or a linear function of ``x``, which JAX transposes.

    Raises
    ------
    ValueError
        If :math:`QQ^\top` is not the identity, by one vector (in ``check``; a solve, whose numbers are traced, gives
        NaN).

    Examples
    --------
    Coordinates that are turned by 45 degrees:

    >>> import jax.numpy as jnp
    >>> from dini.penalties import L1, Orthogonal
    >>> Q = jnp.array([[1.0, 1.0], [1.0, -1.0]]) / jnp.sqrt(2.0)
    >>> print(Orthogonal(L1(1.0), Q).prox(jnp.array([3.0, 3.1]), 1.0).round(3))
    [2.343 2.343]
    """

    penalty: Any
    transform: Any

    def __post_init__(self) -> None:
        super().__post_init__()
        if callable(self.transform):
            object.__setattr__(self, "transform", as_function(self.transform, "Orthogonal's transform"))

    @property
    def elementwise(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether it treats each element on its own: no."""
        return False

    @property
    def monotone(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether it is in the unknown: no."""
        return False

    def _apply(self, x: Tree) -> Any:
        return self.transform(x) if callable(self.transform) else dot(jnp.asarray(self.transform), x)

    def _transpose(self, x: Tree, image: Any) -> Any:
        return jax.linear_transpose(self._apply, x)(image)[0]

    def value(self, x: Tree) -> jax.Array:
        """Return the penalty of the image."""
        return self.penalty.value(self._apply(x))

    def _conjugate_prox(self, x: Tree, eta: jax.Array) -> Any:
        """Return the proximal point of the image, mapped back."""
        return self._transpose(x, self.penalty.conjugate_prox(self._apply(x), eta))

    def prox(self, x: Tree, step_size: Any) -> Tree:
        """Return ``x`` with its image moved to the proximal point."""
        image = self._apply(x)
        move = trees.sub(self.penalty.prox(image, step_size), image)
        return trees.add(x, self._transpose(x, move))

    def kink_distance(self, x: Tree, step_size: Any) -> jax.Array:
        """Return the distance of the image."""
        return self.penalty.kink_distance(self._apply(x), step_size).astype(trees.real_dtype(x))

    def closed(self, x: Tree) -> Orthogonal:
        """Return the penalty with everything that its functions close over made explicit."""
        transform = close(self.transform, x) if callable(self.transform) else self.transform
        image = jax.eval_shape(self._apply, x)
        mark = jnp.where(self._error(x) <= trees.eps(image) ** 0.5, 1.0, jnp.nan)
        marked = Partial(_marked, transform, jax.lax.stop_gradient(mark))
        return Orthogonal(self.penalty.closed(image), marked)

    def _error(self, x: Tree) -> jax.Array:
        r"""Return :math:`\|QQ^\top v - v\| / (1 + \|v\|)` for one vector."""
        image = jax.eval_shape(self._apply, x)
        probe = jax.tree.map(lambda u: jnp.cos(1 + jnp.arange(u.size)).reshape(u.shape).astype(u.dtype), image)
        back = self._apply(self._transpose(x, probe))
        return trees.norm(trees.sub(back, probe)) / (1 + trees.norm(probe))

    def check(self, x: Tree) -> None:
        """Raise unless the rows are orthonormal and the penalty fits the image."""
        _require_penalty(self.name, self.penalty)
        if not callable(self.transform) and (jnp.ndim(self.transform) != 2 or not hasattr(x, "ndim") or x.ndim != 1):
            raise ValueError(
                "A matrix as Orthogonal's transform needs an unknown that is one vector; give a linear function: given "
                f"a transform of shape {jnp.shape(self.transform)} for {trees.describe(x)}."
            )
        try:
            image = jax.eval_shape(self._apply, x)
        except TypeError as error:
            raise ValueError(f"Orthogonal's transform does not fit {trees.describe(x)}: {error}") from error
        error = self._error(x)
        if not isinstance(error, jax.core.Tracer) and error > trees.eps(image) ** 0.5:
            raise ValueError(
                f"Orthogonal's transform Q must have orthonormal rows: Q Q^T v differs from v by {float(error):.3g} of "
                "its length for some vector v."
            )
        self.penalty.check(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), image))

    def separates_rows(self, x: jax.Array) -> bool:
        """Return that the map mixes rows."""
        del x
        return False


@record
class Product(Penalty):
    """A penalty for each part of the unknown, added up: a tree of penalties that is a prefix of the unknown's tree.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.penalties import L1, Product, Ridge
    >>> product = Product({"a": L1(1.0), "b": Ridge(1.0)})
    >>> product.prox({"a": jnp.array([-3.0, 0.5]), "b": jnp.array([2.0])}, 1.0)
    {'a': Array([-2.,  0.], dtype=float32), 'b': Array([1.], dtype=float32)}
    """

    penalties: Any

    def _parts(self) -> list[Any]:
        return jax.tree.leaves(self.penalties, is_leaf=_is_penalty)

    @property
    def convex(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether all parts are."""
        return all(part.convex for part in self._parts())

    @property
    def elementwise(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether all parts are."""
        return all(part.elementwise for part in self._parts())

    @property
    def monotone(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether all parts are."""
        return all(part.monotone for part in self._parts())

    @property
    def valued(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether all parts are."""
        return all(part.valued for part in self._parts())

    def _map(self, fun: Any, x: Tree, *rest: Any) -> Any:
        return jax.tree.map(fun, self.penalties, x, *rest, is_leaf=_is_penalty)

    def value(self, x: Tree) -> jax.Array:
        """Return the sum of the values."""
        return total(jax.tree.leaves(self._map(lambda part, u: part.value(u), x)), x)

    def _conjugate_prox(self, x: Tree, eta: jax.Array) -> Any:
        """Return that of each part."""
        return self._map(lambda part, u: part.conjugate_prox(u, eta), x)

    def prox(self, x: Tree, step_size: Any) -> Tree:
        """Return the proximal point of each part."""
        return self._with_steps(lambda part, u, eta: part.prox(u, eta), x, step_size)

    def kink_distance(self, x: Tree, step_size: Any) -> jax.Array:
        """Return the smallest distance of the parts."""
        return smallest(self._with_steps(lambda part, u, eta: part.kink_distance(u, eta), x, step_size), x)

    def _with_steps(self, fun: Any, x: Tree, step_size: Any) -> Any:
        if jax.tree.structure(step_size) != jax.tree.structure(x):
            return self._map(lambda part, u: fun(part, u, step_size), x)
        return self._map(fun, x, step_size)

    def closed(self, x: Tree) -> Product:
        """Return the penalty with everything that its parts' functions close over made explicit."""
        return Product(self._map(lambda part, u: part.closed(u), x))

    def check(self, x: Tree) -> None:
        """Raise unless the tree of penalties is a prefix of ``x`` and each penalty fits its part."""
        for part in self._parts():
            _require_penalty("Product", part)
        try:
            self._map(lambda part, u: part.check(u), x)
        except (ValueError, TypeError) as error:
            require_places("Product", "a penalty", self.penalties, "dini.penalties.Indicator(dini.sets.Free())")
            raise ValueError(f"Product does not fit the unknown x with shapes {trees.describe(x)}: {error}") from error


def _is_penalty(node: Any) -> bool:
    return isinstance(node, Penalty | Set)


def _marked(transform: Any, mark: jax.Array, x: Tree) -> Any:
    """Return the transform of ``x``, NaN where it was found not to be orthogonal."""
    image = transform(x) if callable(transform) else dot(jnp.asarray(transform), x)
    return trees.scale(mark, image)
