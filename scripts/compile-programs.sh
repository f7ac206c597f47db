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
# Of the examples, those in Rust, C++ and Fortran are compiled as well, the latter two where there is a compiler
# (scripts/languages-root.sh).
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

[ "$source" = examples ] || exit 0

# The other languages: each is linked by gcc, which finds the 32-bit C libraries.
is_old() { [ ! "$2" -nt "$1" ] || [ ! "$2" -nt include/selfckpt.h ]; }
languages=$PWD/build/languages-root
compiler() { # NAME LIBRARY: the system's, or that of scripts/languages-root.sh, if it makes 32-bit programs
    case $(command -v "$1" >/dev/null && "$1" -m32 -print-file-name="$2") in
    */32/*) echo "$1" ;;
    *) ls "$languages/usr/bin/x86_64-linux-gnu-$1"-[0-9]* 2>/dev/null | head -n1 ;;
    esac
}
library() { # NAME in the directory of 32-bit libraries of either
    path=$(gcc -m32 -print-file-name="$1")
    case $path in
    */32/*) echo "$path" ;;
    *) ls "$languages"/usr/lib/gcc/x86_64-linux-gnu/*/32/"$1" 2>/dev/null | head -n1 ;;
    esac
}
link() { # FILE OUT LIBRARY...
    object=$1 program=$2
    shift 2
    gcc -m32 -o "$program.new" "$object" "$@" && mv "$program.new" "$program" && rm "$object"
}

for file in examples/*.rs; do
    [ -e "$file" ] || continue
    program=$out/${file##*/}
    program=${program%.rs}
    is_old "$file" "$program" || continue
    . build/toolchain.env
    "$RUSTC" --edition 2021 -O --target i686-unknown-linux-gnu -o "$program.new" "$file" && mv "$program.new" "$program"
done

for file in examples/*.cc; do
    program=$out/${file##*/}
    program=${program%.cc}
    [ -e "$file" ] && is_old "$file" "$program" || continue
    compiler=$(compiler g++ libstdc++.a)
    [ -n "$compiler" ] || { say "$file is not compiled: no g++ for 32-bit programs"; continue; }
    "$compiler" -m32 -O1 -g -Wall -Wextra -Iinclude -c -o "$program.o" "$file"
    link "$program.o" "$program" "$(library libstdc++.a)" -lm
done

for file in examples/*.f90; do
    program=$out/${file##*/}
    program=${program%.f90}
    [ -e "$file" ] && is_old "$file" "$program" || continue
    compiler=$(compiler gfortran libgfortran.a)
    [ -n "$compiler" ] || { say "$file is not compiled: no gfortran for 32-bit programs"; continue; }
    "$compiler" -m32 -O1 -g -Wall -J "$out" -c -o "$program.o" "$file"
    link "$program.o" "$program" "$(library libgfortran.a)" -lquadmath -lm
done
