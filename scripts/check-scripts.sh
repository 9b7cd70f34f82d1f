#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Checks what the scripts promise: who is interrupted leaves nothing behind, what is in
# use stays, a run in which all tests skipped is no success, and a goal that is missed is
# none either. Takes seconds, and needs no kernel.

. "$(dirname "$0")/lib.sh"

tmp=$(mktemp -d)
temporary+=("$tmp")
export LAYOUT_LEASE_CACHE=$tmp/cache CACHE=$tmp/cache
mkdir "$tmp/scripts"
cp "$TOP/scripts/lib.sh" "$tmp/scripts/"

# What make starts, what that starts, and what that starts: something that takes long.
printf 'go:\n\t@scripts/outer.sh %s\n' "\$(HOW)" >"$tmp/Makefile"
cat >"$tmp/scripts/outer.sh" <<'END'
#!/bin/bash
. "$(dirname "$0")/lib.sh"
run "$TOP/scripts/inner.sh" "$@"
END
cat >"$tmp/scripts/inner.sh" <<'END'
#!/bin/bash
. "$(dirname "$0")/lib.sh"
work() {
	sleep 600 &
	echo $! >"$TOP/started"
	wait
}
lock
case $1 in
build) step "something long" "10 min" work ;;
guest) run_through cat bash -c 'echo $$ >"$1/started"; exec sleep 600' _ "$TOP" ;;
esac
END
chmod +x "$tmp"/scripts/*.sh

# interrupted HOW SIGNAL WHOM: WHOM is make alone, or all of its process group.
interrupted() {
	local make i status=0
	rm -f "$tmp/started"
	set -m
	# Who starts us in the background ignores SIGINT, and so would they.
	env --default-signal make --no-print-directory -C "$tmp" go HOW="$1" > >(exec head -n 1 >/dev/null) 2>&1 &
	make=$!
	set +m
	for ((i = 0; i < 100; i++)); do
		[ ! -s "$tmp/started" ] || break
		sleep 0.1
	done
	[ -s "$tmp/started" ] || die "$1: it did not start"
	if [ "$3" = group ]; then kill "-$2" -- "-$make"; else kill "-$2" "$make"; fi
	wait $make 2>/dev/null || status=$?
	[ $status -ne 0 ] || die "$1: interrupted, and yet a success"
	# The last to be told may take a moment if make does not wait for it.
	for ((i = 0; i < 50; i++)); do
		if ! kill -0 "$(cat "$tmp/started")" 2>/dev/null && flock -n "$CACHE/lock" true; then
			echo "ok $1: SIG$2 to $3"
			return
		fi
		sleep 0.1
	done
	die "$1: SIG$2 to $3: what it started lives on, or has the lock"
}
for how in build guest; do
	interrupted $how TERM make
	interrupted $how TERM group
	interrupted $how INT group
	interrupted $how HUP group
done

mkdir -p "$CACHE"/kernel/{used,unused}
use "$CACHE/kernel/used"
throw_away "$CACHE"/kernel/*
[ "$(ls "$CACHE/kernel")" = used ] || die "thrown away: the wrong one"
in_use "$CACHE/kernel/used" || die "in use, and nobody knows"
echo "ok what is in use stays"

# counted STATUS LINE...: of a program with that exit status and these lines.
counted() {
	local status=0
	{
		printf '#:# plan a\n#:# begin a\n'
		printf '%s\n' "${@:2}"
		echo "#:# end a $1 1 s"
	} | "$TOP/scripts/count-tests" >/dev/null || status=$?
	echo $status
}
[ "$(counted 0 1..1 'ok 1 a')" = 0 ] || die "count-tests: a pass"
[ "$(counted 1 1..1 'not ok 1 a')" = 1 ] || die "count-tests: a failure"
[ "$(counted 4 1..1 'ok 1 a # SKIP')" = 4 ] || die "count-tests: a skip"
[ "$(counted 4 1..2 'ok 1 a # SKIP')" = 1 ] || die "count-tests: one did not report"
echo "ok count-tests tells a skip from a pass"

# A kernel of two files, a patch that changes one of them, and a new file.
# claims LINE...: the table, behind the patch.
mkdir -p "$tmp"/{k/fs,fs,include,rust,drivers,Documentation,tools,samples,patches/cover}
cp "$TOP/scripts/series.sh" "$tmp/scripts/"
printf 'VERSION = %s\nPATCHLEVEL = %s\nSUBLEVEL = %s\n' ${CHECKED[0]//./ } >"$tmp/k/Makefile"
echo old >"$tmp/k/fs/file"
echo new >"$tmp/fs/new"
printf 'A title\n\nA text.\n' >"$tmp/patches/cover/one.txt"
cat >"$tmp/patches/0001-a-patch.patch" <<'END'
From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001
From: A B <a@b>
Date: Mon, 23 Nov 2026 00:00:00 +0000
Subject: [PATCH] a patch

Signed-off-by: A B <a@b>
---
diff --git a/fs/file b/fs/file
--- a/fs/file
+++ b/fs/file
@@ -1 +1 @@
-old
+changed
END
claims() {
	printf '%s\n' 'series one' 'patch a-patch' "$@" >"$tmp/patches/series"
	KDIR=$tmp/k "$tmp/scripts/series.sh" >"$tmp/out" 2>&1
}
! claims && grep -qx fs/new "$tmp/out" || die "series: a file that no patch has is not named"
! claims '+ fs/new fs/new' || die "series: a file in two patches"
! claims '+ fs/new' 'patch b-patch' || die "series: a patch that is not there"
claims '+ fs/new' || die "series: $(cat "$tmp/out")"
if ! grep -qx '+new' "$tmp/series/one/0001-a-patch.patch" ||
	! grep -q '^Subject: .* A title' "$tmp/series/one/0000-cover-letter.patch"; then
	die "series: not what was to be mailed"
fi
echo "ok all that is new is in a patch of a series"

printf 'a\nb\n' >"$tmp/log"
[ "$(lines=8 how_far "$tmp/log" 60 '3 min')" = ', 25 %, about 3 min 0 s left' ] ||
	die "how far: of lines"
mkdir "$tmp/download"
truncate -s 1M "$tmp/download/file"
[[ $(into=$tmp/download bytes=2500000 how_far "$tmp/log" 60 '3 MB') == ', 42 %, about '*' left' ]] ||
	die "how far: of bytes"
[ "$(how_far "$tmp/log" 60 'about 3 min')" = ', about 2 min 0 s left' ] ||
	die "how far: of the time it takes elsewhere"
[[ $(how_far "$tmp/log" 200 'about 3 min') == *longer* ]] || die "how far: longer"
echo "ok a step tells how far it is"

# judged GOAL OURS STOCK: of a measurement with these figures.
judged() {
	local status=0
	mkdir -p "$tmp/judged"
	printf '[group] What\nname/how\tstock:\t%s\n' "$1" >"$tmp/goals"
	printf '#:# device rxe0\nM name/how instructions %s 1 1 1\n' "$2" >"$tmp/judged/xfs.ours"
	printf '#:# device rxe0\nM name/how instructions %s 1 1 1\n' "$3" >"$tmp/judged/xfs.stock"
	"$TOP/scripts/bench-table" "$tmp/goals" "$tmp/judged" >/dev/null || status=$?
	echo $status
}
[ "$(judged 1.005 1005 1000)" = 0 ] || die "bench-table: a ratio that meets its goal"
[ "$(judged 1.005 1006 1000)" = 1 ] || die "bench-table: a ratio that does not"
[ "$(judged +30 1030 1000)" = 0 ] || die "bench-table: a difference that meets its goal"
[ "$(judged +30 1031 1000)" = 1 ] || die "bench-table: a difference that does not"
[ "$(judged '<=5' 5 1000)" = 0 ] || die "bench-table: a figure that meets its goal"
[ "$(judged '<=5' 6 1000)" = 1 ] || die "bench-table: a figure that does not"
[ "$(judged - 2000 1000)" = 0 ] || die "bench-table: a figure without a goal"
printf 'F name/how no device\n' >>"$tmp/judged/xfs.ours"
"$TOP/scripts/bench-table" "$tmp/goals" "$tmp/judged" >/dev/null &&
	die "bench-table: what was not measured is no success"
echo "ok bench-table tells a goal that is met from one that is not"
