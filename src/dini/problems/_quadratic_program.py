"""Quadratic and linear programs."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from .. import trees
from ..checks.records import record
from ..conditions._program import ProgramKKT, margins
from ..linear._matrices import LinearMap, as_map, as_matrix, densified, is_function, is_sparse
from ..trees import Tree
from ..trees.products import dot, vdot
from ._base import Problem
from ._composite import PrimalDual
from ._multipliers import Multipliers

_SHAPES = {"Q": "(n, n)", "c": "(n,)", "A": "(m, n)", "b": "(m,)", "G": "(p, n)", "h": "(p,)"}
#: bounds from here on are none, as other solvers and the files of programs have it
_NONE = 1e20
_MATRICES = ("Q", "A", "G")


@record
class QuadraticProgram(Problem):
    r"""Minimize a convex quadratic function under linear constraints.

    .. math:: \min_x \tfrac12 x^\top Q x + c^\top x \quad \text{subject to} \quad Ax = b,\; Gx \le h,\; l \le x \le u

    ``Q`` is positive semidefinite; without it this is a linear program. Every part may be missing. Each matrix is an
    array, a sparse matrix (JAX's ``BCOO`` or ``BCSR``, SciPy's), or a linear map: a function ``x -> A x`` of vectors,
    or an operator of Lineax; derivatives are those in the elements that are stored, and in what a function closes over.
    Matrices that are not arrays are never made ones, except by :class:`dini.InteriorPoint` and
    :class:`dini.ActiveSet`. The unknown is the
    pair ``(primal, dual)`` of ``x`` and its :class:`dini.Multipliers`, with which stationarity is

    .. math:: Q x + c + A^\top y + G^\top z + \mu = 0 ,

    and the condition :class:`dini.conditions.ProgramKKT`, which is differentiated in all data.
    :func:`dini.quadratic_program` solves one in one call.

    Parameters
    ----------
    Q
        Of shape ``(n, n)``; its symmetric part counts. Where it is a function, ``c`` must be there.
    c
        Of shape ``(n,)``; zero where it is missing.
    A, b
        Of shapes ``(m, n)`` and ``(m,)``; dependent rows are allowed.
    G, h
        Of shapes ``(p, n)`` and ``(p,)``; infinite elements of ``h``, and those of ``1e20`` or more, are no bounds.
    lower, upper
        Numbers or vectors of shape ``(n,)``; infinite elements, and those of ``1e20`` or more in absolute value, are no
        bounds; equal ones hold the unknown. State a program with such lengths in larger units.

    Raises
    ------
    TypeError
        If the data are not real numbers, or a matrix comes without its right-hand side.
    ValueError
        If the shapes do not fit, or a lower bound is above its upper one (where that is known).

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> A, b = jnp.ones((1, 2)), jnp.ones(1)
    >>> problem = dini.QuadraticProgram(Q=jnp.eye(2), c=jnp.array([-2.0, 0.0]), A=A, b=b, lower=0.0)
    >>> solution = dini.solve(problem, dini.InteriorPoint(), problem.start())
    >>> print(solution.x.primal.round(3), solution.x.dual.equality.round(3))
    [1. 0.] [1.]
    """

    Q: Any = None
    c: Any = None
    A: Any = None
    b: Any = None
    G: Any = None
    h: Any = None
    lower: Any = None
    upper: Any = None

    has_aux = False

    def __post_init__(self) -> None:
        given = {name: value for name, value in vars(self).items() if value is not None}
        if not given:
            raise TypeError("QuadraticProgram needs data: given none.")
        for name, value in given.items():
            given[name] = _part(name, value)
        for matrix, offset in (("A", "b"), ("G", "h")):
            if (matrix in given) != (offset in given):
                there, missing = (matrix, offset) if matrix in given else (offset, matrix)
                raise TypeError(f"QuadraticProgram's {there} needs {missing}: given {there} alone.")
        maps = {name: given.pop(name) for name in _MATRICES if is_function(given.get(name))}
        n = _unknowns(given)
        sizes = {"n": n, "m": given["b"].size if "b" in given else 0, "p": given["h"].size if "h" in given else 0}
        _check_shapes(given, sizes)
        dtype = jnp.result_type(*(value.dtype for value in given.values()))
        given.setdefault("c", jnp.zeros(n, dtype))
        for name, sign in (("h", 1), ("upper", 1), ("lower", -1)):
            if name in given:
                value = given[name] if name == "h" else jnp.broadcast_to(given[name], (n,))
                given[name] = jnp.where(sign * value >= _NONE, jnp.asarray(sign * jnp.inf, value.dtype), value)
        for name, value in given.items():
            object.__setattr__(self, name, value if value.dtype == dtype else value.astype(dtype))
        for name, value in maps.items():
            rows = {"Q": n, "A": sizes["m"], "G": sizes["p"]}[name]
            object.__setattr__(self, name, as_map(f"QuadraticProgram's {name}", value, (rows, n), dtype))
        _require_ordered(self.lower, self.upper)

    @property
    def composite(self) -> bool:
        """For the certificate, which asks for the distance to the next change of the active constraints."""
        return True

    @property
    def name(self) -> str:
        """The problem in words, for messages."""
        return "QuadraticProgram"

    @property
    def condition(self) -> ProgramKKT:
        """The Karush-Kuhn-Tucker conditions."""
        return ProgramKKT()

    @property
    def structure(self) -> Any:
        """The derivative of the condition is symmetric."""
        return "symmetric"

    def start(self, x: Any = None, multipliers: Any = None) -> PrimalDual:
        """Return a starting point, zero where nothing is given: a vector, and multipliers of an earlier solution."""
        zero = lambda part: None if part is None else np.zeros(part.shape, part.dtype)
        bounded = self.lower is not None or self.upper is not None
        dual = Multipliers(zero(self.b), zero(self.h), zero(self.c) if bounded else None)
        if multipliers is not None:
            multipliers = Multipliers(*multipliers) if isinstance(multipliers, tuple) else multipliers
            multipliers = jax.tree.map(lambda part: jnp.asarray(part, self.c.dtype), multipliers)
            trees.require_same("The multipliers", multipliers, dual, "the program's constraints")
            dual = multipliers
        if x is None:
            return PrimalDual(zero(self.c), dual)
        x = jnp.asarray(x, self.c.dtype)
        trees.require_same("x0", x, self.c, "the unknown")
        return PrimalDual(x, dual)

    def gradient(self, x: jax.Array) -> jax.Array:
        """Return the gradient of the objective at a vector."""
        return self.c if self.Q is None else 0.5 * (dot(self.Q, x) + dot(self.Q.T, x)) + self.c

    def objective(self, x: Tree, *args: Tree) -> jax.Array:
        """Return the objective."""
        del args
        linear = vdot(self.c, x.primal)
        return linear if self.Q is None else 0.5 * vdot(x.primal, dot(self.Q, x.primal)) + linear

    def value(self, x: Tree, *args: Tree) -> jax.Array:
        """Return the objective."""
        return self.objective(x, *args)

    def aux(self, x: Tree, *args: Tree) -> Any:
        """Return nothing."""
        del x, args

    def prox_argument(self, x: Tree, step_size: Any, *args: Tree) -> jax.Array:
        """Return the slacks less the multipliers of all constraints, in the units of ``x``; a sign is an active set."""
        del step_size, args
        return -margins(self, x)

    def prox(self, x: Tree, step_size: Any) -> jax.Array:
        """Return the slacks that :meth:`prox_argument` stands for."""
        del step_size
        return jnp.maximum(x, 0)

    def kink_distance(self, y: Any, step_size: Any) -> jax.Array:
        """Return the distance to a change of the active set."""
        del step_size
        return jnp.min(jnp.abs(y), initial=jnp.inf)

    def closed(self, x: Tree, *args: Tree) -> QuadraticProgram:
        """Return the problem with all that its linear maps close over made explicit, checked at ``x``."""
        self.check(x, *args)
        maps = {name: part.closed() for name, part in self._matrices.items() if isinstance(part, LinearMap)}
        return dataclasses.replace(self, **maps) if maps else self

    @property
    def _matrices(self) -> dict[str, Any]:
        """The matrices by their names."""
        return {name: getattr(self, name) for name in _MATRICES if getattr(self, name) is not None}

    @property
    def dense(self) -> QuadraticProgram:
        """The program with its matrices as arrays; of a linear map by products with all unit vectors."""
        arrays = {name: densified(part, self.c.dtype) for name, part in self._matrices.items()}
        return dataclasses.replace(self, **arrays)

    def check(self, x: Tree, *args: Tree) -> None:
        """Raise unless ``x`` is a pair like :meth:`start`."""
        if args:
            raise TypeError(f"QuadraticProgram takes no further arguments, only its fields: given {len(args)}.")
        trees.require_same("The starting point", x, self.start(), "problem.start()")


def _part(name: str, value: Any) -> Any:
    """Return a part of the data as an array of real floating-point numbers; a matrix may be another thing."""
    if name in _MATRICES:
        value = as_matrix(f"QuadraticProgram's {name}", value)
        if is_sparse(value) or isinstance(value, LinearMap) or is_function(value):
            return value
    try:
        array = jnp.asarray(value)
    except TypeError:
        raise TypeError(f"QuadraticProgram's {name} must be an array of real numbers: given {value!r}.") from None
    if jnp.iscomplexobj(array):
        raise TypeError(f"QuadraticProgram's {name} must be an array of real numbers: given {trees.describe(array)}.")
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(float)


def _check_shapes(given: dict[str, jax.Array], sizes: dict[str, int]) -> None:
    """Raise unless all arrays have the shapes that the numbers of unknowns and constraints ask for."""
    for name, shape in _SHAPES.items():
        needed = tuple(sizes[letter] for letter in shape if letter in sizes)
        if name in given and given[name].shape != needed:
            raise ValueError(
                f"QuadraticProgram's {name} must have the shape {shape} = {needed}: given {given[name].shape}."
            )
    for name in ("lower", "upper"):
        if name in given and given[name].shape not in ((), (sizes["n"],)):
            raise ValueError(
                f"QuadraticProgram's {name} must be a number or have the shape (n,) = {(sizes['n'],)}: given "
                f"{given[name].shape}."
            )


def _unknowns(given: dict[str, jax.Array]) -> int:
    """Return the number of unknowns."""
    for name in ("c", "Q", "A", "G", "lower", "upper"):
        if name in given and given[name].ndim == len(_SHAPES.get(name, "(n,)").split(", ")) and given[name].ndim:
            return given[name].shape[-1]
    raise ValueError(
        "QuadraticProgram's data must show the number n of unknowns, for example by c of shape (n,): given "
        f"{ {name: value.shape for name, value in given.items()} }."
    )


def _require_ordered(lower: Any, upper: Any) -> None:
    if lower is None or upper is None or any(isinstance(bound, jax.core.Tracer) for bound in (lower, upper)):
        return
    wrong = np.flatnonzero(np.asarray(lower) > np.asarray(upper))
    if wrong.size:
        i = int(wrong[0])
        raise ValueError(
            f"QuadraticProgram's lower must not be above upper: given {lower[i]} and {upper[i]} for unknown {i}."
        )
