"""The equations of active constraints: degenerate points are named by the certificate, errors by their own terms."""

import jax
import jax.numpy as jnp
import numpy as np

import dini
from dini.certified import Verdict
from dini.problems import Multipliers, PrimalDual


def verdict(problem, x, dual, *args):
    """Return the certificate's verdict on the derivative at a point that is given by hand."""
    at = PrimalDual(jnp.asarray(x, float), dual)
    along = jax.tree.map(jnp.ones_like, args)
    return Verdict(int(dini.certified.jvp(problem, at, args, along, on_failure="ignore")[1].verdict))


def multipliers(equality=None, inequality=None, bounds=None):
    part = lambda value: None if value is None else jnp.asarray(value, float)
    return Multipliers(part(equality), part(inequality), part(bounds))


def test_a_stationary_point_that_is_no_minimum_is_named():
    """On a circle, the nearest point and the farthest; in a plane, a saddle of two negative curvatures; at a bound."""
    a = jnp.array([3.0, 4.0])
    circle = dini.NonlinearProgram(lambda x, a: jnp.sum((x - a) ** 2), equality=lambda x, a: jnp.sum(x**2) - 1.0)
    assert verdict(circle, [0.6, 0.8], multipliers(4.0), a) == Verdict.RELIABLE
    assert verdict(circle, [-0.6, -0.8], multipliers(-6.0), a) == Verdict.ILL_CONDITIONED

    curves = lambda x, a: jnp.sum(jnp.array([-1.0, -1.0, 3.0, -9.0]) * (x - a) ** 2)
    plane = dini.NonlinearProgram(curves, equality=lambda x, a: x[3])
    assert verdict(plane, jnp.zeros(4), multipliers(0.0), jnp.zeros(4)) == Verdict.ILL_CONDITIONED
    held = dini.NonlinearProgram(curves, equality=lambda x, a: 1e6 * x[:2] + x[2], inequality=lambda x, a: x[3])
    assert verdict(held, jnp.zeros(4), multipliers(jnp.zeros(2), 18.0), -jnp.eye(4)[3]) == Verdict.RELIABLE

    saddle = dini.NonlinearProgram(lambda x, a: x[0] ** 2 - x[1] ** 2 - a * x[1], upper=jnp.array([jnp.inf, 1.0]))
    assert verdict(saddle, [0.0, 1.0], multipliers(bounds=[0.0, 3.0]), 1.0) == Verdict.RELIABLE
    assert verdict(saddle, [0.0, -0.5], multipliers(bounds=[0.0, 0.0]), 1.0) == Verdict.ILL_CONDITIONED


def test_dependent_gradients_are_named():
    """Of an inequality and a bound that is the same, of an equality and an inequality, of three lines in a plane."""
    square = lambda x, a: jnp.sum((x - a) ** 2)
    a = jnp.array([2.0, 2.0])
    bound = dini.NonlinearProgram(square, inequality=lambda x, a: x[0] - 1.0, upper=jnp.array([1.0, jnp.inf]))
    assert verdict(bound, [1.0, 2.0], multipliers(None, 1.0, [1.0, 0.0]), a) == Verdict.ILL_CONDITIONED
    pair = dini.NonlinearProgram(square, lambda x, a: x[0] - 1.0, lambda x, a: 2 * (x[0] - 1.0))
    assert verdict(pair, [1.0, 2.0], multipliers(0.0, 1.0), a) == Verdict.ILL_CONDITIONED
    lines = dini.NonlinearProgram(square, inequality=lambda x, a: jnp.stack([x[0] - 1, x[1] - 1, x[0] + x[1] - 2]))
    assert verdict(lines, [1.0, 1.0], multipliers(None, [1.0, 1.0, 1.0]), a) == Verdict.ILL_CONDITIONED


def test_multipliers_of_zero_are_named():
    """Of an inequality, of a bound, of one inequality among two, in other units."""
    square = lambda x, a: jnp.sum((x - a) ** 2)
    for size in (1.0, 1e6, 1e-6):
        one = size * jnp.ones(2)
        ball = dini.NonlinearProgram(square, inequality=lambda x, a, one=one: x[0] - one[0])
        assert verdict(ball, one, multipliers(None, 0.0), one) == Verdict.TIE
        bound = dini.NonlinearProgram(square, upper=one)
        a = one * jnp.array([1.0, 2.0])
        assert verdict(bound, one, multipliers(bounds=[0.0, 2 * size]), a) == Verdict.TIE
    two = dini.NonlinearProgram(square, inequality=lambda x, a: x - 1.0)
    assert verdict(two, [1.0, 1.0], multipliers(None, [0.0, 2.0]), jnp.array([1.0, 2.0])) == Verdict.TIE
    assert verdict(two, [1.0, 1.0], multipliers(None, [1.0, 2.0]), jnp.array([1.5, 2.0])) == Verdict.RELIABLE


def test_a_violation_counts_beside_its_own_terms():
    """Elements that differ by 1e7: a constraint among the small ones is wrong by its own size, and that is said."""
    problem = dini.NonlinearProgram(lambda x: jnp.sum(x**2), equality=lambda x: x[1] + x[2] - 0.02)
    at = PrimalDual(jnp.array([1e5, 0.01, 0.02]), multipliers(0.0))
    error = lambda at: problem.condition.error(problem, at)
    assert error(at._replace(primal=jnp.array([1e5, 0.01, 0.02]))) > 0.3
    np.testing.assert_array_less(0.3, error(at))
