#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Makes what the tests of layout leases need, runs them, and takes it away again:
#
#   layout_lease.sh [-r] [-f xfs|ext4] [-d DEVICE,DEVICE] [-t TEST]... [COMMAND...]
#
#   -r   make the software RDMA devices rxe0 and siw0 too, on network devices
#        of their own. Without: the tests use RDMA_DEV, or the first device.
#   -f   type of the two DAX filesystems (default xfs)
#   -d   persistent memory to make them on: ALL ON IT IS LOST. Default: the first
#        two of /dev/pmem* on which nothing is found.
#   -t   run this test, as in -t lease_test -t mr_test. Default: all.
#
# COMMAND is run with DAX1, DAX2, DAXFS and RDMA_DEV set. Without one, it is
# run_kselftest.sh for this folder, or in a kernel tree "make run_tests".
#
# Exit status: 1 if a test failed, 4 if none ran, be it that all skipped or that
# something is missing here; what that is, is said.

here=$(dirname "$(realpath "$0")")
fs=xfs rdma='' devices=() tests=()
while getopts rf:d:t: opt; do
	case $opt in
	r) rdma=1 ;;
	f) fs=$OPTARG ;;
	d) IFS=, read -ra devices <<<"$OPTARG" ;;
	t) tests+=("$OPTARG") ;;
	*) exit 2 ;;
	esac
done
shift $((OPTIND - 1))

skip() {
	echo "1..0 # SKIP $*"
	exit 4
}

[ "$(id -u)" -eq 0 ] || skip "needs root"

# The configuration of the kernel that runs, if it can be found.
kernel_config() {
	local tree=$here/../../../.. release
	release=$(uname -r)
	if [ -r /proc/config.gz ] || modprobe -q configs; then
		zcat /proc/config.gz
	elif [ -r "/boot/config-$release" ]; then
		cat "/boot/config-$release"
	elif [ "$(cat "$tree/include/config/kernel.release" 2>/dev/null)" = "$release" ]; then
		cat "$tree/.config"
	else
		return 1
	fi
}

# Without these nothing runs; without the others some tests skip.
needed=' CONFIG_LAYOUT_LEASE CONFIG_FS_DAX CONFIG_BLK_DEV_PMEM '
case $fs in
xfs) needed+='CONFIG_XFS_FS ' ;;
ext4) needed+='CONFIG_EXT4_FS ' ;;
*) skip "-f $fs: there are xfs and ext4" ;;
esac

tmp=$(mktemp -d)
# Tests drop their privileges and open files by name.
chmod 755 "$tmp"
mkdir "$tmp/dax1" "$tmp/dax2"
links=() rdma_links=()
clean_up() {
	local name
	cd /
	for name in "${rdma_links[@]}"; do rdma link delete "$name"; done
	for name in "${links[@]}"; do ip link delete "$name"; done
	for name in dax1 dax2; do
		! mountpoint -q "$tmp/$name" || umount "$tmp/$name"
		rmdir "$tmp/$name"
	done
	rm -f "$tmp/config" "$tmp/output" "$tmp/log"
	rmdir "$tmp"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

if kernel_config >"$tmp/config"; then
	missing=() minor=()
	while IFS== read -r option _; do
		! grep -q "^$option=[ym]" "$tmp/config" || continue
		if [[ $needed == *" $option "* ]]; then
			missing+=("$option")
		else
			minor+=("$option")
		fi
	done < <(grep '^CONFIG_' "$here/config")
	[ ${#minor[@]} -eq 0 ] ||
		echo "# the kernel lacks ${minor[*]}: some tests will skip or fail"
	[ ${#missing[@]} -eq 0 ] || skip "the kernel lacks ${missing[*]}: see $here/config"
else
	echo "# the configuration of this kernel cannot be found (CONFIG_IKCONFIG_PROC)"
fi

modprobe -q nd_pmem
if [ ${#devices[@]} -eq 0 ]; then
	for device in /dev/pmem*; do
		# Nothing but what blkid knows nothing of, which says 2.
		[[ $device =~ /pmem[0-9.]+$ ]] && [ ${#devices[@]} -lt 2 ] || continue
		blkid -p "$device" >/dev/null 2>&1
		if [ $? -eq 2 ] && ! findmnt -n -S "$device" >/dev/null; then
			devices+=("$device")
		else
			echo "# something is on $device: it is left alone (-d takes it)"
		fi
	done
fi
[ ${#devices[@]} -eq 2 ] ||
	skip "needs two devices of persistent memory, unused and of 320 MiB or more:" \
		"boot with, say, memmap=384M!1G memmap=384M!1536M, or with NVDIMMs"

# A filesystem with DAX. Of an NVDIMM, ndctl has to make memory with a struct page for
# each page first.
filesystem() { # device, directory
	local namespace
	modprobe -q "$fs"
	mount_new "$@" >"$tmp/log" 2>&1 && return
	namespace=$(ndctl list -N 2>>"$tmp/log" |
		sed -n "/\"dev\"/h; /\"blockdev\":\"${1##*/}\"/{x; s/.*\"dev\":\"\(.*\)\".*/\1/p}")
	if [ -n "$namespace" ] &&
		ndctl create-namespace -f -e "$namespace" -m fsdax -M mem >>"$tmp/log" 2>&1; then
		mount_new "$@" >>"$tmp/log" 2>&1 && return
	fi
	sed 's/^/# /' "$tmp/log"
	skip "$1 cannot have a DAX filesystem ($fs); is it smaller than 320 MiB, or is ndctl missing?"
}

# With reverse mappings, which online repair works from, and exchange range, for which the
# option is newer than Debian 12: the feature has no metadata of its own, so its bit (64)
# can be set afterwards.
mkfs_xfs() { # device
	local features
	mkfs.xfs -q -f -m reflink=1,rmapbt=1 -i exchange=1 "$1" 2>/dev/null && return
	mkfs.xfs -q -f -m reflink=1,rmapbt=1 "$1" || return
	features=$(xfs_db -c 'sb 0' -c 'p features_incompat' "$1") || return
	xfs_db -x -c 'sb 0' -c "write -d features_incompat $((${features##*= } | 64))" "$1" >/dev/null
}

mount_new() {
	case $fs in
	xfs) mkfs_xfs "$1" ;;
	ext4) mkfs.ext4 -q -F -b 4096 "$1" ;;
	esac && mount -t "$fs" -o dax=always "$1" "$2" || return
	# XFS goes on without DAX where it cannot have it.
	! findmnt -n -o OPTIONS "$2" | grep -q dax=always || return 0
	umount "$2"
	return 1
}

filesystem "${devices[0]}" "$tmp/dax1"
filesystem "${devices[1]}" "$tmp/dax2"
export DAX1=$tmp/dax1 DAX2=$tmp/dax2 DAXFS=$fs

# rdma_device TYPE NETDEV ADDRESS: TYPE0 there.
rdma_device() {
	ip link add "$2" type dummy || skip "cannot make $2: CONFIG_DUMMY is missing"
	links+=("$2")
	ip address add "$3" dev "$2" && ip link set "$2" up &&
		rdma link add "${1}0" type "$1" netdev "$2" ||
		skip "cannot make ${1}0: CONFIG_RDMA_${1^^} is missing, or there is one"
	rdma_links+=("${1}0")
}

modprobe -q -a rdma_ucm ib_uverbs
if [ -n "$rdma" ]; then
	rdma_device rxe layout_rxe 192.0.2.1/24
	rdma_device siw layout_siw 198.51.100.1/24
	export RDMA_DEV=${RDMA_DEV:-rxe0}
fi

if [ $# -eq 0 ]; then
	if [ -x "$here/../run_kselftest.sh" ] && [ -r "$here/../kselftest-list.txt" ]; then
		set -- "$here/../run_kselftest.sh"
		if [ ${#tests[@]} -gt 0 ]; then
			for test in "${tests[@]}"; do set -- "$@" -t "layout_lease:$test"; done
		else
			set -- "$@" -c layout_lease
		fi
	else
		set -- make -C "$here/.." TARGETS=layout_lease run_tests
		if [ ${#tests[@]} -gt 0 ]; then
			programs=() scripts=()
			for test in "${tests[@]}"; do
				case $test in
				*.sh) scripts+=("$test") ;;
				*) programs+=("$here/$test") ;;
				esac
			done
			set -- "$@" TEST_GEN_PROGS="${programs[*]}" TEST_PROGS="${scripts[*]}"
		fi
	fi
fi
set -o pipefail
"$@" 2>&1 | tee "$tmp/output"
status=$?

# What runs kselftests says in its output, not by its status, how they ended.
results=$(grep -aE '^(not )?ok [0-9]+ selftests: layout_lease: ' "$tmp/output")
[ -z "$results" ] || status=0
if grep -q '^not' <<<"$results"; then
	status=1
elif [ -n "$results" ] && ! grep -qv '# SKIP' <<<"$results"; then
	echo "# all tests were skipped"
	status=4
fi
exit $status
