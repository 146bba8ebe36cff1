"""Arguments that do not exist, as users of other libraries write them."""

import inspect
import pickle

import jax.numpy as jnp
import pytest

import dini


def square(x):
    return jnp.sum(x**2)


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


def test_signatures_and_copies_stay_what_they_were():
    assert next(iter(inspect.signature(dini.LBFGS).parameters)) == "history"
    assert "solver" in inspect.signature(dini.minimize).parameters
    assert pickle.loads(pickle.dumps(dini.LBFGS(max_steps=7))) == dini.LBFGS(max_steps=7)
