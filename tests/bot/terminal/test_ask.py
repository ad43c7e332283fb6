"""`familiar ask`: exit codes, what goes to which output, what is read from standard input."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import termios
from asyncio.subprocess import PIPE, Process
from pathlib import Path

from tests.bot.terminal.terminal import LONGEST_S, REPOSITORY, Terminal
from tests.fakes.vllm import Cut, FakeVllm, Hold, Reply, eventually


async def started(command: list[str]) -> Process:
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "PYTHONPATH": str(REPOSITORY)}
    return await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment)


async def ended(command: list[str], given: bytes = b"") -> tuple[int | None, str, str]:
    """Exit code, standard output, standard error."""
    process = await started(command)
    async with asyncio.timeout(LONGEST_S):
        out, err = await process.communicate(given)
    return process.returncode, out.decode(), err.decode()


async def test_a_question_alone_with_a_file_or_from_a_file(program, vllm: FakeVllm):
    vllm.otherwise = Reply("It is ", "**text**.")
    alone, with_file, from_file = await asyncio.gather(
        ended(program("ask", "what is it?")),
        ended(program("ask", "summarise"), b"line one\nline two \xe4\xb8\xad\n"),
        ended(program("ask"), b"what is this?\n"),
    )
    assert alone == with_file == from_file == (0, "It is **text**.\n", "")
    sent = {chat.body["messages"][-1]["content"] for chat in vllm.chats}
    assert sent == {"what is it?", "summarise\n\nline one\nline two 中", "what is this?"}


async def test_wrong_usage_is_told_on_standard_error(program, vllm: FakeVllm):
    nothing, binary, persona = await asyncio.gather(
        ended(program("ask")),
        ended(program("ask", "what?"), b"\x89PNG\r\n\x1a\n\0\0"),
        ended(program("ask", "hi", "--persona", "nobody")),
    )
    assert [nothing[:2], binary[:2], persona[:2]] == [(2, "")] * 3
    assert "There is no question" in nothing[2]
    assert "not UTF-8" in binary[2]
    assert "no persona “nobody”" in persona[2]
    assert vllm.chats == []


async def test_json_is_one_object_for_a_reply_and_for_a_failure(program, vllm: FakeVllm):
    vllm.script(Reply("Fine", ".", cached_tokens=2))
    code, out, err = await ended(program("ask", "how are you?", "--json", "--persona", "pirate"))
    answer = json.loads(out)
    assert (code, err) == (0, "")
    assert {
        key: answer[key] for key in ("reply", "finish", "model", "adapter", "cached_tokens", "completion_tokens")
    } == {
        "reply": "Fine.",
        "finish": "stop",
        "model": "base",
        "adapter": "",
        "cached_tokens": 2,
        "completion_tokens": 2,
    }
    assert answer["conversation"] > 0
    assert answer["message"] > 0
    assert vllm.chats[0].body["messages"][0]["content"] == "Talk like a pirate."
    vllm.script(Reply("Fi", Cut()))
    code, out, _ = await ended(program("ask", "how are you?", "--json"))
    assert code == 1
    assert json.loads(out)["error"] == "engine_lost"


async def test_a_text_that_does_not_fit_the_model_is_refused(program, vllm: FakeVllm):
    code, out, err = await ended(program("ask", "summarise"), b"word " * 5000)
    assert (code, out) == (1, "")
    assert "longer than the model can read" in err
    assert vllm.chats == []


async def test_waiting_is_told_on_standard_error(program, tmp_path: Path):
    (tmp_path / "gate").touch()
    code, out, err = await ended(program("ask", "hi", phases=["starting", "loading"]))
    assert (code, out) == (0, "Hello there!\n")
    assert err == "Starting the engine… 0 s\nLoading the model… 0 s\n"


async def test_a_reader_that_goes_away_ends_it_quietly_and_aborts_the_reply(program, vllm: FakeVllm):
    hold = Hold()
    vllm.script(Reply("first\n", hold, "second\n", *["more\n"] * 20, Hold()))
    read, write = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *program("ask", "hi"), stdin=asyncio.subprocess.DEVNULL, stdout=write, stderr=PIPE, cwd=REPOSITORY
    )
    os.close(write)
    assert await asyncio.to_thread(os.read, read, 100) == b"first\n"
    os.close(read)
    hold.release.set()
    async with asyncio.timeout(LONGEST_S):
        _, err = await process.communicate()
    assert (process.returncode, err) == (128 + signal.SIGPIPE, b"")
    await eventually(lambda: len(vllm.aborted) == 1)


async def test_ctrl_c_keeps_what_came_and_ends_with_130(program, vllm: FakeVllm):
    vllm.script(Reply("so far", Hold()))
    process = await started(program("ask", "hi"))
    assert process.stdin
    assert process.stdout
    process.stdin.close()
    async with asyncio.timeout(LONGEST_S):
        assert await process.stdout.readexactly(6) == b"so far"
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130
    assert await process.stdout.read() == b"\n"
    await eventually(lambda: len(vllm.aborted) == 1)


async def test_ctrl_c_while_standard_input_is_read_ends_at_once(program, vllm: FakeVllm):
    read, write = os.pipe()
    os.write(write, b"part of a text")
    process = await asyncio.create_subprocess_exec(*program("ask", "hi"), stdin=read, stderr=PIPE, cwd=REPOSITORY)
    await eventually(lambda: fcntl.ioctl(read, termios.FIONREAD, b"....") == bytes(4))
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(LONGEST_S):
        _, err = await process.communicate()
    assert (process.returncode, err) == (130, b"")
    assert vllm.chats == []
    os.close(read)
    os.close(write)


async def test_on_a_terminal_the_reply_is_drawn_and_what_is_typed_does_not_show(program, vllm: FakeVllm):
    hold = Hold()
    vllm.script(Reply("A **bold** ", hold, "claim."))
    async with Terminal(program("ask", "hi")) as terminal:
        await terminal.shows("A bold")
        terminal.types("typed")
        hold.release.set()
        assert await terminal.exit_code() == 0
        assert terminal.screen.everything() == "A bold claim."


async def test_lines_from_a_pipe_are_messages_and_commands(program, vllm: FakeVllm):
    vllm.script(Reply("One."), Reply("Two."))
    lines = "first\n\n/new\r\n//second\n/stats"
    code, out, err = await ended(program("chat", consent="ask"), lines.encode())
    assert (code, err) == (0, "")
    assert out.startswith("One.\nA new conversation with Familiar.\nTwo.\nSo far:\nconversations: 2\n")
    assert "\x1b" not in out
    assert [chat.body["messages"][-1]["content"] for chat in vllm.chats] == ["first", "/second"]


async def test_a_pipe_that_holds_no_text_or_a_wrong_command_is_told(program):
    binary, unknown = await asyncio.gather(
        ended(program("chat"), b"\xff\xfe\n"), ended(program("chat"), b"/halp\nhello\n")
    )
    assert binary[0] == 2
    assert "not UTF-8" in binary[2]
    assert unknown[:2] == (1, "Hello there!\n")
    assert "Did you mean /help?" in unknown[2]
