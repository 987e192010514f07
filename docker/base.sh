#!/bin/sh
# Makes a base image where none can be pulled: Debian with Python, by debootstrap, as root. Prints the image's id.
#   docker/base.sh [MIRROR] [SUITE]      (without a mirror: debootstrap's own)
set -eu
mirror=${1:-} suite=${2:-bookworm}
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates "$suite" "$root/tree" ${mirror:+"$mirror"} >&2
rm -rf "$root/tree/var/cache/apt/archives" "$root/tree"/var/lib/apt/lists/* "$root/tree/var/log"/*
tar -C "$root/tree" -c . | docker import --change 'CMD ["bash"]' - "dpo-base:$suite" >&2
docker inspect --format '{{.Id}}' "dpo-base:$suite"
