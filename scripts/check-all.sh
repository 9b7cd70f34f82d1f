#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# All that there is to check, as before a release. Each step goes on where the one
# before failed; exit status 1 if one did.
#
#   STEPS        which, in this order (default: all)
#   TIME         seconds of load on each file system (default 3600)
#   FUZZ_CALLS   calls of the fuzzer with KASAN (default 1000000)

. "$(dirname "$0")/lib.sh"

check_patches() { run "$TOP/scripts/check-patches.sh"; }
check_series() { run "$TOP/scripts/series.sh" check; }
check_scripts() { run "$TOP/scripts/check-scripts.sh"; }
check_snippets() { run "$TOP/scripts/check-snippets.sh"; }
check_selftests() { TESTS=all BUILD=y run "$TOP/scripts/check-selftests.sh"; }
check_debian() { run "$TOP/scripts/check-debian.sh"; }
check_off() { run "$TOP/scripts/check-off.sh"; }
check_drivers() { run "$TOP/scripts/check-drivers.sh" -k; }
check_model() { run "$TOP/scripts/model.sh" -l; }
check_release() { run "$TOP/scripts/test.sh"; }
check_builtin() { KERNEL=builtin run "$TOP/scripts/test.sh"; }
check_debug() { KERNEL=debug run "$TOP/scripts/test.sh"; }
check_kcsan() { KERNEL=kcsan run "$TOP/scripts/test.sh"; }
check_fuzz() {
	KERNEL=debug TESTS=fuzz_test TEST_FS=xfs TEST_TIMEOUT=14400 GUEST_TIMEOUT=15000 \
		FUZZ_CALLS=${FUZZ_CALLS:-1000000} run "$TOP/scripts/test.sh"
}
check_stress() {
	TIME=${TIME:-3600} FS=xfs run "$TOP/scripts/stress.sh" &&
		TIME=${TIME:-3600} FS=ext4 run "$TOP/scripts/stress.sh"
}
check_compat() {
	FS=xfs run "$TOP/scripts/compat.sh" &&
		FS=ext4 run "$TOP/scripts/compat.sh"
}

steps=(patches series scripts snippets debian selftests off drivers model release builtin
	kcsan compat debug fuzz stress)
read -ra chosen <<<"${STEPS:-${steps[*]}}"
for s in "${chosen[@]}"; do
	[[ " ${steps[*]} " == *" $s "* ]] || die "STEPS: there is no $s, but: ${steps[*]}"
done

make_cache
mkdir -p "$CACHE/log"
failed=0
for s in "${chosen[@]}"; do
	log=$CACHE/log/check-all-$s.log start=$SECONDS
	say "$s: $log"
	if "check_$s" </dev/null >"$log" 2>&1; then
		verdict=ok
	else
		verdict=FAILED
		failed=$((failed + 1))
		tail -n 20 "$log" >&2
	fi
	printf '%-9s %-7s %12s   %s\n' "$s" $verdict "$(duration $((SECONDS - start)))" \
		"$(tail -n 1 "$log")"
done
[ $failed -eq 0 ] || die "$failed of ${#chosen[@]} steps failed"
