"""JAX's own settings and maps around a solve: strict promotion, shard_map."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

import dini

A = np.array([0.6, 0.3])


@pytest.fixture(autouse=True)
def strict_promotion():
    with jax.numpy_dtype_promotion("strict"):
        yield


def objective(x, a):
    return jnp.sum((x - a) ** 2) + jnp.sum(x**4)


def equation(x, a):
    return x**3 + x - a


def contraction(x, a):
    return 0.5 * jnp.cos(x) + a


def minimize(solver=None, **options):
    return lambda a: dini.minimize(objective, jnp.full(2, 0.5), a, solver=solver, **options)


L1, BOX, SIMPLEX = dini.penalties.L1(0.1), dini.sets.Box(0.0, 0.3), dini.sets.Simplex()

SOLVES = {
    "minimize": [
        *map(minimize, (None, dini.LBFGS(), dini.NonlinearCG(), dini.Newton(), dini.TrustRegionNewtonCG())),
        minimize(dini.GradientDescent(), differentiation=dini.Unrolled(), steps=60),
        minimize(dini.NelderMead()),
        minimize(dini.ArmijoSGD()),
        minimize(differentiation=dini.Implicit(certify=True)),
    ],
    "constraints": [
        *[minimize(solver, constraint=BOX) for solver in (None, dini.LBFGSB(), dini.FrankWolfe())],
        *[minimize(solver, constraint=SIMPLEX) for solver in (None, dini.MirrorDescent())],
        *[minimize(constraint=part) for part in (dini.sets.L2Ball(0.5), dini.sets.L1Ball(0.5))],
    ],
    "penalties": [
        minimize(solver, penalty=L1)
        for solver in (None, dini.ProximalNewton(), dini.CoordinateDescent(), dini.BlockCoordinateDescent())
    ],
    "least squares": [
        lambda a: dini.least_squares(equation, jnp.zeros(2), a),
        lambda a: dini.least_squares(equation, jnp.zeros(2), a, solver=dini.GaussNewton()),
        lambda a: dini.least_squares(equation, jnp.zeros(2), a, loss=dini.losses.Huber(1.0), constraint=BOX),
    ],
    "roots": [
        lambda a, s=solver: dini.root(equation, jnp.zeros(2), a, solver=s)
        for solver in (dini.Newton(), dini.Broyden(), dini.Chord(), dini.NewtonKrylov(), dini.LevenbergMarquardt())
    ]
    + [
        lambda a: dini.root(equation, jnp.zeros(2), a, solver=dini.Bisection(-2.0, 2.0)),
        lambda a: dini.root(equation, jnp.zeros(2), a, differentiation=dini.OneStep()),
    ],
    "fixed points": [
        lambda a, s=solver: dini.fixed_point(contraction, jnp.zeros(2), a, solver=s)
        for solver in (dini.Anderson(), dini.FixedPointIteration(), dini.Newton())
    ],
}


@pytest.mark.by_default(without=["least squares", "constraints", "penalties"])
@pytest.mark.parametrize("kind", SOLVES)
def test_strict_dtype_promotion(kind):
    """Solves, their values and their derivatives in both modes are traced without a promotion."""

    def every(a):
        solutions = [solve(a) for solve in SOLVES[kind]]
        return sum(s.x.sum() + s.value for s in solutions), [s.x for s in solutions]

    (value, points), gradient = jax.eval_shape(jax.value_and_grad(every, has_aux=True), A)
    assert {x.dtype for x in (value, *points, gradient)} == {jnp.dtype("float64")}
    jax.eval_shape(jax.jacfwd(lambda a: every(a)[0]), A)


def test_strict_promotion_by_hand_and_in_forward_mode():
    problem, solver = dini.Minimize(objective), dini.LBFGS()
    x, state = jnp.zeros(2), solver.init(problem, jnp.zeros(2), A)
    for _ in range(10):
        x, state = solver.step(problem, x, state, A)
    assert state.error < 1e-4
    jacobian = jax.jacfwd(lambda a: minimize()(a).x)(A)
    np.testing.assert_allclose(jacobian, np.diag(2 / (2 + 12 * np.asarray(minimize()(A).x) ** 2)), atol=1e-6)


def test_shard_map():
    mesh = jax.make_mesh((1,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
    solve = lambda a: dini.minimize(objective, jnp.zeros(2), a).x
    each = {"in_specs": PartitionSpec("i"), "out_specs": PartitionSpec("i"), "mesh": mesh}
    for check in (True, False):
        run = jax.jit(jax.shard_map(lambda a: jax.jacobian(solve)(a[0])[None], **each, check_vma=check))
        if check:
            with pytest.raises(TypeError, match=r"shard_map\(..., check_vma=False\)"):
                run(A[None])
        else:
            np.testing.assert_allclose(run(A[None])[0], jax.jacobian(solve)(A), rtol=1e-9)
    # what is the same on all devices may be solved for as it is
    replicated = jax.shard_map(solve, mesh=mesh, in_specs=PartitionSpec(), out_specs=PartitionSpec(), check_vma=True)
    np.testing.assert_allclose(jax.jit(replicated)(A), solve(A), rtol=1e-9)
