"""What an operator decides about the people who want to talk, and how they name them."""

from __future__ import annotations

import pytest

from bot import pairing
from bot.access import Access, Standing
from bot.errors import ChatError
from bot.texts import LANGUAGES, texts_for
from settings import Access as AccessSettings
from store.session import Store

ALLOWED = Standing("allowed")


@pytest.fixture
def access(store: Store) -> Access:
    return Access(store, AccessSettings(mode="pairing"))


def in_words(error: ChatError) -> list[str]:
    return [texts_for(language).problem(error) for language in LANGUAGES]


async def test_a_code_is_understood_however_it_is_typed(access, store):
    for number, typed in enumerate(["{}", " {} ", "`{}`", "{}\n"]):
        code = (await access.standing("telegram", str(number))).code
        assert pairing.approve(store, typed.format(code.lower())).external_id == str(number)
    code = (await access.standing("telegram", "7")).code
    assert pairing.approve(store, code.replace("-", "")).external_id == "7"
    code = (await access.standing("telegram", "8")).code
    assert pairing.approve(store, code.replace("-", " – ")).external_id == "8"
    code = (await access.standing("telegram", "9")).code
    wide = "".join(chr(ord(sign) + 0xFEE0) for sign in code)
    assert pairing.approve(store, wide).external_id == "9"


async def test_a_code_works_once(access, store):
    code = (await access.standing("telegram", "1")).code
    pairing.approve(store, code)
    with pytest.raises(ChatError, match="no_such_code"):
        pairing.approve(store, code)


async def test_nobody_is_let_in_by_a_code_after_they_were_blocked(access, store):
    code = (await access.standing("telegram", "1")).code
    assert pairing.block(store, code).state == "blocked"
    with pytest.raises(ChatError, match="no_such_code"):
        pairing.approve(store, code)
    assert (await access.standing("telegram", "1")).state == "blocked"


@pytest.mark.parametrize(
    "given",
    [
        *["", " ", "-", "AAAA-AAAA", "123456789", "@ada", "配对码", "👍" * 8, "\x00"],
        pytest.param("K" * 1_000_000, id="huge"),
    ],
)
async def test_what_is_no_code_is_refused_with_a_sentence(access, store, given):
    await access.standing("telegram", "1", "Ada")
    for decide in (pairing.approve, pairing.block):
        with pytest.raises(ChatError) as refused:
            decide(store, given)
        assert refused.value.key == "no_such_code"
        assert all(0 < len(words) < 500 for words in in_words(refused.value))
    assert [row.state for row in pairing.listing(store)] == ["pending"]


@pytest.mark.parametrize(
    "text", ["telegram:123", " Telegram : 123 ", "TELEGRAM:123", "telegram：１２３", "telegram:123\n"]
)
def test_an_identity_is_understood_however_it_is_typed(text):
    assert pairing.identity_of(text) == ("telegram", "123")


@pytest.mark.parametrize(
    "text",
    [
        *["", ":", "telegram:", ":123", "telegram", "telegram:@ada", "telegram:ada", "telegram:0", "telegram:1 2"],
        *["telegramm:123", "telegram:123:4", "telegram:-", "telegram:١٢٣", "telegram:1\x00"],
        pytest.param("telegram:" + "9" * 1_000_000, id="huge"),
    ],
)
def test_what_names_nobody_is_no_identity(store, text):
    with pytest.raises(ChatError) as refused:
        pairing.identity_of(text)
    assert refused.value.key == "not_an_identity"
    assert all(0 < len(words) < 500 for words in in_words(refused.value))


def test_a_refused_identity_is_not_written_down(store):
    for decide in (pairing.approve, pairing.block, pairing.unblock):
        with pytest.raises(ChatError, match="not_an_identity"):
            decide(store, "telegram:@ada")
    assert pairing.listing(store) == []


async def test_approving_again_without_saying_admin_makes_a_user_of_an_admin(access, store):
    pairing.approve(store, "telegram:1", admin=True)
    pairing.approve(store, "telegram:1")
    assert await access.standing("telegram", "1") == ALLOWED


async def test_a_blocked_admin_comes_back_as_a_user(access, store):
    pairing.approve(store, "telegram:1", admin=True)
    pairing.block(store, "telegram:1")
    pairing.unblock(store, "telegram:1")
    assert await access.standing("telegram", "1") == ALLOWED


async def test_only_who_is_blocked_can_be_unblocked(access, store):
    waiting = await access.standing("telegram", "1")
    for identity in ("telegram:1", "telegram:2"):
        with pytest.raises(ChatError) as refused:
            pairing.unblock(store, identity)
        assert all(identity in words for words in in_words(refused.value))
    assert await access.standing("telegram", "1") == waiting
    assert len(pairing.listing(store)) == 1


async def test_the_listing_shows_first_who_waits_for_a_decision(access, store):
    pairing.block(store, "telegram:1")
    pairing.approve(store, "telegram:2")
    await access.standing("telegram", "3", "Ada")
    await access.standing("telegram", "4", "Bob")
    assert [(row.external_id, row.state) for row in pairing.listing(store)] == [
        ("4", "pending"),
        ("3", "pending"),
        ("2", "allowed"),
        ("1", "blocked"),
    ]


def test_codes_hold_no_signs_that_look_alike():
    codes = "".join(pairing.new_code() for _ in range(300))
    assert not set(codes) & set("01258OILZSBU")
    assert len(set(codes)) > 15
