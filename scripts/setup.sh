#!/bin/sh
# Sets this machine up for the build: a C compiler with -m32, a Rust toolchain for i686, the crates.
#
#   scripts/setup.sh
#
# Each stage looks first whether its work is done; once it is, a run touches no network and needs no root.
# The result is build/toolchain.env, to be sourced: CARGO, RUSTC, RUSTDOC, RUSTFMT, CARGO_CLIPPY, CARGO_FMT.
#
# Root or sudo is needed for one thing only: gcc and gcc-multilib, when they are missing. Rust comes from rustup where
# rustup can add i686-unknown-linux-gnu, and else from Debian's packages, unpacked into build/rust (not installed).
# SELFCKPT_TOOLCHAIN=rustup or =debian in the environment asks for one of the two.
set -eu

say() { echo "selfckpt: $*" >&2; }
die() { say "$*"; exit 1; }

cd "$(dirname "$0")/.."
build_dir=$PWD/build
target=i686-unknown-linux-gnu
oldest=1.85.0
mkdir -p "$build_dir"
. scripts/private-apt.sh

[ "$(uname -s) $(uname -m)" = "Linux x86_64" ] || die "the build needs an x86_64 Linux machine, this is $(uname -s) $(uname -m)"

# ---- packages ---------------------------------------------------------------------------------------------------

has_packages() {
    command -v gcc >/dev/null && command -v readelf >/dev/null && [ -e /etc/ssl/certs/ca-certificates.crt ] &&
        [ -e /lib/ld-linux.so.2 ] && [ "$(gcc -m32 -print-file-name=crt1.o)" != crt1.o ] &&
        [ "$(gcc -m32 -print-libgcc-file-name)" != "$(gcc -print-libgcc-file-name)" ]
}

install_packages() {
    packages="gcc gcc-multilib libc6-dev binutils ca-certificates"
    if [ "$(id -u)" = 0 ]; then as_root=
    elif command -v sudo >/dev/null; then as_root=sudo
    else die "packages are missing and neither root nor sudo is here to install them: apt-get install $packages"
    fi
    command -v apt-get >/dev/null || die "packages are missing and there is no apt-get; install the equivalents of: $packages"
    say "installing $packages"
    # shellcheck disable=SC2086
    try_install() {
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-remove --no-install-recommends $packages \
            >"$build_dir/packages.log" 2>&1 </dev/null
    }
    if ! try_install; then # the package lists are empty or too old
        $as_root apt-get -qq update >"$build_dir/update.log" 2>&1 || true
        try_install || die "apt-get cannot install $packages: $(grep -m1 '^E:' "$build_dir/packages.log" || echo "see $build_dir/packages.log")"
    fi
    has_packages || die "gcc -m32 does not work although gcc-multilib is installed; see $build_dir/packages.log"
}

# ---- toolchain --------------------------------------------------------------------------------------------------

at_least_oldest() { # PROGRAM: `PROGRAM --version` is $oldest or newer
    version=$("$1" --version 2>/dev/null | awk '{ sub(/-.*/, "", $2); print $2; exit }')
    [ -n "$version" ] && [ "$(printf '%s\n%s\n' "$oldest" "$version" | sort -V | head -n1)" = "$oldest" ]
}

# rustup's own tools, not its proxies: the proxies would look at the environment and the directory again.
rustup_tool() {
    command -v rustup >/dev/null && rustup which "$1" 2>/dev/null
}

rustup_has_target() {
    for std in "$("$(rustup_tool rustc)" --print target-libdir --target $target 2>/dev/null)"/libstd-*.rlib; do
        [ -e "$std" ] && return 0
    done
    return 1
}

# Answers in $why_not.
rustup_serves() {
    why_not="no rustup here"
    command -v rustup >/dev/null || return 1
    why_not="rustup has no toolchain"
    rustc=$(rustup_tool rustc) && cargo=$(rustup_tool cargo) || return 1
    why_not="rustup's toolchain is older than $oldest"
    at_least_oldest "$rustc" && at_least_oldest "$cargo" || return 1
    why_not="rustup could not add $target"
    rustup_has_target || {
        timeout 60 rustup target add $target >"$build_dir/rustup.log" 2>&1 </dev/null && rustup_has_target
    } || return 1
    if ! rustup_tool cargo-clippy >/dev/null || ! rustup_tool cargo-fmt >/dev/null; then
        timeout 60 rustup component add clippy rustfmt >>"$build_dir/rustup.log" 2>&1 </dev/null || true
    fi
}

use_debian() {
    root=$build_dir/rust
    mkdir -p "$root"
    say "unpacking Debian's Rust into build/rust, 350 MB"
    private_apt_prepare
    # What the system has counts as present, except Rust itself; its own dependencies are none of our business.
    awk -v RS= -v ORS='\n\n' '!/^Package: (rust|cargo|libstd-rust|libllvm)/' /var/lib/dpkg/status |
        grep -vE '^(Pre-Depends|Depends|Conflicts|Breaks|Replaces|Recommends|Suggests|Enhances):' >"$apt_dir/state/status-rust"
    private_apt_fetch amd64 "$apt_dir/state/status-rust" "$apt_dir/rust" rustc-web libstd-rust-web-dev cargo-web \
        rust-web-clippy rustfmt-web
    private_apt_download "$apt_dir/rust" libstd-rust-web-dev:i386
    private_apt_unpack "$apt_dir/rust" "$root"
    rm -rf "$apt_dir/rust" "$root/usr/share"
    # Debian's rustc takes /usr for its sysroot and looks for its libraries in the system: wrappers say otherwise.
    mkdir "$root/usr/real"
    for tool in rustc rustdoc cargo cargo-clippy cargo-fmt clippy-driver rustfmt; do
        [ -e "$root/usr/bin/$tool" ] || continue
        mv "$root/usr/bin/$tool" "$root/usr/real/$tool"
        case $tool in rustc | rustdoc) sysroot=' --sysroot "$root/usr"' ;; *) sysroot= ;; esac
        cat >"$root/usr/bin/$tool" <<WRAPPER
#!/bin/sh
root=\${0%/usr/bin/*}
export LD_LIBRARY_PATH="\$root/usr/lib/x86_64-linux-gnu:\$root/lib/x86_64-linux-gnu\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
export SYSROOT="\$root/usr"
exec "\$root/usr/real/$tool"$sysroot "\$@"
WRAPPER
        chmod +x "$root/usr/bin/$tool"
    done
    "$root/usr/bin/rustc" --version >/dev/null || die "Debian's rustc does not run from build/rust"
}

# Writes build/toolchain.choice: the word rustup or debian, and a line for the user.
choose_toolchain() {
    wanted=${SELFCKPT_TOOLCHAIN:-any}
    why_not="SELFCKPT_TOOLCHAIN=debian"
    if [ "$wanted" != debian ] && rustup_serves; then
        echo "rustup: $("$(rustup_tool rustc)" --version | cut -d' ' -f1-2) of rustup, with $target" >"$build_dir/toolchain.choice"
        return
    fi
    [ "$wanted" != rustup ] || die "SELFCKPT_TOOLCHAIN=rustup, but $why_not"
    [ -x "$build_dir/rust/usr/bin/rustc" ] && [ -e "$build_dir/rust.complete" ] || {
        rm -rf "$build_dir/rust" "$build_dir/rust.complete"
        use_debian
        touch "$build_dir/rust.complete"
    }
    echo "debian: Debian's rustc-web $("$build_dir/rust/usr/bin/rustc" --version | cut -d' ' -f2) ($why_not)" >"$build_dir/toolchain.choice"
}

chosen() { # the choice of an earlier run still stands
    [ -e "$build_dir/toolchain.choice" ] || return 1
    read -r kind _ <"$build_dir/toolchain.choice"
    case ${SELFCKPT_TOOLCHAIN:-any}/$kind in
    any/rustup: | rustup/rustup:) rustc=$(rustup_tool rustc) && at_least_oldest "$rustc" && rustup_has_target ;;
    any/debian: | debian/debian:) [ -e "$build_dir/rust.complete" ] ;;
    *) false ;;
    esac
}

write_environment() {
    read -r kind _ <"$build_dir/toolchain.choice"
    if [ "$kind" = rustup: ]; then
        cargo=$(rustup_tool cargo) rustc=$(rustup_tool rustc) rustdoc=$(rustup_tool rustdoc || true) rustfmt=$(rustup_tool rustfmt || true)
        clippy=$(rustup_tool cargo-clippy || true) fmt=$(rustup_tool cargo-fmt || true)
    else
        bin=$build_dir/rust/usr/bin
        cargo=$bin/cargo rustc=$bin/rustc rustdoc=$bin/rustdoc rustfmt=$bin/rustfmt clippy=$bin/cargo-clippy fmt=$bin/cargo-fmt
    fi
    cat >"$build_dir/toolchain.env.new" <<ENVIRONMENT
export CARGO='$cargo'
export RUSTC='$rustc'
export RUSTDOC='$rustdoc'
export RUSTFMT='$rustfmt'
export CARGO_CLIPPY='$clippy'
export CARGO_FMT='$fmt'
ENVIRONMENT
    mv "$build_dir/toolchain.env.new" "$build_dir/toolchain.env"
}

# ---- crates -----------------------------------------------------------------------------------------------------

fetch_crates() {
    fetch="$CARGO fetch --locked --target x86_64-unknown-linux-gnu --target $target"
    $fetch --offline >/dev/null 2>&1 && return
    say "fetching the crates that Cargo.lock names"
    $fetch >"$build_dir/fetch.log" 2>&1 || die "cargo cannot fetch the crates: $(awk 'NF { line = $0 } END { sub(/^ */, "", line); print line }' "$build_dir/fetch.log"); see $build_dir/fetch.log"
}

has_packages || install_packages
chosen || choose_toolchain
write_environment
. "$build_dir/toolchain.env"
fetch_crates
say "toolchain: $(cut -d' ' -f2- "$build_dir/toolchain.choice")"
