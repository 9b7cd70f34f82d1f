#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Does what README.md prints for applications compile, as it is printed, in C and in
# C++? So does a program that includes the header alone, or beside <fcntl.h> in either
# order. Takes seconds, and needs no kernel, only libibverbs.

. "$(dirname "$0")/lib.sh"

tmp=$(mktemp -d)
temporary+=("$tmp")

# As "make headers_install" does for this one.
mkdir -p "$tmp/usr/linux"
sed 's/_UAPI_LINUX_LAYOUT_LEASE_H/_LINUX_LAYOUT_LEASE_H/' \
	"$TOP/include/uapi/linux/layout_lease.h" >"$tmp/usr/linux/layout_lease.h"

# compiles NAME: $tmp/NAME.c in each language that there is a compiler for.
compiles() {
	local cc=${CC:-cc} cxx=${CXX:-c++}
	"$cc" -Wall -Wextra -Werror -std=c11 -isystem "$tmp/usr" -fsyntax-only \
		-x c "$tmp/$1.c" || die "$1: not C"
	echo "ok $1: C"
	if ! command -v "$cxx" >/dev/null; then
		echo "ok $1: C++ # SKIP no $cxx"
		return
	fi
	"$cxx" -Wall -Wextra -Werror -Wno-missing-field-initializers -std=c++20 \
		-isystem "$tmp/usr" -fsyntax-only -x c++ "$tmp/$1.c" || die "$1: not C++"
	echo "ok $1: C++"
}

# The indented lines of a section.
sed -n '/^## Use it in an application$/,/^## /s/^    //p' "$TOP/README.md" >"$tmp/README.c"
grep -q F_SETLAYOUT "$tmp/README.c" || die "README.md has no example any more"
compiles README

use='int use(void) { return F_SETLAYOUT + F_GETLAYOUT + F_LAYOUT + LAYOUT_LEASE_GRANTED +
	(int)sizeof(struct layout_lease); }'
printf '#include <linux/%s.h>\n%s\n' layout_lease "$use" >"$tmp/alone.c"
printf '#include <fcntl.h>\n#include <linux/layout_lease.h>\n%s\n' "$use" >"$tmp/after.c"
printf '#include <linux/layout_lease.h>\n#include <fcntl.h>\n%s\n' "$use" >"$tmp/before.c"
for name in alone after before; do
	compiles $name
done
