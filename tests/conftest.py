"""What several test files share."""

import functools
import os
import re

import numpy as np
import pytest

from tfae import attribution, targets  # first of all: tfae keeps TensorFlow's start-up notes out of the test report


@pytest.fixture
def images():
    """256 blurred random images in [0, 1]: cheap, and not all alike."""
    coarse = np.random.default_rng(0).random((256, 7, 7, 1))
    return np.repeat(np.repeat(coarse, 4, axis=1), 4, axis=2).astype("float32")


@pytest.fixture
def real_data():
    """The directory of MNIST and Fashion-MNIST, for tests that need them."""
    directory = os.environ.get("TFAE_DATA_DIR")
    if not directory:
        pytest.skip("TFAE_DATA_DIR does not name a directory with mnist.npz and fashion-mnist/")
    return directory


@pytest.fixture
def asked_again(monkeypatch):
    """Ask LRP and Grad-CAM twice: the second answer comes from a graph, and must be the first."""

    def twice(method):
        @functools.wraps(method)
        def ask(target, *args, **options):
            try:
                first = method(target, *args, **options)
            except ValueError as error:
                if isinstance(target, targets.Target) and "NaN" not in str(error):  # a fused ReLU makes 0 of NaN
                    with pytest.raises(ValueError, match=f"^{re.escape(str(error))}$"):
                        method(target, *args, **options)
                raise
            again = method(target, *args, **options)
            np.testing.assert_allclose(again.outputs, first.outputs, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(again.values, first.values, rtol=1e-3, atol=1e-4 * np.abs(first.values).max())
            for row, wanted in zip(again.ledger or (), first.ledger or (), strict=True):
                assert {key: row[key] for key in ("layer", "kind")} == {key: wanted[key] for key in ("layer", "kind")}
                assert row["received"] == pytest.approx(wanted["received"], rel=1e-3, abs=1e-3)
                assert row["handed_on"] == pytest.approx(wanted["handed_on"], rel=1e-3, abs=1e-3)
            return first

        return ask

    for method in (attribution.lrp, attribution.grad_cam):
        monkeypatch.setattr(attribution, method.__name__, twice(method))
