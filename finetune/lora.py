"""Low-rank updates beside the linear layers: LoRA, rsLoRA and DoRA, and the starts of PiSSA and EVA."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.errors import MethodRefused
from finetune.methods import linear_layers
from settings import Finetune

if TYPE_CHECKING:
    from torch import Tensor


def put_on(
    model: Any, name: str, settings: Finetune, batches: Iterable[Mapping[str, Tensor]], start: Path | None
) -> Any:
    """LoRA and what begins otherwise, on every linear layer of the body; `start`: an earlier adapter that goes on.

    Raises MethodRefused.
    """
    from peft import EvaConfig, LoraConfig, PeftModel, get_peft_model

    if start is not None:
        return PeftModel.from_pretrained(model, start, is_trainable=True)
    alpha = int(settings.alpha) if settings.alpha == int(settings.alpha) else settings.alpha
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=alpha,
        lora_dropout=settings.dropout,
        target_modules=linear_layers(model),
        use_rslora=name == "rslora",
        use_dora=name == "dora",
        init_lora_weights="eva" if name == "eva" else True,
        # As many ranks in every layer: what the engine must keep room for is then what was set, not twice as much.
        eva_config=EvaConfig(rho=1.0) if name == "eva" else None,
        task_type="CAUSAL_LM",
    )
    adapted = get_peft_model(model, config, low_cpu_mem_usage=name == "eva")  # EVA makes its matrices itself
    if name == "eva":
        _look_at(adapted, list(batches), settings.rank)
    if name == "pissa":
        from finetune import pissa

        pissa.begin(adapted, config)
    return adapted


def _look_at(adapted: Any, batches: list[Mapping[str, Tensor]], rank: int) -> None:
    """Start LoRA's A from the main directions of each layer's inputs on these batches."""
    from peft import initialize_lora_eva_weights

    fewest = min((int(batch["input_ids"].numel()) for batch in batches), default=0)
    if fewest < rank:
        raise MethodRefused(
            f"EVA looks for {rank} directions, and a batch of examples has {fewest} tokens. Use finetune.method = "
            f"'lora', or a lower finetune.rank."
        )

    def body_only(peft_model: Any, batch: Mapping[str, Tensor]) -> None:
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        peft_model.get_base_model().base_model(**inputs, use_cache=False)

    initialize_lora_eva_weights(
        adapted, [dict(batch) for batch in batches], forward_fn=body_only, show_progress_bar=False
    )
