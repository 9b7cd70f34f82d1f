#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Compiles what the patches change in a kernel without CONFIG_LAYOUT_LEASE, but for the
# drivers of RDMA hardware. A warning is an error.

. "$(dirname "$0")/lib.sh"

objects=(fs/{dax,open,namei,locks,fcntl,file_table,read_write,remap_range}.o
	kernel/{fork,ucount}.o mm/{memory-failure,memremap}.o
	drivers/block/loop.o drivers/target/target_core_file.o
	fs/ext4 fs/nfsd fs/overlayfs fs/xfs
	drivers/infiniband/core drivers/infiniband/sw/rxe drivers/infiniband/sw/siw)

tmp=$(mktemp -d)
temporary+=("$tmp")
export KERNEL=off
run "$TOP/scripts/kernel.sh" objects "${objects[@]}" >"$tmp/compiled"
sum=$(sed -n 's/.*(\([0-9]*\) objects)$/\1/p' "$tmp/compiled" | paste -s -d+)
echo "compiled without a warning: $((sum)) objects"
