"""The one linear solve behind every derivative."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from .. import trees
from ..explanations import ends
from ..functions import all_arrays, as_function, close, recognised
from ..functions.compiled import compiled
from ..functions.traces import untraced
from ..reports import forget, policy, reviewed
from ..status import DerivativeError, OnFailure, Report, Status, guard
from ..trees import Tree
from ._krylov import wrap_linear_solver
from ._protocol import Matvec, Structure
from ._symmetry import asymmetry, require_small
from ._system import Reduction, System, choose, modified


def solve(
    matvec: Matvec,
    b: Any,
    *,
    structure: Structure = None,
    reduction: Reduction | None = None,
    solver: Any = None,
    on_failure: OnFailure = "raise",
    name: str = "linear system",
) -> Any:
    r"""Solve ``matvec(w) = b`` for a pytree ``w``; differentiable, transposable, batched by ``vmap``.

    The right-hand side is scaled to unit size before the solve, so that a cotangent of ``1e-22`` in float32 is not
    lost. Afterwards the true residual :math:`\|Aw - b\| / \|b\|` is computed and, with what the solver itself found,
    decides whether the answer is believed; if not, ``on_failure`` says what happens.

    Parameters
    ----------
    matvec
        A linear function from trees like ``b`` to trees like ``b``.
    b
        Right-hand side, a pytree of real arrays.
    structure
        What is known of the map: ``"symmetric"``, ``"positive definite"`` or ``None``. Symmetry is tested, by three
        products.
    reduction
        A positive semidefinite stand-in, used by Krylov methods.
    solver
        One of :mod:`dini.linear`, a Lineax solver or a function ``solve(matvec, b)``. Default: :class:`Auto`.
    on_failure
        ``"raise"``, ``"warn"``, ``"nan"`` or ``"ignore"``, see :func:`dini.status.guard`.
    name
        What the system belongs to, for messages.

    Raises
    ------
    TypeError
        If ``b`` holds anything but real floating-point arrays, or ``matvec`` returns another structure, shape or dtype.
        Also where JAX cannot transpose ``matvec``, because it is not linear.
    DerivativeError
        If the system was not solved, the map is not symmetric as declared, or ``matvec`` of zero is not zero.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.linear import solve
    >>> A = jnp.array([[2.0, 1.0], [0.0, 4.0]])
    >>> solve(lambda w: A @ w, jnp.array([3.0, 4.0]))
    Array([1., 1.], dtype=float32)
    """
    how = (structure, reduction, solver, name)
    if not untraced():
        return _solve(matvec, b, *how, on_failure)
    forget()  # a failure is raised itself, not by a program
    return reviewed(_solve(matvec, b, *how, policy(on_failure)))


def _solve(
    matvec: Matvec, b: Any, structure: Structure, reduction: Reduction | None, solver: Any, name: str, on_failure: Any
) -> Any:
    """Solve as :func:`solve` does, and test what a user says of the map."""
    _check(b)
    if trees.size(b) == 0:
        return b
    solver = wrap_linear_solver(solver)
    try:
        if reduction is None and not hasattr(matvec, "tangent") and all_arrays(solver):
            settings = (solver, structure, on_failure, name)
            w, offset, asymmetric = recognised.call(_compiled, _made, (as_function(matvec, "matvec"), b), *settings)
        else:
            how: dict[str, Any] = {
                "structure": structure,
                "reduction": reduction,
                "solver": solver,
                "on_failure": on_failure,
            }
            w = solve_known(matvec, b, **how, name=name)
            offset, asymmetric = _offset(matvec, b), _asymmetry(matvec, b, structure)
    except (AssertionError, NotImplementedError) as error:  # what JAX raises where it cannot transpose
        from ..explanations import calls

        better = calls.not_linear(matvec, b, name)
        if better is None:
            raise
        raise better from error
    if offset is not None:
        w = _require_no_offset(w, offset, b, on_failure, name)
    if asymmetric is not None:
        w = require_small(w, asymmetric, b, structure, on_failure, f"The map of {name}", "`structure`")
    return w


def _made(matvec: Matvec, b: Any) -> Any:
    b = jax.tree.map(jnp.asarray, b)
    return close(matvec, b), b


@partial(compiled, static_argnums=(0, 4, 5, 6))
def _compiled(
    program: recognised.Program,
    consts: list[Any],
    leaves: list[Any],
    solver: Any,
    structure: Structure,
    on_failure: OnFailure,
    name: str,
) -> Any:
    """Return the solution, and what its guards ask for: outside of ``jit`` they raise by themselves."""
    matvec, b = program.made(consts, leaves)
    w = solve_known(matvec, b, structure=structure, solver=solver, on_failure=on_failure, name=name)
    return w, _offset(matvec, b), _asymmetry(matvec, b, structure)


def solve_known(
    matvec: Matvec,
    b: Any,
    *,
    structure: Structure = None,
    reduction: Reduction | None = None,
    solver: Any = None,
    on_failure: OnFailure = "raise",
    name: str = "linear system",
    doubt: Any = None,
) -> Any:
    """Solve as :func:`solve` does, where the structure is what mathematics says, or is tested elsewhere.

    ``doubt`` tests what was solved: ``figure(system, w, b, transposed)`` must not be more than its ``limit``, or
    ``report(name, figure)`` is the failure. It is not asked where another system is solved in place of the given one.
    """
    _check(b)
    matvec = _fitting(matvec)
    if hasattr(solver, "modified") or getattr(solver, "least_squares", False):
        doubt = None
    matvec, solver, reduction = modified(matvec, solver, reduction)
    chosen: Any = choose(solver, trees.size(b), structure, reduction, direct=True)[0]
    if hasattr(chosen, "prepared"):
        chosen = chosen.prepared(matvec, b)  # what both directions share: a pattern of nonzeros, say
    accept = chosen.accept(trees.eps(b))
    method, meaning = type(chosen).__name__, getattr(chosen, "singular", "singular to working precision")
    no_minimum = " or not positive definite (no minimum)" if structure == "positive definite" else ""

    def report(figures: Any) -> DerivativeError:
        residual, singular, *rest = figures
        if rest and not singular and residual <= accept:
            return doubt.report(name, float(rest[0]))
        missed = f"the relative residual is {float(residual):.2e}"
        if singular:  # of a singular system, a solution of many (or of one nearby) may have a small residual
            cause, seen = f"its matrix is {meaning}{no_minimum}", f"{missed}, which is not informative here"
        else:
            cause, seen = "it did not reach its tolerance", f"{missed}, accepted up to {accept:.1e}"
        remedy = ends.for_precision(
            "Add a small regularization to the problem or choose another `linear_solver` (MinimumNorm() for the "
            "shortest of many derivatives), or compute in float64.",
            figures.dtype,
        )
        return DerivativeError(
            f"The linear system of the derivative of {name} was not solved: {cause} (method {method}; {seen}). "
            f"The solution may not be unique or may not depend smoothly on the parameters there. {remedy} If a "
            'derivative that may be wrong is acceptable, pass on_failure="ignore".',
            Status.SINGULAR,
        )

    def run(transposed: bool) -> Callable[[Matvec, Any], Any]:
        def go(mv: Matvec, rhs: Any) -> Any:
            oriented, stand_in = chosen, reduction
            if transposed:
                oriented = getattr(chosen, "transposed", lambda: chosen)()
                stand_in = None if reduction is None else reduction.transposed
            system = System(mv, rhs, structure, stand_in, oriented)
            w, residual, flagged = system.solve(rhs)
            failed = flagged | ~(residual <= accept)
            figures = [residual, flagged.astype(residual.dtype)]
            if doubt is not None:
                figures.append(doubt.figure(system, w, rhs, transposed).astype(residual.dtype))
                failed = failed | (figures[-1] > doubt.limit)
            if transposed:
                # a zero cotangent (of a lane that a loss does not use, say) has the solution zero, whatever the matrix
                failed = (failed & (trees.max_abs(rhs) != 0)) | ~jnp.isfinite(residual)
            return guard(w, failed, report, (jnp.stack(figures),), on_failure)

        return go

    symmetric = structure is not None
    solution = jax.lax.custom_linear_solve(matvec, trees.linked(b), run(False), run(True), symmetric=symmetric)
    return trees.linked(solution)


def _offset(matvec: Matvec, b: Any) -> Any:
    """Return the largest element of the map of zero, and of a vector; none for a derivative of dini's."""
    if hasattr(matvec, "tangent"):
        return None
    # of fixed vectors: under a derivative, what depended on b would no longer be linear in it
    vectors = trees.zeros_like(b), trees.varied(b)
    return tuple(trees.max_abs(jax.lax.stop_gradient(matvec(v))) for v in vectors)


def _asymmetry(matvec: Matvec, b: Any, structure: Structure) -> Any:
    return None if structure is None else asymmetry(matvec, b)


def _require_no_offset(w: Tree, sizes: Any, b: Any, on_failure: OnFailure, name: str) -> Any:
    """Return a solution, guarded by a test of a map that a user has written: that of zero is zero, up to rounding."""
    offset, size = sizes
    return guard(w, ~(offset <= trees.eps(b) ** 0.5 * size), _Offset(name), (offset[None],), on_failure)


@dataclass(frozen=True)
class _Offset(Report):
    name: str

    def __call__(self, *figures: Any) -> DerivativeError:
        return DerivativeError(
            f"The map of {self.name} is not linear: matvec(0) has elements of size {float(figures[0][0]):.1e}. "
            "Move terms that do not depend on the unknown to the right-hand side b.",
            Status.CONDITION,
        )


def _check(b: Any) -> None:
    if not all(hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(b)):
        raise TypeError(
            "The right-hand side b of a linear system must be a pytree of real floating-point arrays: "
            f"given {trees.describe(b)}."
        )


def _fitting(matvec: Matvec) -> Matvec:
    """Return the map, made to raise where its output does not fit its input."""
    if hasattr(matvec, "tangent"):
        return matvec  # a derivative of dini's, which fits

    def product(w: Tree) -> Any:
        out = matvec(w)
        trees.require_same("The output of matvec", out, w, "the right-hand side b")
        return out

    return product
