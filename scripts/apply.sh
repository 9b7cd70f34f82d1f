#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Puts the overlay and the patches on a kernel tree of the user's, or takes them
# back:
#
#   apply.sh DIR
#   apply.sh -R DIR
#
# Everything is tried on a copy of the files concerned first, so the tree is
# either done as a whole or not touched. Files are replaced, never written to: in
# a tree made by "cp -al" they are those of another tree too.

. "$(dirname "$0")/lib.sh"

back=
if [ "${1:-}" = -R ]; then
	back=1
	shift
fi
dir=${1:-}
[ -n "$dir" ] || die "which kernel tree? (make ${back:+un}apply KDIR=DIR)"
[ -d "$dir" ] || die "there is no directory $dir"
dir=$(realpath "$dir")
is_kernel_tree "$dir" || die "$dir is not the top of a kernel tree"
command -v patch >/dev/null || die "the program patch is missing"
version=$(version_of "$dir")

tmp=$(mktemp -d)
temporary+=("$tmp")
mkdir "$tmp/new"

if [ -n "$back" ]; then
	is_applied "$dir" >"$tmp/log" || {
		cat "$tmp/log" >&2
		die "$dir (Linux $version) does not have what this version of the project" \
			"puts there; nothing was changed"
	}
	patched_files | copy_files "$dir" "$tmp/new"
	run_patches "$version" "$tmp/new" -R >"$tmp/log"
	done="taken back"
else
	if is_applied "$dir" >"$tmp/log"; then
		echo "$dir (Linux $version) has all of it already: nothing to do"
		exit 0
	fi
	if [[ " ${CHECKED[*]} " != *" $version "* ]]; then
		echo "warning: $dir is Linux $version; checked were ${CHECKED[*]}" >&2
	fi
	if ! stage "$dir" "$tmp/new" >"$tmp/log"; then
		cat "$tmp/log" >&2
		die "it does not apply to $dir (Linux $version; checked were ${CHECKED[*]});" \
			"nothing was changed there"
	fi
	done="done. Next: enable CONFIG_LAYOUT_LEASE and build with LLVM=1."
fi
touched_files >"$tmp/files"

# Until everything lies beside its place, the tree can be left as it was.
suffix=.layout-lease-new
undo() {
	local f
	while IFS= read -r f; do rm -f "$dir/$f$suffix"; done <"$tmp/files"
	tac "$tmp/dirs" | xargs -r -d '\n' rmdir --ignore-fail-on-non-empty
	at_exit
}
: >"$tmp/dirs"
trap undo EXIT
while IFS= read -r f; do
	path=$dir/$f
	parent=${path%/*}
	[[ $(realpath -m "$parent") == "$parent" ]] ||
		die "$parent is a link to elsewhere; nothing was changed"
	[ -e "$tmp/new/$f" ] || continue
	like=$path
	if [ ! -e "$path" ]; then
		# A new folder and those above it, the outermost first.
		for ((p = ${#dir} + 1; p <= ${#parent}; p++)); do
			[[ ${parent:p:1} =~ ^/?$ && ! -d ${parent:0:p} ]] || continue
			mkdir "${parent:0:p}"
			echo "${parent:0:p}" >>"$tmp/dirs"
		done
		like=$parent
	fi
	cp --preserve=mode "$tmp/new/$f" "$path$suffix"
	# As root, in somebody else's tree.
	[ "$(id -u)" -ne 0 ] || chown --reference="$like" "$path$suffix"
done <"$tmp/files"

trap '' HUP INT PIPE TERM
trap at_exit EXIT
while IFS= read -r f; do
	if [ -e "$tmp/new/$f" ]; then
		if [ -e "$dir/$f" ]; then what=change; else what="add   "; fi
		mv -f "$dir/$f$suffix" "$dir/$f"
	elif [ -e "$dir/$f" ]; then
		what=delete
		rm -f "$dir/$f"
		[[ $f != */* ]] ||
			(cd "$dir" && rmdir -p --ignore-fail-on-non-empty "${f%/*}") || :
	else
		continue
	fi
	echo "  $what $f" || :
done <"$tmp/files"
echo "$dir (Linux $version): $done"
