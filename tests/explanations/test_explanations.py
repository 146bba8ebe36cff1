"""Arguments that do not exist, as users of other libraries write them."""

import dataclasses
import inspect
import operator
import pickle
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dini
from dini.explanations import arguments, ends, names, parts
from dini.solvers import Solver


def square(x):
    return jnp.sum(x**2)


def composite(outer, matrix, *args):
    return dini.minimize(dini.LinearComposite(outer, matrix), jnp.zeros(2), *args)


def minimized(**keywords):
    return dini.minimize(square, jnp.ones(2), **keywords)


MATRIX = np.ones((2, 3))

CALLS = {
    "JAXopt's name of a setting": (lambda: dini.LBFGS(maxiter=10), "LBFGS has no argument 'maxiter'.*max_steps"),
    "what belongs to the problem": (lambda: dini.LBFGS(fun=square), "belongs to the problem: dini.minimize"),
    "first, too": (lambda: dini.LBFGS(square), "belongs to the problem: dini.minimize"),
    "what belongs to the solve": (lambda: dini.Newton(implicit_diff=True), "differentiation=dini.Implicit"),
    "a slip": (lambda: dini.BFGS(max_step=10), "Did you mean max_steps"),
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
    "a monitor that is a flag": (lambda: minimized(monitor=True), r"given True. Write monitor=dini.ProgressBar\(\)"),
    "a function": (lambda: minimized(monitor=print), r"function print. Write monitor=dini.Callback\("),
    "a class": (
        lambda: minimized(monitor=dini.ProgressBar),
        r"class ProgressBar. Write monitor=dini.ProgressBar\(",
    ),
    "several": (lambda: minimized(monitor=[dini.ProgressBar()]), r"given a list. Write monitor=dini.Monitors\(\("),
    "the derivative's linear solver": (
        lambda: minimized(linear_solver=dini.linear.CG()),
        r"differentiation=dini.Implicit\(linear_solver=.* steps .* solver=dini.Newton\(linear_solver",
    ),
    "in a solve": (
        lambda: dini.solve(dini.Minimize(square), dini.LBFGS(), jnp.ones(2), linear_solver=dini.linear.CG()),
        r"solve has no argument 'linear_solver'.*differentiation=dini.Implicit",
    ),
    "by JAXopt's name": (
        lambda: minimized(implicit_diff_solve=dini.linear.CG()),
        r"minimize has no argument 'implicit_diff_solve'.*differentiation=dini.Implicit\(linear_solver",
    ),
    "in a solver": (
        lambda: dini.Newton(implicit_diff_solve=dini.linear.CG()),
        r"Newton has no argument 'implicit_diff_solve'.*differentiation=dini.Implicit\(linear_solver",
    ),
    "penalties of parts": (
        lambda: minimized(penalty=(dini.penalties.L1(), None)),
        r"penalties.Product\(tree\), with dini.penalties.Indicator\(dini.sets.Free\(\)\) for a part",
    ),
    "a strength": (lambda: minimized(penalty=0.1), r"penalties.L1\(0.1\)"),
    "a set as a penalty": (lambda: minimized(penalty=dini.sets.Simplex()), "given as constraint="),
    "a penalty as a set": (lambda: minimized(constraint=dini.penalties.L1()), "given as penalty="),
    "a function as a penalty": (lambda: minimized(penalty=square), "term to fun"),
    "a penalty of residuals": (lambda: dini.least_squares(jnp.sin, 1.0, penalty=dini.penalties.L1()), "dini.minimize"),
    "a function as a constraint": (
        lambda: minimized(constraint=lambda x: x[0] - 1),
        r"equality=h, inequality=g\).*sets of dini.sets.*sets.Custom\(project\)",
    ),
    "as SciPy writes it": (lambda: minimized(constraint={"type": "eq", "fun": square}), "SciPy's .*the opposite sign"),
    "and calls it": (lambda: minimized(constraints=()), "constraint=dini.sets.*equality=h"),
    "a pair of bounds": (lambda: minimized(constraint=(0.0, 1.0)), r"write dini.sets.Box\(0.0, 1.0\)"),
    "sets of parts": (lambda: minimized(constraint=(dini.sets.Simplex(), None)), r"sets.Product\(tree\)"),
    "arguments as a tuple": (lambda: minimized(args=(1.0,)), r"dini.minimize\(fun, x0, \*args\)"),
    "in the problem": (lambda: dini.Minimize(square, args=(1.0,)), r"dini.solve\(problem, solver, x0, \*args\)"),
    "arguments by name": (
        lambda: dini.minimize(lambda x, a: a * square(x), jnp.ones(2), a=1.0),
        r"Arguments of the function.*dini.minimize\(fun, x0, a\)",
    ),
    "a tolerance of a linear solver": (lambda: dini.linear.CG(tol=1e-3), "CG has no argument 'tol'.*is rtol, relative"),
    "of another": (lambda: dini.linear.GMRES(atol=1e-3), "GMRES has no argument 'atol'.*is rtol, relative"),
    "a list": (lambda: dini.minimize(square, [1.0, 2.0]), r"is a list, .* write jnp.array\(\[1.0, 2.0\]\)"),
    "of a root": (lambda: dini.root(lambda x: jnp.array([x[0], x[1]]), (1.0, 2)), r"jnp.array\(\[1.0, 2.0\]\)"),
    "with a method": (lambda: dini.minimize(lambda x: x.sum() ** 2, [1.0]), "The error with the list: 'list' object"),
    "data of a quadratic program": (
        lambda: dini.conditions.quadratic_program(MATRIX, MATRIX),
        r"takes 0 .* 2 were given. It takes no data.*\(\(z, nu, lam\), \(Q, c\), \(E, d\), \(M, h\)\)",
    ),
    "data by name": (lambda: dini.conditions.quadratic_program(Q=MATRIX), "argument 'Q'. It takes no data"),
    "flat data": (
        lambda: dini.conditions.quadratic_program()((jnp.ones(2),) * 3, *[MATRIX] * 6),
        r"data of a quadratic program must be pairs, .*: given 6 arguments",
    ),
    "fewer of them": (
        lambda: dini.conditions.quadratic_program(equality=False, inequality=False)(
            (jnp.ones(2), None, None), jnp.eye(2), jnp.ones(2)
        ),
        r"\(Q, c\) must be a pair of a matrix and a vector: given float64\[2, 2\]",
    ),
    "SciPy's options": (lambda: minimized(options={"maxiter": 3}), r"solver=dini.BFGS\(max_steps=100\)"),
    "a method by name": (lambda: minimized(method="L-BFGS-B"), r"solver=dini.LBFGSB\(\)"),
    "of roots": (lambda: dini.root(square, 1.0, method="krylov"), r"solver=dini.NewtonKrylov\(\)"),
    "a solver by name": (lambda: minimized(solver="Nelder-Mead"), r"Write solver=dini.NelderMead\(\)"),
    "a solver's class": (lambda: minimized(solver=dini.LBFGS), r"class LBFGS. Write solver=dini.LBFGS\(\)"),
    "a solver in another place": (lambda: dini.minimize(square, jnp.ones(2), dini.LBFGS()), "is passed by keyword"),
    "in the start's": (lambda: dini.minimize(square, dini.LBFGS(), jnp.ones(2)), "is passed by keyword"),
    "a derivative": (lambda: minimized(jac=jax.grad(square)), r"value_and_gradient\(x, \*args\)"),
    "no start": (lambda: dini.minimize(square), r"needs a starting point.*dini.minimize\(fun, x0, \*args\)"),
    "nor a solver": (lambda: dini.solve(dini.Minimize(square), jnp.ones(2)), "needs a problem, a solver and a start"),
    "a start by another name": (lambda: dini.minimize(square, init_params=jnp.ones(2)), "dini calls it x0"),
    "the start first": (lambda: dini.minimize(jnp.ones(2), square), "The function comes first"),
    "an integer": (lambda: dini.minimize(square, jnp.arange(2)), r"floating-point .* given int64\[2\]. Use"),
    "nothing returned": (lambda: dini.minimize(lambda x: None, jnp.ones(2)), "Is a return missing"),
    "an integer returned": (lambda: dini.minimize(lambda x: jnp.sum(x > 0), 1.0), "Return a floating-point number"),
    "an array of one": (lambda: dini.minimize(lambda x: x, jnp.ones(1)), "jnp.squeeze"),
    "a factory of optax": (lambda: minimized(solver=optax.adam), r"solver=dini.OptaxSolver\(opt\)"),
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


NAMES = {
    "OSQP": (dini, r"module 'dini' has no attribute 'OSQP'. Write dini.quadratic_program\(Q=Q"),
    "ScipyMinimize": (dini, r"Write dini.minimize\(fun, x0\)"),
    "projection": (dini, r"dini.sets.Simplex\(\).project"),
    "BoxOSQP": (dini.solvers, "module 'dini.solvers' has no attribute 'BoxOSQP'. Write dini.quadratic_program"),
    "L1": (dini, "It is dini.penalties.L1"),
    "StrongWolfe": (dini, "It is dini.solvers.StrongWolfe"),
    "Simplex": (dini.penalties, "It is dini.sets.Simplex"),
    "prox_lasso": (dini.penalties, r"dini.penalties.L1\(strength\).prox"),
    "projection_simplex": (dini.sets, r"dini.sets.Simplex\(radius\).project"),
    "solve_cg": (dini.linear, r"solver=dini.linear.CG\(\)"),
    "cg": (dini.linear, r"Did you mean dini.linear.CG\?"),
    "minimise": (dini, "dini.minimize"),
    "walk": (dini, "has no attribute 'walk'$"),
    "__walk__": (dini, "has no attribute '__walk__'$"),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_hint_is_given_for_a_name(name):
    module, hint = NAMES[name]
    with pytest.raises(AttributeError, match=hint):
        getattr(module, name)


def test_what_names_of_other_libraries_are_written_as_exists():
    """Every name of dini in the explanations is one."""
    written = " ".join([*names._OTHER_LIBRARIES.values(), *arguments._THERE.values(), parts.NONLINEAR])
    found = set(re.findall(r"\bdini((?:\.\w+)+)", written))
    assert len(found) > 40
    for name in found:
        operator.attrgetter(name[1:])(dini)
    for solver in names._SCIPY.values():
        assert issubclass(getattr(dini, solver), Solver)


def test_every_end_has_its_explanation():
    assert set(ends.OF_SOLVES) == {status.name for status in dini.Status}
    assert set(ends.OF_DERIVATIVES) == {verdict.name for verdict in dini.certified.Verdict}


def test_a_callable_tree_is_a_start():
    """An error of the function's own is not blamed on it."""

    @jax.tree_util.register_dataclass
    @dataclasses.dataclass
    class Line:
        slope: jax.Array

        def __call__(self, t):
            return self.slope * t

    assert float(dini.minimize(lambda line: (line(2.0) - 6.0) ** 2, Line(jnp.array(1.0))).x.slope) == pytest.approx(3)
    with pytest.raises(TypeError, match=r"positional argument"):
        dini.minimize(lambda line: line(2.0, 1.0), Line(jnp.array(1.0)))


METHODS = {
    "run": (dini.LBFGS(), r"dini.minimize\(fun, x0, \*args, solver=LBFGS"),
    "init_state": (dini.Broyden(), r"dini.root\(fun, .*, or in your own loop state = solver.init\(dini.Root\(fun\)"),
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
