"""Small text classifiers as folders, ONNX written by hand; and sockets in their place that lie, or are silent."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.fakes.onnx_graph import field, varint
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

WORDS = ("[UNK]", "[PAD]", "lizard", "hello", "weather")
ATTACK = WORDS.index("lizard")  # the one word that this classifier takes for an attack


def classifier(folder: Path, *, labels: tuple[str, str] = ("SAFE", "INJECTION"), **config: Any) -> Path:
    """logits = max over the tokens of table[token]: an attack when one of its 256 tokens is `lizard`."""
    folder.mkdir(parents=True)
    table = [(4.0, -4.0)] * len(WORDS)
    table[ATTACK] = (-4.0, 12.0)
    (folder / "model.onnx").write_bytes(_graph(table))
    tokenizer = Tokenizer(WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    told = {"model_type": "bert", "id2label": {str(n): name for n, name in enumerate(labels)}, **config}
    (folder / "config.json").write_text(json.dumps(told))
    return folder


def _graph(table: list[tuple[float, float]]) -> bytes:
    """Gather(table, input_ids), then ReduceMax over the tokens; the mask is taken and not needed."""
    flat = struct.pack(f"<{2 * len(table)}f", *(value for row in table for value in row))
    weights = varint(1, len(table)) + varint(1, 2) + varint(2, 1) + field(8, b"table") + field(9, flat)
    axes = field(5, field(1, b"axes") + varint(8, 1) + varint(20, 7))
    keep = field(5, field(1, b"keepdims") + varint(3, 0) + varint(20, 2))
    gather = field(1, b"table") + field(1, b"input_ids") + field(2, b"rows") + field(4, b"Gather")
    reduce = field(1, b"rows") + field(2, b"logits") + field(4, b"ReduceMax") + axes + keep
    inputs = b"".join(
        field(11, field(1, name) + field(2, _kind(7, b"batch", b"tokens")))
        for name in (b"input_ids", b"attention_mask")
    )
    output = field(12, field(1, b"logits") + field(2, _kind(1, b"batch", 2)))
    graph = field(1, gather) + field(1, reduce) + field(2, b"g") + field(5, weights) + inputs + output
    return varint(1, 8) + field(7, graph) + field(8, field(1, b"") + varint(2, 17))


def _kind(element: int, *dimensions: bytes | int) -> bytes:
    shape = b"".join(
        field(1, varint(1, one) if isinstance(one, int) else field(2, one)) for one in dimensions
    )
    return field(1, varint(1, element) + field(2, shape))


Answer = Callable[[str, int], bytes]


def said(opinions: Any, number: str = "", status: bytes = b"200 OK") -> Answer:
    def answer(asked: str, texts: int) -> bytes:
        rows = opinions if opinions is not None else [[0.01, 0, 5]] * texts
        body = json.dumps({"id": number or asked, "opinions": rows})
        return b"HTTP/1.1 %b\r\n\r\n%b" % (status, body.encode())

    return answer


@contextlib.contextmanager
def detector(path: Path, answer: Answer | None) -> Iterator[str]:
    """A real process boundary's other end: a socket that answers as told, or takes the question and is silent."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(16)
        held: list[socket.socket] = []
        thread = threading.Thread(target=_answering, args=(listening, answer, held))
        thread.start()
        try:
            yield str(path)
        finally:
            with socket.socket(socket.AF_UNIX) as last:
                last.connect(str(path))
                last.sendall(b"end")
                thread.join(60)
            for connection in held:
                connection.close()
            path.unlink()


def _answering(listening: socket.socket, answer: Answer | None, held: list[socket.socket]) -> None:
    while True:
        connection, _ = listening.accept()
        connection.settimeout(30)
        data = connection.recv(65_536)
        if data == b"end":
            connection.close()
            return
        if answer is None:
            held.append(connection)
            continue
        body = json.loads(data.partition(b"\r\n\r\n")[2])
        with contextlib.suppress(OSError):  # who asked has heard enough
            connection.sendall(answer(body["id"], len(body["texts"])))
        connection.close()
