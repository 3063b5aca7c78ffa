# Everything there is to type. Each target installs the Debian packages that it needs and says so.
# On a bare Debian 12 or 13 with Rust, as root: make demo; make test.

NEED  := packaging/need.sh
CARGO ?= cargo
# Where the programs come to be; the demo and the tests look beside themselves.
OUT    = $(shell $(CARGO) metadata --no-deps --format-version=1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
PREFIX ?= /usr/local
# Of `make upgrade`: its programs had no processes apart yet.
FROM   ?= 7ca9108

# A C compiler links Rust programs; setpriv, nsenter and mount are in packages of every Debian.
BUILD := gcc libc6-dev
RUN   := util-linux mount

# Seconds for each fuzz target, and which.
FUZZ    ?= 120
TARGETS ?= $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))
# One malloc and all of it, in MiB: a parser makes no room for what a length promises.
LIMITS   = -malloc_limit_mb=64 -rss_limit_mb=2048 -timeout=10 -max_len=65536

.PHONY: help demo test lint bench soak fuzz miri upgrade install deb guests build
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /make \1|/p' Makefile | while IFS='|' read -r name says; do printf '%-14s%s\n' "$$name" "$$says"; done

demo: build ## show the whole way in six steps, with a real redis; leaves nothing behind
	@$(NEED) $(RUN)
	@packaging/peers.sh $(OUT)/peers
	@$(OUT)/debug/demo

test: build ## run every test, those against the real kernel included (root)
	@$(NEED) $(RUN) python3 e2fsprogs runc busybox-static
	@packaging/peers.sh $(OUT)/peers
	@packaging/peers.sh $(OUT)/peers-services services
	$(CARGO) test --workspace --quiet

lint: ## formatting, clippy without a warning, and the rules of the architecture
	@$(NEED) $(BUILD)
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --quiet -- -D warnings
	$(CARGO) test --package tests --test architecture --quiet

bench: build ## measure, and print the tables of docs/performance.md (SCALE=9900: so many instances; SECRETS=100000; RECORDS=1000000)
	@$(NEED) $(RUN)
	@$(OUT)/debug/bench

soak: build ## the long forms of the tests that go in rounds, into docs/reliability.md (SOAK=10: a tenth)
	@$(NEED) $(RUN) python3 e2fsprogs
	@packaging/peers.sh $(OUT)/peers
	@$(OUT)/debug/soak

fuzz: ## have cargo-fuzz look for what a parser must not take (FUZZ=120: seconds each; TARGETS=manifest)
	@$(NEED) $(BUILD) g++
	@$(CARGO) fuzz --version >/dev/null 2>&1 || $(CARGO) install cargo-fuzz --locked
	@for target in $(TARGETS); do \
	    mkdir -p fuzz/target/found/$$target; \
	    echo "== $$target"; \
	    $(CARGO) +nightly fuzz run $$target fuzz/target/found/$$target fuzz/corpus/$$target -- \
	        -max_total_time=$(FUZZ) $(LIMITS) -print_final_stats=1 || exit 1; \
	done

miri: ## the parts that make no system call, under Miri
	@packaging/miri.sh

upgrade: build ## kill and upgrade from the programs of an earlier commit (FROM=7ca9108)
	@$(NEED) $(RUN) python3 git
	git worktree add --force --detach $(OUT)/earlier $(FROM)
	cd $(OUT)/earlier && $(CARGO) build --workspace --bins --quiet --target-dir $(OUT)/earlier/target
	UPGRADE_FROM=$(OUT)/earlier/target/debug $(CARGO) test --package tests --test kill_rounds --quiet both_may
	git worktree remove --force $(OUT)/earlier

install: build ## put the three programs below PREFIX (default /usr/local)
	install -D -m 0755 -t $(DESTDIR)$(PREFIX)/bin $(OUT)/debug/deploy
	install -D -m 0755 -t $(DESTDIR)$(PREFIX)/sbin $(OUT)/debug/deploy-inject $(OUT)/debug/secretsd

deb: build ## make target/debian/deploy-secrets_VERSION_ARCH.deb of the same programs
	@$(NEED) binutils dpkg-dev lowdown gzip git
	@packaging/deb.sh $(OUT)

guests: deb ## try the package in booted Debians (root, systemd-nspawn; a mirror at the first time)
	@$(NEED) debootstrap systemd-container lintian man-db bash zsh fish $(RUN)
	@packaging/guest.sh
	$(CARGO) test --package tests --test guest -- --test-threads=2

build:
	@$(NEED) $(BUILD)
	$(CARGO) build --workspace --quiet
