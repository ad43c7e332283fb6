"""`python -m bench.gate`: how often the gate finds a gain that is there, and how often one that is not.

Simulated, with a seed, on the gate's own code. Beside it stand the plain percentiles of bootstrapped means, and the
numbers that the design began with (percentiles, one-sided for the loss). About two minutes.

--simulations N   of each case, default 1000; the whole gate takes a fifth of them
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.running import heading
from finetune.gate import decide
from finetune.measurements import Loss, Measurements, Probe, Reply
from finetune.statistics import interval
from settings import Gate

Array = npt.NDArray[np.float64]

SIZES = (20, 50, 100, 200)
SPREAD, GAIN = 0.3, 0.1  # nats a token
RESAMPLES = 1000
REFUSAL = "I'm sorry, but I can't help with that."
WORDS = " ".join(str(number) for number in range(1000))
LOOP = "again and again and again and so on " * 12


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--simulations", type=int, default=1000)
    simulations = arguments.parse_args().simulations
    heading(f"The gate, {simulations} simulations of each case")
    chance = np.random.default_rng(5)
    paired_loss(simulations, chance)
    wins(simulations, chance)
    whole_gate(max(20, simulations // 5), chance)


def paired_loss(simulations: int, chance: np.random.Generator) -> None:
    print(f"A gain of {GAIN} nats a token, spread {SPREAD}: found, and found where it is not there (percent)\n")
    issue = {20: "50", 50: "77", 100: "95"}
    print(
        f"{'differences':<14}{'n':>5}   {'95% interval':^21}{'90% interval':^21}{'95%, percentiles':^21}{'design':>9}"
    )
    print(f"{'':<14}{'':>5}   " + f"{'found':>9}{'not there':>12}" * 3)
    for name, draw in KINDS.items():
        for n in SIZES:
            found = np.array([_lows(SPREAD * draw(chance, n), chance) for _ in range(simulations)])  # (simulations, 3)
            shares = [(float((low + GAIN > 0).mean()), float((low > 0).mean())) for low in found.T]
            row = "".join(f"{100 * gain:>9.0f}{100 * nothing:>12.1f}" for gain, nothing in shares)
            print(f"{name:<14}{n:>5}   {row}{issue.get(n, '') if name == 'normal' else '':>9}")


def _lows(values: Array, chance: np.random.Generator) -> tuple[float, float, float]:
    """Lower ends, for a mean of 0: of the gate's interval at 95% and at 90%, and of percentiles at 95%.

    A gain moves every value, and with them the lower end, by as much.
    """
    n, seed = len(values), int(chance.integers(2**32))
    plain = values[chance.integers(n, size=(RESAMPLES, n))].mean(axis=1)
    ones = np.ones(n)
    return (
        interval(values, ones, 0.95, RESAMPLES, seed)[0],
        interval(values, ones, 0.90, RESAMPLES, seed)[0],
        float(np.quantile(plain, 0.025)),
    )


def _normal(chance: np.random.Generator, n: int) -> Array:
    return chance.normal(size=n)


def _skewed_to_loss(chance: np.random.Generator, n: int) -> Array:
    """Most are a little better, some much worse: log-normal."""
    return -(chance.lognormal(0, 1, n) - math.exp(0.5)) / math.sqrt((math.e - 1) * math.e)


def _few_moved(chance: np.random.Generator, n: int) -> Array:
    """Nine in ten conversations are as they were."""
    moved = np.where(chance.random(n) < 0.1, chance.normal(1, 1, n), 0.0)
    return (moved - 0.1) / math.sqrt(0.19)


KINDS: dict[str, Callable[[np.random.Generator, int], Array]] = {
    "normal": _normal,
    "skewed to loss": _skewed_to_loss,
    "few moved": _few_moved,
}


def wins(simulations: int, chance: np.random.Generator) -> None:
    print("\nA win rate of 60%: found, and found at 50% (percent)\n")
    issue = {20: 14, 50: 30, 100: 51, 200: 81}
    print(f"{'n':>5}{'found':>9}{'not there':>12}{'design':>9}")
    for n in SIZES:
        found = []
        for rate in (0.6, 0.5):
            won = np.where(chance.random((simulations, n)) < rate, 1.0, -1.0)
            seeds = chance.integers(2**32, size=simulations)
            lows = [
                interval(row, np.ones(n), 0.95, RESAMPLES, int(seed))[0] for row, seed in zip(won, seeds, strict=True)
            ]
            found.append(100 * float((np.array(lows) > 0).mean()))
        print(f"{n:>5}{found[0]:>9.0f}{found[1]:>12.1f}{issue[n]:>9}")


@dataclass(frozen=True)
class Adapter:
    """What is true of one, against what was there before."""

    gain: float = 0.0  # nats a token on held-out conversations
    general: float = 0.0  # nats a token on general text, that it is worse by
    rounds: float = 0.0  # likewise on what an earlier run taught
    loops: float = 0.05  # share of replies; 0.05 before
    refusals: float = 0.02  # likewise; 0.02 before


ADAPTERS = {
    "as before, on all": Adapter(),
    "better by 0.1": Adapter(gain=0.1, general=0.01),
    "better by 0.2": Adapter(gain=0.2, general=0.01),
    "better, general +2%": Adapter(gain=0.2, general=math.log(1.02)),
    "better, general +5%": Adapter(gain=0.2, general=math.log(1.05)),
    "better, forgot a run": Adapter(gain=0.2, rounds=0.3),
    "better, 20% loops": Adapter(gain=0.2, loops=0.2),
    "better, 20% refusals": Adapter(gain=0.2, refusals=0.2),
    "worse by 0.1": Adapter(gain=-0.1),
    "poisoned": Adapter(gain=-0.5, general=0.2, rounds=0.3, loops=0.4),
}


def whole_gate(simulations: int, chance: np.random.Generator) -> None:
    gate = Gate(resamples=RESAMPLES)
    print(
        f"\nThe whole gate on its defaults: {gate.min_conversations} conversations, 30 of an earlier run, 80 general\n"
        f"texts (spread 0.03), {gate.replies} replies of which 5% loop and 2% refuse before (percent)\n"
    )
    print(f"{'adapter':<24}{'promoted':>10}{'not proven':>12}{'rejected':>10}   mostly because of")
    for name, adapter in ADAPTERS.items():
        verdicts: Counter[str] = Counter()
        because: Counter[str] = Counter()
        for _ in range(simulations):
            decision = decide(_measured(Adapter(), chance), _measured(adapter, chance), gate)
            verdicts[decision.verdict] += 1
            because.update(check.name for check in decision.checks if not check.passed)
        shares = [100 * verdicts[verdict] / simulations for verdict in ("promoted", "not_proven", "rejected")]
        named = ", ".join(f"{rule} {100 * times / simulations:.0f}" for rule, times in because.most_common(2))
        print(f"{name:<24}{shares[0]:>10.0f}{shares[1]:>12.0f}{shares[2]:>10.0f}   {named}")


def _measured(adapter: Adapter, chance: np.random.Generator) -> Measurements:
    """Half of the spread of a difference is drawn on each side."""
    side = SPREAD / math.sqrt(2)

    def losses(which: str, n: int, mean: float, spread: float) -> tuple[Loss, ...]:
        drawn = mean + spread * chance.normal(size=n)
        return tuple(Loss(f"{which} {k}", f"{which} {k}", 50 * float(drawn[k]), 50) for k in range(n))

    asked = np.random.default_rng(0).normal(4, 0.6, Gate().replies)  # what each prompt asks for, log characters
    lengths = np.exp(asked + chance.normal(0, 0.3, len(asked)))
    faults = chance.random(len(asked))
    texts = [
        LOOP if fault < adapter.loops else REFUSAL if fault < adapter.loops + adapter.refusals else WORDS[: int(length)]
        for fault, length in zip(faults, lengths, strict=True)
    ]
    return Measurements(
        "simulated",
        {
            "test": losses("test", Gate().min_conversations, 2 - adapter.gain, side),
            "general": losses("general", 80, 3 + adapter.general, 0.03 / math.sqrt(2)),
            "round 1": losses("round 1", 30, 2 + adapter.rounds, 0.15 / math.sqrt(2)),
        },
        (),
        tuple(Reply(f"reply {k}", f"test {k}", "", text, text, 1, "stop") for k, text in enumerate(texts)),
        (Probe("fact: capital", "fact", "", "Paris.", True),),
    )


if __name__ == "__main__":
    main()
