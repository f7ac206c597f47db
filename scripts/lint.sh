#!/bin/sh
# rustfmt and clippy, where the toolchain has them. Warnings are errors with Rust 1.85, the version that the code is
# written against; lints that a later one adds are shown and do not fail.
set -eu

say() { echo "selfckpt: $*" >&2; }
cd "$(dirname "$0")/.."
. build/toolchain.env
flags="--offline --locked --release --quiet --target-dir $PWD/target"

if [ -x "$CARGO_FMT" ]; then
    "$CARGO_FMT" --check
else
    say "rustfmt is not there, formatting not checked"
fi
if [ -x "$CARGO_CLIPPY" ]; then
    case $("$RUSTC" --version) in "rustc 1.85."*) deny="-D warnings" ;; *) deny= ;; esac
    # shellcheck disable=SC2086
    "$CARGO_CLIPPY" clippy $flags --all-targets --target x86_64-unknown-linux-gnu -- $deny
    # shellcheck disable=SC2086
    "$CARGO_CLIPPY" clippy $flags --lib --target i686-unknown-linux-gnu -- $deny
else
    say "clippy is not there, lints not checked"
fi
