"""Where a request goes over HTTP: redirects, encryption, proxies; and logins that stay with their host."""

import base64
import contextlib
import datetime
import ipaddress
import ssl
import time

import pytest
from answering_server import fetched, good, in_drops, serving
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gan_distributed.data import attempts, http_client
from gan_distributed.data.attempts import counters
from gan_distributed.data.http_client import Connections, Request
from gan_distributed.data.http_ranges import read_range
from gan_distributed.data.ranges import RangeReader
from gan_distributed.data.target import Target
from gan_distributed.errors import StorageError


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(attempts, "_FIRST_BACKOFF_S", 0.01)


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
    with serving(answer, encryption) as (url, _), RangeReader(url, 1.5) as reader:
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
    assert time.monotonic() - started < 20


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
