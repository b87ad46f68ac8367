#!/usr/bin/env bash
# tritonclient 2.73.0: the extra grpc declares protobuf>=6.30.0, and its stubs refuse every protobuf below 6.33.5.
#
# Input: tritonclient[grpc]==2.73.0 with protobuf==6.30.0, which pip takes; `import tritonclient.grpc`.
# Expected: a version that the package declares is one that it runs with.
# Seen: google.protobuf.runtime_version.VersionError, "gencode 6.33.5 runtime 6.30.0": the stubs were written by a newer
# protoc, and stubs run with no runtime older than what wrote them.
#
# Exits 0 while this is so, and 1 once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'tritonclient[grpc]==2.73.0' protobuf==6.30.0
"$folder/venv/bin/pip" check
"$folder/venv/bin/pip" list --format=freeze --disable-pip-version-check | grep -E '^(tritonclient|protobuf)=='
if complaint=$("$folder/venv/bin/python" -c 'import tritonclient.grpc' 2>&1); then
	echo "it is imported now: this finding is out of date" >&2
	exit 1
fi
tail -1 <<<"$complaint"
grep -q 'gencode 6.33.5 runtime 6.30.0' <<<"$complaint"
