"""DGNO: exact checks, residuals at exact solutions, the loss by its parts, inversions and their derivatives, bad input.

Test functions, nets and posteriors have their checks in `test_weak_forms.py`, `test_operators.py`, `test_posteriors.py`.
"""

import doctest

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from outputs import assert_bars_met
from scipy import optimize

import dini
from dini_zoo.physics import layered
from dini_zoo.physics.dgno import (
    Darcy,
    GenerativeOperator,
    Labels,
    LatentProblem,
    Located,
    Observations,
    TwoPhase,
    descend,
    divergence_from_normal,
    gaussian_loss,
    invert,
    phase_loss,
    phase_targets,
    virtual_observable_loss,
)
from dini_zoo.physics.dgno.experiment import experiment
from dini_zoo.physics.dgno.training import DEEP, DIRECT, KINDS, MULTI, Sizes, Trainers, media, problem, start
from dini_zoo.physics.layered import solve_layered
from dini_zoo.physics.random_fields import at_cells
from dini_zoo.physics.weak_forms import gauss_rule, grid_rule

SIZES = Sizes(cells=8, train=12, test=4, latent=3, width=6, depth=3, products=2, hidden=8, steps=4, batch=4, centers=4)


@pytest.fixture(scope="module")
def small():
    """A flow, data and a model that was not trained."""
    with jax.enable_x64(True):
        flow = problem(SIZES)
        data = media(jax.random.key(0), SIZES, flow)
        a = data.train.astype(float)
        return flow, a, start(MULTI, jax.random.key(1), SIZES, data._replace(train=a))


def test_the_gradient_of_the_cross_entropy():
    """Exact check 5: at the logit 0 it is (1/2 - y) / n."""
    y = phase_targets(jnp.array([5.0, 10.0, 10.0, 5.0]), 5.0, 10.0)
    np.testing.assert_allclose(jax.grad(phase_loss)(jnp.zeros(4), y), (0.5 - y) / 4, rtol=1e-14)
    np.testing.assert_array_equal(y, (0, 1, 1, 0))


def test_the_layered_solution_is_that_of_finite_elements():
    """Linear elements are exact at the nodes of a line."""
    a = np.random.default_rng(0).uniform(1, 9, size=(2, 7))
    u = solve_layered(jnp.asarray(a), 10.0).u
    for row, found in zip(a, u, strict=True):
        stiffness = 7 * (np.diag(row[:-1] + row[1:]) - np.diag(row[1:-1], 1) - np.diag(row[1:-1], -1))
        np.testing.assert_allclose(found[1:-1], np.linalg.solve(stiffness, np.full(6, 10.0 / 7)), rtol=1e-12)
    assert np.all(np.asarray(u)[:, [0, -1]] == 0)


def exact_fields(a):
    """The pressure and the flux of layered media as functions of points, and the medium."""
    n = a.shape[1]
    u, c = solve_layered(a, 10.0)

    def pressure(x):
        cell = jnp.clip(jnp.floor(x[..., 0] * n).astype(int), 0, n - 1)
        left, here = cell / n, a[:, cell]
        c_ = c.reshape(-1, *[1] * cell.ndim)
        return u[:, cell] + (c_ * (x[..., 0] - left) - 5 * (x[..., 0] ** 2 - left**2)) / here

    flux = lambda x: c.reshape(-1, *[1] * x.ndim) - 10 * x
    return pressure, flux, lambda x: at_cells(a, x, (n,))


@pytest.mark.parametrize("make", [lambda: grid_rule(11, 1), lambda: gauss_rule(6, 1)], ids=["grid", "gauss"])
def test_both_residuals_vanish_at_the_exact_solution_of_a_medium_with_jumps(make):
    rule = make()
    a = jnp.where(jax.random.bernoulli(jax.random.key(0), shape=(3, 8)), 10.0, 5.0)
    u, s, medium = exact_fields(a)
    centers = jnp.array([[0.1], [0.37], [0.5], [0.93]])
    darcy = Darcy(rule, 0.05, 10.0)
    found = darcy.mixed(u, s, medium, centers)
    assert found.constitutive.shape == (3, 4, len(rule.v), 1)
    np.testing.assert_allclose(found.constitutive, 0, atol=1e-12)
    np.testing.assert_allclose(found.balance, 0, atol=1e-12)
    # a flux with another source, and a pressure of another medium, leave what they should
    off = darcy.mixed(u, lambda x: 1.1 * s(x), medium, centers)
    np.testing.assert_allclose(off.balance, 0.1, rtol=1e-10)
    np.testing.assert_allclose(off.constitutive, 0.1 * s(centers[:, None] + 0.05 * rule.nodes), rtol=1e-9)
    absolute = Darcy(rule, 0.05, 10.0, flux=2.0).mixed(u, lambda x: 1.1 * s(x), medium, centers)
    np.testing.assert_allclose(absolute.balance, 0.1 * rule.kappa * 10 / 2, rtol=1e-9)
    energy = 0.5 * jnp.sum(darcy.virtual(off) ** 2, axis=1)
    by_hand = 2 * jnp.mean(rule.mean(off.constitutive[..., 0] ** 2), axis=1) + 100 * jnp.mean(off.balance**2, axis=1)
    np.testing.assert_allclose(energy, by_hand, rtol=1e-12)


def test_the_primal_form_in_two_dimensions():
    """Exact check 3 by the library's residual, for a source that is a function; half the radius, a quarter of it."""
    u = lambda x: jnp.prod(jnp.sin(jnp.pi * x), axis=-1)[None]
    a = lambda x: 1 + x[None, ..., 0]

    def source(x):
        return 2 * jnp.pi**2 * a(x)[0] * u(x)[0] - jnp.pi * jnp.cos(jnp.pi * x[..., 0]) * jnp.sin(jnp.pi * x[..., 1])

    rule, center = grid_rule(7, 2), jnp.array([[0.3, 0.4]])
    found = [jax.jit(lambda R=R: Darcy(rule, R, source).primal(u, a, center)[0, 0])() for R in (0.1, 0.05)]
    # the specification's figures leave out kappa where they divide
    np.testing.assert_allclose(rule.kappa * jnp.stack(found), (-5.7e-5, -1.43e-5), rtol=5e-3)


def test_the_loss_by_its_parts(small):
    flow, a, model = small
    a, key = jnp.asarray(a[:4]), jax.random.key(3)

    @jax.jit
    def parts():
        virtual = lambda model, beta, key: flow.virtual(model, beta, flow.draw(key), flow.medium(a))
        labels = Labels("u", flow.mesh, jnp.ones((4, 8)), 0.5)
        return virtual_observable_loss(
            model, a, key, reconstruction=flow.reconstruction, virtual=virtual, labels=labels
        )

    loss, found = parts()
    assert loss == sum(found)
    beta = model.encode(a)
    np.testing.assert_allclose(beta, np.tanh(jax.vmap(model.encoder)(a)), rtol=1e-12)
    logit = model.decode("logit", flow.mesh, beta)
    entropy = np.mean(np.where(a > 7, np.log1p(np.exp(-logit)), np.log1p(np.exp(logit))))
    np.testing.assert_allclose(found.reconstruction, entropy, rtol=1e-10)
    off = np.sum((model.decode("u", flow.mesh, beta) - 1) ** 2, axis=1) / 0.5**2 / 2
    np.testing.assert_allclose(found.labels, np.mean(off), rtol=1e-12)
    # the residuals by hand: slopes of each pair of a point and a code
    centers = flow.draw(jax.random.split(key)[1])
    x = (centers[:, None] + 0.05 * flow.darcy.rule.nodes).reshape(-1, 1)
    slope = jax.vmap(lambda b: jax.vmap(jax.grad(lambda p: model.decoders["u"](p, b)))(x))(beta)[..., 0]
    flux = model.decode("s", x, beta)
    one = np.mean((flux - np.where(np.asarray(at_cells(a, x, (8,))) > 7, 10, 5) * slope) ** 2)
    rule = flow.darcy.rule
    left = np.mean(np.reshape(flux, (4, 4, -1)) * rule.slope[:, 0] / 0.05, axis=-1)
    two = np.mean((left / (rule.kappa * 10 * np.mean(rule.v)) - 1) ** 2)
    np.testing.assert_allclose(found.virtual, 2 * one + 100 * two, rtol=1e-9)


def test_an_encoder_may_give_a_law(small):
    """Its divergence is that of normal laws; with a deviation that vanishes the rest is that of a point."""
    flow, a, model = small
    a = jnp.asarray(a[:4])
    mean, log = jnp.array([[0.3, -1.0]]), jnp.log(jnp.array([[0.5, 2.0]]))
    by_hand = 0.5 * (0.3**2 + 0.25 - 1) - np.log(0.5) + 0.5 * (1 + 4 - 1) - np.log(2.0)
    np.testing.assert_allclose(divergence_from_normal(mean, log), [by_hand], rtol=1e-13)

    def loss(log):
        encoder = lambda a: jnp.concatenate([model.encoder(a), jnp.full(3, log)])
        spread = GenerativeOperator(encoder, model.decoders, spread=True)
        virtual = lambda model, beta, key: flow.virtual(model, beta, flow.draw(key), flow.medium(a))
        return virtual_observable_loss(
            spread, a, jax.random.key(3), reconstruction=flow.reconstruction, virtual=virtual
        )[1]

    loss = jax.jit(loss)
    sharp, wide = loss(-30.0), loss(0.0)
    centers = flow.draw(jax.random.split(jax.random.key(3))[1])
    point = flow.virtual(model, model.encode(a), centers, flow.medium(a))
    np.testing.assert_allclose(sharp.virtual, 0.5 * jnp.mean(jnp.sum(point**2, axis=1)), rtol=1e-8)
    assert abs(wide.virtual / sharp.virtual - 1) > 1e-3
    np.testing.assert_allclose(wide.divergence, 0.5 * jnp.mean(jnp.sum(model.posterior(a)[0] ** 2, axis=1)), rtol=1e-12)


def inverse(flow, model, noise=0.05, prior=1.0):
    centers = flow.draw(jax.random.key(7))
    x = jnp.array([[0.2], [0.4], [0.5], [0.7], [0.85]])
    observed = Observations(x, 0.2 * jnp.sin(jnp.pi * x[:, 0]) + 0.01 * jnp.cos(20 * x[:, 0]))
    return LatentProblem(model, observed, noise, Located(flow, model, centers).virtual, prior)


def test_points_that_stay_are_evaluated_once(small):
    flow, _, model = small
    centers, beta = flow.draw(jax.random.key(7)), jnp.tanh(jax.random.normal(jax.random.key(8), (2, 3)))
    model = eqx.tree_at(lambda one: one.decoders["u"].net.offset, model, 0.3)
    found = Located(flow, model, centers).virtual(beta)
    np.testing.assert_allclose(found, flow.virtual_relaxed(model, beta, centers), rtol=1e-11, atol=1e-12)


def test_the_most_probable_latent_is_scipys(small):
    flow, _, model = small
    task = inverse(flow, model)
    found = invert(task, jnp.zeros(3))
    energy = jax.jit(jax.value_and_grad(task.energy))
    # there are several minima: SciPy starts near the one that was found
    near = np.asarray(found.z) + 0.02
    other = optimize.minimize(lambda z: tuple(map(np.asarray, energy(z))), near, jac=True, method="BFGS")
    np.testing.assert_allclose(found.energy, other.fun, rtol=1e-9)
    np.testing.assert_allclose(found.z, other.x, atol=1e-4)
    law = invert(task, found.z, "laplace").law
    np.testing.assert_allclose(law.covariance @ jax.hessian(task.energy)(found.z), np.eye(3), atol=1e-8)
    # the three terms of the energy
    beta = jnp.tanh(found.z)
    off = np.sum((task.observations.predicted(model, beta) - task.observations.u) ** 2) / 0.05**2
    rows = flow.virtual_relaxed(model, beta[None], flow.draw(jax.random.key(7)))
    np.testing.assert_allclose(found.energy, 0.5 * (np.sum(found.z**2) + off + np.sum(rows**2)), rtol=1e-10)


def test_the_most_probable_latent_is_differentiated_in_noise_and_prior(small):
    """What is held out, as a function of the logarithms of noise and prior: the hypergradient by dini, by differences."""
    flow, _, model = small
    held_out = Observations(jnp.array([[0.3], [0.6]]), jnp.array([0.15, 0.21]))
    solver = dini.LevenbergMarquardt(rtol=1e-12, atol=1e-12)
    residual = lambda z, theta: inverse(flow, model, jnp.exp(theta[0]), jnp.exp(theta[1])).residual(z)
    outer = lambda z, theta: jnp.sum((held_out.predicted(model, jnp.tanh(z)) - held_out.u) ** 2)

    @jax.jit
    def value(theta):
        return outer(dini.least_squares(residual, jnp.zeros(3), theta, solver=solver).x, theta)

    theta, h = jnp.array([-3.0, 0.3]), 1e-5
    found = dini.bilevel.value_and_hypergradient(
        outer, dini.LeastSquares(residual), theta, jnp.zeros(3), solver=solver, certify=True
    )
    differences = [(value(theta + h * e) - value(theta - h * e)) / (2 * h) for e in jnp.eye(2)]
    np.testing.assert_allclose(found.gradient, differences, rtol=1e-5)
    assert found.certificate.reliable


@pytest.mark.thorough
@pytest.mark.parametrize("method", ["vi", pytest.param("nuts", marks=pytest.mark.slow)])
def test_other_laws_start_at_laplaces(small, method):
    flow, _, model = small
    options = {"steps": 200} if method == "vi" else {"warmup": 200, "draws": 200, "chains": 2}
    task = inverse(flow, model)
    found = jax.jit(lambda key: invert(task, jnp.zeros(3), method, key=key, **options))(jax.random.key(0))
    law = invert(task, jnp.zeros(3), "laplace").law
    # the prior is nearly all that is known of two latents: the laws are alike
    assert np.all(np.abs(found.law.mean - law.mean) < 0.6 * law.deviation)


def test_adam_descends():
    z, values = descend(lambda z, key: jnp.sum((z - 1) ** 2), jnp.zeros(2), jax.random.key(0), steps=200)
    np.testing.assert_allclose(z, 1, atol=1e-3)
    assert values.shape == (200,)
    assert values[0] == 2


@pytest.mark.parametrize("kind", [pytest.param(DEEP, marks=pytest.mark.thorough), DIRECT])
def test_the_baselines_train(kind):
    with jax.enable_x64(False):
        trainers = Trainers(SIZES)
        data = media(jax.random.key(0), SIZES, trainers.flow)
        course = trainers.train(kind, data, jax.random.key(1))
        assert np.all(np.isfinite(course.loss))
        standard = lambda model: getattr(model.encoder, "standard", model.encoder)
        # what standardizes is data
        np.testing.assert_array_equal(standard(course.model).mean, data.train.mean(0))
    assert len(KINDS) == 3


def test_bad_input_is_refused(small):
    flow, a, model = small
    with pytest.raises(ValueError, match=r"a must have two values, 5.0 and 10.0: given others, from 5 to 7"):
        phase_targets(jnp.array([5.0, 7.0]), 5.0, 10.0)
    with pytest.raises(ValueError, match="a must be finite"):
        phase_targets(jnp.array([5.0, jnp.nan]), 5.0, 10.0)
    with pytest.raises(ValueError, match="deviation must be positive and finite: given 0"):
        gaussian_loss(jnp.ones(2), jnp.ones(2), 0.0)
    with pytest.raises(ValueError, match="source must not vanish where balances are relative to it: given 0"):
        Darcy(grid_rule(11, 1), 0.05, 0.0)
    with pytest.raises(ValueError, match="radius must be positive and finite: given 0"):
        Darcy(grid_rule(11, 1), 0.0)
    with pytest.raises(ValueError, match="low and high must be positive and rise: given 10.0 and 5.0"):
        TwoPhase(Darcy(grid_rule(11, 1), 0.05), (8,), 10.0, 5.0)
    with pytest.raises(ValueError, match=r"shape must have a number of cells for each of the 1 axes"):
        TwoPhase(Darcy(grid_rule(11, 1), 0.05), (8, 8))
    with pytest.raises(ValueError, match="decoders must be at least one, by name: given none"):
        GenerativeOperator(model.encoder, {})
    with pytest.raises(ValueError, match="name must be one of 'logit', 's', 'u': given 'p'|name must be one of"):
        model.decode("p", flow.mesh, jnp.zeros((1, 3)))
    with pytest.raises(ValueError, match=r"observations must be points \(p, dim\) and a value of each"):
        Observations(jnp.zeros((3, 1)), jnp.zeros(2))
    with pytest.raises(ValueError, match="observations must be finite"):
        Observations(jnp.zeros((2, 1)), jnp.array([0.0, jnp.nan]))
    with pytest.raises(ValueError, match="noise must be positive and finite: given 0"):
        inverse(flow, model, noise=0.0)
    with pytest.raises(ValueError, match="method must be one of 'map', 'laplace', 'vi', 'nuts': given 'mcmc'"):
        invert(inverse(flow, model), jnp.zeros(3), "mcmc")
    with pytest.raises(ValueError, match="key must be given for 'nuts', which draws: given None"):
        invert(inverse(flow, model), jnp.zeros(3), "nuts")
    with pytest.raises(ValueError, match="a must be positive"):
        solve_layered(jnp.array([1.0, 0.0]))


def test_the_example_of_the_docstring():
    with jax.enable_x64(False):
        assert doctest.testmod(layered, extraglobs={"jax": jax, "jnp": jnp}).failed == 0


@pytest.mark.slow
def test_the_bars_at_full_scale():
    assert_bars_met("dgno", experiment)
