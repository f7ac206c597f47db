#!/bin/sh
# The benchmark table: pause, time, image size and restart time of programs of 1, 100 and 1000 MB and of 1, 100 and
# 1000 idle threads, and what the preload costs at the start of a program. MB is 2^20 bytes; each figure is the median
# of 3 runs.
#
#   scripts/bench.sh [DIR]      images are written below DIR (default: build), so DIR names the disk that is measured
#
# Peers (DMTCP, CRIU) stand beside it where they are installed. SELFCKPT_BENCH_SIZES="1 100" leaves sizes out.
set -eu

say() { echo "bench: $*" >&2; }
die() { say "FAILED: $*"; exit 1; }

cd "$(dirname "$0")/.."
sizes=${SELFCKPT_BENCH_SIZES:-1 100 1000}
library=$PWD/build/libselfckpt.so
selfckpt=$PWD/build/selfckpt
[ -e "$library" ] && [ -x "$selfckpt" ] || die "build/ is empty: run make first"
work=$(mktemp -d "$(cd "${1:-build}" && pwd)/bench.XXXXXX")
pid=
# The restarted program is a child of the command or of that one's init. Starts no process.
find_program() {
    next=$pid
    while [ -n "$next" ]; do
        program=$next next= name=
        { read -r name <"/proc/$program/comm"; } 2>/dev/null || :
        [ "$name" = selfckpt ] || break
        { read -r next rest <"/proc/$program/task/$program/children"; } 2>/dev/null || :
    done
}
# Ends the program that is being measured, and with it the command: one that is killed leaves the program to somebody who
# may take his time to collect it, and its pid is taken until then.
discard() {
    [ -n "$pid" ] || return 0
    find_program
    kill -9 "$program" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
    while [ -e "/proc/$pid" ]; do sleep 0.01; done # criu's are no children of ours
    pid=
}
trap 'discard; rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

gcc -m32 -O1 -pthread -Iinclude -o "$work/memory_fill" tests/programs/memory_fill.c
gcc -m32 -O1 -pthread -Iinclude -o "$work/thread_many" tests/programs/thread_many.c
echo 'int main(void) { return 0; }' >"$work/nothing.c"
gcc -m32 -O1 -o "$work/nothing" "$work/nothing.c"

median() { sort -n | awk '{ v[NR] = $1 } END { if (NR) print v[int((NR + 1) / 2)] }'; }
now() { date +%s%N; }
field() { sed -n "s/.*\"$1\":\"\{0,1\}\([^,\"}]*\).*/\1/p" "$2"; }
ms() { awk -v ns="$1" 'BEGIN { printf ns < 1e8 ? "%.1f ms" : "%.0f ms", ns / 1e6 }'; }
mb() { awk -v bytes="$1" 'BEGIN { printf bytes < 1e8 ? "%.1f MB" : "%.0f MB", bytes / 1048576 }'; }
rate() { awk -v bytes="$1" -v ns="$2" 'BEGIN { printf "%.0f", bytes / 1048576 / (ns / 1e9) }'; }

# What two calls of now cost by themselves.
clock=$(for i in 1 2 3 4 5 6 7 8 9; do
    begin=$(now)
    end=$(now)
    echo $((end - begin))
done | median)

# The old answer must be gone before a program starts: the shell goes on before the new one has cut the file.
fresh() { rm -f "$work/out"; }

filled() { # waits until memory_fill has written its memory
    limit=1200
    until grep -qs READY "$work/out"; do
        kill -0 "$pid" 2>/dev/null || die "memory_fill ended"
        limit=$((limit - 1))
        [ $limit -gt 0 ] || die "memory_fill is not ready after a minute"
        sleep 0.05
    done
}

# The restarted program runs again when it is back in pause(2), number 29 for i686. The loop starts no process.
running() {
    turns=0 number=
    until [ "$number" = 29 ]; do
        find_program
        { read -r number rest <"/proc/$program/syscall"; } 2>/dev/null || kill -0 "$pid" 2>/dev/null || return 1
        turns=$((turns + 1))
        [ $turns -lt 10000000 ] || return 1
    done
}

fits() { # MB: memory, and room for two images
    awk -v need="$1" '$1 == "MemAvailable:" { exit $2 / 1024 < need * 1.5 + 200 }' /proc/meminfo &&
        df -Pk "$work" | awk -v need="$1" 'NR == 2 { exit $4 / 1024 < need * 2.2 + 200 }'
}

# ---- each one prints a line: pause ns, total ns, image bytes, restart ns ------------------------------------------

measure_selfckpt() { # SIZE KIND
    fresh
    SELFCKPT_DIR=$work/images SELFCKPT_NAME=bench SELFCKPT_LOG=error LD_PRELOAD=$library \
        "$work/memory_fill" "$1" "$2" >"$work/out" &
    pid=$!
    filled
    for run in 1 2 3; do
        rm -f "$work"/images/*.ckpt
        "$selfckpt" checkpoint "$pid" --json >"$work/answer.$run" || die "no checkpoint of $1 MB $2"
    done
    image=$(field path "$work/answer.3")
    for run in 1 2 3; do
        [ "$(field bytes "$work/answer.$run")" -ge $(($1 * 524288)) ] || die "an image of $1 MB $2 is too small"
    done
    for run in 1 2 3; do
        discard
        begin=$(now)
        "$selfckpt" restart --quiet "$image" &
        pid=$!
        running || die "the program of $1 MB $2 is not running again after the restart"
        end=$(now)
        echo $((end - begin - clock)) >"$work/restart.$run"
    done
    discard
    for name in pause_ns total_ns bytes; do
        for run in 1 2 3; do field $name "$work/answer.$run"; done | median
    done | tr '\n' ' '
    cat "$work"/restart.[123] | median
    rm -rf "$work/images"
}

# Idle threads. The restart ends when each of them has answered a broadcast.
measure_threads() { # NUMBER
    mkdir "$work/talk"
    SELFCKPT_DIR=$work/images SELFCKPT_NAME=threads SELFCKPT_LOG=error LD_PRELOAD=$library \
        "$work/thread_many" "$work/talk" "$1" &
    pid=$!
    appears "$work/talk/ready" || die "thread_many is not ready"
    for run in 1 2 3; do
        rm -f "$work"/images/*.ckpt
        "$selfckpt" checkpoint "$pid" --json >"$work/answer.$run" || die "no checkpoint of $1 threads"
    done
    image=$(field path "$work/answer.3")
    for run in 1 2 3; do
        discard
        rm -f "$work/talk/result.1"
        echo restarted >"$work/talk/go.1"
        begin=$(now)
        "$selfckpt" restart --quiet "$image" &
        pid=$!
        appears "$work/talk/result.1" || die "the $1 threads are not there after the restart"
        end=$(now)
        grep -q PASS "$work/talk/result.1" || die "the $1 threads are not the same after the restart"
        echo $((end - begin - clock)) >"$work/restart.$run"
    done
    discard
    for name in pause_ns bytes; do
        for run in 1 2 3; do field $name "$work/answer.$run"; done | median
    done | tr '\n' ' '
    cat "$work"/restart.[123] | median
    rm -rf "$work/images" "$work/talk"
}

appears() { # FILE
    limit=30000
    until [ -e "$1" ]; do
        limit=$((limit - 1))
        [ $limit -gt 0 ] && [ -e "/proc/$pid" ] || return 1
        sleep 0.001
    done
}

measure_dmtcp() { # SIZE KIND
    fresh
    mkdir "$work/images"
    (cd "$work" && exec dmtcp_launch --quiet --new-coordinator --coord-port 0 --port-file "$work/port" --no-gzip \
        --ckptdir "$work/images" "$work/memory_fill" "$1" "$2") >"$work/out" 2>"$work/log" &
    pid=$!
    filled
    for run in 1 2 3; do
        begin=$(now)
        dmtcp_command --quiet --coord-port "$(cat "$work/port")" --bcheckpoint >/dev/null 2>&1 || die "dmtcp_command"
        end=$(now)
        echo $((end - begin - clock)) >"$work/total.$run"
    done
    dmtcp_command --quiet --coord-port "$(cat "$work/port")" --quit >/dev/null 2>&1 || true
    image=$(ls "$work"/images/*.dmtcp)
    for run in 1 2 3; do
        discard
        begin=$(now)
        dmtcp_restart --quiet --new-coordinator --coord-port 0 --port-file "$work/port" "$image" >/dev/null 2>&1 &
        pid=$!
        running || die "dmtcp_restart"
        end=$(now)
        echo $((end - begin - clock)) >"$work/restart.$run"
        dmtcp_command --quiet --coord-port "$(cat "$work/port")" --quit >/dev/null 2>&1 || true
    done
    discard
    echo "- $(cat "$work"/total.[123] | median) $(wc -c <"$image") $(cat "$work"/restart.[123] | median)"
}

measure_criu() { # SIZE KIND
    fresh
    "$work/memory_fill" "$1" "$2" >"$work/out" </dev/null 2>/dev/null &
    pid=$!
    filled
    for run in 1 2 3; do
        rm -rf "$work/images"
        mkdir "$work/images"
        begin=$(now)
        criu dump --tree "$pid" --images-dir "$work/images" --leave-running --shell-job >/dev/null 2>&1 || die "criu dump"
        end=$(now)
        echo $((end - begin - clock)) >"$work/total.$run"
    done
    same=$pid
    for run in 1 2 3; do
        discard
        begin=$(now)
        criu restore --images-dir "$work/images" --restore-detached --shell-job >/dev/null 2>&1 || die "criu restore"
        end=$(now)
        pid=$same
        echo $((end - begin - clock)) >"$work/restart.$run"
    done
    discard
    bytes=$(cat "$work"/images/*.img | wc -c)
    echo "- $(cat "$work"/total.[123] | median) $bytes $(cat "$work"/restart.[123] | median)"
}

# A peer that fails on a program gets dashes; what it has left is removed.
measure_peer() { # PEER SIZE KIND
    if ! (trap 'discard' EXIT && measure_"$1" "$2" "$3") >"$work/peer"; then echo "- - - -" >"$work/peer"; fi
    [ ! -e "$work/port" ] || dmtcp_command --quiet --coord-port "$(cat "$work/port")" --quit >/dev/null 2>&1 || true
    rm -rf "$work/images" "$work/port"
    cat "$work/peer"
}

# ---- the table ----------------------------------------------------------------------------------------------------

peers= missing=
for peer in dmtcp:dmtcp_launch criu:criu; do
    if command -v "${peer#*:}" >/dev/null; then peers="$peers ${peer%:*}"; else missing="$missing ${peer#*:}"; fi
done

file_system=$(df -PT "$work" | awk 'NR == 2 { print $2 " on " $1 }')
memory=$(awk '$1 == "MemTotal:" { printf "%.0f", $2 / 1048576 }' /proc/meminfo)
cpu=$(sed -n 's/^model name[^:]*: //p;T;q' /proc/cpuinfo)
echo "$("$selfckpt" --version), $(date +%F)"
echo "machine: $cpu, $(nproc) CPUs, $memory GB; kernel $(uname -r); images on $file_system, synced"
[ -z "$missing" ] || echo "not installed here, so without a column:$missing"
echo
line() { printf '%-24s %9s %9s %9s %7s %9s' "$@"; }
line program pause total image MB/s restart
for peer in $peers; do printf ' | %9s %9s %9s' "$peer total" image restart; done
echo

columns() { # PAUSE TOTAL BYTES RESTART
    line "$size MB $what" "$(ms "$1")" "$(ms "$2")" "$(mb "$3")" "$(rate "$3" "$2")" "$(ms "$4")"
}
peer_columns() {
    if [ "$2" = - ]; then printf ' | %9s %9s %9s' - - -; else printf ' | %9s %9s %9s' "$(ms "$2")" "$(mb "$3")" "$(ms "$4")"; fi
}
for size in $sizes; do
    if ! fits "$size"; then
        echo "$size MB: left out, too little memory or room on the disk"
        continue
    fi
    for kind in dense sparse zeros; do
        case $kind in dense) what=dense ;; sparse) what="half untouched" ;; zeros) what="half zeros" ;; esac
        # Through a file: a subshell's program would not be known to the trap.
        measure_selfckpt "$size" $kind >"$work/figures"
        # shellcheck disable=SC2046
        columns $(cat "$work/figures")
        # shellcheck disable=SC2046
        for peer in $peers; do peer_columns $(measure_peer "$peer" "$size" $kind); done
        echo
    done
done

cat <<END

pause: the program stands still; total: until the image is on the disk; MB/s: image by total; restart: from the exec of
selfckpt restart until the program is back in its system call, the image in the page cache.
END

# ---- threads ------------------------------------------------------------------------------------------------------

thread_line() { printf '%-24s %9s %9s %9s\n' "$@"; }
thread_line "idle threads" pause image restart
thread_columns() { # NUMBER PAUSE BYTES RESTART
    thread_line "$1" "$(ms "$2")" "$(mb "$3")" "$(ms "$4")"
}
for number in 1 100 1000; do
    measure_threads $number >"$work/figures"
    # shellcheck disable=SC2046
    thread_columns $number $(cat "$work/figures")
done
echo

# ---- start-up -----------------------------------------------------------------------------------------------------

# A figure is 10 starts, so that the clock's own cost disappears; with and without in turns.
for run in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    begin=$(now)
    for i in 1 2 3 4 5 6 7 8 9 10; do "$work/nothing"; done
    middle=$(now)
    for i in 1 2 3 4 5 6 7 8 9 10; do
        SELFCKPT_DIR=$work/startup LD_PRELOAD=$library "$work/nothing"
    done
    end=$(now)
    echo $(((middle - begin - clock) / 10)) >>"$work/without"
    echo $(((end - middle - clock) / 10)) >>"$work/with"
done
without=$(median <"$work/without")
with=$(median <"$work/with")
echo "start of a program that does nothing, median of 20: $(ms "$without") without, $(ms "$with") with the preload: +$(ms $((with - without)))"
