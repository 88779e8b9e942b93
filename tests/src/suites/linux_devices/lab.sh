# Sourced by scripts that run beside a guest on our host, mostly stock Linux, wherever KVM is, in the batch's folder. They make disks and a
# network, do what the guest asks for, and say what came of it by the guest's own CASE lines.
rm -rf io && mkdir io && cd io || exit 2

# Kept until the end, so that they do not come into the middle of the guest's lines.
ok() { echo "CASE $1 ok" >>cases; }
bad() { echo "CASE $1 FAIL $2" >>cases; }
try() {
    name=$1
    shift
    if out=$("$@" 2>&1); then ok "$name"; else bad "$name" "$(echo "$out" | tr '\n' ' ' | tail -c 300)"; fi
}

# A TAP device with somebody on it who serves streams. Sets `net` to `net`, or to `none` where there can't be one.
net=none
make_net() {
    if tunctl -t tap0 >/dev/null 2>&1 || ip tuntap add dev tap0 mode tap 2>/dev/null; then
        ifconfig tap0 10.9.0.1 netmask 255.255.255.0 mtu 1500 up
        ../guest-probe serve 10.9.0.1:7777 >probe.log 2>&1 &
        probe=$!
        net=net
    fi
}
# Whoever comes next in this lab may use the same addresses.
drop_net() {
    [ $net = net ] || return
    kill $probe
    ifconfig tap0 down
    tunctl -d tap0 >/dev/null 2>&1 || ip tuntap del dev tap0 mode tap
    net=none
}

# start KERNEL INITRD WORDS OPTIONS…: the machine; WORDS come behind what every guest's command line has.
start() {
    kernel=$1 initrd=$2 words=$3
    shift 3
    mkfifo in
    ../hypervisor-host run --kernel ../linux/"$kernel" --initrd ../linux/"$initrd" --report ../report.json --control c.sock --verbose \
        --cmdline "console=ttyS0 panic=-1 mitigations=off nopcid quiet $words" "$@" <in >out 2>err &
    host=$!
    exec 3>in
    # What the guest says goes on to whoever watches.
    tail -f out &
    tail=$!
    says 'linux-guest# '
    ok "Linux boots"
}
ctl() { ../hypervisor-host ctl --control c.sock "$@"; }
tell() { echo "$*" >&3; }
answer() { tell done; }
# The rest of what the guest said, and then ours.
finish() {
    sleep 2
    kill $tail
    drop_net
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
# The machine has been told to end.
switched_off() {
    wait $host
    code=$?
    [ $code = 0 ] && ok "Linux switches off when asked" || bad "Linux switches off when asked" "code $code; $(tail -n 3 err | tr '\n' ' ')"
}
