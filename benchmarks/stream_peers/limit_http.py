"""The limit of an HTTP bucket: whole objects read by http.client into one reused buffer a thread.

Options: "host" ("127.0.0.1:9000"), "objects" ([path, bytes] each), "threads", "row_bytes".
"""

import http.client
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from stream_peers.contestant import Options, serve


class Client:
    """Reads all objects, some at a time; its images are those that the bytes would make."""

    def __init__(self, options: Options) -> None:
        self._options = options
        largest = max(size for _, size in options["objects"])
        # Written once, so that no page of them is met for the first time while the clock runs.
        self._spaces = [memoryview(np.ones(largest, np.uint8)) for _ in range(options["threads"])]
        self._of_thread = threading.local()

    def epoch(self) -> int:
        with ThreadPoolExecutor(self._options["threads"], initializer=self._open) as pool:
            return sum(pool.map(self._read, self._options["objects"])) // self._options["row_bytes"]

    def _open(self) -> None:
        self._of_thread.connection = http.client.HTTPConnection(self._options["host"])
        self._of_thread.space = self._spaces.pop()

    def _read(self, found: tuple[str, int]) -> int:
        path, size = found
        connection, space = self._of_thread.connection, self._of_thread.space
        connection.request("GET", path)
        answer = connection.getresponse()
        at = 0
        while got := answer.readinto(space[at:size]):
            at += got
        # http.client knows that an answer is over only when it is asked once more.
        answer.read()
        if at != size:
            raise OSError(f"{path}: {at} bytes came, {size} were asked for")
        return at


if __name__ == "__main__":
    serve(Client)
