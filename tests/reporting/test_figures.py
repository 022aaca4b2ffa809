"""Runs as charts and grids: nothing is lost that matters, and both are of bounded size."""

import base64
import hashlib
import io
from pathlib import Path

import pytest
from PIL import Image
from written_runs import interrupted, score, tick, write_run

from gan_distributed import reporting
from gan_distributed.errors import InputError
from gan_distributed.reporting.curves import MOST_POINTS, figures_of
from gan_distributed.reporting.grids import timeline_of
from gan_distributed.reporting.reading import Reader


def read(folder, name, ticks, **parts):
    write_run(str(folder / name), ticks, **parts)
    return Reader(str(folder / name)).read()


def by_title(charts):
    return {chart.title: chart for chart in charts}


def test_a_spike_among_many_ticks_is_still_there_and_what_is_no_number_is_a_gap(tmp_path):
    ticks = [tick(100 * number) for number in range(1, 5001)]
    ticks[1234]["loss_generator"] = 77.0
    ticks[4321]["loss_generator"] = -3.0
    for record in ticks[2000:2050]:
        record["loss_discriminator"] = float("nan")
    figures = figures_of([read(tmp_path, "r", ticks)])
    generator, discriminator = by_title(figures.training)["Loss"].series
    axis = figures.axes[generator.axis]
    assert len(axis.kimg) == len(axis.hours) == len(generator.values) <= MOST_POINTS
    assert (max(generator.values), min(generator.values)) == (77.0, -3.0)
    assert abs(axis.kimg[generator.values.index(77.0)] - 123.5) <= 1
    assert axis.kimg == sorted(axis.kimg)
    assert None in discriminator.values


def test_charts_that_have_nothing_to_say_are_left_out(tmp_path):
    calm = figures_of([read(tmp_path, "calm", [tick(100), tick(200)])])
    eventful = figures_of([read(tmp_path, "eventful", [*interrupted(), tick(1100, 2, skipped_steps=2)])])
    assert by_title(eventful.training).keys() - by_title(calm.training).keys() == {"Skipped steps", "Workers"}
    assert by_title(calm.training)["Waiting for data"].series[0].values == [5.0, 5.0]


def test_gradients_of_many_sizes_are_on_a_logarithmic_axis(tmp_path):
    ticks = [tick(100, gradient_norm_generator=0.01), tick(200, gradient_norm_generator=50.0)]
    charts = by_title(figures_of([read(tmp_path, "r", ticks)]).training)
    assert charts["Gradient norm"].logarithmic
    assert not charts["Loss"].logarithmic


def test_scores_of_two_protocols_are_never_in_one_chart(tmp_path):
    scores = [score(100, 9.0), score(200, 8.0), score(100, 3.0, num_fake=50_000)]
    one = read(tmp_path, "one", [tick(100), tick(200)], scores=scores)
    other = read(tmp_path, "other", [tick(100)], scores=[score(100, 7.0)])
    alone, together = figures_of([one]), figures_of([one, other])
    assert sorted(chart.protocol["num_fake"] for chart in alone.scores) == ["1000", "50000"]
    lines = {
        chart.protocol["num_fake"]: [(line.label, line.values) for line in chart.series] for chart in together.scores
    }
    assert lines == {"1000": [("one", [9.0, 8.0]), ("other", [7.0])], "50000": [("one", [3.0])]}
    assert all(chart.unit == "lower is better" for chart in together.scores)


def test_a_comparison_has_a_chart_for_each_quantity_and_a_line_for_each_run(tmp_path):
    runs = [read(tmp_path, name, [tick(100)]) for name in ("one", "other")]
    charts = by_title(figures_of(runs).training)
    assert [line.label for line in charts["Loss, generator"].series] == ["one", "other"]
    assert charts.keys() >= {"Loss, discriminator", "Discriminator accuracy, fake", "Speed"}


def pixels(grid):
    kind, _, text = grid.url.partition(";base64,")
    return kind, base64.b64decode(text)


def test_grids_that_fit_are_the_very_files(tmp_path):
    run = read(tmp_path, "r", [], samples=tuple(range(0, 500, 100)))
    timeline = timeline_of(run, 10**6)
    assert (len(timeline.grids), timeline.note) == (5, "")
    kind, data = pixels(timeline.grids[2])
    assert (kind, data) == ("data:image/png", (tmp_path / "r" / "samples" / "000000000200.png").read_bytes())


@pytest.mark.parametrize("budget_bytes", [600_000, 100_000, 20_000])
def test_grids_stay_in_the_budget_with_the_first_and_the_last(tmp_path, budget_bytes):
    run = read(tmp_path, "r", [], samples=tuple(range(0, 6000, 100)), side=96)
    timeline = timeline_of(run, budget_bytes)
    assert sum(len(grid.url) - len("data:image/webp;base64,") for grid in timeline.grids) <= budget_bytes
    assert (timeline.grids[0].seen_images, timeline.grids[-1].seen_images) == (0, 5900)
    assert f"{len(timeline.grids)} of 60 grids" in timeline.note
    assert "re-encoded as WebP" in timeline.note
    kind, data = pixels(timeline.grids[-1])
    assert (kind, Image.open(io.BytesIO(data)).format) == ("data:image/webp", "WEBP")


def test_a_grid_that_is_no_picture_is_named(tmp_path):
    run = read(tmp_path, "r", [], samples=(100,))
    (tmp_path / "r" / "samples" / "000000000100.png").write_bytes(b"GIF89a")
    with pytest.raises(InputError, match=r"000000000100.png: not a PNG file"):
        timeline_of(run, 10**6)


def test_the_charts_library_is_the_one_that_the_documentation_names():
    folder = Path(reporting.__file__).parent / "assets"
    text = (Path(__file__).parents[2] / "docs" / "report.md").read_text()
    for name in ("uPlot.iife.min.js", "uPlot.min.css"):
        assert f"| `{name}` | `{hashlib.sha256((folder / name).read_bytes()).hexdigest()}` |" in text
