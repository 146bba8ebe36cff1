"""Learn filters that restore blurred images: python examples/learned_regularizer.py learned_regularizer.png.

With `--full` for more patches and more steps.
"""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_sample_images

import dini

NOISE, EPS = 0.02, 0.01


def patches(number, size, seed):
    """Return patches of two photographs in gray, of half the size: of their left halves and of their right ones."""
    rng = np.random.default_rng(seed)
    halves = []
    for side in (0, 1):
        found = []
        for image in load_sample_images().images:
            gray = image[:426].mean(axis=2).reshape(213, 2, 320, 2).mean(axis=(1, 3)) / 255.0
            half = gray[:, :160] if side == 0 else gray[:, 160:]
            for _ in range(number // 2):
                i, j = rng.integers(213 - size), rng.integers(160 - size)
                found.append(half[i : i + size, j : j + size])
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
    return jnp.sum(rough(convolved(x, jnp.tensordot(theta, basis(), 1))))


def restoration(regularizer):
    """Return the inner problem: images that blur to what is given, of little roughness."""
    return dini.Minimize(lambda x, theta, y: 0.5 * jnp.sum((blurred(x) - y) ** 2) + regularizer(x, theta))


def error(x, theta, truth):
    """Return the mean squared error."""
    return jnp.mean((x - truth) ** 2)


# --8<-- [end:problem]


# --8<-- [start:tune]
def tuned(regularizer, start, truth, given, steps):
    """Return the parameters of a regularizer after some steps of descent with hypergradients."""
    method = dini.bilevel.HOAG(error, restoration(regularizer))
    state = method.init(start, given, truth, given)
    for _ in range(steps):
        state = method.step(state, truth, given)
    return state.theta


# --8<-- [end:tune]
@functools.partial(jax.jit, static_argnums=0)
def restored(regularizer, theta, given):
    """Return the images that the inner problem makes of blurred ones."""
    solver = dini.LBFGS(rtol=1e-3, max_steps=2000)
    return dini.solve(restoration(regularizer), solver, given, theta, given).x


def observed(truth, seed):
    """Return blurred images with noise."""
    return blurred(truth) + NOISE * jax.random.normal(jax.random.key(seed), truth.shape)


def ratio(x, truth):
    """Return the signal-to-noise ratio of each image in decibels (its peak is one)."""
    return -10.0 * jnp.log10(jnp.mean((x - truth) ** 2, axis=(1, 2)))


def gradient_error(theta, truth, given):
    """Return how far the hypergradient is from a difference along a random direction, relative."""
    problem, solver = restoration(weighted_cosines), dini.LBFGS(rtol=1e-10, max_steps=5000)

    @jax.jit
    def at(theta):
        how = {"outer_args": (truth,), "inner_args": (given,), "solver": solver}
        return dini.bilevel.value_and_hypergradient(error, problem, theta, given, **how)

    direction = jax.random.normal(jax.random.key(2), theta.shape)
    difference = (at(theta + 1e-4 * direction).value - at(theta - 1e-4 * direction).value) / 2e-4
    return float(abs(jnp.vdot(at(theta).gradient, direction) / difference - 1))


def main():
    """Tune three regularizers, print what they restore of other patches, and draw one where a file is named."""
    jax.config.update("jax_enable_x64", True)
    full = "--full" in sys.argv
    train, test = patches(8 if full else 4, 24, 0)
    given, seen = observed(train, 0), observed(test, 1)
    if full:
        off = gradient_error(jnp.full(24, -5.0), train[:2], given[:2])
        print(f"hypergradient against a difference: {off:.1e} relative")
        assert off < 1e-5
    steps = 25 if full else 8
    thetas = {total_variation: tuned(total_variation, jnp.array(-5.0), train, given, steps)}
    thetas[weighted_cosines] = tuned(weighted_cosines, jnp.full(24, -6.0), train, given, steps)
    if full:
        start = jnp.diag(jnp.exp(thetas[weighted_cosines]))
        thetas[learned_filters] = tuned(learned_filters, start, train, given, steps)
    print(f"given: {ratio(seen, test).mean():.2f} dB on {len(test)} patches of the other halves")
    base = None
    for regularizer, theta in thetas.items():
        found = ratio(restored(regularizer, theta, seen), test)
        own = ratio(restored(regularizer, theta, given), train).mean()
        base = found if base is None else base
        better = f"better than total variation on {(found > base).sum()}"
        print(f"{regularizer.__name__}: {found.mean():.2f} dB ({own:.2f} in training), {better}")
        assert found.mean() > ratio(seen, test).mean() + 0.5
    if len(sys.argv) > 1 and sys.argv[1].endswith(".png"):
        draw(sys.argv[1], thetas)


def draw(path, thetas):
    """Draw a larger patch, what is given of it, and what total variation and the learned filters make of that."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["font.size"] = 12
    truth = patches(2, 64, 3)[1][:1]
    given = observed(truth, 4)
    last = list(thetas)[-1]
    shown = {"photograph": truth, "given": given}
    shown |= {"total variation": restored(total_variation, thetas[total_variation], given)}
    shown |= {"learned": restored(last, thetas[last], given)}
    figure, axes = plt.subplots(1, 4, figsize=(6.4, 3.6), layout="constrained")
    for axis, (name, image) in zip(axes, shown.items(), strict=True):
        axis.imshow(image[0], cmap="gray", vmin=0, vmax=1)
        quality = "" if name == "photograph" else f"{ratio(image, truth)[0]:.1f} dB"
        axis.set(xticks=[], yticks=[], title=name, xlabel=quality)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
