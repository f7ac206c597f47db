#!/bin/sh
# The main job, shown: a 32-bit Python computes; it is checkpointed, killed with SIGKILL, restarted from the image,
# and its output is compared with that of a run that nobody disturbed.
#
#   scripts/demo.sh
set -eu

say() { echo "demo: $*"; }
die() { echo "demo: FAILED: $*" >&2; exit 1; }

cd "$(dirname "$0")/.."
work=$(mktemp -d)
started=
trap 'for pid in $started; do kill -9 "$pid" 2>/dev/null || true; done; rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

# Digits of pi in blocks, by a spigot: each block depends on all that came before, in numbers that grow.
cat >"$work/pi.py" <<'PYTHON'
import hashlib
q, r, t, k, n, l = 1, 0, 1, 1, 3, 3
digits, seen = "", hashlib.sha256()
while len(digits) < 3600:
    if 4 * q + r - t < n * t:
        digits += str(n)
        if len(digits) % 100 == 0:
            seen.update(digits.encode())
            print(len(digits), digits[-40:], seen.hexdigest()[:16], flush=True)
        q, r, n = 10 * q, 10 * (r - n * t), 10 * (3 * q + r) // t - 10 * n
    else:
        q, r, t, k, n, l = q * k, (2 * q + r) * l, t * l, k + 1, (q * (7 * k + 2) + r * l) // (t * l), l + 2
PYTHON

lines() { wc -l <"$1"; }
wait_for() { # SECONDS WHAT CONDITION...
    limit=$(($1 * 20)) what=$2
    shift 2
    until "$@"; do
        limit=$((limit - 1))
        [ $limit -gt 0 ] || die "$what: not within the time allowed"
        sleep 0.05
    done
}
has_lines() { [ "$(lines "$1")" -ge "$2" ]; }

: >"$work/reference" && : >"$work/output"
scripts/i386-run python3 "$work/pi.py" >"$work/reference" &
reference=$!
started="$started $reference"

say "LD_PRELOAD=build/libselfckpt.so python3 pi.py, a 32-bit program"
SELFCKPT_DIR=$work/images SELFCKPT_NAME=demo \
    scripts/i386-run --preload "$PWD/build/libselfckpt.so" python3 "$work/pi.py" >"$work/output" &
pid=$!
started="$started $pid"
wait_for 60 "the program's first lines" has_lines "$work/output" 12

say "selfckpt checkpoint $pid, at $(lines "$work/output") of 36 lines"
build/selfckpt checkpoint $pid
wait_for 60 "lines after the checkpoint" has_lines "$work/output" $(($(lines "$work/output") + 3))

say "kill -KILL $pid, at $(lines "$work/output") lines"
kill -KILL $pid
wait $pid 2>/dev/null || true
[ "$(lines "$work/output")" -lt 36 ] || die "the program had ended before it was killed"

say "selfckpt restart $work/images"
build/selfckpt restart "$work/images" &
restarted=$!
started="$started $restarted"
wait $restarted || die "the restarted program ended with status $?"
wait $reference || die "the reference run ended with status $?"
started=

cmp "$work/output" "$work/reference" || die "the output differs from that of the undisturbed run"
say "PASS: $(lines "$work/output") lines, the same as those of an undisturbed run; the last one:"
tail -n1 "$work/output"
