# To be sourced: a disk that starts on a BIOS, from one ext2 or ext4 partition with /boot/grub/grub.cfg. No root, no loop device, no mount.

GRUB=/usr/lib/grub/i386-pc

# bootable_disk PARTITION DISK MIB: make the raw image DISK of MIB MiB with the boot loader and, from 1 MiB on, the partition.
bootable_disk() {
    local part=$1 disk=$2 mib=$3 core=$2.core
    local sectors=$(( $(stat -c %s "$part") / 512 ))
    [ -f $GRUB/boot.img ] || { echo "no $GRUB/boot.img; install grub-pc-bin" >&2; return 1; }
    truncate -s "${mib}M" "$disk"
    grub-mkimage -d $GRUB -O i386-pc -p '(hd0,msdos1)/boot/grub' -o "$core" biosdisk part_msdos ext2 normal linux
    [ "$(stat -c %s "$core")" -le $((2047 * 512)) ] || { echo "the boot loader does not fit before the partition" >&2; return 1; }
    dd if=$GRUB/boot.img of="$disk" bs=440 count=1 conv=notrunc status=none
    # Partition 1: active, type 83, from sector 2048 on (cylinders and heads: "use the sector numbers").
    printf "\\x80\\xfe\\xff\\xff\\x83\\xfe\\xff\\xff$(_le32 2048)$(_le32 $sectors)" |
        dd of="$disk" bs=1 seek=446 conv=notrunc status=none
    printf '\x55\xaa' | dd of="$disk" bs=1 seek=510 conv=notrunc status=none
    dd if="$core" of="$disk" bs=512 seek=1 conv=notrunc status=none
    dd if="$part" of="$disk" bs=1M seek=1 conv=notrunc,sparse status=none
    rm "$core"
}

_le32() { printf '\\x%02x\\x%02x\\x%02x\\x%02x' $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) $(($1 >> 24 & 255)); }
