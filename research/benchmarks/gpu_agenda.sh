#!/usr/bin/env bash
# The work for a borrowed GPU, most important first. Steps are chosen by name; without names all are run.
#
#   wheels      what to install, for `pip download -r`
#   device      the GPU, and the versions
#   kernels     correctness of the kernels on the device, before anything is timed
#   tests       the tests marked `gpu`
#   llama       time and memory of a 7B-shaped text model: 8k, 16k, 32k tokens, batch 1 and 8
#   llava       the same of a LLaVA-OneVision-7B-shaped model
#   evolve, refine, records   continue the evolution in EVOLUTION, the refinement in REFINEMENT, and the
#               numbers of record in RECORDS (`python research/benchmarks/results_page.py --add RECORDS` keeps them)
#
# Each step takes less than nine minutes and writes its own file; `llama` and `llava` write row by row and go
# on where they stopped: run them again until no row is missing. TINY=1 runs the steps on a CPU with tiny sizes.
#
#   OUT=results bash research/benchmarks/gpu_agenda.sh device kernels llama
set -uo pipefail
cd "$(dirname "$0")/../.."
out=${OUT:-research/results/gpu}
mkdir -p "$out"
python=${PYTHON:-python3}
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} HF_HUB_OFFLINE=1 WANDB_MODE=offline
steps=${*:-wheels device kernels tests llama llava evolve refine records}
speed=(research/benchmarks/gpu_speed.py --out "$out/speed" --minutes "${MINUTES:-7}")
chosen=()
if [ -n "${TINY:-}" ]; then
  speed+=(--tiny --device cpu --prompts 48 --batches 1 2 --new 2)
  chosen=(-k "80 and sums")
fi
failed=0

step() { # step NAME COMMAND...: run a command if its step is chosen, and keep its output; a failure stops nothing
  local name=$1 code
  shift
  case " $steps " in *" $name "*) ;; *) return ;; esac
  echo "== $name"
  timeout 540 "$@" >"$out/$name.txt" 2>&1
  code=$?
  [ "$code" = 0 ] || failed=1
  echo "   exit code $code after ${SECONDS} s; $out/$name.txt"
}

program() { "$python" -c 'import sys; from namm_mm.cli import main; sys.exit(main())' "$@"; }
export -f program
export python

step wheels "$python" research/benchmarks/gpu_wheels.py
step device "$python" -c 'import torch, transformers
print(torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU", torch.__version__, transformers.__version__)'
step kernels "$python" -m pytest -q -p no:cacheprovider tests/unit/test_kernels_triton.py "${chosen[@]}"
step tests "$python" -m pytest -q -m gpu -p no:cacheprovider tests/unit
step llama "$python" "${speed[@]}" --models llama
step llava "$python" "${speed[@]}" --models llava
evolution=${EVOLUTION:-$out/evolution}
case " $steps " in *" evolve "*) [ -d "$evolution" ] || cp -r research/results/evolution_smollm2_warm "$evolution" ;; esac
step evolve bash -c 'program "$@"' _ evolve evolution=smollm2_warm stages.finish.generations=400 \
  folder="$evolution" minutes="${MINUTES:-8}" adapter.device=cuda wandb=disabled --anyway
refinement=${REFINEMENT:-$out/refinement}
case " $steps " in *" refine "*) [ -d "$refinement" ] || cp -r research/results/refinement_general "$refinement" ;; esac
step refine bash -c 'program "$@"' _ build refine out="$refinement" device=cuda minutes="${MINUTES:-8}"
step records bash -c 'program "$@"' _ transfer --configs research/configs experiment=pocket_general \
  folder="${RECORDS:-$out/pocket_general}" wandb=disabled
exit "$failed"
