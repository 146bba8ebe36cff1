"""Block coordinate descent."""

from __future__ import annotations

from dataclasses import field
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.settings import require_choice
from ..conditions import curvature
from ..problems import LinearComposite
from ..status import Status
from ..trees import Scalar, Tree
from ..trees.products import dot, vdot
from ._base import Solver, infinity, running, solver
from .judge import _units
from .judge._bound import unmoved
from .judge._margins import relative_rounding


class State(NamedTuple):
    """Carried from step to step: the objective and a factor on all curvature estimates."""

    error: Scalar
    value: Any
    safety: Any
    step_sizes: Any
    steps: Scalar
    moved: Any
    scales: Any
    status: Any


@solver
class BlockCoordinateDescent(Solver):
    r"""Cyclic block proximal gradient.

    .. math::
        \begin{aligned}
        x_j^+ &= \mathrm{prox}_{\eta_j g_j}(x_j - \eta_j [\nabla f(x)]_j), \qquad (1) \\
        1/\eta_j &= \sigma (\|a_j\|^2 L_z + L_x), \qquad (2) \\
        z &\leftarrow z + a_j (x_j^+ - x_j)^\top . \qquad (3)
        \end{aligned}

    Blocks are the rows of an array where the objective is a :class:`dini.LinearComposite`, which keeps
    :math:`z = A^\top x` up to date by (3) so that an epoch costs about two gradients; otherwise the leaves of the
    unknown, each at the cost of a gradient. One step is one epoch. Each block's step size is one over the curvature of
    the objective along it (for rows (2), with the largest curvatures :math:`L_z` in ``z`` and :math:`L_x` in ``x``,
    where there is any, all factors of the objective included). If the objective rises, :math:`\sigma`, at first one, is
    doubled and the epoch undone. With ``test="curvature"``, for penalties that are known by their proximal operators
    alone, no value is asked for: an epoch of rows is undone where the curvature in ``z`` at its end is more than
    :math:`1.5 \sigma` times that at its start. The error is :math:`\|(x_j - x_j^+)/\eta_j\|_2` over the epoch.

    Parameters
    ----------
    rtol, atol
        Relative and absolute tolerance on the error, see :class:`dini.Solver`.
    max_steps
        Limit on the number of epochs.
    test
        What tells that steps were too long: ``"value"`` or ``"curvature"``.

    References
    ----------
    Bolte, Sabach, Teboulle, "Proximal alternating linearized minimization", Math. Program. 2014.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> problem = dini.Minimize(lambda x: (x["a"] - 1) ** 2 + (x["a"] + x["b"]) ** 2)
    >>> solution = dini.solve(problem, dini.BlockCoordinateDescent(), {"a": 0.0, "b": 0.0})
    >>> print(solution.x["a"].round(2), solution.x["b"].round(2))
    1.0 -1.0
    """

    max_steps: int = field(default=1000, metadata={"static": True})
    test: Literal["value", "curvature"] = field(default="value", metadata={"static": True})

    composite = True

    def __post_init__(self, tol: Any) -> None:
        self._check_settings(tol)
        require_choice("BlockCoordinateDescent's test", self.test, ("value", "curvature"))

    @property
    def monotone(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether values are compared."""
        return self.test == "value"

    def check(self, problem: Any, x: Tree) -> None:
        """Raise unless the constraint or penalty splits over the blocks."""
        super().check(problem, x)
        rows = isinstance(problem.fun, LinearComposite)
        if self.test == "curvature" and not rows:
            raise ValueError(
                'BlockCoordinateDescent\'s test="curvature" needs a LinearComposite, whose blocks are rows: given '
                f"{problem.name}."
            )
        part = getattr(problem, "constraint", None) or getattr(problem, "penalty", None)
        if part is None:
            return
        if self.test == "value" and not getattr(part, "valued", True):
            raise ValueError(
                f"BlockCoordinateDescent compares values of the objective, and the penalty {part.name} has none. Write "
                'dini.penalties.Custom(value, prox), pass test="curvature", or use ProximalGradient.'
            )
        if not (part.separates_rows(x) if rows else part.elementwise or len(jax.tree.leaves(x)) == 1):
            raise ValueError(
                f"BlockCoordinateDescent needs a constraint or penalty that splits over its blocks, the "
                f"{'rows' if rows else 'leaves'} of the unknown: {part.name} does not. Use ProximalGradient."
            )

    def init(self, problem: Any, x: Tree, *args: Tree) -> State:
        """Return the state before the first epoch."""
        inf = infinity(x)
        if isinstance(problem.fun, LinearComposite):
            sizes = jnp.ones(x.shape[0], inf.dtype)
        else:
            sizes = jax.tree.map(lambda _: jnp.ones((), inf.dtype), x)
        del args
        return State(
            inf,
            inf,
            jnp.ones_like(inf),
            sizes,
            jnp.zeros((), jnp.int32),
            jnp.zeros_like(inf),
            _units.Units.unknown(x),
            running(),
        )

    def step(self, problem: Any, x: Tree, state: State, *args: Tree) -> tuple[Any, State]:
        """Take one epoch."""
        if self.test == "curvature":
            return self._by_curvature(problem, x, state, args)
        epoch = _rows_epoch if isinstance(problem.fun, LinearComposite) else _leaves_epoch
        new, step_sizes, error, each = epoch(problem, x, state.safety, args)
        dtype = state.error.dtype
        value = problem.objective(new, *args).astype(dtype)
        accept = value <= state.value + relative_rounding(state.value)
        error = jnp.where(jnp.isfinite(value), error, jnp.nan)
        stalled = ~accept & (state.safety > 1e12)
        # The errors of two epochs differ by no more than the gradient has changed. An error is about that of the point
        # before its epoch: the last one led there.
        change = jnp.where(jnp.isfinite(state.error), error - state.error, 0)
        taken = accept & jnp.isfinite(error)
        pair, size, moved = (state.moved**2, change**2), _units.norm(new), _units.norm(trees.sub(new, x))
        scales = _units.learned(state.scales, taken, *pair, size, error, trees.eps(x), leaps=True, each=each)
        new_state = State(
            jnp.where(accept | jnp.isnan(error), error, state.error).astype(dtype),
            jnp.where(accept, value, state.value),
            jnp.where(accept, state.safety, 2 * state.safety),
            step_sizes,
            state.steps + 1,
            jnp.where(accept, moved, 0).astype(dtype),
            scales,
            jnp.where(stalled, Status.STALLED, state.status).astype(jnp.int32),
        )
        return trees.where(accept, new, x), new_state

    def _by_curvature(self, problem: Any, x: jax.Array, state: State, args: tuple[Tree, ...]) -> tuple[Any, State]:
        fun = problem.fun
        matrix = jnp.asarray(fun.matrix(*args))
        steepness = lambda x: curvature(lambda z: jax.grad(fun.outer)(z, x, *args), dot(matrix.T, x))
        new, step_sizes, error, _ = _rows_epoch(problem, x, state.safety, args)
        accept = steepness(new) <= 1.5 * state.safety * steepness(x)
        accept = jax.lax.stop_gradient(accept) | ~jnp.isfinite(error)
        kept = state._replace(
            error=jnp.where(accept, error, state.error).astype(state.error.dtype),
            safety=jnp.where(accept, state.safety, 2 * state.safety),
            step_sizes=step_sizes,
            steps=state.steps + 1,
        )
        return trees.where(accept, new, x), kept

    def differentiable_step(self, problem: Any, x: Tree, state: State, *args: Tree) -> Any:
        """Return one plain epoch."""
        epoch = _rows_epoch if isinstance(problem.fun, LinearComposite) else _leaves_epoch
        return epoch(problem, x, state.safety, args)[0]


def _inverse(top: Any) -> Any:
    return jax.lax.stop_gradient(jnp.where(top > 0, 1 / jnp.where(top > 0, top, 1), 1.0))


def _rows_epoch(problem: Any, x: jax.Array, safety: Any, args: tuple[Tree, ...]) -> tuple[Any, Any, Any, Any]:
    fun = problem.fun
    matrix = jnp.asarray(fun.matrix(*args))
    z = dot(matrix.T, x)
    in_x = lambda z, x: jax.grad(fun.outer, argnums=1)(z, x, *args)
    # without curvature in x this part of the gradient is the same all along the epoch
    direct = None if fun.curved(z, x, *args) else in_x(z, x)
    top = curvature(lambda u: jax.grad(fun.outer)(u, x, *args), z)
    # (2): sigma = safety, L_z = top, a_j = matrix[j]
    tops = safety * top * jnp.sum(matrix * matrix, axis=1)
    if direct is None:
        tops = tops + safety * curvature(lambda u: in_x(z, u), x)
    step_sizes = _inverse(tops).astype(x.dtype)
    part = problem.constraint if problem.constraint is not None else problem.penalty

    def block(i: Any, carry: tuple[Any, ...]) -> tuple[Any, ...]:
        x, z, squared, slope = carry
        row, eta = matrix[i], step_sizes[i]
        gradient = dot(row, jax.grad(fun.outer)(z, x, *args))
        gradient = gradient + (in_x(z, x)[i] if direct is None else direct[i])
        # (1): j = i, x_j^+ = new
        forward = x[i] - eta * gradient
        if problem.constraint is not None:
            new = part.row(i, x).project(forward)
        else:
            new = forward if part is None else part.row(i, x).prox(forward, eta)
        move = new - x[i]
        # (3)
        z = z + (jnp.outer(row, move) if x.ndim == 2 else row * move)
        left = jnp.abs(move / eta) + jnp.abs(unmoved(x[i], forward, new, gradient))
        return x.at[i].set(new), z, squared + jnp.sum(left**2), slope + jnp.sum(jnp.abs(left * x[i]))

    zero = jnp.zeros((), x.dtype)
    new, _, squared, slope = jax.lax.fori_loop(0, x.shape[0], block, (x, z, zero, zero))
    # the curvature of each row's own moves
    work = vdot(tops, jnp.sum((x * x).reshape(x.shape[0], -1), axis=1))
    return new, step_sizes, trees.sqrt(squared), _units.Elements(slope, work)


def _leaves_epoch(problem: Any, x: Tree, safety: Any, args: tuple[Tree, ...]) -> tuple[Any, Any, Any, Any]:
    leaves, treedef = jax.tree.flatten(x)
    zero = jnp.zeros((), trees.real_dtype(x))
    sizes, squared, slopes, work = [], zero, zero, zero
    for j, leaf in enumerate(leaves):

        def at(u: Tree, j: int = j) -> Any:
            return jax.tree.unflatten(treedef, [*leaves[:j], u, *leaves[j + 1 :]])

        def gradient(u: Tree, at: Any = at) -> Any:
            return jax.grad(lambda v: problem.value(at(v), *args))(u)

        eta = _inverse(safety * curvature(gradient, leaf)).astype(leaf.dtype)
        slope = gradient(leaf)
        # (1): x_j = leaf, x_j^+ = new
        forward = leaf - eta * slope
        new = jax.tree.leaves(problem.prox(at(forward), eta))[j]
        left = jnp.abs((new - leaf) / eta) + jnp.abs(unmoved(leaf, forward, new, slope))
        squared = squared + jnp.sum(left**2)
        own = jnp.maximum(jnp.abs(leaf), jnp.abs(new))
        bend = jax.jvp(gradient, (leaf,), (own * trees.scattered(leaf),))[1]
        slopes, work = slopes + _units.slope_of_elements(leaf, left), work + _units.slope_of_elements(own, bend)
        leaves[j] = new
        sizes.append(eta.astype(squared.dtype))
    each = _units.Elements(slopes, work)
    return jax.tree.unflatten(treedef, leaves), jax.tree.unflatten(treedef, sizes), trees.sqrt(squared), each
