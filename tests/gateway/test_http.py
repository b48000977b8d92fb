"""The HTTP/1.1 server refuses every ambiguous form cleanly, and holds its limits."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.fakes.upstream import delta, stream
from tests.gateway.rig import WAIT, Rig, chat, parse_answer, read_answer

from garrison.core.errors import Usage
from garrison.gateway.config import HttpLimits
from garrison.gateway.http_parse import ChunkedBody, parse_head

GET = b"GET /v1/models HTTP/1.1\r\n"
POST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"

SMUGGLING = {
    "length and chunked": POST + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}x",
    "two equal lengths": POST + b"content-length: 2\r\ncontent-length: 2\r\n\r\n{}",
    "a list of lengths": POST + b"content-length: 2, 2\r\n\r\n{}",
    "a signed length": POST + b"content-length: +2\r\n\r\n{}",
    "a negative length": POST + b"content-length: -1\r\n\r\n",
    "a hexadecimal length": POST + b"content-length: 0x2\r\n\r\n{}",
    "an empty length": POST + b"content-length: \r\n\r\n",
    "a length of 40 digits": POST + b"content-length: " + b"1" * 40 + b"\r\n\r\n",
    "chunked and something": POST + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": POST + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "identity coding": POST + b"transfer-encoding: identity\r\n\r\n",
    "coding with a tab": POST + b"transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "space before the colon": POST + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
    "a folded header": GET + b"host: a\r\nx-one: 1\r\n two\r\n\r\n",
    "a bare LF": GET + b"host: a\nx-one: 1\r\n\r\n",
    "only LF": b"GET /v1/models HTTP/1.1\nhost: a\n\n",
    "a bare CR": GET + b"host: a\r\nx-one: 1\rtwo\r\n\r\n",
    "a NUL": GET + b"host: a\r\nx-one: 1\x002\r\n\r\n",
    "an empty name": GET + b"host: a\r\n: 1\r\n\r\n",
    "a header without a colon": GET + b"host: a\r\nnothing\r\n\r\n",
    "bytes above ASCII": GET + "host: a\r\nx-one: é\r\n\r\n".encode(),
    "no host": GET + b"accept: */*\r\n\r\n",
    "two hosts": GET + b"host: a\r\nhost: b\r\n\r\n",
    "an odd host": GET + b"host: a/b@c\r\n\r\n",
    "HTTP/1.0": b"GET /v1/models HTTP/1.0\r\nhost: a\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/1.2": b"GET /v1/models HTTP/1.2\r\nhost: a\r\n\r\n",
    "absolute form": b"GET http://a/v1/models HTTP/1.1\r\nhost: a\r\n\r\n",
    "authority form": b"CONNECT a:443 HTTP/1.1\r\nhost: a\r\n\r\n",
    "asterisk form": b"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n",
    "two spaces": b"GET  /v1/models HTTP/1.1\r\nhost: a\r\n\r\n",
    "a tab for a space": b"GET\t/v1/models HTTP/1.1\r\nhost: a\r\n\r\n",
    "a line before it": b"\r\nGET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n",
    "lower-case method": b"get /v1/models HTTP/1.1\r\nhost: a\r\n\r\n",
    "websocket": GET + b"host: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
    "h2c": GET + b"host: a\r\nupgrade: h2c\r\nhttp2-settings: AAA\r\nconnection: keep-alive\r\n\r\n",
    "connection names a header": GET + b"host: a\r\nconnection: authorization\r\n\r\n",
    "two connections": GET + b"host: a\r\nconnection: close\r\nconnection: keep-alive\r\n\r\n",
    "two authorizations": GET + b"host: a\r\nauthorization: Bearer a\r\nauthorization: Bearer b\r\n\r\n",
    "another expectation": POST + b"content-length: 2\r\nexpect: 200-ok\r\n\r\n{}",
}

BAD_CHUNKS = {
    "not hexadecimal": b"xyz\r\n{}\r\n0\r\n\r\n",
    "signed": b"+2\r\n{}\r\n0\r\n\r\n",
    "with 0x": b"0x2\r\n{}\r\n0\r\n\r\n",
    "an extension": b"2;a=b\r\n{}\r\n0\r\n\r\n",
    "a space": b"2 \r\n{}\r\n0\r\n\r\n",
    "LF only": b"2\n{}\n0\n\n",
    "too long": b"00000000000000002\r\n{}\r\n0\r\n\r\n",
    "a wrong size": b"3\r\n{}\r\n0\r\n\r\n",
    "a trailer": b"2\r\n{}\r\n0\r\nx: y\r\n\r\n",
    "nothing": b"\r\n\r\n",
}


@pytest.mark.parametrize("name", SMUGGLING)
def test_an_ambiguous_head_is_a_clean_400_and_the_connection_ends(rig: Rig, name: str) -> None:
    follow_up = b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n"
    with socket.create_connection(("127.0.0.1", rig.port), timeout=WAIT) as client:
        client.sendall(SMUGGLING[name] + follow_up)
        answer = parse_answer(read_answer(client))
        assert (answer.status, answer.headers["connection"]) == (400, "close")
        assert answer.code in {"HTTP-SYNTAX", "HTTP-FRAMING", "HTTP-UPGRADE"}
        assert client.recv(100) == b""  # and the bytes behind it are never a second request
    assert not rig.upstream.asked
    assert rig.event_of(answer)["outcome"] == "denied"


@pytest.mark.parametrize("name", BAD_CHUNKS)
def test_a_chunked_body_that_is_not_exactly_one_is_refused(rig: Rig, name: str) -> None:
    token = f"authorization: Bearer {rig.token()}\r\n".encode()
    answer = parse_answer(rig.raw(POST + token + b"transfer-encoding: chunked\r\n\r\n" + BAD_CHUNKS[name]))
    assert (answer.status, answer.code) == (400, "HTTP-FRAMING")
    assert answer.headers["connection"] == "close"


def test_a_good_chunked_body_is_read_in_any_pieces(rig: Rig) -> None:
    body = rig.request(chat()).partition(b"\r\n\r\n")[2]
    framed = b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (7, body[:7], len(body) - 7, body[7:])
    token = f"authorization: Bearer {rig.token()}\r\n".encode()
    data = POST + token + b"transfer-encoding: chunked\r\n\r\n" + framed
    with socket.create_connection(("127.0.0.1", rig.port), timeout=WAIT) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(data), 11):
            client.sendall(data[start : start + 11])
        assert parse_answer(read_answer(client)).status == 200


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=5), st.data())
def test_chunks_decode_the_same_however_they_arrive(chunks: list[bytes], data: st.DataObject) -> None:
    wire = b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in chunks) + b"0\r\n\r\nREST"
    decoder = ChunkedBody(1000)
    while wire and not decoder.done:
        cut = data.draw(st.integers(1, len(wire)))
        decoder.feed(wire[:cut])
        wire = wire[cut:]
    assert decoder.done
    assert (decoder.body, decoder.rest + wire) == (b"".join(chunks), b"REST")


class _Reader:
    """What httptools makes of a request."""

    def __init__(self) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.url = b""

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value


_LINE = st.tuples(
    st.sampled_from(
        ["x-a", "Content-Length", "content-length ", "transfer-encoding", "Host", "Connection", "expect"]
    ),
    st.one_of(
        st.sampled_from(["1", "0", " chunked", "a", "close", "keep-alive\t", "100-continue"]),
        st.text(max_size=6),
    ),
)


@given(st.lists(_LINE, max_size=5), st.sampled_from(["/v1/models", "/", "//a", "/%2e", "*", "http://a/"]))
@example([("Host", "a"), ("x-a", "1")], "/")
def test_whatever_is_accepted_is_read_alike_by_another_parser(
    lines: list[tuple[str, str]], target: str
) -> None:
    head = "".join(f"{name}: {value}\r\n" for name, value in lines)
    raw = f"GET {target} HTTP/1.1\r\nHost: h\r\n{head}\r\n".encode("utf-8", "surrogatepass")
    try:
        ours = parse_head(raw, HttpLimits())
    except Usage:
        return
    reader: Any = _Reader()
    parser = httptools.HttpRequestParser(reader)
    with contextlib.suppress(httptools.HttpParserUpgrade):
        parser.feed_data(raw)
    assert reader.url.decode() == ours.target
    assert {name: value.strip() for name, value in reader.headers.items()} == ours.headers


def test_heads_and_bodies_over_the_limits_are_refused(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(http=HttpLimits(head_bytes=2_000, header_count=10, body_bytes=1_000))
    many = GET + b"host: a\r\n" + b"x: y\r\n" * 20 + b"\r\n"
    long = GET + b"host: a\r\nx: " + b"y" * 4_000
    assert parse_answer(rig.raw(many)).status == 431
    assert parse_answer(rig.raw(long)).status == 431
    answer = rig.ask(chat("x" * 1_000))
    assert (answer.status, answer.code) == (413, "HTTP-BODY")
    token = f"authorization: Bearer {rig.token()}\r\n".encode()
    chunked = POST + token + b"transfer-encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1_001 + b"\r\n0\r\n\r\n"
    assert parse_answer(rig.raw(chunked)).status == 413


def test_a_body_is_not_read_from_a_stranger(rig: Rig) -> None:
    """Refused on the head alone: the announced megabyte never has to be sent."""
    head = POST + b"content-length: 1000000\r\nexpect: 100-continue\r\n\r\n"
    answer = parse_answer(rig.raw(head))
    assert (answer.status, answer.code) == (401, "TOK-MISSING")
    assert answer.headers["connection"] == "close"


def test_a_client_that_waits_for_100_continue_gets_it(rig: Rig) -> None:
    head, _, body = rig.request(chat(), expect="100-continue").partition(b"\r\n\r\n")
    with socket.create_connection(("127.0.0.1", rig.port), timeout=WAIT) as client:
        client.sendall(head + b"\r\n\r\n")
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(body)
        assert parse_answer(read_answer(client)).status == 200


@pytest.mark.parametrize(
    ("sent", "code"), [(b"POST /v1/chat/comp", "head"), (POST + b"content-length: 100\r\n\r\n{", "body")]
)
def test_a_trickled_request_is_ended_in_time(make_rig: Callable[..., Rig], sent: bytes, code: str) -> None:
    rig = make_rig(http=HttpLimits(head_seconds=0.1, body_seconds=0.1))
    if code == "body":
        sent = sent.replace(b"host: a", f"host: a\r\nauthorization: Bearer {rig.token()}".encode())
    answer = parse_answer(rig.raw(sent))
    assert (answer.status, answer.code) == (408, "HTTP-TIMEOUT")


def test_a_silent_connection_is_closed(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(http=HttpLimits(idle_seconds=0.1, head_seconds=0.1))
    assert rig.raw(b"") == b""
    assert not rig.lines()


def test_one_connection_serves_many_requests_also_when_sent_at_once(rig: Rig) -> None:
    three = rig.request(chat()) * 3
    with socket.create_connection(("127.0.0.1", rig.port), timeout=WAIT) as client:
        client.sendall(three)
        data = b""
        while data.count(b"HTTP/1.1 200 OK") < 3 or not data.endswith(b"}"):
            data += client.recv(65_536)
    assert len(rig.upstream.asked) == 3


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b'{"model": NaN}',
        b'{"model": "smollm2", "model": "other"}',
        b'{"model":"smollm2","messages":[{"role":"user","content":"a","content":"b"}]}',
        b'{"model": ' + b"[" * 40 + b"]" * 40 + b"}",
        b'{"model": "\\ud800"}',
        b'{"seed": ' + b"9" * 5_000 + b"}",
    ],
)
def test_json_that_two_parsers_could_read_differently_is_refused(rig: Rig, body: bytes) -> None:
    answer = rig.ask(body)
    assert (answer.status, answer.code) == (400, "HTTP-JSON")
    assert not rig.upstream.asked


def test_only_json_without_a_content_coding_is_read(rig: Rig) -> None:
    assert rig.ask(chat(), content_type="text/plain").status == 415
    assert rig.ask(chat(), content_encoding="gzip").status == 415


def test_a_stalled_reader_costs_little_and_pauses_the_model_server(make_rig: Callable[..., Rig]) -> None:
    """The answer is 4 MB; what is held for a client that reads nothing stays below 256 kB."""
    rig = make_rig(http=HttpLimits(stall_seconds=0.5))
    events = [delta(content="lorem ipsum dolor " * 50) for _ in range(4_000)]
    sent = 0

    def counted() -> Any:
        nonlocal sent
        for part in stream([*events, delta(finish="stop")]):
            sent += len(part)
            yield part

    rig.upstream.answer = lambda asked: counted()
    with socket.create_connection(("127.0.0.1", rig.port), timeout=WAIT) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.sendall(rig.request(chat(stream=True)))
        rig.until(lambda: any(each._writable is not None for each in rig.server.connections))
        (connection,) = rig.server.connections
        held = connection._transport.get_write_buffer_size()
        assert held < 256_000
        rig.until(lambda: bool(rig.events()))  # and after stall_seconds it is ended
    assert rig.events()[0]["data"]["ended"] == "client_gone"
    assert sent < 1_500_000
