"""Broyden's method."""

from __future__ import annotations

from dataclasses import field
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from .. import trees
from ..checks.settings import require_choice, require_count
from ..linear import DENSE_LIMIT
from ..linear._small import product
from ..problems import FixedPoint, Root
from ..protocols import AnyProblem, Equations
from ..trees import Tree
from ..trees.products import dot
from ._base import Solver, solver
from ._chord import apply_inverse, factorize, inverse, no_factor
from .judge import _equations
from .shared import _stored


class Inverse(NamedTuple):
    """The inverse Jacobian itself, and the number of updates since it was computed."""

    matrix: Any
    count: Any


class Memory(NamedTuple):
    r"""The Jacobian :math:`B = B_0 (I + \sum_i z_i s_i^\top)`: the inverse of ``B_0``, and the pairs.

    ``base`` is a factorization of ``B_0``, or the number by which its inverse multiplies, ``gram`` has the products
    :math:`s_i^\top z_j`. Only the first ``count`` pairs are in use.
    """

    base: Any
    z: Any
    s: Any
    gram: Any
    count: Any


@solver
class Broyden(Solver):
    r"""Broyden's good method in limited memory, for roots and fixed points.

    The direction, and the update of the Jacobian after a step ``s`` with change ``y`` of the residual, are

    .. math::
        \begin{aligned}
        p &= -B^{-1} F(x), \qquad (1) \\
        B &\leftarrow B + \frac{(y - B s)\, s^\top}{s^\top s} . \qquad (2)
        \end{aligned}

    The updates are kept as pairs of vectors, the columns of ``Z`` and ``S``, and are dropped when there are more than
    ``history`` of them or a step fails:

    .. math::
        \begin{aligned}
        B &= B_0 (I + Z S^\top), \quad z = \frac{B_0^{-1} (y - B s)}{s^\top s}, \qquad (3) \\
        B^{-1} &= \bigl(I - Z (I + S^\top Z)^{-1} S^\top\bigr) B_0^{-1} . \qquad (4)
        \end{aligned}

    Of an unknown of no more than ``history`` numbers the inverse Jacobian :math:`H = B^{-1}` itself is updated, which
    is less work and needs no dropping:

    .. math:: H \leftarrow H + \frac{(s - H y)\, s^\top H}{s^\top H y} . \qquad (5)

    Steps are safeguarded as those of :class:`dini.Newton`. Each trial is one step and one evaluation of the function.
    The error is :math:`\|F\|_2`.

    Parameters
    ----------
    history
        Number of updates that are kept, and of unknowns up to which the inverse Jacobian itself is.
    start
        What is updated: ``"jacobian"``, factorized densely at the starting point and wherever the updates are dropped;
        ``"identity"``, a multiple of it that fits the Jacobian along the residual, for large systems. Default,
        ``"auto"``: the Jacobian up to 512 unknowns.
    rtol, atol
        Relative and absolute tolerance on the error, see :class:`dini.Solver`.
    max_steps
        Limit on the number of steps.

    References
    ----------
    Broyden, "A class of methods for solving nonlinear simultaneous equations", Math. Comp. 1965. Kelley, "Iterative
    Methods for Linear and Nonlinear Equations", SIAM 1995, chapter 7.

    Examples
    --------
    >>> import dini
    >>> round(float(dini.root(lambda x, a: x**3 + x - a, 1.0, 10.0, solver=dini.Broyden(rtol=1e-6)).x), 4)
    2.0
    """

    history: int = field(default=20, metadata={"static": True})
    start: Literal["auto", "jacobian", "identity"] = field(default="auto", metadata={"static": True})
    max_steps: int = field(default=500, metadata={"static": True})

    solves = (Root, FixedPoint)
    adaptive = True

    def __post_init__(self, tol: Any) -> None:
        self._check_settings(tol)
        require_count("Broyden's history", self.history)
        require_choice("Broyden's start", self.start, ("auto", "jacobian", "identity"))

    def _dense(self, x: Tree) -> bool:
        return self.start == "jacobian" or (self.start == "auto" and trees.size(x) <= DENSE_LIMIT)

    def _small(self, x: Tree) -> bool:
        return self.start != "identity" and trees.size(x) <= self.history

    def init(self, problem: AnyProblem, x: Tree, *args: Tree) -> _equations.State:
        """Return the state before the first step, which only evaluates the function."""
        del problem, args
        none = jnp.zeros((), jnp.int32)
        if self._small(x):
            return _equations.start(x, Inverse(jnp.eye(trees.size(x), dtype=trees.real_dtype(x)), none))
        store = _stored.empty(self.history, x)
        base = no_factor(x) if self._dense(x) else jnp.ones((), trees.real_dtype(x))
        gram = jnp.zeros((self.history, self.history), trees.real_dtype(x))
        return _equations.start(x, Memory(base, store, store, gram, none))

    def step(self, problem: Equations, x: Tree, state: _equations.State, *args: Tree) -> tuple[Any, _equations.State]:
        """Try one step."""
        if self._small(x):
            return _equations.advance(self, problem, x, state, args, partial(_direct, problem, args))
        dense = self._dense(x)
        apply = apply_inverse if dense else trees.scale

        def base_at(event: _equations.Event) -> Any:
            if dense:
                return factorize(problem, event.x, args)
            function = lambda u: problem.residual(u, *args)
            image = jax.jvp(function, (event.x,), (event.residual,))[1]
            along, size = trees.vdot(image, event.residual), trees.vdot(image, image)
            # of the two lengths that fit the Jacobian along the residual, the one that is not small
            best = along / jnp.where(size > 0, size, 1)
            return jnp.where(best != 0, best, 1.0).astype(trees.real_dtype(x))

        def direct(event: _equations.Event, direction: Tree, memory: Memory) -> tuple[Any, Any, Any, Any]:
            del direction
            failed = ~event.accept & (memory.count > 0)
            fresh = failed | event.doubtful | (event.needed & (event.first | (memory.count == self.history)))
            base = jax.lax.cond(fresh, lambda _: base_at(event), lambda _: memory.base, None)
            slots = jnp.arange(self.history, dtype=jnp.int32)
            along = jnp.where(slots < memory.count, _stored.products(memory.s, event.move), 0)
            # (2) as (3), what the inverse makes of the new column: s = event.move, y = event.change
            image = apply(memory.base, event.change)
            left = trees.sub(trees.sub(image, event.move), _stored.combine(memory.z, along, image))
            z, moved = _over_square(left, event.move)
            take = event.accept & ~fresh & moved & trees.all_finite(z)
            stored_z = _stored.put(memory.z, memory.count, z, take)
            stored_s = _stored.put(memory.s, memory.count, event.move, take)
            here = take & (slots == memory.count)
            row, column = _stored.products(stored_z, event.move), _stored.products(stored_s, z)
            gram = jnp.where(here[:, None], row, jnp.where(here[None, :], column[:, None], memory.gram))
            count = jnp.where(fresh, 0, memory.count + take.astype(memory.count.dtype))
            p = apply(base, trees.neg(event.residual))
            used = slots < count
            small = jnp.eye(self.history, dtype=gram.dtype) + jnp.where(used[:, None] & used[None, :], gram, 0)
            # (1) by (4): p was -B_0^{-1} F, gram = S'Z
            weights = jnp.linalg.solve(small, jnp.where(used, _stored.products(stored_s, p), 0))
            memory = Memory(base, stored_z, stored_s, gram.astype(memory.gram.dtype), count)
            # a multiple of the identity at the start knows one direction
            current = fresh if dense else event.doubtful
            return trees.sub(p, _stored.combine(stored_z, weights, p)), memory, failed, current

        return _equations.advance(self, problem, x, state, args, direct, exact=dense)


def _over_square(v: Tree, s: Tree) -> tuple[Any, Any]:
    """Return a vector over the squared norm of another, in two steps whose derivatives do not overflow, and whether."""
    squared = trees.vdot(s, s)
    moved = squared >= jnp.finfo(squared.dtype).tiny
    inverse = 1 / jnp.sqrt(jnp.where(moved, squared, 1))
    return trees.scale(inverse, trees.scale(inverse, v)), moved


def _direct(
    problem: Equations, args: tuple[Tree, ...], event: _equations.Event, direction: Tree, memory: Inverse
) -> tuple[Any, Inverse, Any, Any]:
    """Update the inverse Jacobian (Sherman and Morrison), or compute it; return the direction."""
    del direction
    dtype = memory.matrix.dtype
    flat, unravel = ravel_pytree(event.residual)
    residual, s, y = (ravel_pytree(v)[0].astype(dtype) for v in (event.residual, event.move, event.change))
    failed = ~event.accept & (memory.count > 0)
    # of a singular Jacobian, the next one
    lost = ~jnp.all(jnp.isfinite(memory.matrix))
    fresh = failed | event.doubtful | (event.needed & (event.first | lost))
    base = jax.lax.cond(fresh, lambda _: inverse(problem, event.x, args).astype(dtype), lambda _: memory.matrix, None)
    hy, sh = product(memory.matrix, y), product(memory.matrix.T, s)
    along = dot(s, hy)
    regular = jnp.abs(along) > jnp.finfo(dtype).eps * jnp.sqrt(dot(s, s) * dot(hy, hy))
    # (2) as (5): H = memory.matrix, H y = hy, s'H = sh
    updated = memory.matrix + (s - hy)[:, None] * (sh / jnp.where(regular, along, 1))[None, :]
    take = event.accept & ~fresh & regular & jnp.all(jnp.isfinite(updated))
    matrix = jnp.where(take, updated, base)
    count = jnp.where(fresh, 0, memory.count + take.astype(memory.count.dtype))
    # (1): B^{-1} = matrix
    return unravel(-product(matrix, residual).astype(flat.dtype)), Inverse(matrix, count), failed, fresh
