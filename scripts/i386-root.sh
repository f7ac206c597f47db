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

# Octave with OpenBLAS, and ffmpeg, but without what only a window and pictures on a screen need: half of the bytes.
screenless="octave libopenblas0-pthread ffmpeg"
not_for_them="libqt5core5a libqt5gui5 libqt5help5 libqt5network5 libqt5printsupport5 libqt5widgets5 libqt5xml5
libqscintilla2-qt5-15 libglx-mesa0 libgl1-mesa-dri libfltk1.3 libfltk-gl1.3 texinfo libpetsc-real3.18 fontconfig-config
fonts-dejavu-core xkb-data libx11-data openssh-client passwd adduser debconf ucf"

present=$root/.packages
mkdir -p "$root"
touch "$present"
# Those of its arguments that are not unpacked yet.
missing_of() {
    for package in "$@"; do
        grep -qxF "$package" "$present" || printf ' %s' "$package"
    done
}
# shellcheck disable=SC2086
missing=$(missing_of $packages "$@") missing_screenless=$(missing_of $screenless)
[ -n "$missing$missing_screenless" ] || exit 0

say "unpacking i386 packages into build/i386-root:$missing$missing_screenless"
private_apt_prepare
# An empty status file: every dependency is fetched, whatever the system has.
# shellcheck disable=SC2086
[ -z "$missing" ] || private_apt_fetch i386 "$apt_dir/state/no-status" "$apt_dir/i386" $missing
if [ -n "$missing_screenless" ]; then
    # As if these were installed, and libc6, which is left out in any case.
    for package in $not_for_them libc6 tzdata perl perl-base; do
        printf 'Package: %s\nStatus: install ok installed\nArchitecture: i386\nMulti-Arch: foreign\nVersion: 9999\n' "$package"
        printf 'Maintainer: none <none@localhost>\nDescription: not needed\n\n'
    done >"$apt_dir/state/screenless-status"
    # shellcheck disable=SC2086
    private_apt_fetch i386 "$apt_dir/state/screenless-status" "$apt_dir/i386" $missing_screenless
fi
rm -f "$apt_dir"/i386/libc6_*.deb "$apt_dir"/i386/tzdata_*.deb
private_apt_unpack "$apt_dir/i386" "$root"
rm -rf "$apt_dir/i386" "$root/usr/share/doc" "$root/usr/share/man" "$root/usr/share/info" "$root/usr/share/locale"
# shellcheck disable=SC2086
printf '%s\n' $missing $missing_screenless >>"$present"
