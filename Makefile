# SPDX-License-Identifier: Apache-2.0
# A help page that calls meson. Everything here works without it, too: meson setup, compile, test, install.

BUILD = build
WERROR = false
MESON_FLAGS =

.PHONY: all help test demo install clean
all: deps-build $(BUILD)/build.ninja ## build the CLI (build/lcpfs), the nbdkit plugin and the library
	@meson compile -C $(BUILD)

help: ## this page
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' Makefile | expand -t 22

test: ## build and run the tests; the last line counts them
	@tools/install-deps.sh test
	@$(MAKE) --no-print-directory $(BUILD)/build.ninja
	@meson configure $(BUILD) -Dwerror=$(WERROR)
	@tools/run-tests.py $(BUILD)

install: all ## install CLI, plugin, library, headers and man pages (DESTDIR and meson's prefix apply)
	@meson install -C $(BUILD)

clean: ## remove what was built
	rm -rf build build-*

.PHONY: deps-build
deps-build:
	@tools/install-deps.sh build

$(BUILD)/build.ninja:
	@meson setup $(BUILD) $(MESON_FLAGS)
