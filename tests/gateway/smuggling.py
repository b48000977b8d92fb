"""What HTTP/2 and HTTP/3 can say and HTTP/1.1 cannot: requests that no proxy may translate for the gateway.

Each has `TOKEN` where a good token goes, so that nothing but its form can be the reason that it is refused.
"""

from __future__ import annotations

import json

from tests.gateway.h2_client import Header, plain
from tests.gateway.rig import chat

Case = tuple[list[Header], bytes]
BODY = json.dumps(chat()).encode()
DOOR = "/v1/chat/completions"


def altered(*more: Header, without: bytes = b"", body: bytes = BODY) -> Case:
    kept = [(name, value) for name, value in plain(DOOR, "TOKEN", body) if name != without]
    return [*kept, *more], body


def instead(name: bytes, value: bytes) -> Case:
    return [(known, value if known == name else was) for known, was in plain(DOOR, "TOKEN", BODY)], BODY


INJECTED = b"x\r\nx-garrison-caller: root"
SMUGGLED = b"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n"
SMUGGLING: dict[str, Case] = {
    "length too short": altered((b"content-length", b"3"), without=b"content-length"),
    "length too long": altered((b"content-length", b"900"), without=b"content-length"),
    "length negative": altered((b"content-length", b"-1"), without=b"content-length"),
    "length with a sign": altered((b"content-length", b"+%d" % len(BODY)), without=b"content-length"),
    "two lengths": altered((b"content-length", b"3")),
    "chunked": altered((b"transfer-encoding", b"chunked"), body=b"0\r\n\r\n" + SMUGGLED),
    "chunked and length": altered((b"transfer-encoding", b"chunked")),
    "line end in a value": altered((b"x-odd", INJECTED)),
    "line feed in a value": altered((b"x-odd", b"x\nx-garrison-caller: root")),
    "carriage return in a value": altered((b"x-odd", b"x\ry")),
    "nul in a value": altered((b"x-odd", b"x\0y")),
    "line end in a name": altered((b"x-odd\r\nx-garrison-caller", b"root")),
    "colon in a name": altered((b"x-garrison-caller:", b"root")),
    "space in a name": altered((b"x-garrison-caller ", b"root")),
    "capitals in a name": altered((b"X-Odd", b"a")),
    "empty name": altered((b"", b"a")),
    "connection names a header": altered((b"connection", b"authorization")),
    "connection keeps alive": altered((b"connection", b"keep-alive")),
    "upgrade": altered((b"upgrade", b"websocket")),
    "line end in the path": instead(b":path", b"/v1/models HTTP/1.1\r\nx-garrison-caller: root\r\nx: y"),
    "space in the path": instead(b":path", b"/v1/models HTTP/1.1"),
    "absolute path": instead(b":path", b"http://10.0.0.1/v1/chat/completions"),
    "empty path": instead(b":path", b""),
    "line end in the method": instead(
        b":method", b"POST /v1/models HTTP/1.1\r\nx-garrison-caller: root\r\n\r\nPOST"
    ),
    "unknown method": instead(b":method", b"SMUGGLE"),
    "line end in the authority": instead(b":authority", b"localhost\r\nx-garrison-caller: root"),
    "pseudo header last": altered((b":path", b"/v1/models")),
    "another pseudo header": altered((b":protocol", b"websocket")),
    "two authorizations": altered((b"authorization", b"Bearer other")),
    "two methods": altered((b":method", b"GET")),
    "a list of lengths": altered((b"content-length", b"9, 9"), without=b"content-length"),
    "the same length twice": altered((b"content-length", b"%d" % len(BODY))),
    "two authorities": altered((b":authority", b"other")),
    "another authority first": ([(b":authority", b"other"), *plain(DOOR, "TOKEN", BODY)], BODY),
    "two hosts beside the authority": altered((b"host", b"other"), (b"host", b"third")),
    "no authority": altered(without=b":authority"),
    "two hosts and no authority": altered((b"host", b"a"), (b"host", b"b"), without=b":authority"),
    "somebody at the authority": instead(b":authority", b"root@localhost"),
    "a path in the authority": instead(b":authority", b"localhost/v1/models"),
    "a query in the authority": instead(b":authority", b"localhost?x"),
    "a space in the authority": instead(b":authority", b"local host"),
    "a tab in the authority": instead(b":authority", b"localhost\tx"),
    "a list as the authority": instead(b":authority", b"localhost,other"),
    "an empty authority": instead(b":authority", b""),
    "a path in the scheme": instead(b":scheme", b"https://localhost/v1/models?x="),
    "another coding is accepted": altered((b"te", b"gzip")),
    "the proxy's connection": altered((b"proxy-connection", b"close")),
}
