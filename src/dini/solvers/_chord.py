"""The chord method."""

from __future__ import annotations

from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.linalg
from jax.flatten_util import ravel_pytree

from .. import trees
from ..linear import _small
from ..linear._materialize import materialize
from ..linear._small import PIVOTED, product
from ..problems import FixedPoint, Root
from ..protocols import AnyProblem, Equations
from ..trees import Tree
from ._base import Solver, solver
from .judge import _equations


def factorize(problem: Equations, x: Tree, args: tuple[Tree, ...]) -> Any:
    """Return the LU factorization of the Jacobian of the residual, of a small one its inverse."""
    if trees.size(x) <= PIVOTED:
        return inverse(problem, x, args)
    return jax.scipy.linalg.lu_factor(_jacobian(problem, x, args), check_finite=False)


def inverse(problem: Equations, x: Tree, args: tuple[Tree, ...]) -> jax.Array:
    """Return the inverse of the Jacobian of the residual."""
    return _small.inverse(_jacobian(problem, x, args))


def _jacobian(problem: Equations, x: Tree, args: tuple[Tree, ...]) -> jax.Array:
    push = jax.linearize(lambda u: problem.residual(u, *args), x)[1]
    return materialize(push, x)[0]


def no_factor(x: Tree) -> Any:
    """Return the factorization before there is one, that of the identity."""
    eye = jnp.eye(trees.size(x), dtype=trees.real_dtype(x))
    return eye if len(eye) <= PIVOTED else (eye, jnp.arange(len(eye), dtype=jnp.int32))


def apply_inverse(factor: Any, tree: Tree) -> Any:
    """Return the solution for a right-hand side that is a tree."""
    flat, unravel = ravel_pytree(tree)
    if isinstance(factor, tuple):
        solved = jax.scipy.linalg.lu_solve(factor, flat.astype(factor[0].dtype), check_finite=False)
        return unravel(solved.astype(flat.dtype))
    return unravel(product(factor, flat.astype(factor.dtype)).astype(flat.dtype))


@solver
class Chord(Solver):
    r"""The chord method, Newton's with a Jacobian that is kept, for roots and fixed points.

    The direction is

    .. math:: p_k = -F'(x_m)^{-1} F(x_k), \quad m \le k, \qquad (1)

    where the Jacobian is factorized at the start and again only where a step fails or reduces :math:`\|F\|` by less
    than a factor of three (Shamanskii). Steps are safeguarded as those of :class:`dini.Newton`. Each trial is one step
    and one evaluation of the function. The error is :math:`\|F\|_2`.

    Parameters
    ----------
    rtol, atol
        Relative and absolute tolerance on the error, see :class:`dini.Solver`.
    max_steps
        Limit on the number of steps.

    References
    ----------
    Kelley, "Iterative Methods for Linear and Nonlinear Equations", SIAM 1995, chapter 5.

    Examples
    --------
    >>> import dini
    >>> round(float(dini.root(lambda x, a: x**3 + x - a, 1.0, 10.0, solver=dini.Chord(rtol=1e-6)).x), 4)
    2.0
    """

    max_steps: int = field(default=200, metadata={"static": True})

    solves = (Root, FixedPoint)

    def __post_init__(self, tol: Any) -> None:
        self._check_settings(tol)

    def init(self, problem: AnyProblem, x: Tree, *args: Tree) -> _equations.State:
        """Return the state before the first step, which only evaluates the function."""
        del problem, args
        return _equations.start(x, (no_factor(x), jnp.zeros((), bool)))

    def step(self, problem: Equations, x: Tree, state: _equations.State, *args: Tree) -> tuple[Any, _equations.State]:
        """Try one step."""

        def direct(event: _equations.Event, direction: Tree, memory: Any) -> tuple[Any, Any, Any, Any]:
            del direction
            factor, old = memory
            failed = ~event.accept & old
            refresh = failed | event.doubtful | (event.needed & (event.first | (event.slow & old)))
            # (1): m = k where refresh holds
            factor = jax.lax.cond(refresh, lambda _: factorize(problem, event.x, args), lambda _: factor, None)
            # the factorization of this very point need not be renewed here
            old = jnp.where(refresh, False, old | event.accept)
            return apply_inverse(factor, trees.neg(event.residual)), (factor, old), failed, refresh

        return _equations.advance(self, problem, x, state, args, direct)
