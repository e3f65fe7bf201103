#!/usr/bin/env bash
# Copy a bundle with its torch-free runtime to a device, measure it there, bring the figures back.
set -euo pipefail

usage() {
  cat <<'END'
usage: push_and_bench.sh [options] BUNDLE USER@HOST     over ssh
       push_and_bench.sh [options] --adb BUNDLE         over adb, to the only device that is connected
       push_and_bench.sh [options] --adb BUNDLE SERIAL  over adb, to this one of several
options:
  --out FILE          where the figures go, a JSON list (./NAME.DEVICE.json)
  --device FILE       a profile of export/devices: how to get there, python, threads, precision
  --python COMMAND    Python on the device (python3)
  --threads "1 2"     numbers of threads to measure (1)
  --precision "int8"  precisions to measure (all that the bundle has)
  --runtime "NAME"    onnxruntime (default) and others that are installed on the device
  --rounds N          warm passes over the audio (3)
  --audio FILE        measure on this file, which is copied too; may be repeated (10 s of noise)
  --folder DIR        where to make a temporary folder on the device (where its mktemp does)
  --port N            of ssh
  --identity FILE     private key of ssh
  --ssh-option TEXT   passed to ssh as -o TEXT; may be repeated
END
}

fail() {
  printf '%s\n' "$1" >&2
  exit 2
}

adb=0 adb_asked=0 out='' device='' python='' threads='' precision='' runtime='onnxruntime' rounds=3
folder='' port='' identity=''
audio=() ssh_options=() words=()
while (($#)); do
  case $1 in
    --adb) adb=1 adb_asked=1 ;;
    --out | --device | --python | --threads | --precision | --runtime | --rounds | --folder | --port | --identity)
      (($# > 1)) || fail "$1: needs a value; see --help"
      printf -v "${1#--}" '%s' "$2"
      shift
      ;;
    --audio)
      (($# > 1)) || fail "$1: needs a value; see --help"
      audio+=("$2")
      shift
      ;;
    --ssh-option)
      (($# > 1)) || fail "$1: needs a value; see --help"
      ssh_options+=(-o "$2")
      shift
      ;;
    -h | --help)
      usage
      exit 0
      ;;
    -*) fail "$1: no such option; see --help" ;;
    *) words+=("$1") ;;
  esac
  shift
done

# The profiles are flat, so that this needs no Python here; `todm bench --device` checks them in full.
profile() {
  sed -n "s/^$1: *//p" "$device" | sed 's/ *#.*//' | tr -d '[],"' | head -n 1
}

if [[ -n $device ]]; then
  [[ -f $device ]] || fail "$device: no such device profile; take one of export/devices"
  reach=$(profile reach)
  case $reach in
    adb) adb=1 ;;
    ssh) ((adb_asked)) || adb=0 ;;
    *) fail "$device: reach: must be ssh or adb, not '$reach'" ;;
  esac
  python=${python:-$(profile python)}
  threads=${threads:-$(profile threads)}
  precision=${precision:-$(profile precision)}
fi
python=${python:-python3} threads=${threads:-1}

((${#words[@]} > 0)) || fail "BUNDLE: missing; see --help"
bundle=${words[0]%/} target=${words[1]:-}
[[ -f $bundle/encoder.onnx ]] || fail "$bundle: no bundle there (encoder.onnx is missing); todm export makes one"
[[ -f $bundle/bench.py ]] || fail "$bundle: has no bench.py; export the model again"
((adb)) || [[ -n $target ]] || fail "USER@HOST: missing; name the device after the bundle, or give --adb"
((${#words[@]} < 3)) || fail "${words[2]}: one bundle and one device at a time"
[[ $target != -* ]] || fail "$target: not a device"
for file in ${audio[@]+"${audio[@]}"}; do
  [[ -f $file ]] || fail "$file: no such audio file"
done
[[ -z $identity || -f $identity ]] || fail "$identity: no such key; give --identity another file"
name=$(basename "$(cd "$bundle" && pwd)")
name=${name//[^A-Za-z0-9._-]/-}
place=${target:-adb}
out=${out:-$name.${place//[^A-Za-z0-9._-]/-}.json}

if ((adb)); then tool=adb; else tool=ssh; fi
command -v "$tool" >/dev/null || fail "$tool: not installed here; install it first"

# Every word of a remote command goes through the device's shell: quote each once.
quote() {
  printf '%q ' "$@"
}

# The last thing that a tool complained of; ssh ends its lines as terminals want them.
error=$(mktemp)
reason() {
  tail -n 1 "$error" | tr -d '\r'
}
trap 'rm -f "$error"' EXIT

if ((adb)); then
  adb_words=(adb)
  [[ -z $target ]] || adb_words+=(-s "$target")
  remote() { "${adb_words[@]}" shell "$1" </dev/null; }
  push() { "${adb_words[@]}" push "$1" "$2" >/dev/null; }
  pull() { "${adb_words[@]}" pull "$1" "$2" >/dev/null; }
  "${adb_words[@]}" get-state >/dev/null 2>"$error" ||
    fail "$place: not reachable over adb ($(reason)); connect it and allow debugging"
else
  common=(-o BatchMode=yes -o ConnectTimeout=10)
  [[ -z $identity ]] || common+=(-i "$identity")
  common+=(${ssh_options[@]+"${ssh_options[@]}"})
  ssh_there() { ssh "${common[@]}" ${port:+-p "$port"} -- "$target" "$1"; }
  remote() { ssh_there "$1" </dev/null; }
  # Not scp: its newer form wants an sftp server there, its older one splits names at blanks.
  push() {
    if [[ -d $1 ]]; then
      tar -C "$1" -cf - . | ssh_there "mkdir $(quote "$2") && tar -C $(quote "$2") -xf -"
    else
      ssh_there "cat >$(quote "$2")" <"$1"
    fi
  }
  pull() { remote "cat $(quote "$1")" >"$2"; }
  remote true 2>"$error" ||
    fail "$target: not reachable over ssh ($(reason)); check name, --port and --identity"
fi

remote "command -v $(quote "$python")" >/dev/null 2>&1 ||
  fail "$place: has no $python; install Python there or name another with --python"
packages=(numpy kaldi-native-fbank)
for word in $runtime; do packages+=("$word"); done
((${#audio[@]} == 0)) || packages+=(soundfile)
search='import importlib.util as u, sys; print(*[p for p in sys.argv[1:] if not u.find_spec(p.replace("-", "_"))])'
missing=$(remote "$(quote "$python" -c "$search" "${packages[@]}")" 2>"$error") ||
  fail "$place: $python does not run ($(reason)); name another with --python"
missing=${missing//$'\r'/}
[[ -z $missing ]] || fail "$place: packages are missing; run there: $python -m pip install $missing"

# Without a folder mktemp knows the place: an Android shell has one of its own.
if [[ -n $folder ]]; then make=(mktemp -d "$folder/todm-bench.XXXXXX"); else make=(mktemp -d -t todm-bench.XXXXXX); fi
base=${folder:-its place for temporary files}
work=$(remote "$(quote "${make[@]}")" 2>"$error") ||
  fail "$place: cannot make a folder in $base ($(reason)); name another with --folder"
work=${work//$'\r'/}
[[ $work == */todm-bench.* ]] || fail "$place: cannot make a folder in $base; name another with --folder"
trap 'rm -f "$error"; remote "rm -rf $(quote "$work")" >/dev/null 2>&1 || true' EXIT

push "$bundle" "$work/$name" 2>"$error" ||
  fail "$place: the bundle could not be copied ($(reason)); is there room in $work?"
sounds=()
for file in ${audio[@]+"${audio[@]}"}; do
  sound=$work/audio${#sounds[@]}.${file##*.}
  sounds+=("$sound")
  push "$file" "$sound" 2>"$error" || fail "$place: $file could not be copied ($(reason))"
done

# No cd: a relative name of the Python counts from where the shell begins.
call=("$python" "$work/$name/bench.py" --rounds "$rounds" --out "$work/bench.json" --threads)
for word in $threads; do call+=("$word"); done
call+=(--runtime)
for word in $runtime; do call+=("$word"); done
if [[ -n $precision ]]; then
  call+=(--precision)
  for word in $precision; do call+=("$word"); done
fi
call+=(-- ${sounds[@]+"${sounds[@]}"})
remote "$(quote "${call[@]}")" >/dev/null 2>"$error" ||
  fail "$place: measuring failed: $(reason)"

# First beside its place: a broken copy must not replace older figures.
pull "$work/bench.json" "$out.part" 2>"$error" ||
  fail "$place: the figures could not be copied ($(reason)); run it again"
mv "$out.part" "$out"
echo "$out"
