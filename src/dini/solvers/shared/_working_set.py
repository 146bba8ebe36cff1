"""What solvers on working sets share: which coordinates, and the step of the outer loop."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ... import trees
from ...loop import accuracy, threshold
from ...numerics.working_sets import Elements, dispatch, sizes
from ...protocols import AnyProblem, Minimization
from ...status import Status
from ...trees import Scalar, Tree
from ...trees.products import dot, vdot
from .._base import Solver, infinity, running
from ..judge import _units
from ..judge._bound import unmoved
from ..judge._lengths import residual_step
from ..judge._margins import DECREASE, relative_rounding

#: how exactly a model is minimized relative to the tolerance
_EXACTLY = 0.1
#: the damping relative to the model's size: the least one and what is too much; by what it falls and grows
_LEAST, _MOST, _LESS, _MORE = 1e-3, 1e12, 0.25, 4.0
#: of elements that are violated alike, or not at all, the steepest are taken first
_TIES = 1e-6


class State(NamedTuple):
    """Carried from step to step: the coordinates that were free, and the damping of the model.

    ``moved`` is the length of the last step, ``work`` the curvature of a move of its elements by their own size.
    """

    error: Scalar
    free: Any
    damping: Scalar
    moved: Any
    work: Any
    scales: Any
    status: Any


class Model(NamedTuple):
    r"""The model on a working set: :math:`\tfrac12 d^\top H d + g^\top d` with :math:`d = u - x`, plus the part."""

    hessian: jax.Array
    gradient: jax.Array
    x: jax.Array
    part: Elements
    tol: jax.Array

    def fixed(self) -> Model:
        """Return the model as a constant of differentiation."""
        return Model(
            *jax.lax.stop_gradient(self[:3]),
            Elements(jax.lax.stop_gradient(self.part.part), self.part.constrained),
            self.tol,
        )

    def step_sizes(self) -> jax.Array:
        """Return one over the curvature of each element (one where there is none)."""
        diagonal = jnp.diagonal(self.hessian)
        return jnp.where(diagonal > 0, 1 / jnp.where(diagonal > 0, diagonal, 1), 1.0)

    def slope(self, u: jax.Array) -> jax.Array:
        """Return the gradient of the quadratic at ``u``."""
        return self.gradient + dot(self.hessian, u - self.x)

    def value(self, u: jax.Array, slope: jax.Array) -> jax.Array:
        """Return the model's value at ``u``, whose gradient is known, relative to the smooth part at ``x``."""
        return 0.5 * vdot(slope + self.gradient, u - self.x) + self.part.value(u)

    def error(self, u: jax.Array, slope: jax.Array) -> jax.Array:
        """Return the norm of the model's residual, in the outer loop's measure."""
        eta = residual_step(u, slope, convex=self.part.convex)
        return jnp.linalg.norm(u - self.part.prox(u - eta * slope, eta)) / eta


class NewtonStep(NamedTuple):
    """A Newton step on the fixed point of the model's proximal gradient step."""

    active: Any
    weight: Any
    factor: Any

    @classmethod
    def at(cls, model: Model, kept: jax.Array, step_sizes: jax.Array) -> NewtonStep:
        """Factorize the matrix of the elements that are active: those where the operator has a derivative ``kept``."""
        active = kept > 0
        kept = jnp.where(active, kept, 1)
        # rows and columns of inactive elements are those of the identity
        matrix = jnp.where(active[:, None] & active[None, :], model.hessian, 0)
        matrix = matrix + jnp.diag(jnp.where(active, (1 / kept - 1) / step_sizes, 1))
        factor = jax.lax.linalg.cholesky(matrix, symmetrize_input=False)
        return cls(active, 1 / (kept * step_sizes), factor)

    def step(self, model: Model, residual: jax.Array) -> jax.Array:
        """Return the step for the residual ``prox - u``."""
        rest = jnp.where(self.active, 0, residual)
        right = jnp.where(self.active, self.weight * residual - dot(model.hessian, rest), rest)
        return jax.scipy.linalg.cho_solve((self.factor, True), right, check_finite=False)


def finished(model: Model, u: jax.Array, step_sizes: jax.Array, newton: NewtonStep, found: Any) -> jax.Array:
    """Return ``u``, the minimizer if it was found, with the derivative of the minimizer.

    That is a Newton step more with the factorization as a constant. It moves by rounding errors where the minimizer was
    found; elsewhere only its derivative is taken.
    """
    step = newton.step(model.fixed(), model.part.prox(u - step_sizes * model.slope(u), step_sizes) - u)
    still = step - jax.lax.stop_gradient(step)
    return u + jnp.where(jnp.all(jnp.isfinite(step)), jnp.where(found, step, still), 0)


class WorkingSet(Solver):
    """Base of the solvers on working sets: an outer step picks coordinates and moves to a minimizer of their model."""

    largest: int

    composite = True
    monotone = True
    #: whether the penalty must be convex
    needs_convex = True

    def minimize_model(self, model: Model) -> jax.Array:
        """Return a point on the working set with a lower value of the model, as a function with the derivative of it.

        Everything that is iterated is a constant of differentiation; the derivative of the model's minimizer passes
        through one last step.
        """
        raise NotImplementedError

    def check(self, problem: AnyProblem, x: Tree) -> None:
        """Raise unless the constraint or penalty treats each element on its own."""
        super().check(problem, x)
        for kind in ("constraint", "penalty"):
            part = getattr(problem, kind, None)
            if part is None:
                continue
            if not part.elementwise:
                raise ValueError(
                    f"{self.name} needs a separable {kind}, which acts on each element alone: {part.name} is not. Use "
                    "ProximalGradient, or BlockCoordinateDescent for one that acts on rows."
                )
            if self.needs_convex and not getattr(part, "convex", True):
                raise ValueError(f"{self.name} needs a convex penalty: {part.name} is not. Use CoordinateDescent.")

    def init(self, problem: AnyProblem, x: Tree, *args: Tree) -> State:
        """Return the state before the first step."""
        del problem, args
        inf = infinity(x)
        zero = jnp.zeros_like(inf)
        return State(inf, ravel_pytree(x)[0] != 0, zero, zero, zero, _units.Units.unknown(x), running())

    def step(self, problem: Minimization, x: Tree, state: State, *args: Tree) -> tuple[Any, State]:
        """Take one step on a working set."""
        return self._advance(problem, x, state, args, always=not self.stops)

    def differentiable_step(self, problem: Minimization, x: Tree, state: State, *args: Tree) -> Any:
        """Return one step, also where ``x`` is a solution already."""
        return self._advance(problem, x, state, args, always=True)[0]

    def _advance(
        self, problem: Minimization, x: Tree, state: State, args: tuple[Tree, ...], *, always: bool = False
    ) -> tuple[Any, State]:
        flat, unravel = ravel_pytree(x)
        part = Elements.of(problem, x)
        # a start outside of a set, or where a penalty is infinite, is brought inside
        flat = jnp.where(jnp.isfinite(part.value(flat)), flat, part.prox(flat, jnp.ones((), flat.dtype)))
        x = unravel(flat)
        value, gradient = problem.value_and_gradient(x, *args)
        here = _Here(flat, ravel_pytree(gradient)[0], part, value + part.value(flat))
        seen = _seen(here, state)
        tol = threshold(self, x, seen.scales)
        done = (seen.error <= tol) & (not always)
        # where no scale is known, as exactly as the error falls in a step of a method that converges fast
        rough = jnp.where(tol > 0, _EXACTLY * tol, accuracy(self, x) * seen.error)
        choices = sizes(flat.size, self.largest)
        order, count = _chosen(problem, x, here, seen, state.free, choices, args)

        def move(k: int, flat: jax.Array) -> _Moved:
            return self._moved(problem, unravel, here, order[:k], state, rough, args)

        def stay(flat: jax.Array) -> _Moved:
            zero = jnp.zeros((), flat.dtype)
            return _Moved(flat, zero, zero, zero, state.free)

        moved = jax.lax.cond(done, stay, lambda u: dispatch(choices, count, move, u), flat)
        objective = problem.value(unravel(moved.flat), *args) + part.value(moved.flat)
        return self._judged(x, state, here, seen, moved, objective, done)

    def _moved(
        self,
        problem: Minimization,
        unravel: Any,
        here: _Here,
        rows: jax.Array,
        state: State,
        rough: Any,
        args: tuple[Tree, ...],
    ) -> _Moved:
        """Return the minimizer of the model on some coordinates."""
        flat, fixed = here.flat, jax.lax.stop_gradient(here.flat)
        hessian = problem.hessian_block(unravel(flat), rows, *args)
        scale = jax.lax.stop_gradient(jnp.max(jnp.abs(jnp.diagonal(hessian))))
        damping = state.damping.astype(flat.dtype) * jnp.eye(rows.size, dtype=flat.dtype)
        enough = jnp.asarray(rough, flat.dtype)
        model = Model(hessian + damping, here.gradient[rows], flat[rows], here.part.rows(rows), enough)
        some = self.minimize_model(model)
        final = jax.lax.stop_gradient(some)
        gain = model.value(final, model.slope(final)) - model.part.value(model.x)
        reach = jnp.maximum(jnp.abs(final), jnp.abs(fixed[rows]))
        work = dot(reach, dot(jnp.abs(jax.lax.stop_gradient(hessian)), reach))
        used = jnp.zeros_like(state.free).at[rows].set(True)
        return _Moved(flat.at[rows].set(some), gain, scale, work, used)

    def _judged(
        self, x: Tree, state: State, here: _Here, seen: _Seen, moved: _Moved, objective: jax.Array, done: jax.Array
    ) -> tuple[Any, State]:
        """Return the point, which is the new one if its objective falls as the model says, and the state."""
        unravel, dtype = ravel_pytree(x)[1], state.error.dtype
        slack = relative_rounding(here.objective)
        accept = objective <= here.objective + jnp.minimum(DECREASE * moved.gain, 0) + slack
        accept = jax.lax.stop_gradient(accept & jnp.isfinite(objective))
        least = _LEAST * moved.scale
        less = jnp.where(state.damping <= least, 0, _LESS * state.damping)
        damping = jnp.where(accept, less, jnp.maximum(_MORE * state.damping, least))
        still = ~jnp.any(moved.flat != here.flat)
        stuck = ~done & jnp.where(accept, still, damping > _MOST * moved.scale)
        lost = ~jnp.isfinite(here.objective) | ~jnp.isfinite(seen.error)
        length = jnp.where(accept, trees.norm(moved.flat - here.flat), 0)
        return trees.where(accept, unravel(moved.flat), x), State(
            jnp.where(lost, jnp.nan, seen.error).astype(dtype),
            jnp.where(accept, (seen.wanted & state.free) | moved.used, state.free),
            damping.astype(dtype),
            jax.lax.stop_gradient(length).astype(dtype),
            moved.work.astype(dtype),
            seen.scales,
            jnp.where(stuck, Status.STALLED, state.status).astype(jnp.int32),
        )


class _Here(NamedTuple):
    """A point with the gradient of the smooth part, the other part, and the objective."""

    flat: jax.Array
    gradient: jax.Array
    part: Elements
    objective: jax.Array


class _Seen(NamedTuple):
    """How far each element of a point is from stationary, altogether, and in which units; which are wanted free."""

    violation: jax.Array
    error: jax.Array
    scales: Any
    wanted: jax.Array


class _Moved(NamedTuple):
    """A point after a move, what its model promised, the size of that model, its work, and which elements moved."""

    flat: jax.Array
    gain: jax.Array
    scale: jax.Array
    work: jax.Array
    used: jax.Array


def _seen(here: _Here, state: State) -> _Seen:
    """Return what a point shows: the residual of its proximal gradient step, and the units learned from it."""
    part, eps = here.part, trees.eps(here.flat)
    fixed, slopes = jax.lax.stop_gradient((here.flat, here.gradient))
    eta = residual_step(fixed, slopes, convex=part.convex)
    forward = fixed - eta * slopes
    near, kept = part.slope(forward, eta)
    violation = jnp.abs(fixed - near) / eta + jnp.abs(unmoved(fixed, forward, near, slopes))
    error = jnp.linalg.norm(violation)
    # the error is that of the point before the step: the last one led to it
    change = jnp.where(jnp.isfinite(state.error), error - state.error, 0)
    pair = (state.moved**2, change**2)
    # a step in the whole point's unit would end at a kink of an element that is much smaller, whatever pulls at it
    steep = jnp.linalg.norm(slopes)
    own = eps**0.25 * jnp.abs(fixed) / jnp.where(steep > 0, steep, 1)
    own = jnp.where(own > 0, own, eta)
    pulled = jnp.abs(fixed - part.slope(fixed - own * slopes, own)[0]) / own
    each = _units.Elements(_units.slope_of_elements(fixed, pulled), state.work)
    scales = _units.learned(state.scales, jnp.isfinite(error), *pair, trees.norm(fixed), error, eps, each=each)
    return _Seen(violation, error, scales, (kept > 0) | (violation > 0))


def _chosen(
    problem: Minimization, x: Tree, here: _Here, seen: _Seen, free: jax.Array, choices: Any, args: tuple[Tree, ...]
) -> tuple[jax.Array, jax.Array]:
    """Return the elements in the order in which they are taken into the working set, and how many are."""
    old = seen.wanted & free
    count = jnp.sum(old)
    # a set that grows by at most as much as it holds: most of the first violations vanish with the first few
    room = jnp.maximum(count, choices[0] // 4)
    if hasattr(getattr(problem, "fun", None), "rank"):
        # more would be dependent
        room = jnp.minimum(room, jnp.maximum(problem.fun.rank(x, *args) - count, choices[0] // 4))
    count = count + jnp.minimum(jnp.sum(seen.wanted) - count, room)
    fits = count <= choices[-1]
    score = seen.violation + _TIES * jnp.abs(jax.lax.stop_gradient(here.gradient))
    return jax.lax.top_k(jnp.where(old & fits, jnp.inf, score), choices[-1])[1], count


def lowest(values: jax.Array, slack: Any) -> jax.Array:
    """Return the index of the smallest of some values, the first one that is smallest to rounding; NaN is largest."""
    values = jnp.where(jnp.isnan(values), jnp.inf, values)
    return jnp.argmax(values <= jnp.min(values) + slack)
