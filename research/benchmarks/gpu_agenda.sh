#!/usr/bin/env bash
# The work for a borrowed GPU, most important first: check the CUDA paths, time them, then continue the
# evolution in EVOLUTION (a folder of `namm-mm evolve evolution=smollm2_warm`; by default a copy of the
# committed one; NAMM_MM_CACHE must hold SmolLM2), the refinement in REFINEMENT, and the numbers of record
# in RECORDS (`python research/benchmarks/results_page.py --add RECORDS` keeps them). Each step has a time
# limit and writes its own file, so that an interrupted run keeps its results.
#
#   OUT=results bash research/benchmarks/gpu_agenda.sh
set -uo pipefail
cd "$(dirname "$0")/../.."
out=${OUT:-research/results/gpu}
mkdir -p "$out"
python=${PYTHON:-python3}
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} HF_HUB_OFFLINE=1 WANDB_MODE=offline

step() { # step NAME SECONDS COMMAND...: run a command and keep its output; a failure does not stop the script
  local name=$1 limit=$2
  shift 2
  echo "== $name"
  timeout "$limit" "$@" >"$out/$name.txt" 2>&1
  echo "   exit code $? after ${SECONDS} s; $out/$name.txt"
}

"$python" - >"$out/device.txt" 2>&1 <<'PY'
import torch, transformers
print(torch.cuda.get_device_name(), torch.__version__, transformers.__version__)
PY
step tests 120 "$python" -m pytest -q -m gpu -p no:cacheprovider tests/unit
step parity 60 "$python" -m namm_mm.testing parity tests/parity/golden/golden_bam.npz
for prompt in 4096 16384 65536; do
  step "prefill_decode_$prompt" 120 "$python" research/benchmarks/prefill_decode.py --device cuda \
    --dtype bfloat16 --prompt "$prompt" --rounds 3
done
evolution=${EVOLUTION:-$out/evolution}
[ -d "$evolution" ] || cp -r research/results/evolution_smollm2_warm "$evolution"
step evolve 580 "$python" -c 'import sys; from namm_mm.cli import main; sys.exit(main())' evolve \
  evolution=smollm2_warm stages.finish.generations=400 folder="$evolution" \
  minutes="${MINUTES:-8}" adapter.device=cuda wandb=disabled --anyway
refinement=${REFINEMENT:-$out/refinement}
[ -d "$refinement" ] || cp -r research/results/refinement_general "$refinement"
step refine 580 "$python" -c 'import sys; from namm_mm.cli import main; sys.exit(main())' build refine \
  out="$refinement" device=cuda minutes="${MINUTES:-8}"
records=${RECORDS:-$out/pocket_general}
step records 580 "$python" -c 'import sys; from namm_mm.cli import main; sys.exit(main())' transfer \
  --configs research/configs experiment=pocket_general folder="$records" wandb=disabled
