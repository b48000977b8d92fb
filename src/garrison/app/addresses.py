"""Under which names and addresses the gateway can be reached: what its certificate has to say.

A server that listens on every address is not called 0.0.0.0 by anybody. So the certificate carries the
machine's own name, the addresses of its interfaces, and whatever the setting `names` adds. Nothing is looked
up in a name service: that would be an outbound connection.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import socket
import struct
from pathlib import Path

from garrison.core.errors import Usage

LOOPBACK = ("127.0.0.1", "::1")
_SIOCGIFADDR = 0x8915  # linux/sockios.h
_MAX_NAMES = 100  # a certificate stays small; a machine with more addresses names those that count


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def certificate_names(host: str, names: str = "") -> tuple[list[str], list[str]]:
    """DNS names and IP addresses for a server that listens on `host`; `names` is the setting, with commas.

    Raises `Usage` SET-VALUE for something in `names` that is neither.
    """
    dns, ips = {"localhost"}, set(LOOPBACK)
    for name in (host, *(part.strip() for part in names.split(",") if part.strip())):
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            if not _is_dns_name(name):
                raise Usage(
                    "SET-VALUE",
                    f"{name[:100]!r} is neither a host name nor an address",
                    fix="give names such as ai.example.com, separated by commas",
                ) from None
            dns.add(name.lower())
            continue
        if not address.is_unspecified:
            ips.add(str(address))
            continue
        ips.update(_own_addresses())
        if _is_dns_name(socket.gethostname()):
            dns.add(socket.gethostname().lower())
    return sorted(dns)[:_MAX_NAMES], sorted(ips)[:_MAX_NAMES]


def _is_dns_name(name: str) -> bool:
    labels = name.split(".")
    return (
        0 < len(name) <= 253
        and name.isascii()
        and all(
            0 < len(label) <= 63 and label.replace("-", "").isalnum() and label.strip("-") == label
            for label in labels
        )
    )


def _own_addresses() -> set[str]:
    """The addresses of this machine's interfaces, as the kernel has them."""
    found = set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _index, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # an interface without an IPv4 address
                answer = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                found.add(socket.inet_ntoa(answer[20:24]))
    with contextlib.suppress(OSError):  # a kernel without IPv6
        for line in Path("/proc/net/if_inet6").read_text().splitlines():
            address = ipaddress.IPv6Address(int(line.split()[0], 16))
            if not address.is_link_local:
                found.add(str(address))
    return found
