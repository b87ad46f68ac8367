#!/usr/bin/env bash
# Installs what the Makefile needs: a compiler and protoc from this machine's own release, and the crates from Debian
# 13's packages, unpacked under build/ and never installed, as a cargo directory source. Does nothing if all is there.
set -euo pipefail
cd "$(dirname "$0")"
build=$PWD/build
crates=$build/crates
release=trixie
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
        apt-get -o DPkg::Lock::Timeout=300 -qq update
        DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq -y --no-install-recommends \
            install "${missing[@]}" > /dev/null
    fi
}

# The address that this machine's own sources name for Debian: in the deb822 form, or in the older one.
mirror() {
    { cat /etc/apt/sources.list.d/debian.sources 2> /dev/null | sed -n 's/^URIs: *\([^ ]*\).*/\1/p'
      cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2> /dev/null |
          sed -n 's/^deb \(\[[^]]*\] \)\?\([^ ]*\) .*/\2/p'; } | grep -E '/debian/?$' | head -n 1
}

# An apt of our own: its lists, its cache and an empty state, so that nothing of this machine is seen or changed.
private_apt() {
    local root=$build/apt
    mkdir -p "$root"/{lists/partial,cache/archives/partial,etc}
    : > "$root/status"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(mirror) $release main" > "$root/etc/sources.list"
    cat > "$root/apt.conf" <<CONF
Dir::State::lists "$root/lists";
Dir::State::status "$root/status";
Dir::Cache "$root/cache";
Dir::Etc::sourcelist "$root/etc/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
CONF
    APT_CONFIG=$root/apt.conf apt-get -qq update
}

# Crates come in packages named librust-*; what those need beside crates is C, and nothing here does.
unpack() {
    rm -rf "$crates" "$build/unpacked" Cargo.lock # which names the versions of before
    mkdir -p "$build/unpacked" "$build/debs"
    local names
    # shellcheck disable=SC2086
    names=$(APT_CONFIG=$build/apt/apt.conf apt-get -qq install --print-uris $wanted |
        sed -n "s/^'[^']*' \(librust-[^_ ]*\)_.*/\1/p")
    test -n "$names"
    # shellcheck disable=SC2086  # apt checks the signed sums of what it downloads
    (cd "$build/debs" && APT_CONFIG=$build/apt/apt.conf apt-get -qq download $names)
    for deb in "$build"/debs/*.deb; do
        dpkg -x "$deb" "$build/unpacked"
    done
    mv "$build/unpacked/usr/share/cargo/registry" "$crates"
    rm -rf "$build/unpacked"
}

system_packages
if [ ! -e "$build/crates.done" ] || ! cmp -s tools.sh "$build/crates.done"; then
    mkdir -p "$build"
    private_apt
    unpack
    cp tools.sh "$build/crates.done"
fi
