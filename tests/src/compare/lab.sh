#!/bin/sh
# Beside a guest, wherever KVM is: gives it disks and cards of every kind that its monitor has, has it work, and sends it frames when it wants some.
# What can't be had here it tells as `SKIP way: reason`.
# Arguments: the system (`ours`, `linux`, `linux-pio`, `qemu-linux`), its paths with commas between them, how often each work is done.
# For `qemu-linux` the words that start QEMU follow.
system=$1 paths=$2 n=$3
shift 3
. ./beside.sh
export XDG_RUNTIME_DIR=$PWD
rm -f out in marks marks-fifo && touch out || exit 2
for disk in synthetic ide virtio; do filled $disk.img 64 || exit 2; done
# Our kernel writes only to an IDE disk that says it may.
printf 'ENLIGHTEN SCRATCH DISK, 1       ' | dd of=ide.img conv=notrunc 2>/dev/null
cards="--net tap=tap0,mtu=9000 --net tap=tap1,model=tulip"
qemu_card="-netdev tap,id=n,ifname=tap0,script=no,downscript=no -device virtio-net-pci,netdev=n,host_mtu=9000,romfile="
if ! tap_up tap0 9000 || ! tap_up tap1 1500; then
    for path in netvsc tulip virtio-net; do
        case ,$paths, in *,$path,*) echo "SKIP $path: no TAP device can be made here (root may)" ;; esac
    done
    cards= qemu_card=
fi
counters=/sys/kernel/debug/kvm
if [ $system = qemu-linux ] && ! ls $counters/exits >/dev/null 2>&1 && ! mount -t debugfs none /sys/kernel/debug 2>/dev/null; then
    echo "SKIP all: KVM's counters in $counters can't be read here (root may)"
    exit 0
fi
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
    mkfifo marks-fifo
    # cache=writeback: as our host does, and memory file systems have no other.
    "$@" -machine pc,usb=off -accel kvm -cpu host -smp 1 -m 384 -display none -nodefaults -serial stdio -no-reboot \
        -kernel linux/vmlinuz -initrd linux/linux-compare.cpio -append "$quiet" \
        -drive file=virtio.img,format=raw,if=none,id=d,cache=writeback,aio=threads -device virtio-blk-pci,drive=d,romfile= \
        $qemu_card -chardev file,id=c,path=marks-fifo -serial chardev:c <in >out 2>err &
    ;;
esac
host=$!
# What the guest says goes on to whoever watches.
tail -f out &
tail=$!
[ $system = ours ] || exec 3>in
if [ $system = qemu-linux ]; then
    ./guest-probe watch-marks marks-fifo $counters $host >marks &
    watch=$!
fi

# Sends frames to whoever wants some, until its work is told to be done.
seen=0 flood=
meanwhile() {
    # Of a guest that is just saying it, only part of the line may be there.
    last=$(grep -n 'wants-frames .* now\|"event":"wants-frames".*}\|"event":"io"\|^IO \|^NO ' out | tail -n 1)
    line=${last%%:*}
    [ "${line:-0}" -gt $seen ] || return
    seen=$line
    if [ -n "$flood" ]; then
        kill $flood
        wait $flood 2>/dev/null
        flood=
    fi
    case $last in *wants-frames*) ;; *) return ;; esac
    set -- $(echo "$last" | sed 's/.*"path":"\([^"]*\)","mac":"\([^"]*\)","bytes":\([0-9]*\).*/\1 \2 \3/; s/.*wants-frames //' | tr -d '\r')
    case $1 in tulip) tap=tap1 ;; *) tap=tap0 ;; esac
    ./guest-probe flood $tap "$2" "$3" >flood.log 2>&1 &
    flood=$!
}
finish() {
    [ -z "$flood" ] || kill $flood
    [ -z "$watch" ] || kill $watch
    [ -z "$cards" ] || for tap in tap0 tap1; do tap_down $tap; done
    # The rest of what the guest said.
    sleep 2
    kill $tail
    echo
    [ ! -s marks ] || sed 's/^/MARK /' marks
    tail -n 5 err >&2
    exit "$1"
}
# Ends everything if the guest never says it.
expect() {
    says "$1" 560 && return
    echo "it never said '$1'" >&2
    kill $host 2>/dev/null
    wait $host
    finish 1
}
if [ $system = ours ]; then
    expect '"event":"end"'
    wait $host
    finish $?
fi
expect 'linux-guest# '
echo "compare $paths $n" >&3
expect 'COMPARE done'
if [ $system = qemu-linux ]; then
    kill $host
else
    # The host writes its report when the machine has ended.
    ./hypervisor-host ctl --control c.sock shutdown --wait || kill $host
fi
wait $host
finish 0
