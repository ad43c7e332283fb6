from __future__ import annotations

import random

import pytest

from engine.errors import EngineBusy, EngineRefused, PromptTooLong, UnknownModel, WrongKey
from engine.wire import Broken, EventSplitter, error_of, metrics_of


@pytest.mark.parametrize("seed", range(20))
def test_events_come_whole_wherever_the_network_cuts_them(seed: int) -> None:
    chance = random.Random(seed)
    events = [("中" * chance.randint(0, 9)).encode() for _ in range(30)]
    stream = b"".join(b"data: " + event + chance.choice([b"\n\n", b"\r\n\r\n", b"\n: note\n\n"]) for event in events)
    splitter = EventSplitter()
    received = []
    while stream:
        cut = chance.randint(1, 12)
        received += splitter.feed(stream[:cut])
        stream = stream[cut:]
    assert received == events


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (401, b'{"error": "Unauthorized"}', WrongKey, "engine.api_key"),
        (403, b"<html>Forbidden</html>", WrongKey, "engine.api_key"),
        (404, b'{"error": {"message": "No such", "type": "NotFoundError", "param": "model"}}', UnknownModel, "tone@1"),
        (404, b'{"detail": "Not Found"}', EngineRefused, "Not Found"),
        (400, b'{"error": {"message": "Too long", "param": "input_tokens"}}', PromptTooLong, "Too long"),
        (400, b'{"object": "error", "message": "maximum context length is 9"}', PromptTooLong, "length is 9"),
        (400, b'{"error": {"message": "No.", "param": null}}', EngineRefused, "No."),
        (422, b"", EngineRefused, "status 422"),
        (429, b"Slow down", EngineBusy, "Slow down"),
        (503, b'{"error": {"message": "Queue full"}}', EngineBusy, "Queue full"),
        (500, b'{"error": {"message": "EngineCore died"}}', Broken, "EngineCore died"),
        (502, b"", Broken, "status 502"),
        (504, b"\xff\xfe", Broken, ""),
    ],
)
def test_an_error_answer_is_understood_whoever_made_it(
    status: int, body: bytes, kind: type[Exception], words: str
) -> None:
    error = error_of(status, body, "tone@1")
    assert type(error) is kind
    assert words in str(error)


def test_samples_of_one_name_are_summed() -> None:
    text = """# HELP vllm:num_requests_running Number of requests.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a b} c"} 2.0
vllm:num_requests_running{engine="1",model_name="base"} 1.0 1700000000000

process_cpu_seconds_total 1.25e+01
vllm:e2e_request_latency_seconds_bucket{le="+Inf"} 4.0
"""
    assert metrics_of(text) == {
        "vllm:num_requests_running": 3.0,
        "process_cpu_seconds_total": 12.5,
        "vllm:e2e_request_latency_seconds_bucket": 4.0,
    }
