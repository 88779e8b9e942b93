#!/usr/bin/env bash
# Fuzzes every parser that reads what somebody else wrote, with the stable compiler.
#
#   tests/fuzz/run.sh [--seconds N] [--list] [TARGET...]
#
# Each target starts from its seeds (tests/fuzz/seeds) and from what earlier runs found
# (tests/fuzz/corpus), and runs for N seconds (10). An input that crashes a target is kept in
# tests/fuzz/artifacts. Exit code 0 if no target crashed, 1 if one did, 2 if they can't be built.
set -euo pipefail
cd "$(dirname "$0")"

readonly triple=x86_64-unknown-linux-gnu
readonly all_targets=(loader options boot_info acpi command_line ring bus_messages netvsc ic control guest_messages storvsc rndis scsi storvsp tulip ide fat)

fail() {
    echo "tests/fuzz/run.sh: $*" >&2
    exit 2
}

seconds=10
targets=()
while (($#)); do
    case $1 in
    --seconds)
        seconds=${2-}
        [[ $seconds =~ ^[1-9][0-9]{0,5}$ ]] ||
            fail "'$seconds' is no number of seconds; give --seconds a number from 1 to 999999"
        shift
        ;;
    --list)
        printf '%s\n' "${all_targets[@]}"
        exit
        ;;
    --help | -h)
        sed -n '2,8s/^# \{0,1\}//p' "$0"
        exit
        ;;
    -*) fail "unknown option '$1'; see --help" ;;
    *)
        [[ " ${all_targets[*]} " == *" $1 "* ]] ||
            fail "no target '$1'; the targets are: ${all_targets[*]}"
        targets+=("$1")
        ;;
    esac
    shift
done
((${#targets[@]})) || targets=("${all_targets[@]}")

command -v cargo >/dev/null || fail "cargo is missing; install Rust (https://rustup.rs)"
# libFuzzer is C++.
command -v "${CXX:-c++}" >/dev/null ||
    fail "the C++ compiler '${CXX:-c++}' is missing; install it: apt-get install g++"

# What cargo-fuzz passes on a nightly compiler works on a stable one, the sanitizers apart: LLVM's own
# pass counts the edges, libFuzzer reads the counters. `relocation-model` to `force-frame-pointers`
# are what the kernel's build script insists on. RUSTFLAGS replaces the flags of .cargo/config.toml,
# whose static linking would ask for a static C++ library.
export RUSTFLAGS="--cfg fuzzing
    -C relocation-model=static -C no-redzone=yes -C force-frame-pointers=yes
    -C passes=sancov-module
    -C llvm-args=-sanitizer-coverage-level=4
    -C llvm-args=-sanitizer-coverage-inline-8bit-counters
    -C llvm-args=-sanitizer-coverage-pc-table
    -C llvm-args=-sanitizer-coverage-trace-compares"
RUSTFLAGS=$(tr -s ' \n' ' ' <<<"$RUSTFLAGS")
unset CARGO_ENCODED_RUSTFLAGS
export CARGO_TARGET_DIR=${ENL_FUZZ_TARGET_DIR:-$PWD/target}

# Not --locked: the lock file follows what the host and the kernel depend on.
echo "Building ${#targets[@]} fuzz targets with coverage"
cargo build --quiet --release --target "$triple" ${targets[@]/#/--bin } ||
    fail "the fuzz targets don't build; see the compiler's messages above"

# Runs one target; prints its verdict; fails if it crashed.
run_target() {
    local name=$1 log executions counters edges
    log=$CARGO_TARGET_DIR/$name.log
    mkdir -p "corpus/$name" "artifacts/$name" "seeds/$name"
    local code=0
    "$CARGO_TARGET_DIR/$triple/release/$name" \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=16384 \
        -print_final_stats=1 -artifact_prefix="$PWD/artifacts/$name/" \
        "corpus/$name" "seeds/$name" >"$log" 2>&1 || code=$?
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    counters=$(sed -n 's/^INFO: Loaded .* (\([0-9]*\) inline 8-bit counters).*/\1/p' "$log")
    edges=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
    if ((code)); then
        echo "FAIL $name: ended with code $code after ${executions:-?} executions"
        sed -n '/panicked at/,+1p; /ERROR: libFuzzer/p; /Test unit written to/p' "$log"
        echo "     log: $log; run one input again: $CARGO_TARGET_DIR/$triple/release/$name INPUT"
        return 1
    fi
    if ((${counters:-0} == 0)); then
        echo "FAIL $name: it has no coverage counters, so it was not fuzzed"
        return 1
    fi
    if ((${executions:-0} == 0)); then
        echo "FAIL $name: it ended well, but says nothing of any execution"
        return 1
    fi
    echo "PASS $name: $executions executions in $seconds s, ${edges:-0} of $counters edges"
}

trap "exit 130" INT TERM
passed=0
failed=0
for target in "${targets[@]}"; do
    if run_target "$target"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
done
echo "$passed passed, $failed failed"
((failed == 0))
