"""From the URLs of runs to a page: reads, computes, puts together. Can be asked again while the runs go on."""

import time
from collections.abc import Callable, Sequence

from gan_distributed.errors import GanError
from gan_distributed.reporting.copies import Copies, look_for_copies
from gan_distributed.reporting.curves import figures_of
from gan_distributed.reporting.dataset import DataSet, open_dataset
from gan_distributed.reporting.grids import timeline_of
from gan_distributed.reporting.page import Content, page_of
from gan_distributed.reporting.reading import Reader, Run
from gan_distributed.reporting.summary import moment

# Fewer than in a page of one run, as they lie side by side.
_MOST_GRIDS, _MOST_GRIDS_COMPARED = 48, 24


class Maker:
    """Makes pages of some runs.

    data: where their data set is, None where the runs say.   budget_bytes: for all grids.
    search_s: for real images and nearest neighbours, 0 for none of them.   say: prints a line for the user.
    """

    def __init__(
        self, urls: Sequence[str], data: str | None, budget_bytes: int, search_s: float, say: Callable[[str], None]
    ) -> None:
        self._readers = [Reader(url) for url in urls]
        self._data, self._budget_bytes, self._search_s, self._say = data, budget_bytes, search_s, say

    def signs(self) -> list[list[list[str]]]:
        """What differs once there is something new to show."""
        return [reader.signs() for reader in self._readers]

    def page(self, version: str | None = None) -> bytes:
        """The page of now. version: of a live page. Raises InputError where a run is none, or damaged."""
        runs = [reader.read() for reader in self._readers]
        data = [self._open(run) for run in runs]
        most = _MOST_GRIDS if len(runs) == 1 else _MOST_GRIDS_COMPARED
        content = Content(
            runs=runs,
            data=data,
            figures=figures_of(runs),
            timelines=[timeline_of(run, self._budget_bytes // len(runs), most) for run in runs],
            copies=self._copies(runs[0], data[0]) if len(runs) == 1 else None,
        )
        return page_of(content, f"made {moment(time.time())}", version)

    def _open(self, run: Run) -> DataSet | str:
        try:
            return open_dataset(run, self._data)
        except GanError as error:
            return str(error)

    def _copies(self, run: Run, data: DataSet | str) -> Copies | str:
        if not self._search_s:
            return "left out here; `gan-distributed report RUN OUT.html` shows them"
        if isinstance(data, str):
            return data
        try:
            return look_for_copies(run, data, self._search_s, self._say)
        except GanError as error:
            return str(error)
