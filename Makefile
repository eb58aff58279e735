# Two commands matter: `make demo` shows what mimeo does, `make test` tries all
# of it on real virtual machines. Both work on a fresh Debian machine with
# rustup, again, and where they were half done.

CARGO ?= cargo
# What tries the manager's API by its document.
SCHEMATHESIS := $(or $(CARGO_TARGET_DIR),target)/schemathesis
GUEST_TARGET := x86_64-unknown-linux-musl

# What mimeo runs on, and what the demo makes its image with.
DEMO_PACKAGES := qemu-system-x86 gcc libc6-dev mmdebstrap
# What the tests talk to: a registry, image tools, filesystem checkers, podman, which mimeo is compared with,
# PostgreSQL, and Python for the tool that tries the API.
TEST_PACKAGES := $(DEMO_PACKAGES) busybox-static docker-registry openssh-client skopeo umoci e2fsprogs fdisk erofs-utils \
	cpio bsdutils util-linux uidmap ca-certificates nftables iproute2 podman runc \
	postgresql python3-venv openssl

.PHONY: all build demo test test-kvm check deps demo-deps test-deps rust-target install clean

all: build

build: rust-target
	$(CARGO) build --release --package mimeo

demo: demo-deps build
	$(CARGO) run --quiet --package xtask -- demo

test: test-deps rust-target check
	$(CARGO) build --package mimeo
	$(CARGO) nextest run --workspace
	$(CARGO) xtask kvm-host test

# All tests that make sense on KVM, in an emulated host; takes about an hour.
test-kvm: test-deps rust-target
	$(CARGO) xtask kvm-host test --all --timeout 7200

check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- --deny warnings
	$(CARGO) xtask words

deps: test-deps rust-target

demo-deps:
	@$(call install_packages,$(DEMO_PACKAGES))

test-deps:
	@$(call install_packages,$(TEST_PACKAGES))
	@$(CARGO) nextest --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-nextest
	@vhost-device-vsock --version >/dev/null 2>&1 || $(CARGO) install --locked vhost-device-vsock@0.3.0
	@cmp -s e2e/schemathesis.txt $(SCHEMATHESIS)/installed.txt || { echo "installing: schemathesis" && \
		python3 -m venv --clear $(SCHEMATHESIS) && $(SCHEMATHESIS)/bin/pip install --quiet --requirement e2e/schemathesis.txt && \
		cp e2e/schemathesis.txt $(SCHEMATHESIS)/installed.txt; }

rust-target:
	@command -v rustup >/dev/null || { echo "rustup is missing: install it first (https://rustup.rs)" >&2; exit 1; }
	@rustup target list --installed | grep -qx $(GUEST_TARGET) || rustup target add $(GUEST_TARGET)

install: build
	install -D -m 755 target/release/mimeo $(or $(DESTDIR),/usr/local)/bin/mimeo

clean:
	$(CARGO) clean

# Packages that are installed are left alone; without root the rest is named.
define install_packages
missing=""; \
for package in $(1); do \
	dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q '^install ok installed' || missing="$$missing $$package"; \
done; \
if [ -n "$$missing" ]; then \
	if [ "$$(id -u)" != 0 ]; then echo "missing packages, as root: apt-get install --no-install-recommends$$missing" >&2; exit 1; fi; \
	echo "installing:$$missing"; \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
fi
endef
