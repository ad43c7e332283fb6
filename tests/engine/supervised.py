"""The real supervisor over a stand-in for vLLM, for faults that a real one shows only after half a minute.

`python supervised.py` is engine.supervisor with another command to start. `python supervised.py serve PORT FOLDER NAME`
is that command: two processes as vLLM has (the second stays when the first is killed), /health, /metrics, adapters,
one-token replies, and streamed ones that say which folder's model or which adapter answers, and take SPEAKING_S.
FAKE_ENGINE tells it what to do wrong: `exit` (with a message, at once), `hang` (never ready), `crash` (once ready),
`sleepless` (was started without sleep mode), `deep` (does not wake up). Asleep, it answers as engine.door does.
FAKE_MODEL is the base model's folder. A folder that holds `will-not-start` is one that vLLM gives up.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SPEAKING_S = 0.5
SPEAKING = threading.Semaphore(1000)  # one less for each reply that is being streamed
MODEL: dict[str, str] = {}  # the names that are served, and what answers under them
ASLEEP = threading.Event()


class Server(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/metrics":
            self._answer(f"vllm:num_requests_running {1000 - SPEAKING._value:.1f}\n".encode())
        elif self.path == "/v1/models":
            base = {"id": next(iter(MODEL)), "root": "", "parent": None}
            loras = [{"id": name, "root": path, "parent": base["id"]} for name, path in list(MODEL.items())[1:]]
            self._answer(json.dumps({"data": [base, *loras]}).encode())
        elif self.path == "/is_sleeping":
            self._answer(json.dumps({"is_sleeping": ASLEEP.is_set()}).encode())
        else:
            self._answer(b"{}")

    def do_POST(self) -> None:
        fault = os.environ.get("FAKE_ENGINE", "")
        if self.path in ("/sleep?level=1&mode=wait", "/wake_up"):
            self._sleep_or_wake(self.path != "/wake_up", fault)
            return
        if ASLEEP.is_set():
            self._answer(b'{"error": {"message": "The engine sleeps.", "code": 500}}', 500)
            return
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/v1/load_lora_adapter":
            MODEL[body["lora_name"]] = body["lora_path"]
            self._answer(b"Success")
        elif body["model"] not in MODEL:
            message = f"The model `{body['model']}` does not exist."
            self._answer(json.dumps({"error": {"message": message, "code": 404}}).encode(), 404)
        elif body.get("stream"):
            with SPEAKING:
                self._speak(body["model"])
        else:
            token = {"choices": [{"logprobs": {"content": [{"token": "Hi", "logprob": -0.5}]}}]}
            self._answer(json.dumps(token).encode())

    def _sleep_or_wake(self, sleep: bool, fault: str) -> None:
        if fault == "sleepless":
            self._answer(b'{"detail": "Not Found"}', 404)
        elif fault == "deep" and not sleep:
            self._answer(b'{"error": {"message": "CUDA out of memory", "code": 500}}', 500)
        elif sleep:
            while SPEAKING._value < 1000:  # replies under way end first
                time.sleep(0.01)
            ASLEEP.set()
            self._answer(b'{"status": "sleeping", "level": 1}')
        else:
            ASLEEP.clear()
            self._answer(b'{"status": "awake", "tags": null}')

    def _speak(self, model: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for text in ("I am ", Path(MODEL[model]).name):
            piece = {"model": model, "choices": [{"delta": {"content": text}, "finish_reason": None}]}
            self.wfile.write(f"data: {json.dumps(piece)}\n\n".encode())
            time.sleep(SPEAKING_S / 2)
        last = {"model": model, "choices": [{"delta": {}, "finish_reason": "stop"}]}
        self.wfile.write(f"data: {json.dumps(last)}\n\ndata: [DONE]\n\n".encode())

    def _answer(self, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


def serve(port: int, folder: str, name: str) -> None:
    fault = os.environ.get("FAKE_ENGINE", "")
    MODEL[name] = folder
    if fault == "exit" or (Path(folder) / "will-not-start").exists():
        print("error: unrecognized arguments: --no-such-flag", flush=True)
        sys.exit(2)
    if fault == "hang":
        time.sleep(600)
    core = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "vllm-core"])
    threading.Thread(target=lambda: os._exit(core.wait() * 0), daemon=True).start()  # as vLLM: exit code 0
    if fault == "crash":
        threading.Timer(0.3, os._exit, [0]).start()
    ThreadingHTTPServer(("127.0.0.1", port), Server).serve_forever()


def supervise() -> int:
    from engine import models, supervisor, vllm

    def launch(settings, folder, served_name, hardware, *, port, api_key, lora, adapters, training):  # type: ignore[no-untyped-def]
        command = [sys.executable, __file__, "serve", str(port), str(folder), served_name]
        return vllm.Launch(command, dict(os.environ), settings.max_model_len, lora)

    supervisor.vllm.launch = launch  # type: ignore[attr-defined]
    models.ensure = lambda choice, folder, report: Path(os.environ.get("FAKE_MODEL", folder))
    return supervisor.main()


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(int(sys.argv[2]), *sys.argv[3:])
    else:
        sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
        sys.exit(supervise())
