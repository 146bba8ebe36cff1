"""diffGrad: Adam with a friction that grows with the change of the gradient, for optax.

The parts: the optimizer (`diffgrad`), its direction for chains (`scale_by_diffgrad`) with its state (`DiffgradState`),
and the paper's friction (`abs_sigmoid`). The paper's functions of one variable are in `functions`, the convolutional
network of the experiment in `network`, the experiment in `study`, what it prints and draws in `report` and `picture`.
"""

from .method import DiffgradState, abs_sigmoid, diffgrad, scale_by_diffgrad

__all__ = ["DiffgradState", "abs_sigmoid", "diffgrad", "scale_by_diffgrad"]
