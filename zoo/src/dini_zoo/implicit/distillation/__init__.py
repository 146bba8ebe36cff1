"""Dataset distillation: one image a class, from which logistic regression learns almost as much as from all data.

The parts: learning from images and its loss on real data (`learning`, `outer_loss`, `hypergradient`), descent on the
images (`distill`), and images to compare with (`class_means`, `real_images`). The experiment is in `study`, what it
prints and draws in `report` and `picture`.
"""

from .distill import Descent, accuracy, class_means, distill, real_images
from .learning import hypergradient, learning, outer_loss

__all__ = [
    "Descent",
    "accuracy",
    "class_means",
    "distill",
    "hypergradient",
    "learning",
    "outer_loss",
    "real_images",
]
