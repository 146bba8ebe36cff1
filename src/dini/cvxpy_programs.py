"""Problems that are stated in CVXPY, as differentiable functions of their parameters."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .checks.records import record
from .checks.settings import known
from .conic import ConeSolution, cone_program
from .convex import ProgramSolution, quadratic_program
from .problems import ConeProgram, QuadraticProgram
from .protocols import AnySolver
from .sets import ConeProduct, Exponential, NonNegative, PositiveSemidefinite, Power, SecondOrder, Zero
from .sets._blocks import blocks
from .solvers import Solver


class _Tensor(NamedTuple):
    """A sparse matrix that maps parameters, with a one at the end, to an array of data."""

    rows: Any
    columns: Any
    values: Any

    @classmethod
    def of(cls, matrix: Any) -> _Tensor:
        entries = matrix.tocoo()
        return cls(np.asarray(entries.row), np.asarray(entries.col), np.asarray(entries.data, float))

    def apply(self, vector: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Return the array, whose elements stand column by column."""
        flat = jnp.zeros(int(np.prod(shape)), vector.dtype)
        flat = flat.at[self.rows].add(self.values.astype(vector.dtype) * vector[self.columns])
        return flat.reshape(shape[::-1]).T


#: the kinds of cones that are equalities and inequalities
_LINEAR = {"zero", "nonnegative"}


@record
class CvxpyProgram:
    """What :func:`dini.from_cvxpy` returns: call it with the values of the parameters.

    ``program(*values)`` returns the :class:`dini.ConeProgram` at these values, ``solution(*values)`` its
    :class:`dini.ConeSolution` (a :class:`dini.ProgramSolution` of a linear or a quadratic program), and
    ``variables_of(x)`` the variables at its point. All are differentiable functions.
    The solution's ``value`` is that of the cone program: without constants, and the negative of what is maximized.
    A value of a sign that its parameter excludes raises; where it is traced, the status is ``NONFINITE``.
    """

    c: Any
    A: Any
    P: Any
    recovery: Any
    offsets: Any
    cone: Any
    size: tuple[int, int] = field(metadata={"static": True})
    places: tuple[int, ...] = field(metadata={"static": True})
    #: name, shape and sign of each: 1 and -1 where elements must not be negative, or positive, and 0
    parameters: tuple[tuple[str, tuple[int, ...], int], ...] = field(metadata={"static": True})
    variables: tuple[tuple[int, ...], ...] = field(metadata={"static": True})
    solver: Any = None

    def program(self, *values: Any) -> ConeProgram:
        """Return the cone program at values of the parameters."""
        if len(values) != len(self.parameters):
            names = ", ".join(name for name, *_ in self.parameters)
            raise TypeError(f"This program has the parameters {names}: given {len(values)} values.")
        arrays = [_value(*parameter, value) for parameter, value in zip(self.parameters, values, strict=True)]
        dtype = jnp.result_type(float, *arrays)
        vector = jnp.zeros(sum(array.size for array in arrays) + 1, dtype).at[-1].set(1)
        for place, array in zip(self.places, arrays, strict=True):
            vector = jax.lax.dynamic_update_slice(vector, jnp.ravel(array.T).astype(dtype), (place,))
        n, m = self.size
        c = self.c.apply(vector, (n + 1,))[:n]
        rows = self.A.apply(vector, (m, n + 1))
        P = None if self.P is None else self.P.apply(vector, (n, n))
        return ConeProgram(P, c, -rows[:, :n], rows[:, n], self.cone)

    def solution(self, *values: Any, **how: Any) -> ConeSolution | ProgramSolution:
        """Return the solution of the program; ``how`` are keywords of :func:`dini.cone_program`.

        Of a linear or a quadratic program, unless a solver of cone programs is given, it is that of
        :func:`dini.quadratic_program`: a :class:`dini.ProgramSolution`.
        """
        problem = self.program(*values)
        how = {"solver": self.solver} | how
        kinds = {part.kind for part in blocks(problem.cone, problem.b.size)}
        if _of_quadratic_programs(how["solver"]) or (how["solver"] is None and kinds <= _LINEAR):
            return quadratic_program(**_quadratic(problem, getattr(how["solver"], "name", "")), **how)
        data = {"P": problem.P, "c": problem.c, "A": problem.A, "b": problem.b, "cone": problem.cone}
        return cone_program(**data, **how)

    def variables_of(self, x: jax.Array) -> tuple[jax.Array, ...]:
        """Return the variables at a point of the cone program."""
        found: list[jax.Array] = []
        for shape, recovery, offset in zip(self.variables, self.recovery, self.offsets, strict=True):
            found.append(recovery.apply_to(x, shape) + offset.astype(x.dtype))
        return tuple(found)

    def __call__(self, *values: Any, **how: Any) -> tuple[jax.Array, ...]:
        """Return the values of the variables."""
        return self.variables_of(self.solution(*values, **how).x)


def _value(name: str, shape: tuple[int, ...], sign: int, value: Any) -> jax.Array:
    """Return the value of a parameter; where it has the wrong sign, raise or, of a traced one, return NaN.

    The problem is convex for values of the declared sign alone: that of others has been relaxed to another problem.
    """
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError):
        raise TypeError(f"Parameter {name} must be an array of real numbers: given {value!r}.") from None
    if array.shape != shape:
        raise ValueError(f"Parameter {name} must have the shape {shape}: given {array.shape}.")
    if jnp.iscomplexobj(array):
        raise TypeError(f"Parameter {name} must be real: given {array.dtype}.")
    if sign == 0:
        return array
    wrong = sign * array < 0
    if known(wrong):
        if np.any(wrong):
            raise ValueError(f"Parameter {name} must not be {'negative' if sign > 0 else 'positive'}: given {value}.")
        return array
    # a product, whose derivative is NaN, too
    return array * jnp.where(wrong, jnp.nan, 1).astype(jnp.result_type(float, array))


def _of_quadratic_programs(solver: AnySolver) -> bool:
    """Return whether a solver takes quadratic programs, and no others of cones."""
    return isinstance(solver, Solver) and QuadraticProgram in solver.solves and ConeProgram not in solver.solves


def _quadratic(problem: ConeProgram, solver: str) -> dict[str, Any]:
    """Return the data of a quadratic program that is stated as a cone program, or raise if it is none."""
    rows: dict[str, list[Any]] = {"zero": [], "nonnegative": []}
    for part in blocks(problem.cone, problem.b.size):
        if part.kind not in rows:
            raise TypeError(
                f"{solver} solves quadratic programs, with equalities and inequalities: this problem has a cone of the "
                f"kind {part.kind}. Use ConicInteriorPoint, or HostConeSolver."
            )
        rows[part.kind].append(np.arange(part.first, part.first + part.size))
    data: dict[str, Any] = {"Q": problem.P, "c": problem.c}
    for kind, matrix, offset in (("zero", "A", "b"), ("nonnegative", "G", "h")):
        if rows[kind]:
            here = np.concatenate(rows[kind])
            data |= {matrix: problem.A[here], offset: problem.b[here]}
    return data


class _Recovery(NamedTuple):
    """A sparse matrix that maps the unknown to a variable."""

    rows: Any
    columns: Any
    values: Any

    def apply_to(self, x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Return the variable, whose elements stand column by column."""
        return _Tensor(*self).apply(x, shape)


def from_cvxpy(problem: Any, parameters: Sequence[Any], variables: Sequence[Any], solver: Any = None) -> CvxpyProgram:
    r"""Return a problem that is stated in CVXPY as a differentiable function of its parameters.

    CVXPY takes it once to a cone program whose data are affine functions of the parameters, which it can where the
    problem follows its rules for parametrized programs (DPP); bounds and attributes of variables become rows. The
    function solves that program on the device, under ``jit``, ``vmap`` and on accelerators, and is differentiated in
    every mode and order, as :func:`dini.cone_program` is.

    Parameters
    ----------
    problem
        A ``cvxpy.Problem``: convex, real, without integer variables.
    parameters
        All ``cvxpy.Parameter`` of the problem, in the order in which values are passed.
    variables
        The ``cvxpy.Variable`` whose values are returned, in this order.
    solver
        A solver of cone programs, or where the problem is a linear or a quadratic program, of these (on the host
        :class:`dini.adapters.QPSolvers`: OSQP, ProxQP, HiGHS, ...). Default: that of :func:`dini.quadratic_program`
        for linear and quadratic programs, :class:`dini.ConicInteriorPoint` for others. :class:`dini.HostConeSolver`
        calls Clarabel or SCS on the host.

    Returns
    -------
    CvxpyProgram
        Call it with the values of the parameters.

    Raises
    ------
    TypeError
        If something else than CVXPY's objects is given, or a parameter of the problem is missing.
    ValueError
        If the problem is not convex by CVXPY's rules for parametrized programs, has integer or complex variables, or
        no constraints and a linear objective, a variable is not one of its, or a parameter is given twice.

    References
    ----------
    Agrawal, Amos, Barratt, Boyd, Diamond, Kolter, "Differentiable convex optimization layers", NeurIPS 2019 (arXiv
    1910.12430).

    Examples
    --------
    >>> import cvxpy as cp, dini, jax, jax.numpy as jnp
    >>> x, a = cp.Variable(2, nonneg=True), cp.Parameter(2)
    >>> nearest = cp.Problem(cp.Minimize(cp.norm(x - a)), [cp.sum(x) == 1])
    >>> layer = dini.from_cvxpy(nearest, [a], [x])
    >>> print(layer(jnp.array([1.0, 0.5]))[0].round(3))
    [0.75 0.25]
    """
    cp: Any = importlib.import_module("cvxpy")
    _check(problem, parameters, variables, cp)
    data, chain, inverse = _reduced(problem, parameters, cp)
    compiled = data[cp.settings.PARAM_PROB]
    n, m = int(compiled.x.size), int(compiled.constr_size)
    places = _places(compiled, parameters)
    width = sum(p.size for p in parameters)

    def tensor(matrix: Any) -> _Tensor:
        """Move the constants to the end of the parameters."""
        rows, columns, values = _Tensor.of(matrix)
        last = matrix.shape[1] - 1
        return _Tensor(rows, np.where(columns == last, width, columns), values)

    recovery, offsets = _recoveries(lambda x: _recovered(x, chain, inverse, variables, cp), n)
    return CvxpyProgram(
        tensor(compiled.q),
        tensor(compiled.A),
        None if compiled.P is None or compiled.P.nnz == 0 else tensor(compiled.P),
        recovery,
        tuple(np.reshape(o, v.shape, order="F") for o, v in zip(offsets, variables, strict=True)),
        _cone(data["dims"]),
        (n, m),
        places,
        tuple((p.name(), tuple(p.shape), int(p.is_nonneg()) - int(p.is_nonpos())) for p in parameters),
        tuple(tuple(v.shape) for v in variables),
        solver,
    )


def _reduced(problem: Any, parameters: Sequence[Any], cp: Any) -> tuple[Any, Any, Any]:
    """Return CVXPY's data of a cone program, and its way back."""
    unset = [parameter for parameter in parameters if parameter.value is None]
    try:
        for parameter in unset:  # CVXPY evaluates the data once
            parameter.value = parameter.project(np.zeros(parameter.shape))
        return problem.get_problem_data(solver=cp.SCS)
    except cp.error.SolverError as error:
        raise ValueError(
            f"from_cvxpy's problem could not be made a cone program by CVXPY: {error} CVXPY makes none of a problem "
            "without constraints whose objective is linear: it is constant or has no minimum."
        ) from None
    finally:
        for parameter in unset:
            parameter.value = None


def _places(compiled: Any, parameters: Sequence[Any]) -> tuple[int, ...]:
    """Return where each parameter stands among the columns of the data; behind the others one that is not used."""
    place_of = {key: place for key, place in compiled.param_id_to_col.items() if key in compiled.param_id_to_size}
    others = [compiled.id_to_param[key].name() for key in place_of if key not in {p.id for p in parameters}]
    if others:
        raise ValueError(
            f"from_cvxpy's parameters must be real, without attributes that reduce their size (symmetric, diag, "
            f"sparsity): given {', '.join(p.name() for p in parameters)}, which CVXPY replaces by {', '.join(others)}."
        )
    places = list[int]()
    end = max((place + compiled.param_id_to_size[key] for key, place in place_of.items()), default=0)
    for parameter in parameters:
        if parameter.id in place_of:
            places.append(int(place_of[parameter.id]))
        else:
            places.append(end)
            end += parameter.size
    return tuple(places)


def _cone(dims: Any) -> ConeProduct:
    """Return the cone of SCS's dimensions."""
    cones: list[Any] = [Zero(), NonNegative(), *(SecondOrder() for _ in dims.soc)]
    sizes = [dims.zero, dims.nonneg, *dims.soc]
    cones += [PositiveSemidefinite("vector") for _ in dims.psd] + [Exponential()]
    sizes += [k * (k + 1) // 2 for k in dims.psd] + [3 * dims.exp]
    cones += [Power(float(alpha)) for alpha in dims.p3d]
    sizes += [3 for _ in dims.p3d]
    kept = [i for i, size in enumerate(sizes) if size]
    return ConeProduct([cones[i] for i in kept], tuple(int(sizes[i]) for i in kept))


def _recovered(x: np.ndarray, chain: Any, inverse: Any, variables: Sequence[Any], cp: Any) -> list[np.ndarray]:
    """Return the variables by CVXPY's own way back, without its projection onto bounds, which is not linear."""
    found_as: Any = importlib.import_module("cvxpy.reductions.solution").Solution
    attributes: Any = importlib.import_module("cvxpy.reductions.cvx_attr2constr")
    unknown = inverse[-1][importlib.import_module("cvxpy.reductions.solvers.solver").Solver.VAR_ID]
    found = found_as(cp.OPTIMAL, 0.0, {unknown: x}, {}, {})
    for reduction, back in zip(chain.reductions[-2::-1], inverse[-2::-1], strict=True):
        if isinstance(reduction, attributes.CvxAttr2Constr) and back:
            reduced, full, _ = back
            whole = lambda key, values=found.primal_vars, reduced=reduced, full=full: attributes.recover_value_for_leaf(
                full[key], values[reduced[key].id], project=False
            )
            kept = {key: whole(key) for key in full if reduced[key].id in found.primal_vars}
            found = found_as(cp.OPTIMAL, 0.0, kept, {}, {})
        else:
            found = reduction.invert(found, back)
    dense = [found.primal_vars[v.id] for v in variables]
    dense = [value.toarray() if hasattr(value, "toarray") else value for value in dense]
    return [np.asarray(value, float).flatten(order="F") for value in dense]


def _recoveries(
    recovered: Callable[[np.ndarray], list[np.ndarray]], size: int
) -> tuple[tuple[_Recovery, ...], list[np.ndarray]]:
    """Return the matrices and the offsets by which a point of the cone program gives the variables."""
    offsets = recovered(np.zeros(size))
    images = [recovered(unit) for unit in np.eye(size)]
    recovery: list[_Recovery] = []
    for i, offset in enumerate(offsets):
        matrix = np.stack([image[i] - offset for image in images], axis=1)
        rows, columns = np.nonzero(matrix)
        recovery.append(_Recovery(rows, columns, matrix[rows, columns]))
    return tuple(recovery), offsets


def _check(problem: Any, parameters: Sequence[Any], variables: Sequence[Any], cp: Any) -> None:
    """Raise where a problem, its parameters or variables are not what they should be."""
    if not isinstance(problem, cp.Problem):
        raise TypeError(f"from_cvxpy's problem must be a cvxpy.Problem: given {type(problem).__name__}.")
    for name, given, kind in (("parameters", parameters, cp.Parameter), ("variables", variables, cp.Variable)):
        if not isinstance(given, list | tuple) or not all(isinstance(one, kind) for one in given):
            raise TypeError(f"from_cvxpy's {name} must be a list of cvxpy.{kind.__name__}: given {given!r}.")
    if not problem.is_dcp(dpp=True):
        raise ValueError(
            "from_cvxpy needs a problem that is convex by CVXPY's rules for parametrized programs (problem.is_dcp("
            f"dpp=True)): given one that is {'convex, but not so parametrized' if problem.is_dcp() else 'not convex'}. "
            "A product of parameters becomes a parameter of its own."
        )
    _check_belonging(problem, parameters, variables)


def _check_belonging(problem: Any, parameters: Sequence[Any], variables: Sequence[Any]) -> None:
    """Raise where parameters and variables are not those of the problem, or variables not real numbers."""
    twice = {p.name() for p in parameters if sum(p.id == other.id for other in parameters) > 1}
    if twice:
        raise ValueError(f"from_cvxpy's parameters must be distinct: {', '.join(sorted(twice))} is given twice.")
    missing = [p.name() for p in problem.parameters() if p.id not in {given.id for given in parameters}]
    if missing:
        raise TypeError(f"from_cvxpy's parameters must be all of the problem's: {', '.join(missing)} missing.")
    for variable in variables:
        if variable.id not in {v.id for v in problem.variables()}:
            raise ValueError(f"from_cvxpy's variables must be the problem's: {variable.name()} is not.")
    for variable in problem.variables():
        if variable.is_complex() or variable.attributes["integer"] or variable.attributes["boolean"]:
            raise ValueError(f"from_cvxpy takes real variables: {variable.name()} is complex, integer or boolean.")
