"""The neural operator with a constraint, its training by hand, the experiment."""

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from outputs import assert_bars_met

from dini_zoo.implicit.hard_constraints import (
    ConstrainedOperator,
    DiffusionSorption,
    FourierOperator,
    NavierStokes2D,
    SoftConstraint,
    Training,
    loss,
    train,
    trainer,
)
from dini_zoo.implicit.hard_constraints.experiment import experiment
from dini_zoo.implicit.hard_constraints.fourier import SpectralLayer
from dini_zoo.implicit.hard_constraints.study import Data, Settings

KEY = jax.random.key(0)
EQUATION = DiffusionSorption(8, 12)


def random(*shape, seed=0):
    return jnp.asarray(np.random.RandomState(seed).randn(*shape))


class Pointwise(eqx.Module):
    """A network that compiles fast: one function, the same at every point."""

    linear: eqx.nn.Linear

    def __call__(self, functions):
        return jnp.tanh(functions @ self.linear.weight.T + self.linear.bias)


def test_a_spectral_layer_is_that_of_fast_transforms():
    layer, v = SpectralLayer(3, 2, 2, KEY), random(7, 8, 3)
    f = np.fft.rfftn(np.asarray(v), axes=(0, 1))
    R = np.asarray(layer.real + 1j * layer.imaginary).reshape(3, 2, 3, 3)
    out = np.zeros_like(f)
    for i, k in enumerate((-1, 0, 1)):
        for j in range(2):
            out[k, j] = f[k, j] @ R[i, j]
    np.testing.assert_allclose(layer(v), np.fft.irfftn(out, (7, 8), axes=(0, 1)), atol=1e-13)
    with pytest.raises(ValueError, match="at least 4 points an axis for 2 modes"):
        layer(v[:3])


def test_the_operator_takes_any_mesh():
    sizes = {"width": 4, "depth": 1, "modes": 2, "projection": 4}
    network = FourierOperator(4, 5, **sizes, padding=(2, 0, 0), key=KEY)
    for equation in (NavierStokes2D(6, 8), NavierStokes2D(5, 6)):
        n = equation.places
        functions = jax.eval_shape(lambda w, equation=equation: network(equation.inputs(w)), jnp.ones((n, n)))
        assert functions.shape == (equation.times, n, n, 5)
    with pytest.raises(ValueError, match="takes 4 functions on a mesh of 3 axes"):
        network(random(6, 8, 4))


def test_training_takes_the_steps_of_adam():
    model = ConstrainedOperator(Pointwise(eqx.nn.Linear(3, 2, key=KEY)), EQUATION, SoftConstraint())
    initials = np.linspace(0.05, 0.2, 4)[:, None] * np.ones(12)
    training = Training(steps=2, batch=2, learning_rate=0.1, halve_every=1, floor=0.08, clip=0.5, chunk=2)
    taken = []
    course = train(trainer(training), model, initials, 3, taken.append)
    assert taken == [2]
    order = np.random.RandomState(3).permutation(4).reshape(2, 2)
    flat, unravel = jax.flatten_util.ravel_pytree(model.parameters)
    m, v = np.zeros_like(flat), np.zeros_like(flat)
    slope = jax.jit(jax.value_and_grad(lambda p, batch: loss(model.at(unravel(p)), batch, KEY)[0]))
    for i, (batch, rate) in enumerate(zip(order, (0.1, 0.08), strict=True), 1):
        value, g = slope(flat, jnp.asarray(initials[batch]))
        assert course.loss[i - 1] == pytest.approx(float(value))
        g = np.asarray(g * min(1, 0.5 / np.linalg.norm(g)))
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        flat = flat - rate * (m / (1 - 0.9**i)) / (np.sqrt(v / (1 - 0.999**i)) + 1e-8)
    np.testing.assert_allclose(jax.flatten_util.ravel_pytree(course.model.parameters)[0], flat, atol=1e-7)
    with pytest.raises(ValueError, match="steps must be a multiple of its chunk"):
        Training(steps=5, chunk=2)


def test_seeds_and_data_go_together():
    with pytest.raises(ValueError, match="data_seeds must be one for each of seeds"):
        Settings(seeds=(0, 1))
    one, other = (Data.draw(Settings(), seed) for seed in (0, 11))
    assert one.train.shape == (64,)
    assert np.all(one.test != other.test)


@pytest.mark.slow
def test_the_bars_at_full_scale():
    assert_bars_met("hard-constraints-moe", experiment, but=["experts on devices to one batch"])
