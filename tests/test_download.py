"""Downloads from a real server on loopback, with every fault that is handled."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
import time
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest
from serving import TAG, cut, drip, endless, serving, stalled, status, trickle, whole

from converter.errors import SourceError
from converter.progress import silent
from converter.sources.download import DownloadLimits, fetch
from converter.sources.partial import PartialDownload, ResumeInfo

if TYPE_CHECKING:
    from pathlib import Path

    from serving import Answer, Handler

CONTENT = bytes(range(256)) * 1000
LIMITS = DownloadLimits(attempts=3, stall=1, total=10, backoff=0.01, longest_pause=2)


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@pytest.fixture
def partial(tmp_path: Path) -> PartialDownload:
    return PartialDownload(tmp_path / "file.zip")


def get(url: str, partial: PartialDownload, limits: DownloadLimits = LIMITS) -> bytes:
    fetch(url, partial, silent, limits)
    return partial.path.read_bytes()


def start_download(partial: PartialDownload, size: int, validator: str = TAG) -> None:
    """Write the partial download of an earlier run."""
    partial.restart(ResumeInfo(validator, len(CONTENT)))
    partial.path.write_bytes(CONTENT[:size])


@pytest.mark.parametrize(
    "fault",
    [
        cut(CONTENT, 0),
        cut(CONTENT, 1000),
        cut(CONTENT, 1000, tag=None),
        stalled(CONTENT, 1000),
        status(500),
        status(503),
        status(408),
        status(429, Retry_After="0"),
        status(429, Retry_After="yesterday"),
        status(503, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"),
        lambda _: None,
    ],
)
def test_transient_fault_is_retried(partial: PartialDownload, fault: Answer) -> None:
    with serving(fault, whole(CONTENT)) as server:
        assert get(server.url, partial) == CONTENT
    assert len(server.seen) == 2


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (status(500), r"the server answers 500 Internal Server Error; 3 attempts$"),
        (status(429), "the server answers 429 Too Many Requests; 3 attempts"),
        (cut(CONTENT, 0), "expected 256,000 bytes, received 0; 3 attempts"),
        (cut(CONTENT, 9, tag=None), "expected 256,000 bytes, received 9; 3 attempts"),
        (stalled(CONTENT, 0), r"no data for 1 s; 3 attempts"),
        (lambda _: None, "the connection failed: Remote end closed connection without response; 3 attempts"),
    ],
)
def test_persistent_fault_raises_after_all_attempts(
    partial: PartialDownload, fault: Answer, message: str
) -> None:
    with serving(fault) as server, pytest.raises(SourceError, match=message):
        get(server.url, partial)
    assert len(server.seen) == LIMITS.attempts
    assert list(partial.path.parent.iterdir()) == []


@pytest.mark.parametrize("number", [400, 401, 403, 404, 410, 206, 304])
def test_permanent_status_is_not_retried(partial: PartialDownload, number: int) -> None:
    with serving(status(number)) as server:
        start_download(partial, 0)
        expected = f"the server answers {number} {HTTPStatus(number).phrase}$"
        with pytest.raises(SourceError, match=expected):
            get(server.url, partial)
    assert len(server.seen) == 1
    assert list(partial.path.parent.iterdir()) == []


def test_unknown_status_is_refused(partial: PartialDownload) -> None:
    with serving(status(499)) as server, pytest.raises(SourceError, match=r"the server answers 499$"):
        get(server.url, partial)


def test_retry_after_is_respected(partial: PartialDownload) -> None:
    start = time.monotonic()
    with serving(status(429, Retry_After="1"), whole(CONTENT)) as server:
        assert get(server.url, partial) == CONTENT
    assert 1 <= time.monotonic() - start < 2


def test_long_retry_after_is_refused(partial: PartialDownload) -> None:
    expected = "503 Service Unavailable, and asks to wait 3,600 s; 1 attempt$"
    with serving(status(503, Retry_After="3600")) as server, pytest.raises(SourceError, match=expected):
        get(server.url, partial)
    assert len(server.seen) == 1


def test_refused_connection_is_retried(partial: PartialDownload) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(SourceError, match="the connection failed: Connection refused; 3 attempts"):
        get(url, partial)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("file:///etc/passwd", "No connection adapters"),
        ("ftp://127.0.0.1/file", "No connection adapters"),
        ("nothing", "No scheme supplied"),
        ("http://", "No host supplied"),
    ],
)
def test_non_http_url_is_refused(partial: PartialDownload, url: str, message: str) -> None:
    with pytest.raises(SourceError, match=f"cannot be requested: .*{message}"):
        get(url, partial)


def test_failed_tls_handshake_is_retried(partial: PartialDownload) -> None:
    expected = r"the connection failed: \[SSL.*; 3 attempts"
    with serving(whole(CONTENT)) as server, pytest.raises(SourceError, match=expected):
        get(server.url.replace("http:", "https:"), partial)


def test_interrupted_transfer_is_resumed(partial: PartialDownload) -> None:
    with serving(cut(CONTENT, 100_000), whole(CONTENT)) as server:
        assert get(server.url, partial) == CONTENT
    assert server.ranges == [None, "bytes=100000-"]
    assert server.seen[1]["If-Range"] == TAG


def test_next_run_resumes_the_transfer(partial: PartialDownload) -> None:
    expected = "3 attempts; 100,000 of 256,000 bytes are kept; the next run resumes the download"
    with serving(cut(CONTENT, 100_000), status(500)) as server:
        with pytest.raises(SourceError, match=expected):
            get(server.url, partial)
        server.answers = [whole(CONTENT)]
        assert get(server.url, partial) == CONTENT
    assert server.ranges[-1] == "bytes=100000-"


def test_last_modified_validates_without_an_etag(partial: PartialDownload) -> None:
    date = "Wed, 21 Oct 2015 07:28:00 GMT"

    def broken(handler: Handler) -> None:
        handler.head(200, Content_Length=len(CONTENT), Last_Modified=date, ETag='W/"weak"')
        handler.wfile.write(CONTENT[:500])

    with serving(broken, whole(CONTENT, tag=date)) as server:
        assert get(server.url, partial) == CONTENT
    assert (server.ranges[1], server.seen[1]["If-Range"]) == ("bytes=500-", date)


@pytest.mark.parametrize(
    "then",
    [
        pytest.param(whole(CONTENT, tag='"another"'), id="another content"),
        pytest.param(cut(CONTENT, len(CONTENT)), id="no ranges"),
    ],
)
def test_changed_content_restarts_the_download(partial: PartialDownload, then: Answer) -> None:
    with serving(then) as server:
        start_download(partial, 1000)
        partial.path.write_bytes(b"x" * 1000)
        assert get(server.url, partial) == CONTENT
    assert server.ranges == ["bytes=1000-"]


def partial_content(told: str, tag: str = TAG) -> Answer:
    def answer(handler: Handler) -> None:
        handler.head(206, Content_Length=10, Content_Range=told, ETag=tag)
        handler.wfile.write(b"x" * 10)

    return answer


@pytest.mark.parametrize(
    "wrong",
    [
        partial_content("bytes 999-255999/256000"),
        partial_content("bytes 1000-256000/256001"),
        partial_content("bytes 1000-255999/*"),
        partial_content(""),
        partial_content("bytes 1000-255999/256000", tag='"another"'),
        status(416),
    ],
)
def test_invalid_partial_response_restarts_the_download(partial: PartialDownload, wrong: Answer) -> None:
    with serving(wrong, whole(CONTENT)) as server:
        start_download(partial, 1000)
        assert get(server.url, partial) == CONTENT
    assert server.ranges == ["bytes=1000-", None]


def test_short_partial_response_is_resumed(partial: PartialDownload) -> None:
    with serving(partial_content("bytes 1000-255999/256000"), whole(CONTENT)) as server:
        start_download(partial, 1000)
        assert get(server.url, partial)[1010:] == CONTENT[1010:]
    assert server.ranges == ["bytes=1000-", "bytes=1010-"]


def test_complete_partial_file_is_not_requested(partial: PartialDownload) -> None:
    with serving(status(500)) as server:
        start_download(partial, len(CONTENT))
        assert get(server.url, partial) == CONTENT
    assert server.seen == []


@pytest.mark.parametrize("note", ["{", "{}", '{"validator":"a\\r\\nb","total":256000}', None])
def test_damaged_resume_info_restarts_the_download(partial: PartialDownload, note: str | None) -> None:
    with serving(whole(CONTENT)) as server:
        start_download(partial, 1000)
        partial.note.unlink() if note is None else partial.note.write_text(note)
        assert get(server.url, partial) == CONTENT
    assert server.ranges == [None]


def test_partial_file_longer_than_the_whole_begins_anew(partial: PartialDownload) -> None:
    with serving(whole(CONTENT)) as server:
        start_download(partial, 1000)
        partial.path.write_bytes(CONTENT + b"x")
        assert get(server.url, partial) == CONTENT
    assert server.ranges == [None]


def test_too_large_content_length_is_refused_unread(partial: PartialDownload) -> None:
    limits = replace(LIMITS, size=len(CONTENT) - 1)
    expected = "the file has 256,000 bytes; the limit is 255,999"
    with serving(whole(CONTENT)) as server, pytest.raises(SourceError, match=expected):
        get(server.url, partial, limits)
    assert list(partial.path.parent.iterdir()) == []


def test_endless_body_is_refused_at_the_size_limit(partial: PartialDownload) -> None:
    limits = replace(LIMITS, size=1 << 20)
    with serving(endless()) as server, pytest.raises(SourceError, match="more than 1,048,576 bytes"):
        get(server.url, partial, limits)
    assert list(partial.path.parent.iterdir()) == []


def test_bytes_after_content_length_are_not_read(partial: PartialDownload) -> None:
    with serving(endless(Content_Length=1000)) as server:
        assert get(server.url, partial) == bytes(1000)


def test_slow_transfer_times_out_without_stalling(partial: PartialDownload) -> None:
    limits = replace(LIMITS, total=0.5)
    start = time.monotonic()
    with (
        serving(trickle(CONTENT, 0.05)) as server,
        pytest.raises(SourceError, match=r"^not complete after 0\.5 s"),
    ):
        get(server.url, partial, limits)
    assert time.monotonic() - start < 2


@pytest.mark.parametrize(
    ("begin", "again"),
    [
        (b"HTTP/1.1 200 ", b"O"),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\n", b"X: y\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1", b";x"),
    ],
    ids=["status", "headers", "headers of a redirect", "length of a chunk"],
)
def test_slow_headers_time_out(partial: PartialDownload, begin: bytes, again: bytes) -> None:
    with serving(drip(begin, again, 0.02)) as server:
        before = time.monotonic()
        with pytest.raises(SourceError, match=r"^not complete after 1 s$"):
            get(server.url, partial, replace(LIMITS, total=1))
        assert time.monotonic() - before < 5
    assert not partial.path.exists()


def test_nothing_is_written_after_the_timeout(partial: PartialDownload) -> None:
    with serving(trickle(CONTENT, 0.01)) as server:
        with pytest.raises(SourceError, match=r"^not complete after 0\.5 s"):
            get(server.url, partial, replace(LIMITS, total=0.5))
        size = partial.size
        time.sleep(0.3)
        assert 0 < size == partial.size


def test_redirect_to_another_host_is_followed(partial: PartialDownload) -> None:
    with serving(whole(CONTENT)) as other:
        elsewhere = other.url.replace("127.0.0.1", "localhost")
        with serving(status(302, Location=elsewhere)) as server:
            assert get(server.url, partial) == CONTENT


def test_credentials_are_not_sent_to_another_host(partial: PartialDownload) -> None:
    with serving(cut(CONTENT, 1000), whole(CONTENT)) as other:
        elsewhere = other.url.replace("127.0.0.1", "localhost")
        with serving(status(307, Location=elsewhere)) as server:
            assert get(server.url.replace("//", "//me:secret@"), partial) == CONTENT
    assert all(headers["Authorization"].startswith("Basic ") for headers in server.seen)
    assert not any("Authorization" in headers or "Cookie" in headers for headers in other.seen)


def test_too_many_redirects_are_refused(partial: PartialDownload) -> None:
    with serving(status(301, Location="/again")) as server:
        with pytest.raises(SourceError, match=r"more than 5 redirects$"):
            get(server.url, partial)
        assert len(server.seen) == 6


def test_redirect_body_is_not_read(partial: PartialDownload) -> None:
    with serving(endless(302, Location="/there"), whole(CONTENT)) as server:
        assert get(server.url, partial) == CONTENT


def test_redirect_to_a_file_url_is_refused(partial: PartialDownload) -> None:
    answer = status(302, Location="file:///etc/passwd")
    with serving(answer) as server, pytest.raises(SourceError, match="No connection adapters"):
        get(server.url, partial)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and the certificate that it gave itself, for localhost."""
    x509: Any = pytest.importorskip("cryptography.x509")
    hashes: Any = pytest.importorskip("cryptography.hazmat.primitives.hashes")
    serialization: Any = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    ec: Any = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ec")
    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - dt.timedelta(days=1))
    builder = builder.not_valid_after(now + dt.timedelta(days=1))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    pem, none = serialization.Encoding.PEM, serialization.NoEncryption()
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    path.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, none)
        + builder.sign(key, hashes.SHA256()).public_bytes(pem)
    )
    return path


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_https_redirect_is_followed(
    partial: PartialDownload, tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with (
        serving(whole(CONTENT), tls=tls) as other,
        serving(status(302, Location=f"{other.url}/x"), tls=tls) as server,
    ):
        assert get(server.url, partial) == CONTENT


def test_self_signed_certificate_is_refused_without_a_retry(
    partial: PartialDownload, tls: ssl.SSLContext
) -> None:
    with serving(whole(CONTENT), tls=tls) as server:
        with pytest.raises(SourceError, match=r"cannot be requested: \[SSL: CERTIFICATE_VERIFY_FAILED\]"):
            get(server.url, partial)
        assert server.seen == []


def test_progress_reports_the_total(partial: PartialDownload) -> None:
    told: list[tuple[str, int, int]] = []
    with serving(whole(CONTENT)) as server:
        start_download(partial, 1000)
        fetch(server.url, partial, lambda *step: told.append(step), LIMITS)
    assert told[-1] == ("downloading", len(CONTENT), len(CONTENT))
    assert all(1000 < done <= total == len(CONTENT) for _, done, total in told)
