"""Objectives with the nonzeros of their Hessian: Newton's method forms its matrices of them, derivatives are right."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini
from dini.linear import Pattern, Sparse

# more colors than Newton's method forms a Hessian anew for, and more unknowns than a dense matrix is taken for
SIZE, REACH = 48, 5
PATTERN = Pattern.banded(SIZE, REACH, REACH)
ROWS, COLUMNS = PATTERN.rows, PATTERN.columns
NEIGHBORS = np.bincount(PATTERN.rows) - 1.0
TARGET = np.random.default_rng(0).normal(size=SIZE)


def value(x, scale, target):
    """Springs, some quartic, to a target and between neighbors up to REACH places away."""
    x = scale * x
    between = sum(jnp.sum((x[k:] - x[:-k]) ** 2) for k in range(1, REACH + 1))
    return 0.5 * jnp.sum((x - target) ** 2) + 0.25 * jnp.sum(x**4) + 0.5 * between


class Chain:
    """The same with derivatives by hand; ``wrong`` multiplies the Hessian."""

    def __init__(self, target, wrong=1.0):
        self.target, self.wrong, self.asked = target, wrong, []

    def __call__(self, x, scale):
        return value(x, scale, self.target)

    def value_and_gradient(self, x, scale):
        return jax.value_and_grad(value)(x, scale, self.target)

    def hessian_nonzeros(self, x, scale):
        self.asked.append(x.shape)
        diagonal = 1 + 3 * (scale * x) ** 2 + NEIGHBORS
        return (self.wrong * scale**2 * jnp.where(ROWS == COLUMNS, diagonal[ROWS], -1)).astype(x.dtype)


class ChainTree(eqx.Module):
    target: jax.Array
    activation: object = jnp.tanh

    def __call__(self, x, scale):
        return Chain(self.target)(x, scale)

    def value_and_gradient(self, x, scale):
        return Chain(self.target).value_and_gradient(x, scale)

    def hessian_nonzeros(self, x, scale):
        return Chain(self.target).hessian_nonzeros(x, scale)


NEWTON = dini.Newton(linear_solver=Sparse(PATTERN))


def minimum(fun, scale, solver=NEWTON, like=TARGET):
    return dini.minimize(fun, jnp.zeros_like(like) + 2 / scale, scale, solver=solver)


def test_the_nonzeros_are_those_of_the_hessian():
    x = jnp.linspace(-1.0, 1.0, SIZE)
    dense = jax.hessian(value)(x, 0.7, TARGET)
    np.testing.assert_allclose(Chain(TARGET).hessian_nonzeros(x, 0.7), dense[ROWS, COLUMNS], atol=1e-12)


@pytest.mark.parametrize("kind", [Chain, ChainTree])
def test_solution_and_derivatives(kind):
    """Both are those of the condition, after the steps that products with the Hessian take."""

    def solved(scale, target):
        found = minimum(kind(target), scale)
        return found.x, (found.x, found.stats.steps)

    @jax.jit
    def all_of_them(scale, target):
        by_products = minimum(lambda x, scale: value(x, scale, target), scale)
        return jax.jacobian(solved, (0, 1), has_aux=True)(scale, target), by_products.x, by_products.stats.steps

    ((by_scale, by_target), (x, steps)), other, other_steps = all_of_them(1.5, TARGET)
    np.testing.assert_allclose(jax.grad(value)(x, 1.5, TARGET), 0, atol=1e-7)
    np.testing.assert_allclose(x, other, atol=1e-9)
    assert steps == other_steps
    hessian = jax.hessian(value)(x, 1.5, TARGET)
    cross = jax.jacobian(jax.grad(value), (1, 2))(x, 1.5, TARGET)
    np.testing.assert_allclose(by_scale, -jnp.linalg.solve(hessian, cross[0]), atol=1e-9)
    np.testing.assert_allclose(by_target, -jnp.linalg.solve(hessian, cross[1]), atol=1e-9)


def test_products_are_not_taken(monkeypatch):
    """A step's matrix comes from the method alone."""
    taken, compress = [], Pattern.compress
    monkeypatch.setattr(Pattern, "compress", lambda *a: taken.append(1) or compress(*a))

    def traced(fun):
        problem = dini.Minimize(fun)
        jax.make_jaxpr(lambda x, state: NEWTON.step(problem, x, state, 1.5))(TARGET, NEWTON.init(problem, TARGET, 1.5))
        return len(taken)

    chain = Chain(TARGET)
    assert traced(chain) == 0
    assert chain.asked
    assert traced(lambda x, scale: value(x, scale, TARGET)) > 0


@pytest.mark.parametrize("wrong", [0.7, 3.0])
def test_wrong_nonzeros_cost_steps(wrong):
    """They change neither the minimum nor the derivative."""

    def solved(target, wrong):
        found = minimum(Chain(target, wrong), 1.5)
        return found.x, found.stats.steps

    both = jax.jit(lambda t, wrong: jax.jvp(lambda t: solved(t, wrong), (t,), (t,), has_aux=True))
    (exact, moved, few), (other, other_moved, many) = both(TARGET, 1.0), both(TARGET, wrong)
    np.testing.assert_allclose(other, exact, atol=1e-6)
    np.testing.assert_allclose(other_moved, moved, atol=1e-6)
    assert many > few


def test_a_batch_in_other_units_and_single_precision():
    """Lanes of unknowns a million times smaller and larger, and one of NaN, which alone fails."""
    scales = jnp.array([1e-6, 1.0, 1e6, jnp.nan])
    found = jax.jit(jax.vmap(lambda s: dini.minimize(Chain(TARGET), 2 / s * jnp.ones(SIZE), s, solver=NEWTON,
                                                     on_failure="ignore")))(scales)  # fmt: skip
    want = minimum(Chain(TARGET), 1.0).x
    np.testing.assert_allclose(found.x[:3] * scales[:3, None], jnp.broadcast_to(want, (3, SIZE)), atol=1e-8)
    assert found.success.tolist() == [True, True, True, False]
    single = TARGET.astype(jnp.float32)
    got = minimum(Chain(single), jnp.float32(1.0), like=single)
    assert got.x.dtype == jnp.float32
    np.testing.assert_allclose(got.x, want, atol=1e-5)


def test_what_is_refused():
    class Short(Chain):
        def hessian_nonzeros(self, x, scale):
            return super().hessian_nonzeros(x, scale)[:-1]

    class Halved(Chain):
        def hessian_nonzeros(self, x, scale):
            return super().hessian_nonzeros(x, scale).astype(jnp.float16)

    class Alone:
        def __call__(self, x, scale):
            return value(x, scale, TARGET)

        def hessian_nonzeros(self, x, scale):
            return Chain(TARGET).hessian_nonzeros(x, scale)

    for kind in (Short, Halved):
        with pytest.raises(ValueError, match=r"hessian_nonzeros must return .* \(\d+,\) .*: given"):
            minimum(kind(TARGET), 1.0)
    with pytest.raises(TypeError, match=r"needs the method value_and_gradient.*Alone"):
        dini.Minimize(Alone())
    # other solvers take no notice
    np.testing.assert_allclose(minimum(Chain(TARGET), 1.0, dini.LBFGS()).x, minimum(Chain(TARGET), 1.0).x, atol=1e-5)
