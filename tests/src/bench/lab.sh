#!/bin/sh
# Beside a guest on our host, wherever KVM is: gives it a disk and a card and has it work.
# Arguments: `ours` or `linux`, how often each work is done, megabytes of memory.
guest=$1 n=$2 memory=$3
export XDG_RUNTIME_DIR=$PWD
rm -f bench.img out in && truncate -s 64M bench.img || exit 2
# A hole reads faster than a block.
dd if=/dev/zero of=bench.img bs=1M count=64 conv=notrunc 2>/dev/null
devices="--disk bench.img --net switch=bench-$guest --vps 1 --hv-enable apic-access --memory ${memory}M --report report.json"
if [ "$guest" = ours ]; then
    exec ./hypervisor-host run --kernel ./kernel --cmdline "events log=warn io-bench=$n" $devices
fi
mkfifo in
./hypervisor-host run --kernel linux/vmlinuz --initrd linux/linux-synthetic.cpio \
    --cmdline "console=ttyS0 panic=-1 mitigations=off nopcid quiet" --control c.sock $devices <in >out 2>err &
host=$!
exec 3>in
# Waits until the guest has said it; ends everything if it never does.
says() {
    t=0
    until grep -q "$1" out; do
        t=$((t + 1))
        if [ $t -gt 400 ] || ! kill -0 $host 2>/dev/null; then
            echo "it never said '$1'"
            cat out err
            kill $host
            exit 1
        fi
        sleep 0.5
    done
}
says 'linux-guest# '
echo "io-bench $n" >&3
says 'BENCH done'
cat out
# The host writes its report when the machine has ended.
./hypervisor-host ctl --control c.sock shutdown --wait || kill -9 $host
wait $host
exit 0
