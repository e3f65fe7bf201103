#!/usr/bin/env bash
# Copy a bundle with its runtime to a device, run its benchmark there, and fetch the results.
set -euo pipefail

usage() {
  cat <<'END'
usage: push_and_bench.sh [options] BUNDLE USER@HOST     over ssh
       push_and_bench.sh [options] --adb BUNDLE         over adb, to the only connected device
       push_and_bench.sh [options] --adb BUNDLE SERIAL  over adb, to one of several devices
options:
  --out FILE          file for the results, a JSON list (./NAME.DEVICE.json)
  --device FILE       profile of export/devices: connection, python, threads, precision
  --python COMMAND    Python on the device (python3)
  --threads "1 2"     numbers of threads to measure (1)
  --precision "int8"  precisions to measure (all of the bundle)
  --runtime "NAME"    runtimes installed on the device (onnxruntime)
  --rounds N          warm passes over the audio (3)
  --audio FILE        audio file to measure on; may be repeated (10 s of noise)
  --folder DIR        parent of the temporary folder on the device (default of its mktemp)
  --port N            port of ssh
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

# Profiles are flat YAML, read without Python; `todm bench --device` validates them.
profile() {
  sed -n "s/^$1: *//p" "$device" | sed 's/ *#.*//' | tr -d '[],"' | head -n 1
}

if [[ -n $device ]]; then
  [[ -f $device ]] || fail "$device: no such device profile; give one of export/devices"
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
[[ -f $bundle/encoder.onnx ]] || fail "$bundle: not a bundle (encoder.onnx is missing); todm export writes one"
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

# The device's shell parses remote commands: quote each word once.
quote() {
  printf '%q ' "$@"
}

# Last error message of a tool, without the carriage returns of ssh.
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
  run_ssh() { ssh "${common[@]}" ${port:+-p "$port"} -- "$target" "$1"; }
  remote() { run_ssh "$1" </dev/null; }
  # Not scp: its newer protocol needs an sftp server, its older one splits names at blanks.
  push() {
    if [[ -d $1 ]]; then
      tar -C "$1" -cf - . | run_ssh "mkdir $(quote "$2") && tar -C $(quote "$2") -xf -"
    else
      run_ssh "cat >$(quote "$2")" <"$1"
    fi
  }
  pull() { remote "cat $(quote "$1")" >"$2"; }
  remote true 2>"$error" ||
    fail "$target: not reachable over ssh ($(reason)); check name, --port and --identity"
fi

remote "command -v $(quote "$python")" >/dev/null 2>&1 ||
  fail "$place: has no $python; install Python or give another with --python"
packages=(numpy kaldi-native-fbank)
for word in $runtime; do packages+=("$word"); done
((${#audio[@]} == 0)) || packages+=(soundfile)
search='import importlib.util as u, sys; print(*[p for p in sys.argv[1:] if not u.find_spec(p.replace("-", "_"))])'
missing=$(remote "$(quote "$python" -c "$search" "${packages[@]}")" 2>"$error") ||
  fail "$place: $python does not run ($(reason)); give another with --python"
missing=${missing//$'\r'/}
[[ -z $missing ]] || fail "$place: packages are missing; run on the device: $python -m pip install $missing"

# Without --folder mktemp chooses the place; an Android shell has its own default.
if [[ -n $folder ]]; then make=(mktemp -d "$folder/todm-bench.XXXXXX"); else make=(mktemp -d -t todm-bench.XXXXXX); fi
base=${folder:-its default folder for temporary files}
work=$(remote "$(quote "${make[@]}")" 2>"$error") ||
  fail "$place: cannot make a folder in $base ($(reason)); give another with --folder"
work=${work//$'\r'/}
[[ $work == */todm-bench.* ]] || fail "$place: cannot make a folder in $base; give another with --folder"
trap 'rm -f "$error"; remote "rm -rf $(quote "$work")" >/dev/null 2>&1 || true' EXIT

push "$bundle" "$work/$name" 2>"$error" ||
  fail "$place: the bundle could not be copied ($(reason)); is there room in $work?"
sounds=()
for file in ${audio[@]+"${audio[@]}"}; do
  sound=$work/audio${#sounds[@]}.${file##*.}
  sounds+=("$sound")
  push "$file" "$sound" 2>"$error" || fail "$place: $file could not be copied ($(reason))"
done

# No cd: a relative path of Python is relative to the login folder.
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
  fail "$place: benchmark failed: $(reason)"

# Fetched to a temporary name first: a broken copy must not replace older results.
pull "$work/bench.json" "$out.part" 2>"$error" ||
  fail "$place: the results could not be copied ($(reason)); run it again"
mv "$out.part" "$out"
echo "$out"
