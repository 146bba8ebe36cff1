"""The shape of a penalty, and a user's own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.records import record
from ..checks.settings import known, positive, require_all_positive
from ..functions import as_function, close
from ..numerics import separable
from ..numerics.separable import Separable, map_with
from ..trees import Tree


class Penalty(Separable):
    """Base of the penalties; subclasses stand under the decorator ``record``."""

    #: whether the penalty is a convex function; if not, its proximal operator need not be nonexpansive
    convex: bool = True
    #: whether the penalty depends on the absolute values of the elements only, and decreases in none of them
    monotone: bool = False
    #: whether there is a value, or the proximal operator alone
    valued: bool = True

    def value(self, x: Tree) -> jax.Array:
        """Return ``g(x)``."""
        raise NotImplementedError

    def prox(self, x: Tree, step_size: Any) -> Tree:
        r"""Return the proximal point :math:`\arg\min_p \tfrac12\|p - x\|^2 + \eta\, g(p)`."""
        raise NotImplementedError

    def conjugate_prox(self, x: Tree, step_size: Any) -> Tree:
        r"""Return the proximal point of the convex conjugate :math:`g^*`.

        By Moreau's identity it is :math:`x - \eta\, \mathrm{prox}_{g/\eta}(x/\eta)`. Of a norm it is the projection
        onto the ball of the dual norm, whatever the step size.

        Raises
        ------
        ValueError
            If the penalty is not convex: the identity does not hold then.

        Examples
        --------
        The conjugate of the 1-norm is the indicator of the unit box:

        >>> import jax.numpy as jnp
        >>> from dini.penalties import L1
        >>> print(L1(1.0).conjugate_prox(jnp.array([3.0, -0.5]), 2.0))
        [ 1.  -0.5]
        """
        if not self.convex:
            raise ValueError(f"{self.name} is not convex: Moreau's identity does not hold.")
        require_step(step_size)
        x, eta = trees.inexact(x), jnp.asarray(step_size)
        if not known(eta):
            x = trees.scale(jnp.where(positive(eta) > 0, 1, jnp.nan), x)
        return self._conjugate_prox(x, eta)

    def _conjugate_prox(self, x: Tree, eta: jax.Array) -> Any:
        """Return the proximal point by Moreau's identity.

        Where the conjugate is the indicator of a bounded set, the difference loses the digits of points that are far
        away. There a penalty has the projection instead.
        """
        return trees.axpy(-eta, self.prox(trees.scale(1 / eta, x), 1 / eta), x)

    def kink_distance(self, x: Tree, step_size: Any) -> jax.Array:
        """Return how far ``x`` is from the nearest point where ``prox(., step_size)`` has no derivative.

        The Euclidean distance of the whole tree, or a lower bound of it: within it, the derivative can be trusted.
        Infinity where the operator is differentiable everywhere, NaN where nothing is known (the default).
        """
        del step_size
        return jnp.full((), jnp.nan, trees.real_dtype(x))


def require_step(step_size: Any) -> None:
    """Raise unless every known step size is positive."""
    require_all_positive("step_size", step_size)


def require_broadcast(owner: str, name: str, parameter: Any, x: Tree) -> None:
    """Raise unless a parameter is given and broadcasts against ``x`` without changing its shape."""
    if parameter is None:
        raise TypeError(f"{name} of {owner} must be a number, an array, or a tree like the unknown x: given None.")
    separable.require_broadcast(owner, name, parameter, x)


def prox_map(fun: Callable[..., Any], x: Tree, *parameters: Any, step_size: Any) -> Any:
    """Map ``fun(leaf, *parameters, step_size)`` over the leaves of ``x``."""
    require_step(step_size)

    def one(leaf: jax.Array, *values: jax.Array) -> jax.Array:
        # a comparison with NaN is false and would pass for an answer
        unknown = functools.reduce(jnp.logical_or, map(jnp.isnan, values))
        return jnp.where(unknown, jnp.nan, fun(leaf, *values)).astype(leaf.dtype)

    return map_with(one, x, *parameters, step_size)


def total(terms: Any, x: Tree) -> jax.Array:
    """Return the sum of all elements of a tree, as a scalar for ``x``."""
    return sum((jnp.sum(term) for term in jax.tree.leaves(terms)), jnp.zeros((), trees.real_dtype(x)))


def unbounded(x: Tree) -> jax.Array:
    """Return infinity as a scalar for ``x``: the distance to a kink that does not exist."""
    return jnp.full((), jnp.inf, trees.real_dtype(x))


def gap_at(size: jax.Array, threshold: jax.Array) -> jax.Array:
    """Return the distance of a size from a positive threshold; a threshold of zero is none."""
    return jnp.where(threshold > 0, jnp.abs(size - threshold), jnp.inf)


@record(init=False)
class Custom(Penalty):
    """A user's own penalty; JAX differentiates its proximal operator as it stands.

    Without a value it serves all that needs the proximal operator alone: :class:`dini.ProximalGradient` and the
    solvers of :class:`dini.Composite`, every derivative and certificate. What needs the value says so.

    Parameters
    ----------
    value
        ``g(x)``, one number; ``None`` where it is not known.
    prox
        ``prox(x, step_size)``, a tree like ``x``.
    kink
        Optional: ``kink(x, step_size)``, what :meth:`kink_distance` returns.

    Raises
    ------
    TypeError
        If ``prox`` is missing, or :meth:`value` is asked for and was not given.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.penalties import Custom
    >>> ridge = Custom(lambda x: 0.5 * jnp.sum(x**2), lambda x, step_size: x / (1 + step_size))
    >>> ridge.prox(jnp.array([2.0]), 1.0)
    Array([1.], dtype=float32)

    The proximal operator alone:

    >>> import dini
    >>> lasso = Custom(prox=lambda x, step_size: jnp.sign(x) * jnp.maximum(jnp.abs(x) - step_size, 0.0))
    >>> y = jnp.array([3.0, 0.5])
    >>> print(dini.minimize(lambda x: 0.5 * jnp.sum((x - y) ** 2), y, penalty=lasso).x)
    [2. 0.]
    """

    function: Any = None
    proximal: Any = None
    kink: Any = None

    def __init__(self, value: Any = None, prox: Any = None, kink: Any = None) -> None:
        if prox is None:
            given = "a value alone" if callable(value) else "none"
            raise TypeError(
                "Custom needs a proximal operator, Custom(value, prox) or Custom(prox=prox) with prox(x, step_size): "
                f"given {given}."
            )
        for name, fun, argument in (("function", value, "value"), ("proximal", prox, "prox"), ("kink", kink, "kink")):
            # what is no function is a place in a tree of such objects
            fun = as_function(fun, f"Custom's {argument}") if callable(fun) else fun
            object.__setattr__(self, name, fun)

    @property
    def valued(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether a value was given."""
        return self.function is not None

    def value(self, x: Tree) -> jax.Array:
        """Return the user's value."""
        if self.function is None:
            raise TypeError(
                "dini.penalties.Custom(prox=...) has no value, and the value is needed here. Write "
                "Custom(value, prox) with value(x), one number."
            )
        return self.function(x)

    def prox(self, x: Tree, step_size: Any) -> Tree:
        """Return the user's proximal point."""
        return self.proximal(x, step_size)

    def kink_distance(self, x: Tree, step_size: Any) -> jax.Array:
        """Return the user's distance, NaN where none is given."""
        return super().kink_distance(x, step_size) if self.kink is None else self.kink(x, step_size)

    def closed(self, x: Tree) -> Custom:
        """Return the penalty with everything that its functions close over made explicit."""
        step = jax.ShapeDtypeStruct((), trees.real_dtype(x))
        return Custom(
            None if self.function is None else close(self.function, x),
            close(self.proximal, x, step),
            None if self.kink is None else close(self.kink, x, step),
        )

    def check(self, x: Tree) -> None:
        """Raise unless the functions return what they should."""
        step = jnp.ones((), trees.real_dtype(x))
        trees.require_same("The output of Custom's prox", jax.eval_shape(self.prox, x, step), x, "the unknown x")
        if self.function is not None and getattr(shape := jax.eval_shape(self.value, x), "shape", None) != ():
            raise TypeError(f"Custom's value must return one number: given {shape}.")
        if self.kink is not None and getattr(shape := jax.eval_shape(self.kink, x, step), "shape", None) != ():
            raise TypeError(f"Custom's kink must return one number: given {shape}.")
