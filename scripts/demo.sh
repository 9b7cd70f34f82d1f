#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Runs the demonstration, samples/layout_lease/demo.sh, in the guest.

. "$(dirname "$0")/lib.sh"

"$TOP/scripts/kernel.sh" programs
GUEST_KERNEL=$("$TOP/scripts/kernel.sh" where)
export GUEST_KERNEL
programs=$("$TOP/scripts/kernel.sh" where-programs)
say "starting the guest"
exec "$TOP/scripts/guest.sh" -f "${FS:-xfs}" -p "$programs/samples" \
	"$TOP/samples/layout_lease/demo.sh" "$@"
