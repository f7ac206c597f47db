#!/bin/sh
# Unpacks Debian's g++ and gfortran for 32-bit programs into build/languages-root, as far as the system has not got them,
# for the examples in C++ and Fortran.
#
#   scripts/languages-root.sh
#
# Nothing is installed over the system. They compile; assembler, linker and C libraries are the system's. Where they
# cannot be had this is said in one line, and the examples are skipped, unless SELFCKPT_MUST_RUN is set.
set -eu

say() { echo "selfckpt: $*" >&2; }
die() { say "no g++ or gfortran for 32-bit programs: $*"; [ -n "${SELFCKPT_MUST_RUN:-}" ] && exit 1 || exit 0; }

cd "$(dirname "$0")/.."
build_dir=$PWD/build
root=$build_dir/languages-root
has() { case $(command -v "$1" >/dev/null && "$1" -m32 -print-file-name="$2") in */32/*) ;; *) false ;; esac }

[ ! -e "$root/.complete" ] || exit 0
missing=
has g++ libstdc++.a || missing="g++-multilib"
has gfortran libgfortran.a || missing="$missing gfortran-multilib"
[ -n "$missing" ] || exit 0
. scripts/private-apt.sh

say "unpacking into build/languages-root: $missing"
private_apt_prepare
# What the system has counts as present, except these compilers themselves: they have to be of one piece.
awk -v RS= -v ORS='\n\n' '!/^Package: (g\+\+|gfortran|libstdc\+\+-|lib32stdc\+\+|libgfortran|lib32gfortran)/' /var/lib/dpkg/status |
    grep -vE '^(Pre-Depends|Depends|Conflicts|Breaks|Replaces|Recommends|Suggests|Enhances):' >"$apt_dir/state/status-languages"
# shellcheck disable=SC2086
private_apt_fetch amd64 "$apt_dir/state/status-languages" "$apt_dir/languages" $missing
rm -rf "$root" "$apt_dir"/languages/*x32*.deb
private_apt_unpack "$apt_dir/languages" "$root"
rm -rf "$apt_dir/languages" "$root/usr/share"
touch "$root/.complete"
