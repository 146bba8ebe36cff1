"""Arguments that do not exist, as users of other libraries write them."""

import inspect
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dini
from dini.solvers import Solver


def square(x):
    return jnp.sum(x**2)


def composite(outer, matrix, *args):
    return dini.minimize(dini.LinearComposite(outer, matrix), jnp.zeros(2), *args)


MATRIX = np.ones((2, 3))

CALLS = {
    "JAXopt's name of a setting": (lambda: dini.LBFGS(maxiter=10), "LBFGS has no argument 'maxiter'.*max_steps"),
    "what belongs to the problem": (lambda: dini.LBFGS(fun=square), "belongs to the problem: dini.minimize"),
    "first, too": (lambda: dini.LBFGS(square), "belongs to the problem: dini.minimize"),
    "what belongs to the solve": (lambda: dini.Newton(implicit_diff=True), "differentiation=dini.Implicit"),
    "a slip": (lambda: dini.BFGS(max_step=10), "Is max_steps meant"),
    "names that there are": (lambda: dini.sets.L2Ball(size=1.0), "L2Ball takes: radius"),
    "a solver's setting in a verb": (lambda: dini.minimize(square, jnp.ones(2), tol=1e-3), r"BFGS\(tol="),
    "and by JAXopt's name": (lambda: dini.root(square, 1.0, maxiter=3), r"Newton\(max_steps="),
    "a verb's own": (lambda: dini.minimize(square, jnp.ones(2), bounds=(0, 1)), "constraint=dini.sets.Box"),
    "two outputs": (lambda: dini.minimize(lambda x: (square(x), x), jnp.ones(2)), "pass has_aux=True"),
    "the other one empty": (lambda: dini.minimize(lambda x: (square(x), None), jnp.ones(2)), "pass has_aux=True"),
    "a gradient": (lambda: dini.minimize(jax.value_and_grad(square), jnp.ones(2)), "a method value_and_gradient"),
    "an outer function without the unknown": (
        lambda: composite(lambda z, a: a * square(z), lambda a: MATRIX, 1.0),
        r"outer as h\(z, x, \*args\), with .* and the 1 argument of the solve: .*takes 2 positional",
    ),
    "a matrix of the unknown": (
        lambda: composite(lambda z, x: square(z), lambda x: MATRIX),
        r"matrix as matrix\(\*args\), with the 0 arguments of the solve and without the unknown: .*missing 1",
    ),
    "a matrix": (
        lambda: dini.LinearComposite(lambda z, x: square(z), MATRIX),
        r"must be a function of the args that returns A: given float64\[2, 3\]. Write lambda \*args: A",
    ),
    "a transformation of optax": (
        lambda: dini.minimize(square, jnp.ones(2), solver=optax.adam(0.1)),
        r"solver=dini.OptaxSolver\(opt\)",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_hint_is_given(name):
    call, hint = CALLS[name]
    with pytest.raises(TypeError, match=hint):
        call()


def test_another_error_beside_a_function_gets_no_hint():
    with pytest.raises(ValueError, match="tol must be nonnegative") as caught:
        dini.GradientDescent(lambda step: 0.1, tol=-1.0)
    assert "belongs to the problem" not in str(caught.value)


def test_errors_of_the_users_own_functions_are_not_touched():
    def objective(x):
        return square(x, maxiter=3)

    with pytest.raises(TypeError, match=r"square\(\) got an unexpected keyword argument 'maxiter'"):
        dini.minimize(objective, jnp.ones(2))


def test_an_auxiliary_output_is_not_asked_for_again():
    with pytest.raises(TypeError, match=r"given float64\[2\]. Sum or average") as caught:
        dini.minimize(lambda x: (x, x), jnp.ones(2), has_aux=True)
    assert "has_aux" not in str(caught.value)


def test_errors_inside_the_functions_of_a_linear_composite_are_not_touched():
    with pytest.raises(TypeError, match=r"^square\(\) takes 1 positional argument but 2 were given"):
        composite(lambda z, x: square(z, x), lambda: MATRIX)


METHODS = {
    "run": (dini.LBFGS(), r"dini.minimize\(fun, x0, \*args, solver=LBFGS"),
    "init_state": (dini.Broyden(), r"dini.root\(fun, .*, or in a loop by hand state = solver.init\(dini.Root\(fun\)"),
    "update": (dini.Anderson(), r"dini.fixed_point\(fun, .* x, state = solver.step\(dini.FixedPoint\(fun\)"),
    "run_iterator": (dini.PolyakSGD(), r"dini.run_iterator\(dini.Minimize\(fun\)"),
    "optimality_fun": (dini.GaussNewton(), r"condition\(problem, .*dini.LeastSquares\(fun\)"),
    "l2_optimality_error": (dini.CondatVu(), r"condition.error\(problem, .*dini.Composite\("),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_hint_is_given_for_a_method(name):
    solver, hint = METHODS[name]
    assert not hasattr(solver, name)
    with pytest.raises(AttributeError, match=hint):
        getattr(solver, name)


def test_other_missing_attributes_are_named_as_always():
    class Own(Solver):
        @property
        def broken(self):
            return jnp.nothing

    with pytest.raises(AttributeError, match=r"^'LBFGS' object has no attribute 'walk'$"):
        _ = dini.LBFGS().walk
    with pytest.raises(AttributeError, match=r"jax.numpy.* has no attribute 'nothing'"):
        _ = Own().broken


def test_signatures_and_copies_stay_what_they_were():
    assert next(iter(inspect.signature(dini.LBFGS).parameters)) == "history"
    assert "solver" in inspect.signature(dini.minimize).parameters
    assert pickle.loads(pickle.dumps(dini.LBFGS(max_steps=7))) == dini.LBFGS(max_steps=7)
