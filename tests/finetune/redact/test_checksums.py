"""Numbers that check themselves, against published examples."""

from __future__ import annotations

import pytest

from finetune.redact.checksums import chinese_identity, luhn


@pytest.mark.parametrize("number", ["4242424242424242", "378282246310005", "30569309025904", "6011111111111117", "0"])
def test_test_cards_have_a_right_check_digit(number: str) -> None:
    assert luhn(number)


def test_every_other_last_digit_is_wrong() -> None:
    assert [luhn(f"424242424242424{digit}") for digit in range(10)] == [digit == 2 for digit in range(10)]


def test_two_neighbours_that_were_swapped_are_noticed() -> None:
    assert not luhn("2442424242424242")


def test_an_identity_number_needs_province_date_and_check_digit() -> None:
    assert chinese_identity("11010519491231002X")  # the example of GB 11643-1999
    assert chinese_identity("11010519491231002x")
    assert not chinese_identity("110105194912310020")  # check digit
    assert not chinese_identity("99010519491231002X")  # province
    assert not chinese_identity("110105194913310028")  # month 13
    assert not chinese_identity("11010519491231002")  # 17 digits


def test_each_digit_of_an_identity_number_matters() -> None:
    right = "11010519491231002X"
    for place in range(17):
        for digit in "0123456789":
            changed = right[:place] + digit + right[place + 1 :]
            assert chinese_identity(changed) == (changed == right), changed


def test_the_fifteen_digits_of_old_have_a_date_and_no_check_digit() -> None:
    assert chinese_identity("110105491231002")
    assert not chinese_identity("110105491331002")
    assert not chinese_identity("000105491231002")


@pytest.mark.parametrize("born", ["18991231", "29990101", "20010229"])
def test_nobody_is_born_before_1900_in_the_future_or_on_a_day_that_is_none(born: str) -> None:
    digits = f"110105{born}002"
    assert not any(chinese_identity(digits + check) for check in "0123456789X")
