#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Runs all tests: the model, the KUnit suites while the guest boots, then each
# selftest in a process of its own. The last line is "N passed, N failed, N skipped".
#
#   TESTS         selftests to run (default: all, the model, and Miri)
#   TEST_FS       file systems to run them on (default: xfs and ext4)
#   TEST_RDMA     RDMA devices to run them on (default: rxe0 and siw0)
#   TEST_TIMEOUT  seconds that one of them may take (default 600)
#   FUZZ_SEED, FUZZ_CALLS, PROPERTY_SEED, PROPERTY_TIME, STRESS_SEED, STRESS_TIME,
#   SCALE_LEASES, SCALE_REGIONS, SCALE_MAPPINGS
#                 see fuzz_test, property_test, load_test, scale_test and contract_test

. "$(dirname "$0")/lib.sh"

# Some times slower than the other one. What finds leaks costs more than all the
# rest: it has a run of its own, with fewer tests.
if [ "${KERNEL:-}" = debug ]; then
	TEST_TIMEOUT=${TEST_TIMEOUT:-3000}
	export GUEST_TIMEOUT=${GUEST_TIMEOUT:-7200}
	debug_append="slab_debug=FZP ${GUEST_APPEND:-}"
	export GUEST_APPEND="kmemleak=off $debug_append"
elif [ "${KERNEL:-}" = kcsan ]; then
	TEST_TIMEOUT=${TEST_TIMEOUT:-1500}
	export GUEST_TIMEOUT=${GUEST_TIMEOUT:-7200}
	STRESS_TIME=${STRESS_TIME:-300}
else
	export GUEST_TIMEOUT=${GUEST_TIMEOUT:-3600}
fi

get_programs

tests=()
if [ -n "${TESTS:-}" ]; then
	read -ra tests <<<"$TESTS"
elif [ -f "$programs/tests" ]; then
	mapfile -t tests <"$programs/tests"
fi

# These run on the first device only: they need no RDMA, or the device does not
# matter (who holds or breaks a lease, which range an operation breaks, what the
# filesystem does), or only rxe has it (flush), or it is about siw itself.
once=' errors_test lease_test kinds_test signals_test holders_test breakers_test '
once+='limits_test observe_test ops_test mapping_test bypass_test callers_test '
once+='durability_test stress_test flush_test siw_test rxe_test faults_test fuzz_test '
once+='scale_test refused_test readers_test way_back_test barrier_test '
once+='property_test bystanders_test grace_test pieces_test event_test wait_test '
read -ra devices <<<"${TEST_RDMA:-rxe0 siw0}"

# What matters to these is the device or the context of an inode, not the filesystem:
# where there are two, each is run on one of them, so that neither has more to do than
# the other.
declare -A only=([rxe_test]=xfs [enders_test@siw0]=xfs
	[siw_test]=ext4 [scale_test]=ext4 [enders_test@rxe0]=ext4)

# Each program, with the device if there is a choice.
runs=()
for t in "${tests[@]}"; do
	if [[ $once == *" $t "* ]]; then
		runs+=("$t")
	else
		runs+=("${devices[@]/#/$t@}")
	fi
done

exports=(-e "TEST_TIMEOUT=${TEST_TIMEOUT:-600}" -e "RDMA_DEV=${devices[0]}")
for variable in FUZZ_SEED FUZZ_CALLS PROPERTY_SEED PROPERTY_TIME STRESS_SEED STRESS_TIME \
	SCALE_LEASES SCALE_REGIONS SCALE_MAPPINGS; do
	[ -z "${!variable:-}" ] || exports+=(-e "$variable=${!variable}")
done

tmp=$(mktemp -d)
temporary+=("$tmp")
read -ra filesystems <<<"${TEST_FS:-xfs ext4}"
if [ -z "${TESTS:-}" ] && [ -z "${TEST_RESULTS:-}" ]; then
	declare -A host=([model]=$TOP/scripts/model.sh
		[miri]=$TOP/scripts/miri.sh)
	for check in model miri; do
		say "on this machine: $check"
		start=$SECONDS status=0
		echo "#:# plan $check" >>"$tmp/results"
		run_through "tee $tmp/output" "${host[$check]}" || status=$?
		{
			echo "#:# begin $check"
			cat "$tmp/output"
			echo "#:# end $check $status $((SECONDS - start)) s"
		} >>"$tmp/results"
	done
fi

# One of several that run beside each other leaves its results there.
kunit=(-k)
[ "${TEST_KUNIT-y}" = y ] || kunit=()

# run_tests FS WHERE PROGRAM...: in one guest; WHERE names it in the results.
run_tests() {
	local fs=$1 where=$2 start=$SECONDS status=0 t
	shift 2
	if [ -n "${TEST_BESIDE:-}" ]; then
		for t; do
			shift
			[ "${only[$t]:-$fs}" != "$fs" ] || set -- "$@" "$t"
		done
	fi
	say "tests on $where: $*"
	[ $# -eq 0 ] || printf '#:# plan %s\n' "${@/%/@$where}" >>"$tmp/results"
	run_through "tee $tmp/output" \
		"$TOP/scripts/guest.sh" -f "$fs" "${kunit[@]}" -c "$tmp/console" \
		"${exports[@]}" "$TOP/scripts/guest-tests" "$programs/selftests" "$@" ||
		status=$?
	sed -E "s/^(#:# (begin|end) [^ ]+)/\1@$where/" "$tmp/output" >>"$tmp/results"
	[ $status -eq 0 ] || echo "#:# failed the guest on $where: exit status $status" >>"$tmp/results"
	say "  took $(duration $((SECONDS - start)))"
}

# A guest waits for most of its time, so those of a kernel that is not slow by itself
# run beside each other.
if [ -z "${KERNEL:-}" ] && [ ${#filesystems[@]} -gt 1 ]; then
	parts=()
	for fs in "${filesystems[@]}"; do
		TEST_FS=$fs TEST_BESIDE=y TEST_RESULTS=$tmp/results-$fs TEST_KUNIT=${kunit:+y} \
			"$TOP/scripts/test.sh" > >(exec sed -u "s/^/$fs: /") 2>&1 &
		parts+=($!)
		kunit=()
	done
	for part in "${parts[@]}"; do
		wait "$part" || echo "#:# failed the tests on one of ${filesystems[*]}" >>"$tmp/results"
	done
	for fs in "${filesystems[@]}"; do
		[ ! -f "$tmp/results-$fs" ] || cat "$tmp/results-$fs" >>"$tmp/results"
	done
	filesystems=()
fi

for fs in "${filesystems[@]}"; do
	run_tests "$fs" "$fs" "${runs[@]}"
	if [ ${#kunit[@]} -gt 0 ]; then
		grep -a -E '^(\[[ 0-9.]+\] )?(KTAP|    # Subtest|    (not )?ok |(not )?ok [0-9]+ )' \
			"$tmp/console" || :
		{
			echo '#:# console'
			cat "$tmp/console"
			# A suite that the configuration promises.
			! grep -qs '^CONFIG_LAYOUT_LEASE_KUNIT_TEST=' "$GUEST_KERNEL/config" ||
				echo '#:# suite layout_lease'
		} >>"$tmp/results"
	fi
	kunit=()
done

if [ "${KERNEL:-}" = debug ] && [ -z "${TESTS:-}" ]; then
	# All that allocates, and all ways in which that fails or is cut short.
	fs=${TEST_FS:-xfs} fs=${fs%% *} runs=()
	for t in lease_test kinds_test holders_test revoke_test resources_test faults_test; do
		runs+=("$t")
	done
	for d in "${devices[@]}"; do
		runs+=("mr_test@$d" "removal_test@$d")
	done
	GUEST_APPEND=$debug_append run_tests "$fs" "$fs,kmemleak" "${runs[@]}"
fi

if [ -n "${TEST_RESULTS:-}" ]; then
	mv "$tmp/results" "$TEST_RESULTS"
	exit
fi
say "longest: $(sed -n -E 's/^#:# end ([^ ]+) [0-9]+ ([0-9]+ s)$/\2 \1/p' "$tmp/results" |
	sort -rn | head -n 8 | paste -s -d,)"
"$TOP/scripts/count-tests" "$tmp/results"
