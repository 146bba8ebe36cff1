"""The linear solves of :mod:`dini_jaxopt.linear_solve`, all but iterative refinement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from dini import linear, trees
from dini.trees import Tree

Matvec = Callable[[Any], Any]


def shifted(matvec: Matvec, ridge: Any) -> Matvec:
    """Return the map with ``ridge`` times the identity added."""
    return matvec if ridge is None else lambda v: trees.axpy(ridge, v, matvec(v))


def _dense(matvec: Matvec, b: Tree, ridge: Any, name: str, factorization: str) -> Any:
    structure = "positive definite" if factorization == "cholesky" else None
    solver = linear.Dense(factorization)  # pyright: ignore[reportArgumentType]
    return linear.solve(shifted(matvec, ridge), trees.inexact(b), structure=structure, solver=solver, name=name)


def _iterative(method: Any, matvec: Matvec, b: Tree, ridge: Any, name: str, structure: Any, **settings: Any) -> Any:
    """Solve by a Krylov method; JAX's names for its settings are turned into dini's."""
    atol = settings.pop("atol", 0.0)
    tol = settings.pop("tol", None)
    settings = {ours: settings.pop(theirs, None) for ours, theirs in _NAMES} | settings
    # dini's tolerance is relative; without one the default asks for at least what an absolute one could
    rtol = None if tol is None or (not tol and atol) else float(tol)
    solver = method(rtol=rtol, **settings)
    how: dict[str, Any] = {"structure": structure, "solver": solver, "on_failure": "warn", "name": name}
    return linear.solve(shifted(matvec, ridge), trees.inexact(b), **how)


_NAMES = (("x0", "init"), ("max_steps", "maxiter"), ("preconditioner", "M"))


def solve_lu(matvec: Matvec, b: Tree, ridge: Any = None) -> Any:
    """Solve by an LU factorization of the matrix, which is made of products.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import linear_solve
    >>> A = jnp.array([[2.0, 1.0], [0.0, 4.0]])
    >>> print(linear_solve.solve_lu(lambda x: A @ x, jnp.array([3.0, 4.0])))
    [1. 1.]
    """
    return _dense(matvec, b, ridge, "solve_lu", "lu")


def solve_qr(matvec: Matvec, b: Tree, ridge: Any = None) -> Any:
    """Solve as :func:`solve_lu` does, which is as accurate and takes half the time."""
    return _dense(matvec, b, ridge, "solve_qr", "lu")


def solve_inv(matvec: Matvec, b: Tree, ridge: Any = None) -> Any:
    """Solve as :func:`solve_lu` does: the inverse is not made, which would lose digits."""
    return _dense(matvec, b, ridge, "solve_inv", "lu")


def solve_cholesky(matvec: Matvec, b: Tree, ridge: Any = None) -> Any:
    """Solve by a Cholesky factorization of the matrix, which must be positive definite: another one raises.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import linear_solve
    >>> print(linear_solve.solve_cholesky(lambda x: 3 * x, jnp.array([3.0, 6.0]), ridge=1.0))
    [0.75 1.5 ]
    """
    return _dense(matvec, b, ridge, "solve_cholesky", "cholesky")


def solve_cg(matvec: Matvec, b: Tree, ridge: Any = None, init: Any = None, **kwargs: Any) -> Any:
    """Solve by conjugate gradients, for a positive definite map: see :class:`dini.linear.CG`.

    Parameters
    ----------
    matvec
        The product of the matrix with a tree like ``b``.
    b
        The right-hand side.
    ridge
        What is added to the diagonal.
    init
        A guess at the solution.
    **kwargs
        JAX's: ``tol`` (the relative residual; by default three quarters of the digits), ``maxiter``, ``M`` (a
        preconditioner), and ``atol``, with which JAX may stop earlier and which has no effect here.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import linear_solve
    >>> d = jnp.array([1.0, 2.0, 4.0])
    >>> print(linear_solve.solve_cg(lambda x: d * x, jnp.ones(3), tol=1e-6).round(4))
    [1.   0.5  0.25]
    """
    return _iterative(linear.CG, matvec, b, ridge, "solve_cg", "positive definite", init=init, **kwargs)


def solve_normal_cg(matvec: Matvec, b: Tree, ridge: Any = None, init: Any = None, **kwargs: Any) -> Any:
    r"""Solve :math:`(A^\top A + \lambda I) x = A^\top b` by conjugate gradients; ``A`` need not be square.

    The condition number is squared. :class:`dini.linear.LSMR` and :class:`dini.linear.MinimumNorm` are not so limited.

    Parameters
    ----------
    matvec
        The product of the matrix with a tree.
    b
        The right-hand side.
    ridge
        :math:`\lambda`.
    init
        A guess at the solution, which says what it looks like where the matrix is not square.
    **kwargs
        As for :func:`solve_cg`.

    Raises
    ------
    TypeError
        Where ``matvec`` does not take a tree like ``init``, or like ``b`` without it.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import linear_solve
    >>> A, b = jnp.array([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]]), jnp.array([3.0, 4.0, 5.0])
    >>> print(linear_solve.solve_normal_cg(lambda x: A @ x, b, init=jnp.zeros(2)).round(4))
    [3. 2.]
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
    return _iterative(linear.CG, normal, rhs, ridge, "solve_normal_cg", "positive definite", init=init, **kwargs)


def solve_gmres(matvec: Matvec, b: Tree, ridge: Any = None, init: Any = None, tol: float = 1e-5, **kwargs: Any) -> Any:
    """Solve by restarted GMRES, for any regular map: see :class:`dini.linear.GMRES`.

    Parameters
    ----------
    matvec
        The product of the matrix with a tree like ``b``.
    b
        The right-hand side.
    ridge
        What is added to the diagonal.
    init
        A guess at the solution.
    tol
        The relative residual.
    **kwargs
        JAX's: ``restart``, ``maxiter`` (the number of restarts), ``M`` (a preconditioner); ``solve_method`` and
        ``atol`` have no effect.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import linear_solve
    >>> A = jnp.array([[2.0, 1.0], [0.0, 4.0]])
    >>> print(linear_solve.solve_gmres(lambda x: A @ x, jnp.array([3.0, 4.0])).round(4))
    [1. 1.]
    """
    kwargs.pop("solve_method", None)
    return _iterative(linear.GMRES, matvec, b, ridge, "solve_gmres", None, init=init, tol=tol, **kwargs)


def solve_bicgstab(matvec: Matvec, b: Tree, ridge: Any = None, init: Any = None, **kwargs: Any) -> Any:
    """Solve by BiCGStab, for any regular map in short memory: see :class:`dini.linear.BiCGStab`.

    Parameters
    ----------
    matvec, b, ridge, init, **kwargs
        As for :func:`solve_cg`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_jaxopt import linear_solve
    >>> A = jnp.array([[2.0, 1.0], [0.0, 4.0]])
    >>> print(linear_solve.solve_bicgstab(lambda x: A @ x, jnp.array([3.0, 4.0])).round(4))
    [1. 1.]
    """
    return _iterative(linear.BiCGStab, matvec, b, ridge, "solve_bicgstab", None, init=init, **kwargs)
