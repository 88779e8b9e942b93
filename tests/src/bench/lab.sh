#!/bin/sh
# Beside a guest on our host, wherever KVM is: gives it a disk and a card and has it work.
# Arguments: `ours` or `linux`, how often each work is done, megabytes of memory.
guest=$1 n=$2 memory=$3
. ./beside.sh
export XDG_RUNTIME_DIR=$PWD
rm -f out in && filled bench.img 64 || exit 2
devices="--disk bench.img --net switch=bench-$guest --vps 1 --hv-enable apic-access --memory ${memory}M --report report.json"
if [ "$guest" = ours ]; then
    exec ./hypervisor-host run --kernel ./kernel --cmdline "events log=warn io-bench=$n" $devices
fi
mkfifo in
./hypervisor-host run --kernel linux/vmlinuz --initrd linux/linux-synthetic.cpio \
    --cmdline "console=ttyS0 panic=-1 mitigations=off nopcid quiet" --control c.sock $devices <in >out 2>err &
host=$!
exec 3>in
# Ends everything if the guest never says it.
expect() {
    says "$1" 200 && return
    echo "it never said '$1'"
    cat out err
    kill $host
    exit 1
}
expect 'linux-guest# '
echo "io-bench $n" >&3
expect 'BENCH done'
cat out
# The host writes its report when the machine has ended.
./hypervisor-host ctl --control c.sock shutdown --wait || kill -9 $host
wait $host
exit 0
