# Sourced by scripts that run inside a stock Linux guest. Says of each case what came of it:
#   CASE name ok        CASE name FAIL reason        CASE name SKIP reason
# Where the host has to do something, it says `READY what` and waits for a line on the console.

# What the kernel has to say must not come into the middle of such a line.
dmesg -n 1
ok() { echo "CASE $1 ok"; }
bad() { echo "CASE $1 FAIL $(echo "$2" | tail -n 3 | tr '\n' ' ' | tail -c 300)"; }
skip() { echo "CASE $1 SKIP $2"; }
try() {
    name=$1
    shift
    if out=$("$@" 2>&1); then ok "$name"; else bad "$name" "$out"; fi
}
# Waits until a command succeeds.
soon() {
    n=0
    until "$@" >/dev/null 2>&1; do
        n=$((n + 1))
        [ $n -le 40 ] || return 1
        sleep 0.5
    done
}
fails() { ! "$@"; }
host() { echo "READY $1"; read -r answer; }
says() { dmesg | grep -q "$1"; }
driver() { basename "$(readlink "$1/driver")"; }
write_fails() { ! dd if=/dev/zero of=/dev/"$1" bs=4096 count=1 oflag=direct 2>/dev/null; }

# file_system WHAT DISK: a file system is made, used, checked and used again.
file_system() {
    if [ ! -x /tools/mke2fs ]; then
        skip "$1: mkfs" "e2fsprogs is not here"
        return
    fi
    mkdir -p /mnt
    try "$1: mkfs" /tools/mke2fs -q -F -t ext4 /dev/"$2"
    try "$1: mount" mount -t ext4 /dev/"$2" /mnt
    try "$1: a file is written" dd if=/bin/busybox of=/mnt/file bs=64k
    sum=$(md5sum </mnt/file)
    try "$1: unmount" umount /mnt
    try "$1: fsck finds nothing" /tools/e2fsck -f -n /dev/"$2"
    try "$1: mount again" mount -t ext4 /dev/"$2" /mnt
    try "$1: the file is as it was" test "$(md5sum </mnt/file)" = "$sum"
    try "$1: unmount again" umount /mnt
}
# contents WHAT DISK MIB OPERATIONS THREADS
contents() {
    try "$1: $3 MiB are filled" guest-probe fill /dev/"$2" $(($3 << 20)) 7
    try "$1: $3 MiB are as they were filled" guest-probe check /dev/"$2" $(($3 << 20)) 7
    try "$1: random work by $5 threads" guest-probe random /dev/"$2" $(($3 << 20)) 9 "$4" "$5"
}

up() { [ "$(cat /sys/class/net/eth0/carrier)" = 1 ]; }
down() { ! up; }
answers() { ping -c 1 -W 1 10.9.0.1; }
# card DRIVER MIB: the first card comes up, and so much goes both ways.
card() {
    try "network: the card appears" soon test -e /sys/class/net/eth0
    try "network: $1 is its driver" test "$(driver /sys/class/net/eth0/device)" = "$1"
    ip link set lo up
    try "network: an address" ip addr add 10.9.0.2/24 dev eth0
    try "network: up" ip link set eth0 up
    try "network: a link" soon up
    try "network: ping" soon answers
    try "network: ping with large packets" ping -c 3 -s 1400 -i 0.2 -W 2 10.9.0.1
    try "network: ping in fragments" ping -c 3 -s 8000 -i 0.2 -W 2 10.9.0.1
    try "network: $2 MiB to the host" guest-probe send 10.9.0.1:7777 $(($2 << 20)) 1
    try "network: $2 MiB from the host" guest-probe receive 10.9.0.1:7777 $(($2 << 20)) 2
}

# What Linux says of itself at the end.
kernel_is_content() {
    wrong='BUG\|WARNING: CPU\|Oops\|nobody cared\|NETDEV WATCHDOG'
    if says "$wrong"; then bad "the kernel is content" "$(dmesg | grep -A3 "$wrong")"; else ok "the kernel is content"; fi
}
