#!/bin/sh
# Beside a guest, wherever KVM is: gives it disks and cards of every kind that its monitor has, has it work, and sends it frames when it wants some.
# Arguments: the system (`ours`, `linux`, `linux-pio`, `qemu-linux`), its paths with commas between them, how often each work is done.
# For `qemu-linux` the words that start QEMU follow.
system=$1 paths=$2 n=$3
shift 3
export XDG_RUNTIME_DIR=$PWD
rm -f out in marks && touch out || exit 2
for disk in synthetic ide virtio; do
    # A hole reads faster than a block.
    dd if=/dev/zero of=$disk.img bs=1M count=64 2>/dev/null || exit 2
done
# Our kernel writes only to an IDE disk that says it may.
printf 'ENLIGHTEN SCRATCH DISK, 1       ' | dd of=ide.img conv=notrunc 2>/dev/null
for tap in tap0 tap1; do
    if tunctl -t $tap >/dev/null 2>&1 || ip tuntap add dev $tap mode tap 2>/dev/null; then
        # No answers of this side, and no questions.
        echo 1 >/proc/sys/net/ipv6/conf/$tap/disable_ipv6 2>/dev/null
        ifconfig $tap mtu 9000 up
    else
        echo "NO TAP"
    fi
done
cards="--net tap=tap0,mtu=9000 --net tap=tap1,model=tulip"
disks="--disk synthetic.img --disk ide.img,ide"
common="--vps 1 --hv-enable apic-access --report report.json"
quiet="console=ttyS0 panic=-1 mitigations=off nopcid quiet ipv6.disable=1"
mkfifo in
case $system in
ours)
    ./hypervisor-host run --kernel ./kernel --memory 128M $common $disks $cards \
        --cmdline "events log=warn io-bench=$n io-works=all io-paths=$paths" >out 2>err &
    ;;
linux | linux-pio)
    [ $system = linux ] || quiet="$quiet libata.dma=0"
    ./hypervisor-host run --kernel linux/vmlinuz --initrd linux/linux-compare.cpio --memory 384M $common $disks $cards \
        --control c.sock --cmdline "$quiet" <in >out 2>err &
    ;;
qemu-linux)
    mkfifo debugcon
    mount -t debugfs none /sys/kernel/debug 2>/dev/null
    "$@" -machine pc,usb=off -accel kvm -cpu host -smp 1 -m 384 -display none -nodefaults -serial stdio -no-reboot \
        -kernel linux/vmlinuz -initrd linux/linux-compare.cpio -append "$quiet" \
        -drive file=virtio.img,format=raw,if=none,id=d,cache=none,aio=threads -device virtio-blk-pci,drive=d,romfile= \
        -netdev tap,id=n,ifname=tap0,script=no,downscript=no -device virtio-net-pci,netdev=n,host_mtu=9000,romfile= \
        -chardev file,id=c,path=debugcon -device isa-debugcon,iobase=0xe9,chardev=c <in >out 2>err &
    ;;
esac
host=$!
[ $system = ours ] || exec 3>in
if [ $system = qemu-linux ]; then
    ./guest-probe watch-marks debugcon /sys/kernel/debug/kvm >marks &
    watch=$!
fi

# Sends frames to whoever wants some, until its work is told to be done.
seen=0 flood=
serve_frames() {
    last=$(grep -n 'wants-frames' out | tail -n 1)
    line=${last%%:*}
    if [ -n "$line" ] && [ "$line" -gt $seen ]; then
        seen=$line
        set -- $(echo "$last" | sed 's/.*"path":"\([^"]*\)","mac":"\([^"]*\)","bytes":\([0-9]*\).*/\1 \2 \3/; s/.*wants-frames //' | tr -d '\r')
        case $1 in tulip) tap=tap1 ;; *) tap=tap0 ;; esac
        ./guest-probe flood $tap "$2" "$3" >flood.log 2>&1 &
        flood=$!
    fi
    done=$(grep -n '"event":"io"\|^IO ' out | tail -n 1)
    done=${done%%:*}
    if [ -n "$flood" ] && [ "${done:-0}" -gt $seen ]; then
        kill $flood
        wait $flood 2>/dev/null
        flood=
    fi
}
finish() {
    [ -z "$flood" ] || kill $flood
    [ -z "$watch" ] || kill $watch
    for tap in tap0 tap1; do
        ifconfig $tap down
        tunctl -d $tap >/dev/null 2>&1 || ip tuntap del dev $tap mode tap
    done
    cat out
    [ ! -s marks ] || sed 's/^/MARK /' marks
    tail -n 5 err >&2
    exit "$1"
}
# Waits until the guest has said it; ends everything if it never does.
says() {
    t=0
    until grep -q "$1" out; do
        serve_frames
        t=$((t + 1))
        if [ $t -gt 6000 ] || ! kill -0 $host 2>/dev/null; then
            echo "it never said '$1'" >&2
            kill $host 2>/dev/null
            wait $host
            finish 1
        fi
        sleep 0.1
    done
}
if [ $system = ours ]; then
    says '"event":"end"'
    wait $host
    finish $?
fi
says 'linux-guest# '
echo "compare $paths $n" >&3
says 'COMPARE done'
if [ $system = qemu-linux ]; then
    kill $host
else
    # The host writes its report when the machine has ended.
    ./hypervisor-host ctl --control c.sock shutdown --wait || kill $host
fi
wait $host
finish 0
