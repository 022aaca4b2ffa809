"""Makes a server on loopback far away: `python -m stream_figures.relay HOST:PORT LISTEN_PORT ROUND_TRIP_S`.

Bytes arrive half a round trip after they were sent, each way; a new connection costs one round trip more, as TCP's
handshake does. Bandwidth is not limited: many pieces are under way at once.
"""

import asyncio
import contextlib
import sys
import time

_PIECE = 1 << 20
# Pieces under way at once, each way of a connection.
_MAX_PIECES = 64


async def main() -> None:
    host, port = sys.argv[1].rsplit(":", 1)
    round_trip_s = float(sys.argv[3])

    async def accept(near_reader: asyncio.StreamReader, near_writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(host, int(port), limit=_PIECE)
        await asyncio.gather(
            _carry(near_reader, far_writer, round_trip_s / 2, time.monotonic() + round_trip_s),
            _carry(far_reader, near_writer, round_trip_s / 2, 0.0),
        )

    server = await asyncio.start_server(accept, "127.0.0.1", int(sys.argv[2]), limit=_PIECE)
    await server.serve_forever()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float, open_at: float) -> None:
    """Pass bytes on, each piece delay_s after it came, none before delay_s after open_at (time.monotonic)."""
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_MAX_PIECES)

    async def collect() -> None:
        piece = b"-"
        while piece:
            try:
                piece = await reader.read(_PIECE)
            except OSError:
                piece = b""
            await under_way.put((max(time.monotonic(), open_at) + delay_s, piece))

    collecting = asyncio.create_task(collect())
    with contextlib.suppress(OSError):
        while True:
            due, piece = await under_way.get()
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if not piece:
                break
            writer.write(piece)
            await writer.drain()
    collecting.cancel()
    writer.close()


if __name__ == "__main__":
    asyncio.run(main())
