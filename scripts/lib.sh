# shellcheck shell=bash
# Common to the scripts: paths, output, and the packages that a machine needs. Sourced, never run.

# shellcheck disable=SC2034 # read by the scripts that source this
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
dist=$target/dist
cache=${XDG_CACHE_HOME:-$HOME/.cache}/netd-tests
deny_version=0.20.2
cd "$root" || exit

# Ctrl-C ends a script by its own exit, so that its clean-up runs.
trap 'exit 130' INT TERM

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$'\e[1m' green=$'\e[32m' red=$'\e[31m' yellow=$'\e[33m' plain=$'\e[0m'
else
    bold='' green='' red='' yellow='' plain=''
fi

say() { printf '%s==>%s %s\n' "$bold" "$plain" "$*"; }
warn() { printf '%snote:%s %s\n' "$yellow" "$plain" "$*" >&2; }
die() {
    printf '%serror:%s %s\n' "$red" "$plain" "$*" >&2
    exit 1
}

# help FILE: prints the comment at the top of a script, which is its manual.
help() { sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$1"; }

# as_root COMMAND...: runs it as root, through sudo where needed.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "this needs root: $* (run it as root once, or install sudo)"
    fi
}

# isolated COMMAND...: runs it as root of new namespaces, with a /run of its own for temporary files. Its processes and
# devices end with it. Without root it runs in a user namespace.
isolated() {
    local flags=(--mount --net --pid --fork --kill-child=SIGKILL --propagation private)
    if [ "$(id -u)" -ne 0 ]; then
        flags+=(--map-root-user)
    fi
    # shellcheck disable=SC2016 # the inner shell expands it
    unshare "${flags[@]}" -- sh -ec 'mount -t tmpfs tmpfs /run; export TMPDIR=/run; ip link set lo up; exec "$@"' sh "$@"
}

# Debian packages, each with files of it, any of which shows that it is installed: where all are, apt-get is not called.
packages=(
    gcc:/usr/bin/gcc
    libc6-dev:/usr/include/stdlib.h
    musl-tools:/usr/bin/musl-gcc
    protobuf-compiler:/usr/bin/protoc
    libprotobuf-dev:/usr/include/google/protobuf/descriptor.proto
    git:/usr/bin/git
    iproute2:/usr/bin/ip:/sbin/ip
    util-linux:/usr/bin/unshare
    iputils-ping:/usr/bin/ping:/bin/ping
    nftables:/usr/sbin/nft
    iptables:/usr/sbin/iptables
    conntrack:/usr/sbin/conntrack
    shellcheck:/usr/bin/shellcheck
    containernetworking-plugins:/usr/lib/cni/bridge
    openssl:/usr/bin/openssl
    curl:/usr/bin/curl
    containerd:/usr/bin/containerd
    runc:/usr/sbin/runc:/usr/bin/runc
    busybox-static:/bin/busybox:/usr/bin/busybox
    ipset:/usr/sbin/ipset
    ipvsadm:/usr/sbin/ipvsadm
    qemu-system-x86:/usr/bin/qemu-system-x86_64
    "libfaketime:/usr/lib/$(uname -m)-linux-gnu/faketime/libfaketimeMT.so.1"
)

# setup: installs what is missing on this machine; quick where nothing is.
setup() {
    local entry name file missing=() found
    for entry in "${packages[@]}"; do
        IFS=: read -r name file <<<"$entry"
        found=
        IFS=: read -ra files <<<"$file"
        for file in "${files[@]}"; do
            [ -e "$file" ] && found=yes
        done
        [ -n "$found" ] || missing+=("$name")
    done
    if [ ${#missing[@]} -gt 0 ]; then
        command -v apt-get >/dev/null || die "please install: ${missing[*]} (names of Debian packages)"
        say "installing Debian packages: ${missing[*]}"
        as_root apt-get -qq update
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends "${missing[@]}" >/dev/null
    fi
    command -v cargo >/dev/null || die "Rust is missing: install rustup from https://rustup.rs, then run this again"
    setup_target
}

# The target of the static binaries; rust-toolchain.toml names it too, for a rustup that installs by itself.
setup_target() {
    triple=$(uname -m)-unknown-linux-musl
    rustc --print target-libdir --target "$triple" 2>/dev/null | xargs -r test -d && return
    say "adding the Rust target $triple"
    rustup target add "$triple"
}

# setup_go: the programs that the suites run beside netd are built from the Go modules that tests/peers pins.
setup_go() {
    command -v go >/dev/null || die "Go is missing: install Go 1.26 or later from https://go.dev/dl, then run this again"
}

# setup_deny: makes `cargo deny` callable: from PATH, else built once into the user's cache.
setup_deny() {
    PATH=$cache/tools/bin:$PATH
    command -v cargo-deny >/dev/null && return
    say "building cargo-deny $deny_version, once, into $cache/tools (some minutes)"
    mkdir -p "$cache"
    # Not optimised: it runs for a second, and the build is several times shorter.
    cargo install --quiet --locked --debug --root "$cache/tools" --target-dir "$cache/tools/build" \
        cargo-deny --version "$deny_version" >/dev/null || return
    rm -rf "$cache/tools/build"
}
