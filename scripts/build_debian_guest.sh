#!/bin/bash
# Builds a Debian disk image as a cloud would have it, for tests: systemd, cloud-init, OpenSSH, the QEMU guest agent.
#
#   scripts/build_debian_guest.sh OUTDIR [PACKAGE...]      -> OUTDIR/debian.qcow2, with further packages in it
#
# Of the release and from the archives that this host's apt knows. Needs no loop device and no mount; where it is not run as
# root, user namespaces. A second run does nothing where the image is up to date.
# Debian packages that have to be installed: e2fsprogs grub-common grub-pc-bin mmdebstrap qemu-utils
set -euo pipefail
export LC_ALL=C
PATH=$PATH:/usr/sbin:/sbin
umask 022

die() { echo "build_debian_guest: $*" >&2; exit 1; }

[ $# -ge 1 ] || { echo "usage: $0 OUTDIR [PACKAGE...]" >&2; exit 2; }
HERE=$(cd "$(dirname "$0")" && pwd)
. "$HERE/bootable_disk.sh"
mkdir -p "$1"; OUT=$(cd "$1" && pwd); shift
exec 9> "$OUT/.lock"; flock -w 600 9 || die "another build in $OUT does not end"
recipe=$({ cat "$0" "$HERE/bootable_disk.sh"; echo "$@"; } | sha256sum | cut -d' ' -f1)
if [ -s "$OUT/debian.qcow2" ] && [ "$(cat "$OUT/.recipe" 2>/dev/null)" = "$recipe" ]; then
    echo "build_debian_guest: $OUT/debian.qcow2 is up to date"
    exit 0
fi
for tool in mmdebstrap mke2fs grub-mkimage qemu-img; do
    command -v $tool >/dev/null || die "no $tool; install e2fsprogs grub-common grub-pc-bin mmdebstrap qemu-utils"
done
rm -rf "$OUT"/.build.*
W=$(mktemp -d "$OUT/.build.XXXXXX"); trap 'rm -rf "$W"' EXIT
chmod 755 "$W"

# The host's own archives of Debian; the release is that of the first one without a suffix.
apt-get indextargets --format 'deb $(SITE) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' 'Origin: Debian' |
    sort -u > "$W/sources.list"
release=$(awk '$3 !~ /-/ { print $3; exit }' "$W/sources.list")
[ -n "$release" ] || die "apt knows no archive of Debian; run 'apt-get update' and try again"

packages=systemd-sysv,dbus,udev,linux-image-cloud-amd64,initramfs-tools,iproute2,netbase
packages+=,cloud-init,cloud-guest-utils,openssh-server,qemu-guest-agent
for package; do packages+=,$package; done

# What a first boot under software emulation need not spend its time on.
cat > "$W/90-lean.cfg" <<'CFG'
datasource_list: [NoCloud, None]
locale: false
apt_preserve_sources_list: true
cloud_init_modules: [seed_random, bootcmd, write-files, growpart, resizefs, set_hostname, update_hostname, users-groups, ssh]
cloud_config_modules: [set-passwords, runcmd]
cloud_final_modules: [scripts-per-boot, scripts-per-instance, scripts-user, final-message]
CFG
cat > "$W/customize" <<'HOOK'
set -eu
root=$1 work=$2
# The initial file system holds what finds the disk, and nothing else.
printf 'MODULES=list\nCOMPRESS=gzip\n' > "$root/etc/initramfs-tools/conf.d/lean"
printf 'virtio_pci\nvirtio_blk\n' >> "$root/etc/initramfs-tools/modules"
chroot "$root" update-initramfs -u -k all
kernel=$(basename "$root"/boot/vmlinuz-*)
ln -s "$kernel" "$root/boot/vmlinuz"
ln -s "initrd.img-${kernel#vmlinuz-}" "$root/boot/initrd.img"
mkdir -p "$root/boot/grub"
cat > "$root/boot/grub/grub.cfg" <<'CFG'
linux /boot/vmlinuz root=LABEL=debian ro console=tty0 console=ttyS0,115200 quiet mitigations=off random.trust_cpu=on
initrd /boot/initrd.img
boot
CFG
echo 'LABEL=debian / ext4 defaults,noatime 0 1' > "$root/etc/fstab"
cp "$work/90-lean.cfg" "$root/etc/cloud/cloud.cfg.d/"
chroot "$root" systemctl --quiet enable systemd-networkd
chroot "$root" systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
    e2scrub_reap.service fstrim.timer motd-news.timer systemd-networkd-wait-online.service systemd-timesyncd.service
rm -f "$root"/etc/ssh/ssh_host_* "$root"/etc/machine-id "$root"/var/lib/dbus/machine-id
echo uninitialized > "$root/etc/machine-id"
rm -rf "$root"/usr/share/doc/* "$root"/usr/share/man/* "$root"/usr/share/locale/*
# Without what is mounted there.
mkdir "$work/files"
tar -C "$root" -c --exclude='./proc/*' --exclude='./sys/*' --exclude='./dev/*' --exclude='./run/*' . | tar -C "$work/files" -xp
# The files, a quarter more for what ext4 itself needs and for what packages want on a first boot, and the journal.
truncate -s $(($(du -sm "$work/files" | cut -f1) * 5 / 4 + 100))M "$work/part"
mke2fs -q -t ext4 -m 0 -L debian -d "$work/files" "$work/part"
rm -rf "$work/files"
HOOK
mmdebstrap --variant=minbase --include=$packages --format=null --quiet \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt=force-unsafe-io \
    --customize-hook="sh '$W/customize' \"\$1\" '$W'" "$release" - "$W/sources.list" > "$W/log" 2>&1 ||
    { tail -20 "$W/log" >&2; die "mmdebstrap failed"; }
bootable_disk "$W/part" "$W/debian.raw" $(($(stat -c %s "$W/part") / 1048576 + 1))
rm -f "$OUT/.recipe"
qemu-img convert -f raw -O qcow2 "$W/debian.raw" "$W/debian.qcow2"
mv "$W/debian.qcow2" "$OUT/"
echo "$recipe" > "$OUT/.recipe"
ls -lhs "$OUT/debian.qcow2"
