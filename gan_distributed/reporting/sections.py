"""The parts of a page that are text and tables, from plain records. Charts and sliders are drawn by assets/page.js."""

from collections.abc import Iterable, Sequence

from gan_distributed.reporting.copies import Copies
from gan_distributed.reporting.curves import Chart, Figures
from gan_distributed.reporting.dataset import DataSet
from gan_distributed.reporting.events import kimg
from gan_distributed.reporting.grids import Timeline, described, picture
from gan_distributed.reporting.markup import Markup, tag
from gan_distributed.reporting.reading import Run
from gan_distributed.reporting.settings import Row
from gan_distributed.reporting.summary import moment

_FEW_CLASSES = 24


def section(name: str, title: str, *children: str | Iterable[str] | None) -> Markup:
    """A part of the page with its heading."""
    return tag("section", tag("h2", title, id=f"{name}-title"), *children, id=name, aria_labelledby=f"{name}-title")


def summary(facts: Sequence[dict[str, str]], names: Sequence[str]) -> Markup:
    """The facts of one run as a list, of several as a table."""
    if len(facts) == 1:
        rows = [tag("div", tag("dt", name), tag("dd", told)) for name, told in facts[0].items()]
        return section("summary", "Summary", tag("dl", rows))
    told_rows = [(name, [one[name] for one in facts]) for name in facts[0]]
    return section("summary", "Summary", table(["", *names], told_rows))


def table(head: Sequence[str], rows: Sequence[Row], caption: str | None = None, class_: str | None = None) -> Markup:
    """A table whose first column names the rows; it scrolls sideways where it is too wide."""
    body = [tag("tr", tag("th", name, scope="row"), [tag("td", value) for value in values]) for name, values in rows]
    label = caption or " ".join(head).strip()
    content = tag(
        "table",
        tag("caption", caption) if caption else None,
        tag("thead", tag("tr", [tag("th", name, scope="col") for name in head])),
        tag("tbody", body),
        aria_label=None if caption else label,
    )
    classes = f"wide {class_}" if class_ else "wide"
    return tag("div", content, class_=classes, tabindex=0, role="group", aria_label=label)


def samples(timelines: Sequence[Timeline], names: Sequence[str]) -> Markup:
    """The last grid of each run, above a slider that goes through their training."""
    if not any(timeline.grids for timeline in timelines):
        return section("samples", "Samples", tag("p", "No sample grids were written.", class_="note"))
    shown = []
    for index, (timeline, name) in enumerate(zip(timelines, names, strict=True)):
        if timeline.grids:
            last = timeline.grids[-1]
            image = tag("img", src=last.url, alt=described(last), width=last.width, height=last.height, data_run=index)
            told = tag("figcaption", f"{name}, " if len(names) > 1 else "", tag("output", kimg(last.seen_images)))
            shown.append(tag("figure", image, told))
    slider = tag(
        "div",
        tag("button", "Play", type="button", id="play"),
        tag(
            "input", type="range", id="slider", min=0, max=0, value=0, step=1, aria_label="Sample grid, by images seen"
        ),
        class_="slider",
        hidden=True,
    )
    notes = dict.fromkeys(timeline.note for timeline in timelines if timeline.note)
    note = "The same latents through training. The line in the charts is where the slider stands."
    return section(
        "samples",
        "Samples",
        tag("div", shown, class_="grids"),
        slider,
        tag("p", " ".join([note, *notes]), class_="note"),
    )


def curves(figures: Figures) -> Markup:
    """Empty frames of the charts, in the order of the data's, and the choice of the horizontal axis."""
    frames = [_frame(chart, index) for index, chart in enumerate([*figures.scores, *figures.training])]
    if not frames:
        return section("curves", "Curves", tag("p", "No tick was recorded yet.", class_="note"))
    choice = tag(
        "fieldset",
        tag("legend", "Horizontal axis", class_="unseen"),
        [
            tag("label", tag("input", type="radio", name="axis", value=value, checked=value == "kimg"), told)
            for value, told in (("kimg", "kimg"), ("hours", "hours since the start"))
        ],
    )
    keys = tag(
        "p",
        "Drag to zoom, double click to go back, click to show the grid of that time. With the keyboard: arrows. ",
        tag("span", "restart", class_="mark restart"),
        tag("span", "checkpoint", class_="mark checkpoint"),
        tag("span", "other event", class_="mark other"),
        class_="note",
    )
    return section("curves", "Curves", choice, keys, tag("div", frames, class_="charts"))


def _frame(chart: Chart, index: int) -> Markup:
    several = len(chart.series) > 1
    lines = [
        tag("li", tag("i", class_=f"c{one.slot % 6}"), tag("span", one.label) if several else None, tag("output"))
        for one in chart.series
    ]
    unit = ", ".join(filter(None, [chart.unit, "logarithmic" if chart.logarithmic else ""]))
    title = tag("h3", chart.title, tag("small", f" {unit}") if unit else None)
    plot = tag("div", class_="plot", data_chart=index)
    return tag("figure", tag("figcaption", title, tag("ul", lines)), plot, _protocol(chart))


def _protocol(chart: Chart) -> Markup | None:
    if chart.protocol is None:
        return None
    rows = [tag("div", tag("dt", name), tag("dd", told)) for name, told in chart.protocol.items()]
    shown = {name: chart.protocol.get(name, "?") for name in ("num_fake", "num_real", "features")}
    short = f"{shown['num_fake']} fake, {shown['num_real']} real, features {shown['features']}"
    return tag("details", tag("summary", f"Protocol: {short}"), tag("dl", rows), class_="protocol")


def events(runs: Sequence[Run]) -> Markup:
    """Restarts, checkpoints, returns and changes as a table."""
    head = ["kimg", *(["run"] if len(runs) > 1 else []), "time", "what"]
    rows = [
        (
            f"{event.seen_images / 1000:,.6g}",
            [
                *([run.name] if len(runs) > 1 else []),
                moment(event.time) if event.time is not None else "",
                event.text,
            ],
        )
        for run in runs
        for event in run.events
    ]
    rare = [row for row in rows if not row[1][-1].startswith("checkpoint")]
    kept = len(rows) - len(rare)
    more = tag("details", tag("summary", f"With {kept} checkpoints"), table(head, rows)) if kept else None
    return section("events", "Events", table(head, rare) if rare else None, more)


def copies(found: Copies | str) -> Markup:
    """Real images beside generated ones and nearest neighbours; or why there are none."""
    if isinstance(found, str):
        return section("copies", "Real and generated", tag("p", f"Not shown: {found}", class_="note"))
    age = kimg(found.seen_images)
    grids = tag(
        "div",
        tag("figure", tag("img", src=picture(found.real_grid), alt="Real images"), tag("figcaption", "real")),
        tag(
            "figure",
            tag("img", src=picture(found.fake_grid), alt=f"Generated images at {age}"),
            tag("figcaption", f"generated, checkpoint at {age}"),
        ),
        class_="grids pair",
    )
    rows = [
        tag(
            "li",
            tag("img", src=picture(one.fake), alt=f"Generated image {number}", class_="fake"),
            [
                tag(
                    "img", src=picture(image), alt=f"Training image at distance {distance:.3g}", title=f"{distance:.3g}"
                )
                for image, distance in zip(one.real, one.distances, strict=True)
            ],
            tag("span", f"{one.distances[0]:.3g}"),
        )
        for number, one in enumerate(found.closest, start=1)
    ]
    told = (
        f"Of {found.num_fake} generated images the {len(found.closest)} that lie closest to a training image (first in "
        f"each row, then the nearest of {found.num_searched:,} training images, then the distance), in "
        f"{found.features}. Median distance to the nearest training image: {found.fake_distance:.3g} for generated "
        f"images, {found.real_distance:.3g} for training images themselves. {found.num_suspicious} of {found.num_fake} "
        "generated images are as close as the closest 1% of training images are to another one; 1 in 100 is no sign of "
        "copying."
    )
    return section(
        "copies",
        "Real and generated",
        grids,
        tag("h3", "Nearest training images: is it copying?"),
        tag("ol", rows, class_="nearest"),
        tag("p", told, class_="note"),
    )


def data(found: DataSet | str) -> Markup:
    """Classes and refused images; or why they are not known."""
    if isinstance(found, str):
        return section("data", "Data set", tag("p", f"Not read: {found}", class_="note"))
    manifest = found.manifest
    parts: list[Markup] = []
    names, counts = manifest.class_names or (), manifest.class_histogram or ()
    if 1 < len(names) <= _FEW_CLASSES:
        share = [
            tag("div", tag("dt", name), tag("dd", f"{count:,} ({count / manifest.num_images:.1%})"))
            for name, count in zip(names, counts, strict=True)
        ]
        parts.append(tag("dl", share, class_="counts"))
    elif names:
        parts.append(tag("p", f"{len(names)} classes of {min(counts):,} to {max(counts):,} images."))
    total = manifest.num_images + manifest.num_quarantined
    parts.append(tag("p", f"{manifest.num_quarantined:,} of {total:,} images were refused (quarantine.jsonl)."))
    if found.refused:
        rows = [(one.reason, [f"{one.count:,}", one.example]) for one in found.refused]
        rows += [("other reasons", [f"{found.num_more:,}", ""])] if found.num_more > 0 else []
        parts.append(table(["reason", "images", "for example"], rows, "Refused images"))
    return section("data", "Data set", parts)


def configuration(off_default: Sequence[Row], every: Sequence[Row]) -> Markup:
    """What a recipe sets, and all of it."""

    def fields(rows: Sequence[Row]) -> Markup:
        return tag("dl", [tag("div", tag("dt", path), tag("dd", value)) for path, (value,) in rows], class_="columns")

    whole = tag("details", tag("summary", f"All {len(every)} fields"), fields(every))
    return section("configuration", "Configuration", tag("h3", "Other than the defaults"), fields(off_default), whole)


def differing(rows: Sequence[Row], names: Sequence[str]) -> Markup:
    """The fields in which runs differ."""
    if not rows:
        return section("configuration", "Configuration", tag("p", "The configurations are the same.", class_="note"))
    return section("configuration", "Configuration", table(["differs", *names], rows, class_="mono"))


def numbers() -> Markup:
    """Where the values of the charts are put as a table, when it is opened."""
    return tag("details", tag("summary", "All curves as a table"), tag("div", class_="wide", tabindex=0), id="numbers")
