# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What the scripts here have in common: where things are, how a step of the
# work is shown, the locks, what an interruption ends, the overlay. To be sourced.

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
# shellcheck disable=SC2034 # for toolchain.sh
VIRTME_NG_VERSION=1.42
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

# Whoever is interrupted, or has nobody left who reads what he says, ends what he
# started before he ends. bash sees a signal only when no command runs in the
# foreground: what takes long is started with run or step.
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 141' PIPE
trap 'exit 143' TERM
trap at_exit EXIT

# Folders that go when this script ends.
temporary=()

at_exit() {
	local pid i
	trap '' HUP INT PIPE TERM
	{
		for pid in $(jobs -p); do
			# A process group, or a single script that does the same as this one.
			kill -- "-$pid" || kill "$pid" || continue
			wait "$pid" || :
			for ((i = 0; i < 50; i++)); do
				kill -0 -- "-$pid" || break
				sleep 0.1
			done
			kill -KILL -- "-$pid" || :
		done
	} 2>/dev/null
	[ ${#temporary[@]} -eq 0 ] || rm -rf "${temporary[@]}"
}

# run COMMAND...: a program or script, which ends when we are interrupted.
run() {
	local status=0
	"$@" <&0 &
	wait $! || status=$?
	return $status
}

# run_through FILTER COMMAND...: the same, its output through the filter.
run_through() {
	local filter out status=0
	# shellcheck disable=SC2086 # a command and its arguments
	exec {out}> >(exec $1)
	filter=$!
	shift
	run "$@" >&"$out" || status=$?
	exec {out}>&-
	wait $filter || :
	return $status
}

# The cache folder is ours to delete (make clean) only if we made it.
make_cache() {
	local found
	[ ! -e "$CACHE/.layout-lease-cache" ] || return 0
	mkdir -p "$CACHE"
	found=$(ls -A "$CACHE")
	[ -z "$found" ] || [ -e "$CACHE/.layout-lease-cache" ] ||
		die "$CACHE exists and is not a cache of this project"
	: >"$CACHE/.layout-lease-cache"
}

# One at a time in the cache, until the calling script ends. Scripts that it starts
# have its lock.
lock() {
	make_cache
	until [ "/proc/$$/fd/9" -ef "$CACHE/lock" ]; do
		exec 9>"$CACHE/lock"
		if ! flock -n 9; then
			say "waiting for another run that uses $CACHE"
			run flock 9
		fi
	done
}

# use DIR: nobody throws it away as long as this script, or what it starts, lives.
use() {
	local fd
	exec {fd}<"$1"
	flock -s "$fd"
	[ "/proc/$$/fd/$fd" -ef "$1" ] || die "another run has just thrown $1 away: try again"
}

in_use() {
	local fd status=0
	exec {fd}<"$1" || return
	! flock -n "$fd" || status=1
	exec {fd}<&-
	return $status
}

# throw_away DIR...: those that nobody uses.
throw_away() {
	local dir fd
	for dir; do
		{ exec {fd}<"$dir"; } 2>/dev/null || continue
		# Gone at once, so that nobody finds half of it.
		if flock -n "$fd" && mv -T "$dir" "$dir.old.$$" 2>/dev/null; then
			rm -rf "$dir.old.$$"
		fi
		exec {fd}<&-
	done
}

# Builds the kernel and the programs of this clone, to be used by this script:
# $GUEST_KERNEL and $programs.
get_programs() {
	run "$TOP/scripts/kernel.sh" programs
	GUEST_KERNEL=$("$TOP/scripts/kernel.sh" where)
	programs=$("$TOP/scripts/kernel.sh" where-programs)
	export GUEST_KERNEL
	use "$GUEST_KERNEL"
	use "$programs"
}

# how_far LOG SECONDS ABOUT: of the lines or bytes that are expected, and how long it
# takes still; of a step that has neither, only what is left of the time it takes
# elsewhere.
how_far() {
	local have=0 of=${lines:-${bytes:-0}} left
	if [ -n "${lines:-}" ]; then
		have=$(wc -l <"$1")
	elif [ -n "${bytes:-}" ]; then
		have=$(du -sb "${into:-}" 2>/dev/null | cut -f1)
	fi
	if [ "${have:-0}" -gt 0 ] && [ "$have" -lt "$of" ]; then
		echo ", $((have * 100 / of)) %, about $(duration $(($2 * (of - have) / have))) left"
	elif [[ $of = 0 && $3 =~ ^about\ ([0-9]+)\ (s|min) ]]; then
		left=${BASH_REMATCH[1]}
		[ "${BASH_REMATCH[2]}" = s ] || left=$((left * 60))
		left=$((left - $2))
		if [ $left -gt 0 ]; then
			echo ", about $(duration $left) left"
		else
			echo " (longer than on an idle machine)"
		fi
	fi
}

# step WHAT HOW-LONG COMMAND...: run the command, its output into a log file,
# and show what runs, for how long, and the end of the log if it fails. With the
# variable lines, about how many lines of output it has in all, also how far it is; or
# with bytes, how many there will be in the directory into.
step() {
	local what=$1 about=$2 start=$SECONDS log pid last=0 now status=0
	shift 2
	mkdir -p "$CACHE/log"
	log=$CACHE/log/${what//[^a-zA-Z0-9.]/-}.log
	rm -f "$log"
	say "$what ($about)"
	# In a process group of its own, to end all of it when we are interrupted.
	set -m
	(set -e; "$@") </dev/null >"$log" 2>&1 &
	set +m
	pid=$!
	while kill -0 $pid 2>/dev/null; do
		sleep 0.2
		now=$(((SECONDS - start) / 60))
		if [ $now -gt $last ]; then
			last=$now
			say "  $now min$(how_far "$log" $((SECONDS - start)) "$about"): $(
				tail -n 1 "$log" | cut -c1-50)"
		fi
	done
	wait $pid || status=$?
	# It may have died without the others of its group.
	kill -- -$pid 2>/dev/null || :
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

# unpack_touched DEB NAME DIR: of the source the files that matter here.
unpack_touched() {
	local wanted
	mkdir -p "$3"
	wanted=$(mktemp)
	{
		printf 'linux-source-*/%s\n' Makefile Kbuild Kconfig scripts/Kbuild.include \
			scripts/{checkpatch.pl,spelling.txt,const_structs.checkpatch}
		patched_files | sed 's,^,linux-source-*/,'
	} >"$wanted"
	# Files that a patch adds are not in there, which tar calls an error.
	dpkg --fsys-tarfile "$1" | tar -x -O "./usr/src/$2.tar.xz" |
		tar -x -J -C "$3" --strip-components=1 --wildcards -T "$wanted" 2>/dev/null || :
	rm "$wanted"
	is_kernel_tree "$3"
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

# is_applied TREE: does it have exactly our overlay and all of our patches? If not,
# print what differs.
is_applied() {
	local f there tmp status=0
	{
		overlay_files | sed 's/.*/& &/'
		[ ! -f "$TOP/Kconfig" ] || echo Kconfig Kconfig.layout_lease
	} | while read -r f there; do
		cmp -s "$TOP/$f" "$1/$there" || {
			echo "differs: $there"
			return 1
		}
	done || return 1
	tmp=$(mktemp -d)
	patched_files | copy_files "$1" "$tmp"
	run_patches "$(version_of "$1")" "$tmp" -R >"$tmp/log" || {
		status=1
		cat "$tmp/log"
	}
	rm -r "$tmp"
	return $status
}

is_kernel_tree() {
	[ -f "$1/Kbuild" ] && [ -f "$1/Kconfig" ] && [ -f "$1/scripts/Kbuild.include" ] &&
		grep -q '^PATCHLEVEL' "$1/Makefile"
}
