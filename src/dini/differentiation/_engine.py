r"""The implicit function theorem as one rule of differentiation.

Let ``x`` be a solution of :math:`F(x, \theta) = 0` with :math:`A = \partial_1 F(x, \theta)` invertible.
Differentiating the equation along a tangent :math:`\dot\theta`,

.. math:: A\,\dot x + \partial_2 F(x, \theta)\,\dot\theta = 0 \quad\Longrightarrow\quad
          \dot x = -A^{-1}\,\partial_2 F(x, \theta)\,\dot\theta .

That is the whole rule, in forward mode. Reverse mode is its transpose: JAX transposes the linear solve and the
product with :math:`\partial_2 F`, so one transposed solve serves all parameters. Higher orders need nothing more:
``x`` inside the rule comes from the differentiable function itself, so differentiating the rule applies the theorem
again.

A tangent that is symbolically zero never enters: what is not differentiated is not linearized, and when nothing is,
nothing is solved. The starting point and the solver's settings have no influence on a solution and hence no
derivative.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from .. import trees
from ..linear._solve import solve_known
from ..linear._symmetry import require_symmetric
from ..status import DerivativeError, OnFailure, Status, guard
from ._certificate import TOLERANCE, Parameters, solve_certified
from ._linearization import Linearization


def _zeros(tree: Any) -> Any:
    return jax.tree.map(SymbolicZero.from_primal_value, tree)


def _times(factor: jax.Array, tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf * factor.astype(leaf.dtype), tree)


def moving_places(tangents: list[Any]) -> list[int]:
    """Return the places of the tangents that are not known to be zero."""
    return [i for i, t in enumerate(tangents) if not isinstance(t, SymbolicZero)]


def constant(run: Callable[..., Any], *operands: Any) -> Any:
    """Return ``run(*operands)`` as a constant of differentiation, whatever ``run`` does or closes over."""
    hoisted = trees.hoist(run, *operands)

    @jax.custom_jvp
    def fun(consts: Any, operands: Any) -> Any:
        return hoisted(consts, *operands)

    def rule(primals: Any, tangents: Any) -> Any:
        del tangents
        out = fun(*primals)
        return out, _zeros(out)

    fun.defjvp(rule, symbolic_zeros=True)
    return fun(hoisted.consts, operands)


def rederived(x: Any, operands: Any, derive: Callable[[Any, Any], Any]) -> Any:
    """Return ``x`` with the derivative ``derive((x, operands), tangents)``, linear in tangents that may be symbolic."""

    @jax.custom_jvp
    def same(x: Any, operands: Any) -> Any:
        del operands
        return x

    same.defjvp(lambda primals, tangents: (same(*primals), derive(primals, tangents)), symbolic_zeros=True)
    return same(x, operands)


def marked(x: Any, status: jax.Array) -> Any:
    """Return ``x`` with a derivative that is NaN unless the status is success."""

    @jax.custom_jvp
    def same(x: Any, ok: jax.Array) -> Any:
        del ok
        return x

    @same.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        return primals[0], _times(jnp.where(primals[1], 1.0, jnp.nan), tangents[0])

    return same(x, _ended(status))


def _ended(status: jax.Array) -> jax.Array:
    """Return whether a solve has not failed; of one that a callback has stopped, :func:`refused` speaks."""
    return (status == Status.CONVERGED) | (status == Status.STOPPED)


def refused(x: Any, failed: jax.Array, report: Callable[..., Exception], on_failure: OnFailure) -> Any:
    """Return ``x``, whose derivative is a failure where ``failed`` holds."""

    @jax.custom_jvp
    def same(x: Any, failed: jax.Array) -> Any:
        del failed
        return x

    @same.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        return primals[0], guard(tangents[0], primals[1], report, (jnp.zeros(()),), on_failure)

    return same(x, failed)


def implicit(
    run: Callable[[Any, Any, Any], tuple[Any, Any]],
    consts: Any,
    linearize: Callable[[Any, Any], Linearization],
    constants: Any,
    parameters: Any,
    *,
    linear_solver: Any = None,
    on_failure: OnFailure = "raise",
    name: str = "the solution",
    status_of: Callable[[Any], Any] | None = None,
    reuse: Callable[[Any], Any] | None = None,
    certify: bool = False,
    judge: bool = False,
) -> tuple[Any, Any]:
    """Return ``run(consts, constants, parameters)``, a pair ``(x, extra)``, with the implicit derivative of ``x``.

    Parameters
    ----------
    run
        The solver, a pure function (see :class:`dini.trees.hoist`). It is called through the rule at every order of
        differentiation.
    consts
        What was hoisted out of the solver. It has no derivative.
    linearize
        ``linearize(x, parameters)`` returns the condition at ``x``.
    constants
        What the solver uses and the condition does not; it has no derivative.
    parameters
        A pytree; leaves that are not floating-point or complex are accepted and not differentiated.
    linear_solver, on_failure, name
        See :func:`dini.linear.solve`.
    status_of
        Takes ``extra`` to the solve's status, so that the derivative of a failed solve is marked like its value.
    reuse
        Takes ``extra`` to a linear solver that is made of what the solve has left behind, or to ``None``.
    certify
        Whether to estimate the derivative's error, and to treat one that is too large like a linear system that was not
        solved.
    judge
        Whether to test that the point satisfies the condition, for a solver of which no status is known.
    """
    # the rule runs after the trace that it is defined in: what the linear solver holds comes to it as an operand
    held, solver_of = trees.parted(linear_solver, lambda leaf: isinstance(leaf, jax.Array | np.ndarray | np.generic))

    def derive(x: Any, extra: Any, operands: Any, moved: Parameters, tangent: list[Any]) -> Any:
        solver = solver_of(jax.lax.stop_gradient(operands[2]))
        left = None if reuse is None else reuse(extra)
        solver = solver if left is None else left
        at, mark = linearize(x, moved.merge(moved.moving)), None
        if status_of is not None and on_failure not in ("warn", "ignore"):
            # The derivative of a failed solve is not a number. It is marked where it enters and where it leaves, by
            # factors that the transpose carries too: in between, an inactive coordinate may hide the mark.
            mark = jnp.where(_ended(status_of(extra)), 1.0, jnp.nan)
            tangent = _times(mark, tangent)
        never = _never((x, moved.moving))
        if certify:
            dx = solve_certified(at, moved, tangent, solver, on_failure, name)
        else:
            residual, b = jax.jvp(moved.apply(at, x), (moved.moving,), (tangent,))
            b = jax.tree.map(lambda leaf: leaf + never.astype(leaf.dtype), trees.neg(b))
            dx = solve_real(at, b, solver, on_failure, name)
            if judge:
                dx = _on_a_solution(dx, at, residual, on_failure, name)
        # by a factor, the cotangents of the transposed solve seem to depend on them, too
        dx = jax.tree.map(lambda leaf: leaf * (1 + never).astype(leaf.dtype), dx)
        dx = as_declared(dx, at, on_failure, name)
        return dx if mark is None else _times(mark, dx)

    solve = lambda operands, parameters: run(operands[0], operands[1], parameters)
    return _ruled(solve, (consts, constants, held), parameters, derive)


def _ruled(
    solve: Callable[[Any, Any], tuple[Any, Any]],
    constants: Any,
    parameters: Any,
    derive: Callable[[Any, Any, Any, Parameters, list[Any]], Any],
) -> tuple[Any, Any]:
    """Return ``solve(constants, parameters)``, a pair ``(x, extra)``, with a rule for the derivative of ``x``.

    ``derive(x, extra, constants, moved, tangent)`` is linear in the tangent of the parameters that move. The solution
    in it is differentiated by the same rule again.
    """
    treedef = jax.tree.structure(parameters)

    @jax.custom_jvp
    def solution(constants: Any, leaves: list[Any]) -> tuple[Any, Any]:
        return solve(constants, jax.tree.unflatten(treedef, leaves))

    def rule(primals: Any, tangents: Any) -> Any:
        x, extra = solution(*primals)
        leaves, dots = primals[1], tangents[1]
        moving = moving_places(dots)
        if not moving or not jax.tree.leaves(x):
            return (x, extra), _zeros((x, extra))

        def merge(some: list[Any]) -> Any:
            full = list(leaves)
            for i, leaf in zip(moving, some, strict=True):
                full[i] = leaf
            return jax.tree.unflatten(treedef, full)

        moved = Parameters([leaves[i] for i in moving], merge)
        dx = derive(x, extra, primals[0], moved, [dots[i] for i in moving])
        return (x, extra), (dx, _zeros(extra))

    solution.defjvp(rule, symbolic_zeros=True)
    return solution(constants, jax.tree.leaves(parameters))


def one_step(
    run: Callable[[Any, Any, Any], tuple[Any, Any]],
    consts: Any,
    step: Callable[[Any, Any, Any, Any], Any],
    constants: Any,
    parameters: Any,
) -> tuple[Any, Any]:
    """Return ``run(consts, constants, parameters)``, a pair ``(x, extra)``, differentiated as one step from ``x``.

    The derivative of ``x`` is that of ``step(x, extra, constants, parameters)`` in the parameters. At every higher
    order, the point in it moves as it does.
    """

    def derive(x: Any, extra: Any, operands: Any, moved: Parameters, tangent: list[Any]) -> Any:
        fun = lambda some: step(x, extra, operands[1], moved.merge(some))
        return jax.jvp(fun, (moved.moving,), (tangent,))[1]

    solve = lambda operands, parameters: run(operands[0], operands[1], parameters)
    return _ruled(solve, (consts, constants), parameters, derive)


def _on_a_solution(value: Any, at: Linearization, residual: Any, on_failure: OnFailure, name: str) -> Any:
    """Return a derivative, guarded by a test of the residual beside what a step of the point's own size makes."""
    x, residual = jax.lax.stop_gradient((at.x, residual))
    u = trees.varied(x)
    u = trees.scale((1 + trees.norm(x)) / trees.norm(u), u)
    size, scale = trees.norm(residual), trees.norm(jax.lax.stop_gradient(at.matvec(u)))

    def report(figures: Any) -> DerivativeError:
        return DerivativeError(
            f"{name[0].upper()}{name[1:]} does not satisfy the optimality condition that was given: the residual is "
            f"{float(figures[0]):.1e}, a change of the point by its own size makes {float(figures[1]):.1e}. Check that "
            "the condition is the solver's, with arguments in the same order, and that the solver converges. If a "
            'derivative that may be wrong is acceptable, pass on_failure="ignore".',
            Status.CONDITION,
        )

    return guard(value, ~(size <= TOLERANCE * scale), report, (jnp.stack([size, scale]),), on_failure)


def as_declared(value: Any, at: Linearization, on_failure: OnFailure, name: str) -> Any:
    """Return a derivative, guarded by a test of the symmetry that a user has declared."""
    if not at.declared:
        return value
    what = f"The Jacobian of the condition of {name}"
    return require_symmetric(value, at.matvec, at.x, at.structure, on_failure, what, "`symmetric`, `structure`")


def _never(inputs: Any) -> jax.Array:
    """Return zero, which seems to depend on the inputs.

    JAX cannot differentiate a linear solve of which only what its solver holds depends on something.
    """
    never = jnp.zeros((), bool)
    parts = [jnp.where(never, jnp.real(jnp.sum(jnp.ravel(leaf)[:1])), 0) for leaf in jax.tree.leaves(inputs)]
    return sum(parts, jnp.zeros(()))


def solve_real(at: Linearization, b: Any, linear_solver: Any, on_failure: OnFailure, name: str) -> Any:
    """Solve the linear system, on pairs of real numbers where the unknown is complex: ``F`` need not be holomorphic."""

    def solve(matvec: Any, b: Any, reduction: Any) -> Any:
        return solve_known(
            matvec,
            b,
            structure=at.structure,
            reduction=reduction,
            solver=linear_solver,
            on_failure=on_failure,
            name=name,
        )

    if not trees.has_complex(b):
        return solve(at.matvec, b, at.reduction)
    return trees.from_real(solve(lambda w: trees.to_real(at.matvec(trees.from_real(w))), trees.to_real(b), None))
