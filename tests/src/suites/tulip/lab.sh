#!/bin/sh
# Beside our kernel with a DEC 21140A on our host, wherever KVM is: a TAP device with an echo server on it. Argument: the card's address.
mac=$1
. ./linux-lab.sh
make_net
if [ $net = none ]; then
    echo "no TAP device can be made here"
    exit 0
fi
busybox nc -ll -p 7 -e cat >echo.log 2>&1 &
echo=$!
../hypervisor-host run --kernel ../kernel --vps 2 --memory 64M --net "tap=tap0,model=tulip,mac=$mac" \
    --cmdline "events log=warn tulip=10.9.0.1 ip=10.9.0.2/24" </dev/null
code=$?
kill $echo
drop_net
exit $code
