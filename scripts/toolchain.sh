#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Completes what the machine lacks to build the kernel and to run the guest:
# Debian packages (with sudo, after saying so), the source of Rust's standard
# library, bindgen, an rdma-core with RDMA FLUSH. Elsewhere than on Debian:
# prints what is missing and stops.
#
#   toolchain.sh                   see to it that everything is there
#   toolchain.sh packages NAME...  install these Debian packages if they are missing
#   toolchain.sh rust-lib-src      print where the library's source is
#   toolchain.sh rdma-core         print where that rdma-core is; nothing if the
#                                  system's serves
#   toolchain.sh virtme-ng         see to it that there is a virtme-ng, in the cache;
#                                  print the directory of its programs
#   toolchain.sh miri              see to it that there is a Miri, where rustup can fetch
#                                  it; print the RUSTUP_HOME that has it if it is ours
#   toolchain.sh debian-kernel     print where a kernel of this Debian is unpacked: boot/
#                                  and lib/modules/
#   toolchain.sh deb NAME PATTERN  print the path of that Debian package, whose
#                                  version matches the pattern; see below
#   toolchain.sh sources SUITE     print a sources.list of that suite of Debian, from
#                                  the mirror that this machine uses

. "$(dirname "$0")/lib.sh"

# Build tools; compiler and linker; user programs; the guest and what it runs; the
# model.
PACKAGES=(
	git make gcc libc6-dev bc bison flex patch perl python3 rsync cpio kmod xz-utils
	libelf-dev libssl-dev
	clang-19 lld-19 llvm-19 libclang-19-dev
	libibverbs-dev librdmacm-dev
	qemu-system-x86 busybox-static ndctl xfsprogs e2fsprogs iproute2 util-linux
	ibverbs-providers ibverbs-utils python3-pyverbs nfs-kernel-server stress-ng
	spin
)
# The same for other systems, as commands.
COMMANDS=(
	git make gcc bc bison flex patch perl python3 rsync cpio modprobe depmod xz
	clang ld.lld llvm-ar llvm-nm llvm-objcopy llvm-strip
	qemu-system-x86_64 busybox ndctl mkfs.xfs mkfs.ext4 ip rdma setsid ibv_devices spin
)

# at_least A B: is version A at least B?
at_least() { [ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]; }

rust_version() { rustc --version 2>/dev/null | cut -d' ' -f2; }

# The version of a package that this Debian has.
candidate() { apt-cache policy "$1" | awk '/Candidate/ { print $2 }'; }

# RDMA FLUSH is in libibverbs since 47. Debian 12 has 44: we build a newer one.
wants_rdma_core() { is_debian && ! at_least "$(candidate libibverbs-dev)" 47; }

# missing_packages PACKAGE...: those that are not there yet.
missing_packages() {
	comm -13 \
		<(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null |
			sed -n 's/^installed //p' | sort -u) \
		<(printf '%s\n' "$@" | sort -u)
}

install_packages() {
	local missing sudo=()
	mapfile -t missing < <(missing_packages "$@")
	[ ${#missing[@]} -gt 0 ] || return 0
	local install=(apt-get install -y --no-install-recommends "${missing[@]}")
	if [ "$(id -u)" -ne 0 ]; then
		command -v sudo >/dev/null || die "as root, please: ${install[*]}"
		sudo=(sudo)
	fi
	say "this needs root: ${sudo[*]} ${install[*]}"
	[ ${#sudo[@]} -eq 0 ] || sudo -v
	step "update the package lists" "about 10 s" "${sudo[@]}" apt-get update
	lines=$((21 * ${#missing[@]})) step "install ${#missing[@]} packages" "about 2 min" \
		"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive "${install[@]}"
}

# What a build of the kernel and a guest need, one a line.
wanted_packages() {
	local want=("${PACKAGES[@]}")
	! wants_rdma_core || want+=(cmake ninja-build pkgconf)
	# The rustc of Debian 12 is too old, but it has another one, for browsers.
	if command -v rustc >/dev/null; then
		:
	elif at_least "$(candidate rustc)" 1.85; then
		want+=(rustc cargo rust-src)
	elif at_least "$(candidate rustc-web)" 1.85; then
		want+=(rustc-web cargo-web rust-web-src)
	fi
	printf '%s\n' "${want[@]}"
}

install_all() {
	local want
	mapfile -t want < <(wanted_packages)
	install_packages "${want[@]}"
}

# Is all of it there? Then nobody has to wait for the lock.
complete() {
	local want
	if is_debian; then
		mapfile -t want < <(wanted_packages)
		[ -z "$(missing_packages "${want[@]}")" ] || return 1
	fi
	command -v rustc >/dev/null && command -v cargo >/dev/null &&
		rust_lib_src >/dev/null && [ -x "$BINDGEN" ] &&
		{ ! wants_rdma_core || [ -e "$RDMA_CORE/built" ]; }
}

check_commands() {
	local missing=() c
	for c in "${COMMANDS[@]}"; do
		command -v "$c" >/dev/null || missing+=("$c")
	done
	[ ${#missing[@]} -eq 0 ] ||
		die "this is not Debian: please install what provides ${missing[*]}" \
			"(and the headers of libelf, openssl, libibverbs, librdmacm)"
}

# Packages of another release than the machine's own come from the mirror that
# the machine uses, with lists of ours, so that its configuration stays as it is.
APT=(
	-o "Dir::State::Lists=$CACHE/apt/lists" -o "Dir::Cache=$CACHE/apt/cache"
	-o "Dir::Etc::sourcelist=$CACHE/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
	-o APT::Sandbox::User=root -o Debug::NoLocking=1
)

# The mirror of what has that label.
mirror() {
	# shellcheck disable=SC2016 # apt expands it
	apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Label: $1" |
		sort | uniq -c | sort -rn | awk 'NR == 1 { print $2 }'
}

debian_mirror() {
	local uri
	uri=$(mirror Debian)
	# Before the first update apt knows no labels.
	# shellcheck disable=SC2016
	[ -n "$uri" ] || uri=$(apt-get indextargets --format '$(REPO_URI)' \
		'Created-By: Packages' 'Component: main' | head -n 1)
	[ -n "$uri" ] || die "no Debian mirror in the configuration of apt (try: apt-get update)"
	echo "$uri"
}

sources() {
	local uri security
	uri=$(debian_mirror)
	security=$(mirror Debian-Security)
	printf 'deb %s %s main\n' "$uri" "$1" "$uri" "$1-updates"
	[ -z "$security" ] || echo "deb $security $1-security main"
}

# $1: a suite of Debian; $2: deb or deb-src
update_lists() {
	local uri keys=/usr/share/keyrings/debian-archive-keyring.gpg
	uri=$(debian_mirror)
	mkdir -p "$CACHE"/apt/{lists/partial,cache/archives/partial}
	echo "$2 [signed-by=$keys] $uri $1 main" >"$CACHE/apt/sources.list"
	apt-get "${APT[@]}" update
}

download() {
	rm -rf "$CACHE/debs/partial"
	mkdir -p "$CACHE/debs/partial"
	cd "$CACHE/debs/partial"
	apt-get "${APT[@]}" download "$1"
}

# The newest package NAME with a version that matches PATTERN (of a shell),
# from trixie-backports or else trixie; it stays in the cache.
deb() {
	local name=$1 pattern=$2 suite version file f size
	mkdir -p "$CACHE/debs"
	for f in "$CACHE/debs/${name}_"*.deb; do
		file=${f##*/"${name}"_}
		# shellcheck disable=SC2053 # a pattern
		if [[ -e $f && ${file%%_*} == $pattern ]]; then
			echo "$f"
			return
		fi
	done
	is_debian || die "the Debian package $name $pattern can be fetched on Debian only"
	for suite in trixie-backports trixie; do
		step "update the package list of $suite" "about 10 s" update_lists "$suite" deb
		version=$(apt-cache "${APT[@]}" madison "$name" | awk '{ print $3 }' | sort -Vr |
			while IFS= read -r v; do
				# shellcheck disable=SC2053 # a pattern
				[[ $v != $pattern ]] || { echo "$v"; break; }
			done)
		[ -z "$version" ] || break
	done
	[ -n "$version" ] || die "neither trixie-backports nor trixie has $name $pattern"
	mkdir -p "$CACHE/debs/partial"
	size=$(apt-cache "${APT[@]}" show "$name=$version" | sed -n 's/^Size: //p' | head -n 1)
	into=$CACHE/debs/partial bytes=$size step "download $name $version" \
		"$((size / 1000000 + 1)) MB" download "$name=$version"
	file=$(find "$CACHE/debs/partial" -name "${name}_*.deb" | head -n 1)
	f=${name}_${version}_${file##*_}
	mv "$file" "$CACHE/debs/$f"
	echo "$CACHE/debs/$f"
}

# Where the source of Rust's library is, if it is there.
rust_lib_src() {
	local dir version
	version=$(rust_version)
	for dir in "$(rustc --print sysroot)/lib/rustlib/src/rust/library" \
		"/usr/src/rustc-$version/library" "$CACHE/tools/rust-src-$version/library"; do
		if [ -f "$dir/core/src/lib.rs" ]; then
			echo "$dir"
			return
		fi
	done
	return 1
}

unpack_rust_src() {
	local tmp=$CACHE/tools/rust-src.tmp
	rm -rf "$tmp"
	mkdir -p "$tmp"
	dpkg -x "$2" "$tmp"
	rm -rf "$CACHE/tools/rust-src-$1"
	mv "$tmp/usr/src/rustc-$1" "$CACHE/tools/rust-src-$1"
	rm -rf "$tmp"
}

get_rust_src() {
	local version file
	! rust_lib_src >/dev/null || return 0
	version=$(rust_version)
	say "rustc $version has no source of its library: looking for Debian's package"
	file=$(deb rust-src "$version*") ||
		die "please get the source of Rust's library: rustup component add rust-src"
	step "unpack $(basename "$file")" "about 10 s" unpack_rust_src "$version" "$file"
}

BINDGEN=$CACHE/tools/bindgen-$BINDGEN_VERSION/bin/bindgen

get_bindgen() {
	[ ! -x "$BINDGEN" ] || return 0
	lines=101 step "build bindgen $BINDGEN_VERSION" "about $((5 / $(nproc) + 1)) min" \
		env CARGO_TARGET_DIR="$CACHE/tools/target" \
		cargo install --locked --root "${BINDGEN%/bin/*}" --version "$BINDGEN_VERSION" bindgen-cli
	rm -rf "$CACHE/tools/target"
}

RDMA_CORE=$CACHE/tools/rdma-core

# Only the library and the drivers of the two software devices, to be used
# where they are built.
build_rdma_core() {
	local uri file hash
	rm -rf "$RDMA_CORE"
	mkdir -p "$RDMA_CORE"/{src,build}
	read -r uri file hash < <(apt-get "${APT[@]}" source --print-uris rdma-core |
		sed -n -E "s/^'(.*\.orig\.tar\.[a-z0-9]+)' ([^ ]+) [0-9]+ ([^ ]+)$/\1 \2 \3/p")
	[ -n "$file" ] || die "trixie has no source of rdma-core"
	/usr/lib/apt/apt-helper "${APT[@]}" download-file "$uri" "$RDMA_CORE/$file" "$hash"
	tar -x -C "$RDMA_CORE/src" --strip-components=1 -f "$RDMA_CORE/$file"
	cmake -G Ninja -S "$RDMA_CORE/src" -B "$RDMA_CORE/build" -DIN_PLACE=1 \
		-DNO_MAN_PAGES=1 -DNO_PYVERBS=1 -DCMAKE_BUILD_TYPE=RelWithDebInfo
	ninja -C "$RDMA_CORE/build" \
		lib/libibverbs.so lib/librxe-rdmav34.so lib/libsiw-rdmav34.so
	: >"$RDMA_CORE/built"
}

get_rdma_core() {
	wants_rdma_core && [ ! -e "$RDMA_CORE/built" ] || return 0
	step "update the list of sources of trixie" "about 10 s" update_lists trixie deb-src
	lines=186 step "build an rdma-core with RDMA FLUSH" "about 20 s" build_rdma_core
}

VIRTME_NG=$CACHE/tools/virtme-ng-$VIRTME_NG_VERSION

install_virtme_ng() {
	rm -rf "$VIRTME_NG"
	# Not the first one in PATH: it may be an environment itself.
	/usr/bin/python3 -m venv "$VIRTME_NG"
	"$VIRTME_NG/bin/pip" install --no-input "virtme-ng==$VIRTME_NG_VERSION"
}

get_virtme_ng() {
	[ ! -x "$VIRTME_NG/bin/vng" ] || return 0
	lock
	! is_debian || install_packages python3-venv file
	step "install virtme-ng $VIRTME_NG_VERSION" "about 10 s" install_virtme_ng
}

RUSTUP=$CACHE/tools/rustup

# has_miri [RUSTUP_HOME]
has_miri() {
	command -v cargo >/dev/null && env ${1:+"RUSTUP_HOME=$1"} RUSTUP_AUTO_INSTALL=0 \
		cargo +nightly miri --version >/dev/null 2>&1
}

fetch_miri() {
	RUSTUP_HOME=$RUSTUP rustup toolchain install nightly --no-self-update --profile minimal \
		--component miri --component rust-src || echo "no Miri"
}

# Miri comes with a compiler of its own, which only rustup has. It is not needed:
# where it cannot be fetched, life goes on.
get_miri() {
	! has_miri || return 0
	if [ ! -d "$RUSTUP" ] || ! has_miri "$RUSTUP"; then
		command -v rustup >/dev/null || return 0
		lock
		step "fetch Miri" "about 1 min" fetch_miri
		has_miri "$RUSTUP" || return 0
	fi
	echo "$RUSTUP"
}

unpack_debian_kernel() {
	local tmp=$CACHE/tools/debian-kernel.tmp
	rm -rf "$tmp"
	mkdir -p "$tmp"
	cd "$tmp"
	apt-get -o APT::Sandbox::User=root download "$1"
	dpkg -x ./*.deb .
	rm ./*.deb
	mv "$tmp" "$2"
}

# The one that linux-image-amd64 depends on: old or new, it has nothing of ours.
get_debian_kernel() {
	local name dir
	is_debian || die "a kernel of Debian can be fetched on Debian only"
	for dir in "$CACHE"/tools/debian-kernel-*; do
		[ ! -d "$dir" ] || { echo "$dir"; return; }
	done
	lock
	name=$(apt-cache depends linux-image-amd64 | awk '$1 == "Depends:" { print $2; exit }')
	[ -n "$name" ] || die "apt knows no linux-image-amd64 (try: apt-get update)"
	dir=$CACHE/tools/debian-kernel-${name#linux-image-}
	step "download $name" "about 70 MB" unpack_debian_kernel "$name" "$dir"
	echo "$dir"
}

case ${1:-} in
'')
	is_debian || check_commands
	if ! complete; then
		lock
		! is_debian || install_all
	fi
	if ! command -v rustc >/dev/null || ! command -v cargo >/dev/null; then
		die "please install Rust 1.85 or later, for instance with rustup"
	fi
	at_least "$(rust_version)" 1.85 || die "rustc $(rust_version) is too old: 1.85 or later"
	get_rust_src
	get_bindgen
	get_rdma_core
	;;
packages)
	if [ -n "$(missing_packages "${@:2}")" ]; then
		lock
		install_packages "${@:2}"
	fi
	;;
rust-lib-src) rust_lib_src ;;
sources)
	is_debian || die "this is not Debian"
	sources "$2"
	;;
virtme-ng)
	get_virtme_ng
	echo "$VIRTME_NG/bin"
	;;
miri) get_miri ;;
debian-kernel) get_debian_kernel ;;
rdma-core) ! wants_rdma_core || echo "$RDMA_CORE/build" ;;
deb)
	lock
	deb "$2" "$3"
	;;
*) die "what is $1?" ;;
esac
