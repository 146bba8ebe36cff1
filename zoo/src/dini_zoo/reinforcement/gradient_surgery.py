r"""Gradients of two losses put together so that one does not undo the other.

For gradients :math:`g` of a main loss and :math:`h` of an added one, over *all* parameters at once, the orthogonal
update adds what of :math:`h` is at a right angle to :math:`g`:

.. math:: g + h - \frac{\langle h, g \rangle}{\langle g, g \rangle}\, g,

so that to first order the added part leaves the main loss as it is. The sum of both, and the main gradient alone, are
what it is compared with.

References
----------
Mao, Xu, Zhang, Zhan, "ODICE: Revealing the mystery of distribution correction estimation via orthogonal-gradient
update", ICLR 2024.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dini_zoo.kit.checking import not_negative, one_of, trainable

type Combination = Literal["orthogonal", "main", "sum"]
"""How two gradients become one: with what of the second is orthogonal to the first, the first alone, or both."""
COMBINATIONS: tuple[str, ...] = get_args(Combination.__value__)


def inner(one: Any, other: Any) -> Float[Array, ""]:
    """The inner product of two trees over all of their leaves; raises `ValueError` where they differ in form."""
    if jax.tree.structure(one) != jax.tree.structure(other):
        raise ValueError(
            f"Both gradients must be trees of one form: given {jax.tree.structure(one)} and "
            f"{jax.tree.structure(other)}."
        )
    pairs = list(zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))
    for a, b in pairs:
        if jnp.shape(a) != jnp.shape(b):
            raise ValueError(f"Both gradients must have leaves of one shape: given {jnp.shape(a)} and {jnp.shape(b)}.")
    return jnp.asarray(sum(jnp.sum(a * b) for a, b in pairs))


def _unit(tree: Any) -> tuple[Any, Array]:
    """A tree over its largest entry, and that entry: squares of the former neither overflow nor vanish."""
    most = jnp.stack([jnp.max(jnp.abs(leaf), initial=0.0) for leaf in jax.tree.leaves(tree)]).max()
    most = jax.lax.stop_gradient(jnp.where(most == 0, 1.0, most))
    return jax.tree.map(lambda leaf: leaf / most, tree), most


def _split(gradient: Any, reference: Any, eps: Any) -> tuple[Any, Array, Array]:
    """What of a gradient is orthogonal, the coefficient of the rest, and the cosine."""
    unit, scale = _unit(reference)
    own, own_scale = _unit(gradient)
    square, product = inner(unit, unit), inner(own, unit)
    # zero over zero is no multiple at all; what is not a number stays so
    floor = jnp.maximum(square, (jnp.sqrt(jnp.asarray(eps, square.dtype)) / scale) ** 2)
    ratio = jnp.where(floor == 0, 0.0, product / jnp.where(floor == 0, 1.0, floor))
    rest = jax.tree.map(lambda g, u: own_scale * (g - ratio * u), own, unit)
    length = jnp.sqrt(square) * jnp.sqrt(inner(own, own))
    cosine = jnp.where(length == 0, 0.0, product / jnp.where(length == 0, 1.0, length))
    return rest, ratio * (own_scale / scale), jax.lax.stop_gradient(cosine)


def project_orthogonal(gradient: Any, reference: Any, eps: Any = 0.0) -> Any:
    r"""What of a gradient is orthogonal to a reference, over all leaves of the trees at once.

    .. math:: g - \frac{\langle g, r \rangle}{\max(\langle r, r \rangle, \epsilon)}\, r

    Parameters
    ----------
    gradient, reference
        :math:`g, r`: trees of arrays of one form.
    eps
        :math:`\epsilon`. With zero, the default, units do not matter, and a reference of zeros takes nothing away; any
        other number leaves gradients whole that are small beside it.

    Raises
    ------
    ValueError
        For trees that differ in form, or a negative `eps`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> print(project_orthogonal(jnp.array([1.0, 1.0]), jnp.array([0.0, 2.0])))
    [1. 0.]
    """
    not_negative("eps", eps)
    return _split(gradient, reference, eps)[0]


class Combined(NamedTuple):
    """Two gradients put together."""

    gradient: Any
    """What to descend along."""
    coefficient: Float[Array, ""]
    r""":math:`\langle h, g \rangle / \langle g, g \rangle`: how much of the main gradient the added one holds."""
    cosine: Float[Array, ""]
    """Of the angle between the two; zero where one of them vanishes."""


def combine(main: Any, added: Any, mode: Combination = "orthogonal", *, eps: Any = 0.0, leafwise: bool = False) -> Any:
    """Put two gradients together, trees of one form; a `Combined`.

    `leafwise` projects each leaf by itself, which is another algorithm: it takes away more than the main loss asks for.
    Coefficient and cosine are those of all parameters in any case.

    Raises
    ------
    ValueError
        For another mode, a negative `eps`, trees that differ in form.
    """
    one_of("mode", mode, COMBINATIONS)
    not_negative("eps", eps)
    rest, coefficient, cosine = _split(added, main, eps)
    if leafwise:
        rest = jax.tree.map(lambda h, g: _split(h, g, eps)[0], added, main)
    extra = {"orthogonal": rest, "main": None, "sum": added}[mode]
    gradient = main if extra is None else jax.tree.map(jnp.add, main, extra)
    return Combined(gradient, coefficient, cosine)


def combined_gradient(
    main: Callable[..., Any],
    added: Callable[..., Any],
    params: Any,
    *args: Any,
    mode: Combination = "orthogonal",
    eps: Any = 0.0,
    leafwise: bool = False,
) -> Combined:
    """The gradients of any two losses, `main(params, *args)` and `added(params, *args)`, put together.

    Parameters
    ----------
    main, added
        Functions of the parameters that return a number.
    params
        A tree of arrays of floats.
    *args
        What both are given beside.
    mode, eps, leafwise
        See `combine`.

    Raises
    ------
    TypeError
        For parameters that are not all floats.
    ValueError
        See `combine`.

    Examples
    --------
    A step that lowers the second loss and leaves the first one, to first order, where it falls anyway:

    >>> import jax.numpy as jnp
    >>> first, second = lambda x: x[0], lambda x: jnp.sum(x)
    >>> print(combined_gradient(first, second, jnp.zeros(2)).gradient)
    [1. 1.]
    """
    trainable("params", params)
    return combine(jax.grad(main)(params, *args), jax.grad(added)(params, *args), mode, eps=eps, leafwise=leafwise)
