#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Test suites that others wrote, on the stock kernel and on ours, in the same
# guest: pyverbs of rdma-core, stress-ng on a DAX file system, selftests of the
# kernel. Prints the results side by side. A case with another result on ours is
# a failure, and exit status 1; one that fails on both is not our doing.
#
#   FS    file system (default xfs)

. "$(dirname "$0")/lib.sh"

fs=${FS:-xfs}
is_debian || die "this compares packages of Debian 12"
[ -z "${KDIR:-}${KERNEL:-}" ] || die "without KDIR and KERNEL, please: both kernels are given"
export GUEST_TIMEOUT=${GUEST_TIMEOUT:-3600}
run "$TOP/scripts/toolchain.sh" packages python3-pyverbs rdmacm-utils iputils-ping
KERNEL=stock run "$TOP/scripts/kernel.sh" programs
stock=$(KERNEL=stock "$TOP/scripts/kernel.sh" where)
programs=$(KERNEL=stock "$TOP/scripts/kernel.sh" where-programs)
use "$stock"
use "$programs"
run "$TOP/scripts/kernel.sh" build
ours=$("$TOP/scripts/kernel.sh" where)
use "$ours"

tmp=$(mktemp -d)
temporary+=("$tmp")

# suites NAME KERNEL: the cases of NAME, each with how often it came before.
suites() {
	say "the suites without and with this project: $1 (about 5 min)"
	GUEST_KERNEL=$2 run "$TOP/scripts/guest.sh" -f "$fs" \
		"$TOP/scripts/guest-compat" "$programs/selftests" >"$tmp/$1.log" || {
		tail -n 40 "$tmp/$1.log" >&2
		die "the guest failed: $1"
	}
	mkdir -p "$CACHE/log"
	cp "$tmp/$1.log" "$CACHE/log/compat-$1.log"
	say "  all that they print: $CACHE/log/compat-$1.log"
	sed -n 's/^#:# //p' "$tmp/$1.log" |
		awk '{ n = seen[$1, $2]++; print $1 " " $2 (n ? "(" n + 1 ")" : ""), $3 }' >"$tmp/$1"
}
suites stock "$stock"
suites ours "$ours"

package() { dpkg-query -W -f '${Package} ${Version}\n' "$@"; }
echo "stock: Linux $(basename "$(echo "$stock"/modules/*)"), Debian's $(
	basename "$("$TOP/scripts/toolchain.sh" deb linux-source-7.3 '*')" .deb); ours: with this project"
echo "on $fs; $(package python3-pyverbs ibverbs-providers stress-ng | paste -s -d, | sed 's/,/, /g')"
echo
awk '
	FNR == NR { stock[$1 " " $2] = $3; order[++n] = $1 " " $2; next }
	{
		ours[$1 " " $2] = $3
		if (!(($1 " " $2) in stock))
			order[++n] = $1 " " $2
	}
	END {
		form = "%-10s %-90s %-8s %-8s %s\n"
		printf form, "SUITE", "CASE", "STOCK", "OURS", ""
		for (i = 1; i <= n; i++) {
			split(order[i], name)
			a = order[i] in stock ? stock[order[i]] : "missing"
			b = order[i] in ours ? ours[order[i]] : "missing"
			if (!(name[1] in suites)) {
				suites[name[1]] = 1
				list[++s] = name[1]
			}
			count[name[1], "stock", a]++
			count[name[1], "ours", b]++
			differ[name[1]] += a != b
			total += a != b
			# Most of what is skipped is about other hardware.
			if (a == "skipped" && b == "skipped")
				continue
			printf form, name[1], name[2], a, b, a == b ? "" : "DIFFERENT"
		}
		form = "%-10s %8s %8s %8s   %8s %8s %8s   %9s\n"
		printf "\n" form, "", "stock:", "", "", "ours:", "", "", ""
		printf form, "SUITE", "passed", "failed", "skipped", "passed", "failed", "skipped", "different"
		for (i = 1; i <= s; i++) {
			t = list[i]
			printf form, t, count[t, "stock", "passed"] + 0, count[t, "stock", "failed"] + 0,
				count[t, "stock", "skipped"] + 0, count[t, "ours", "passed"] + 0,
				count[t, "ours", "failed"] + 0, count[t, "ours", "skipped"] + 0, differ[t]
			# A suite that does not run compares nothing.
			empty += !count[t, "stock", "passed"]
		}
		printf "\n%d cases, %d different\n", n, total
		exit(total > 0 || n == 0 || empty > 0)
	}' "$tmp/stock" "$tmp/ours"
