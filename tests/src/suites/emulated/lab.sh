#!/bin/sh
# Beside a Linux guest with emulated devices. Arguments: VPs; kernel and initial file system; how the second channel's disk is accessed
# (`dma`, `pio`); `net` if the kernel has a driver for the card, `untried` if another machine tries it, else why there is none.
vps=$1 kernel=$2 initrd=$3 mode=$4 wanted=$5
. ./linux-lab.sh
# Only the last has more than 28 bits of address; all are holes.
truncate -s 64M disk.img && truncate -s 8M ro.img && truncate -s 200G large.img || exit 2
card=
if [ "$wanted" = net ]; then
    make_net
    [ $net = net ] && card="--net tap=tap0,model=tulip,mac=02:15:5d:00:00:77" || wanted="no TAP device can be made here"
fi
words="ipv6.disable=1"
[ "$mode" = dma ] || words="$words libata.force=2.00:pio4"
# Unquoted: options, or none.
start "$kernel" "$initrd" "$words" --vps "$vps" --memory 256M --disk disk.img,ide=0 --disk ro.img,ro,ide=1 \
    --disk large.img,ide=2 --disk ../emulated.iso,cdrom,ide=3 $card
tell "emulated-test $mode $(md5sum <../emulated.iso | cut -d ' ' -f 1) '$wanted'"
if [ $net = net ]; then
    says 'READY multicast'
    try "network: a frame to all hosts of the network is answered" ping -c 2 -W 10 -I tap0 224.0.0.1
    answer
    arp -i tap0 -s 10.9.0.77 02:00:00:00:00:77 || ip neigh replace 10.9.0.77 lladdr 02:00:00:00:00:77 dev tap0
    for step in stranger promiscuous; do
        says "READY $step"
        ping -c 20 -i 0.02 -W 1 10.9.0.77 >/dev/null 2>&1
        answer
    done
    for step in group all-groups; do
        says "READY $step"
        ping -c 20 -i 0.02 -W 1 -I tap0 224.0.0.99 >/dev/null 2>&1
        answer
    done
    says 'READY link-down'
    try "host: pulls the cable" ctl net link net0 down
    answer
    says 'READY link-up'
    try "host: plugs it in" ctl net link net0 up
    answer
fi
says 'READY shutdown'
answer
switched_off
written=$(sed -n 's/^SUM \([0-9a-f]*\).*/\1/p' out)
try "ide: what Linux wrote is in the disk's file" test "$(dd if=disk.img bs=1M count=1 2>/dev/null | md5sum | cut -d ' ' -f 1)" = "$written"
finish
