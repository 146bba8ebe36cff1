"""Outside of ``jit``, a derivative takes the point of a solve whose program is there already, and adds a small one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini
from dini import SolveError
from dini.differentiation import _modes


@pytest.fixture
def loops(monkeypatch):
    """Count the loops that are traced."""
    count, iterate = [0], _modes.iterate

    def counted(*args):
        count[0] += 1
        return iterate(*args)

    monkeypatch.setattr(_modes, "iterate", counted)
    return count


def minimum(a):
    loss = lambda x, a: (jnp.sum(jnp.cosh(x) - a * x), x[0])
    solution = dini.minimize(loss, jnp.zeros(2), a, has_aux=True)
    return solution.x, solution.value, solution.aux


def root(a):
    solution = dini.root(lambda x, a: jnp.sinh(x) - a, jnp.zeros(2), a)
    return solution.x, solution.value, solution.x[0]


@pytest.mark.parametrize("solved", [minimum, root])
def test_the_first_gradient_compiles_no_loop(loops, solved):
    a = jnp.array([0.5, 2.0])
    value = solved(a)
    before = loops[0]
    x, f, aux = jax.jacobian(solved)(a)
    np.testing.assert_allclose(x, np.diag(1 / np.sqrt(1 + a**2)), rtol=1e-6)
    np.testing.assert_allclose(f, -value[0] if solved is minimum else [0, 0], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(aux, [1 / np.sqrt(1.25), 0], rtol=1e-6)
    jax.jvp(solved, (a,), (a,))
    assert loops[0] == before
    second = jax.hessian(lambda a: jnp.sum(solved(a)[0]))(a)
    np.testing.assert_allclose(second, np.diag(-a * (1 + a**2) ** -1.5), rtol=1e-5)
    assert loops[0] == before
    # under jit there is one program for both
    compiled = jax.jit(jax.jacobian(solved))(a)
    assert loops[0] > before
    np.testing.assert_allclose(compiled[0], x, rtol=1e-12)


def test_a_solve_that_fails_within_a_derivative():
    unbounded = lambda a: dini.minimize(lambda x, a: jnp.sum(jnp.exp(-a * x)), jnp.ones(2), a).x
    with pytest.raises(SolveError):
        jax.jacobian(unbounded)(1.0)


def test_complex_unknowns():
    square = lambda z: jnp.sum(jnp.real(z) ** 2 + jnp.imag(z) ** 2)
    solved = lambda a: dini.minimize(lambda z, a: square(z - a * (1 + 2j)), jnp.zeros(1, complex), a).x[0]
    np.testing.assert_allclose(jax.jvp(solved, (3.0,), (1.0,))[1], 1 + 2j, rtol=1e-6)
