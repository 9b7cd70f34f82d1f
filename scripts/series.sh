#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Writes what one would mail: patches/series as mails with cover letters, a folder
# for each series. Overlay and patches are put together as commits on the kernel
# source, of which only the files that matter are there; the sum of all series
# must be exactly what "make apply" gives.
#
#   series.sh          write them
#   series.sh check    write them, then look if each mail alone has neither errors
#                      nor warnings of checkpatch.pl, programs in tools/ left aside,
#                      and applies to those before it
#
#   OUT    where to (default: the folder "series" here, which is replaced)
#   KDIR   a kernel tree to take the source from instead of Debian's

. "$(dirname "$0")/lib.sh"

TABLE=$TOP/patches/series
version=${CHECKED[0]}
name=linux-source-${version%.*}
pristine=$CACHE/src/$name/pristine
out=${OUT:-$TOP/series}
[ ! -e "$out" ] || [ -e "$out/.layout-lease-series" ] ||
	die "$out exists and was not written by this script"

tmp=$(mktemp -d)
temporary+=("$tmp")
git=$tmp/git

# Nothing of this user or of this day gets into the mails.
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE

get_source() {
	local deb
	if [ -n "${KDIR:-}" ]; then
		pristine=$(realpath "$KDIR")
	elif [ ! -d "$pristine" ]; then
		run "$TOP/scripts/toolchain.sh" deb "$name" "$version-*" >"$tmp/deb"
		deb=$(cat "$tmp/deb")
		pristine=$tmp/pristine
		step "unpack $(basename "$deb")" "about 30 s" unpack_touched "$deb" "$name" "$pristine"
	fi
	[ "$(version_of "$pristine")" = "$version" ] ||
		die "$pristine is Linux $(version_of "$pristine"); the series is for $version"
}

new_files() {
	overlay_files
	[ ! -f "$TOP/Kconfig" ] || echo Kconfig.layout_lease
}

add_new_file() {
	local from=$1
	[ "$1" != Kconfig.layout_lease ] || from=Kconfig
	mkdir -p "$git/$(dirname "$1")"
	cp -p "$TOP/$from" "$git/$1"
}

# read_table: the commits in $tmp/commits as "KIND NAME", those of each series behind a
# line "series NAME"; of commit I the new files in $tmp/files.I; of a series the
# addresses in $tmp/to.NAME.
read_table() {
	local word rest f pattern patterns series= i=0 found
	new_files >"$tmp/unclaimed"
	: >"$tmp/commits"
	while read -r word rest; do
		case $word in
		'' | '#'*) continue ;;
		series)
			series=$rest
			echo "series $rest" >>"$tmp/commits"
			[ -f "$TOP/patches/cover/$rest.txt" ] || die "$rest has no cover letter"
			;;
		to) echo "$rest" >"$tmp/to.$series" ;;
		patch | new)
			i=$((i + 1))
			echo "$word $rest" >>"$tmp/commits"
			: >"$tmp/files.$i"
			;;
		+)
			read -ra patterns <<<"$rest"
			for pattern in "${patterns[@]}"; do
				found=
				while IFS= read -r f; do
					# shellcheck disable=SC2053 # it is a pattern
					if [[ $f == $pattern ]]; then
						echo "$f" >>"$tmp/files.$i"
						found=1
					else
						echo "$f"
					fi
				done <"$tmp/unclaimed" >"$tmp/rest"
				[ -n "$found" ] || die "patches/series: no file, or taken already: $pattern"
				mv "$tmp/rest" "$tmp/unclaimed"
			done
			;;
		*) die "patches/series: what is $word?" ;;
		esac
	done <"$TABLE"
	[ ! -s "$tmp/unclaimed" ] || {
		cat "$tmp/unclaimed" >&2
		die "patches/series: no patch claims these new files"
	}
	sed -n 's/^patch //p' "$tmp/commits" | sort >"$tmp/have"
	find "$TOP/patches" -maxdepth 1 -name '*.patch' -printf '%f\n' |
		sed 's/^[0-9]*-//; s/\.patch$//' | sort >"$tmp/want"
	diff "$tmp/have" "$tmp/want" >&2 || die "patches/series: not each patch is there once"
}

g() { git -C "$git" "$@"; }

# Who has signed the patch or message $1 off is who it is from.
author_of() { sed -n 's/^Signed-off-by: //p' "$1" | head -n 1; }

# As whom, and when, git makes commits and cover letters.
be() {
	local who=$1
	export GIT_COMMITTER_NAME=${who% <*} GIT_COMMITTER_EMAIL GIT_COMMITTER_DATE=$2
	GIT_COMMITTER_EMAIL=${who##*<}
	GIT_COMMITTER_EMAIL=${GIT_COMMITTER_EMAIL%>}
}

commit() {
	local kind=$1 name=$2 files=$3 p f date
	if [ "$kind" = patch ]; then
		p=$(find "$TOP/patches" -maxdepth 1 -name "[0-9]*-$name.patch")
	else
		p=$TOP/patches/new/$name.txt
		[ -f "$p" ] || die "there is no $p"
		[ -s "$files" ] || die "$name: a new patch without files"
	fi
	date=$(sed -n '1,/^$/s/^Date: //p' "$p")
	date=${date:-$(g log -1 --format=%aD)}
	be "$(author_of "$p")" "$date"
	[ "$kind" = new ] || g am -q "$p" || die "does not apply in this order: $p"
	while IFS= read -r f; do
		[ ! -e "$git/$f" ] || die "$p: exists already: $f"
		add_new_file "$f"
	done <"$files"
	[ -s "$files" ] || return 0
	g add -A -f
	if [ "$kind" = patch ]; then
		g commit -q --amend --no-edit
	else
		g commit -q --author="$(author_of "$p")" --date="$date" -F "$p"
	fi
}

# The source as it came, of what the patches change.
start() {
	mkdir "$git"
	patched_files | copy_files "$pristine" "$git"
	g init -q
	be 'nobody <nobody@localhost>' '2026-01-01 00:00:00 +0000'
	g add -A -f
	g commit -q --author='nobody <nobody@localhost>' -m 'base'
	g tag base
}

put_together() {
	local kind name series= i=0
	start
	while read -r kind name; do
		if [ "$kind" = series ]; then
			series=$name
			g checkout -q -b "$series"
			# The first line becomes the subject.
			g config "branch.$series.description" "$(cat "$TOP/patches/cover/$series.txt")"
		else
			i=$((i + 1))
			commit "$kind" "$name" "$tmp/files.$i"
		fi
	done <"$tmp/commits"
	g branch end
}

# Is it what "make apply" gives, to the byte?
compare() {
	mkdir "$tmp/applied"
	stage "$pristine" "$tmp/applied" >"$tmp/log" || {
		cat "$tmp/log"
		return 1
	}
	GIT_INDEX_FILE=$tmp/index git --git-dir="$git/.git" --work-tree="$tmp/applied" add -A -f
	GIT_INDEX_FILE=$tmp/index git --git-dir="$git/.git" diff --cached --exit-code --stat end
}

write_mails() {
	local series from=base to address
	rm -rf "$out"
	mkdir -p "$out"
	: >"$out/.layout-lease-series"
	for series in $(sed -n 's/^series //p' "$tmp/commits"); do
		to=()
		for address in $(cat "$tmp/to.$series" 2>/dev/null); do to+=("--to=$address"); done
		# A cover letter is of the day of the last patch.
		be "$(g log -1 --format='%an <%ae>' "$series")" "$(g log -1 --format=%aD "$series")"
		g format-patch -q --cover-letter --cover-from-description=subject --numbered \
			--zero-commit --no-signature --abbrev=12 --stat=80 "${to[@]}" \
			-o "$out/$series" "$from..$series"
		from=$series
	done
}

# changed FROM TO: lines added and deleted in files of the source, and in new ones.
changed() {
	g diff --no-renames --numstat "$1" "$2" >"$tmp/numstat"
	g ls-tree -r --name-only base | awk '
		FNR == NR { old[$0] = 1; next }
		$3 in old { lines += $1 + $2; next }
		{ new += $1 }
		END { print lines + 0, new + 0 }' - "$tmp/numstat"
}

show() {
	local series from=base end a b
	printf '%-14s %8s %16s %10s\n' SERIES PATCHES 'LINES CHANGED' 'NEW LINES'
	for series in $(sed -n 's/^series //p' "$tmp/commits") all; do
		end=$series
		if [ "$series" = all ]; then
			from=base
			end=end
		fi
		read -r a b < <(changed "$from" "$end")
		printf '%-14s %8s %16s %10s\n' "$series" "$(g rev-list --count "$from..$end")" "$a" "$b"
		from=$end
	done
	echo "written to $out"
}

# What checkpatch.pl is not asked. The commits that patches fix are not in a source
# package. New files are in the entry of MAINTAINERS that a patch adds, but not each patch
# changes MAINTAINERS. Scripts may have no suffix. And a static key with two arguments, which
# is exported, looks like no variable. Nor is it asked about programs in tools/: it takes the
# macros of the harness, as in FIXTURE_DATA(x) *self, for multiplications.
NOT_ASKED=UNKNOWN_COMMIT_ID,FILE_PATH_CHANGES,EXECUTE_PERMISSIONS,EXPORT_SYMBOL

only_tools() { ! grep '^diff --git ' "$1" | grep -qv '^diff --git a/tools/'; }

check_mails() {
	local series mail status=0 from=base commit
	g checkout -q -b mailed base
	for series in $(sed -n 's/^series //p' "$tmp/commits"); do
		g rev-list --reverse "$from..$series" >"$tmp/revs"
		from=$series
		exec 8<"$tmp/revs"
		for mail in "$out/$series"/*.patch; do
			[[ $mail != */0000-* ]] || continue
			read -r commit <&8
			if ! only_tools "$mail"; then
				"$pristine/scripts/checkpatch.pl" --no-tree --terse --show-types \
					--ignore "$NOT_ASKED" - <"$mail" >"$tmp/log" || {
					grep -E 'ERROR|WARNING' "$tmp/log" |
						sed "s,^-,${mail#"$out/"},"
					status=1
				}
			fi
			g am -q "$mail" && g diff --quiet HEAD "$commit" || {
				echo "does not apply, or is not what was written: ${mail#"$out/"}"
				return 1
			}
		done
		exec 8<&-
	done
	return $status
}

case ${1:-} in
'' | check) ;;
*) die "what is $1?" ;;
esac
read_table
get_source
make_cache
step "put the series together" "about 1 min" put_together
compare >&2 || die "the sum of the series is not what \"make apply\" gives: see above"
write_mails
show
if [ "${1:-}" = check ]; then
	step "checkpatch.pl and git am, mail by mail" "about 4 min" check_mails
	echo "ok"
fi
