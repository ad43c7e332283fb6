"""Numbers that check themselves. What is tested is digits only, without spaces and hyphens."""

from __future__ import annotations

from datetime import date

# ISO 7064 MOD 11-2, as GB 11643-1999 uses it for the identity numbers of China.
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CHECKS = "10X98765432"
# The provinces by GB/T 2260: the first two digits of an identity number.
_CODES = "11 12 13 14 15 21 22 23 31 32 33 34 35 36 37 41 42 43 44 45 46 50 51 52 53 54 61 62 63 64 65 71 81 82 83 91"
_PROVINCES = frozenset(_CODES.split())


def luhn(digits: str) -> bool:
    """The check of ISO/IEC 7812-1, annex B, that payment cards have."""
    doubled = sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (doubled + sum(map(int, digits[-1::-2]))) % 10 == 0


def chinese_identity(number: str) -> bool:
    """18 characters with province, date of birth and check digit; or the 15 digits of before 1999, which have none."""
    if number[:2] not in _PROVINCES:
        return False
    if len(number) == 15:
        return _is_date("19" + number[6:12])
    if len(number) != 18 or not _is_date(number[6:14]):
        return False
    total = sum(weight * int(digit) for weight, digit in zip(_WEIGHTS, number, strict=False))
    return _CHECKS[total % 11] == number[17].upper()


def _is_date(digits: str) -> bool:
    """Of a birth: after 1900, and not in the future."""
    try:
        born = date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return False
    return date(1900, 1, 1) <= born <= date.today()
