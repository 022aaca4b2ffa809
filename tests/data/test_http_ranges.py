"""Ranges over HTTP against servers, proxies and connections of every kind: the bytes are right, or an error is."""

import base64
import contextlib
import datetime
import ipaddress
import os
import socket
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gan_distributed.data import attempts, http_client
from gan_distributed.data.arena import Slot, SlotTarget
from gan_distributed.data.attempts import counters
from gan_distributed.data.http_client import Connections, Request
from gan_distributed.data.http_ranges import read_range
from gan_distributed.data.ranges import RangeReader, read_bytes
from gan_distributed.data.target import NotWantedError, Target
from gan_distributed.errors import StorageError

DATA = np.random.default_rng(0).integers(0, 256, 3 << 20, np.uint8).tobytes()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.asked.append((self.path, dict(self.headers)))
        self.server.answer(self)

    def do_CONNECT(self):
        self.server.asked.append((self.path, dict(self.headers)))
        self.send_response(200)
        self.end_headers()
        host, port = self.path.split(":")
        with socket.create_connection((host, int(port))) as far:
            back = threading.Thread(target=pump, args=(far, self.connection))
            back.start()
            pump(self.connection, far)
            back.join()
        self.close_connection = True

    def part(self):
        first, last = self.headers["Range"].removeprefix("bytes=").split("-")
        return DATA[int(first) : int(last) + 1]

    def begin(self, status=206, **headers):
        self.send_response(status)
        for name, said in headers.items():
            self.send_header(name.replace("_", "-"), str(said))
        self.end_headers()

    def log_message(self, *_):
        pass


def pump(source, target):
    with contextlib.suppress(OSError):
        while piece := source.recv(1 << 16):
            target.sendall(piece)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def serving(answer, encryption=None):
    """(URL, server) of a server that answers a GET by calling `answer` with its handler."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None
    server.daemon_threads, server.answer, server.asked = True, answer, []
    if encryption is not None:
        server.socket = encryption.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http{'s' if encryption else ''}://127.0.0.1:{server.server_port}/set/x.npy", server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def good(handler):
    part = handler.part()
    handler.begin(Content_Length=len(part))
    handler.wfile.write(part)


def fetched(reader, url, start=1000, count=1_300_000):
    buffer = bytearray(count)
    reader.fetch(url, start, Target(memoryview(buffer)))
    assert bytes(buffer) == DATA[start : start + count]


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(attempts, "_FIRST_BACKOFF_S", 0.01)


def in_chunks(handler):
    handler.begin(Transfer_Encoding="chunked")
    part = handler.part()
    for at in range(0, len(part), 70_000):
        piece = part[at : at + 70_000]
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
    handler.wfile.write(b"0\r\n\r\n")


def to_the_end(handler):
    handler.begin(Connection="close")
    handler.wfile.write(handler.part())
    handler.close_connection = True


def in_drops(handler):
    part = handler.part()
    handler.begin(Content_Length=len(part))
    # A piece takes longer than the server may be silent, and it never is for so long.
    for at in range(0, len(part), 250_000):
        handler.wfile.write(part[at : at + 250_000])
        time.sleep(0.12)


def hanging_up(handler):
    good(handler)
    handler.close_connection = True


@pytest.mark.parametrize("answer", [good, in_chunks, to_the_end, in_drops, hanging_up])
def test_every_kind_of_answer_is_read_without_a_retry(answer):
    before = counters.retries
    with serving(answer) as (url, _), RangeReader(url, 0.4) as reader:
        for start in (1000, 0, 5):
            fetched(reader, url, start)
    assert counters.retries == before


def test_a_connection_is_used_again():
    before, seen = counters.retries, set()
    with serving(good) as (url, server), RangeReader(url, 0.4) as reader:
        server.answer = lambda handler: (seen.add(handler.client_address), good(handler))
        for count in (1_300_000, 100, 70_000, 1_300_000, 1):
            fetched(reader, url, 7, count)
    assert len(seen) == 1
    assert counters.retries == before


def test_a_server_that_knows_no_ranges_serves_beginnings_only():
    def whole(handler):
        handler.begin(200, Content_Length=len(DATA))
        handler.wfile.write(DATA)

    with serving(whole) as (url, _), RangeReader(url) as reader:
        fetched(reader, url, 0, 100_000)
        assert reader.read(url) == DATA
        with pytest.raises(StorageError, match="knows no ranges"):
            fetched(reader, url, 1)


def test_silence_ends_a_try_and_the_next_one_goes_on():
    def stalls_once(handler):
        part = handler.part()
        handler.begin(Content_Length=len(part))
        handler.wfile.write(part[:300_000])
        if len(handler.server.asked) == 1:
            time.sleep(1)
            handler.close_connection = True
        else:
            handler.wfile.write(part[300_000:])

    before = counters.retries
    with serving(stalls_once) as (url, server), RangeReader(url, 0.3) as reader:
        fetched(reader, url)
    assert [headers["Range"] for _, headers in server.asked] == ["bytes=1000-1300999", "bytes=301000-1300999"]
    assert counters.retries == before + 1


def test_redirects_are_followed_and_a_login_stays_with_its_host():
    with serving(good) as (far, far_server):

        def away(handler):
            handler.begin(302, Location=far if "away" in handler.path else "/away", Content_Length=0)

        with serving(away) as (near, near_server), contextlib.closing(Connections()) as connections:
            target = Target(memoryview(bytearray(1000)))
            read_range(connections, Request(near, {"Authorization": "Bearer x"}), 0, target, 1)
    assert target.num_missing == 0
    assert [headers.get("Authorization") for _, headers in near_server.asked] == ["Bearer x"] * 2
    assert "Authorization" not in far_server.asked[0][1]


def test_redirects_without_end_are_told():
    def around(handler):
        handler.begin(307, Location=handler.path, Content_Length=0)

    said = pytest.raises(StorageError, match="redirected more than 3 times")
    with serving(around) as (url, _), RangeReader(url) as reader, said:
        fetched(reader, url)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A file with the key and certificate of 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    place = tmp_path_factory.mktemp("tls") / "both.pem"
    place.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    return place


@pytest.fixture
def encryption(certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    http_client._encryption.cache_clear()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    yield context
    http_client._encryption.cache_clear()


@pytest.mark.parametrize("answer", [good, in_drops])
def test_encrypted_bytes_are_the_same(encryption, answer):
    before = counters.retries
    with serving(answer, encryption) as (url, _), RangeReader(url, 0.4) as reader:
        for start in (0, 77):
            fetched(reader, url, start)
    assert counters.retries == before


def test_an_unknown_certificate_is_refused_at_once(encryption, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    http_client._encryption.cache_clear()
    started = time.monotonic()
    said = pytest.raises(StorageError, match="certificate verify failed")
    with serving(good, encryption) as (url, _), RangeReader(url) as reader, said:
        fetched(reader, url)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("is_encrypted", [False, True])
def test_proxies_of_the_environment_are_used(encryption, monkeypatch, is_encrypted):
    with serving(good, encryption if is_encrypted else None) as (url, server), serving(good) as (near, proxy):
        place = near.removesuffix("/set/x.npy").replace("//", "//me:a%40b@")
        monkeypatch.setenv("https_proxy" if is_encrypted else "http_proxy", place)
        monkeypatch.delenv("no_proxy", raising=False)
        with RangeReader(url) as reader:
            fetched(reader, url)
        path, headers = proxy.asked[0]
        assert path == (url.split("/")[2] if is_encrypted else url)
        assert headers["Proxy-Authorization"] == "Basic " + base64.b64encode(b"me:a@b").decode()
        assert len(server.asked) == is_encrypted
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert len(proxy.asked) == 1
        with RangeReader(url) as reader:
            fetched(reader, url)
        assert len(proxy.asked) == 1


def test_stop_wakes_who_waits_and_leaves_no_file_open():
    released = threading.Event()

    def stalls(handler):
        handler.begin(Content_Length=len(handler.part()))
        handler.wfile.write(b"x")
        released.wait(10)

    with serving(stalls) as (url, server):
        files = len(os.listdir("/proc/self/fd"))
        reader, ended = RangeReader(url), []

        def wait():
            with pytest.raises(NotWantedError):
                fetched(reader, url)
            ended.append(time.monotonic())

        threads = [threading.Thread(target=wait) for _ in range(3)]
        for thread in threads:
            thread.start()
        while len(server.asked) < 3:
            time.sleep(0.01)
        time.sleep(0.1)
        started = time.monotonic()
        reader.stop()
        for thread in threads:
            thread.join()
        reader.close()
        assert max(ended) - started < 1
        with pytest.raises(NotWantedError):
            fetched(reader, url)
        released.set()
        # The server's own ends of the connections close when it notices.
        deadline = time.monotonic() + 5
        while len(os.listdir("/proc/self/fd")) > files and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(os.listdir("/proc/self/fd")) <= files


def test_a_login_that_ended_is_renewed_once_for_all_threads(monkeypatch):
    from gan_distributed.data import storage

    opened = []

    class Filesystem:
        requester_pays = False

        def __init__(self, number):
            self.number = number
            self.credentials = self

        def apply(self, headers):
            headers["Authorization"] = str(self.number)

        def url(self, path):
            return path

        def _strip_protocol(self, place):
            return url

        project = "p"

    def open_filesystem(place, **more):
        opened.append(more)
        return Filesystem(len(opened)), place

    def answer(handler):
        if handler.headers["Authorization"] == "1":
            handler.begin(401, Content_Length=0)
        else:
            good(handler)

    monkeypatch.setattr(storage, "open_filesystem", open_filesystem)
    with serving(answer) as (url, _), RangeReader("gs://bucket/set") as reader:
        threads = [threading.Thread(target=fetched, args=(reader, "gs://bucket/set/x.npy")) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert opened == [{}, {"skip_instance_cache": True}]


def test_nothing_is_written_into_a_slot_that_is_done():
    rows = np.zeros((4, 8), np.uint8)
    slot = Slot(0, rows, np.zeros(4, np.int64))
    target = SlotTarget(slot, rows)
    target.fill_from(b"a" * 16)
    slot.is_done = True
    with pytest.raises(NotWantedError):
        target.fill_from(b"b" * 16)
    assert rows.tobytes() == b"a" * 16 + bytes(16)


def test_populating_keeps_what_is_there():
    rows = np.arange(1 << 20, dtype=np.uint8).reshape(256, -1)
    Slot(0, rows[3:200], np.zeros(197, np.int64)).populate()
    assert np.array_equal(rows.reshape(-1), np.arange(1 << 20, dtype=np.uint8))


def test_odd_characters_of_a_url_reach_the_server_quoted():
    with serving(lambda handler: (handler.begin(200, Content_Length=2), handler.wfile.write(b"ok"))) as (url, server):
        assert read_bytes(url + " ü%20?a=b c&d=%2F") == b"ok"
    assert server.asked[0][0] == "/set/x.npy%20%C3%BC%20?a=b%20c&d=%2F"
