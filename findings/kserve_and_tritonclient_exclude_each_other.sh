#!/usr/bin/env bash
# kserve 0.21.0 and tritonclient[grpc] 2.73.0 (protobuf 6.33.6): a process that imports one cannot import the other.
#
# Input: `import kserve` and `import tritonclient.grpc`, in both orders, with both implementations of protobuf.
# Expected: two clients of the same protocol, which pip installs together without a complaint, work side by side.
# Seen: TypeError at the second import. Both generate Python from the messages of package `inference`, from files with
# different names, and protobuf's default descriptor pool takes a full name once in a process.
#
# Exits 0 while this is so, and 1 once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
	kserve==0.21.0 'tritonclient[grpc]==2.73.0' protobuf==6.33.6
"$folder/venv/bin/pip" check
"$folder/venv/bin/pip" list --format=freeze --disable-pip-version-check | grep -E '^(kserve|tritonclient|protobuf|grpcio)=='
still=0
for implementation in upb python; do
	for order in 'kserve tritonclient.grpc' 'tritonclient.grpc kserve'; do
		read -r first second <<<"$order"
		printf '%s, then %s (%s): ' "$first" "$second" "$implementation"
		if complaint=$(PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=$implementation "$folder/venv/bin/python" -W ignore \
			-c "import $first, $second" 2>&1); then
			echo works
		else
			still=$((still + 1))
			tail -1 <<<"$complaint" | cut -c 1-160
		fi
	done
done
((still == 4)) || { echo "some of it works now: this finding is out of date" >&2; exit 1; }
