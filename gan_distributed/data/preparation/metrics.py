"""What `prepare` tells Prometheus: how far it is while it works, and how it ended."""

import time

from gan_distributed.data.preparation.progress import Advance
from gan_distributed.exposition import Exposition, push


class PreparationMetrics:
    """The progress of one command; label `run`, the data set's name.

    port: None for no endpoint.   pushgateway: who is told how it ended, None for nobody.
    """

    def __init__(self, name: str, port: int | None, pushgateway: str | None = None) -> None:
        self._name, self._pushgateway = name, pushgateway
        self._started = time.monotonic()
        self._done = Advance()
        self._is_done = False
        # Scraped from outside the pod, once a port is asked for.
        self.exposition = Exposition({"run": name}, "0.0.0.0", port)  # noqa: S104
        self.exposition.counter("gan_prepare_images", "Images decoded, good and bad")
        self.exposition.counter("gan_prepare_quarantined_images", "Images of written shards that could not be used")
        self.exposition.counter("gan_prepare_bytes", "Bytes of images written into shards")
        self.exposition.gauge("gan_prepare_expected_images", "Images that this command has to decode")
        self.exposition.gauge("gan_prepare_images_per_second", "Images decoded per second since the start")

    def expect(self, num_images: int) -> None:
        """So many images will be decoded."""
        self.exposition.set("gan_prepare_expected_images", num_images)

    def advance(self, done: Advance, images_per_s: float) -> None:
        """More is done."""
        before = self._done
        self._done = Advance(*(old + new for old, new in zip(before, done, strict=True)))
        self.exposition.add("gan_prepare_images", done.num_images)
        self.exposition.add("gan_prepare_quarantined_images", done.num_bad)
        self.exposition.add("gan_prepare_bytes", done.num_bytes)
        self.exposition.set("gan_prepare_images_per_second", images_per_s)

    def finish(self, linger_s: float) -> None:
        """The data set is there; leave time for a last scrape."""
        self._is_done = True
        self.exposition.linger(linger_s)

    def close(self) -> None:
        """Push how it ended, where that is wanted, and free the port."""
        self.exposition.close()
        if self._pushgateway is not None:
            push(self._pushgateway, "gan_prepare", {"run": self._name}, self._fill_final)

    def _fill_final(self, e: Exposition) -> None:
        values = {
            "gan_prepare_final_state": ("1 where the data set is there, 0 where the command failed", self._is_done),
            "gan_prepare_final_timestamp_seconds": ("When it ended", time.time()),
            "gan_prepare_final_seconds": ("How long it took", time.monotonic() - self._started),
            "gan_prepare_final_images": ("Images decoded, good and bad", self._done.num_images),
            "gan_prepare_final_quarantined_images": ("Images that could not be used", self._done.num_bad),
        }
        for name, (text, value) in values.items():
            e.gauge(name, text)
            e.set(name, float(value))
