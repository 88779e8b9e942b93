#!/bin/sh
# Beside the server, wherever KVM is: starts it, fetches from it with curl as anybody would, and says what came of it by
# CASE and FIGURE lines. Arguments: `tap` or `user` (the network), memory in MiB, and `stay` to fetch nothing and go on until
# Ctrl-C. In this folder: hypervisor-host, kernel, disk.img, `wanted` (what must come: checksum, type and path of each file).
# $CURL is curl, with whatever starts it.
network=$1 memory=$2 stay=$3
curl=${CURL:-curl} requests=0
rm -rf demo && mkdir demo || exit 2

case $network in
tap)
    # The device is the host's and goes with it.
    device=enl-demo card=tap=enl-demo guest='ip=10.9.0.2/24' url=http://10.9.0.2
    ;;
user)
    # passt has the guest take this computer's own address.
    route=$(ip -4 route show default | head -n 1)
    via=${route##*dev } via=${via%% *}
    gateway=${route##*via } gateway=${gateway%% *}
    own=$(ip -4 -o addr show dev "$via" scope global | awk '{ print $4; exit }')
    if [ -z "$own" ] || [ "$gateway" = "$route" ]; then
        echo "cannot serve by passt: this computer has no IPv4 address with a gateway; run this as root, then it uses a TAP device" >&2
        exit 2
    fi
    card=user,tcp=8080:80 guest="ip=$own gateway=$gateway" url=http://localhost:8080
    ;;
*) exit 2 ;;
esac

ok() { echo "CASE $1 ok"; }
bad() { echo "CASE $1 FAIL $2"; }
judge() { if [ "$2" = "$3" ]; then ok "$1"; else bad "$1" "'$2', not '$3'; $(tr '\n' ' ' <demo/curl.err)"; fi; }
give_up() {
    bad "the server comes up" "$1; $(tail -n 3 demo/out | tr '\n\r' '  ') $(tail -n 3 demo/err | tr '\n' ' ')"
    cat demo/out >&2
    kill "$host" 2>/dev/null
    exit 1
}
# Until the command succeeds, for a minute and a half.
until_true() {
    tries=0
    until "$@" 2>/dev/null; do
        tries=$((tries + 1))
        kill -0 "$host" 2>/dev/null || give_up "the machine has ended"
        [ $tries -lt 900 ] || give_up "this never came true: $*"
        sleep 0.1
    done
}

./hypervisor-host run --kernel ./kernel --vps 1 --memory "${memory}M" --cmdline "events serve $guest" \
    --disk disk.img,ro --net "$card" --control demo/c.sock --report report.json >demo/out 2>demo/err &
host=$!
# Should this script be killed, the machine must not stay behind.
(while kill -0 $$ 2>/dev/null; do sleep 1; done; kill $host 2>/dev/null) >/dev/null 2>&1 &
watch=$!
if [ "$network" = tap ]; then
    until_true test -e /sys/class/net/$device
    ip addr add 10.9.0.1/24 dev $device && ip link set dev $device up || give_up "cannot set up $device"
fi
until_true grep -q '"event":"serving"' demo/out
if [ "$stay" = stay ]; then
    echo "serving: open $url/ in a browser; Ctrl-C ends it"
    trap 'kill -INT $host' INT TERM
    wait $host
    wait $host
    kill $watch 2>/dev/null
    rm -rf demo
    exit 0
fi

# One request. `code` is the answer's, the rest is in demo/head and demo/body.
ask() {
    path=$1
    shift
    requests=$((requests + 1))
    : >demo/head
    code=$($curl -sS --max-time 400 -o demo/body -D demo/head -w '%{http_code}' "$@" "$url$path" 2>demo/curl.err)
}
sum() { sha256sum <"$1" | cut -d ' ' -f 1; }
# The value of a field of the last answer.
field() { tr -d '\r' <demo/head | awk -F ': ' -v name="$1" 'tolower($1) == name { print $2; exit }'; }
# Checksum that a path must have.
wanted() { awk -v path="$1" '$3 == path { print $1; exit }' wanted; }

while read -r sum type path; do
    case $path in
    /large.bin | *=*) continue ;;
    esac
    ask "$path"
    kind=$(field content-type)
    judge "GET $path" "$code ${kind%%;*} $(sum demo/body)" "200 $type $sum"
done <wanted

ask /docs
judge "GET of a folder without a slash leads to the folder" "$code $(field location)" "301 /docs/"
ask /downloads/
grep -q 'one%20mebibyte.bin' demo/body && listed=listed || listed='not listed'
judge "GET of a folder without a page lists it" "$code $listed" "200 listed"
ask /large.bin -I
bytes=$(awk -F '[ =]' '$3 == "bytes" { print $4 }' wanted)
judge "HEAD tells the length and sends nothing" "$code $(field content-length) $(wc -c <demo/body | tr -d ' ')" \
    "200 $bytes $(wc -c <demo/head | tr -d ' ')"
part=$(awk '$3 ~ /^range=/ { print substr($3, 7) }' wanted)
ask /large.bin -r "$part"
judge "GET of a range" "$code $(sum demo/body)" "206 $(wanted "range=$part")"
ask /index.html
tag=$(field etag)
ask /index.html -H "If-None-Match: $tag"
judge "a page that did not change is not sent again" "$code $(field etag)" "304 $tag"
ask /nothing/here.html
judge "GET of what is not there" "$code" 404
ask /index.html -d x=1
judge "POST" "$code $(field allow)" "405 GET, HEAD"
ask /../../etc/passwd --path-as-is
judge "a path that leads out" "$code" 400
ask "/$(head -c 3000 /dev/zero | tr '\0' a)"
judge "a path that is too long" "$code" 414
ask / -H "X: $(head -c 9000 /dev/zero | tr '\0' a)"
judge "fields that are too long" "$code" 431

# Several URLs of one curl.
many() {
    count=$1 path=$2
    shift 2
    words=
    for number in $(seq "$count"); do words="$words -o demo/many.$number $url$path"; done
    requests=$((requests + count))
    # shellcheck disable=SC2086
    connections=$($curl -sS --max-time 400 "$@" -w '%{num_connects}\n' $words 2>demo/curl.err | awk '{ sum += $1 } END { print sum }')
    wrong=0
    for number in $(seq "$count"); do
        [ "$(sum demo/many.$number)" = "$(wanted "$path")" ] || wrong=$((wrong + 1))
    done
    rm -f demo/many.*
}
many 20 /index.html
judge "20 requests on one connection" "$connections connection, $wrong wrong" "1 connection, 0 wrong"
many 8 /downloads/one%20mebibyte.bin -Z --parallel-max 8 --parallel-immediate
judge "8 downloads at the same time" "$connections connections, $wrong wrong" "8 connections, 0 wrong"

requests=$((requests + 1))
seconds=$($curl -sS --max-time 400 -o demo/body -w '%{time_total}' "$url/large.bin" 2>demo/curl.err)
judge "GET /large.bin, $((bytes >> 20)) MiB" "$(sum demo/body)" "$(wanted /large.bin)"
echo "FIGURE large_bytes $bytes"
echo "FIGURE large_seconds $seconds"
rm -f demo/body

ctl() { ./hypervisor-host ctl --control demo/c.sock "$@"; }
try() {
    name=$1
    shift
    if said=$("$@" 2>&1); then ok "$name"; else bad "$name" "$(echo "$said" | tr '\n' ' ')"; fi
}
try "the server answers heartbeats" ctl heartbeat
try "the host asks the server to end" ctl shutdown --wait
wait $host
judge "the machine ends well" "$?" 0
served=$(sed -n 's/.*"event":"served","responses":\([0-9]*\).*/\1/p' demo/out)
judge "as many answers as requests" "$served" "$requests"
grep -o '@enl {"event":"served".*' demo/out
exit 0
