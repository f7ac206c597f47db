#!/bin/sh
# Makes build/selfckpt_VERSION_amd64.deb by dpkg-deb, from what `make install` installs.
#
#   scripts/deb.sh VERSION
set -eu

cd "$(dirname "$0")/.."
version=$1
command -v dpkg-deb >/dev/null || { echo "selfckpt: dpkg-deb is missing: a Debian package is made on Debian" >&2; exit 1; }
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
umask 022
make -s install PREFIX=/usr DESTDIR="$root" >/dev/null
strip --strip-unneeded "$root/usr/bin/selfckpt" "$root/usr/lib/selfckpt/i686/libselfckpt.so"
gzip -9n "$root"/usr/share/man/man1/*.1
doc=$root/usr/share/doc/selfckpt
mkdir -p "$doc/examples"
cp README.md docs/batch.md "$doc"
cp examples/*.* examples/wrappers/* "$doc/examples"
gzip -9nc CHANGELOG.md >"$doc/changelog.gz"
cat LICENSE-MIT >"$doc/copyright"
printf '\nAlternatively, at your option, the Apache License 2.0: /usr/share/common-licenses/Apache-2.0.\n' >>"$doc/copyright"
mkdir -p "$root/DEBIAN"
(cd "$root" && find usr -type f -exec md5sum {} +) >"$root/DEBIAN/md5sums"
# libc6-i386 has the loader of the programs that this is for.
cat >"$root/DEBIAN/control" <<CONTROL
Package: selfckpt
Version: $version
Architecture: amd64
Maintainer: selfckpt developers <selfckpt@localhost>
Installed-Size: $(du -sk "$root/usr" | cut -f1)
Depends: libc6 (>= 2.34), libgcc-s1
Recommends: libc6-i386
Section: utils
Priority: optional
Description: checkpoint and restart of 32-bit x86 Linux programs
 A library that is preloaded into unmodified i686 programs lets them write
 their whole state into a file and be restarted from it later; the command
 runs, checkpoints, restarts and inspects them, and fits into batch jobs.
CONTROL
chmod 755 "$root"
package=build/selfckpt_${version}_amd64.deb
dpkg-deb --root-owner-group --build "$root" "$package" >/dev/null
echo "selfckpt: built $package"
