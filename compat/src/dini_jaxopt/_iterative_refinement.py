"""Iterative refinement of linear solves."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp

from dini import linear, trees
from dini.trees import Tree

from ._base import IterativeSolver, OptStep
from ._linear_solves import Matvec, solve_gmres
from .tree_util import tree_dot


class IterativeRefinementState(NamedTuple):
    """The number of corrections, the norm of the residual, the residual, and how often each part was called."""

    iter_num: Any
    error: Any
    target_residuals: Any
    init: Any
    num_matvec_eval: Any = 0
    num_matvec_bar_eval: Any = 0
    num_solve_eval: Any = 0


_SOLVE = functools.partial(solve_gmres, ridge=1e-6)


@dataclass(eq=False)
class IterativeRefinement(IterativeSolver):
    r"""Iterative refinement: :math:`x \leftarrow x + \bar A^{-1} (b - A x)`, with :math:`\bar A` near ``A``.

    ``run(init_params, A, b, A_bar=None)`` starts at ``init_params``, or at zero for ``None``. ``A`` is a tree of
    matrices, one for each leaf of ``x``, or what ``matvec_A`` takes. It converges, whatever the accuracy of
    ``solve``, if that makes the residual smaller.

    Parameters
    ----------
    matvec_A, matvec_A_bar
        ``matvec(A, x)`` with :math:`A` and with :math:`\bar A`; without the latter, :math:`\bar A = A`.
    solve
        ``solve(matvec, b, init=...)``.
    maxiter
        Largest number of corrections.
    tol
        Norm of the residual at which to stop.
    verbose, implicit_diff_solve, jit, unroll
        As for all solvers.

    References
    ----------
    N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, 2002, chapter 12.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax.numpy as jnp
    >>> A = jnp.array([[4.0, 1.0], [1.0, 3.0]])
    >>> refinement = jaxopt.IterativeRefinement(tol=1e-5)
    >>> print(refinement.run(None, A, jnp.array([6.0, 7.0])).params.round(4))
    [1. 2.]
    """

    matvec_A: Any = None
    matvec_A_bar: Any = None
    solve: Callable[..., Any] = _SOLVE
    maxiter: int = 10
    tol: Any = 1e-7
    verbose: Any = False
    implicit_diff_solve: Any = None
    jit: bool = True
    unroll: Any = "auto"

    def _product(self, A: Any) -> Matvec:
        return functools.partial(tree_dot if self.matvec_A is None else self.matvec_A, A)

    def _product_bar(self, A: Any, A_bar: Any) -> Matvec:
        if self.matvec_A_bar is None:
            return self._product(A)
        return functools.partial(self.matvec_A_bar, A_bar)

    def init_params(self, A: Any, b: Tree, A_bar: Any = None) -> Any:
        """Return zero."""
        del A, A_bar
        return trees.zeros_like(trees.inexact(b))

    def init_state(self, init_params: Any, A: Any, b: Tree, A_bar: Any = None) -> IterativeRefinementState:
        """Return the state at the start, with its residual."""
        init_params = self.init_params(A, b, A_bar) if init_params is None else init_params
        residual = trees.sub(trees.inexact(b), self._product(A)(init_params))
        zero = jnp.zeros((), jnp.int32)
        start = self.init_params(A, b, A_bar)
        return IterativeRefinementState(zero, trees.norm(residual), residual, start, zero + 1, zero, zero)

    def update(self, params: Any, state: Any, A: Any, b: Tree, A_bar: Any = None) -> OptStep:
        """Return the point after a correction."""
        correction = self.solve(self._product_bar(A, A_bar), state.target_residuals, init=state.init)
        params = trees.add(params, correction)
        residual = trees.sub(trees.inexact(b), self._product(A)(params))
        state = IterativeRefinementState(
            state.iter_num + 1,
            trees.norm(residual),
            residual,
            state.init,
            state.num_matvec_eval + 1,
            state.num_matvec_bar_eval + 1,
            state.num_solve_eval + 1,
        )
        if self.verbose:
            self.log_info(state, error_name="Residual Norm")
        return OptStep(params, state)

    def run(self, init_params: Any, A: Any, b: Tree, A_bar: Any = None) -> OptStep:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Correct until the norm of the residual is at most ``tol``, or ``maxiter`` times."""
        init_params = self.init_params(A, b, A_bar) if init_params is None else init_params
        return super().run(init_params, A, b, A_bar)

    def optimality_fun(self, params: Any, A: Any, b: Tree, A_bar: Any = None) -> Any:
        """Return the residual."""
        del A_bar
        return trees.sub(trees.inexact(b), self._product(A)(params))


def solve_iterative_refinement(
    matvec: Matvec,
    b: Tree,
    init: Any = None,
    maxiter: int = 10,
    tol: Any = 1e-7,
    solve: Callable[..., Any] = solve_gmres,
    **kwargs: Any,
) -> Any:
    """Solve by a solver whose answer is corrected by that to its residual: see :class:`dini.linear.Refined`.

    Parameters
    ----------
    matvec
        The product of the matrix with a tree like ``b``.
    b
        The right-hand side.
    init
        A guess at the solution.
    maxiter
        How often ``solve`` is called: a correction that makes the residual no smaller is not taken.
    tol
        With the other settings of :class:`IterativeRefinement`, in ``kwargs``: the norm of the residual at which to
        stop. Without them, no effect: all of ``maxiter`` are done.
    solve
        ``solve(matvec, b)``.
    **kwargs
        Settings of :class:`IterativeRefinement`, which then does it.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import linear_solve
    >>> A = jnp.array([[4.0, 1.0], [1.0, 3.0]])
    >>> print(linear_solve.solve_iterative_refinement(lambda x: A @ x, jnp.array([6.0, 7.0])).round(5))
    [1. 2.]
    """
    if kwargs:
        refinement = IterativeRefinement(lambda _, x: matvec(x), solve=solve, maxiter=maxiter, tol=tol, **kwargs)
        return refinement.run(init, None, b).params
    b = trees.inexact(b)
    rest = b if init is None else trees.sub(b, matvec(init))
    wide = str(jnp.result_type(float))
    solver = linear.Refined(solve, steps=max(maxiter - 1, 1), dtype=wide)
    x = linear.solve(matvec, rest, solver=solver, on_failure="warn", name="solve_iterative_refinement")
    return x if init is None else trees.add(init, x)
