#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Compiles the RDMA core and all drivers that can revoke memory regions, also
# those whose hardware the guest does not have. A warning is an error.

. "$(dirname "$0")/lib.sh"

dirs=(core sw/rxe sw/siw hw/irdma hw/mlx5 hw/erdma)

tmp=$(mktemp -d)
temporary+=("$tmp")
KERNEL=drivers run "$TOP/scripts/kernel.sh" objects "${dirs[@]/#/drivers/infiniband/}" \
	>"$tmp/compiled"
echo "compiled without a warning, not run: $(paste -s -d, "$tmp/compiled" | sed 's/,/, /g')"
