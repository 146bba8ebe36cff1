"""A variational autoencoder of digits: python examples/vae.py vae.png [--full]."""

import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn import datasets, decomposition, mixture, utils

import dini

dini.keep_programs()

HIDDEN, LATENT, BATCH, TRAIN = 128, 8, 100, 1400
EPOCHS = 400 if "--full" in sys.argv else 60

x = jnp.array(utils.shuffle(datasets.load_digits().data / 16, random_state=0), dtype=jnp.float32)


# --8<-- [start:model]
class Autoencoder(eqx.Module):
    """Both networks, and the width of the normal law of a pixel."""

    encoder: eqx.nn.MLP
    decoder: eqx.nn.MLP
    log_width: jax.Array

    def __init__(self, key):
        """Draw the weights."""
        keys = jax.random.split(key)
        self.encoder = eqx.nn.MLP(64, 2 * LATENT, HIDDEN, 1, activation=jax.nn.gelu, key=keys[0])
        self.decoder = eqx.nn.MLP(LATENT, 64, HIDDEN, 1, activation=jax.nn.gelu, key=keys[1])
        self.log_width = jnp.asarray(-1.0)


def divergence(mean, log_width):
    """The Kullback-Leibler divergence of independent normal laws from the standard one."""
    return jnp.sum(0.5 * (jnp.exp(2 * log_width) + mean**2 - 1) - log_width)


def bound(model, image, key):
    """The evidence lower bound of one image, by one draw of the latent variables, and their divergence."""
    mean, log_width = jnp.split(model.encoder(image), 2)
    z = mean + jnp.exp(log_width) * jax.random.normal(key, mean.shape)
    likelihood = jax.scipy.stats.norm.logpdf(image, model.decoder(z), jnp.exp(model.log_width)).sum()
    return likelihood - divergence(mean, log_width)


weights, shape = eqx.partition(Autoencoder(jax.random.key(0)), eqx.is_array)


def loss(weights, batch):
    """The mean bound of a batch, with its sign turned. The key of the draws is part of the batch."""
    images, key = batch
    keys = jax.random.split(key, len(images))
    return -jnp.mean(jax.vmap(bound, (None, 0, 0))(eqx.combine(weights, shape), images, keys))


# --8<-- [end:model]
# --8<-- [start:train]
def batches(epochs):
    """Batches in random order, each with a key of its own."""
    rng = np.random.default_rng(0)
    for epoch in range(epochs):
        keys = jax.random.split(jax.random.key(epoch), TRAIN // BATCH)
        for key, rows in zip(keys, rng.permutation(TRAIN).reshape(-1, BATCH), strict=True):
            yield x[rows], key


def trained():
    """Return the weights after all epochs."""
    schedule = optax.cosine_decay_schedule(3e-3, EPOCHS * (TRAIN // BATCH))
    solver = dini.OptaxSolver(optax.adam(schedule), atol=0.0, max_steps=100_000)
    return dini.run_iterator(dini.Minimize(loss), solver, weights, batches(EPOCHS)).x


# --8<-- [end:train]
def check():
    """Return the relative error of the divergence, against an integral on a fine grid."""
    mean, log_width, grid = 0.7, -0.4, np.linspace(-12, 12, 200_001)
    density = np.exp(-0.5 * ((grid - mean) / np.exp(log_width)) ** 2) / np.exp(log_width) / np.sqrt(2 * np.pi)
    ratio = -0.5 * ((grid - mean) / np.exp(log_width)) ** 2 - log_width + 0.5 * grid**2
    exact = np.sum(density * ratio) * (grid[1] - grid[0])
    return abs(float(divergence(jnp.array([mean]), jnp.array([log_width]))) / exact - 1)


def main():
    """Train, print bounds beside those of simpler models, and draw where a file is named."""
    print(f"divergence: {check():.0e} from a numerical integral, relatively")
    found = trained()
    evaluate = jax.jit(lambda weights, key: -loss(weights, (x[TRAIN:], key)))
    keys = jax.random.split(jax.random.key(1), 20)
    before, after = (float(np.mean([evaluate(given, key) for key in keys])) for given in (weights, found))
    print(f"bound of the log likelihood of a new image: {before:.1f} nats before training, {after:.1f} after")
    images = np.asarray(x, dtype=float)
    for name, model in (
        ("principal components, eight as well", decomposition.PCA(LATENT)),
        ("a normal law of all pixels", mixture.GaussianMixture(1, reg_covar=1e-3)),
    ):
        print(f"log likelihood under {name}: {model.fit(images[:TRAIN]).score(images[TRAIN:]):.1f} nats")
    assert check() < 1e-5
    assert after > before + 20
    if len(sys.argv) > 1 and sys.argv[1].endswith(".png"):
        draw(sys.argv[1], found)


def draw(path, found):
    """Draw new images with their reconstructions, samples, and the way from one image to another."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["font.size"] = 12
    model = eqx.combine(found, shape)
    means = jax.vmap(lambda image: model.encoder(image)[:LATENT])(x[TRAIN : TRAIN + 8])
    way = jnp.linspace(0, 1, 8)[:, None]
    rows = {
        "new image": x[TRAIN : TRAIN + 8],
        "decoded": jax.vmap(model.decoder)(means),
        "a way": jax.vmap(model.decoder)((1 - way) * means[0] + way * means[1]),
        "samples": jax.vmap(model.decoder)(jax.random.normal(jax.random.key(2), (8, LATENT))),
    }
    figure, axes = plt.subplots(4, 8, figsize=(6.4, 3.6), layout="constrained")
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        for axis, image in zip(line, images, strict=True):
            axis.imshow(image.reshape(8, 8), cmap="Greys", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(name.replace(" ", "\n"), rotation=0, ha="right", va="center")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
