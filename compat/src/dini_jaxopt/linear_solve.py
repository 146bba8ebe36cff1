r"""JAXopt's linear solves, by :func:`dini.linear.solve`.

Each solves :math:`A x = b` for a function ``matvec``, the product of the matrix with a tree like ``b``; ``ridge``
:math:`\lambda` adds :math:`\lambda I`, ``init`` is a guess at the solution. All are differentiable in forward and
reverse mode, and test the true residual: a dense matrix that is singular raises (a lane of ``vmap`` is NaN), and an
iterative solver that ends early warns with a :class:`dini.SolveWarning`, for who passes ``maxiter`` may want no more
than that many steps.

The further arguments of iterative ones are JAX's: ``tol`` (the relative residual; by default three quarters of the
digits), ``maxiter``, ``M`` (a preconditioner), ``restart`` of GMRES, whose ``maxiter`` counts restarts; ``atol``, with
which JAX may stop earlier, and ``solve_method`` have no effect.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from dini import linear
from dini.extend import trees

from ._known import shows
from ._krylov import Matvec, gmres, iterative, shifted
from ._refinement import IterativeRefinement

__all__ = [
    "solve_bicgstab",
    "solve_cg",
    "solve_cholesky",
    "solve_gmres",
    "solve_inv",
    "solve_iterative_refinement",
    "solve_lu",
    "solve_normal_cg",
    "solve_qr",
]

_A = "A = jnp.array([[2.0, 1.0], [0.0, 4.0]])"


def _dense(matvec: Matvec, b: trees.Tree, ridge: Any, name: str, factorization: str) -> Any:
    structure = "positive definite" if factorization == "cholesky" else None
    solver = linear.Dense(factorization)  # pyright: ignore[reportArgumentType]
    return linear.solve(shifted(matvec, ridge), trees.inexact(b), structure=structure, solver=solver, name=name)


@shows("[1. 1.]", _A, "linear_solve.solve_lu(lambda x: A @ x, jnp.array([3.0, 4.0]))")
def solve_lu(matvec: Matvec, b: trees.Tree, ridge: Any = None) -> Any:
    """Solve by an LU factorization of the matrix, which is made of products."""
    return _dense(matvec, b, ridge, "solve_lu", "lu")


def solve_qr(matvec: Matvec, b: trees.Tree, ridge: Any = None) -> Any:
    """Solve as :func:`solve_lu` does, which is as accurate and takes half the time."""
    return _dense(matvec, b, ridge, "solve_qr", "lu")


def solve_inv(matvec: Matvec, b: trees.Tree, ridge: Any = None) -> Any:
    """Solve as :func:`solve_lu` does: the inverse is not made, which would lose digits."""
    return _dense(matvec, b, ridge, "solve_inv", "lu")


@shows("[0.75 1.5 ]", "linear_solve.solve_cholesky(lambda x: 3 * x, jnp.array([3.0, 6.0]), ridge=1.0)")
def solve_cholesky(matvec: Matvec, b: trees.Tree, ridge: Any = None) -> Any:
    """Solve by a Cholesky factorization of the matrix, which must be positive definite: another one raises."""
    return _dense(matvec, b, ridge, "solve_cholesky", "cholesky")


@shows(
    "[1.   0.5  0.25]",
    "d = jnp.array([1.0, 2.0, 4.0])",
    "linear_solve.solve_cg(lambda x: d * x, jnp.ones(3), tol=1e-6).round(4)",
)
def solve_cg(matvec: Matvec, b: trees.Tree, ridge: Any = None, init: Any = None, **kwargs: Any) -> Any:
    """Solve by conjugate gradients, for a positive definite map: see :class:`dini.linear.CG`."""
    return iterative(linear.CG, matvec, b, ridge, "solve_cg", "positive definite", init=init, **kwargs)


@shows(
    "[3. 2.]",
    "A, b = jnp.array([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]]), jnp.array([3.0, 4.0, 5.0])",
    "linear_solve.solve_normal_cg(lambda x: A @ x, b, init=jnp.zeros(2)).round(4)",
)
def solve_normal_cg(matvec: Matvec, b: trees.Tree, ridge: Any = None, init: Any = None, **kwargs: Any) -> Any:
    r"""Solve :math:`(A^\top A + \lambda I) x = A^\top b` by conjugate gradients; ``A`` need not be square.

    The condition number is squared. :class:`dini.linear.LSMR` and :class:`dini.linear.MinimumNorm` are not so limited.
    Where the matrix is not square, ``init`` says what the solution looks like; a ``matvec`` that does not take a tree
    like ``init``, or like ``b`` without it, raises ``TypeError``.
    """
    b = trees.inexact(b)
    like = b if init is None else trees.inexact(init)
    try:
        transposed = jax.linear_transpose(matvec, like)
        rhs = transposed(b)[0]
    except (TypeError, ValueError) as error:
        raise TypeError(
            "solve_normal_cg needs init, a tree like the solution (of zeros, say), where matvec does not take a tree "
            f"like b: given {trees.describe(like)} for a right-hand side with {trees.describe(b)}."
        ) from error
    normal = lambda v: transposed(matvec(v))[0]
    return iterative(linear.CG, normal, rhs, ridge, "solve_normal_cg", "positive definite", init=init, **kwargs)


@shows("[1. 1.]", _A, "linear_solve.solve_gmres(lambda x: A @ x, jnp.array([3.0, 4.0])).round(4)")
def solve_gmres(
    matvec: Matvec, b: trees.Tree, ridge: Any = None, init: Any = None, tol: float = 1e-5, **kwargs: Any
) -> Any:
    """Solve by restarted GMRES, for any regular map: see :class:`dini.linear.GMRES`."""
    return gmres(matvec, b, ridge, init, tol, **kwargs)


@shows("[1. 1.]", _A, "linear_solve.solve_bicgstab(lambda x: A @ x, jnp.array([3.0, 4.0])).round(4)")
def solve_bicgstab(matvec: Matvec, b: trees.Tree, ridge: Any = None, init: Any = None, **kwargs: Any) -> Any:
    """Solve by BiCGStab, for any regular map in short memory: see :class:`dini.linear.BiCGStab`."""
    return iterative(linear.BiCGStab, matvec, b, ridge, "solve_bicgstab", init=init, **kwargs)


@shows(
    "[1. 2.]",
    "A = jnp.array([[4.0, 1.0], [1.0, 3.0]])",
    "linear_solve.solve_iterative_refinement(lambda x: A @ x, jnp.array([6.0, 7.0])).round(5)",
)
def solve_iterative_refinement(
    matvec: Matvec,
    b: trees.Tree,
    init: Any = None,
    maxiter: int = 10,
    tol: Any = 1e-7,
    solve: Callable[..., Any] = solve_gmres,
    **kwargs: Any,
) -> Any:
    """Solve by ``solve``, whose answer is corrected by that to its residual: see :class:`dini.linear.Refined`.

    It is called ``maxiter`` times, and a correction that makes the residual no smaller is not taken. With settings of
    :class:`IterativeRefinement` that class does it, and ends at a residual of the norm ``tol``, which else has no
    effect.
    """
    if kwargs:
        refinement = IterativeRefinement(lambda _, x: matvec(x), solve=solve, maxiter=maxiter, tol=tol, **kwargs)
        return refinement.run(init, None, b).params
    b = trees.inexact(b)
    rest = b if init is None else trees.sub(b, matvec(init))
    wide = str(jax.numpy.result_type(float))
    solver = linear.Refined(solve, steps=max(maxiter - 1, 1), dtype=wide)
    x = linear.solve(matvec, rest, solver=solver, on_failure="warn", name="solve_iterative_refinement")
    return x if init is None else trees.add(init, x)
