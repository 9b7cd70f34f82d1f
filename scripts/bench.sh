#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# What layout leases cost: counts instructions of this kernel and of the stock one of
# the same configuration, both without debugging, and prints how they relate,
# and whether the goals of tools/testing/layout_lease_bench/goals are met. Exit status
# 1 if one is not, 2 if something was not measured, 4 if this machine cannot do it.
#
#   BENCH       groups of rows, as in the goals (default: all)
#   BENCH_FS    file systems (default: xfs and ext4)
#   BENCH_RDMA  RDMA devices (default: rxe0 and siw0)
#   PROFILE     a measurement: print in which functions its instructions are, and
#               where the two kernels differ; needs an emulator that takes plugins
#
# In the cache, in bench: table, bench.json, and bench.svg if there is matplotlib.

. "$(dirname "$0")/lib.sh"

bench=$TOP/tools/testing/layout_lease_bench
[ -z "${KDIR:-}${KERNEL:-}" ] || die "without KDIR and KERNEL, please: both kernels are given"
export GUEST_TIMEOUT=${GUEST_TIMEOUT:-3600}
read -ra all <<<"$("$TOP/scripts/bench-table" "$bench/goals" --groups)"
read -ra groups <<<"${BENCH:-${all[*]}}"
read -ra filesystems <<<"${BENCH_FS:-xfs ext4}"
read -ra devices <<<"${BENCH_RDMA:-rxe0 siw0}"
if [ -n "${PROFILE:-}" ]; then
	groups=("$("$TOP/scripts/bench-table" "$bench/goals" --group "$PROFILE")") ||
		die "PROFILE: there is no measurement $PROFILE"
fi
for g in "${groups[@]}"; do
	[[ " ${all[*]} " == *" $g "* ]] || die "BENCH: there is no $g, but: ${all[*]}"
done

skip() {
	say "SKIP: $*"
	exit 4
}

# Before anything is built for it.
run "$TOP/scripts/toolchain.sh"
[[ $(qemu-system-x86_64 -accel help) == *tcg* ]] ||
	skip "this qemu-system-x86_64 has no TCG, which counts the instructions"
[ -z "${PROFILE:-}" ] || [[ $(qemu-system-x86_64 -help) == *"
-plugin "* ]] || skip "PROFILE needs plugins, which this qemu-system-x86_64 does not take"

KERNEL=bench-stock run "$TOP/scripts/kernel.sh" build
stock=$(KERNEL=bench-stock "$TOP/scripts/kernel.sh" where)
use "$stock"
export KERNEL=bench
get_programs
ours=$GUEST_KERNEL
export -n KERNEL

tmp=$(mktemp -d)
temporary+=("$tmp")
mkdir "$tmp/results"

# What depends on the device is measured on each, the rest on the first one.
of_device=' reg fsync transfer break '
runs=()
for d in "${devices[@]}"; do
	chosen=()
	for g in "${groups[@]}"; do
		[ "$d" != "${devices[0]}" ] && [[ $of_device != *" $g "* ]] || chosen+=("$g")
	done
	[ ${#chosen[@]} -eq 0 ] || runs+=("$d:$(IFS=,; echo "${chosen[*]}")")
done

# start FS KERNEL: a guest that measures; stock and ours have where the kernel is.
start() {
	# shellcheck disable=SC2154 # get_programs
	GUEST_KERNEL=${!2} "$TOP/scripts/guest.sh" -b -f "$1" "${options[@]}" \
		"$TOP/scripts/guest-bench" "$programs/bench" "${runs[@]}" \
		</dev/null >"$tmp/results/$1.$2" 2>"$tmp/$1.$2.log" &
	guests[$!]=$1.$2
}

# Wait for all of them. 1: something was not measured, which the table shows.
finish() {
	local pid status out
	for pid in "${!guests[@]}"; do
		status=0
		wait "$pid" || status=$?
		out=${guests[pid]}
		cp "$tmp/results/$out" "$CACHE/log/bench-$out.log"
		[ $status -le 1 ] || {
			tail -n 40 "$tmp/results/$out" "$tmp/$out.log" >&2
			die "the guest failed: $out"
		}
	done
	guests=()
}

guests=()
options=()
mkdir -p "$CACHE/log"
if [ -n "${PROFILE:-}" ]; then
	make -s -C "$bench" OUTPUT="$tmp" profile
	options=(-e BENCH_SYMBOLS=y -e "BENCH_ONLY=$PROFILE")
	fs=${filesystems[0]}
	say "profile of $PROFILE on $fs, ${runs[0]%%:*} (about 3 min)"
	runs=("${runs[0]}")
	for k in stock ours; do
		GUEST_PLUGIN=$tmp/profile.so,out=$tmp/profile.$k start "$fs" $k
	done
	finish
	"$TOP/scripts/bench-profile" "$tmp" "$fs"
	exit
fi

! is_debian || run "$TOP/scripts/toolchain.sh" packages python3-matplotlib

# Two at a time: each has one thread.
for fs in "${filesystems[@]}"; do
	begin=$SECONDS
	say "measure on $fs: ${runs[*]} (about 5 min)"
	for k in stock ours; do
		start "$fs" $k
	done
	finish
	say "  took $(duration $((SECONDS - begin)))"
done

# Beside an earlier run of the same kernels and programs.
out=$CACHE/bench
mkdir -p "$out"
id=$(basename "$stock") id+=" $(basename "$ours") $(basename "$programs")"
old=()
if [ "$(cat "$out/id" 2>/dev/null)" = "$id" ]; then
	cp "$out/bench.json" "$tmp/old.json"
	old=("$tmp/old.json")
fi
status=0
"$TOP/scripts/bench-table" "$bench/goals" "$tmp/results" "${old[@]}" >"$tmp/table" || status=$?
cat "$tmp/table"
mv "$tmp/table" "$tmp/results/bench.json" "$out/"
echo "$id" >"$out/id"
"$TOP/scripts/bench-plot" "$out/bench.json" "$out/bench.svg" ||
	say "no picture: that needs python3-matplotlib"
say "table, bench.json: $out"
exit $status
