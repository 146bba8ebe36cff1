"""``value_and_grad=True`` in every solver: the gradient is the user's, also where the value has no derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dini_jaxopt as jaxopt

CURVATURE = np.array([1.0, 3.0])
TARGET = jnp.array([2.0, -1.0])


def quadratic(x, target):
    """Return a value that says nothing of its derivative, and the gradient."""
    move = x - target
    return jax.lax.stop_gradient(0.5 * jnp.sum(CURVATURE * move**2)), CURVATURE * move


STEPS = {"value_and_grad": True, "tol": 1e-9, "maxiter": 3000}
BATCHES = STEPS | {"implicit_diff": True}
BOUNDS = -0.5 * jnp.ones(2), 5.0 * jnp.ones(2)
SOLVERS = {
    "GradientDescent": (lambda: jaxopt.GradientDescent(quadratic, **STEPS), ()),
    "ProximalGradient": (lambda: jaxopt.ProximalGradient(quadratic, jaxopt.prox.prox_lasso, **STEPS), (0.3,)),
    "ProjectedGradient": (
        lambda: jaxopt.ProjectedGradient(quadratic, jaxopt.projection.projection_box, **STEPS),
        (BOUNDS,),
    ),
    "LBFGS": (lambda: jaxopt.LBFGS(quadratic, **STEPS), ()),
    "BFGS": (lambda: jaxopt.BFGS(quadratic, **STEPS), ()),
    "NonlinearCG": (lambda: jaxopt.NonlinearCG(quadratic, **STEPS), ()),
    "LBFGSB": (lambda: jaxopt.LBFGSB(quadratic, **STEPS), (BOUNDS,)),
    "PolyakSGD": (lambda: jaxopt.PolyakSGD(quadratic, max_stepsize=0.3, **BATCHES), ()),
    "ArmijoSGD": (lambda: jaxopt.ArmijoSGD(quadratic, **BATCHES), ()),
    "OptaxSolver": (lambda: jaxopt.OptaxSolver(quadratic, optax.sgd(0.2), **BATCHES), ()),
    "ScipyMinimize": (
        lambda: jaxopt.ScipyMinimize(fun=quadratic, method="L-BFGS-B", value_and_grad=True, tol=1e-10),
        (),
    ),
}
COSTLY = ("LBFGSB", "BFGS", "NonlinearCG", "GradientDescent", "ProjectedGradient")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.thorough if name in COSTLY else ()) for name in SOLVERS]
)
def test_the_gradient_is_the_users(name):
    make, before = SOLVERS[name]
    solver = make()

    @jax.jit
    def both(target):
        run = lambda t: solver.run(jnp.zeros(2), *before, t).params
        return run(target), jax.jacobian(run)(target)

    x, slope = both(TARGET)
    expected, moves = np.array(TARGET), np.ones(2)
    if name == "ProximalGradient":
        expected = np.array([2.0 - 0.3, -1.0 + 0.3 / 3.0])
    elif before:
        expected, moves = np.array([2.0, -0.5]), np.array([1.0, 0.0])
    np.testing.assert_allclose(x, expected, atol=1e-6)
    np.testing.assert_allclose(slope, np.diag(moves), atol=1e-6)
    own = solver.optimality_fun(jnp.asarray(expected), *before, TARGET)
    np.testing.assert_allclose(own, np.zeros(2), atol=1e-12)


def test_a_function_that_returns_no_gradient_is_refused():
    solver = jaxopt.LBFGS(lambda x: jnp.sum(x**2), value_and_grad=True)
    with pytest.raises(TypeError, match="must return the pair"):
        solver.run(jnp.ones(3))
