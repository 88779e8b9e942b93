# The two commands: `make run` and `make test`. `make help` lists the rest.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

TARGET := $(or $(CARGO_TARGET_DIR),$(CARGO_BUILD_TARGET_DIR),target)
ENL := "$(TARGET)/x86_64-unknown-linux-gnu/release/enl"
# More options for the program behind a command, such as ARGS="--seconds 600".
ARGS ?=

# Where rustup puts cargo, for shells that were opened before it was installed.
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin
# They would replace the flags and the target of .cargo/config.toml, without which the kernel can't be linked.
unexport RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_RUSTFLAGS CARGO_BUILD_TARGET

.PHONY: help setup build run demo study test conformance host fuzz prove-lab costs bench compare soak fmt clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' Makefile

setup: ## Install missing Debian packages, fetch the lab's parts
	@tests/setup.sh

build: setup ## Build everything, finish the kernel image
	@cargo build --workspace --release --locked
	@$(ENL) image

run: build ## Boot the kernel on our host and measure its spin waits
	@$(ENL) run $(ARGS)

demo: build ## Serve files from the kernel over HTTP, fetch them with curl; ARGS="--large-mib N", "--stay" for a browser
	@$(ENL) demo $(ARGS)

study: build ## Study spin locks under over-commitment, and how a guest scales; ARGS="--quick", "--full", "--update-docs"
	@$(ENL) study $(ARGS)

test: build ## Pass every test
	@$(ENL) test $(ARGS)

conformance: build ## Run the conformance matrix; ARGS="--columns TCG --cases SynIC"
	@$(ENL) conformance $(ARGS)

costs: build ## Measure free locks, the clock and VMBus's ring on this machine, beside those of others
	@$(ENL) costs $(ARGS)

bench: build ## Count the exits of reads, writes and packets, our guest beside Linux; ARGS="--operations N"
	@$(ENL) bench $(ARGS)

compare: build ## Count what the same work costs by emulated, synthetic and virtio devices; ARGS="--operations N"
	@$(ENL) compare $(ARGS)

soak: build ## Read, write and send at random for 5 minutes, every byte checked; ARGS="--seconds N"
	@$(ENL) soak $(ARGS)

host: build ## Run hypervisor-host, here or in the lab; ARGS="run --kernel target/enlighten.elf"
	@$(ENL) host $(ARGS)

fuzz: setup ## Fuzz every parser, 10 minutes each; ARGS="--seconds N"
	@tests/fuzz/run.sh --seconds 600 $(ARGS)

prove-lab: build ## Start the lab 50 times in a row; ARGS="--starts N --cpus N"
	@$(ENL) prove-lab $(ARGS)

fmt: ## Format the code
	@cargo fmt --all

clean: ## Remove all that was built, measured and fetched
	@cargo clean
	@rm -rf target tests/fuzz/target
