#!/bin/sh
# Inside a stock Linux guest: disk and network work by each driver, between marks. It says what was done (`IO …`), what could not be done
# though it should (`NO …`), and what there is not (`SKIP …`).
# Arguments: paths with commas between them, how often each work is done.
paths=$1 n=$2
say() {
    path=$1 work=$2 depth=$3 count=$4 bytes=$5
    shift 5
    if out=$(guest-probe "$@" 2>&1); then
        echo "IO $path $work $depth $count $bytes ${out#probe: ok elapsed_100ns }"
    else
        echo "NO $path $work $depth $bytes: $out"
    fi
}
# The first disk, or card, whose way through sysfs has this in it.
disk() { for it in /sys/block/[sv]d*; do case $(readlink -f "$it") in *$1*) basename "$it" && break ;; esac done; }
card() { for it in /sys/class/net/*; do case $(readlink "$it/device/driver") in */$1) basename "$it" && break ;; esac done; }
at_least() { [ "$1" -ge "$2" ] && echo "$1" || echo "$2"; }
# On KVM a write by port I/O visits the host for each unit of the data register: fewer tell as much.
writes() { if [ $1 = ide-pio ]; then at_least $(($2 / 32)) 2; else echo $2; fi; }
blocks() {
    path=$1 d=/dev/$2 depths=$3
    # What is set up at first use does not count.
    dd if=/dev/zero of="$d" bs=4096 count="$(writes $path 64)" oflag=direct 2>/dev/null
    echo none >/sys/block/"$2"/queue/scheduler
    small=$n large=$(at_least $((n * 4096 / 131072)) 64)
    for work in read write; do
        [ $work = read ] || small=$(writes $path $small) large=$(writes $path $large)
        for depth in $depths; do
            say $path $work $depth $small 4096 bench-blocks "$d" $work $depth $small 4096
            say $path $work $depth $large 131072 bench-blocks "$d" $work $depth $large 131072
        done
    done
}
send() { say $path send 0 "$2" "$1" bench-send "$eth" 02:00:00:00:00:ee "$1" "$2"; }
receive() {
    echo "wants-frames $path $(cat /sys/class/net/"$eth"/address) $1 now"
    say $path receive 0 "$2" "$1" bench-receive "$eth" "$1" "$2"
}
frames() {
    path=$1 eth=$2 sizes=$3
    case $sizes in *9014*) ip link set "$eth" mtu 9000 ;; esac
    ip link set "$eth" up
    sleep 2
    for bytes in $sizes; do send "$bytes" "$n"; done
    # A burst that goes round every ring and buffer often; and so many frames that those that had come before are few of them.
    send 1514 $((n * 8))
    for bytes in $sizes; do receive "$bytes" $((n * 8)); done
}
say marks nothing 0 1 0 bench-nothing
for path in $(echo "$paths" | tr , ' '); do
    case $path in
    storvsc) found=$(disk VMBUS) && [ -n "$found" ] || found=$(disk vmbus) ;;
    ide-dma | ide-pio) found=$(disk ata) ;;
    virtio-blk) found=$(disk virtio) ;;
    netvsc) found=$(card hv_netvsc) ;;
    tulip) found=$(card tulip) ;;
    virtio-net) found=$(card virtio_net) ;;
    esac
    if [ -z "$found" ]; then
        if [ $path = tulip ] && [ ! -d /sys/bus/pci/drivers/tulip ]; then
            echo "SKIP tulip: this kernel, $(uname -r), has no driver of it"
        else
            echo "NO $path: no such device here"
        fi
        continue
    fi
    case $path in
    storvsc | virtio-blk) blocks $path "$found" "1 32" ;;
    ide-*) blocks $path "$found" 1 ;;
    tulip) frames $path "$found" "60 1514" ;;
    *) frames $path "$found" "60 1514 9014" ;;
    esac
done
echo "COMPARE done"
