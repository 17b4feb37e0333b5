"""Figures: what is drawn is the data, and the sentence under a figure says what the data says."""

import io
import itertools

import matplotlib.colors
import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text
from tiny_suite import TinySuite

from samerge_edu import plots


@pytest.fixture(scope="module")
def suite():
    return TinySuite()


@pytest.fixture(autouse=True)
def _close_figures():
    with plt.rc_context():
        plots.style()
        yield
    plt.close("all")


def row(method, lam_from, id_avg, ood_avg, h=50.0, lam=1.0):
    return {"method": method, "lam_from": lam_from, "id_avg": id_avg, "ood_avg": ood_avg, "h": h, "lam": lam}


RECORD = {
    "suite": "tiny",
    "reference": {"zero_shot": {"id_avg": 40.0, "ood_avg": 80.0}, "experts": {"id_avg": 95.0, "ood_avg": 60.0}},
    "rows": [
        row("Low", "paper", 50, 70),
        row("Low", "validation", 52, 69, h=59.2),
        row("Wide", "paper", 70, 20),
        row("Wide", "validation", 60, 75, h=66.7, lam=0.42),
        row("Home", "paper", 61, 61),
        row("Home", "validation", 66, 60, h=62.9),
    ],
}


WORST = {  # the best average and the best worst task are different methods, at different scales
    "reference": {"zero_shot": {"id_avg": 40.0, "id_worst": 30.0}},
    "rows": [
        {"method": "Even", "lam_from": "paper", "id_avg": 90.0, "id_worst": 90.0},
        {"method": "Even", "lam_from": "validation", "id_avg": 70.0, "id_worst": 65.0},
        {"method": "Uneven", "lam_from": "paper", "id_avg": 10.0, "id_worst": 5.0},
        {"method": "Uneven", "lam_from": "validation", "id_avg": 71.0, "id_worst": 50.0},
    ],
}


def test_the_worst_task_is_drawn_against_the_average_at_the_validated_scale():
    figure, sentence = plots.worst_average(WORST)
    axis = figure.axes[0]
    assert points_of(axis) == {(70.0, 65.0), (71.0, 50.0), (40.0, 30.0)}
    assert {"Even", "Uneven", "zero-shot"} <= {text.get_text() for text in axis.texts}
    assert sentence == (
        "Highest ID average: Uneven, 71.0 % (worst task 50.0 %); highest worst task: Even, 65.0 % (average 70.0 %)."
    )


def test_many_methods_are_numbered_in_the_order_of_the_record():
    rows = [{"method": f"m{i}", "lam_from": "validation", "id_avg": i, "id_worst": i / 2} for i in range(12)]
    figure, _ = plots.worst_average(WORST | {"rows": rows})
    axis = figure.axes[0]
    legend = [text.get_text().strip() for text in axis.get_legend().get_texts()]
    assert legend == [f"{i + 1} m{i}".strip() for i in range(12)]
    assert {str(i + 1) for i in range(12)} <= {text.get_text() for text in axis.texts}


def points_of(axis):
    return {tuple(np.round(xy, 6)) for line in axis.lines for xy in line.get_xydata()}


def test_scatter_draws_every_row_and_says_which_are_on_the_front():
    figure, sentence = plots.id_ood(RECORD)
    axis = figure.axes[0]
    expected = {(r["id_avg"], r["ood_avg"]) for r in [*RECORD["rows"], *RECORD["reference"].values()]}
    assert expected <= points_of(axis)
    assert sentence == (
        "On tiny, up to 1 point, none is better than {Wide, Home} both at home and abroad; "
        "the best H is 66.7, within 1 point by {Wide}."
    )
    names = [text.get_text() for text in axis.texts]
    assert sorted(names) == ["Home", "Low", "Wide", "experts", "zero-shot"]
    bold = {text.get_text() for text in axis.texts if text.get_fontweight() == "bold"}
    assert bold == {"Wide", "Home"}
    assert sentence.split(";")[0] in figure.get_suptitle().replace("\n", " ")


def overlapping(boxes) -> list[tuple[str, str]]:
    """Pairs of names whose boxes overlap by more than a hair."""
    return [
        (a, b)
        for (a, box), (b, other) in itertools.combinations(boxes.items(), 2)
        if min(box.x1, other.x1) - max(box.x0, other.x0) > 0 and min(box.y1, other.y1) - max(box.y0, other.y0) > 2
    ]


def boxes_of(figure, axis):
    """Name -> where it is written, without the line to its point; the figure is drawn as a notebook draws it."""
    figure.savefig(io.BytesIO(), dpi=figure.dpi)
    return {text.get_text(): Text.get_window_extent(text) for text in axis.texts}


def test_many_methods_are_shown_a_second_time_from_nearby_with_their_names_beside():
    rows = [row(f"Method {i}", kind, 50 + i, 70 - i % 3) for i in range(40) for kind in ("paper", "validation")]
    rows[0]["id_avg"] = 10.0  # the published scale of the first: far away, and only in the first panel
    figure, _ = plots.id_ood({**RECORD, "rows": rows})
    whole, near = figure.axes
    assert (10.0, 70.0) in points_of(whole) - points_of(near)
    assert {(r["id_avg"], r["ood_avg"]) for r in rows[1:]} <= points_of(whole) & points_of(near)
    assert [text.get_text() for text in whole.texts] == ["zero-shot", "experts"]
    assert near.get_legend() is None
    assert {text.get_text() for text in near.texts if text.get_fontweight() == "bold"} == {"Method 39"}
    boxes = boxes_of(figure, near)
    assert boxes.keys() == {f"Method {i}" for i in range(40)}
    assert overlapping(boxes) == []
    xs = [near.transData.transform((r["id_avg"], 70))[0] for r in rows if r["lam_from"] == "validation"]
    assert all(box.x1 < min(xs) or box.x0 > max(xs) for box in boxes.values()), "a name is written over the points"
    for text in near.texts:  # each line leads to its own point
        i = int(text.get_text().split()[1])
        assert text.xy == (50 + i, 70 - i % 3)


def test_labels_cover_neither_each_other_nor_a_point_nor_the_edge():
    names = ["Average", "Task Arithmetic", "TIES", "TSV-M", "WUDI", "SA-Merging"]
    near = [(73.5, 91.5), (73.5, 90.5), (73.8, 92.7), (80.2, 92.0), (73.3, 91.9), (72.5, 91.6)]  # as in notebook 00
    same = [(50 + i % 2, 60) for i in range(6)]
    for points in (near, same):
        rows = [row(n, kind, *p) for n, p in zip(names, points, strict=True) for kind in ("paper", "validation")]
        figure, _ = plots.id_ood({**RECORD, "rows": rows})
        [axis] = figure.axes
        boxes = boxes_of(figure, axis)
        assert overlapping(boxes) == []
        spots = [axis.transData.transform(point) for point in (*points, (40, 80), (95, 60))]
        for name, box in boxes.items():
            assert not any(box.contains(*spot) for spot in spots), f"{name} covers a point"
            assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1, f"{name} leaves the picture"


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12))
def test_pareto_front_is_exactly_what_nobody_beats(points):
    front = plots.pareto_front(points)
    for i, (x, y) in enumerate(points):
        beaten = any((u >= x and v > y) or (u > x and v >= y) for u, v in points)
        assert (i in front) == (not beaten)


def test_bars_have_the_heights_of_the_accuracies(suite):
    models = {
        "base": {"ink": 10.0, "noise": 20.0, "land": 33.0, "letters": 90.0, "flags": 80.0},
        "sum": {"ink": 50.0, "noise": 60.0, "land": 70.0, "letters": 40.0, "flags": 30.0},
        "other": {"ink": 11.0, "noise": 21.0, "land": 30.0, "letters": 1.0, "flags": 2.0},
    }
    figure, sentence = plots.accuracy_bars(suite, models)
    axis = figure.axes[0]
    assert sentence == "Highest in-domain average: {sum}, 60.0 %; lowest: {base, other}, 20.7 %."
    for bars, (name, per_task) in zip(axis.containers, models.items(), strict=True):
        assert bars.get_label() == name
        assert [bar.get_height() for bar in bars] == list(per_task.values())
        assert [round(bar.get_x() + bar.get_width() / 2) for bar in bars] == [0, 1, 2, 3, 4]
    assert len({bars[0].get_hatch() for bars in axis.containers}) == 3, "bars differ by colour alone"
    assert [t.get_text() for t in axis.get_xticklabels()] == list(suite.tasks)


def test_bars_of_one_model(suite):
    _, sentence = plots.accuracy_bars(suite, {"base": dict.fromkeys(suite.tasks, 25.0)})
    assert sentence == "Highest in-domain average: {base}, 25.0 %."


def test_contact_sheet_shows_the_images(suite):
    def web(task, n):
        return np.full((n, 3, 32, 32), 255 if task == "ink" else 51, dtype=np.uint8)

    figure, sentence = plots.contact_sheet(suite, n=3, web=web)
    assert sentence == (
        "The tiny suite: 3 in-domain tasks, in web style and in their own, "
        "and 2 out-of-domain tasks that no expert saw."
    )
    strips = {ax.texts[0].get_text(): ax.images[0].get_array() for ax in figure.axes if ax.images}
    assert list(strips) == [
        *(f"{task}\n{style} style" for task in ("ink", "noise", "land") for style in ("web", "own")),
        "letters\nout of domain",
        "flags\nout of domain",
    ]
    assert all(strip.shape == (32, 3 * 32, 3) for strip in strips.values())
    assert strips["ink\nweb style"].min() == 1.0
    assert strips["noise\nweb style"].max() == pytest.approx(0.2)
    own = strips["land\nown style"]
    second = suite.images("land", "test", 3)[0][1].permute(1, 2, 0).numpy()
    for channel in range(3):  # an increasing map of the picture, the same for every task
        assert np.corrcoef(own[:, 32:64, channel].ravel(), second[:, :, channel].ravel())[0, 1] > 0.9999
    shown = np.concatenate([np.asarray(s).ravel() for label, s in strips.items() if "web" not in label])
    assert shown.min() == 0.0
    assert shown.max() == 1.0


@pytest.mark.parametrize("n", [1, 2, 4, 6])
def test_contact_sheet_fits_a_notebook_and_is_mostly_images(suite, n):
    figure, _ = plots.contact_sheet(suite, n=n)
    figure.draw_without_rendering()
    width, height = figure.get_size_inches() * 100
    assert width <= 1100
    shown = [axis.get_window_extent() for axis in figure.axes if axis.images]
    lowest, highest = min(box.y0 for box in shown), max(box.y1 for box in shown)
    rows = len({round(box.y0) for box in shown})
    assert sum(box.height for box in {round(b.y0): b for b in shown}.values()) > 0.5 * (highest - lowest)
    assert rows * 110 + 50 > height


def test_contact_sheet_without_web_style(suite):
    figure, sentence = plots.contact_sheet(suite, n=2)
    assert "in their own style" in sentence
    assert sum(bool(axis.images) for axis in figure.axes) == 5


def test_series_differ_without_colour_and_in_grey():
    cycle = list(plt.rcParams["axes.prop_cycle"])
    assert len(cycle) == 10
    assert len({(entry["marker"], str(entry["linestyle"])) for entry in cycle}) == 10


def seen_by(colour, deficiency):
    """What a reader with a full colour-vision deficiency sees (Vienot et al., 1999), linear RGB."""
    rgb = np.array(matplotlib.colors.to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_lms = np.array([[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]])
    lms = to_lms @ linear
    if deficiency == "protan":
        lms[0] = 2.02344 * lms[1] - 2.52581 * lms[2]
    if deficiency == "deutan":
        lms[1] = 0.494207 * lms[0] + 1.24827 * lms[2]
    return np.linalg.solve(to_lms, lms)


@pytest.mark.parametrize("deficiency", ["none", "protan", "deutan"])
def test_neighbouring_colours_are_told_apart(deficiency):
    seen = [seen_by(colour, deficiency) for colour in plots.COLOURS[:6]]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 0.05
