#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Compiles the RDMA core and all drivers that can revoke memory regions, also
# those whose hardware the guest does not have. A warning is an error.
#
# With -k a kernel with them is built and booted, too, in which the KUnit suites of
# irdma and mlx5 revoke memory regions of hardware that is a fake. The last line is
# "N passed, N failed, N skipped" then.

. "$(dirname "$0")/lib.sh"

dirs=(core sw/rxe sw/siw sw/rdmavt)
for driver in bnxt_re cxgb4 erdma hfi1 hns ionic irdma mlx4 mlx5 mthca; do
	dirs+=("hw/$driver")
done

tmp=$(mktemp -d)
temporary+=("$tmp")
export KERNEL=drivers
run "$TOP/scripts/kernel.sh" objects "${dirs[@]/#/drivers/infiniband/}" >"$tmp/compiled"
echo "compiled without a warning: $(paste -s -d, "$tmp/compiled" | sed 's/,/, /g')"

[ "${1:-}" = -k ] || exit 0
run "$TOP/scripts/kernel.sh" build
say "the KUnit suites"
run "$TOP/scripts/guest.sh" -k -c "$tmp/console" /bin/true
{
	printf '#:# suite %s\n' irdma_revoke mlx5_revoke
	echo '#:# console'
	cat "$tmp/console"
} >"$tmp/results"
"$TOP/scripts/count-tests" "$tmp/results"
