"""Cone programs."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import trees
from ..checks.records import record
from ..conditions._cone_program import ConeKKT, natural_argument
from ..sets import ConeProduct
from ..sets._blocks import blocks
from ..sets._cones import dual
from ..trees import Tree
from ..trees.products import dot, vdot
from ._base import Problem
from ._composite import PrimalDual

_SHAPES = {"P": "(n, n)", "c": "(n,)", "A": "(m, n)", "b": "(m,)"}
#: right-hand sides of inequalities from here on are none, as in quadratic programs
_NONE = 1e20


@record
class ConeProgram(Problem):
    r"""Minimize a convex quadratic function where an affine map of the unknown is in a cone.

    .. math:: \min_{x, s} \tfrac12 x^\top P x + c^\top x \quad \text{subject to} \quad Ax + s = b,\; s \in K

    ``P`` is positive semidefinite, zero where it is missing. The dual has :math:`Px + A^\top y + c = 0` and
    :math:`y \in K^*`; at a solution :math:`s^\top y = 0`. The unknown is the pair ``(primal, dual)`` of ``x`` and
    ``y``, and the condition :class:`dini.conditions.ConeKKT`, which is differentiated in all data.
    :func:`dini.cone_program` solves one in one call.

    Parameters
    ----------
    P
        Of shape ``(n, n)``; its symmetric part counts.
    c
        Of shape ``(n,)``; zero where it is missing.
    A, b
        Of shapes ``(m, n)`` and ``(m,)``; dependent rows are allowed. In rows of :class:`dini.sets.NonNegative`,
        infinite elements of ``b``, and those of ``1e20`` or more, are no constraints, and no point satisfies one of
        minus infinity.
    cone
        The cone of the slacks: :class:`dini.sets.Zero` (equations), :class:`dini.sets.NonNegative` (inequalities),
        :class:`dini.sets.SecondOrder`, :class:`dini.sets.PositiveSemidefinite`, :class:`dini.sets.Exponential`,
        :class:`dini.sets.Power`, the dual of one, or a :class:`dini.sets.ConeProduct` of some. A semidefinite block is
        the lower triangle of a matrix by columns, elements off the diagonal times :math:`\sqrt2`
        (:func:`dini.sets.svec`), as in SCS; the exponential cone's elements are :math:`(x, y, z)` with
        :math:`y e^{x/y} \le z`. The exponents of power cones are data, too.

    Raises
    ------
    TypeError
        If the data are not real numbers, ``A``, ``b`` or ``cone`` is missing, or the cone is another set.
    ValueError
        If the shapes do not fit.

    Examples
    --------
    The point of a line that is nearest to the origin, :math:`\min t` with :math:`\|x\| \le t`:

    >>> import dini, jax.numpy as jnp
    >>> from dini.sets import ConeProduct, SecondOrder, Zero
    >>> A = jnp.array([[0.0, 1.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0]])
    >>> cone = ConeProduct([Zero(), SecondOrder()], [1, 3])
    >>> problem = dini.ConeProgram(c=jnp.array([1.0, 0.0, 0.0]), A=A, b=jnp.array([2.0, 0.0, 0.0, 0.0]), cone=cone)
    >>> solution = dini.solve(problem, dini.ConicInteriorPoint(), problem.start())
    >>> print(solution.x.primal.round(3))
    [1.414 1.    1.   ]
    """

    P: Any = None
    c: Any = None
    A: Any = None
    b: Any = None
    cone: Any = None

    has_aux = False

    def __post_init__(self) -> None:
        missing = [name for name in ("A", "b", "cone") if getattr(self, name) is None]
        if missing:
            raise TypeError(
                f"ConeProgram needs A, b and cone: given no {missing[0]}. Without constraints, use "
                "dini.quadratic_program."
            )
        given = {name: getattr(self, name) for name in _SHAPES if getattr(self, name) is not None}
        given = {name: _array(name, value) for name, value in given.items()}
        if given["A"].ndim != 2:
            raise ValueError(f"ConeProgram's A must have the shape (m, n): given {given['A'].shape}.")
        m, n = given["A"].shape
        for name, shape in _SHAPES.items():
            needed = tuple({"n": n, "m": m}[letter] for letter in shape if letter in "nm")
            if name in given and given[name].shape != needed:
                raise ValueError(f"ConeProgram's {name} must have the shape {shape} = {needed}: {_given(given[name])}.")
        dtype = jnp.result_type(*(value.dtype for value in given.values()))
        given.setdefault("c", jnp.zeros(n, dtype))
        for name, value in given.items():
            object.__setattr__(self, name, value.astype(dtype))
        cone = self.cone
        if not isinstance(cone, ConeProduct):
            try:
                dual(cone)  # raises for what is no cone
            except TypeError as error:
                raise TypeError(f"ConeProgram's cone: {error}") from None
            cone = ConeProduct([cone], (m,))
        if sum(cone.sizes) != m:
            raise ValueError(
                f"ConeProgram's cone must have as many elements as A has rows, m = {m}: given sizes {cone.sizes}."
            )
        blocks(cone, m)  # raises for what is not solved
        object.__setattr__(self, "cone", cone)
        rows, b = self._inequalities, self.b
        for sign in (1, -1):
            b = jnp.where(rows & (sign * b >= _NONE), jnp.asarray(sign * jnp.inf, b.dtype), b)
        object.__setattr__(self, "b", b)

    @property
    def _inequalities(self) -> np.ndarray:
        """Which rows are inequalities between numbers."""
        parts = blocks(self.cone, self.b.size)
        return np.array([part.kind == "nonnegative" for part in parts for _ in range(part.size)], bool)

    @property
    def live(self) -> jax.Array:
        """Which rows say anything: not inequalities whose right-hand side is infinite."""
        return ~(self._inequalities & (self.b == jnp.inf))

    @property
    def impossible(self) -> jax.Array:
        """Which inequalities no point satisfies, because their right-hand side is minus infinity."""
        return self._inequalities & (self.b == -jnp.inf)

    @property
    def composite(self) -> bool:
        """For the certificate, which asks for the distance to the next kink of the projection."""
        return True

    @property
    def name(self) -> str:
        """The problem in words, for messages."""
        return "ConeProgram"

    @property
    def condition(self) -> ConeKKT:
        """The Karush-Kuhn-Tucker conditions."""
        return ConeKKT()

    @property
    def structure(self) -> Any:
        """Nothing is known of the derivative of the condition."""
        return None

    def start(self) -> PrimalDual:
        """Return a starting point, zero."""
        return PrimalDual(np.zeros(self.c.shape, self.c.dtype), np.zeros(self.b.shape, self.b.dtype))

    def gradient(self, x: jax.Array) -> jax.Array:
        """Return the gradient of the objective at a vector."""
        return self.c if self.P is None else 0.5 * (dot(self.P, x) + dot(x, self.P)) + self.c

    def objective(self, x: Tree, *args: Tree) -> jax.Array:
        """Return the objective."""
        del args
        linear = vdot(self.c, x.primal)
        return linear if self.P is None else 0.5 * vdot(x.primal, dot(self.P, x.primal)) + linear

    def value(self, x: Tree, *args: Tree) -> jax.Array:
        """Return the objective."""
        return self.objective(x, *args)

    def aux(self, x: Tree, *args: Tree) -> Any:
        """Return nothing."""
        del x, args

    def slacks(self, x: jax.Array) -> jax.Array:
        """Return :math:`b - Ax`."""
        return self.b - dot(self.A, x)

    def prox_argument(self, x: Tree, step_size: Any, *args: Tree) -> jax.Array:
        """Return the slacks less the multipliers, in the units of ``x``: what is projected onto the cone."""
        del args
        return natural_argument(self, x, step_size)

    def prox(self, x: Tree, step_size: Any) -> jax.Array:
        """Return the projection onto the cone."""
        del step_size
        return self.cone.project(x)

    def kink_distance(self, y: Any, step_size: Any) -> jax.Array:
        """Return the distance to a kink of the projection."""
        del step_size
        return self.cone.kink_distance(y)

    def closed(self, x: Tree, *args: Tree) -> ConeProgram:
        """Return the problem, which closes over nothing, checked at ``x``."""
        self.check(x, *args)
        return self

    def check(self, x: Tree, *args: Tree) -> None:
        """Raise unless ``x`` is a pair like :meth:`start`."""
        if args:
            raise TypeError(f"ConeProgram takes no further arguments, only its fields: given {len(args)}.")
        trees.require_same("The starting point", x, self.start(), "problem.start()")


def _given(value: Any) -> str:
    return f"given {value.shape}"


def _array(name: str, value: Any) -> jax.Array:
    """Return a part of the data as an array of real floating-point numbers."""
    try:
        array = jnp.asarray(value)
    except TypeError:
        raise TypeError(f"ConeProgram's {name} must be an array of real numbers: given {value!r}.") from None
    if jnp.iscomplexobj(array):
        raise TypeError(f"ConeProgram's {name} must be an array of real numbers: given {trees.describe(array)}.")
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(float)
