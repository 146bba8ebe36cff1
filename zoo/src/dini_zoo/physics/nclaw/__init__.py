"""Neural constitutive laws (NCLaw): elasticity and plasticity learned inside a material point method, from one motion.

`NeuralElasticity` and `NeuralPlasticity` turn with the body and bear no stress in the undeformed one, by construction.
`LawTrainer` trains them through the simulator of `dini_zoo.physics.rollouts`, whose step is in `dini_zoo.physics.mpm`;
laws to compare with are in `dini_zoo.physics.materials`. The experiment is in `study`, what it prints and draws in
`report` and `picture`.
"""

from .networks import NeuralElasticity, NeuralLaw, NeuralPlasticity, displacement_gradient, invariants, neural_material
from .training import Curriculum, LawTrainer, Trained, motion, position_error, roll, segment_loss

__all__ = [
    "Curriculum",
    "LawTrainer",
    "NeuralElasticity",
    "NeuralLaw",
    "NeuralPlasticity",
    "Trained",
    "displacement_gradient",
    "invariants",
    "motion",
    "neural_material",
    "position_error",
    "roll",
    "segment_loss",
]
