#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Runs the interval tree under Miri, see tools/testing/layout_lease_miri/. Where that is not
# to be had, it is a skip.

. "$(dirname "$0")/lib.sh"

tmp=$(mktemp -d)
temporary+=("$tmp")
run "$TOP/scripts/toolchain.sh" miri >"$tmp/home"
if [ -s "$tmp/home" ]; then
	RUSTUP_HOME=$(cat "$tmp/home")
	export RUSTUP_HOME
fi
# All of it in a process group: run itself ends nothing when it is interrupted.
set -m
run "$TOP/tools/testing/layout_lease_miri/run" "$@"
