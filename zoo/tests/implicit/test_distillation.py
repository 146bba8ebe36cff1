"""Dataset distillation: the hypergradient against its formula, descent by hand, the experiment."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
from outputs import assert_bars_met

import dini
from dini_zoo.implicit.distillation import accuracy, class_means, distill, hypergradient, real_images
from dini_zoo.implicit.distillation.experiment import experiment
from dini_zoo.kit.data import Sample
from dini_zoo.kit.losses import cross_entropy

CLASSES, PIXELS, STRENGTH = 3, 4, 0.05


@pytest.fixture(scope="module")
def sample():
    random = np.random.RandomState(0)
    return Sample(random.rand(7, PIXELS), np.eye(CLASSES)[[0, 1, 2, 0, 1, 2, 0]])


def softmax(scores):
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def formula(W, theta, sample):
    """The hypergradient at weights `W`, from the derivatives of softmax and a dense solve."""
    k, p = theta.shape
    P = softmax(theta @ W)
    D = [np.diag(row) - np.outer(row, row) for row in P]
    # of the objective, W row by row: second derivatives in W, and in W and theta
    H = sum(np.kron(np.outer(t, t), d) for t, d in zip(theta, D, strict=True)) / k + 2 * STRENGTH * np.eye(p * k)
    outer = sample.X.T @ (softmax(sample.X @ W) - sample.Y) / len(sample.X)
    u = np.linalg.solve(H, outer.ravel()).reshape(p, k)
    # row i of theta enters the gradient in W as theta_i (P_i - I_i)
    rows = [u @ (P[i] - np.eye(k)[i]) + W @ D[i] @ (u.T @ theta[i]) for i in range(k)]
    return -np.stack(rows) / k


def test_the_hypergradient_is_that_of_the_formula(sample):
    theta = np.random.RandomState(1).randn(CLASSES, PIXELS)
    solver = dini.GradientDescent(step_size=1.0, tol=1e-12, max_steps=5000)
    mode = dini.Implicit(linear_solver=dini.linear.CG(rtol=1e-12))
    (loss, solution), slope = jax.jit(hypergradient)(theta, sample, STRENGTH, solver, mode)
    W = np.asarray(solution.x)
    residual = theta.T @ (softmax(theta @ W) - np.eye(CLASSES)) / CLASSES + 2 * STRENGTH * W
    np.testing.assert_allclose(residual, 0, atol=1e-11)
    np.testing.assert_allclose(slope, formula(W, theta, sample), rtol=1e-9, atol=1e-12)
    right = softmax(sample.X @ W)[sample.Y > 0]
    assert float(loss) == pytest.approx(-np.mean(np.log(right)))
    assert float(loss) == pytest.approx(float(cross_entropy(sample.X @ W, sample.Y)))


def test_descent_by_hand(sample):
    # the loss is half of the squared distance from one
    def slope(theta):
        solution = SimpleNamespace(x=np.eye(PIXELS)[:, :CLASSES])
        return (0.5 * np.sum((theta - 1) ** 2), solution), theta - 1

    start = np.zeros((CLASSES, PIXELS))
    descent = distill(start, slope, sample, step_size=0.5, momentum=0.8, steps=2)
    # the velocity is 1 / 2, then 0.8 / 2 + 1 / 4
    for theta, value in zip(descent.theta, (0, 0.5, 1.15), strict=True):
        np.testing.assert_allclose(theta, value)
    np.testing.assert_allclose(descent.loss, [6, 1.5, 6 * 0.15**2])
    right = np.argmax(sample.X[:, :CLASSES], axis=1) == [0, 1, 2, 0, 1, 2, 0]
    np.testing.assert_allclose(descent.accuracy, right.mean())


def test_images_to_compare_with(sample):
    np.testing.assert_allclose(class_means(sample)[1], (sample.X[1] + sample.X[4]) / 2)
    for seed in range(5):
        for image, one in zip(real_images(sample, seed), np.eye(CLASSES), strict=True):
            assert any(np.array_equal(image, x) for x in sample.X[(one == sample.Y).all(axis=1)])
    assert accuracy(np.linalg.pinv(sample.X[:3]), Sample(sample.X[:3], sample.Y[:3])) == 1


@pytest.mark.slow
def test_the_bars_at_full_scale():
    result = assert_bars_met("distill", experiment)
    implicit, unrolled = (result.descents[name] for name in ("implicit", "unrolled"))
    np.testing.assert_allclose(implicit.loss, unrolled.loss, rtol=1e-4)
    assert result.ways["implicit"].errors[0] < result.ways["unrolled"].errors[0]
