#!/bin/sh
# Inside a stock Linux guest: tries its drivers of emulated devices, `ata_piix`, `sd_mod`, `sr_mod` and `tulip`.
# Arguments: how the first disk of the second channel is accessed, `dma` or `pio`; the checksum of the CD-ROM; `net` if there is a card
# and a driver for it, `untried` if that is for another machine, else why there is none.
mode=$1 sum=$2 net=$3
. /bin/cases.sh
# The block device at a place: its channel (1, 2), its number there (0, 1).
at() {
    for it in /sys/block/s[dr]*; do
        case $(readlink -f "$it") in */ata"$1"/*:0:"$2":0/*) basename "$it" ;; esac
    done
}
is_at() { [ -n "$(at "$1" "$2")" ]; }
size_is() { [ "$(cat /sys/block/"$1"/size)" = "$2" ]; }
interrupts() { awk -v what="$1" '$NF ~ what { for (i = 2; $i ~ /^[0-9]+$/; i++) n += $i } END { print n + 0 }' /proc/interrupts; }
# Its bytes, past the page cache: block size, blocks to skip, blocks.
bytes() { dd if=/dev/"$1" bs="$2" skip="$3" count="$4" iflag=direct 2>/dev/null; }
# The same for writing, from a file.
put() { dd if="$2" of=/dev/"$1" bs="$3" seek="$4" count="$5" oflag=direct conv=notrunc,fsync 2>&1; }
same() { [ "$(md5sum <"$1")" = "$(bytes "$2" "$3" "$4" "$5" | md5sum)" ]; }

for place in "1 0" "1 1" "2 0" "2 1"; do
    # Unquoted: two words.
    try "ide: a drive is found as ata${place% *}.0${place#* }" soon is_at $place
done
try "ide: ata_piix is the controller's driver" test "$(driver /sys/bus/pci/devices/0000:00:01.1)" = ata_piix
d=$(at 1 0) r=$(at 1 1) l=$(at 2 0) c=$(at 2 1)
try "ide: a disk says who it is" grep -q "Enlighten" /sys/block/"$d"/device/model
try "ide: a disk has its size" size_is "$d" 131072
try "ide: its cache is one to be flushed" grep -q "write back" /sys/block/"$d"/queue/write_cache
for place in 1.00 1.01 2.01; do
    try "ide: ata$place is used by DMA" says "ata$place: configured for UDMA/33"
done
if [ "$mode" = dma ]; then
    try "ide: ata2.00 is used by DMA" says "ata2.00: configured for UDMA/33"
else
    try "ide: ata2.00 is used by PIO, as asked for" says "ata2.00: configured for PIO4"
fi
file_system ide "$d"
# More of it by the one processor that does not share the host's with others.
[ "$mode" = dma ] && contents ide "$d" 16 200 8 || contents ide "$d" 4 60 4
if [ "$(cat /sys/block/"$d"/queue/discard_max_bytes)" != 0 ]; then
    try "ide: discard" blkdiscard -o 1048576 -l 1048576 /dev/"$d"
else
    skip "ide: discard" "the image's file system can't"
fi

# Beyond 28 bits of address: three blocks across sector 2^28, and the last of the disk.
try "ide: a disk of 200 GiB has its size" size_is "$l" 419430400
dd if=/bin/busybox of=/tmp/pattern bs=12288 count=1 2>/dev/null
try "ide: sectors on both sides of 128 GiB are written" put "$l" /tmp/pattern 12288 11184810 1
try "ide: they are as they were written" same /tmp/pattern "$l" 12288 11184810 1
dd if=/tmp/pattern of=/tmp/last bs=4096 count=1 2>/dev/null
try "ide: the last sectors of 200 GiB are written" put "$l" /tmp/last 4096 52428799 1
try "ide: they are as they were written, too" same /tmp/last "$l" 4096 52428799 1
try "ide: there are none behind them" test "$(bytes "$l" 4096 52428800 1 | wc -c)" = 0
if [ "$mode" = dma ]; then
    guest-probe random /dev/"$l" 4194304 12 100 4 >/tmp/other 2>&1 &
    other=$!
    try "ide: random work on one channel" guest-probe random /dev/"$d" 4194304 13 100 4
    wait $other
    try "ide: and on the other at the same time" grep -q "probe: ok" /tmp/other
else
    # On KVM a write by port I/O visits the host for each unit of the data register.
    try "ide: 32 KiB are filled by PIO" guest-probe fill /dev/"$l" 32768 7
    try "ide: they are as they were filled" guest-probe check /dev/"$l" 32768 7
    try "ide: 2 MiB are read by PIO" test "$(bytes "$l" 65536 1 32 | tr -d '\000' | wc -c)" = 0
fi
try "ide: both channels interrupt" test "$(interrupts ata_piix)" -gt 100
try "ide: a read-only disk takes no writes" write_fails "$r"
try "ide: but is read" test "$(bytes "$r" 1048576 0 2 | wc -c)" = 2097152
try "ide: its neighbour goes on" guest-probe fill /dev/"$d" 262144 22

try "cd-rom: sr_mod is its driver" test "$c" = sr0
try "cd-rom: it has a tray" says "sr0.*tray"
try "cd-rom: its medium is in" guest-probe tray /dev/"$c" is-loaded
try "cd-rom: all of the medium is as it should be" test "$(md5sum </dev/"$c")" = "$sum  -"
mkdir -p /cd
try "cd-rom: mount" mount -t iso9660 -o ro /dev/"$c" /cd
try "cd-rom: its files are as they should be" sh -c "cd /cd && sha256sum -c sums.txt"
try "cd-rom: unmount" umount /cd
# Else opening the device moves the tray in.
echo 0 >/proc/sys/dev/cdrom/autoclose
try "cd-rom: eject" guest-probe tray /dev/"$c" open
try "cd-rom: the tray is out" guest-probe tray /dev/"$c" is-open
try "cd-rom: nothing can be read" fails dd if=/dev/"$c" of=/dev/null bs=2048 count=1
try "cd-rom: load" guest-probe tray /dev/"$c" close
try "cd-rom: the medium is in again" soon guest-probe tray /dev/"$c" is-loaded
try "cd-rom: mount again" mount -t iso9660 -o ro /dev/"$c" /cd
try "cd-rom: its files are as they were" sh -c "cd /cd && sha256sum -c sums.txt"
try "cd-rom: no eject while it is in use" fails guest-probe tray /dev/"$c" open
try "cd-rom: its medium stays in" guest-probe tray /dev/"$c" is-loaded
umount /cd

packets() { cat /sys/class/net/eth0/statistics/rx_packets; }
# How many frames come in while the host sends 20 to whom it is told.
came() {
    before=$(packets)
    host "$1" >&2
    echo $(($(packets) - before))
}
if [ "$net" = net ]; then
    card tulip 2
    try "network: Linux knows the chip" says "Digital DS21140"
    try "network: the serial ROM's address is the card's" test "$(cat /sys/class/net/eth0/address)" = 02:15:5d:00:00:77
    try "network: its interrupt is level-triggered" grep -q "fasteoi.*eth0" /proc/interrupts
    echo 0 >/proc/sys/net/ipv4/icmp_echo_ignore_broadcasts
    host multicast
    try "network: frames for others are kept out" test "$(came stranger)" -lt 20
    ifconfig eth0 promisc
    try "network: or let in" test "$(came promiscuous)" -ge 20
    ifconfig eth0 -promisc
    try "network: frames for other groups are kept out" test "$(came group)" -lt 20
    ifconfig eth0 allmulti
    try "network: or let in, too" test "$(came all-groups)" -ge 20
    ifconfig eth0 -allmulti
    try "network: no errors" test "$(cat /sys/class/net/eth0/statistics/[rt]x_errors | tr -d '\n')" = 00
    host link-down
    try "network: nothing answers without a cable" fails answers
    # The driver looks at a link that was there once in a minute, and after it is brought up.
    ip link set eth0 down
    ip link set eth0 up
    try "network: the link is gone" soon down
    host link-up
    try "network: the link comes back" soon up
    try "network: ping after it" soon answers
elif [ "$net" != untried ]; then
    skip "network: the card appears" "$net"
fi

try "ide: nothing was lost meanwhile" guest-probe fill /dev/"$d" 1048576 21
echo "SUM $(bytes "$d" 1048576 0 1 | md5sum)"
kernel_is_content
host shutdown
poweroff -f
