"""What a function reads besides its arguments is part of what is solved; objects are trees that can be updated."""

import collections
import functools
import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dini
from dini import penalties, sets

STRENGTHS = (0.1, 1.0, 10.0)
strength = 0.0
table = {"strength": 0.0}
vector = np.zeros(2)
settings = types.ModuleType("settings")
settings.strength = 0.0


def squares(w):
    return jnp.sum((w - 1.0) ** 2)


def penalty(w):
    return table["strength"] * jnp.sum(w**2)


def reads_global(w):
    return squares(w) + strength * jnp.sum(w**2)


def reads_numbers_only(w):
    return jnp.sum((w - 1.0) ** 2) + strength * jnp.sum(w**2)


def reads_a_module(w):
    return jnp.sum((w - 1.0) ** 2) + settings.strength * jnp.sum(w**2)


def reads_through_a_helper(w):
    return squares(w) + penalty(w)


times_strength = jax.vmap(lambda u: strength * u**2)


def reads_through_a_transformation(w):
    return squares(w) + jnp.sum(times_strength(w))


def reads_array(w):
    return squares(w) + vector[0] * jnp.sum(w**2)


class Model:
    def __init__(self):
        self.strength = 0.0
        self.fitted = None
        self.calls = 0

    @property
    def twice(self):
        return 2 * self.strength

    def penalty(self, w):
        return 0.5 * self.twice * jnp.sum(w**2)

    def loss(self, w):
        self.calls += 1
        return squares(w) + self.penalty(w)


class Ridge:
    factor = 0.0

    def __init__(self):
        self.strength = 0.0

    def __call__(self, w):
        return self.strength * jnp.sum(w**2)

    def through_a_global(self, w):
        return self.helped(w)

    def helped(self, w):
        return strength * jnp.sum(w**2)

    @classmethod
    def of_the_class(cls, w):
        return cls.factor * jnp.sum(w**2)

    @staticmethod
    def static(w):
        return strength * jnp.sum(w**2)


def raised(power, w):
    return strength * jnp.sum(w**power)


@jax.custom_jvp
def with_a_rule(w):
    return strength * jnp.sum(w**2)


@with_a_rule.defjvp
def _(primals, tangents):
    return with_a_rule(*primals), 2 * strength * jnp.vdot(primals[0], tangents[0])


class Slots:
    __slots__ = ("strength",)


class Config:
    """Its values are in a dictionary, as in ml_collections."""

    def __init__(self, **values):
        object.__setattr__(self, "_values", values)

    def __getattr__(self, name):
        try:
            return object.__getattribute__(self, "_values")[name]
        except KeyError as error:
            raise AttributeError(name) from error

    def __setattr__(self, name, value):
        self._values[name] = value


class Dictionary(dict):
    __getattr__ = dict.__getitem__


def with_an_attribute(w):
    return squares(w) + with_an_attribute.strength * jnp.sum(w**2)


ridge, quadratic = Ridge(), functools.partial(raised, 2)
slots, config, dictionary = Slots(), Config(strength=0.0), Dictionary(strength=0.0)
ordered, queue = collections.OrderedDict(strength=0.0), collections.deque([0.0])
looked_up = ordered.get


def sees_what_functions_are_made_of():
    """What a loss may read that is neither a number nor a function of this module, and how it changes."""
    of_global = lambda value: globals().update(strength=value)
    return {
        "object that is called": (lambda w: squares(w) + ridge(w), lambda value: setattr(ridge, "strength", value)),
        "loss that is an object": (Sum(), lambda value: setattr(ridge, "strength", value)),
        "class": (lambda w: squares(w) + Ridge.factor * jnp.sum(w**2), lambda value: setattr(Ridge, "factor", value)),
        # with nothing beside it that could change, a reading is remembered
        "class alone": (
            lambda w: jnp.sum((w - 1.0) ** 2) + Ridge.factor * jnp.sum(w**2),
            lambda value: setattr(Ridge, "factor", value),
        ),
        "class method": (
            lambda w: jnp.sum((w - 1.0) ** 2) + Ridge.of_the_class(w),
            lambda value: setattr(Ridge, "factor", value),
        ),
        "method of a dictionary": (
            lambda w: jnp.sum((w - 1.0) ** 2) + looked_up("strength") * jnp.sum(w**2),
            lambda value: ordered.update(strength=value),
        ),
        "its objects": (
            lambda w: squares(w) + ridge.factor * jnp.sum(w**2),
            lambda value: setattr(Ridge, "factor", value),
        ),
        "method": (lambda w: squares(w) + kept.penalty(w), lambda value: setattr(kept, "strength", value)),
        "static method": (lambda w: squares(w) + Ridge.static(w), of_global),
        "method of a method": (lambda w: squares(w) + ridge.through_a_global(w), of_global),
        "partial": (lambda w: squares(w) + quadratic(w), of_global),
        "custom_jvp": (lambda w: squares(w) + with_a_rule(w), of_global),
        "slots": (
            lambda w: squares(w) + slots.strength * jnp.sum(w**2),
            lambda value: setattr(slots, "strength", value),
        ),
        "__getattr__": (
            lambda w: squares(w) + config.strength * jnp.sum(w**2),
            lambda value: setattr(config, "strength", value),
        ),
        "dictionary with attributes": (
            lambda w: squares(w) + dictionary.strength * jnp.sum(w**2),
            lambda value: dictionary.update(strength=value),
        ),
        "ordered dictionary": (
            lambda w: squares(w) + ordered["strength"] * jnp.sum(w**2),
            lambda value: ordered.update(strength=value),
        ),
        "queue": (lambda w: squares(w) + queue[0] * jnp.sum(w**2), lambda value: queue.__setitem__(0, value)),
        "its own attribute": (with_an_attribute, lambda value: setattr(with_an_attribute, "strength", value)),
        "attribute of another function": (
            lambda w: squares(w) + with_an_attribute.strength * jnp.sum(w**2),
            lambda value: setattr(with_an_attribute, "strength", value),
        ),
    }


class Sum:
    def __call__(self, w):
        return squares(w) + ridge(w)


def solutions(fun, change):
    answers = []
    for value in STRENGTHS:
        change(value)
        answers.append(float(dini.minimize(fun, jnp.zeros(2)).x[0]))
    return answers


@pytest.mark.thorough
def test_a_function_that_reads_something_else_is_another_function():
    cell = 0.0

    def reads_cell(w):
        return squares(w) + cell * jnp.sum(w**2)

    def reads_a_number_in_a_cell(w):
        return jnp.sum((w - 1.0) ** 2) + cell * jnp.sum(w**2)

    def set_cell(value):
        nonlocal cell
        cell = value

    def set_array(value):
        vector[0] = value

    model = Model()
    changes = {
        reads_global: lambda value: globals().update(strength=value),
        reads_numbers_only: lambda value: globals().update(strength=value),
        reads_through_a_helper: lambda value: table.update(strength=value),
        reads_through_a_transformation: lambda value: globals().update(strength=value),
        reads_array: set_array,
        reads_a_module: lambda value: setattr(settings, "strength", value),
        reads_cell: set_cell,
        reads_a_number_in_a_cell: set_cell,
        model.loss: lambda value: setattr(model, "strength", value),
    }
    for fun, change in changes.items():
        np.testing.assert_allclose(solutions(fun, change), 1 / (1 + np.array(STRENGTHS)), rtol=1e-6)
    # a problem that was made before the change, and a solver that is a function
    problem = dini.Minimize(reads_global)
    closed_form = lambda problem, x, *args: jnp.full(2, 1 / (1 + strength))
    for value in STRENGTHS:
        globals().update(strength=value)
        for solver in (dini.LBFGS(), closed_form):
            np.testing.assert_allclose(dini.solve(problem, solver, jnp.zeros(2)).x, 1 / (1 + value), rtol=1e-6)


target = jnp.array([1.0, 2.0])
large, nested, kept = np.zeros(100), {"a": [0.0]}, Model()


def distance(w):
    return jnp.sum((w - target) ** 2)


def pulled(center):
    factor = 2.0

    def local(w):
        return factor * jnp.sum((w - center) ** 2)

    return lambda w: local(w) + distance(w)


def test_a_function_that_is_made_anew_at_each_call_is_the_same():
    """It compiles once where all that it reads is the same, and known."""
    from dini.solving import _solve

    made = [
        lambda: lambda w: jnp.sum((w - target) ** 2),
        lambda: lambda w, k=2: jnp.sum(jax.vmap(lambda u: u**k)(w - strength)),
        lambda: lambda w: optax.l2_loss(w, target).sum() + math.pi * distance(w),
        lambda: lambda w: distance(w) + nested["a"][0],
        lambda: lambda w: jnp.sum(jax.vmap(lambda u: u**2)(w)) + jnp.sum(times_strength(w)),
        lambda: pulled(2.0),
    ]
    for make in made:
        dini.minimize(make(), jnp.zeros(2))
        before = _solve._cache_size()
        for _ in range(2):
            dini.minimize(make(), jnp.zeros(2))
        assert _solve._cache_size() == before
    # another number in a function that a function calls
    for center in (2.0, 4.0, 2.0):
        x = dini.minimize(pulled(center), jnp.zeros(2)).x
        np.testing.assert_allclose(x, (2 * center + target) / 3, rtol=1e-6)
    assert _solve._cache_size() == before + 1


@pytest.mark.thorough  # seconds of compilation: `.ci/run` runs it
def test_a_function_that_is_made_anew_sees_what_has_changed():
    """Also what is not looked into: then another object is another function."""

    def solved(fun):
        return float(dini.minimize(fun, jnp.zeros(2)).x[0])

    for value in STRENGTHS:
        large[50], nested["a"][0], kept.strength, table["strength"] = value, value, value, value
        settings.strength = value
        want = 1 / (1 + value)
        for fun in (
            lambda w: squares(w) + large[50] * jnp.sum(w**2),
            lambda w: squares(w) + nested["a"][0] * jnp.sum(w**2),
            lambda w: squares(w) + kept.strength * jnp.sum(w**2),
            lambda w: squares(w) + settings.strength * jnp.sum(w**2),
            lambda w: squares(w) + value * jnp.sum(w**2),  # noqa: B023 (this is the point)
            lambda w: squares(w) + penalty(w),
            lambda w, strength=value: squares(w) + strength * jnp.sum(w**2),
            lambda w: squares(w) + jnp.asarray(large)[50] * jnp.sum(w**2),
        ):
            np.testing.assert_allclose(solved(fun), want, rtol=1e-6)
    draws = {solved(lambda w: jnp.sum((w - np.random.rand()) ** 2)) for _ in range(3)}
    assert len(draws) == 3

    def imports(w):
        import random

        return jnp.sum((w - random.random()) ** 2)

    again = types.FunctionType(imports.__code__, imports.__globals__)
    assert solved(imports) != solved(again)


def test_a_decorated_solver_compiles_when_it_is_called_again(caplog):
    """Outside of jit, with its derivative; functions made anew that read other arrays are not compiled as a whole."""
    X = np.array([[1.0, 0.0], [0.0, 2.0]])
    gram = jnp.asarray(X.T @ X)

    def ridge(matrix):
        @dini.custom_root(lambda x, y, lam: matrix @ x - X.T @ y + lam * x)
        def solver(init, y, lam):
            return jnp.linalg.solve(matrix + lam * jnp.eye(2), X.T @ y)

        return solver

    y = jnp.array([2.0, 5.0])
    run = lambda solver: jax.jacobian(solver, argnums=2)(None, y, 1.0)
    one = ridge(gram)
    for _ in range(3):
        np.testing.assert_allclose(run(one), [-0.5, -0.4], rtol=1e-12)
    with jax.log_compiles():
        caplog.clear()
        np.testing.assert_allclose(run(one), [-0.5, -0.4], rtol=1e-12)
        assert "ompil" not in caplog.text
        run(ridge(gram + 0))
        assert "_differentiable" not in caplog.text


def gap(x, a):
    return x**3 + x - a


def halved(x, a):
    return 0.5 * (x + a / x)


@dini.custom_root(jax.grad(lambda x, a: x**3 / 3 - a * x))
def root_of_a_gradient(init, a):
    return jnp.sqrt(a)


@dini.custom_fixed_point(halved)
def square_root(init, a):
    return jnp.sqrt(a)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "run",
    [
        lambda: jax.grad(square_root, argnums=1)(None, 4.0),
        lambda: jax.grad(root_of_a_gradient, argnums=1)(None, 4.0),
        lambda: dini.root_jvp(gap, 1.0, (2.0,), (1.0,)),
        lambda: dini.root_vjp(gap, 1.0, (2.0,), 1.0)[0],
        lambda: dini.root_jvp(lambda x, a: x**3 + x - a, 1.0, (2.0,), (1.0,)),
    ],
    ids=["custom_fixed_point", "custom_root of a gradient", "root_jvp", "root_vjp", "made anew"],
)
def test_products_outside_of_jit_compile_when_called_again(run, caplog):
    for _ in range(3):
        assert run() == pytest.approx(0.25, rel=1e-12)
    with jax.log_compiles():
        caplog.clear()
        run()
        assert "ompil" not in caplog.text


@pytest.mark.by_default(without=["loss that is an object", "custom_jvp", "its own attribute"])
@pytest.mark.parametrize("name", sees_what_functions_are_made_of())
def test_what_functions_are_made_of_is_looked_into(name):
    from dini.solving import _solve

    fun, change = sees_what_functions_are_made_of()[name]
    np.testing.assert_allclose(solutions(fun, change), 1 / (1 + np.array(STRENGTHS)), rtol=1e-6)
    before = _solve._cache_size()
    dini.minimize(fun, jnp.zeros(2))
    assert _solve._cache_size() == before


def test_nothing_compiles_again_where_nothing_that_is_read_has_changed():
    from dini.solving import _solve

    traces, table_of_calls, model = [], {"calls": 0}, Model()
    settings = {"powers": (2, 3), "of": [1.0, {"a": 2.0}]}

    def fun(w):
        traces.append(1)
        table_of_calls["calls"] += 1
        return squares(w) * strength + penalty(w) * settings["of"][0]

    for step in range(3):
        model.fitted = dini.minimize(model.loss, jnp.zeros(2)).x  # not read by the loss
        dini.minimize(fun, jnp.zeros(2))
        if step == 0:
            first = _solve._cache_size()
    assert _solve._cache_size() == first


@pytest.mark.thorough  # seconds of compilation: `.ci/run` runs it
def test_penalties_problems_and_solvers_are_trees():
    """Derivatives in all of them, and updates of them, are made without their constructors' checks."""

    def total(penalty):
        x = dini.minimize(lambda w: jnp.sum((w - 3.0) ** 2), jnp.zeros(2), penalty=penalty).x
        return jnp.sum(x)

    # the soft threshold moves each element by half the strength
    for gradient in (jax.grad(total), jax.jacrev(total), jax.jacfwd(total)):
        slope = gradient(penalties.L1(0.1))
        assert isinstance(slope, penalties.L1)
        np.testing.assert_allclose(slope.strength, -1.0)
    problem = dini.Minimize(lambda w: jnp.sum((w - 3.0) ** 2), penalty=penalties.L1(0.1))
    slope = jax.grad(lambda p: jnp.sum(dini.solve(p, dini.ProximalGradient(), jnp.zeros(2)).x))(problem)
    np.testing.assert_allclose(slope.penalty.strength, -1.0)
    # three steps of gradient descent, 1 - (1 - 2 eta)^3
    end = lambda solver: (
        dini.minimize(lambda x: (x - 1.0) ** 2, 0.0, solver=solver, differentiation=dini.Unrolled(steps=3)).x
    )
    np.testing.assert_allclose(jax.grad(end)(dini.GradientDescent(step_size=0.1)).step_size, 6 * 0.8**2)
    slope = jax.grad(lambda solver: dini.fixed_point(jnp.cos, 1.0, solver=solver).x)(dini.Anderson())
    assert slope.mixing == 0
    for solver in (dini.Anderson(), dini.ADMM(), dini.Dogleg(), penalties.MCP(0.1), penalties.Huber(0.1, 1.0)):
        assert type(jax.tree.map(lambda _: None, solver)) is type(solver)


def test_an_update_that_leaves_the_domain_is_not_silent():
    negative = jax.tree.map(lambda s: -s, penalties.L1(0.1))
    assert np.all(np.isnan(negative.prox(jnp.ones(2), 1.0)))
    with pytest.raises(dini.SolveError):
        dini.minimize(squares, jnp.zeros(2), penalty=negative)
    ball = jax.tree.map(lambda r: -r, sets.L2Ball(1.0))
    assert np.all(np.isnan(ball.project(jnp.ones(2))))


@pytest.mark.by_default(1)
@pytest.mark.parametrize("solver", [dini.LBFGS(), dini.Newton(), dini.GradientDescent(), dini.OptaxSolver])
def test_a_loop_by_hand_has_the_same_door(solver):
    solver = dini.OptaxSolver(optax.sgd(0.1)) if solver is dini.OptaxSolver else solver
    kept = dini.Minimize(squares, constraint=sets.Simplex())
    if not solver.composite:
        with pytest.raises(TypeError, match="cannot handle the constraint Simplex"):
            solver.init(kept, jnp.ones(2))
    with pytest.raises(TypeError, match=r"real unknowns: given complex128\[2\]"):
        solver.init(dini.Minimize(lambda z: jnp.sum(jnp.abs(z) ** 2)), jnp.ones(2, complex))
    with pytest.raises(TypeError, match="floating-point or complex array"):
        solver.init(dini.Minimize(squares), jnp.arange(2))
    problem = dini.Minimize(lambda x: (x - 1.0) ** 2)
    x, state, step = 2.0, solver.init(problem, 2.0), jax.jit(solver.step)
    for _ in range(60):
        x, state = step(problem, x, state)
    np.testing.assert_allclose(x, 1.0, atol=1e-4)


@pytest.mark.thorough
def test_steps_that_are_counted_are_no_failure():
    solver = dini.GradientDescent(step_size=0.1)
    five = dini.Unrolled(steps=5)
    end = lambda a: dini.minimize(lambda x, a: (x - a) ** 2, 0.0, a, solver=solver, differentiation=five)
    solution = end(1.0)
    assert solution.success
    assert solution.stats.steps == 5
    np.testing.assert_allclose(solution.x, 1 - 0.8**5)
    np.testing.assert_allclose(jax.grad(lambda a: end(a).x)(1.0), 1 - 0.8**5)
    np.testing.assert_allclose(jax.jit(jax.vmap(jax.grad(lambda a: end(a).x)))(jnp.ones(2)), 1 - 0.8**5)
    # another end is one
    lost = lambda a: dini.minimize(lambda x, a: a * x**1.5, 1.0, a, solver=solver, differentiation=five)
    with pytest.raises(dini.SolveError, match="NONFINITE"):
        lost(100.0)


def mixed(d):
    return jnp.sum((d["a"] - 1) ** 2)


PAIR = {"a": jnp.zeros(2), "b": jnp.zeros(1)}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: dini.minimize(squares, jnp.zeros(2), differentiation=False), TypeError, "differentiation must be"),
        (lambda: dini.minimize(squares, jnp.zeros(2), penalty=lambda x, e: x), TypeError, r"penalties\.Custom"),
        (lambda: dini.minimize(squares, jnp.zeros(2), penalty=0.3), TypeError, "penalty must be .* given 0.3"),
        (lambda: dini.minimize(squares, jnp.zeros(2), constraint=lambda x: x), TypeError, r"sets\.Custom"),
        (lambda: dini.minimize(mixed, PAIR, constraint=sets.Box({"a": 0.0}, 1.0)), ValueError, "lower of Box must be"),
        (
            lambda: dini.minimize(mixed, PAIR, constraint=sets.Box({"a": 0.0, "b": None}, 1.0)),
            ValueError,
            "where there is no bound",
        ),
        (lambda: dini.minimize(mixed, {"a": jnp.zeros(2), "b": jnp.tanh}), TypeError, r"init\['b'\] must be an array"),
        (lambda: dini.root(lambda x: x, None, solver=dini.Bisection(-1.0, 1.0)), TypeError, "init must be a starting"),
        (
            lambda: dini.custom_root(lambda x, a: x - a)(lambda init, a: np.asarray(a))(None, jnp.ones(2)),
            TypeError,
            "jax.pure_callback",
        ),
    ],
)
def test_messages_name_the_argument(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("point", [jnp.array([3, 1, -1, 0]), np.array([3, 1, -1, 0]), jnp.array([True, False, True])])
def test_integers_are_points(point):
    """A projection or a proximal point of integers is not one of integers."""
    as_floats = jnp.asarray(point, float)
    for part in (
        sets.Box(-0.5, 0.5),
        sets.Simplex(),
        sets.L1Ball(1.5),
        sets.L2Ball(1.5),
    ):
        np.testing.assert_array_equal(part.project(point), part.project(as_floats))
        assert part.project(point).dtype == as_floats.dtype
    for part in (penalties.L1(0.3), penalties.Ridge(0.3), penalties.GroupLasso(0.3)):
        np.testing.assert_array_equal(part.prox(point, 1.0), part.prox(as_floats, 1.0))
        np.testing.assert_array_equal(part.value(point), part.value(as_floats))
