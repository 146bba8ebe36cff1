"""Programmable inference: strategies against closed forms, choices wherever they stand, derivatives that must raise."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import dini
from dini_zoo.inference.programmable_vi import (
    Bernoulli,
    Beta,
    Categorical,
    Exponential,
    Gamma,
    Geometric,
    MvNormal,
    Normal,
    Poisson,
    Uniform,
    add_cost,
    average,
    bakeoff,
    enumerate_,
    expectation,
    from_library,
    implicit,
    measure_valued,
    reinforce,
    reparam,
    sample,
    simulate,
)

KEY = jax.random.key(0)


def estimates(programs, n, *args, argnums=0, key=KEY):
    """Values and gradients of n estimates of each program, compiled together."""

    def one(key):
        return {
            name: expectation(program).value_and_grad_estimate(key, *args, argnums=argnums)
            for name, program in programs.items()
        }

    return jax.jit(jax.vmap(one))(jax.random.split(key, n))


def assert_mean(found, exact, errors=4.0):
    """The mean is the exact one, within so many standard errors."""
    found = np.asarray(found, float)
    error = found.std() / np.sqrt(len(found))
    assert abs(found.mean() - exact) <= errors * error + 1e-12 * abs(exact), (found.mean(), exact, error)


# the specification's exact checks


def test_enumeration_is_exact_to_second_order():
    program = lambda p: jnp.where(sample(Bernoulli(), p), 0.0, -p / 2)
    estimate = lambda p: expectation(program).estimate(KEY, p)
    p = 0.3
    found = jax.jit(lambda p: (estimate(p), jax.grad(estimate)(p), jax.hessian(estimate)(p)))(p)
    assert np.array(found) == pytest.approx([-(1 - p) * p / 2, p - 0.5, 1.0], abs=1e-15)


def reinforce_with_baselines(n):
    """First and second derivatives of n estimates of E x² over N(m, 1), without baseline and with 1 + m²."""
    m = 0.7

    def derivatives(key):
        found = []
        for strategy in (reinforce(), reinforce(lambda loc, scale: scale**2 + loc**2)):
            estimate = lambda m, s=strategy: expectation(lambda m: sample(Normal(s), m, 1.0) ** 2).estimate(key, m)
            found.append((jax.grad(estimate)(m), jax.grad(jax.grad(estimate))(m)))
        return found

    (plain, plain_second), (based, based_second) = jax.jit(jax.vmap(derivatives))(jax.random.split(KEY, n))
    for first, second in ((plain, plain_second), (based, based_second)):
        assert_mean(first, 2 * m)
        assert_mean(second, 2.0)
    return np.var(plain) / (m**4 + 14 * m**2 + 15) - 1, np.var(based) / (8 * m**2 + 10) - 1


def test_reinforce_with_and_without_a_baseline():
    # a sixth power has heavy tails: the spread of so few estimates is known to a quarter alone
    assert max(map(abs, reinforce_with_baselines(20_000))) < 0.25


@pytest.mark.thorough
def test_reinforce_at_the_specifications_size():
    assert max(map(abs, reinforce_with_baselines(400_000))) < 0.06


def test_measure_valued_derivatives():
    mvd = measure_valued()
    programs = {
        "normal": lambda t: sample(Normal(mvd), t[0], t[1]) ** 3,
        "poisson": lambda t: sample(Poisson(mvd), t[1]).astype(float) ** 2,
        "geometric": lambda t: sample(Geometric(mvd), t[0]).astype(float) ** 2,
        "exponential": lambda t: sample(Exponential(mvd), t[1]) ** 2,
        # two elements, each of which moves alone, and a later choice that both meet
        "two": lambda t: jnp.prod(jnp.where(sample(Bernoulli(mvd), t), 2.0, -1.0)) * sample(Normal(), t[0], 1.0),
    }
    mu, sigma = 0.4, 0.8
    found = estimates(programs, 20_000, jnp.array([mu, sigma]))
    q = 1 - mu
    exact = {
        "normal": (mu**3 + 3 * mu * sigma**2, 3 * (mu**2 + sigma**2), 6 * mu * sigma),
        "poisson": (sigma + sigma**2, 0.0, 1 + 2 * sigma),
        # E v² = q (1 + q) / p²
        "geometric": (q * (1 + q) / mu**2, -(1 + 2 * q) / mu**2 - 2 * q * (1 + q) / mu**3, 0.0),
        "exponential": (2 / sigma**2, 0.0, -4 / sigma**3),
        "two": (
            (3 * mu - 1) * (3 * sigma - 1) * mu,
            3 * (3 * sigma - 1) * mu + (3 * mu - 1) * (3 * sigma - 1),
            3 * (3 * mu - 1) * mu,
        ),
    }
    for name, (value, *gradient) in exact.items():
        assert_mean(found[name][0], value)
        for i in (0, 1):
            assert_mean(found[name][1][:, i], gradient[i])


def bake_off(n):
    programs = {name: bakeoff.program(strategy) for name, strategy in bakeoff.STRATEGIES.items()}
    found = estimates(programs, n, bakeoff.AT)
    value, gradient = bakeoff.exact(bakeoff.AT)
    assert (value, gradient) == pytest.approx((2.5956217, 2.0021602), abs=1e-7)
    for values, gradients in found.values():
        assert_mean(values, value)
        assert_mean(gradients, gradient)
    spread = {name: float(np.std(one[1])) for name, one in found.items()}
    assert spread["enumeration"] < spread["REINFORCE"] < spread["measures"]
    return spread


@pytest.mark.thorough
def test_three_estimators_of_one_gradient():
    bake_off(20_000)


@pytest.mark.thorough
def test_the_estimators_spreads():
    reference = {"enumeration": 1.376, "REINFORCE": 2.047, "measures": 2.654}
    assert bake_off(200_000) == pytest.approx(reference, rel=0.05)


def test_an_argmin_in_the_rest_of_a_program_keeps_its_implicit_derivative():
    def program(m, a):
        x = sample(Normal(), m, 1.0)
        energy = lambda y, x, a: (y - x) ** 2 / 2 + a * y**2 / 2
        return dini.minimize(energy, jnp.zeros(()), x, a, solver=dini.Newton()).value

    m, a = 0.7, 2.0
    _, gradients = estimates({"argmin": program}, 2000, m, a, argnums=(0, 1))["argmin"]
    assert_mean(gradients[0], m * a / (1 + a))
    assert_mean(gradients[1], (m**2 + 1) / (2 * (1 + a) ** 2))


@pytest.mark.thorough
def test_an_argmin_of_an_argmin_is_differentiated_through():
    """The objective reads the argmin itself, so that its derivative is not the envelope's."""

    def program(m, a):
        x = sample(Normal(reinforce()), m, 1.0)
        y = dini.minimize(lambda y, x, a: (y - x) ** 2 / 2 + a * y**2 / 2, jnp.zeros(()), x, a, solver=dini.Newton()).x
        return (y - 1) ** 2

    m, a = 0.7, 2.0  # y = x / (1 + a)
    values, gradients = estimates({"y": program}, 4000, m, a, argnums=(0, 1))["y"]
    assert_mean(values, (m**2 + 1) / (1 + a) ** 2 - 2 * m / (1 + a) + 1)
    assert_mean(gradients[0], 2 * m / (1 + a) ** 2 - 2 / (1 + a))
    assert_mean(gradients[1], -2 * (m**2 + 1) / (1 + a) ** 3 + 2 * m / (1 + a) ** 2)


def test_a_program_without_choices_is_itself():
    program = lambda x, y: jnp.sin(x["a"]) * y
    args = ({"a": 0.3}, 2.0)
    value, gradient = expectation(program).value_and_grad_estimate(KEY, *args, argnums=(0, 1))
    assert value == program(*args)
    assert jax.tree.map(float, gradient) == jax.tree.map(float, jax.grad(program, argnums=(0, 1))(*args))


# choices wherever they stand


def test_choices_in_calls_loops_branches_and_maps():
    """One program for each construct; each has E = value and derivative in closed form at t = 0.4."""

    def jitted(t):
        return jax.jit(lambda t: jax.checkpoint(lambda t: sample(Bernoulli(), t))(t))(t) * t

    def scanned(strategy):
        def program(t):
            step = lambda x, _: (sample(Normal(strategy), x + t, 1.0), x)
            end, _ = jax.lax.scan(step, jnp.zeros(()), None, length=3)
            return end**2

        return program

    def looped(t):
        body = lambda i, x: x + sample(Normal(), t, 1.0)
        return jax.lax.fori_loop(0, 3, body, 0.0) ** 2

    def branched(strategy):
        def program(t):
            b = sample(Bernoulli(reinforce()), t)
            x = jax.lax.cond(b, lambda: sample(Bernoulli(strategy), t) * 1.0, lambda: jnp.asarray(-t))
            return x * t

        return program

    def mapped(t):
        b = jax.vmap(lambda s: sample(Bernoulli(reinforce()), s * t))(jnp.array([1.0, 2.0]))
        return b[0] * b[1] + 0.0 * t

    def elements(t):
        b = sample(Bernoulli(), jnp.stack([t, 2 * t]))
        return b[0] * b[1] + 0.0 * t

    def switched(t):
        c = sample(Categorical(), jnp.stack([t, 0.5 - t, 0.5]))
        return jax.lax.switch(c, [lambda: t, lambda: sample(Normal(), t, 1.0) ** 2, lambda: sample(Poisson(), t) * 1.0])

    t = 0.4
    programs = {
        "jit": (jitted, t**2, 2 * t),
        "scan, reparam": (scanned(reparam()), 9 * t**2 + 3, 18 * t),
        "scan, reinforce": (scanned(reinforce(1.0)), 9 * t**2 + 3, 18 * t),
        "fori_loop": (looped, 9 * t**2 + 3, 18 * t),
        "cond, enumeration": (branched(enumerate_()), (t * t - (1 - t) * t) * t, 6 * t**2 - 2 * t),
        "cond, measures": (branched(measure_valued()), (t * t - (1 - t) * t) * t, 6 * t**2 - 2 * t),
        "vmap": (mapped, 2 * t**2, 4 * t),
        "elements": (elements, 2 * t**2, 4 * t),
        "switch": (switched, t**2 + (0.5 - t) * (t**2 + 1) + t / 2, 2 * t - (t**2 + 1) + (0.5 - t) * 2 * t + 0.5),
    }
    # forward mode: a loop whose length is not static has no other
    one = lambda key: {
        name: expectation(program).jvp_estimate(key, (t,), (1.0,)) for name, (program, *_) in programs.items()
    }
    found = jax.jit(jax.vmap(one))(jax.random.split(KEY, 10_000))
    for name, (_, value, gradient) in programs.items():
        assert_mean(found[name][0], value)
        assert_mean(found[name][1], gradient)


@pytest.mark.thorough
def test_a_loop_until_something_happens():
    def program(t):
        state = jax.lax.while_loop(
            lambda s: s[0] == 0, lambda s: (sample(Bernoulli(reinforce()), t), s[1] + 1.0), (0, 0.0)
        )
        return state[1]

    t = 0.5
    found = jax.jit(jax.vmap(lambda key: expectation(program).jvp_estimate(key, (t,), (1.0,))))(
        jax.random.split(KEY, 10_000)
    )
    assert_mean(found[0], 1 / t)
    assert_mean(found[1], -1 / t**2)


def test_draws_of_a_map_are_independent_even_of_fixed_parameters():
    def program(_):
        x = jax.vmap(lambda _: sample(Normal(), 0.0, 1.0))(jnp.arange(2))
        y = jax.vmap(jax.vmap(lambda i: sample(Poisson(), 2.0) + 0 * i))(jnp.zeros((2, 3), int))
        return x, y

    x, y = jax.jit(jax.vmap(lambda key: simulate(key, program, 0.0)))(jax.random.split(KEY, 4000))
    assert_mean(x[:, 0] * x[:, 1], 0.0)
    assert y.shape == (4000, 2, 3)
    assert abs(np.corrcoef(y.reshape(4000, 6), rowvar=False) - np.eye(6)).max() < 0.1


@pytest.mark.thorough
def test_costs_are_added_wherever_they_are():
    def program(t):
        x = sample(Normal(), t, 1.0)
        add_cost(x**2)
        b = sample(Bernoulli(), 0.25)
        jax.lax.cond(b, lambda: add_cost(4 * t), lambda: None)
        jax.vmap(lambda i: add_cost(t * i))(jnp.arange(3.0))
        return t

    t = 0.4
    (values, gradients) = estimates({"costs": program}, 4000, t)["costs"]
    assert_mean(values, t**2 + 1 + t + 3 * t + t)
    assert_mean(gradients, 2 * t + 5)


@pytest.mark.thorough
def test_averages_of_a_strategy():
    program = lambda n: lambda m: sample(Normal(average(n, reinforce())), m, 1.0) ** 2 + sample(Normal(), m, 1.0)
    found = estimates({"one": program(1), "four": program(4)}, 10_000, 0.7)
    for values, gradients in found.values():
        assert_mean(values, 1.49 + 0.7)
        assert_mean(gradients, 2.4)
    assert np.var(found["one"][1]) / np.var(found["four"][1]) == pytest.approx(4, rel=0.15)


@pytest.mark.thorough
def test_what_a_program_closes_over_is_differentiated():
    def loss(t):
        strategy = reinforce(1 + t**2)  # a baseline may be computed, too
        program = lambda: sample(Bernoulli(), jax.nn.sigmoid(t)) * sample(Normal(strategy), t, 1.0) ** 2
        return jnp.mean(jax.vmap(lambda key: expectation(program).estimate(key))(jax.random.split(KEY, 20_000)))

    t = 0.3
    exact = lambda t: jax.nn.sigmoid(t) * (t**2 + 1)
    assert float(jax.jit(jax.grad(loss))(t)) == pytest.approx(float(jax.grad(exact)(t)), abs=0.1)


# distributions


@pytest.mark.thorough
def test_the_implicit_derivative_is_the_samplers():
    """Of a gamma choice JAX has it."""
    programs = {
        "pathwise": lambda t: jnp.sin(sample(Gamma(), t[0], t[1])),
        "implicit": lambda t: jnp.sin(sample(Gamma(implicit()), t[0], t[1])),
    }
    found = estimates(programs, 500, jnp.array([1.2, 0.7]))
    np.testing.assert_allclose(found["implicit"][1], found["pathwise"][1], rtol=1e-6, atol=1e-9)


@pytest.mark.thorough
def test_a_mixture_has_the_implicit_derivative():
    """Its sampler has none; the second derivative is exact as well."""
    parts = lambda t: dist.Normal(jnp.stack([-t[0], t[1]]), jnp.stack([t[1], t[0]]))
    mixture = lambda t: dist.MixtureSameFamily(dist.Categorical(probs=jnp.array([0.3, 0.7])), parts(t))
    a, b = 1.2, 0.7
    for strategy in (implicit(), reinforce()):
        estimate = expectation(lambda t, s=strategy: sample(from_library(mixture(t), s)) ** 2).estimate
        one = lambda key, e=estimate: (
            jax.value_and_grad(e, argnums=1)(key, jnp.array([a, b])),
            jax.jvp(lambda t: jax.grad(e, argnums=1)(key, t), (jnp.array([a, b]),), (jnp.array([1.0, 0.0]),))[1],
        )
        (values, gradients), second = jax.jit(jax.vmap(one))(jax.random.split(KEY, 2000))
        assert_mean(values, a**2 + b**2)
        assert_mean(gradients[:, 0], 2 * a)
        assert_mean(gradients[:, 1], 2 * b)
        assert_mean(second[:, 0], 2.0)


@pytest.mark.thorough
def test_objects_of_numpyro_are_distributions():
    def program(t):
        x = sample(dist.Laplace(t, 1.0))  # pathwise
        n = sample(dist.Binomial(3, probs=t))  # enumerated
        z = sample(from_library(dist.NegativeBinomialProbs(2.0, t), reinforce()))
        return x * n + z

    t = 0.4
    values, gradients = estimates({"numpyro": program}, 20_000, t)["numpyro"]
    assert_mean(values, 3 * t**2 + 2 * t / (1 - t))
    assert_mean(gradients, 6 * t + 2 / (1 - t) ** 2)


@pytest.mark.thorough
def test_densities_are_numpyros():
    cases = [
        (Normal(), (0.5, 2.0), 1.0, dist.Normal(0.5, 2.0)),
        (Poisson(), (1.5,), 3, dist.Poisson(1.5)),
        (Beta(), (1.5, 2.5), 0.3, dist.Beta(1.5, 2.5)),
        (MvNormal(), (jnp.zeros(2), jnp.array([[2.0, 0], [1, 1]])), jnp.ones(2), None),
    ]
    for ours, params, value, theirs in cases:
        params = tuple(map(jnp.asarray, params))
        theirs = theirs or dist.MultivariateNormal(params[0], scale_tril=params[1])
        assert float(ours.log_prob(value, *params)) == pytest.approx(float(theirs.log_prob(value)))


def test_densities_are_zero_outside_of_the_support():
    low, high = jnp.array(0.0), jnp.array(2.0)

    @jax.jit
    def everything():
        # a density that a branch discards has a derivative, too
        discarded = jax.grad(lambda x: jnp.where(x > 0, Gamma().log_prob(x, high, high), 0.0))(-1.0)
        return (
            Uniform().log_prob(1.5, low, high),
            Uniform().log_prob(2.5, low, high),
            Exponential().log_prob(-0.5, high),
            Bernoulli().log_prob(2, high / 4),
            Gamma().log_prob(jnp.nan, high, high),
            discarded,
        )

    np.testing.assert_allclose(everything(), [-np.log(2), -np.inf, -np.inf, -np.inf, np.nan, 0.0])


@pytest.mark.parametrize("double", [False, True])
def test_values_have_the_precision_of_their_parameters(double):
    with jax.enable_x64(double):
        kind = jnp.float64 if double else jnp.float32

        def program(t):
            x = sample(Normal(reinforce()), t, 1.0)
            b = sample(Bernoulli(), jax.nn.sigmoid(x))
            y, _ = jax.lax.scan(lambda c, _: (sample(Normal(), c, t**2), None), x, None, length=2)
            assert x.dtype == y.dtype == kind
            assert jnp.issubdtype(b.dtype, jnp.integer)
            return jnp.where(b, y, x**2)

        value, gradient = jax.jit(expectation(program).value_and_grad_estimate)(
            jax.random.key(1), jnp.asarray(0.5, kind)
        )
        assert value.dtype == gradient.dtype == kind
        assert np.isfinite(gradient)


@pytest.mark.thorough
def test_single_precision_stays_so_where_double_is_on():
    value = expectation(lambda t: sample(Normal(reinforce()), t, 1.0)).estimate(KEY, jnp.float32(0.5))
    assert value.dtype == jnp.float32


# what must raise


def test_outside_of_an_interpreter_a_choice_raises():
    with pytest.raises(RuntimeError, match=r"site 'x'.*expectation"):
        sample(Normal(), 0.0, 1.0, address="x")
    with pytest.raises(RuntimeError, match="expectation"):
        jax.jit(lambda: sample(Normal(), 0.0, 1.0))()
    with pytest.raises(RuntimeError, match="expectation"):
        add_cost(1.0)


@pytest.mark.parametrize(
    ("choose", "error", "words"),
    [
        (lambda: sample(Normal(enumerate_()), 0.0, 1.0, address="x"), TypeError, r"site 'x' .*cannot be listed"),
        (lambda: sample(Bernoulli(reparam()), 0.5, address="x"), TypeError, r"site 'x' .*not move smoothly"),
        (lambda: sample(Gamma(measure_valued()), 1.0, 1.0, address="x"), TypeError, r"site 'x'"),
        (lambda: sample(Poisson(implicit()), 1.0, address="x"), TypeError, "distribution function"),
        (lambda: sample(MvNormal(implicit()), jnp.zeros(2), jnp.eye(2), address="x"), TypeError, r"site 'x'"),
        (lambda: sample(Uniform(reinforce()), 0.0, 1.0, address="x"), TypeError, "support of the site 'x'"),
        (lambda: sample(Normal(), 0.0, address="x"), TypeError, r"site 'x' .*needs 2 parameters.*given 1"),
        (lambda: sample(Normal(), jnp.zeros(2), jnp.ones(3), address="x"), ValueError, r"site 'x'"),
        (lambda: sample(Normal(), "one", 1.0, address="x"), TypeError, r"site 'x'"),
        (lambda: sample("Normal", 0.0, 1.0), TypeError, "must be one of"),
        (lambda: sample(Normal, 0.0, 1.0), TypeError, "must be one of"),
        (lambda: sample(from_library(mixture(), reparam()), address="x"), TypeError, r"site 'x'"),
        (lambda: sample(Normal(), 0.0, -1.0, address="x"), ValueError, r"site 'x' .*scale positive.*-1"),
        (lambda: sample(Bernoulli(), 1.2, address="x"), ValueError, r"site 'x' .*from 0 to 1.*1.2"),
        (lambda: sample(Categorical(), jnp.array([0.5, 0.6]), address="x"), ValueError, r"site 'x' .*sum 1"),
        (lambda: sample(dist.Normal(0.0, -1.0, validate_args=False), address="x"), ValueError, r"site 'x'"),
        (lambda: sample(Bernoulli(), jnp.full(13, 0.5), address="x"), ValueError, r"site 'x' .*2\^13"),
        (lambda: sample(Bernoulli(reinforce(jnp.ones(2))), 0.5, address="x"), ValueError, "baseline"),
    ],
)
def test_bad_choices_are_named(choose, error, words):
    with pytest.raises(error, match=words):
        expectation(lambda: jnp.sum(choose()) * 1.0).estimate(KEY)


def mixture():
    return dist.MixtureSameFamily(dist.Categorical(probs=jnp.ones(2) / 2), dist.Normal(jnp.arange(2.0), 1.0))


def test_a_support_that_moves_is_seen_in_an_object_too():
    program = lambda t: sample(from_library(dist.Uniform(0.0, t), reinforce()), address="x") ** 2
    with pytest.raises(TypeError, match="support of the site 'x'"):
        expectation(program).grad_estimate(KEY, 2.0)


def test_parameters_outside_of_their_domain_show_in_a_compiled_estimate():
    for strategy in (enumerate_(), reinforce(), measure_valued()):
        program = lambda p, s=strategy: sample(Bernoulli(s), p) * 2.0
        estimate = jax.jit(jax.vmap(expectation(program).value_and_grad_estimate, (None, 0)))
        for found in estimate(KEY, jnp.array([0.3, 1.2])):
            np.testing.assert_array_equal(np.isnan(found), [False, True])


def test_enumerations_one_after_the_other_have_a_limit():
    program = lambda n: lambda: sum(sample(Bernoulli(), jnp.full(6, 0.5)).sum() for _ in range(n)) * 1.0
    assert jax.jit(expectation(program(2)).estimate)(KEY) == pytest.approx(6.0)
    with pytest.raises(ValueError, match="more than 4096"):
        expectation(program(3)).estimate(KEY)


@pytest.mark.parametrize("strategy", [enumerate_(), measure_valued(), average(2, reinforce())], ids=str)
def test_a_loop_refuses_strategies_that_branch(strategy):
    program = lambda: (
        jax.lax.scan(lambda c, _: (c + sample(Bernoulli(strategy), 0.5, address="b"), None), 0, None, 3)[0] * 1.0
    )
    with pytest.raises(NotImplementedError, match=r"site 'b' .*loop.*unroll"):
        expectation(program).estimate(KEY)


def test_derivatives_that_do_not_exist_raise():
    mvd = expectation(lambda p, t: sample(Bernoulli(measure_valued()), p) * t).estimate
    first = jax.grad(mvd, argnums=1)
    assert np.isfinite(first(KEY, 0.3, 2.0))
    for other in (1, 2):  # the second derivative in p, and the mixed one
        with pytest.raises(NotImplementedError, match="first derivative alone"):
            jax.grad(first, argnums=other)(KEY, 0.3, 2.0)
        with pytest.raises(NotImplementedError, match="first derivative alone"):
            jax.jacfwd(jax.jit(first), argnums=other)(KEY, 0.3, 2.0)
    # a derivative inside of the program would go around the strategy
    inside = lambda t: jax.grad(lambda t: sample(Normal(), t, 1.0, address="x") ** 2)(t)
    with pytest.raises(NotImplementedError, match=r"site 'x' .*inside of itself"):
        expectation(inside).estimate(KEY, 0.3)
    # a rule of somebody's own would be lost
    ruled = jax.custom_jvp(lambda t: sample(Normal(), t, 1.0, address="x"))
    ruled.defjvps(lambda t_dot, out, t: t_dot)
    with pytest.raises(NotImplementedError, match=r"site 'x' .*custom_jvp"):
        expectation(ruled).estimate(KEY, 0.3)
    with pytest.raises(NotImplementedError, match="`simulate` has no derivative"):
        jax.grad(lambda t: simulate(KEY, lambda t: sample(Normal(), t, 1.0), t))(0.3)


def test_programs_and_keys_are_checked():
    with pytest.raises(TypeError, match="real scalar"):
        expectation(lambda: sample(Normal(), jnp.zeros(2), 1.0)).estimate(KEY)
    with pytest.raises(TypeError, match="real scalar"):
        expectation(lambda: sample(Bernoulli(), 0.5)).estimate(KEY)
    with pytest.raises(TypeError, match="one random key"):
        expectation(lambda: sample(Normal(), 0.0, 1.0)).estimate(jax.random.split(KEY, 2))
    with pytest.raises(TypeError, match="one random key"):
        expectation(lambda: sample(Normal(), 0.0, 1.0)).estimate(0)
    with pytest.raises(TypeError, match="must be a function"):
        expectation(3.0)
    with pytest.raises(ValueError, match="at least 1"):
        average(0, reinforce())
    with pytest.raises(ValueError, match="scalar"):
        expectation(lambda: add_cost(jnp.ones(2))).estimate(KEY)


def test_other_values_of_measures_are_not_followed_by_others():
    """Many measure-valued choices cost few equations each: what is stopped is simply drawn."""

    def equations(n):
        program = lambda p: sum(sample(Bernoulli(measure_valued()), p) * 1.0 for _ in range(n))
        grad = lambda p: expectation(program).grad_estimate(KEY, p)
        return len(str(jax.make_jaxpr(grad)(0.3)).splitlines())

    few, many = equations(3), equations(12)
    assert many < 16 * 2 * few  # as the square of the number, not as a power of two
