"""What the compiled programs must not contain."""

import math
import re

import jax
import jax.numpy as jnp
import pytest

import dini

D = 211  # a size that no other array has


def smooth(x, b):
    return jnp.sum(jnp.cosh(x) - b * x) + jnp.sum((x[1:] - x[:-1]) ** 2)


def residual(x, b):
    return jnp.sinh(x) + x - b - 0.3 * jnp.roll(x, 1)


def contraction(x, b):
    return 0.5 * jnp.cos(x) + 0.1 * b


@pytest.mark.by_default("vector-L-BFGS", "matrix-Broyden", "vector-Krylov")
@pytest.mark.parametrize(
    ("solver", "problem", "rows"),
    [
        (dini.LBFGS(history=7), dini.Minimize(smooth), 14),
        (dini.LBFGSB(history=7), dini.Minimize(smooth, constraint=dini.sets.Box(-1.0, 1.0)), 14),
        (dini.Anderson(history=7), dini.FixedPoint(contraction), 7),
        (dini.Anderson(history=7, type=1), dini.FixedPoint(contraction), 7),
        (dini.Broyden(history=7, start="identity"), dini.Root(residual), 7),
        (dini.NewtonKrylov(restart=7), dini.Root(residual), 8),
        # what is read always, what is read where it is in use, and the corrections
        (dini.NewtonKrylov(restart=40), dini.Root(residual), 32),
        (dini.NewtonKrylov(restart=40), dini.Root(residual), 9),
        (dini.NewtonKrylov(restart=40), dini.Root(residual), 4),
    ],
    ids=[
        "L-BFGS",
        "L-BFGS-B",
        "Anderson II",
        "Anderson I",
        "Broyden",
        "Krylov",
        "Krylov near",
        "Krylov far",
        "Krylov loose",
    ],
)
@pytest.mark.parametrize("shape", [(D,), (D, 3)], ids=["vector", "matrix"])
def test_stored_vectors_are_updated_in_place(solver, problem, rows, shape):
    """No step copies the vectors that a method keeps: XLA must see that nothing reads the old ones after the update."""
    solve = jax.jit(lambda b: dini.solve(problem, solver, jnp.zeros(shape), b).x)
    program = solve.lower(jnp.ones(shape)).compile().as_text()
    stores = [dims for dims in re.findall(r"f\d+\[([\d,]+)\]", program) if _size(dims) == rows * math.prod(shape)]
    assert stores
    body = program[: program.index("\nENTRY")]
    # what L-BFGS-B gathers in another order is transposed as well; a solve that begins again begins with zeros
    copies = re.findall(r"= f\d+\[([\d,]+)\]\S* copy\((?!%transpose|%wrapped_broadcast)", body)
    assert [dims for dims in copies if _size(dims) == rows * math.prod(shape)] == []


@pytest.mark.by_default(without=["ProximalGradient-Minimize(smooth)"])
@pytest.mark.parametrize(
    ("solver", "problem"),
    [
        (dini.LBFGS(), dini.Minimize(smooth)),
        (dini.BFGS(start="hessian"), dini.Minimize(smooth)),
        (dini.Newton(), dini.Minimize(smooth)),
        (dini.LBFGSB(), dini.Minimize(smooth, constraint=dini.sets.Box(-1.0, 1.0))),
        (dini.ProximalNewton(), dini.Minimize(smooth, penalty=dini.penalties.L1(0.1))),
        (dini.ProximalGradient(), dini.Minimize(smooth, constraint=dini.sets.Affine(jnp.ones((1, D)), jnp.zeros(1)))),
        (dini.LevenbergMarquardt(), dini.LeastSquares(residual)),
        (dini.Broyden(), dini.Root(residual)),
        (dini.Anderson(), dini.FixedPoint(contraction)),
    ],
    ids=lambda x: x.name,
)
def test_products_are_in_full_precision(solver, problem):
    """Also those of other libraries, and of derivatives: on a GPU, JAX's default has ten bits."""
    how = dini.Implicit(certify=True)
    loss = lambda b: jnp.sum(dini.solve(problem, solver, jnp.zeros(D), b, differentiation=how).x ** 2)
    program = str(jax.make_jaxpr(jax.grad(loss))(jnp.ones(D)))
    products = re.findall(r"dot_general\[(.*?)\n\s*\]", program, re.S)
    assert products
    assert all("precision=(Precision.HIGHEST" in settings or "i32" in settings for settings in products)


def _size(dims):
    return math.prod(map(int, dims.split(",")))
