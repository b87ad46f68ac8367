#!/usr/bin/env bash
# hatchling 1.33.0: a folder that `include` names is left out of the source distribution if a link elsewhere leads to it.
#
# Input: a project with the folder protos, a link client/protos to it, and for the target sdist
# include = ["/protos", "/pyproject.toml"].
# Expected: the archive has protos/own.proto, as it has without the link. The link itself is not included.
# Seen: the archive has no file of protos, and no warning is given. hatchling walks the whole project, follows links, and
# enters each folder once (safe_walk in builders/utils.py): it meets protos as client/protos first, where no pattern
# includes it, and passes over the real one. With only-include, which walks the named folders, the file is there.
#
# Exits 0 while this is so, and 1 once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check hatchling==1.33.0
mkdir -p "$folder/project/client" "$folder/project/protos"
cd "$folder/project"
echo 'syntax = "proto3";' >protos/own.proto

# files SETTING: what the source distribution holds with this setting.
files() {
	printf '[project]\nname = "project"\nversion = "1"\n[tool.hatch.build.targets.sdist]\n%s\n' "$1" >pyproject.toml
	"$folder/venv/bin/python" -m hatchling build -t sdist -d "$folder/out" >/dev/null 2>&1
	tar tzf "$folder/out/project-1.tar.gz" | sed 's:^project-1/::' | sort | tr '\n' ' '
}

include='include = ["/protos", "/pyproject.toml"]'
echo "hatchling $("$folder/venv/bin/python" -c 'from importlib.metadata import version; print(version("hatchling"))')"
without_link=$(files "$include")
ln -s ../protos client/protos
with_link=$(files "$include")
only=$(files 'only-include = ["protos", "pyproject.toml"]')
echo "include, no link: $without_link"
echo "include, a link client/protos: $with_link"
echo "only-include, the same link: $only"
if [[ $without_link == *protos/own.proto* && $with_link != *own.proto* && $only == *protos/own.proto* ]]; then
	exit 0
fi
echo "a link no longer empties the folder: this finding is out of date"
exit 1
