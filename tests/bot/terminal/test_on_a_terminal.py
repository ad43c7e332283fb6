"""The chat as a person sees it: a real program on a real pseudo-terminal."""

from __future__ import annotations

import signal
import stat
from pathlib import Path

from tests.fakes.vllm import Cut, Hold, Refusal, Reply, eventually

CTRL_C, CTRL_D, CTRL_J, ENTER, ALT_ENTER, TAB = "\x03", "\x04", "\n", "\r", "\x1b\r", "\t"


async def test_a_message_is_answered_the_line_below_tells_of_it_and_ctrl_d_leaves(chat_on_terminal, vllm):
    vllm.script(Reply("Hello ", "**you**", "!", cached_tokens=3))
    terminal = await chat_on_terminal()
    terminal.types("hi there" + ENTER)
    await terminal.shows("› hi there", "Hello you!", "tokens/s · base")
    assert "**" not in terminal.screen.visible()
    await terminal.until(lambda: terminal.screen.visible().splitlines()[-1].startswith("base · "))
    below = terminal.screen.visible().splitlines()[-1]
    assert "+ 3 tokens · 20% from cache" in below
    assert below.endswith("hi there")
    terminal.types(CTRL_D)
    assert await terminal.exit_code() == 0
    assert "See you!" in terminal.screen.visible()


async def test_ctrl_c_in_mid_reply_stops_the_engine_and_keeps_the_text(chat_on_terminal, vllm):
    vllm.script(Reply("This much ", "was said", Hold()), Reply("More."))
    terminal = await chat_on_terminal()
    terminal.types("tell me" + ENTER)
    await terminal.shows("This much was said")
    terminal.types(CTRL_C)
    await terminal.shows("stopped")
    await eventually(lambda: len(vllm.aborted) == 1)
    assert "This much was said" in terminal.screen.visible()
    terminal.types("go on" + ENTER)
    await terminal.shows("More.")
    assert {"role": "assistant", "content": "This much was said"} in vllm.chats[-1].body["messages"]


async def test_what_is_typed_during_a_reply_waits_for_the_next_prompt_and_ctrl_d_does_not_leave(chat_on_terminal, vllm):
    hold = Hold()
    vllm.script(Reply("One", hold, " two"))
    terminal = await chat_on_terminal()
    terminal.types("count" + ENTER)
    await terminal.shows("One")
    terminal.types("next" + CTRL_D + " questionn\x7f" + ENTER)
    hold.release.set()
    await terminal.shows("One two", "tokens", "› next question")
    assert len(vllm.chats) == 1
    reply = terminal.screen.everything().partition("One")[2].partition("tokens/s")[0]
    assert "question" not in reply
    terminal.types(ENTER)
    await eventually(lambda: len(vllm.chats) == 2)
    assert vllm.chats[1].body["messages"][-1]["content"] == "next question"


async def test_ctrl_c_clears_the_line_and_a_message_of_several_lines_is_one_however_they_are_made(
    chat_on_terminal, vllm
):
    terminal = await chat_on_terminal()
    terminal.types("a slip")
    await terminal.shows("a slip")
    terminal.types(CTRL_C)
    await terminal.shows("Ctrl-D or /quit leaves.")
    assert "a slip" not in terminal.screen.visible()
    terminal.types("one" + ALT_ENTER + "two" + CTRL_J + "three\\" + ENTER + "four" + ENTER)
    await terminal.shows("tokens")
    terminal.pastes("five\r\nsix\rseven")
    await terminal.shows("seven")
    assert len(vllm.chats) == 1
    terminal.types(ENTER)
    await eventually(lambda: len(vllm.chats) == 2)
    assert [chat.body["messages"][-1]["content"] for chat in vllm.chats] == [
        "one\ntwo\nthree\nfour",
        "five\nsix\nseven",
    ]


async def test_tab_completes_commands_and_those_typed_ahead_are_carried_out(chat_on_terminal):
    terminal = await chat_on_terminal()
    terminal.types("/pers")
    await terminal.shows("show the personas, or pick one")
    terminal.types(TAB + " pi")
    await terminal.shows("Captain")
    terminal.types(TAB)
    await terminal.shows("› /persona pirate")
    terminal.types(ENTER + "/stats" + ENTER + "/rate up" + ENTER)
    await terminal.shows("From now on: Captain.", "conversations: 0", "There is no reply to rate yet.")


async def test_long_replies_stay_whole_while_the_window_changes_its_size(chat_on_terminal, vllm):
    words = [f"word{number} " for number in range(300)]
    holds = [Hold() for _ in range(3)]
    steps = [*words[:80], holds[0], *words[80:160], holds[1], *words[160:240], holds[2], *words[240:]]
    vllm.script(Reply(*steps))
    terminal = await chat_on_terminal()
    terminal.types("many words" + ENTER)
    for hold, last, (columns, rows) in zip(holds, (79, 159, 239), ((100, 30), (120, 30), (130, 30)), strict=True):
        await terminal.shows(f"word{last}")
        terminal.resizes(columns, rows)
        hold.release.set()
    await terminal.shows("tokens")
    said = terminal.screen.everything().partition("many words")[2].partition(" tokens")[0].split()
    assert [word for word in said if word.startswith("word")] == [word.strip() for word in words]


async def test_waiting_for_the_engine_is_one_line_that_counts_on_and_vanishes(chat_on_terminal, tmp_path):
    terminal = await chat_on_terminal(phases=["starting", "loading"])
    terminal.types("hello" + ENTER)
    await terminal.shows("Loading the model… 0 s")
    await terminal.shows("Loading the model… 1 s")
    assert "Loading the model… 0 s" not in terminal.screen.everything()
    (tmp_path / "gate").touch()
    await terminal.shows("Hello there!", "tokens")
    assert "Loading" not in terminal.screen.everything()


async def test_a_failure_says_what_to_do_and_keeps_what_was_shown_without_colour_if_so_wished(chat_on_terminal, vllm):
    vllm.script(Reply("Half a rep", Cut()), Refusal(503), Reply("Whole."))
    terminal = await chat_on_terminal(environment={"NO_COLOR": "1"})
    terminal.types("go" + ENTER)
    await terminal.shows("Half a rep", "The engine broke off.", "/retry")
    terminal.types("/retry" + ENTER)
    await terminal.shows("Too many people are asking at once.")
    terminal.types("/retry" + ENTER)
    await terminal.shows("Whole.", "reply 2 of 2")
    assert "Half a rep" in terminal.screen.everything()
    assert not [code for code in range(30, 38) if f"[{code}m".encode() in terminal.raw]


async def test_edit_correct_and_undo_offer_the_text_to_be_changed(chat_on_terminal, vllm):
    vllm.script(Reply("Red."), Reply("Blue."))
    terminal = await chat_on_terminal()
    terminal.types("which colou" + ENTER)
    await terminal.shows("Red.", "tokens")
    await terminal.asks()
    terminal.types("/edit" + ENTER)
    await terminal.until(lambda: terminal.screen.visible().endswith("› which colou"))
    terminal.types("r" + ENTER)
    await terminal.until(lambda: terminal.screen.visible().count("tokens") > 2)
    await terminal.asks()
    terminal.types("/correct" + ENTER)
    await terminal.until(lambda: terminal.screen.visible().endswith("› Blue."))
    terminal.types("\x7fish" + ENTER)
    await terminal.shows("your version is noted")
    terminal.types("/undo" + ENTER)
    await terminal.shows("Taken back.", "› which colour")
    assert [chat.body["messages"][-1]["content"] for chat in vllm.chats] == ["which colou", "which colour"]


async def test_forgetting_asks_for_a_word_and_takes_the_typed_history_along(chat_on_terminal, tmp_path: Path):
    terminal = await chat_on_terminal()
    terminal.types("my secret" + ENTER)
    await terminal.shows("tokens")
    history = tmp_path / "terminal-history"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    assert "my secret" in history.read_text()
    terminal.types("/forget" + ENTER)
    await terminal.shows("Type “delete”")
    terminal.types("no" + ENTER)
    await terminal.shows("Nothing was deleted.")
    assert "my secret" in history.read_text()
    terminal.types("/forget" + ENTER)
    await terminal.until(lambda: terminal.screen.visible().count("Type “delete”") == 2)
    terminal.types("delete" + ENTER)
    await terminal.shows("This conversation is deleted.")
    assert "my secret" not in history.read_text()
    terminal.types("/forget all" + ENTER)
    await terminal.until(lambda: terminal.screen.visible().count("Type “delete”") == 3)
    terminal.types("delete" + ENTER)
    await terminal.shows("Everything about you is deleted.")
    assert history.read_text() == ""


async def test_a_narrow_terminal_in_chinese(chat_on_terminal, vllm):
    vllm.script(Reply("好的，", "这是一个", "很长的回答，", "用来看看换行", "是不是正确。"))
    terminal = await chat_on_terminal(columns=20, environment={"LC_ALL": "zh_CN.UTF-8"})
    assert "你好" in terminal.screen.visible()
    terminal.types("说点什么" + ENTER)
    await terminal.shows("token")
    shown = terminal.screen.everything()
    assert "好的，这是一个很长的\n回答，用来看看换行是\n不是正确。" in shown.replace(" ", "")


async def test_consent_is_asked_until_there_is_an_answer_and_never_again(chat_on_terminal):
    undecided = await chat_on_terminal(consent="ask", until="[y/n")
    assert "May I learn from our conversations?" in undecided.screen.visible()
    undecided.types(ENTER)
    await undecided.asks()
    undecided.types(CTRL_D)
    await undecided.exit_code()
    deciding = await chat_on_terminal(consent="ask", until="[y/n")
    deciding.types("maybe" + ENTER)
    await deciding.until(lambda: deciding.screen.visible().count("[y/n") == 2)
    deciding.types("n" + ENTER)
    await deciding.shows("Nothing of yours is used for learning")
    await deciding.asks()
    deciding.types(CTRL_D)
    await deciding.exit_code()
    decided = await chat_on_terminal(consent="ask")
    assert "May I learn" not in decided.screen.everything()


async def test_a_signal_restores_the_terminal(chat_on_terminal, vllm):
    vllm.script(Reply("So far", Hold()))
    terminal = await chat_on_terminal()
    terminal.types("hi" + ENTER)
    await terminal.shows("So far")
    assert terminal.screen.cursor.hidden
    terminal.process.send_signal(signal.SIGTERM)
    assert await terminal.exit_code() == 128 + signal.SIGTERM
    assert not terminal.screen.cursor.hidden
    assert terminal.echoes()


async def test_a_closed_window_ends_the_request_and_what_was_shown_is_there_in_the_next_session(chat_on_terminal, vllm):
    vllm.script(Reply("So far", Hold()))
    terminal = await chat_on_terminal()
    terminal.types("hi" + ENTER)
    await terminal.shows("So far")
    terminal.hang_up()
    assert await terminal.exit_code() == 128 + signal.SIGHUP
    await eventually(lambda: len(vllm.aborted) == 1)
    again = await chat_on_terminal("--latest", until="Going on with “hi”.")
    assert "› hi\n\nSo far\n" in again.screen.everything()


async def test_a_dumb_terminal_gets_no_escape_codes(chat_on_terminal, vllm):
    vllm.otherwise = Reply("Some `code`.")
    terminal = await chat_on_terminal(environment={"TERM": "dumb"})
    terminal.types("hi" + ENTER)
    await terminal.shows("Some `code`.", "tokens")
    await terminal.asks()
    terminal.types("slip" + CTRL_C)
    await terminal.shows("Ctrl-D or /quit leaves.")
    terminal.types(CTRL_D)
    assert await terminal.exit_code() == 0
    assert b"\x1b" not in terminal.raw
