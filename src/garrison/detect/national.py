"""Numbers that states give to people and firms: is the check digit right, is the date in it one?

Pure functions `value -> bool`, named in the rule files like those of `validators.py`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

_NOT_DIGIT = re.compile(r"[^0-9]")
_NOT_SIGN = re.compile(r"[^0-9A-Za-z]")


def _digits(value: str) -> str:
    return _NOT_DIGIT.sub("", value)


def _signs(value: str) -> str:
    return _NOT_SIGN.sub("", value).upper()


def _sum(number: str, weights: Sequence[int]) -> int:
    return sum(int(digit) * weight for digit, weight in zip(number, weights, strict=False))


def _luhn(number: str) -> bool:
    total = sum(map(int, number[::-2])) + sum(sum(divmod(2 * int(d), 10)) for d in number[-2::-2])
    return len(set(number)) > 1 and total % 10 == 0


def _is_day(month: str, day: str) -> bool:
    return 1 <= int(month) <= 12 and 1 <= int(day) <= 31


def steuer_id(value: str) -> bool:
    """Germany: ISO 7064 mod 11,10, and exactly one digit two or three times among the first ten."""
    number = _digits(value)
    if len(number) != 11 or number[0] == "0":
        return False
    if sorted(Counter(number[:10]).values())[-2:] not in ([1, 2], [1, 3]):
        return False
    product = 10
    for digit in number[:10]:
        total = (int(digit) + product) % 10 or 10
        product = total * 2 % 11
    return (11 - product) % 10 == int(number[10])


def sin_ca(value: str) -> bool:
    number = _digits(value)
    return len(number) == 9 and number[0] not in "08" and _luhn(number)


def tfn(value: str) -> bool:
    """Australia, tax file number."""
    number = _digits(value)
    return len(number) == 9 and _sum(number, (1, 4, 3, 7, 5, 8, 6, 9, 10)) % 11 == 0


def medicare_au(value: str) -> bool:
    number = _digits(value)
    return (
        len(number) in (10, 11)
        and number[0] in "23456"
        and (_sum(number, (1, 3, 7, 9, 1, 3, 7, 9)) % 10 == int(number[8]))
    )


def my_number(value: str) -> bool:
    """Japan."""
    number = _digits(value)
    if len(number) != 12 or len(set(number)) == 1:
        return False
    rest = _sum(number, (6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return int(number[11]) == (0 if rest <= 1 else 11 - rest)


def rrn(value: str) -> bool:
    """South Korea; numbers given since October 2020 have no check digit, so the date decides."""
    number = _digits(value)
    return len(number) == 13 and _is_day(number[2:4], number[4:6]) and number[6] in "12345678"


def resident_cn(value: str) -> bool:
    """China: ISO 7064 mod 11-2 behind region and date."""
    number = _signs(value)
    if len(number) != 18 or not _is_day(number[10:12], number[12:14]) or number[6:8] not in ("19", "20"):
        return False
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return "10X98765432"[_sum(number[:17], weights) % 11] == number[17]


def nric(value: str) -> bool:
    """Singapore."""
    number = _signs(value)
    total = _sum(number[1:8], (2, 7, 6, 5, 4, 3, 2)) + {"T": 4, "G": 4, "M": 3}.get(number[0], 0)
    letters = {"S": "JZIHGFEDCBA", "T": "JZIHGFEDCBA", "F": "XWUTRQPNMLK", "G": "XWUTRQPNMLK"}
    if number[0] == "M":
        return "XWUTRQPNJLK"[10 - total % 11] == number[8]
    return letters[number[0]][total % 11] == number[8]


def curp(value: str) -> bool:
    """Mexico."""
    number, alphabet = value.upper(), "0123456789ABCDEFGHIJKLMNÑOPQRSTUVWXYZ"
    if len(number) != 18 or not _is_day(number[6:8], number[8:10]):
        return False
    total = sum(alphabet.index(sign) * (18 - at) for at, sign in enumerate(number[:17]))
    return str((10 - total % 10) % 10) == number[17]


def personnummer(value: str) -> bool:
    """Sweden: Luhn over the last ten digits, with a day (or one of a coordination number)."""
    number = _digits(value)[-10:]
    day = int(number[4:6])
    return len(number) == 10 and _is_day(number[2:4], str(day - 60 if day > 60 else day)) and _luhn(number)


def hetu(value: str) -> bool:
    """Finland."""
    number = value.upper()
    if not _is_day(number[2:4], number[:2]):
        return False
    return "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(number[:6] + number[7:10]) % 31] == number[10]


def fodselsnummer(value: str) -> bool:
    """Norway."""
    number = _digits(value)
    first = (11 - _sum(number, (3, 7, 6, 1, 8, 9, 4, 5, 2)) % 11) % 11
    second = (11 - _sum(number, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11) % 11
    return len(number) == 11 and number[9:] == f"{first}{second}" and int(number[2:4]) % 40 <= 12


def cpr(value: str) -> bool:
    """Denmark; numbers given since 2007 need no check digit, so the date decides."""
    number = _digits(value)
    return len(number) == 10 and _is_day(number[2:4], number[:2])


def national_be(value: str) -> bool:
    """Belgium: 97 minus the rest; a 2 goes before numbers of who was born since 2000."""
    number = _digits(value)
    if len(number) != 11 or int(number[2:4]) % 20 > 12:
        return False
    return any(97 - int(prefix + number[:9]) % 97 == int(number[9:]) for prefix in ("", "2"))


def ahv(value: str) -> bool:
    """Switzerland: EAN-13 of country 756."""
    number = _digits(value)
    return len(number) == 13 and _sum(number, (1, 3) * 6 + (1,)) % 10 == 0


def svnr(value: str) -> bool:
    """Austria, social insurance."""
    number = _digits(value)
    return (
        len(number) == 10
        and number[0] != "0"
        and _is_day(str(int(number[6:8]) % 12 or 12), number[4:6])
        and (_sum(number, (3, 7, 9, 0, 5, 8, 4, 2, 1, 6)) % 11 == int(number[3]))
    )


def nif_pt(value: str) -> bool:
    number = _digits(value)
    check = 11 - _sum(number, range(9, 1, -1)) % 11
    return len(number) == 9 and number[0] != "0" and (0 if check > 9 else check) == int(number[8])


def tckn(value: str) -> bool:
    """Turkey."""
    number = _digits(value)
    if len(number) != 11 or number[0] == "0":
        return False
    odd, even = sum(map(int, number[:9:2])), sum(map(int, number[1:8:2]))
    return (7 * odd - even) % 10 == int(number[9]) and sum(map(int, number[:10])) % 10 == int(number[10])


def teudat_zehut(value: str) -> bool:
    """Israel."""
    number = _digits(value)
    return (
        len(number) == 9
        and sum(sum(divmod(int(d) * (1 + at % 2), 10)) for at, d in enumerate(number)) % 10 == 0
    )


def pps(value: str) -> bool:
    """Ireland."""
    number = _signs(value)
    second = "WABCDEFGHI".find(number[8]) if len(number) == 9 else 0
    total = _sum(number[:7], range(8, 1, -1)) + 9 * max(second, 0)
    return len(number) in (8, 9) and second >= 0 and "WABCDEFGHIJKLMNOPQRSTUV"[total % 23] == number[7]


def rut(value: str) -> bool:
    """Chile."""
    number = _signs(value)
    weights = (2, 3, 4, 5, 6, 7, 2, 3)
    check = 11 - _sum(number[-2::-1], weights) % 11
    return {10: "K", 11: "0"}.get(check, str(check)) == number[-1]


def cuit(value: str) -> bool:
    """Argentina."""
    number = _digits(value)
    check = 11 - _sum(number, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return len(number) == 11 and {11: 0, 10: 9}.get(check, check) == int(number[10])


def cnpj(value: str) -> bool:
    """Brazil, firms."""
    number = _digits(value)
    if len(number) != 14 or len(set(number)) == 1:
        return False
    first = _sum(number, (5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2)) % 11
    second = _sum(number, (6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2)) % 11
    return number[12:] == f"{0 if first < 2 else 11 - first}{0 if second < 2 else 11 - second}"


def id_tw(value: str) -> bool:
    """Taiwan."""
    number = _signs(value)
    place = "ABCDEFGHJKLMNPQRSTUVXYWZIO".index(number[0]) + 10
    return (place // 10 + place % 10 * 9 + _sum(number[1:], (8, 7, 6, 5, 4, 3, 2, 1, 1))) % 10 == 0


def hkid(value: str) -> bool:
    """Hong Kong."""
    number = _signs(value).rjust(9)
    codes = [36 if sign == " " else int(sign, 36) for sign in number[:8]]
    check = (11 - sum(code * (9 - at) for at, code in enumerate(codes)) % 11) % 11
    return ("A" if check == 10 else str(check)) == number[8]


def snils(value: str) -> bool:
    """Russia, pension insurance."""
    number = _digits(value)
    return len(number) == 11 and _sum(number, range(9, 0, -1)) % 101 % 100 == int(number[9:])


def cnp(value: str) -> bool:
    """Romania."""
    number = _digits(value)
    rest = _sum(number, (2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9)) % 11
    return (
        len(number) == 13
        and _is_day(number[3:5], number[5:7])
        and (1 if rest == 10 else rest) == int(number[12])
    )


def rodne_cislo(value: str) -> bool:
    """Czechia and Slovakia: ten digits since 1954, divisible by 11."""
    number = _digits(value)
    return (
        len(number) == 10
        and int(number[2:4]) % 50 % 20 <= 12
        and (int(number[:9]) % 11 % 10 == int(number[9]))
    )


def nip(value: str) -> bool:
    """Poland, tax."""
    number = _digits(value)
    return len(number) == 10 and _sum(number, (6, 5, 7, 2, 3, 4, 5, 6, 7)) % 11 == int(number[9])


def partita_iva(value: str) -> bool:
    number = _digits(value)
    return len(number) == 11 and _luhn(number)


def id_za(value: str) -> bool:
    """South Africa."""
    number = _digits(value)
    return len(number) == 13 and _is_day(number[2:4], number[4:6]) and number[10] in "01" and _luhn(number)


def npi(value: str) -> bool:
    """United States, health providers: Luhn behind 80840."""
    number = _digits(value)
    return len(number) == 10 and number[0] in "12" and _luhn("80840" + number)


def dea(value: str) -> bool:
    """United States, prescribers."""
    number = _digits(value)
    odd, even = sum(map(int, number[:6:2])), sum(map(int, number[1:6:2]))
    return len(number) == 7 and (odd + 2 * even) % 10 == int(number[6])


def routing(value: str) -> bool:
    """United States, banks (ABA)."""
    number = _digits(value)
    return len(number) == 9 and len(set(number)) > 1 and _sum(number, (3, 7, 1) * 3) % 10 == 0


def itin(value: str) -> bool:
    """United States, taxpayers without a social security number: groups 50-65, 70-88, 90-92, 94-99."""
    group = int(_digits(value)[3:5])
    return 50 <= group <= 65 or 70 <= group <= 88 or 90 <= group <= 92 or 94 <= group <= 99


def day(value: str) -> bool:
    """A written-out date names a day that a month can have."""
    numbers = [int(part) for part in re.findall(r"\d+", value)]
    return len(numbers) == 2 and 1 <= min(numbers) <= 31 and 1850 <= max(numbers) <= 2100


def coordinates(value: str) -> bool:
    """Latitude and longitude with enough places to find a house."""
    parts = re.findall(r"-?\d+\.\d+", value)
    return len(parts) == 2 and abs(float(parts[0])) <= 90 and abs(float(parts[1])) <= 180


def phone_national(value: str) -> bool:
    """Ten or eleven digits that begin with one zero."""
    number = _digits(value)
    return len(number) in (10, 11) and number[0] == "0" and number[1] != "0" and len(set(number)) > 2


def place(value: str) -> bool:
    """An address has a number and a word."""
    return bool(re.search(r"\d", value)) and bool(re.search(r"[^\W\d_]{3}", value))


NATIONAL: Mapping[str, Callable[[str], bool]] = MappingProxyType(
    {
        "ahv": ahv, "cnp": cnp, "cnpj": cnpj, "coordinates": coordinates, "cpr": cpr, "cuit": cuit, "curp": curp,
        "day": day, "dea": dea, "fodselsnummer": fodselsnummer, "hetu": hetu, "hkid": hkid, "id_tw": id_tw,
        "id_za": id_za, "itin": itin, "medicare_au": medicare_au, "my_number": my_number, "national_be": national_be,
        "nif_pt": nif_pt, "nip": nip, "npi": npi, "nric": nric, "partita_iva": partita_iva,
        "personnummer": personnummer, "phone_national": phone_national, "place": place, "pps": pps,
        "resident_cn": resident_cn, "rodne_cislo": rodne_cislo, "routing": routing, "rrn": rrn, "rut": rut,
        "sin_ca": sin_ca, "snils": snils, "steuer_id": steuer_id, "svnr": svnr, "tckn": tckn,
        "teudat_zehut": teudat_zehut, "tfn": tfn,
    }
)  # fmt: skip
