#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Layout leases in three acts. An RDMA server lends a file of a DAX file system
# to an RDMA client, and an administrator truncates it:
#
#   1. without a lease: the file cannot be registered, as on any kernel
#   2. the server lets go when it is told
#   3. the server does not: its memory region is revoked after the grace period,
#      and what it still does cannot reach the blocks, which are another file's
#
# Needs root, DAX1 (mount point of a DAX file system), RDMA_DEV (default: the
# first device), and the programs of this directory, built, here or in PATH.
# Exit status 0 only if everything happened as it must.

set -u
here=$(cd "$(dirname "$0")" && pwd)
PATH=$here:$PATH
grace=/proc/sys/fs/layout-lease-break-time
short=2 # seconds, act 3

die() {
	echo "$0: $*" >&2
	exit 2
}

for p in server client admin; do
	command -v "$p" >/dev/null || die "no program $p, see Makefile"
done
[ -n "${DAX1:-}" ] || die "DAX1 names no DAX file system"
[ -w $grace ] || die "this kernel has no layout leases, or you are not root"

tmp=$(mktemp -d)
file=$DAX1/demo-leased other=$DAX1/demo-other
now() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }
DEMO_START=$(now)
export DEMO_START
export DEMO_EVENTS=$tmp/events DEMO_ACT=
: >"$DEMO_EVENTS"
old_grace=$(<$grace)
server='' client=''

# shellcheck disable=SC2317,SC2329 # called by trap
cleanup() {
	[ -z "$client" ] || kill -9 "$client" 2>/dev/null
	[ -z "$server" ] || kill -9 "$server" 2>/dev/null
	wait
	echo "$old_grace" >"$grace"
	rm -rf "$tmp" "$file" "$other"
}
trap cleanup EXIT

say() {
	printf '[%6d ms] %-14s %s\n' $(($(now) - DEMO_START)) administrator "$*"
}

act() { # number, title
	DEMO_ACT=act$1
	printf '\nAct %s: %s\n' "$1" "$2"
}

# When did it happen? Empty: it did not.
when() { # event
	local name ms
	while read -r name ms; do
		[ "$name" = "$1" ] && echo "$ms" && return
	done <"$DEMO_EVENTS"
}

await() { # event of this act, seconds
	local i
	for ((i = 0; i < $2 * 10; i++)); do
		[ -n "$(when "$DEMO_ACT.$1")" ] && return
		sleep 0.1
	done
	say "waited $2 s in vain for: $1"
	return 1
}

# Server and client up, and data in the file.
start() { # kind of server, arguments of the client
	server "$file" "$tmp/socket" "$1" &
	server=$!
	await ready 30 || return
	shift
	client "$tmp/socket" "$@" &
	client=$!
	await writing 30 || return
	sleep 1
	admin peek "$file"
}

finish() {
	wait "$client" || say "the client failed"
	client=''
	wait "$server" || say "the server failed"
	server=''
}

echo "The file is $file ($(stat -f -c %T "$DAX1"), DAX), the kernel is $(uname -r)"

act 1 "no lease"
admin make "$file" || exit
server "$file" "$tmp/socket" nolease

act 2 "a server that lets go"
echo 45 >$grace
if start cooperative; then
	admin truncate "$file"
	await stopped 30
fi
finish

act 3 "a server that does not, and has $short s"
admin make "$file" || exit
admin blocks "$file" >"$tmp/blocks"
echo $short >$grace
if start silent stubborn; then
	admin truncate "$file"
	await stopped 30
	if admin reuse "$other" "$tmp/blocks"; then
		sum=$(admin sum "$other" "$tmp/blocks")
		say "checksum of the other file's part of them: $sum"
		kill -USR1 "$client"
		await refused 60
		again=$(admin sum "$other" "$tmp/blocks")
		say "and after the client's attempts:           $again"
		[ "$sum" = "$again" ] &&
			echo "act3.intact $(($(now) - DEMO_START))" >>"$DEMO_EVENTS"
	fi
fi
kill -USR1 "$client" 2>/dev/null
finish

# The table: each line has to have happened, after the one that times count from
# and within the bounds, if there are any.
failed=0
row() { # event, text, event that the time counts from, at least, at most (ms)
	local ms since verdict=yes
	ms=$(when "$1")
	since=$(when "${3:-}")
	if [ -z "$ms" ] || { [ -n "${3:-}" ] && [ -z "$since" ]; }; then
		ms=- verdict=NO
	elif [ -n "${3:-}" ]; then
		ms=$((ms - since))
		[ $ms -ge "${4:-0}" ] && [ $ms -le "${5:-$ms}" ] || verdict=NO
	else
		ms=''
	fi
	[ $verdict = yes ] || failed=1
	printf '  %-3s  %-58s %8s   %s\n' "${1:3:1}" "$2" "$ms" $verdict
}

a=act2.truncate b=act3.truncate
early=$((short * 1000 - 100)) late=$((short * 1000 + 10000))
printf '\n  act  %-58s %8s   %s\n' 'what happened' 'after ms' 'as it must'
row act1.refused 'registration without a lease is refused (EOPNOTSUPP)'
row act2.leased 'the server gets a lease'
row act2.registered 'and registers the file'
row act2.seen 'the client'\''s RDMA writes are in the file'
row $a 'the administrator truncates it: time counts from here'
row act2.told 'the server is told by an event' $a
row act2.released 'it deregisters and unlocks' $a
row act2.truncated 'truncate is done, long before the deadline of 45 s' $a 0 15000
row act2.stopped 'the client stops: remote access error' $a
row act3.seen 'the client'\''s RDMA writes are in the file'
row $b 'the administrator truncates it: time counts from here'
row act3.told 'the server is told, and does nothing' $b
row act3.revoked "its region is revoked after $short s" $b $early $late
row act3.truncated 'truncate is done' $b $early $late
row act3.stopped 'the client stops: remote access error' $b $early
row act3.reused 'another file took the freed blocks' act3.truncated
row act3.refused 'the old key is refused, time after time' act3.reused
row act3.intact 'the other file'\''s checksum stays' act3.reused
row act3.deregistered 'the server'\''s ibv_dereg_mr succeeds as ever' act3.revoked
echo
if [ $failed -eq 0 ]; then
	echo 'Everything happened as it must.'
else
	echo 'Not everything happened as it must.'
fi
exit $failed
