"""Plug a NAMM into a language model of your own, generate, and read what it kept."""

import sys

from transformers import AutoModelForCausalLM, AutoTokenizer

from namm_mm import Namm, attach, policy
from namm_mm.models.resolve import resolve
from namm_mm.tasks.long_text import LongTextTask

source = resolve(sys.argv[1] if len(sys.argv) > 1 else "smollm2-135m-instruct")
model, tokenizer = (c.from_pretrained(source) for c in (AutoModelForCausalLM, AutoTokenizer))
sample = LongTextTask(families=["passkey"], words=200).samples("test", limit=1, seed=0)[0]
inputs = tokenizer(sample.context + sample.question.rstrip(), return_tensors="pt")

namm = policy(
    "namm", checkpoint=Namm.from_pretrained("general")
)  # it was taught with a size for every head
with attach(model, namm, interval=64, storage="per_head") as memory:
    output = model.generate(**inputs, max_new_tokens=8, do_sample=False)

answer = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :])
print(f"{sample.question.strip()} ... {answer!r}; it was {sample.answer}")
use = memory.usage()
print(f"kept {use.tokens_final:.0f} of {use.seen} tokens, {use.bytes_final / 2**20:.1f} MiB")
print("by layer:", *(round(tokens) for tokens in use.kept_by_layer))
print("the oldest in layer 0, head 0:", *memory.kept(layer=0)[0][:20].tolist())
