#!/bin/bash
# Builds what `make bench` compares our API server with: a kube-apiserver and its etcd.
#
#   scripts/build_peer.sh OUTDIR      -> OUTDIR/kube-apiserver, OUTDIR/etcd
#
# From Debian's packages alone: the newest kubernetes source package of Debian that holds the whole server (1.20.2, of
# Debian 12; later ones hold kubectl only). Takes five to fifteen minutes on two cores, 4 GB of disk while it runs, and no rights
# where user namespaces are allowed. A second run does nothing.
# Debian packages that have to be installed: mmdebstrap
set -euo pipefail
export LC_ALL=C
RELEASE=bookworm

die() { echo "build_peer: $*" >&2; exit 1; }

[ $# -eq 1 ] || { echo "usage: $0 OUTDIR" >&2; exit 2; }
mkdir -p "$1"; OUT=$(cd "$1" && pwd)
exec 9> "$OUT/.lock"; flock -w 3600 9 || die "another build in $OUT does not end"
if [ -x "$OUT/kube-apiserver" ] && [ -x "$OUT/etcd" ]; then
    echo "build_peer: $OUT is up to date"
    exit 0
fi
command -v mmdebstrap >/dev/null || die "no mmdebstrap; install it"
W=$(mktemp -d "$OUT/.build.XXXXXX"); trap 'rm -rf "$W"' EXIT
chmod 755 "$W"

# The host's own archive of Debian, but this release.
site=$(apt-get indextargets --format '$(CODENAME) $(SITE)' 'Created-By: Packages' 'Origin: Debian' | awk '$1 !~ /-/ { print $2; exit }')
[ -n "$site" ] || die "apt knows no archive of Debian; run 'apt-get update' and try again"
printf 'deb %s %s main\ndeb-src %s %s main\n' "$site" $RELEASE "$site" $RELEASE > "$W/sources.list"

# The source's own build, for this one program. Without GOFLAGS: its scripts take them apart in a way that this Go refuses.
cat > "$W/build" <<'BUILD'
set -eu
mkdir /srv/peer
cd /srv/peer
apt-get source -qq kubernetes
cd kubernetes-*/
mkdir -p .go/src/k8s.io
ln -s ../../.. .go/src/k8s.io/kubernetes
unset GOFLAGS
HOME=$PWD GOPATH=$PWD/.go CGO_ENABLED=0 make WHAT=cmd/kube-apiserver
cp _output/bin/kube-apiserver /usr/bin/etcd /srv/peer/
BUILD
echo "build_peer: building kube-apiserver from source; this takes a while"
mmdebstrap --variant=buildd --include=ca-certificates,golang-go,rsync,etcd-server --format=null --quiet --dpkgopt=force-unsafe-io \
    --customize-hook="upload '$W/build' /srv/build" --customize-hook='chroot "$1" sh /srv/build' \
    --customize-hook="download /srv/peer/kube-apiserver '$W/kube-apiserver'" --customize-hook="download /srv/peer/etcd '$W/etcd'" \
    $RELEASE - "$W/sources.list" > "$W/log" 2>&1 || { tail -20 "$W/log" >&2; die "the build failed"; }
chmod 755 "$W/kube-apiserver" "$W/etcd"
mv "$W/kube-apiserver" "$W/etcd" "$OUT/"
"$OUT/kube-apiserver" --version
"$OUT/etcd" --version | head -1
