"""Learn weights from which to adapt to a task, implicitly: python examples/implicit_maml.py implicit_maml.png.

With `--full` for ten times as many steps, and for digits beside sinusoids.
"""

import functools
import sys
import time

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import dini

dini.keep_programs()

STRENGTH, TASKS = 1.0, 8


def network(w, x):
    """Return what tanh layers make of inputs."""
    for W, b in w[:-1]:
        x = jnp.tanh(x @ W + b)
    return x @ w[-1][0] + w[-1][1]


def squared(w, data):
    """Return the mean squared error."""
    return jnp.mean((network(w, data[0])[:, 0] - data[1]) ** 2)


def cross_entropy(w, data):
    """Return the mean cross-entropy."""
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(network(w, data[0]), data[1]))


def wrong(w, data):
    """Return the share of wrong classes."""
    return jnp.mean(jnp.argmax(network(w, data[0]), axis=1) != data[1])


def started(key, sizes):
    """Return random weights."""
    keys = jax.random.split(key, len(sizes) - 1)
    pairs = zip(keys, sizes, sizes[1:], strict=False)
    return [(jax.random.normal(key, (m, n)) / np.sqrt(m), jnp.zeros(n)) for key, m, n in pairs]


def sinusoid(key):
    """Return ten points of a sine of random amplitude and phase to adapt to, and fifty to be judged on."""
    keys = jax.random.split(key, 4)
    amplitude, phase = jax.random.uniform(keys[0], minval=0.1, maxval=5.0), jax.random.uniform(keys[1], maxval=jnp.pi)
    points = [jax.random.uniform(k, (n, 1), minval=-5.0, maxval=5.0) for k, n in ((keys[2], 10), (keys[3], 50))]
    return tuple((x, amplitude * jnp.sin(x[:, 0] - phase)) for x in points)


def characters(digits):
    """Return the images of some digits, upright and turned by a right angle: an array for each class of these."""
    X, y = load_digits(return_X_y=True)
    images = [X[y == d][:170].reshape(-1, 8, 8) / 16.0 for d in digits]
    both = [turned for one in images for turned in (one, one.swapaxes(1, 2)[:, ::-1])]
    return jnp.asarray(np.stack(both).reshape(len(both), 170, 64))


def five_classes(classes, key):
    """Return one image of each of five random classes to adapt to, and five of each to be judged on."""
    keys = jax.random.split(key)
    chosen = jax.random.choice(keys[0], len(classes), (5,), replace=False)
    shown = jax.vmap(lambda k: jax.random.choice(k, classes.shape[1], (6,), replace=False))(
        jax.random.split(keys[1], 5)
    )
    images = jnp.take_along_axis(classes[chosen], shown[:, :, None], axis=1)
    return (images[:, 0], jnp.arange(5)), (images[:, 1:].reshape(25, 64), jnp.repeat(jnp.arange(5), 5))


# --8<-- [start:adapt]
INNER = dini.LBFGS(rtol=1e-2, max_steps=30)
ADJOINT = dini.Implicit(linear_solver=dini.linear.CG(rtol=1e-3, max_steps=10))


def adapted(loss, theta, data, strength=STRENGTH, solver=INNER, differentiation=ADJOINT):
    """Return the weights that fit the data and stay near theta."""

    def proximal(w, theta, data):
        apart = jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2), w, theta)
        return loss(w, data) + 0.5 * strength * jax.tree.reduce(jnp.add, apart)

    how = {"solver": solver, "differentiation": differentiation, "on_failure": "ignore"}
    return dini.minimize(proximal, theta, theta, data, **how).x


def implicit(loss, theta, task):
    """Return what implicit MAML minimizes: the loss on new data of the weights adapted to a few."""
    return loss(adapted(loss, theta, task[0]), task[1])


# --8<-- [end:adapt]
def descended(loss, theta, data, steps=5):
    """Return the weights after a few steps of gradient descent, through which MAML differentiates."""
    rate = 0.02 if loss is squared else 0.4
    move = lambda w, _: (jax.tree.map(lambda a, g: a - rate * g, w, jax.grad(loss)(w, data)), None)
    return jax.lax.scan(move, theta, None, length=steps)[0]


def unrolled(loss, theta, task, steps=5):
    """Return what MAML minimizes."""
    return loss(descended(loss, theta, task[0], steps), task[1])


def first_order(loss, theta, task):
    """Return a number whose gradient is that at the adapted weights, as if they moved along with theta."""
    w = jax.lax.stop_gradient(descended(loss, theta, task[0]))
    return loss(jax.tree.map(lambda a, t: a + t - jax.lax.stop_gradient(t), w, theta), task[1])


def joint(loss, theta, task):
    """Return the loss without any adaptation."""
    return loss(theta, task[1])


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 5))
def train(method, loss, sample, theta, key, steps):
    """Return the weights after so many steps of Adam, each on new tasks."""
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, steps))
    mean = lambda theta, keys: jnp.mean(jax.vmap(lambda key: method(loss, theta, sample(key)))(keys))

    def step(carry, key):
        updates, state = optimizer.update(jax.grad(mean)(carry[0], jax.random.split(key, TASKS)), carry[1])
        return (optax.apply_updates(carry[0], updates), state), None

    return jax.lax.scan(step, (theta, optimizer.init(theta)), jax.random.split(key, steps))[0][0]


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def judged(adapt, loss, measure, sample, theta, strength):
    """Return a measure on each of 100 new tasks after adaptation to it."""
    one = lambda task: measure(adapt(loss, theta, task[0], strength), task[1])
    return jax.vmap(lambda key: one(sample(key)))(jax.random.split(jax.random.key(9), 100))


def by_descent(loss, theta, data, strength):
    """Return weights that are adapted in MAML's way."""
    del strength
    return descended(loss, theta, data)


def compare(loss, measure, sample, fresh, sizes, methods, steps):
    """Train by each method, print the errors on new tasks after both adaptations, and return the starts."""
    start = started(jax.random.key(0), sizes)
    starts = {"no training": start}
    errors = {}
    for method in methods:
        began = time.process_time()
        starts[method.__name__] = jax.block_until_ready(train(method, loss, sample, start, jax.random.key(1), steps))
        print(f"{method.__name__}: {time.process_time() - began:.1f} s of CPU for {steps} steps and compilation")
    for name, theta in starts.items():
        # the strength that is best for the new tasks: a favor to those that were not trained with one
        near = [judged(adapted, loss, measure, fresh, theta, s).mean() for s in (0.03, 0.3, STRENGTH)]
        by_five = judged(by_descent, loss, measure, fresh, theta, 0.0).mean()
        errors[name] = float(min(near)), float(near[-1]), float(by_five)
        figures = "best of three strengths {:.3f}, that of training {:.3f}, five steps of descent {:.3f}"
        print(f"  {name}: " + figures.format(*errors[name]), flush=True)
    return starts, errors


def gradient_error():
    """Return how far the implicit gradient is from a difference along a random direction, relative, in float64."""
    with jax.enable_x64(True):
        theta = started(jax.random.key(0), (1, 8, 8, 1))
        task = sinusoid(jax.random.key(3))
        precise = functools.partial(adapted, squared, solver=dini.BFGS(rtol=1e-11), differentiation=dini.Implicit())
        flat, back = jax.flatten_util.ravel_pytree(theta)
        value = jax.jit(jax.value_and_grad(lambda t: squared(precise(back(t), task[0]), task[1])))
        direction = jax.random.normal(jax.random.key(4), flat.shape)
        difference = (value(flat + 1e-5 * direction)[0] - value(flat - 1e-5 * direction)[0]) / 2e-5
        return float(abs(jnp.vdot(value(flat)[1], direction) / difference - 1))


def memory(theta):
    """Return the bytes that a gradient of eight tasks needs: implicit, and through 5, 50 and 500 steps."""

    def needed(method):
        keys = jax.random.split(jax.random.key(0), TASKS)
        mean = lambda theta: jnp.mean(jax.vmap(lambda key: method(squared, theta, sinusoid(key)))(keys))
        return jax.jit(jax.grad(mean)).lower(theta).compile().memory_analysis().temp_size_in_bytes

    return needed(implicit), [needed(functools.partial(unrolled, steps=n)) for n in (5, 50, 500)]


def main():
    """Train on sinusoids, with --full on digits too, and draw an adaptation where a file is named."""
    full = "--full" in sys.argv
    if full:
        error = gradient_error()
        print(f"implicit gradient against a difference: {error:.1e} relative")
        assert error < 1e-5
    methods = [implicit, unrolled, first_order, joint] if full else [implicit, unrolled]
    print("sinusoids: mean squared error")
    waves = squared, squared, sinusoid, sinusoid, (1, 40, 40, 1)
    starts, errors = compare(*waves, methods, 1000 if full else 60)
    best = {name: found[0] for name, found in errors.items()}
    assert max(best["implicit"], best["unrolled"]) < 0.9 * best["no training"]
    if full:
        implied, through = memory(starts["implicit"])
        print(f"memory in kB: implicit {implied / 1e3:.0f}, unrolled {[round(n / 1e3) for n in through]}")
        assert through[2] > 10 * through[0]
        print("digits, five classes, one image of each: share of wrong classes")
        seen, unseen = (functools.partial(five_classes, characters(which)) for which in (range(6), range(6, 10)))
        compare(cross_entropy, wrong, seen, unseen, (64, 40, 5), methods[:3], 1000)
    if len(sys.argv) > 1 and sys.argv[1].endswith(".png"):
        draw(sys.argv[1], starts)


def draw(path, starts):
    """Draw one sine, the ten points of it, and what is made of them from several starts."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["font.size"] = 12
    figure, axes = plt.subplots(1, 2, figsize=(6.4, 3.6), layout="constrained", sharey=True)
    x = jnp.linspace(-5.0, 5.0, 200)[:, None]
    styles = {"implicit": ("#0072b2", "-"), "unrolled": ("#e69f00", "-"), "no training": ("0.6", "--")}
    for axis, seed in zip(axes, (5, 8), strict=True):
        key = jax.random.key(seed)
        (points, values), _ = sinusoid(key)
        for name, (color, line) in styles.items():
            w = adapted(squared, starts[name], (points, values))
            axis.plot(x[:, 0], network(w, x)[:, 0], line, color=color, linewidth=2.5, label=name)
        axis.plot(points[:, 0], values, "ko", markersize=7, label="given")
        axis.set(xlabel="x")
    axes[0].set(ylabel="y")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False, fontsize=11)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
