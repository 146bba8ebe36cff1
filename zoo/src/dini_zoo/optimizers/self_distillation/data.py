"""The paper's toy, and the splits of real data on which its claims are looked at."""

from __future__ import annotations

import numpy as np
from sklearn import datasets, model_selection

from ...kit.data import Split
from ...kit.data import diabetes as patients
from ...kit.data import digits as shuffled
from .tuning import Task

#: Eleven noisy values of a sine: Mobahi et al. 2020, as the paper's repository has them.
TOY_X = np.linspace(0.0, 1.0, 11)[:, None]
TOY_Y = np.array(
    [
        0.38476636465198066,
        1.2333967683416893,
        1.33232242217057,
        0.6920159488889518,
        -0.29756145531871736,
        -0.24189291901377769,
        -0.7964485769175675,
        -0.9616480167034174,
        -0.49672509509916934,
        -0.3469066003991437,
        0.5589512650600734,
    ]
)
#: Where its fits are judged, and by what.
TOY_X_NEW = np.linspace(0.0, 1.0, 101)[:, None]
TOY_Y_NEW = np.sin(2 * np.pi * TOY_X_NEW[:, 0])
TOY_GAMMA, TOY_RIDGE = 80.0, 0.2


def toy() -> Task:
    """The toy; what it is judged by stands in place of the validation and of the test sample."""
    new = (TOY_X_NEW, TOY_Y_NEW)
    return Task.of((TOY_X, TOY_Y), new, new)


def diabetes() -> Task:
    """221 patients to train on, 110 to validate and 111 to test, all standardized."""
    X, y, _ = patients()
    X, y = (X - X.mean(axis=0)) / X.std(axis=0), (y - y.mean()) / y.std()
    X, rest_X, y, rest_y = model_selection.train_test_split(X, y, test_size=0.5, random_state=0)
    X_val, X_test, y_val, y_test = model_selection.train_test_split(rest_X, rest_y, test_size=0.5, random_state=0)
    return Task.of((X, y), (X_val, y_val), (X_test, y_test))


def digits(train: int, validation: int) -> tuple[np.ndarray, ...]:
    """Images and labels of the digits to train on, to validate and to test."""
    images, labels = datasets.load_digits(return_X_y=True)
    parts = model_selection.train_test_split(images / 16, labels, train_size=train, random_state=0)
    X, rest_X, y, rest_y = parts
    parts = model_selection.train_test_split(rest_X, rest_y, train_size=validation, random_state=0)
    X_val, X_test, y_val, y_test = parts
    return X, y, X_val, y_val, X_test, y_test


def digits_task(train: int, validation: int, noise: float) -> tuple[Task, float]:
    """The digits as a regression of one-hot labels, a share of the training ones redrawn; its kernel's parameter.

    That is one over the median of all squared distances between the first 300 training points.
    """
    X, y, X_val, y_val, X_test, y_test = digits(train, validation)
    one_hot = np.eye(10)
    task = Task.of((X, one_hot[relabelled(y, noise, 1)]), (X_val, one_hot[y_val]), (X_test, one_hot[y_test]))
    return task, float(1 / np.median(np.asarray(task.D)[:300, :300]))


def network_split(train: int, validation: int, noise: float, seed: int) -> Split:
    """The digits for a network, a share of the training labels redrawn."""
    split = shuffled(10, train, validation)
    return split._replace(train=split.train._replace(Y=np.eye(10)[relabelled(split.train.labels, noise, seed)]))


def relabelled(labels: np.ndarray, noise: float, seed: int) -> np.ndarray:
    """Labels of which a share is redrawn from all ten."""
    random = np.random.RandomState(seed)
    chosen = random.rand(len(labels)) < noise
    labels = labels.copy()
    labels[chosen] = random.randint(0, 10, chosen.sum())
    return labels
