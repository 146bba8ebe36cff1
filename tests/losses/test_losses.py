"""Losses and soft sorting: against NumPy, optax and CVXPY; gradients against closed forms and differences."""

import cvxpy as cp
import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize
import scipy.special
import scipy.stats

from dini import losses, sets

settings = hypothesis.settings(max_examples=40, deadline=None, derandomize=True)
RNG = np.random.default_rng(0)
SCORES = RNG.standard_normal((6, 4)) * 2
CLASSES = np.array([0, 3, 1, 2, 2, 0])
SOFT = RNG.dirichlet(np.ones(4), 6)


def projection(s):
    """The simplex projection by sorting."""
    u = np.sort(s)[::-1]
    c = np.cumsum(u) - 1
    rho = np.nonzero(u * np.arange(1, len(s) + 1) > c)[0][-1]
    return np.maximum(s - c[rho] / (rho + 1), 0)


def softmax(s):
    e = np.exp(s - s.max())
    return e / e.sum()


MULTICLASS = {
    "softmax": (
        losses.softmax_loss,
        lambda s, y: np.sum(scipy.special.rel_entr(y, softmax(s))),
        softmax,
    ),
    "sparsemax": (
        losses.sparsemax_loss,
        lambda s, y: 0.5 * np.sum((y - s) ** 2) - 0.5 * np.sum((projection(s) - s) ** 2),
        projection,
    ),
}
soft_sort, soft_rank = (jax.jit(fun, static_argnames="direction") for fun in (losses.soft_sort, losses.soft_rank))
COMPILED = {name: (jax.jit(loss), jax.jit(jax.grad(loss))) for name, (loss, *_) in MULTICLASS.items()}


@pytest.mark.thorough
@pytest.mark.parametrize("name", MULTICLASS)
def test_classes_that_are_known_within_a_program_and_classes_that_do_not_exist(name):
    loss = MULTICLASS[name][0]
    labels = jnp.asarray(CLASSES)
    np.testing.assert_allclose(jax.jit(lambda s: loss(s, labels))(SCORES), loss(SCORES, CLASSES), rtol=1e-14)
    for wrong in (-1, 4):
        with pytest.raises(ValueError, match="must be classes from 0 to 3"):
            loss(SCORES, labels.at[0].set(wrong))
        got = jax.jit(loss)(SCORES, labels.at[0].set(wrong))
        np.testing.assert_array_equal(np.isnan(got), np.arange(len(SCORES)) == 0)


@pytest.mark.by_default("each")
@pytest.mark.parametrize("name", MULTICLASS)
@pytest.mark.parametrize("target", [CLASSES, SOFT], ids=["classes", "distributions"])
def test_multiclass_losses(name, target):
    loss, value, predict = MULTICLASS[name]
    full = np.eye(4)[target] if target.ndim == 1 else target
    got = loss(SCORES, target)
    np.testing.assert_allclose(got, [value(s, y) for s, y in zip(SCORES, full, strict=True)], atol=1e-13)
    # the gradient is the prediction less the target; the Hessian is the prediction's Jacobian
    total = lambda s: jnp.sum(loss(s, target))
    prediction = np.array([predict(s) for s in SCORES])
    slope = jax.jit(jax.grad(total))
    np.testing.assert_allclose(slope(SCORES), prediction - full, atol=1e-14)
    t = RNG.standard_normal(SCORES.shape)
    want = np.array([predict(s + 1e-6 * d) - predict(s - 1e-6 * d) for s, d in zip(SCORES, t, strict=True)]) / 2e-6
    for second in (
        jax.jvp(slope, (SCORES,), (t,))[1],
        jax.grad(lambda s: jnp.vdot(slope(s), t))(SCORES),
    ):
        np.testing.assert_allclose(second, want, atol=1e-8)
    # along another axis, in batches, in single precision
    np.testing.assert_allclose(loss(SCORES.T, full.T if target.ndim == 2 else target, axis=0), got, atol=1e-14)
    np.testing.assert_allclose(jax.jit(jax.vmap(loss))(SCORES, target), got, atol=1e-14)
    single = loss(jnp.asarray(SCORES, jnp.float32), target)
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, got, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", MULTICLASS)
@settings
@hypothesis.given(
    s=hnp.arrays(float, 4, elements=st.floats(-1e6, 1e6)), t=hnp.arrays(float, 4, elements=st.floats(-5, 5))
)
def test_fenchel_young(name, s, t):
    """Nonnegative, zero at the prediction, convex along a segment, whatever the level of the scores."""
    (loss, gradient), predict = COMPILED[name], MULTICLASS[name][2]
    target = predict(t)
    assert loss(s, target) >= -1e-9
    np.testing.assert_allclose(loss(t, target), 0, atol=1e-13)
    np.testing.assert_allclose(loss(t + 1e6, target), 0, atol=1e-8)
    np.testing.assert_allclose(gradient(t, target), 0, atol=1e-13)
    middle, ends = loss((s + t) / 2, target), (loss(s, target) + loss(t, target)) / 2
    assert middle <= ends + 1e-9 * (1 + abs(ends))


@pytest.mark.by_default("sparsemax_loss")
@pytest.mark.parametrize("loss", [losses.softmax_loss, losses.sparsemax_loss])
def test_a_score_of_minus_infinity_excludes_a_class(loss):
    s, kept = jnp.array([0.3, -jnp.inf, 0.9, -0.2]), jnp.array([0, 2, 3])
    for whole, part in ((2, 1), (jnp.array([0.5, 0.0, 0.25, 0.25]), jnp.array([0.5, 0.25, 0.25]))):
        for dtype in (jnp.float64, jnp.float32):
            value, slope = jax.jit(jax.value_and_grad(loss))(s.astype(dtype), whole)
            want, rest = jax.value_and_grad(loss)(s[kept], part)
            few = {"atol": 10 * jnp.finfo(dtype).eps}
            np.testing.assert_allclose(value, want, **few)
            np.testing.assert_allclose(slope[kept], rest, **few)
            assert slope[1] == 0
    assert loss(s, 1) == jnp.inf
    assert loss(s, jnp.array([0.5, 0.5, 0.0, 0.0])) == jnp.inf


def test_against_optax():
    np.testing.assert_allclose(
        losses.softmax_loss(SCORES, CLASSES),
        optax.losses.softmax_cross_entropy_with_integer_labels(SCORES, CLASSES),
        atol=1e-12,
    )
    np.testing.assert_allclose(
        losses.sparsemax_loss(SCORES, CLASSES),
        optax.losses.multiclass_sparsemax_loss(SCORES, CLASSES),
        atol=1e-12,
    )
    s, y = SCORES[:, 0], CLASSES % 2
    np.testing.assert_allclose(losses.logistic_loss(s, y), optax.losses.sigmoid_binary_cross_entropy(s, y), atol=1e-12)
    np.testing.assert_allclose(losses.binary_sparsemax_loss(s, y), optax.losses.sparsemax_loss(s, y), atol=1e-12)


BINARY = {
    "logistic": (losses.logistic_loss, jax.nn.sigmoid),
    "sparsemax": (losses.binary_sparsemax_loss, losses.sparse_sigmoid),
}


@pytest.mark.by_default("0-sparsemax", "1-sparsemax", "0.3-sparsemax")
@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("y", [0, 1, 0.3])
def test_binary_losses(name, y):
    loss, predict = BINARY[name]
    s = jnp.array([-30.0, -1.5, -0.4, 0.0, 0.7, 2.0, 40.0])
    target = jnp.full(7, y)
    gradient = jax.vmap(jax.grad(loss))(s, target)
    np.testing.assert_allclose(gradient, predict(s) - y, atol=1e-14)
    second = jax.vmap(jax.grad(jax.grad(loss)))(s, target)
    np.testing.assert_allclose(second, jax.vmap(jax.grad(predict))(s), atol=1e-14)
    # the loss is the integral of its gradient from its minimum, zero where the prediction is the target
    h = 1e-6
    np.testing.assert_allclose((loss(s + h, target) - loss(s - h, target)) / (2 * h), gradient, atol=1e-8)
    assert (loss(s, target) >= 0).all()
    if y == 0.3:
        best = {"logistic": np.log(0.3 / 0.7), "sparsemax": -0.4}[name]
        np.testing.assert_allclose(loss(best, 0.3), 0, atol=1e-15)
    # two classes with scores s and 0
    both = jnp.stack([s, jnp.zeros_like(s)], axis=-1)
    pair = losses.softmax_loss if name == "logistic" else losses.sparsemax_loss
    np.testing.assert_allclose(
        pair(both, jnp.stack([target, 1 - target], -1).astype(float)), loss(s, target), atol=1e-12
    )


def test_sparse_sigmoid():
    s = jnp.linspace(-2.0, 2.0, 9)
    want = [projection(np.array([u, 0.0]))[0] for u in s]
    np.testing.assert_allclose(losses.sparse_sigmoid(s), want, atol=1e-14)


def test_bad_targets_raise():
    for call, match in [
        (lambda: losses.softmax_loss(SCORES, CLASSES[:5]), "must be classes of shape"),
        (lambda: losses.softmax_loss(SCORES, CLASSES + 1), "classes from 0 to 3"),
        (lambda: losses.sparsemax_loss(SCORES, -CLASSES), "classes from 0 to 3"),
        (lambda: losses.sparsemax_loss(SCORES, SOFT[:, :3]), "must have the shape"),
        (lambda: losses.sparsemax_loss(SCORES, SOFT, axis=2), "axis of the scores"),
        (lambda: losses.softmax_loss(jnp.float32(1.0), 0), "axis of the scores"),
        (lambda: losses.softmax_loss(jnp.zeros((3, 0)), jnp.zeros(3, int)), "at least one class"),
        (lambda: losses.logistic_loss(SCORES, CLASSES), "must have the shape"),
        (lambda: losses.soft_sort(SCORES, 0.0), "strength must be positive"),
        (lambda: losses.soft_sort(SCORES, jnp.ones(2)), "must be a scalar"),
        (lambda: losses.soft_rank(SCORES, axis=2), "axis of the values"),
        (lambda: losses.soft_rank(SCORES, direction="up"), "must be one of"),
    ]:
        with pytest.raises(ValueError, match=match):
            call()
    for call in (
        lambda: losses.softmax_loss(CLASSES, 1),
        lambda: losses.soft_rank(CLASSES),
        lambda: losses.logistic_loss(SCORES, SCORES + 1j),
    ):
        with pytest.raises(TypeError, match="real"):
            call()


def on_permutahedron(z, w):
    """The projection onto the orders of w, by CVXPY and majorization."""
    p = cp.Variable(len(z))
    largest = np.cumsum(np.sort(w)[::-1])
    constraints = [cp.sum(p) == largest[-1]]
    constraints += [cp.sum_largest(p, k) <= largest[k - 1] for k in range(1, len(z))]
    problem = cp.Problem(cp.Minimize(cp.sum_squares(p - z)), constraints)
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
    return p.value


@pytest.mark.by_default("5-0.3", "5-1.0", "5-5.0")
@pytest.mark.parametrize("strength", [0.3, 1.0, 5.0])
@pytest.mark.parametrize("n", [1, 5, 12])
def test_soft_sorting_against_cvxpy(n, strength):
    values = np.random.default_rng(n).standard_normal(n) * 2
    places = np.arange(1, n + 1)
    np.testing.assert_allclose(
        losses.soft_sort(values, strength), on_permutahedron(places / strength, values), atol=1e-5
    )
    np.testing.assert_allclose(
        losses.soft_rank(values, strength), on_permutahedron(values / strength, places), atol=1e-5
    )


@pytest.mark.thorough
@pytest.mark.parametrize("fun", [losses.soft_sort, losses.soft_rank])
def test_derivatives_of_soft_sorting(fun):
    values = np.array([0.35, -1.2, 2.5, 0.9, -0.8, 2.2])
    t = RNG.standard_normal(6)
    run = jax.jit(lambda x, e: fun(x, e, direction="descending"))
    got = jax.jvp(run, (values, 0.8), (t, 0.5))[1]
    h = 1e-6
    want = (run(values + h * t, 0.8 + h * 0.5) - run(values - h * t, 0.8 - h * 0.5)) / (2 * h)
    np.testing.assert_allclose(got, want, atol=1e-8)
    back = jax.vjp(run, values, 0.8)[1](jnp.asarray(t))
    forward = jax.jacfwd(run, (0, 1))(values, 0.8)
    np.testing.assert_allclose(back[0], t @ forward[0], atol=1e-12)
    np.testing.assert_allclose(back[1], t @ forward[1], atol=1e-12)
    # second order, in the strength
    slope = jax.jit(jax.grad(lambda e: jnp.vdot(run(values, e), t)))
    bend = jax.grad(slope)(0.8)
    np.testing.assert_allclose(bend, (slope(0.8 + 1e-5) - slope(0.8 - 1e-5)) / 2e-5, atol=1e-7)
    # finite at ties
    assert np.isfinite(jax.jacrev(run)(jnp.ones(4), 1.0)).all()


@settings
@hypothesis.given(x=hnp.arrays(float, 7, elements=st.floats(-5, 5, width=16), unique=True))
def test_soft_sorting_is_sorting_when_hard(x):
    np.testing.assert_allclose(soft_sort(x, 1e-3), np.sort(x), atol=1e-9)
    np.testing.assert_allclose(soft_rank(x, 1e-9), scipy.stats.rankdata(x), atol=1e-6)
    np.testing.assert_allclose(soft_sort(x, 1e-3, direction="descending"), np.sort(x)[::-1], atol=1e-9)
    np.testing.assert_allclose(soft_rank(x, 1e-9, direction="descending"), scipy.stats.rankdata(-x), atol=1e-6)
    # a softer sort stays in order and keeps the sum
    soft = np.asarray(soft_sort(x, 2.0))
    assert (np.diff(soft) >= -1e-12).all()
    np.testing.assert_allclose(soft.sum(), x.sum(), atol=1e-10)


@pytest.mark.thorough
def test_soft_sorting_of_arrays():
    x = RNG.standard_normal((3, 5, 2))
    for fun in (losses.soft_sort, losses.soft_rank):
        got = jax.jit(lambda x, fun=fun: fun(x, 0.5, axis=1))(x)
        for i in range(3):
            for j in range(2):
                np.testing.assert_allclose(got[i, :, j], fun(x[i, :, j], 0.5), atol=1e-14)
        np.testing.assert_allclose(jax.vmap(lambda u, fun=fun: fun(u, 0.5, axis=0))(x), got, atol=1e-14)
        assert fun(jnp.zeros(0)).shape == (0,)
        np.testing.assert_allclose(fun(jnp.array([3.0]), 0.5), 3.0 if fun is losses.soft_sort else 1.0)
        # many values in single precision: the ranks are large, the values are not lost in them
        many = jnp.asarray(RNG.permutation(2000), jnp.float32)
        hard = fun(many, 1e-3)
        assert hard.dtype == jnp.float32
        want = np.sort(many) if fun is losses.soft_sort else scipy.stats.rankdata(many)
        np.testing.assert_allclose(hard, want, atol=1e-3)


def test_the_projection_is_the_sets():
    np.testing.assert_allclose(
        jax.grad(lambda s: losses.sparsemax_loss(s, 0))(SCORES[0]) + np.eye(4)[0],
        sets.project_simplex(jnp.asarray(SCORES[0])),
        atol=1e-14,
    )


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("dtype", "values", "strength"),
    [
        (jnp.float32, [30000.0] * 3, 1e-3),
        (jnp.float32, [100.0] * 3, 1e-5),
        (jnp.float32, [20000.0, 20000.0, 20000.001953125], 1e-3),
        (jnp.float32, [1e6, -3.0, 1e6, 0.5, -3.0], 1e-4),
        (jnp.bfloat16, [30.0] * 3, 0.1),
        (jnp.float16, [25.0, 25.0, 1.0], 1e-2),
    ],
)
def test_ties_of_large_values_have_one_rank(dtype, values, strength):
    """Against SciPy's isotonic regression in double precision."""
    z = np.sort(np.asarray(values))[::-1] / strength
    want = z - scipy.optimize.isotonic_regression(z - np.arange(len(z), 0, -1), increasing=False).x
    got = losses.soft_rank(jnp.asarray(values, dtype), strength)
    assert got.dtype == dtype
    np.testing.assert_allclose(np.sort(got.astype(float))[::-1], want, rtol=1e-2 if dtype != jnp.float32 else 1e-5)
    tied = jax.jacobian(losses.soft_rank)(jnp.full(3, values[0], dtype), strength).astype(float)
    np.testing.assert_allclose(tied * strength, np.eye(3) - 1 / 3, atol=1e-2)


@pytest.mark.thorough
def test_the_rank_of_an_excluded_value():
    values = jnp.array([1.0, -jnp.inf, 2.0, -jnp.inf])
    np.testing.assert_allclose(losses.soft_rank(values, 1e-2), [3, 1.5, 4, 1.5], rtol=1e-12)
    assert np.all(np.isfinite(jax.jacobian(losses.soft_rank)(values, 1e-2)))


@pytest.mark.parametrize("fun", [losses.softmax_loss, losses.sparsemax_loss])
@pytest.mark.parametrize("target", [[0.0, 0.0, 0.0], [0.2, 0.3, 0.1], [0.5, 1.5, 0.0]])
def test_targets_that_do_not_add_up_to_one(fun, target):
    """A padded row, say: the loss is the formula's, and its gradient is its own."""
    scores, y = jnp.array([3.0, 1.0, -2.0]), jnp.array(target)
    if fun is losses.softmax_loss:
        want = jax.nn.logsumexp(scores) - scores @ y + np.sum(scipy.special.xlogy(target, target))
    else:
        p = sets.project_simplex(scores)
        want = 0.5 * jnp.sum((y - scores) ** 2) - 0.5 * jnp.sum((p - scores) ** 2)
    np.testing.assert_allclose(fun(scores, y), want, rtol=1e-12)
    h = 1e-5
    differences = [(fun(scores + h * e, y) - fun(scores - h * e, y)) / (2 * h) for e in np.eye(3)]
    np.testing.assert_allclose(jax.grad(fun)(scores, y), differences, atol=1e-8)


@pytest.mark.parametrize("fun", [losses.softmax_loss, losses.sparsemax_loss])
def test_derivatives_in_a_target(fun):
    """Off the simplex as well, where the formula goes on."""
    scores, y, h = jnp.array([3.0, 1.0, -2.0]), jnp.array([0.5, 0.25, 0.25]), 1e-5
    differences = [(fun(scores, y + h * e) - fun(scores, y - h * e)) / (2 * h) for e in np.eye(3)]
    np.testing.assert_allclose(jax.grad(fun, 1)(scores, y), differences, atol=1e-8)


def test_infinite_and_missing_values_keep_their_places():
    np.testing.assert_allclose(losses.soft_sort(jnp.array([1.0, jnp.inf, 2.0, -jnp.inf])), [-jnp.inf, 1, 2, jnp.inf])
    np.testing.assert_allclose(losses.soft_rank(jnp.array([jnp.nan, 1.0, 20.0])), [jnp.nan, 2, 3])


@pytest.mark.thorough
@pytest.mark.parametrize(("count", "scale", "strength"), [(3000, 1e4, 1e-2), (3000, 1.0, 1e-2), (100, 100.0, 1.0)])
def test_ranks_of_many_values_in_single_precision(count, scale, strength):
    values = (scale * np.random.default_rng(0).standard_normal(count)).astype(np.float32)
    z = np.sort(values.astype(float))[::-1] / strength
    want = z - scipy.optimize.isotonic_regression(z - np.arange(count, 0, -1), increasing=False).x
    got = losses.soft_rank(jnp.asarray(values), strength)
    np.testing.assert_allclose(np.sort(got)[::-1], want, atol=2e-3)


@pytest.mark.thorough
@pytest.mark.parametrize("strength", [1.0, 1e-3])
def test_ranks_of_very_many_values_in_single_precision(strength):
    """Their mean is that of 1 to n, up to some roundings, and they are SciPy's."""
    n = 100_000
    values = np.random.default_rng(0).standard_normal(n).astype(np.float32)
    got = np.asarray(losses.soft_rank(jnp.asarray(values), strength), float)
    few = 8 * np.finfo(np.float32).eps
    np.testing.assert_allclose(got.mean(), (n + 1) / 2, rtol=few)
    z = np.sort(values.astype(float))[::-1] / strength
    want = z - scipy.optimize.isotonic_regression(z - np.arange(n, 0, -1), increasing=False).x
    np.testing.assert_allclose(np.sort(got)[::-1], want, atol=few * n)
    # by forward and reverse derivatives: 1/strength times what is left when the mean over the block is taken away
    t = np.random.default_rng(1).standard_normal(n).astype(np.float32) + np.float32(100)
    run = lambda x: losses.soft_rank(x, strength)
    moved = np.asarray(jax.jvp(run, (jnp.asarray(values),), (jnp.asarray(t),))[1], float)
    back = np.asarray(jax.vjp(run, jnp.asarray(values))[1](jnp.asarray(t))[0], float)
    np.testing.assert_allclose(moved.mean(), 0, atol=few * 100 / strength)
    np.testing.assert_allclose(back, moved, atol=few * 100 / strength)
