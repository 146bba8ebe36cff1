"""Pictures and data."""

import numpy as np
import pytest

from dini_zoo.kit import pictures
from dini_zoo.kit.data import classification, corrupted, diabetes, digits
from dini_zoo.kit.seeds import Estimate


def test_a_saved_picture_is_small(tmp_path):
    with pictures.style():
        figure = pictures.canvas("Noise", width=6, height=3)
        left, right = figure.subplots(1, 2)
        left.imshow(np.random.default_rng(0).random((200, 200)), cmap="viridis")
        pictures.bars(right, {"one": Estimate.of([1.0, 2.0, 3.0]), "two": 4.0})
    path = tmp_path / "picture.png"
    pictures.save_small(figure, path, limit=30_000)
    assert 10_000 < path.stat().st_size <= 30_000
    with pytest.raises(ValueError, match="more than 10 bytes"):
        pictures.save_small(figure, path, limit=10)


def test_a_band_is_from_the_least_to_the_greatest():
    with pictures.style():
        axes = pictures.canvas("Band").subplots()
        pictures.band(axes, [0, 1], [[1.0, 2.0], [3.0, 6.0]], color=pictures.METHOD, label="runs")
    (line,) = axes.lines
    np.testing.assert_allclose(line.get_ydata(), [2, 4])
    (area,) = axes.collections
    assert area.get_datalim(axes.transData).extents.tolist() == [0, 1, 1, 6]


def test_a_mosaic_puts_images_side_by_side():
    images = np.stack([np.zeros((8, 8)), np.ones((8, 8)), np.ones((8, 8))])
    page = pictures.mosaic(images, 2, low=0, high=1)
    height, width, _ = page.shape
    rows = {"dark": page[: height // 2, width // 2 :], "light": page[: height // 2, : width // 2]}
    assert rows["dark"].mean() < 0.4
    assert rows["light"].mean() > 0.9
    # the fourth place is empty
    assert page[height // 2 :, width // 2 :].min() == 1


def test_the_samples_do_not_overlap():
    split = digits(classes=5, train=150, validation=100)
    assert [len(sample.X) for sample in split] == [150, 100, 651]
    points = np.concatenate([sample.X for sample in split])
    assert len(np.unique(points, axis=0)) == len(points)
    assert np.all(np.concatenate([sample.Y for sample in split]).sum(axis=1) == 1)
    with pytest.raises(ValueError, match="leave none to test"):
        digits(classes=2, train=300, validation=60)


def test_other_data_sets():
    split = classification("wine", 100, 30, seed=1)
    assert [len(sample.X) for sample in split] == [100, 30, 48]
    np.testing.assert_allclose(split.train.X.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(split.train.X.std(axis=0), 1)
    X, y, names = diabetes()
    assert X.shape == (442, 10) == (len(y), len(names))
    np.testing.assert_allclose(np.linalg.norm(X, axis=0), 1)


def test_corrupted_labels_are_wrong_where_it_says():
    sample = digits(10, 200, 0).train
    dirty, wrong = corrupted(sample, 0.3, np.random.default_rng(0))
    assert wrong.sum() == 60
    np.testing.assert_array_equal(dirty.labels != sample.labels, wrong)
    with pytest.raises(ValueError, match="share must be from 0 to 1"):
        corrupted(sample, 1.5, np.random.default_rng(0))
