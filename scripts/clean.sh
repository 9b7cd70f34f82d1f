#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Removes the cache folder: everything that was fetched or built.

. "$(dirname "$0")/lib.sh"

if [ ! -d "$CACHE" ]; then
	echo "there is no cache ($CACHE): nothing to do"
	exit 0
fi
[ -e "$CACHE/.layout-lease-cache" ] || die "$CACHE is not a cache of this project"
lock
for dir in "$CACHE"/{guest,kernel,programs}/*/; do
	[ ! -d "$dir" ] || ! in_use "$dir" || die "${dir%/} is in use: a guest runs"
done
echo "removing $CACHE:"
du -sh "$CACHE"/*/ 2>/dev/null || :
rm -rf "$CACHE"
