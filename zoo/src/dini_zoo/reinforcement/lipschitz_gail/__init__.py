"""Adversarial imitation with replay, whose learned reward is penalized for its slope.

`discriminator_loss` with a `Penalty`, `imitation_reward` and `precondition_reward` are the parts, `Learner` and
`imitate` the whole; `clone` is what to try first. `best_discriminator` is the discriminator of linear features as an
inner problem that dini differentiates. Penalties, local Lipschitz constants and bounds for any function are in
`dini_zoo.reinforcement.lipschitz`, the actor-critic in `dini_zoo.reinforcement.td3`. The experiment is in `study`, what
it prints and draws in `report` and `picture`.
"""

from .absorbing import absorbing
from .cloning import clone
from .discriminator import Discriminator, Penalty, bernoulli_entropy, discriminator_loss, imitation_reward
from .inner import best_discriminator, reward_of_the_best
from .learner import Demonstrations, History, Learner, LearnerState, imitate
from .preconditioning import Constant, LearnedDynamics, Model, SmoothDynamics, precondition_reward

__all__ = [
    "Constant",
    "Demonstrations",
    "Discriminator",
    "History",
    "LearnedDynamics",
    "Learner",
    "LearnerState",
    "Model",
    "Penalty",
    "SmoothDynamics",
    "absorbing",
    "bernoulli_entropy",
    "best_discriminator",
    "clone",
    "discriminator_loss",
    "imitate",
    "imitation_reward",
    "precondition_reward",
    "reward_of_the_best",
]
