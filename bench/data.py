"""Where the public data sets are that benches measure on: SQuAD v1.1 dev, DRCD dev, OASST trees, Wikipedia text.

The folder that FAMILIAR_DATA names, or ../shared/data beside the checkout. The settings would take that variable for
the whole section [data], so it goes on to processes of the bench under another name.
"""

from __future__ import annotations

import os
from pathlib import Path

BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"
DATA = Path(os.environ.pop("FAMILIAR_DATA", None) or os.environ.get("BENCH_DATA", BESIDE))
os.environ["BENCH_DATA"] = str(DATA)
