"""What one process tells Prometheus: families declared once, served over HTTP, and at the end pushed.

The only file that imports prometheus_client. Metrics never stop the work: a taken port falls back to a free one, and a
Pushgateway that does not answer is a warning. Every label but the process's own has a fixed set of values, so that the
number of series is known.
"""

import logging
import os
import time
from collections.abc import Callable, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any

import prometheus_client as prometheus

logger = logging.getLogger(__name__)
_LINGER_CHECK_S = 0.1
_PUSH_S = 5.0


class Exposition:
    """One registry, whose families all carry the process's labels, and its endpoint `/metrics`.

    port: None for no endpoint, 0 for a free one.
    """

    def __init__(self, labels: Mapping[str, str], host: str, port: int | None) -> None:
        # They would double the series of counters, and say only when the process began.
        prometheus.disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = prometheus.CollectorRegistry()
        self._labels = dict(labels)
        self._families: dict[str, Any] = {}
        self._totals: dict[tuple[str, tuple[str, ...]], float] = {}
        self._server: Any = None
        self.port: int | None = None
        if port is not None:
            self._serve(host, port)

    def _serve(self, host: str, port: int) -> None:
        # Port 0 is any that is free.
        for candidate in (port, 0):
            try:
                self._server, self._thread = prometheus.start_http_server(candidate, addr=host, registry=self._registry)
            except OSError as error:
                logger.warning("metrics: nothing can be served on %s:%d (%s)", host, candidate, error)
                continue
            self.port = self._server.server_port
            if candidate != port:
                logger.warning("metrics: they are on port %d instead of %d", self.port, port)
            return

    def counter(self, name: str, text: str, **values: tuple[str, ...]) -> None:
        """Declare a counter, with at most one more label and its values; all its series exist from the start.

        So rate() sees the first step of each.
        """
        family = prometheus.Counter(name, text, [*self._labels, *values], registry=self._registry)
        self._families[name] = family
        for label, allowed in values.items() or [("", ("",))]:
            for value in allowed:
                family.labels(**self._labels, **({label: value} if label else {}))

    def gauge(self, name: str, text: str, *labels: str) -> None:
        """Declare a gauge; its series exist once they are set, since 0 would be a lie."""
        self._families[name] = prometheus.Gauge(name, text, [*self._labels, *labels], registry=self._registry)

    def histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> None:
        """Declare a histogram."""
        family = prometheus.Histogram(name, text, list(self._labels), registry=self._registry, buckets=buckets)
        self._families[name] = family
        family.labels(**self._labels)

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        self._families[name].labels(**self._labels, **labels).set(value)

    def add(self, name: str, value: float, **labels: str) -> None:
        """Raise a counter."""
        self._families[name].labels(**self._labels, **labels).inc(value)

    def raise_to(self, name: str, total: float, **labels: str) -> None:
        """Bring a counter up to date with a total.

        Several sources may follow one another in a process; their totals start again from 0.
        """
        key = (name, tuple(labels.values()))
        last = self._totals.get(key, 0.0)
        self.add(name, total - last if total >= last else total, **labels)
        self._totals[key] = total

    def observe(self, name: str, value: float) -> None:
        """Add one value to a histogram."""
        self._families[name].labels(**self._labels).observe(value)

    def linger(self, seconds: float, is_over: Callable[[], bool] = lambda: False) -> None:
        """Stay for a last scrape, so long or until is_over; not at all where nothing is served."""
        until = time.monotonic() + seconds
        while self._server is not None and time.monotonic() < until and not is_over():
            time.sleep(_LINGER_CHECK_S)

    def close(self) -> None:
        """Free the port."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None


def push(gateway: str, job: str, labels: Mapping[str, str], fill: Callable[[Exposition], None]) -> None:
    """Send what `fill` declares and sets to a Pushgateway, in the place of what the same labels left there before.

    Only for what is final: a Pushgateway shows it until somebody deletes it.
    """
    final = Exposition(labels, "", None)
    fill(final)
    try:
        prometheus.push_to_gateway(gateway, job, final._registry, grouping_key=dict(labels), timeout=_PUSH_S)
    except (OSError, HTTPException, ValueError) as error:
        logger.warning("metrics: the Pushgateway %s did not take the end of the job (%s)", gateway, error)


def resident_bytes() -> tuple[int, int]:
    """Resident memory of this process, and what of it is no mapped file; zeros where the system does not tell."""
    try:
        _, resident, shared, *_ = map(int, Path("/proc/self/statm").read_text().split())
    except OSError:
        return 0, 0
    page = os.sysconf("SC_PAGE_SIZE")
    return resident * page, (resident - shared) * page
