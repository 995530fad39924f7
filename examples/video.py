"""Ask a video model about an MP4 file through a NAMM; see what each layer kept of each frame."""

import sys
from pathlib import Path

from namm_mm import attach, policy
from namm_mm.adapters.video.adapter import LlavaVideoAdapter
from namm_mm.policies import Budget
from namm_mm.records import Sample, TokenType
from namm_mm.tasks.video_qa import VideoQaTask

adapter = LlavaVideoAdapter(model="pocket_video")
adapter.load()
sample = VideoQaTask(families=["shown"]).samples("test", limit=1, seed=0)[0]
if len(sys.argv) > 2:  # video.py CLIP.mp4 "Which shape appeared first?" circle square ring bar
    clip, question, *options = sys.argv[1:]
    sample = Sample("mine", "mine", question=question, options=tuple(options), video=Path(clip))
inputs = adapter.prepare(sample)

half = Budget(fraction=0.5, pooled=True)  # in every layer, wherever its heads want it
namm = policy("namm", budget=half)
with attach(adapter.backbone, namm, interval=64, storage="per_head") as memory:
    answer = adapter.answer(inputs, memory)

print(f"{sample.question} {answer.text}" + (f"; it was {sample.answer}" if sample.answer else ""))
print(f"kept {memory.usage().tokens_final:.0f} of {memory.usage().seen} tokens; by frame:")
frames = max(token_type.index for token_type in inputs.token_types) + 1
for layer in range(memory.layers):
    held = [inputs.token_types[at] for head in memory.kept(layer) for at in head.tolist()]
    counts = [held.count(TokenType("frame", frame)) for frame in range(frames)]
    print(f"layer {layer}:", *counts)
