"""A Lasso path and its derivative in the strength: python examples/lasso_path_gradient.py lasso_path_gradient.png."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from sklearn import datasets, linear_model, preprocessing

import dini

dini.keep_programs()
jax.config.update("jax_enable_x64", True)

# --8<-- [start:lasso]
data = datasets.load_diabetes()
X, y = jnp.array(preprocessing.scale(data.data)), jnp.array(preprocessing.scale(data.target))
objective = dini.LinearComposite(lambda z, w: 0.5 * jnp.mean((z - y) ** 2), lambda: X.T)  # z = X w


def lasso(strength):
    """Return the weights for one strength, by coordinate descent."""
    problem = dini.Minimize(objective, penalty=dini.penalties.L1(strength))
    return dini.solve(problem, dini.CoordinateDescent(), jnp.zeros(X.shape[1])).x


value_and_slope = jax.jit(lambda strength: jax.jvp(lasso, (strength,), (1.0,)))
# --8<-- [end:lasso]


def closed_form(w):
    """On the support S the derivative is -n (X_S^T X_S)^{-1} sign(w_S), elsewhere zero."""
    support = jnp.flatnonzero(w)
    gram = X[:, support].T @ X[:, support] / len(y)
    return jnp.zeros_like(w).at[support].set(-jnp.linalg.solve(gram, jnp.sign(w[support])))


def main():
    """Follow the path, check weights and derivatives, and draw them where a file is named."""
    strengths = np.geomspace(0.6, 0.002, 40)
    path = [value_and_slope(strength) for strength in strengths]
    peer = linear_model.lasso_path(np.asarray(X), np.asarray(y), alphas=strengths, tol=1e-10, max_iter=100_000)[1].T
    apart = max(float(jnp.abs(w - other).max()) for (w, _), other in zip(path, peer, strict=True))
    wrong = max(float(jnp.abs(slope - closed_form(w)).max()) for w, slope in path)
    print("strength  support  |d w / d strength|")
    for strength, (w, slope) in list(zip(strengths, path, strict=True))[::8]:
        print(f"{strength:8.4f}  {int((w != 0).sum()):7d}  {jnp.linalg.norm(slope):18.3f}")
    print(f"largest difference from scikit-learn's path {apart:.0e}, of a derivative from the closed form {wrong:.0e}")
    assert apart < 1e-6
    assert wrong < 1e-6
    if len(sys.argv) > 1 and sys.argv[1].endswith(".png"):
        draw(sys.argv[1], strengths, jnp.array([w for w, _ in path]), jnp.array([slope for _, slope in path]))


def draw(path, strengths, weights, slopes):
    """Draw the path of each weight with the tangents that the derivatives are."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["font.size"] = 12
    figure, axis = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    colors = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"]
    largest = np.argsort(-np.abs(np.asarray(weights[-1])))
    for rank, i in enumerate(largest):
        color, label = (colors[rank], data.feature_names[i]) if rank < len(colors) else ("0.75", None)
        axis.plot(strengths, weights[:, i], color=color, label=label, linewidth=2, zorder=2 if label else 1)
        for k in range(4, len(strengths), 8):
            ends = strengths[k] * np.array([0.75, 1.35])
            axis.plot(
                ends, weights[k, i] + slopes[k, i] * (ends - strengths[k]), color="black", linewidth=1.2, zorder=3
            )
    axis.set(xscale="log", xlabel="strength", ylabel="weight", title="Paths, and tangents from the derivative")
    axis.legend(fontsize=10, ncols=2)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
