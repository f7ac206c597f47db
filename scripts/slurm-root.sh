#!/bin/sh
# Unpacks Debian's Slurm into build/slurm-root, for the tests of batch jobs: they start a cluster of one node.
#
#   scripts/slurm-root.sh
#
# Nothing is installed over the system. libc6 is left out: the daemons run with the system's, which must be Debian 12's
# or newer. A second run does nothing. Where the packages cannot be had this is said in one line, and the tests that
# need them are skipped, unless SELFCKPT_MUST_RUN is set.
set -eu

packages="slurmctld slurmd slurm-client"

say() { echo "selfckpt: $*" >&2; }
die() { say "no Slurm for the tests: $*"; [ -n "${SELFCKPT_MUST_RUN:-}" ] && exit 1 || exit 0; }

cd "$(dirname "$0")/.."
build_dir=$PWD/build
root=$build_dir/slurm-root
[ ! -e "$root/.complete" ] || exit 0
. scripts/private-apt.sh

say "unpacking Slurm into build/slurm-root"
private_apt_prepare
# shellcheck disable=SC2086
private_apt_fetch amd64 "$apt_dir/state/no-status" "$apt_dir/slurm" $packages
# What the maintainer scripts would need, and what has to be of one version with the system's loader.
for package in libc6 dpkg tar adduser passwd debconf ucf sysvinit-utils; do rm -f "$apt_dir/slurm/${package}_"*.deb; done
rm -rf "$root"
private_apt_unpack "$apt_dir/slurm" "$root"
rm -rf "$apt_dir/slurm" "$root/usr/share"
touch "$root/.complete"
