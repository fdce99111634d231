"""A round written with transformers and TRL alone: the baseline of `make bench FIGURES=round`.

    python -m kdloop.evaluation.bench.plain_trl JOB.json

Sample completions, train on pairs, sample from base and candidate. Prints {"sample", "train", "judge", "loss"}, and on
a GPU "peak_gib". There it has a careful user's settings: bf16, batches of 128, no gradient checkpointing.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
from trl import DPOConfig, DPOTrainer

GPU = torch.cuda.is_available()
BATCH = 128 if GPU else 8


@torch.inference_mode(GPU)
def sample(model, tokenizer, prompts: list[str], max_tokens: int) -> list[str]:
    completions = []
    for at in range(0, len(prompts), BATCH):
        chats = [[{"role": "user", "content": p}] for p in prompts[at : at + BATCH]]
        batch = tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, padding=True, return_dict=True, return_tensors="pt"
        ).to(model.device)
        out = model.generate(**batch, max_new_tokens=max_tokens, do_sample=True, temperature=0.8, top_p=0.95)
        completions += tokenizer.batch_decode(out[:, batch["input_ids"].size(1) :], skip_special_tokens=True)
    return completions


def train(model, tokenizer, job: dict):
    rows = [
        {
            "prompt": [{"role": "user", "content": p["prompt"]}],
            "chosen": [{"role": "assistant", "content": p["chosen"]}],
            "rejected": [{"role": "assistant", "content": p["rejected"]}],
        }
        for p in job["pairs"]
    ]
    args = DPOConfig(
        output_dir=tempfile.mkdtemp(),
        use_cpu=not GPU,
        loss_type=["sigmoid", "sft"],
        loss_weights=[1.0, job["anchor"]],
        beta=job["beta"],
        learning_rate=job["learning_rate"],
        lr_scheduler_type="cosine",
        num_train_epochs=job["epochs"],
        per_device_train_batch_size=job["batch"],
        seed=job["seed"],
        save_strategy="no",
        logging_steps=1,
        report_to="none",
        **({"bf16": True, "gradient_checkpointing": False} if GPU else {}),
    )
    lora = LoraConfig(r=job["rank"], lora_alpha=2 * job["rank"], target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = DPOTrainer(
        model, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer, peft_config=lora
    )
    trainer.train()
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    return trainer.model, sum(losses) / len(losses)


def carry_out(job: dict) -> dict[str, float]:
    set_seed(job["seed"])
    tokenizer = AutoTokenizer.from_pretrained(job["model"], padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.bfloat16 if GPU else None)
    model = model.to("cuda" if GPU else "cpu")
    laps = [time.monotonic()]
    sample(model, tokenizer, [p for p in job["prompts"] for _ in range(job["n"])], job["max_tokens"])
    laps.append(time.monotonic())
    before = sample(model, tokenizer, job["held_out"], job["max_tokens"])
    judging = time.monotonic() - laps[-1]
    laps.append(time.monotonic())
    model, loss = train(model, tokenizer, job)
    laps.append(time.monotonic())
    after = sample(model.eval(), tokenizer, job["held_out"], job["max_tokens"])
    assert len(before) == len(after) == len(job["held_out"])
    judging += time.monotonic() - laps[-1]
    found = {"sample": laps[1] - laps[0], "train": laps[3] - laps[2], "judge": judging, "loss": loss}
    return found | ({"peak_gib": torch.cuda.max_memory_allocated() / 2**30} if GPU else {})


if __name__ == "__main__":
    print(json.dumps(carry_out(json.loads(Path(sys.argv[1]).read_text()))))
