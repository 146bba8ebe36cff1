"""Hosts that give up, are stopped or are asked for what they cannot do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini
from dini.adapters import NLopt, Pounce, SciPy


def loss(x, a):
    return jnp.sum(a * jnp.cosh(x) + x)


@pytest.mark.parametrize("solver", [SciPy("trust-constr"), NLopt("LD_LBFGS")], ids=lambda one: one.name)
def test_an_error_on_the_way_is_that_of_its_lane(solver):
    """Where the loss is linear these libraries raise, which is no matter of the other lanes."""
    solve = lambda a: dini.minimize(lambda x: jnp.sum(a * x**2 + x), jnp.ones(2), solver=solver, on_failure="ignore")
    found = jax.jit(jax.vmap(solve))(jnp.array([1.0, 0.0, 2.0]))
    assert list(found.status) == [0, dini.Status.STALLED, 0]
    np.testing.assert_allclose(found.x[::2, 0], [-0.5, -0.25], rtol=1e-7)


@pytest.mark.parametrize("adapter", [lambda **how: NLopt("LD_LBFGS", **how), Pounce], ids=["nlopt", "pounce"])
def test_the_limit_of_evaluations_is_told(adapter, capfd):
    """Also by a library that takes the order to stop for one more error, and prints it."""
    found = dini.minimize(loss, jnp.ones(2), 0.1, solver=adapter(max_steps=3), on_failure="ignore")
    assert found.status == dini.Status.MAX_STEPS
    assert "ERROR" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        (SciPy("bfgs", {"c1": 5.0}), "'c1' and 'c2' do not satisfy"),
        (SciPy("trust-ncg", {"initial_trust_radius": -1.0}), "radius must be positive"),
        (Pounce(options={"tolerance": 1.0}), 'Unknown option "tolerance"'),
    ],
    ids=["wolfe", "radius", "unknown"],
)
def test_settings_that_the_library_refuses_are_no_failure_of_a_solve(solver, message):
    with pytest.raises(Exception, match=message):
        dini.minimize(loss, jnp.ones(2), 1.0, solver=solver, on_failure="ignore")


def test_a_global_algorithm_needs_bounds():
    with pytest.raises(TypeError, match=r"NLopt\('GN_DIRECT'\) needs bounds on each unknown"):
        dini.minimize(loss, jnp.ones(2), 1.0, solver=NLopt("GN_DIRECT"))
    half = dini.sets.Box(0.0, jnp.inf)
    with pytest.raises(Exception, match="Global algorithms need finite bounds"):
        dini.minimize(loss, jnp.ones(2), 1.0, constraint=half, solver=NLopt("GN_DIRECT"))


def test_an_error_of_the_user_s_while_a_host_waits():
    """The host's thread waits for a value that never comes: the error passes, and nothing hangs."""

    def picky(x):
        if x > 0.5:
            raise KeyError("too far")
        return np.asarray(x)

    def far(x):
        like = jax.ShapeDtypeStruct((), x.dtype)
        read = jax.pure_callback(picky, like, jax.lax.stop_gradient(x), vmap_method="sequential")
        return (x - 3.0) ** 2 + 0 * jax.lax.stop_gradient(read)

    with pytest.raises(Exception, match="too far"):
        dini.minimize(far, 0.0, solver=SciPy("bfgs"))


@pytest.mark.parametrize(
    "solver", [SciPy("slsqp"), NLopt("LD_SLSQP"), Pounce(max_steps=1000)], ids=lambda one: one.name
)
def test_units_of_constraints(solver):
    """A corner of a circle and a line, in lengths and constraints a million times smaller and larger, in float32."""

    def solve(u, w):
        corner = {
            "equality": lambda x: w * (jnp.sum(x**2) - u**2),
            "inequality": lambda x: w * (x[0] - 0.8 * u),
        }
        away = u * jnp.array([4.0, 0.5], jnp.float32)
        start = u * jnp.full(2, 0.7, jnp.float32)
        return dini.minimize(lambda x: jnp.sum((x - away) ** 2), start, **corner, solver=solver).x / u

    u, w = np.float32([1e-6, 1e-6, 1.0, 1.0, 1e6, 1e6]), np.float32([1e-6, 1e6] * 3)
    np.testing.assert_allclose(jax.jit(jax.vmap(solve))(u, w), np.tile([0.8, 0.6], (6, 1)), rtol=1e-6)
