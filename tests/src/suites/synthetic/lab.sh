#!/bin/sh
# Beside a Linux guest with synthetic devices. Arguments: VPs, version of VMBus, memory in MiB, more options for the host.
vps=$1 version=$2 memory=$3
shift 3
. ./linux-lab.sh
truncate -s 64M disk.img && truncate -s 8M ro.img && truncate -s 16M hot.img || exit 2
make_net
card=
[ $net = none ] || card="--net tap=tap0,mtu=9000"
# Unquoted: options, or none.
start vmlinuz linux-synthetic.cpio "" --vps "$vps" --memory "${memory}M" --vmbus-version "$version" --disk disk.img --disk ro.img,ro $card "$@"
tell "synthetic-test $version $net"
says 'READY hot-add'
try "host: adds a disk" ctl disk add hot.img,lun=3
answer
says 'READY resize'
truncate -s 32M hot.img
try "host: tells of a larger disk" ctl disk resize 3 32M
answer
says 'READY hot-remove'
try "host: removes a disk" ctl disk remove 3
answer
if [ $net = net ]; then
    says 'READY jumbo'
    try "host: takes jumbo frames" ifconfig tap0 mtu 9000
    answer
    says 'READY link-down'
    try "host: pulls the cable" ctl net link net0 down
    answer
    says 'READY link-up'
    try "host: plugs it in" ctl net link net0 up
    answer
fi
if grep -aq hv_kvp_daemon ../linux/linux-synthetic.cpio; then
    says 'READY kvp'
    try "integration: the guest's name is told" ctl kvp get OSName
    try "integration: a value is set" ctl kvp set Test from-the-host
    answer
fi
says 'READY heartbeat'
try "integration: heartbeats are answered" ctl heartbeat
answer
says 'READY shutdown'
try "integration: the host asks the guest to end" ctl shutdown --wait
switched_off
finish
