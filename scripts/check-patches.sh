#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Puts overlay and patches on each version of Linux that apply.sh names, as
# Debian ships it: everything must apply, a second time must find nothing to do,
# and a tree in which something else is must be refused and left alone.

. "$(dirname "$0")/lib.sh"

tmp=$(mktemp -d)
temporary+=("$tmp")

# unpack DEB NAME DIR: of the source the files that matter here.
unpack() {
	mkdir -p "$3"
	{
		printf 'linux-source-*/%s\n' Makefile Kbuild Kconfig scripts/Kbuild.include
		patched_files | sed 's,^,linux-source-*/,'
	} >"$tmp/wanted"
	# Files that a patch adds are not in there, which tar calls an error.
	dpkg --fsys-tarfile "$1" | tar -x -O "./usr/src/$2.tar.xz" |
		tar -x -J -C "$3" --strip-components=1 --wildcards -T "$tmp/wanted" 2>/dev/null || :
	is_kernel_tree "$3"
}

sum() { (cd "$1" && find . -type f -print0 | sort -z | xargs -0 sha256sum); }

for version in "${CHECKED[@]}"; do
	name=linux-source-${version%.*}
	run "$TOP/scripts/toolchain.sh" deb "$name" "$version-*" >"$tmp/deb"
	deb=$(cat "$tmp/deb")
	step "unpack $(basename "$deb")" "about 30 s" unpack "$deb" "$name" "$tmp/$version"
	cp -a "$tmp/$version" "$tmp/other"

	"$TOP/scripts/apply.sh" "$tmp/$version" >"$tmp/log" || die "$version: it does not apply"
	"$TOP/scripts/apply.sh" "$tmp/$version" | grep -q 'nothing to do' ||
		die "$version: not recognized when it is applied"

	sed -i 's/dax/dux/g' "$tmp/other/fs/dax.c"
	sum "$tmp/other" >"$tmp/before"
	! "$TOP/scripts/apply.sh" "$tmp/other" >"$tmp/log" 2>&1 ||
		die "$version: applied to a tree with another fs/dax.c"
	sum "$tmp/other" | cmp -s - "$tmp/before" || die "$version: a refused tree was changed"
	rm -rf "$tmp/other"
	echo "ok $version"
done
