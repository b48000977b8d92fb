"""Is it really one? Check digits, issuer ranges and entropy for values that a pattern found.

Pure functions `value -> bool`, named in the rule files. They see at most a few thousand characters.
"""

from __future__ import annotations

import base64
import ipaddress
import math
import re
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import pairwise
from types import MappingProxyType

from garrison.detect.national import NATIONAL

_NOT_DIGIT = re.compile(r"[^0-9]")
_PLACEHOLDER = re.compile(
    r"^[<\[({*]|\$\{|\{\{|^\$[A-Z_]+$|^%\w+%$|\w\(|your[_-]|_here\b|x{4}|\*{3}|\.{3}|example|placeholder|change_?me|redacted|environ|getenv|"
    r"process\.env|^ENC\[|secrets?\.|vault|config[.\[(]|None$|null$|true$|false$|undefined$|dummy|(?:my|your)[_-]?(?:password|secret|token|key)",
    re.IGNORECASE,
)
_EXAMPLE_EMAIL = re.compile(
    r"(?:user(?:name)?|no-?reply|name|you|your[._-]?(?:name|email)|email|someone|foo|test|example)@"
    r"(?:[a-z0-9-]+\.)*(?:example\.(?:com|org|net|edu)|example|test|invalid|localhost)",
    re.IGNORECASE,
)
_NO_KEY = re.compile(
    r"\d\.\d{1,3}\.\d{1,3}$|(?:api|access|auth|public)[_-]?key|secret|token|password", re.IGNORECASE
)
_MANUAL_PASSWORD = re.compile(
    r"^[<\[{$%]|^\*+$|^x+$|^your|^(?:db_?|my)?(?:pass(?:w(?:or)?d)?|pwd|pw|secret|test|tiger|passw0rd)$",
    re.IGNORECASE,
)
_CAMEL_CASE = re.compile(r"[A-Z]?[a-z]+(?:[A-Z]{1,4}[a-z]*)*")
_FILE_ENDINGS = frozenset({"png", "jpg", "jpeg", "gif", "svg", "webp", "js", "css", "py", "json", "html"})

_VERHOEFF_D = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)  # fmt: skip
_VERHOEFF_P = (
    "0123456789", "1576283094", "5803796142", "8916043527",
    "9453126870", "4286573901", "2793806415", "7046913258",
)  # fmt: skip

_IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29,
    "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29,
    "ES": 24, "FI": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28,
    "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20,
    "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22,
    "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18, "NO": 15, "PK": 24, "PL": 28, "PS": 29, "PT": 25,
    "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SC": 31, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "ST": 25,
    "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
}  # fmt: skip


_DOUBLED = bytes.maketrans(b"0123456789", b"0246813579")  # the digits of twice a digit, added up
_KINDS = tuple(map(re.compile, ("[a-z]", "[A-Z]", "[0-9]", "[^A-Za-z0-9]")))
_CHOSEN = re.compile(r"[0-9!@#$%^&+=?~]")


def digits(value: str) -> str:
    """As ASCII."""
    number = value if value.isdecimal() else value.replace(" ", "").replace("-", "")
    if not number.isdecimal():
        number = _NOT_DIGIT.sub("", number)
    return number if number.isascii() else "".join(str(int(digit)) for digit in number)


def entropy(value: str) -> float:
    """Shannon entropy in bits per character."""
    total = len(value)
    return -sum(n / total * math.log2(n / total) for n in Counter(value).values()) if total else 0.0


def luhn(value: str) -> bool:
    """ISO/IEC 7812-1 annex B."""
    signs = digits(value).encode()
    total = sum(signs[::-2]) + sum(signs[-2::-2].translate(_DOUBLED)) - ord("0") * len(signs)
    return bool(signs) and total % 10 == 0


def card(value: str) -> bool:
    """Luhn, and a length that the issuer of that prefix uses."""
    number = digits(value)
    if not luhn(number):  # nine of ten that are none end here
        return False
    size, two, four = len(number), int(number[:2] or 0), int(number[:4] or 0)
    issued = (
        (number[:1] == "4" and size in (13, 16, 19))
        or ((51 <= two <= 55 or 2221 <= four <= 2720) and size == 16)
        or (two in (34, 37) and size == 15)
        or ((four == 6011 or two == 65 or 644 <= four // 10 <= 649) and size in (16, 19))
        or (3528 <= four <= 3589 and size in (16, 19))
        or (four in (1800, 2131) and size == 15)
        or ((300 <= four // 10 <= 305 or two in (36, 38, 39)) and size in (14, 16, 19))
        or (two == 62 and 16 <= size <= 19)
        or (two in (50, 56, 57, 58, 60, 61, 63, 67, 68, 69) and size in (16, 18, 19))
    )
    return issued and len(set(number)) > 1


def iban(value: str) -> bool:
    """ISO 13616: the country's length and mod 97 = 1."""
    compact = re.sub(r"[\s-]", "", value).upper()
    if _IBAN_LENGTHS.get(compact[:2]) != len(compact):
        return False
    return int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97 == 1


def ssn(value: str) -> bool:
    """Never issued: area 000, 666, 900-999; group 00; serial 0000; and the number of the 1938 wallet."""
    number = digits(value)
    return (
        len(number) == 9
        and number[:3] not in ("000", "666")
        and number[0] != "9"
        and number[3:5] != "00"
        and number[5:] != "0000"
        and number != "078051120"
    )


def nino(value: str) -> bool:
    """HMRC NIM39110: letters that are never used."""
    compact = re.sub(r"\s", "", value).upper()
    return (
        compact[0] not in "DFIQUV"
        and compact[1] not in "DFIQUVO"
        and compact[:2] not in ("BG", "GB", "NK", "KN", "TN", "NT", "ZZ")
    )


def nhs(value: str) -> bool:
    """NHS number: modulus 11 over ten digits."""
    number = digits(value)
    check = 11 - sum(int(d) * (10 - i) for i, d in enumerate(number[:9])) % 11
    return len(number) == 10 and len(set(number)) > 1 and check % 11 == int(number[9]) and check != 10


def dni(value: str) -> bool:
    """Spanish DNI and NIE: letter = number mod 23."""
    compact = re.sub(r"[\s.-]", "", value).upper()
    number = compact[:-1].translate(str.maketrans("XYZ", "012"))
    return number.isdigit() and "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23] == compact[-1]


def _weighted(number: str, weights: range) -> int:
    rest = sum(int(d) * w for d, w in zip(number, weights, strict=False)) % 11
    return 0 if rest < 2 else 11 - rest


def cpf(value: str) -> bool:
    number = digits(value)
    return (
        len(number) == 11
        and len(set(number)) > 1
        and _weighted(number, range(10, 1, -1)) == int(number[9])
        and _weighted(number, range(11, 1, -1)) == int(number[10])
    )


def aadhaar(value: str) -> bool:
    """Verhoeff over twelve digits; the first is 2-9."""
    number = digits(value)
    check = 0
    for i, d in enumerate(reversed(number)):
        check = int(_VERHOEFF_D[check][int(_VERHOEFF_P[i % 8][int(d)])])
    return len(number) == 12 and number[0] in "23456789" and check == 0


def nir(value: str) -> bool:
    """French social security number: key = 97 - (first 13 digits mod 97)."""
    number = digits(value.upper().replace("2A", "19").replace("2B", "18"))  # Corsica's departments
    return len(number) == 15 and 97 - int(number[:13]) % 97 == int(number[13:])


def pesel(value: str) -> bool:
    number = digits(value)
    total = sum(int(d) * w for d, w in zip(number[:10], (1, 3, 7, 9) * 3, strict=False))
    return len(number) == 11 and (10 - total % 10) % 10 == int(number[10])


def bsn(value: str) -> bool:
    """Dutch eleven-test."""
    number = digits(value).zfill(9)
    total = sum(int(d) * (9 - i) for i, d in enumerate(number[:8])) - int(number[8])
    return len(number) == 9 and int(number) > 0 and total % 11 == 0


def fiscal_it(value: str) -> bool:
    """Italian codice fiscale: the sixteenth character is a check."""
    odd = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)
    code = value.upper()
    rank = [int(c) if c.isdigit() else ord(c) - 65 for c in code[:15]]
    total = sum(odd[r] if i % 2 == 0 else r for i, r in enumerate(rank))
    return len(code) == 16 and chr(65 + total % 26) == code[15]


def phone(value: str) -> bool:
    """E.164: 7 to 15 digits, its extension not counted; a national number only counts next to a word for it."""
    number = digits(re.split("[xe]", value, maxsplit=1)[0])
    return 7 <= len(number) <= 15 and len(set(number)) > 2


def ipv4(value: str) -> bool:
    """A host on the public internet: not private, loopback, documentation or a mask."""
    try:
        return ipaddress.IPv4Address(value).is_global
    except ValueError:
        return False


def ipv6(value: str) -> bool:
    try:
        address = ipaddress.IPv6Address(value)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified or address.is_link_local)


def email(value: str) -> bool:
    """Not a documented placeholder and not the name of a picture (`icon@2x.png`)."""
    return value.rpartition(".")[2].lower() not in _FILE_ENDINGS and not _EXAMPLE_EMAIL.fullmatch(value)


def _mixed(value: str) -> int:
    return sum(kind.search(value) is not None for kind in _KINDS)


def password(value: str) -> bool:
    """Looks chosen: kinds of character mixed as no word or name in a program mixes them, no placeholder."""
    if len(value) < 6 or _PLACEHOLDER.search(value):
        return False
    if value.isalpha():
        return len(value) >= 8 and _mixed(value) >= 2 and not _CAMEL_CASE.fullmatch(value)
    return _mixed(value) >= 2 and _CHOSEN.search(value) is not None


def _is_counted(value: str) -> bool:
    """`1234567890`, `abcdefghij...`: most characters follow the one before them."""
    steps = sum(ord(after) - ord(before) == 1 for before, after in pairwise(value))
    return steps > 0.85 * (len(value) - 1)


def _mixes_case(value: str, share: float) -> bool:
    """Whether neighbouring letters differ in case as often as by chance: about half of them do."""
    changes = sum(
        before.isalpha() and after.isalpha() and before.isupper() != after.isupper()
        for before, after in pairwise(value)
    )
    return changes >= share * len(value)


def shuffled(value: str) -> bool:
    """No name in a program: some digits, or letters in either case as if by chance."""
    body = value.rpartition("_")[2]
    return varied(value) and (sum(char.isdigit() for char in body) >= 3 or _mixes_case(body, 0.25))


def random_key(value: str) -> bool:
    """Looks made by a machine: letters and digits, high entropy, no placeholder, version or name of a key."""
    return (
        len(value) >= 16
        and _mixed(value) >= 2
        and (any(c.isdigit() for c in value) or (len(value) >= 20 and _mixes_case(value, 0.36)))
        and entropy(value) >= (3.2 if len(value) < 32 else 2.95)
        and not _PLACEHOLDER.search(value)
        and not _NO_KEY.search(value)
        and not _is_counted(value)
    )


def jwt_in_base64(value: str) -> bool:
    """A JSON Web Token that was encoded once more."""
    padded = value.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        inner = base64.b64decode(padded[: len(padded) // 4 * 4])
    except ValueError:
        return False
    return inner.startswith(b"eyJ") and inner.count(b".") in (2, 4)


def aws_secret(value: str) -> bool:
    """Forty base64 characters of three kinds: not a hexadecimal digest, not a word."""
    return entropy(value) >= 4.0 and all(re.search(p, value) for p in ("[a-z]", "[A-Z]"))


def aws_key(value: str) -> bool:
    """Not a picture of a key, and not one of the examples that Amazon's documentation prints."""
    return varied(value) and not value.endswith("EXAMPLE")


def varied(value: str) -> bool:
    """Not a picture of a key: `AKIAXXXXXXXXXXXXXXXX`, `ghp_aaaa...`, `ntn_1234567890...`."""
    return len(set(value[-16:])) >= 5 and not _is_counted(value[-24:])


def base62_crc(token: str) -> bool:
    """GitHub's token checksum: the last six characters are the CRC-32 of the rest in base 62."""
    body = token.partition("_")[2]
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    rest, text = zlib.crc32(body[:-6].encode()), ""
    while rest:
        rest, digit = divmod(rest, 62)
        text = alphabet[digit] + text
    return text.rjust(6, "0") == body[-6:]


def db_url(value: str) -> bool:
    """A connection string whose password is not the one of a manual."""
    given = value.partition("://")[2].rpartition("@")[0].partition(":")[2]
    return not _MANUAL_PASSWORD.search(given)


def url_password(value: str) -> bool:
    return not _PLACEHOLDER.search(value) and value.lower() not in (
        "password",
        "pass",
        "passwd",
        "pwd",
        "test",
    )


VALIDATORS: Mapping[str, Callable[[str], bool]] = MappingProxyType(
    {
        **NATIONAL,
        "aadhaar": aadhaar, "aws_key": aws_key, "aws_secret": aws_secret, "bsn": bsn, "card": card, "cpf": cpf,
        "db_url": db_url, "dni": dni, "email": email, "fiscal_it": fiscal_it, "iban": iban, "ipv4": ipv4,
        "ipv6": ipv6, "jwt_in_base64": jwt_in_base64, "luhn": luhn, "nhs": nhs, "nino": nino, "nir": nir,
        "password": password, "pesel": pesel, "phone": phone, "random_key": random_key, "shuffled": shuffled,
        "ssn": ssn, "url_password": url_password, "varied": varied,
    }
)  # fmt: skip
