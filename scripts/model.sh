#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Checks the model of the protocol, see tools/testing/layout_lease_model/. With -l
# also what takes much time and memory.

. "$(dirname "$0")/lib.sh"

if ! command -v spin >/dev/null || ! command -v gcc >/dev/null; then
	run "$TOP/scripts/toolchain.sh"
fi
# All of it in a process group: run itself ends nothing when it is interrupted.
set -m
run "$TOP/tools/testing/layout_lease_model/run" "$@"
