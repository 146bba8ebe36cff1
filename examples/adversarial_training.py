"""Training against the worst change: python examples/adversarial_training.py adversarial_training.png [--full]."""

import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn import datasets, utils

import dini

dini.keep_programs()

STEPS, RADIUS = 1000 if "--full" in sys.argv else 200, 0.15

pixels, digits = utils.shuffle(*datasets.load_digits(return_X_y=True), random_state=0)
x, y = jnp.array(pixels / 16, dtype=jnp.float32), jnp.array(digits)
TRAIN = 1200


# --8<-- [start:attack]
def cross_entropy(model, x, y):
    """The loss of a classifier on one image."""
    return optax.softmax_cross_entropy_with_integer_labels(model(x), y)


def attack(model, x, y, radius, steps):
    """Return the change of an image, no pixel by more than the radius, that is worst for a classifier."""
    gain = lambda change: -cross_entropy(model, x + change, y)
    problem = dini.Minimize(gain, constraint=dini.sets.Box(-radius, radius))
    return dini.solve(problem, dini.FrankWolfe(), jnp.zeros_like(x), steps=steps).x


def robust_loss(model, x, y, radius, steps):
    """The mean loss under attack; by Danskin's theorem its gradient is that at the worst change, held."""
    change = jax.lax.stop_gradient(jax.vmap(attack, (None, 0, 0, None, None))(model, x, y, radius, steps))
    return jnp.mean(jax.vmap(cross_entropy, (None, 0, 0))(model, x + change, y))


# --8<-- [end:attack]
def by_signs(model, x, y, radius, steps=40):
    """Return the change that another attack finds: steps along the signs of the gradient, clipped."""

    def step(change, _):
        slope = jax.grad(lambda change: cross_entropy(model, x + change, y))(change)
        return jnp.clip(change + radius / 8 * jnp.sign(slope), -radius, radius), None

    return jax.lax.scan(step, jnp.zeros_like(x), None, length=steps)[0]


@eqx.filter_jit
def accuracies(model, x, y):
    """Return the percentages that are right: as they are, under dini's attack of forty steps, under the other one."""
    changes = [
        jnp.zeros_like(x),
        jax.vmap(attack, (None, 0, 0, None, None))(model, x, y, RADIUS, 40),
        jax.vmap(by_signs, (None, 0, 0, None))(model, x, y, RADIUS),
    ]
    return [100 * jnp.mean(jax.vmap(model)(x + change).argmax(1) == y) for change in changes]


def trained(radius):
    """Return a network with one hidden layer, trained against changes up to a radius."""
    model = eqx.nn.MLP(64, 10, 100, 1, key=jax.random.key(0))
    optimizer = optax.adam(3e-3)
    state = optimizer.init(eqx.filter(model, eqx.is_array))

    @eqx.filter_jit
    def step(model, state, key, radius):
        batch = jax.random.choice(key, TRAIN, (100,), replace=False)
        gradient = eqx.filter_grad(robust_loss)(model, x[batch], y[batch], radius, 7)
        updates, state = optimizer.update(gradient, state)
        return eqx.apply_updates(model, updates), state

    for key in jax.random.split(jax.random.key(1), STEPS):
        model, state = step(model, state, key, jnp.asarray(radius))
    return model


def check():
    """Return the errors of a worst change and of a gradient, for a linear classifier, whose have closed forms."""
    keys = jax.random.split(jax.random.key(2))
    w, points, labels = jax.random.normal(keys[0], (64,)), x[:50], (jax.random.uniform(keys[1], (50,)) < 0.5) * 1
    linear = lambda w: lambda x: jnp.stack([0.0 * (w @ x), 0.1 * w @ x])
    sign = 2.0 * labels - 1.0
    exact = lambda w: jnp.mean(jax.nn.softplus(-0.1 * sign * (points @ w) + 0.1 * RADIUS * jnp.sum(jnp.abs(w))))
    change = jax.jit(jax.vmap(lambda x, y: attack(linear(w), x, y, RADIUS, 40)))(points, labels)
    slope = jax.jit(jax.grad(lambda w: robust_loss(linear(w), points, labels, RADIUS, 40)))(w)
    apart = jnp.abs(change + RADIUS * sign[:, None] * jnp.sign(w)).max() / RADIUS
    return float(apart), float(jnp.abs(slope - jax.grad(exact)(w)).max() / jnp.abs(slope).max())


def main():
    """Train plainly and against attacks, print accuracies, and draw where a file is named."""
    apart, wrong = check()
    print(f"linear classifier: worst change {apart:.0e}, gradient {wrong:.0e} from closed forms, relatively")
    models = {"plain": trained(0.0), "against attacks": trained(RADIUS)}
    results = {
        name: [float(part) for part in accuracies(model, x[TRAIN:], y[TRAIN:])] for name, model in models.items()
    }
    print(f"test accuracy     as they are   attacked   by steps of signs (radius {RADIUS})")
    for name, (clean, attacked, other) in results.items():
        print(f"{name:16s}  {clean:9.1f} %  {attacked:7.1f} %  {other:18.1f} %")
    assert apart < 1e-5
    assert wrong < 1e-5
    assert min(results["against attacks"][1:]) > max(results["plain"][1:]) + 10
    if len(sys.argv) > 1 and sys.argv[1].endswith(".png"):
        draw(sys.argv[1], models)


def draw(path, models):
    """Draw accuracies against the radius, and an image with its worst changes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["font.size"] = 12
    figure = plt.figure(figsize=(6.4, 3.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1.5, 1])
    axis, radii = left.subplots(), np.linspace(0, 0.3, 7)
    images, colors = [x[TRAIN]], ("#D55E00", "#0072B2")

    @eqx.filter_jit
    def attacked(model, radius):
        changes = jax.vmap(by_signs, (None, 0, 0, None))(model, x[TRAIN:], y[TRAIN:], radius)
        return 100 * jnp.mean(jax.vmap(model)(x[TRAIN:] + changes).argmax(1) == y[TRAIN:]), changes[0]

    for (name, model), color in zip(models.items(), colors, strict=True):
        axis.plot(
            radii, [attacked(model, jnp.asarray(r))[0] for r in radii], "o-", color=color, linewidth=2.5, label=name
        )
        images.append(x[TRAIN] + attacked(model, jnp.asarray(RADIUS))[1])
    axis.set(xlabel="largest change of a pixel", ylabel="test accuracy, %", ylim=(0, 100))
    axis.axvline(RADIUS, color="0.6", linestyle=":")
    axis.legend(title="trained", fontsize=11)
    for image, panel, name in zip(images, right.subplots(3, 1), ("image", *models), strict=True):
        panel.imshow(image.reshape(8, 8), cmap="Greys", vmin=-0.15, vmax=1.15)
        panel.set(xticks=[], yticks=[])
        panel.set_ylabel(name.replace("against", "against\n"), fontsize=10)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
