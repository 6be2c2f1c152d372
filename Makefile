# SPDX-License-Identifier: Apache-2.0
# A help page that calls meson. Everything works without it, too: meson setup, compile, test, install.

BUILD = build
WERROR = false
MESON_FLAGS =
TESTS =
MUTANTS =
BENCH =
EVIDENCE =
MINUTES = 60
# These warnings end gcc 12 where it does not optimize. The default build has them.
GCC12_CRASHES = -Dc_args='-Wno-format-overflow -Wno-format-truncation'
SANITIZED = --buildtype=debugoptimized -Db_lundef=false -Daudit=true

.PHONY: all help test mutants demo soak fuzz bench bench-real bench-snapshots bench-snapshot-bars evidence coverage
.PHONY: test-asan test-tsan install uninstall clean

all: ## build the CLI (build/lcpfs) and the library; installs what README's five minutes take
	@tools/install-deps.sh use
	@tools/configure.sh $(BUILD) -Dwerror=$(WERROR) $(MESON_FLAGS)
	@meson compile -C $(BUILD)

help: ## this page
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' Makefile | expand -t 22

test: ## build and run the tests in about 5 minutes; the last line counts them. TESTS='--suite unit': only some
	@tools/install-deps.sh test
	@tools/configure.sh $(BUILD) -Dwerror=$(WERROR) $(MESON_FLAGS)
	@tools/run-tests.py $(BUILD) $(TESTS)

mutants: ## plant defects one at a time, and list those that no quick test notices; about an hour. MUTANTS=--resume
	@tools/install-deps.sh test
	@tools/mutants.py $(MUTANTS)

demo: ## watch boundaries move under real clients, in under two minutes
	@tools/install-deps.sh demo
	@$(MAKE) --no-print-directory all
	@demo/demo.py $(BUILD)

soak: ## random operations, power cuts and faults for MINUTES=60
	@tools/install-deps.sh test
	@$(MAKE) --no-print-directory all
	@tests/crash/soak.sh $(BUILD) $(MINUTES)

fuzz: ## coverage-guided fuzzing of everything that reads untrusted bytes, for MINUTES=60
	@tools/install-deps.sh fuzz
	@tests/fuzz/run.sh $(MINUTES)

bench: ## measure against the peers on an idle machine, in half an hour. BENCH=--quick: only see that it runs
	@tools/install-deps.sh bench
	@$(MAKE) --no-print-directory all
	@bench/run.py $(BUILD) $(BENCH)

bench-real: ## the simulator's scenarios on a real pool, and its WA beside the simulator's; half an hour
	@tools/install-deps.sh bench
	@$(MAKE) --no-print-directory all
	@bench/real.py $(BUILD)

bench-snapshots: ## count what snapshots cost on the device, beside qcow2's and LVM's
	@tools/install-deps.sh bench
	@$(MAKE) --no-print-directory all
	@bench/snapshots.py $(BUILD)

bench-snapshot-bars: ## time what snapshots cost, each step beside its bar
	@tools/install-deps.sh bench
	@$(MAKE) --no-print-directory all
	@bench/snapshot_bars.py $(BUILD)

evidence: ## PostgreSQL, a log, small files and an archive on moving boundaries; half an hour. EVIDENCE=--resume
	@tools/install-deps.sh evidence
	@$(MAKE) --no-print-directory all
	@bench/evidence.py $(BUILD) $(EVIDENCE)

coverage: ## which lines the tests reach: build-coverage/coverage.html
	@tools/install-deps.sh coverage
	@tools/configure.sh build-coverage --buildtype=debug -Db_coverage=true $(GCC12_CRASHES)
	@tools/run-tests.py build-coverage
	@gcovr -r . --object-directory build-coverage --filter src/ --print-summary \
		--txt build-coverage/coverage.txt --html-details build-coverage/coverage.html
	@cat build-coverage/coverage.txt

test-asan: ## unit tests, commands and a server under clients with address, leak and undefined-behaviour sanitizers
	@tools/install-deps.sh test
	@tools/configure.sh build-asan $(SANITIZED) -Db_sanitize=address,undefined
	@ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 tools/run-tests.py build-asan \
		--suite unit --suite cli --suite sanitized --timeout-multiplier 5

test-tsan: ## unit tests and a server under clients with the thread sanitizer
	@tools/install-deps.sh test
	@tools/configure.sh build-tsan $(SANITIZED) -Db_sanitize=thread
	@TSAN_OPTIONS=halt_on_error=1 tools/run-tests.py build-tsan \
		--suite unit --suite sanitized --timeout-multiplier 5

install: all ## install all but the tests (DESTDIR and MESON_FLAGS=--prefix=... apply)
	@meson install -C $(BUILD) --no-rebuild

uninstall: ## remove what install has put there
	@ninja -C $(BUILD) uninstall

clean: ## remove what was built
	rm -rf build build-*
