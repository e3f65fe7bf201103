#!/usr/bin/env bash
# A grid of short trainings that differ in few settings, compared in tables and plots.
set -euo pipefail

usage() {
  cat <<'EOF'
usage: ablate.sh --corpus-dir DIR --exp-dir EXP [options]

  --corpus-dir DIR   folder with the parts (train-clean-5, ...), or the folder that holds LibriSpeech/
  --exp-dir EXP      folder of the grid: data, runs and report go there
  --grid FILE        variants, seeds and tables (default: ablate.yaml in the folder of this script)
  --num-jobs N       runs at a time (default: one per core)
  --only NAME        this variant only; may be given several times
  --list             show what would run and stop
  --report           only write the report of finished runs

Runs are stored under the digest of their settings, EXP/runs/DIGEST: the same command skips finished runs and resumes
interrupted ones. The tables are in EXP/report/report.md.
EOF
}

fail() {
  echo "ablate.sh: $1" >&2
  exit 2
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
grid=$here/ablate.yaml jobs="" corpus_dir="" exp=""
words=()
while (($#)); do
  case $1 in
    --corpus-dir | --exp-dir | --grid | --num-jobs | --only)
      (($# > 1)) || fail "$1 needs a value; see ablate.sh --help"
      case $1 in
        --corpus-dir) corpus_dir=${2%/} ;;
        --exp-dir) exp=${2%/} ;;
        --grid) grid=$2 ;;
        --num-jobs) jobs=$2 ;;
        --only) words+=(--only "$2") ;;
      esac
      shift 2
      ;;
    --list | --report) words+=("$1") && shift ;;
    -h | --help) usage && exit 0 ;;
    *) fail "unknown option $1; see ablate.sh --help" ;;
  esac
done
[[ $exp ]] || fail "--exp-dir is missing; see ablate.sh --help"
[[ ! $corpus_dir ]] || words+=(--corpus-dir "$corpus_dir")
[[ $jobs ]] || jobs=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)

if ! command -v todm >/dev/null && [[ -x $here/../../.venv/bin/todm ]]; then
  PATH=$(cd "$here/../../.venv/bin" && pwd):$PATH
fi
command -v todm >/dev/null || fail "the command todm is not on the PATH; run make setup, then: source .venv/bin/activate"

exec todm ablate --grid "$grid" --exp-dir "$exp" --num-jobs "$jobs" ${words[@]+"${words[@]}"}
