#!/bin/sh
# Inside a stock Linux guest: disk and network work between marks. Argument: how often each.
n=$1
d=/dev/$(basename "$(ls -d /sys/bus/scsi/devices/*:0:0:0/block/* 2>/dev/null)")
say() {
    path=$1 work=$2 depth=$3 count=$4 bytes=$5
    shift 5
    out=$(guest-probe "$@" 2>&1)
    echo "IO $path $work $depth $count $bytes ${out#probe: ok elapsed_100ns }"
}
# What is set up at first use does not count.
dd if=/dev/zero of="$d" bs=4096 count=64 oflag=direct 2>/dev/null
echo none >/sys/block/"${d#/dev/}"/queue/scheduler
for work in read write; do
    for depth in 1 32; do
        say storvsc $work $depth "$n" 4096 bench-blocks "$d" $work $depth "$n"
    done
done
if [ -e /sys/class/net/eth0 ]; then
    ip addr add 10.9.0.2/24 dev eth0
    ip link set eth0 up
    # Nobody's address, as in the kernel's job.
    arp -s 10.9.0.1 02:00:00:00:00:ee
    sleep 1
    say netvsc send 0 "$n" 1514 bench-packets 10.9.0.1:9 "$n"
fi
echo "BENCH done"
sleep 60
