"""What a message is made of: text, joined so that what is inspected is what the model is given, and images.

An image is accepted only inside the request (a data URL), never by address: fetching would be done by somebody
in the caller's name. What an image shows is not read here, so it passes only to routes that say so, and the
event counts it as not inspected.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from typing import Any

from garrison.core.errors import Usage
from garrison.gateway.fields import text_of, unreadable, wrong

MAX_IMAGES = 16  # per request; the body limit bounds their bytes
_KINDS = {
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/gif": (b"GIF87a", b"GIF89a"),
    "image/webp": (b"RIFF",),
}
_DETAILS = frozenset({"auto", "low", "high"})
_NAMED = {"image_url", "input_audio", "file", "input_file", "document", "video_url"}


class Image(str):
    """The data URL of an image. Being of another type than `str` keeps it out of what is read as text."""

    __slots__ = ()


def image_of(kind: Any, encoded: Any) -> Image:
    """The image in base64, checked to be one of its stated kind. Raises `Usage` GW-PART or GW-FIELD."""
    starts = _KINDS.get(kind) if isinstance(kind, str) else None
    if starts is None:
        raise unreadable("an image of this kind", "send PNG, JPEG, GIF or WebP")
    try:
        begin = binascii.a2b_base64(text_of(encoded, "image"), strict_mode=True)[:12]
    except (binascii.Error, ValueError):
        raise wrong("image", "its bytes in base64") from None
    if not begin.startswith(starts) or (kind == "image/webp" and begin[8:] != b"WEBP"):
        raise wrong("image", f"what its type says: {kind}")
    return Image(f"data:{kind};base64,{encoded}")


def image_url(url: Any) -> Image:
    """The image of a data URL."""
    head, comma, encoded = text_of(url, "image_url").partition(",")
    if not head.startswith("data:") or not comma or not head.endswith(";base64"):
        raise unreadable("an image by its address", "send the image itself as a data: URL in base64")
    return image_of(head[5:-7], encoded)


def image_part(url: Image, detail: Any = None) -> dict[str, Any]:
    """An image as a part of a chat message."""
    shown: dict[str, Any] = {"url": url}
    if detail is not None:
        if not isinstance(detail, str) or detail not in _DETAILS:
            raise wrong("detail", "auto, low or high")
        shown["detail"] = detail
    return {"type": "image_url", "image_url": shown}


def part_refused(part: Any) -> Usage:
    """What to say of a part that is not text."""
    kind = part.get("type") if isinstance(part, dict) else None
    named = kind if isinstance(kind, str) and kind in _NAMED else "of this kind"
    return unreadable(f"a message part {named}")


def content_of(parts: Sequence[str | dict[str, Any]]) -> str | list[dict[str, Any]]:
    """Message content of texts and image parts in order: one text when there is no image."""
    texts: list[str] = []
    content: list[dict[str, Any]] = []
    for part in parts:
        if isinstance(part, str):
            texts.append(part)
            continue
        if texts:
            content.append({"type": "text", "text": "\n".join(texts)})
            texts.clear()
        content.append(part)
    if not content:
        return "\n".join(texts)
    if texts:
        content.append({"type": "text", "text": "\n".join(texts)})
    return content


def images_of(messages: Sequence[dict[str, Any]]) -> list[Image]:
    """Every image of a request. Raises `Usage` GW-FIELD when there are too many."""
    found = [
        part["image_url"]["url"]
        for message in messages
        if type(message.get("content")) is list
        for part in message["content"]
        if part["type"] == "image_url"
    ]
    if len(found) > MAX_IMAGES:
        raise wrong("content", f"of at most {MAX_IMAGES} images")
    return found
