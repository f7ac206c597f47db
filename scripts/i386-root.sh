#!/bin/sh
# Unpacks real 32-bit programs from Debian's i386 packages into build/i386-root, for tests, demo and benchmarks.
#
#   scripts/i386-root.sh               the packages named below
#   scripts/i386-root.sh PACKAGE...    these as well
#
# Nothing is installed over the system. libc6 is left out: its loader and its libraries must be of one version, so the
# programs run with those of the system's libc6-i386. scripts/i386-run starts a program. A second run does nothing.
set -eu

packages="python3 bc lua5.4 sqlite3 gawk xz-utils guile-3.0 perl gzip bzip2 zstd coreutils dash busybox
sbcl ruby3.1 povray x264 redis-server"

say() { echo "selfckpt: $*" >&2; }
die() { say "$*"; exit 1; }

cd "$(dirname "$0")/.."
build_dir=$PWD/build
root=$build_dir/i386-root
. scripts/private-apt.sh

present=$root/.packages
mkdir -p "$root"
touch "$present"
missing=
for package in $packages "$@"; do
    grep -qxF "$package" "$present" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

say "unpacking i386 packages into build/i386-root:$missing"
private_apt_prepare
# An empty status file: every dependency is fetched, whatever the system has.
# shellcheck disable=SC2086
private_apt_fetch i386 "$apt_dir/state/no-status" "$apt_dir/i386" $missing
rm -f "$apt_dir"/i386/libc6_*.deb "$apt_dir"/i386/tzdata_*.deb
private_apt_unpack "$apt_dir/i386" "$root"
rm -rf "$apt_dir/i386" "$root/usr/share/doc" "$root/usr/share/man" "$root/usr/share/info" "$root/usr/share/locale"
printf '%s\n' $missing >>"$present"
