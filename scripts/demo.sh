#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Runs the demonstration, samples/layout_lease/demo.sh, in the guest.

. "$(dirname "$0")/lib.sh"

get_programs
say "starting the guest"
exec "$TOP/scripts/guest.sh" -f "${FS:-xfs}" -p "$programs/samples" \
	"$TOP/samples/layout_lease/demo.sh" "$@"
