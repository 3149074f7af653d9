# The few commands of this project. CI calls `make ci` and nothing else.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: audit bench ci demo examples fmt fuzz help lint profile release setup test

# Where cargo builds, which users may have set.
TARGET = $${CARGO_TARGET_DIR:-target}
# Every Rust file, also those that `cargo fmt` would not reach and those not yet committed.
RUST = $$(git ls-files --cached --others --exclude-standard '*.rs')

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile

setup: ## fetches what the tests need: a real Consul and real clients
	@scripts/consul >/dev/null
	@scripts/peers

fmt: ## formats every Rust file
	rustfmt --edition 2024 $(RUST)

lint: ## clippy, formatting and docs, with no warning let through
	cargo clippy --locked --all-targets -- -D warnings
	rustfmt --edition 2024 --check $(RUST)
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

test: setup ## every test, with a real Consul and real clients
	cargo test --locked --doc
	@export CONSUL_BIN="$$(scripts/consul)"; \
	if cargo nextest --version >/dev/null 2>&1; then set -x; cargo nextest run --locked; \
	else set -x; cargo test --locked --lib --bins --tests; fi

audit: ## licences, banned crates and sources of all dependencies
	@cargo deny --version >/dev/null 2>&1 || \
	{ echo "make audit needs cargo-deny: cargo install --locked cargo-deny" >&2; exit 1; }
	cargo deny --locked check bans licenses sources

bench: release ## the benchmarks: what is inside, the gateway beside HAProxy and nginx, and before hostile crowds
	cargo bench --locked
	scripts/bench

T ?= requests
SECONDS ?= 120
fuzz: ## one fuzzer, such as `make fuzz T=chunks`: requests, answers, chunks, hpack, http2 or paths
	@cargo fuzz --version >/dev/null 2>&1 || \
	{ echo "make fuzz needs cargo-fuzz: cargo install --locked cargo-fuzz" >&2; exit 1; }
	@# Coverage needs a flag of the compiler that stable ones know but do not offer.
	RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir fuzz --sanitizer none $(T) -- -max_total_time=$(SECONDS) -max_len=8192

release: ## target/release/lictor
	cargo build --locked --release

profile: ## records anew by what releases are laid out: after changes of the hot path and of the toolchain
	scripts/profile

examples: release ## every file in examples/ passes `lictor check`
	@shopt -s nullglob; passed=0; failed=0; \
	for file in examples/*.toml; do \
	  if "$(TARGET)/release/lictor" check -c "$$file"; then passed=$$((passed + 1)); else failed=$$((failed + 1)); fi; \
	done; \
	echo "examples: $$passed passed, $$failed failed"; \
	[[ "$$passed" -gt 0 && "$$failed" -eq 0 ]]

demo: release ## Consul, sample services and the gateway on http://localhost:8000, until Ctrl-C
	@CONSUL_BIN="$$(scripts/consul)"; export CONSUL_BIN; exec "$(TARGET)/release/lictor" demo

# The tests come last: their summary closes the output.
ci: lint examples test ## what CI runs: lint, release build, examples, test
