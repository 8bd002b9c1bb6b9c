#!/usr/bin/env bash
# What needs a GPU, within a time, what is worth most first; every part is bounded and keeps its result as soon as it
# is there: the portability tests on the device, steps of six nets beside PyTorch eager on the same card, CIFAR-10.
#
#   bash benchmarks/gpu.sh --minutes 12 --data DIR       # DIR: cifar-10-batches-bin/, or train.npz and test.npz (JPEG)
#   bash benchmarks/gpu.sh --minutes 2 --backend numpy   # a dry run where there is no GPU
#
# It takes the Python that is there, with CuPy, PyTorch, pytest, Hypothesis and array-api-strict, and installs nothing.
# --parts tests,steps,runs leaves parts out; --tf32 lets the runs' products round to TF32 (the records say so); --out
# DIR holds the runs, --records DIR what is kept. Given again with the same --out, the runs go on where they stopped.
# A part that fails does not keep the next from running; the exit status is 0 if none failed.
set -euo pipefail

minutes=12 backend=cupy data='' out=runs/gpu records='' parts=tests,steps,runs jobs=8 tf32=''
while [ $# -gt 0 ]; do
  case $1 in
    --minutes | --backend | --data | --out | --records | --parts | --jobs)
      [ $# -ge 2 ] || { echo "gpu.sh: $1 needs a value" >&2; exit 2; }
      printf -v "${1#--}" '%s' "$2"
      shift 2 ;;
    --tf32) tf32=1; shift ;;
    *) echo "gpu.sh: unknown option $1; there are --minutes, --backend, --data, --out, --records, --parts, --jobs," \
         "--tf32" >&2; exit 2 ;;
  esac
done
case $backend in cupy | numpy) ;; *) echo "gpu.sh: --backend is cupy or numpy, not $backend" >&2; exit 2 ;; esac
[ -z "$data" ] || [ -d "$data" ] || { echo "gpu.sh: the data folder $data does not exist" >&2; exit 2; }
seconds=$(awk -v m="$minutes" 'BEGIN { print int(60 * m) }')
[ "$seconds" -ge 30 ] || { echo "gpu.sh: --minutes $minutes is too little; give 0.5 or more" >&2; exit 2; }

[ -z "$data" ] || data=$(cd "$data" && pwd)
[ -z "$records" ] || { mkdir -p "$records"; records=$(cd "$records" && pwd); }
cd "$(dirname "$0")/.."
records=${records:-$PWD/$out/records}
mkdir -p "$records"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" OPENBLAS_NUM_THREADS=1 PYTHONUNBUFFERED=1

failed=()
part() { # name, seconds at most, command...: runs it, and remembers if it failed
  local name=$1 limit=$2
  shift 2
  [ $((seconds - SECONDS)) -ge "$limit" ] || limit=$((seconds - SECONDS))
  [ "$limit" -ge 10 ] || { echo "no time left for: $name"; return; }
  printf '\n=== %s (%d s so far, %d s at most)\n    %s\n' "$name" "$SECONDS" "$limit" "$*"
  timeout --signal=INT --kill-after=20 "$limit" "$@" || { failed+=("$name"); echo "FAILED: $name" >&2; }
}

if [ "$backend" = cupy ]; then
  python3 -c 'from minimask import backend
try:
    backend.load("cupy").show_config()
except backend.MinimaskError as error:
    raise SystemExit(f"gpu.sh: {error}") from None'
  only='cupy and not stand-in' need=(--cupy device)
else
  only='[numpy or [read-only' need=()
fi
case ,$parts, in *,tests,*)
  part "portability on the device" 120 python3 -m pytest -q -p no:cacheprovider "${need[@]}" -k "$only" \
    tests/test_portability.py tests/test_ops.py ;;
esac
case ,$parts, in *,steps,*)
  part "steps beside PyTorch" 120 python3 benchmarks/steps.py --backend "$backend" --nets all --rounds 9 --epochs 0 \
    --no-peaks --json "$records/steps-$backend.json" ;;
esac
case ,$parts, in *,runs,*)
  if [ -n "$data" ]; then
    left=$((seconds - SECONDS - 25))
    part "CIFAR-10" $((left + 25)) env ${tf32:+CUPY_TF32=1} python3 benchmarks/cifar.py --data "$data" --out "$out" \
      --records "$records" --jobs "$jobs" --backend "$backend" --minutes "$(awk -v s="$left" 'BEGIN { print s / 60 }')"
  else
    echo "no --data DIR: CIFAR-10 is left out"
  fi ;;
esac

printf '\n=== %d s; records in %s:\n' "$SECONDS" "$records"
ls "$records"
[ ${#failed[@]} -eq 0 ] || { printf 'failed: %s\n' "${failed[@]}" >&2; exit 1; }
