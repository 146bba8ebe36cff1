"""Derivatives of solutions with a certificate: each comes with an estimate of its error and a verdict.

A derivative of a solution is wrong where the solver stopped early, where the linear system is ill-conditioned or was
not solved, where the point is not a solution of the problem's condition, and where the solution sits at a kink. The
functions here return the derivative at a point together with a :class:`Certificate` of how far it can be off. They take
a point from any solver, and check a derivative from any mode.

They cost one more evaluation of the condition and its linearization, and two more solves with the same factor.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from . import trees
from .differentiation import Differentiation, Implicit
from .differentiation._certificate import first, forward, guarded, leading, reverse
from .differentiation._linearization import Linearization, Parameters, linearize
from .differentiation._verdict import Certificate, Verdict
from .entry import Problem, as_solver
from .functions import as_function
from .functions.compiled import compiled
from .linear import Auto, System
from .problems import check_unknown
from .protocols import AnyProblem
from .solvers import Solver
from .solving import solve
from .status import OnFailure, check_on_failure
from .trees import Tree

__all__ = ["Certificate", "Verdict", "jacobian", "jvp", "value_and_grad", "vjp"]

_IMPLICIT = Implicit()


def _at(
    problem: AnyProblem, x: Tree, args: tuple[Tree, ...], differentiation: Implicit, argnums: tuple[int, ...]
) -> tuple[Linearization, System, Parameters, list[int], Any]:
    """Return the linearization at ``x``, its system, the parameters that move, and their places among the leaves."""
    if not isinstance(differentiation, Implicit):
        raise TypeError(
            "differentiation must be Implicit(), whose condition and linear solver the certificate uses: given "
            f"{differentiation!r}. To check a derivative of another mode, pass it as `derivative`."
        )
    if differentiation.approximate:
        raise ValueError(
            f"A certificate needs the exact Hessian: given Implicit(hessian={differentiation.hessian!r}). To check a "
            "derivative with an approximate one, pass it as `derivative`, or use value_and_grad."
        )
    x = check_unknown(x, "x")
    if trees.has_complex(x):
        raise TypeError("A certificate needs a real unknown: state the problem in real and imaginary parts.")
    problem = problem.closed(x, *args)
    condition = problem.condition if differentiation.condition is None else differentiation.condition.closed(x, *args)
    at = linearize(x, (problem, args, condition))
    system = at.system(Auto() if differentiation.linear_solver is None else differentiation.linear_solver)
    leaves, treedef = jax.tree.flatten(args)
    owner = [i for i, arg in enumerate(args) for _ in jax.tree.leaves(arg)]
    places = [i for i, leaf in enumerate(leaves) if trees.is_inexact(leaf) and owner[i] in argnums]
    some, put = trees.picked(leaves, places)
    merge = lambda some: (problem, jax.tree.unflatten(treedef, put(some)), condition)
    return at, system, Parameters(trees.strong(list(map(jnp.asarray, some))), merge), places, treedef


def _name(problem: AnyProblem) -> str:
    return f"the solution of {problem.name}"


def jvp(
    problem: Problem,
    x: Tree,
    args: tuple[Tree, ...],
    tangents: tuple[Any, ...],
    *,
    derivative: Any = None,
    differentiation: Implicit = _IMPLICIT,
    on_failure: OnFailure = "raise",
) -> tuple[Any, Certificate]:
    r"""Return the derivative of a solution along tangents of the problem's arguments, and its certificate.

    Parameters
    ----------
    problem
        The problem.
    x
        A solution, from any solver: ``dini.solve(...).x``, or of another library.
    args
        The problem's arguments.
    tangents
        A tangent for each, with the structure of ``args``; those of arguments that are not floating-point are ignored.
    derivative
        A derivative :math:`\dot x` from elsewhere (unrolling, for example), to be checked instead of the implicit one.
    differentiation
        The condition and the linear solver.
    on_failure
        What to do where the verdict is bad: ``"raise"``, ``"warn"``, ``"nan"`` or ``"ignore"`` (check it yourself).

    Returns
    -------
    tuple
        The derivative, a tree like ``x``, and a :class:`Certificate`.

    Raises
    ------
    DerivativeError
        If the verdict is bad (under ``jit``, JAX wraps it in its own exception; under ``vmap`` the lane is NaN).

    Examples
    --------
    >>> import dini
    >>> problem = dini.Root(lambda x, a: x**2 - a)
    >>> x = dini.solve(problem, dini.Newton(rtol=1e-6), 1.0, 4.0).x
    >>> dx, certificate = dini.certified.jvp(problem, x, (4.0,), (1.0,))
    >>> float(dx), bool(certificate.reliable)
    (0.25, True)

    A point that is far from the root has another derivative than the root:

    >>> dx, certificate = dini.certified.jvp(problem, 1.5, (4.0,), (1.0,), on_failure="ignore")
    >>> dini.certified.Verdict(int(certificate.verdict)).name
    'UNCONVERGED'
    """
    check_on_failure(on_failure)
    along = trees.tangents_of(args, tangents)
    if derivative is not None:
        trees.require_same("derivative", derivative, check_unknown(x, "x"), "x")
    dx, certificate = _jvp(problem, x, args, along, derivative, differentiation)
    return guarded(dx, certificate, on_failure, _name(problem)), certificate


@compiled
def _jvp(problem: AnyProblem, x: Tree, args: Any, along: list[Any], derivative: Any, differentiation: Implicit) -> Any:
    at, system, parameters, _, _ = _at(problem, x, args, differentiation, tuple(range(len(args))))
    given = None if derivative is None else leading(derivative)
    dx, certificate = forward(at, system, parameters, leading(along), given)
    return first(dx), certificate


def vjp(
    problem: Problem,
    x: Tree,
    args: tuple[Tree, ...],
    cotangent: Tree,
    *,
    argnums: int | tuple[int, ...] | None = None,
    derivative: tuple[Any, ...] | None = None,
    differentiation: Implicit = _IMPLICIT,
    on_failure: OnFailure = "raise",
) -> tuple[tuple[Any, ...], Certificate]:
    r"""Return the cotangents of the problem's arguments for a cotangent of the solution, and their certificate.

    The error of the certificate is relative to the cotangents of all arguments in ``argnums`` together; give those that
    matter.

    Parameters
    ----------
    problem, x, args, differentiation, on_failure
        As in :func:`jvp`.
    cotangent
        A tree like ``x``.
    argnums
        Which arguments. Default: all; those left out, and leaves that are not floating-point, get ``None``.
    derivative
        Cotangents from elsewhere, to be checked instead of the implicit ones.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> problem = dini.Minimize(lambda x, y: jnp.sum((x - y) ** 2), constraint=dini.sets.NonNegative())
    >>> y = jnp.array([1.0, -2.0])
    >>> (dy,), certificate = dini.certified.vjp(problem, jnp.array([1.0, 0.0]), (y,), jnp.ones(2))
    >>> print(dy, certificate.reliable)
    [1. 0.] True

    Where a bound is active with a zero multiplier, there is no derivative:

    >>> x, y = jnp.zeros(1), jnp.zeros(1)
    >>> _, certificate = dini.certified.vjp(problem, x, (y,), jnp.ones(1), on_failure="ignore")
    >>> dini.certified.Verdict(int(certificate.verdict)).name
    'TIE'
    """
    check_on_failure(on_failure)
    trees.require_same("cotangent", jax.tree.map(jnp.asarray, cotangent), check_unknown(x, "x"), "x")
    chosen = _argnums(argnums, len(args))
    gradient, certificate = _vjp(problem, x, args, cotangent, chosen, derivative, differentiation)
    return guarded(gradient, certificate, on_failure, _name(problem)), certificate


@partial(compiled, static_argnums=4)
def _vjp(
    problem: AnyProblem, x: Tree, args: Any, cotangent: Tree, argnums: Any, derivative: Any, differentiation: Implicit
) -> Any:
    at, system, parameters, places, treedef = _at(problem, x, args, differentiation, argnums)
    given = None
    if derivative is not None:
        leaves = treedef.flatten_up_to(derivative)
        own = [jnp.asarray(leaves[i]) for i in places]
        trees.require_same("derivative", own, parameters.moving, "the arguments in argnums")
        given = [leaf[None] for leaf in own]
    v = leading(jax.tree.map(jnp.asarray, cotangent))
    _, gradient, certificate = reverse(at, system, parameters, lambda _: (v, None), given)
    return _scatter(first(gradient), places, treedef), certificate


def jacobian(
    problem: Problem,
    x: Tree,
    args: tuple[Tree, ...],
    *,
    argnum: int = 0,
    differentiation: Implicit = _IMPLICIT,
    on_failure: OnFailure = "raise",
) -> tuple[Any, Certificate]:
    """Return the Jacobian of a solution in one argument, as :func:`jax.jacobian` would, and its certificate.

    The matrix is factorized once. Columns are computed where the argument is not larger than the solution, rows where
    it is. The certificate's error is relative, in the Frobenius norm.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> problem = dini.Root(lambda x, a: x - jnp.array([[2.0, 0.0], [1.0, 1.0]]) @ a)
    >>> J, certificate = dini.certified.jacobian(problem, jnp.array([2.0, 2.0]), (jnp.ones(2),))
    >>> print(J, certificate.reliable)
    [[2. 0.]
     [1. 1.]] True
    """
    check_on_failure(on_failure)
    (argnum,) = _argnums(argnum, len(args))
    result, certificate = _jacobian(problem, x, args, argnum, differentiation)
    return guarded(result, certificate, on_failure, _name(problem)), certificate


@partial(compiled, static_argnums=3)
def _jacobian(problem: AnyProblem, x: Tree, args: Any, argnum: int, differentiation: Implicit) -> Any:
    at, system, parameters, _, _ = _at(problem, x, args, differentiation, (argnum,))
    leaves, argument = jax.tree.flatten(args[argnum])
    if len(leaves) != len(parameters.moving):
        raise TypeError(f"args[{argnum}] must be floating-point for a Jacobian: given {trees.describe(args[argnum])}.")
    if trees.size(parameters.moving) <= trees.size(at.x):
        columns, certificate = forward(at, system, parameters, _basis(parameters.moving))
        rows = jax.tree.map(lambda u: jax.tree.unflatten(argument, _split(u, parameters.moving)), columns)
    else:
        basis = _basis(at.x)
        _, gradients, certificate = reverse(at, system, parameters, lambda _: (basis, None))
        x_leaves, x_tree = jax.tree.flatten(at.x)
        pieces = [_rows(g, x_leaves) for g in gradients]
        rows = jax.tree.unflatten(
            x_tree, [jax.tree.unflatten(argument, [parts[i] for parts in pieces]) for i in range(len(x_leaves))]
        )
    return rows, certificate


def value_and_grad(
    loss: Callable[..., Any],
    problem: Problem,
    solver: Solver | Callable[..., Any],
    init: Tree,
    *args: Tree,
    argnum: int = 0,
    differentiation: Differentiation = _IMPLICIT,
    on_failure: OnFailure = "raise",
) -> tuple[jax.Array, Any, Certificate]:
    """Return ``loss(x, *args)`` at the solution, its gradient in one argument, and the gradient's certificate.

    Parameters
    ----------
    loss
        ``loss(x, *args)``, one real number.
    problem, solver, init, *args
        As in :func:`dini.solve`.
    argnum
        Which argument.
    differentiation
        Any mode. The gradient of one that is not :class:`dini.Implicit` is checked by the implicit one, as is that of
        another ``hessian``.
    on_failure
        As in :func:`jvp`. The certificate decides, not the solver's status.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> problem = dini.Minimize(lambda x, a: jnp.sum((x - a) ** 2) + jnp.sum(x**4))
    >>> loss = lambda x, a: jnp.sum(x)
    >>> value, gradient, certificate = dini.certified.value_and_grad(
    ...     loss, problem, dini.Newton(), jnp.zeros(2), jnp.array([1.0, 2.0])
    ... )
    >>> print(gradient.round(3), certificate.reliable)
    [0.324 0.193] True

    The gradient of two steps of gradient descent is another one:

    >>> _, _, certificate = dini.certified.value_and_grad(
    ...     loss, problem, dini.GradientDescent(max_steps=2), jnp.zeros(2), jnp.array([1.0, 2.0]),
    ...     differentiation=dini.Unrolled(), on_failure="ignore",
    ... )
    >>> bool(certificate.reliable)
    False
    """
    check_on_failure(on_failure)
    (argnum,) = _argnums(argnum, len(args))
    value, gradient, certificate = _value_and_grad(
        as_function(loss, "loss"), problem, as_solver(solver), init, args, argnum, differentiation
    )
    return value, guarded(gradient, certificate, on_failure, _name(problem)), certificate


@partial(compiled, static_argnums=5)
def _value_and_grad(
    loss: Any, problem: Problem, solver: Solver, init: Tree, args: Any, argnum: int, differentiation: Any
) -> Any:
    def run(argument: Any) -> tuple[Any, Any]:
        full = (*args[:argnum], argument, *args[argnum + 1 :])
        x = solve(problem, solver, init, *full, differentiation=differentiation, on_failure="ignore").x
        return loss(x, *full), x

    if isinstance(differentiation, Implicit) and not differentiation.approximate:
        judge, given = differentiation, None
        _, x = run(args[argnum])
    else:
        (_, x), gradient = jax.value_and_grad(run, has_aux=True)(args[argnum])
        judge, given = _IMPLICIT, [leaf[None] for leaf in jax.tree.leaves(gradient)]
    x = jax.lax.stop_gradient(x)
    at, system, parameters, places, treedef = _at(problem, x, args, judge, (argnum,))

    def outer(u: Tree, some: list[Any]) -> Any:
        return loss(u, *parameters.merge(some)[1])

    def cotangents(u: Tree) -> tuple[Any, Any]:
        return leading(jax.grad(outer, argnums=(0, 1))(u, parameters.moving))

    _, gradient, certificate = reverse(at, system, parameters, cotangents, given)
    gradient = _scatter(first(gradient), places, treedef)[argnum]
    return outer(at.x, parameters.moving), gradient, certificate


def _argnums(argnums: int | tuple[int, ...] | None, count: int) -> tuple[int, ...]:
    if argnums is None:
        return tuple(range(count))
    chosen = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    if not all(-count <= i < count for i in chosen):
        raise ValueError(f"argnums must name some of the {count} arguments: given {argnums}.")
    return tuple(i % count for i in chosen)


def _scatter(some: list[Any], places: list[int], treedef: Any) -> Any:
    nothing: list[Any] = [None] * treedef.num_leaves
    return jax.tree.unflatten(treedef, trees.picked(nothing, places)[1](some))


def _basis(tree: Tree) -> Any:
    """Return the unit vectors of a tree's space, along a leading axis."""
    leaves, treedef = jax.tree.flatten(tree)
    size, start, out = trees.size(tree), 0, []
    for leaf in leaves:
        out.append(jnp.eye(size, leaf.size, -start, dtype=leaf.dtype).reshape(size, *leaf.shape))
        start += leaf.size
    return jax.tree.unflatten(treedef, out)


def _split(stacked: jax.Array, leaves: list[Any]) -> list[jax.Array]:
    """Take the leading axis of an array, which runs through the elements of leaves, to the end, leaf by leaf."""
    last, start, out = jnp.moveaxis(stacked, 0, -1), 0, []
    for leaf in leaves:
        out.append(last[..., start : start + leaf.size].reshape(*last.shape[:-1], *leaf.shape))
        start += leaf.size
    return out


def _rows(stacked: jax.Array, leaves: list[Any]) -> list[jax.Array]:
    """Cut the leading axis of an array, which runs through the elements of leaves, leaf by leaf."""
    start, out = 0, []
    for leaf in leaves:
        out.append(stacked[start : start + leaf.size].reshape(*leaf.shape, *stacked.shape[1:]))
        start += leaf.size
    return out
