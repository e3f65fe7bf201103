#!/usr/bin/env bash
# From a folder of audio in LibriSpeech's layout to a supernet, nets of several sizes, ONNX folders and a report.
set -euo pipefail

usage() {
  cat <<'EOF'
usage: run.sh --corpus-dir DIR --conf FILE --exp-dir EXP [options] [-- --key.name value ...]

  --corpus-dir DIR   folder with the parts (train-clean-5, ...), or the folder that holds LibriSpeech/
  --conf FILE        settings, for example conf/tiny.yaml
  --exp-dir EXP      run folder; everything that is made goes there
  --stage A          first stage (default 0)
  --stop-stage B     last stage (default 12)
  --synth            stage 0 writes a synthetic corpus instead of downloading LibriSpeech
  --fine-tune NAME   stage 8 trains the subnet NAME on, alone
  --force            run stages again that are done
  -- ...             settings that override the file's, read by the stages 1 to 4

stages: 0 corpus, 1 manifests, 2 features, 3 bpe, 4 train, 5 average, 6 search, 7 extract,
        8 fine-tune, 9 decode, 10 export, 11 bench, 12 report

A finished stage leaves a mark in EXP/.done and is skipped the next time; a stage that runs removes the marks of
the stages after it. From stage 5 on the settings are those that training left in EXP/config.yaml.
EOF
}

fail() {
  echo "run.sh: $1" >&2
  exit 2
}

corpus_dir="" conf="" exp="" first=0 last=12 synth=no fine_tune="" force=no
overrides=()
while (($#)); do
  case $1 in
    --corpus-dir | --conf | --exp-dir | --stage | --stop-stage | --fine-tune)
      (($# > 1)) || fail "$1 needs a value; see run.sh --help"
      case $1 in
        --corpus-dir) corpus_dir=${2%/} ;;
        --conf) conf=$2 ;;
        --exp-dir) exp=${2%/} ;;
        --stage) first=$2 ;;
        --stop-stage) last=$2 ;;
        --fine-tune) fine_tune=$2 ;;
      esac
      shift 2
      ;;
    --synth) synth=yes && shift ;;
    --force) force=yes && shift ;;
    -h | --help) usage && exit 0 ;;
    --) shift && overrides=("$@") && break ;;
    *) fail "unknown option $1 (settings go behind --); see run.sh --help" ;;
  esac
done

[[ $corpus_dir ]] || fail "--corpus-dir is missing; see run.sh --help"
[[ $conf ]] || fail "--conf is missing; see run.sh --help"
[[ $exp ]] || fail "--exp-dir is missing; see run.sh --help"
[[ -f $conf ]] || fail "--conf $conf: no such file"
for number in "$first" "$last"; do
  [[ $number =~ ^([0-9]|1[0-2])$ ]] || fail "stages are numbers from 0 to 12, not '$number'"
done
((first <= last)) || fail "--stage $first comes after --stop-stage $last"
((${#overrides[@]} == 0 || first <= 4)) || fail "settings behind -- are read by the stages 1 to 4 only, not from stage $first on"

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if ! command -v todm >/dev/null && [[ -x $here/../../.venv/bin/todm ]]; then
  PATH=$(cd "$here/../../.venv/bin" && pwd):$PATH
fi
command -v todm >/dev/null || fail "the command todm is not on the PATH; run make setup, then: source .venv/bin/activate"
python=$(dirname "$(command -v todm)")/python3
[[ -x $python ]] || python=python3

# Settings that this script needs: name=value lines, a digest of all of them first. Exit 2 with one sentence if they
# cannot be read.
settings() {
  "$python" - "$@" <<'EOF'
import hashlib, json, sys
from pathlib import Path

from todm.config import load_config
from todm.errors import UserError
from todm.space.space import SearchSpace

try:
    config = load_config(Path(sys.argv[1]), sys.argv[2:])
    sizes = list(SearchSpace.from_config(config).ladder())
except UserError as error:
    print(f"run.sh: {error}", file=sys.stderr)
    sys.exit(2)
text = json.dumps(config.to_dict(), sort_keys=True)
print("digest=" + hashlib.sha256(text.encode()).hexdigest()[:16])
print("train=" + " ".join(config.data.train_parts))
print("dev=" + " ".join(config.data.dev_parts))
print("test=" + " ".join(config.data.test_parts))
print("ends=" + " ".join((sizes[0], sizes[2])))
print("shards=" + ("yes" if config.data.writes_shards else "no"))
EOF
}

load_settings() {
  local text
  text=$(settings "$@")
  digest="" train="" dev="" test="" ends="" shards=no
  while IFS='=' read -r key value; do
    case $key in
      digest) digest=$value ;;
      train) train=$value ;;
      dev) dev=$value ;;
      test) test=$value ;;
      ends) ends=$value ;;
      shards) shards=$value ;;
    esac
  done <<<"$text"
}

load_settings "$conf" ${overrides[@]+"${overrides[@]}"}
mkdir -p "$exp/.done"

# Shows a command, notes it for the report, runs it.
run() {
  local line
  line=$(printf '%q ' "$@")
  echo "+ ${line% }"
  echo "${line% }" >>"$exp/commands.txt"
  "$@"
}

# stage NUMBER NAME COMMAND...: COMMAND unless it is done or not asked for.
stage() {
  local number=$1 name=$2 mark=$exp/.done/$1 later
  [[ $number != 8 ]] || mark=$mark-$fine_tune
  shift 2
  ((first <= number && number <= last)) || return 0
  if [[ -f $mark && $force == no ]]; then
    if ((number <= 4)) && [[ $(head -n 1 "$mark") != "settings $digest" ]]; then
      fail "stage $number was done with other settings; run it again with --force, or take another --exp-dir than $exp"
    fi
    echo "stage $number $name: done before, skipped"
    return 0
  fi
  echo "stage $number $name"
  echo "# stage $number $name, $(date -u +%Y-%m-%dT%H:%M:%SZ)" >>"$exp/commands.txt"
  rm -f "$mark"
  for ((later = number + 1; later <= 12; later++)); do rm -f "$exp/.done/$later" "$exp/.done/$later"-*; done
  local begin=$SECONDS
  "$@"
  printf 'settings %s\nseconds %s\n' "$digest" "$((SECONDS - begin))" >"$mark.new"
  mv "$mark.new" "$mark"
}

root() {
  if [[ -d $corpus_dir/LibriSpeech ]]; then echo "$corpus_dir/LibriSpeech"; else echo "$corpus_dir"; fi
}

missing_parts() {
  local part
  for part in $train $dev $test; do
    if [[ ! -d $(root)/$part ]] || grep -qsxF -e "$part" "$corpus_dir/.incomplete"; then echo "$part"; fi
  done
}

# A download can be interrupted: .incomplete names the parts until they are whole. todm synth sees to that itself.
get_corpus() {
  local missing target part
  if [[ $synth == yes ]]; then
    run todm synth --out "$corpus_dir"
    return 0
  fi
  missing=$(missing_parts | tr '\n' ' ')
  if [[ ! ${missing// /} ]]; then
    echo "$(root): all parts are there"
    return 0
  fi
  for part in $missing; do
    case $part in
      train-clean-100 | train-clean-360 | train-other-500 | dev-clean | dev-other | test-clean | test-other) ;;
      train-clean-5 | dev-clean-2) ;;
      *) fail "$(root): the part $part is not there, and it is none of LibriSpeech's that could be downloaded" ;;
    esac
  done
  target=$corpus_dir
  [[ $(basename "$corpus_dir") != LibriSpeech ]] || target=$(dirname "$corpus_dir")
  mkdir -p "$corpus_dir"
  # shellcheck disable=SC2086
  printf '%s\n' $missing >"$corpus_dir/.incomplete"
  # lhotse's command line only knows all of LibriSpeech, 60 GB; its function takes the parts that are missing.
  # shellcheck disable=SC2086
  run "$python" -c 'import sys; from lhotse.recipes.librispeech import download_librispeech as get; get(sys.argv[1], sys.argv[2:])' \
    "$target" $missing
  rm -f "$corpus_dir/.incomplete"
}

prepare() {
  run todm prepare --conf "$conf" --corpus-dir "$corpus_dir" --exp-dir "$exp" --stage "$1" ${overrides[@]+"${overrides[@]}"}
}

label() {
  prepare bpe
  [[ $shards == no ]] || prepare shar
}

train() {
  run todm train --conf "$conf" --exp-dir "$exp" ${overrides[@]+"${overrides[@]}"}
}

average() {
  run todm average "$exp"
  local name part
  for name in $ends; do
    for part in $dev; do
      run todm decode --model "$exp/supernet" --spec "$name" --corpus-dir "$corpus_dir" --part "$part" \
        --out "$exp/decode/supernet-$name/$part.json"
    done
  done
}

search() {
  run todm search --exp-dir "$exp"
}

extract() {
  run todm extract --exp-dir "$exp" --ladder --pareto
}

tune() {
  run todm train --exp-dir "$exp" --fine-tune "$fine_tune"
}

decode() {
  local folder name part out
  for folder in "$exp"/subnets/*/; do
    [[ -f $folder/spec.json ]] || fail "$exp/subnets: no subnets there; run stage 7 first"
    name=$(basename "$folder")
    for part in $dev $test; do
      out=$exp/decode/$name/$part.json
      # Picks up where an interrupted stage stopped.
      if [[ $force == yes || ! $out -nt $folder/model.safetensors ]]; then
        run todm decode --model "$exp/subnets/$name" --corpus-dir "$corpus_dir" --part "$part" --out "$out"
      fi
    done
  done
}

export_bundles() {
  run todm export --exp-dir "$exp" --guard-corpus-dir "$corpus_dir" --guard-part "${dev%% *}"
  local folder
  for folder in "$exp"/bundles/*/; do
    run todm verify "${folder%/}" --corpus-dir "$corpus_dir" --part "${dev%% *}"
  done
}

bench() {
  run todm bench "$exp"/bundles/* --out "$exp/bench"
}

report() {
  run todm report "$exp"
}

stage 0 corpus get_corpus
stage 1 manifests prepare manifests
stage 2 features prepare features
stage 3 bpe label
stage 4 train train
((last < 5)) || [[ ! -f $exp/config.yaml ]] || load_settings "$exp/config.yaml"
stage 5 average average
stage 6 search search
stage 7 extract extract
if [[ $fine_tune ]]; then
  stage 8 fine-tune tune
elif ((first <= 8 && 8 <= last)); then
  echo "stage 8 fine-tune: no --fine-tune NAME, left out"
fi
stage 9 decode decode
stage 10 export export_bundles
stage 11 bench bench
if ((last == 12)); then  # a view of what is there: never done
  rm -f "$exp/.done/12"
  stage 12 report report
fi
