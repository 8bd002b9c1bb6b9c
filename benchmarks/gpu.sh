#!/usr/bin/env bash
# Everything that needs a GPU, in one go: the test suite on CuPy, steps beside PyTorch on the same GPU, and the CIFAR-10
# recipes, with records in benchmarks/records/.
#
#   bash benchmarks/gpu.sh --data DIR          # DIR/cifar-10-batches-bin/ holds CIFAR-10; without --data no recipe runs
#   bash benchmarks/gpu.sh --no-install ...    # with the Python that is active, in place of a new environment
#   bash benchmarks/gpu.sh --backend numpy --no-install --quick     # a dry run where there is no GPU
#
# --records DIR puts the records elsewhere; --quick takes one round, two nets, one epoch and a part of the suite, and
# keeps its records out of benchmarks/records/. A part that fails does not keep the next from running; the exit status
# is 0 if none failed.
set -euo pipefail

backend=cupy data='' records='' install=yes quick=''
while [ $# -gt 0 ]; do
  case $1 in
    --backend | --data | --records)
      [ $# -ge 2 ] || { echo "gpu.sh: $1 needs a value" >&2; exit 2; }
      printf -v "${1#--}" '%s' "$2"
      shift 2 ;;
    --no-install) install=''; shift ;;
    --quick) quick=yes; shift ;;
    *) echo "gpu.sh: unknown option $1; there are --backend, --data, --records, --no-install, --quick" >&2; exit 2 ;;
  esac
done
case $backend in cupy | numpy) ;; *) echo "gpu.sh: --backend is cupy or numpy, not $backend" >&2; exit 2 ;; esac
[ -z "$data" ] || [ -d "$data" ] || { echo "gpu.sh: the data folder $data does not exist" >&2; exit 2; }

checkout=$(cd "$(dirname "$0")/.." && pwd)
[ -z "$data" ] || data=$(cd "$data" && pwd)
[ -n "$records" ] || { if [ -n "$quick" ]; then records=$checkout/runs/gpu-quick; else records=$checkout/benchmarks/records; fi; }
mkdir -p "$records"
records=$(cd "$records" && pwd)
cd "$checkout"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ -n "$install" ]; then
  packages=('.[test,oracle]')
  if [ "$backend" = cupy ]; then
    command -v nvidia-smi > /dev/null || { echo "gpu.sh: no nvidia-smi, so no NVIDIA driver here" >&2; exit 1; }
    version=$(nvidia-smi | sed -n 's/.*CUDA Version: *\([0-9]*\).*/\1/p' | head -n 1)
    case $version in
      12) cuda=12 ;;
      '') echo "gpu.sh: nvidia-smi names no CUDA version" >&2; exit 1 ;;
      *) if [ "$version" -ge 13 ]; then cuda=13; else
           echo "gpu.sh: the driver is for CUDA $version; CuPy 14 needs 12 or later" >&2; exit 1; fi ;;
    esac
    packages+=("cupy-cuda${cuda}x[ctk]>=14.0") # ctk: NVIDIA's libraries as packages, where no toolkit is installed
  fi
  python3 -m venv "$work/environment"
  # shellcheck disable=SC1091
  . "$work/environment/bin/activate"
  pip install --quiet --disable-pip-version-check "${packages[@]}"
fi

failed=()
part() { # name, command...: runs it, and remembers if it failed
  local name=$1
  shift
  printf '\n=== %s (%d s so far)\n    %s\n' "$name" "$SECONDS" "$*"
  "$@" || { failed+=("$name"); echo "FAILED: $name" >&2; }
}

if [ "$backend" = cupy ]; then
  command -v nvidia-smi > /dev/null && nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
  python -c 'from minimask import backend
try:
    backend.load("cupy").show_config()
except backend.MinimaskError as error:
    raise SystemExit(f"gpu.sh: {error}") from None'
  suite=(--cupy device)
  [ -z "$quick" ] || suite+=(-k 'cupy and not stand-in' tests/test_portability.py)
else
  suite=()
  [ -z "$quick" ] || suite+=(-k '[numpy or [read-only' tests/test_portability.py)
fi
part "the test suite" python -m pytest -q "${suite[@]}"

nets=all rounds=30
[ -z "$quick" ] || { nets=fcn,conv2 rounds=1; }
part "steps beside PyTorch" python benchmarks/steps.py --backend "$backend" --nets "$nets" --rounds "$rounds" \
  --epochs 0 --json "$records/steps-$backend.json"

if [ -n "$data" ]; then
  recipes='' epochs=()
  for net in conv2 conv4 conv6 conv8; do recipes+=" $net $net-published-config $net-dense"; done
  recipes+=' resnet20 resnet20-tau resnet20-dense'
  [ -z "$quick" ] || { recipes=conv2 epochs=(--epochs 1); }
  # shellcheck disable=SC2086
  part "the recipes for CIFAR-10" python -m minimask sweep $recipes --jobs 1 --backend "$backend" --data "$data" \
    --allow-unverified --out "runs/gpu-$backend${quick:+-quick}" "${epochs[@]}"
  for recipe in $recipes; do
    record="runs/gpu-$backend${quick:+-quick}/$recipe-seed0/record.json"
    [ ! -f "$record" ] || cp "$record" "$records/$recipe-$backend-seed0.json"
  done
else
  echo "no --data DIR: the CIFAR-10 recipes are left out"
fi

printf '\n=== %d s; records in %s:\n' "$SECONDS" "$records"
for file in "$records"/*"-$backend"*.json; do
  [ ! -f "$file" ] || echo "  ${file##*/}"
done
[ ${#failed[@]} -eq 0 ] || { printf 'failed: %s\n' "${failed[@]}" >&2; exit 1; }
