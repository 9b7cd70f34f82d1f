#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Builds the kernel with our work in it.
#
#   kernel.sh build      the kernel, its modules and its headers for user space
#   kernel.sh programs   the selftests, the samples and the benchmark; of KERNEL=stock, selftests
#                        that come with the kernel, for compat.sh
#   kernel.sh tree       only the source with our work in it, configured
#   kernel.sh objects DIR|FILE.o...
#                        only these object files, or those of these directories of
#                        the source; print how many there are
#   kernel.sh where      print the directory of the kernel of this clone
#   kernel.sh where-programs
#
#   KDIR     a kernel tree to build instead of Debian's; it is only read
#   KERNEL   NAME: add scripts/guest-NAME.config to the configuration;
#            stock, NAME-stock: the source as it came, without our work, to
#            compare with
#   JOBS     how many compilers at a time (default: as many as processors)
#
# In the cache:
#   src/NAME/pristine   the kernel source as it came
#   src/NAME/tree       the same with our work; only files that differ are
#                       written, so that make rebuilds little
#   build/NAME          object files
#   kernel/HASH         results, by the hash of all that they are made from:
#                       bzImage, modules, usr/include
#   programs/HASH       selftests, samples, benchmark

. "$(dirname "$0")/lib.sh"

SOURCE=linux-source-7.3
VERSION=7.3.4
KERNEL=${KERNEL:-}
JOBS=${JOBS:-$(nproc)}
KDIR=${KDIR:+$(realpath "$KDIR")}
export -n KERNEL JOBS KDIR

fragments=("$TOP/scripts/guest.config") stock='' variant=$KERNEL
case $KERNEL in
stock | *-stock)
	[ -z "$KDIR" ] || die "KERNEL=$KERNEL is Debian's kernel: without KDIR, please"
	stock=y variant=${KERNEL%stock} variant=${variant%-}
	;;
esac
if [ -n "$variant" ]; then
	fragments+=("$TOP/scripts/guest-$variant.config")
	[ -f "${fragments[1]}" ] || die "there is no scripts/guest-$variant.config"
fi

# What of a tree of the user's is not source.
NOT_SOURCE=(--exclude=/.git --exclude='*.o' --exclude='*.a' --exclude='*.ko'
	--exclude='*.cmd' --exclude='*.mod' --exclude='*.mod.c' --exclude=/.config*
	--exclude=/include/config --exclude=/include/generated
	--exclude='/arch/*/include/generated' --exclude=/vmlinux*)

if [ -n "$KDIR" ]; then
	is_kernel_tree "$KDIR" || die "$KDIR is not the top of a kernel tree"
	name=kdir-$(basename "$KDIR")-$(cksum <<<"$KDIR" | cut -d' ' -f1)
	pristine=$KDIR
else
	name=$SOURCE
	pristine=$CACHE/src/$name/pristine
fi
src=$CACHE/src/$name
tree=$src/tree
build=$CACHE/build/$name${KERNEL:+-$KERNEL}
[ -z "$stock" ] || tree=$pristine

# Debian's source, of the version that the patches are made for if there is one.
unpack_source() {
	rm -rf "$src/tmp"
	mkdir -p "$src/tmp"
	dpkg --fsys-tarfile "$1" | tar -x -O "./usr/src/$SOURCE.tar.xz" |
		tar -x -J -C "$src/tmp" --strip-components=1
	rm -rf "$pristine"
	mv "$src/tmp" "$pristine"
}

get_source() {
	local deb
	if [ -z "$KDIR" ] && [ ! -d "$pristine" ]; then
		mkdir -p "$src"
		run "$TOP/scripts/toolchain.sh" deb "$SOURCE" "$VERSION-*" >"$src/deb" ||
			run "$TOP/scripts/toolchain.sh" deb "$SOURCE" '*' >"$src/deb" ||
			die "no $SOURCE: give a kernel tree of $VERSION with KDIR=DIR"
		deb=$(cat "$src/deb")
		step "unpack $(basename "$deb")" "about 1 min" unpack_source "$deb"
	fi
}

copy_source() {
	if [ -n "$KDIR" ]; then
		mkdir -p "$tree"
		# What we changed in the copy stays; sync_files looks after it.
		rsync -a --delete "${NOT_SOURCE[@]}" --exclude-from=<(sed 's,^,/,' "$src/manifest") \
			"$KDIR/" "$tree/"
	else
		# Hard links: files of the tree are replaced, never written to.
		rm -rf "$tree"
		cp -al "$pristine" "$tree"
	fi
	: >"$src/copied"
}

# put FROM TO: unless it is the same already.
put() {
	! cmp -s "$1" "$2" || return 0
	mkdir -p "$(dirname "$2")"
	cp "$1" "$2.tmp"
	mv -f "$2.tmp" "$2"
	echo "  $2"
}

# Our files into the tree; what we changed there once and no longer do, back.
sync_files() {
	local tmp f
	tmp=$(mktemp -d)
	touched_files >"$tmp/files"
	if [ -n "$KDIR" ] && is_applied "$KDIR" >"$tmp/log"; then
		: >"$tmp/files"
	elif ! stage "$pristine" "$tmp" >"$tmp/log"; then
		cat "$tmp/log"
		rm -r "$tmp"
		return 1
	fi
	# Noted before it is done: an interruption loses nothing.
	sort -u "$src/manifest" "$tmp/files" >"$src/manifest.tmp"
	mv "$src/manifest.tmp" "$src/manifest"
	while IFS= read -r f; do
		if grep -qxF -e "$f" "$tmp/files"; then
			if [ -e "$tmp/$f" ]; then put "$tmp/$f" "$tree/$f"; else rm -f "$tree/$f"; fi
		elif [ -e "$pristine/$f" ]; then
			put "$pristine/$f" "$tree/$f"
		else
			rm -f "$tree/$f"
		fi
	done <"$src/manifest"
	mv "$tmp/files" "$src/manifest"
	rm -r "$tmp"
}

sync_tree() {
	[ -z "$stock" ] || return 0
	mkdir -p "$src"
	[ -e "$src/manifest" ] || : >"$src/manifest"
	if [ -n "$KDIR" ] || [ ! -e "$src/copied" ]; then
		step "copy the kernel source" "about 20 s" copy_source
	fi
	step "apply the overlay and the patches" "1 s" sync_files
}

kmake() {
	# Nothing of this machine gets into the kernel.
	make -C "$tree" O="$build" LLVM=1 -j"$JOBS" \
		RUST_LIB_SRC="$("$TOP/scripts/toolchain.sh" rust-lib-src)" \
		KBUILD_BUILD_USER=layout-lease KBUILD_BUILD_HOST=localhost \
		KBUILD_BUILD_TIMESTAMP=2026-01-01 KBUILD_BUILD_VERSION=1 "$@"
}

# What is asked for. The stock kernel does not know our options.
wanted_config() {
	if [ -n "$stock" ]; then
		grep -hv '^CONFIG_LAYOUT_LEASE' "${fragments[@]}"
	else
		cat "${fragments[@]}"
	fi
}

# Did every option of the fragments take?
check_config() {
	local option value wrong=0
	while IFS='=' read -r option value; do
		if [ "$value" = n ]; then
			if grep "^$option=" "$build/.config"; then wrong=1; fi
		elif ! grep -qxF "$option=$value" "$build/.config"; then
			echo "not taken: $option=$value"
			grep -wF "$option" "$build/.config" || echo "  unknown, or what it depends on is off"
			wrong=1
		fi
	done < <(wanted_config | sed -n 's/^\(CONFIG_[A-Za-z0-9_]*=.*\)/\1/p' |
		awk -F= '{ last[$1] = $0 } END { for (o in last) print last[o] }' | sort)
	return $wrong
}

configure() {
	mkdir -p "$build"
	{
		# What it asks for and this kernel cannot have is left out.
		[ "$variant" != debug ] || cat "$tree/kernel/configs/debug.config"
		wanted_config
	} >"$build/fragments"
	kmake KCONFIG_ALLCONFIG="$build/fragments" allnoconfig
	check_config
	kmake rustavailable
}

install_kernel() {
	rm -rf "$1.tmp"
	mkdir -p "$1.tmp"
	kmake modules_install INSTALL_MOD_PATH="$1.tmp" INSTALL_MOD_STRIP=1
	kmake headers_install INSTALL_HDR_PATH="$1.tmp/usr"
	rm -f "$1.tmp"/lib/modules/*/build
	ln -s lib/modules "$1.tmp/modules"
	cp "$build/.config" "$1.tmp/config"
	cp "$build/arch/x86/boot/bzImage" "$1.tmp/bzImage"
	mv "$1.tmp" "$1"
}

hash_files() { tr '\n' '\0' | xargs -0 -r sha256sum; }

# All that the kernel is made from, as a hash.
kernel_id() {
	cd "$TOP"
	{
		echo "$name $VERSION $KERNEL"
		if [ -z "$stock" ]; then
			overlay_files | grep -vE '^(tools|samples|Documentation)/' | hash_files
			find Kconfig patches -name Kconfig -o -name '*.patch' 2>/dev/null | sort | hash_files
		fi
		printf '%s\n' "${fragments[@]#"$TOP/"}" scripts/kernel.sh | hash_files
		clang --version
		rustc --version
		echo "bindgen $BINDGEN_VERSION"
		[ -z "$KDIR" ] || find "$KDIR" -name .git -prune -o -type f -printf '%P %s %T@\n' | sort
	} 2>&1 | sha256sum | cut -c1-16
}

programs_id() {
	cd "$TOP"
	{
		kernel_id
		[ -n "$stock" ] ||
			overlay_files | grep -E '^(tools|samples)/' | hash_files
	} | sha256sum | cut -c1-16
}

# keep_last DIR: of what is there the twelve results used last, and what is in use.
keep_last() {
	local old
	# shellcheck disable=SC2012 # names of ours
	mapfile -t old < <(ls -1td "$1"/* | tail -n +13)
	throw_away "${old[@]}"
}

build_kernel() {
	local dir minutes about lines=
	run "$TOP/scripts/toolchain.sh"
	dir=$CACHE/kernel/$(kernel_id)
	if [ ! -d "$dir" ]; then
		lock
	fi
	if [ ! -d "$dir" ]; then
		get_source
		sync_tree
		# They may have changed meanwhile: the hash is that of what is in the tree.
		while [ "$dir" != "$CACHE/kernel/$(kernel_id)" ]; do
			dir=$CACHE/kernel/$(kernel_id)
			sync_tree >&2
		done
		minutes=$((45 / JOBS + 1))
		about="about $minutes min on $JOBS processors"
		[ ! -f "$build/vmlinux" ] || about="rebuild; $minutes min if everything changed"
		step "configure the kernel" "about 15 s" configure
		# The output of a build from nothing; of another one nobody knows.
		[ -f "$build/vmlinux" ] || lines=2750
		step "build the kernel" "$about" kmake
		lines=
		[ -d "$dir" ] || step "install the kernel in the cache" "about 10 s" install_kernel "$dir"
	fi
	touch "$dir"
	keep_last "$CACHE/kernel"
	say "kernel: $dir"
}

# The programs have makefiles of their own, the selftests one that includes
# others of the kernel's: they are built in the tree, with objects elsewhere.
make_programs() {
	local headers="-isystem $1/usr/include" out=$2.tmp rdma_core
	rdma_core=$("$TOP/scripts/toolchain.sh" rdma-core)
	rm -rf "$out"
	mkdir -p "$out"/{selftests,samples,objects}
	if [ -d "$tree/tools/testing/selftests/layout_lease" ]; then
		make -C "$tree/tools/testing/selftests/layout_lease" -j"$JOBS" \
			OUTPUT="$out/objects" KHDR_INCLUDES="$headers" RDMA_CORE="$rdma_core" \
			INSTALL_PATH="$out/selftests" all install
		# Programs that report, in contrast to helpers of theirs.
		make -s -C "$tree/tools/testing/selftests/layout_lease" \
			OUTPUT="$out/objects" COLLECTION=layout_lease emit_tests |
			sed -n 's/^layout_lease://p' >"$out/tests"
	fi
	if [ -d "$tree/samples/layout_lease" ]; then
		make -C "$tree/samples/layout_lease" -j"$JOBS" \
			OUTPUT="$out/samples" KHDR_INCLUDES="$headers"
	fi
	if [ -d "$tree/tools/testing/layout_lease_bench" ]; then
		make -C "$tree/tools/testing/layout_lease_bench" \
			OUTPUT="$out/bench" KHDR_INCLUDES="$headers"
	fi
	rm -rf "$out/objects"
	mv "$out" "$2"
}

# Selftests of the kernel about what our patches touch. Their makefiles leave
# files in the source: it is a copy that they see. ofdlocks compares structures of
# which nothing sets the padding, so the compiler does.
make_stock_programs() {
	local objects=$2.tmp/objects from=$2.tmp/source t
	local -x USERCFLAGS=-ftrivial-auto-var-init=zero
	rm -rf "$2.tmp"
	mkdir -p "$2.tmp/selftests" "$objects/mm" "$from"
	cp -al "$tree"/{tools,include,scripts,mm,Makefile} "$from/"
	from+=/tools/testing/selftests
	for t in filelock rdma; do
		make -C "$from" TARGETS=$t O="$objects" KHDR_INCLUDES="-isystem $1/usr/include" \
			INSTALL_PATH="$2.tmp/selftests" install
	done
	# Not all of mm, which needs libraries that these two do without.
	make -C "$from/mm" OUTPUT="$objects/mm" KHDR_INCLUDES="-isystem $1/usr/include" \
		"$objects"/mm/gup_{test,longterm}
	install -D -t "$2.tmp/selftests/mm" "$objects"/mm/gup_{test,longterm}
	rm -rf "$2.tmp/source" "$objects"
	mv "$2.tmp" "$2"
}

build_programs() {
	local kernel dir how=make_programs
	[ -z "$stock" ] || how=make_stock_programs
	build_kernel
	kernel=$CACHE/kernel/$(kernel_id)
	[ -d "$kernel" ] || die "files changed during the build of the kernel: try again"
	dir=$CACHE/programs/$(programs_id)
	if [ ! -d "$dir" ]; then
		lock
	fi
	if [ ! -d "$dir" ]; then
		get_source
		sync_tree
		[ "$dir" = "$CACHE/programs/$(programs_id)" ] ||
			die "files changed during the build: try again"
		step "build the selftests and samples" "about 10 s" $how "$kernel" "$dir"
	fi
	touch "$dir"
	keep_last "$CACHE/programs"
	say "programs: $dir"
}

build_objects() {
	local dir count targets=()
	run "$TOP/scripts/toolchain.sh"
	lock
	get_source
	sync_tree
	step "configure the kernel" "about 15 s" configure
	for dir; do
		[[ $dir == *.o ]] || dir+=/
		targets+=("$dir")
	done
	step "compile the objects" "about $((6 / JOBS + 1)) min on $JOBS processors if all are new" \
		kmake "${targets[@]}"
	for dir; do
		count=$(find "$build/$dir" -name '*.o' | wc -l)
		[ "$count" -gt 0 ] || die "nothing was compiled in $dir"
		echo "$dir ($count objects)"
	done
}

case ${1:-build} in
build) build_kernel ;;
programs) build_programs ;;
tree)
	run "$TOP/scripts/toolchain.sh"
	lock
	get_source
	sync_tree
	step "configure the kernel" "about 15 s" configure
	echo "source: $tree"
	echo "objects: $build"
	;;
objects) build_objects "${@:2}" ;;
where) echo "$CACHE/kernel/$(kernel_id)" ;;
where-programs) echo "$CACHE/programs/$(programs_id)" ;;
*) die "what is $1?" ;;
esac
