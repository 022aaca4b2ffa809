"""The limit of an HTTP bucket: whole objects read by http.client into one reused buffer a thread.

Options: "host" ("127.0.0.1:9000"), "objects" ([path, bytes] each), "threads", "row_bytes".
"""

import http.client
import threading
from concurrent.futures import ThreadPoolExecutor

from stream_peers.contestant import Options, serve


class Client:
    """Reads all objects, some at a time; its images are those that the bytes would make."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._objects = [(path, size) for path, size in options["objects"]]
        self._of_thread = threading.local()

    def window(self, seconds: float) -> int:
        raise NotImplementedError("a bucket is read as a whole")

    def epoch(self) -> int:
        with ThreadPoolExecutor(self._options["threads"]) as pool:
            return sum(pool.map(self._read, self._objects)) // self._options["row_bytes"]

    def _read(self, found: tuple[str, int]) -> int:
        path, size = found
        mine = self._of_thread
        if not hasattr(mine, "connection"):
            mine.connection = http.client.HTTPConnection(self._options["host"])
            mine.space = memoryview(bytearray(max(size for _, size in self._objects)))
        mine.connection.request("GET", path)
        answer = mine.connection.getresponse()
        at = 0
        while got := answer.readinto(mine.space[at:size]):
            at += got
        # http.client knows that an answer is over only when it is asked once more.
        answer.read()
        if at != size:
            raise OSError(f"{path}: {at} bytes came, {size} were asked for")
        return at


if __name__ == "__main__":
    serve(Client)
