#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Puts the overlay and the patches on a kernel tree of the user's: apply.sh DIR
#
# Everything is tried on a copy of the files concerned first, so the tree is
# either done as a whole or not touched.

. "$(dirname "$0")/lib.sh"

dir=${1:-}
[ -n "$dir" ] || die "which kernel tree? (make apply KDIR=DIR)"
[ -d "$dir" ] || die "there is no directory $dir"
dir=$(realpath "$dir")
is_kernel_tree "$dir" || die "$dir is not the top of a kernel tree"
command -v patch >/dev/null || die "the program patch is missing"
version=$(version_of "$dir")

if is_applied "$dir"; then
	echo "$dir (Linux $version) has all of it already: nothing to do"
	exit 0
fi

if [[ " ${CHECKED[*]} " != *" $version "* ]]; then
	echo "warning: $dir is Linux $version; checked were ${CHECKED[*]}" >&2
fi

tmp=$(mktemp -d)
temporary+=("$tmp")
mkdir "$tmp/new"
if ! stage "$dir" "$tmp/new" >"$tmp/log"; then
	cat "$tmp/log" >&2
	die "it does not apply to $dir (Linux $version; checked were ${CHECKED[*]});" \
		"nothing was changed there"
fi

while IFS= read -r f; do
	if [ ! -e "$tmp/new/$f" ]; then
		echo "  delete $f"
		rm -f "$dir/$f"
		continue
	fi
	if [ -e "$dir/$f" ]; then echo "  change $f"; else echo "  add    $f"; fi
	mkdir -p "$dir/$(dirname "$f")"
	cp "$tmp/new/$f" "$dir/$f"
done < <(touched_files)
echo "$dir (Linux $version): done. Next: enable CONFIG_LAYOUT_LEASE and build with LLVM=1."
