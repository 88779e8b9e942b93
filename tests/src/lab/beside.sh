# What scripts beside a guest have in common, to be read by them (`. ./beside.sh`). They are in their batch's folder, wherever KVM is.

# A file without holes: a hole reads faster than a block. Arguments: name, MiB.
filled() { dd if=/dev/zero of="$1" bs=1M count="$2" 2>/dev/null; }

# A TAP device without addresses, answers and questions of its own. Arguments: name, MTU.
tap_up() {
    tunctl -t "$1" >/dev/null 2>&1 || ip tuntap add dev "$1" mode tap 2>/dev/null || return 1
    echo 1 >/proc/sys/net/ipv6/conf/"$1"/disable_ipv6 2>/dev/null
    ifconfig "$1" mtu "$2" up
}
# Takes it away: whoever comes next in this lab may use the same name.
tap_down() {
    ifconfig "$1" down
    tunctl -d "$1" >/dev/null 2>&1 || ip tuntap del dev "$1" mode tap
}

# Does what is to be done while a guest is waited for.
meanwhile() { :; }
# Waits until the guest has said it in the file `out`; false if it has not within so many seconds, or its monitor `$host` has ended.
# Arguments: what (a pattern of grep), seconds.
says() {
    looks=0
    until grep -q "$1" out; do
        meanwhile
        looks=$((looks + 1))
        [ $looks -le $(($2 * 4)) ] && kill -0 "$host" 2>/dev/null || return 1
        sleep 0.25
    done
}
