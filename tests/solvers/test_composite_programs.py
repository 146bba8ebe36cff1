"""Nonlinear programs with a set or a penalty beside the functions: closed forms, derivatives, ties, the door."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq

import dini
from dini.certified import Verdict

CENTER, TOTAL, STRENGTH = np.array([2.0, 0.3, -1.5, 0.9]), 1.0, 0.4


def sparse(center, total, strength, **how):
    """Return the point next to ``center`` with a given sum and a small 1-norm."""
    return dini.minimize(
        lambda x, center, total: 0.5 * jnp.sum((x - center) ** 2),
        jnp.zeros_like(center),
        center,
        total,
        equality=lambda x, center, total: jnp.sum(x) - total,
        penalty=dini.penalties.L1(strength),
        **how,
    )


def sparse_by_hand(center, total, strength):
    """Return it by soft thresholds around a multiplier, which is a root of one variable."""
    at = lambda y: np.sign(center - y) * np.maximum(np.abs(center - y) - strength, 0)
    y = brentq(lambda y: at(y).sum() - total, -10, 10, xtol=1e-15)
    return np.append(at(y), y)


def differences(fun, arguments, h=1e-6):
    """Return the derivatives in each argument by central differences."""
    found = []
    for i, argument in enumerate(arguments):
        moved = lambda e, i=i: [a + h * e if k == i else a for k, a in enumerate(arguments)]
        units = np.eye(argument.size) if np.ndim(argument) else [1.0]
        found.append(np.stack([(fun(*moved(e)) - fun(*moved(-e))) / (2 * h) for e in units], axis=-1))
    return found


def test_a_penalty_beside_an_equality_in_any_units():
    """Point, multiplier and derivatives, with lengths a million times smaller and larger; exact zeros."""

    @jax.jit
    def everything(*given):
        parts = lambda *given: (lambda s: (jnp.append(s.x, s.multipliers.equality), s.status))(sparse(*given))
        return *parts(*given), jax.jacrev(lambda *given: parts(*given)[0], (0, 1, 2))(*given)

    expected = sparse_by_hand(CENTER, TOTAL, STRENGTH)
    slopes = differences(sparse_by_hand, (CENTER, TOTAL, STRENGTH))
    for size in (1.0, 1e6, 1e-6):
        found, status, derivatives = everything(*(size * jnp.asarray(part) for part in (CENTER, TOTAL, STRENGTH)))
        assert status == dini.Status.CONVERGED
        np.testing.assert_allclose(found / size, expected, atol=1e-12)
        assert (np.asarray(found)[:4] == 0).tolist() == (expected[:4] == 0).tolist()
        for one, other in zip(derivatives, slopes, strict=True):
            np.testing.assert_allclose(one, other.reshape(one.shape), atol=1e-8)


def test_lanes_and_single_precision():
    """A lane whose constraints no point satisfies spoils no other."""

    def one(a, least):
        solution = dini.minimize(
            lambda x, a, least: jnp.sum((x - a) ** 2),
            jnp.ones_like(a) / 3,
            a,
            least,
            inequality=lambda x, a, least: least - x[0],
            constraint=dini.sets.Simplex(),
            on_failure="ignore",
        )
        return solution.x, solution.status

    a = jnp.tile(jnp.array([0.2, 0.6, 0.2], np.float32), (3, 1))
    x, status = jax.jit(jax.vmap(one))(a, jnp.array([0.5, 2.0, -1.0], np.float32))
    assert [dini.Status(int(s)).name for s in status] == ["CONVERGED", "LOCALLY_INFEASIBLE", "CONVERGED"]
    np.testing.assert_allclose(x[0], [0.5, 0.45, 0.05], atol=1e-4)
    np.testing.assert_allclose(x[2], a[2], atol=1e-4)


@pytest.mark.thorough  # two solvers, 11 s of CPU
def test_a_set_is_as_good_as_the_functions_that_describe_it():
    """On the simplex with an inequality; the interior point has an equality and bounds in place of the set."""
    fun, ball = lambda x, c: jnp.sum((x - c[:3]) ** 2) + jnp.prod(x + 1), lambda x, c: jnp.sum(x**2) - c[3]
    c = jnp.array([1.0, 0.2, 0.1, 0.45])

    def parts(c, **how):
        solution = dini.minimize(fun, jnp.ones(3) / 3, c, inequality=ball, **how)
        return jnp.append(solution.x, solution.multipliers.inequality)

    ways = (
        {"constraint": dini.sets.Simplex()},
        {"equality": lambda x, c: jnp.sum(x) - 1, "constraint": dini.sets.NonNegative()},
    )
    both = [lambda c, how=how: (parts(c, **how),) * 2 for how in ways]
    first, second = jax.jit(lambda c: [jax.jacfwd(fun, has_aux=True)(c) for fun in both])(c)
    np.testing.assert_allclose(first[1], second[1], atol=1e-9)
    np.testing.assert_allclose(first[0], second[0], atol=1e-7)
    assert first[1][3] > 0.1


@pytest.mark.thorough  # a program of its own for each
@pytest.mark.parametrize("inner", [dini.ProximalGradient(), dini.ProximalNewton(), dini.BlockCoordinateDescent()])
def test_inner_solvers(inner):
    found = sparse(*map(jnp.asarray, (CENTER, TOTAL, STRENGTH)), solver=dini.AugmentedLagrangian(inner))
    np.testing.assert_allclose(found.x, sparse_by_hand(CENTER, TOTAL, STRENGTH)[:4], atol=1e-8)


def test_ties_are_named():
    """On a kink of the penalty, and of a constraint; beside both the derivative is reliable."""
    problem = dini.NonlinearProgram(
        lambda x, a: 0.5 * jnp.sum((x - a) ** 2), inequality=lambda x, a: x[1] - 1.0, penalty=dini.penalties.L1(1.0)
    )

    @jax.jit
    def verdict(a):
        start = problem.start(jnp.zeros(2), a)
        solution = dini.solve(problem, dini.AugmentedLagrangian(), start, a, on_failure="ignore")
        along = (jnp.ones_like(a),)
        certificate = dini.certified.jvp(problem, solution.x, (a,), along, on_failure="ignore")[1]
        return solution.status, solution.x.primal, certificate.verdict

    for a, x, expected in (
        ((1.0, 0.0), (0.0, 0.0), Verdict.TIE),
        ((0.5, 2.0), (0.0, 1.0), Verdict.TIE),
        ((0.5, 3.0), (0.0, 1.0), Verdict.RELIABLE),
        ((3.0, 1.5), (2.0, 0.5), Verdict.RELIABLE),
    ):
        status, at, found = verdict(jnp.array(a))
        assert status == dini.Status.CONVERGED
        np.testing.assert_allclose(at, x, atol=1e-7)
        assert Verdict(int(found)) == expected, a


def test_the_door():
    how = {"equality": jnp.sum, "penalty": dini.penalties.L1()}
    start = lambda **how: dini.minimize(lambda x: jnp.sum(x**2), jnp.ones(2), **how)
    with pytest.raises(TypeError, match=r"NonlinearInteriorPoint takes bounds.*L1.*Use AugmentedLagrangian"):
        start(**how, solver=dini.NonlinearInteriorPoint())
    with pytest.raises(TypeError, match=r"must keep the L1.*LBFGS cannot"):
        start(**how, solver=dini.AugmentedLagrangian(dini.LBFGS()))
    with pytest.raises(ValueError, match="takes bounds or L1, not both"):
        dini.NonlinearProgram(jnp.sum, lower=0.0, penalty=dini.penalties.L1())
    with pytest.raises(TypeError, match="must be an object of dini"):
        start(equality=jnp.sum, penalty=jnp.sum)
    with pytest.raises(ValueError, match=r"L1 on SecondOrder is not known.*state one of them by functions"):
        start(**how, constraint=dini.sets.SecondOrder())
