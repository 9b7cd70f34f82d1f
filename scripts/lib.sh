# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What the scripts here have in common: where things are, how a step of the
# work is shown, the lock, the overlay. To be sourced.

set -euo pipefail

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# All that is fetched or built lives here.
CACHE=${LAYOUT_LEASE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/layout-lease}

# In these folders our files have the path that they have in the kernel.
OVERLAY=(include fs rust drivers Documentation tools samples)

is_debian() { grep -qsx 'ID=debian' /etc/os-release; }

# Debian's clang and its tools have no version in their name here. Whether or not
# the folder is there: toolchain.sh may be about to install it.
LLVM_DIR=/usr/lib/llvm-19
if is_debian; then
	PATH=$LLVM_DIR/bin:$PATH
	export LIBCLANG_PATH=$LLVM_DIR/lib
fi
BINDGEN_VERSION=0.72.1
PATH=$CACHE/tools/bindgen-$BINDGEN_VERSION/bin:$PATH:/usr/sbin:/sbin
export PATH LC_ALL=C.UTF-8
# What "make" here was called with is not for the make of the kernel.
unset MAKEFLAGS MFLAGS MAKEOVERRIDES MAKELEVEL

say() { printf '== %s\n' "$*" >&2; }

die() {
	printf 'error: %s\n' "$*" >&2
	exit 1
}

# $1 seconds in a form to read.
duration() {
	if [ "$1" -lt 120 ]; then
		echo "$1 s"
	else
		echo "$(($1 / 60)) min $(($1 % 60)) s"
	fi
}

# The cache folder is ours to delete (make clean) only if we made it.
make_cache() {
	[ ! -e "$CACHE/.layout-lease-cache" ] || return 0
	mkdir -p "$CACHE"
	[ -z "$(ls -A "$CACHE")" ] || die "$CACHE exists and is not a cache of this project"
	: >"$CACHE/.layout-lease-cache"
}

# One at a time in the cache, until the calling script ends.
lock() {
	make_cache
	exec 9>"$CACHE/lock"
	! flock -n 9 || return 0
	say "waiting for another run that uses $CACHE"
	flock 9
}

# step WHAT HOW-LONG COMMAND...: run the command, its output into a log file,
# and show what runs, for how long, and the end of the log if it fails.
step() {
	local what=$1 about=$2 start=$SECONDS log pid last=0 now status=0
	shift 2
	mkdir -p "$CACHE/log"
	log=$CACHE/log/${what//[^a-zA-Z0-9.]/-}.log
	say "$what ($about)"
	# In a process group of its own, to end all of it when we are interrupted.
	set -m
	(set -e; "$@") </dev/null >"$log" 2>&1 &
	set +m
	pid=$!
	# shellcheck disable=SC2064 # this pid
	trap "trap - INT TERM HUP; kill -- -$pid 2>/dev/null || :; wait $pid || :; exit 130" INT TERM HUP
	while kill -0 $pid 2>/dev/null; do
		sleep 0.2
		now=$(((SECONDS - start) / 60))
		if [ $now -gt $last ]; then
			last=$now
			say "  $now min: $(tail -n 1 "$log" | cut -c1-70)"
		fi
	done
	wait $pid || status=$?
	trap - INT TERM HUP
	if [ $status -ne 0 ]; then
		tail -n 40 "$log" >&2
		die "$what failed after $(duration $((SECONDS - start))); all of it is in $log"
	fi
	say "  took $(duration $((SECONDS - start)))"
}

# The files of the overlay, one a line. In a clone: what git knows or would add.
overlay_files() {
	cd "$TOP"
	if [ -e .git ]; then
		git ls-files --cached --others --exclude-standard -- "${OVERLAY[@]}"
	else
		find "${OVERLAY[@]}" -type f 2>/dev/null
	fi | while IFS= read -r f; do
		[ ! -f "$f" ] || echo "$f"
	done | sort -u
}

# The files that the patches change, one a line.
patched_files() {
	cd "$TOP"
	[ -d patches ] || return 0
	find patches -name '*.patch' -exec sed -n -E \
		-e 's,^(---|\+\+\+) [ab]/([^\t]*).*,\2,p' \
		-e 's,^rename (from|to) (.*),\2,p' {} + | sort -u
}

# All files of a kernel tree that this project adds or changes.
touched_files() {
	{
		overlay_files
		patched_files
		[ ! -f "$TOP/Kconfig" ] || echo Kconfig.layout_lease
	} | sort -u
}

# copy_files FROM TO: of the files on stdin, those that exist.
copy_files() {
	local f
	while IFS= read -r f; do
		[ -e "$1/$f" ] || continue
		mkdir -p "$2/$(dirname "$f")"
		cp -p "$1/$f" "$2/$f"
	done
}

# The versions of Linux that the series was put on, the first one built and tested.
# shellcheck disable=SC2034 # for those who source this
CHECKED=(7.3.4 7.2.12)

# The version of a kernel tree, as in 7.3.4.
version_of() {
	sed -n -E 's/^(VERSION|PATCHLEVEL|SUBLEVEL) *= *([0-9]+).*/\2/p' "$1/Makefile" |
		paste -s -d.
}

# run_patches VERSION DIR [OPTION]: the series, or with -R the series backwards.
# A patch that must be another one on 7.2.x is in patches/7.2 under the same name.
run_patches() {
	local other=$TOP/patches/${1%.*} dir=$2 p order=
	shift 2
	[ "${1:-}" != -R ] || order=-r
	find "$TOP/patches" -maxdepth 1 -name '*.patch' 2>/dev/null | sort $order |
		while IFS= read -r p; do
			[ ! -f "$other/${p##*/}" ] || p=$other/${p##*/}
			if ! patch -d "$dir" -p1 --fuzz=0 --force --no-backup-if-mismatch -E "$@" <"$p"; then
				echo "does not apply: ${p#"$TOP/"}"
				return 1
			fi
		done
}

# stage TREE DIR: into the empty DIR, our version of all files that we add to
# or change in TREE, a tree without our work. Fails if the patches do not apply.
stage() {
	local f
	patched_files | copy_files "$1" "$2"
	run_patches "$(version_of "$1")" "$2" || return 1
	while IFS= read -r f; do
		if [ -e "$1/$f" ] || [ -e "$2/$f" ]; then
			echo "exists already: $f"
			return 1
		fi
	done < <(overlay_files)
	overlay_files | copy_files "$TOP" "$2"
	[ ! -f "$TOP/Kconfig" ] || cp -p "$TOP/Kconfig" "$2/Kconfig.layout_lease"
}

# is_applied TREE: does it have exactly our overlay and all of our patches?
is_applied() {
	local f tmp status=0
	while IFS= read -r f; do
		cmp -s "$TOP/$f" "$1/$f" || return 1
	done < <(overlay_files)
	[ ! -f "$TOP/Kconfig" ] || cmp -s "$TOP/Kconfig" "$1/Kconfig.layout_lease" || return 1
	tmp=$(mktemp -d)
	patched_files | copy_files "$1" "$tmp"
	run_patches "$(version_of "$1")" "$tmp" -R >/dev/null || status=1
	rm -r "$tmp"
	return $status
}

is_kernel_tree() {
	[ -f "$1/Kbuild" ] && [ -f "$1/Kconfig" ] && [ -f "$1/scripts/Kbuild.include" ] &&
		grep -q '^PATCHLEVEL' "$1/Makefile"
}
