#!/usr/bin/env bash
# From a corpus in LibriSpeech's layout to ONNX bundles and a report: `todm run` with the same arguments.
#
#   run.sh --corpus-dir DIR --conf FILE --exp-dir EXP [options] [-- --key.name value ...]; see run.sh --help
set -euo pipefail

bin=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/.venv/bin
if ! command -v todm >/dev/null && [[ -x $bin/todm ]]; then
  PATH=$bin:$PATH
fi
if ! command -v todm >/dev/null; then
  echo "run.sh: the command todm is not on the PATH; run make setup, then: source .venv/bin/activate" >&2
  exit 2
fi
exec todm run "$@"
