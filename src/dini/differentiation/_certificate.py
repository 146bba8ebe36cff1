r"""How far a derivative of a solution can be off: estimates from what one more evaluation tells.

Let ``x`` be the returned point, :math:`A = \partial_1 F` and :math:`B = \partial_2 F` there, and :math:`\dot x =
-A^{-1} B t` the derivative along :math:`t`. One Newton step estimates the point's own error,

.. math:: \delta = -A^{-1} F(x), \qquad x' = x + \delta,

and one evaluation of the linearized condition at :math:`x'` gives two things: :math:`F(x')`, which is small compared
with :math:`F(x)` if the step can be believed, and the residual of the derivative's own equation at the better point,

.. math:: G = \partial_1 F(x')\,\dot x + \partial_2 F(x')\,t .

It holds what the linear solve left over, what the curvature of ``F`` changes between the points, and a projection's
change of face. The derivative's error is :math:`A^{-1} G`, to first order. In reverse mode, with :math:`A^\top u = -v`
and the gradient :math:`g = B^\top u`: :math:`q = \partial_1 F(x')^\top u + v'`, :math:`\dot u = -A^{-\top} q`, and the
gradient's error is :math:`(\partial_2 F(x')^\top u - g) + B^\top \dot u`.

Two things this cannot see are estimated apart: rounding errors that both evaluations share, through the response of the
system to a perturbation of its elements in their last digits (without a matrix, through the condition number), and a
kink at which ``x`` sits exactly, through the distance of the projection's argument to its kinks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from .. import trees, xla
from ..linear import Solved, System
from ..linear._condition import indefinite
from ..linear._system import Rough
from ..status import OnFailure, guard
from ..trees import Tree
from ._degenerate import CHANGE, Doubt
from ._guards import never, times
from ._linearization import Linearization, Parameters
from ._verdict import TOLERANCE, Certificate, Verdict, failure

# First-order estimates are exceeded by as much as the Newton step leaves of the residual, and as iterative solvers
# leave of a correction, of which digits or the size were asked, and of a system that they did not solve. A step that
# did not reduce the residual (at the level of rounding, or far away) makes them estimates of the order of magnitude
# only; one that made it thousands of times larger says nothing at all.
_SAFETY, _SAFETY_DIGITS, _SAFETY_SIZE, _SAFETY_UNSOLVED = 1.1, 1.2, 2.0, 5.0
_SAFETY_WITHOUT_NEWTON, _TOO_FAR, _EXPLAINED = 30.0, 3e3, 100.0
# On the other side of a kink the derivative is another one: by how much is anybody's guess.
_AT_A_TIE, _UNSOLVED, _ALL_LOST = 3.0, 0.3, 1.5
# Rounding errors of a sum of many terms are a few units in the last place. Where no matrix tells what they do, the
# condition number bounds it, by far too much as a rule; the correction holds a sample of those that the two evaluations
# do not share.
_ROUNDING, _SAMPLED, _LIKELY = 4.0, 5.0, 1 / 30
# Units in the last place of a solution that a derivative's errors are beside where there is no derivative.
_NOTHING = 2e3
# Iterative solvers need only the size of a Newton step or a correction that is small, and more of another.
_SIZE_ONLY, _DIGITS, _SMALL = 1e-1, 1e-3, 1e-4


class _Correction(NamedTuple):
    """The Newton step at the point."""

    residual: jax.Array
    length: jax.Array
    nearby: Any
    #: what the step's own linear solve left of the residual
    unsolved: jax.Array
    #: the step's product with the condition: of a minimum, twice what the step would gain, whatever the units
    gain: jax.Array

    @classmethod
    def at(cls, x: Tree, here: Any, step: Solved) -> _Correction:
        """Return what there is to know of a step, which solves the linearized condition up to its residual."""
        length, residual = trees.norm(step.w), trees.norm(here)
        gain = jnp.abs(trees.vdot(here, step.w))
        return cls(residual, length, trees.sub(x, step.w), step.residual * residual, gain)

    def inverse(self, least: jax.Array) -> jax.Array:
        """Return a bound of the inverse's norm from below, from a smaller one."""
        return jnp.maximum(least, _ratio(self.length, self.residual))


def forward(
    at: Linearization,
    system: System,
    parameters: Parameters,
    tangents: list[Any],
    given: Any = None,
    extra: Any = None,
) -> tuple[Any, Certificate]:
    """Return the derivatives of the solution along ``tangents`` (or those that are given), and their certificate.

    Tangents and derivatives have a leading axis, one entry a direction; the certificate is that of all together.
    ``extra`` is added to the right-hand side of the derivative's equation.
    """
    # everything is linear in the tangents: of unit ones, no square underflows
    top, known = _top(tangents, extra), given
    tangents, extra, given = _over((tangents, extra, given), top)
    moving = parameters.moving
    here, push = jax.linearize(parameters.apply(at, at.x), moving)
    b = _each(push, tangents)
    b = b if extra is None else trees.sub(b, extra)
    system.prepare()
    solved = _each(system.solve, b)
    norm = system.norm(after=solved.w)
    rough = _rough(at.x, norm, _ratio(trees.norm(solved.w), trees.norm(b)))
    newton = _Correction.at(at.x, here, system.solve(here, rough))
    dx = trees.neg(solved.w) if given is None else given
    changed = _changed(at, system, parameters, here, solved.w, b, False)

    after, push_nearby = jax.linearize(lambda u, some: at.function(u, parameters.merge(some)), newton.nearby, moving)
    g = _each(lambda along: push_nearby(*along), (dx, tangents))
    g = g if extra is None else trees.sub(g, extra)
    rough = _rough(dx, norm, newton.inverse(rough.inverse_norm))
    loose = _each(lambda g: system.solve(g, rough), g)
    correction = loose.w
    condition = norm * rough.inverse_norm
    size = _size(trees.norm(trees.sub(dx, correction)), at.x, moving, trees.norm(tangents), condition)
    noise = None
    if system.dense:
        signs = trees.signs(at.x)
        noise = _each(lambda w: system.solve(system.perturbation(w, signs)).w, dx)
    return trees.scale(top, dx) if known is None else known, _judge(
        at,
        system,
        newton,
        norm=norm,
        after=trees.norm(after),
        error=_ratio(trees.norm(correction), size),
        noise=None if noise is None else _ratio(trees.norm(noise), size),
        inverse=[_ratio(trees.norm(dx), trees.norm(b)), _ratio(trees.norm(correction), trees.norm(g))],
        missed=_ratio(jnp.max(loose.residual) * trees.norm(g), size),
        linear_residual=jnp.max(solved.residual),
        changed=changed,
        flagged=jnp.any(solved.flagged | loose.flagged),
        finite=trees.all_finite((here, b)),
    )


def reverse(
    at: Linearization, system: System, parameters: Parameters, cotangents: Tree, given: list[Any] | None = None
) -> tuple[Any, list[Any], Certificate]:
    """Return the adjoints, the cotangents of what moves (or those that are given), and their certificate.

    ``cotangents`` is a function of the point, which returns the solution's cotangents and the direct cotangents of what
    moves (``None`` for none), with a leading axis: a loss of the solution has another gradient where the solution
    moves.
    """
    moving = parameters.moving
    system.prepare()
    transposed = system.transposed
    top, known = _top(cotangents(at.x)), given
    (v, direct), given = _over((cotangents(at.x), given), top)
    here, pull = jax.vjp(parameters.apply(at, at.x), moving)
    solved = _each(transposed.solve, v)
    u = trees.neg(solved.w)
    changed = _changed(at, transposed, parameters, here, solved.w, v, True)
    norm = system.norm(after=u)
    rough = _rough(at.x, norm, _ratio(trees.norm(u), trees.norm(v)))
    newton = _Correction.at(at.x, here, system.solve(here, rough))

    after, pull_nearby = jax.vjp(lambda w, some: at.function(w, parameters.merge(some)), newton.nearby, moving)
    v_nearby, direct_nearby = _over(cotangents(newton.nearby), top)
    q = trees.add(_each(lambda u: pull_nearby(u)[0], u), v_nearby)
    rough = _rough(u, norm, newton.inverse(rough.inverse_norm))
    loose = _each(lambda q: transposed.solve(q, rough), q)
    du = loose.w
    gradient = _each(lambda u: pull(u)[0], u)
    stretch = _ratio(trees.norm(gradient), trees.norm(u))
    better = xla.after(trees.sub(u, du), stretch, "certificate: passes")
    corrected = _each(lambda u: pull_nearby(u)[1], better)
    if direct is not None:
        gradient, corrected = trees.add(gradient, direct), trees.add(corrected, direct_nearby)
    if given is not None:
        gradient = given
    size = _size(trees.norm(corrected), at.x, moving, trees.norm(v), norm * rough.inverse_norm)
    left, right = xla.after((gradient, corrected), size, "certificate: passes")
    error = trees.norm(trees.sub(left, right))
    noise = None
    if system.dense:
        signs = trees.signs(at.x)
        perturbed = _each(lambda w: transposed.solve(transposed.perturbation(w, signs)).w, u)
        # once the corrected gradient is no longer needed, in its place: a gradient in the data is as large as they are,
        # and fresh memory costs more than the arithmetic
        perturbed = xla.after(perturbed, error, "certificate: noise")
        noise = xla.once(_each(lambda w: pull(w)[0], perturbed), "certificate: noise")
    return (
        trees.scale(top, u),
        trees.scale(top, gradient) if known is None else known,
        _judge(
            at,
            system,
            newton,
            norm=norm,
            after=trees.norm(after),
            error=_ratio(error, size),
            noise=None if noise is None else _ratio(trees.norm(noise), size),
            inverse=[_ratio(trees.norm(u), trees.norm(v)), _ratio(trees.norm(du), trees.norm(q))],
            missed=_ratio(stretch * jnp.max(loose.residual) * trees.norm(q), size),
            linear_residual=jnp.max(solved.residual),
            changed=changed,
            flagged=jnp.any(solved.flagged | loose.flagged),
            finite=trees.all_finite((here, v)),
        ),
    )


def _rough(reference: Any, norm: jax.Array, inverse_norm: jax.Array) -> Rough:
    """Return what is asked of a correction of ``reference``."""
    return Rough(_SIZE_ONLY, _DIGITS, _SMALL * trees.norm(reference), norm, inverse_norm)


def _top(*parts: Any) -> jax.Array:
    """Return the largest absolute value in some trees, or one where all are zero."""
    top = trees.max_abs(jax.tree.leaves(parts))
    return jnp.where(top > 0, top, 1)


def _over(tree: Tree, top: jax.Array) -> Any:
    return jax.tree.map(lambda leaf: leaf / top.astype(leaf.dtype), tree)


def _ratio(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return ``a / b``, and zero where ``a`` is."""
    return jnp.where(a == 0, 0, a / jnp.where(b == 0, jnp.finfo(b.dtype).tiny, b))


def _size(derivative: jax.Array, x: Tree, moving: Any, direction: jax.Array, condition: jax.Array) -> jax.Array:
    """Return what a derivative's error is relative to: its norm, and more where that is negligible.

    Along ``direction``, a relative change of the parameters by one would change the solution by a unit in the last
    place if the derivative were ``unit``. A derivative that is not even that counts as zero; of another one, rounding
    errors of the solution change some such units, as many more as the condition number (or a bound from below) allows.
    """
    parameters = trees.norm(moving)
    unit = trees.eps(x) * trees.norm(x) * direction / jnp.where(parameters > 0, parameters, 1)
    units = jnp.where(derivative <= unit, _NOTHING, jnp.clip(10 * condition, 10, _NOTHING))
    return derivative + jnp.where(parameters > 0, units * unit, 0)


def _judge(
    at: Linearization,
    system: System,
    newton: _Correction,
    *,
    norm: jax.Array,
    after: jax.Array,
    error: jax.Array,
    noise: jax.Array | None,
    inverse: list[jax.Array],
    missed: jax.Array,
    linear_residual: jax.Array,
    changed: jax.Array,
    flagged: jax.Array,
    finite: jax.Array,
) -> Certificate:
    """Put the figures together.

    ``missed`` times the inverse's norm bounds the part of the error that the correction's own linear system left out.
    """
    eps = trees.eps(at.x)
    no_minimum = indefinite(system, flagged)
    # a stationary point of a Lagrangian that is no minimum has a regular system
    flagged = flagged | ~jnp.asarray(at.sound())
    # each solve is a bound of the inverse from below
    inverse_norm = jnp.nanmax(jnp.stack([_ratio(newton.length, newton.residual), *inverse]))
    if system.dense:
        inverse_norm = jnp.maximum(inverse_norm, system.inverse_norm(after=error))
    condition = jnp.maximum(norm * inverse_norm, 1)
    # what rounding may do decides the verdict, what it is likely to do is the estimate
    bound = _ROUNDING * (eps * condition if noise is None else noise)
    rounding = bound
    if noise is None:
        rounding = jnp.where(error > 0, jnp.clip(_SAMPLED * error, _LIKELY * bound, bound), bound)

    failed = flagged | ~(linear_residual <= system.solver.accept(eps)) | ~jnp.isfinite(newton.length)
    # does Newton's method see the solution from here?
    contraction = _ratio(after, newton.residual)
    near = (contraction < 0.25) & ~(failed & system.dense)
    away: Any = 0 if system.dense else inverse_norm * newton.unsolved
    # the way to the solution, over the step: to first order, the derivative's error grows alike; of a factorized
    # system, only rounding is left
    farther = 1 if system.dense else 1 + _ratio(away, newton.length)
    safety, least = _caution(system, failed, error, condition, linear_residual)
    estimate = jnp.where(near, safety + 4 * contraction, _SAFETY_WITHOUT_NEWTON) * farther * error
    estimate = estimate + inverse_norm * missed
    known = jnp.isfinite(linear_residual) & jnp.isnan(estimate)
    unsolved = jnp.minimum(jnp.where(known, _ALL_LOST, estimate), _SAFETY_WITHOUT_NEWTON)
    estimate = jnp.where(failed, jnp.maximum(unsolved, least), estimate)
    margin, tie = _margin(at, newton, contraction, away, eps)
    solution_error = farther * newton.length * jnp.where(near, 1 / (1 - jnp.minimum(contraction, 0.25)), 1)
    far = _is_far(at, newton, solution_error, near, _EXPLAINED * eps * condition)
    # on the other side of a kink, as far away from a solution, the derivative is another one; a short step that did
    # not reduce the residual is at the level of rounding
    estimate = jnp.where(~near & far & (estimate > TOLERANCE), jnp.maximum(estimate, 1), estimate)
    enough = estimate + bound <= TOLERANCE
    if not system.dense:
        # a safety factor that the digits do not need refuses no derivative
        wide = jnp.where(failed | tie | (error <= _SMALL), 1, _SAFETY_SIZE / _SAFETY_DIGITS) * estimate
        estimate = jnp.where(enough, jnp.clip(wide, estimate, TOLERANCE), wide)
    estimate = estimate + rounding
    estimate = jnp.where(far & (contraction > _TOO_FAR), jnp.inf, estimate)
    degenerate = changed > CHANGE
    estimate = jnp.where(degenerate, jnp.maximum(estimate, changed), estimate)
    # where the correction is as large as the derivative, nothing may be left of it
    beyond = jnp.where(error > 0.9, _SAFETY_WITHOUT_NEWTON, _AT_A_TIE)
    estimate = jnp.where(tie, jnp.maximum(estimate, beyond), estimate)

    verdict = jnp.asarray(Verdict.RELIABLE)
    for bad, what in (
        (~enough | far | degenerate, Verdict.UNCONVERGED),
        (~(bound <= TOLERANCE / 2), Verdict.ILL_CONDITIONED),
        (tie, Verdict.TIE),
        (jnp.isnan(estimate), Verdict.NONFINITE),
        # a pivot of zero is seen by a factorization only; iterative solvers just fail
        (failed, Verdict.LINEAR_SOLVE),
        (flagged & system.dense, Verdict.ILL_CONDITIONED),
        (no_minimum, Verdict.NO_MINIMUM),
        (~finite, Verdict.NONFINITE),
    ):
        verdict = jnp.where(bad, what, verdict)
    return Certificate.of(newton.residual, linear_residual, condition, margin, solution_error, estimate, verdict)


def _changed(
    at: Linearization, system: System, parameters: Parameters, residual: Tree, w: Tree, b: Tree, transposed: bool
) -> jax.Array:
    """Return the largest share of the map that a Newton step changes, of all directions."""
    if not at.smooth:
        return jnp.zeros((), trees.real_dtype(at.x))
    doubt = Doubt(at, parameters.values, residual)
    return jnp.nanmax(_each(lambda pair: doubt.figure(system, pair[0], pair[1], transposed), (w, b)), initial=0)


def _caution(
    system: System, failed: jax.Array, error: jax.Array, condition: jax.Array, linear_residual: jax.Array
) -> tuple[Any, Any]:
    """Return how many times the error is taken where Newton's method sees the solution, and the least of a failure."""
    if system.dense:
        return _SAFETY, _ALL_LOST
    safety = jnp.where(failed, _SAFETY_UNSOLVED, jnp.where(error > _SMALL, _SAFETY_DIGITS, _SAFETY_SIZE))
    # of a system that was not solved at all, or without a correction, the residual tells what is known
    lost = jnp.minimum(condition * linear_residual, _ALL_LOST)
    return safety, jnp.where((error > 0) & (linear_residual <= _UNSOLVED), 0, lost)


def _is_far(
    at: Linearization, newton: _Correction, solution_error: jax.Array, near: jax.Array, explained: jax.Array
) -> jax.Array:
    """Return whether the point is far from a solution; rounding errors explain relative steps of ``explained``."""
    eps, size = trees.eps(at.x), trees.norm(at.x)
    far = ~(solution_error <= TOLERANCE * size + eps**0.25)
    if at.structure == "positive definite":
        # a short step may be all of an element in a larger unit than the others; beside its own curvature it is not
        weight = jnp.abs(trees.vdot(newton.nearby, at.matvec(newton.nearby)))
        far = far | ((newton.length <= TOLERANCE * size) & (newton.gain > TOLERANCE**2 * weight))
    # a step that rounding does not explain, and that does not reduce the residual, is not one towards a solution
    return far | (~near & (newton.length > explained * size + eps**0.25))


def _margin(
    at: Linearization, newton: _Correction, contraction: jax.Array, away: Any, eps: float
) -> tuple[jax.Array, jax.Array]:
    """Return the distance to the nearest kink, and whether it is within what is known of the point.

    ``away`` is the distance from the solution at which the Newton step's linear solve has ended. (A projection's
    argument moves no farther than the point, whose move it need not follow: along the leading directions a gradient
    step arrives by itself.)
    """
    if at.kinks is None:
        return jnp.full((), jnp.inf, trees.real_dtype(at.x)), jnp.asarray(False)
    y = at.kinks.argument(newton.nearby)
    moved = trees.norm(trees.sub(y, at.kinks.argument(at.x)))
    size = trees.norm(y)
    doubt = 3 * (jnp.minimum(contraction, 1) * moved + away) + 10 * eps * size
    margin = at.kinks.distance(y)

    # Where the distance is not known: at a kink, a second difference is as large as the step; elsewhere it is as large
    # as the step's square. (Along a direction that lies in no plane of a simple equation.)
    step = jnp.maximum(doubt, eps**0.5 * size)
    t = trees.scattered(y)
    t = trees.scale(step / trees.norm(t), t)
    second = trees.sub(
        trees.add(at.kinks.prox(trees.add(y, t)), at.kinks.prox(trees.sub(y, t))), trees.scale(2, at.kinks.prox(y))
    )
    bent = trees.norm(second) > eps**0.25 * step
    return margin, jnp.where(jnp.isnan(margin), bent, margin <= doubt)


def guarded(value: Any, certificate: Certificate, on_failure: OnFailure, name: str) -> Any:
    """Return a derivative; where its verdict is bad, apply the policy."""
    figures = certificate.figures
    known = not isinstance(figures, jax.core.Tracer)
    if known and (on_failure == "ignore" or Certificate(np.asarray(figures)).reliable):
        return value
    if known and on_failure == "raise":
        raise failure(figures, name)
    return guard(value, ~certificate.reliable, lambda figures: failure(figures, name), (figures,), on_failure)


def _each(fun: Callable[[Any], Any], tree: Tree) -> Any:
    """Apply a function to each entry of a leading axis; a single one without ``vmap``, whose products are slower."""
    if jax.tree.leaves(tree)[0].shape[0] == 1:
        return leading(fun(first(tree)))
    return jax.vmap(fun)(tree)


def leading(tree: Tree) -> Any:
    """Add a leading axis."""
    return jax.tree.map(lambda leaf: leaf[None], tree)


def first(tree: Tree) -> Any:
    """Take the leading axis away."""
    return jax.tree.map(lambda leaf: leaf[0], tree)


def solve_certified(
    at: Linearization,
    parameters: Parameters,
    tangents: list[Any],
    linear_solver: Any,
    on_failure: OnFailure,
    name: str,
) -> Any:
    r"""Return the derivative along ``tangents``; linear in them, guarded by its certificate in both directions.

    The certificate needs both the solution and the product with ``B``, in reverse mode as in forward mode. So that JAX
    hands over both at once, they are one linear system,

    .. math:: \begin{pmatrix} A & B \\ 0 & I \end{pmatrix} \begin{pmatrix} \dot x \\ s \end{pmatrix} =
              \begin{pmatrix} 0 \\ t \end{pmatrix}, \qquad
              \begin{pmatrix} A^\top & 0 \\ B^\top & I \end{pmatrix} \begin{pmatrix} u \\ g \end{pmatrix} =
              \begin{pmatrix} v \\ 0 \end{pmatrix} .
    """

    def product(unknown: Tree) -> Any:
        w, s = unknown
        _, b = jax.jvp(parameters.apply(at, at.x), (parameters.moving,), (s,))
        return trees.add(at.matvec(w), b), trees.add(s, _nothing(b, s))

    def solve(_: Any, rhs: Any) -> Any:
        r, s = rhs
        system = at.system(linear_solver)
        # a right-hand side of the first row comes from derivatives of higher order only
        dx, certificate = forward(at, system, parameters, leading(s), extra=leading(r))
        return guarded(first(dx), certificate, on_failure, name), s

    def solve_transposed(_: Any, rhs: Any) -> Any:
        v, w = rhs
        system = at.system(linear_solver)
        u, gradient, certificate = reverse(at, system, parameters, lambda _: (leading(v), None))
        # a zero cotangent (of a lane that a loss does not use, say) has the derivative zero, whatever the certificate
        verdict = jnp.where(trees.max_abs(v) == 0, Verdict.RELIABLE, certificate.verdict)
        certificate = Certificate(certificate.figures.at[-1].set(verdict.astype(certificate.figures.dtype)))
        return guarded((trees.neg(first(u)), trees.add(w, first(gradient))), certificate, on_failure, name)

    rhs = _nothing(tangents, at.x), tangents
    solution: Any = jax.lax.custom_linear_solve(product, rhs, solve, solve_transposed)
    return times(1 + never((at.x, parameters.moving)), trees.linked(solution)[0])


def _nothing(a: Any, like: Tree) -> Any:
    """Return zero as a linear function of ``a``.

    JAX transposes a linear system, and the derivative of one, only if all of its right-hand side is linear; and the
    derivative of its transpose, only if all of its solution is used.
    """
    nothing = trees.total([0 * jnp.sum(leaf) for leaf in jax.tree.leaves(a)])
    return jax.tree.map(lambda u: jnp.broadcast_to(nothing.astype(u.dtype), u.shape), like)
