"""Records of runs, made up: one in which everything is there, and ways to take something away."""

from __future__ import annotations

from datetime import UTC, datetime

from finetune.record import Check, DataCounts, Decision, Interval, Point, Record, Sample, Training

BEGUN = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)

CHECKS = (
    Check("gain", True, "On 61 held-out conversations the loss fell by 0.213.", 0.213, 0.142, 0.287, 0.0, 61),
    Check("general_perplexity", False, "Perplexity on 90 general texts went up.", 1.05, 1.04, 1.06, 1.03, 90),
    Check("rounds", None, "There are too few of earlier runs.", None, None, None, 0.1, 6),
)

TABLE = (
    Interval("loss a token, held-out conversations", 2.471, 2.258, -0.213, -0.287, -0.142, 61),
    Interval("loss a token, what people took back", 2.1, 2.4, 0.3, 0.1, 0.5, 12, "higher"),
    Interval("perplexity, general text", 29.23, 29.61, 0.38, 0.23, 0.53, 90),
    Interval("refusals", 0.05, 0.025, -0.025, -0.075, 0.025, 40),
    Interval("characters of a reply", 412.3, 301.7, -110.6, -160.2, -62.1, 40, "same"),
    Interval("fixed questions: kept to the form asked for", 0.5, 0.6, 0.1, None, None, 2, "higher"),
)

DATA = DataCounts(
    examples={"corrected": 34, "unremarked": 402},
    left_out={"near_duplicate": 77, "no_consent": 240, "a_new_reason": 3},
    conversations={"train": 160, "validation": 18, "test": 61},
    sides={"train": 370, "validation": 40, "test": 118},
    people=9,
    consent={"yes": 9, "no": 2, "unasked": 4},
    redactions={"EMAIL": 14, "NAME": 203},
    preferences=24,
    judged=111,
    replayed=90,
    general=80,
    forgotten=2,
    fingerprint="9f2c" * 16,
)

TRAINING = Training(
    method="lora",
    base="SmolLM2-135M-Instruct",
    trainable=4_884_480,
    parameters=134_515_008,
    steps=80,
    best_step=60,
    stopped_early=True,
    epochs=3.2,
    tokens=182_000,
    seconds=512.2,
    tokens_per_s=355.4,
    peak_mb=4210.5,
    energy_j=41_250.0,
    device="cpu",
    dtype="float32",
    curve=tuple(Point(step, 3.4 - step / 50, 3.5 - step / 60, 2e-4) for step in range(10, 90, 10)),
    settings={"rank": 16, "kl": 0.1, "schedule": ""},
)

SAMPLES = (
    Sample("log:12", "Where is the spare key?", "In the blue pot.", "I do not know.", "It is in the blue pot."),
    Sample("log:13", "备用钥匙放在哪里？", "", "对不起。", "在蓝色花盆里。🔑"),
)

PROMOTED = Record(
    number=12,
    name="familiar",
    trigger="schedule",
    started_at=BEGUN,
    finished_at=BEGUN.replace(minute=13),
    verdict="promoted",
    said="The loss fell by 0.213 nats a token. familiar@7 is in force.",
    version=7,
    before="familiar@6",
    data=DATA,
    training=TRAINING,
    table=TABLE,
    decision=Decision("promoted", "The loss fell by 0.213 nats a token.", CHECKS),
    samples=SAMPLES,
    notes=("No judge was asked.",),
    seconds={"preparing": 14.2, "training": 512.4, "evaluating": 240.0},
)

JUST_BEGUN = Record(13, "familiar", "by hand", BEGUN)
