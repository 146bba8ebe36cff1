r"""Logistic regression learned from one image a class, and the loss that its images are judged by.

The rows of :math:`\theta \in \mathbb{R}^{k \times p}` are images, one for each class. Learning from them,

.. math:: W^\star(\theta) = \arg\min_{W \in \mathbb{R}^{p \times k}} \; \ell(\theta W, I) + \varepsilon \|W\|^2,
          \qquad \ell(S, Y) = -\frac1m \sum_{i,c} Y_{ic} \log \operatorname{softmax}(S_i)_c ,

and :math:`\theta` is judged by the loss on real data, :math:`\ell(X W^\star(\theta), Y)`.

References
----------
Wang, Zhu, Torralba, Efros, "Dataset distillation", 2018 (arXiv 1811.10959): the problem.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

import dini
from dini_zoo.kit.data import Sample

from ...kit.losses import cross_entropy

Images = Float[Array, "k p"]
Weights = Float[Array, "p k"]


def _objective(W: Weights, theta: Images, strength: Float[Array, ""] | float) -> Float[Array, ""]:
    return cross_entropy(theta @ W, jnp.eye(len(theta), dtype=W.dtype)) + strength * jnp.sum(W**2)


#: Learning from the images, a function of the weights and the parameters `(theta, strength)`.
learning = dini.Minimize(_objective)


def outer_loss(
    theta: Images,
    sample: Sample,
    strength: Float[Array, ""] | float,
    solver: dini.Solver,
    differentiation: dini.Differentiation | None = None,
    *,
    on_failure: Any = "raise",
) -> tuple[Float[Array, ""], dini.Solution]:
    """Learn from the images, beginning at zero; the loss on a sample, and the solution.

    `differentiation` is implicit if it is not given.
    """
    mode = dini.Implicit() if differentiation is None else differentiation
    W = jnp.zeros(theta.shape[::-1], theta.dtype)
    solution = dini.solve(learning, solver, W, theta, strength, differentiation=mode, on_failure=on_failure)
    return cross_entropy(sample.X @ solution.x, sample.Y), solution


#: Takes the arguments of `outer_loss` to `((loss, solution), derivative in theta)`.
hypergradient = jax.value_and_grad(outer_loss, has_aux=True)
