import matplotlib.colors
import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from tfae import plot

X = np.random.default_rng(0).random((6, 8, 8, 1))


AXES = {"xlabel": "x", "ylabel": "y"}


def drawn(figure):
    """Draw it, so that a label that cannot be drawn fails here, and return its axes."""
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
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
    titled = drawn(plot.image_rows({"input": X, "output": 1 - X}, titles="abcdef"))
    assert [ax.get_title() for ax in titled] == [*"abcdef", *[""] * 6]


def test_curves_show_every_point_and_the_range_of_repeats():
    (ax,) = drawn(
        plot.curves([1, 2, 4], {"a": [3, 2, 1], "b": [[1, 3], [2, 4], [3, 5]]}, xlabel="k", ylabel="e", log_x=True)
    )
    assert [list(line.get_ydata()) for line in ax.lines] == [[3, 2, 1], [2, 3, 4]]
    assert ax.get_xlabel() == "k" and ax.get_xscale() == "log" and len(ax.collections) == 1
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1", "2", "4"]


def labels_at_ends(ax):
    ax.figure.draw_without_rendering()
    return {text.get_text(): text.get_window_extent() for text in ax.texts}


def test_few_curves_are_named_at_their_ends_without_overlap():
    (ax,) = drawn(plot.curves([1, 2, 3], {"low": [3, 2, 1], "high": [1, 2, 3], "higher": [1, 2, 3.05]}, **AXES))
    boxes = labels_at_ends(ax)
    assert list(boxes) == ["low", "high", "higher"] and ax.get_legend() is None
    right = ax.get_window_extent().x1
    assert all(right < box.x0 < right + 20 for box in boxes.values())
    assert boxes["low"].y1 < boxes["high"].y0 and boxes["high"].y1 < boxes["higher"].y0
    end = ax.transData.transform((3, 1))[1]  # nothing is near this one, so it stands at the height of its end
    assert (boxes["low"].y0 + boxes["low"].y1) / 2 == pytest.approx(end, abs=3)
    (ax,) = drawn(plot.curves([1, 2], {"low": [5, 1.3], "high": [1.8, 1.4]}, **AXES))  # near only on the final scale
    assert labels_at_ends(ax)["low"].y1 < labels_at_ends(ax)["high"].y0


def test_curves_whose_names_would_overlap_have_a_legend_and_a_single_one_needs_none():
    many = {f"run {i}": [1, 2, 3] for i in range(5)}
    for ys in (many, {f"run {i}": [1, 2, i] for i in range(8)}, {"a": [1, 2, np.nan], "b": [1, 2, 3]}):
        (ax,) = drawn(plot.curves([1, 2, 3], ys, **AXES))
        assert [text.get_text() for text in ax.get_legend().get_texts()] == list(ys) and not ax.texts
    (ax,) = drawn(plot.curves([1, 2, 3], {"only": [1, 2, 3]}, **AXES))
    assert ax.get_legend() is None and not ax.texts
    assert drawn(plot.histories({"only": {"loss": [1, 2]}}))[0].get_legend() is None
    (ax,) = drawn(plot.curves([3, 2, 1], {"a": [5, 5, 1], "b": [0, 5, 9]}, **AXES))  # the end is where x is largest
    assert labels_at_ends(ax)["a"].y0 > labels_at_ends(ax)["b"].y1


@pytest.mark.filterwarnings("ignore:constrained_layout not applied")  # the legend is taller than the figure
def test_no_curve_is_dropped_however_many_there_are():
    (ax,) = drawn(plot.curves([1, 2], {f"run {i}": [i, i] for i in range(103)}, **AXES))
    assert [line.get_ydata()[0] for line in ax.lines] == list(range(103))
    runs = {f"run {i}": {"loss": [i, i]} for i in range(103)}
    assert len(drawn(plot.histories(runs))[0].lines) == 103


def test_what_others_are_compared_with_is_dashed_and_grey():
    ys = {"PCA": [3, 2, 1], "model": [2, 1, 0], "mean": [4, 4, 4]}
    pca, model, mean = drawn(plot.curves([1, 2, 3], ys, dashed=("PCA", "mean"), **AXES))[0].lines
    assert model.get_color() == plot.COLOURS[0] and model.get_marker() == "o" and model.get_linestyle() == "-"
    assert pca.get_color() == mean.get_color() == plot.GREY and pca.get_marker() == mean.get_marker() == "None"
    assert pca.get_linestyle() == "--" and mean.get_linestyle() == ":"


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.012, 0.11], ["0.02", "0.05", "0.1"]),
        ([0.031, 0.046], ["0.032", "0.036", "0.04", "0.044"]),
        ([0.3, 3000], ["1", "10", "100", "1,000"]),
        ([1e-4, 0.5], ["0.0001", "0.001", "0.01", "0.1"]),
        ([4e-5, 4e-4], ["0.00005", "0.0001", "0.0002"]),
    ],
)
def test_ticks_of_a_logarithmic_axis_read_as_numbers(values, ticks):
    for options in ({"log_y": True}, {"log_x": True}):
        x, y = (values, [1, 2]) if "log_x" in options else ([1, 2], values)
        x, y = np.repeat(x, 10), np.repeat(y, 10)
        (ax,) = drawn(plot.curves(x, {"a": y}, **AXES, **options))
        axis = ax.xaxis if "log_x" in options else ax.yaxis
        low, high = axis.get_view_interval()
        places = [place for place in axis.get_majorticklocs() if low <= place <= high]
        shown = axis.get_major_formatter().format_ticks(places)
        assert shown == ticks and not axis.get_minorticklocs().size
    (ax,) = drawn(plot.curves([1, 2], {"a": [1e-9, 1]}, log_y=True, **AXES))
    assert "10^{-6}" in "".join(tick.get_text() for tick in ax.get_yticklabels())


def test_histories_draw_held_out_losses_dashed():
    (ax,) = drawn(plot.histories({"run": {"loss": [3, 2], "val_loss": [4, 3]}}, log_y=True))
    full, dashed = ax.lines[:2]
    assert full.get_linestyle() == "-" and dashed.get_linestyle() == "--" and list(dashed.get_ydata()) == [4, 3]
    assert "held out" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_codes_are_named_at_the_middle_of_their_class():
    z = np.array([[0, 0], [2, 2], [5, 5]])
    (ax,) = drawn(plot.code_scatter(z, np.array([0, 0, 1]), names=["zero", "one"]))
    assert [text.get_text() for text in ax.texts] == ["zero", "one"]
    np.testing.assert_allclose([text.get_position() for text in ax.texts], [[1, 1], [5, 5]])


def test_names_of_classes_that_lie_together_can_all_be_read():
    z, y = np.repeat([[0, 0], [3, 3], [0, 0.1], [0, 0]], 2, axis=0) + [[0, 0], [0.2, 0.2]] * 4, np.repeat(range(4), 2)
    (ax,) = drawn(plot.code_scatter(z, y))
    boxes = [text.get_bbox_patch().get_window_extent() for text in ax.texts]
    assert not any(boxes[i].overlaps(boxes[j]) for i in range(4) for j in range(i))
    places = np.array([text.get_position() for text in ax.texts])
    np.testing.assert_allclose(places[:, 0], [0.1, 3.1, 0.1, 0.1])
    assert places[1, 1] == pytest.approx(3.1) and places[2, 1] == places[[0, 2, 3], 1].max()


def test_a_label_beside_its_point_moves_up_or_down_alone():
    figure, ax = plt.subplots()
    for side in ("left", "left", "right"):
        ax.text(0.5, 0.5, f"   {side}   ", ha=side, va="bottom")
    plot.push_apart(figure, ax)
    places = np.array([text.get_position() for text in ax.texts])
    np.testing.assert_allclose(places[:, 0], 0.5)
    boxes = [text.get_window_extent() for text in ax.texts]
    assert not any(boxes[i].overlaps(boxes[j]) for i in range(3) for j in range(i))
    assert places[:2, 1].mean() == pytest.approx(0.5, abs=0.05)
    plt.close(figure)


def test_noise_is_no_class():
    z = np.array([[0, 0], [2, 2], [5, 5], [9, 9]])
    for names in (["zero", "one"], None):
        (ax,) = drawn(plot.code_scatter(z, np.array([0, 0, 1, -1]), names=names))
        assert [text.get_text() for text in ax.texts] == (names or ["0", "1"])
        assert [text.get_text() for text in ax.get_legend().get_texts()] == ["noise"]
        colours = [tuple(points.get_facecolor()[0][:3]) for points in ax.collections]
        assert colours[1:] == [matplotlib.colors.to_rgb(colour) for colour in plot.COLOURS[:2]]
        np.testing.assert_array_equal(ax.collections[0].get_offsets(), [[9, 9]])
    assert drawn(plot.code_scatter(z, np.array([0, 0, 1, 1])))[0].get_legend() is None


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


def test_a_method_has_one_colour_on_every_page():
    names = ["PCA, 8", "denoising 0.3", "plain", "what I made", "plain, wide"]
    figures = [plot.curves([1, 2], {name: [1, 2] for name in order}, **AXES) for order in (names, names[::-1])]
    colours = [{line.get_label(): line.get_color() for line in figure.axes[0].lines} for figure in figures]
    for drawn in colours:
        assert (drawn["PCA, 8"], drawn["denoising 0.3"]) == (plot.GREY, plot.METHODS["denoising"])
        assert len(set(drawn.values())) == len(names)
    assert colours[0]["plain"] == colours[1]["plain, wide"] == plot.METHODS["plain"]  # the first of its method


def test_dots_stand_where_the_repeats_are():
    figure = plot.dots({"plain": [1, 3], "denoising": [2]}, xlabel="mse", baselines={"PCA": 4})
    (ax,) = figure.axes
    points = [collection.get_offsets().data.tolist() for collection in ax.collections]
    assert points == [[[1, 0], [3, 0]], [[2, 0]], [[2, 1]], [[2, 1]]]  # repeats and mean, row by row
    assert [label.get_text() for label in ax.get_yticklabels()] == ["plain", "denoising"]
    assert [line.get_xdata() for line in ax.lines] == [[4, 4]] and ax.texts[0].get_text() == "PCA"


@pytest.mark.parametrize(("estimator", "middle"), [("mean", 4), ("median", 2)])
def test_dots_say_what_their_bar_is(estimator, middle):
    (ax,) = drawn(plot.dots({"a": [1, 2, 9], "b": [5]}, xlabel="mse", estimator=estimator))
    assert ax.collections[1].get_offsets().tolist() == [[middle, 0]]
    assert ax.get_xlabel() == f"mse (bar: {estimator})"
    (ax,) = drawn(plot.dots({"a": 1.0, "b": [5]}, xlabel="mse", estimator=estimator))  # no repeats, nothing to say
    assert ax.get_xlabel() == "mse"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot.dots({}, xlabel="mse"), "rows is empty"),
        (lambda: plot.dots({"a": [1, np.nan]}, xlabel="mse"), "row 'a' must be a sequence of finite numbers"),
        (lambda: plot.dots({"a": []}, xlabel="mse"), "row 'a' must be"),
        (lambda: plot.dots({"a": [1]}, xlabel="mse", estimator="mode"), "estimator is 'mode'; give 'mean' or 'median'"),
        (lambda: plot.images(np.zeros((3, 784))), r"images must have shape .* got \(3, 784\)"),
        (lambda: plot.images(np.zeros((0, 8, 8))), r"got \(0, 8, 8\)"),
        (lambda: plot.images(X, titles=[1]), "1 titles for 6 images"),
        (lambda: plot.image_rows({}), "rows is empty"),
        (lambda: plot.image_rows({"a": X, "b": X[:2]}), "row 'b' has 2 images and the first row has 6"),
        (lambda: plot.image_rows({"a": X}, titles="ab"), "2 titles for 6 columns"),
        (lambda: plot.curves([1, 2], {}, **AXES), "ys is empty"),
        (lambda: plot.curves([1, 2], {"a": [1]}, **AXES), "curve 'a' has 1 points and x has 2"),
        (lambda: plot.histories({"a": {"loss": [1]}}, metric="mae"), "run 'a' holds no 'mae'; it holds loss"),
        (lambda: plot.code_scatter(np.zeros((3, 5)), np.zeros(3)), "Project longer codes first"),
        (lambda: plot.code_scatter(np.zeros((3, 2)), np.zeros(2)), r"labels \(2,\)"),
        (lambda: plot.heatmaps(X[0], {"a": np.zeros((4, 4))}), "map 'a' has shape"),
        (lambda: plot.heatmaps(X[0], {}), "maps is empty"),
        (lambda: plot.heatmaps(X[0], {"a": np.zeros((8, 8, 1, 2))}), r"map 'a' has shape \(8, 8, 1, 2\)"),
        (lambda: plot.heatmaps(X[0], {"a": np.full((8, 8), np.nan)}), "map 'a' holds NaN or infinity: 64 of 64 values"),
        (lambda: plot.maps(np.full((2, 8, 8), np.inf)), "values holds NaN or infinity: 128 of 128"),
        (lambda: plot.maps(X, columns=0), "columns is 0"),
        (lambda: plot.images(X, columns=0), "columns is 0"),
        (lambda: plot.images(X, scale=0), "scale is 0"),
        (lambda: plot.images(1.0), r"images must have shape .* got \(\)"),
        (lambda: plot.image_rows({"a": X}, scale=-1), "scale is -1"),
        (lambda: plot.curves([1, 2], {"a": 3.0}, **AXES), r"'a' has shape \(\); .* A constant is \[value\] \* 2"),
        (lambda: plot.curves([1], {"a": np.ones((1, 1, 1))}, **AXES), r"'a' has shape \(1, 1, 1\)"),
        (lambda: plot.curves(1, {"a": [3.0]}, **AXES), r"x has shape \(\)"),
        (lambda: plot.curves([1], {"a": [3]}, dashed=("b",), **AXES), "dashed names 'b', .* curves are a"),
        (lambda: plot.histories({}), "runs is empty"),
        (lambda: plot.code_scatter(np.zeros((3, 2)), [0, 1, 2], names=["a", "b"]), "label 2 has no name; 2 names"),
        (lambda: plot.code_scatter(np.zeros((3, 2)), [0, 0.5, 1], names=["a", "b"]), "label 0.0 has no name"),
        (lambda: plot.maps(X[0, 0]), r"maps must have shape \(n, height, width\)"),
        (lambda: plot.maps(X, titles=["a"]), "1 titles for"),
    ],
)
def test_what_cannot_be_drawn_is_said(call, message):
    with pytest.raises(ValueError, match=message):
        call()
