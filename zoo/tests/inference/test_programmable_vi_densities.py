"""Programmable inference: generative functions, both laws of estimated densities, objectives, fitting."""

import doctest
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

import dini
from dini_zoo.inference.programmable_vi import (
    Bernoulli,
    Categorical,
    Enumerate,
    ImportanceSampler,
    Normal,
    Poisson,
    cone,
    detached,
    elbo,
    expectation,
    fit,
    gen,
    given,
    hvi_elbo,
    iwelbo,
    marginal,
    normalize,
    overhead,
    reinforce,
    sample,
    simulate,
    vimco,
    wake_phi,
    wake_theta,
)

KEY = jax.random.key(0)
AT = np.array((2.164, 0.0, -2.585, -0.585))


def assert_mean(found, exact, errors=4.0):
    """The mean is the exact one, within so many standard errors."""
    found = np.asarray(found, float)
    error = found.std() / np.sqrt(len(found))
    assert abs(found.mean() - exact) <= errors * error + 1e-12 * abs(exact), (found.mean(), exact, error)


def runs(program, n, *args, key=KEY):
    """What n runs of a program return."""
    return jax.jit(jax.vmap(lambda key: simulate(key, program, *args)))(jax.random.split(key, n))


def gradients(program, n, *args, key=KEY):
    """Values and gradients of n estimates."""
    one = lambda key: expectation(program).value_and_grad_estimate(key, *args)
    return jax.jit(jax.vmap(one))(jax.random.split(key, n))


# generative functions


@gen
def hierarchy(scale):
    x = sample(Normal(), 0.0, scale, address="x")
    n = jax.jit(lambda x: sample(Poisson(), jnp.exp(x), address="n"))(x)
    ys = jax.vmap(lambda i: sample(Normal(), x + i, 0.5, address="ys"))(jnp.arange(3.0))
    return n + jnp.sum(ys)


def test_a_joint_density_is_the_product_of_its_choices():
    choices = {"x": jnp.array(0.3), "n": jnp.array(2), "ys": jnp.array([0.1, 1.0, 2.5])}
    assess = lambda choices, scale: hierarchy.assess(choices, scale)

    @jax.jit
    def everything(choices, scale):
        by_scale = jax.grad(lambda scale: assess(choices, scale)[0])(scale)
        by_x = jax.grad(lambda x: assess({**choices, "x": x}, scale)[0])(choices["x"])
        return *assess(choices, scale), by_scale, by_x

    found, retval, by_scale, by_x = map(float, everything(choices, 1.5))
    exact = stats.norm.logpdf(0.3, 0, 1.5) + stats.poisson.logpmf(2, np.exp(0.3))
    exact += stats.norm.logpdf(choices["ys"], 0.3 + np.arange(3), 0.5).sum()
    assert (found, retval) == pytest.approx((exact, 5.6))
    assert by_scale == pytest.approx((0.3**2 / 1.5**2 - 1) / 1.5)
    rest = np.sum((np.asarray(choices["ys"]) - 0.3 - np.arange(3)) / 0.25)
    assert by_x == pytest.approx(-0.3 / 1.5**2 + 2 - np.exp(0.3) + rest)


@pytest.mark.thorough
def test_simulation_and_importance_report_their_densities():
    constraints = {"n": 1, "ys": jnp.zeros(3)}

    @jax.jit
    def everything(key):
        found = hierarchy.simulate(key, 1.5)
        choices, weight, _ = hierarchy.importance(key, constraints, 1.5)
        again = [hierarchy.assess(one, 1.5)[0] for one in (found.choices, choices)]
        return found.choices, found.log_density, choices, weight, again

    drawn, log_density, choices, weight, again = everything(KEY)
    assert drawn["ys"].shape == (3,)
    assert float(log_density) == pytest.approx(float(again[0]))
    prior = stats.norm.logpdf(choices["x"], 0, 1.5)
    assert float(weight) == pytest.approx(float(again[1]) - prior)


@pytest.mark.thorough
def test_generative_functions_nest():
    @gen
    def outer(t):
        inner = sample(hierarchy, t, address="inner")
        v = sample(marginal("v", auxiliary), address="v")["v"]
        return sample(Normal(), inner["x"] + v, 1.0, address="y")

    found = outer.simulate(KEY, 1.5)
    assert set(found.choices) == {"inner", "v", "y"}
    assert set(found.choices["inner"]) == {"x", "n", "ys"}
    # its density has an estimate in it: to assess is a program, too
    assessed = runs(lambda choices: outer.assess(choices, 1.5)[0], 4000, found.choices)
    exact = float(hierarchy.assess(found.choices["inner"], 1.5)[0])
    exact += np.log(0.41 if found.choices["v"]["v"] else 0.59)
    exact += stats.norm.logpdf(found.choices["y"], found.choices["inner"]["x"] + found.choices["v"]["v"])
    assert_mean(np.exp(np.asarray(assessed) - exact), 1.0)


def test_addresses_are_checked():
    twice = gen(lambda: sample(Normal(), 0.0, 1.0, address="x") + sample(Normal(), 0.0, 1.0, address="x"))
    nameless = gen(lambda: sample(Normal(), 0.0, 1.0))
    looped = gen(
        lambda: jax.lax.scan(lambda c, _: (sample(Normal(), c, 1.0, address="x"), None), 0.0, None, length=2)[0]
    )
    one = gen(lambda: sample(Poisson(), jnp.ones(2), address="n"))
    with pytest.raises(ValueError, match="two choices with the address 'x'"):
        twice.simulate(KEY)
    with pytest.raises(ValueError, match="without an address"):
        nameless.simulate(KEY)
    with pytest.raises(NotImplementedError, match="inside of `scan`"):
        looped.simulate(KEY)
    with pytest.raises(ValueError, match=r"'n', 'ys'.* are missing"):
        simulate(KEY, lambda: hierarchy.assess({"x": 0.0}, 1.0))
    with pytest.raises(ValueError, match=r"no choices \['z'\]"):
        one.assess({"n": jnp.zeros(2, int), "z": 0.0})
    with pytest.raises(ValueError, match=r"'n' .*shape \(2,\): given \(3,\)"):
        one.assess({"n": jnp.zeros(3, int)})
    with pytest.raises(TypeError, match=r"'n' .*int"):
        one.assess({"n": jnp.array([0.5, 1.0])})
    with pytest.raises(ValueError, match=r"'n' .*tree"):
        one.assess({"n": {"a": 0}})
    with pytest.raises(ValueError, match="rate"):
        gen(lambda r: sample(Poisson(), r, address="n")).assess({"n": 1}, -1.0)
    with pytest.raises(TypeError, match="must be a function"):
        gen(None)
    with pytest.raises(ValueError, match=r"no choices \['w'\]"):
        simulate(KEY, marginal("w", auxiliary).random_weighted)
    with pytest.raises(ValueError, match="are given by the target"):
        given(auxiliary, {"v": 1}).log_density({"u": 0, "v": 1})
    with pytest.raises(TypeError, match="cannot be listed"):
        Enumerate().log_evidence(given(hierarchy, {"n": 1}, 1.0))
    with pytest.raises(ValueError, match="more than 2"):
        Enumerate(limit=2).log_evidence(given(auxiliary, {"v": 1}))
    with pytest.raises(ValueError, match="at least 1"):
        ImportanceSampler(0)


# both laws

PRIOR, LIKELIHOOD = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.6, 0.9])
POSTERIOR = PRIOR * LIKELIHOOD / 0.41


@gen
def auxiliary():
    u = sample(Categorical(reinforce()), jnp.asarray(PRIOR), address="u")
    return sample(Bernoulli(reinforce()), jnp.asarray(LIKELIHOOD)[u], address="v")


@gen
def other(constraints):
    """A proposal that is not the prior."""
    sample(Categorical(reinforce()), jnp.array([0.2, 0.5, 0.3]), address="u")


def check_marginal(n, algorithm):
    made = marginal("v", auxiliary, algorithm)
    log_density, drawn = runs(made.random_weighted, n)
    v = np.asarray(drawn["v"])
    for value, density in ((1, 0.41), (0, 0.59)):
        assert_mean((v == value) * np.exp(-np.asarray(log_density)), 1.0)
        assert_mean(np.exp(np.asarray(runs(made.estimate_logpdf, n, {"v": value}))), density)


def test_both_laws_of_a_marginal():
    check_marginal(20_000, ImportanceSampler(4))


@pytest.mark.thorough
@pytest.mark.parametrize("proposal", [None, other], ids=["prior", "proposal"])
def test_both_laws_of_a_marginal_at_the_specifications_size(proposal):
    check_marginal(400_000, ImportanceSampler(4, proposal))
    # what fresh particles would give in place of the first law
    made = marginal("v", auxiliary, ImportanceSampler(4))
    wrong = lambda: (drawn := made.random_weighted()[1], made.estimate_logpdf(drawn))
    drawn, fresh = runs(wrong, 400_000)
    v, found = np.asarray(drawn["v"]), np.exp(-np.asarray(fresh))
    assert np.mean((v == 1) * found) == pytest.approx(1.27, abs=0.01)
    assert np.mean((v == 0) * found) == pytest.approx(1.11, abs=0.01)


def output_law(n):
    """The exact law of sampling-importance-resampling with n particles on three states, by all combinations."""
    states = np.stack(np.meshgrid(*[range(3)] * n, indexing="ij"), -1).reshape(-1, n)
    weights = LIKELIHOOD[states]
    share = weights / weights.sum(axis=1, keepdims=True)
    chance = PRIOR[states].prod(axis=1)
    return np.array([np.sum(chance * np.sum(share * (states == u), axis=1)) for u in range(3)])


def check_normalized(n, particles, density, tolerance=None):
    made = normalize(given(auxiliary, {"v": 1}), ImportanceSampler(particles))
    log_density, drawn = runs(made.random_weighted, n)
    u = np.asarray(drawn["u"])
    for value in range(3):
        reciprocal = (u == value) * np.exp(-np.asarray(log_density))
        found = np.exp(np.asarray(runs(made.estimate_logpdf, n, {"u": value})))
        assert_mean(u == value, density[value]) if tolerance is None else None
        if tolerance is None:
            assert_mean(reciprocal, 1.0)
            assert_mean(found, density[value])
        else:
            assert np.mean(found) == pytest.approx(density[value], abs=tolerance)
            assert np.mean(u == value) == pytest.approx(density[value], abs=tolerance)


@pytest.mark.thorough
def test_both_laws_of_a_normalized_target_are_of_its_own_output():
    law = output_law(3)
    assert abs(law - POSTERIOR).max() > 0.03  # it is not the posterior
    check_normalized(20_000, 3, law)


@pytest.mark.thorough
def test_a_normalized_target_approaches_the_posterior():
    check_normalized(40_000, 200, POSTERIOR, tolerance=0.01)


def test_by_enumeration_both_laws_hold_without_variance():
    made = marginal("v", auxiliary, Enumerate())
    posterior = normalize(given(auxiliary, {"v": 1}), Enumerate())

    def program():
        return made.random_weighted(), posterior.random_weighted()

    (log_v, v), (log_u, u) = runs(program, 2000)
    np.testing.assert_allclose(np.exp(log_v), np.where(np.asarray(v["v"]) == 1, 0.41, 0.59), rtol=1e-12)
    np.testing.assert_allclose(np.exp(log_u), POSTERIOR[np.asarray(u["u"])], rtol=1e-12)
    for value in range(3):
        assert float(jnp.exp(posterior.estimate_logpdf({"u": value}))) == pytest.approx(POSTERIOR[value])
        assert_mean(np.asarray(u["u"]) == value, POSTERIOR[value])


# objectives


@pytest.mark.thorough
def test_one_particle_is_the_elbo_and_more_are_higher():
    one = lambda params: iwelbo(cone.POSTERIOR, cone.mean_field, params, n=1)
    plain = lambda params: elbo(cone.POSTERIOR, cone.mean_field, params)
    (value,), (gradient,) = gradients(one, 1, AT)
    # the particle of the first, at which the second is evaluated
    keys = jax.random.split(KEY, 1)[0]

    def both(params):
        log_q, z = cone.mean_field.random_weighted(params)
        return cone.POSTERIOR.log_density(z) - log_q

    mapped = lambda params: jnp.sum(jax.vmap(lambda _: both(params))(jnp.arange(1)))
    same, slope = expectation(mapped).value_and_grad_estimate(keys, AT)
    assert float(value) == pytest.approx(float(same), rel=1e-12)
    np.testing.assert_allclose(gradient, slope, rtol=1e-9)
    many = {n: lambda params, n=n: iwelbo(cone.POSTERIOR, cone.mean_field, params, n=n) for n in (2, 20)}
    programs = {1: plain, **many}
    found = jax.jit(
        jax.vmap(lambda key: {n: expectation(program).estimate(key, AT) for n, program in programs.items()})
    )(jax.random.split(KEY, 2000))
    for n, reference in ((1, -11.95), (2, -8.49), (20, -7.28)):
        assert_mean(found[n], reference)
    assert np.mean(found[1]) < np.mean(found[2]) < np.mean(found[20]) < cone.log_evidence()


@pytest.mark.thorough
def test_the_evidence_and_the_midpoint_rule():
    assert cone.log_evidence() == pytest.approx(-5.323232, abs=1e-6)
    at = jnp.array([-2.9, -2.9])
    exact = lambda params: hvi_elbo(
        cone.POSTERIOR, cone.ring, params, selection=cone.XY, algorithm=cone.Midpoints("u", 400)
    )
    nested = lambda params: hvi_elbo(
        cone.POSTERIOR, cone.ring, params, selection=cone.XY, algorithm=ImportanceSampler(5), n=2
    )
    values, slopes = gradients(lambda params: exact(params), 300, at)
    assert_mean(values, -5.3232, errors=5)
    assert np.isfinite(slopes).all()
    bounds, slopes = gradients(nested, 300, at)
    assert np.mean(bounds) < np.mean(values)
    assert np.isfinite(slopes).all()


@gen
def prior_and_data(t):
    """The posterior at y is N(y s² / (1 + s²), s² / (1 + s²)), s = exp(t)."""
    x = sample(Normal(), 0.0, jnp.exp(t), address="x")
    sample(Normal(), x, 1.0, address="y")


@gen
def one_normal(params):
    sample(Normal(), params[0], jnp.exp(params[1]), address="x")


Y = 1.5


def exact_guide(t):
    v = np.exp(2 * t) / (1 + np.exp(2 * t))
    return jnp.array([v * Y, np.log(v) / 2])


def test_wake_phases():
    t = 0.3
    phi = exact_guide(t)
    target = lambda t: given(prior_and_data, {"y": Y}, t)
    _, slopes = gradients(lambda phi: wake_phi(target(t), one_normal, phi, n=3), 4000, phi)
    for i in (0, 1):
        assert_mean(slopes[:, i], 0.0)
    # the model's phase follows the gradient of the evidence N(y; 0, 1 + s²): the guide is exact
    _, slopes = gradients(lambda t: wake_theta(target(t), one_normal, phi, n=3), 4000, t)
    s2 = np.exp(2 * t)
    assert_mean(slopes, (Y**2 / (1 + s2) - 1) * s2 / (1 + s2))


@pytest.mark.thorough
def test_an_exact_guide_sticks_the_landing():
    t = 0.3
    target = given(prior_and_data, {"y": Y}, t)
    programs = {stick: lambda phi, s=stick: elbo(target, one_normal, phi, sticking=s) for stick in (False, True)}
    evidence = stats.norm.logpdf(Y, 0, np.sqrt(1 + np.exp(2 * t)))
    for stick, program in programs.items():
        values, slopes = gradients(program, 500, exact_guide(t))
        np.testing.assert_allclose(values, evidence, rtol=1e-10)
        assert (np.abs(slopes).max() < 1e-10) == stick
    with pytest.raises(ValueError, match=r"site 'x' .*Reinforce"):
        expectation(lambda: elbo(target, by_score, AT, sticking=True)).estimate(KEY)


@gen
def by_score(params):
    sample(Normal(reinforce()), params[0], jnp.exp(params[1]), address="x")


@pytest.mark.thorough
def test_a_particles_baseline_from_the_others():
    """VIMCO has the value and the derivatives of the bound that it is for, with less variance."""
    target = given(prior_and_data, {"y": Y}, 0.3)
    at, towards = jnp.array([0.2, -0.4]), jnp.array([1.0, 0.5])

    def program(objective, guide):
        return expectation(lambda phi: objective(target, guide, phi, n=3)).estimate

    estimates = {
        "reparam": program(iwelbo, one_normal),
        "score": program(iwelbo, by_score),
        "vimco": program(vimco, by_score),
    }

    def one(key):
        along = lambda s, e: e(key, at + s * towards)
        first = lambda s, e: jax.jvp(lambda s: along(s, e), (s,), (1.0,))
        second = lambda e: jax.jvp(lambda s: first(s, e)[1], (0.0,), (1.0,))[1]
        return {name: (*first(0.0, e), second(e)) for name, e in estimates.items()}

    found = jax.jit(jax.vmap(one))(jax.random.split(KEY, 20_000))
    exact = [float(np.mean(values)) for values in found["reparam"]]
    for i in range(3):
        spread = np.std(found["reparam"][i]) / np.std(found["vimco"][i])
        assert_mean(found["vimco"][i], exact[i], errors=4 * np.sqrt(1 + spread**2))
    assert np.std(found["vimco"][1]) < 0.5 * np.std(found["score"][1])
    with pytest.raises(ValueError, match=r"site 'x' .*Reparam"):
        expectation(lambda: vimco(target, one_normal, at, n=2)).estimate(KEY)
    with pytest.raises(ValueError, match="at least 2"):
        expectation(lambda: vimco(target, by_score, at, n=1)).estimate(KEY)


@pytest.mark.thorough
def test_fitting_finds_the_posterior():
    target = given(prior_and_data, {"y": Y}, 0.3)
    objective = lambda phi: elbo(target, one_normal, phi, sticking=True)
    found = jax.jit(lambda key: fit(objective, jnp.zeros(2), key=key, steps=300, num_samples=4, optimizer=None))(KEY)
    assert found.history.shape == (300,)
    found = fit(objective, jnp.zeros(2), key=KEY, steps=300, num_samples=4, optimizer=optax.adam(0.05))
    np.testing.assert_allclose(found.params, exact_guide(0.3), atol=1e-3)
    with pytest.raises(ValueError, match="at least 1"):
        fit(objective, jnp.zeros(2), key=KEY, steps=0)


@pytest.mark.thorough
def test_a_prior_is_fitted_through_the_inner_optimum():
    """Bilevel: the derivative of a held-out density in the prior's scale, through the argmin of a bound."""
    keys = jax.random.split(KEY, 20_000)
    held_out = 0.7

    def bound(phi, t):
        target = given(prior_and_data, {"y": Y}, t)
        return -jnp.mean(jax.vmap(lambda key: expectation(lambda: elbo(target, one_normal, phi)).estimate(key))(keys))

    def outer(t):
        phi = dini.minimize(bound, jnp.zeros(2), t, solver=dini.Newton()).x
        return -0.5 * ((held_out - phi[0]) ** 2 + jnp.exp(2 * phi[1]))

    def exact(t):
        v = jnp.exp(2 * t) / (1 + jnp.exp(2 * t))
        return -0.5 * ((held_out - v * Y) ** 2 + v)

    assert float(jax.jit(jax.grad(outer))(0.3)) == pytest.approx(float(jax.grad(exact)(0.3)), abs=0.04)


@pytest.mark.thorough
def test_the_interpreter_computes_what_one_writes_by_hand():
    params, key = jnp.array((0.0, 2.2225, -1.275, -3.387)), jax.random.key(3)
    through = expectation(lambda params: elbo(cone.POSTERIOR, cone.mean_field, params)).value_and_grad_estimate(
        key, params
    )
    hand = jax.value_and_grad(lambda params: overhead.by_hand(key, params))(params)
    assert float(through[0]) == pytest.approx(float(hand[0]), rel=1e-13)
    np.testing.assert_allclose(through[1], hand[1], rtol=1e-12)


def test_what_is_detached_has_no_derivative():
    """Nor have its choices branches."""

    def program(t):
        x = detached(lambda t: sample(Normal(), t, 1.0) + sample(Bernoulli(), t), t)
        return x * t

    values, slopes = gradients(program, 4000, 0.4)
    assert_mean(values, 0.4 * 0.8)
    np.testing.assert_allclose(slopes, values / 0.4)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["expectation", "generative"])
def test_examples(name):
    with jax.enable_x64(False):
        found = doctest.testmod(importlib.import_module(f"dini_zoo.inference.programmable_vi.{name}"))
    assert found.attempted
    assert not found.failed
