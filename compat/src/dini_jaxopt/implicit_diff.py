"""JAXopt's decorators and products of implicit differentiation, by dini's."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

import dini
from dini import linear
from dini.extend import dot, trees, untraced, without_tangent

__all__ = ["custom_fixed_point", "custom_root", "root_jvp", "root_vjp"]


def custom_root(
    optimality_fun: Callable[..., Any],
    has_aux: bool = False,
    solve: Any = None,
    reference_signature: Any = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    r"""Give a solver the derivative of its solution, :math:`F(x, \theta) = 0`, by :func:`dini.custom_root`.

    Where the values of its arguments are known, inside of ``jax.grad`` as well, the solver is called with these, and
    may be any Python; under ``jit`` and ``vmap`` it is traced.

    Parameters
    ----------
    optimality_fun
        ``optimality_fun(x, *args)``, a tree like ``x``.
    has_aux
        Whether the solver returns the solution first and more after it.
    solve
        A linear solver ``solve(matvec, b)``; by default dini chooses.
    reference_signature
        A function or a signature by which arguments are matched, where ``optimality_fun`` has none of its own.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax, jax.numpy as jnp, numpy as np
    >>> @jaxopt.implicit_diff.custom_root(lambda x, X, y, lam: X.T @ (X @ x - y) + lam * x)
    ... def ridge(init, X, y, lam):
    ...     X = np.asarray(X)  # not traced
    ...     return jnp.asarray(np.linalg.solve(X.T @ X + lam * np.eye(2), X.T @ y))
    >>> X, y = jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([2.0, 5.0])
    >>> print(jax.jacobian(ridge, argnums=3)(None, X, y, 1.0))
    [-0.5 -0.4]
    """
    condition = _signed(optimality_fun, reference_signature)

    def decorate(solver_fun: Callable[..., Any]) -> Callable[..., Any]:
        whole = _Whole(solver_fun)
        traced = dini.custom_root(condition, True, solve, on_failure="warn")(whole.split if has_aux else whole.single)

        @functools.wraps(solver_fun)
        def differentiable(*args: Any, **kwargs: Any) -> Any:
            if untraced():
                return solver_fun(*args, **kwargs)
            leaves, treedef = jax.tree.flatten((args, kwargs))
            values = [without_tangent(leaf) for leaf in leaves]
            if any(isinstance(value, jax.core.Tracer) for value in values):
                x, aux = traced(*args, **kwargs)
                return whole.joined(x, aux) if has_aux else x
            known_args, known_kwargs = jax.tree.unflatten(treedef, values)
            known = jax.tree.map(without_tangent, solver_fun(*known_args, **known_kwargs))
            solution = known[0] if has_aux else known

            @functools.wraps(solver_fun)
            def found(*args: Any, **kwargs: Any) -> Any:
                del args, kwargs
                return solution

            try:
                x = dini.custom_root(condition, linear_solver=solve, on_failure="warn")(found)(*args, **kwargs)
            except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError):
                # a condition that asks for values has no program; its values are known here
                x = _by_values(condition, solution, (args[1:], kwargs), (known_args[1:], known_kwargs), solve)
            if not has_aux:
                return x
            return type(known)(x, *known[1:]) if hasattr(known, "_fields") else (x, *known[1:])

        return differentiable

    return decorate


def _by_values(condition: Callable[..., Any], x: trees.Tree, given: Any, known: Any, solve: Any) -> Any:
    r"""Return a known solution with its first derivative, of a condition that cannot be traced.

    Of :math:`x - A^{-1} (F(x, \theta) - F(x, \theta_0))` at :math:`\theta = \theta_0` the value is :math:`x`, and the
    derivative :math:`-A^{-1} \partial_2 F`. That of second order would lack the derivative of :math:`A`.
    """
    leaves = [leaf.primal for leaf in jax.tree.leaves(given) if hasattr(leaf, "primal")]
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        raise TypeError(
            "The optimality condition needs the values of its arguments (for a branch, for example). It cannot be "
            "traced, and its solution has only first derivatives. Write it with jax.numpy (jnp.where, "
            "lax.cond)."
        )
    at = lambda u: condition(u, *known[0], **known[1])
    matvec = lambda v: jax.jvp(at, (x,), (v,))[1]
    change = trees.sub(condition(x, *given[0], **given[1]), at(x))
    flat, unravel = ravel_pytree(x)
    columns = [ravel_pytree(matvec(unravel(unit)))[0] for unit in jnp.eye(flat.size, dtype=flat.dtype)]
    matrix = jnp.stack(columns, axis=1)
    moved = linear.solve(lambda v: dot(matrix, v), ravel_pytree(change)[0], solver=solve, on_failure="warn")
    return trees.sub(x, unravel(moved))


class _Whole:
    """A solver whose output has a solution and a rest, taken apart for dini and put together again."""

    def __init__(self, solver: Callable[..., Any]) -> None:
        self._kind: Any = tuple

        @functools.wraps(solver)
        def split(*args: Any, **kwargs: Any) -> Any:
            output = solver(*args, **kwargs)
            if not (isinstance(output, tuple) and output):
                name = getattr(solver, "__name__", "the solver")
                raise TypeError(f"With has_aux=True, {name} must return a tuple that begins with the solution.")
            self._kind = type(output)
            return output[0], output[1:]

        @functools.wraps(solver)
        def single(*args: Any, **kwargs: Any) -> Any:
            return solver(*args, **kwargs), ()

        self.split, self.single = split, single

    def joined(self, x: trees.Tree, rest: tuple[Any, ...]) -> Any:
        """Return what the solver returns."""
        return self._kind(x, *rest) if hasattr(self._kind, "_fields") else (x, *rest)


def _signed(optimality_fun: Callable[..., Any], reference: Any) -> Callable[..., Any]:
    """Return a condition with the signature of a reference."""
    if reference is None:
        return optimality_fun
    if not isinstance(reference, inspect.Signature):
        reference = inspect.signature(getattr(reference, "subfun", reference))

    def condition(*args: Any, **kwargs: Any) -> Any:
        return optimality_fun(*args, **kwargs)

    condition.__signature__ = reference  # pyright: ignore[reportFunctionMemberAccess]
    return condition


def custom_fixed_point(
    fixed_point_fun: Callable[..., Any],
    has_aux: bool = False,
    solve: Any = None,
    reference_signature: Any = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    r"""Give a solver of :math:`x = T(x, \theta)` the derivative of its solution; see :func:`custom_root`.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax
    >>> @jaxopt.implicit_diff.custom_fixed_point(lambda x, a: 0.5 * (x + a / x))
    ... def square_root(init, a):
    ...     return a**0.5
    >>> float(jax.grad(square_root, argnums=1)(1.0, 4.0))
    0.25
    """

    @functools.wraps(fixed_point_fun)
    def optimality_fun(x: trees.Tree, *args: Any, **kwargs: Any) -> Any:
        return trees.sub(fixed_point_fun(x, *args, **kwargs), x)

    return custom_root(optimality_fun, has_aux, solve, reference_signature)


def root_jvp(
    optimality_fun: Callable[..., Any],
    sol: trees.Tree,
    args: tuple[trees.Tree, ...],
    tangents: tuple[Any, ...],
    solve: Any = None,
) -> Any:
    r"""Return the derivative of a root of ``optimality_fun(x, *args)`` along ``tangents``, by :func:`dini.root_jvp`.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt
    >>> float(jaxopt.implicit_diff.root_jvp(lambda x, a: x**2 - a, 2.0, (4.0,), (1.0,)))
    0.25
    """
    if len(args) != len(tangents):
        raise ValueError(f"args and tangents must have the same length: given {len(args)} and {len(tangents)}.")
    return dini.root_jvp(optimality_fun, sol, args, tangents, solve, on_failure="warn")


def root_vjp(
    optimality_fun: Callable[..., Any],
    sol: trees.Tree,
    args: tuple[trees.Tree, ...],
    cotangent: trees.Tree,
    solve: Any = None,
) -> tuple[Any, ...]:
    r"""Return the cotangents of ``args`` for a cotangent of a root, by :func:`dini.root_vjp`.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt
    >>> da, db = jaxopt.implicit_diff.root_vjp(lambda x, a, b: x**2 - a * b, 2.0, (4.0, 1.0), 1.0)
    >>> float(da), float(db)
    (0.25, 1.0)
    """
    return dini.root_vjp(optimality_fun, sol, args, cotangent, solve, on_failure="warn")
