"""Learn filters that restore blurred images: python examples/learned_regularizer.py learned_regularizer.png.

With `--full` for more patches and more steps.
"""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_sample_images

import dini

dini.keep_programs()

NOISE, EPS, STRENGTH = 0.02, 0.01, 0.0025


def photographs():
    """Return two photographs in gray, of half the size."""
    return [
        image[:426].mean(axis=2).reshape(213, 2, 320, 2).mean(axis=(1, 3)) / 255.0
        for image in load_sample_images().images
    ]


def patches(number, size, seed):
    """Return patches of the photographs, of their left halves and of their right ones; smooth ones are left out."""
    rng = np.random.default_rng(seed)
    halves = []
    for columns in (slice(0, 160), slice(160, 320)):
        found = []
        for gray in photographs():
            kept = len(found) + number // 2
            while len(found) < kept:
                i, j = rng.integers(213 - size), rng.integers(160 - size)
                patch = gray[:, columns][i : i + size, j : j + size]
                if patch.std() > 0.1:
                    found.append(patch)
        halves.append(jnp.asarray(np.stack(found)))
    return halves


def convolved(x, kernels):
    """Return the responses to some filters of images that are continued by their mirror."""
    reach = kernels.shape[-1] // 2
    x = jnp.pad(x, ((0, 0), (reach, reach), (reach, reach)), mode="reflect")
    return jax.lax.conv(x[:, None], kernels[:, None], (1, 1), "VALID")


def blurred(x):
    """Return images blurred by a Gaussian of width one."""
    line = np.exp(-0.5 * np.arange(-2.0, 3.0) ** 2)
    return convolved(x, jnp.asarray(np.outer(line, line) / line.sum() ** 2)[None])[:, 0]


def basis():
    """Return the cosines of 5 by 5 pixels but for the constant one, 24 filters."""
    rows = np.cos(np.pi / 5 * np.outer(np.arange(5), np.arange(5) + 0.5))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return jnp.asarray(np.einsum("ai,bj->abij", rows, rows).reshape(25, 5, 5)[1:])


# --8<-- [start:problem]
def rough(r):
    """Return a smooth absolute value."""
    return jnp.sqrt(r**2 + EPS**2) - EPS


def total_variation(x, theta):
    """Return the length of the differences between neighbours."""
    down = jnp.zeros((3, 3)).at[1:, 1].set(jnp.array([-1.0, 1.0]))
    down, right = convolved(x, jnp.stack([down, down.T])).swapaxes(0, 1)
    return jnp.exp(theta) * jnp.sum(jnp.sqrt(down**2 + right**2 + EPS**2))


def weighted_cosines(x, theta):
    """Return the sizes of the responses to the cosines, each with its weight."""
    return jnp.sum(jnp.exp(theta)[:, None, None] * rough(convolved(x, basis())))


def learned_filters(x, theta):
    """Return the sizes of the responses to combinations of the cosines."""
    return STRENGTH * jnp.sum(rough(convolved(x, jnp.tensordot(theta, basis(), 1))))


def restoration(regularizer):
    """Return the inner problem: images that blur to what is given, of little roughness."""
    return dini.Minimize(lambda x, theta, y: 0.5 * jnp.sum((blurred(x) - y) ** 2) + regularizer(x, theta))


def error(x, theta, truth):
    """Return the mean squared error."""
    return jnp.mean((x - truth) ** 2)


# --8<-- [end:problem]


# --8<-- [start:tune]
def tuned(regularizer, start, rate, truth, given, steps):
    """Return the parameters of a regularizer after steps of Adam with hypergradients."""
    problem, optimizer = restoration(regularizer), optax.adam(optax.cosine_decay_schedule(rate, steps))
    how = {"outer_args": (truth,), "inner_args": (given,), "solver": dini.LBFGS(rtol=1e-3, max_steps=2000)}

    @jax.jit
    def step(theta, moments, warm):
        found = dini.bilevel.value_and_hypergradient(error, problem, theta, given, state=warm, **how)
        updates, moments = optimizer.update(found.gradient, moments)
        return optax.apply_updates(theta, updates), moments, found.state

    zero = jnp.zeros_like(given)
    now = start, optimizer.init(start), dini.bilevel.Warm(given, zero)
    for _ in range(steps):
        now = step(*now)
    return now[0]


# --8<-- [end:tune]
@functools.partial(jax.jit, static_argnums=0)
def restored(regularizer, theta, given):
    """Return the images that the inner problem makes of blurred ones."""
    solver = dini.LBFGS(rtol=1e-3, max_steps=2000)
    return dini.solve(restoration(regularizer), solver, given, theta, given).x


def observed(truth, seed):
    """Return blurred images with noise."""
    return blurred(truth) + NOISE * jax.random.normal(jax.random.key(seed), truth.shape)


def decibels(x, truth):
    """Return the signal-to-noise ratio in decibels (the peak is one)."""
    return -10.0 * float(jnp.log10(jnp.mean((x - truth) ** 2)))


def best_total_variation(truth, given, spacing):
    """Return the logarithm of total variation's weight that is best for the training patches, of a grid."""
    grid = jnp.arange(-7.0, -4.0, spacing)
    return max(grid, key=lambda theta: decibels(restored(total_variation, theta, given), truth))


def gradient_error(regularizer, theta, truth, given):
    """Return how far the hypergradient is from a difference along a random direction, relative."""
    problem, solver = restoration(regularizer), dini.LBFGS(rtol=1e-12, max_steps=20000)
    exact = dini.Implicit(linear_solver=dini.linear.CG(rtol=1e-12, max_steps=5000))

    @jax.jit
    def at(theta):
        how = {"outer_args": (truth,), "inner_args": (given,), "solver": solver, "differentiation": exact}
        found = dini.bilevel.value_and_hypergradient(error, problem, theta, given, **how)
        return found.value, found.gradient

    direction = jax.random.normal(jax.random.key(2), theta.shape)
    difference = (at(theta + 1e-5 * direction)[0] - at(theta - 1e-5 * direction)[0]) / 2e-5
    return float(abs(jnp.vdot(at(theta)[1], direction) / difference - 1))


def main():
    """Tune three regularizers, print what they restore of other patches, and draw one where a file is named."""
    jax.config.update("jax_enable_x64", True)
    full = "--full" in sys.argv
    train, test = patches(8 if full else 4, 24, 0)
    given, seen = observed(train, 0), observed(test, 1)
    thetas = {total_variation: best_total_variation(train, given, 0.25 if full else 0.5)}
    thetas[weighted_cosines] = tuned(weighted_cosines, jnp.full(24, -6.0), 0.2, train, given, 30)
    if full:
        start = jnp.diag(jnp.exp(thetas[weighted_cosines]) / STRENGTH)
        thetas[learned_filters] = tuned(learned_filters, start, 0.01, train, given, 30)
    print(f"weight of total variation: exp({thetas[total_variation]:.2f})")
    print(f"given: {decibels(given, train):.2f} dB in training, {decibels(seen, test):.2f} dB on the other halves")
    base = None
    for regularizer, theta in thetas.items():
        x, own = restored(regularizer, theta, seen), decibels(restored(regularizer, theta, given), train)
        found = [decibels(*pair) for pair in zip(x, test, strict=True)]
        base = found if base is None else base
        better = f"better than total variation on {sum(a > b for a, b in zip(found, base, strict=True))}"
        quality = f"{own:.2f} dB in training, {decibels(x, test):.2f} dB on the other halves"
        print(f"{regularizer.__name__}: {quality}, {better}")
        assert decibels(x, test) > decibels(seen, test) + 0.5
    if len(sys.argv) > 1 and sys.argv[1].endswith(".png"):
        draw(sys.argv[1], thetas)
    if full:
        filters = jnp.eye(24) + 0.1 * jax.random.normal(jax.random.key(0), (24, 24))
        for regularizer, theta in ((weighted_cosines, jnp.full(24, -6.0)), (learned_filters, filters)):
            off = gradient_error(regularizer, theta, train[:1], given[:1])
            print(f"hypergradient of {regularizer.__name__} against a difference: {off:.1e} relative")
            assert off < 1e-5


def draw(path, thetas):
    """Draw a part of a photograph, what is given of it, and what total variation and the learned filters restore."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["font.size"] = 12
    truth = jnp.asarray(photographs()[1][None, 60:160, 162:214])
    given = observed(truth, 4)
    last = list(thetas)[-1]
    shown = {"photograph": truth, "given": given}
    shown |= {"total variation": restored(total_variation, thetas[total_variation], given)}
    shown |= {"learned": restored(last, thetas[last], given)}
    figure, axes = plt.subplots(1, 4, figsize=(6.4, 3.7), layout="constrained")
    for axis, (name, image) in zip(axes, shown.items(), strict=True):
        axis.imshow(image[0], cmap="gray", vmin=0, vmax=1)
        quality = "" if name == "photograph" else f"{decibels(image, truth):.1f} dB"
        axis.set(xticks=[], yticks=[], title=name, xlabel=quality)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
