#!/bin/sh
# Compiles each SOURCE/*.c to a program OUT/NAME, for i686, when it is older than its sources.
#
#   scripts/compile-programs.sh SOURCE OUT
#
# Comment lines of a source, each alone on its line, say otherwise:
#   // host: amd64      compiled for the host
#   // static           linked statically
#   // libs: -lm ...    libraries
#   // flags: -mavx ... further options of the compiler
# SOURCE/*.rs are examples of the package: cargo compiles them for i686. SOURCE/*.f90 are compiled where gfortran
# for i686 is installed.
set -eu

say() { echo "selfckpt: $*" >&2; }
[ $# = 2 ] || { say "usage: scripts/compile-programs.sh SOURCE OUT"; exit 2; }
cd "$(dirname "$0")/.."
source=$1 out=$2
[ -d "$source" ] || exit 0
mkdir -p "$out"

directive() { sed -n "s|^// $1: *||p" "$2"; }

compile() { # FILE
    name=${1##*/}
    program=$out/${name%.c}
    for part in "$1" "$source"/*.h include/*.h; do
        [ ! -e "$part" ] || [ "$program" -nt "$part" ] || break
        part=
    done
    [ -n "$part" ] || return 0
    machine=-m32
    [ "$(directive host "$1")" != amd64 ] || machine=
    static=
    ! grep -qx '// static' "$1" || static=-static
    # shellcheck disable=SC2046,SC2086
    gcc $machine -O1 -g -Wall -Wextra -pthread $static $(directive flags "$1") -Iinclude -o "$program.new" "$1" $(directive libs "$1") &&
        mv "$program.new" "$program"
}

failed=0 running=
jobs=$(nproc)
for file in "$source"/*.c; do
    [ -e "$file" ] || continue
    compile "$file" &
    running="$running $!"
    set -- $running
    if [ $# -ge "$jobs" ]; then
        wait "$1" || failed=1
        shift
        running=$*
    fi
done
for pid in $running; do wait "$pid" || failed=1; done
[ $failed = 0 ] || { say "some of $source do not compile"; exit 1; }

set -- "$source"/*.rs
if [ "$source" = examples ] && [ -e "$1" ]; then
    . build/toolchain.env
    target=i686-unknown-linux-gnu
    "$CARGO" build --offline --locked --release --quiet --examples --target $target --target-dir "$PWD/target"
    for file; do
        name=${file##*/}
        cp "target/$target/release/examples/${name%.rs}" "$out/"
    done
fi

for file in "$source"/*.f90; do
    [ -e "$file" ] && command -v gfortran >/dev/null || continue
    name=${file##*/}
    gfortran -m32 -O1 -g -o "$out/${name%.f90}" "$file" 2>"$out/gfortran.log" || say "skipped $file: no gfortran for i686 (package gfortran-multilib)"
done
