#!/usr/bin/env bash
# Installs what the Makefile needs: a compiler and protoc from this machine's own release, and the crates from Debian
# 13's packages, unpacked under build/ and never installed, as a cargo directory source. Does nothing if all is there.
set -euo pipefail
cd "$(dirname "$0")"
build=$PWD/build
crates=$build/crates
wanted="librust-tonic-dev librust-tonic-build-dev librust-prost-dev librust-prost-types-dev librust-tokio-dev
  librust-tokio-stream-dev librust-rustls-dev librust-tokio-rustls-dev librust-serde-json-dev librust-serde-dev
  librust-base64-dev librust-bytes-dev librust-futures-util-dev librust-tower-dev librust-rustls-pemfile-dev
  librust-rustls-native-certs-dev librust-fastrand-dev"

# Whether there is a cargo, of 1.75 or later.
has_cargo() {
    command -v cargo > /dev/null && printf '1.75.0\n%s\n' "$(cargo --version | cut -d ' ' -f 2)" | sort -CV
}

system_packages() {
    local missing=()
    command -v cc > /dev/null || missing+=(gcc libc6-dev)
    command -v protoc > /dev/null || missing+=(protobuf-compiler)
    test -f /usr/include/google/protobuf/duration.proto || missing+=(libprotobuf-dev)
    # Debian 12's own rustc is 1.63; rustc-web is the one that its browsers are built with, kept current.
    has_cargo || missing+=(cargo-web rustc-web)
    if [ ${#missing[@]} -gt 0 ]; then
        apt-get -o DPkg::Lock::Timeout=300 -o Acquire::Retries=5 -qq update
        DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -o Acquire::Retries=5 -qq -y --no-install-recommends \
            install "${missing[@]}" > /dev/null
    fi
}

# Crates come in packages named librust-*; what those need beside crates is C, and nothing here does.
unpack() {
    rm -rf "$crates" "$build/unpacked" Cargo.lock # which names the versions of before
    # shellcheck disable=SC2086  # words
    ../../scripts/unpack-debian --needed '^librust-' trixie "$build/unpacked" $wanted
    mv "$build/unpacked/usr/share/cargo/registry" "$crates"
    rm -rf "$build/unpacked"
}

system_packages
if [ ! -e "$build/crates.done" ] || ! cmp -s tools.sh "$build/crates.done"; then
    mkdir -p "$build"
    unpack
    cp tools.sh "$build/crates.done"
fi
