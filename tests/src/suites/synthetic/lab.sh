#!/bin/sh
# Beside a Linux guest on our host, wherever KVM is: makes disks and a network, does what the guest asks for, and says what
# came of it by the same CASE lines. Arguments: VPs, version of VMBus, memory in MiB, more options for the host.
vps=$1 version=$2 memory=$3
shift 3
rm -rf io && mkdir io && cd io || exit 2
truncate -s 64M disk.img && truncate -s 8M ro.img && truncate -s 16M hot.img || exit 2

net=none card=
if tunctl -t tap0 >/dev/null 2>&1 || ip tuntap add dev tap0 mode tap 2>/dev/null; then
    ifconfig tap0 10.9.0.1 netmask 255.255.255.0 mtu 1500 up
    ../guest-probe serve 10.9.0.1:7777 >probe.log 2>&1 &
    probe=$!
    net=net card="--net tap=tap0,mtu=9000"
fi

mkfifo in
../hypervisor-host run --kernel ../linux/vmlinuz --initrd ../linux/linux-synthetic.cpio --vps "$vps" --memory "${memory}M" \
    --cmdline "console=ttyS0 panic=-1 mitigations=off nopcid quiet" --vmbus-version "$version" \
    --disk disk.img --disk ro.img,ro $card --control c.sock --report ../report.json --verbose "$@" <in >out 2>err &
host=$!
exec 3>in
# What the guest says goes on to whoever watches.
tail -f out &
tail=$!

ctl() { ../hypervisor-host ctl --control c.sock "$@"; }
# Kept until the end, so that they do not come into the middle of the guest's lines.
ok() { echo "CASE $1 ok" >>cases; }
bad() { echo "CASE $1 FAIL $2" >>cases; }
# The rest of what the guest said, and then ours. The network goes: whoever comes next in this lab may use the same addresses.
finish() {
    sleep 2
    kill $tail
    if [ $net = net ]; then
        kill $probe
        ifconfig tap0 down
        tunctl -d tap0 >/dev/null 2>&1 || ip tuntap del dev tap0 mode tap
    fi
    echo
    cat cases
    exit 0
}
# Waits until the guest has said it; ends everything if it never does.
says() {
    n=0
    until grep -q "$1" out; do
        n=$((n + 1))
        if [ $n -gt 400 ] || ! kill -0 $host 2>/dev/null; then
            bad "the guest goes on" "it never said '$1'; $(tail -n 3 err | tr '\n' ' ')"
            kill $host
            finish
        fi
        sleep 0.5
    done
}
answer() { echo done >&3; }
try() {
    name=$1
    shift
    if out=$("$@" 2>&1); then ok "$name"; else bad "$name" "$(echo "$out" | tr '\n' ' ' | tail -c 300)"; fi
}

says 'linux-guest# '
ok "Linux boots"
echo "synthetic-test $version $net" >&3
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
wait $host
code=$?
[ $code = 0 ] && ok "Linux switches off when asked" || bad "Linux switches off when asked" "code $code; $(tail -n 3 err | tr '\n' ' ')"
finish
