"""One HTML file of everything: parts, style, scripts and the numbers that these draw. It needs no network."""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from typing import Any

import gan_distributed
from gan_distributed.reporting import sections
from gan_distributed.reporting.copies import Copies
from gan_distributed.reporting.curves import Figures, hours_at, start_time
from gan_distributed.reporting.dataset import DataSet
from gan_distributed.reporting.grids import Timeline, described
from gan_distributed.reporting.markup import Markup, joined, tag
from gan_distributed.reporting.reading import Run, finite
from gan_distributed.reporting.settings import different, off_default, settings_of
from gan_distributed.reporting.summary import facts_of, status_of

_STYLES = ("uPlot.min.css", "page.css")
_SCRIPTS = ("uPlot.iife.min.js", "charts.js", "page.js")


@dataclass(frozen=True)
class Content:
    """What a page shows. data: of each run, or why it is not known.   copies: of a single run, None in comparisons."""

    runs: Sequence[Run]
    data: Sequence[DataSet | str]
    figures: Figures
    timelines: Sequence[Timeline]
    copies: Copies | str | None


def page_of(content: Content, made: str, version: str | None = None) -> bytes:
    """The whole file. made: when, for the foot of the page.   version: of a live page, which looks for newer ones."""
    names = [run.name for run in content.runs]
    title = " and ".join(names)
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy(is_live=version is not None)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("link", rel="icon", href="data:,"),
        tag("title", f"{title}: report"),
        *(tag("style", Markup(_asset(name))) for name in _STYLES),
    ]
    body = [
        _header(content, title),
        tag("main", _parts(content, names)),
        _footer(made),
        # Read as text, never run.
        tag("script", Markup(_as_json(_numbers(content, version))), type="application/json", id="numbers-json"),
        *(tag("script", Markup(_asset(name))) for name in _SCRIPTS),
    ]
    document = tag("html", tag("head", head), tag("body", body), lang="en")
    return f"<!doctype html>\n{document}\n".encode()


def _header(content: Content, title: str) -> Markup:
    status = [f"{run.name}: {status_of(run)}" if len(content.runs) > 1 else status_of(run) for run in content.runs]
    shown = ["summary", "samples", "curves", "events", *(["copies", "data"] if len(content.runs) == 1 else [])]
    links = [tag("a", name, href=f"#{name}") for name in [*shown, "configuration"]]
    return tag(
        "header",
        tag("h1", title),
        [tag("p", line, class_="status") for line in status],
        tag("nav", links, aria_label="Parts of this page"),
    )


def _parts(content: Content, names: Sequence[str]) -> Markup:
    runs, configs = content.runs, [run.config for run in content.runs]
    facts = [
        facts_of(run, data if isinstance(data, DataSet) else None) for run, data in zip(runs, content.data, strict=True)
    ]
    single = len(runs) == 1
    return joined(
        sections.summary(facts, names),
        tag(
            "div",
            sections.samples(content.timelines, names),
            sections.curves(content.figures),
            class_="side" if single else "stack",
        ),
        sections.events(runs),
        sections.copies(content.copies) if content.copies is not None else None,
        sections.data(content.data[0]) if single else None,
        sections.configuration(off_default(configs), settings_of(configs))
        if single
        else sections.differing(different(configs), names),
        sections.numbers(),
    )


def _footer(made: str) -> Markup:
    return tag(
        "footer",
        tag("p", f"gan-distributed {gan_distributed.__version__}, {made}. Charts by uPlot 1.6.32."),
        tag("details", tag("summary", "Licence of uPlot"), tag("pre", _asset("uPlot-LICENSE.txt"))),
    )


def _numbers(content: Content, version: str | None) -> dict[str, Any]:
    """What the scripts draw. Of each grid the picture itself; of events only where they are."""
    figures = content.figures
    return {
        "version": version,
        "axes": [asdict(axis) for axis in figures.axes],
        "charts": [asdict(chart) for chart in [*figures.scores, *figures.training]],
        "runs": [_of_run(run, timeline) for run, timeline in zip(content.runs, content.timelines, strict=True)],
    }


def _of_run(run: Run, timeline: Timeline) -> dict[str, Any]:
    start = start_time(run)
    return {
        "name": run.name,
        "grids": [
            {
                "kimg": grid.seen_images / 1000,
                "hours": hours_at(run, grid.seen_images),
                "url": grid.url,
                "alt": described(grid),
            }
            for grid in timeline.grids
        ],
        "events": [
            {
                "kind": event.kind,
                "kimg": event.seen_images / 1000,
                "hours": finite((event.time - start) / 3600) if event.time is not None and start is not None else None,
            }
            for event in run.events
        ],
    }


def _as_json(content: dict[str, Any]) -> str:
    """JSON that stays inside its script element, whatever its texts hold."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _policy(*, is_live: bool) -> str:
    """Nothing but the styles and scripts of this package, by their digests, and pictures inside the file."""
    rules = [
        "default-src 'none'",
        "script-src " + " ".join(_digest(name) for name in _SCRIPTS),
        "style-src " + " ".join(_digest(name) for name in _STYLES),
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
    return "; ".join([*rules, *(["connect-src 'self'"] if is_live else [])])


@cache
def _asset(name: str) -> str:
    return resources.files(__package__).joinpath("assets", name).read_text(encoding="utf-8")


@cache
def _digest(name: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(_asset(name).encode()).digest()).decode()}'"
