#!/bin/sh
# Inside a stock Linux guest: tries its drivers of synthetic devices, and says of each case what came of it:
#   CASE name ok        CASE name FAIL reason        CASE name SKIP reason
# Where the host has to do something, it says `READY what` and waits for a line on the console.
# Arguments: the version of VMBus that must have been agreed on; `net` if there is a card.
version=$1 net=$2

ok() { echo "CASE $1 ok"; }
bad() { echo "CASE $1 FAIL $(echo "$2" | tail -n 3 | tr '\n' ' ' | tail -c 300)"; }
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
host() { echo "READY $1"; read -r answer; }
says() { dmesg | grep -q "$1"; }
disk() { basename "$(ls -d /sys/bus/scsi/devices/*:0:0:"$1"/block/* 2>/dev/null)" 2>/dev/null; }
has_disk() { [ -n "$(disk "$1")" ]; }
lacks_disk() { ! has_disk "$1"; }
size_is() { [ "$(cat /sys/block/"$(disk "$1")"/size)" = "$2" ]; }
write_fails() { ! dd if=/dev/zero of=/dev/"$1" bs=4096 count=1 oflag=direct 2>/dev/null; }

try "vmbus: agrees to version $version" says "Vmbus version:$version"
try "vmbus: finds devices" soon test -n "$(ls /sys/bus/vmbus/devices)"
drivers=$(for device in /sys/bus/vmbus/devices/*; do basename "$(readlink "$device/driver")"; done 2>/dev/null | sort -u | tr '\n' ' ')
echo "drivers: $drivers"
for driver in hv_storvsc hv_utils; do
    case " $drivers" in *" $driver "*) ok "vmbus: $driver is bound" ;; *) bad "vmbus: $driver is bound" "only $drivers" ;; esac
done

try "storage: disks appear" soon has_disk 0
d=$(disk 0)
try "storage: a disk has its size" size_is 0 131072
try "storage: a read-only disk is one" soon has_disk 1
r=$(disk 1)
try "storage: a read-only disk says so" test "$(cat /sys/block/"$r"/ro)" = 1
try "storage: a read-only disk takes no writes" write_fails "$r"
if [ -x /tools/mke2fs ]; then
    mkdir -p /mnt
    try "storage: mkfs" /tools/mke2fs -q -F -t ext4 /dev/"$d"
    try "storage: mount" mount -t ext4 /dev/"$d" /mnt
    try "storage: a file is written" dd if=/bin/busybox of=/mnt/file bs=64k
    sum=$(md5sum </mnt/file)
    try "storage: unmount" umount /mnt
    try "storage: fsck finds nothing" /tools/e2fsck -f -n /dev/"$d"
    try "storage: mount again" mount -t ext4 /dev/"$d" /mnt
    try "storage: the file is as it was" test "$(md5sum </mnt/file)" = "$sum"
    try "storage: unmount again" umount /mnt
else
    echo "CASE storage: mkfs SKIP e2fsprogs is not here"
fi
try "storage: 16 MiB are filled" guest-probe fill /dev/"$d" 16777216 7
try "storage: 16 MiB are as they were filled" guest-probe check /dev/"$d" 16777216 7
try "storage: random work by 8 threads" guest-probe random /dev/"$d" 16777216 9 1500 8
try "storage: discard" blkdiscard -o 1048576 -l 1048576 /dev/"$d"
host hot-add
try "storage: a disk is added" soon has_disk 3
host resize
try "storage: a disk grows" soon size_is 3 65536
guest-probe random /dev/"$(disk 3)" 4194304 11 100000 2 >/tmp/load 2>&1 &
load=$!
sleep 1
host hot-remove
try "storage: a disk is removed under load" soon lacks_disk 3
wait $load
try "storage: the load ended with an error" grep -q "probe: error" /tmp/load
try "storage: the other disk goes on" guest-probe check /dev/"$r" 0 0

if [ "$net" = net ]; then
    up() { [ "$(cat /sys/class/net/eth0/carrier)" = 1 ]; }
    down() { ! up; }
    try "network: the card appears" soon test -e /sys/class/net/eth0
    try "network: hv_netvsc is its driver" test "$(basename "$(readlink /sys/class/net/eth0/device/driver)")" = hv_netvsc
    ip link set lo up
    try "network: an address" ip addr add 10.9.0.2/24 dev eth0
    try "network: up" ip link set eth0 up
    try "network: a link" soon up
    try "network: ping" soon ping -c 1 -W 1 10.9.0.1
    try "network: ping with large packets" ping -c 3 -s 1400 -i 0.2 -W 2 10.9.0.1
    try "network: ping in fragments" ping -c 3 -s 8000 -i 0.2 -W 2 10.9.0.1
    try "network: 4 MiB to the host" guest-probe send 10.9.0.1:7777 4194304 1
    try "network: 4 MiB from the host" guest-probe receive 10.9.0.1:7777 4194304 2
    host jumbo
    try "network: an MTU of 9000" ip link set eth0 mtu 9000
    try "network: ping with jumbo frames" soon ping -c 1 -s 8900 -W 2 10.9.0.1
    try "network: 4 MiB in jumbo frames" guest-probe send 10.9.0.1:7777 4194304 3
    host link-down
    try "network: the link goes" soon down
    host link-up
    try "network: the link comes back" soon up
    try "network: ping after it" soon ping -c 1 -W 1 10.9.0.1
else
    echo "CASE network: the card appears SKIP no TAP device can be made here"
fi

if [ -x /tools/hv_kvp_daemon ]; then
    mkdir -p /var/lib
    /tools/hv_kvp_daemon -n >/dev/null 2>&1 &
    soon test -s /var/lib/hyperv/.kvp_pool_3 || sleep 2
    host kvp
    try "integration: a value of the host arrives" soon grep -q -a "from-the-host" /var/lib/hyperv/.kvp_pool_0
else
    echo "CASE integration: a value of the host arrives SKIP no hv_kvp_daemon"
fi
# The bus's module goes, and comes back with its devices, which everything from here on needs.
clock=$(cat /sys/devices/system/clockevents/clockevent0/current_device)
if [ "$clock" = "Hyper-V clockevent" ]; then
    echo "CASE vmbus: the module goes and comes back SKIP with synthetic timers, Linux stops its own clock when hv_vmbus is removed"
else
    killall hv_kvp_daemon 2>/dev/null
    gone() { rmmod "$1" || ! grep -q "^$1 " /proc/modules; }
    count() { ls /sys/bus/vmbus/devices 2>/dev/null | wc -l; }
    has() { [ "$(count)" = "$1" ]; }
    devices=$(count)
    for module in hv_netvsc hv_storvsc hv_utils hv_vmbus; do try "vmbus: $module goes" soon gone $module; done
    try "vmbus: without its module there is no device" has 0
    for module in hv_vmbus hv_utils hv_storvsc hv_netvsc; do
        try "vmbus: $module comes back" insmod "$(grep "/$module.ko" /modules/list)"
    done
    try "vmbus: agrees to version $version again" test "$(dmesg | grep -c "Vmbus version:$version")" = 2
    try "vmbus: all devices come back" soon has "$devices"
    try "storage: the disk comes back" soon has_disk 0
    d=$(disk 0)
    if [ "$net" = net ]; then
        try "network: the card comes back" soon test -e /sys/class/net/eth0
        try "network: its address comes back" ip addr add 10.9.0.2/24 dev eth0
        try "network: it comes up again" ip link set eth0 up
        try "network: ping after all came back" soon ping -c 1 -W 1 10.9.0.1
    fi
fi
echo "READY heartbeat"
read -r answer
try "storage: nothing was lost meanwhile" guest-probe fill /dev/"$d" 1048576 21
sync
says "BUG\|WARNING: CPU\|Oops" && bad "the kernel is content" "$(dmesg | grep -A3 'BUG\|WARNING: CPU\|Oops')" || ok "the kernel is content"
echo "READY shutdown"
read -r answer
sleep 60
