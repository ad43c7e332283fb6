#!/usr/bin/env bash
# On a machine with an NVIDIA GPU: the live tests and the benches that depend on it, with the card's name, into one file.
#
#     bench/gpu.sh [FILE]          default: gpu-figures.txt
#
# Set FAMILIAR_ENGINE__MODEL to measure another model than the one that `auto` takes; without a hub, `bundled`.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-gpu-figures.txt}
nvidia-smi -L >/dev/null 2>&1 || { echo "No GPU answers to nvidia-smi; there is nothing to measure." >&2; exit 1; }
make setup PROFILE=gpu || exit 1
{
  nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader
  .venv/bin/pytest tests/live
  # sharing: what people wait for while a model is trained on the same GPU, with finetune.gpu sleep and share.
  for name in overhead engines prefix sharing; do
    echo
    .venv/bin/python -m "bench.$name"
  done
} 2>&1 | tee "$out"
