#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Puts overlay and patches on each version of Linux that apply.sh names, as
# Debian ships it: everything must apply, also to a tree that shares its files with
# another one, which stays as it is; a second time must find nothing to do; all of it
# can be taken back; and a tree in which something else is must be refused and left
# alone. Then the kernel's checkpatch.pl must have neither errors nor warnings.

. "$(dirname "$0")/lib.sh"

tmp=$(mktemp -d)
temporary+=("$tmp")

# All that there is to see of a tree.
sum() {
	(
		cd "$1"
		find . -printf '%m %p\n' | sort
		find . -type f -print0 | sort -z | xargs -0 sha256sum
	)
}

apply() { "$TOP/scripts/apply.sh" "$@" >"$tmp/log" 2>&1; }

# same TREE: is it as it was before?
same() { sum "$1" | cmp -s - "$tmp/before"; }

# A file that git tracks would be source code to checkpatch.pl, so it gets each patch
# on its standard input, the way to use it by hand too. The commits that patches fix are
# not in a source package.
checkpatch() {
	local p status=0
	for p in "$TOP"/patches/*.patch "$TOP/patches/${1%.*}"/*.patch; do
		[ -e "$p" ] || continue
		"$tmp/$1/scripts/checkpatch.pl" --no-tree --terse --show-types \
			--ignore UNKNOWN_COMMIT_ID - <"$p" >"$tmp/log" || {
			grep -E 'ERROR|WARNING' "$tmp/log" | sed "s,^-,${p##*/},"
			status=1
		}
	done
	return $status
}

for version in "${CHECKED[@]}"; do
	name=linux-source-${version%.*}
	run "$TOP/scripts/toolchain.sh" deb "$name" "$version-*" >"$tmp/deb"
	deb=$(cat "$tmp/deb")
	step "unpack $(basename "$deb")" "about 30 s" unpack_touched "$deb" "$name" "$tmp/$version"
	sum "$tmp/$version" >"$tmp/before"
	cp -al "$tmp/$version" "$tmp/other"
	apply "$tmp/other" || die "$version: it does not apply: $(cat "$tmp/log")"
	same "$tmp/$version" || die "$version: a tree with hard links to the same files was changed"
	apply "$tmp/other" && grep -q 'nothing to do' "$tmp/log" ||
		die "$version: not recognized when it is applied"
	apply -R "$tmp/other" || die "$version: it cannot be taken back: $(cat "$tmp/log")"
	same "$tmp/other" || die "$version: something is left of it when it is taken back"
	! apply -R "$tmp/other" || die "$version: taken back where nothing is"

	# Does it come to a file that it cannot replace, it leaves the others alone too.
	mv "$tmp/other/drivers" "$tmp/drivers"
	ln -s "$tmp/drivers" "$tmp/other/drivers"
	sum "$tmp/other" >"$tmp/before"
	! apply "$tmp/other" || die "$version: written through a link to elsewhere"
	same "$tmp/other" || die "$version: an unfinished attempt changed the tree"
	rm "$tmp/other/drivers"
	mv "$tmp/drivers" "$tmp/other/drivers"

	sed -i 's/dax/dux/g' "$tmp/other/fs/dax.c"
	sum "$tmp/other" >"$tmp/before"
	! apply "$tmp/other" || die "$version: applied to a tree with another fs/dax.c"
	same "$tmp/other" || die "$version: a refused tree was changed"
	rm -rf "$tmp/other"

	checkpatch "$version" || die "$version: the above is what checkpatch.pl says"
	echo "ok $version"
done
