#!/usr/bin/env bash
# Makes a fresh Debian machine ready to build, run and test Enlighten.
#
# Three steps, each of which does nothing when there is nothing to do:
#   1. look for Rust (and say what to do when it is missing; nothing is installed behind your back);
#   2. install the Debian packages that are missing;
#   3. fetch the lab's parts (two kernels and a recent QEMU) into target/lab, beside the build's output.
# Step 3 uses package lists of its own, so the system's package sources and lists stay as they are.
set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: tests/setup.sh [--no-lab] [--force]
  --no-lab   skip the lab's parts: for a machine whose /dev/kvm runs guests natively
  --force    fetch the lab's parts again even if they are complete
USAGE
}

readonly RECIPE=4 # raise when the layout of target/lab changes
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
lab=$repo/target/lab
readonly repo lab
readonly kernel_package=linux-image-cloud-amd64
# For Linux guests with devices that the cloud kernel has no drivers of, and what is kept of it: drivers of disks, network cards
# and buses that we have, file systems, and what they need.
readonly generic_package=linux-image-amd64
readonly generic_modules_kept='/kernel/(drivers/(ata|cdrom|hv|virtio|net/hyperv|net/ethernet/dec)|fs/(ext4|jbd2|isofs)|net/core|block|lib|crypto|arch/x86/crypto)/|/(mbcache|scsi_mod|scsi_common|scsi_transport_fc|sd_mod|sr_mod|hv_storvsc|virtio_blk|virtio_net|net_failover)\.ko'
# g++: libFuzzer is C++. e2fsprogs to mtools: file systems that guests' disks are tried with. curl: the demo's client.
readonly packages=(ca-certificates gcc g++ libc6-dev make qemu-system-x86 busybox-static cpio xz-utils
    e2fsprogs dosfstools mtools curl)
readonly qemu_parts=(qemu-system-x86 qemu-system-common qemu-system-data seabios)

say() { printf 'setup: %s\n' "$*"; }
# Three parts, as every error here: what failed, on what, what to do.
die() {
    printf 'setup: error: %s\n' "$*" >&2
    exit 2
}

# True if version $1 is at least version $2.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# Runs a command as root: directly, or by sudo (install_packages has seen to it that there is one).
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Runs a command up to three times, the output shown only if it never succeeds.
try_thrice() {
    local attempt log
    log=$(mktemp)
    for attempt in 1 2 3; do
        if "$@" >"$log" 2>&1; then
            rm -f "$log"
            return 0
        fi
        if [ "$attempt" != 3 ]; then sleep $((attempt * 2)); fi
    done
    sed 's/^/setup:   | /' "$log" >&2
    rm -f "$log"
    return 1
}

check_rust() {
    local wanted have
    wanted=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$repo/Cargo.toml" | head -n 1)
    PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
    if ! command -v cargo >/dev/null || ! command -v rustc >/dev/null; then
        die "Rust is missing (no cargo and rustc in PATH). Install Rust $wanted or newer, for example with rustup, then run this again."
    fi
    have=$(rustc --version | awk '{print $2}')
    if ! at_least "${have%%-*}" "$wanted"; then
        die "Rust $have is too old: this needs $wanted or newer. Run 'rustup update stable', then run this again."
    fi
    say "Rust $have: ready"
}

# True if guests run on this machine's own KVM, as far as a script can tell (`hypervisor-host check` knows).
has_kvm() { [ -w /dev/kvm ] && grep -qEw 'vmx|svm' /proc/cpuinfo; }

# One field of /etc/os-release.
os_release() { (. /etc/os-release && eval "echo \"\${$1:-}\""); }

check_system() {
    local tool missing=
    [ "$(uname -m)" = x86_64 ] || die "this machine is $(uname -m): Enlighten needs x86_64."
    if command -v apt-get >/dev/null && command -v dpkg-query >/dev/null; then return; fi
    has_kvm || die "no apt here, and the lab is made from Debian's packages. Use Debian 12 or newer, or a machine whose /dev/kvm runs guests natively."
    for tool in gcc g++ qemu-system-x86_64 busybox; do
        command -v "$tool" >/dev/null || missing+=" $tool"
    done
    [ -z "$missing" ] || die "no apt here to install what is missing:$missing. Install that yourself, then run this again."
    say "no apt here: using the tools that are installed, and /dev/kvm itself"
    want_packages=no want_lab=no
}

is_installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
        -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 "$@"
}

apt_update() { as_root apt-get update -q -o Acquire::Retries=3; }

install_packages() {
    local package missing=()
    for package in "${packages[@]}"; do
        is_installed "$package" || missing+=("$package")
    done
    if [ ${#missing[@]} = 0 ]; then
        say "Debian packages: ready"
        return
    fi
    if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
        die "packages are missing and there is no sudo to install them. Run as root: apt-get install ${missing[*]}"
    fi
    say "installing ${missing[*]}"
    # Lists that are there and fresh enough save the update; old ones name files that are gone.
    if apt_install "${missing[@]}" >/dev/null 2>&1; then return; fi
    say "updating the package lists first"
    # A third-party source that cannot be reached must not stop us, so only the installation decides.
    try_thrice apt_update || true
    try_thrice apt_install "${missing[@]}" ||
        die "could not install ${missing[*]} (apt's words above). Check the network connection and the package sources, then run this again."
}

# apt with the system's trust and proxy settings, but our own sources, lists and cache.
private_apt() {
    local tool=$1
    shift
    "$tool" -q -o Acquire::Retries=3 -o Acquire::Languages=none \
        -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null \
        -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" \
        -o APT::Update::Post-Invoke=/bin/true -o APT::Sandbox::User=root "$@"
}

# Prints "repository suite" for each of the system's package sources that has a component "main". apt
# itself reads them, so it does not matter in which of its files and formats they stand.
system_sources() {
    apt-get --print-uris -o Dir::State::Lists="$work/none" -o Debug::NoLocking=1 update 2>/dev/null |
        sed -n "s|^'\(.*\)/dists/\(.*\)/main/binary-amd64/Packages[^/]*$|\1 \2|p" | grep -v '^cdrom:' | sort -u
}

# Writes the private sources.list: the system's sources of this release, and its backports. Debian's
# keyring decides which of them count: a stranger's repository of the same name fails its check.
write_sources() {
    local codename=$1 options=arch=amd64 uri suite
    if [ -r /usr/share/keyrings/debian-archive-keyring.gpg ]; then
        options+=' signed-by=/usr/share/keyrings/debian-archive-keyring.gpg'
    fi
    while read -r uri suite; do
        case $suite in
        "$codename" | stable | oldstable)
            echo "deb [$options] $uri $suite main"
            echo "deb [$options] $uri $codename-backports main"
            ;;
        "$codename"-* | "$codename"/* | stable-* | stable/* | oldstable-* | oldstable/*)
            echo "deb [$options] $uri $suite main"
            ;;
        esac
    done < <(system_sources) | sort -u >"$work/sources.list"
    [ -s "$work/sources.list" ] ||
        die "apt has no source for '$codename main'. Add your Debian mirror to apt's sources, then run this again."
}

# What the lists hold decides, not each source's answer: backports, for one, may be gone.
update_private_lists() {
    local complete=yes
    try_thrice private_apt apt-get -o APT::Update::Error-Mode=any update || complete=no
    private_apt apt-cache show "$kernel_package" >/dev/null 2>&1 ||
        die "could not read Debian's package lists (apt's words above). Check the network connection, then run this again."
    if [ "$complete" = no ]; then say "some package lists cannot be read; going on without them"; fi
}

# fetch_and_unpack TARGET APT-OPTIONS... PACKAGES...: apt checks each file against the signed lists.
fetch_and_unpack() {
    local target=$1 deb
    shift
    rm -rf "$work/debs"
    mkdir -p "$work/debs" "$target"
    (cd "$work/debs" && try_thrice private_apt apt-get "$@") || return 1
    for deb in "$work"/debs/*.deb; do
        dpkg-deb -x "$deb" "$target" || return 1
    done
    rm -rf "$work/debs"
}

# The package with the kernel itself that this one stands for.
kernel_behind() {
    private_apt apt-cache depends "$1" | sed -n 's/^ *Depends: *\(linux-image-[0-9].*\)/\1/p' | head -n 1
}

# Prints the folder of the modules of release $2 under $1, from $work: Debian 13 moved it under /usr.
modules_of() {
    local folder
    for folder in "$1/lib/modules/$2" "$1/usr/lib/modules/$2"; do
        if [ -d "$work/$folder" ]; then echo "$folder"; fi
    done
}

fetch_kernel() {
    local package
    package=$(kernel_behind "$kernel_package")
    [ -n "$package" ] || die "the package lists have no $kernel_package. Check apt's sources for '$codename main', then run this again."
    say "fetching the lab's kernel, $package"
    fetch_and_unpack "$work/kernel" download "$package" ||
        die "could not fetch $package (apt's words above). Check the network connection, then run this again."
    kernel_release=${package#linux-image-}
    [ -s "$work/kernel/boot/vmlinuz-$kernel_release" ] ||
        die "$package holds no boot/vmlinuz-$kernel_release. Please report this with the package's version."
    # Debian 13 and later compress modules; the lab's agent loads plain ones.
    find "$work/kernel" -name '*.ko.xz' -exec unxz -- {} +
    modules=$(modules_of kernel "$kernel_release")
    [ -n "$modules" ] || die "$package holds no modules. Please report this with the package's version."
}

# The generic kernel, of which little is kept; nothing else than some guests needs it. Sets generic_kernel, generic_release and
# generic_modules, all empty without it.
fetch_generic_kernel() {
    local package
    generic_kernel= generic_release= generic_modules=
    package=$(kernel_behind "$generic_package")
    say "fetching a kernel with more drivers, ${package:-$generic_package}"
    if [ -n "$package" ] && fetch_and_unpack "$work/generic" download "$package"; then
        generic_release=${package#linux-image-}
        generic_kernel=generic/boot/vmlinuz-$generic_release
        generic_modules=$(modules_of generic "$generic_release")
    fi
    if [ -n "$generic_modules" ] && [ -s "$work/$generic_kernel" ]; then
        find "$work/generic" -type f ! -path "$work/$generic_kernel" -print0 | grep -zvE "$generic_modules_kept" | xargs -0 rm -f
        find "$work/generic" -name '*.ko.xz' -exec unxz -- {} +
        find "$work/generic" -depth -type d -empty -delete
    else
        say "no generic kernel can be had here: Linux guests with a DEC 21140A are left out"
        generic_kernel= generic_release= generic_modules=
        rm -rf "$work/generic"
    fi
}

qemu_version() { "$@" --version 2>/dev/null | sed -n 's/^QEMU emulator version \([0-9.]*\).*/\1/p'; }

# Sets qemu, qemu_data and qemu_modules (the last two empty: QEMU's own) and qemu_has.
choose_qemu() {
    local codename=$1
    qemu=/usr/bin/qemu-system-x86_64 qemu_data= qemu_modules=
    qemu_has=$(qemu_version "$qemu")
    if at_least "${qemu_has:-0}" 10; then
        say "QEMU $qemu_has: the system's own will do"
    elif fetch_qemu "$codename"; then
        qemu=qemu/usr/bin/qemu-system-x86_64
        qemu_data=qemu/usr/share/qemu:qemu/usr/share/seabios
        qemu_modules=qemu/usr/lib/x86_64-linux-gnu/qemu
    else
        [ -n "$qemu_has" ] || die "no QEMU that runs: $qemu. Reinstall qemu-system-x86, then run this again."
        say "QEMU 10 cannot be had here: the lab uses QEMU $qemu_has with one processor"
    fi
}

fetch_qemu() {
    local codename=$1 has
    say "fetching QEMU from $codename-backports"
    fetch_and_unpack "$work/qemu" -t "$codename-backports" download "${qemu_parts[@]}" || return 1
    has=$(QEMU_MODULE_DIR=$work/qemu/usr/lib/x86_64-linux-gnu/qemu qemu_version "$work/qemu/usr/bin/qemu-system-x86_64")
    if ! at_least "${has:-0}" 10; then
        say "what $codename-backports holds is QEMU '${has:-that does not run here}'"
        return 1
    fi
    qemu_has=$has
    rm -rf "$work/qemu/usr/share/doc" "$work/qemu/usr/share/man"
}

# Linux's own daemon for key-value pairs, for Linux guests; never installed here. Sets kvp_daemon.
fetch_daemons() {
    kvp_daemon=
    if fetch_and_unpack "$work/daemons" download hyperv-daemons; then
        kvp_daemon=$(cd "$work" && find daemons -name hv_kvp_daemon -type f | head -n 1)
    else
        say "hyperv-daemons cannot be had here: Linux guests go without"
    fi
}

# The list of parts is written last, so it stands for the whole.
write_parts() {
    cat >"$work/parts" <<PARTS
recipe=$RECIPE
kernel=kernel/boot/vmlinuz-$kernel_release
kernel_release=$kernel_release
modules=$modules
busybox=$(dpkg -L busybox-static | grep -m 1 '/bin/busybox$')
qemu=$qemu
qemu_version=$qemu_has
qemu_data=$qemu_data
qemu_modules=$qemu_modules
kvp_daemon=$kvp_daemon
generic_kernel=$generic_kernel
generic_release=$generic_release
generic_modules=$generic_modules
PARTS
}

# True if the lab's parts are complete and of this script's layout.
parts_ready() {
    local key value
    [ -r "$lab/parts" ] || return 1
    grep -qx "recipe=$RECIPE" "$lab/parts" || return 1
    while IFS='=' read -r key value; do
        case $key in
        kernel | modules | qemu | busybox)
            case $value in /*) ;; *) value=$lab/$value ;; esac
            [ -e "$value" ] || return 1
            ;;
        esac
    done <"$lab/parts"
}

fetch_lab() {
    local os codename
    os=$(os_release ID)
    codename=$(os_release VERSION_CODENAME)
    if [ "$os" != debian ] || [ -z "$codename" ]; then
        die "the lab is made from Debian's packages and this is '$os'. Use a machine whose /dev/kvm runs guests natively, or Debian 12 or newer."
    fi
    work=$lab/.fetch
    rm -rf "$work"
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
    write_sources "$codename"
    update_private_lists
    fetch_kernel
    choose_qemu "$codename"
    fetch_daemons
    fetch_generic_kernel
    write_parts
    # From here on only renames: first the old list goes, then the parts come, last the new list.
    rm -f "$lab/parts"
    rm -rf "$lab/kernel" "$lab/qemu" "$lab/daemons" "$lab/generic"
    mv "$work/kernel" "$lab/kernel"
    if [ -n "$kvp_daemon" ]; then mv "$work/daemons" "$lab/daemons"; fi
    if [ -n "$generic_kernel" ]; then mv "$work/generic" "$lab/generic"; fi
    if [ -n "$qemu_data" ]; then mv "$work/qemu" "$lab/qemu"; fi
    mv "$work/parts" "$lab/parts"
    rm -rf "$work"
}

setup_lab() {
    mkdir -p "$lab"
    exec 9>"$lab/.lock"
    flock 9
    if [ "$force" = no ] && parts_ready; then
        say "lab parts: ready"
        return
    fi
    if [ "$(os_release ID)" != debian ] && has_kvm; then
        say "no lab parts, which are Debian's: guests run on /dev/kvm itself"
        return
    fi
    fetch_lab
    say "lab parts: ready (kernel $kernel_release, QEMU $qemu_has)"
}

want_packages=yes want_lab=yes force=no
for argument in "$@"; do
    case $argument in
    --no-lab) want_lab=no ;;
    --force) force=yes ;;
    -h | --help) usage && exit 0 ;;
    *) usage >&2 && die "unknown option '$argument'." ;;
    esac
done

check_rust
check_system
if [ "$want_packages" = yes ]; then install_packages; fi
if [ "$want_lab" = yes ]; then setup_lab; fi
