r"""Verify a root, a fixed point, or a given point: each element relative to its own size.

A norm depends on the largest elements only: of the unknowns 1e6 and 1e-4, the second may have any value.

**A fixed point** of a map ``T``. The residual :math:`r = T(x) - x` has the units of ``x``, so that a result is refused
where

.. math:: |r_i| > 10\,\text{rtol}\, X_i, \qquad
          X_i = \max\Bigl(|x_i|, |T_i|, \sqrt{\textstyle\sum_j (J_{ij} x_j)^2}, \epsilon^{1/4} |x^0_i|\Bigr) . \quad (1)

The sum is the contribution of the elements of ``x`` to element ``i``: an element that is small because large terms
cancel cannot be more accurate. Differences of ``T`` along :math:`s \circ x`, of random signs ``s``, show it.

**A root**, and a given point. Newton's method starts there, with a dense Jacobian. Where it converges to a
point :math:`x^\star`, the point is off by :math:`|x_i - x^\star_i|`. An element counts if that and :math:`x^\star_i`
are known to a tenth: both exceed ten times the last step and its rounding error,

.. math:: \epsilon\, (|J^{-1}| \rho)_i, \qquad \rho = |F| + |J|\,|x| . \qquad (2)

So an element whose true value is zero never counts: Newton's iterates of it only get smaller, or are rounding. Nor do
elements of a singular system, where (2) is infinite.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from .. import scaling, trees
from ..linear import _small
from ..linear._materialize import images
from ..problems import FixedPoint, Root
from ..protocols import AnyProblem
from ..trees import Tree
from ..trees.products import dot
from ._minimum import MISSED, Finding

#: differences whose squares are averaged in (1)
PRODUCTS = 4
#: points of so many numbers are followed by Newton's method, which needs a matrix
FEW = 64
#: steps of Newton's method at most: from a point that is a hundred times too large, a square root takes ten
NEWTON = 12
#: what is to be known to a tenth
KNOWN = 10.0


def examiner(
    problem: AnyProblem, tolerances: tuple[Any, Any], start: Tree, args: tuple[Tree, ...]
) -> Callable[..., Finding] | None:
    """Return a function that examines a point, as that of :mod:`._minimum`, or ``None`` where nothing can be seen.

    That is so for roots of more than :data:`FEW` numbers, and where an absolute tolerance is given: it is in the user's
    units. The scales that it finds are the sizes (1).
    """
    start, args, problem = jax.lax.stop_gradient((start, args, problem))
    rtol, atol = tolerances
    if not (isinstance(atol, int | float) and atol == 0):
        return None
    rtol = jnp.where(jnp.asarray(rtol) > 0, jnp.maximum(rtol, KNOWN * trees.eps(start)), jnp.inf)
    no = jnp.zeros((), bool)
    if isinstance(problem, FixedPoint) and not trees.has_complex(start):

        def examine(x: Tree, claimed: Any, alone: Any, fresh: Any, largest: Any) -> Finding:
            del alone, fresh, largest
            x = jax.lax.stop_gradient(x)
            sizes, image = _sizes(lambda u: problem.map(u, *args), x, start, claimed)
            missed = longest(trees.sub(image, x), sizes, rtol)
            return Finding(sizes, x, claimed & (missed > MISSED), jnp.zeros_like(missed), no)

        return examine
    if not (isinstance(problem, Root) and can_follow(start)):
        return None

    def examine(x: Tree, claimed: Any, alone: Any, fresh: Any, largest: Any) -> Finding:
        del alone, fresh, largest
        point, error = followed(lambda u: problem.residual(u, *args), x, claimed)
        refused = claimed & (error > MISSED * rtol)
        return Finding(trees.zeros_like(x), trees.where(refused, point, x), refused, jnp.zeros_like(error), no)

    return examine


def _sizes(map: Callable[[Tree], Tree], x: Tree, start: Tree, wanted: Any) -> tuple[Tree, Tree]:
    """Return the sizes (1) of the elements of a point, and the map there, where they are wanted."""
    eps = trees.eps(x)
    step = eps**0.5

    def one(k: Any, now: tuple[Tree, Tree]) -> tuple[Tree, Tree]:
        # the first time at the point itself
        away = jnp.where(k > 0, step, 0)
        image = map(jax.tree.map(lambda u, s: u * (1 + away.astype(u.dtype) * s), x, scaling.signs(x, k)))
        squares, here = now
        here = trees.where(k > 0, here, image)
        return jax.tree.map(lambda q, t, h: q + ((t - h) / step) ** 2 / PRODUCTS, squares, image, here), here

    squares, image = jax.lax.fori_loop(0, jnp.where(wanted, 1 + PRODUCTS, 0), one, (trees.zeros_like(x), x))

    def size(u: Any, t: Any, squared: Any, first: Any) -> Any:
        made = jnp.maximum(jnp.abs(t), jnp.sqrt(squared))
        return jnp.maximum(jnp.maximum(jnp.abs(u), eps**0.25 * jnp.abs(first)), made)

    return jax.tree.map(size, x, image, squares, start), image


def longest(move: Tree, sizes: Tree, rtol: Any) -> Any:
    """Return the largest element of a vector relative to its size, in units of a tolerance."""

    def one(r: Any, size: Any) -> Any:
        tol = rtol * size
        return jnp.max(jnp.where(r == 0, 0, jnp.abs(r) / jnp.where(tol > 0, tol, jnp.finfo(tol.dtype).tiny)), initial=0)

    parts = [one(r, size) for r, size in zip(*map(jax.tree.leaves, (move, sizes)), strict=True)]
    return jnp.max(jnp.stack([part.astype(trees.real_dtype(move)) for part in parts])) if parts else jnp.zeros(())


class Followed(NamedTuple):
    """Where Newton's method has converged, and the largest relative error of an element that counts, else zero."""

    point: Tree
    error: Any


def followed(function: Callable[[Tree], Tree], x: Tree, wanted: Any = True) -> Followed:
    """Follow Newton's method from a real point of at most :data:`FEW` numbers."""
    x = jax.lax.stop_gradient(x)
    flat, unravel = ravel_pytree(x)
    eps = trees.eps(x)
    residual = lambda u: ravel_pytree(function(unravel(u)))[0].astype(u.dtype)

    def step(now: tuple[Any, Any, Any, Any]) -> tuple[Any, Any, Any, Any]:
        k, u, _, _ = now
        value, push = jax.linearize(residual, u)
        matrix = images(push, u).T
        made_of = jnp.abs(value) + dot(jnp.abs(matrix), jnp.abs(u))
        unit = jnp.where(made_of > 0, made_of, 1)
        inverse = _small.inverse(matrix / unit[:, None])
        move = dot(inverse, value / unit)
        # (2)
        return k + 1, u - move, jnp.abs(move), eps * jnp.sum(jnp.abs(inverse), axis=1)

    def going(now: tuple[Any, Any, Any, Any]) -> Any:
        k, u, move, noise = now
        return wanted & (k < NEWTON) & ((k == 0) | jnp.any(move > jnp.maximum(eps**0.75 * jnp.abs(u), noise)))

    infinite = jnp.full_like(flat, jnp.inf)
    begin = jnp.zeros((), jnp.int32), flat, infinite, infinite
    _, u, move, noise = jax.lax.while_loop(going, step, begin)
    error, size, doubt = jnp.abs(flat - u), jnp.abs(u), KNOWN * (move + noise)
    counts = (size > doubt) & (error > doubt)
    largest = jnp.max(jnp.where(counts, error / jnp.where(counts, size, 1), 0), initial=0)
    return Followed(unravel(u), largest)


def can_follow(x: Tree) -> bool:
    """Return whether Newton's method is followed from a point."""
    return 0 < trees.size(x) <= FEW and not trees.has_complex(x)
