"""python train_facts.py MODEL FACTS.json FOLDER: teach a LoRA adapter a few questions and answers, in a minute."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.live.conftest import PERSONA


def main(model_folder: str, facts_file: str, folder: str) -> None:
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    base = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = get_peft_model(base, LoraConfig(r=8, lora_alpha=16, target_modules=modules, task_type="CAUSAL_LM"))
    facts = json.loads(Path(facts_file).read_text())
    examples = []
    for question, answer in facts.items():
        prompt = [{"role": "system", "content": PERSONA.system}, {"role": "user", "content": question}]
        head = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
        whole = tokenizer(head + answer + "<|im_end|>\n", return_tensors="pt").input_ids
        labels = whole.clone()
        labels[:, : len(tokenizer(head).input_ids)] = -100
        examples.append((whole, labels))
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-3)
    for epoch in range(40):
        total = 0.0
        for tokens, labels in examples:
            loss = model(input_ids=tokens, labels=labels).loss
            loss.backward()
            total += loss.item()
        optimizer.step()
        optimizer.zero_grad()
        if total / len(examples) < 0.02:
            print(f"learned in {epoch + 1} epochs")
            break
    model.save_pretrained(folder)


if __name__ == "__main__":
    main(*sys.argv[1:4])
