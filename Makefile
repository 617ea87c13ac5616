# Everything that is run often. `make demo` and `make test` install what is missing (Debian, Ubuntu; as root).
CARGO ?= cargo
# One run at a time on the real Docker; nextest where it is there, cargo's own runner where it is not.
NEXTEST := $(shell $(CARGO) nextest --version >/dev/null 2>&1 && echo yes)
export CARGO_TARGET_DIR ?= $(CURDIR)/target

.PHONY: build check test demo bench-flip bench-project bench-nginx bench-verdict bench-real bench setup images project-images fmt

build:
	$(CARGO) build --release --locked -p teal

fmt:
	$(CARGO) fmt --all

# What needs neither root nor Docker: format, lints, unit tests.
check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) test --workspace --locked --lib --bins

setup:
	scripts/setup.sh

images: setup
	examples/sample-app/build-image.sh teal-sample:v1 v1
	HEALTHCHECK=1 examples/sample-app/build-image.sh teal-sample:checked checked

# What examples/project and its tests need beside; the first time it takes some minutes.
project-images: images
	scripts/images.sh
	RECIPE=store.Dockerfile examples/build-image.sh sample-app teal-sample:store store
	examples/build-image.sh caller teal-caller:v1 v1

# Everything, with a real Docker daemon.
test: project-images
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) build --locked -p teal
ifeq ($(NEXTEST),yes)
	$(CARGO) nextest run --workspace --locked
else
	$(CARGO) test --workspace --locked -- --test-threads=1
endif

demo:
	scripts/demo.sh

bench-flip: images
	$(CARGO) build --release --locked -p teal -p teal-bench
	$(CARGO_TARGET_DIR)/release/teal-bench flip

bench-project: project-images
	$(CARGO) build --release --locked -p teal -p teal-bench
	$(CARGO_TARGET_DIR)/release/teal-bench project

# Side by side with scripts around the host's nginx, which runs as a process of its own; `teal-bench table nginx` prints it for docs/nginx.md.
bench-nginx: images
	$(CARGO) build --release --locked -p teal -p teal-bench
	$(CARGO_TARGET_DIR)/release/teal-bench nginx

# Simulated, so it needs neither root nor Docker.
bench-verdict:
	$(CARGO) build --release --locked -p teal-bench
	$(CARGO_TARGET_DIR)/release/teal-bench verdict

# Against real containers: releases that go wrong, rollbacks, canaries.
bench-real: images
	$(CARGO) build --release --locked -p teal -p teal-bench
	$(CARGO_TARGET_DIR)/release/teal-bench real

# The short ones.
bench: bench-flip
