"""Decorators for an existing solver, as in the paper on implicit differentiation, and the products alone."""

from __future__ import annotations

import functools
import inspect
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .. import trees
from ..checks.records import record
from ..conditions import as_condition
from ..functions import Key, all_arrays, as_function, close, hoist, recognised
from ..functions.compiled import compiled
from ..functions.traces import untraced
from ..linear import Linearized, Structure
from ..linear._krylov import closed_solver, wrap_linear_solver
from ..reports import KEEP, by_python, forget, policy, reviewed
from ..status import OnFailure, check_on_failure
from ..trees import Tree
from ._degenerate import Doubt
from ._engine import Ended, How, implicit
from ._guards import as_declared
from ._linearization import Linearization
from ._tangents import solve_real, solve_tangent_at_solution


def _linearize(fun: Callable[..., Any], x: Tree, args: Any) -> Callable[[Any], Any]:
    return Linearized(lambda u: fun(u, *args), x)


_PLACED = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _arguments(
    fun: Callable[..., Any], condition: Any, args: Any, kwargs: Any
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Match a call of the solver to the signature of ``F``; the first argument of both is left out."""
    try:
        solver_signature, signature = inspect.signature(fun), inspect.signature(condition)
    except (TypeError, ValueError):  # a builtin without a signature
        return args[1:], kwargs
    bound = solver_signature.bind(*args, **kwargs)
    bound.apply_defaults()
    positional, keyword = bound.args[1:], bound.kwargs
    try:
        signature.bind(None, *positional, **keyword)
        # the same names in another order would be matched to one another by their places
        names = [
            [p.name for p in s.parameters.values() if p.kind in _PLACED][1:] for s in (solver_signature, signature)
        ]
        shuffled = names[0] != names[1] and sorted(names[0]) == sorted(names[1])
        fits = not shuffled
    except TypeError:
        fits = False
    if not fits:
        raise TypeError(
            "The arguments of the solver cannot be matched to those of the optimality condition. After the unknown "
            f"both must take the same arguments in the same order: the solver takes {solver_signature}, the condition "
            f"takes {signature}."
        )
    return positional, keyword


def custom_root(
    condition: Callable[..., Any],
    has_aux: bool = False,
    linear_solver: Any = None,
    *,
    structure: Structure = None,
    on_failure: OnFailure = "raise",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    r"""Give an existing solver the derivative of its solution by the implicit function theorem.

    The decorated ``solver(init, *args, **kwargs) -> x`` returns a point with ``F(x, *args, **kwargs) = 0``. Its
    derivative in every floating-point argument (and in every value that ``F`` closes over) is :math:`-(\partial_1
    F)^{-1} \partial_2 F`, in forward and reverse mode, to any order. ``init`` has derivative zero.

    Parameters
    ----------
    condition
        ``F(x, *args, **kwargs)``, a tree like ``x``.
    has_aux
        Whether the solver returns ``(x, aux)``; ``aux`` is a constant of differentiation.
    linear_solver
        See :class:`dini.Implicit`.
    structure
        What is known of the Jacobian of ``F`` in ``x``: ``"symmetric"``, ``"positive definite"`` or ``None``.
    on_failure
        What to do where the linear system cannot be solved: ``"raise"``, ``"warn"``, ``"nan"`` or ``"ignore"``.

    Raises
    ------
    TypeError
        If the solver's arguments do not fit the condition's, or ``F(x)`` is not like ``x``.
    DerivativeError
        If the derivative's linear system cannot be solved, or the point does not satisfy the condition: the residual
        is more than one percent of what a change of the point by its own size makes, or, of up to 64 numbers, an
        element is off by more than one percent of its own size.

    Notes
    -----
    The solver is traced by JAX. Other code is called through :func:`jax.pure_callback`. When it is called again,
    the solver and its derivative are compiled, as by ``jax.jit``, unless it is created again at each call or reads
    objects whose changes cannot be detected.

    References
    ----------
    Blondel et al., "Efficient and Modular Implicit Differentiation", NeurIPS 2022 (arXiv 2105.15183).

    Examples
    --------
    >>> import dini, jax, jax.numpy as jnp
    >>> def F(x, X, y, lam):
    ...     return X.T @ (X @ x - y) + lam * x
    >>> @dini.custom_root(F)
    ... def ridge(init, X, y, lam):
    ...     return jnp.linalg.solve(X.T @ X + lam * jnp.eye(X.shape[1]), X.T @ y)
    >>> X, y = jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([2.0, 5.0])
    >>> print(jax.jacobian(ridge, argnums=3)(None, X, y, 1.0))
    [-0.5 -0.4]
    """
    return _decorator(condition, condition, has_aux, linear_solver, structure, on_failure)


def _decorator(
    condition: Callable[..., Any],
    given: Callable[..., Any],
    has_aux: bool,
    linear_solver: Any,
    structure: Structure,
    on_failure: OnFailure,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the decorator for a condition that is made of a ``given`` function."""
    check_on_failure(on_failure)
    linear_solver = wrap_linear_solver(linear_solver)

    def decorate(solver: Callable[..., Any]) -> Callable[..., Any]:
        name = getattr(solver, "__name__", type(solver).__name__)

        @functools.wraps(solver)
        def differentiable(*args: Tree, **kwargs: Any) -> Any:
            if not args:
                raise TypeError(f"{name} must be called with its starting point as first positional argument.")
            positional, keyword = _arguments(solver, given, args, kwargs)
            leaves, treedef = jax.tree.flatten((args[0], positional, keyword))
            static = tuple(_HOLE if _is_dynamic(leaf) else leaf for leaf in leaves)
            dynamic = [leaf for leaf in leaves if _is_dynamic(leaf)]
            call = _Call(treedef, static, has_aux, structure, on_failure, name)
            functions = as_function(solver, "solver"), as_function(condition, "condition")
            run = _compiled_solver if _called_again((solver, given), call) else _differentiable
            if untraced():
                return run(*functions, linear_solver, dynamic, call)
            forget()
            call = call._replace(on_failure=policy(on_failure, dynamic))
            if call.on_failure != KEEP:
                return run(*functions, linear_solver, dynamic, call)
            return reviewed(run(*functions, linear_solver, reviewed(dynamic), call))

        return differentiable

    return decorate


_HOLE = object()


class _Call(NamedTuple):
    """What is static in a call of a decorated solver."""

    treedef: Any
    #: the leaves of the arguments, with holes where they are arrays or numbers
    leaves: tuple[Any, ...]
    has_aux: bool
    structure: Structure
    on_failure: OnFailure
    name: str

    def rebuilt(self, dynamic: list[Any]) -> Any:
        """Return the starting point, the positional and the keyword arguments."""
        values = iter(dynamic)
        return jax.tree.unflatten(self.treedef, [next(values) if leaf is _HOLE else leaf for leaf in self.leaves])


#: the last calls; the arrays that their functions read live as long
_calls: deque[Any] = deque(maxlen=32)


def _called_again(functions: tuple[Any, ...], call: tuple[Any, ...]) -> bool:
    """Return whether the same functions were called before, so that it is worth while to compile them.

    Functions that are made at each call and read other arrays each time never are.
    """
    keys = tuple(map(Key, functions))
    for key in keys:
        if not key.captured.known or any(isinstance(value, Tracer) for value in key.captured.values):
            return False
    try:
        hash(call)
    except TypeError:
        return False
    this = (*keys, call)
    again = this in _calls
    if not again:
        _calls.append(this)
    return again


def _differentiable(solver: Any, condition: Any, linear_solver: Any, dynamic: list[Any], call: _Call) -> Any:
    """Return what ``solver`` returns, with the implicit derivative."""
    init, positional, keyword = call.rebuilt(dynamic)
    some, rebuild = trees.parted((positional, keyword), _is_dynamic)

    def run(init: Tree, some: list[Any]) -> tuple[Any, Any]:
        positional, keyword = rebuild(some)
        output = solver(init, *positional, **keyword)
        if call.has_aux and not (isinstance(output, tuple) and len(output) == 2):
            raise TypeError(f"With has_aux=True, {call.name} must return (x, aux): given {type(output).__name__}.")
        x, aux = output if call.has_aux else (output, None)
        return jax.tree.map(jnp.asarray, (x, aux))

    traced = all(_is_dynamic(leaf) for leaf in jax.tree.leaves(init))
    start, given = (init, run) if traced else (None, lambda _, some: run(init, some))
    try:
        hoisted = hoist(given, start, some)
    except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError) as error:
        raise TypeError(
            f"{call.name} needs the values of its arguments, which are not known while JAX traces a program. "
            "Write it with jax.numpy, or call host code (NumPy, SciPy, scikit-learn) through "
            "jax.pure_callback."
        ) from error

    def on_dynamic(x: Tree, *some: Any) -> Any:
        positional, keyword = rebuild(list(some))
        return condition(x, *positional, **keyword)

    closed = as_condition(on_dynamic).closed(hoisted.shape[0], *some)
    # what the condition closes over is not among the arguments, which have been marked
    closed = reviewed(closed) if call.on_failure == KEEP and by_python() else closed
    jax.eval_shape(lambda x: closed(None, x, *some), hoisted.shape[0])  # checks the condition's output

    def linearize(x: Tree, parameters: Any) -> Any:
        some, condition = parameters

        def function(u: Tree, parameters: Any) -> Any:
            some, condition = parameters
            return condition(None, u, *some)

        matvec = _linearize(lambda u, *a: condition(None, u, *a), x, some)
        return Linearization(x, function, matvec, call.structure, declared=True, smooth=True)

    def solved(constants: Any, parameters: Any) -> Ended:
        x, aux = hoisted(*constants, parameters[0])
        return Ended(x, rest=aux)

    # the status of a foreign solver is not known
    linear_solver, name = closed_solver(linear_solver, hoisted.shape[0]), f"the solution of {call.name}"
    how = How(solve_tangent_at_solution, linear_solver, call.on_failure, name)
    ended = implicit(solved, (hoisted.consts, start), (some, closed), linearize, how)
    return (ended.x, ended.rest) if call.has_aux else ended.x


_compiled_solver = compiled(_differentiable, static_argnums=4)


def custom_fixed_point(
    map: Callable[..., Any],
    has_aux: bool = False,
    linear_solver: Any = None,
    *,
    on_failure: OnFailure = "raise",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    r"""Give an existing solver of :math:`x = T(x, \theta)` the derivative of its solution; see :func:`custom_root`.

    Examples
    --------
    >>> import dini, jax
    >>> @dini.custom_fixed_point(lambda x, a: 0.5 * (x + a / x))
    ... def square_root(init, a):
    ...     return a**0.5
    >>> float(jax.grad(square_root, argnums=1)(1.0, 4.0))
    0.25
    """
    return _decorator(_Residual(as_function(map, "map")), map, has_aux, linear_solver, None, on_failure)


@record
class _Residual:
    r"""The condition :math:`x - T(x, \theta) = 0` of a fixed point."""

    map: Any

    def __call__(self, x: Tree, *args: Tree, **kwargs: Any) -> Any:
        return trees.sub(x, self.map(x, *args, **kwargs))


def _is_dynamic(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic | bool | int | float | complex)


def root_jvp(
    condition: Callable[..., Any],
    x: Tree,
    args: tuple[Tree, ...],
    tangents: tuple[Any, ...],
    linear_solver: Any = None,
    *,
    structure: Structure = None,
    on_failure: OnFailure = "raise",
) -> Any:
    r"""Return the derivative of a root of ``F(x, *args)`` along ``tangents``.

    :math:`\dot x = -(\partial_1 F)^{-1}\,\partial_2 F\,\dot\theta`.

    ``tangents`` has the structure of ``args``; the tangent of an argument that is not floating-point is ignored.

    Raises
    ------
    DerivativeError
        If the system is singular, or ``x`` is degenerate or far from a root: one Newton step at it changes the
        linear map by more than a quarter. ``on_failure="ignore"`` returns what the formula says at any point.

    Examples
    --------
    >>> import dini
    >>> float(dini.root_jvp(lambda x, a: x**2 - a, 2.0, (4.0,), (1.0,)))
    0.25
    """
    x = trees.strong(jax.tree.map(jnp.asarray, x))
    dots = trees.tangents_of(args, tangents)
    function, linear_solver = as_function(condition, "condition"), wrap_linear_solver(linear_solver)
    return _followed(_root_jvp, _compiled_jvp, (function, linear_solver, x, args, dots, structure), on_failure)


def _root_jvp(
    condition: Any, linear_solver: Any, x: Tree, args: Any, dots: Any, structure: Structure, on_failure: OnFailure
) -> Any:
    moving, merge = trees.parted(args, trees.is_inexact)
    moving = list(map(jnp.asarray, moving))
    residual, b = jax.jvp(lambda some: condition(x, *merge(some)), (moving,), (dots,))
    trees.require_same("The output of the condition", residual, x, "x")
    matvec = _linearize(condition, x, args)
    at = Linearization(x, lambda u, args: condition(u, *args), matvec, structure, declared=True, smooth=True)
    doubt = Doubt(at, args, residual)
    w = solve_real(at, trees.neg(b), linear_solver, on_failure, "a root", doubt)
    return as_declared(w, at, on_failure, "a root")


def root_vjp(
    condition: Callable[..., Any],
    x: Tree,
    args: tuple[Tree, ...],
    cotangent: Tree,
    linear_solver: Any = None,
    *,
    structure: Structure = None,
    on_failure: OnFailure = "raise",
) -> tuple[Any, ...]:
    r"""Return the cotangents of ``args`` for a cotangent of a root of ``F(x, *args)``, by one transposed solve.

    Arguments that are not floating-point get ``None``.

    Raises
    ------
    DerivativeError
        If the system is singular, or ``x`` is degenerate or far from a root: one Newton step at it changes the
        linear map by more than a quarter. ``on_failure="ignore"`` returns what the formula says at any point.

    Examples
    --------
    >>> import dini
    >>> da, db = dini.root_vjp(lambda x, a, b: x**2 - a * b, 2.0, (4.0, 1.0), 1.0)
    >>> float(da), float(db)
    (0.25, 1.0)
    """
    x = trees.strong(jax.tree.map(jnp.asarray, x))
    cotangent = jax.tree.map(lambda c, u: jnp.asarray(c, u.dtype), cotangent, x)
    function, linear_solver = as_function(condition, "condition"), wrap_linear_solver(linear_solver)
    return _followed(_root_vjp, _compiled_vjp, (function, linear_solver, x, args, cotangent, structure), on_failure)


def _root_vjp(
    condition: Any, linear_solver: Any, x: Tree, args: Any, cotangent: Tree, structure: Structure, on_failure: OnFailure
) -> tuple[Any, ...]:
    residual = condition(x, *args)
    trees.require_same("The output of the condition", residual, x, "x")
    matvec = _linearize(condition, x, args)
    transposed = jax.linear_transpose(matvec, x)
    back = lambda w: transposed(w)[0]
    at = Linearization(x, lambda u, args: condition(u, *args), back, structure, declared=True)
    doubt = Doubt(at, args, residual, flipped=True)
    u = as_declared(solve_real(at, cotangent, linear_solver, on_failure, "a root", doubt), at, on_failure, "a root")
    moving, merge = trees.parted(args, trees.is_inexact)
    moving = list(map(jnp.asarray, moving))
    (cotangents,) = jax.vjp(lambda some: condition(x, *merge(some)), moving)[1](trees.neg(u))
    iterator = iter(cotangents)
    return jax.tree.map(lambda leaf: next(iterator) if trees.is_inexact(leaf) else None, args)


def _made(condition: Any, x: Tree, args: Any) -> Any:
    return close(condition, x, *args), x, args


def _compiled(product: Callable[..., Any]) -> Callable[..., Any]:
    @functools.partial(compiled, static_argnums=(0, 5, 6))
    def run(
        program: recognised.Program,
        consts: list[Any],
        leaves: list[Any],
        linear_solver: Any,
        moving: Any,
        structure: Structure,
        on_failure: OnFailure,
    ) -> Any:
        condition, x, args = program.made(consts, leaves)
        return product(condition, linear_solver, x, args, moving, structure, on_failure)

    return run


_compiled_jvp, _compiled_vjp = _compiled(_root_jvp), _compiled(_root_vjp)


def _followed(
    product: Callable[..., Any], compiled: Callable[..., Any], given: tuple[Any, ...], on_failure: OnFailure
) -> Any:
    """Call a product, and raise its failure itself where nothing is traced."""

    def run(on_failure: OnFailure) -> Any:
        condition, linear_solver, x, args, *rest = given
        if not all_arrays((args, linear_solver)):
            return product(*given, on_failure)
        return recognised.call(compiled, _made, (condition, x, args), linear_solver, *rest, on_failure)

    if not untraced():
        return run(on_failure)
    forget()
    return reviewed(run(policy(on_failure)))
