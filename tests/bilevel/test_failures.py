"""What a loop says of itself: errors that no step changes, residuals, runs that fail."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dini
from dini import bilevel
from dini.bilevel import _progress

BOX = dini.sets.Box(0.0, 1.0)
SQUARE = lambda x, t: jnp.sum((x - t) ** 2)
FAR = lambda x, t: jnp.sum((x - 5) ** 2)
HELD = bilevel.Bilevel(FAR, SQUARE, BOX)
#: the inner steps are too long
WILD = {
    "SOBA": bilevel.SOBA(HELD, inner_step=1.3, outer_step=0.1),
    "SOBA inner optax": bilevel.SOBA(HELD, inner_step=optax.sgd(1.3), outer_step=optax.sgd(0.1)),
    "adjoint alone": bilevel.SOBA(HELD, inner_step=0.4, adjoint_step=1.3, outer_step=0.1),
    "AmIGO": bilevel.AmIGO(HELD, inner_step=1.3, outer_step=0.1, inner_steps=2, adjoint_steps=2),
    "F2SA": bilevel.F2SA(HELD, 1.3, 0.1, 10.0),
    "BOME": bilevel.BOME(bilevel.Bilevel(FAR, SQUARE), 0.1, 1.3),
    "outer": bilevel.SOBA(bilevel.Bilevel(FAR, SQUARE), inner_step=0.4, outer_step=3.0),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", WILD)
@pytest.mark.by_default("each")
def test_a_set_hides_no_iterates_that_run_away(name, dtype):
    """The outer unknown stands in a corner, where the projected gradient is zero."""
    method, start = WILD[name], (np.ones(2, dtype), np.zeros(2, dtype))
    with pytest.raises(dini.SolveError, match=r"DIVERGED.*Reduce the step sizes") as caught:
        method.run(method.init(*start), 400)
    assert caught.value.status == dini.Status.DIVERGED
    state = method.run(method.init(*start), 400, on_failure="ignore")
    assert state.status == dini.Status.DIVERGED
    # nothing moved after that
    again = method.run(state, 5, on_failure="ignore")
    assert again.steps == state.steps < 400
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(again[:5]))
    assert state.residual > 1e3 or state.error > 1e3 or np.max(np.abs(state.v)) > 1e3


def test_starts_that_are_solutions_and_far_ones_do_not_run_away():
    """Neither gradients that begin at zero nor unknowns that grow a million times are taken for divergence."""
    for unit in (1e-6, 1.0, 1e6):
        target = lambda x, t, unit=unit: jnp.sum((x - 1e3 * unit) ** 2)
        method = bilevel.SOBA(bilevel.Bilevel(target, SQUARE), inner_step=0.4, outer_step=0.05)
        for start in (0.0, 1e-9 * unit, 1e9 * unit):
            state = method.run(method.init(np.full(2, start), np.full(2, start)), 1500)
            np.testing.assert_allclose(state.theta, 1e3 * unit, rtol=1e-6)


SETS = {
    "box": (BOX, np.array([0.3, 1.0, 0.0]), np.array([2.0, -1.0, 3.0]), np.array([2.0, 0.0, 0.0])),
    "simplex": (dini.sets.Simplex(), np.array([0.5, 0.5, 0.0]), np.array([1.0, 3.0, 7.0]), np.array([-1.0, 1.0, 0.0])),
    "ball": (
        dini.sets.L2Ball(1.0),
        np.array([0.6, 0.8, 0.0]),
        np.array([-1.0, 0.0, 2.0]),
        np.array([-0.64, 0.48, 2.0]),
    ),
    "thin box": (
        dini.sets.Box(1.0, 1.0 + 1e-4),
        np.full(3, 1.00005),
        np.array([2.0, -1.0, 3.0]),
        np.array([2.0, -1, 3]),
    ),
}


@pytest.mark.parametrize("name", SETS)
def test_the_error_is_that_of_the_projected_gradient_in_any_units_and_at_any_step(name):
    constraint, theta, gradient, projected = SETS[name]

    @jax.jit
    @jax.vmap
    def found(step, scale):
        problem = bilevel.Bilevel(
            lambda x, t: scale * gradient @ t + jnp.sum(x), lambda x, t: jnp.sum(x**2), constraint
        )
        method = bilevel.SOBA(problem, inner_step=0.1, outer_step=step)
        return method.step(method.init(theta, np.zeros(2))).error

    steps, scales = map(np.ravel, np.meshgrid([1e-6, 1.0, 1e4], [1e-6, 1.0, 1e6]))
    size = np.linalg.norm(projected)
    np.testing.assert_allclose(found(steps, scales), scales * size, rtol=1e-6)
    if name == "ball":
        f, g = lambda x, t: gradient @ t + jnp.sum(x), lambda x, t: jnp.sum(x**2)
        others = [bilevel.F2SA(bilevel.Bilevel(f, g, constraint), 0.1, 1e4, 1e3)]
        others += [bilevel.HOAG(f, dini.Minimize(g), outer_step=step, constraint=constraint) for step in (1e4, None)]
        for method in others:
            np.testing.assert_allclose(method.step(method.init(theta, np.zeros(2))).error, size, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_error_with_a_penalty_is_the_shortest_subgradient(dtype):
    """Of any strength beside the gradient, a gradient of zero included."""
    theta, slope = np.array([1.0, 0.0, 0.0, -2.0], dtype), np.array([3.0, 0.5, -4.0, 0.0], dtype)

    @jax.jit
    def found(strength, scale, length):
        prox = lambda y, t: dini.penalties.L1(strength).prox(y, t)
        moved = prox(theta - length * scale * slope, length)
        return _progress.residual(prox, theta, scale * slope, moved, length, penalized=True)

    for strength in (1e-3, 1.0, 1e6):
        for scale in (0.0, 1e-3, 1.0, 1e6):
            smooth = scale * slope.astype(float)
            at_zero = np.sign(smooth) * np.maximum(np.abs(smooth) - strength, 0)
            want = np.linalg.norm(np.where(theta == 0, at_zero, smooth + strength * np.sign(theta)))
            for length in (1e-4, 1e4):
                np.testing.assert_allclose(found(strength, scale, length), want, rtol=50 * np.finfo(dtype).eps ** 0.5)


def test_the_residual_is_that_of_the_inner_problem():
    d, theta, x = np.array([1.0, 4.0]), np.ones(2), np.array([3.0, 0.0])
    g = lambda x, t: 0.5 * jnp.sum(d * (x - t) ** 2)
    slope = np.linalg.norm(d * (x - theta))
    bounded = dini.Minimize(g, constraint=dini.sets.NonNegative())
    for fit, want in ((g, slope), (bounded, slope), (dini.Minimize(g, penalty=dini.penalties.L1(6.0)), 8.0)):
        problem = bilevel.Bilevel(FAR, fit)
        for method in (bilevel.SOBA(problem, inner_step=0.1, outer_step=0.1), bilevel.F2SA(problem, 0.1, 0.1, 1e9)):
            np.testing.assert_allclose(method.step(method.init(theta, x)).residual, want, rtol=1e-6)
    method = bilevel.BOME(bilevel.Bilevel(FAR, g), 0.1, 0.1)
    np.testing.assert_allclose(method.step(method.init(theta, x)).residual, slope)
    method = bilevel.AmIGO(bilevel.Bilevel(FAR, g), inner_step=0.2, outer_step=0.1, inner_steps=3)
    last = d * (1 - 0.2 * d) ** 2 * (x - theta)  # of the last of the three
    np.testing.assert_allclose(method.step(method.init(theta, x)).residual, np.linalg.norm(last))
    for method in (bilevel.HOAG(FAR, dini.Minimize(g)), bilevel.EvolutionStrategy(FAR, dini.Minimize(g), 0.1, 0.1)):
        assert method.step(method.init(theta, x)).residual < 0.1 * slope


def test_a_run_that_fails_is_an_error_a_warning_or_a_mark():
    root = bilevel.Bilevel(FAR, lambda x, t: jnp.sum(jnp.sqrt(x) ** 3 - t * x))
    method = bilevel.SOBA(root, inner_step=0.5, outer_step=0.1)
    start = method.init(np.ones(2), np.array([4.0, 1e-3]))
    with pytest.raises(dini.SolveError, match=r"Stochastic has failed: NONFINITE.*on_failure=.ignore") as caught:
        method.run(start, 50)
    assert caught.value.status == dini.Status.NONFINITE
    with pytest.warns(dini.SolveWarning, match="NONFINITE"):
        warned = method.run(start, 50, on_failure="warn")
    assert np.all(np.isfinite(warned.theta))
    marked = method.run(start, 50, on_failure="nan")
    assert marked.status == dini.Status.NONFINITE
    assert np.all(np.isnan(marked.theta))
    # under jit as well, and in lanes
    run = lambda how: jax.block_until_ready(jax.jit(lambda s: method.run(s, 50, on_failure=how))(start).theta)
    with pytest.raises(Exception, match="Stochastic has failed: NONFINITE"):
        run("raise")
    with pytest.warns(dini.SolveWarning, match="NONFINITE"):
        assert np.all(np.isfinite(run("warn")))
    with pytest.raises(ValueError, match="on_failure must be one of"):
        method.run(start, 5, on_failure="shout")
    with pytest.raises(TypeError, match="state must be what init"):
        method.run(np.zeros(2), 5)


def test_a_loop_that_solves_says_where_to_look():
    flat = dini.Minimize(lambda x, t: (jnp.sum(x) - jnp.sum(t)) ** 2)
    hoag = bilevel.HOAG(FAR, flat, dini.BFGS(), 0.1)
    noisy = bilevel.EvolutionStrategy(FAR, flat, 0.1, 0.1, dini.GradientDescent(max_steps=1), 2)
    for method in (hoag, noisy):
        with pytest.raises(dini.SolveError, match="value_and_hypergradient"):
            method.run(method.init(np.ones(2), np.zeros(2)), 3)


def test_a_run_is_differentiable_though_its_figures_are_constants():
    """The end is where the target is, and does not depend on what is remembered of the way."""

    def end(a, constraint=None):
        problem = bilevel.Bilevel(lambda x, t: jnp.sum((x - a) ** 2), SQUARE, constraint)
        method = bilevel.SOBA(problem, inner_step=0.4, outer_step=0.1)
        return jnp.sum(method.run(method.init(jnp.zeros(2), jnp.zeros(2)), 300).theta)

    for given in (None, dini.sets.Box(-9.0, 9.0)):
        np.testing.assert_allclose(jax.jit(jax.grad(lambda a, given=given: end(a, given)))(1.0), 2, rtol=1e-6)
