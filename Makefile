# SPDX-License-Identifier: GPL-2.0
#
# The builder's entry: everything is done by scripts/, which see the variables
# of the command line. This file is never copied over the kernel's own.

help:
	@echo 'make demo                  build everything and run the demonstration'
	@echo 'make test                  build everything and run all tests'
	@echo '                           [TESTS="NAME..."] [TEST_FS=xfs] [TEST_RDMA=siw0]'
	@echo 'make stress TIME=SECONDS   holders and breakers under load, a check that no block'
	@echo '                           is written to that the file does not own, and that'
	@echo '                           nothing is left [SEED=N] [FS=xfs|ext4]'
	@echo 'make model                 check the model of the protocol, and a tree under Miri'
	@echo 'make kernel                build the kernel'
	@echo 'make selftests             build the test programs and samples too'
	@echo 'make shell                 a shell in the guest [FS=xfs|ext4]'
	@echo 'make guest RUN=SCRIPT      run a script of yours in the guest: two DAX file'
	@echo '                           systems in $$DAX1 and $$DAX2, rxe0, siw0, your files'
	@echo '                           readable [FS=xfs|ext4] [ARGS="..."]'
	@echo 'make apply KDIR=DIR        put overlay and patches on a kernel tree of yours'
	@echo 'make unapply KDIR=DIR      take them back'
	@echo 'make check-patches         does "make apply" work on all versions that it names?'
	@echo 'make series                write what one would mail to series/: patches for new files'
	@echo '                           too, cover letters [OUT=DIR]'
	@echo 'make check-series          the same, then git am and checkpatch.pl, mail by mail'
	@echo 'make check-scripts         does an interrupted make leave nothing behind, and more?'
	@echo 'make check-snippets        does what README.md prints compile, in C and in C++?'
	@echo 'make check-selftests       the selftests as on a tree of yours: applied, under'
	@echo '                           virtme-ng; and once where they must skip [TESTS=...]'
	@echo 'make check-debian          do the first steps of README.md work on a bare Debian?'
	@echo '                           [SUITES="bookworm trixie"]'
	@echo 'make check-off             compile what the patches change, with CONFIG_LAYOUT_LEASE off'
	@echo 'make check-drivers         compile all drivers that can revoke memory regions'
	@echo 'make test-drivers          and run the KUnit suites of those that have some'
	@echo 'make compat                suites that others wrote, on the stock kernel and on this'
	@echo '                           one, side by side [FS=xfs|ext4]'
	@echo 'make bench                 what it costs, in instructions, beside the stock kernel and'
	@echo '                           what else one would use [BENCH="GROUP..."]'
	@echo '                           [BENCH_FS=xfs] [BENCH_RDMA=siw0] [PROFILE=MEASUREMENT]'
	@echo 'make check-all             all checks on all kernels, many hours [STEPS="NAME..."]'
	@echo 'make clean                 remove what was fetched and built'
	@echo
	@echo 'KDIR=DIR     build this kernel tree (only read) instead of the one from Debian'
	@echo 'KERNEL=NAME  another kernel: debug (KASAN and more), kcsan (data races), builtin'
	@echo '             (no modules), bench (no debugging), or stock (without all this, only'
	@echo '             to be built)'
	@echo 'JOBS=N       compilers at a time'
	@echo 'LAYOUT_LEASE_CACHE=DIR  where all that is fetched and built lives,'
	@echo '             by default layout-lease in $$XDG_CACHE_HOME or ~/.cache'
	@echo 'GUEST_TIMEOUT=SECONDS, GUEST_CPUS=N: see scripts/guest.sh'

kernel:
	@scripts/kernel.sh build

selftests:
	@scripts/kernel.sh programs

shell: kernel
	@scripts/guest.sh -f $(or $(FS),xfs) -i

guest: kernel
	@scripts/guest.sh -f $(or $(FS),xfs) $(if $(RUN),'$(RUN)') $(ARGS)

demo:
	@scripts/demo.sh $(ARGS)

test:
	@scripts/test.sh

model:
	@scripts/model.sh
	@scripts/miri.sh

stress:
	@scripts/stress.sh

apply:
	@scripts/apply.sh '$(KDIR)'

unapply:
	@scripts/apply.sh -R '$(KDIR)'

check-patches:
	@scripts/check-patches.sh

series:
	@scripts/series.sh

check-series:
	@scripts/series.sh check

check-scripts:
	@scripts/check-scripts.sh

check-snippets:
	@scripts/check-snippets.sh

check-selftests:
	@scripts/check-selftests.sh

check-debian:
	@scripts/check-debian.sh

check-off:
	@scripts/check-off.sh

check-drivers:
	@scripts/check-drivers.sh

test-drivers:
	@scripts/check-drivers.sh -k

compat:
	@scripts/compat.sh

bench:
	@scripts/bench.sh

check-all:
	@scripts/check-all.sh

clean:
	@scripts/clean.sh

.PHONY: help kernel selftests shell guest demo test stress model apply unapply check-patches series check-series check-scripts check-snippets check-selftests check-debian check-off check-drivers test-drivers compat bench check-all clean
