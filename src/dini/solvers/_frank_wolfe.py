"""Frank-Wolfe with away steps."""

from __future__ import annotations

from dataclasses import field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.settings import require_count
from ..loop import met
from ..protocols import AnyProblem, Minimization
from ..status import Status
from ..trees import Scalar, Tree
from ..trees.products import dot, tensordot
from ._base import Solver, infinity, running, solver
from .judge._margins import UNSEEN, doubtful_difference, relative_rounding


class State(NamedTuple):
    """Carried from step to step: the points that ``x`` is a mixture of, their weights, and a curvature.

    ``moved`` is the last step and ``promised`` the decrease to first order, zero where values have tested the step.
    """

    error: Scalar
    atoms: Any
    weights: Any
    curvature: Any
    moved: Any
    promised: Any
    steps: Scalar
    scales: Any
    status: Any


class Toward(NamedTuple):
    """Where a step goes: forward to the vertex or away from an atom, the gap, and how far it may go."""

    forward: Any
    vertex: Any
    away: Any
    gap: Any
    direction: Any
    slope: Any
    squared: Any
    longest: Any


@solver
class FrankWolfe(Solver):
    r"""Frank-Wolfe (conditional gradient) with away steps, for sets over which linear functions are easy to minimize.

    ``x`` is a mixture of vertices :math:`a` with weights :math:`\alpha_a`. A step goes towards the next vertex ``s``,
    or away from the one with the largest inner product, ``v``, whichever predicts more decrease; on polytopes this
    converges linearly for strongly convex ``f``:

    .. math::
        \begin{aligned}
        s &= \arg\min_{p \in C}\langle\nabla f(x), p\rangle, \quad
        v = \arg\max_{a : \alpha_a > 0}\langle\nabla f(x), a\rangle, \qquad (1) \\
        (d, \gamma_{\max}) &= (s - x, 1) \text{ or } (x - v, \alpha_v / (1 - \alpha_v)), \qquad (2) \\
        \gamma &= \min\Bigl(\frac{\langle -\nabla f(x), d\rangle}{L\|d\|^2}, \gamma_{\max}\Bigr), \qquad (3) \\
        f(x + \gamma d) &\le f(x) + \gamma \langle\nabla f(x), d\rangle + \tfrac12 \gamma^2 L \|d\|^2 . \qquad (4)
        \end{aligned}

    The curvature ``L`` doubles where the bound (4) fails (the step is not taken then) and shrinks by a tenth where it
    holds. Where rounding hides the decrease, the bound is tested by the gradients at both ends instead. Only the start
    is projected, and iterates are sparse in vertices.
    The error is the Frank-Wolfe gap :math:`\langle\nabla f(x), x - s\rangle`, a bound on :math:`f(x) - f^*` for convex
    ``f``: in units of the objective, so its square root measures the distance to the solution.

    The points do not depend smoothly on parameters, so there is no unrolling; the implicit derivative of the solution
    is exact.

    Parameters
    ----------
    atoms
        Number of vertices that are kept; when they are all in use, the two of least weight are merged into one point.
    rtol, atol
        Relative and absolute tolerance on the gap, see :class:`dini.Solver`; its scale is
        :math:`L \|d\|^2 / 10`, with the longest direction to a vertex so far.
    max_steps
        Limit on the number of steps.

    References
    ----------
    Lacoste-Julien and Jaggi, "On the global linear convergence of Frank-Wolfe optimization variants", NeurIPS 2015;
    Pedregosa, Negiar, Askari, Jaggi, "Linearly convergent Frank-Wolfe with backtracking line-search", AISTATS 2020.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> problem = dini.Minimize(lambda x, a: jnp.sum((x - a) ** 2), constraint=dini.sets.Simplex())
    >>> print(dini.solve(problem, dini.FrankWolfe(), jnp.ones(3) / 3, jnp.array([0.9, 0.5, -1.0])).x.round(3))
    [0.7 0.3 0. ]
    """

    atoms: int = field(default=32, metadata={"static": True})
    max_steps: int = field(default=2000, metadata={"static": True})

    composite = True
    monotone = True
    # vertices jump, and the last steps may be of length zero before the derivative has followed the point
    differentiable = False

    def __post_init__(self, tol: Any) -> None:
        self._check_settings(tol)
        require_count("FrankWolfe's atoms", self.atoms, 3)

    def check(self, problem: AnyProblem, x: Tree) -> None:
        """Raise unless the problem has a set with a linear minimization oracle."""
        super().check(problem, x)
        constraint = problem.constraint
        if constraint is None:
            raise TypeError(f"FrankWolfe needs a problem with a bounded constraint; {problem.name} has none.")
        try:
            jax.eval_shape(constraint.minimize_linear, x)
        except NotImplementedError as error:
            raise TypeError(
                f"FrankWolfe needs a constraint with a support function: {constraint.name} has none. "
                "Use ProjectedGradient."
            ) from error

    def init(self, problem: AnyProblem, x: Tree, *args: Tree) -> State:
        """Return the state before the first step: ``x``, projected onto the set, is the first atom."""
        del args
        inf = infinity(x)
        start = problem.constraint.project(x)
        atoms = jax.tree.map(lambda u: jnp.zeros((self.atoms, *u.shape), u.dtype).at[0].set(u), start)
        weights = jnp.zeros(self.atoms, inf.dtype).at[0].set(1)
        zero = jnp.zeros_like(inf)
        none, scales = jnp.zeros((), jnp.int32), jnp.zeros(3, inf.dtype)
        return State(inf, atoms, weights, zero, trees.zeros_like(start), zero, none, scales, running())

    def accepts_state(self, problem: AnyProblem, x: Tree, state: State, *args: Tree) -> jax.Array:
        """Return whether ``x`` is the mixture of the state's atoms, and all of them are in the set."""
        del args
        room = trees.eps(x) ** 0.5
        mixed = _mixture(state.atoms, state.weights)
        outside = jax.vmap(problem.constraint.residual)(state.atoms)
        largest = jnp.max(jnp.where(state.weights > 0, outside, 0))
        return jnp.maximum(trees.norm(trees.sub(x, mixed)), largest) <= room * trees.norm(x)

    def step(self, problem: Minimization, x: Tree, state: State, *args: Tree) -> tuple[Any, State]:
        """Try one step."""
        dtype = state.error.dtype
        x = trees.where(state.steps == 0, jax.tree.map(lambda a: a[0], state.atoms), x)
        value, gradient = problem.value_and_gradient(x, *args)
        to = self._direction(problem, x, gradient, state)
        # at first as if the best step were a whole one
        tiny = jnp.finfo(dtype).tiny
        curvature = jnp.where(state.curvature > 0, state.curvature, to.slope / jnp.maximum(to.squared, tiny))
        curvature = self._measured(state, gradient, curvature)
        # (3): gamma = step_size, L = curvature; where the vertex is the point itself, the slope is rounding and may
        # have the wrong sign
        step_size = jnp.clip(to.slope / jnp.maximum(curvature * to.squared, tiny), 0, to.longest)
        new, placed, stepped = self._moved(x, state, to, step_size)
        # the right-hand side of (4)
        promised = step_size * to.slope
        bound = value - promised + 0.5 * step_size**2 * curvature * to.squared
        # rounding of the value, and of the point that it belongs to
        blurred = trees.vdot(jax.tree.map(jnp.abs, gradient), jax.tree.map(jnp.abs, x)).astype(dtype)
        slack = relative_rounding(jnp.abs(value) + blurred)
        doubtful = jnp.maximum(10 * slack, doubtful_difference(value))
        small = promised <= doubtful
        accept = problem.value(new, *args) <= jnp.where(small, value + doubtful, bound + slack)
        # the gap of a point that is as far from the solution as the vertices are, and what rounding makes of a gap
        toward = trees.sub(to.vertex, x)
        across = jnp.maximum(state.scales[2], trees.vdot(toward, toward).astype(dtype))
        scales = jnp.stack([UNSEEN * curvature * across, relative_rounding(blurred), across])
        scales = jax.lax.stop_gradient(scales).astype(dtype)
        accept &= ~met(self, x, to.gap, scales)  # the gap is that of x, which is then the point to return
        grown = jnp.where(accept, jnp.where(small, curvature, 0.9 * curvature), 2 * curvature)
        stalled = ~accept & (step_size * jnp.sqrt(to.squared) <= 1e-3 * trees.eps(x) * trees.norm(x))
        return trees.where(accept, new, x), State(
            # an infinite objective may have a finite gradient
            jnp.where(jnp.isfinite(value), to.gap, jnp.nan),
            trees.where(accept & to.forward, placed, state.atoms),
            jnp.where(accept, stepped, state.weights),
            grown.astype(dtype),
            trees.scale(step_size, to.direction),
            jnp.where(accept & small, promised, 0).astype(dtype),
            state.steps + 1,
            scales,
            jnp.where(stalled, Status.STALLED, state.status).astype(jnp.int32),
        )

    def _direction(self, problem: AnyProblem, x: Tree, gradient: Tree, state: State) -> Toward:
        """Return the better of the two directions (2), and the gap."""
        dtype, weights = state.error.dtype, state.weights
        # (1): s = vertex, v = atoms[away]
        vertex = problem.constraint.minimize_linear(gradient)
        rows = [a.reshape(self.atoms, -1) for a in jax.tree.leaves(state.atoms)]
        flat = [g.reshape(-1) for g in jax.tree.leaves(gradient)]
        scores = trees.total([dot(a, g).astype(dtype) for a, g in zip(rows, flat, strict=True)])
        away = jnp.argmax(jnp.where(weights > 0, scores, -jnp.inf)).astype(jnp.int32)
        here = trees.vdot(gradient, x).astype(dtype)
        gap = here - trees.vdot(gradient, vertex).astype(dtype)
        forward = gap >= scores[away] - here
        # (2): d = direction, gamma_max = longest, alpha_v = weight
        weight = weights[away]
        backward = jax.tree.map(lambda u, a: u - a[away], x, state.atoms)
        direction = trees.where(forward, trees.sub(vertex, x), backward)
        slope = -trees.vdot(gradient, direction).astype(dtype)
        squared = trees.vdot(direction, direction).astype(dtype)
        longest = jnp.where(forward, 1.0, weight / jnp.maximum(1 - weight, jnp.finfo(dtype).eps))
        return Toward(forward, vertex, away, gap, direction, slope, squared, longest)

    def _moved(self, x: Tree, state: State, to: Toward, step_size: Any) -> tuple[Any, Any, jax.Array]:
        """Return the point after a step, the atoms with the vertex among them, and the weights."""
        placed, freed, place = self._place(state.atoms, state.weights, to.vertex)
        base, at = jnp.where(to.forward, freed, state.weights), jnp.where(to.forward, place, to.away)
        signed = jnp.where(to.forward, step_size, -step_size)
        stepped = jnp.maximum(((1 - signed) * base).at[at].add(signed), 0)
        # an away step that is as long as can be leaves its atom out
        slots = jnp.arange(self.atoms, dtype=jnp.int32)
        stepped = jnp.where(~to.forward & (step_size >= to.longest) & (slots == to.away), 0, stepped)
        total = jnp.sum(stepped)
        stepped = jnp.where(total > 0, stepped / jnp.where(total > 0, total, 1), state.weights)
        # a long step away from an atom that is nearly the point itself would carry rounding out of the set
        new = trees.where(to.forward, trees.axpy(step_size, to.direction, x), _mixture(state.atoms, stepped))
        return new, placed, stepped

    def _measured(self, state: State, gradient: Tree, curvature: jax.Array) -> jax.Array:
        """Return the curvature after a step whose decrease is below rounding, from the change of the gradient."""
        dtype = curvature.dtype
        rise = trees.vdot(gradient, state.moved).astype(dtype) + state.promised
        length = trees.norm(state.moved).astype(dtype)
        noise = 4 * jnp.finfo(dtype).eps * trees.norm(gradient).astype(dtype) * length
        measurable = (state.promised > 0) & (jnp.abs(rise) > noise)
        measured = rise / jnp.where(measurable, length, 1) ** 2
        return jnp.where(measurable, jnp.maximum(measured, 0.9 * curvature), curvature)

    def _place(self, atoms: Any, weights: jax.Array, vertex: Any) -> tuple[Any, jax.Array, jax.Array]:
        """Return the atoms with a vertex among them, the weights so far, and the vertex's place."""
        same = [
            jnp.all((a == v[None]).reshape(self.atoms, -1), axis=1)
            for a, v in zip(jax.tree.leaves(atoms), jax.tree.leaves(vertex), strict=True)
        ]
        known = (weights > 0) & jnp.all(jnp.stack(same), axis=0)
        light, next_light = jax.lax.top_k(-weights, 2)[1]
        full = ~jnp.any(known) & (weights[light] > 0)
        both = weights[light] + weights[next_light]
        share = jnp.where(both > 0, weights[light] / jnp.where(both > 0, both, 1), 0)
        place = jnp.where(jnp.any(known), jnp.argmax(known).astype(light.dtype), light)

        def put(a: jax.Array, v: jax.Array) -> jax.Array:
            mixed = a[next_light] + share.astype(a.dtype) * (a[light] - a[next_light])
            return a.at[next_light].set(jnp.where(full, mixed, a[next_light])).at[place].set(v)

        merged = weights.at[next_light].set(both).at[light].set(0)
        return jax.tree.map(put, atoms, vertex), jnp.where(full, merged, weights), place


def _mixture(atoms: Any, weights: jax.Array) -> Any:
    return jax.tree.map(lambda a: tensordot(weights.astype(a.dtype), a, 1), atoms)
