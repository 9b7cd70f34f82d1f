#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Layout leases in Python: samples/layout_lease/holder.py, which has the struct, the
# commands and the loop of its own, and pyverbs for the memory region. It is told by
# its eventfd, finds out what is broken, lets go, and has a new lease afterwards.

# shellcheck disable=SC2317,SC2329 # functions are called by what is in variables
here=$(dirname "$(realpath "$0")")
grace=/proc/sys/fs/layout-lease-break-time
# So that nothing is done in time because of it. Python takes long to start on an emulated
# machine.
long=600
soon=150

skip() {
	echo "1..0 # SKIP $*"
	exit 4
}

# Installed beside this one; in a kernel tree where it belongs.
holder=$here/holder.py
[ -e "$holder" ] || holder=$here/../../../../samples/layout_lease/holder.py
[ -e "$holder" ] || skip "no holder.py"
[ "$(id -u)" -eq 0 ] || skip "needs root"
[ -n "${DAX1:-}" ] || skip "DAX1 names no DAX filesystem: see layout_lease.sh"
[ -w $grace ] || skip "no layout leases: CONFIG_LAYOUT_LEASE is missing"
command -v python3 >/dev/null || skip "no python3"
why=$(python3 -c 'import os, pyverbs.mr; os.eventfd' 2>&1) || skip "python3: ${why##*$'\n'}"
why=$(python3 -c 'import pyverbs.device as d, sys; sys.exit(not d.get_device_list())' 2>&1) ||
	skip "no RDMA device ${why##*$'\n'}"

file=$(mktemp "$DAX1/python-XXXXXX")
plain=$(mktemp)
before=$(<$grace)
pid=
clean_up() {
	[ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null
	echo "$before" >"$grace"
	rm -f "$file" "$plain"
}
trap clean_up EXIT
echo $long >"$grace"

start() {
	coproc HOLDER { exec python3 "$holder" "$file" ${RDMA_DEV:+"$RDMA_DEV"} 2>&1; }
	pid=$HOLDER_PID
}

# says PATTERN: its next line is such a one.
line=
says() {
	line=
	read -r -t "$soon" line <&"${HOLDER[0]}" || line="nothing in $soon s, or the end"
	# shellcheck disable=SC2053 # a pattern
	[[ $line == $1 ]] || {
		echo "# expected '$1', got '$line'"
		return 1
	}
}

# The lines of /proc/layout_leases of the holder: kind, state, range, how many regions.
leases() { awk -v pid="$pid" '$1 == pid { print $4, $5, $6, $7, $8 }' /proc/layout_leases; }

has() { # what leases shall say
	local now
	now=$(leases)
	[ "$now" = "$1" ] || {
		echo "# expected leases '$1', there are '$now'"
		return 1
	}
}

# It takes what holders need, and not all of the grace period.
soon_done() { timeout $soon "$@" || { echo "# $*: status $?"; return 1; }; }

no_dax_file() {
	local output status=0
	output=$(python3 "$holder" "$plain" ${RDMA_DEV:+"$RDMA_DEV"} 2>&1) || status=$?
	[ $status -eq 1 ] && [ "$output" = "no lease: Operation not supported" ] || {
		echo "# status $status: $output"
		return 1
	}
}

registers() { says 'registered 4194304' && has "shared granted 0 EOF 1"; }

# The truncated end: told while time is left; then a lease on all of it again.
lets_go() {
	soon_done truncate -s 2M "$file" &&
		says 'broken 2097152 0 breaking [1-9]*' &&
		says 'registered 2097152' && has "shared granted 0 EOF 1"
}

# The beginning is another piece, and the event comes again.
once_more() {
	soon_done fallocate -p -o 0 -l 4096 "$file" &&
		says 'broken 0 2097152 breaking [1-9]*' &&
		says 'registered 2097152' && has "shared granted 0 EOF 1"
}

nothing_left() {
	soon_done truncate -s 0 "$file" &&
		says 'broken 0 0 breaking [1-9]*' && says empty && has "shared granted 0 EOF 0"
}

ends() {
	local status=0 input=${HOLDER[1]}
	exec {input}>&-
	wait "$pid" || status=$?
	[ $status -eq 0 ] || echo "# status $status"
	[ $status -eq 0 ] && has ""
}

tests=(no_dax_file registers lets_go once_more nothing_left ends)
echo "TAP version 13"
echo "1..${#tests[@]}"
truncate -s 4M "$file" "$plain"
start
n=0 failed=0
for test in "${tests[@]}"; do
	n=$((n + 1))
	if $test; then
		echo "ok $n $test"
	else
		echo "not ok $n $test"
		failed=1
	fi
done
exit $failed
