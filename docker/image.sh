#!/bin/sh
# Builds the image with buildah so that one commit has one digest, wherever and whenever it is built.
#   docker/image.sh [cpu|cuda]     prints the image's digest; its SBOM goes to build/sbom-<variant>.json
# DPO_BASE_IMAGE   the base, by digest (default: the Dockerfile's); or the path of a tar with a root file system
# DPO_BUILD_CA, DPO_BUILD_WHEELS, DPO_BUILD_INDEX, DPO_BUILD_EXTRA_INDEX   as for `launcher build`
# STORE            a folder for buildah's storage (default: its own)      PUSH   where to push the image
# TAG              the tag under which it is pushed (default: the variant and the commit)
# EXPECT           the digest that it must have, or it is not pushed
set -eu
cd "$(dirname "$0")/.."
variant=${1:-cpu}
# shellcheck disable=SC2086 # one word an option
buildah() { command buildah ${STORE:+--root "$STORE/root" --runroot "$STORE/run" --storage-driver "${STORAGE_DRIVER:-overlay}"} "$@"; }
epoch=$(git log -1 --format=%ct)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What git has, with the modes that git knows: a umask or an editor's file must not matter.
git archive HEAD docker/Dockerfile docker/requirements-cpu.txt docker/requirements-cuda.txt docker/extras launcher trainer | tar -x -C "$work"
find "$work" -type d -exec chmod 755 {} + && find "$work" -type f -exec chmod 644 {} +
extras=$work/docker/extras
[ -z "${DPO_BUILD_CA:-}" ] || cp "$DPO_BUILD_CA" "$extras/ca.crt"
[ -z "${DPO_BUILD_WHEELS:-}" ] || { mkdir "$extras/wheels" && cp "$DPO_BUILD_WHEELS"/*.whl "$extras/wheels/"; }
if [ -n "${DPO_BUILD_INDEX:-}${DPO_BUILD_EXTRA_INDEX:-}" ]; then
    { echo '[global]'; [ -z "${DPO_BUILD_INDEX:-}" ] || echo "index-url = $DPO_BUILD_INDEX"
      [ -z "${DPO_BUILD_EXTRA_INDEX:-}" ] || echo "extra-index-url = $DPO_BUILD_EXTRA_INDEX"; } > "$extras/pip.conf"
fi

base=${DPO_BASE_IMAGE:-}
if [ -f "$base" ]; then
    container=$(buildah from scratch)
    buildah add --quiet "$container" "$base" / > /dev/null
    base=$(buildah commit --quiet --timestamp "$epoch" "$container")
    buildah rm "$container" > /dev/null
fi
image=dpo-launcher:$variant-$(git rev-parse --short=12 HEAD)
# A cache from another day would bring its own times. Each stage is one layer: the packages stay apart from the source, and what
# only a build needs is never packed.
buildah build --quiet --no-cache --timestamp "$epoch" --isolation "${ISOLATION:-chroot}" \
    ${base:+--build-arg "BASE_IMAGE=$base"} --build-arg "VARIANT=$variant" --build-arg "REVISION=$(git rev-parse HEAD)" \
    --build-arg "VERSION=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)" --build-arg "CONTENT=$(git rev-parse "HEAD^{tree}" | cut -c1-16)" \
    --file "$work/docker/Dockerfile" --tag "$image" "$work" > "$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }

mkdir -p build
container=$(buildah from --pull-never "$image")
mounted=$(buildah mount "$container")
"${PYTHON:-python3}" docker/sbom.py "$mounted" > "build/.sbom-$variant-$$.json"
mv "build/.sbom-$variant-$$.json" "build/sbom-$variant.json"
buildah rm "$container" > /dev/null
digest=$(buildah inspect --type image --format '{{.FromImageDigest}}' "$image")
if [ -n "${EXPECT:-}" ] && [ "$digest" != "$EXPECT" ]; then
    echo "error: $image has the digest $digest, expected $EXPECT; it is not pushed" >&2
    exit 1
fi
[ -z "${PUSH:-}" ] || buildah push --digestfile "build/digest-$variant" "$image" "docker://$PUSH:${TAG:-$variant-$(git rev-parse --short=12 HEAD)}" >&2
echo "$digest"
