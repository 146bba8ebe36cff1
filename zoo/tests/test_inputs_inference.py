"""Inputs of programs of variational inference that gave wrong answers without a word; the others are in test_inputs."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as nd
import pytest
from numpyro.distributions import transforms

from dini_zoo.inference.programmable_vi import (
    Bernoulli,
    Categorical,
    Dirichlet,
    Normal,
    add_cost,
    expectation,
    gen,
    reinforce,
    sample,
    simulate,
)
from dini_zoo.inference.programmable_vi.distributions import from_library

KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def estimate(program, *args):
    return expectation(program).estimate(KEY, *args)


def test_costs_in_branches_that_differ_between_lanes():
    signs = jnp.array([True, False, True])

    def branches(sign):
        jax.lax.cond(sign, lambda: add_cost(1.0), lambda: add_cost(10.0))

    def loops(n):
        def body(i):
            add_cost(1.0)
            return i + 1

        jax.lax.while_loop(lambda i: i < n, body, 0)

    def mapped(one, over):
        jax.vmap(one)(over)
        return jnp.zeros(())

    for one, over in ((branches, signs), (loops, jnp.array([1, 3]))):
        with pytest.raises(NotImplementedError, match=r"A cost stands in .* differs between lanes"):
            estimate(mapped, jax.tree_util.Partial(one), over)
    # one condition for all lanes, and costs of zero in their place
    assert estimate(lambda sign: mapped(lambda _: branches(sign), signs), jnp.array(False)) == 30
    assert estimate(lambda n: mapped(lambda _: loops(n), signs), jnp.array(2)) == 6
    assert estimate(lambda s: mapped(lambda sign: add_cost(jnp.where(sign, 1.0, 10.0)), s), signs) == 12
    # a choice without an address may stay there; one with an address has a density that would count
    drawn = lambda address: (
        lambda s: jax.lax.cond(
            s, lambda: sample(Normal(), 0.0, 1.0, address=address), lambda: sample(Normal(), 0.0, 1.0)
        )
    )
    assert simulate(KEY, lambda: jax.vmap(drawn(None))(signs)).shape == (3,)
    with pytest.raises(NotImplementedError, match="The choice 'x' stands in `cond`"):
        gen(lambda: jax.vmap(drawn("x"))(signs)).simulate(KEY)


EXP, ONES = transforms.ExpTransform(), np.ones(2)
MOVING = {
    "to_event": lambda t: nd.Uniform(0.0, t * ONES).to_event(1),
    "expanded": lambda t: nd.Uniform(0.0, t).expand([2]),
    "exponential": lambda t: nd.TransformedDistribution(nd.Uniform(0.0, t), EXP),
    "shifted": lambda t: nd.TransformedDistribution(nd.Uniform(0.0, 1.0), transforms.AffineTransform(t, 1.0)),
    "scaled": lambda t: nd.TransformedDistribution(nd.Uniform(0.0, 1.0), transforms.AffineTransform(0.0, t)),
    "behind two": lambda t: nd.TransformedDistribution(nd.Normal(0.0, 1.0), [EXP, transforms.AffineTransform(t, 1.0)]),
    "truncated": lambda t: nd.TruncatedNormal(0.0, 1.0, low=t),
}
STILL = {
    "normal": lambda t: nd.Normal(t * ONES, 1.0).to_event(1),
    "log-normal": lambda t: nd.LogNormal(t, 1.0),
    "scaled": lambda t: nd.TransformedDistribution(nd.Gamma(2.0, 1.0), transforms.AffineTransform(0.0, t)),
    "truncated": lambda t: nd.TruncatedNormal(t, 1.0, low=0.0),
    "inverse": lambda t: nd.InverseGamma(t, 1.0),
    "of the unit interval": lambda t: nd.Kumaraswamy(t, 1.0),
    "simplex": lambda t: nd.Dirichlet(t * ONES),
}


@pytest.mark.parametrize("name", [*(f"moving {one}" for one in MOVING), *(f"still {one}" for one in STILL)])
def test_supports_that_move_behind_a_transformation(name):
    kind, _, which = name.partition(" ")
    make = (MOVING if kind == "moving" else STILL)[which]
    trace = lambda: jax.make_jaxpr(lambda t: sample(from_library(make(t), reinforce())))(1.3)
    if kind == "moving":
        with pytest.raises(TypeError, match=r"support of .* depends on its parameters"):
            trace()
    else:
        trace()


def test_densities_outside_of_a_support():
    uniform = nd.TransformedDistribution(nd.Uniform(0.0, 1.0), EXP)
    cases = (
        (nd.Dirichlet(ONES), [0.4, 0.6], [0.5, 0.6]),
        (nd.Uniform(0.0, ONES).to_event(1), [0.5, 0.5], [0.5, 1.5]),
        (uniform, 2.0, 5.0),
        (uniform, np.exp(1 - 1e-16), 0.9),
        (nd.Multinomial(3, ONES / 2), [1, 2], [1, 1]),
    )
    values = [(jnp.asarray(inside), jnp.asarray(outside)) for _, inside, outside in cases]
    both = jax.jit(
        lambda values: [
            [from_library(made).log_prob(one) for one in pair] for (made, *_), pair in zip(cases, values, strict=True)
        ]
    )
    found = np.array(both(values))
    assert np.isfinite(found[:, 0]).all()
    assert (found[:, 1] == -np.inf).all()
    # a sum of many numbers in single precision is rounded
    with jax.enable_x64(False):
        wide = jnp.ones(5000)
        assert jnp.isfinite(Dirichlet().log_prob(Dirichlet().draw(KEY, wide), wide))


def test_parameters_given_as_integers():
    drawn = lambda *params: simulate(KEY, lambda: sample(Normal(), *params))
    assert drawn(0, 1) == drawn(0.0, 1.0) != jnp.round(drawn(0, 1))
    assert drawn(np.zeros(2, int), 1).dtype == Normal().draw(KEY, 0, 1).dtype == jnp.float64
    assert simulate(KEY, lambda: sample(Categorical(), np.array([0, 1]))) == 1
    assert simulate(KEY, lambda: sample(Bernoulli(), 1)).dtype == jnp.int64
