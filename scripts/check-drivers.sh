#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Compiles the RDMA core and all drivers that can revoke memory regions, also
# those whose hardware the guest does not have. A warning is an error.

. "$(dirname "$0")/lib.sh"

dirs=(core sw/rxe sw/siw sw/rdmavt)
for driver in bnxt_re cxgb4 erdma hfi1 hns ionic irdma mlx4 mlx5 mthca; do
	dirs+=("hw/$driver")
done

tmp=$(mktemp -d)
temporary+=("$tmp")
KERNEL=drivers run "$TOP/scripts/kernel.sh" objects "${dirs[@]/#/drivers/infiniband/}" \
	>"$tmp/compiled"
echo "compiled without a warning, not run: $(paste -s -d, "$tmp/compiled" | sed 's/,/, /g')"
