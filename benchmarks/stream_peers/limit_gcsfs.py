"""The limit of plain gcsfs: concurrent cat_file on whole blocks, and nothing done with them.

Options: "ranges" ([gs:// path, start, stop] each), "threads", "row_bytes". STORAGE_EMULATOR_HOST names the server.
"""

from concurrent.futures import ThreadPoolExecutor

import gcsfs

from stream_peers.contestant import Options, serve


class CatFile:
    """Reads all blocks, some at a time."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._bucket = gcsfs.GCSFileSystem(token="anon", project="bench")

    def epoch(self) -> int:
        with ThreadPoolExecutor(self._options["threads"]) as pool:
            return sum(pool.map(self._read, self._options["ranges"])) // self._options["row_bytes"]

    def _read(self, wanted: tuple[str, int, int]) -> int:
        path, start, stop = wanted
        return len(self._bucket.cat_file(path, start=start, end=stop))


if __name__ == "__main__":
    serve(CatFile)
