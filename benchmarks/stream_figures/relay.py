"""Makes a server on loopback far away: `python -m stream_figures.relay HOST:PORT LISTEN_PORT ROUND_TRIP_S`.

A request is passed on a round trip after it came, and the first one of a connection a round trip later than that, as if
TCP's handshake had taken one. Answers flow back through the kernel alone, so that the relay takes little of the cores'
time, which it shares with who is measured. Bandwidth is not limited.
"""

import contextlib
import fcntl
import os
import socket
import sys
import threading
import time

_PIECE = 1 << 20


def main() -> None:
    host, port = sys.argv[1].rsplit(":", 1)
    round_trip_s = float(sys.argv[3])
    with socket.create_server(("127.0.0.1", int(sys.argv[2])), backlog=256) as listening:
        while True:
            near, _ = listening.accept()
            far = socket.create_connection((host, int(port)))
            for side in (near, far):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_requests, args=(near, far, round_trip_s), daemon=True).start()
            threading.Thread(target=_answers, args=(far, near), daemon=True).start()


def _requests(near: socket.socket, far: socket.socket, round_trip_s: float) -> None:
    open_at = time.monotonic() + round_trip_s
    with contextlib.suppress(OSError):
        while piece := near.recv(_PIECE):
            time.sleep(max(0.0, open_at - time.monotonic()) + round_trip_s)
            far.sendall(piece)
        far.shutdown(socket.SHUT_WR)


def _answers(far: socket.socket, near: socket.socket) -> None:
    out_of, into = os.pipe()
    # The pipe's usual 64 KiB halve the speed.
    fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, _PIECE)
    with contextlib.suppress(OSError):
        while got := os.splice(far.fileno(), into, _PIECE):
            while got:
                got -= os.splice(out_of, near.fileno(), got)
        near.shutdown(socket.SHUT_WR)
    for end in (out_of, into):
        os.close(end)
    far.close()
    near.close()


if __name__ == "__main__":
    main()
