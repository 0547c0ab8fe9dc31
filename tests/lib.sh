# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Shared by tests/run, tests/demo, tests/bench/* and .ci/run: where to build, how to build, whether FUSE is there.
# The caller has set $top to the repository.
: "${top:?}"

# A build directory named $1: in the checkout, or below $TMPDIR when the checkout is not ours to write to.
build_dir() {
	case $1 in
	/*) echo "$1" ;;
	*) if [ -w "$top" ]; then
		echo "$top/$1"
	else
		echo "${TMPDIR:-/tmp}/syncfs-$(id -u)-$1"
	fi ;;
	esac
}

# build DIR [meson options...]: configure if needed, compile; quiet unless it fails.
build() {
	build_to=$1
	shift
	mkdir -p "$build_to" || return 1
	build_how=setup
	[ ! -f "$build_to/build.ninja" ] || build_how=configure
	if [ "$build_how" = setup ] || { [ $# -gt 0 ] && [ "$*" != "$(cat "$build_to/options" 2>/dev/null)" ]; }; then
		if [ "$build_how" = setup ]; then
			meson setup "$build_to" "$top" "$@"
		else
			meson configure "$build_to" "$@"
		fi </dev/null >"$build_to/build.log" 2>&1 || {
			cat "$build_to/build.log" >&2
			return 1
		}
		echo "$*" >"$build_to/options"
	fi
	meson compile -C "$build_to" </dev/null >"$build_to/build.log" 2>&1 || {
		cat "$build_to/build.log" >&2
		return 1
	}
}

# The device node is missing in some containers although the kernel has the module.
have_fuse() {
	if [ ! -e /dev/fuse ] && [ "$(id -u)" = 0 ]; then
		mknod -m 666 /dev/fuse c 10 229 2>/dev/null || :
	fi
	(: <>/dev/fuse) 2>/dev/null
}
