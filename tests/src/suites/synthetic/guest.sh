#!/bin/sh
# Inside a stock Linux guest: tries its drivers of synthetic devices.
# Arguments: the version of VMBus that must have been agreed on; `net` if there is a card.
version=$1 net=$2
. /bin/cases.sh
disk() { basename "$(ls -d /sys/bus/scsi/devices/*:0:0:"$1"/block/* 2>/dev/null)" 2>/dev/null; }
has_disk() { [ -n "$(disk "$1")" ]; }
lacks_disk() { ! has_disk "$1"; }
size_is() { [ "$(cat /sys/block/"$(disk "$1")"/size)" = "$2" ]; }

try "vmbus: agrees to version $version" says "Vmbus version:$version"
try "vmbus: finds devices" soon test -n "$(ls /sys/bus/vmbus/devices)"
drivers=$(for device in /sys/bus/vmbus/devices/*; do driver "$device"; done 2>/dev/null | sort -u | tr '\n' ' ')
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
file_system storage "$d"
contents storage "$d" 16 1500 8
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
    card hv_netvsc 4
    host jumbo
    try "network: an MTU of 9000" ip link set eth0 mtu 9000
    try "network: ping with jumbo frames" soon ping -c 1 -s 8900 -W 2 10.9.0.1
    try "network: 4 MiB in jumbo frames" guest-probe send 10.9.0.1:7777 4194304 3
    host link-down
    try "network: the link goes" soon down
    host link-up
    try "network: the link comes back" soon up
    try "network: ping after it" soon answers
else
    skip "network: the card appears" "no TAP device can be made here"
fi

if [ -x /tools/hv_kvp_daemon ]; then
    mkdir -p /var/lib
    /tools/hv_kvp_daemon -n >/dev/null 2>&1 &
    soon test -s /var/lib/hyperv/.kvp_pool_3 || sleep 2
    host kvp
    try "integration: a value of the host arrives" soon grep -q -a "from-the-host" /var/lib/hyperv/.kvp_pool_0
else
    skip "integration: a value of the host arrives" "no hv_kvp_daemon"
fi
# The bus's module goes, and comes back with its devices, which everything from here on needs.
clock=$(cat /sys/devices/system/clockevents/clockevent0/current_device)
if [ "$clock" = "Hyper-V clockevent" ]; then
    skip "vmbus: the module goes and comes back" "with synthetic timers, Linux stops its own clock when hv_vmbus is removed"
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
        try "network: ping after all came back" soon answers
    fi
fi
host heartbeat
try "storage: nothing was lost meanwhile" guest-probe fill /dev/"$d" 1048576 21
sync
kernel_is_content
host shutdown
sleep 60
