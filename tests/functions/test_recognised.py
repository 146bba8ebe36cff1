"""Functions that are made anew are recognised by the steps of their programs, and never mistaken for others."""

import functools
import gc
import weakref

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini
from dini.functions import hoist, recognised
from dini.solving import _solve

A, B = jnp.array([1.0, 2.0]), jnp.array([3.0, 5.0])


def loss(w, b):
    return jnp.sum((w - b) ** 2)


jitted = jax.jit(loss)


@jax.custom_jvp
def ruled(x):
    return x**2


ruled.defjvp(lambda primals, tangents: (ruled(*primals), 2 * primals[0] * tangents[0]))


@jax.custom_vjp
def reversed_rule(x):
    return x**2


reversed_rule.defvjp(lambda x: (x**2, x), lambda x, c: (2 * x * c,))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def scaled(factor, x):
    return 2.0 * x


scaled.defjvp(lambda factor, primals, tangents: (2.0 * primals[0], factor * tangents[0]))


def with_rule(factor):
    """Return a function with a rule that differs while the value does not."""

    @jax.custom_jvp
    def fun(x):
        return x**2

    fun.defjvp(lambda primals, tangents: (fun(*primals), factor * primals[0] * tangents[0]))
    return fun


def with_reverse_rule(factor):
    @jax.custom_vjp
    def fun(x):
        return x**2

    fun.defvjp(lambda x: (x**2, x), lambda x, c: (factor * x * c,))
    return fun


def program(fun):
    return hoist(fun, jnp.ones(2))


def on_host(fun):
    return lambda w: jax.pure_callback(fun, jax.ShapeDtypeStruct((2,), w.dtype), w)


def in_context(context, fun):
    with context:
        return program(fun)


#: made anew with another array in the closure, these are the same
SAME = {
    "plain": lambda b: lambda w: loss(w, b),
    "numpy": lambda b: lambda w: loss(w, np.asarray(b)),
    "jitted": lambda b: lambda w: jitted(w, b),
    "closures in closures": lambda b: (lambda inner: lambda w: inner(w) + jnp.sum(w))(lambda w: loss(w, b)),
    "partial": lambda b: functools.partial(loss, b=b),
    "activations": lambda b: lambda w: jax.nn.relu(w - b) + jax.nn.softplus(w) + jax.nn.logsumexp(w) + jax.nn.gelu(w),
    "custom_jvp": lambda b: lambda w: ruled(w - b),
    "custom_vjp": lambda b: lambda w: reversed_rule(w - b),
    "static argument of a rule": lambda b: lambda w: scaled(2.0, w - b),
    "scan": lambda b: lambda w: jax.lax.scan(lambda c, _: (c * b, None), w, None, length=3)[0],
    "while": lambda b: lambda w: jax.lax.while_loop(lambda c: c[0] < 9.0, lambda c: c * 2 + b, w),
    "cond": lambda b: lambda w: jax.lax.cond(w[0] > 0, lambda v: v + b, lambda v: v - b, w),
    "vmap": lambda b: lambda w: jax.vmap(lambda u, v: u * v)(w, b),
    "checkpoint": lambda b: jax.checkpoint(lambda w: jnp.sin(w * b)),
    "gradient": lambda b: jax.grad(lambda w: loss(w, b)),
    "equinox": lambda b: (lambda mlp: lambda w: mlp(w) + b)(eqx.nn.MLP(2, 2, 3, 1, key=jax.random.key(int(b[0])))),
    "a solve": lambda b: lambda w: dini.root(lambda v: v**3 + v - b * w, jnp.zeros(2)).x,
    "a linear solve": lambda b: lambda w: dini.linear.solve(lambda v: 3 * v + b * jnp.sum(v), w, structure=None),
    "a penalty": lambda b: (
        lambda w: dini.minimize(lambda v: loss(v, b * w), jnp.zeros(2), penalty=dini.penalties.L1(0.1)).x
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_function_over_other_arrays_is_recognised(name):
    one, other = (program(SAME[name](b)) for b in (A, B))
    assert one == other
    assert hash(one) == hash(other)


def number(value):
    return lambda w: w * value


#: pairs that differ in one thing alone
DIFFERENT = {
    "a number": (number(2.0), number(3.0)),
    "the sign of zero": (lambda w: w / 0.0, lambda w: w / -0.0),
    "a number of numpy's": (number(np.float64(2.0)), number(np.float64(3.0))),
    "a whole number": (lambda w: w**2, lambda w: w**3),
    "an axis": (lambda w: jnp.sum(jnp.outer(w, w), 0), lambda w: jnp.sum(jnp.outer(w, w), 1)),
    "a type": (lambda w: w * A.astype(np.float16), lambda w: w * A),
    "a weak type": (number(jnp.asarray(2.0)), number(jnp.asarray(2.0, jnp.asarray(2.0).dtype))),
    "order": (lambda w: w - A, lambda w: A - w),
    "one array twice": (lambda w: w * A + A, lambda w: w * A + B),
    "order of outputs": (lambda w: (w, 2 * w), lambda w: (2 * w, w)),
    "names of outputs": (lambda w: {"a": w}, lambda w: {"b": w}),
    "what is unused": (lambda w: (jnp.sin(w), w)[1], lambda w: (jnp.cos(w), w)[1]),
    "length of a loop": tuple(
        (lambda w, n=n: jax.lax.scan(lambda c, _: (c * 2, None), w, None, length=n)[0]) for n in (3, 4)
    ),
    "number in a loop": tuple(
        (lambda w, n=n: jax.lax.scan(lambda c, _: (c * n, None), w, None, length=3)[0]) for n in (2.0, 3.0)
    ),
    "condition of a loop": tuple(
        (lambda w, n=n: jax.lax.while_loop(lambda c: c[0] < n, lambda c: c * 2, w)) for n in (9.0, 99.0)
    ),
    "a branch": tuple((lambda w, n=n: jax.lax.cond(w[0] > 0, lambda v: v, lambda v: v * n, w)) for n in (2.0, 3.0)),
    "number in jit": tuple(jax.jit(number(n)) for n in (2.0, 3.0)),
    "array in jit": tuple(jax.jit(number(np.array([n, n]))) for n in (2.0, 3.0)),
    "rule": (with_rule(2.0), with_rule(3.0)),
    "reverse rule": (with_reverse_rule(2.0), with_reverse_rule(3.0)),
    "rule in jit": (jax.jit(with_rule(2.0)), jax.jit(with_rule(3.0))),
    "rule's static argument": (lambda w: scaled(2.0, w), lambda w: scaled(3.0, w)),
    "on the host": (on_host(np.sin), on_host(np.cos)),
    "made anew on the host": (on_host(lambda w: w), on_host(lambda w: w)),
    "debug": (lambda w: (jax.debug.callback(print, w), w)[1], lambda w: (jax.debug.callback(repr, w), w)[1]),
    "a solve": tuple((lambda w, n=n: dini.root(lambda v: v**n + v - w, jnp.zeros(2)).x) for n in (3, 5)),
    "a solve's solver": tuple(
        (lambda w, s=s: dini.root(lambda v: v**3 + v - w, jnp.zeros(2), solver=s).x)
        for s in (dini.Newton(), dini.Broyden())
    ),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_differs_in_one_thing_is_another(name):
    assert program(DIFFERENT[name][0]) != program(DIFFERENT[name][1])


def test_precision_is_part_of_a_program():
    product = lambda w: jnp.ones((2, 2)) @ w
    plain = program(product)
    assert plain == program(product)
    assert plain != in_context(jax.default_matmul_precision("highest"), product)


def test_answers_and_derivatives_of_functions_made_anew():
    def center(b, power=2):
        return dini.minimize(lambda w: jnp.sum((w - b) ** power), jnp.zeros(2)).x

    np.testing.assert_allclose(center(A), A, rtol=1e-6)
    before = _solve._cache_size()
    for b in (A, B, 2 * A):
        np.testing.assert_allclose(center(b), b, rtol=1e-6)
        np.testing.assert_allclose(jax.jacobian(center)(b), np.eye(2), atol=1e-6)
        np.testing.assert_allclose(jax.jit(center)(b), b, rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(center)(jnp.stack([A, B])), [A, B], rtol=1e-6)
    assert _solve._cache_size() == before
    # a number, not an array: another program
    one, other = (lambda w, s=s: jnp.sum((w - A) ** 2) + s * jnp.sum(w**2) for s in (1.0, 3.0))
    np.testing.assert_allclose(dini.minimize(one, jnp.zeros(2)).x, A / 2, rtol=1e-6)
    np.testing.assert_allclose(dini.minimize(other, jnp.zeros(2)).x, A / 4, rtol=1e-6)
    # which array is used where
    for first, second in ((A, B), (B, A), (A, A)):
        x = dini.root(lambda w: first * w - second, jnp.zeros(2)).x  # noqa: B023 (this is the point)
        np.testing.assert_allclose(x, second / first, rtol=1e-6)
    b = jnp.array([4.0, 8.0])
    for slope in (A, B):
        x = dini.linear.solve(lambda w: slope * w, b)  # noqa: B023
        np.testing.assert_allclose(x, b / slope, rtol=1e-6)
        grad = jax.grad(lambda s: jnp.sum(dini.linear.solve(lambda w: s * w, b)))(slope)
        np.testing.assert_allclose(grad, -b / slope**2, rtol=1e-6)


@pytest.mark.thorough
def test_one_function_at_several_shapes_and_configurations():
    fun = lambda w: jnp.sum((w - jnp.arange(1.0, 1 + w.size)) ** 2)
    for _ in range(4):
        for size in (2, 3):
            np.testing.assert_allclose(dini.minimize(fun, jnp.zeros(size)).x, np.arange(1, 1 + size), rtol=1e-6)
    before = _solve._cache_size()
    for size in (2, 3, 2, 3):
        dini.minimize(fun, jnp.zeros(size))
    assert _solve._cache_size() == before
    with jax.enable_x64(False):
        assert dini.minimize(fun, jnp.zeros(2)).x.dtype == np.float32
    assert dini.minimize(fun, jnp.zeros(2)).x.dtype == np.float64
    # the number of lanes is read when a function is traced
    lanes = lambda w: jnp.sum((w - jax.lax.axis_size("i")) ** 2)
    for count in (2, 3, 2, 3, 3):
        x = jax.vmap(lambda w: dini.minimize(lanes, w).x, axis_name="i")(jnp.zeros((count, 1)))
        np.testing.assert_allclose(x, np.full((count, 1), count), rtol=1e-6)


def test_a_function_that_comes_again_is_not_traced_again_unless_it_reads_something_else():
    box = {"b": A}

    def fun(w):
        count[0] += 1
        return loss(w, box["b"])

    count = np.zeros(100)  # too large to be watched
    for _ in range(4):
        dini.minimize(fun, jnp.zeros(2))
    seen = count[0]
    dini.minimize(fun, jnp.zeros(2))
    assert count[0] == seen
    box["b"] = B
    np.testing.assert_allclose(dini.minimize(fun, jnp.zeros(2)).x, B, rtol=1e-6)
    assert count[0] > seen


@pytest.mark.thorough
def test_arrays_are_forgotten_with_their_functions():
    class Held:
        """A method of an object that holds itself."""

        def __init__(self, b):
            self.b, self.me = b, self

        def loss(self, w):
            return loss(w, self.b)

    def gone(make, times):
        b = jnp.array([7.0, 8.0]) + times
        fun = make(b)
        for _ in range(times):
            dini.minimize(fun, jnp.zeros(2))
        reference = weakref.ref(b)
        del b, fun
        gc.collect()
        return reference() is None

    for times in (1, 4):
        assert gone(lambda b: lambda w: loss(w, b), times)
        assert gone(lambda b: Held(b).loss, times)
        assert gone(lambda b: functools.partial(loss, b=b), times)


def test_memories_are_bounded():
    for memory in (recognised._programs, recognised._known, recognised._seen):
        assert len(memory) <= memory._most
    memory = recognised._Memory(2)
    for i in range(3):
        memory[i] = i
    assert list(memory) == [1, 2]


def test_a_linear_solver_that_is_no_tree_is_asked_all_the_same():
    class Halved:
        def __call__(self, matvec, b, structure):
            return b / 2, jnp.zeros((), bool)

        def accept(self, eps):
            return eps**0.5

    for _ in range(2):
        np.testing.assert_allclose(dini.linear.solve(lambda w: 2 * w, A, solver=Halved()), A / 2)
        tangent = dini.root_jvp(lambda x, a: 2 * x - a, A / 2, (A,), (B,), Halved())
        np.testing.assert_allclose(tangent, B / 2)
