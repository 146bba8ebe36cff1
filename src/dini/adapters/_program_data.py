"""The data of a quadratic program on their way to a solver on the host, and its solution on the way back."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..functions.host import call_on_host
from ..linear._matrices import densified, is_sparse
from ..problems import Multipliers, PrimalDual, QuadraticProgram
from ..status import Status
from ._conversation import Found

_MATRICES = ("Q", "A", "G")


class Unpacked(NamedTuple):
    """The data of a program in NumPy, matrices of SciPy's where they were sparse; ``None`` where there are none."""

    Q: Any
    c: Any
    A: Any
    b: Any
    G: Any
    h: Any
    lower: Any
    upper: Any

    @property
    def finite(self) -> bool:
        """Whether all that must be finite is."""
        numbers = [part.data if hasattr(part, "tocsc") else part for part in self if part is not None]
        ends = [part for part in (self.h, self.lower, self.upper) if part is not None]
        whole = [part for part in numbers if not any(part is end for end in ends)]
        return all(np.isfinite(part).all() for part in whole) and not any(np.isnan(end).any() for end in ends)


class HostSolution(NamedTuple):
    """A point, the multipliers of equalities, inequalities and bounds, and how the solver ended."""

    x: Any = None
    y: Any = None
    z: Any = None
    w: Any = None
    steps: int = 0
    status: Status = Status.RUNNING


class ProgramData(NamedTuple):
    """Which parts a program has, and the shapes of those that are sparse."""

    parts: tuple[str, ...]
    sparse: tuple[tuple[str, tuple[int, int]], ...]
    bounded: bool

    @classmethod
    def of(cls, problem: QuadraticProgram) -> ProgramData:
        """Return the form of a program."""
        names = [name for name in Unpacked._fields if getattr(problem, name) is not None]
        sparse = [(name, getattr(problem, name).shape) for name in names if is_sparse(getattr(problem, name))]
        return cls(tuple(names), tuple(sparse), problem.lower is not None or problem.upper is not None)

    def called(self, run: Any, problem: QuadraticProgram, start: PrimalDual) -> tuple[PrimalDual, Found]:
        """Call a solver on the host with the data of a program; return its solution and how it ended."""
        shape = lambda part: None if part is None else jax.ShapeDtypeStruct(part.shape, part.dtype)
        number = jax.ShapeDtypeStruct((), jnp.int32)
        out = shape(problem.c), *map(shape, start.dual), number, number
        packed = [self._packed(getattr(problem, name), problem.c.dtype) for name in self.parts]
        x, y, z, w, steps, status = call_on_host(run, out, start.primal, *packed)
        return PrimalDual(x, Multipliers(y, z, w)), Found(x, steps, status)

    def _packed(self, part: Any, dtype: Any) -> Any:
        """Return an array, or of a sparse matrix its elements and their places."""
        return (part.data, part.indices) if is_sparse(part) else densified(part, dtype)

    def unpacked(self, arrays: Any) -> Unpacked:
        """Return the data on the host."""
        found: dict[str, Any] = dict.fromkeys(Unpacked._fields)
        shapes = dict(self.sparse)
        for name, part in zip(self.parts, arrays, strict=True):
            if name in shapes:
                values, places = (np.asarray(one) for one in part)
                matrix = importlib.import_module("scipy.sparse").coo_matrix
                # places behind the last row or column are padding
                within = (places < np.array(shapes[name])).all(axis=1)
                pairs = values[within].astype(float), tuple(places[within].T)
                found[name] = matrix(pairs, shape=shapes[name]).tocsc()
            else:
                found[name] = np.asarray(part, float)
        n = found["c"].size
        for name, none in (("lower", -np.inf), ("upper", np.inf)):
            if found[name] is None:
                found[name] = np.full(n, none)
        return Unpacked(**found)

    def packed(self, data: Unpacked, found: HostSolution) -> tuple[Any, ...]:
        """Return what a solver has found, NaN where that is nothing."""
        like = lambda part, own: None if own is None else np.full(own.shape, np.nan) if part is None else part
        x, y, z = like(found.x, data.c), like(found.y, data.b), like(found.z, data.h)
        w = like(found.w, data.c) if self.bounded else None
        return x, y, z, w, np.int32(found.steps), np.int32(found.status)


class Units(NamedTuple):
    """A length, a price, and what the rows of the equalities and the inequalities were divided by."""

    length: float
    price: float
    equalities: Any
    inequalities: Any

    def back(self, found: HostSolution) -> HostSolution:
        """Return a solution in the program's own units."""
        y = None if found.y is None else self.price * np.asarray(found.y) / self.equalities
        z = None if found.z is None else self.price * found.z / self.inequalities
        x, w = self.length * np.asarray(found.x), self.price * np.asarray(found.w)
        return found._replace(x=x, y=y, z=z, w=w)


def _power(size: Any) -> Any:
    """Return the power of two next to a positive number, one for zero."""
    known = (size > 0) & np.isfinite(size)
    return np.ldexp(1.0, np.round(np.log2(np.where(known, size, 1.0))).astype(int))


def in_units(data: Unpacked) -> tuple[Unpacked, Units]:
    """Return a program whose numbers are about one, and the way back.

    With :math:`x = L u` for a length :math:`L`, a price :math:`p`, and rows divided by their largest elements.
    """
    largest = lambda part: float(np.abs(part.data if hasattr(part, "tocsc") else part).max(initial=0))
    rows = [None if part is None else _power(_row_sizes(part)) for part in (data.A, data.G)]
    sides = [None if side is None else side / size for side, size in zip((data.b, data.h), rows, strict=True)]
    ends = [*sides, data.lower, data.upper]
    length = max((float(np.abs(end[np.isfinite(end)]).max(initial=0)) for end in ends if end is not None), default=0.0)
    curved = 0.0 if data.Q is None else largest(data.Q)
    if length == 0 and curved > 0:
        length = largest(data.c) / curved
    length = float(_power(length))
    price = float(_power(max(largest(data.c), length * curved)))
    inverse = lambda size: importlib.import_module("scipy.sparse").diags_array(1 / size)
    divided = lambda part, size: part if part is None else inverse(size).dot(part)
    scaled = data._replace(
        Q=None if data.Q is None else data.Q * (length / price),
        c=data.c / price,
        A=divided(data.A, rows[0]),
        G=divided(data.G, rows[1]),
        b=None if sides[0] is None else sides[0] / length,
        h=None if sides[1] is None else sides[1] / length,
        lower=data.lower / length,
        upper=data.upper / length,
    )
    return scaled, Units(length, price, *rows)


def _row_sizes(matrix: Any) -> np.ndarray:
    size = abs(matrix).max(axis=1)
    return np.ravel(size.toarray() if hasattr(size, "toarray") else size).astype(float)


def finite_rows(data: Unpacked) -> tuple[Any, Any, Any]:
    """Return which inequalities are some, and these: their matrix and limits, ``None`` where there are none."""
    G, h = data.G, data.h
    if G is None or h is None:
        return slice(None), None, None
    kept = np.isfinite(h)
    return kept, (G[kept] if kept.any() else None), (h[kept] if kept.any() else None)
