#!/bin/bash
# Builds the demo guest: a bootable disk image of some 20 MB, made of Debian's cloud kernel and busybox.
#
#   scripts/build_guest.sh OUTDIR            -> OUTDIR/tiny.raw        OUTDIR/tiny.qcow2
#   scripts/build_guest.sh OUTDIR agent      -> OUTDIR/tiny-agent.raw  OUTDIR/tiny-agent.qcow2, with the QEMU guest agent
#
# Needs no root, no loop device and no mount. A second run does nothing where the images are up to date.
# Debian packages that have to be installed: cpio e2fsprogs grub-common grub-pc-bin kmod qemu-utils
# Debian packages that are only downloaded and unpacked (nothing gets into the host's /boot), and kept in
# OUTDIR/.packages: busybox-static, the kernel that linux-image-cloud-amd64 depends on, and what the agent needs
#
# What the guest does is told in examples/guest/README.md; its init script is examples/guest/init.
set -euo pipefail
export LC_ALL=C SOURCE_DATE_EPOCH=1700000000
PATH=$PATH:/usr/sbin:/sbin
umask 022

die() { echo "build_guest: $*" >&2; exit 1; }

case "${2-}" in '') name=tiny ;; agent) name=tiny-agent ;; *) name= ;; esac
{ [ $# -ge 1 ] && [ $# -le 2 ] && [ -n "$name" ]; } || { echo "usage: $0 OUTDIR [agent]" >&2; exit 2; }
HERE=$(cd "$(dirname "$0")" && pwd)
INIT=$HERE/../examples/guest/init
ACPI=$HERE/../examples/guest/power-button
DHCP=$HERE/../examples/guest/dhcp-event
STATUS=$HERE/../examples/guest/status.cgi
USERADD=$HERE/../examples/guest/useradd
CHPASSWD=$HERE/../examples/guest/chpasswd
. "$HERE/bootable_disk.sh"
mkdir -p "$1"; OUT=$(cd "$1" && pwd)
exec 9> "$OUT/.lock"; flock -w 300 9 || die "another build in $OUT does not end"

# Up to date: the recipe is the same and both images are there.
recipe=$(cat "$0" "$HERE/bootable_disk.sh" "$INIT" "$ACPI" "$DHCP" "$STATUS" "$USERADD" "$CHPASSWD" | sha256sum | cut -d' ' -f1)
if [ -s "$OUT/$name.raw" ] && [ -s "$OUT/$name.qcow2" ] && [ "$(cat "$OUT/.recipe-$name" 2>/dev/null)" = "$recipe" ]; then
    echo "build_guest: $OUT/$name.raw and $name.qcow2 are up to date"
    exit 0
fi

for tool in apt-get apt-cache dpkg-deb cpio mke2fs grub-mkimage depmod modprobe qemu-img; do
    command -v $tool >/dev/null || die "no $tool; install cpio e2fsprogs grub-common grub-pc-bin kmod qemu-utils"
done
[ -f $GRUB/boot.img ] || die "no $GRUB/boot.img; install grub-pc-bin"

# A failed or killed build leaves the old images in place, and its work directory only until the next build.
rm -rf "$OUT"/.build.*
W=$(mktemp -d "$OUT/.build.XXXXXX"); trap 'rm -rf "$W"' EXIT
CACHE=$OUT/.packages; mkdir -p "$CACHE"

# unpack PACKAGE: into $W/p, from the cache or the package servers.
unpack() {
    local deb
    deb=$(find "$CACHE" -name "$1_*.deb" | sort -V | tail -1)
    if [ -z "$deb" ]; then
        mkdir -p "$W/get"
        (cd "$W/get" && apt-get -q -o APT::Sandbox::User="$(id -un)" download "$1" >&2) ||
            die "cannot download package $1; run 'apt-get update' and try again"
        mv "$W"/get/*.deb "$CACHE/"
        deb=$(find "$CACHE" -name "$1_*.deb" | sort -V | tail -1)
    fi
    dpkg-deb -x "$deb" "$W/p" || { rm -f "$deb"; die "package file of $1 was damaged; try again"; }
}

kernel=$(find "$CACHE" -name 'linux-image-*-cloud-amd64_*.deb' -printf '%f\n' | sed 's/_.*//' | sort -V | tail -1)
if [ -z "$kernel" ]; then
    kernel=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p' | head -1)
    [ -n "$kernel" ] || die "package linux-image-cloud-amd64 is unknown here; run 'apt-get update' and try again"
fi
echo "build_guest: packages $kernel and busybox-static"
unpack "$kernel"
unpack busybox-static
KV=${kernel#linux-image-}
VMLINUZ=$W/p/boot/vmlinuz-$KV
[ -f "$VMLINUZ" ] || die "package $kernel holds no kernel for $KV"
depmod -b "$W/p" "$KV"

# The initial root file system is all there is: nothing is read from the disk after the boot loader.
R=$W/root
mkdir -p "$R"/{bin,sbin,dev,proc,sys,run,tmp,root,mnt,etc/acpi/PWRF,lib/modules,usr/share/udhcpc,www/cgi-bin}
cp "$W/p/bin/busybox" "$R/bin/busybox"
for applet in $("$W/p/bin/busybox" --list); do [ -e "$R/bin/$applet" ] || ln -s busybox "$R/bin/$applet"; done
: > "$R/lib/modules/order"
for module in virtio_pci virtio_blk virtio_net virtio_console button evdev isofs; do
    { modprobe -d "$W/p" -S "$KV" --show-depends $module || die "no kernel module $module"; } |
        sed -n 's/^insmod \([^ ]*\).*/\1/p' | while read -r file; do
            name=$(basename "$file")
            [ -e "$R/lib/modules/$name" ] || { cp "$file" "$R/lib/modules/$name"; echo "$name" >> "$R/lib/modules/order"; }
        done
done
echo 'root:x:0:0:root:/root:/bin/sh' > "$R/etc/passwd"
echo 'root:x:0:' > "$R/etc/group"
install -m 755 "$INIT" "$R/init"
install -m 755 "$ACPI" "$R/etc/acpi/PWRF/00000080"
install -m 755 "$DHCP" "$R/usr/share/udhcpc/default.script"
install -m 755 "$STATUS" "$R/www/cgi-bin/index.cgi"
if [ $name = tiny-agent ]; then
    for package in qemu-guest-agent libglib2.0-0 libpcre2-8-0 libudev1 liburing2 libnuma1 libc6; do unpack $package; done
    mkdir -p "$R"/{usr/sbin,lib64,var/run,home}
    cp "$W/p/usr/sbin/qemu-ga" "$R/usr/sbin/"
    cp -L "$W/p/lib64/ld-linux-x86-64.so.2" "$R/lib64/"
    "$W/p/lib64/ld-linux-x86-64.so.2" --library-path "$W/p/usr/lib/x86_64-linux-gnu:$W/p/lib/x86_64-linux-gnu" \
        --list "$R/usr/sbin/qemu-ga" | sed -n 's/.* => \([^ ]*\).*/\1/p' | while read -r library; do
            case $library in "$W"/*) cp -L "$library" "$R/lib/" ;; *) die "the agent needs $library, which is in no package here" ;; esac
        done
    # The agent's own way to power off; accounts can have passwords.
    printf '#!/bin/sh\necho TINY-SHUTDOWN-BY-AGENT > /dev/ttyS0\nsync\npoweroff -f\n' > "$R/sbin/shutdown.new"
    rm -f "$R/sbin/shutdown"; mv "$R/sbin/shutdown.new" "$R/sbin/shutdown"; chmod 755 "$R/sbin/shutdown"
    install -m 755 "$USERADD" "$CHPASSWD" "$R/sbin/"
    echo 'root:*:19000:0:99999:7:::' > "$R/etc/shadow"; chmod 600 "$R/etc/shadow"
fi
find "$R" -exec touch -h -d @$SOURCE_DATE_EPOCH {} +
(cd "$R" && find . -print0 | sort -z | cpio --quiet --null -o -H newc -R 0:0 --reproducible) | gzip -9n > "$W/initrd.img"

# The disk: boot record, boot loader from sector 1, one ext2 partition from 1 MiB on.
mkdir -p "$W/b/boot"
cp "$VMLINUZ" "$W/b/boot/vmlinuz"; cp "$W/initrd.img" "$W/b/boot/initrd.img"
mkdir "$W/b/boot/grub"
cat > "$W/b/boot/grub/grub.cfg" <<'CFG'
linux /boot/vmlinuz console=tty0 console=ttyS0,115200 quiet loglevel=3 panic=5 mitigations=off random.trust_cpu=on
initrd /boot/initrd.img
boot
CFG
find "$W/b" -exec touch -h -d @$SOURCE_DATE_EPOCH {} +
mib=$(( ($(stat -c %s "$VMLINUZ") + $(stat -c %s "$W/initrd.img")) / 1048576 + 3 ))
truncate -s ${mib}M "$W/part"
mke2fs -q -t ext2 -b 4096 -m 0 -N 64 -L tiny -U 6f1d2c3b-0000-4000-8000-74696e790001 \
    -E hash_seed=6f1d2c3b-0000-4000-8000-74696e790002,root_owner=0:0 -d "$W/b" "$W/part"
bootable_disk "$W/part" "$W/$name.raw" $((mib + 1))
qemu-img convert -f raw -O qcow2 "$W/$name.raw" "$W/$name.qcow2"

rm -f "$OUT/.recipe-$name"
mv "$W/$name.raw" "$W/$name.qcow2" "$OUT/"
echo "$recipe" > "$OUT/.recipe-$name"
ls -lhs "$OUT"/$name.*
