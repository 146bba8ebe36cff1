"""Limited-memory BFGS with bounds."""

from __future__ import annotations

from dataclasses import field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..checks.settings import require_count
from ..linear._small import swept
from ..protocols import Composed
from ..trees import Tree
from ..trees.products import dot, inner_products
from ._base import solver
from .shared._box import Box, BoxLineMethod, box_of, flatten
from .shared._gram import Gram
from .shared._line_method import Aim, Outcome, Pair, State
from .shared._line_search import LineSearch, WeakWolfe
from .shared._quasi_newton import QuasiNewton


class Model(NamedTuple):
    r"""The last differences of points (``s``) and gradients (``y``), scaled to unit ``s``, and their small matrices.

    The Hessian is modelled by :math:`\theta I`, corrected by the pairs. ``store`` holds the ``y``, then the ``s``;
    ``squared`` is :math:`S^\top S`; ``lower`` has :math:`s_i^\top y_j` for ``i`` newer than ``j``, and ``diagonal``
    these of one pair each: triangular in the order of time, so that the slots need none.
    """

    store: Any
    squared: Any
    lower: Any
    diagonal: Any
    theta: Any
    count: Any
    #: the longest step along the direction that keeps the bounds
    longest: Any


@solver
class LBFGSB(BoxLineMethod, QuasiNewton):
    r"""L-BFGS-B: limited-memory BFGS for smooth functions with bounds :math:`l \le x \le u`.

    .. math::
        \begin{aligned}
        B &= \theta I - W M W^\top, \qquad \theta = y^\top y / s^\top y, \qquad (1) \\
        x^c &= P(x - t^* g), \qquad (2) \\
        \hat d &= -Z (Z^\top B Z)^{-1} Z^\top \bigl(g + B (x^c - x)\bigr), \qquad (3) \\
        x &\leftarrow x + t d, \qquad d = P(x^c + \hat d) - x \qquad (4)
        \end{aligned}

    With the compact model (1) of the Hessian, an iteration follows the projected gradient path :math:`P(x - t g)` to
    the first local minimum of the model (the generalized Cauchy point; the path bends at a breakpoint for each bound
    that it meets), then minimizes the model over the variables that are free there (:math:`Z^\top` picks them),
    projects the result onto the bounds, and searches along the line to it. All breakpoints are compared at once, from
    cumulative sums in their order, so that no loop hides in a step; a trial of the line search is one step. All of this
    is in the variables :math:`u_i = x_i / d_i`, with the scales of :class:`LBFGS`, rounded to powers of two. The error
    is the norm of :math:`(P(u - \nabla_u f) - u) / d`, what the bounds leave of the gradient; the stopping test is that
    of :class:`LBFGS`.

    Without a constraint this is L-BFGS with a denser algebra.

    Parameters
    ----------
    history
        Number of pairs.
    rtol, atol
        Relative and absolute tolerance on the error, see :class:`dini.Solver`.
    max_steps
        Limit on the number of steps, that is of function evaluations.
    line_search
        One of :mod:`dini.solvers`: ``WeakWolfe()``, ``StrongWolfe()``, ``HagerZhang()``, ``Backtracking()``.

    References
    ----------
    Byrd, Lu, Nocedal, Zhu, "A limited memory algorithm for bound constrained optimization", SIAM J. Sci. Comput. 1995;
    the projection of the minimizer: Morales and Nocedal, "Remark on Algorithm 778", ACM Trans. Math. Softw. 2011.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> rosenbrock = lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    >>> problem = dini.Minimize(rosenbrock, constraint=dini.sets.Box(-2.0, jnp.array([0.5, 2.0])))
    >>> print(dini.solve(problem, dini.LBFGSB(), jnp.zeros(2)).x.round(2))
    [0.5  0.25]
    """

    history: int = field(default=10, metadata={"static": True})
    max_steps: int = field(default=2000, metadata={"static": True})
    line_search: LineSearch = field(default=WeakWolfe(), metadata={"static": True})

    def __post_init__(self, tol: Any) -> None:
        self._check_settings(tol)
        require_count("LBFGSB's history", self.history)

    def empty(self, x: Tree, dtype: Any) -> Model:
        """Return empty slots."""
        flat = flatten(x)
        store = jnp.zeros((2, self.history, flat.size), flat.dtype)
        small = jnp.zeros((self.history, self.history), flat.dtype)
        one = jnp.ones((), dtype)
        return Model(store, small, small, small[0], one, jnp.zeros((), jnp.int32), one)

    def longest(self, model: Model) -> Any:
        """Return the longest share of the direction that keeps the bounds."""
        return model.longest

    def aim(self, problem: Composed, x: Tree, state: State, pair: Pair, now: Outcome, args: tuple[Tree, ...]) -> Aim:
        """Return the direction to the minimizer of the model, which a search that has failed begins again."""
        old, d, box = state.model, flatten(state.scaling), box_of(problem, x)
        box = box._replace(lower=box.lower / d, upper=box.upper / d)
        point, gradient = flatten(x) / d, d * flatten(state.gradient)
        restart = now.failed & (old.count > 0)
        fresh = now.accept | restart
        model = _forget(_take_in(old, flatten(pair.move), flatten(pair.change), pair.products, now.keep), restart)
        # without pairs the model's curvature is the one of the first step's length
        length = self.cold_length(problem, x, state, pair, now, args)
        model = model._replace(theta=jnp.where((model.count == 0) & ~now.rests, 1 / length, model.theta))
        last = flatten(state.direction), jnp.zeros((), bool)
        direction, worn = jax.lax.cond(fresh, lambda: _direction(model, box, point, gradient), lambda: last)
        longest = jnp.where(fresh, jnp.maximum(box.longest(point, direction), 1), old.longest)
        model = _forget(model, worn)._replace(longest=jax.lax.stop_gradient(longest))
        slope = dot(gradient, direction)
        stuck = now.failed & (old.count == 0)
        known = (state.progress[1] > 0) | (model.count > 0)
        return Aim(model, box.unravel(direction), slope, jnp.ones_like(slope), fresh, stuck, known)

    def readings(self, x: Tree, state: Any) -> dict[str, Any]:
        r"""Return what quasi-Newton methods tell, and :math:`\theta` of scaled variables as ``curvature``."""
        return super().readings(x, state) | {"curvature": state.model.theta}


def _forget(model: Model, forget: Any) -> Model:
    # what is left of the pairs themselves is never read
    return model._replace(count=jnp.where(forget, 0, model.count), theta=jnp.where(forget, 1, model.theta))


def _take_in(model: Model, s: Any, y: Any, gram: Gram, keep: Any) -> Model:
    """Store a pair in place of the oldest one where ``keep`` holds."""
    m = len(model.diagonal)
    shrink = jax.lax.rsqrt(jnp.where(keep, gram.ss, 1))
    slots, place = jnp.arange(m, dtype=jnp.int32), model.count % m
    here = slots == place
    products = jnp.where(~here & (slots < model.count), shrink * dot(model.store, s), 0)
    put = keep & here
    row, column = put[:, None], put[None, :]
    squares = jnp.where(here, 1, products[1])
    pair = jax.lax.dynamic_slice_in_dim(model.store, place, 1, 1)
    # the condition is for the order that it implies, in which the store is updated in place; see LBFGS
    known = jnp.all(jnp.isfinite(products))
    pair = jnp.where(keep & known, shrink * jnp.stack([y, s])[:, None], pair)
    return Model(
        jax.lax.dynamic_update_slice_in_dim(model.store, pair, place, 1),
        jnp.where(column, squares[:, None], jnp.where(row, squares[None, :], model.squared)),
        jnp.where(column, 0, jnp.where(row, products[0][None, :], model.lower)),
        jnp.where(put, shrink**2 * gram.sy, model.diagonal),
        jnp.where(keep, gram.yy / jnp.where(keep, gram.sy, 1), model.theta),  # (1)
        model.count + keep.astype(jnp.int32),
        model.longest,
    )


def _compact(model: Model) -> tuple[jax.Array, jax.Array]:
    r"""Return :math:`M^{-1}` and the scale ``u`` of the model :math:`\theta (I - W u M u W^\top)` of the Hessian.

    ``W`` has the stored vectors as its columns, which ``u`` divides by :math:`\theta` where they are differences of
    gradients, and

    .. math:: M^{-1} = \begin{pmatrix} -D & L^\top \\ L & \theta S^\top S \end{pmatrix} / \theta.

    Empty slots have the scale zero.
    """
    m = len(model.diagonal)
    full = jnp.arange(m, dtype=jnp.int32) < model.count
    both = full[:, None] & full[None, :]
    eye = jnp.eye(m, dtype=model.squared.dtype)
    lower = jnp.where(both, model.lower, 0) / model.theta
    diagonal = jnp.where(full, model.diagonal / model.theta, 1)
    squared = jnp.where(both, model.squared, eye)
    inverse = jnp.block([[-diagonal[:, None] * eye, lower.T], [lower, squared]])
    return inverse, jnp.concatenate([jnp.where(full, 1 / model.theta, 0), jnp.where(full, 1.0, 0)])


def _direction(model: Model, box: Box, x: jax.Array, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the direction to the minimizer of the model, and whether the model had to be given up for it."""
    inverse, scale = _compact(model)
    rows, theta = model.store.reshape(len(scale), -1), model.theta
    unit, _ = swept(inverse)
    # (1): W' = rows, the pairs as they are, and M = m for these
    m = theta * scale[:, None] * unit * scale[None, :]
    cauchy = _cauchy_point(box, x, gradient, theta, rows, m)
    free = (cauchy > box.lower) & (cauchy < box.upper)
    move = cauchy - x
    reduced = jnp.where(free, gradient + theta * move - dot(dot(m, dot(rows, move)), rows), 0)
    # The inverse of the model on the free variables, by the Sherman-Morrison-Woodbury formula. As that of the whole
    # model, its small matrix is quasi-definite: the inertia of both is that of a positive definite Hessian.
    inner = jnp.where(free[None, :], rows, 0)
    system, _ = swept(inverse - scale[:, None] * dot(inner, inner.T) * scale[None, :])
    weights = scale * dot(system, scale * dot(inner, reduced))
    # (3): Z'(g + B (x^c - x)) = reduced
    step = -jnp.where(free, reduced + dot(weights, inner), 0) / theta
    # (4); where that does not descend, the share of the step that the bounds leave, as in the first paper
    projected = box.project(cauchy + step) - x
    truncated = move + jax.lax.stop_gradient(jnp.minimum(box.longest(cauchy, step), 1)) * step
    plain = box.project(x - gradient / theta) - x
    # infinite or NaN where an element of the direction is
    good, fair = (jnp.isfinite(slope) & (slope < 0) for slope in inner_products([projected, truncated], gradient))
    return jnp.where(good, projected, jnp.where(fair, truncated, plain)), ~(good | fair)


def _cauchy_point(
    box: Box, x: jax.Array, gradient: jax.Array, theta: jax.Array, rows: jax.Array, m: jax.Array
) -> jax.Array:
    r"""Return the first local minimizer of a model :math:`\theta I - W M W^\top` along the projected gradient path.

    ``rows`` are the columns of ``W``. Let :math:`t_1 \le t_2 \le \dots` be the breakpoints and :math:`d_j` the
    direction beyond the ``j``-th one, minus the gradient without the coordinates that have met a bound. With
    :math:`D_j = d_j^\top d_j`, :math:`p_j = W^\top d_j` and :math:`c_j = W^\top z_j`, where :math:`z_j` is the way up
    to it, the model's slope and curvature there are

    .. math:: f'_j = (\theta t_j - 1) D_j - p_j^\top M c_j, \qquad f''_j = \theta D_j - p_j^\top M p_j. \qquad (5)

    The gradient is divided by its largest element, ``unit``, and times are multiplied by it: at rest, its square would
    underflow. An element of which the square underflows compared with the largest does not move.
    """
    unit = jax.lax.stop_gradient(jnp.max(jnp.abs(gradient), initial=0))
    unit = jnp.where(unit > 0, unit, 1)
    gradient = gradient / unit
    gradient = jnp.where(jnp.square(gradient) < jnp.finfo(x.dtype).tiny, 0, gradient)
    bound = jnp.where(gradient < 0, box.upper, box.lower)
    meets = (gradient != 0) & jnp.isfinite(bound)
    breaks = jnp.where(meets, (x - jnp.where(meets, bound, 0)) / jnp.where(meets, gradient, 1), jnp.inf)
    steps = jnp.where(breaks > 0, -gradient, 0)
    order = jnp.argsort(breaks)
    ends = breaks[order]
    finite = jnp.isfinite(ends)
    ends_or_zero = jnp.where(finite, ends, 0)
    ordered = steps[order]
    along = rows[:, order] * ordered[None, :]
    # sums over the coordinates that still move beyond each breakpoint, the start included, and over those that do not
    moving = jnp.concatenate([(ordered**2)[None], along])[:, ::-1]
    sums = jnp.pad(jnp.cumsum(jnp.concatenate([moving, along * ends_or_zero[None, :]]), 1), ((0, 0), (1, 0)))
    remaining = sums[: len(moving), ::-1]
    squared, p = remaining[0], remaining[1:]
    start = jnp.pad(ends_or_zero, (1, 0))
    known = jnp.pad(finite, (1, 0), constant_values=True)
    c = sums[len(moving) :] + start[None, :] * p
    mp = dot(m, p)
    # (5): t_j = start, D_j = squared
    slope = (theta * start - unit) * squared - jnp.sum(mp * c, 0)
    bend = theta * squared - jnp.sum(mp * p, 0)
    # the model is convex: what rounding makes of its curvature must not turn it around
    bend = jnp.maximum(bend, jnp.finfo(x.dtype).eps * theta * squared)
    ahead = jnp.where(slope < 0, -slope / jnp.where(bend > 0, bend, 1), 0)
    next_end = jnp.pad(ends, (0, 1), constant_values=jnp.inf)
    stop = known & ((slope >= 0) | (start + ahead <= next_end))
    j = jnp.argmax(stop)
    # (2): t* = t
    t = start[j] + ahead[j]
    return jnp.where(breaks <= t, jnp.where(steps != 0, bound, x), box.project(x + t * steps))
