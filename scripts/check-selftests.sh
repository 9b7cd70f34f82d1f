#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The way of who builds kernels, as README.md prints it: a tree with the project in it
# ("make apply"), its selftests, and virtme-ng. In the guest runs nothing of scripts/. Then
# the same on a kernel without all this, which has to be a skip that says what is
# missing. Prints TAP, and of what the guests print the results.
#
#   TESTS   selftests to run (default: some; "all" is half an hour and more)
#   BUILD   if not empty, the kernel is built by virtme-ng, too: a quarter of an hour;
#           else it is that of "make kernel"
#   FS      file system (default xfs)

. "$(dirname "$0")/lib.sh"

tests=(lease_test mr_test)
[ -z "${TESTS:-}" ] || read -ra tests <<<"$TESTS"
pick=("${tests[@]/#/-t }")
[ "${tests[*]}" != all ] || pick=()
fs=${FS:-xfs}
[ -z "${KDIR:-}${KERNEL:-}" ] || die "without KDIR and KERNEL, please"
timeout=${GUEST_TIMEOUT:-3600}

run "$TOP/scripts/kernel.sh" build
kernel=$("$TOP/scripts/kernel.sh" where)
use "$kernel"

# Beside the source, to have hard links to it.
tmp=$(mktemp -d "$CACHE/src/selftests.XXXX")
temporary+=("$tmp")
run "$TOP/scripts/toolchain.sh" virtme-ng >"$tmp/virtme"
run "$TOP/scripts/toolchain.sh" debian-kernel >"$tmp/without"
without=$(cat "$tmp/without")
PATH=$(cat "$tmp/virtme"):$PATH
RUST_LIB_SRC=$("$TOP/scripts/toolchain.sh" rust-lib-src)
export PATH RUST_LIB_SRC

linux=$tmp/linux here=tools/testing/selftests/layout_lease
pristine=$CACHE/src/linux-source-7.3/pristine

cases=0 failed=0
result() { # what, failed if not empty
	cases=$((cases + 1))
	if [ -n "$2" ]; then
		failed=$((failed + 1))
		printf 'not '
	fi
	echo "ok $cases $1"
}
echo "TAP version 13"
echo "1..5"

[ -d "$pristine" ] || run "$TOP/scripts/kernel.sh" tree >&2
step "copy the kernel source" "about 20 s" cp -al "$pristine" "$linux"
step "make apply" "about 5 s" "$TOP/scripts/apply.sh" "$linux"

# not_taken: which options are asked for and not in the configuration?
not_taken() {
	sed -n 's/^\(CONFIG_[A-Z0-9_]*\)=.*/\1/p' "$linux/$here/config" |
		grep -vxFf <(sed -n 's/^\(CONFIG_[A-Z0-9_]*\)=[ym]$/\1/p' "$linux/.config") || :
}
defconfig() {
	make -C "$linux" LLVM=1 defconfig
	(cd "$linux" && scripts/kconfig/merge_config.sh -m .config "$here/config")
	make -C "$linux" LLVM=1 olddefconfig
}
step "make defconfig, and what the tests need" "about 10 s" defconfig
not_taken | sed 's/^/# not taken: /'
result "the options of the selftests take, on top of defconfig" "$(not_taken)"
virtme_config() { (cd "$linux" && vng --kconfig --force --config "$here/config" LLVM=1); }
step "vng --kconfig" "about 10 s" virtme_config
not_taken | sed 's/^/# not taken: /'
result "the options of the selftests take, on top of those of virtme-ng" "$(not_taken)"
rm "$linux/.config"

step "make headers" "about 20 s" make -C "$linux" headers
step "build the selftests" "about 1 min" \
	make -C "$linux/tools/testing/selftests" -j"$(nproc)" TARGETS=layout_lease

# boot RELEASE IMAGE CONFIG COMMAND: what it prints is in $tmp/output, how it ended in
# $tmp/status. The kernel counts as installed: its configuration is in /boot of the guest.
# Without an image it is the one that virtme-ng has built.
boot() {
	local cpus=2 image=()
	[ -z "$2" ] || image=(--run "$2")
	# See guest.sh: patched code is more than the emulation of several threads can do.
	! grep -q '^CONFIG_JUMP_LABEL=y' "$3" || cpus=1
	mkdir -p "$tmp/boot"
	cp "$3" "$tmp/boot/config-$1"
	echo 0 >"$tmp/status"
	cd "$linux"
	# KVM may be there and not work: it is the emulation that does everywhere.
	{
		setpriv --pdeathsig TERM timeout -k 5 "$timeout" \
			vng "${image[@]}" --disable-kvm --disable-microvm --force-9p --user root \
			--memory 3G --cpus "$cpus" --append "memmap=384M!1G memmap=384M!1536M" \
			--rodir="/boot=$tmp/boot" --exec "$4" </dev/null 2>&1 ||
			echo $? >"$tmp/status"
	} | tee "$tmp/output"
}
shows() { grep -aE '^(not )?ok |^1\.\.0|^# the kernel lacks' "$tmp/output" | sed 's/^/# /' || :; }

# The release of a kernel in a folder.
release() { basename "$1"/lib/modules/*; }

release=$(release "$kernel") image=$kernel/bzImage config=$kernel/config
if [ -n "${BUILD:-}" ]; then
	virtme_build() { (cd "$linux" && vng --build --force --config "$here/config" LLVM=1); }
	step "vng --build" "about 15 min" virtme_build
	release=$(make -s -C "$linux" LLVM=1 kernelrelease) image='' config=$linux/.config
fi

wrapper="$here/layout_lease.sh -r -f $fs"
step "the selftests under virtme-ng: ${tests[*]}" "about 3 min" \
	boot "$release" "$image" "$config" "$wrapper ${pick[*]}"
shows
passed=$(grep -acE '^ok [0-9]+ selftests: layout_lease: [a-z_]+$' "$tmp/output" || :)
wrong=
[ "$(cat "$tmp/status")" = 0 ] || wrong="exit status $(cat "$tmp/status")"
if [ ${#pick[@]} -gt 0 ]; then
	[ "$passed" = ${#tests[@]} ] || wrong="only $passed passed"
else
	[ "$passed" -gt 0 ] || wrong="none passed"
fi
[ -z "$wrong" ] || tail -n 40 "$tmp/output" | sed 's/^/# /'
result "virtme-ng runs the selftests: $passed passed, ${wrong:-none failed}" "$wrong"

step "the same on a kernel without all this" "about 1 min" \
	boot "$(release "$without")" "$without"/boot/vmlinuz-* "$without"/boot/config-* "$wrapper"
shows
wrong=
[ "$(cat "$tmp/status")" = 4 ] || wrong="exit status $(cat "$tmp/status")"
result "a kernel without all this: a skip${wrong:+, but $wrong}" "$wrong"
wrong=
grep -q 'SKIP the kernel lacks .*CONFIG_LAYOUT_LEASE' "$tmp/output" || wrong=y
[ -z "$wrong" ] || tail -n 40 "$tmp/output" | sed 's/^/# /'
result "what it lacks is named" "$wrong"

exit $((failed > 0))
