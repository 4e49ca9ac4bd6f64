import numpy as np
import pytest
from matplotlib.figure import Figure

from tfae import plot

X = np.random.default_rng(0).random((6, 8, 8, 1))


def drawn(figure):
    """Draw it, so that a label that cannot be drawn fails here, and return its axes."""
    assert isinstance(figure, Figure)
    figure.canvas.draw()
    return figure.axes


def test_images_in_a_grid_with_titles():
    axes = drawn(plot.images(X, titles=range(6), columns=4))
    assert len(axes) == 8 and [ax.get_title() for ax in axes[:6]] == list("012345")
    np.testing.assert_array_equal(axes[2].images[0].get_array(), X[2, ..., 0])


def test_colour_images_and_images_without_channel():
    assert len(drawn(plot.images(np.repeat(X, 3, axis=-1)))) == 6
    assert len(drawn(plot.images(X[..., 0]))) == 6


def test_rows_of_images_carry_their_names():
    axes = drawn(plot.image_rows({"input": X, "output": 1 - X}))
    assert len(axes) == 12 and axes[0].get_ylabel() == "input" and axes[6].get_ylabel() == "output"
    np.testing.assert_array_equal(axes[7].images[0].get_array(), 1 - X[1, ..., 0])


def test_curves_show_every_point_and_the_range_of_repeats():
    (ax,) = drawn(
        plot.curves([1, 2, 4], {"a": [3, 2, 1], "b": [[1, 3], [2, 4], [3, 5]]}, xlabel="k", ylabel="e", log_x=True)
    )
    assert [list(line.get_ydata()) for line in ax.lines] == [[3, 2, 1], [2, 3, 4]]
    assert ax.get_xlabel() == "k" and ax.get_xscale() == "log" and len(ax.collections) == 1
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]


def test_histories_draw_held_out_losses_dashed():
    (ax,) = drawn(plot.histories({"run": {"loss": [3, 2], "val_loss": [4, 3]}}, log_y=True))
    full, dashed = ax.lines[:2]
    assert full.get_linestyle() == "-" and dashed.get_linestyle() == "--" and list(dashed.get_ydata()) == [4, 3]
    assert "held out" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_codes_are_named_at_the_middle_of_their_class():
    z = np.array([[0, 0], [2, 2], [5, 5]])
    (ax,) = drawn(plot.code_scatter(z, np.array([0, 0, 1]), names=["zero", "one"]))
    assert [(text.get_text(), text.get_position()) for text in ax.texts] == [("zero", (1, 1)), ("one", (5, 5))]


def test_heatmaps_share_one_scale():
    axes = drawn(plot.heatmaps(X[0], {"a": X[0], "b": -2 * X[0]}, label="gradient"))
    assert axes[1].images[0].get_clim() == axes[2].images[0].get_clim() == (-2 * X[0].max(), 2 * X[0].max())
    assert drawn(plot.heatmaps(X[0], {"a": X[0]}, signed=False))[1].images[0].get_clim()[0] == 0


def test_maps_have_zero_in_the_middle_of_one_scale_or_of_their_own():
    values = np.stack([X[0, ..., 0], -2 * X[0, ..., 0]])
    own = [ax.images[0].get_clim() for ax in drawn(plot.maps(values, titles=["a", "b"]))]
    assert own == [(-values[i].max() if i == 0 else values[i].min(), np.abs(values[i]).max()) for i in (0, 1)]
    shared = drawn(plot.maps(values[..., np.newaxis], shared=True, label="weight", columns=1))
    assert [ax.images[0].get_clim() for ax in shared[:2]] == [own[1]] * 2
    assert drawn(plot.maps(np.zeros((1, 3, 3))))[0].images[0].get_clim() == (-1, 1)


def test_a_figure_is_left_to_the_caller():
    import matplotlib.pyplot as plt

    plot.images(X)
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot.images(np.zeros((3, 784))), r"images must have shape .* got \(3, 784\)"),
        (lambda: plot.images(np.zeros((0, 8, 8))), r"got \(0, 8, 8\)"),
        (lambda: plot.images(X, titles=[1]), "1 titles for 6 images"),
        (lambda: plot.image_rows({}), "rows is empty"),
        (lambda: plot.image_rows({"a": X, "b": X[:2]}), "row 'b' has 2 images and the first row has 6"),
        (lambda: plot.curves([1, 2], {}, xlabel="", ylabel=""), "ys is empty"),
        (lambda: plot.curves([1, 2], {"a": [1]}, xlabel="", ylabel=""), "curve 'a' has 1 points and x has 2"),
        (lambda: plot.histories({"a": {"loss": [1]}}, metric="mae"), "run 'a' holds no 'mae'; it holds loss"),
        (lambda: plot.code_scatter(np.zeros((3, 5)), np.zeros(3)), "Project longer codes first"),
        (lambda: plot.code_scatter(np.zeros((3, 2)), np.zeros(2)), r"labels \(2,\)"),
        (lambda: plot.heatmaps(X[0], {"a": np.zeros((4, 4))}), "map 'a' has shape"),
        (lambda: plot.heatmaps(X[0], {}), "maps is empty"),
        (lambda: plot.maps(X[0, 0]), r"maps must have shape \(n, height, width\)"),
        (lambda: plot.maps(X, titles=["a"]), "1 titles for"),
    ],
)
def test_what_cannot_be_drawn_is_said(call, message):
    with pytest.raises(ValueError, match=message):
        call()
