"""The whole way from a log to a better model, by the defaults: how long each stage takes, and what came of it.

    python -m bench.loop [--conversations 200]

The log is that of a made-up house whose people teach its words (tests/finetune/house.py), with conversations of OASST,
rated up, from FAMILIAR_DATA (else ../shared/data) in between until there are so many. Aim: 15 minutes on two cores.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from bench.finetune import conversations
from bench.running import heading
from engine import hardware, models
from engine.process import LocalEngine
from finetune import run
from finetune.report.terminal import text
from settings import Data, load
from store.session import Store
from tests.finetune.house import Taught, taught, write_log


def log_of(model_folder: Path, many: int) -> list[Taught]:
    """What the house says stays in its order, the phrases to be held out last."""
    house = taught()[-many:]
    others = [
        Taught(messages[0]["content"], messages[1]["content"], "", False)
        for messages in conversations(model_folder, max(0, many - len(house)))
    ]
    mixed = list(house)
    for place, other in zip(sorted(random.Random(0).sample(range(many), len(others))), others, strict=True):
        mixed.insert(place, other)
    return mixed


async def main(many: int) -> None:
    configured = load()
    with tempfile.TemporaryDirectory() as folder:
        shared = configured.data.folder / "models"
        model_folder = models.ensure(models.choose("bundled", hardware.detect()), shared, print)
        (Path(folder) / "models").symlink_to(shared)
        engine = configured.engine.model_copy(update={"model": "bundled"})
        settings = configured.model_copy(update={"data": Data(folder=Path(folder)), "engine": engine})
        heading(f"From a log of {many} conversations to a better model")
        with Store(settings.database_url) as store:
            write_log(store, log_of(model_folder, many))
            try:
                record = await run.run(settings, store)
            finally:
                await LocalEngine(settings).stop()
    Console(width=110).print(text(replace(record, samples=())))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conversations", type=int, default=200)
    asyncio.run(main(parser.parse_args().conversations))
