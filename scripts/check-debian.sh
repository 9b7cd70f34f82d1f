#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Does README.md name what a bare Debian lacks? Tries its first steps in roots that are
# bootstrapped for this and have nothing of this machine but this clone, the way to the
# network, and its mirror: what is told to be installed there, then, instead of a demo that
# takes an hour, its parts before the kernel is built. A kernel tree gets the project, its
# selftests are built, and it is taken back.
#
#   SUITES   of Debian (default: bookworm trixie)
#   DEMO     if not empty, the commands of README.md after that, to the end: hours

. "$(dirname "$0")/lib.sh"

is_debian || die "this bootstraps Debian with Debian's tools"
[ "$(id -u)" -eq 0 ] || die "this needs root, to make a root"
read -ra suites <<<"${SUITES:-bookworm trixie}"
run "$TOP/scripts/toolchain.sh" packages mmdebstrap
mkdir -p "$CACHE/debian"

# What README.md prints between "See it work" and the table.
commands() {
	sed -n '/^## See it work$/,/^|/s/^    \([^#]*\).*/\1/p' "$TOP/README.md"
}
[ "$(commands | grep -c '^make ')" -ge 2 ] || die "README.md has no first steps any more"

# The settings of apt that say how to get at the mirror.
apt_settings() {
	apt-config dump | grep -E '^Acquire::(http|https|ftp|Check-|Retries|ForceIP)' || :
}

bootstrap() { # suite
	"$TOP/scripts/toolchain.sh" sources "$1" |
		mmdebstrap --mode=root --variant=minbase --aptopt="$(apt_settings)" "$1" "$root" -
	apt_settings >"$root/etc/apt/apt.conf.d/90settings"
	echo 'APT::Get::Assume-Yes "true";' >"$root/etc/apt/apt.conf.d/90yes"
	cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
	# Who has authorities of his own may need them to get at the crates.
	! [ -d /usr/local/share/ca-certificates ] ||
		cp -a /usr/local/share/ca-certificates "$root/usr/local/share/"
	cp -a "$TOP" "$root/root/layout-leases"
	chown -R 0:0 "$root/root/layout-leases"
}

# inside COMMAND: in that root, where nothing else runs and nothing of ours is set.
inside() {
	# shellcheck disable=SC2016 # the inner shell expands it
	unshare --mount --pid --fork --kill-child bash -c '
		mount --rbind /dev "$1/dev" && mount -t proc proc "$1/proc" && mount -t sysfs sys "$1/sys" &&
			exec chroot "$1" env -i HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
				PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
				sh -e -c "cd /root/layout-leases; $2"' _ "$root" "$1"
}

# try SUITE HOW-LONG COMMAND
try() { step "$1: $3" "$2" inside "$3"; }

for suite in "${suites[@]}"; do
	root=$(mktemp -d "$CACHE/debian/$suite.XXXX")
	chmod 755 "$root"
	temporary+=("$root")
	step "$suite: bootstrap it" "about 1 min" bootstrap "$suite"
	while read -r command; do
		[[ $command == make* ]] || try "$suite" "about 1 min" "$command"
	done < <(commands)
	try "$suite" "1 s" "make help"
	try "$suite" "about 10 min" "scripts/toolchain.sh"
	try "$suite" "1 s" "make check-snippets"
	try "$suite" "5 min" "scripts/kernel.sh tree"
	linux=/root/linux
	try "$suite" "1 min" "cp -a /root/.cache/layout-lease/src/linux-source-7.3/pristine $linux"
	try "$suite" "5 s" "make apply KDIR=$linux"
	try "$suite" "1 min" "make -C $linux headers"
	try "$suite" "1 min" "make -C $linux/tools/testing/selftests TARGETS=layout_lease"
	try "$suite" "5 s" "make unapply KDIR=$linux"
	if [ -n "${DEMO:-}" ]; then
		while read -r command; do
			[[ $command != make* ]] || try "$suite" "an hour or more" "$command"
		done < <(commands)
	fi
	echo "ok Debian $(cat "$root/etc/debian_version") ($suite): $(inside 'rustc --version')"
	rm -rf --one-file-system "$root"
done
