#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Runs load_test in the guest for as long as you like.
#
#   TIME   seconds (default 60)
#   SEED   repeats the choices of a run; each run prints its seed
#   FS     file system (default xfs)

. "$(dirname "$0")/lib.sh"

time=${TIME:-60}
[[ $time =~ ^[0-9]+$ ]] || die "TIME=$time is not a number of seconds"
# To boot and to look at what is left takes time too, on slow machines some.
export GUEST_TIMEOUT=${GUEST_TIMEOUT:-$((2 * time + 900))}

get_programs
say "load for $(duration "$time") on ${FS:-xfs}"
exec "$TOP/scripts/guest.sh" -f "${FS:-xfs}" -e "STRESS_TIME=$time" \
	${SEED:+-e "STRESS_SEED=$SEED"} "$programs/selftests/load_test"
