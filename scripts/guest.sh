#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Boots the kernel in a virtual machine and runs a program in it.
#
#   guest.sh [-f xfs|ext4] [-k] [-b] [-p DIR] [-e NAME=VALUE] [-c FILE] SCRIPT [ARGUMENT...]
#   guest.sh [-f xfs|ext4] -i
#
#   -f   file system on the two DAX devices (default xfs)
#   -i   an interactive shell instead of a script
#   -k   let the kernel run its KUnit suites while it boots
#   -b   as a benchmark wants it: one processor that takes a nanosecond for each
#        instruction, whatever the host does meanwhile, and for being idle no time
#        of the host's; larger NVDIMMs, and a third one for device DAX
#   -p   put DIR in front of PATH in the guest
#   -e   set a variable in the guest
#   -c   copy the console to FILE
#
# The guest sees the host's files; what it writes is gone when it ends. The
# output of the script appears here while it runs, and its exit status is ours.
# Status 99: the kernel oopsed, warned or hung, or the guest could not be set
# up; the end of its console is shown then.
#
#   GUEST_KERNEL   directory with bzImage and modules/ (default: what
#                  kernel.sh built)
#   GUEST_TIMEOUT  seconds until the guest counts as hanging (default 1500)
#   GUEST_CPUS     processors of the guest (default 2)
#   GUEST_APPEND   more for the kernel's command line
#   GUEST_PLUGIN   a plugin of the emulator, with its arguments

. "$(dirname "$0")/lib.sh"

fs=xfs interactive='' kunit=0 path='' console_copy='' exports=() exact=''
while getopts f:ikbp:e:c: opt; do
	case $opt in
	f) fs=$OPTARG ;;
	i) interactive=1 ;;
	k) kunit=1 ;;
	b) exact=y ;;
	p) path=$(realpath "$OPTARG") ;;
	e) exports+=("$OPTARG") ;;
	c) console_copy=$OPTARG ;;
	*) exit 2 ;;
	esac
done
shift $((OPTIND - 1))
case $fs in
xfs | ext4) ;;
*) die "FS=$fs: there are xfs and ext4" ;;
esac
script=
if [ -z "$interactive" ]; then
	[ $# -gt 0 ] || die "which script? (make guest RUN=SCRIPT)"
	[ -f "$1" ] || die "there is no script $1"
	script=$(realpath "$1")
	shift
fi

kernel=${GUEST_KERNEL:-$("$TOP/scripts/kernel.sh" where)}
[ -f "$kernel/bzImage" ] || die "no kernel in $kernel: make kernel"
use "$kernel"
timeout=${GUEST_TIMEOUT:-1500}
make_cache

# A directory for this run that the guest can write to; the last ten stay, and those
# of guests that live. One at a time here: until it is used, it has no lock.
mkdir -p "$CACHE/guest"
exec {guests}<"$CACHE/guest"
run flock "$guests"
run=$(mktemp -d "$CACHE/guest/run-$(date +%Y%m%d-%H%M%S)-XXXX")
use "$run"
# shellcheck disable=SC2012 # names of ours
mapfile -t old < <(ls -1d "$CACHE"/guest/run-* | head -n -10)
throw_away "${old[@]}"
exec {guests}<&-
console=$run/console.log

cp "$TOP/scripts/guest-run" "$run/"
{
	printf 'RUN_%s=%q\n' FS "$fs" SCRIPT "$script" PATH "$path" CWD "$PWD" \
		TIMEOUT "$timeout" TERM "${TERM:-linux}" KUNIT "$kunit"
	printf 'RUN_ARGS=('
	[ $# -eq 0 ] || printf '%q ' "$@"
	printf ')\n'
	[ ${#exports[@]} -eq 0 ] || printf 'export %q\n' "${exports[@]}"
	if [ -n "$interactive" ]; then
		[ -t 0 ] || die "a shell needs a terminal"
		stty size | { read -r rows cols; echo "RUN_ROWS=$rows RUN_COLS=$cols"; }
	fi
} >"$run/env"

# The initramfs: busybox and guest-init.
busybox=$(command -v busybox) || die "no busybox: make kernel"
initrd=$run/initrd
mkdir -p "$initrd"/{bin,dev,proc,sys,lower,rw,new}
cp -L "$busybox" "$initrd/bin/busybox"
install -m 755 "$TOP/scripts/guest-init" "$initrd/init"
ln -s busybox "$initrd/bin/sh"
(cd "$initrd" && find . | cpio --quiet -o -H newc -R 0:0 >"$run/initrd.cpio")
rm -r "$initrd"

# KCSAN reports data races of all of the kernel, and the guest goes on: see
# the end.
on_warn=1
! grep -qs '^CONFIG_KCSAN=y' "$kernel/config" || on_warn=0

append="console=ttyS0 rdinit=/init panic=-1 oops=panic panic_on_warn=$on_warn mitigations=off"
append+=" kunit.enable=$kunit kunit.autorun=$kunit"
append+=" no_timer_check tsc=nowatchdog watchdog_thresh=60 dummy.numdummies=2 sysctl.kernel.hung_task_panic=1 ${GUEST_APPEND:-}"

# Two NVDIMMs become pmem0 and pmem1. XFS wants 300 MB at least.
cpu=max,la57=off cpus=${GUEST_CPUS:-2} memory=3G nvdimms=2 nvdimm_size=384M
if [ -n "$exact" ]; then
	# Nothing that differs from boot to boot.
	cpu+=,-rdrand,-rdseed cpus=1 memory=4G nvdimms=3 nvdimm_size=1G
	append+=" nokaslr norandmaps randomize_kstack_offset=off"
fi

# la57=off: with five levels of page tables, KASAN takes an interrupt for a wild
# access that comes while identify_cpu() has cleared what the processor can do.
machine=(
	qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot
	-machine q35,nvdimm=on -cpu "$cpu" -smp "$cpus" -m "$memory,slots=$nvdimms,maxmem=8G"
	-kernel "$kernel/bzImage" -initrd "$run/initrd.cpio"
)
for ((nvdimm = 0; nvdimm < nvdimms; nvdimm++)); do
	machine+=(
		-object "memory-backend-ram,id=memory$nvdimm,size=$nvdimm_size"
		-device "nvdimm,id=nvdimm$nvdimm,memdev=memory$nvdimm"
	)
done

# /dev/kvm can be there and not work: boot a probe, and remember the answer for
# this processor, host kernel and emulator.
accelerator() {
	local key answer=tcg,thread=multi
	key=$({
		uname -r
		qemu-system-x86_64 --version
		grep -m 1 'model name' /proc/cpuinfo
		ls -l /dev/kvm
		[ -w /dev/kvm ] && echo writable
	} 2>&1 | cksum | cut -d' ' -f1)
	if [ ! -s "$CACHE/guest/accel-$key" ]; then
		if [ -r /dev/kvm ] && [ -w /dev/kvm ]; then
			say "trying whether KVM works (at most 10 s)"
			timeout -k 1 10 "${machine[@]}" -accel kvm -serial "file:$run/probe.log" \
				-append "$append guest.probe" </dev/null >/dev/null 2>&1 || :
			if grep -qs 'guest-init: probe ok' "$run/probe.log"; then
				answer=kvm
			fi
		fi
		say "the guest runs with $answer"
		echo "$answer" >"$run/accel"
		mv "$run/accel" "$CACHE/guest/accel-$key"
	fi
	cat "$CACHE/guest/accel-$key"
}

if [ -n "$exact" ]; then
	accel=tcg,thread=single
	# shellcheck disable=SC2054 # commas belong to the options
	machine+=(-icount shift=0,sleep=off -rtc base=2026-01-01,clock=vm)
else
	accel=$(accelerator)
fi
[ -z "${GUEST_PLUGIN:-}" ] || machine+=(-plugin "$GUEST_PLUGIN")
# Code that is patched while another processor runs it is more than the emulation
# of several threads can do ("Oops: int3").
! grep -qs '^CONFIG_JUMP_LABEL=y' "$kernel/config" || accel=${accel/=multi/=single}

# shellcheck disable=SC2054 # commas belong to the options
machine+=(
	-accel "$accel" -append "$append" -serial "file:$console"
	-virtfs "local,path=/,mount_tag=host,security_model=none,multidevs=remap,readonly=on"
	-virtfs "local,path=$run,mount_tag=run,security_model=none"
	-virtfs "local,path=$(realpath "$kernel/modules"),mount_tag=modules,security_model=none,readonly=on"
	-device virtio-serial-pci
)

if [ -n "$interactive" ]; then
	say "a shell in the guest: exit or ctrl-d ends it; DAX file systems in \$DAX1 and \$DAX2"
	state=$(stty -g)
	run "${machine[@]}" -chardev stdio,id=out,signal=off \
		-device virtconsole,chardev=out 2>"$run/qemu.log" || :
	stty "$state"
else
	# cat: our standard output may be a file, which the emulator would truncate.
	# setpriv: even if we are killed, the guest ends.
	status=0
	run_through cat setpriv --pdeathsig TERM \
		timeout --foreground -k 5 "$timeout" "${machine[@]}" \
		-chardev file,id=out,path=/dev/stdout \
		-device virtserialport,chardev=out,name=guest.out \
		</dev/null 2>"$run/qemu.log" || status=$?
	[ "$status" -ne 124 ] || echo "no end within $timeout s" >"$run/error"
fi
[ -z "$console_copy" ] || cp "$console" "$console_copy"

# What the kernel says when something is wrong, and file systems too.
splat='BUG: |WARNING: |INFO: |Kernel panic|Oops|general protection fault'
splat+='|possible (circular|recursive) locking|suspicious RCU usage'
splat+='|inconsistent lock state|lock held when returning|sleeping function called'
splat+='|KFENCE: |blocked for more than|hung task|soft lockup|self-detected stall'
splat+='|panicked at|refcount_t: |UBSAN: |leaked|list_(add|del) corruption'
splat+='|EXT4-fs error|XFS .*(Corruption|Internal error|corrupt)'

# The console, of KCSAN's reports only those of races in what this project adds or
# relies on: what raced is up to three calls away from such a function.
own='layout_|_layout|_lease|ib_umem|rxe_mr|siw_mem'
tr -d '\r' <"$console" >"$run/console"
awk -v own="$own" -v splat="$splat" '
	/=====================/ && !report { report = NR; text = ""; race = mine = 0 }
	!report { print; next }
	{ text = text $0 "\n" }
	/BUG: KCSAN: / { race = 1; next }
	$0 ~ splat { mine = 1 }
	/ bytes by .* on cpu / { frame = 3; next }
	frame-- > 0 && $0 ~ own { mine = 1 }
	/=====================/ && NR > report {
		if (mine || !race)
			printf "%s", text
		report = 0
	}
	END { if (report) printf "%s", text }
' "$run/console" >"$run/complaints"

wrong=
if [ -s "$run/error" ]; then
	wrong=$(cat "$run/error")
elif grep -qE "$splat" "$run/complaints"; then
	wrong="the kernel complained: $(grep -m 1 -oE "($splat).*" "$run/complaints")"
elif [ ! -e "$run/done" ]; then
	wrong="the guest ended before its time"
fi
if [ -n "$wrong" ]; then
	{
		cat "$run/qemu.log"
		echo "--- end of the console:"
		# From the first complaint on, and the last lines.
		grep -m 1 -E -B 3 -A 60 "$splat" "$run/complaints" || :
		echo "---"
		tail -n 15 "$run/console"
		echo "--- guest failed: $wrong"
		# Who shows only the end of a long log shows what it is about.
		grep -m 1 -E -A 14 "$splat" "$run/complaints" | sed 's/^/    /' || :
		echo "    all of the console: $console"
	} >&2
	exit 99
fi
exit "$(cat "$run/status")"
